//! Patroni's REST interface, as the driver's trait asks for it.

use async_trait::async_trait;

use super::World;
use super::call::{Outcome, Refusal, System};
use super::engine::Process;
use super::instance::{Instance, Phase};
use super::shelf::Key;
use super::state::State;
use crate::drivers::certificates::certificate_digest;
use crate::drivers::patroni::{Patroni, PatroniSeen};
use crate::drivers::{Endpoint, Result};
use crate::model::Digest;

/// Port of the REST interface in the container.
const PORT: u16 = 8008;
/// What this Patroni calls itself: the one in the image.
const VERSION: &str = "4.0.7";

impl State {
    /// The instance behind an address, and its container.
    pub(super) fn instance_at(&self, at: &Endpoint) -> Outcome<(&str, &Instance)> {
        let here = self.containers.found(&Key::Address(at.address)).next();
        let refused = || Refusal::Unreachable("connection refused".to_owned());
        let container = here.ok_or_else(|| Refusal::Unreachable("no route to host".to_owned()))?;
        match &container.process {
            Process::Postgres(instance) if container.is_running() && container.is_on(&self.here) => {
                Ok((&container.id, instance))
            }
            Process::Postgres(_) | Process::Plain | Process::Etcd { .. } => Err(refused()),
        }
    }

    fn rest_at(&self, at: &Endpoint) -> Outcome<(String, &Instance)> {
        let (id, instance) = self.instance_at(at)?;
        if at.port != PORT || instance.phase == Phase::WaitingForEtcd {
            return Err(Refusal::Unreachable("connection refused".to_owned()));
        }
        instance.rest.handshake(&at.server_name, &at.identity)?;
        Ok((id.to_owned(), instance))
    }

    fn patroni_status(&self, at: &Endpoint) -> Outcome<PatroniSeen> {
        let (id, instance) = self.rest_at(at)?;
        let ready = instance.server.as_ref().is_some_and(|server| server.ready_ms <= self.now_ms);
        let (state, role) = match (&instance.phase, ready) {
            (Phase::WaitingForEtcd | Phase::InitDb(_), _) => ("initializing new cluster", "uninitialized"),
            (Phase::Started, true) if !instance.follows => ("running", "primary"),
            (Phase::Started, true) => ("running", "replica"),
            (Phase::Started, false) => ("starting", "replica"),
            (Phase::StartFailed(_), _) => ("start failed", "replica"),
        };
        let version = self.containers.get(&id).map(|container| self.postgres_version(&container.attributes.image));
        let number = version.and_then(|version| {
            let (major, minor) = version.split_once('.')?;
            Some(major.parse::<u32>().ok()? * 10_000 + minor.parse::<u32>().ok()?)
        });
        let data = self.files.cluster(&instance.pgdata);
        Ok(PatroniSeen {
            state: state.to_owned(),
            role: role.to_owned(),
            synchronous: ready && instance.is_waited_for(),
            pending_restart: instance.server.as_ref().is_some_and(|server| !server.pending.is_empty()),
            timeline: data.filter(|_| ready).map(|data| data.timeline),
            server_version: number.filter(|_| ready),
            patroni_version: Some(VERSION.to_owned()),
            lsn: data.filter(|_| ready).map(|data| data.lsn),
            paused: false,
            certificate: certificate_digest(instance.rest.certificate_pem.expose())
                .unwrap_or_else(|_| Digest::of_bytes(b"")),
        })
    }

    fn restart_postgres(&mut self, instance: &mut Instance) -> Outcome<()> {
        if matches!(instance.phase, Phase::InitDb(_)) {
            return Err(Refusal::failed("503: the cluster is being made"));
        }
        self.count("restart postgres", &instance.file.name);
        self.interrupt(&format!("postgres-{}", instance.file.name));
        self.start_postgres(instance);
        match &instance.phase {
            Phase::StartFailed(why) => Err(Refusal::failed(format!("restart failed: {why}"))),
            Phase::WaitingForEtcd | Phase::InitDb(_) | Phase::Started => Ok(()),
        }
    }

    /// Runs `act` on the instance behind an address, after the handshake.
    fn on_instance(&mut self, at: &Endpoint, act: impl FnOnce(&mut Self, &mut Instance) -> Outcome<()>) -> Outcome<()> {
        let (id, _) = self.rest_at(at)?;
        let gone = || Err(Refusal::Unreachable("connection reset".to_owned()));
        self.with_instance(&id, act).unwrap_or_else(gone)
    }
}

#[async_trait]
impl Patroni for World {
    async fn status(&self, at: &Endpoint) -> Result<PatroniSeen> {
        let about = format!("ask Patroni of {}", at.server_name);
        self.call(System::Patroni, "patroni.status", about, |state| state.patroni_status(at)).await
    }

    async fn patch_config(&self, at: &Endpoint, patch: &serde_json::Value) -> Result<()> {
        let about = format!("patch the configuration of {}", at.server_name);
        self.call(System::Patroni, "patroni.patch_config", about, |state| {
            state.watch.visible("a dynamic configuration", &patch.to_string());
            state.on_instance(at, |state, instance| {
                if state.patch_config(instance, patch) { Ok(()) } else { Err(Refusal::failed("503: etcd is away")) }
            })
        })
        .await
    }

    async fn reload(&self, at: &Endpoint) -> Result<()> {
        let about = format!("reload {}", at.server_name);
        self.call(System::Patroni, "patroni.reload", about, |state| {
            state.on_instance(at, |state, instance| state.reload_patroni(instance).map_err(Refusal::Failed))
        })
        .await
    }

    async fn switchover(&self, at: &Endpoint, primary: &str, candidate: &str) -> Result<()> {
        let about = format!("switch over from {primary} to {candidate}");
        self.call(System::Patroni, "patroni.switchover", about, |state| {
            let (id, _) = state.rest_at(at)?;
            state.switch_over(&id, primary, candidate)
        })
        .await
    }

    async fn restart(&self, at: &Endpoint) -> Result<()> {
        let about = format!("restart {}", at.server_name);
        self.call(System::Patroni, "patroni.restart", about, |state| state.on_instance(at, State::restart_postgres))
            .await
    }
}
