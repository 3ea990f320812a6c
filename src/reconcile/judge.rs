//! Judging a candidate: a spec that passed intake's rules meets the host. It is accepted, with everything chosen that
//! it leaves open, or refused with all faults; the last good one stays applied either way until then (rule 7).
//!
//! Invariant: acceptance, the record that it leads to, the verdict and the event are one transaction (rule 5).

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::say;
use super::live::{self, Missing};
use super::promises::Promises;
use super::service::Shared;
use super::{drift, hold};
use crate::contract::documents::{
    AcceptedBy, ConditionType, Event, EventData, EventType, Time, Verdict, VerdictResult,
};
use crate::contract::topics::Topic;
use crate::contract::{self, Context, Fault};
use crate::domain::database::{Accepted, Choose, PASSWORD_BYTES, PORT_FIRST, PORT_LAST, bury, mint};
use crate::drivers;
use crate::model::record::StoredSpec;
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
    /// No randomness.
    #[error("make passwords")]
    Random(#[from] crate::runtime::random::NoRandomness),
}

/// Judges the candidate of a database, if there is one.
pub(super) async fn candidate(shared: &Shared, id: &DatabaseId) -> Result<(), Error> {
    let row = shared.store.read(|reader| reader.desired(id))?;
    let Some(candidate) = row.and_then(|row| row.candidate) else { return Ok(()) };
    if candidate.hold == Hold::Held {
        return Ok(());
    }
    // Accepting changes something, in the name of all hosts.
    shared.world.confirm_lead().await?;
    let Candidate { spec: stored, by, hold: held, .. } = candidate;
    // The host is asked first: it may take long (an image is pulled), and nobody waits for it but this database.
    let spec = match by_the_rules(shared, id, &stored)? {
        Ok(judged) => judged.spec,
        Err(faults) => return refuse(shared, id, stored, faults).await,
    };
    let document = serde_json::from_slice(stored.document.expose().as_bytes()).unwrap_or(serde_json::Value::Null);
    let looked =
        if spec.deleted { None } else { Some(live::look(&shared.world, &spec, &document, Missing::Pull).await?) };
    let mut accepting = shared.accepting.lock().await;
    let Judged { spec, record, previous, taken } = match by_the_rules(shared, id, &stored)? {
        Ok(judged) => judged,
        Err(faults) => return refuse(shared, id, stored, faults).await,
    };
    let promises = promises(shared, &mut accepting)?;
    if let Some(looked) = looked {
        let promised = live::promised(&shared.world, &spec, &document, &looked, promises);
        let faults: Vec<Fault> = looked.faults.into_iter().chain(promised).collect();
        if !faults.is_empty() {
            return refuse(shared, id, stored, faults).await;
        }
    }
    if spec.deleted && record.is_none() {
        return nothing_to_delete(shared, id, &stored).await;
    }
    let lives = record.as_ref().is_some_and(|record| record.tombstone.is_none());
    if spec.deleted && lives && held == Hold::No {
        let records = shared.store.read(|reader| reader.all_records())?;
        if let Some(why) = hold::reason(&records, shared.world.now_s()) {
            return hold_back(shared, id, &stored, &why).await;
        }
    }
    let before = record.unwrap_or_else(|| Record { revision: 0, ..Record::new(id.clone()) });
    let after = if spec.deleted {
        bury(before, shared.world.now_s(), shared.options.deletion_grace_s)
    } else {
        let mut choose = Chooser::new(shared, &spec, &before, &taken).await?;
        let accepted = Accepted { spec: &spec, stored: &stored, previous: previous.as_ref() };
        let minted = mint(accepted, before, &mut choose)?;
        choose.ended()?;
        minted
    };
    let accepted = spec.clone();
    if accept(shared, spec, (stored, by), after).await? {
        promises.accepted(&accepted);
    }
    Ok(())
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
}

/// Puts a candidate to the rules.
pub(super) fn case(
    shared: &Shared,
    id: &DatabaseId,
    (stored, by): (StoredSpec, AcceptedBy),
    record: Option<Record>,
    others: &HostPorts,
) -> std::result::Result<Case, Vec<Fault>> {
    let previous = record.as_ref().and_then(|record| guard(shared, record));
    let hosts = shared.hosts();
    let context = shared.context(&hosts, previous.as_ref(), others);
    let spec = contract::accept(id, stored.document.expose().as_bytes(), &context)?;
    Ok(Case { spec, stored, by, record, previous })
}

/// The record that a case leads to, where nothing of the host is chosen.
pub(super) fn minted(shared: &Shared, case: &Case) -> Result<Record, Error> {
    let Case { spec, stored, record, previous, .. } = case;
    let mut choose = Chooser { shared, free: BTreeMap::new(), failed: None };
    let before = record.clone().unwrap_or_else(|| Record { revision: 0, ..Record::new(spec.id.clone()) });
    let minted = mint(Accepted { spec, stored, previous: previous.as_ref() }, before, &mut choose)?;
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
    taken: BTreeSet<(HostId, u16)>,
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
    let hosts = shared.hosts();
    let context = shared.context(&hosts, previous.as_ref(), &others);
    let judged = contract::accept(id, stored.document.expose().as_bytes(), &context);
    let taken = others.keys().cloned().collect();
    Ok(judged.map(|spec| Judged { spec, record, previous: previous.clone(), taken }))
}

/// The accepted spec of a record, read with today's rules. None where they refuse it: then nothing is known of it.
pub(super) fn read_back(shared: &Shared, record: &Record) -> Option<AcceptedSpec> {
    let stored = record.spec.as_ref()?;
    let (hosts, nobody) = (shared.hosts(), HostPorts::new());
    let context = Context { known_hosts: None, ..shared.context(&hosts, None, &nobody) };
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
    let (hosts, nobody) = (shared.hosts(), HostPorts::new());
    let context = Context { known_hosts: None, ..shared.context(&hosts, applied, &nobody) };
    contract::accept(id, stored.document.expose().as_bytes(), &context).ok()
}

/// What the next spec is judged against: the accepted one, or where today's rules refuse it, what can be read of it.
pub(super) fn guard(shared: &Shared, record: &Record) -> Option<AcceptedSpec> {
    read_back(shared, record).or_else(|| {
        let stored = record.spec.as_ref()?;
        let (hosts, nobody) = (shared.hosts(), HostPorts::new());
        let context = Context { known_hosts: None, ..shared.context(&hosts, None, &nobody) };
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
        drift::passwords_asked(writer, &record)?;
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

/// Chooses with the system's randomness, and ports that nobody has and nothing listens on.
pub(super) struct Chooser<'a> {
    shared: &'a Shared,
    free: BTreeMap<HostId, Vec<u16>>,
    failed: Option<crate::runtime::random::NoRandomness>,
}

/// How many ports a host is asked about at once: most of them are free.
const PORTS_ASKED: usize = 16;

impl<'a> Chooser<'a> {
    /// Asks each host, to which the spec leaves the choice, for as many free ports as instances and poolers without one go
    /// there.
    pub(super) async fn new(
        shared: &'a Shared,
        spec: &AcceptedSpec,
        before: &Record,
        taken: &BTreeSet<(HostId, u16)>,
    ) -> Result<Self, Error> {
        use crate::model::spec::PortRequest;
        let mut wanted: BTreeMap<&HostId, usize> = BTreeMap::new();
        for node in &spec.nodes {
            let pooler = node.pooler.as_ref().map(|pooler| pooler.port);
            for host in &node.hosts {
                // Whoever has a port keeps it, so its host need not answer.
                let instance = InstanceId::derive(&spec.id, &node.name, host);
                let own = node.port == PortRequest::Chosen && !before.ports.contains_key(&instance);
                let kept = before.poolers.get(&instance).and_then(|choice| choice.port);
                let count = usize::from(own) + usize::from(pooler == Some(PortRequest::Chosen) && kept.is_none());
                if count > 0 {
                    *wanted.entry(host).or_default() += count;
                }
            }
        }
        let mut free = BTreeMap::new();
        for (host, wanted) in wanted {
            let mut candidates = (PORT_FIRST..=PORT_LAST).rev().filter(|port| !taken.contains(&(host.clone(), *port)));
            let mut found = Vec::new();
            while found.len() < wanted {
                let ports: BTreeSet<u16> = candidates.by_ref().take(PORTS_ASKED).collect();
                if ports.is_empty() {
                    break;
                }
                let listened = live::listened(&shared.world, host, ports.clone()).await?;
                found.extend(ports.into_iter().rev().filter(|port| !listened.contains(port)));
            }
            // Handed out from the end: the highest first, away from what people choose by hand.
            found.reverse();
            free.insert(host.clone(), found);
        }
        Ok(Self { shared, free, failed: None })
    }

    /// What could not be reported while choosing.
    pub(super) fn ended(self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), |failed| Err(Error::Random(failed)))
    }
}

impl Choose for Chooser<'_> {
    fn entropy(&mut self) -> [u8; PASSWORD_BYTES] {
        let mut bytes = [0; PASSWORD_BYTES];
        if let Err(failed) = self.shared.random.fill(&mut bytes) {
            self.failed = Some(failed);
        }
        bytes
    }

    fn port(&mut self, host: &HostId) -> Option<u16> {
        self.free.get_mut(host)?.pop()
    }
}
