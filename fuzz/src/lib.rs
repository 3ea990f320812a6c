//! What the targets share: a world to judge specs against, and what must hold of every answer.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use pgmoor::contract::spec::DEFAULT_MEMORY_BYTES;
use pgmoor::contract::{Context, Fault, accept};
use pgmoor::model::{AcceptedSpec, Catalogue, DatabaseId, HostId, HostPorts, NodeHosts};

/// The shipped catalogue, one host, one port that another database has.
struct World {
    catalogue: Catalogue,
    id: DatabaseId,
    host: HostId,
    hosts: BTreeSet<HostId>,
    ports: HostPorts,
    placed: NodeHosts,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let host = HostId::parse("host-1").expect("a host id");
        World {
            catalogue: serde_json::from_str(include_str!("../../deploy/catalogue.json")).expect("the shipped catalogue"),
            id: DatabaseId::parse("shop").expect("a database id"),
            hosts: BTreeSet::from([host.clone()]),
            ports: HostPorts::from([((host.clone(), 5433), DatabaseId::parse("other").expect("a database id"))]),
            placed: NodeHosts::new(),
            host,
        }
    })
}

/// Judges a spec, twice: once as the first of its database, once as an update of what was accepted.
///
/// # Panics
/// Whenever an answer breaks what the contract promises; that is what the fuzzer looks for.
pub fn judge(bytes: &[u8]) -> Option<AcceptedSpec> {
    let world = world();
    let context = |previous| Context {
        catalogue: &world.catalogue,
        host: Some(&world.host),
        placed: &world.placed,
        known_hosts: Some(&world.hosts),
        drained_hosts: None,
        previous,
        ports_in_use: &world.ports,
        data_dir: "/var/lib/pgmoor",
        default_memory_bytes: DEFAULT_MEMORY_BYTES,
    };
    match accept(&world.id, bytes, &context(None)) {
        Ok(spec) => {
            let document = serde_json::from_slice::<serde_json::Value>(bytes);
            assert!(document.is_ok_and(|value| value.is_object()), "only JSON objects are specs");
            let again = accept(&world.id, bytes, &context(Some(&spec)));
            assert!(again.as_ref().is_ok_and(|again| *again == spec), "the same spec again is the same spec: {again:?}");
            Some(spec)
        }
        Err(faults) => {
            refused(bytes, &faults);
            None
        }
    }
}

/// Every refusal says why, where and in words; where it points into the document, the place or its parent is there.
fn refused(bytes: &[u8], faults: &[Fault]) {
    assert!(!faults.is_empty(), "a refusal without a reason");
    let document = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    for fault in faults {
        assert!(!fault.message.is_empty(), "a fault without words: {fault:?}");
        assert!(fault.pointer.is_empty() || fault.pointer.starts_with('/'), "no JSON pointer: {fault:?}");
        if let (Some(document), Some((parent, _))) = (&document, fault.pointer.rsplit_once('/')) {
            assert!(document.pointer(parent).is_some(), "a fault that points nowhere: {fault:?}");
        }
    }
}
