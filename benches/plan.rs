//! How long a plan of 10,000 and of 100,000 resources takes: ten per database, chained. Prints `name value unit`, one per
//! line, and at the end how much more one resource of the large plan costs than one of the small (`growth`).
//!
//! Each figure is the median of several rounds, so that a busy machine does not decide it.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures with the real clock")]
#![expect(clippy::print_stdout, reason = "the figures are its output")]
#![expect(clippy::cast_precision_loss, reason = "counts of resources are far below 2^52")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot set up its world has nothing to measure")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pgmoor::model::{
    Attributes, Dependency, Digest, Executor, Graph, HostId, Kind, Observation, Observed, Payload, Resource,
    ResourceId, Scope,
};
use pgmoor::plan::{Input, Plan, nothing_there, plan, simulate};

const RESOURCES_PER_DATABASE: usize = 10;
/// Databases of the two sizes.
const SIZES: [usize; 2] = [1_000, 10_000];
/// Odd, so that the median is a measurement.
const ROUNDS: usize = 9;

fn main() {
    let [small, large] = SIZES.map(size);
    for ((name, small), (_, large)) in small.iter().zip(&large) {
        let resources = SIZES.map(|databases| (databases * RESOURCES_PER_DATABASE) as f64);
        println!("plan_growth_{name} {:.2} ratio", (large / resources[1]) / (small / resources[0]));
    }
}

/// Plans for so many databases; gives what each took, in milliseconds.
fn size(databases: usize) -> Vec<(&'static str, f64)> {
    let count = databases * RESOURCES_PER_DATABASE;
    let mut took = Vec::new();
    let mut note = |name: &'static str, ms: f64| {
        println!("plan_{count}_{name} {ms:.3} ms");
        took.push((name, ms));
    };
    let host = HostId::parse("host-1").expect("a valid id");
    let (desired, ms) = measure(|| Graph::new(resources(databases, &host)).expect("a graph"));
    note("graph", ms);
    let nothing = nothing_there(&desired);
    let (create, ms) = measure(|| planned(&desired, &nothing));
    note("create", ms);
    assert_eq!(create.steps().count(), count, "everything is created");

    let settled = simulate::apply(&create, &desired, &nothing);
    let (no_op, ms) = measure(|| planned(&desired, &settled));
    note("no_op", ms);
    assert!(no_op.is_settled(), "nothing is left to do");

    let mut drifted = settled;
    let first = resources(databases, &host).swap_remove(0);
    if let Some(Observation::Present(present)) = drifted.resources.get_mut(&first.id) {
        present.attributes = file(&first.id.name, b"by hand");
    }
    let (change, ms) = measure(|| planned(&desired, &drifted));
    note("one_change", ms);
    assert_eq!(change.steps().count(), RESOURCES_PER_DATABASE, "the change cascades through its database");
    took
}

/// Runs it several times. Gives what came of it, and the median of what it took in milliseconds.
fn measure<T>(mut run: impl FnMut() -> T) -> (T, f64) {
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
    (result, median.as_secs_f64() * 1_000.0)
}

fn planned(desired: &Graph, observed: &Observed) -> Plan {
    let (outcomes, forced) = (BTreeMap::new(), BTreeSet::new());
    plan(&Input { scope: &Scope::Fleet, desired, observed, outcomes: &outcomes, forced: &forced })
}

fn resources(databases: usize, host: &HostId) -> Vec<Resource> {
    let one = |database: usize, index: usize| {
        let name = |index: usize| format!("database-{database:05}/file-{index:02}");
        let id = |index: usize| ResourceId::new(Kind::File, name(index));
        Resource {
            id: id(index),
            member: None,
            executor: Executor::Host(host.clone()),
            dependencies: index.checked_sub(1).map(|below| (id(below), Dependency::Content)).into_iter().collect(),
            attributes: file(&name(index), name(index).as_bytes()),
            may_differ: Vec::new(),
            payload: Payload::None,
        }
    };
    (0..databases).flat_map(|database| (0..RESOURCES_PER_DATABASE).map(move |index| one(database, index))).collect()
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
