//! The simulated broker: what it retains, the session of the fleet, and both links of a daemon to it.
//!
//! It does what MQTT lets a broker do at QoS 1: what was not acknowledged comes again after a reconnect; the replay of
//! a wildcard is cut short; a publish arrives although its acknowledgement does not; it comes back with an older memory
//! or none. What one connection carries stays in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use pgmoor::app::services::{Inward, Outward};
use pgmoor::contract::Topic;
use pgmoor::intake::{Confirm, Retained};
use pgmoor::model::{DatabaseId, Digest, FleetId};
use pgmoor::mqtt::{AckToken, Delivery, Error, LinkState, Message, Properties, Received, Resync};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::acks::Acks;
use crate::dice::Dice;
use crate::guarded::{FOREIGN, Guarded};
use crate::planted::Plant;
use crate::showing::Showing;
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
    wake: Arc<Notify>,
    fleet: FleetId,
    dice: Dice,
    trace: Trace,
}

#[derive(Default)]
struct State {
    up: bool,
    calm: bool,
    slow: bool,
    retained: BTreeMap<String, Vec<u8>>,
    saved: BTreeMap<String, Vec<u8>>,
    session: Option<VecDeque<Queued>>,
    /// The present connection of the daemon; none: there is none.
    connected: Option<u64>,
    connections: u64,
    /// What the daemon published, all of it.
    said: Vec<(String, Vec<u8>)>,
    will: Option<(String, Vec<u8>)>,
    /// Who hears what is written on the daemon's own topics.
    guarded: Option<Guarded>,
}

#[derive(Clone)]
struct Queued {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    /// Its number on the present connection, once it was sent on it.
    sent: Option<u64>,
}

impl Broker {
    /// Up, with nothing retained.
    pub(crate) fn new(fleet: FleetId, dice: Dice, trace: Trace) -> Self {
        let state = State { up: true, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), wake: Arc::default(), fleet, dice, trace }
    }

    fn state(&self) -> MutexGuard<'_, State> {
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

    fn looks_slowly(&self) -> bool {
        let state = self.state();
        state.slow && !state.calm
    }

    fn mishap(&self, percent: u64) -> bool {
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
        if let Some(guarded) = state.guarded.as_ref().filter(|_| state.connected.is_some()) {
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
            Memory::Kept => state.lose_connection(),
            Memory::Lost => {
                state.connected = None;
                state.session = None;
                state.retained.clear();
            }
            Memory::Older => {
                state.connected = None;
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

    /// The line is cut, or the daemon is gone: the broker publishes the will.
    pub(crate) fn cut(&self) {
        self.state().lose_connection();
        self.wake.notify_waiters();
    }
}

impl State {
    fn queue(&mut self, topic: &str, payload: &[u8], retain: bool) {
        if let Some(session) = &mut self.session {
            let (topic, payload) = (topic.to_owned(), payload.to_vec());
            session.push_back(Queued { topic, payload, retain, sent: None });
        }
    }

    fn lose_connection(&mut self) {
        if self.connected.take().is_some()
            && let Some((topic, payload)) = self.will.take()
        {
            self.retained.insert(topic, payload);
        }
    }
}

/// Both links of one daemon.
#[derive(Clone)]
pub(crate) struct Link {
    broker: Broker,
    inward: Showing,
    outward: Showing,
    seen: Arc<Mutex<BTreeSet<DatabaseId>>>,
    will: (String, Vec<u8>),
    acks: Acks,
    guarded: Guarded,
    plant: Plant,
}

impl Link {
    /// Not connected yet. `will`: what the broker publishes when it loses this daemon.
    pub(crate) fn new(broker: Broker, will: (String, Vec<u8>), acks: Acks, guarded: Guarded, plant: Plant) -> Self {
        let (inward, outward) = (Showing::default(), Showing::default());
        Self { broker, inward, outward, seen: Arc::default(), will, acks, guarded, plant }
    }

    /// Connects, delivers, and connects again, until `stop`.
    pub(crate) async fn run(&self, deliveries: &mpsc::Sender<Delivery>, stop: &CancellationToken) {
        loop {
            let connecting = async {
                loop {
                    tokio::time::sleep(self.broker.dice.time(5, 400)).await;
                    if let Some(connection) = self.connect() {
                        break connection;
                    }
                }
            };
            let epoch = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                epoch = connecting => epoch,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    // A goodbye: the will is not published.
                    let mut state = self.broker.state();
                    state.connected = None;
                    state.will = None;
                    return;
                }
                () = self.deliver(epoch, deliveries) => {}
            }
            self.broker.trace.say(format!("link {epoch} is cut"));
            let down = LinkState::Down { failures: 1, why: "the connection was cut".to_owned() };
            self.inward.show(down.clone());
            self.outward.show(down);
        }
    }

    fn connect(&self) -> Option<u64> {
        let broker = &self.broker;
        let mut state = broker.state();
        if !state.up {
            return None;
        }
        state.lose_connection();
        state.connections += 1;
        let epoch = state.connections;
        state.connected = Some(epoch);
        state.will = Some(self.will.clone());
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
        self.guarded.replay(state.retained.iter());
        state.guarded = Some(self.guarded.clone());
        drop(state);
        broker.trace.say(format!("link {epoch} is up, session present: {session_present}"));
        let connected = LinkState::Connected { epoch, session_present };
        self.inward.show(connected.clone());
        self.outward.show(connected);
        Some(epoch)
    }

    /// Hands on what the session holds, in order, until the connection ends.
    async fn deliver(&self, epoch: u64, deliveries: &mpsc::Sender<Delivery>) {
        let broker = &self.broker;
        let mut number = 0;
        loop {
            let woken = broker.wake.notified();
            let next = {
                let mut state = broker.state();
                if state.connected != Some(epoch) {
                    return;
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
                broker.cut();
                return;
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
                return;
            }
        }
    }

    fn acknowledge(&self, token: AckToken) {
        let mut state = self.broker.state();
        let present = state.connected == Some(token.epoch());
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

    fn epoch(&self) -> Result<u64, Error> {
        self.broker.state().connected.ok_or(Error::NotConnected)
    }

    /// Waits until everything in the session has been handed on by this connection.
    async fn drained(&self, epoch: u64) -> Result<(), Error> {
        loop {
            {
                let state = self.broker.state();
                if state.connected != Some(epoch) {
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

/// The first letters of a payload's digest: enough to tell payloads apart.
pub(crate) fn short(payload: &[u8]) -> String {
    if payload.is_empty() { "(empty)".to_owned() } else { Digest::of_bytes(payload).short().to_owned() }
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
        if broker.mishap(1) {
            broker.cut();
            return Err(lost());
        }
        broker.trace.say(format!("publish {} {}", message.topic, short(&message.payload)));
        broker.state().said.push((message.topic.clone(), message.payload.clone()));
        broker.publish(&message.topic, &message.payload, message.retain);
        if broker.mishap(1) {
            broker.cut();
        }
        let delay = broker.dice.time(0, 30);
        Ok(Box::pin(async move {
            tokio::time::sleep(delay).await;
            let connected = broker.state().connected;
            if connected == Some(epoch) { Ok(()) } else { Err(lost()) }
        }))
    }
}

#[async_trait]
impl Confirm for Link {
    async fn retained(&self, topic: &Topic) -> Retained {
        let (from_ms, to_ms) = if self.broker.looks_slowly() { (400, 1500) } else { (1, 50) };
        tokio::time::sleep(self.broker.dice.time(from_ms, to_ms)).await;
        if !self.broker.state().up || self.broker.mishap(10) {
            return Retained::Unknown;
        }
        let topic = topic.to_string(&self.broker.fleet);
        self.broker.retained(&topic).map_or(Retained::Nothing, Retained::Payload)
    }
}
