//! A fleet on several hosts: a bed with pgmoor on each host, a broker beside them, and who publishes and reads there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{mosquitto, until};
use crate::testbed::{Bed, CONTROLLER, Host, Running, said};
use crate::wire::Wire;

const PORT: u16 = 1883;
/// The port of the databases on their hosts.
const POSTGRES_PORT: u16 = 6432;
/// The password of the databases' user.
const PASSWORD: &str = "three-hosts-7";
/// How long a whole update may take, or whatever waits for a host that comes back: a minute or two on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// How many lines of each daemon a test that fails prints.
const LAST_WORDS: usize = 60;
/// How long a statement may take, and how long one host has to let it in: a commit waits for a replica until Patroni has
/// found another, and a busy machine takes its time.
const STATEMENT_S: &str = "60";
const CONNECT_S: &str = "10";

/// Waits longer than [`until`]; what does not come gets the last words of `now`.
#[expect(clippy::disallowed_methods, reason = "a test measures its own patience, nobody else's time")]
pub(crate) fn eventually(what: &str, now: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}: {}", now());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What Postgres says on one of these addresses, or on whichever of several takes writes. It needs nothing of the fleet,
/// so a thread of its own can ask.
pub(crate) fn psql_at(addresses: &[String], database: &str, sql: &str) -> Result<String, String> {
    let hosts: Vec<String> = addresses.iter().map(|address| format!("{address}:{POSTGRES_PORT}")).collect();
    let any = if hosts.len() > 1 { "read-write" } else { "any" };
    let uri = format!("postgresql://app@{}/{database}?target_session_attrs={any}", hosts.join(","));
    let mut psql = Command::new("timeout");
    psql.args([STATEMENT_S, "psql", "-XqAt", "-d", &uri, "-c", sql]);
    psql.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", CONNECT_S);
    said(&mut psql)
}

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
        Self::up_on(fleet, hosts, hosts)
    }

    /// Hosts of which the first few run pgmoor, and say so.
    pub(crate) fn up_on(fleet: &str, hosts: usize, first: usize) -> Self {
        Self::on(Bed::up(hosts), fleet, first)
    }

    /// Hosts of which the first few form a Swarm and run pgmoor, and say so.
    pub(crate) fn up_with_fleet_of(fleet: &str, hosts: usize, joined: usize) -> Self {
        Self::on(Bed::up_with_swarm_of(hosts, joined), fleet, joined)
    }

    fn on(bed: Bed, fleet: &str, first: usize) -> Self {
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
        site.come(&site.bed.hosts()[..first]);
        site
    }

    /// These hosts get the fleet's key, and pgmoor, and say that they are well.
    pub(crate) fn come(&self, hosts: &[Host]) {
        let key = self.directory.path().join("fleet.key").to_string_lossy().into_owned();
        for host in hosts {
            host.exec(&["install", "-D", "-m", "0600", &key, "/var/lib/pgmoor/fleet.key"]).unwrap();
            self.serve(host);
        }
        for host in hosts {
            until("a host says that it is well", || {
                let status = self.document(&format!("hosts/{}/status", host.name));
                status["health"]["health"] == "healthy"
            });
        }
    }

    /// Runs pgmoor's command line on a host.
    pub(crate) fn cli(&self, host: &Host, arguments: &[&str]) -> Result<String, String> {
        let url = format!("mqtt://{CONTROLLER}:{PORT}");
        let own = ["--fleet", &self.fleet, "--broker-url", &url];
        host.exec(&[&[env!("CARGO_BIN_EXE_pgmoor")], arguments, &own].concat())
    }

    /// A file of the test.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_string_lossy().into_owned()
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
        eventually(
            &what,
            || format!("{:#}", self.status(database)),
            || {
                let status = self.status(database);
                // A host that has just come may not be known to the leader yet: it looks again.
                let faults = status["verdict"]["faults"].as_array().cloned().unwrap_or_default();
                assert!(faults.iter().all(|fault| fault["code"] == "unknown-host"), "{status:#}");
                status["observed"]["generation"] == generation && status["state"] == state
            },
        );
    }

    /// What Postgres says on one host, or on whichever of several takes what is asked for.
    pub(crate) fn psql(&self, database: &str, hosts: &[&Host], sql: &str) -> Result<String, String> {
        let addresses: Vec<String> = hosts.iter().map(|host| host.address.clone()).collect();
        psql_at(&addresses, database, sql)
    }

    /// What an operator's command says, run beside the hosts; the same where it fails.
    pub(crate) fn pgmoor(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgmoor"));
        command.env("PGMOOR_FLEET", &self.fleet).env("PGMOOR_BROKER_URL", format!("mqtt://{CONTROLLER}:{PORT}"));
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// The topics that hold a report of a host or of a database.
    pub(crate) fn reports(&self) -> BTreeSet<String> {
        let report = |topic: &String| {
            let endings = ["/status", "/plan", "/state", "/health"];
            endings.iter().any(|ending| topic.ends_with(ending)) && !topic.contains("/commands/")
        };
        self.wire.topics("").into_iter().filter(report).collect()
    }

    /// The service of a database's instance on a host, by the status.
    pub(crate) fn service(&self, database: &str, host: &Host) -> String {
        let status = self.status(database);
        let instances = status["instances"].as_array().cloned().unwrap_or_default();
        let there = instances.into_iter().find(|instance| instance["host"] == host.name.as_str());
        let instance = there.unwrap_or_else(|| panic!("no instance on {}: {status:#}", host.name));
        format!("postgres-{}", instance["instance"].as_str().unwrap())
    }

    /// The memory that each of these services may have, in MiB, as a host's Swarm has it. While its leader is being
    /// elected a Swarm does not answer, and is asked again.
    pub(crate) fn memory<'a>(&self, asked: &Host, services: &'a [String]) -> BTreeMap<&'a str, u64> {
        let format = "{{.Spec.TaskTemplate.Resources.Limits.MemoryBytes}}";
        let memory = |service: &'a String| {
            let mut said = String::new();
            until("the Swarm has a leader that knows the service", || {
                let answer = asked.docker(&["service", "inspect", "--format", format, service]);
                answer.is_ok_and(|answer| {
                    said = answer;
                    true
                })
            });
            // Nothing is said of memory where there is no limit.
            (service.as_str(), said.parse::<u64>().unwrap_or(0) >> 20_u64)
        };
        services.iter().map(memory).collect()
    }

    /// How many containers of a service a host has had.
    pub(crate) fn containers(&self, host: &Host, service: &str) -> usize {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        host.docker(&["ps", "-aq", "--filter", &filter]).unwrap().lines().count()
    }

    /// How often the role as primary of a database has moved: the timeline begins at 1.
    pub(crate) fn timeline(&self, database: &str, hosts: &[&Host]) -> u32 {
        let sql = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
        u32::from_str_radix(&self.psql(database, hosts, sql).unwrap(), 16).unwrap()
    }

    /// The hosts on which a member of the fleet's etcd runs.
    pub(crate) fn etcd_hosts(&self) -> BTreeSet<String> {
        let runs = |host: &&Host| {
            let names = host.docker(&["ps", "--format", "{{.Names}}", "--filter", "name=pgmoor-etcd-"]);
            names.is_ok_and(|names| !names.is_empty())
        };
        self.bed.hosts().iter().filter(runs).map(|host| host.name.clone()).collect()
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

/// A test that failed says what its hosts said last: the bed is gone afterwards.
impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for host in self.bed.hosts() {
            let log = self.logged(host);
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("-- pgmoor on {}", host.name);
            lines.iter().skip(lines.len().saturating_sub(LAST_WORDS)).for_each(|line| eprintln!("{line}"));
            let names = host.docker(&["ps", "-a", "--format", "{{.Names}}"]).unwrap_or_default();
            for name in names.lines() {
                eprintln!("-- container {name} on {}", host.name);
                let engine = format!("unix://{}", host.socket().display());
                let mut logs = Command::new("timeout");
                logs.args(["20", "docker", "--host", &engine, "logs", "--timestamps", "--tail", "30", name]);
                let Ok(logs) = logs.stdin(Stdio::null()).output() else { continue };
                eprintln!("{}{}", String::from_utf8_lossy(&logs.stdout), String::from_utf8_lossy(&logs.stderr));
            }
        }
    }
}
