//! The state of a link, as its listeners are shown it.

use std::sync::{Arc, Mutex, PoisonError};

use pgmoor::mqtt::LinkState;
use tokio::sync::watch;

/// The state of a link, shown to each listener by a channel of its own: tokio wakes the listeners of one channel in an
/// order of chance, which no seed decides.
#[derive(Clone, Default)]
pub(crate) struct Showing(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    last: Option<LinkState>,
    listeners: Vec<watch::Sender<LinkState>>,
}

impl Showing {
    /// It is another now.
    pub(crate) fn show(&self, state: LinkState) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.listeners.retain(|listener| !listener.is_closed());
        shown.listeners.iter().for_each(|listener| drop(listener.send_replace(state.clone())));
        shown.last = Some(state);
    }

    /// One more listener.
    pub(crate) fn listen(&self) -> watch::Receiver<LinkState> {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = watch::channel(shown.last.clone().unwrap_or(LinkState::Connecting));
        shown.listeners.retain(|listener| !listener.is_closed());
        shown.listeners.push(sender);
        receiver
    }
}
