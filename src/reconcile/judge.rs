//! Judging a candidate: a spec that passed intake's rules meets the host. It is accepted, with everything chosen that
//! it leaves open, or refused with all faults; the last good one stays applied either way until then (rule 7).
//!
//! Invariant: acceptance, the record that it leads to, the verdict and the event are one transaction (rule 5).

use std::collections::BTreeSet;

use super::chooser::Chooser;
use super::ledger::say;
use super::live::{self, Missing};
use super::placing::{self, Choices, Given, Placing, Reserved, Seen};
use super::promises::Promises;
use super::service::Shared;
use super::{drift, hold, leftovers};
use crate::contract::documents::{
    AcceptedBy, ConditionType, Event, EventData, EventType, Time, Verdict, VerdictResult,
};
use crate::contract::topics::Topic;
use crate::contract::{self, Code, Context, Fault};
use crate::domain::database::{Accepted, Placements, bury, mint};
use crate::drivers;
use crate::model::record::StoredSpec;
use crate::model::spec::NodeSpec;
use crate::model::{AcceptedSpec, DatabaseId, HostId, HostPorts, InstanceId, Record};
use crate::store::{self, Candidate, ConditionRow, DesiredRow, HistoryRow, Hold, IntentRow, NewSpec, Rows as _};

/// Why a candidate could not be judged now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The store does not work.
    #[error("read or write the store")]
    Store(#[from] store::Error),
    /// The host does not answer.
    #[error("check the spec against the host")]
    Host(#[from] drivers::Error),
    /// Nothing can be chosen.
    #[error("choose what the spec leaves open")]
    Choose(#[from] crate::domain::Error),
    /// Its name is not free there yet.
    #[error("wait until host {0} has deleted what is left there of a purged database of this id")]
    Leftovers(HostId),
    /// No randomness.
    #[error("make passwords")]
    Random(#[from] crate::runtime::random::NoRandomness),
}

/// How often hosts are chosen anew for one candidate, since others took them while they were looked at.
const TRIES_MAX: usize = 5;

/// Judges the candidate of a database, if there is one.
pub(super) async fn candidate(shared: &Shared, id: &DatabaseId) -> Result<(), Error> {
    let row = shared.store.read(|reader| reader.desired(id))?;
    let Some(candidate) = row.and_then(|row| row.candidate) else { return Ok(()) };
    if candidate.hold == Hold::Held {
        return Ok(());
    }
    // Accepting changes something, in the name of all hosts.
    shared.world.confirm_lead().await?;
    for _ in 0..TRIES_MAX {
        if tried(shared, id, &candidate).await? {
            break;
        }
    }
    Ok(())
}

/// Whether the candidate was judged; else the hosts that were looked at are not those that it would go to now.
async fn tried(shared: &Shared, id: &DatabaseId, candidate: &Candidate) -> Result<bool, Error> {
    let Candidate { spec: stored, by, hold: held, .. } = candidate;
    let refused = async |faults| refuse(shared, id, stored.clone(), faults).await.map(|()| true);
    // The hosts are asked first: it may take long (an image is pulled), and nobody waits for it but this database.
    let first = match by_the_rules(shared, id, stored)? {
        Ok(judged) => judged,
        Err(faults) => return refused(faults).await,
    };
    let document = serde_json::from_slice(stored.document.expose().as_bytes()).unwrap_or(serde_json::Value::Null);
    let placed = match Placed::new(shared, &first, &document).await? {
        Ok(placed) => placed,
        Err(faults) => return refused(faults).await,
    };
    if let Some(host) = placed.as_ref().and_then(|placed| leftovers::of(&shared.world.record.get(), &placed.spec)) {
        return Err(Error::Leftovers(host));
    }
    let looked = match &placed {
        Some(placed) => Some(live::look(&shared.world, &placed.spec, &document, Missing::Pull).await?),
        None => None,
    };
    let mut accepting = shared.accepting.lock().await;
    let mut judged = match by_the_rules(shared, id, stored)? {
        Ok(judged) => judged,
        Err(faults) => return refused(faults).await,
    };
    let promises = promises(shared, &mut accepting)?;
    if let Some((placed, looked)) = placed.as_ref().zip(looked) {
        let Some(choices) = placed.again(shared, &judged, promises) else { return Ok(false) };
        judged.spec = placing::with_hosts(judged.spec, &choices);
        judged.chosen = placing::placements(choices);
        let promised = live::promised(&shared.world, &judged.spec, &document, &looked, promises);
        let before = (judged.record.as_ref(), judged.previous.as_ref());
        let strangers = strangers(&judged.spec, before, &document);
        let faults: Vec<Fault> = looked.faults.into_iter().chain(promised).chain(strangers).collect();
        if !faults.is_empty() {
            return refused(faults).await;
        }
    }
    let lives = judged.record.as_ref().is_some_and(|record| record.tombstone.is_none());
    if judged.spec.deleted && judged.record.is_none() {
        return nothing_to_delete(shared, id, stored).await.map(|()| true);
    }
    if judged.spec.deleted && lives && *held == Hold::No {
        let records = shared.store.read(|reader| reader.all_records())?;
        if let Some(why) = hold::reason(&records, shared.world.now_s()) {
            return hold_back(shared, id, stored, &why).await.map(|()| true);
        }
    }
    let after = recorded(shared, &judged, stored).await?;
    let accepted = judged.spec.clone();
    if accept(shared, judged.spec, (stored.clone(), *by), after).await? {
        promises.accepted(&accepted);
    }
    Ok(true)
}

/// The record that a candidate leads to.
async fn recorded(shared: &Shared, judged: &Judged, stored: &StoredSpec) -> Result<Record, Error> {
    let Judged { spec, record, previous, others, chosen } = judged;
    let before = record.clone().unwrap_or_else(|| Record { revision: 0, ..Record::new(spec.id.clone()) });
    if spec.deleted {
        return Ok(bury(before, shared.world.now_s(), shared.options.deletion_grace_s));
    }
    let mut choose = Chooser::new(shared, spec, &before.ports, others).await?;
    let accepted = Accepted { spec, stored, previous: previous.as_ref(), placement: chosen };
    let minted = mint(accepted, before, &mut choose)?;
    choose.ended()?;
    Ok(minted)
}

/// A candidate with the hosts that were chosen for it, which count until it is accepted.
struct Placed<'a> {
    spec: AcceptedSpec,
    choices: Choices,
    seen: Option<Seen>,
    _reserved: Reserved<'a>,
}

impl<'a> Placed<'a> {
    /// Chooses hosts for what the candidate leaves open; none: it is a delete.
    async fn new(
        shared: &'a Shared,
        judged: &Judged,
        document: &serde_json::Value,
    ) -> Result<std::result::Result<Option<Self>, Vec<Fault>>, Error> {
        if judged.spec.deleted {
            return Ok(Ok(None));
        }
        let placing = judged.placing(shared);
        let at_once = placing.at_once();
        let seen = if at_once.is_none() { Some(placing.look().await?) } else { None };
        let mut accepting = shared.accepting.lock().await;
        let promises = promises(shared, &mut accepting)?;
        let given = Given { promises, ports: &judged.others };
        let chosen = || seen.as_ref().map(|seen| placing.choose(seen, given, &BTreeSet::new())).unwrap_or_default();
        let choices = at_once.unwrap_or_else(chosen);
        let faults = placing::faults(&judged.spec, document, &choices);
        if !faults.is_empty() {
            return Ok(Err(faults));
        }
        let spec = placing::with_hosts(judged.spec.clone(), &choices);
        Ok(Ok(Some(Self { _reserved: shared.tentative.reserve(&spec), spec, choices, seen })))
    }

    /// The same hosts once more, if they are still those to be chosen.
    fn again(&self, shared: &Shared, judged: &Judged, promises: &Promises) -> Option<Choices> {
        let placing = judged.placing(shared);
        let first = placing::all_hosts(&self.choices);
        let choices = match &self.seen {
            Some(seen) => placing.choose(seen, Given { promises, ports: &judged.others }, &first),
            None => placing.at_once()?,
        };
        (placing::all_hosts(&choices) == first).then(|| self.choices.clone())
    }
}

/// The faults of nodes that come back beside their data: it is in the trash of other hosts than they are to be on, so they
/// would come back empty.
pub(super) fn strangers(
    spec: &AcceptedSpec,
    (record, previous): (Option<&Record>, Option<&AcceptedSpec>),
    document: &serde_json::Value,
) -> Vec<Fault> {
    let Some(record) = record.filter(|record| !record.trashed.is_empty()) else { return Vec::new() };
    let new = |node: &&NodeSpec| previous.is_none_or(|before| before.nodes.iter().all(|old| old.name != node.name));
    let mut faults = Vec::new();
    for node in spec.nodes.iter().filter(new) {
        let mut trashed = record.trashed.iter().filter(|one| one.node().as_ref() == Some(&node.name)).peekable();
        let is_there = |instance: &InstanceId| node.hosts.iter().any(|host| instance.is_on(host));
        if trashed.peek().is_none() || trashed.any(is_there) {
            continue;
        }
        let message = format!("the data of {} is in the trash of another host, so it would come back empty", node.name);
        let hint = "name a host that it was on, or give the new node another name";
        faults.push(Fault::new(Code::Conflict, live::place_of(document, &node.name, "/host_ids"), message).hint(hint));
    }
    faults
}

/// What was promised so far: read from the records the first time.
pub(super) fn promises<'a>(
    shared: &Shared,
    accepting: &'a mut Option<Promises>,
) -> Result<&'a mut Promises, store::Error> {
    match accepting.take() {
        Some(promises) => Ok(accepting.insert(promises)),
        None => Ok(accepting.insert(Promises::read(shared)?)),
    }
}

/// A candidate that the rules let pass, for a judgment together with others.
pub(super) struct Case {
    pub(super) spec: AcceptedSpec,
    pub(super) stored: StoredSpec,
    pub(super) by: AcceptedBy,
    record: Option<Record>,
    previous: Option<AcceptedSpec>,
    chosen: Placements,
}

/// Puts a candidate to the rules, where its hosts are known without asking anybody; none: they are not.
pub(super) fn case(
    shared: &Shared,
    id: &DatabaseId,
    (stored, by): (StoredSpec, AcceptedBy),
    record: Option<Record>,
    others: &HostPorts,
) -> std::result::Result<Option<Case>, Vec<Fault>> {
    let previous = record.as_ref().and_then(|record| guard(shared, record));
    let (hosts, placed) = (shared.hosts(), previous.as_ref().map(AcceptedSpec::placed).unwrap_or_default());
    let context = shared.context((&hosts, &placed), previous.as_ref(), others);
    let spec = contract::accept(id, stored.document.expose().as_bytes(), &context)?;
    let choices = Placing::of(shared, &spec, record.as_ref(), previous.as_ref()).at_once();
    let Some(choices) = choices.filter(|all| all.values().all(|choice| choice.missing == 0)) else { return Ok(None) };
    let spec = placing::with_hosts(spec, &choices);
    Ok(Some(Case { spec, stored, by, record, previous, chosen: placing::placements(choices) }))
}

/// The record that a case leads to, where nothing of the host is chosen.
pub(super) fn minted(shared: &Shared, case: &Case) -> Result<Record, Error> {
    let Case { spec, stored, record, previous, chosen, .. } = case;
    let mut choose = Chooser::without_ports(shared);
    let before = record.clone().unwrap_or_else(|| Record { revision: 0, ..Record::new(spec.id.clone()) });
    let accepted = Accepted { spec, stored, previous: previous.as_ref(), placement: chosen };
    let minted = mint(accepted, before, &mut choose)?;
    choose.ended()?;
    Ok(minted)
}

/// The delete waits for a person: the database goes on, and says why (rule 4).
async fn hold_back(shared: &Shared, id: &DatabaseId, stored: &StoredSpec, why: &str) -> Result<(), Error> {
    let now_ms = shared.world.clock.now_ms();
    let message = format!(
        "{why}, so this delete waits: `pgmoor confirm-delete {id}` does it, publishing the spec again withdraws it"
    );
    let (fleet, id, digest) = (shared.world.fleet.clone(), id.clone(), stored.digest.clone());
    let written = shared.store.write(move |writer| {
        let mut row = writer.desired(&id)?.unwrap_or_default();
        let Some(candidate) = row.candidate.as_mut().filter(|candidate| candidate.spec.digest == digest) else {
            return Ok(());
        };
        candidate.hold = Hold::Held;
        let reason = "TooManyDeletes".to_owned();
        let condition = ConditionRow { reason, message: message.clone(), since_ms: now_ms };
        row.conditions.insert(ConditionType::DeletionHeld, condition);
        writer.put_desired(&id, &row)?;
        let data = EventData { message, digest: Some(digest.clone()), ..EventData::default() };
        let name = format!("{now_ms}-held-{}", digest.short());
        let event = Event::new(&fleet, &id, name, EventType::DeletionHeld, Time::from_ms(now_ms), data);
        writer.enqueue(&say(&fleet, &Topic::Events(id.clone()), &event, now_ms))
    });
    written.await.map_err(Error::Store)
}

/// A candidate that the rules let pass, and what they looked at.
struct Judged {
    spec: AcceptedSpec,
    record: Option<Record>,
    previous: Option<AcceptedSpec>,
    /// Ports of other databases.
    others: HostPorts,
    /// The hosts that were chosen, once they are.
    chosen: Placements,
}

impl Judged {
    fn placing<'a>(&'a self, shared: &'a Shared) -> Placing<'a> {
        Placing::of(shared, &self.spec, self.record.as_ref(), self.previous.as_ref())
    }
}

/// The rules once more, with what holds now: much may have happened since intake looked.
fn by_the_rules(
    shared: &Shared,
    id: &DatabaseId,
    stored: &StoredSpec,
) -> Result<std::result::Result<Judged, Vec<Fault>>, Error> {
    let (record, ports) = shared.store.read(|reader| Ok((reader.record(id)?, reader.ports()?)))?;
    let previous = record.as_ref().and_then(|record| guard(shared, record));
    let others: HostPorts = ports.into_iter().filter(|(_, owner)| owner != id).collect();
    let (hosts, placed) = (shared.hosts(), previous.as_ref().map(AcceptedSpec::placed).unwrap_or_default());
    let context = shared.context((&hosts, &placed), previous.as_ref(), &others);
    let judged = contract::accept(id, stored.document.expose().as_bytes(), &context);
    Ok(judged.map(|spec| Judged { spec, record, previous: previous.clone(), others, chosen: Placements::new() }))
}

/// The accepted spec of a record, read with today's rules. None where they refuse it: then nothing is known of it.
pub(super) fn read_back(shared: &Shared, record: &Record) -> Option<AcceptedSpec> {
    let stored = record.spec.as_ref()?;
    let (hosts, placed, nobody) = (shared.hosts(), shared.placed(record), HostPorts::new());
    let context = Context { known_hosts: None, ..shared.context((&hosts, &placed), None, &nobody) };
    match contract::accept(&record.database, stored.document.expose().as_bytes(), &context) {
        Ok(spec) => Some(spec),
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            tracing::error!(database = %record.database, ?faults, "the accepted spec is refused by this version");
            None
        }
    }
}

/// A spec that was accepted, read with today's rules beside the one that is applied. None where they refuse it.
pub(super) fn read_stored(
    shared: &Shared,
    id: &DatabaseId,
    stored: &StoredSpec,
    applied: Option<&AcceptedSpec>,
) -> Option<AcceptedSpec> {
    let (hosts, placed, nobody) =
        (shared.hosts(), applied.map(AcceptedSpec::placed).unwrap_or_default(), HostPorts::new());
    let context = Context { known_hosts: None, ..shared.context((&hosts, &placed), applied, &nobody) };
    contract::accept(id, stored.document.expose().as_bytes(), &context).ok()
}

/// What the next spec is judged against: the accepted one, or where today's rules refuse it, what can be read of it.
pub(super) fn guard(shared: &Shared, record: &Record) -> Option<AcceptedSpec> {
    read_back(shared, record).or_else(|| {
        let stored = record.spec.as_ref()?;
        let (hosts, placed, nobody) = (shared.hosts(), shared.placed(record), HostPorts::new());
        let context = Context { known_hosts: None, ..shared.context((&hosts, &placed), None, &nobody) };
        contract::spec::remembered(&record.database, stored.document.expose().as_bytes(), &record.images, &context)
    })
}

/// Writes that the spec is accepted; false when a newer one came meanwhile.
pub(super) async fn accept(
    shared: &Shared,
    spec: AcceptedSpec,
    (stored, by): (StoredSpec, AcceptedBy),
    record: Record,
) -> Result<bool, Error> {
    let now_ms = shared.world.clock.now_ms();
    let keep = shared.options.history_max;
    let fleet = shared.world.fleet.clone();
    let ports = super::pass::published_ports(&spec, &record);
    let written = shared.store.write(move |writer| {
        let id = &spec.id;
        let mut row = writer.desired(id)?.unwrap_or_default();
        let is_newest = row.candidate.as_ref().is_some_and(|candidate| candidate.spec.digest == stored.digest);
        if !is_newest {
            // That one is judged next, and this one never was.
            return Ok(false);
        }
        row.candidate = None;
        // What the broker may not have brought is not about this spec.
        row.conditions.retain(|kind, _| *kind == ConditionType::SpecSetIncomplete);
        // A bad one that came after it keeps its verdict, which is about the last spec that came.
        if is_last_word(&row, &stored) {
            row.verdict = Some(Verdict {
                result: VerdictResult::Accepted,
                digest: stored.digest.clone(),
                generation: stored.generation,
                faults: Vec::new(),
                at: Time::from_ms(now_ms),
            });
        }
        row.remember(HistoryRow {
            generation: stored.generation,
            digest: stored.digest.clone(),
            deleted: spec.deleted,
            at_ms: now_ms,
        });
        row.accepted = Some(stored.clone());
        writer.add_past_spec(id, NewSpec { spec: stored.clone(), deleted: spec.deleted, by, at_ms: now_ms }, keep)?;
        // What was asked for before, and the time in the trash, are about the life before.
        if writer.intent(id)? != IntentRow::default() {
            writer.put_intent(id, &IntentRow::default())?;
        }
        writer.put_desired(id, &row)?;
        drift::passwords_asked(writer, &spec, &record)?;
        if record.revision > 0 {
            writer.put_record(&record)?;
        }
        writer.put_ports(id, &ports)?;
        // What failed for the spec before says nothing about this one.
        writer.clear_outcomes(&crate::model::Scope::Database(id.clone()))?;
        let data = EventData {
            message: if spec.deleted { "the delete was accepted" } else { "the spec was accepted" }.to_owned(),
            digest: Some(stored.digest.clone()),
            generation: stored.generation,
            ..EventData::default()
        };
        let name = format!("{now_ms}-accepted-{}", stored.digest.short());
        let event = Event::new(&fleet, id, name, EventType::SpecAccepted, Time::from_ms(now_ms), data);
        writer.enqueue(&say(&fleet, &Topic::Events(id.clone()), &event, now_ms)).map(|()| true)
    });
    written.await.map_err(Error::Store)
}

/// Whether no other spec has come since.
fn is_last_word(row: &DesiredRow, stored: &StoredSpec) -> bool {
    row.last_seen.as_ref().is_none_or(|seen| *seen == stored.digest)
}

/// A delete of what never was: nothing is kept of it, and those who listen hear that it is done.
async fn nothing_to_delete(shared: &Shared, id: &DatabaseId, stored: &StoredSpec) -> Result<(), Error> {
    let now_ms = shared.world.clock.now_ms();
    let data = EventData {
        message: "there is no such database, so there is nothing to delete".to_owned(),
        digest: Some(stored.digest.clone()),
        generation: stored.generation,
        ..EventData::default()
    };
    let name = format!("{now_ms}-accepted-{}", stored.digest.short());
    let fleet = &shared.world.fleet;
    let event = Event::new(fleet, id, name, EventType::SpecAccepted, Time::from_ms(now_ms), data);
    let message = say(fleet, &Topic::Events(id.clone()), &event, now_ms);
    let prefix = Topic::Status(id.clone()).to_string(fleet).trim_end_matches("status").to_owned();
    // It may have been there, and a store that was lost have told of it, before its record reached Swarm.
    let hosts = shared.hosts();
    let besides = Topic::all_reports(id, &hosts.known).map(|topic| topic.to_string(fleet));
    let besides: Vec<String> = besides.collect();
    let id = id.clone();
    let written = shared.store.write(move |writer| {
        writer.forget_database(&id)?;
        writer.clear_topics(&prefix, &besides, now_ms)?;
        writer.enqueue(&message)
    });
    written.await.map_err(Error::Store)
}

/// The host may be mended, so the candidate stays and is judged again by the tick, until another takes its place.
async fn refuse(shared: &Shared, id: &DatabaseId, stored: StoredSpec, faults: Vec<Fault>) -> Result<(), Error> {
    let now_ms = shared.world.clock.now_ms();
    let (fleet, id) = (shared.world.fleet.clone(), id.clone());
    let written = shared.store.write(move |writer| {
        let mut row = writer.desired(&id)?.unwrap_or_default();
        let is_newest = row.candidate.as_ref().is_some_and(|candidate| candidate.spec.digest == stored.digest);
        if !is_newest {
            return Ok(());
        }
        if !is_last_word(&row, &stored) {
            // Another one came after it and was refused: that is the verdict, and there is nothing left to wait for.
            row.candidate = None;
            return writer.put_desired(&id, &row);
        }
        let said = row.verdict.as_ref().is_some_and(|verdict| {
            verdict.result == VerdictResult::Rejected && verdict.digest == stored.digest && verdict.faults == faults
        });
        if said {
            return Ok(());
        }
        row.verdict = Some(Verdict {
            result: VerdictResult::Rejected,
            digest: stored.digest.clone(),
            generation: stored.generation,
            faults: faults.clone(),
            at: Time::from_ms(now_ms),
        });
        writer.put_desired(&id, &row)?;
        let data = EventData {
            message: "the spec passed the rules, but the host cannot carry it".to_owned(),
            digest: Some(stored.digest.clone()),
            generation: stored.generation,
            faults,
            ..EventData::default()
        };
        let name = format!("{now_ms}-rejected-{}", stored.digest.short());
        let event = Event::new(&fleet, &id, name, EventType::SpecRejected, Time::from_ms(now_ms), data);
        writer.enqueue(&say(&fleet, &Topic::Events(id.clone()), &event, now_ms))
    });
    written.await.map_err(Error::Store)
}
