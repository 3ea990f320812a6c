//! Both links of one daemon to the simulated broker: what comes in over the fleet's session, and what goes out.
//!
//! One connection carries both. Of several daemons the one that connected last as the leader has the session.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use pgmoor::app::services::{Inward, Outward};
use pgmoor::contract::Topic;
use pgmoor::intake::{Confirm, Retained};
use pgmoor::model::DatabaseId;
use pgmoor::mqtt::{AckToken, Delivery, Error, LinkState, Message, Properties, Received, Resync};
use pgmoor::runtime::supervisor::{Policy, Supervisor};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::acks::Acks;
use crate::broker::{Broker, Connected, State, short};
use crate::guarded::Guarded;
use crate::planted::Plant;
use crate::showing::Showing;

/// Both links of one daemon.
#[derive(Clone)]
pub(crate) struct Link {
    broker: Broker,
    host: String,
    inward: Showing,
    outward: Showing,
    seen: Arc<Mutex<BTreeSet<DatabaseId>>>,
    will: (String, Vec<u8>),
    acks: Acks,
    /// Who hears what others write on its topics; none: it follows, and takes nothing in.
    guarded: Option<Guarded>,
    plant: Plant,
}

/// How a connection ended.
enum Ended {
    Cut,
    /// Another daemon has taken the fleet's session over.
    TakenOver,
}

impl Link {
    /// Not connected yet, to a broker from a host. `will`: what the broker publishes when it loses this daemon.
    pub(crate) fn new(
        (broker, host): (Broker, &str),
        will: (String, Vec<u8>),
        acks: Acks,
        guarded: Option<Guarded>,
        plant: Plant,
    ) -> Self {
        let (inward, outward) = (Showing::default(), Showing::default());
        Self { broker, host: host.to_owned(), inward, outward, seen: Arc::default(), will, acks, guarded, plant }
    }

    /// Has it run among the tasks of a daemon.
    pub(crate) fn start(self, supervisor: &mut Supervisor, deliveries: mpsc::Sender<Delivery>) {
        supervisor.start("link", Policy::Essential, move |stop| {
            let (link, deliveries) = (self.clone(), deliveries.clone());
            async move {
                link.run(&deliveries, &stop).await;
                Ok(())
            }
        });
    }

    /// Connects, delivers, and connects again, until `stop`.
    async fn run(&self, deliveries: &mpsc::Sender<Delivery>, stop: &CancellationToken) {
        let mut takes_in = self.guarded.is_some();
        loop {
            let connecting = async {
                loop {
                    tokio::time::sleep(self.broker.dice.time(5, 400)).await;
                    if let Some(connection) = self.connect(takes_in) {
                        break connection;
                    }
                }
            };
            let epoch = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                epoch = connecting => epoch,
            };
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => return self.leave(),
                ended = self.deliver(epoch, deliveries), if takes_in => ended,
                () = self.until_cut(epoch), if !takes_in => Ended::Cut,
            };
            if matches!(ended, Ended::TakenOver) {
                takes_in = false;
                self.broker.trace.say(format!("link {epoch} has lost the session to another host"));
                self.inward.show(LinkState::TakenOver);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return self.leave(),
                    () = self.until_cut(epoch) => {}
                }
            }
            self.broker.trace.say(format!("link {epoch} is cut"));
            let down = LinkState::Down { failures: 1, why: "the connection was cut".to_owned() };
            if takes_in {
                self.inward.show(down.clone());
            }
            self.outward.show(down);
        }
    }

    /// A goodbye: the will is not published.
    fn leave(&self) {
        self.broker.state().connected.remove(&self.host);
    }

    async fn until_cut(&self, epoch: u64) {
        loop {
            let woken = self.broker.wake.notified();
            if self.broker.state().connection(&self.host) != Some(epoch) {
                return;
            }
            woken.await;
        }
    }

    fn connect(&self, takes_in: bool) -> Option<u64> {
        let broker = &self.broker;
        let mut state = broker.state();
        if !state.answers(&self.host) {
            return None;
        }
        state.lose_connection(&self.host);
        state.connections += 1;
        let epoch = state.connections;
        state.connected.insert(self.host.clone(), Connected { epoch, will: self.will.clone() });
        let Some(guarded) = self.guarded.as_ref().filter(|_| takes_in) else {
            drop(state);
            broker.trace.say(format!("link {epoch} is up, of {}, which follows", self.host));
            self.outward.show(LinkState::Connected { epoch, session_present: false });
            return Some(epoch);
        };
        state.owner = Some(self.host.clone());
        let session_present = state.session.is_some();
        let mut session = state.session.take().unwrap_or_default();
        session.iter_mut().for_each(|queued| queued.sent = None);
        state.session = Some(session);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let specs: Vec<(String, Vec<u8>)> = state
            .retained
            .iter()
            .filter(|(topic, _)| topic.ends_with("/spec"))
            .map(|(t, p)| (t.clone(), p.clone()))
            .collect();
        let calm = state.calm;
        for (topic, payload) in specs {
            // Every broker cuts a long replay short; this one does so at random.
            if !calm && broker.dice.percent(25) {
                continue;
            }
            state.queue(&topic, &payload, true);
            // Whether it comes before or after what waited in the session is the broker's affair.
            if broker.dice.percent(50) {
                state.session.iter_mut().for_each(|session| session.rotate_right(usize::from(!session.is_empty())));
            }
        }
        guarded.replay(state.retained.iter());
        state.guarded = Some(guarded.clone());
        drop(state);
        // Whoever had the session before is told.
        broker.wake.notify_waiters();
        broker.trace.say(format!("link {epoch} is up, session present: {session_present}"));
        let connected = LinkState::Connected { epoch, session_present };
        self.inward.show(connected.clone());
        self.outward.show(connected);
        Some(epoch)
    }

    /// Hands on what the session holds, in order, until the connection ends.
    async fn deliver(&self, epoch: u64, deliveries: &mpsc::Sender<Delivery>) -> Ended {
        let broker = &self.broker;
        let mut number = 0;
        loop {
            let woken = broker.wake.notified();
            let next = {
                let mut state = broker.state();
                if state.connection(&self.host) != Some(epoch) {
                    return Ended::Cut;
                }
                if state.owner.as_ref() != Some(&self.host) {
                    return Ended::TakenOver;
                }
                let waiting = state.session.iter_mut().flatten().find(|queued| queued.sent.is_none());
                waiting.map(|queued| {
                    queued.sent = Some(number);
                    queued.clone()
                })
            };
            let Some(queued) = next else {
                woken.await;
                continue;
            };
            tokio::time::sleep(broker.dice.time(0, 20)).await;
            if broker.mishap(2) {
                broker.cut_line(&self.host);
                return Ended::Cut;
            }
            let token = AckToken::new(epoch, number);
            number += 1;
            broker.trace.say(format!(
                "deliver {} {}{}",
                queued.topic,
                short(&queued.payload),
                if queued.retain { " retained" } else { "" }
            ));
            if let Some(Topic::Spec(id)) = Topic::parse(&broker.fleet, &queued.topic)
                && !queued.payload.is_empty()
            {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            }
            let message = Received {
                topic: queued.topic,
                payload: queued.payload,
                retain: queued.retain && self.plant != Plant::ReplayIsNews,
                properties: Properties::default(),
            };
            if self.plant == Plant::AckBeforeCommit {
                self.acknowledge(token);
            }
            if deliveries.send(Delivery { message, ack: token }).await.is_err() {
                return Ended::Cut;
            }
        }
    }

    fn acknowledge(&self, token: AckToken) {
        let mut state = self.broker.state();
        let present = self.has_session(&state, token.epoch());
        let mut taken = Vec::new();
        if (present || self.plant == Plant::StaleEpoch)
            && let Some(session) = &mut state.session
        {
            taken.extend(session.iter().filter(|queued| queued.sent == Some(token.number())).cloned());
            session.retain(|queued| queued.sent != Some(token.number()));
        }
        drop(state);
        taken.iter().for_each(|taken| self.acks.acknowledged(&taken.topic, &taken.payload));
        self.broker.wake.notify_waiters();
    }

    fn has_session(&self, state: &State, epoch: u64) -> bool {
        state.connection(&self.host) == Some(epoch) && state.owner.as_ref() == Some(&self.host)
    }

    fn epoch(&self) -> Result<u64, Error> {
        self.broker.state().connection(&self.host).ok_or(Error::NotConnected)
    }

    /// Waits until everything in the session has been handed on by this connection.
    async fn drained(&self, epoch: u64) -> Result<(), Error> {
        loop {
            {
                let state = self.broker.state();
                if !self.has_session(&state, epoch) {
                    return Err(Error::Lost { what: "the end of a resync".to_owned() });
                }
                if state.session.iter().flatten().all(|queued| queued.sent.is_some()) {
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn seen(&self) -> BTreeSet<DatabaseId> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Inward for Link {
    fn state(&self) -> watch::Receiver<LinkState> {
        self.inward.listen()
    }

    fn ack(&self, token: AckToken) {
        self.acknowledge(token);
    }

    async fn resync(&self, known: &BTreeSet<DatabaseId>, _limit: Duration) -> Result<Resync, Error> {
        let epoch = self.epoch()?;
        self.drained(epoch).await?;
        let by_wildcard = self.seen().len();
        let missing: Vec<String> =
            known.difference(&self.seen()).map(|id| Topic::Spec(id.clone()).to_string(&self.broker.fleet)).collect();
        for topic in missing {
            let mut state = self.broker.state();
            if let Some(payload) = state.retained.get(&topic).cloned() {
                state.queue(&topic, &payload, true);
            }
        }
        self.broker.wake.notify_waiters();
        self.drained(epoch).await?;
        let session_present =
            matches!(&*self.inward.listen().borrow(), LinkState::Connected { session_present: true, .. });
        Ok(Resync { epoch, session_present, by_wildcard, seen: self.seen() })
    }
}

#[async_trait]
impl Outward for Link {
    fn state(&self) -> watch::Receiver<LinkState> {
        self.outward.listen()
    }

    async fn send(&self, message: &Message) -> Result<BoxFuture<'static, Result<(), Error>>, Error> {
        let (broker, epoch) = (self.broker.clone(), self.epoch()?);
        let lost = || Error::Lost { what: "the PUBACK".to_owned() };
        let host = self.host.clone();
        if broker.mishap(1) {
            broker.cut_line(&host);
            return Err(lost());
        }
        broker.trace.say(format!("publish {} {}", message.topic, short(&message.payload)));
        broker.state().said.push((message.topic.clone(), message.payload.clone()));
        broker.publish(&message.topic, &message.payload, message.retain);
        if broker.mishap(1) {
            broker.cut_line(&host);
        }
        let delay = broker.dice.time(0, 30);
        Ok(Box::pin(async move {
            tokio::time::sleep(delay).await;
            let connected = broker.state().connection(&host);
            if connected == Some(epoch) { Ok(()) } else { Err(lost()) }
        }))
    }
}

#[async_trait]
impl Confirm for Link {
    async fn retained(&self, topic: &Topic) -> Retained {
        let (from_ms, to_ms) = if self.broker.looks_slowly() { (400, 1500) } else { (1, 50) };
        tokio::time::sleep(self.broker.dice.time(from_ms, to_ms)).await;
        if !self.broker.state().answers(&self.host) || self.broker.mishap(10) {
            return Retained::Unknown;
        }
        let topic = topic.to_string(&self.broker.fleet);
        self.broker.retained(&topic).map_or(Retained::Nothing, Retained::Payload)
    }
}
