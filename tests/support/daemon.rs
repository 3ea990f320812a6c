//! A real `pgmoor serve` of a fleet of its own, with a client beside it; ended when dropped, also when a test fails.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgmoor::model::Digest;
use serde_json::Value;

use crate::wire::Wire;

/// How long a database may take to come up or change, on a busy machine with two processors.
const DEADLINE: Duration = Duration::from_secs(100);
/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a daemon is started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// `fake` or `docker`.
    pub(crate) drivers: &'static str,
    /// A mosquitto beside it instead of its own broker.
    pub(crate) mosquitto: bool,
}

/// The daemon.
pub(crate) struct Daemon {
    /// A client of its broker.
    pub(crate) wire: Wire,
    /// It holds the data directory `data`, and the log.
    pub(crate) directory: tempfile::TempDir,
    pub(crate) child: Option<Child>,
    mosquitto: Option<Child>,
    arguments: Vec<String>,
}

/// A port of loopback that nothing listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until something is so, and says what was waited for when it never is.
#[expect(clippy::disallowed_methods, reason = "a test measures its own patience, nobody else's time")]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Daemon {
    /// A daemon that answers.
    pub(crate) fn start(options: Options) -> Self {
        let directory = tempfile::Builder::new().prefix("pgmoor-live-").tempdir_in("/var/tmp").unwrap();
        let name = directory.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let fleet = format!("t{}", name.rsplit('-').next().unwrap());
        let port = free_port();
        let mosquitto = options.mosquitto.then(|| mosquitto(directory.path(), port));
        let broker = match options.mosquitto {
            true => ["--broker-url".to_owned(), format!("mqtt://127.0.0.1:{port}")],
            false => ["--broker-listen".to_owned(), format!("127.0.0.1:{port}")],
        };
        let data = directory.path().join("data").to_string_lossy().into_owned();
        let (client, peer) = (free_port().to_string(), free_port().to_string());
        let mut arguments: Vec<String> = ["serve", "--fleet", &fleet, "--host", "host-1", "--data-dir", &data]
            .into_iter()
            .chain(["--drivers", options.drivers, "--log", "json", "--tick-s", "2"])
            .chain(["--etcd-client-port", &client, "--etcd-peer-port", &peer])
            .map(str::to_owned)
            .collect();
        arguments.extend(broker);
        let wire = Wire::connect(port, &fleet);
        let mut daemon = Self { wire, directory, child: None, mosquitto, arguments };
        daemon.start_again();
        daemon
    }

    /// Starts the program, which must not run.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none());
        let log = OpenOptions::new().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        let program = env!("CARGO_BIN_EXE_pgmoor");
        let mut command = Command::new(program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        until("the daemon says that it is online", || {
            assert!(self.child.as_mut().unwrap().try_wait().unwrap().is_none(), "the daemon ended: {}", self.log());
            let seen = self.wire.last("controllers/host-1/availability");
            seen.is_some_and(|text| text.contains("\"online\""))
        });
    }

    /// All that it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Publishes a spec, retained; gives its digest.
    pub(crate) fn publish(&self, database: &str, spec: &str) -> String {
        self.wire.publish(&format!("databases/{database}/spec"), spec, true);
        Digest::of_bytes(spec.as_bytes()).as_str().to_owned()
    }

    /// The status of a database.
    pub(crate) fn status(&self, database: &str) -> Option<Value> {
        serde_json::from_str(&self.wire.last(&format!("databases/{database}/status"))?).ok()
    }

    /// Waits for a status.
    pub(crate) fn wait_status(&self, database: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = self.status(database).unwrap_or_default();
                so(&last)
            });
        }));
        assert!(waited.is_ok(), "{what}: the status of {database} is {last:#}\n{}", tail(&self.log()));
        last
    }

    /// Publishes a spec and waits until it is applied.
    pub(crate) fn apply(&self, database: &str, spec: &str) -> Value {
        let digest = self.publish(database, spec);
        self.wait_status(database, "the spec is applied", |status| {
            status["state"] == "available" && status["observed"]["digest"] == digest
        })
    }

    /// Publishes a spec that must be refused; gives the codes of its faults.
    pub(crate) fn refused(&self, database: &str, spec: &str) -> Vec<String> {
        let digest = self.publish(database, spec);
        let status = self.wait_status(database, "the spec is refused", |status| {
            status["verdict"]["result"] == "rejected" && status["verdict"]["digest"] == digest
        });
        let faults = status["verdict"]["faults"].as_array().cloned().unwrap_or_default();
        faults.iter().filter_map(|fault| fault["code"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until a database that was there has no topic left except its spec; events are told, not kept.
    pub(crate) fn wait_gone(&self, database: &str) {
        let left = || {
            let mut topics = self.wire.topics(&format!("databases/{database}/"));
            topics.retain(|topic| !topic.ends_with("/spec") && !topic.ends_with("/events"));
            topics
        };
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("the topics of the database are gone", || left().is_empty());
        }));
        assert!(waited.is_ok(), "these are left: {:?}\n{}", left(), tail(&self.log()));
    }
}

/// The end of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A mosquitto that knows nobody and keeps nothing.
fn mosquitto(directory: &Path, port: u16) -> Child {
    // Debian keeps it where only root's PATH looks.
    let programs = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
    let program = programs.into_iter().find(|path| Path::new(path).exists());
    let configuration = directory.join("mosquitto.conf");
    std::fs::write(&configuration, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
    let mut command = Command::new(program.expect("mosquitto is not installed: apt-get install mosquitto"));
    command.arg("-c").arg(configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    until("mosquitto listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    child
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for mut child in [self.child.take(), self.mosquitto.take()].into_iter().flatten() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
