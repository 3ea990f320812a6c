//! How long a plan of 10,000 resources takes: ten per database, chained. Prints `name value unit`, one per line.
//!
//! Each figure is the median of several rounds, so that a busy machine does not decide it.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures with the real clock")]
#![expect(clippy::print_stdout, reason = "the figures are its output")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot set up its world has nothing to measure")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pgmoor::model::{
    Attributes, Dependency, Digest, Executor, Graph, HostId, Kind, Observation, Observed, Payload, Resource,
    ResourceId, Scope,
};
use pgmoor::plan::{Input, Plan, nothing_there, plan, simulate};

const DATABASES: usize = 1_000;
const RESOURCES_PER_DATABASE: usize = 10;
/// Odd, so that the median is a measurement.
const ROUNDS: usize = 9;

fn main() {
    let host = HostId::parse("host-1").expect("a valid id");
    let desired = measure("plan_10000_graph", || Graph::new(resources(&host)).expect("a graph"));
    let nothing = nothing_there(&desired);
    let create = measure("plan_10000_create", || planned(&desired, &nothing));
    assert_eq!(create.steps().count(), DATABASES * RESOURCES_PER_DATABASE, "everything is created");

    let settled = simulate::apply(&create, &desired, &nothing);
    let no_op = measure("plan_10000_no_op", || planned(&desired, &settled));
    assert!(no_op.is_settled(), "nothing is left to do");

    let mut drifted = settled;
    let first = resources(&host).swap_remove(0);
    if let Some(Observation::Present(present)) = drifted.resources.get_mut(&first.id) {
        present.attributes = file(&first.id.name, b"by hand");
    }
    let change = measure("plan_10000_one_change", || planned(&desired, &drifted));
    assert_eq!(change.steps().count(), RESOURCES_PER_DATABASE, "the change cascades through its database");
}

fn measure<T>(name: &str, mut run: impl FnMut() -> T) -> T {
    let mut timed = || {
        let start = Instant::now();
        let result = run();
        (start.elapsed(), result)
    };
    let mut times: Vec<_> = (1..ROUNDS).map(|_| timed().0).collect();
    let (last, result) = timed();
    times.push(last);
    times.sort_unstable();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("{name} {:.3} ms", median.as_secs_f64() * 1_000.0);
    result
}

fn planned(desired: &Graph, observed: &Observed) -> Plan {
    let (outcomes, forced) = (BTreeMap::new(), BTreeSet::new());
    plan(&Input { scope: &Scope::Fleet, desired, observed, outcomes: &outcomes, forced: &forced })
}

fn resources(host: &HostId) -> Vec<Resource> {
    let one = |database: usize, index: usize| {
        let name = |index: usize| format!("database-{database:04}/file-{index:02}");
        let id = |index: usize| ResourceId::new(Kind::File, name(index));
        Resource {
            id: id(index),
            executor: Executor::Host(host.clone()),
            dependencies: index.checked_sub(1).map(|below| (id(below), Dependency::Content)).into_iter().collect(),
            attributes: file(&name(index), name(index).as_bytes()),
            may_differ: Vec::new(),
            payload: Payload::None,
        }
    };
    (0..DATABASES).flat_map(|database| (0..RESOURCES_PER_DATABASE).map(move |index| one(database, index))).collect()
}

fn file(name: &str, content: &[u8]) -> Attributes {
    Attributes::File {
        path: format!("/var/lib/pgmoor/{name}"),
        mode: 0o600,
        uid: 999,
        gid: 999,
        content: Digest::of_bytes(content),
    }
}
