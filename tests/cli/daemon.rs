//! The whole way in one process each: `pgmoor serve` with the in-memory world, and the command line beside it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Said, file, pgmoor};

/// How often it is looked whether the daemon listens, ten times a second.
const LOOKS: u32 = 200;

/// A daemon of its own; it ends with the test.
struct Daemon {
    child: Child,
    address: String,
    data_dir: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let data_dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(data_dir.path().join("log")).unwrap();
        let mut command = Self::command(&address, &data_dir, &["serve", "--drivers", "fake", "--tick-s", "1"]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let daemon = Self { child, address, data_dir };
        for _ in 0..LOOKS {
            if std::net::TcpStream::connect(&daemon.address).is_ok() {
                return daemon;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the daemon does not listen: {}", daemon.log());
    }

    fn command(address: &str, data_dir: &tempfile::TempDir, arguments: &[&str]) -> Command {
        let mut command = pgmoor(arguments);
        command.env("PGMOOR_BROKER_LISTEN", address).env("PGMOOR_DATA_DIR", data_dir.path());
        command.env("PGMOOR_FLEET", "test").env("PGMOOR_HOST", "host-1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        Self::command(&self.address, &self.data_dir, arguments).output().unwrap().into()
    }

    /// Runs it again until it says what is waited for; the host tells of its trash a moment after the database is gone.
    fn until(&self, arguments: &[&str], satisfied: impl Fn(&Said) -> bool) -> Said {
        let mut said = self.run(arguments);
        for _ in 0..LOOKS {
            if satisfied(&said) {
                return said;
            }
            std::thread::sleep(Duration::from_millis(100));
            said = self.run(arguments);
        }
        panic!("{arguments:?} says after all these looks: {said:?} {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data_dir.path().join("log")).unwrap()
    }

    /// Ends it as an init would.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
        let log = self.log();
        let loud: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")).collect();
        assert!(loud.is_empty(), "nothing here is worth a warning: {loud:#?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A test that failed leaves no daemon behind; one that ended it already has nothing left to kill.
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[test]
fn a_spec_becomes_a_database_and_goes_again() {
    let daemon = Daemon::start();
    let shop = file("schemas/v1/examples/valid/shop.json");

    // Until the fleet's etcd is up, a plan says that it waits for it.
    let mut before = daemon.run(&["plan", &shop]);
    for _ in 0..LOOKS {
        if !before.out.contains("waiting") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        before = daemon.run(&["plan", &shop]);
    }
    assert_eq!(before.code, 2, "{before:?}");
    assert!(before.out.contains("    + database::shop (does not exist)\n"), "{before:?}");

    let applied = daemon.run(&["apply", &shop, "--wait", "--timeout", "60s"]);
    assert_eq!(applied.code, 0, "{applied:?} {}", daemon.log());
    assert!(applied.out.starts_with("shop is available: postgresql://shop_owner@"), "{applied:?}");
    assert!(applied.err.contains("step.finished"), "{applied:?}");

    let after = daemon.run(&["plan", &shop]);
    assert_eq!(
        (after.code, after.out.as_str()),
        (0, "database shop\n\nn1 on host-1: it is the only host of the fleet\n\nnothing to do\n"),
        "{after:?}"
    );

    let spec = std::fs::read_to_string(&shop).unwrap();
    let changed = daemon.data_dir.path().join("shop.json");
    std::fs::write(&changed, spec.replace("250ms", "300ms")).unwrap();
    let change = daemon.run(&["plan", changed.to_str().unwrap()]);
    assert_eq!(change.code, 2, "{change:?}");
    assert!(change.out.contains("disruption: reload"), "{change:?}");
    let with_generation = |wait: &str| {
        let numbered = spec.replacen('{', "{\"generation\": 1,", 1).replace("250ms", wait);
        std::fs::write(&changed, numbered).unwrap();
    };
    with_generation("250ms");
    let numbered = daemon.run(&["apply", changed.to_str().unwrap(), "--wait", "--timeout", "60s"]);
    assert_eq!(numbered.code, 0, "{numbered:?}");
    with_generation("300ms");
    let refused = daemon.run(&["apply", changed.to_str().unwrap(), "--wait", "--timeout", "60s"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.out.contains("[generation-conflict]"), "{refused:?}");

    let status = daemon.run(&["status", "shop"]);
    assert_eq!(status.code, 0);
    assert!(status.out.contains("state       available\n") && status.out.contains("was rejected"), "{status:?}");

    let deleted = daemon.run(&["delete", "shop", "--yes", "--wait", "--timeout", "60s"]);
    assert_eq!((deleted.code, deleted.out.as_str()), (0, "shop is deleted\n"), "{deleted:?}");

    let back = daemon.run(&["undelete", "shop", "--wait", "--timeout", "60s"]);
    assert_eq!(back.code, 0, "{back:?} {}", daemon.log());
    let history = daemon.run(&["history", "shop"]);
    assert!(history.out.contains("published") && history.out.contains("undelete"), "{history:?}");
    assert_eq!(daemon.run(&["rollback", "shop", "--to", "99"]).code, 1);
    let rolled = daemon.run(&["rollback", "shop", "--to", "1", "--wait", "--timeout", "60s"]);
    assert_eq!(rolled.code, 0, "{rolled:?}");
    let diff = daemon.run(&["diff", "shop", "1", "2"]);
    assert!(diff.code == 0 && diff.out.contains("generation"), "{diff:?}");
    let living = daemon.run(&["purge", "shop", "--yes"]);
    assert!(living.code == 1 && living.out.contains("[not-deleted]"), "{living:?}");
    let unasked = daemon.run(&["purge", "shop"]);
    assert!(unasked.code == 1 && unasked.err.contains("must be confirmed"), "{unasked:?}");
    assert_eq!(daemon.run(&["delete", "shop", "--yes", "--wait", "--timeout", "60s"]).code, 0);
    assert_eq!(daemon.run(&["confirm-delete", "--all"]).out, "no delete is held\n");
    let explained = daemon.until(&["explain", "shop"], |said| said.out.contains("its data is in the trash"));
    assert!(explained.out.contains("pgmoor undelete shop"), "{explained:?}");
    let purged = daemon.run(&["purge", "shop", "--yes"]);
    assert_eq!((purged.code, purged.out.as_str()), (0, "shop is purged; its id is free\n"), "{purged:?}");
    for command in ["status", "explain"] {
        let forgotten = daemon.until(&[command, "shop"], |said| said.code == 1);
        assert!(forgotten.err.contains("there is no database shop"), "{forgotten:?}");
    }
    assert_eq!(daemon.run(&["history", "shop"]).code, 1);
    daemon.end();
}
