//! A spec came in.

use super::{Error, Intake};
use crate::contract::documents::{
    AcceptedBy, ConditionType, Event, EventData, EventType, Time, Verdict, VerdictResult,
};
use crate::contract::topics::Topic;
use crate::contract::{self, Fault};
use crate::domain::placement;
use crate::model::record::StoredSpec;
use crate::model::{AcceptedSpec, DatabaseId, Digest, HostPorts, Record, Scope, Secret};
use crate::store::{Candidate, ConditionRow, DesiredRow, History as _, Hold, OutMessage, Rows as _};

/// What is to be done with a spec before its rules are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// It is the one that was judged last: nothing.
    Known,
    /// It is the accepted one again, after another was refused: that verdict is lifted.
    Again,
    /// The broker replayed one that another has taken the place of (rule 9).
    Old,
    /// It is to be judged.
    New,
}

fn news(row: &DesiredRow, digest: &Digest, retained: bool) -> News {
    let accepted = row.accepted.as_ref().is_some_and(|accepted| accepted.digest == *digest);
    let waits = row.candidate.as_ref().is_some_and(|candidate| candidate.spec.digest == *digest);
    if waits {
        // After another one that was refused it is the last word again.
        if row.last_seen.as_ref() == Some(digest) { News::Known } else { News::New }
    } else if accepted && retained && awaits_judgement(row) {
        // The one that waits was published after it, and nobody has looked at that yet: it is not to be lost.
        News::Old
    } else if accepted {
        let clean = row.candidate.is_none()
            && !lifted_by_the_spec().any(|kind| row.conditions.contains_key(&kind))
            && row.verdict.as_ref().is_some_and(|verdict| verdict.digest == *digest);
        if clean { News::Known } else { News::Again }
    } else if retained && row.superseded(digest) {
        News::Old
    } else if row.last_seen.as_ref() == Some(digest) && retained {
        News::Known
    } else {
        News::New
    }
}

/// Whether a spec waits that was not looked at yet. One that the host refused, or that waits for a person, was.
fn awaits_judgement(row: &DesiredRow) -> bool {
    row.verdict.is_none() && row.candidate.as_ref().is_some_and(|candidate| candidate.hold == Hold::No)
}

/// What no longer holds when the broker brings the accepted spec.
fn lifted_by_the_spec() -> impl Iterator<Item = ConditionType> {
    [ConditionType::BrokerAmnesia, ConditionType::BrokerRewound, ConditionType::DeletionHeld].into_iter()
}

impl Intake {
    /// Judges a spec by the rules that need no host.
    pub(super) async fn spec(&self, id: &DatabaseId, payload: &[u8], retained: bool) -> Result<(), Error> {
        self.judge(id, payload, retained, AcceptedBy::Publish).await
    }

    /// The same for a spec that came in another way.
    pub(super) async fn judge(
        &self,
        id: &DatabaseId,
        payload: &[u8],
        retained: bool,
        by: AcceptedBy,
    ) -> Result<(), Error> {
        let digest = Digest::of_bytes(payload);
        let topic = Topic::Spec(id.clone()).to_string(&self.fleet);
        let (waits, row, record) = self
            .store
            .read(|reader| Ok((reader.waits_to_be_said(&topic)?, reader.desired(id)?, reader.record(id)?)))?;
        if waits && self.overtaken(id, retained).await? {
            return Ok(());
        }
        let row = row.unwrap_or_default();
        if self.is_poison(id, &row, &digest).await? {
            return Ok(());
        }
        match news(&row, &digest, retained) {
            News::Known => return Ok(()),
            News::Again => return self.again(id, digest).await,
            News::Old => return self.old(id, digest).await,
            News::New => {}
        }
        let previous = record
            .as_ref()
            .and_then(|record| record.spec.as_ref())
            .and_then(|stored| self.read_back(id, stored, record.as_ref()));
        let (hosts, ports) = self.store.read(|reader| Ok((reader.fleet_hosts()?, reader.ports()?)))?;
        let placed = previous.as_ref().map(AcceptedSpec::placed).unwrap_or_default();
        let context = self.context((hosts.as_ref(), &placed), previous.as_ref(), &ports);
        match contract::accept(id, payload, &context) {
            Ok(spec) => self.candidate(id, &spec, payload, by).await,
            Err(faults) => self.refused(id, faults, digest).await,
        }
    }

    /// Whether a spec of our own waits to be published on the topic (`undelete`, `rollback`). What the broker replays is
    /// then older; what is published is newer, and ours is taken back.
    pub(super) async fn overtaken(&self, id: &DatabaseId, retained: bool) -> Result<bool, Error> {
        let topic = Topic::Spec(id.clone()).to_string(&self.fleet);
        let waits = self.store.read(|reader| reader.waits_to_be_said(&topic))?;
        if waits && !retained {
            self.store.write(move |writer| writer.take_back(&topic)).await?;
        }
        Ok(waits && retained)
    }

    /// A spec that was accepted before, read with today's rules; where they refuse it, what of it guards the next one.
    pub(super) fn read_back(
        &self,
        id: &DatabaseId,
        stored: &StoredSpec,
        record: Option<&Record>,
    ) -> Option<AcceptedSpec> {
        let (nobody, hosts) = (HostPorts::new(), self.store.read(|reader| reader.fleet_hosts()).ok().flatten());
        let placed =
            hosts.as_ref().zip(record).map(|(hosts, record)| placement::placed(record, &hosts.known, &hosts.default));
        let placed = placed.unwrap_or_default();
        let context = self.context((hosts.as_ref(), &placed), None, &nobody);
        let document = stored.document.expose().as_bytes();
        let images = record.map(|record| record.images.clone()).unwrap_or_default();
        let accepted = contract::accept(id, document, &context).ok();
        accepted.or_else(|| contract::spec::remembered(id, document, &images, &context))
    }

    async fn candidate(
        &self,
        id: &DatabaseId,
        spec: &AcceptedSpec,
        payload: &[u8],
        by: AcceptedBy,
    ) -> Result<(), Error> {
        let candidate = candidate(spec, payload, by, self.clock.now_ms());
        self.change(id, Vec::new(), move |row| propose(row, candidate)).await
    }

    pub(super) async fn refused(&self, id: &DatabaseId, faults: Vec<Fault>, digest: Digest) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        let verdict = Verdict {
            result: VerdictResult::Rejected,
            digest: digest.clone(),
            generation: None,
            faults: faults.clone(),
            at: Time::from_ms(now_ms),
        };
        let message = format!("the spec was refused: {} faults", faults.len());
        let data = EventData { message, digest: Some(digest.clone()), faults, ..EventData::default() };
        let event = self.event(id, EventType::SpecRejected, &digest, data);
        self.change(id, vec![event], move |row| {
            row.saw(digest);
            // A good one that nobody has judged yet is still the last good word; what the host refused, or what waits
            // for a person, is no longer what the topic says.
            let unjudged = row.verdict.is_none();
            row.candidate = row.candidate.take().filter(|candidate| unjudged && candidate.hold == Hold::No);
            row.conditions.remove(&ConditionType::DeletionHeld);
            row.verdict = Some(verdict);
        })
        .await
    }

    /// The accepted spec came again: whatever was said about another one meanwhile no longer holds.
    async fn again(&self, id: &DatabaseId, digest: Digest) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        self.change(id, Vec::new(), move |row| {
            let generation = row.accepted.as_ref().and_then(|accepted| accepted.generation);
            let same = row.verdict.as_ref().is_some_and(|verdict| verdict.digest == digest);
            if !same {
                row.verdict = Some(Verdict {
                    result: VerdictResult::Accepted,
                    digest: digest.clone(),
                    generation,
                    faults: Vec::new(),
                    at: Time::from_ms(now_ms),
                });
            }
            row.candidate = None;
            for kind in lifted_by_the_spec() {
                row.conditions.remove(&kind);
            }
            row.saw(digest);
        })
        .await
    }

    async fn old(&self, id: &DatabaseId, digest: Digest) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        let message = "the broker replayed a spec that another has taken the place of; it was not applied".to_owned();
        let data = EventData { message: message.clone(), digest: Some(digest.clone()), ..EventData::default() };
        let event = self.event(id, EventType::ReplayIgnored, &digest, data);
        tracing::info!(database = %id, %digest, "{message}");
        self.change(id, vec![event], move |row| {
            row.conditions.entry(ConditionType::BrokerRewound).or_insert(ConditionRow {
                reason: "SupersededSpecReplayed".to_owned(),
                message: format!("{message}; publish the spec that shall hold"),
                since_ms: now_ms,
            });
        })
        .await
    }

    /// Changes the row of a database and says something, in one transaction; then wakes the reconciler.
    pub(super) async fn change(
        &self,
        id: &DatabaseId,
        messages: Vec<OutMessage>,
        change: impl FnOnce(&mut DesiredRow) + Send + 'static,
    ) -> Result<(), Error> {
        let key = id.clone();
        self.store
            .write(move |writer| {
                let mut row = writer.desired(&key)?.unwrap_or_default();
                change(&mut row);
                writer.put_desired(&key, &row)?;
                messages.iter().try_for_each(|message| writer.enqueue(message))
            })
            .await?;
        self.bell.ring(Scope::Database(id.clone()));
        Ok(())
    }

    pub(super) fn event(&self, id: &DatabaseId, kind: EventType, digest: &Digest, data: EventData) -> OutMessage {
        let now_ms = self.clock.now_ms();
        let name = format!("{now_ms}-intake-{}", digest.short());
        let event = Event::new(&self.fleet, id, name, kind, Time::from_ms(now_ms), data);
        let payload = serde_json::to_vec(&event).unwrap_or_default();
        OutMessage::event(Topic::Events(id.clone()).to_string(&self.fleet), payload, now_ms)
    }
}

/// A spec that passed the rules, as it waits for the host.
pub(super) fn candidate(spec: &AcceptedSpec, payload: &[u8], by: AcceptedBy, now_ms: i64) -> Candidate {
    let spec = StoredSpec {
        document: Secret::new(String::from_utf8_lossy(payload)),
        digest: spec.digest.clone(),
        generation: spec.generation,
        accepted_at_s: now_ms.div_euclid(1000),
    };
    Candidate { spec, received_at_ms: now_ms, by, hold: Hold::No }
}

/// Makes a spec the last word. A delete that is held stays held when it is said once more.
pub(super) fn propose(row: &mut DesiredRow, candidate: Candidate) {
    let digest = candidate.spec.digest.clone();
    let same = row.candidate.take().filter(|before| before.spec.digest == digest);
    if same.is_none() {
        row.conditions.remove(&ConditionType::DeletionHeld);
    }
    let hold = same.map_or(Hold::No, |before| before.hold);
    row.saw(digest);
    // Nothing is said of it until the host was asked.
    row.verdict = None;
    row.candidate = Some(Candidate { hold, ..candidate });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::HistoryRow;

    fn digest(text: &str) -> Digest {
        Digest::of_bytes(text.as_bytes())
    }

    fn row() -> DesiredRow {
        let mut row = DesiredRow::default();
        for text in ["one", "two"] {
            row.remember(HistoryRow { generation: None, digest: digest(text), deleted: false, at_ms: 0 });
        }
        row.accepted = Some(StoredSpec {
            document: Secret::new("two"),
            digest: digest("two"),
            generation: None,
            accepted_at_s: 0,
        });
        row.last_seen = Some(digest("two"));
        row
    }

    #[test]
    fn a_replayed_old_spec_is_old_and_a_published_one_is_new() {
        assert_eq!(news(&row(), &digest("one"), true), News::Old);
        assert_eq!(news(&row(), &digest("one"), false), News::New);
    }

    #[test]
    fn a_replayed_spec_that_was_never_accepted_is_old_once_another_was_said() {
        let mut row = row();
        propose(&mut row, waiting("three", Hold::No));
        propose(&mut row, waiting("four", Hold::No));
        assert_eq!(news(&row, &digest("three"), true), News::Old, "four took its place before anybody judged it");
        assert_eq!(news(&row, &digest("three"), false), News::New, "its user says it again");
        row.saw(digest("bad"));
        propose(&mut row, waiting("five", Hold::No));
        assert_eq!(news(&row, &digest("bad"), true), News::Old, "it was refused, and five came");
        assert_eq!(news(&row, &digest("bad"), false), News::New);
    }

    fn waiting(text: &str, hold: Hold) -> Candidate {
        let spec = StoredSpec { document: Secret::new(text), digest: digest(text), generation: None, accepted_at_s: 0 };
        Candidate { spec, received_at_ms: 0, by: AcceptedBy::Publish, hold }
    }

    #[test]
    fn a_candidate_is_known_until_another_one_was_said() {
        let mut row = row();
        propose(&mut row, waiting("three", Hold::No));
        assert_eq!(news(&row, &digest("three"), false), News::Known);
        row.last_seen = Some(digest("bad"));
        assert_eq!(news(&row, &digest("three"), false), News::New, "its verdict is wanted, not the bad one's");
    }

    #[test]
    fn a_replay_of_the_accepted_one_does_not_take_the_place_of_a_newer_one_that_nobody_has_judged() {
        let mut row = row();
        propose(&mut row, waiting("three", Hold::No));
        assert_eq!(news(&row, &digest("two"), true), News::Old);
        assert_eq!(news(&row, &digest("two"), false), News::Again, "its user withdraws the newer one");
        row.candidate = Some(waiting("delete", Hold::Held));
        assert_eq!(news(&row, &digest("two"), true), News::Again, "a held delete is withdrawn by the spec");
    }

    #[test]
    fn a_held_delete_stays_held_when_it_is_said_again_and_goes_with_another_spec() {
        let held = ConditionRow { reason: String::new(), message: String::new(), since_ms: 0 };
        let mut row = row();
        propose(&mut row, waiting("delete", Hold::Held));
        row.candidate = Some(waiting("delete", Hold::Held));
        row.conditions.insert(ConditionType::DeletionHeld, held);
        propose(&mut row, waiting("delete", Hold::No));
        assert_eq!(row.candidate.as_ref().map(|candidate| candidate.hold), Some(Hold::Held));
        assert!(row.conditions.contains_key(&ConditionType::DeletionHeld));
        propose(&mut row, waiting("three", Hold::No));
        assert_eq!(row.candidate.as_ref().map(|candidate| candidate.hold), Some(Hold::No));
        assert!(row.conditions.is_empty());
    }

    #[test]
    fn the_accepted_spec_again_lifts_what_was_said_since() {
        let mut row = row();
        assert_eq!(news(&row, &digest("two"), true), News::Again, "no verdict stands beside it");
        row.verdict = Some(Verdict {
            result: VerdictResult::Accepted,
            digest: digest("two"),
            generation: None,
            faults: Vec::new(),
            at: Time::from_ms(0),
        });
        assert_eq!(news(&row, &digest("two"), true), News::Known);
        row.conditions.insert(
            ConditionType::BrokerAmnesia,
            ConditionRow { reason: String::new(), message: String::new(), since_ms: 0 },
        );
        assert_eq!(news(&row, &digest("two"), true), News::Again);
    }

    #[test]
    fn a_refused_spec_is_judged_again_only_when_published() {
        let mut row = row();
        row.last_seen = Some(digest("bad"));
        assert_eq!(news(&row, &digest("bad"), true), News::Known);
        assert_eq!(news(&row, &digest("bad"), false), News::New);
    }
}
