//! The shipped mosquitto configuration and access list, on a real mosquitto.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgmoor_broker::password_line;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::raw::{Hello, PATIENCE, Raw};

const CONFIGURATION: &str = include_str!("../mosquitto/mosquitto.conf");
const ACCESS: &str = include_str!("../mosquitto/pgmoor.acl");
const NOT_AUTHORIZED: u8 = 0x87;

/// A mosquitto on the shipped files; killed when it is dropped.
struct Mosquitto {
    child: Child,
    addr: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Mosquitto {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let users = ["publisher", "controller", "watcher"];
        let lines = users.map(|user| password_line(user, &format!("{user}-password")).unwrap());
        let passwords = file("passwords", &format!("{}\n", lines.join("\n")));
        let access = file("acl", &ACCESS.replace("FLEET", "harbour"));
        let store = format!("{}/", dir.path().to_str().unwrap());
        let mut configuration = CONFIGURATION.to_owned();
        for (shipped, here) in [
            ("/etc/mosquitto/pgmoor.passwords", passwords.as_str()),
            ("/etc/mosquitto/pgmoor.acl", &access),
            ("/var/lib/mosquitto/", &store),
            ("listener 1883 127.0.0.1", &format!("listener {port} 127.0.0.1")),
        ] {
            assert_eq!(configuration.matches(shipped).count(), 1, "{shipped}");
            configuration = configuration.replace(shipped, here);
        }
        // mosquitto gives up root otherwise, and could not read the files.
        let me = Command::new("id").arg("-un").output().unwrap().stdout;
        configuration.push_str(&format!("user {}\n", String::from_utf8(me).unwrap().trim()));
        let configuration = file("mosquitto.conf", &configuration);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let child = spawn(&configuration);
        let mut started = Self { child, addr, dir };
        started.wait().await;
        started
    }

    async fn wait(&mut self) {
        let up = timeout(PATIENCE, async {
            while TcpStream::connect(self.addr).await.is_err() {
                assert_eq!(self.child.try_wait().unwrap(), None, "mosquitto ended");
                sleep(Duration::from_millis(20)).await;
            }
        });
        up.await.expect("mosquitto listens");
    }

    async fn restart(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        self.child.wait().unwrap();
        self.child = spawn(self.dir.path().join("mosquitto.conf").to_str().unwrap());
        self.wait().await;
    }

    async fn client(&self, version: u8, user: &str) -> Raw {
        let hello = Hello::new(version, user).login(user, &format!("{user}-password"));
        Raw::welcome(self.addr, &hello).await
    }
}

fn spawn(configuration: &str) -> Child {
    // Debian keeps it where only root's PATH looks.
    let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
    let program = program.into_iter().find(|path| std::path::Path::new(path).exists());
    let program = program.expect("mosquitto is not installed: apt-get install mosquitto");
    let mut command = Command::new(program);
    command.args(["-c", configuration]).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn topic(below: &str) -> String {
    format!("pgmoor/v1/harbour/{below}")
}

#[tokio::test]
async fn every_role_writes_its_own_topics_and_no_others() {
    let mosquitto = Mosquitto::start().await;
    let reports = [
        "databases/d/status",
        "databases/d/health",
        "databases/d/plan",
        "databases/d/instances/i/state",
        "databases/d/services/s/health",
        "databases/d/events",
        "databases/d/tasks/t",
        "databases/d/tasks/t/log",
        "databases/d/commands/backup/result",
        "hosts/h/status",
        "hosts/h/work",
        "hosts/h/answers",
        "controllers/c/availability",
        "controllers/c/sync",
    ];
    // The controller publishes a spec again for `undelete` and `rollback`, and wishes for nothing else.
    let wishes = ["databases/d/commands/backup", "inventory"];
    for (user, writes_reports, writes_wishes) in
        [("publisher", false, true), ("controller", true, false), ("watcher", false, false)]
    {
        let mut client = mosquitto.client(5, user).await;
        let cases = reports.map(|t| (t, writes_reports)).into_iter().chain(wishes.map(|t| (t, writes_wishes)));
        for (below, allowed) in cases {
            let code = client.publish(&topic(below), b"x", false).await.unwrap();
            // 0x10: accepted, nobody is subscribed.
            assert_eq!(code < 0x80, allowed, "{user} {below} {code:#x}");
            assert!(allowed || code == NOT_AUTHORIZED);
        }
        let spec = client.publish(&topic("databases/d/spec"), b"x", false).await.unwrap();
        assert_eq!(spec < 0x80, user != "watcher", "{user} {spec:#x}");
        let elsewhere = client.publish("pgmoor/v1/other/databases/d/spec", b"x", false).await;
        assert_eq!(elsewhere, Some(NOT_AUTHORIZED), "{user}");
    }
}

#[tokio::test]
async fn every_role_reads_the_fleet_and_only_the_fleet() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.client(4, "publisher").await;
    publisher.publish(&topic("databases/d/spec"), b"{}", true).await;
    let mut controller = mosquitto.client(5, "controller").await;
    controller.publish(&topic("databases/d/status"), b"{}", true).await;
    controller.publish("pgmoor/v1/schemas/status", b"{}", true).await;
    for user in ["publisher", "controller", "watcher"] {
        let mut client = mosquitto.client(5, user).await;
        client.subscribe("#", 1).await;
        let topics = client.all_messages().await.into_iter().map(|m| m.topic);
        let mut topics: Vec<_> = topics.collect();
        topics.sort();
        let expected = [topic("databases/d/spec"), topic("databases/d/status"), "pgmoor/v1/schemas/status".to_owned()];
        assert_eq!(topics, expected, "{user}");
    }
}

#[tokio::test]
async fn strangers_and_wrong_passwords_stay_outside() {
    let mosquitto = Mosquitto::start().await;
    let hello = Hello::new(4, "c");
    for hello in [hello.clone(), hello.clone().login("watcher", "wrong"), hello.login("root", "x")] {
        assert_eq!(Raw::tcp(mosquitto.addr, &hello).await.1, [0, 5]);
    }
}

#[tokio::test]
async fn five_thousand_specs_are_replayed_and_survive_a_restart() {
    const SPECS: usize = 5000;
    let mut mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.client(4, "publisher").await;
    let bytes: Vec<u8> =
        (0..SPECS).flat_map(|n| Raw::publish0(4, &topic(&format!("databases/d{n}/spec")), b"{}", true)).collect();
    publisher.send(&bytes).await;
    let large = vec![b'x'; 128 * 1024];
    assert_eq!(publisher.publish(&topic("databases/large/spec"), &large, true).await, Some(0));
    mosquitto.restart().await;
    let mut watcher = mosquitto.client(4, "watcher").await;
    watcher.subscribe(&topic("databases/+/spec"), 1).await;
    let messages = watcher.messages(SPECS + 1).await;
    assert!(messages.iter().all(|m| m.retain));
    assert!(messages.iter().any(|m| m.payload == large));
}

#[tokio::test]
async fn a_message_above_the_limit_is_not_taken() {
    let mosquitto = Mosquitto::start().await;
    let mut publisher = mosquitto.client(4, "publisher").await;
    publisher.publish(&topic("databases/d/spec"), &vec![b'x'; 950_000], true).await;
    let mut watcher = mosquitto.client(4, "watcher").await;
    watcher.subscribe("#", 1).await;
    assert_eq!(watcher.all_messages().await, []);
}
