//! The outbox against a broker that loses connections, acknowledgements and messages, with seeds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::FleetId;
use crate::runtime::TokioClock;
use crate::store::{Commits, Options};

/// A broker and the link to it. What arrived is kept in order.
#[derive(Clone)]
struct Broker {
    state: Arc<Mutex<State>>,
    random: Random,
}

struct State {
    arrived: Vec<OutMessage>,
    /// Of a hundred sends, how many lose the connection.
    losses: u64,
    connection: u64,
    refused: &'static str,
}

impl Broker {
    fn new(seed: u64, losses: u64) -> Self {
        let state = State { arrived: Vec::new(), losses, connection: 0, refused: "refused" };
        Self { state: Arc::new(Mutex::new(state)), random: Random::seeded(seed) }
    }

    fn arrived(&self) -> Vec<(String, String)> {
        let state = self.state.lock().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        state.arrived.iter().map(|message| (message.topic.clone(), text(&message.payload))).collect()
    }

    fn percent(&self, percent: u64) -> bool {
        self.random.next_u64() % 100 < percent
    }
}

fn lost() -> PublishError {
    PublishError::Lost { why: "on purpose".to_owned() }
}

#[async_trait::async_trait]
impl Publisher for Broker {
    async fn ready(&self) -> u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.state.lock().unwrap().connection
    }

    async fn send(&self, connection: u64, message: &OutMessage) -> Result<Receipt, PublishError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let breaks = {
            let mut state = self.state.lock().unwrap();
            if state.connection != connection {
                return Err(lost());
            }
            if message.topic == state.refused {
                return Err(PublishError::Refused { topic: message.topic.clone(), why: "on purpose".to_owned() });
            }
            let breaks = self.percent(state.losses);
            if breaks && self.percent(30) {
                state.connection += 1;
                return Err(lost());
            }
            // The message may arrive although the acknowledgement does not.
            if !breaks || self.percent(50) {
                state.arrived.push(message.clone());
            }
            if breaks {
                state.connection += 1;
            }
            breaks
        };
        let (state, delay) = (Arc::clone(&self.state), self.random.next_u64() % 10);
        Ok(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let alive = state.lock().unwrap().connection == connection;
            if alive && !breaks { Ok(()) } else { Err(lost()) }
        }
        .boxed())
    }
}

fn store() -> Store {
    let fleet = FleetId::parse("edge").unwrap();
    Store::in_memory(&Options { commits: Commits::AtOnce, ..Options::new(fleet) }).unwrap()
}

fn outbox(store: &Store, broker: &Broker) -> Outbox<Broker> {
    Outbox::new(store.clone(), broker.clone(), Arc::new(TokioClock::starting_at(0)), Random::seeded(9))
}

async fn say(store: &Store, message: OutMessage) {
    store.write(move |w| w.enqueue(&message)).await.unwrap();
}

fn waiting(store: &Store) -> usize {
    store.read(|r| r.messages_after(None, usize::MAX)).unwrap().len()
}

/// Runs the outbox while `work` happens, until nothing waits.
async fn run_until_empty(store: &Store, broker: &Broker, work: impl Future<Output = ()>) {
    let stop = CancellationToken::new();
    let finish = async {
        work.await;
        while waiting(store) > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop.cancel();
    };
    let limit = Duration::from_secs(3600);
    let both = async { tokio::join!(outbox(store, broker).run(stop.clone()), finish) };
    let (ended, ()) = tokio::time::timeout(limit, both).await.expect("everything is delivered at last");
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_nothing_overtakes_on_a_bad_line() {
    for seed in 0..12 {
        let (store, broker) = (store(), Broker::new(seed, seed % 4 * 12));
        let said = async {
            for n in 0..120u32 {
                let retained = n % 3 == 0;
                let topic = if retained { format!("state/{}", n % 4) } else { "events".to_owned() };
                let message = OutMessage { retain: retained, ..OutMessage::event(topic, n.to_string(), 0) };
                say(&store, message).await;
                if n % 7 == 0 {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            }
        };
        run_until_empty(&store, &broker, said).await;

        let mut seen: Vec<u32> = Vec::new();
        let mut last = BTreeMap::new();
        for (topic, payload) in broker.arrived() {
            let n: u32 = payload.parse().unwrap();
            if !seen.contains(&n) {
                assert!(seen.last().is_none_or(|last| *last < n), "seed {seed}: {n} came after {seen:?}");
                seen.push(n);
            }
            last.insert(topic, n);
        }
        let events: Vec<u32> = seen.iter().copied().filter(|n| n % 3 != 0).collect();
        assert_eq!(events, (0..120).filter(|n| n % 3 != 0).collect::<Vec<_>>(), "seed {seed}: every event came");
        for n in [108, 111, 114, 117] {
            assert_eq!(last.get(&format!("state/{}", n % 4)), Some(&n), "seed {seed}: the newest state stands");
        }
        if seed % 4 == 0 {
            assert_eq!(broker.arrived().len(), seen.len(), "seed {seed}: on a good line nothing comes twice");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_says_everything_again_and_a_cleared_topic_is_forgotten() {
    let (store, broker) = (store(), Broker::new(1, 0));
    let said = async {
        say(&store, OutMessage::retained("a", "1", 0)).await;
        say(&store, OutMessage::retained("b", "1", 0)).await;
        say(&store, OutMessage::clear("a", 0)).await;
    };
    run_until_empty(&store, &broker, said).await;
    let next = Broker::new(1, 0);
    run_until_empty(&store, &next, std::future::ready(())).await;
    assert_eq!(next.arrived(), [("b".to_owned(), "1".to_owned())]);
    assert_eq!(broker.arrived().last(), Some(&("a".to_owned(), String::new())), "the broker forgot it, too");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_or_expired_does_not_hold_up_the_rest() {
    let (store, broker) = (store(), Broker::new(1, 0));
    let brief =
        |expiry| OutMessage { expiry_s: Some(expiry), ..OutMessage::event("brief", expiry.to_string(), -10_000) };
    for message in [OutMessage::event("refused", "x", 0), brief(5), brief(60), OutMessage::event("good", "x", 0)] {
        say(&store, message).await;
    }
    run_until_empty(&store, &broker, std::future::ready(())).await;
    assert_eq!(broker.arrived(), [("brief", "60"), ("good", "x")].map(|(t, p)| (t.to_owned(), p.to_owned())));
    assert_eq!(broker.state.lock().unwrap().arrived[0].expiry_s, Some(50), "what is left of it");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_lost_its_memory_gets_everything_retained_again() {
    let (store, broker) = (store(), Broker::new(1, 0));
    let work = async {
        say(&store, OutMessage::retained("status", "1", 0)).await;
        say(&store, OutMessage::event("event", "1", 0)).await;
        while waiting(&store) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // It comes back as another connection and knows nothing.
        let forgotten = {
            let mut state = broker.state.lock().unwrap();
            state.connection += 1;
            std::mem::take(&mut state.arrived).len()
        };
        assert_eq!(forgotten, 2);
        // The loss shows with the next message.
        say(&store, OutMessage::event("event", "2", 0)).await;
    };
    run_until_empty(&store, &broker, work).await;
    let expected = [("event", "2"), ("status", "1")];
    assert_eq!(broker.arrived(), expected.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())));
}

/// A broker that is never there.
struct Away;

#[async_trait::async_trait]
impl Publisher for Away {
    async fn ready(&self) -> u64 {
        std::future::pending().await
    }

    async fn send(&self, _connection: u64, _message: &OutMessage) -> Result<Receipt, PublishError> {
        Err(lost())
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_gets_the_last_words_out_but_does_not_wait_for_a_broker_that_is_away() {
    let (store, broker) = (store(), Broker::new(1, 0));
    let stop = CancellationToken::new();
    stop.cancel();
    say(&store, OutMessage::retained("availability", "offline", 0)).await;
    let clock: SharedClock = Arc::new(TokioClock::starting_at(0));
    Outbox::new(store.clone(), Away, clock.clone(), Random::seeded(1)).run(stop.clone()).await.unwrap();
    assert_eq!(clock.monotonic(), FLUSH_LIMIT);
    assert_eq!(waiting(&store), 1);
    outbox(&store, &broker).run(stop).await.unwrap();
    assert_eq!((waiting(&store), broker.arrived().len()), (0, 1));
}
