//! The whole world as plain data, and how it moves on: whatever is due by now happens, in the order in which it was due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::call::Calls;
use super::engine::Container;
use super::files::Files;
use super::machine::Machines;
use super::network::Network;
use super::options::Options;
use super::service::Service;
use super::shelf::Shelf;
use super::violation::Watch;
use crate::drivers::swarm::{ConfigSeen, Event, Labels};

/// Events kept for streams that have not read them yet; a slower one misses some, as with Docker.
const EVENTS_MAX: usize = 10_000;
/// The same where nothing is remembered for tests.
const EVENTS_OF_DAEMON_MAX: usize = 1_000;

/// Steps of one settling: a bound, so that a mistake in here cannot hang a test.
const STEPS_MAX: usize = 100_000;

/// Everything there is.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: Options,
    /// Milliseconds since 1970, as of the last settling.
    pub(super) now_ms: i64,
    next_id: u64,
    pub(super) files: Files,
    pub(super) services: Shelf<Service>,
    pub(super) containers: Shelf<Container>,
    pub(super) networks: Shelf<Network>,
    pub(super) configs: Shelf<ConfigSeen>,
    pub(super) machines: Machines,
    /// The Swarm node of the host that is spoken to.
    pub(super) here: String,
    /// With the node on which it happened; none: the whole Swarm hears of it.
    events: VecDeque<(Option<String>, Event)>,
    /// The number of the event at the front of `events`.
    events_from: u64,
    pub(super) calls: Calls,
    pub(super) watch: Watch,
    /// Services whose instances pgmoor interrupted, and that are not back yet.
    pub(super) interrupted: BTreeSet<String>,
    /// How often what was done to what.
    pub(super) counts: BTreeMap<(&'static str, String), u64>,
}

impl State {
    pub(super) fn new(options: Options) -> Self {
        let now_ms = options.clock.now_ms();
        let round_ms = options.delays.patroni_loop_ms;
        let (machines, files) = (Machines::new(&options), Files::new(&options.swarm_node));
        let here = options.swarm_node.clone();
        let remembers = options.remembers;
        Self {
            options,
            now_ms,
            next_id: 1,
            files,
            services: Shelf::new(round_ms),
            containers: Shelf::new(round_ms),
            networks: super::network::predefined(),
            configs: Shelf::new(round_ms),
            machines,
            here,
            events: VecDeque::new(),
            events_from: 0,
            calls: Calls::default(),
            watch: Watch::new(remembers),
            interrupted: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    /// An id like Docker's, the same in every run.
    pub(super) fn new_id(&mut self, kind: &str) -> String {
        let number = self.next_id;
        self.next_id += 1;
        format!("{kind}{number:016x}")
    }

    /// The number that the last id carried.
    pub(super) fn last_number(&self) -> u64 {
        self.next_id.saturating_sub(1)
    }

    pub(super) fn count(&mut self, act: &'static str, subject: &str) {
        if !self.options.remembers {
            return;
        }
        *self.counts.entry((act, subject.to_owned())).or_default() += 1;
    }

    /// Something happened in the Swarm.
    pub(super) fn emit(&mut self, kind: &str, action: &str, attributes: Labels) {
        self.emit_on(None, kind, action, attributes);
    }

    /// Something happened on one host, whose engine alone tells of it.
    pub(super) fn emit_on(&mut self, node: Option<String>, kind: &str, action: &str, attributes: Labels) {
        let max = if self.options.remembers { EVENTS_MAX } else { EVENTS_OF_DAEMON_MAX };
        if self.events.len() >= max {
            self.events.pop_front();
            self.events_from += 1;
        }
        self.events.push_back((node, Event { kind: kind.to_owned(), action: action.to_owned(), attributes }));
    }

    /// The number that the next event will have.
    pub(super) fn events_end(&self) -> u64 {
        self.events_from + self.events.len() as u64
    }

    /// The first event from `cursor` on of which the host that is spoken to tells, and the cursor behind it.
    pub(super) fn event_at(&self, cursor: u64) -> Option<(Event, u64)> {
        let first = cursor.max(self.events_from);
        let skip = usize::try_from(first - self.events_from).ok()?;
        let told = |node: &Option<String>| node.as_ref().is_none_or(|node| *node == self.here);
        let (at, (_, event)) = (first..).zip(self.events.iter().skip(skip)).find(|(_, (node, _))| told(node))?;
        Some((event.clone(), at + 1))
    }

    /// Brings the world to this moment.
    pub(super) fn settle(&mut self, now_ms: i64) {
        for _ in 0..STEPS_MAX {
            match self.next_due() {
                Some(due) if due <= now_ms => {
                    self.now_ms = self.now_ms.max(due);
                    self.step();
                }
                Some(_) | None => break,
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
        self.step();
    }

    /// When something happens next by itself.
    fn next_due(&mut self) -> Option<i64> {
        [self.services.next_due(), self.containers.next_due()].into_iter().flatten().min()
    }

    /// Does all that is due now. Everything done has no due, or a later one, afterwards.
    fn step(&mut self) {
        self.step_machines();
        self.step_containers();
        self.step_instances();
        self.step_tasks();
        self.step_interrupted();
    }
}
