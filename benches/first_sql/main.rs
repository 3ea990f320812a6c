//! From one message to the first read-write SQL, against the same image started by hand; and from the death of a container
//! to the message that tells of it. Prints `name value unit`.
//!
//! Both sides run on one machine, in one run, taking turns at going first, and are measured alike: the clock starts
//! with the publish, or with the start of `docker service create`, and stops when `CREATE TABLE` and `INSERT` have
//! worked over TCP through the published port, as a role with a password that owns a database of its own. It is tried
//! every 20 ms. The fleet's etcd runs before (a first database, which is not counted, sees to that and warms the disk's
//! cache); every round makes a new database, and removes it while the clock stands.
//!
//! What is fair, and what is not:
//! - By hand nearly everything is ready before the clock starts: directories, certificates, `patroni.yml`, the dynamic
//!   configuration and the user in etcd, the overlay network, every argument of `docker service create`. pgmoor does
//!   all of this within its time, and stores and tells each step besides. That is the price that the ratio shows.
//! - The texts are the same on both sides, for both come from `pgmoor::domain`: same image, parameters, limits, mounts,
//!   networks, health check. Neither asks a registry.
//! - By hand the role and the database are made too, by a superuser with a certificate who is tried every 20 ms: somebody
//!   who waits for an instance writes such a loop. `by_hand_superuser_sql` is that moment, before role and database.
//! - The daemon is the whole program, with its own broker and store, compiled as this bench is. While the other side
//!   runs it has nothing to do, as that side carries the marks of another fleet.
//!
//! `kill_to_health` is the median from the start of `docker kill` to the first message on the database's health topic that
//! does not say healthy.
//!
//! `BENCH_ROUNDS` sets the rounds of both (default 5), `PGMOOR_CATALOGUE` the catalogue, `BENCH_LOG` a file that keeps the
//! daemon's log. Everything that was made is removed at the end, after a failure and after Ctrl-C too.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures with the real clock, and has no configuration file"
)]
#![expect(clippy::print_stdout, reason = "the figures are its output")]
#![expect(clippy::print_stderr, reason = "so that a person sees it move")]

mod by_hand;
mod by_message;
mod killed;
mod site;
mod sql;

use std::time::Duration;

use anyhow::{Context as _, bail};
use by_hand::ByHand;
use site::{Database, Site};

/// Odd, so that the median is a measurement.
const ROUNDS: usize = 5;

/// What was measured.
struct Measured {
    rounds: Vec<Round>,
    /// From each kill to its message.
    kills: Vec<Duration>,
}

/// The times of one round.
struct Round {
    message: Duration,
    by_hand: by_hand::Times,
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` hands its own arguments to every bench; there is nothing to choose here.
    let rounds = match std::env::var("BENCH_ROUNDS") {
        Ok(text) => text.parse().context("BENCH_ROUNDS is a number")?,
        Err(_) => ROUNDS,
    };
    if rounds == 0 {
        bail!("BENCH_ROUNDS is at least 1");
    }
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let Measured { rounds, kills } = runtime.block_on(measured(rounds))?;
    let message = median(rounds.iter().map(|round| round.message));
    let by_hand = median(rounds.iter().map(|round| round.by_hand.role));
    print("message_to_sql", message);
    print("by_hand_to_sql", by_hand);
    print("by_hand_superuser_sql", median(rounds.iter().map(|round| round.by_hand.superuser)));
    println!("message_to_sql_ratio {:.2} ratio", message.as_secs_f64() / by_hand.as_secs_f64());
    print("kill_to_health", median(kills.into_iter()));
    Ok(())
}

fn print(name: &str, time: Duration) {
    println!("{name} {:.0} ms", time.as_secs_f64() * 1_000.0);
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// All rounds, and whatever happens the end of what they made.
async fn measured(rounds: usize) -> anyhow::Result<Measured> {
    let mut site = Site::prepare()?;
    let result = tokio::select! {
        result = run(&mut site, rounds) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if result.is_err() {
        eprintln!("{}", site.log_end());
    }
    let ended = site.end().await;
    let measured = result?;
    ended?;
    Ok(measured)
}

async fn run(site: &mut Site, rounds: usize) -> anyhow::Result<Measured> {
    let session = site.start().await?;
    eprintln!("first_sql: a first database, not counted");
    by_message::round(site, &session, &Database::new("warm", 0)?).await?;
    let by_hand = ByHand::prepare(site).await?;
    let mut done = Vec::new();
    for number in 1..=rounds {
        let (first, second) = (Database::new("message", number)?, Database::new("hand", number)?);
        let message_first = number % 2 == 1;
        let before = if message_first { None } else { Some(by_hand.round(site, &second).await?) };
        let message = by_message::round(site, &session, &first).await?;
        let hand = match before {
            Some(times) => times,
            None => by_hand.round(site, &second).await?,
        };
        eprintln!(
            "first_sql: round {number} of {rounds}: message {} ms, by hand {} ms",
            message.as_millis(),
            hand.role.as_millis(),
        );
        done.push(Round { message, by_hand: hand });
    }
    let kills = killed::rounds(site, &session, &Database::new("killed", 0)?, rounds).await?;
    session.close().await;
    Ok(Measured { rounds: done, kills })
}
