//! What goes wrong with the calls of a daemon to its world, and what is watched at each of them.
//!
//! A call may be slow, may not happen, or may happen without an answer. In calm weather none does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgmoor::drivers::fake::{CallSeen, Fate, Fates, Mishap, System};

use crate::dice::Dice;
use crate::invariants::{Breaches, Invariant};
use crate::leads::{Deed, Deeds};
use crate::trace::Trace;
use crate::words::Words;

/// Calls that change nothing.
const READS: [&str; 31] = [
    "swarm.engine",
    "swarm.services",
    "swarm.tasks",
    "swarm.log",
    "swarm.networks",
    "swarm.find_network",
    "swarm.free_subnets",
    "swarm.configs",
    "swarm.containers",
    "swarm.containers_mounting",
    "swarm.image",
    "swarm.admission",
    "swarm.events",
    "host.directory",
    "host.list",
    "host.read",
    "host.port_is_free",
    "host.exists",
    "host.disk",
    "etcd.authentication",
    "etcd.users",
    "etcd.user",
    "etcd.get",
    "etcd.keys",
    "etcd.members",
    "patroni.status",
    "postgres.server",
    "postgres.roles",
    "postgres.databases",
    "postgres.extensions",
    "postgres.scripts_done",
];

/// The switch and the counter that others see. Clones are the same weather.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    calm: Arc<AtomicBool>,
    limps: Arc<Mutex<Option<System>>>,
    loses: Arc<Mutex<Option<&'static str>>>,
    changes: Arc<AtomicU64>,
    deeds: Deeds,
}

impl Weather {
    /// Nothing goes wrong from now on.
    pub(crate) fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }

    /// Of the calls of this system, and of no other, two in five get no answer.
    pub(crate) fn limp(&self, system: Option<System>) {
        *self.limps.lock().unwrap_or_else(PoisonError::into_inner) = system;
    }

    fn limps(&self, system: System) -> bool {
        *self.limps.lock().unwrap_or_else(PoisonError::into_inner) == Some(system)
    }

    /// This call, and no other, gets no answer.
    pub(crate) fn lose(&self, call: Option<&'static str>) {
        *self.loses.lock().unwrap_or_else(PoisonError::into_inner) = call;
    }

    fn loses(&self, call: &str) -> bool {
        *self.loses.lock().unwrap_or_else(PoisonError::into_inner) == Some(call)
    }

    /// What hosts did to the Swarm since this was last asked.
    pub(crate) fn deeds(&self) -> Vec<Deed> {
        self.deeds.take()
    }

    /// Calls so far that change something, purges aside.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }
}

/// Rules over one world.
pub(crate) struct Ruler {
    pub(crate) weather: Weather,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) words: Words,
    pub(crate) breaches: Breaches,
}

impl Fates for Ruler {
    fn of(&mut self, system: System, call: &CallSeen) -> Fate {
        let reads = READS.contains(&call.name);
        let fate = if self.weather.calm.load(Ordering::SeqCst) {
            Fate { before: self.dice.time(0, 3), ..Fate::default() }
        } else {
            self.stormy(system, call.name, reads)
        };
        if !reads {
            // A purge comes when its time has come, however quiet it is, and the leader renews its lease before it.
            let purges = call.act.contains("/trash/")
                || call.name == "swarm.remove_config"
                || call.name == "swarm.label_config" && call.act.contains("pgmoor.lease.");
            self.weather.changes.fetch_add(u64::from(!purges), Ordering::SeqCst);
            let mishap = fate.mishap.map(|mishap| format!(" ({mishap:?})")).unwrap_or_default();
            self.trace.say(format!("{} call {}: {}{mishap}", call.node, call.name, call.act));
            self.weather.deeds.note(call, self.trace.now());
            self.watch(call);
        }
        fate
    }
}

impl Ruler {
    fn stormy(&self, system: System, call: &str, reads: bool) -> Fate {
        let mut fate = Fate { before: self.dice.time(0, 10), after: self.dice.time(0, 10), mishap: None };
        fate.mishap = match self.dice.below(100) {
            0..=2 => Some(Mishap::Lost),
            3 | 4 if !reads => Some(Mishap::Unheard),
            5 if !reads => Some(Mishap::Failed),
            _ if self.weather.loses(call) => Some(Mishap::Lost),
            _ => (self.weather.limps(system) && self.dice.percent(40)).then_some(Mishap::Lost),
        };
        // One in four of those that get no answer takes its deadline to find that out.
        if fate.mishap == Some(Mishap::Lost) && self.dice.percent(25) {
            fate.before = Duration::from_secs(10);
        }
        fate
    }

    /// No data directory goes without a delete, and none goes for good before its time.
    fn watch(&self, call: &CallSeen) {
        if call.name != "host.move_directory" && call.name != "host.remove_directory" {
            return;
        }
        let purges = call.name == "host.remove_directory" && call.act.contains("/trash/");
        let trashes = call.name == "host.move_directory" && call.act.contains(" to /var/lib/pgmoor/trash");
        let Some(database) = self.words.database_in(&call.act) else { return };
        if purges {
            self.words.forget(&database);
        }
        if (purges || trashes) && !self.words.deleted(&database, purges) {
            self.breaches.found(Invariant::DataKept, format!("{}, which nobody asked for", call.act));
        }
    }
}
