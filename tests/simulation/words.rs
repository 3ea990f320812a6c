//! What the user said of each database, and what must follow from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pgmoor::runtime::SharedClock;

/// The spec that deletes.
pub(crate) const DELETE: &str = r#"{"deleted": true}"#;

/// The last thing said of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// A good spec.
    Good(String),
    /// One that must be refused.
    Bad(String),
    /// `{"deleted": true}`.
    Delete,
    /// The topic was cleared.
    Clear,
}

impl Word {
    /// What was published.
    pub(crate) fn payload(&self) -> &[u8] {
        match self {
            Self::Good(spec) | Self::Bad(spec) => spec.as_bytes(),
            Self::Delete => DELETE.as_bytes(),
            Self::Clear => b"",
        }
    }
}

/// One database, as its user sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// The last word.
    pub(crate) word: Option<Word>,
    /// The spec that shall hold; none: there shall be no such database.
    pub(crate) spec: Option<String>,
    /// The good spec before that.
    pub(crate) last: Option<String>,
    /// Wall times of the deletes, milliseconds.
    pub(crate) deletes: Vec<i64>,
    /// A fault may have lost the last word for good: its user says it again.
    pub(crate) uncertain: bool,
    /// It was asked back, which pgmoor answers by publishing the spec: its user says the last word again.
    pub(crate) asked_back: bool,
    /// What was in the trash was to go at once: it need not be there any more.
    pub(crate) purged: bool,
    /// The clock was set since: the grace period cannot be told from it any more.
    pub(crate) jumped: bool,
    /// What its user wrote and was told is there.
    pub(crate) rows: Vec<String>,
    /// Every word, oldest first.
    pub(crate) said: Vec<Word>,
    /// With so many of them pgmoor may have forgotten all that it knew of the database: it was purged, or never was.
    pub(crate) forgotten: usize,
}

impl Wish {
    /// How many of the specs that were said do not name this user: with each of them he leaves, and his password with him.
    pub(crate) fn without(&self, user: &str) -> usize {
        let name = format!("\"username\": \"{user}\"");
        self.said.iter().filter(|word| matches!(word, Word::Good(spec) if !spec.contains(&name))).count()
    }

    /// Whether this was last said before all was forgotten: nothing tells it from news then.
    pub(crate) fn is_forgotten(&self, payload: &[u8]) -> bool {
        self.said.iter().rposition(|word| word.payload() == payload).is_some_and(|at| at < self.forgotten)
    }
}

/// All wishes. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    wishes: Arc<Mutex<BTreeMap<String, Wish>>>,
    grace_s: u32,
    clock: SharedClock,
}

impl Words {
    /// Nothing was said of these databases yet.
    pub(crate) fn new(databases: &[&str], grace_s: u32, clock: SharedClock) -> Self {
        let wishes = databases.iter().map(|database| ((*database).to_owned(), Wish::default())).collect();
        Self { wishes: Arc::new(Mutex::new(wishes)), grace_s, clock }
    }

    fn wishes(&self) -> MutexGuard<'_, BTreeMap<String, Wish>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them as they are now.
    pub(crate) fn all(&self) -> BTreeMap<String, Wish> {
        self.wishes().clone()
    }

    /// One of them.
    pub(crate) fn of(&self, database: &str) -> Wish {
        self.wishes().get(database).cloned().unwrap_or_default()
    }

    /// Changes one.
    pub(crate) fn change(&self, database: &str, change: impl FnOnce(&mut Wish)) {
        if let Some(wish) = self.wishes().get_mut(database) {
            change(wish);
        }
    }

    /// Something was said.
    pub(crate) fn say(&self, database: &str, word: Word) {
        let now_ms = self.clock.now_ms();
        self.change(database, |wish| {
            match &word {
                Word::Good(spec) => wish.spec = Some(spec.clone()),
                Word::Bad(_) => {}
                Word::Delete | Word::Clear => {
                    wish.last = wish.spec.take().or_else(|| wish.last.take());
                    wish.deletes.push(now_ms);
                }
            }
            // A bad one changes nothing about the good one before it.
            wish.uncertain &= matches!(word, Word::Bad(_));
            wish.said.push(word.clone());
            wish.word = Some(word);
        });
    }

    /// All that was known of a database is forgotten.
    pub(crate) fn forget(&self, database: &str) {
        self.change(database, |wish| wish.forgotten = wish.said.len());
    }

    /// The database whose instance a path or a text is about.
    pub(crate) fn database_in(&self, text: &str) -> Option<String> {
        self.wishes().keys().find(|database| text.contains(&format!("/{database}-n1-"))).cloned()
    }

    /// Whether a delete was asked for; with `purged`, so long ago that the grace period may be over.
    pub(crate) fn deleted(&self, database: &str, purged: bool) -> bool {
        // A record knows whole seconds.
        let oldest_ms = self.clock.now_ms() - i64::from(self.grace_s) * 1000 + 1000;
        let wish = self.of(database);
        wish.deletes.iter().any(|at_ms| !purged || wish.purged || wish.jumped || *at_ms <= oldest_ms)
    }
}
