//! What specs are judged against in these tests: the shipped catalogue, two hosts, one port that is taken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pgmoor::contract::{Context, Fault, accept};
use pgmoor::model::{AcceptedSpec, Catalogue, DatabaseId, HostId, HostPorts, NodeHosts};

pub(crate) struct World {
    catalogue: Catalogue,
    host: HostId,
    hosts: BTreeSet<HostId>,
    ports: HostPorts,
    placed: NodeHosts,
}

impl World {
    pub(crate) fn new() -> Self {
        let text = std::fs::read_to_string(root().join("deploy/catalogue.json")).unwrap();
        let host = HostId::parse("host-1").unwrap();
        Self {
            catalogue: serde_json::from_str(&text).unwrap(),
            hosts: [host.clone(), HostId::parse("host-2").unwrap()].into(),
            ports: [((host.clone(), 5433), DatabaseId::parse("other").unwrap())].into(),
            host,
            placed: NodeHosts::new(),
        }
    }

    pub(crate) fn with_catalogue(mut self, change: impl FnOnce(&mut Catalogue)) -> Self {
        change(&mut self.catalogue);
        self
    }

    fn context<'a>(&'a self, previous: Option<&'a AcceptedSpec>) -> Context<'a> {
        Context {
            catalogue: &self.catalogue,
            host: Some(&self.host),
            placed: &self.placed,
            known_hosts: Some(&self.hosts),
            drained_hosts: None,
            previous,
            ports_in_use: &self.ports,
            data_dir: "/var/lib/pgmoor",
            default_memory_bytes: pgmoor::contract::spec::DEFAULT_MEMORY_BYTES,
        }
    }

    pub(crate) fn remembered(&self, text: &str, image: &str) -> Option<AcceptedSpec> {
        let images = [("n1".to_owned(), image.to_owned())].into();
        let id = DatabaseId::parse("shop").unwrap();
        pgmoor::contract::spec::remembered(&id, text.as_bytes(), &images, &self.context(None))
    }

    pub(crate) fn accept_as(
        &self,
        id: &str,
        bytes: &[u8],
        previous: Option<&AcceptedSpec>,
    ) -> Result<AcceptedSpec, Vec<Fault>> {
        let context = self.context(previous);
        accept(&DatabaseId::parse(id).unwrap(), bytes, &context)
    }

    pub(crate) fn accept(&self, bytes: &[u8], previous: Option<&AcceptedSpec>) -> Result<AcceptedSpec, Vec<Fault>> {
        self.accept_as("shop", bytes, previous)
    }

    pub(crate) fn good(&self, text: &str, previous: Option<&AcceptedSpec>) -> AcceptedSpec {
        self.accept(text.as_bytes(), previous).unwrap_or_else(|faults| panic!("{text}\n{}", list(&faults)))
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

pub(crate) fn list(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("  {fault}\n")).collect()
}
