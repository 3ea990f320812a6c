//! The outbox: what the store says is published, in order, until the broker has acknowledged it.
//!
//! Invariants: a row is deleted only after its acknowledgement, and only when all rows before it are acknowledged too;
//! after a lost connection everything that is not acknowledged is sent again from the first such row on. So nothing is
//! lost, nothing is overtaken, and what comes twice comes twice in order. Every new connection gets all that is
//! retained said again, since the broker behind it may have lost its memory and no broker tells; a new connection shows
//! with the next message at the latest, and health sends one every 30 s. A message that the broker refuses for good is
//! logged and skipped: it must not hold up all others for ever. When the store stops writing, the outbox ends with its
//! error, and with it the process: the next start opens the file again. Events wait as long as the broker is away, in
//! order, 100,000 messages at most ([`crate::store::MESSAGES_MAX`]); beyond that the oldest event goes, and is counted.

mod guard;
mod publisher;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use guard::Guard;
pub use publisher::{PublishError, Publisher, Receipt};

use crate::runtime::{Backoff, Random, Schedule, SharedClock, chain, within};
use crate::store::{OutMessage, Rows as _, Store, Waiting};

/// How many messages are on their way at once: enough to fill a line with long round trips, and half of what the link
/// takes, so that others who publish find a place.
const WINDOW: usize = 128;

/// So many acknowledged rows are deleted in one transaction while others are on their way; the last of them at once. What
/// was not deleted when the process ends is sent once more.
const FORGOTTEN_TOGETHER: usize = 256;

/// How long an acknowledgement may take before the message is sent again. The link has a shorter limit of its own;
/// this one holds for every publisher.
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(45);

/// How long a stop may take to get the last words out: the supervisor gives ten seconds.
const FLUSH_LIMIT: Duration = Duration::from_secs(4);

/// Why the outbox ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The messages cannot be read or marked as done.
    #[error("the outbox cannot use the store")]
    Store(#[from] crate::store::Error),
}

/// Takes messages from the store to the broker.
pub struct Outbox<P> {
    store: Store,
    publisher: P,
    clock: SharedClock,
    random: Random,
}

/// How a pass over the messages ended.
enum Pass {
    /// We were told to stop, and nothing waits any more.
    Finished,
    /// The connection was lost; `delivered` tells whether anything got through before.
    Lost { why: String, delivered: bool },
}

/// Messages on their way, in order, each with what became of it.
type Flying = FuturesOrdered<BoxFuture<'static, (u64, Result<(), PublishError>)>>;

/// Rows that are being deleted.
type Forgetting = BoxFuture<'static, Result<(), crate::store::Error>>;

/// What is sent and not settled in one pass.
struct Flight {
    /// The connection of this pass. On the next one a message could overtake what this one loses.
    connection: u64,
    flying: Flying,
    /// The last message that was sent.
    sent: Option<u64>,
    /// How many may be on their way. It starts with one after a loss and grows with what gets through, so that a
    /// line that breaks with every full window still moves on.
    window: usize,
}

impl Flight {
    fn new(connection: u64, window: usize) -> Self {
        Self { connection, flying: Flying::new(), sent: None, window }
    }

    fn room(&self) -> usize {
        self.window.saturating_sub(self.flying.len())
    }
}

impl<P: Publisher> Outbox<P> {
    /// An outbox that does nothing yet.
    #[must_use]
    pub fn new(store: Store, publisher: P, clock: SharedClock, random: Random) -> Self {
        Self { store, publisher, clock, random }
    }

    /// Publishes what comes, and on each new connection everything retained, until `stop`; then the last words get a
    /// few seconds to go out.
    ///
    /// # Errors
    /// The store fails. A broker that is away is no error.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let too_late = async {
            stop.cancelled().await;
            tokio::time::sleep(FLUSH_LIMIT).await;
        };
        tokio::select! {
            biased;
            ended = self.publish_until(&stop) => ended,
            () = self.store.until_broken() => Err(Error::Store(crate::store::Error::Broken)),
            () = too_late => {
                let left = self.store.read(|r| r.messages_after(None, usize::MAX))?.len();
                tracing::info!(left, "messages stay in the outbox until the next start");
                Ok(())
            }
        }
    }

    async fn publish_until(&self, stop: &CancellationToken) -> Result<(), Error> {
        let mut backoff = Backoff::new(Schedule::LINK, self.random.clone());
        let mut changes = self.store.outbox_changes();
        let (mut window, mut known) = (WINDOW, None);
        loop {
            let connection = self.publisher.ready().await;
            if known.replace(connection) != Some(connection) {
                let now_ms = self.clock.now_ms();
                let again = self.store.write(move |w| w.say_all_again(now_ms)).await?;
                tracing::debug!(connection, again, "what was last said is said again");
            }
            match self.pass(Flight::new(connection, window), &mut changes, stop).await? {
                Pass::Finished => return Ok(()),
                Pass::Lost { why, delivered } => {
                    window = 1;
                    if delivered {
                        backoff.worked();
                    }
                    let delay = backoff.failed();
                    tracing::debug!(why, failures = backoff.failures(), "unacknowledged messages are sent again");
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// Publishes from the first waiting message on, until the connection is lost or everything is said after a stop.
    async fn pass(
        &self,
        mut flight: Flight,
        changes: &mut watch::Receiver<u64>,
        stop: &CancellationToken,
    ) -> Result<Pass, Error> {
        let mut delivered = false;
        // Acknowledged rows are deleted while the next are on their way.
        let (mut acknowledged, mut forgetting) = (Vec::new(), None::<Forgetting>);
        loop {
            // Marked as seen before the store is read: what is said afterwards wakes us below.
            changes.mark_unchanged();
            self.fill(&mut flight).await?;
            let enough = acknowledged.len() >= FORGOTTEN_TOGETHER || flight.flying.is_empty();
            if forgetting.is_none() && !acknowledged.is_empty() && enough {
                forgetting = Some(self.forget(std::mem::take(&mut acknowledged)));
            }
            let idle = flight.flying.is_empty() && forgetting.is_none();
            if idle && stop.is_cancelled() {
                return Ok(Pass::Finished);
            }
            let room = flight.room() > 0;
            let first = tokio::select! {
                biased;
                Some(first) = flight.flying.next() => first,
                forgotten = done(&mut forgetting) => {
                    forgotten?;
                    continue;
                }
                Ok(()) = changes.changed(), if room => continue,
                () = stop.cancelled(), if idle => continue,
            };
            let (mut settled, lost) = settled(first, &mut flight.flying);
            if !settled.is_empty() {
                delivered = true;
                flight.window = flight.window.saturating_add(settled.len()).min(WINDOW);
                acknowledged.append(&mut settled);
            }
            if let Some(why) = lost {
                if let Some(forgetting) = forgetting {
                    forgetting.await?;
                }
                self.forget(acknowledged).await?;
                return Ok(Pass::Lost { why, delivered });
            }
        }
    }

    /// Deletes what the broker has.
    fn forget(&self, acknowledged: Vec<u64>) -> Forgetting {
        let store = self.store.clone();
        let delete =
            async move { store.write(move |w| acknowledged.into_iter().try_for_each(|seq| w.message_done(seq))).await };
        delete.boxed()
    }

    /// Sends what waits after the last that was sent, as long as there is room.
    async fn fill(&self, flight: &mut Flight) -> Result<(), Error> {
        let (after, room) = (flight.sent, flight.room());
        if room == 0 {
            return Ok(());
        }
        for Waiting { seq, message } in self.store.read(|r| r.messages_after(after, room))? {
            let receipt = self.send(flight.connection, message).await;
            flight.flying.push_back(receipt.map(move |result| (seq, result)).boxed());
            flight.sent = Some(seq);
        }
        Ok(())
    }

    async fn send(&self, connection: u64, mut message: OutMessage) -> Receipt {
        let now_ms = self.clock.now_ms();
        if message.expired(now_ms) {
            return std::future::ready(Ok(())).boxed();
        }
        message.expiry_s = message.expiry_left_s(now_ms);
        match within("a place on the link", ACKNOWLEDGE_LIMIT, self.publisher.send(connection, &message)).await {
            Ok(Ok(receipt)) => async move {
                let answer = within("the broker's acknowledgement", ACKNOWLEDGE_LIMIT, receipt).await;
                answer.unwrap_or_else(|expired| Err(PublishError::Lost { why: expired.to_string() }))
            }
            .boxed(),
            Ok(Err(error)) => std::future::ready(Err(error)).boxed(),
            Err(expired) => std::future::ready(Err(PublishError::Lost { why: expired.to_string() })).boxed(),
        }
    }
}

/// The end of what runs, taken out then; never, while nothing does.
async fn done(running: &mut Option<Forgetting>) -> Result<(), crate::store::Error> {
    match running {
        Some(future) => {
            let result = future.await;
            *running = None;
            result
        }
        None => std::future::pending().await,
    }
}

/// Takes what is acknowledged in order: which rows are done, and why the pass ends, if it does.
fn settled(first: (u64, Result<(), PublishError>), flying: &mut Flying) -> (Vec<u64>, Option<String>) {
    let mut done = Vec::new();
    let mut next = Some(first);
    while let Some((seq, result)) = next {
        match result {
            Ok(()) => done.push(seq),
            Err(error @ PublishError::Refused { .. }) => {
                tracing::error!(error = chain(&error), "a message is skipped");
                done.push(seq);
            }
            Err(PublishError::Lost { why }) => return (done, Some(why)),
        }
        next = flying.next().now_or_never().flatten();
    }
    (done, None)
}
