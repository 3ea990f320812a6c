//! A host plays its role, and the next when it changes. Each role is a set of services of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::Settings;
use super::role::{self, Role};
use super::services::{self, Base, Leading};
use super::ways::Ways;
use super::{Error, follow};
use crate::runtime::supervisor::{self, Supervisor};

/// How long the services of a role may take to stop.
const OF_ROLE: supervisor::Options =
    supervisor::Options { task_limit: Duration::from_secs(10), shutdown_limit: Duration::from_secs(23) };

/// What each role is made from.
pub struct Roles {
    /// The settings.
    pub settings: Settings,
    /// What every part of the daemon knows.
    pub base: Base,
    /// How the broker is reached.
    pub ways: Arc<dyn Ways>,
}

impl Roles {
    /// Plays the role that is this host's, and the next when it changes, until `stop`.
    ///
    /// # Errors
    /// A service ended by itself, or the store does not work.
    pub async fn play(self, stop: CancellationToken) -> Result<(), Error> {
        while !stop.is_cancelled() {
            let role = role::which(&self.base, &stop).await?;
            // Ends the role: it is another's, or the process stops.
            let over = stop.child_token();
            let mut supervisor = Supervisor::new(OF_ROLE, self.base.clock.clone(), self.base.random.clone());
            tracing::info!(?role, "the role of this host");
            match role {
                Role::Leads => self.lead(&mut supervisor, over.clone()).await?,
                Role::Follows => self.follow(&mut supervisor, over.clone())?,
            }
            supervisor.run(over).await?;
        }
        Ok(())
    }

    async fn lead(&self, supervisor: &mut Supervisor, over: CancellationToken) -> Result<(), Error> {
        let Self { settings, base, ways } = self;
        let (lines, last) = ways.lead(supervisor, base).await?;
        let leading = Leading { over, between_hosts: Some(ways.between_hosts(base)) };
        services::start(supervisor, settings, base, (lines, leading));
        last(supervisor);
        Ok(())
    }

    fn follow(&self, supervisor: &mut Supervisor, over: CancellationToken) -> Result<(), Error> {
        let Self { settings, base, ways } = self;
        let outward = ways.follow(supervisor, base)?;
        follow::start(supervisor, settings, base, (outward, ways.between_hosts(base)), over);
        Ok(())
    }
}
