//! What the tests of this room share: facts, records and specs, from the smallest to one that uses everything.

use std::collections::{BTreeMap, BTreeSet};

use super::database::{Accepted, Choose, PASSWORD_BYTES, mint};
use super::{HostFacts, Hosts, Owner, catalogue, fleet};
pub(super) use crate::model::fixture::minimal;
use crate::model::record::StoredSpec;
use crate::model::role::RoleFlags;
use crate::model::spec::{ExtensionSpec, ExtraNetwork, ExtraVolume, PortRequest, Scripts, SwarmOptions, UserSpec};
use crate::model::{
    AcceptedSpec, Attributes, Catalogue, FleetId, FleetRecord, Graph, HostId, Kind, Payload, Record, ResourceId, Secret,
};

/// Choices that are the same in every run: bytes that count, ports from 6000.
#[derive(Debug, Default)]
pub(super) struct Counting {
    pub(super) bytes: u8,
    pub(super) ports: u16,
}

impl Choose for Counting {
    fn entropy(&mut self) -> [u8; PASSWORD_BYTES] {
        self.bytes += 1;
        [self.bytes; PASSWORD_BYTES]
    }

    fn port(&mut self, _host: &HostId) -> Option<u16> {
        self.ports += 1;
        (self.ports < 10).then_some(6000 + self.ports)
    }
}

pub(super) fn host() -> HostId {
    HostId::parse("host-1").unwrap()
}

pub(super) fn facts() -> HostFacts {
    HostFacts {
        host: host(),
        hostname: "edge.example".to_owned(),
        swarm_node: "node1".to_owned(),
        data_dir: "/var/lib/pgmoor".to_owned(),
        advertise_address: "192.0.2.1".parse().unwrap(),
        cpus: 4,
        memory_bytes: 8 << 30,
        labels: [].into(),
        postgres_owner: Owner::IMAGE,
        etcd_owner: Owner::IMAGE,
    }
}

/// A fleet of one host.
pub(super) fn hosts() -> Hosts {
    Hosts::from(facts())
}

pub(super) fn the_catalogue() -> Catalogue {
    catalogue::embedded().unwrap()
}

/// A real authority, so that its certificate can be read.
pub(super) fn fleet_record() -> FleetRecord {
    let pem = include_str!("fixture.pem").to_owned();
    let fleet = FleetId::parse("edge").unwrap();
    fleet::mint(&fleet, (&host(), facts().advertise_address), pem, Secret::new("key"), &[7; fleet::ENTROPY_BYTES])
}

pub(super) fn user(name: &str, db_owner: bool) -> UserSpec {
    UserSpec {
        username: name.to_owned(),
        password: None,
        db_owner,
        flags: RoleFlags { login: true, ..RoleFlags::default() },
        roles: BTreeSet::new(),
    }
}

/// A spec that uses everything this build acts on.
pub(super) fn full() -> AcceptedSpec {
    let mut spec = minimal();
    let node = &mut spec.nodes[0];
    node.port = PortRequest::Chosen;
    node.cpu_millis = Some(1500);
    node.memory_bytes = 2 << 30;
    node.postgresql_conf =
        [("Work_Mem", "8MB"), ("max_connections", "80"), ("shared_preload_libraries", "auto_explain")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    node.pg_hba = vec!["hostnossl all all all reject".to_owned()];
    node.pg_ident = vec!["people alice app".to_owned()];
    node.swarm = SwarmOptions {
        extra_volumes: vec![ExtraVolume { host_path: "/srv/dumps".to_owned(), destination_path: "/dumps".to_owned() }],
        extra_networks: vec![ExtraNetwork {
            id: "backend".to_owned(),
            aliases: vec!["db".to_owned()],
            driver_opts: BTreeMap::new(),
        }],
        extra_labels: [("team", "blue"), ("pgmoor.fleet", "stolen")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    spec.users = vec![user("app", true), user("reader", false)];
    spec.users[1].roles = ["app", "pg_monitor"].map(str::to_owned).into();
    spec.users[1].password = Some(Secret::new("given"));
    let extension = |preload: Option<&str>| ExtensionSpec { preload: preload.map(str::to_owned), ..Default::default() };
    spec.extensions = [
        ("earthdistance", extension(None)),
        ("cube", ExtensionSpec { version: Some("1.5".to_owned()), schema: Some("public".to_owned()), preload: None }),
        ("pglogical", extension(Some("pglogical"))),
    ]
    .map(|(name, wanted)| (name.to_owned(), wanted))
    .into();
    spec.scripts = Scripts {
        post_init: vec!["SELECT 1".to_owned()],
        post_database_create: vec!["CREATE TABLE t (a int)".to_owned()],
    };
    spec
}

pub(super) fn stored(spec: &AcceptedSpec) -> StoredSpec {
    StoredSpec { document: Secret::new("{}"), digest: spec.digest.clone(), generation: None, accepted_at_s: 1_000 }
}

/// The first record of a spec.
pub(super) fn minted(spec: &AcceptedSpec) -> Record {
    let accepted = Accepted { spec, stored: &stored(spec), previous: None, placement: &[].into() };
    mint(accepted, Record::new(spec.id.clone()), &mut Counting::default()).unwrap()
}

pub(super) fn graph(spec: &AcceptedSpec) -> Graph {
    let options = super::FleetOptions::default();
    super::database::graph(spec, &minted(spec), &fleet_record(), &hosts(), &the_catalogue(), &options).unwrap()
}

/// What a file of the graph holds.
pub(super) fn content(graph: &Graph, name: &str) -> String {
    let Payload::Content(text) = &graph.get(&ResourceId::new(Kind::File, name)).unwrap().payload else {
        panic!("{name} carries no content")
    };
    text.expose().to_owned()
}

/// The only resource of a kind.
pub(super) fn only(graph: &Graph, kind: Kind) -> Attributes {
    let mut found = graph.in_order().filter(|resource| resource.id.kind == kind);
    let resource = found.next().unwrap();
    assert!(found.next().is_none(), "more than one {}", kind.as_str());
    resource.attributes.clone()
}
