//! From the words of Docker, Swarm and the rest to a reason and what to do: one table, first match counts.
//!
//! Invariant: the words themselves are always told; the table only adds to them. Every line was seen live once (the
//! tests have the texts as Docker Engine 20.10 gave them).

/// What an error text means, and what a person can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The reason in one word, for conditions.
    pub reason: &'static str,
    /// What to do.
    pub hint: String,
}

/// A kind of trouble and how it is told.
struct Known {
    /// Any of these is in the text.
    words: &'static [&'static str],
    reason: &'static str,
    /// What to do; `{}` stands for the thing that the text names.
    hint: &'static str,
    /// What stands directly before that thing, and what the hint says where the text names none.
    thing: Option<(&'static str, &'static str)>,
}

/// The reason while an image is on its way to a host: that has a deadline of its own.
pub(super) const IMAGE_ARRIVES: &str = "ImageArrives";

const KNOWN: &[Known] = &[
    Known {
        words: &["is being handed over", "will be handed over", "is being pulled on"],
        reason: IMAGE_ARRIVES,
        hint: "it goes on by itself when the image is there; `pgmoor hosts` shows what each host lacks",
        thing: None,
    },
    Known {
        words: &["and did not get there", "nor on any other host"],
        reason: "ImageMissing",
        hint: "mend what the message names, or put the image {} there by hand (`docker load`, `docker pull`): it goes on by \
               itself then",
        thing: Some(("image ", "that is named")),
    },
    Known {
        words: &["No such image", "pull access denied", "manifest unknown", "could not be pulled"],
        reason: "ImageMissing",
        hint: "put the image {} on the host: build it (`make images`), `docker load` it, or `docker pull` it; Swarm then \
               starts it by itself",
        thing: Some(("No such image: ", "that is named")),
    },
    Known {
        words: &["host-mode port already in use"],
        reason: "PortInUse",
        hint: "another service of the Swarm has the port (`docker service ls`): remove that one, or publish the spec with \
               another port (0 lets pgmoor choose); etcd's own ports are `etcd_client_port` and `etcd_peer_port` of the \
               configuration",
        thing: None,
    },
    Known {
        words: &["address already in use", "port is already allocated"],
        reason: "PortInUse",
        hint: "something outside Swarm listens on port {}: find it with `ss -ltnp` and stop it, or publish the spec with \
               another port (0 lets pgmoor choose); etcd's own ports are `etcd_client_port` and `etcd_peer_port` of the \
               configuration",
        thing: Some(("0.0.0.0:", "that is named")),
    },
    Known {
        words: &["could not find an available, non-overlapping", "address pool is exhausted", "gave it no subnet"],
        reason: "SubnetsExhausted",
        hint: "remove overlay networks that nobody needs (`docker network ls -f driver=overlay`, `docker network prune`); \
               a larger pool can only be set when a Swarm is made (`docker swarm init --default-addr-pool`)",
        thing: None,
    },
    Known {
        words: &["insufficient resources"],
        reason: "InsufficientResources",
        hint: "the services on the node reserve more memory or processors than it has: publish the spec with less \
               `memory` or `cpus`, or take some from other services (`docker node inspect self`)",
        thing: None,
    },
    Known {
        words: &["scheduling constraints not satisfied"],
        reason: "NodeGone",
        hint: "the Swarm has no node with the id that the service is bound to (`docker node ls`): bring that host back \
               into the Swarm; after a new `docker swarm init` restart pgmoor",
        thing: None,
    },
    Known {
        words: &["not available for new tasks", "no suitable node"],
        reason: "NoSuitableNode",
        hint: "look at `docker node ls`: the host must be `Ready` and `Active` (`docker node update --availability active \
               NODE`)",
        thing: None,
    },
    Known {
        words: &["bind source path does not exist"],
        reason: "MountMissing",
        hint: "make {} on the host, or take the volume out of the spec",
        thing: Some(("does not exist: ", "the directory")),
    },
    Known {
        words: &["o space left on device", "% full"],
        reason: "DiskFull",
        hint: "free space on the host's disk (`df -h`, `docker system df`); a Postgres that it stopped starts by itself \
               then",
        thing: None,
    },
    Known {
        words: &["unhealthy container"],
        reason: "Unhealthy",
        hint: "the program runs, but its health check fails: look at its log with `docker service logs`",
        thing: None,
    },
    Known {
        words: &["non-zero exit (137)"],
        reason: "Killed",
        hint: "the program was killed, by the kernel when its `memory` did not suffice (`dmesg`), or by hand: publish the \
               spec with more `memory` if it is the former",
        thing: None,
    },
    Known {
        words: &["non-zero exit"],
        reason: "ProcessExited",
        hint: "the program ends by itself: its last words are in the message, all of them in `docker service logs`",
        thing: None,
    },
    Known {
        words: &["starting container failed", "OCI runtime"],
        reason: "ContainerNotStarted",
        hint: "Docker cannot start the container: mend what the message names (image, mount, runtime); Swarm tries again \
               by itself",
        thing: None,
    },
    Known {
        words: &["still has it mounted"],
        reason: "DirectoryBusy",
        hint: "the old Postgres is still stopping, for 90 s at most; if its container hangs, `docker rm -f` that one",
        thing: None,
    },
    Known {
        words: &["ask host "],
        reason: "HostUnreachable",
        hint: "bring host {} back: its power, its network, its Docker, and pgmoor there (`systemctl status pgmoor`); if it is \
               gone for good, `pgmoor host remove --force`",
        thing: Some(("ask host ", "that is named")),
    },
    Known {
        words: &["does not have a leader", "context deadline exceeded", "code = Unavailable"],
        reason: "SwarmHasNoLeader",
        hint: "bring back a majority of the Swarm's managers (`docker node ls`); databases go on meanwhile",
        thing: None,
    },
    Known {
        words: &["not in a Swarm", "is not a swarm manager", "not a manager of its Swarm"],
        reason: "NoSwarm",
        hint: "make or join a Swarm on the host: `docker swarm init --advertise-addr ADDRESS`, or `docker node promote` \
               on a manager",
        thing: None,
    },
    Known {
        words: &["loopback address"],
        reason: "LoopbackAddress",
        hint: "make the Swarm with an address that others reach, or set `advertise_address`",
        thing: None,
    },
    Known {
        words: &[
            "docker.sock",
            "Docker engine",
            "the engine did not say its version",
            "list services",
            "list networks",
        ],
        reason: "DockerUnreachable",
        hint: "start Docker on the host (`systemctl status docker`); containers that run go on",
        thing: None,
    },
    Known {
        words: &["reach etcd", "etcd user", "etcd key", "etcd's authentication"],
        reason: "EtcdUnreachable",
        hint: "look at the fleet's etcd: `docker service ps --no-trunc` of the service pgmoor-etcd-…; hosts/{host}/status \
               says what keeps it from running",
        thing: None,
    },
    Known {
        words: &["load the configuration of"],
        reason: "ConfigurationRefused",
        hint: "Postgres refuses a parameter or an access line and runs on with the old ones: publish a corrected spec",
        thing: None,
    },
];

/// What the words mean, where the table knows them.
#[must_use]
pub fn diagnose(words: &str) -> Option<Diagnosis> {
    let known = KNOWN.iter().find(|known| known.words.iter().any(|word| words.contains(word)))?;
    let hint = match known.thing {
        None => known.hint.to_owned(),
        Some((before, otherwise)) => known.hint.replace("{}", named(words, before).unwrap_or(otherwise)),
    };
    Some(Diagnosis { reason: known.reason, hint })
}

/// The word that follows `before`, without the punctuation of the sentence around it.
fn named<'a>(words: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = words.split_once(before)?;
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ')' | '"')).unwrap_or(rest.len());
    // A colon ends a sentence here (`45991: bind: …`), or stands inside a name (`postgres:17.11`).
    let thing = rest.get(..end)?.trim_end_matches([':', '.']);
    (!thing.is_empty()).then_some(thing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Docker Engine 20.10.24 said it; of the disk as a host's health says it.
    const SEEN: &[(&str, &str, &str)] = &[
        ("No such image: pgmoor/nosuch:1", "ImageMissing", "pgmoor/nosuch:1"),
        ("the disk of /var/lib/pgmoor is more than 95 % full", "DiskFull", "df -h"),
        ("no suitable node (insufficient resources on 1 node)", "InsufficientResources", "`memory`"),
        ("no suitable node (scheduling constraints not satisfied on 1 node)", "NodeGone", "docker node ls"),
        ("no suitable node (host-mode port already in use on 1 node)", "PortInUse", "docker service ls"),
        ("no suitable node (1 node not available for new tasks)", "NoSuitableNode", "--availability active"),
        (
            "invalid mount config for type \"bind\": bind source path does not exist: /nonexist/x",
            "MountMissing",
            "make /nonexist/x on",
        ),
        ("task: non-zero exit (7)", "ProcessExited", "docker service logs"),
        ("task: non-zero exit (137)", "Killed", "dmesg"),
        ("task: non-zero exit (137): dockerexec: unhealthy container", "Unhealthy", "health check"),
        (
            "starting container failed: failed to create shim task: OCI runtime create failed: runc create failed: unable \
             to start container process: exec: \"/no/such\": stat /no/such: no such file or directory: unknown",
            "ContainerNotStarted",
            "Swarm tries again",
        ),
        (
            "starting container failed: driver failed programming external connectivity on endpoint exx-prt.1.9rxbqsf6v \
             (c9036b4c843e2e21): Error starting userland proxy: listen tcp4 0.0.0.0:45991: bind: address already in use",
            "PortInUse",
            "port 45991:",
        ),
        (
            "failed allocating pools and gateway IP for network k5wzc44stb0csbs2o0kd7tk42: could not find an available, \
             non-overlapping IPv4 address pool among the defaults to assign to the network",
            "SubnetsExhausted",
            "--default-addr-pool",
        ),
        ("ask host h1: no answer: no answer within 2 s: it does not answer", "HostUnreachable", "bring host h1 back"),
        ("rpc error: code = Unknown desc = The swarm does not have a leader.", "SwarmHasNoLeader", "managers"),
    ];

    #[test]
    fn every_text_that_was_seen_has_a_reason_and_a_hint() {
        for (words, reason, hint) in SEEN {
            let found = diagnose(words).unwrap();
            assert_eq!(found.reason, *reason, "{words}");
            assert!(found.hint.contains(hint), "{words}: {}", found.hint);
            // The table is asked with the words inside a sentence of ours, too.
            let inside = diagnose(&format!("start postgres-x: Docker says rejected: {words} (attempt 2)")).unwrap();
            assert_eq!(inside, found, "{words}");
        }
    }

    #[test]
    fn what_is_not_known_gets_no_advice() {
        for words in ["", "boom", "role \"app\" cannot be dropped because some objects depend on it"] {
            assert_eq!(diagnose(words), None, "{words}");
        }
        let unnamed = diagnose("pull access denied for x").unwrap();
        assert!(unnamed.hint.starts_with("put the image that is named on the host"), "{}", unnamed.hint);
    }
}
