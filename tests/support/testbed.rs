//! Several Swarm hosts on this machine, made by `tests/testbed/bed`; taken away when dropped, also when a test fails.
//!
//! Invariant: a bed belongs to the process of its test: of one that is killed, the next bed takes the remains away.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The tool that makes beds.
pub(crate) const BED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testbed/bed");
/// Where a bed is.
pub(crate) const DIRECTORY: &str = "/var/tmp/pgmoor-testbed";
/// The address of the controller's network, beside the hosts.
pub(crate) const CONTROLLER: &str = "198.18.0.254";
/// How long `docker` waits for an answer: a Swarm without a leader gives none.
const ANSWER_S: &str = "20";

/// A bed that is up.
pub(crate) struct Bed {
    hosts: Vec<Host>,
}

/// One host of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: String,
}

/// A program that runs on a host or beside them, until it ends, the host does, or this is dropped.
pub(crate) struct Running {
    child: Child,
}

/// Standard output of a command; its standard error when it fails.
pub(crate) fn said(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Runs the tool.
pub(crate) fn bed(arguments: &[&str]) -> Result<String, String> {
    said(Command::new(BED).args(arguments))
}

impl Bed {
    /// Hosts that form one Swarm, each a manager, with the project's images.
    pub(crate) fn up(hosts: usize) -> Self {
        Self::up_with_swarm_of(hosts, hosts)
    }

    /// Hosts of which the first few form a Swarm.
    pub(crate) fn up_with_swarm_of(hosts: usize, swarm: usize) -> Self {
        let (owner, count, swarm) = (std::process::id().to_string(), hosts.to_string(), swarm.to_string());
        bed(&["up", "--for", &owner, "--swarm", &swarm, &count]).unwrap();
        let host = |number| {
            let name = format!("h{number}");
            let address = bed(&["address", &name]).unwrap();
            Host { name, address }
        };
        Self { hosts: (1..=hosts).map(host).collect() }
    }

    /// All of them, `h1` first.
    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// All but one.
    pub(crate) fn others<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = &'a Host> {
        self.hosts.iter().filter(move |other| *other != host)
    }

    /// Moves this thread, and whatever it starts from now on, into the network of the controller, beside the hosts. Only
    /// the network: files, processes and this machine's own Docker are as before.
    pub(crate) fn enter(&self) {
        let holder = std::fs::read_to_string(Path::new(DIRECTORY).join("control/holder")).unwrap();
        let process = holder.split_whitespace().next().unwrap();
        let network = File::open(format!("/proc/{process}/ns/net")).unwrap();
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// The host that leads the Swarm, in the eyes of one that can tell.
    pub(crate) fn leader(&self) -> Option<&Host> {
        self.hosts.iter().find_map(|host| self.leader_for(host))
    }

    /// The host that leads the Swarm, in the eyes of this one.
    pub(crate) fn leader_for(&self, host: &Host) -> Option<&Host> {
        let nodes = host.nodes();
        let (leads, _) = nodes.iter().find(|(_, state)| state.ends_with("Leader"))?;
        self.hosts.iter().find(|host| host.name == *leads)
    }

    /// Whether all hosts are managers that reach each other, in the eyes of every one.
    pub(crate) fn is_whole(&self) -> bool {
        self.hosts.iter().all(|host| {
            let nodes = host.nodes();
            let whole = |state: &str| matches!(state, "Ready Leader" | "Ready Reachable");
            nodes.len() == self.hosts.len() && nodes.iter().all(|(_, state)| whole(state))
        })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let down = bed(&["down"]);
        if !std::thread::panicking() {
            down.unwrap();
        }
    }
}

impl Host {
    /// Runs a command on it.
    pub(crate) fn exec(&self, command: &[&str]) -> Result<String, String> {
        bed(&[&["exec", self.name.as_str()], command].concat())
    }

    /// Starts a program on it, which appends what it says to a file.
    pub(crate) fn spawn(&self, command: &[&str], log: &Path) -> Running {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut exec = Command::new(BED);
        exec.args(["exec", &self.name]).args(command);
        exec.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Running::of(exec.spawn().unwrap())
    }

    /// What `docker` says to these arguments about its engine.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Result<String, String> {
        let engine = format!("unix://{}", self.socket().display());
        said(Command::new("timeout").args([ANSWER_S, "docker", "--host", &engine]).args(arguments))
    }

    /// The socket of its engine, which processes of this machine reach too.
    pub(crate) fn socket(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name).join("docker.sock")
    }

    /// The nodes of the Swarm as it sees them: name, and the state as host and as manager. None while there is no leader.
    pub(crate) fn nodes(&self) -> Vec<(String, String)> {
        let format = "{{.Hostname}} {{.Status}} {{.ManagerStatus}}";
        let nodes = self.docker(&["node", "ls", "--format", format]).unwrap_or_default();
        nodes
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
            .collect()
    }

    /// Cuts its power.
    pub(crate) fn crash(&self) {
        bed(&["crash", &self.name]).unwrap();
    }

    /// Turns it on again after a crash.
    pub(crate) fn start(&self) {
        bed(&["start", &self.name]).unwrap();
    }

    /// Kills its Docker daemon alone.
    pub(crate) fn kill_dockerd(&self) {
        bed(&["kill-dockerd", &self.name]).unwrap();
    }

    /// Starts its Docker daemon again.
    pub(crate) fn start_dockerd(&self) {
        bed(&["start-dockerd", &self.name]).unwrap();
    }

    /// Cuts its network cable.
    pub(crate) fn partition(&self) {
        bed(&["partition", &self.name]).unwrap();
    }

    /// Mends its network cable.
    pub(crate) fn heal(&self) {
        bed(&["heal", &self.name]).unwrap();
    }

    /// Hands over an image of this machine's own Docker.
    pub(crate) fn load(&self, image: &str) {
        bed(&["load", &self.name, image]).unwrap();
    }
}

impl Running {
    /// A program that was started by other means.
    pub(crate) fn of(child: Child) -> Self {
        Self { child }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
