//! The lines between the hosts of the simulation: what is said on them may be lost, come twice, late, and in another order;
//! and what is watched where it arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pgmoor::agent::{Envelopes, Heard, Laid, LayLine, Line};
use pgmoor::contract::Topic;
use pgmoor::contract::documents::HostWork;
use pgmoor::model::{FleetId, HostId, TaskId};
use pgmoor::store::{Journal as _, Store};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::planted::Plant;
use crate::site::key;
use crate::trace::Trace;

/// Messages that wait to be taken by a daemon.
const QUEUE: usize = 256;
/// How late a message may come, in milliseconds, when it is late.
const LATE_MS: u64 = 8000;

/// Every line that is laid. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    ends: Arc<Mutex<BTreeMap<String, End>>>,
    said: Arc<Notify>,
    slow: Arc<AtomicBool>,
}

/// Where a host hears.
#[derive(Default)]
struct End {
    /// Tells the line of one role from that of the next.
    number: u64,
    filters: Vec<String>,
    /// By when they arrive since the run began, and by number.
    coming: BTreeMap<(Duration, u64), Heard>,
    counted: u64,
}

impl Lines {
    /// Lays the lines of one daemon.
    pub(crate) fn of(&self, broker: &Broker, ears: Ears) -> LayLine {
        let (lines, broker) = (self.clone(), broker.clone());
        Arc::new(move |filters| {
            let host = ears.host.to_string();
            let number = {
                let mut ends = lines.ends.lock().unwrap_or_else(PoisonError::into_inner);
                let end = ends.entry(host.clone()).or_default();
                end.number += 1;
                end.filters = filters;
                end.coming.clear();
                end.number
            };
            let (sender, arriving) = mpsc::channel(QUEUE);
            let line = Arc::new(SimLine { lines: lines.clone(), broker: broker.clone(), host: host.clone() });
            let (lines, ears) = (lines.clone(), ears.clone());
            let run = move |stop: CancellationToken| lines.run((host, number), ears, sender, stop);
            Laid { line, arriving, run: Box::new(|stop| Box::pin(run(stop))) }
        })
    }

    async fn run(
        self,
        (host, number): (String, u64),
        ears: Ears,
        sender: mpsc::Sender<Heard>,
        stop: CancellationToken,
    ) {
        loop {
            let said = self.said.notified();
            let first = {
                let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(end) = ends.get(&host).filter(|end| end.number == number) else { return };
                end.coming.first_key_value().map(|(at, _)| *at)
            };
            match first {
                Some(at) if at.0 <= ears.trace.now() => {
                    let heard = {
                        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                        ends.get_mut(&host).and_then(|end| end.coming.remove(&at))
                    };
                    let Some(heard) = heard.map(|heard| ears.hear(heard)) else { continue };
                    if sender.send(heard).await.is_err() {
                        return;
                    }
                }
                Some((at, _)) => tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = said => {}
                    () = tokio::time::sleep(at.saturating_sub(ears.trace.now())) => {}
                },
                None => tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = said => {}
                },
            }
        }
    }

    /// From now on most of what is said comes late, or no more.
    pub(crate) fn slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::SeqCst);
    }

    /// What is on its way to a host, or to all, is lost.
    pub(crate) fn lose(&self, host: Option<&str>) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = ends.iter_mut().filter(|(name, _)| host.is_none_or(|host| host == name.as_str()));
        lost.for_each(|(_, end)| end.coming.clear());
    }
}

/// Whether a topic is one of a filter's.
fn matches(filter: &str, topic: &str) -> bool {
    let (mut wanted, mut has) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), has.next()) {
            (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// The line of one host.
struct SimLine {
    lines: Lines,
    broker: Broker,
    host: String,
}

#[async_trait]
impl Line for SimLine {
    async fn say(&self, topic: &str, payload: &[u8]) -> Result<(), String> {
        let broker = &self.broker;
        tokio::time::sleep(broker.dice.time(0, 5)).await;
        if !broker.state().answers(&self.host) {
            return Err("there is no connection to the broker".to_owned());
        }
        let unheard = broker.mishap(1);
        {
            let mut ends = self.lines.ends.lock().unwrap_or_else(PoisonError::into_inner);
            let hear = |end: &&mut End| end.filters.iter().any(|filter| matches(filter, topic));
            for (host, end) in ends.iter_mut() {
                if !hear(&end) || !broker.state().answers(host) || broker.mishap(3) {
                    continue;
                }
                for _ in 0..1 + usize::from(broker.mishap(4)) {
                    let late = broker.mishap(if self.lines.slow.load(Ordering::SeqCst) { 60 } else { 4 });
                    let late_ms = if late { LATE_MS } else { 20 };
                    let at = broker.trace.now() + broker.dice.time(0, late_ms);
                    end.counted += 1;
                    end.coming
                        .insert((at, end.counted), Heard { topic: topic.to_owned(), payload: payload.to_owned() });
                }
            }
        }
        self.lines.said.notify_waiters();
        if unheard { Err("the PUBACK was lost".to_owned()) } else { Ok(()) }
    }
}

/// What one host is told by others, and the mistake with which it listens.
#[derive(Clone)]
pub(crate) struct Ears {
    pub(crate) host: HostId,
    pub(crate) fleet: FleetId,
    pub(crate) store: Store,
    pub(crate) stale: Stale,
    pub(crate) trace: Trace,
    pub(crate) plant: Plant,
}

/// Work that came to hosts under a lead that was older, then already, than one that the host had heard of. Clones are the
/// same.
#[derive(Clone, Default)]
pub(crate) struct Stale(Arc<Mutex<BTreeMap<HostId, BTreeSet<TaskId>>>>);

impl Stale {
    /// Of one host.
    pub(crate) fn of(&self, host: &HostId) -> BTreeSet<TaskId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned().unwrap_or_default()
    }

    fn put(&self, host: &HostId, id: &TaskId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(host.clone()).or_default().insert(id.clone());
    }
}

impl Ears {
    fn hear(&self, heard: Heard) -> Heard {
        let Some(Topic::HostWork(host)) = Topic::parse(&self.fleet, &heard.topic) else { return heard };
        let Ok(document) = serde_json::from_slice::<HostWork>(&heard.payload) else { return heard };
        let known = self.store.read(|reader| Ok((reader.work_epoch()?, reader.work(&document.id)?.is_some())));
        let Ok((newest, begun)) = known else { return heard };
        if host != self.host || document.epoch >= newest {
            return heard;
        }
        if !begun {
            self.stale.put(&self.host, &document.id);
        }
        if self.plant == Plant::StaleLead { self.renewed(&document, &heard, newest).unwrap_or(heard) } else { heard }
    }

    /// The same work as if the newest lead asked for it: that is how it looks to a host that does not compare.
    fn renewed(&self, document: &HostWork, heard: &Heard, newest: u64) -> Option<Heard> {
        let own = Envelopes { fleet: self.fleet.clone(), here: self.host.clone(), key: key() };
        let (_, work) = own.open_work(&heard.payload).ok()?;
        let asks = Envelopes { here: document.from.clone(), ..own };
        let (topic, payload) = asks.work(&self.host, &document.id, newest, &work).ok()?;
        Some(Heard { topic, payload })
    }
}
