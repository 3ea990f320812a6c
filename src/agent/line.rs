//! The line between hosts: a connection to the broker of its own, on which messages may get lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::mqtt::{self, Message, Session};
use crate::runtime::backoff::{Backoff, Schedule};
use crate::runtime::chain::chain;
use crate::runtime::random::Random;

/// How long connecting and subscribing may take, and a publish until its PUBACK.
const LIMIT: Duration = Duration::from_secs(10);
/// Messages that wait to be taken; the broker is not read while they do.
const QUEUE: usize = 256;
/// What a packet has besides its topic and payload takes fewer bytes.
const HEAD_BYTES: usize = 200;

/// A message that came over the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Where messages to other hosts go out.
#[async_trait]
pub trait Line: Send + Sync {
    /// Says something; done once the broker has it.
    ///
    /// # Errors
    /// The broker was not reached. It may have the message all the same.
    async fn say(&self, topic: &str, payload: &[u8]) -> Result<(), String>;
}

/// A line between hosts that is laid and does not run yet.
pub struct Laid {
    /// Where messages go out.
    pub line: Arc<dyn Line>,
    /// What comes.
    pub arriving: mpsc::Receiver<Heard>,
    /// Keeps it connected until told to stop.
    pub run: Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>,
}

/// Lays a line that hears what comes by these filters.
pub type LayLine = Arc<dyn Fn(Vec<String>) -> Laid + Send + Sync>;

/// The line over MQTT. A connection that ends is made again; what was on its way is lost then.
pub struct Wire {
    options: mqtt::Options,
    filters: Vec<String>,
    heard: mpsc::Sender<Heard>,
    random: Random,
    session: Mutex<Option<(Arc<Session>, CancellationToken)>>,
}

impl Wire {
    /// A line that hears what comes by `filters`.
    #[must_use]
    pub fn lay(options: mqtt::Options, filters: Vec<String>, random: Random) -> Laid {
        let (heard, arriving) = mpsc::channel(QUEUE);
        let wire = Arc::new(Self { options, filters, heard, random, session: Mutex::default() });
        let line = Arc::clone(&wire) as Arc<dyn Line>;
        Laid { line, arriving, run: Box::new(|stop| Box::pin(async move { wire.run(stop).await })) }
    }

    /// Keeps the line connected until told to stop, or until nobody takes what comes.
    async fn run(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new(Schedule::LINK, self.random.clone());
        while !stop.is_cancelled() && !self.heard.is_closed() {
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ended = self.connection(&mut backoff) => ended,
            };
            *self.session() = None;
            if let Err(error) = ended {
                tracing::info!(error = chain(&error), "the line to other hosts is down");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(backoff.failed()) => {}
            }
        }
        *self.session() = None;
    }

    /// One connection, to its end.
    async fn connection(&self, backoff: &mut Backoff) -> Result<(), mqtt::Error> {
        let session = Arc::new(Session::connect(&self.options, "hosts", &self.random, LIMIT).await?);
        let mut messages = session.subscribe(&self.filters, LIMIT).await?;
        let broken = CancellationToken::new();
        *self.session() = Some((session, broken.clone()));
        backoff.worked();
        tracing::info!("the line to other hosts is up");
        loop {
            let message = tokio::select! {
                biased;
                () = broken.cancelled() => return Ok(()),
                message = messages.next() => message?,
            };
            let heard = Heard { topic: message.topic, payload: message.payload };
            // Work and answers are never retained: what comes so is somebody else's mistake.
            if !message.retain && self.heard.send(heard).await.is_err() {
                return Ok(());
            }
        }
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Option<(Arc<Session>, CancellationToken)>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Line for Wire {
    async fn say(&self, topic: &str, payload: &[u8]) -> Result<(), String> {
        let current = self.session().clone();
        let Some((session, broken)) = current else { return Err("there is no connection to the broker".to_owned()) };
        let brokers = session.limits().packet_bytes_max.unwrap_or(u32::MAX);
        let bytes_max = usize::try_from(brokers.min(self.options.packet_bytes_max)).unwrap_or(usize::MAX);
        if topic.len() + payload.len() + HEAD_BYTES > bytes_max {
            return Err(format!("it has {} bytes, and the broker takes {bytes_max} in one message", payload.len()));
        }
        let said = session.publish(&Message::new(topic, payload), LIMIT).await;
        said.map_err(|error| {
            // A connection on which a publish is not acknowledged is as good as none.
            broken.cancel();
            chain(&error)
        })
    }
}
