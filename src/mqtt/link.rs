//! What both links share: the state that they show, the way of coming back, how a connection's end is read.
//!
//! Invariants: between two connections lies a back-off of 50 ms to 30 s that only a connection which held for a while
//! resets, so a broker that accepts and hangs up is not stormed. Two clients with one id do not fight for it: the one
//! that had it first steps down. A broker may say so (MQTT 5 reason 0x8E; the embedded one does), mosquitto 2.0 just
//! hangs up; then several cuts in a row say it. Who stepped down looks again after some minutes, so a mistake, or the
//! end of the other, needs nobody's hand. A connection on which the broker is silent for 12 s is given up: a line that
//! was cut somewhere tells neither side. Pings alone do not show it, since rumqttc sends none while publishes go out.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::time::Duration;

use rumqttc::{
    AckMode, ConnectionError, DisconnectReasonCode, Event, EventLoop, PersistedAckMode, PersistedSession, SessionStore,
    SessionStoreKey, StateError,
};
use tokio::sync::{Notify, watch};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::runtime::{Backoff, Random, Schedule};

/// A connection that held so long makes the next failure the first again.
const SETTLED: Duration = Duration::from_secs(10);

/// So many young connections in a row that the broker accepted and then cut without a word mean that somebody else has
/// our id: each time one of the two comes back, it cuts the other. The one that was cut first counts to it first.
const CUTS: u32 = 3;

/// How long one who stepped down waits before it looks whether the other is still there. Looking costs the other a
/// reconnect.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// A broker that sends nothing for so long is gone: it answers every ping (one goes out after 8 s at the latest) and
/// every publish. With the time to notice it stays below 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(12);

/// How the link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// A connection is being made.
    Connecting,
    /// It works: connected, and for the inbound link subscribed.
    Connected {
        /// Number of the connection, from 1; grows with each.
        epoch: u64,
        /// Whether the broker remembered the session.
        session_present: bool,
    },
    /// There is no connection; the next try comes by itself.
    Down {
        /// Failures in a row.
        failures: u32,
        /// What happened, for people.
        why: String,
    },
    /// Another client has our id and our session. We do not fight for it, and look again after five minutes.
    TakenOver,
    /// Told to stop.
    Stopped,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    Lost(String),
    /// The broker accepted the connection, and hung up later without giving a reason.
    Cut(String),
    TakenOver,
    Stopped,
    /// The receiver of the messages is gone: no connection would help.
    Unheard,
}

impl End {
    /// Reads the error that ended a connection; `accepted`: there was a CONNACK.
    pub(super) fn of(error: &ConnectionError, accepted: bool) -> Self {
        let taken_over = matches!(
            error,
            ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code: DisconnectReasonCode::SessionTakenOver,
                ..
            })
        );
        let io = if let ConnectionError::MqttState(StateError::Io(io)) | ConnectionError::Io(io) = error {
            matches!(io.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
        } else {
            false
        };
        let hung_up = io || matches!(error, ConnectionError::MqttState(StateError::ConnectionAborted));
        match (taken_over, hung_up && accepted) {
            (true, _) => Self::TakenOver,
            (false, true) => Self::Cut(error.to_string()),
            (false, false) => Self::Lost(error.to_string()),
        }
    }
}

/// Listens to one connection, and knows how long the broker has been silent.
pub(super) struct Pulse {
    silence: Pin<Box<Sleep>>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { silence: Box::pin(tokio::time::sleep(SILENCE_MAX)) }
    }

    /// The silence begins now: something came, or nobody listened until now.
    pub(super) fn heard(&mut self) {
        self.silence.set(tokio::time::sleep(SILENCE_MAX));
    }

    /// The next event, or how the connection ended; `accepted`: there was a CONNACK. After an end the event loop must
    /// not be polled again.
    pub(super) async fn next(&mut self, events: &mut EventLoop, accepted: bool) -> Result<Event, End> {
        let polled = tokio::select! {
            biased;
            polled = events.poll() => polled,
            () = &mut self.silence => {
                return Err(End::Lost(format!("the broker has been silent for {} s", SILENCE_MAX.as_secs())));
            }
        };
        match polled {
            Ok(event) => {
                if matches!(event, Event::Incoming(_)) {
                    self.heard();
                }
                Ok(event)
            }
            Err(error) => Err(End::of(&error, accepted)),
        }
    }
}

/// What keeps a link connected.
pub(super) struct Keeper {
    pub(super) name: &'static str,
    /// Whether cuts are counted: whether two of us may have this client id.
    pub(super) contested: bool,
    pub(super) state: watch::Sender<LinkState>,
    pub(super) reclaim: Notify,
}

impl Keeper {
    pub(super) fn new(name: &'static str, contested: bool) -> Self {
        Self { name, contested, state: watch::Sender::new(LinkState::Connecting), reclaim: Notify::new() }
    }

    /// Connects again and again until told to stop; `once` is one connection from its beginning to its end.
    pub(super) async fn keep<F, C>(&self, random: Random, stop: &CancellationToken, mut once: F) -> End
    where
        F: FnMut(u64) -> C,
        C: Future<Output = End>,
    {
        let mut backoff = Backoff::new(Schedule::LINK, random);
        let mut cuts = 0;
        for epoch in 1.. {
            self.state.send_replace(LinkState::Connecting);
            let (end, held) = settled(&mut backoff, once(epoch)).await;
            if held {
                cuts = 0;
            }
            let again = match end {
                End::Stopped | End::Unheard => {
                    self.state.send_replace(LinkState::Stopped);
                    return end;
                }
                End::TakenOver => {
                    cuts = CUTS - 1;
                    self.step_down(stop).await
                }
                End::Cut(_) if self.contested && cuts + 1 >= CUTS => {
                    cuts = CUTS - 1;
                    self.step_down(stop).await
                }
                End::Cut(why) => {
                    cuts += 1;
                    self.pause(&mut backoff, why, stop).await
                }
                End::Lost(why) => {
                    cuts = 0;
                    self.pause(&mut backoff, why, stop).await
                }
            };
            if !again {
                break;
            }
        }
        self.state.send_replace(LinkState::Stopped);
        End::Stopped
    }

    /// Waits for a reason to take the id back; false: told to stop.
    async fn step_down(&self, stop: &CancellationToken) -> bool {
        tracing::warn!(link = self.name, "another client has our id; stepping down");
        self.state.send_replace(LinkState::TakenOver);
        tokio::select! {
            () = stop.cancelled() => false,
            () = self.reclaim.notified() => true,
            () = tokio::time::sleep(LOOK_AGAIN) => true,
        }
    }

    /// Waits before the next try; false: told to stop.
    async fn pause(&self, backoff: &mut Backoff, why: String, stop: &CancellationToken) -> bool {
        let delay = backoff.failed();
        let (failures, delay_ms) = (backoff.failures(), u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        tracing::info!(link = self.name, why, failures, delay_ms, "no connection to the broker");
        self.state.send_replace(LinkState::Down { failures, why });
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }
}

/// Runs one connection; how it ended, and whether it held for a while.
async fn settled<C: Future<Output = End>>(backoff: &mut Backoff, connection: C) -> (End, bool) {
    let mut connection = Box::pin(connection);
    tokio::select! {
        end = &mut connection => return (end, false),
        () = tokio::time::sleep(SETTLED) => {}
    }
    backoff.worked();
    (connection.await, true)
}

/// Tells rumqttc that the session which the broker remembers is known here, and that nothing of ours was on its way in
/// it. That is true: what was on its way is sent again by those who wanted it sent. Without this word rumqttc refuses
/// a session that outlived its process.
#[derive(Debug)]
pub(super) struct NothingOnItsWay;

impl SessionStore for NothingOnItsWay {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> Answer<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: None,
            outgoing_inflight_upper_limit: Some(super::options::IN_FLIGHT_MAX),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The acknowledgement mode that [`NothingOnItsWay`] speaks for.
pub(super) const ACK_MODE: AckMode = AckMode::Manual;

type Answer<'a, T> =
    std::pin::Pin<Box<dyn Future<Output = Result<T, Box<dyn std::error::Error + Send + Sync>>> + Send + 'a>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Clock as _, TokioClock};

    fn cut() -> End {
        End::Cut("hung up".to_owned())
    }

    fn lost() -> End {
        End::Lost("refused".to_owned())
    }

    /// Runs a link whose connections end like this, and returns how many there were before it stepped down; none when
    /// it never did. Young connections all of them.
    async fn steps_down_after(contested: bool, ends: Vec<End>) -> Option<usize> {
        let keeper = Keeper::new("test", contested);
        let (count, stop) = (ends.len(), CancellationToken::new());
        let mut ends = ends.into_iter();
        let tried = std::cell::Cell::new(0);
        let kept = keeper.keep(Random::seeded(1), &stop, |_| {
            tried.set(tried.get() + 1);
            std::future::ready(ends.next().unwrap_or(End::Unheard))
        });
        let mut state = keeper.state.subscribe();
        tokio::select! {
            _ = kept => (tried.get() <= count).then_some(tried.get()),
            _ = state.wait_for(|state| *state == LinkState::TakenOver) => Some(tried.get()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_cuts_in_a_row_say_that_another_has_our_id() {
        assert_eq!(steps_down_after(true, vec![cut(), cut(), cut(), cut()]).await, Some(3));
        assert_eq!(steps_down_after(true, vec![cut(), cut(), lost(), cut(), cut()]).await, None);
        assert_eq!(steps_down_after(false, vec![cut(), cut(), cut(), cut()]).await, None);
        assert_eq!(steps_down_after(false, vec![lost(), End::TakenOver]).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_stepped_down_looks_again_and_yields_at_once() {
        let keeper = Keeper::new("test", true);
        let stop = CancellationToken::new();
        let mut ends = vec![End::TakenOver, cut(), cut(), End::Unheard].into_iter();
        let clock = TokioClock::starting_at(0);
        let _unheard = keeper.keep(Random::seeded(1), &stop, |_| std::future::ready(ends.next().unwrap())).await;
        assert!(clock.monotonic() >= LOOK_AGAIN * 3, "each cut was one look");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_held_is_no_young_one() {
        let keeper = Keeper::new("test", true);
        let stop = CancellationToken::new();
        let mut state = keeper.state.subscribe();
        let mut left = 10;
        let kept = keeper.keep(Random::seeded(1), &stop, |_| {
            left -= 1;
            let end = if left == 0 { End::Unheard } else { cut() };
            async move {
                tokio::time::sleep(SETTLED * 2).await;
                end
            }
        });
        tokio::select! {
            _ = kept => {}
            _ = state.wait_for(|state| *state == LinkState::TakenOver) => panic!("stepped down"),
        }
    }
}
