//! What the store promises, tried on real files.

use std::path::{Path, PathBuf};

use super::*;
use crate::model::{DatabaseId, Digest, Kind, Record, ResourceId, Scope};
use crate::plan::{Action, Outcome};

fn fleet() -> FleetId {
    FleetId::parse("edge").unwrap()
}

fn database(id: &str) -> DatabaseId {
    DatabaseId::parse(id).unwrap()
}

fn scope(id: &str) -> Scope {
    Scope::Database(database(id))
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("state/pgmoor.redb")
    }

    fn open(&self) -> Store {
        Store::open(&self.file(), &Options::new(fleet())).unwrap()
    }

    fn open_with(&self, commits: Commits, fault: Option<Fault>) -> Store {
        Store::open(&self.file(), &Options { commits, fault, ..Options::new(fleet()) }).unwrap()
    }

    /// What a process killed now would leave behind: the bytes of the open file, in a place of their own.
    fn killed(&self) -> Self {
        let copy = Self::new();
        std::fs::create_dir(copy.directory.path().join("state")).unwrap();
        std::fs::copy(self.file(), copy.file()).unwrap();
        copy
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn outcome(name: &str, attempts: u32) -> OutcomeRow {
    OutcomeRow {
        resource: ResourceId::new(Kind::Network, name),
        outcome: Outcome { action: Action::Create, attempts, error: "no".to_owned() },
        failed_at_ms: 1,
        next_attempt_at_ms: 2,
        overdue: None,
    }
}

fn waiting(store: &Store) -> Vec<(String, String)> {
    let rows = store.read(|r| r.messages_after(None, usize::MAX)).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    rows.into_iter().map(|row| (row.message.topic, text(row.message.payload))).collect()
}

async fn say(store: &Store, message: OutMessage) {
    store.write(move |w| w.enqueue(&message)).await.unwrap();
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())).into()
}

#[tokio::test]
async fn what_was_answered_survives_a_kill_and_epochs_grow() {
    let place = Place::new();
    let store = place.open();
    assert_eq!(store.epoch(), 1);
    store.write(|w| w.put_record(&Record::new(database("shop")))).await.unwrap();
    let row = DesiredRow { last_seen: Some(Digest::of_bytes(b"x")), ..DesiredRow::default() };
    let put = row.clone();
    store.write(move |w| w.put_desired(&database("shop"), &put)).await.unwrap();

    let after = place.killed().open();
    assert_eq!(after.epoch(), 2);
    assert_eq!(after.read(|r| r.record(&database("shop"))).unwrap(), Some(Record::new(database("shop"))));
    assert_eq!(after.read(Rows::all_desired).unwrap(), [(database("shop"), row)].into());
    assert_eq!(after.read(|r| r.intent(&database("shop"))).unwrap(), IntentRow::default());
}

#[tokio::test]
async fn the_file_is_private_and_held_by_one() {
    let place = Place::new();
    let store = place.open();
    assert_eq!((mode(&place.file()), mode(place.file().parent().unwrap())), (0o600, 0o700));
    let second = std::thread::spawn({
        let file = place.file();
        move || Store::open(&file, &Options::new(fleet())).map(|_| ())
    });
    // Somebody who lets go within the time that an open waits.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(store);
    second.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_begun_anew() {
    let place = Place::new();
    let new = place.file().with_extension("redb.new");
    std::fs::create_dir(place.directory.path().join("state")).unwrap();
    std::fs::write(&new, [7; 9000]).unwrap();
    let store = place.open();
    assert_eq!((store.epoch(), mode(&place.file()), new.exists()), (1, 0o600, false));
    drop(store);
    // Beside a file that is there, nothing is begun.
    std::fs::write(&new, [7; 9000]).unwrap();
    assert_eq!((place.open().epoch(), new.exists()), (2, true));
}

#[test]
fn processes_that_start_at_once_make_one_file() {
    let place = Place::new();
    let start = || {
        let file = place.file();
        std::thread::spawn(move || Store::open(&file, &Options::new(fleet())).map(|store| store.epoch()))
    };
    let started: Vec<_> = (0..4).map(|_| start()).collect();
    let mut epochs: Vec<u64> = started.into_iter().map(|start| start.join().unwrap().unwrap()).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2, 3, 4]);
}

#[test]
fn a_newer_file_and_another_fleets_file_are_refused_unchanged() {
    let open = |fleet: &FleetId, migrations: &[open::Migration], path: &Path| {
        open::prepare(&open::file(path)?, fleet, migrations)
    };
    let place = Place::new();
    let steps: &[open::Migration] = &[|w| w.put(tables::Table::Desired, b"shop".to_vec(), &DesiredRow::default())];
    assert_eq!(open(&fleet(), &[], &place.file()).unwrap(), 1);
    assert_eq!(open(&fleet(), steps, &place.file()).unwrap(), 2);
    assert!(matches!(open(&fleet(), &[], &place.file()), Err(Error::TooNew { found: 2, known: 1 })));
    let other = FleetId::parse("other").unwrap();
    assert!(matches!(open(&other, steps, &place.file()), Err(Error::OtherFleet { .. })));
    // Refusals took no epoch, and the migration ran once.
    let failing: &[open::Migration] = &[|_| Err(Error::refused("ran again"))];
    assert_eq!(open(&fleet(), failing, &place.file()).unwrap(), 3);
}

#[tokio::test]
async fn one_bad_piece_of_work_leaves_its_neighbours_alone() {
    let place = Place::new();
    let store = place.open();
    say(&store, OutMessage::retained("t/old", "1", 0)).await;
    let (hold, held) = std::sync::mpsc::channel::<()>();
    // The first keeps the thread busy, so that the other three share one commit.
    let first = store.write(move |w| {
        held.recv_timeout(Duration::from_secs(10)).unwrap();
        w.set_outcome(&scope("a"), &outcome("n", 1))
    });
    let good = store.write(|w| w.set_outcome(&scope("b"), &outcome("n", 1)));
    let bad = store.write(|w| {
        w.set_outcome(&scope("b"), &outcome("n", 7))?;
        w.forget_database(&database("b"))?;
        w.enqueue(&OutMessage::clear("t/old", 0))?;
        w.enqueue(&OutMessage::event("t/bad", "x", 0))?;
        Err::<(), _>(Error::refused("on purpose"))
    });
    let panics = store.write(|w| {
        w.clear_outcomes(&scope("b"))?;
        if w.outcomes(&scope("b"))?.is_empty() {
            panic!("on purpose");
        }
        Ok(())
    });
    let late = store.write(|w| w.set_outcome(&scope("c"), &outcome("n", 1)));
    let release = async { hold.send(()).unwrap() };
    let (first, good, bad, panics, late, ()) = tokio::join!(first, good, bad, panics, late, release);
    assert!(first.is_ok() && good.is_ok() && late.is_ok());
    assert!(matches!(bad, Err(Error::Refused { .. })));
    assert!(matches!(panics, Err(Error::Panicked { message }) if message == "on purpose"));

    for (id, rows) in [("a", 1), ("b", 1), ("c", 1), ("d", 0)] {
        assert_eq!(store.read(|r| r.outcomes(&scope(id))).unwrap().len(), rows, "{id}");
    }
    let kept = store.read(|r| r.outcomes(&scope("b"))).unwrap();
    assert_eq!(kept.values().next().unwrap().outcome.attempts, 1);
    assert_eq!(waiting(&store), pairs([("t/old", "1")]));
    assert!(store.read(|r| r.last_said("t/old")).unwrap().is_some());
}

#[tokio::test]
async fn a_failed_commit_stops_the_store_and_the_next_open_knows_only_what_was_answered() {
    for commits in [Commits::InThread, Commits::AtOnce] {
        for (fault, survives) in [(Fault::Lost { commit: 2 }, 1), (Fault::Untold { commit: 2 }, 2)] {
            let place = Place::new();
            let store = place.open_with(commits, Some(fault));
            let write = |n: u32| store.write(move |w| w.set_outcome(&scope(&format!("db-{n}")), &outcome("n", n)));
            write(1).await.unwrap();
            let (failed, ()) = tokio::join!(write(2), store.until_broken());
            assert!(failed.is_err());
            assert!(matches!(write(3).await, Err(Error::Broken)));
            drop(store);
            let store = place.open();
            let there: Vec<bool> = [1, 2, 3]
                .iter()
                .map(|n| !store.read(|r| r.outcomes(&scope(&format!("db-{n}")))).unwrap().is_empty())
                .collect();
            assert_eq!(there.iter().filter(|there| **there).count(), survives, "{fault:?}");
            assert!(!there[2]);
        }
    }
}

#[tokio::test]
async fn many_writers_share_commits() {
    let place = Place::new();
    // With one commit for each, the hundredth would fail.
    let store = place.open_with(Commits::InThread, Some(Fault::Lost { commit: 100 }));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let store = store.clone();
        tasks.spawn(
            async move { store.write(move |w| w.set_outcome(&scope(&format!("d{n}")), &outcome("n", 1))).await },
        );
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
}

#[tokio::test]
async fn outcomes_belong_to_their_scope() {
    let store = Store::in_memory(&Options::new(fleet())).unwrap();
    store
        .write(|w| {
            for id in ["a", "a-b", "ab"] {
                w.set_outcome(&scope(id), &outcome("x", 1))?;
            }
            w.set_outcome(&Scope::Fleet, &outcome("x", 4))?;
            w.set_outcome(&scope("a"), &outcome("x", 2))?;
            w.set_outcome(&scope("a"), &outcome("y", 3))?;
            w.clear_outcome(&scope("a-b"), &outcome("x", 1).resource).map(|cleared| assert!(cleared))
        })
        .await
        .unwrap();
    let attempts = |scope: &Scope| -> Vec<u32> {
        store.read(|r| r.outcomes(scope)).unwrap().values().map(|row| row.outcome.attempts).collect()
    };
    assert_eq!(attempts(&scope("a")), [2, 3]);
    assert_eq!(attempts(&scope("a-b")), [0; 0]);
    assert_eq!(attempts(&scope("ab")), [1]);
    store.write(|w| w.forget_database(&database("a"))).await.unwrap();
    assert_eq!(attempts(&scope("a")), [0; 0]);
    assert_eq!(attempts(&Scope::Fleet), [4]);
}

#[tokio::test]
async fn a_newer_retained_message_takes_the_place_of_the_waiting_one() {
    let store = Store::in_memory(&Options::new(fleet())).unwrap();
    say(&store, OutMessage::retained("s", "1", 0)).await;
    say(&store, OutMessage::event("e", "between", 0)).await;
    say(&store, OutMessage::event("e", "again", 0)).await;
    say(&store, OutMessage::retained("s", "2", 0)).await;
    assert_eq!(waiting(&store), pairs([("e", "between"), ("e", "again"), ("s", "2")]));

    // The first was on its way meanwhile: its acknowledgement is not one for the second.
    store.write(|w| w.message_done(1)).await.unwrap();
    assert_eq!(waiting(&store).len(), 3);
    store.write(|w| w.message_done(4)).await.unwrap();
    assert_eq!(waiting(&store), pairs([("e", "between"), ("e", "again")]));
    say(&store, OutMessage::retained("s", "3", 0)).await;
    assert_eq!(waiting(&store).last(), pairs([("s", "3")]).last());
}

#[tokio::test]
async fn what_was_said_is_said_again_and_what_was_cleared_is_forgotten() {
    let store = Store::in_memory(&Options::new(fleet())).unwrap();
    let mut brief = OutMessage::retained("b", "1", 1000);
    brief.expiry_s = Some(10);
    for message in [
        OutMessage::retained("db/a/status", "1", 0),
        OutMessage::retained("db/a/health", "1", 0),
        OutMessage::retained("db/ab/status", "1", 0),
        OutMessage::event("e", "1", 0),
        brief,
    ] {
        say(&store, message).await;
    }
    for seq in 1..=5 {
        store.write(move |w| w.message_done(seq)).await.unwrap();
    }
    assert_eq!(waiting(&store), []);
    assert_eq!(store.write(|w| w.clear_topics("db/a/", &[], 0)).await.unwrap(), 2);
    say(&store, OutMessage::retained("db/ab/status", "2", 0)).await;
    let said = store.write(|w| w.say_all_again(10_999)).await.unwrap();
    assert_eq!(said, 1, "one waits already, one is left");
    let now = waiting(&store);
    assert_eq!(now, pairs([("db/a/health", ""), ("db/a/status", ""), ("db/ab/status", "2"), ("b", "1")]));
    assert_eq!(store.write(|w| w.say_all_again(11_000)).await.unwrap(), 0);
    assert_eq!(store.read(|r| r.topics_said("")).unwrap(), ["db/ab/status"], "expired and cleared ones are forgotten");
}

#[tokio::test]
async fn the_same_again_is_not_said() {
    let store = Store::in_memory(&Options::new(fleet())).unwrap();
    let say = |message: OutMessage| store.write(move |w| w.enqueue_if_changed(&message));
    let mut changes = store.outbox_changes();
    assert!(!say(OutMessage::clear("t", 0)).await.unwrap(), "nothing to clear");
    assert!(!changes.has_changed().unwrap());
    assert!(say(OutMessage::retained("t", "1", 0)).await.unwrap());
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(!say(OutMessage::retained("t", "1", 9)).await.unwrap());
    assert!(!changes.has_changed().unwrap());
    assert!(say(OutMessage::clear("t", 9)).await.unwrap());
    assert!(say(OutMessage::event("e", "1", 9)).await.unwrap());
    assert!(say(OutMessage::event("e", "1", 9)).await.unwrap());
}

#[tokio::test]
async fn a_command_counts_once_in_24_hours() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let store = Store::in_memory(&Options::new(fleet())).unwrap();
    let new = |id: &'static str, at| store.write(move |w| w.command_is_new(id, at));
    for (id, at, expected) in [
        ("a", 0, true),
        ("b", 5, true),
        ("a", DAY_MS, false),
        ("a", DAY_MS + 1, true),
        ("b", DAY_MS + 1, false),
        ("b", DAY_MS + 6, true),
        ("a", DAY_MS + 6, false),
    ] {
        assert_eq!(new(id, at).await.unwrap(), expected, "{id} at {at}");
    }
}

mod order {
    //! The outbox against the simplest thing that could be right: a list.

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Act {
        Say { topic: u8, retain: bool, payload: Option<u8> },
        Done { position: usize },
        Again,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0u8..4, any::<bool>(), proptest::option::weighted(0.8, any::<u8>()))
                .prop_map(|(topic, retain, payload)| Act::Say { topic, retain, payload }),
            3 => (0usize..6).prop_map(|position| Act::Done { position }),
            1 => Just(Act::Again),
        ]
    }

    #[derive(Default)]
    struct List {
        waiting: Vec<OutMessage>,
        said: std::collections::BTreeMap<String, OutMessage>,
    }

    impl List {
        fn say(&mut self, message: OutMessage) {
            if message.retain {
                self.waiting.retain(|other| !other.retain || other.topic != message.topic);
                self.said.remove(&message.topic);
                if !message.payload.is_empty() {
                    self.said.insert(message.topic.clone(), message.clone());
                }
            }
            self.waiting.push(message);
        }

        fn again(&mut self) {
            for message in self.said.clone().into_values() {
                if !self.waiting.iter().any(|other| other.retain && other.topic == message.topic) {
                    self.waiting.push(message);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_outbox_is_a_list(acts in proptest::collection::vec(act(), 1..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let options = Options { commits: Commits::AtOnce, ..Options::new(fleet()) };
            let store = Store::in_memory(&options).unwrap();
            let mut list = List::default();
            for act in acts {
                match act {
                    Act::Say { topic, retain, payload } => {
                        let payload = payload.map_or_else(String::new, |byte| byte.to_string());
                        let topic = format!("t{topic}");
                        let message = OutMessage { retain, ..OutMessage::event(topic, payload, 0) };
                        list.say(message.clone());
                        runtime.block_on(say(&store, message));
                    }
                    Act::Done { position } => {
                        let rows = store.read(|r| r.messages_after(None, usize::MAX)).unwrap();
                        if let Some(row) = rows.get(position) {
                            let seq = row.seq;
                            runtime.block_on(store.write(move |w| w.message_done(seq))).unwrap();
                            list.waiting.remove(position);
                        }
                    }
                    Act::Again => {
                        runtime.block_on(store.write(|w| w.say_all_again(0))).unwrap();
                        list.again();
                    }
                }
                let rows = store.read(|r| r.messages_after(None, usize::MAX)).unwrap();
                let messages: Vec<OutMessage> = rows.into_iter().map(|row| row.message).collect();
                prop_assert_eq!(messages, list.waiting.clone());
                let said = store.read(|r| r.topics_said("")).unwrap();
                prop_assert_eq!(said, list.said.keys().cloned().collect::<Vec<_>>());
            }
        }
    }
}
