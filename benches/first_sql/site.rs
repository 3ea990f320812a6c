//! Where the bench takes place: a daemon with a broker, an etcd and a fleet of its own, in a directory of its own.
//!
//! Invariant: all that the bench makes in Docker carries the label of one of its two fleets, and all on disk is below
//! its directory; `end` removes both.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use pgmoor::domain::catalogue;
use pgmoor::drivers::Error;
use pgmoor::drivers::swarm::{DEFAULT_SOCKET, Docker, Labels, Swarm};
use pgmoor::model::{Catalogue, DatabaseId, FleetId, HostId};
use pgmoor::mqtt::{Options, Server, Session};
use pgmoor::runtime::{Random, within};
use tokio::process::{Child, Command};

/// How long a daemon may take to start, and a call of the broker's.
const START: Duration = Duration::from_secs(30);
/// How long things that were told to go may take: a Postgres has 90 s to stop.
const REMOVAL: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(200);
/// The label that says to which fleet an object of Docker belongs.
pub(super) const FLEET_LABEL: &str = "pgmoor.fleet";
/// The label that says to which scope it belongs.
const SCOPE_LABEL: &str = "pgmoor.scope";

/// The place.
pub(super) struct Site {
    /// The daemon's fleet.
    pub(super) fleet: FleetId,
    /// The fleet whose marks the hand-made services carry, so that the daemon does not look at them.
    pub(super) by_hand: FleetId,
    pub(super) host: HostId,
    pub(super) data_dir: PathBuf,
    pub(super) catalogue: Catalogue,
    pub(super) etcd_client_port: u16,
    pub(super) swarm: Arc<dyn Swarm>,
    log: PathBuf,
    daemon: Option<Child>,
}

/// A database of one round.
pub(super) struct Database {
    pub(super) id: DatabaseId,
    pub(super) port: u16,
    pub(super) password: String,
}

impl Database {
    /// With a port that is free now.
    pub(super) fn new(kind: &str, round: usize) -> anyhow::Result<Self> {
        let id = DatabaseId::parse(&format!("{kind}-{round}")).map_err(|why| anyhow!("{why}"))?;
        let password = format!("{:016x}", Random::System.next_u64());
        Ok(Self { id, port: free_port()?, password })
    }

    /// What is published for it, and what the hand-made one is described by: the smallest spec that can be used over
    /// TCP.
    pub(super) fn spec(&self) -> String {
        let user = serde_json::json!({
            "username": super::sql::ROLE, "password": self.password, "db_owner": true, "attributes": ["LOGIN"],
        });
        let spec = serde_json::json!({
            "database_name": super::sql::DATABASE, "port": self.port, "database_users": [user],
        });
        spec.to_string()
    }
}

fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

impl Site {
    /// Names and paths; nothing runs yet.
    pub(super) fn prepare() -> anyhow::Result<Self> {
        let name = format!("bench-{}", std::process::id());
        let data_dir = PathBuf::from(format!("/var/tmp/pgmoor-{name}"));
        std::fs::create_dir_all(&data_dir).with_context(|| format!("make {}", data_dir.display()))?;
        let fleet = |name: &str| FleetId::parse(name).map_err(|why| anyhow!("{why}"));
        let catalogue = match std::env::var("PGMOOR_CATALOGUE") {
            Ok(path) => catalogue::parse(&std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?)?,
            Err(_) => catalogue::embedded()?,
        };
        let log = std::env::var("BENCH_LOG").map_or_else(|_| data_dir.join("pgmoor.log"), PathBuf::from);
        Ok(Self {
            fleet: fleet(&name)?,
            by_hand: fleet(&format!("{name}-hand"))?,
            host: HostId::parse("bench").map_err(|why| anyhow!("{why}"))?,
            data_dir,
            catalogue,
            etcd_client_port: free_port()?,
            swarm: Arc::new(Docker::new(DEFAULT_SOCKET)),
            log,
            daemon: None,
        })
    }

    /// The data directory as the domain wants it.
    pub(super) fn data_dir(&self) -> anyhow::Result<&str> {
        self.data_dir.to_str().context("the data directory's path is UTF-8")
    }

    /// Starts the daemon and connects to its broker.
    pub(super) async fn start(&mut self) -> anyhow::Result<Session> {
        let broker = free_port()?;
        let log = std::fs::File::create(&self.log).with_context(|| format!("make {}", self.log.display()))?;
        let daemon = Command::new(env!("CARGO_BIN_EXE_pgmoor"))
            .arg("serve")
            .args(["--fleet", self.fleet.as_str(), "--host", self.host.as_str(), "--log", "json"])
            .args(["--data-dir", self.data_dir()?])
            .args(["--broker-listen", &format!("127.0.0.1:{broker}")])
            .args(["--etcd-client-port", &self.etcd_client_port.to_string()])
            .args(["--etcd-peer-port", &free_port()?.to_string()])
            // A deleted database goes wholly: its data is not kept for the next round.
            .args(["--deletion-grace-s", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start pgmoor serve")?;
        self.daemon = Some(daemon);
        let server = Server { host: "127.0.0.1".to_owned(), port: broker, tls: false };
        let options = Options { server, ..Options::default() };
        let connected = async {
            loop {
                if let Ok(session) = Session::connect(&options, "bench", &Random::System, START).await {
                    return session;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        within("the broker", START, connected).await.context("connect to the daemon's broker")
    }

    /// The last lines of the daemon's log.
    pub(super) fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    /// Waits until Docker has nothing left with these labels.
    pub(super) async fn gone(&self, fleet: &FleetId, scope: &str) -> anyhow::Result<()> {
        let mut labels = Labels::from([(FLEET_LABEL.to_owned(), fleet.to_string())]);
        labels.insert(SCOPE_LABEL.to_owned(), scope.to_owned());
        let begun = Instant::now();
        loop {
            let services = self.swarm.services(&labels).await?.len();
            let left = services
                + self.swarm.containers(&labels).await?.len()
                + self.swarm.networks(&labels).await?.len()
                + self.swarm.configs(&labels).await?.len();
            if left == 0 {
                return Ok(());
            }
            if begun.elapsed() > REMOVAL {
                bail!("{scope} of {fleet} is not gone after {} s", REMOVAL.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Removes everything.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        let mut faults = Vec::new();
        if let Some(mut daemon) = self.daemon.take() {
            faults.extend(stop(&mut daemon).await.err());
        }
        for fleet in [&self.fleet, &self.by_hand] {
            faults.extend(self.clear(fleet).await.err());
        }
        let removed = std::fs::remove_dir_all(&self.data_dir);
        faults.extend(removed.with_context(|| format!("remove {}", self.data_dir.display())).err());
        match faults.into_iter().next() {
            None => Ok(()),
            Some(fault) => Err(fault.context("remove what the bench made")),
        }
    }

    /// Removes what a fleet has in Docker: services first, for their containers hold the networks.
    async fn clear(&self, fleet: &FleetId) -> anyhow::Result<()> {
        let labels = Labels::from([(FLEET_LABEL.to_owned(), fleet.to_string())]);
        for service in self.swarm.services(&labels).await? {
            unless_gone(self.swarm.remove_service(&service.id).await)?;
        }
        for config in self.swarm.configs(&labels).await? {
            unless_gone(self.swarm.remove_config(&config.id).await)?;
        }
        let begun = Instant::now();
        loop {
            let mut left = self.swarm.containers(&labels).await?.len();
            for network in self.swarm.networks(&labels).await? {
                left += 1;
                match self.swarm.remove_network(&network.id).await {
                    Ok(()) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if left == 0 {
                return Ok(());
            }
            if begun.elapsed() > REMOVAL {
                bail!("{left} objects of {fleet} do not go");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// SIGTERM and, where that does not help, SIGKILL.
async fn stop(daemon: &mut Child) -> anyhow::Result<()> {
    if let Some(pid) = daemon.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("stop the daemon")?;
    }
    if within("the daemon's end", START, daemon.wait()).await.is_err() {
        daemon.kill().await.context("kill the daemon")?;
    }
    Ok(())
}

/// Nothing where it is gone already.
pub(super) fn unless_gone(result: pgmoor::drivers::Result<()>) -> anyhow::Result<()> {
    match result {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
