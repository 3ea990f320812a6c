//! A fleet on several hosts: a bed with pgmoor on each host, a broker beside them, and who publishes and reads there.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::daemon::{mosquitto, until};
use crate::testbed::{Bed, CONTROLLER, Host, Running, said};
use crate::wire::Wire;

const PORT: u16 = 1883;
/// The port of the databases on their hosts.
const POSTGRES_PORT: u16 = 6432;
/// The password of the databases' user.
pub(crate) const PASSWORD: &str = "three-hosts-7";

/// The fleet. What runs ends before the bed is taken away.
pub(crate) struct Site {
    pub(crate) wire: Wire,
    daemons: RefCell<Vec<(String, Running)>>,
    broker: RefCell<Option<Running>>,
    fleet: String,
    directory: tempfile::TempDir,
    pub(crate) bed: Bed,
}

impl Site {
    /// Hosts that all run pgmoor, and say so.
    pub(crate) fn up(fleet: &str, hosts: usize) -> Self {
        let bed = Bed::up(hosts);
        bed.enter();
        let directory = tempfile::Builder::new().prefix("pgmoor-hosts-").tempdir_in("/var/tmp").unwrap();
        let broker = Running::of(mosquitto(directory.path(), Ipv4Addr::UNSPECIFIED, PORT, None));
        let wire = Wire::connect(PORT, fleet, "any", None);
        // What `pgmoor host join` brings to a host.
        let key: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap() ^ 0x5a);
        std::fs::write(directory.path().join("fleet.key"), key).unwrap();
        let daemons = RefCell::default();
        let broker = RefCell::new(Some(broker));
        let site = Self { wire, daemons, broker, fleet: fleet.to_owned(), directory, bed };
        for host in site.bed.hosts() {
            let key = site.directory.path().join("fleet.key").to_string_lossy().into_owned();
            host.exec(&["install", "-D", "-m", "0600", &key, "/var/lib/pgmoor/fleet.key"]).unwrap();
            site.serve(host);
        }
        for host in site.bed.hosts() {
            until("a host says that it is well", || {
                let status = site.document(&format!("hosts/{}/status", host.name));
                status["health"]["health"] == "healthy"
            });
        }
        site
    }

    /// Starts pgmoor on a host.
    pub(crate) fn serve(&self, host: &Host) {
        let url = format!("mqtt://{CONTROLLER}:{PORT}");
        let serve =
            [env!("CARGO_BIN_EXE_pgmoor"), "serve", "--fleet", &self.fleet, "--broker-url", &url, "--log", "json"];
        let running = host.spawn(&serve, &self.log(&host.name));
        let mut daemons = self.daemons.borrow_mut();
        daemons.retain(|(name, _)| *name != host.name);
        daemons.push((host.name.clone(), running));
    }

    /// Ends pgmoor on every host.
    pub(crate) fn stop(&self) {
        self.daemons.borrow_mut().clear();
    }

    /// The broker's host is lost, and all that the broker knew.
    pub(crate) fn lose_broker(&self) {
        *self.broker.borrow_mut() = None;
    }

    /// There is a broker again.
    pub(crate) fn start_broker(&self) {
        let broker = mosquitto(self.directory.path(), Ipv4Addr::UNSPECIFIED, PORT, None);
        *self.broker.borrow_mut() = Some(Running::of(broker));
    }

    fn log(&self, host: &str) -> PathBuf {
        self.directory.path().join(format!("{host}.log"))
    }

    /// Everything that a host's pgmoor logged.
    pub(crate) fn logged(&self, host: &Host) -> String {
        std::fs::read_to_string(self.log(&host.name)).unwrap_or_default()
    }

    /// What a topic holds, as JSON.
    pub(crate) fn document(&self, below: &str) -> Value {
        self.wire.last(below).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    pub(crate) fn status(&self, database: &str) -> Value {
        self.document(&format!("databases/{database}/status"))
    }

    /// Publishes a spec for a database on these hosts.
    pub(crate) fn publish(&self, database: &str, generation: u64, hosts: &[&Host], more: &Value) {
        let hosts: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let mut spec = serde_json::json!({
            "generation": generation, "database_name": database, "port": POSTGRES_PORT, "memory": "256MiB",
            "synchronous": "on", "nodes": [{"name": "n1", "host_ids": hosts}],
            "database_users": [{"username": "app", "password": PASSWORD, "db_owner": true, "attributes": ["LOGIN"]}],
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        self.wire.publish(&format!("databases/{database}/spec"), &spec.to_string(), true);
    }

    /// Waits until a generation of a database is in a state.
    pub(crate) fn is(&self, database: &str, generation: u64, state: &str) {
        let what = format!("generation {generation} of {database} is {state}");
        until(&what, || {
            let status = self.status(database);
            // A host that has just come may not be known to the leader yet: it looks again.
            let faults = status["verdict"]["faults"].as_array().cloned().unwrap_or_default();
            assert!(faults.iter().all(|fault| fault["code"] == "unknown-host"), "{status:#}");
            status["observed"]["generation"] == generation && status["state"] == state
        });
    }

    /// What Postgres says on one host, or on whichever of several takes what is asked for.
    pub(crate) fn psql(&self, database: &str, hosts: &[&Host], sql: &str) -> Result<String, String> {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("{}:{POSTGRES_PORT}", host.address)).collect();
        let any = if hosts.len() > 1 { "read-write" } else { "any" };
        let uri = format!("postgresql://app@{}/{database}?target_session_attrs={any}", hosts.join(","));
        let mut psql = Command::new("timeout");
        psql.args(["10", "psql", "-XqAt", "-d", &uri, "-c", sql]);
        psql.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "3");
        said(&mut psql)
    }

    /// The host of the primary, as the status has it.
    pub(crate) fn primary(&self, database: &str) -> Option<&Host> {
        let status = self.status(database);
        let instances = status["instances"].as_array().cloned().unwrap_or_default();
        let primary = instances.into_iter().find(|instance| instance["role"] == "primary")?;
        self.bed.hosts().iter().find(|host| primary["host"] == host.name.as_str())
    }

    /// Waits until etcd runs on three hosts and all of the database knows of it, so that any one of them may be lost.
    pub(crate) fn has_quorum_to_spare(&self, database: &str) {
        until("etcd runs on three hosts", || {
            let status = self.status(database);
            status["state"] == "available" && !status.to_string().contains("NoAutomaticFailover")
        });
    }
}
