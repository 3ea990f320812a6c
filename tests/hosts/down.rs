//! What the bed leaves behind: nothing, also when `up` is killed half-way; and it takes away nothing that it did not make.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::daemon::until;
use crate::testbed::{BED, Bed, DIRECTORY, bed, said};

/// What `up` makes on its way, from the first network to the last engine.
const MADE: [&str; 4] = ["control", "h1/holder", "h1/docker.sock", "h2/docker.sock"];
/// Where the bed is, and where hosts have something of their own mounted.
const DIRECTORIES: [&str; 4] = [DIRECTORY, "/etc/docker", "/var/lib/docker", "/var/lib/pgmoor"];

/// Whatever of this machine a bed could leave something in, one thing a line.
fn machine() -> BTreeSet<String> {
    let lines = |command: &mut Command| said(command).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let words = |line: &str, from: usize, count: usize| {
        line.split_whitespace().skip(from).take(count).collect::<Vec<_>>().join(" ")
    };
    let links =
        lines(Command::new("ip").args(["-o", "link"])).into_iter().map(|line| format!("link {}", words(&line, 1, 1)));
    let rules = lines(Command::new("iptables").arg("-S")).into_iter().map(|line| format!("rule {line}"));
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = table.lines().map(|line| format!("mount {}", words(line, 0, 3)));
    let processes = lines(Command::new("ps").args(["-e", "-o", "pid=,args="])).into_iter();
    let processes = processes.filter(|line| line.contains(DIRECTORY)).map(|line| format!("process {line}"));
    // It complains of those that vanish while it looks.
    let found =
        Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", "*pgmoor-testbed*"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let cgroups = found.lines().map(|line| format!("cgroup {line}"));
    links.chain(rules).chain(mounts).chain(processes).chain(cgroups).collect()
}

fn directories() -> Vec<&'static str> {
    DIRECTORIES.into_iter().filter(|path| Path::new(path).exists()).collect()
}

/// The namespaces of processes that there are. One that ends while it is looked at has none.
fn namespaces(processes: impl Iterator<Item = PathBuf>) -> BTreeSet<String> {
    let kinds = ["net", "mnt", "pid", "uts", "ipc"];
    let links = processes.flat_map(|process| kinds.map(|kind| process.join("ns").join(kind)));
    links.filter_map(|link| Some(std::fs::read_link(link).ok()?.to_string_lossy().into_owned())).collect()
}

/// The namespaces of the bed and of nothing else, from the processes that hold them.
fn of_the_bed() -> BTreeSet<String> {
    let places = std::fs::read_dir(DIRECTORY).unwrap().filter_map(Result::ok);
    let holders = places.filter_map(|place| std::fs::read_to_string(place.path().join("holder")).ok());
    let processes: Vec<String> = holders.filter_map(|holder| Some(holder.split(' ').next()?.to_owned())).collect();
    let held = namespaces(processes.iter().map(|process| Path::new("/proc").join(process)));
    let own = namespaces(std::iter::once(PathBuf::from("/proc/self")));
    held.difference(&own).cloned().collect()
}

/// What a bed could have changed: this machine, as it was before.
struct Before {
    machine: BTreeSet<String>,
    directories: Vec<&'static str>,
}

impl Before {
    fn look() -> Self {
        Self { machine: machine(), directories: directories() }
    }

    /// What is there now and was not before.
    fn beyond(&self) -> Vec<String> {
        machine().difference(&self.machine).cloned().collect()
    }

    /// Nothing is left. A namespace ends a moment after its last process.
    fn is_all_there_is(&self, made: &BTreeSet<String>) {
        let all = || std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
        until("the namespaces of the bed are gone", || namespaces(all()).is_disjoint(made));
        assert_eq!(self.beyond(), Vec::<String>::new());
        assert_eq!(directories(), self.directories);
    }
}

#[test]
fn down_leaves_nothing_and_can_be_repeated() {
    let before = Before::look();
    let made = Bed::up(2);
    let [one, two] = made.hosts() else { panic!("two hosts") };
    let images = one.docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).unwrap();
    one.docker(&["run", "--detach", "--network", "host", images.lines().next().unwrap(), "sleep", "1000"]).unwrap();
    one.exec(&["mkdir", "-p", "/var/lib/pgmoor/a/b"]).unwrap();
    let namespaces = of_the_bed();
    assert_eq!(namespaces.len(), 2 * 5 + 2, "five of each host; the networks of the switch and the controller");
    let during = before.beyond();
    for kind in ["process", "cgroup"] {
        assert!(during.iter().any(|thing| thing.starts_with(kind)), "the look sees what there is: {during:#?}");
    }
    for kind in ["link", "rule", "mount"] {
        assert!(!during.iter().any(|thing| thing.starts_with(kind)), "this machine has none of the bed's: {during:#?}");
    }

    let second = bed(&["up", "1"]).unwrap_err();
    assert!(second.contains("there is a test bed already"), "{second}");
    assert!(made.hosts().iter().all(|host| host.docker(&["version"]).is_ok()), "the refusal harmed nothing");

    two.crash();
    bed(&["down"]).unwrap();
    before.is_all_there_is(&namespaces);
    bed(&["down"]).unwrap();
    drop(made);
    before.is_all_there_is(&namespaces);
}

/// An `up` that is killed as soon as it has made this.
fn killed_at(made: &str) {
    let mut up = Command::new(BED).args(["up", "2"]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("`up` has come so far", || Path::new(DIRECTORY).join(made).exists());
    assert!(up.try_wait().unwrap().is_none(), "{made}: it was killed too late to show anything");
    up.kill().unwrap();
    up.wait().unwrap();
}

#[test]
fn an_up_that_is_killed_is_taken_away() {
    let before = Before::look();
    for made in MADE {
        killed_at(made);
        let namespaces = of_the_bed();
        bed(&["down"]).unwrap();
        before.is_all_there_is(&namespaces);
    }

    // Or the next `up` does it, since the owner of what is there has ended.
    killed_at(MADE[1]);
    let left = of_the_bed();
    let made = Bed::up(1);
    assert!(made.is_whole());
    drop(made);
    before.is_all_there_is(&left);
}
