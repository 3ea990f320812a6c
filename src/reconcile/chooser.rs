//! Choices that a spec leaves open and the host has to be asked about: ports that nobody has and nothing listens on.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::Error;
use super::live;
use super::service::Shared;
use crate::domain::database::{Choose, PASSWORD_BYTES, PORT_FIRST, PORT_LAST};
use crate::model::spec::PortRequest;
use crate::model::{AcceptedSpec, HostId, HostPorts, InstanceId};
use crate::runtime::random::NoRandomness;

/// Chooses with the system's randomness, and ports that nobody has and nothing listens on.
pub(super) struct Chooser<'a> {
    shared: &'a Shared,
    free: BTreeMap<HostId, Vec<u16>>,
    failed: Option<NoRandomness>,
}

/// How many ports a host is asked about at once: most of them are free.
const PORTS_ASKED: usize = 16;

impl<'a> Chooser<'a> {
    /// For what publishes no port that is chosen.
    pub(super) fn without_ports(shared: &'a Shared) -> Self {
        Self { shared, free: BTreeMap::new(), failed: None }
    }

    /// Asks each host, to which the spec leaves the choice, for as many free ports as instances without one go there.
    pub(super) async fn new(
        shared: &'a Shared,
        spec: &AcceptedSpec,
        chosen: &BTreeMap<InstanceId, u16>,
        taken: &HostPorts,
    ) -> Result<Self, Error> {
        let mut wanted: BTreeMap<&HostId, usize> = BTreeMap::new();
        for node in spec.nodes.iter().filter(|node| node.port == PortRequest::Chosen) {
            // An instance that has a port keeps it, so its host need not answer.
            let has = |host: &&HostId| chosen.contains_key(&InstanceId::derive(&spec.id, &node.name, host));
            for host in node.hosts.iter().filter(|host| !has(host)) {
                *wanted.entry(host).or_default() += 1;
            }
        }
        let mut free = BTreeMap::new();
        for (host, wanted) in wanted {
            let asked = |port: u16| {
                let mut nodes = spec.nodes.iter().filter(|node| node.hosts.contains(host));
                nodes.any(|node| node.port == PortRequest::Fixed(port))
            };
            let open = |port: &u16| !taken.contains_key(&(host.clone(), *port)) && !asked(*port);
            let mut candidates = (PORT_FIRST..=PORT_LAST).rev().filter(open);
            let mut found = Vec::new();
            while found.len() < wanted {
                let ports: BTreeSet<u16> = candidates.by_ref().take(PORTS_ASKED).collect();
                if ports.is_empty() {
                    break;
                }
                let listened = live::listened(&shared.world, host, ports.clone()).await?;
                found.extend(ports.into_iter().rev().filter(|port| !listened.contains(port)));
            }
            // Handed out from the end: the highest first, away from what people choose by hand.
            found.reverse();
            free.insert(host.clone(), found);
        }
        Ok(Self { shared, free, failed: None })
    }

    /// What could not be reported while choosing.
    pub(super) fn ended(self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), |failed| Err(Error::Random(failed)))
    }
}

impl Choose for Chooser<'_> {
    fn entropy(&mut self) -> [u8; PASSWORD_BYTES] {
        let mut bytes = [0; PASSWORD_BYTES];
        if let Err(failed) = self.shared.random.fill(&mut bytes) {
            self.failed = Some(failed);
        }
        bytes
    }

    fn port(&mut self, host: &HostId) -> Option<u16> {
        self.free.get_mut(host)?.pop()
    }
}
