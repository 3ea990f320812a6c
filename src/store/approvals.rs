//! What waits for a person's approval, what was approved, and what interruptions took.
//!
//! Invariants: an approval names exactly what was approved, so it covers no more than a part of that, whatever becomes
//! of the plan; it stands on the disk before anybody is told, and ends when the database is settled.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::reader::{self, Rows};
use super::tables::Table;
use super::writer::{Writer, database_key};
use crate::model::DatabaseId;
use crate::plan::{Disruptions, Downtimes};

/// How many earlier requests for an approval are remembered, so that a stale digest can be told what has changed since.
pub const ASKED_MAX: usize = 8;

/// Where the approval of one database stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApprovalRow {
    /// What waits for a person's word.
    pub asked: Option<Disruptions>,
    /// What waited before, oldest first, at most [`ASKED_MAX`].
    pub earlier: VecDeque<Disruptions>,
    /// What a person approved of.
    pub given: Option<Disruptions>,
    /// When a person last approved of something: milliseconds since 1970. It stays when that is done.
    pub given_at_ms: Option<i64>,
}

/// What comes of a digest that a person approves of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approved {
    /// It names what waits, which is approved now.
    Now,
    /// It names what was approved already.
    Already,
    /// It names nothing that waits.
    Stale {
        /// What it named, where that is remembered.
        named: Option<Disruptions>,
    },
}

impl ApprovalRow {
    /// Something waits for an approval; none: nothing does any more.
    pub fn ask(&mut self, disruptions: Option<Disruptions>) {
        if self.asked == disruptions {
            return;
        }
        if let Some(before) = std::mem::replace(&mut self.asked, disruptions) {
            self.earlier.retain(|earlier| *earlier != before);
            self.earlier.push_back(before);
            while self.earlier.len() > ASKED_MAX {
                self.earlier.pop_front();
            }
        }
    }

    /// A person approves of what has this digest, given whole or by its first digits.
    pub fn approve(&mut self, digest: &str, now_ms: i64) -> Approved {
        let named = |disruptions: &&Disruptions| disruptions.digest().as_str().starts_with(digest);
        let known = self.asked.iter().chain(self.earlier.iter().rev()).chain(&self.given).find(named).cloned();
        match (known, &self.asked) {
            (Some(named), Some(asked)) if asked.is_part_of(&named) => {
                self.given = Some(named);
                self.given_at_ms = Some(now_ms);
                Approved::Now
            }
            (Some(named), None) if self.given.as_ref() == Some(&named) => Approved::Already,
            (named, _) => Approved::Stale { named },
        }
    }

    /// Everything is as desired: what was approved is done, and the next interruption needs a new word.
    pub fn settle(&mut self) {
        self.ask(None);
        self.given = None;
    }
}

/// The questions about approvals.
pub trait Approvals: Rows {
    /// Where the approval of a database stands; nothing, when nothing is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    fn approval(&self, database: &DatabaseId) -> Result<ApprovalRow> {
        Ok(reader::row(self, Table::Approvals, database.as_str().as_bytes())?.unwrap_or_default())
    }

    /// What earlier interruptions of a database took.
    ///
    /// # Errors
    /// The store cannot be read.
    fn downtimes(&self, database: &DatabaseId) -> Result<Downtimes> {
        Ok(reader::row(self, Table::Downtimes, database.as_str().as_bytes())?.unwrap_or_default())
    }
}

impl<R: Rows> Approvals for R {}

impl Writer<'_> {
    /// Stores where the approval of a database stands.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn put_approval(&mut self, database: &DatabaseId, row: &ApprovalRow) -> Result<()> {
        self.put(Table::Approvals, database_key(database), row)
    }

    /// Stores what interruptions of a database took.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn put_downtimes(&mut self, database: &DatabaseId, downtimes: &Downtimes) -> Result<()> {
        self.put(Table::Downtimes, database_key(database), downtimes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(name: &str) -> Disruptions {
        let one = serde_json::json!([{
            "what": {"kind": "instance", "name": name}, "disruption": "restart", "toward": "00",
        }]);
        serde_json::from_value(one).unwrap()
    }

    #[test]
    fn exactly_what_waits_can_be_approved() {
        let (a, b) = (waits("a"), waits("b"));
        let mut row = ApprovalRow::default();
        assert_eq!(row.approve(a.digest().as_str(), 1), Approved::Stale { named: None });
        row.ask(Some(a.clone()));
        row.ask(Some(b.clone()));
        assert_eq!(row.approve(a.digest().as_str(), 1), Approved::Stale { named: Some(a) });
        assert_eq!(row.given, None);
        assert_eq!(row.approve(b.digest().short(), 2), Approved::Now);
        assert_eq!((row.given.as_ref(), row.given_at_ms), (Some(&b), Some(2)));
        // The next look finds it approved, so nothing waits; the same word again changes nothing.
        row.ask(None);
        assert_eq!(row.approve(b.digest().as_str(), 3), Approved::Already);
        assert_eq!(row.given_at_ms, Some(2));
        row.settle();
        assert_eq!(row.approve(b.digest().as_str(), 4), Approved::Stale { named: Some(b) });
        assert_eq!(row.given, None);
    }

    #[test]
    fn what_waited_before_is_remembered_and_bounded() {
        let mut row = ApprovalRow::default();
        for n in 0..ASKED_MAX + 3 {
            row.ask(Some(waits(&n.to_string())));
            row.ask(Some(waits(&n.to_string())));
        }
        assert_eq!(row.earlier.len(), ASKED_MAX);
        row.ask(Some(waits("3")));
        row.ask(None);
        assert_eq!(row.earlier.back(), Some(&waits("3")));
        assert_eq!(row.earlier.iter().filter(|earlier| **earlier == waits("3")).count(), 1);
    }
}
