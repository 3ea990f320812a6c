//! A real `pgmoor serve` of a fleet of its own, with a client beside it; ended when dropped, also when a test fails.
//!
//! Invariant: a test ends well only when the daemon logged no warning and no error but those that the test expects.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
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
    /// That mosquitto is as we ship it, with users and access list: the test is its publisher, the daemon its controller.
    pub(crate) guarded: bool,
}

const CONFIGURATION: &str = include_str!("../../broker/mosquitto/mosquitto.conf");
const ACCESS: &str = include_str!("../../broker/mosquitto/pgmoor.acl");
/// Written by mosquitto_passwd: each user's password is the name and `-password`.
const PASSWORDS: &str = include_str!("../contract/mosquitto.passwords");

/// The daemon.
pub(crate) struct Daemon {
    /// A client of its broker.
    pub(crate) wire: Wire,
    /// It holds the data directory `data`, and the log.
    pub(crate) directory: tempfile::TempDir,
    pub(crate) child: Option<Child>,
    pub(crate) mosquitto: Option<Child>,
    port: u16,
    /// The mosquitto has users.
    guarded: bool,
    arguments: Vec<String>,
    /// Words of the warnings and errors that the test brings about.
    expected: RefCell<Vec<&'static str>>,
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
        Self::start_with(options, &[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(options: Options, more: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("pgmoor-live-").tempdir_in("/var/tmp").unwrap();
        let name = directory.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let fleet = format!("t{}", name.rsplit('-').next().unwrap());
        let port = free_port();
        let guarded = options.guarded;
        let mosquitto = options
            .mosquitto
            .then(|| mosquitto(directory.path(), Ipv4Addr::LOCALHOST, port, guarded.then_some(fleet.as_str())));
        let broker = if guarded {
            let password = write(directory.path(), "controller.password", "controller-password\n");
            let url = format!("mqtt://127.0.0.1:{port}");
            let flags = ["--broker-url", &url, "--broker-username", "controller", "--broker-password-file", &password];
            flags.map(str::to_owned).to_vec()
        } else if options.mosquitto {
            vec!["--broker-url".to_owned(), format!("mqtt://127.0.0.1:{port}")]
        } else {
            vec!["--broker-listen".to_owned(), format!("127.0.0.1:{port}")]
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
        arguments.extend(more.iter().copied().map(str::to_owned));
        let wire = Wire::connect(port, &fleet, "publisher", guarded.then_some("publisher"));
        let mut daemon =
            Self { wire, directory, child: None, mosquitto, port, guarded, arguments, expected: RefCell::default() };
        daemon.start_again();
        daemon
    }

    /// Another client of its broker, with a name that no other has.
    pub(crate) fn wire_as(&self, user: &str) -> Wire {
        let fleet = self.wire.root.rsplit('/').next().unwrap();
        Wire::connect(self.port, fleet, user, self.guarded.then_some(user))
    }

    /// Only warnings and errors with words that were named so are no surprise.
    pub(crate) fn expect_log(&self, words: &[&'static str]) {
        self.expected.borrow_mut().extend(words);
    }

    /// Warnings and errors that nobody expects.
    fn surprises(&self) -> Vec<String> {
        let expected = self.expected.borrow();
        let log = self.log();
        let loud = log.lines().filter(|line| {
            let parsed: Value = serde_json::from_str(line).unwrap_or_default();
            // What is not a line of JSON is a panic's own words, or a library's.
            parsed["level"].as_str().is_none_or(|level| matches!(level, "WARN" | "ERROR"))
        });
        loud.filter(|line| !expected.iter().any(|words| line.contains(words))).map(str::to_owned).collect()
    }

    /// Starts the program, which must not run. What was said before is forgotten: it says everything again.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none());
        self.wire.forget();
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

    /// Makes the mosquitto write all that it has to the disk, which it never does by itself.
    pub(crate) fn save_broker(&self) {
        let file = self.directory.path().join("mosquitto.db");
        let written = || std::fs::metadata(&file).and_then(|file| file.modified()).ok();
        let before = written();
        let id = self.mosquitto.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-USR1", &id]).status().unwrap().success());
        until("mosquitto has written its store", || written() != before);
    }

    /// Kills the mosquitto without a word and starts it with what it saved last; `blank`: with nothing.
    pub(crate) fn restart_broker(&mut self, blank: bool) {
        let mut child = self.mosquitto.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if blank {
            std::fs::remove_file(self.directory.path().join("mosquitto.db")).ok();
        }
        self.mosquitto = Some(mosquitto(self.directory.path(), Ipv4Addr::LOCALHOST, self.port, None));
    }

    /// Whether a condition of a status holds, with its reason.
    pub(crate) fn condition(status: &Value, kind: &str) -> Option<String> {
        let conditions = status["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "true")?;
        found["reason"].as_str().map(str::to_owned)
    }

    /// Runs the command line against its broker.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        let own = ["--fleet", "--broker-listen", "--broker-url"];
        let pairs = self.arguments.windows(2).filter(|pair| own.contains(&pair[0].as_str())).flatten();
        Command::new(env!("CARGO_BIN_EXE_pgmoor")).args(arguments).args(pairs).stdin(Stdio::null()).output().unwrap()
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

    /// Waits until a database that was there has no topic left except its spec; events and answers are told, not kept.
    pub(crate) fn wait_gone(&self, database: &str) {
        let left = || {
            let mut topics = self.wire.topics(&format!("databases/{database}/"));
            topics.retain(|topic| {
                let told_not_kept = topic.ends_with("/events") || topic.contains("/commands/");
                !topic.ends_with("/spec") && !told_not_kept
            });
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

/// Writes a file that only its owner reads; gives its path.
fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.to_string_lossy().into_owned()
}

/// The configuration that we ship, with its files here.
fn shipped(directory: &Path, port: u16, fleet: &str) -> String {
    let mut text = CONFIGURATION.to_owned();
    for (shipped, here) in [
        ("/etc/mosquitto/pgmoor.passwords", write(directory, "passwords", PASSWORDS)),
        ("/etc/mosquitto/pgmoor.acl", write(directory, "acl", &ACCESS.replace("FLEET", fleet))),
        ("/var/lib/mosquitto/", format!("{}/", directory.display())),
        ("listener 1883 127.0.0.1", format!("listener {port} 127.0.0.1")),
    ] {
        assert_eq!(text.matches(shipped).count(), 1, "{shipped}");
        text = text.replace(shipped, &here);
    }
    text
}

/// A mosquitto: on loopback, with what `broker/mosquitto/` ships for a fleet; or one at any address that lets everybody in
/// and saves when it is told.
pub(crate) fn mosquitto(directory: &Path, address: Ipv4Addr, port: u16, guarded_for: Option<&str>) -> Child {
    // Debian keeps it where only root's PATH looks.
    let programs = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
    let program = programs.into_iter().find(|path| Path::new(path).exists());
    let mut text = match guarded_for {
        Some(fleet) => shipped(directory, port, fleet),
        None => format!(
            "listener {port} {address}\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             autosave_interval 0\n",
            directory.display()
        ),
    };
    // It gives up root otherwise, and could neither read its files nor write here.
    let me = Command::new("id").arg("-un").output().unwrap().stdout;
    text.push_str(&format!("user {}\n", String::from_utf8(me).unwrap().trim()));
    let mut command = Command::new(program.expect("mosquitto is not installed: apt-get install mosquitto"));
    command.arg("-c").arg(write(directory, "mosquitto.conf", &text));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("mosquitto listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    child
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for mut child in [self.child.take(), self.mosquitto.take()].into_iter().flatten() {
            child.kill().ok();
            child.wait().ok();
        }
        if !std::thread::panicking() {
            let surprises = self.surprises();
            assert!(surprises.is_empty(), "the daemon warns of what the test does not expect: {surprises:#?}");
        }
    }
}
