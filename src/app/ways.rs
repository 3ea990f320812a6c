//! The ways of a daemon to its broker, in either role and to other hosts: over MQTT, or as a test makes them.
//!
//! Architecture invariant: roles and services know these ways only, so the simulation runs them as they are.

use std::sync::Arc;

use async_trait::async_trait;

use super::services::{Base, Lines, Outward};
use super::{Error, links};
use crate::agent::{LayLine, Wire};
use crate::contract::topics::filters;
use crate::mqtt;
use crate::outbox::Guard;
use crate::runtime::supervisor::Supervisor;

/// Starts what must begin after all else and end before it: what comes in.
pub type Last = Box<dyn FnOnce(&mut Supervisor) + Send>;

/// How a daemon reaches its broker.
#[async_trait]
pub trait Ways: Send + Sync {
    /// Both links of a host that leads, with what runs them: what goes out at once, what comes in by [`Last`].
    async fn lead(&self, supervisor: &mut Supervisor, base: &Base) -> Result<(Lines, Last), Error>;

    /// The link over which a host that follows reports, with what runs it.
    fn follow(&self, supervisor: &mut Supervisor, base: &Base) -> Result<Arc<dyn Outward>, Error>;

    /// Lines to the other hosts.
    fn between_hosts(&self, base: &Base) -> LayLine;
}

/// Over MQTT.
pub(super) struct OverMqtt {
    pub(super) options: mqtt::Options,
    /// Whether the broker is our own.
    pub(super) embedded: bool,
}

fn identity(base: &Base) -> mqtt::Identity {
    mqtt::Identity { fleet: base.fleet.clone(), controller: base.controller.clone() }
}

fn guard(base: &Base, written: tokio::sync::mpsc::Receiver<mqtt::Received>) -> Guard {
    Guard::new(base.fleet.clone(), base.store.clone(), base.clock.clone(), written)
}

#[async_trait]
impl Ways for OverMqtt {
    async fn lead(&self, supervisor: &mut Supervisor, base: &Base) -> Result<(Lines, Last), Error> {
        let Self { options, embedded } = self;
        let identity = identity(base);
        let will = links::will(base);
        let (mut outbound, publisher) = mqtt::Outbound::new(options, &identity, will, base.random.clone())?;
        let (inbound, receiver, deliveries) = mqtt::Inbound::new(options, identity.clone(), base.random.clone())?;
        outbound.follow(&receiver);
        let lines = Lines {
            inward: Arc::new(receiver),
            deliveries,
            outward: Arc::new(publisher),
            confirm: links::confirm(options.clone(), identity, base.random.clone()),
            embedded: *embedded,
        };
        let written = outbound.watch(filters::reports(&base.fleet, &base.controller, &base.host));
        links::run_guard(supervisor, guard(base, written));
        links::say_schemas(base).await?;
        links::run_outbound(supervisor, outbound);
        Ok((lines, Box::new(|supervisor| links::run_inbound(supervisor, inbound))))
    }

    fn follow(&self, supervisor: &mut Supervisor, base: &Base) -> Result<Arc<dyn Outward>, Error> {
        let will = links::will(base);
        let (mut outbound, publisher) = mqtt::Outbound::new(&self.options, &identity(base), will, base.random.clone())?;
        let written = outbound.watch(filters::own_reports(&base.fleet, &base.controller, &base.host));
        links::run_guard(supervisor, guard(base, written));
        links::run_outbound(supervisor, outbound);
        Ok(Arc::new(publisher))
    }

    fn between_hosts(&self, base: &Base) -> LayLine {
        let (options, random) = (self.options.clone(), base.random.clone());
        Arc::new(move |filters| Wire::lay(options.clone(), filters, random.clone()))
    }
}
