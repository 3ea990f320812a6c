//! What `pgmoor broker init` writes, on a real mosquitto: every topic of the contract, by every kind of user, with a
//! password and with a certificate.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgmoor::contract::topics::{Publisher, ROOT, Row, TABLE};
use pgmoor::model::Secret;
use pgmoor::mqtt::{Credentials, Error, Message, Options, Server, Session, Tls};
use pgmoor::runtime::Random;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::brokers::{PATIENCE, mosquitto_program};

/// A mosquitto with the files of `broker init`; killed when dropped.
struct Mosquitto {
    child: Child,
    dir: tempfile::TempDir,
    passwords: u16,
    certificates: u16,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Runs `broker init` there for one user of each kind; gives what it says.
fn init(directory: &Path, names: &[&str]) -> String {
    let users = ["--publisher", "anna", "--host-user", "host-1", "--controller", "pgmoor", "--watcher", "wall"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgmoor"));
    command.args(["broker", "init"]).arg(directory).args(["--fleet", "harbour", "--site", "site"]).args(users);
    command.args(names.iter().flat_map(|name| ["--name", name]));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Mosquitto {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), &["localhost", "127.0.0.1"]);
        let (passwords, certificates) = (free_port(), free_port());
        let path = dir.path().join("mosquitto.conf");
        let mut text = std::fs::read_to_string(&path).unwrap();
        let here = dir.path().to_str().unwrap();
        for (shipped, here) in [
            ("/etc/mosquitto", here.to_owned()),
            ("/var/lib/mosquitto", here.to_owned()),
            ("listener 8883", format!("listener {passwords} 127.0.0.1")),
            ("listener 8884", format!("listener {certificates} 127.0.0.1")),
        ] {
            assert!(text.contains(shipped), "{shipped}");
            text = text.replace(shipped, &here);
        }
        // mosquitto gives up root otherwise, and could not read the files.
        let me = Command::new("id").arg("-un").output().unwrap().stdout;
        text.push_str(&format!("user {}\n", String::from_utf8(me).unwrap().trim()));
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(mosquitto_program());
        let child = command.arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Self { child, dir, passwords, certificates };
        let up = timeout(PATIENCE, async {
            while TcpStream::connect(("127.0.0.1", certificates)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        up.await.expect("mosquitto listens");
        started
    }

    fn options(&self, user: &str, by_certificate: bool) -> Options {
        let file = |name: &str| self.dir.path().join(name);
        let (client, credentials, port) = if by_certificate {
            let pair = (file(&format!("clients/{user}.crt")), file(&format!("clients/{user}.key")));
            (Some(pair), None, self.certificates)
        } else {
            let password = std::fs::read_to_string(file(&format!("clients/{user}.password"))).unwrap();
            let password = Secret::new(password.trim_end());
            (None, Some(Credentials { username: user.to_owned(), password }), self.passwords)
        };
        Options {
            server: Server { host: "localhost".to_owned(), port, tls: true },
            tls: Some(Tls { ca: file("ca.crt"), client }),
            credentials,
            ..Options::default()
        }
    }
}

/// A topic of a row, under a host's name where it carries one.
fn topic(row: &Row, fleet: &str, host: &str) -> String {
    let levels = row.pattern.split('/').map(|level| match level {
        "{host}" | "{controller}" => host,
        id if id.starts_with('{') => "one",
        word => word,
    });
    let below = levels.collect::<Vec<_>>().join("/");
    if row.in_fleet { format!("{ROOT}/{fleet}/{below}") } else { format!("{ROOT}/{below}") }
}

async fn may(session: &Session, topic: String) -> bool {
    match session.publish(&Message::new(topic.clone(), "x"), PATIENCE).await {
        Ok(()) => true,
        Err(Error::Refused { .. }) => false,
        Err(error) => panic!("{topic}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_user_writes_what_is_its_own_and_nothing_else() {
    let broker = Mosquitto::start().await;
    for (user, by_certificate) in
        [("anna", false), ("host-1", true), ("host-1", false), ("pgmoor", false), ("wall", true), ("site", true)]
    {
        let options = broker.options(user, by_certificate);
        let session = Session::connect(&options, "test", &Random::System, PATIENCE).await.unwrap();
        for row in &TABLE {
            let wish = row.publisher == Publisher::User;
            let spec = row.pattern.ends_with("/spec");
            let join = row.pattern.ends_with("/join");
            let wanted = |host: &str| match user {
                "anna" => wish,
                "pgmoor" => !wish || spec || join,
                // Whoever leads writes to the others.
                "host-1" if !wish => {
                    !row.pattern.contains("{host}") && !row.pattern.contains("{controller}")
                        || host == "host-1"
                        || row.pattern.ends_with("/work")
                        || row.pattern.ends_with("/admission")
                }
                "host-1" => spec || (join && host == "host-1"),
                "site" => spec || (!wish && !row.internal),
                _ => false,
            };
            for host in ["host-1", "host-2"] {
                let topic = topic(row, "harbour", host);
                assert_eq!(may(&session, topic.clone()).await, wanted(host), "{user} {topic}");
            }
            if row.in_fleet {
                assert!(!may(&session, topic(row, "other", "host-1")).await, "{user} in another fleet");
            }
        }
        session.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_stay_outside() {
    let broker = Mosquitto::start().await;
    let mut wrong = broker.options("anna", false);
    wrong.credentials = Some(Credentials { username: "anna".to_owned(), password: Secret::new("wr0ng") });
    let mut bare = broker.options("anna", true);
    bare.tls = Some(Tls { ca: broker.dir.path().join("ca.crt"), client: None });
    let other = tempfile::tempdir().unwrap();
    init(other.path(), &["localhost"]);
    let mut foreign = broker.options("anna", true);
    let pair = (other.path().join("clients/anna.crt"), other.path().join("clients/anna.key"));
    foreign.tls = Some(Tls { ca: broker.dir.path().join("ca.crt"), client: Some(pair) });
    for (what, options) in [("a wrong password", wrong), ("no certificate", bare), ("another authority's", foreign)] {
        assert!(Session::connect(&options, "test", &Random::System, PATIENCE).await.is_err(), "{what}");
    }
}

#[test]
fn what_is_there_stays_and_what_is_missing_comes() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &["localhost"]);
    let read = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
    let before = ["ca.crt", "clients/anna.password", "clients/anna.crt", "certs/server.crt"].map(read);
    assert!(init(dir.path(), &["localhost"]).contains("nothing to do"));
    // A name more: a certificate anew, from the same authority.
    assert!(init(dir.path(), &["localhost", "192.0.2.1"]).ends_with(": certs/server.key, certs/server.crt\n"));
    std::fs::remove_file(dir.path().join("clients/wall.password")).unwrap();
    assert!(init(dir.path(), &["localhost", "192.0.2.1"]).ends_with(": clients/wall.password, pgmoor.passwords\n"));
    assert_eq!(["ca.crt", "clients/anna.password", "clients/anna.crt"].map(read)[..], before[..3]);
    assert_ne!(read("certs/server.crt"), before[3]);
}
