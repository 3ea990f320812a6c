//! The daemon of one host of several: the real roles, on the simulated broker.

use std::sync::Arc;

use async_trait::async_trait;
use pgmoor::agent::LayLine;
use pgmoor::app::Error;
use pgmoor::app::roles::Roles;
use pgmoor::app::services::{Base, Lines, Outward};
use pgmoor::app::ways::{Last, Ways};
use pgmoor::runtime::chain;
use pgmoor::runtime::supervisor::Supervisor;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::acks::Acks;
use crate::guarded::Guarded;
use crate::line::Ears;
use crate::link::Link;
use crate::site::{DELIVERIES, Host, Site};

impl Site {
    /// Plays the role that is this host's, and the next.
    pub(crate) async fn play(&self, host: &Host, stop: CancellationToken) -> Result<(), String> {
        let base = self.base(host)?;
        let ways = Simulated { site: self.clone(), host: host.clone(), will: self.will(&base)? };
        let settings = self.settings.as_ref().clone();
        Roles { settings, base, ways: Arc::new(ways) }.play(stop).await.map_err(|error| chain(&error))
    }
}

/// The ways to the simulated broker.
struct Simulated {
    site: Site,
    host: Host,
    will: (String, Vec<u8>),
}

impl Simulated {
    fn link(&self, base: &Base, guarded: Option<Guarded>) -> Link {
        let acks = Acks::new(base.fleet.clone(), self.host.disk.clone(), self.site.breaches.clone());
        let at = (self.site.broker.clone(), self.host.id.as_str());
        Link::new(at, self.will.clone(), acks, guarded, self.site.plant)
    }
}

#[async_trait]
impl Ways for Simulated {
    async fn lead(&self, supervisor: &mut Supervisor, base: &Base) -> Result<(Lines, Last), Error> {
        let (sender, deliveries) = mpsc::channel(DELIVERIES);
        let guarded = Guarded::start(supervisor, self.site.plant, (&base.fleet, &base.store, &base.clock));
        let link = self.link(base, Some(guarded));
        let lines = Lines {
            inward: Arc::new(link.clone()),
            deliveries,
            outward: Arc::new(link.clone()),
            confirm: Arc::new(link.clone()),
            embedded: false,
        };
        Ok((lines, Box::new(move |supervisor| link.start(supervisor, sender))))
    }

    fn follow(&self, supervisor: &mut Supervisor, base: &Base) -> Result<Arc<dyn Outward>, Error> {
        let link = self.link(base, None);
        link.clone().start(supervisor, mpsc::channel(1).0);
        Ok(Arc::new(link))
    }

    fn between_hosts(&self, base: &Base) -> LayLine {
        let ears = Ears {
            host: self.host.id.clone(),
            fleet: base.fleet.clone(),
            store: base.store.clone(),
            stale: self.site.stale.clone(),
            trace: self.site.trace.clone(),
            plant: self.site.plant,
        };
        self.site.lines.of(&self.site.broker, ears)
    }
}
