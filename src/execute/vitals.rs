//! Looking at an instance of this host: its container, Patroni, Postgres; and at the pooler beside it.

use std::time::Duration;

use crate::domain::layout;
use crate::drivers::Error;
use crate::model::InstanceId;
use crate::world::vitals::{Answering, PoolerVitals, ServerVitals, Target, Vitals};
use crate::world::{InstanceEndpoints, World};

/// How long one look may take: a Postgres that does not answer within it does not serve.
const LOOK_LIMIT: Duration = Duration::from_secs(4);

/// Looks at one instance.
pub async fn vitals(world: &World, target: &Target) -> Vitals {
    let late = |_late| Vitals::Silent { why: "it does not answer in time".to_owned() };
    tokio::time::timeout(LOOK_LIMIT, seen(world, target)).await.unwrap_or_else(late)
}

/// Looks at the pooler beside an instance, where there should be one.
pub async fn pooler_vitals(world: &World, target: &Target) -> Option<PoolerVitals> {
    if !target.pooler {
        return None;
    }
    let late = |_late| PoolerVitals::Hidden { why: "Docker does not answer in time".to_owned() };
    Some(tokio::time::timeout(LOOK_LIMIT, pooler(world, &target.instance)).await.unwrap_or_else(late))
}

async fn pooler(world: &World, instance: &InstanceId) -> PoolerVitals {
    match world.container(&layout::pooler_service(instance)).await {
        Ok(Some(_)) => {}
        Ok(None) => return PoolerVitals::Stopped,
        Err(error) => return PoolerVitals::Hidden { why: error.to_string() },
    }
    // It says by itself to whom it is led; of one that has not yet, or in a world without containers, nothing is known.
    let path = layout::pooler_primary_file(&world.facts.data_dir, instance.as_str());
    let said = world.drivers.host.read(&path).await.ok().flatten();
    let primary = said.and_then(|file| InstanceId::parse(file.content.expose().trim()).ok());
    PoolerVitals::Running { primary }
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
