//! The brokers: start, stop in good order, start again on the same port. Ended when dropped.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgmoor::model::{ControllerId, FleetId, Secret};
use pgmoor::mqtt::{Credentials, Identity, Options, Server, Session};
use pgmoor::runtime::Random;
use pgmoor_broker::{Broker, Error};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const CONFIGURATION: &str = include_str!("../../broker/mosquitto/mosquitto.conf");
const ACCESS: &str = include_str!("../../broker/mosquitto/pgmoor.acl");
/// Written by mosquitto_passwd: each user's password is the name and `-password`.
const PASSWORDS: &str = include_str!("mosquitto.passwords");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// rumqttd behind our front.
    Embedded,
    /// mosquitto with what `broker/mosquitto/` ships.
    Mosquitto,
    /// mosquitto as it comes.
    PlainMosquitto,
}

pub(crate) struct Running {
    pub(crate) kind: Kind,
    addr: SocketAddr,
    dir: tempfile::TempDir,
    process: Process,
}

enum Process {
    Embedded(CancellationToken, JoinSet<Result<(), Error>>),
    Mosquitto(Child),
    Stopped,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Process::Mosquitto(child) = &mut self.process {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Running {
    pub(crate) async fn start(kind: Kind) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut running = Self { kind, addr, dir: tempfile::tempdir().unwrap(), process: Process::Stopped };
        running.start_again().await;
        running
    }

    pub(crate) async fn start_again(&mut self) {
        self.process = match self.kind {
            Kind::Embedded => {
                let options = pgmoor_broker::Options { listen: vec![self.addr], ..pgmoor_broker::Options::default() };
                let broker = Broker::start(options).await.unwrap();
                let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
                task.spawn(broker.run(stop.clone()));
                Process::Embedded(stop, task)
            }
            Kind::Mosquitto => spawn(&self.file("mosquitto.conf", &self.shipped_configuration())),
            Kind::PlainMosquitto => {
                let text = format!("listener {} 127.0.0.1\nallow_anonymous true\n", self.addr.port());
                spawn(&self.file("mosquitto.conf", &text))
            }
        };
        let up = timeout(PATIENCE, async {
            while TcpStream::connect(self.addr).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        up.await.expect("the broker listens");
    }

    fn shipped_configuration(&self) -> String {
        let passwords = self.file("passwords", PASSWORDS);
        let access = self.file("acl", &ACCESS.replace("FLEET", "harbour"));
        let store = format!("{}/", self.dir.path().to_str().unwrap());
        let listener = format!("listener {} 127.0.0.1", self.addr.port());
        let mut text = CONFIGURATION.to_owned();
        for (shipped, here) in [
            ("/etc/mosquitto/pgmoor.passwords", passwords.as_str()),
            ("/etc/mosquitto/pgmoor.acl", &access),
            ("/var/lib/mosquitto/", &store),
            ("listener 1883 127.0.0.1", &listener),
        ] {
            assert_eq!(text.matches(shipped).count(), 1, "{shipped}");
            text = text.replace(shipped, here);
        }
        // mosquitto gives up root otherwise, and could not read the files.
        let me = Command::new("id").arg("-un").output().unwrap().stdout;
        text.push_str(&format!("user {}\n", String::from_utf8(me).unwrap().trim()));
        text
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Ends the broker in good order: a mosquitto with persistence saves.
    pub(crate) async fn stop(&mut self) {
        match std::mem::replace(&mut self.process, Process::Stopped) {
            Process::Embedded(stop, mut task) => {
                stop.cancel();
                timeout(PATIENCE, task.join_next()).await.unwrap().unwrap().unwrap().unwrap();
            }
            Process::Mosquitto(mut child) => {
                assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
                child.wait().unwrap();
            }
            Process::Stopped => {}
        }
    }

    /// How `user` reaches this broker; only the shipped configuration knows users.
    pub(crate) fn options(&self, user: &str) -> Options {
        let credentials = match self.kind {
            Kind::Mosquitto => {
                let password = Secret::new(format!("{user}-password"));
                Some(Credentials { username: user.to_owned(), password })
            }
            Kind::Embedded | Kind::PlainMosquitto => None,
        };
        let server = Server { host: self.addr.ip().to_string(), port: self.addr.port(), tls: false };
        Options { server, credentials, ..Options::default() }
    }

    /// A session as `user`.
    pub(crate) async fn session(&self, user: &str) -> Session {
        Session::connect(&self.options(user), "test", &Random::System, PATIENCE).await.unwrap()
    }
}

/// Where mosquitto is: Debian keeps it where only root's PATH looks.
pub(crate) fn mosquitto_program() -> &'static str {
    let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
    let program = program.into_iter().find(|path| Path::new(path).exists());
    program.expect("mosquitto is not installed: apt-get install mosquitto")
}

fn spawn(configuration: &str) -> Process {
    let mut command = Command::new(mosquitto_program());
    command.args(["-c", configuration]).stdout(Stdio::null()).stderr(Stdio::null());
    Process::Mosquitto(command.spawn().unwrap())
}

pub(crate) fn identity() -> Identity {
    Identity { fleet: FleetId::parse("harbour").unwrap(), controller: ControllerId::parse("c1").unwrap() }
}

/// A topic of the test's fleet.
pub(crate) fn topic(below: &str) -> String {
    format!("pgmoor/v1/harbour/{below}")
}
