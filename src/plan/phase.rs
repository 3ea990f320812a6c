//! The phases of the work on a database: each has a deadline from the configuration, and past it the state is `stalled`
//! with a reason (rule 6).

use serde::{Deserialize, Serialize};

use crate::model::Kind;

/// A phase. Its name is also that of its setting: `deadlines.{name}_s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A spec is checked against the host (an image may be pulled).
    Judge,
    /// A Swarm and the fleet's own services (etcd) are waited for.
    Fleet,
    /// Something that cannot be seen is waited for.
    Wait,
    /// Records, directories, files, certificates, networks, configuration in etcd.
    Prepare,
    /// A service is made, changed or removed; the old container must have stopped.
    Stop,
    /// An instance, or etcd, comes up and serves.
    Start,
    /// Roles, databases, extensions.
    Configure,
    /// A script of the spec runs.
    Script,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Judge, Self::Fleet, Self::Wait, Self::Prepare, Self::Stop, Self::Start, Self::Configure, Self::Script];

    /// The phase that a step on a resource of this kind belongs to.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Record
            | Kind::Directory
            | Kind::File
            | Kind::Certificate
            | Kind::Network
            | Kind::EtcdMember
            | Kind::EtcdUser
            | Kind::PatroniConfig => Self::Prepare,
            Kind::Service => Self::Stop,
            Kind::Instance | Kind::Etcd => Self::Start,
            Kind::Role | Kind::Database | Kind::Extension => Self::Configure,
            Kind::Script => Self::Script,
        }
    }

    /// Its name in documents and settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Judge => "judge",
            Self::Fleet => "fleet",
            Self::Wait => "wait",
            Self::Prepare => "prepare",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Configure => "configure",
            Self::Script => "script",
        }
    }

    /// What goes on in it, to follow "is still busy with": for people.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Judge => "checking the spec against the host",
            Self::Fleet => "waiting for the Swarm and the fleet's own etcd",
            Self::Wait => "waiting for something that cannot be seen",
            Self::Prepare => "preparing directories, certificates, networks and configuration",
            Self::Stop => "handing a service over from the old container to the new one",
            Self::Start => "waiting for the instance to come up",
            Self::Configure => "making roles, databases and extensions",
            Self::Script => "running a script",
        }
    }

    /// What a person can look at when it lasts too long.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Judge => "see whether Docker answers and whether the image can be pulled (hosts/{host}/status)",
            Self::Fleet => "see what hosts/{host}/status says about Docker, the Swarm and etcd",
            Self::Wait => "see whether Docker, etcd and the instance answer",
            Self::Prepare => "see whether Docker, etcd and the disk of the data directory answer",
            Self::Stop => "see `docker service ps` and `docker ps`: the old container may be unable to stop",
            Self::Start => "see `docker service ps --no-trunc` and `docker service logs` of the instance's service",
            Self::Configure => "see Postgres' log: a lock may be held, or the primary gone",
            Self::Script => "see what the script waits for in pg_stat_activity, or raise deadlines.script_s",
        }
    }
}

/// A phase that lasts longer than its deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// Which.
    pub phase: Phase,
    /// Since when it lasts: milliseconds since 1970.
    pub since_ms: i64,
    /// Its deadline in seconds.
    pub limit_s: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_documents() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
    }
}
