//! Looking at an instance of this host: its container, Patroni, Postgres.

use std::time::Duration;

use crate::domain::layout;
use crate::drivers::Error;
use crate::world::vitals::{Answering, ServerVitals, Target, Vitals};
use crate::world::{InstanceEndpoints, World};

/// How long one look may take: a Postgres that does not answer within it does not serve.
const LOOK_LIMIT: Duration = Duration::from_secs(4);

/// Looks at one instance.
pub async fn vitals(world: &World, target: &Target) -> Vitals {
    let late = |_late| Vitals::Silent { why: "it does not answer in time".to_owned() };
    tokio::time::timeout(LOOK_LIMIT, seen(world, target)).await.unwrap_or_else(late)
}

async fn seen(world: &World, target: &Target) -> Vitals {
    let service = layout::service(&target.instance);
    let endpoints = match world.instance(target.instance.as_str(), &service).await {
        Ok(Some(endpoints)) => endpoints,
        Ok(None) => return Vitals::Stopped,
        Err(Error::NotFound { act }) => return Vitals::NotThere { what: act },
        Err(error) => return Vitals::Hidden { why: error.to_string() },
    };
    match world.drivers.patroni.status(&endpoints.patroni).await {
        Ok(status) => {
            let server = if status.state == "running" { Some(server(world, &endpoints).await) } else { None };
            Vitals::Answers(Box::new(Answering {
                container: endpoints.container.id,
                state: status.state,
                role: status.role,
                synchronous: status.synchronous,
                timeline: status.timeline,
                lsn: status.lsn,
                pending_restart: status.pending_restart,
                server,
            }))
        }
        Err(error) => Vitals::Silent { why: format!("Patroni: {error}") },
    }
}

async fn server(world: &World, endpoints: &InstanceEndpoints) -> ServerVitals {
    match world.drivers.postgres.server(&endpoints.postgres).await {
        Ok(server) => ServerVitals::Answers {
            version: server.version,
            started_ms: server.started_ms,
            pending_restart: !server.pending_restart.is_empty(),
            configuration_error: server.configuration_errors.into_iter().next(),
        },
        Err(error) => ServerVitals::Silent { why: error.to_string() },
    }
}
