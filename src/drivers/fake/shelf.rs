//! A shelf of things by their ids, for a world of ten thousand databases: what they are asked for by is indexed, and who
//! has nothing to do is left alone.
//!
//! Invariants: what a thing is found by does not change while it stands here ([`Shelf::replace`] puts it in anew); a
//! thing that was handed out to be changed is looked at in the next step; everything is given in the order of the ids.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::drivers::swarm::{ConfigSeen, Labels, NetworkSeen};

/// Labels by which objects are asked for, the narrowest first.
const INDEXED: [&str; 2] = ["com.docker.swarm.service.name", "pgmoor.scope"];

/// What a thing is found by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Name(String),
    Label(&'static str, String),
    /// A port that is published on a Swarm node.
    Port(String, u16),
    Address(IpAddr),
    /// The source of a mount, on its host.
    Mount(String),
    /// The service that a container belongs to.
    Service(String),
}

/// When a thing has something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// In each step: it waits for something else.
    Always,
    /// In the first step from then on, if it is not touched before.
    From(i64),
    /// When it is touched.
    Never,
}

/// Something on a shelf.
pub(super) trait Kept {
    /// What it is found by.
    fn found_by(&self) -> Vec<Key>;

    /// When it moves on by itself: the world makes a step just then.
    fn due(&self) -> Option<i64> {
        None
    }

    /// When it has something to do that the world makes no step of its own for.
    fn work(&self, _round_ms: i64) -> Work {
        Work::Never
    }
}

/// The keys of these labels.
pub(super) fn of_labels(labels: &Labels) -> impl Iterator<Item = Key> {
    INDEXED.into_iter().filter_map(|label| Some(Key::Label(label, labels.get(label)?.clone())))
}

impl Kept for NetworkSeen {
    fn found_by(&self) -> Vec<Key> {
        std::iter::once(Key::Name(self.name.clone())).chain(of_labels(&self.labels)).collect()
    }
}

impl Kept for ConfigSeen {
    fn found_by(&self) -> Vec<Key> {
        std::iter::once(Key::Name(self.name.clone())).chain(of_labels(&self.labels)).collect()
    }
}

/// The shelf.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    /// Boxed: the leaves of the tree are half empty.
    things: BTreeMap<String, Box<T>>,
    /// Keys with the ids of what is found by them.
    index: BTreeSet<(Key, String)>,
    /// The milliseconds of a Patroni round, for [`Kept::work`].
    round_ms: i64,
    /// Handed out to be changed: when they have something to do is not known.
    unknown: BTreeSet<String>,
    /// Touched since their last step.
    touched: BTreeSet<String>,
    always: BTreeSet<String>,
    plans: BTreeMap<String, (Option<i64>, Work)>,
    due: BTreeSet<(i64, String)>,
    from: BTreeSet<(i64, String)>,
}

impl<T: Kept> Shelf<T> {
    pub(super) fn new(round_ms: i64) -> Self {
        Self {
            things: BTreeMap::new(),
            index: BTreeSet::new(),
            round_ms,
            unknown: BTreeSet::new(),
            touched: BTreeSet::new(),
            always: BTreeSet::new(),
            plans: BTreeMap::new(),
            due: BTreeSet::new(),
            from: BTreeSet::new(),
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.things.get(id).map(Box::as_ref)
    }

    pub(super) fn contains_key(&self, id: &str) -> bool {
        self.things.contains_key(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.things.values().map(Box::as_ref)
    }

    /// To be changed, except for what it is found by.
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        let thing = self.things.get_mut(id)?;
        self.unknown.insert(id.to_owned());
        self.touched.insert(id.to_owned());
        Some(thing)
    }

    pub(super) fn insert(&mut self, id: String, thing: T) {
        self.remove(&id);
        for key in thing.found_by() {
            self.index.insert((key, id.clone()));
        }
        self.unknown.insert(id.clone());
        self.touched.insert(id.clone());
        self.things.insert(id, Box::new(thing));
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<T> {
        let thing = self.things.remove(id)?;
        for key in thing.found_by() {
            self.index.remove(&(key, id.to_owned()));
        }
        self.unplan(id);
        self.unknown.remove(id);
        self.touched.remove(id);
        Some(*thing)
    }

    /// Changes a thing in whatever way.
    pub(super) fn replace(&mut self, id: &str, change: impl FnOnce(&mut T)) {
        if let Some(mut thing) = self.remove(id) {
            change(&mut thing);
            self.insert(id.to_owned(), thing);
        }
    }

    /// What is found by a key.
    pub(super) fn found<'a>(&'a self, key: &Key) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let key = key.clone();
        let from = (key.clone(), String::new());
        let found = self.index.range(from..).take_while(move |(at, _)| *at == key);
        found.filter_map(|(_, id)| self.get(id))
    }

    /// What may carry all these labels: the caller still compares.
    pub(super) fn labelled<'a>(&'a self, selector: &Labels) -> Box<dyn Iterator<Item = &'a T> + 'a> {
        match of_labels(selector).next() {
            Some(key) => Box::new(self.found(&key)),
            None => Box::new(self.values()),
        }
    }

    /// All have something to do in the next step.
    pub(super) fn touch_all(&mut self) {
        self.touched = self.things.keys().cloned().collect();
    }

    /// It was looked at, and has nothing more to do now.
    pub(super) fn done(&mut self, id: &str) {
        self.touched.remove(id);
    }

    /// When the first of them moves on by itself.
    pub(super) fn next_due(&mut self) -> Option<i64> {
        self.make_plans();
        self.due.first().map(|(due, _)| *due)
    }

    /// Those that have something to do.
    pub(super) fn busy(&mut self, now_ms: i64) -> BTreeSet<String> {
        self.make_plans();
        let by_now = |set: &BTreeSet<(i64, String)>| {
            set.iter().take_while(|(at, _)| *at <= now_ms).map(|(_, id)| id.clone()).collect::<Vec<_>>()
        };
        let mut busy: BTreeSet<String> = self.touched.union(&self.always).cloned().collect();
        busy.extend(by_now(&self.due));
        busy.extend(by_now(&self.from));
        busy
    }

    fn make_plans(&mut self) {
        for id in std::mem::take(&mut self.unknown) {
            self.unplan(&id);
            let Some(thing) = self.things.get(&id) else { continue };
            let (due, work) = (thing.due(), thing.work(self.round_ms));
            if let Some(due) = due {
                self.due.insert((due, id.clone()));
            }
            match work {
                Work::Always => {
                    self.always.insert(id.clone());
                }
                Work::From(from) => {
                    self.from.insert((from, id.clone()));
                }
                Work::Never => {}
            }
            self.plans.insert(id, (due, work));
        }
    }

    fn unplan(&mut self, id: &str) {
        let Some((due, work)) = self.plans.remove(id) else { return };
        if let Some(due) = due {
            self.due.remove(&(due, id.to_owned()));
        }
        match work {
            Work::Always => {
                self.always.remove(id);
            }
            Work::From(from) => {
                self.from.remove(&(from, id.to_owned()));
            }
            Work::Never => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing {
        name: &'static str,
        due: Option<i64>,
    }

    impl Kept for Thing {
        fn found_by(&self) -> Vec<Key> {
            vec![Key::Name(self.name.to_owned())]
        }

        fn due(&self) -> Option<i64> {
            self.due
        }

        fn work(&self, round_ms: i64) -> Work {
            Work::From(round_ms * 10)
        }
    }

    fn shelf() -> Shelf<Thing> {
        let mut shelf = Shelf::new(10);
        shelf.insert("1".to_owned(), Thing { name: "a", due: None });
        shelf.insert("2".to_owned(), Thing { name: "b", due: Some(5) });
        shelf
    }

    #[test]
    fn who_was_looked_at_is_left_alone_until_it_is_due_or_touched() {
        let mut shelf = shelf();
        assert_eq!(shelf.busy(0).len(), 2, "both are new");
        ["1", "2"].into_iter().for_each(|id| shelf.done(id));
        assert!(shelf.busy(4).is_empty());
        assert_eq!((shelf.next_due(), shelf.busy(5)), (Some(5), BTreeSet::from(["2".to_owned()])));
        assert_eq!(shelf.busy(100).len(), 2, "the round of both");
        shelf.get_mut("2").unwrap().due = Some(7);
        assert_eq!((shelf.next_due(), shelf.busy(0)), (Some(7), BTreeSet::from(["2".to_owned()])));
    }

    #[test]
    fn what_is_replaced_is_found_by_its_new_name_and_what_is_gone_by_none() {
        let mut shelf = shelf();
        shelf.replace("1", |thing| thing.name = "c");
        shelf.remove("2");
        let found = |name: &str| shelf.found(&Key::Name(name.to_owned())).count();
        assert_eq!(["a", "b", "c"].map(found), [0, 0, 1]);
        assert_eq!(shelf.next_due(), None);
    }
}
