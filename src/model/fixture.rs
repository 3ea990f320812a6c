//! The spec that the tests of several rooms begin with.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::ids::{DatabaseId, HostId, NodeName};
use super::resource::SynchronousMode;
use super::spec::{AcceptedSpec, Approval, NodeSpec, NodeUpdates, PortRequest, Reconcile, Scripts, SwarmOptions};

/// The smallest spec.
pub(crate) fn minimal() -> AcceptedSpec {
    AcceptedSpec {
        id: DatabaseId::parse("shop").unwrap(),
        digest: Digest::of_bytes(b"shop"),
        generation: None,
        client_token: None,
        deleted: false,
        deletion_protection: false,
        approval: Approval::Auto,
        reconcile: Reconcile::Repair,
        database_name: "shop".to_owned(),
        template: None,
        nodes: vec![NodeSpec {
            name: NodeName::parse("n1").unwrap(),
            hosts: vec![HostId::parse("host-1").unwrap()],
            placement: None,
            postgres_version: "17.11".to_owned(),
            image: "pgmoor/postgres:17.11".to_owned(),
            port: PortRequest::Unpublished,
            cpu_millis: None,
            memory_bytes: 512 << 20,
            synchronous: SynchronousMode::Off,
            postgresql_conf: BTreeMap::new(),
            pg_hba: Vec::new(),
            pg_ident: Vec::new(),
            swarm: SwarmOptions::default(),
        }],
        node_updates: NodeUpdates::OneByOne,
        users: Vec::new(),
        extensions: BTreeMap::new(),
        scripts: Scripts::default(),
        holds_secret: false,
    }
}
