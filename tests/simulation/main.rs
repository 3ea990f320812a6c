//! The simulation: the real services of the daemon on a simulated broker, Swarm, host, Patroni, Postgres, clock and
//! disk, under paused time and one seed.
//!
//! `SIM_SEEDS` says how many seeds are run (500), `SIM_FIRST` where they begin (0), `SIM_SEED` runs one and prints its
//! trace and its log. The same seed gives the same trace.

#![cfg(test)]

mod acks;
mod broker;
mod clock;
mod commits;
mod dice;
mod disk;
mod faults;
mod fleet;
mod guarded;
mod invariants;
mod leads;
mod line;
mod link;
mod planted;
mod role;
mod showing;
mod site;
mod story;
mod trace;
mod user;
mod weather;
mod words;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use planted::Plant;
use story::{Lean, Outcome};

/// A number from the environment.
#[expect(clippy::disallowed_methods, reason = "what to simulate is said on the command line of the test")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Seeds of a run when nobody says how many.
const SEEDS: u64 = 500;
/// Seeds that a search gives at most, where one would do and where all count.
const FIRST: usize = 1;
const SOME: usize = 3;

/// Runs seeds on all processors until `enough` were found that `wanted` takes an interest in; gives them in order.
fn search(
    seeds: std::ops::Range<u64>,
    (plant, lean): (Plant, Lean),
    enough: usize,
    wanted: impl Fn(u64, &Outcome) -> bool + Sync,
) -> Vec<(u64, Outcome)> {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    let found_so_far = found.lock().unwrap_or_else(PoisonError::into_inner).len();
                    if seed >= seeds.end || found_so_far >= enough {
                        return;
                    }
                    let outcome = story::run(seed, plant, lean);
                    if wanted(seed, &outcome) {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push((seed, outcome));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(seed, _)| *seed);
    found
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = number("SIM_SEED") {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false).without_time();
        log.init();
        let outcome = story::run(seed, Plant::None, Lean::Nothing);
        println!("{}", outcome.trace.join("\n"));
        assert!(outcome.breaches.is_empty(), "seed {seed}: {:#?}", outcome.breaches);
        return;
    }
    let first = number("SIM_FIRST").unwrap_or(0);
    let seeds = first..first + number("SIM_SEEDS").unwrap_or(SEEDS);
    let failed = search(seeds, (Plant::None, Lean::Nothing), SOME, |_, outcome| !outcome.breaches.is_empty());
    for (seed, outcome) in &failed {
        println!(
            "{}\n== seed {seed}: {:#?}\n== again: SIM_SEED={seed} cargo nextest run --test simulation every_seed\n",
            outcome.trace.join("\n"),
            outcome.breaches
        );
    }
    assert!(failed.is_empty(), "seeds {:?} fail", failed.iter().map(|(seed, _)| seed).collect::<Vec<_>>());
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..6 {
        let (first, second) =
            (story::run(seed, Plant::None, Lean::Nothing), story::run(seed, Plant::None, Lean::Nothing));
        let differs = first.trace.iter().zip(&second.trace).position(|(one, other)| one != other);
        let around = differs.map(|at| (first.trace.get(at), second.trace.get(at)));
        assert_eq!(differs, None, "seed {seed}: {around:?}");
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
    }
}
