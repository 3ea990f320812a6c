//! The simulated broker: what it retains, the session of the fleet, and who is connected.
//!
//! It does what MQTT lets a broker do at QoS 1: what was not acknowledged comes again after a reconnect; the replay of
//! a wildcard is cut short; a publish arrives although its acknowledgement does not; it comes back with an older memory
//! or none. What one connection carries stays in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pgmoor::model::{Digest, FleetId};
use tokio::sync::Notify;

use crate::dice::Dice;
use crate::guarded::{FOREIGN, Guarded};
use crate::trace::Trace;

/// How a broker comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// With all that it had.
    Kept,
    /// With nothing.
    Lost,
    /// With what it had when it last saved, and no session.
    Older,
}

/// The broker. Clones are the same.
#[derive(Clone)]
pub(crate) struct Broker {
    state: Arc<Mutex<State>>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) fleet: FleetId,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) up: bool,
    pub(crate) calm: bool,
    slow: bool,
    pub(crate) retained: BTreeMap<String, Vec<u8>>,
    saved: BTreeMap<String, Vec<u8>>,
    pub(crate) session: Option<VecDeque<Queued>>,
    /// The present connection of each daemon that has one.
    pub(crate) connected: BTreeMap<String, Connected>,
    /// The host whose daemon has the fleet's session.
    pub(crate) owner: Option<String>,
    pub(crate) connections: u64,
    /// What daemons published, all of it.
    pub(crate) said: Vec<(String, Vec<u8>)>,
    /// Who hears what is written on the daemon's own topics.
    pub(crate) guarded: Option<Guarded>,
    /// Hosts from which it cannot be reached.
    cut_off: BTreeSet<String>,
}

/// A connection of a daemon.
pub(crate) struct Connected {
    pub(crate) epoch: u64,
    /// What the broker publishes when it loses the daemon.
    pub(crate) will: (String, Vec<u8>),
}

#[derive(Clone)]
pub(crate) struct Queued {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retain: bool,
    /// Its number on the present connection, once it was sent on it.
    pub(crate) sent: Option<u64>,
}

impl Broker {
    /// Up, with nothing retained.
    pub(crate) fn new(fleet: FleetId, dice: Dice, trace: Trace) -> Self {
        let state = State { up: true, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), wake: Arc::default(), fleet, dice, trace }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&self) {
        self.state().calm = true;
    }

    /// From now on fresh looks at a topic take longer than a line takes to break and come back.
    pub(crate) fn look_slowly(&self) {
        self.state().slow = true;
    }

    pub(crate) fn looks_slowly(&self) -> bool {
        let state = self.state();
        state.slow && !state.calm
    }

    /// True in so many of a hundred cases, while anything goes wrong at all.
    pub(crate) fn mishap(&self, percent: u64) -> bool {
        !self.state().calm && self.dice.percent(percent)
    }

    /// Somebody publishes, and the broker has it.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        let mut state = self.state();
        if retain {
            if payload.is_empty() {
                state.retained.remove(topic);
            } else {
                state.retained.insert(topic.to_owned(), payload.to_vec());
            }
        }
        let inward = topic.ends_with("/spec") || topic.contains("/commands/") && !topic.ends_with("/result");
        if inward {
            // Online subscribers get it as a live message.
            state.queue(topic, payload, false);
        }
        drop(state);
        self.wake.notify_waiters();
    }

    /// Somebody else writes on a topic of the daemon's, retained.
    pub(crate) fn meddle(&self, topic: &str) {
        let mut state = self.state();
        state.retained.insert(topic.to_owned(), FOREIGN.to_vec());
        if let Some(guarded) = state.guarded.as_ref().filter(|_| !state.connected.is_empty()) {
            guarded.written(topic);
        }
    }

    /// What is retained on a topic.
    pub(crate) fn retained(&self, topic: &str) -> Option<Vec<u8>> {
        self.state().retained.get(topic).cloned()
    }

    /// Every retained topic.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.state().retained.keys().cloned().collect()
    }

    /// Everything that the daemon published, but for the first so many.
    pub(crate) fn said_after(&self, first: usize) -> Vec<(String, Vec<u8>)> {
        self.state().said.get(first..).unwrap_or_default().to_vec()
    }

    /// Topics of messages that the daemon has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> BTreeSet<String> {
        self.state().session.iter().flatten().map(|queued| queued.topic.clone()).collect()
    }

    /// Whether the fleet's session exists.
    pub(crate) fn has_session(&self) -> bool {
        self.state().session.is_some()
    }

    /// It saves what it retains, as mosquitto does now and then.
    pub(crate) fn save(&self) {
        let mut state = self.state();
        state.saved = state.retained.clone();
    }

    /// What it would retain on a topic if it came back as it last saved.
    pub(crate) fn saved(&self, topic: &str) -> Option<Vec<u8>> {
        self.state().saved.get(topic).cloned()
    }

    /// It goes down, and forgets what it will not know afterwards.
    pub(crate) fn down(&self, memory: Memory) {
        let mut state = self.state();
        state.up = false;
        match memory {
            Memory::Kept => state.lose_connections(),
            Memory::Lost => {
                state.connected.clear();
                state.session = None;
                state.retained.clear();
            }
            Memory::Older => {
                state.connected.clear();
                state.session = None;
                state.retained = state.saved.clone();
            }
        }
        drop(state);
        self.wake.notify_waiters();
    }

    /// It comes back.
    pub(crate) fn up(&self) {
        self.state().up = true;
        self.wake.notify_waiters();
    }

    /// All lines are cut: the broker publishes the wills.
    pub(crate) fn cut(&self) {
        self.state().lose_connections();
        self.wake.notify_waiters();
    }

    /// The line of one host is cut, or its daemon is gone.
    pub(crate) fn cut_line(&self, host: &str) {
        self.state().lose_connection(host);
        self.wake.notify_waiters();
    }

    /// A host cannot reach the broker any more, or can again.
    pub(crate) fn cut_off(&self, host: &str, cut: bool) {
        let mut state = self.state();
        if cut {
            state.cut_off.insert(host.to_owned());
            state.lose_connection(host);
        } else {
            state.cut_off.remove(host);
        }
        drop(state);
        self.wake.notify_waiters();
    }
}

impl State {
    pub(crate) fn queue(&mut self, topic: &str, payload: &[u8], retain: bool) {
        if let Some(session) = &mut self.session {
            let (topic, payload) = (topic.to_owned(), payload.to_vec());
            session.push_back(Queued { topic, payload, retain, sent: None });
        }
    }

    /// Whether a host reaches it.
    pub(crate) fn answers(&self, host: &str) -> bool {
        self.up && !self.cut_off.contains(host)
    }

    /// The number of a host's present connection.
    pub(crate) fn connection(&self, host: &str) -> Option<u64> {
        self.connected.get(host).map(|connected| connected.epoch)
    }

    pub(crate) fn lose_connection(&mut self, host: &str) {
        if let Some(Connected { will: (topic, payload), .. }) = self.connected.remove(host) {
            self.retained.insert(topic, payload);
        }
    }

    fn lose_connections(&mut self) {
        let hosts: Vec<String> = self.connected.keys().cloned().collect();
        hosts.iter().for_each(|host| self.lose_connection(host));
    }
}

/// The first letters of a payload's digest: enough to tell payloads apart.
pub(crate) fn short(payload: &[u8]) -> String {
    if payload.is_empty() { "(empty)".to_owned() } else { Digest::of_bytes(payload).short().to_owned() }
}
