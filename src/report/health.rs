//! Health from samples, with hysteresis: what is certain counts at once, a single missed answer does not.
//!
//! Invariants: a change to better, or to a certain `down`, takes one sample; a missed answer takes two in a row before
//! the health follows it; the reason of a health that is not `healthy` is never empty.

use std::collections::BTreeSet;

use crate::contract::documents::{HealthDoc, Time};
use crate::model::{Health, NodeName};

/// Seconds that a health counts: three times the refresh, so that one lost message does not make it stale.
pub const VALID_FOR_S: u32 = 90;
/// A health that has not changed is published again after this time.
pub const REFRESH_MS: i64 = 30_000;

/// What one look at something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// How it is.
    pub health: Health,
    /// Why, as a sentence for people; empty when it is healthy.
    pub reason: String,
    /// Whether that is known for sure. A call without an answer is not.
    pub certain: bool,
}

impl Sample {
    /// All is well.
    #[must_use]
    pub fn healthy() -> Self {
        Self { health: Health::Healthy, reason: String::new(), certain: true }
    }

    /// Something is known to be so.
    #[must_use]
    pub fn certain(health: Health, reason: impl Into<String>) -> Self {
        Self { health, reason: reason.into(), certain: true }
    }

    /// Something did not answer.
    #[must_use]
    pub fn missed(health: Health, reason: impl Into<String>) -> Self {
        Self { health, reason: reason.into(), certain: false }
    }
}

/// The health of one thing over time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracker {
    said: Option<HealthDoc>,
    missed: bool,
}

impl Tracker {
    /// Goes on from what was last said, after a restart.
    #[must_use]
    pub fn resumed(said: Option<HealthDoc>) -> Self {
        Self { said, missed: false }
    }

    /// Takes a sample. Gives the document when it is to be published: it says something new, or the last is due again.
    pub fn take(&mut self, sample: Sample, now: Time) -> Option<HealthDoc> {
        let first_miss = !sample.certain && !std::mem::replace(&mut self.missed, !sample.certain);
        if first_miss && self.said.as_ref().is_some_and(|said| said.health != sample.health) {
            return None;
        }
        let reason = (!sample.reason.is_empty()).then_some(sample.reason);
        let same = self.said.as_ref().filter(|said| said.health == sample.health);
        let since = same.map_or(now, |said| said.since);
        let due = self.said.as_ref().is_none_or(|said| {
            said.health != sample.health
                || said.reason != reason
                || now.ms().saturating_sub(said.checked_at.ms()) >= REFRESH_MS
        });
        if !due {
            return None;
        }
        let document = HealthDoc { health: sample.health, since, checked_at: now, valid_for_s: VALID_FOR_S, reason };
        self.said = Some(document.clone());
        Some(document)
    }

    /// The document that was last said.
    #[must_use]
    pub fn said(&self) -> Option<&HealthDoc> {
        self.said.as_ref()
    }

    /// The health that was last said.
    #[must_use]
    pub fn health(&self) -> Health {
        self.said.as_ref().map_or(Health::Unknown, |said| said.health)
    }
}

/// One instance, for the health of its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, for the reason.
    pub name: String,
    /// The node that it is of.
    pub node: NodeName,
    /// How it is.
    pub health: Health,
    /// Whether it is a primary.
    pub primary: bool,
}

/// The health of a database from its instances: it serves while a primary does, and wholly while one of each node does.
#[must_use]
pub fn of_database(members: &[Member]) -> Sample {
    let named = |health: Health| {
        let names: Vec<&str> =
            members.iter().filter(|member| member.health == health).map(|member| member.name.as_str()).collect();
        names.join(", ")
    };
    let serves = |member: &Member| member.primary && matches!(member.health, Health::Healthy | Health::Degraded);
    if members.iter().all(|member| member.health == Health::Unknown) {
        return Sample::certain(Health::Unknown, "none of its instances can be seen");
    }
    if !members.iter().any(serves) {
        return Sample::certain(Health::Down, format!("no primary serves (down: {})", named(Health::Down)));
    }
    let nodes: BTreeSet<&NodeName> = members.iter().map(|member| &member.node).collect();
    let without = nodes.into_iter().filter(|node| !members.iter().any(|one| one.node == **node && serves(one)));
    let without: Vec<&str> = without.map(NodeName::as_str).collect();
    if !without.is_empty() {
        let reason = format!("no primary of {} serves (down: {})", without.join(", "), named(Health::Down));
        return Sample::certain(Health::Degraded, reason);
    }
    let worst = [Health::Down, Health::Unknown, Health::Degraded]
        .into_iter()
        .find(|health| members.iter().any(|member| member.health == *health));
    match worst {
        None => Sample::healthy(),
        Some(health) => Sample::certain(Health::Degraded, format!("not healthy: {}", named(health))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Time {
        Time::from_ms(ms)
    }

    #[test]
    fn one_missed_answer_changes_nothing() {
        let mut tracker = Tracker::default();
        assert!(tracker.take(Sample::healthy(), at(0)).is_some());
        assert_eq!(tracker.take(Sample::missed(Health::Down, "no answer"), at(1)), None);
        let second = tracker.take(Sample::missed(Health::Down, "no answer"), at(2)).unwrap();
        assert_eq!((second.health, second.since), (Health::Down, at(2)));
        let better = tracker.take(Sample::healthy(), at(3)).unwrap();
        assert_eq!((better.health, better.reason), (Health::Healthy, None));
    }

    #[test]
    fn what_is_certain_counts_at_once() {
        let mut tracker = Tracker::default();
        tracker.take(Sample::healthy(), at(0));
        assert!(tracker.take(Sample::certain(Health::Down, "its container died"), at(1)).is_some());
    }

    #[test]
    fn an_unchanged_health_is_said_again_in_time() {
        let mut tracker = Tracker::default();
        tracker.take(Sample::healthy(), at(0));
        assert_eq!(tracker.take(Sample::healthy(), at(REFRESH_MS - 1)), None);
        let again = tracker.take(Sample::healthy(), at(REFRESH_MS)).unwrap();
        assert_eq!((again.since, again.checked_at), (at(0), at(REFRESH_MS)));
    }

    #[test]
    fn a_database_serves_while_a_primary_does() {
        let node = |name: &str| NodeName::parse(name).unwrap();
        let member = |name: &str, health, primary| Member { name: name.to_owned(), node: node("n1"), health, primary };
        let health = |members: &[Member]| of_database(members).health;
        assert_eq!(health(&[member("a", Health::Healthy, true)]), Health::Healthy);
        assert_eq!(health(&[member("a", Health::Healthy, true), member("b", Health::Down, false)]), Health::Degraded);
        assert_eq!(health(&[member("a", Health::Down, true), member("b", Health::Healthy, false)]), Health::Down);
        assert_eq!(health(&[member("a", Health::Unknown, false)]), Health::Unknown);
        assert_eq!(health(&[]), Health::Unknown);
        // Of two nodes, one of which has no primary, one serves still.
        let second = |health, primary| Member { node: node("n2"), ..member("b", health, primary) };
        let both = |two| of_database(&[member("a", Health::Healthy, true), two]);
        assert_eq!(both(second(Health::Healthy, true)).health, Health::Healthy);
        for two in [second(Health::Down, true), second(Health::Healthy, false)] {
            let sample = both(two);
            assert_eq!(sample.health, Health::Degraded);
            assert!(sample.reason.contains("no primary of n2 serves"), "{}", sample.reason);
        }
    }
}
