//! Publishing a spec for a broker that forgot it, without talking over the user.
//!
//! Between the look that found the topic empty and our publish, the user may publish a newer spec, which ours then
//! overwrites in the broker. Both come back by our own subscription in the broker's order: where ours comes last, the
//! user's is put back. So the broker ends with what the user said, however often that happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The topics on which we are publishing for the broker. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Reseeds(Arc<Mutex<Pending>>);

/// By topic: what the user published since the look.
type Pending = BTreeMap<String, Option<Vec<u8>>>;

/// What is to be done with a live message of a spec topic.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Take it in.
    TakeIn,
    /// It is our own and came after the user's, which this is: publish that again, and take nothing in.
    PutBack(Vec<u8>),
}

impl Reseeds {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before the look.
    pub fn begin(&self, topic: &str) {
        self.pending().insert(topic.to_owned(), None);
    }

    /// Nothing was published after all.
    pub fn give_up(&self, topic: &str) {
        self.pending().remove(topic);
    }

    /// A new connection: what comes by it as live was published after it was made.
    pub fn clear(&self) {
        self.pending().clear();
    }

    /// A live message came; `own`: we published it.
    pub fn heard(&self, topic: &str, payload: &[u8], own: bool) -> Heard {
        let mut pending = self.pending();
        let Some(newer) = pending.get_mut(topic) else { return Heard::TakeIn };
        if !own {
            *newer = Some(payload.to_vec());
            return Heard::TakeIn;
        }
        match newer.take() {
            // What we put back will come by here too, and something newer than that may come before it.
            Some(newer) => Heard::PutBack(newer),
            None => {
                pending.remove(topic);
                Heard::TakeIn
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "t";

    /// The broker's last word after these, in its order; ours are marked. What is put back comes at the end.
    fn last_word(mut published: Vec<(&str, bool)>) -> String {
        let reseeds = Reseeds::default();
        reseeds.begin(TOPIC);
        let mut at = 0;
        while let Some(&(payload, own)) = published.get(at) {
            if let Heard::PutBack(newer) = reseeds.heard(TOPIC, payload.as_bytes(), own) {
                let newer = String::from_utf8(newer).unwrap();
                published.push((newer.leak(), true));
            }
            at += 1;
            assert!(at < 10, "it never ends: {published:?}");
        }
        published.last().unwrap().0.to_owned()
    }

    #[test]
    fn the_users_word_is_the_last() {
        assert_eq!(last_word(vec![("ours", true)]), "ours");
        assert_eq!(last_word(vec![("ours", true), ("users", false)]), "users");
        assert_eq!(last_word(vec![("users", false), ("ours", true)]), "users");
        assert_eq!(last_word(vec![("users", false), ("newer", false), ("ours", true)]), "newer");
        // While the user's is put back, the user publishes once more.
        assert_eq!(last_word(vec![("users", false), ("ours", true), ("newest", false)]), "newest");
        assert_eq!(last_word(vec![("", false), ("ours", true)]), "", "a delete is a word too");
    }

    #[test]
    fn topics_that_are_not_ours_to_publish_on_are_left_alone() {
        let reseeds = Reseeds::default();
        assert_eq!(reseeds.heard(TOPIC, b"users", false), Heard::TakeIn);
        assert_eq!(reseeds.heard(TOPIC, b"ours", true), Heard::TakeIn);
        reseeds.begin(TOPIC);
        reseeds.heard(TOPIC, b"users", false);
        reseeds.give_up(TOPIC);
        assert_eq!(reseeds.heard(TOPIC, b"ours", true), Heard::TakeIn);
    }
}
