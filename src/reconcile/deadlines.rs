//! How long each phase may take (rule 6), from the configuration.

use std::time::Duration;

use crate::plan::Phase;

/// The deadline of each phase. A step that is not done by then has failed, is told as `stalled` and planned again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Checking a spec against the host.
    pub judge: Duration,
    /// Waiting for a Swarm and the fleet's etcd.
    pub fleet: Duration,
    /// Waiting for what cannot be seen.
    pub wait: Duration,
    /// Records, directories, files, certificates, networks, configuration in etcd.
    pub prepare: Duration,
    /// A service from the old container to the new one.
    pub stop: Duration,
    /// An instance or etcd from its container to serving.
    pub start: Duration,
    /// Roles, databases, extensions.
    pub configure: Duration,
    /// A script.
    pub script: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            // Pulling an image over a line of the edge.
            judge: seconds(600),
            // etcd's first start takes seconds; the rest is for a Docker daemon that starts with the host.
            fleet: seconds(60),
            wait: seconds(60),
            // Local or Swarm calls of well under a second; the rest is for a busy machine.
            prepare: seconds(60),
            // A stopping Postgres keeps its directory for up to its grace period of 90 s.
            stop: seconds(180),
            // Image start, initdb or crash recovery; the reference waits 5 min for a healthy task.
            start: seconds(300),
            configure: seconds(60),
            // A person's statements may take their time.
            script: seconds(300),
        }
    }
}

impl Deadlines {
    /// That of one phase.
    #[must_use]
    pub fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Judge => self.judge,
            Phase::Fleet => self.fleet,
            Phase::Wait => self.wait,
            Phase::Prepare => self.prepare,
            Phase::Stop => self.stop,
            Phase::Start => self.start,
            Phase::Configure => self.configure,
            Phase::Script => self.script,
        }
    }
}
