//! The hosts of a world: what each is and has, which of them are up and reach each other, and whom Swarm's managers elect.
//!
//! All of them are managers. One that is cut off reaches nobody, and nobody reaches it; what runs on it goes on. A leader
//! that was cut off goes on reading what it knew, and believing that it leads, for [`BELIEF_MS`], as a real one did; it
//! changes nothing, since it has no majority.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use super::call::{Outcome, Refusal};
use super::options::Options;
use super::service::Service;
use super::state::State;
use crate::drivers::swarm::{ConfigSeen, Labels, NetworkSeen, ServiceSeen};

/// How long a leader without a majority goes on believing that it leads: 14 s were seen.
const BELIEF_MS: i64 = 14_000;
/// How long the managers take to elect another leader: 12.7 s were seen.
const ELECTION_MS: i64 = 12_700;

/// A host.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) hostname: String,
    pub(super) address: std::net::IpAddr,
    pub(super) cpus: u32,
    pub(super) memory_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) images: BTreeMap<String, Labels>,
    /// What `docker pull` finds and is not on the host yet.
    pub(super) pullable: BTreeMap<String, Labels>,
    /// Ports that programs outside Docker listen on.
    pub(super) occupied_ports: BTreeSet<u16>,
    up: bool,
    cut_off: bool,
    /// What it knew of the Swarm when it lost the majority, and until when it takes that for the truth.
    belief: Option<(i64, Belief)>,
}

/// What a manager reads without asking the others.
#[derive(Debug, Default)]
pub(super) struct Belief {
    pub(super) services: Vec<ServiceSeen>,
    pub(super) networks: Vec<NetworkSeen>,
    pub(super) configs: Vec<ConfigSeen>,
}

impl Machine {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            hostname: options.hostname.clone(),
            address: options.address,
            cpus: options.cpus,
            memory_bytes: options.memory_bytes,
            disk_bytes: options.disk_bytes,
            images: options.images.clone(),
            pullable: BTreeMap::new(),
            occupied_ports: BTreeSet::new(),
            up: true,
            cut_off: false,
            belief: None,
        }
    }
}

/// All hosts, by their Swarm nodes.
#[derive(Debug)]
pub(super) struct Machines {
    by_node: BTreeMap<String, Machine>,
    leader: Option<String>,
    /// When the managers that have a majority elect another leader.
    election: Option<i64>,
}

impl Machines {
    pub(super) fn new(options: &Options) -> Self {
        let by_node = BTreeMap::from([(options.swarm_node.clone(), Machine::new(options))]);
        Self { by_node, leader: options.leads.then(|| options.swarm_node.clone()), election: None }
    }

    pub(super) fn get(&self, node: &str) -> Option<&Machine> {
        self.by_node.get(node)
    }

    pub(super) fn get_mut(&mut self, node: &str) -> Option<&mut Machine> {
        self.by_node.get_mut(node)
    }

    pub(super) fn add(&mut self, options: &Options) {
        self.by_node.insert(options.swarm_node.clone(), Machine::new(options));
    }

    pub(super) fn node_at(&self, address: &str) -> Option<&str> {
        let found = self.by_node.iter().find(|(_, machine)| machine.address.to_string() == address);
        found.map(|(node, _)| node.as_str())
    }

    /// Whether packets get from one host to another.
    pub(super) fn reach(&self, from: &str, to: &str) -> bool {
        let joined = |node: &str| self.get(node).is_some_and(|machine| machine.up && !machine.cut_off);
        from == to && self.get(to).is_some_and(|machine| machine.up) || joined(from) && joined(to)
    }

    /// Whether a manager reaches a majority of them, itself among them.
    pub(super) fn has_majority(&self, node: &str) -> bool {
        2 * self.by_node.keys().filter(|other| self.reach(node, other)).count() > self.by_node.len()
    }

    /// Whether a manager reaches a leader that has a majority. A host that is alone is its own, whoever leads it.
    fn is_led(&self, node: &str) -> bool {
        let leads = |leader: &str| self.reach(node, leader) && self.has_majority(leader);
        self.has_majority(node) && (self.by_node.len() == 1 || self.leader.as_deref().is_some_and(leads))
    }

    /// What a manager says about who leads; none: it cannot tell.
    pub(super) fn is_led_by(&self, node: &str, now_ms: i64) -> Option<bool> {
        let leads = self.leader.as_deref() == Some(node);
        if self.has_majority(node) {
            // Where nobody is elected yet there is no leader to name.
            return self.is_led(node).then_some(leads);
        }
        let believes = self.belief(node, now_ms).is_some();
        believes.then_some(true)
    }

    /// What a manager without a majority goes on reading.
    pub(super) fn belief(&self, node: &str, now_ms: i64) -> Option<&Belief> {
        let (until_ms, belief) = self.get(node)?.belief.as_ref()?;
        (now_ms < *until_ms).then_some(belief)
    }

    /// The managers that have a majority elect a leader where there is none.
    fn elect(&mut self, now_ms: i64) {
        if self.by_node.len() == 1 || self.leader.as_deref().is_some_and(|leader| self.has_majority(leader)) {
            self.election = None;
            return;
        }
        let able: Vec<String> = self.by_node.keys().filter(|node| self.has_majority(node)).cloned().collect();
        if able.is_empty() {
            self.election = None;
        } else if *self.election.get_or_insert(now_ms.saturating_add(ELECTION_MS)) <= now_ms {
            // The next after the one before, in turn.
            let next = able.iter().find(|node| self.leader.as_ref().is_none_or(|before| *node > before));
            self.leader = next.or(able.first()).cloned();
            self.election = None;
        }
    }

    /// Who has a majority again believes nothing any more.
    fn know_better(&mut self) {
        let able: Vec<String> = self.by_node.keys().filter(|node| self.has_majority(node)).cloned().collect();
        able.iter().for_each(|node| self.disturb(node, |machine| machine.belief = None));
    }

    fn disturb(&mut self, node: &str, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.by_node.get_mut(node) {
            change(machine);
        }
    }
}

impl State {
    /// The host that is spoken to.
    pub(super) fn machine(&self) -> Outcome<&Machine> {
        self.machines.get(&self.here).ok_or_else(|| Refusal::Unreachable("there is no such host".to_owned()))
    }

    pub(super) fn machine_mut(&mut self) -> Outcome<&mut Machine> {
        self.machines.get_mut(&self.here).ok_or_else(|| Refusal::Unreachable("there is no such host".to_owned()))
    }

    /// A path of the host that is spoken to.
    pub(super) fn at_path(&self, path: &str) -> String {
        super::files::on(&self.here, path)
    }

    /// Swarm's Raft takes a change in, or a read that must be right, only with a majority that has a leader.
    pub(super) fn with_majority(&self) -> Outcome<()> {
        if self.machines.is_led(&self.here) {
            return Ok(());
        }
        let why = "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers \
                   are online.";
        Err(Refusal::Unreachable(why.to_owned()))
    }

    /// Reads what Swarm keeps: with a majority what there is, else what is believed.
    pub(super) fn read_swarm<T>(
        &self,
        live: impl FnOnce(&Self) -> T,
        believed: impl FnOnce(&Belief) -> T,
    ) -> Outcome<T> {
        match self.machines.belief(&self.here, self.now_ms) {
            Some(belief) if !self.machines.is_led(&self.here) => Ok(believed(belief)),
            Some(_) | None => self.with_majority().map(|()| live(self)),
        }
    }

    /// Whether Swarm's orders reach a node.
    pub(super) fn is_managed(&self, node: &str) -> bool {
        self.machines.has_majority(node)
    }

    fn believe(&mut self, node: &str) {
        let belief = Belief {
            services: self.services.values().map(Service::seen).collect(),
            networks: self.networks.values().cloned().collect(),
            configs: self.configs.values().cloned().collect(),
        };
        let until_ms = self.now_ms.saturating_add(BELIEF_MS);
        self.machines.disturb(node, |machine| machine.belief = Some((until_ms, belief)));
    }

    /// A change of who reaches whom; a leader that loses its majority by it goes on believing for a while.
    fn reach_otherwise(&mut self, node: &str, change: impl FnOnce(&mut Machine)) {
        let leader = self.machines.leader.clone().filter(|leader| self.machines.has_majority(leader));
        self.machines.disturb(node, change);
        if let Some(leader) = leader.filter(|leader| !self.machines.has_majority(leader)) {
            self.believe(&leader);
        }
        self.machines.know_better();
        // Orders that could not be given before, and what waited for somebody, are looked at again.
        self.services.touch_all();
        self.containers.touch_all();
        self.step_machines();
    }

    /// Elections, and orders to stop that reach their host now.
    pub(super) fn step_machines(&mut self) {
        if self.machines.by_node.len() == 1 {
            return;
        }
        self.machines.elect(self.now_ms);
        let late = self.containers.values().filter(|one| one.is_running() && one.unwanted && one.stop_due.is_none());
        let late: Vec<String> = late.filter(|one| self.is_managed(one.node())).map(|one| one.id.clone()).collect();
        late.iter().for_each(|id| self.order_stop(id));
    }
}

impl World {
    /// Another host of the same Swarm: the same world, spoken to there. What is the whole Swarm's in its options counts
    /// for nothing.
    #[must_use]
    pub fn join(&self, options: &Options) -> Self {
        let state = &mut *self.state();
        state.machines.add(options);
        state.files.add_host(&options.swarm_node);
        state.services.touch_all();
        Self {
            state: std::sync::Arc::clone(&self.state),
            clock: self.clock.clone(),
            node: options.swarm_node.as_str().into(),
        }
    }

    /// The Swarm node that this host is.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// This host loses its power, and everything that runs on it with it; or has it again, and Swarm starts what it shall
    /// run.
    pub fn power(&self, on: bool) {
        let state = &mut *self.state();
        if !on {
            state.fail_containers();
        }
        let node = state.here.clone();
        state.reach_otherwise(&node, |machine| machine.up = on);
    }

    /// This host is cut off from all others, or reaches them again. What runs on it goes on running.
    pub fn cut_off(&self, cut: bool) {
        let state = &mut *self.state();
        let node = state.here.clone();
        state.reach_otherwise(&node, |machine| machine.cut_off = cut);
    }

    /// Whether this host is up and reaches a majority of all hosts.
    #[must_use]
    pub fn has_majority(&self) -> bool {
        let state = self.state();
        state.machines.has_majority(&state.here)
    }

    /// Swarm's managers elect this host, where it is among a majority of them. False where it is not.
    pub fn elect(&self) -> bool {
        let state = &mut *self.state();
        let able = state.machines.has_majority(&state.here);
        if able {
            state.machines.leader = Some(state.here.clone());
            state.machines.election = None;
        }
        able
    }

    /// Whether this host leads Swarm's managers in truth, whatever it believes.
    #[must_use]
    pub fn is_elected(&self) -> bool {
        let state = self.state();
        state.machines.leader.as_deref() == Some(&*state.here) && state.machines.has_majority(&state.here)
    }
}
