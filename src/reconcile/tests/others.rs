//! Hosts beside the one that leads: an in-memory world each, asked without a line between. One can be silent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::domain::HostFacts;
use crate::drivers::{Error, Result, fake};
use crate::execute::{self, Task, Waits};
use crate::model::HostId;
use crate::plan::Step;
use crate::world::World;
use crate::world::images::{self, Depot};
use crate::world::work::{Act, HostSeen, Look, Question, Remote, Told};

/// The other hosts, `host-2` and on.
pub(super) struct Others {
    pub(super) worlds: BTreeMap<HostId, (fake::World, World)>,
    pub(super) silent: Mutex<BTreeSet<HostId>>,
}

struct Nobody;

impl Waits for Nobody {
    fn waits(&self, _step: &Step, _words: Option<String>) {}

    fn waits_for(&self, _step: &Step) -> Option<String> {
        None
    }
}

impl Others {
    /// So many hosts beside this one.
    pub(super) fn beside(leads: &World, others: u8) -> Self {
        let beside = |number: u8| {
            let host = HostId::parse(&format!("host-{number}")).unwrap();
            let (swarm_node, address) = (format!("node{number}"), IpAddr::from([192, 0, 2, 100 + number]));
            let options = fake::Options::new(Arc::clone(&leads.clock));
            let fake = fake::World::new(fake::Options { swarm_node: swarm_node.clone(), address, ..options });
            let facts = HostFacts { host: host.clone(), swarm_node, advertise_address: address, ..leads.facts.clone() };
            let images = Depot::new(images::Options { port: 0, ..images::Options::default() });
            let world = World { drivers: fake.drivers(), facts, images: Arc::new(images), ..leads.clone() };
            (host, (fake, world))
        };
        Self { worlds: (2..2 + others).map(beside).collect(), silent: Mutex::default() }
    }

    fn of(&self, host: &HostId) -> Result<&World> {
        let silent = self.silent.lock().unwrap().contains(host);
        let world = self.worlds.get(host).filter(|_| !silent).map(|(_, world)| world);
        world.ok_or_else(|| Error::Unreachable { act: format!("ask host {host}"), why: "it is silent".to_owned() })
    }
}

#[async_trait]
impl Remote for Others {
    async fn look(&self, host: &HostId, look: Look) -> Result<HostSeen> {
        Ok(execute::look(self.of(host)?, &look).await)
    }

    async fn act(&self, host: &HostId, act: Act, _waits: &(dyn Fn(Option<String>) + Sync)) -> Result<()> {
        let world = self.of(host)?;
        let task = Task::from_act(world, act, Arc::new(Nobody));
        let ended = execute::run(task, world.clock.monotonic()).await;
        ended.result.map_err(|why| Error::Failed { act: format!("ask host {host}"), why })
    }

    async fn ask(&self, host: &HostId, question: Question) -> Result<Told> {
        execute::answer(self.of(host)?, &question).await
    }
}
