//! The line to the other hosts, with who does their work here and, where this host leads, who asks them.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::services::Base;
use crate::agent::{Agent, Asker, Envelopes, Laid, LayLine, Line};
use crate::contract::topics::filters;
use crate::world::World;

/// The line, before it runs.
pub(super) struct Between {
    laid: Laid,
    agent: Agent,
    asker: Option<Arc<Asker>>,
}

impl Between {
    /// For one world; where it has a lease, other hosts are asked under it.
    pub(super) fn new(lay: &LayLine, base: &Base, world: &World) -> Self {
        let filters = filters::between_hosts(&base.fleet, &base.host);
        let laid = lay(filters);
        let envelopes = Envelopes { fleet: base.fleet.clone(), here: base.host.clone(), key: Arc::clone(&base.key) };
        let line: Arc<dyn Line> = Arc::clone(&laid.line);
        let asker = world
            .lease
            .as_ref()
            .map(|lease| Arc::new(Asker::new(envelopes.clone(), Arc::clone(&line), lease.epoch, base.random.clone())));
        // What is asked of this host is done as by one that follows: with nobody else to ask.
        let here = World { lease: None, remote: None, ..world.clone() };
        let agent = Agent {
            envelopes,
            line,
            store: base.store.clone(),
            clock: Arc::clone(&base.clock),
            world: watch::Sender::new(Some(here)).subscribe(),
            running: Arc::new(Mutex::default()),
        };
        Self { laid, agent, asker }
    }

    /// Who asks the other hosts.
    pub(super) fn asker(&self) -> Option<Arc<Asker>> {
        self.asker.clone()
    }

    /// Talks until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { laid: Laid { line: _, arriving, run }, agent, asker } = self;
        let asker = watch::Sender::new(asker);
        tokio::join!(run(stop.clone()), agent.run(arriving, asker.subscribe(), stop));
    }
}
