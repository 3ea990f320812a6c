//! Lanes: several messages are worked on at once, those of one database one after another.
//!
//! Invariants: within a lane the order of arrival is kept; a message that takes long holds up its own lane and no
//! other; how many are worked on and how many wait is bounded, and beyond that nothing more is taken.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many messages are worked on at once: the commits of so many go to the disk together.
const RUNNING_MAX: usize = 256;
/// How many may wait behind others of their lane.
const WAITING_MAX: usize = 1024;

/// Takes what comes and does `work` for each, in order within each lane, until `stop` or until nobody can send any
/// more. What was not finished at a stop is dropped.
pub async fn run<T, F>(
    mut arriving: mpsc::Receiver<T>,
    lane_of: impl Fn(&T) -> String,
    work: impl Fn(T) -> F,
    stop: CancellationToken,
) where
    T: Send,
    F: Future<Output = ()> + Send,
{
    let mut lanes: BTreeMap<String, VecDeque<T>> = BTreeMap::new();
    let mut running: FuturesUnordered<BoxFuture<'_, String>> = FuturesUnordered::new();
    let (mut waiting, mut open) = (0_usize, true);
    let start = |lane: String, item: T| work(item).map(move |()| lane).boxed();
    while open || !running.is_empty() {
        let room = open && running.len() < RUNNING_MAX && waiting < WAITING_MAX;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(lane) = running.next() => match lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                Some(next) => {
                    waiting -= 1;
                    running.push(start(lane, next));
                }
                None => {
                    lanes.remove(&lane);
                }
            },
            item = arriving.recv(), if room => match item {
                None => open = false,
                Some(item) => {
                    let lane = lane_of(&item);
                    if let Some(queue) = lanes.get_mut(&lane) {
                        queue.push_back(item);
                        waiting += 1;
                    } else {
                        lanes.insert(lane.clone(), VecDeque::new());
                        running.push(start(lane, item));
                    }
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    /// Items are a lane and a number; what lane `slow` gets takes a minute each. Gives them in the order of their end.
    async fn ended(items: Vec<(&'static str, u32)>) -> Vec<(&'static str, u32)> {
        let (sender, receiver) = mpsc::channel(4096);
        for item in items {
            sender.send(item).await.unwrap();
        }
        drop(sender);
        let done = Arc::new(Mutex::new(Vec::new()));
        let work = |item: (&'static str, u32)| {
            let done = Arc::clone(&done);
            async move {
                if item.0 == "slow" {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                done.lock().unwrap().push(item);
            }
        };
        run(receiver, |item| item.0.to_owned(), work, CancellationToken::new()).await;
        let done = done.lock().unwrap();
        done.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_holds_up_its_own_lane_only() {
        let items = vec![("slow", 1), ("quick", 2), ("slow", 3), ("other", 4), ("quick", 5)];
        let expected = [("quick", 2), ("quick", 5), ("other", 4), ("slow", 1), ("slow", 3)];
        let mut ended = ended(items).await;
        assert_eq!(ended.split_off(3), expected[3..]);
        ended.sort_unstable();
        assert_eq!(ended, [("other", 4), ("quick", 2), ("quick", 5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_can_wait_come_too_and_in_order() {
        let count = u32::try_from(WAITING_MAX + RUNNING_MAX + 100).unwrap();
        let ended = ended((0..count).map(|n| ("quick", n)).collect()).await;
        assert_eq!(ended, (0..count).map(|n| ("quick", n)).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_it() {
        let (sender, receiver) = mpsc::channel(1);
        let stop = CancellationToken::new();
        sender.send("x").await.unwrap();
        let lanes = run(receiver, |item: &&str| (*item).to_owned(), |_| std::future::pending(), stop.clone());
        let stopped = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        tokio::join!(lanes, stopped);
    }
}
