//! Answering what a spec would change, the same way as a real one takes, and how a plan came about: without a step being
//! run or a row written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::approval;
use super::chooser::Chooser;
use super::decisions;
use super::judge;
use super::live::{self, Missing};
use super::placing::{self, Choices, Given, Placing};
use super::promises::Promises;
use super::service::Shared;
use crate::contract;
use crate::contract::commands::{Command, DecisionRequest, Question};
use crate::contract::documents::{CommandResult, DecisionDoc, PlanDoc, Time, to_bytes};
use crate::contract::faults::{Code, Fault};
use crate::contract::topics::Topic;
use crate::domain::database::{self, Accepted, Placements};
use crate::execute::refresh;
use crate::model::record::StoredSpec;
use crate::model::{AcceptedSpec, DatabaseId, Graph, HostPorts, Record, Scope, Secret};
use crate::plan::{Disruptions, Input, plan};
use crate::report;
use crate::runtime::chain::chain;
use crate::store::{Approvals as _, OutMessage, Rows as _};

/// The most bytes of a decision in an answer: twice what a spec may have.
const DECISION_BYTES_MAX: usize = 2 * contract::spec::SPEC_BYTES_MAX;

/// Answers a question on its result topic. A question that cannot be answered gets a fault.
pub(super) async fn answer(shared: &Shared, question: Question) {
    let result = match Command::read(&question.verb, &question.payload, false) {
        Ok(Command::Decision(DecisionRequest { before })) => {
            decision(shared, &question.database, before).await.map(|decision| (None, decision))
        }
        Ok(_) | Err(_) => proposed(shared, &question).await.map(|plan| (Some(plan), None)),
    };
    let now_ms = shared.world.clock.now_ms();
    let accepted = CommandResult::accepted(&question, Time::from_ms(now_ms));
    let answer = match result {
        Ok((plan, decision)) => CommandResult { plan, decision, ..accepted },
        Err(faults) => accepted.rejected(faults),
    };
    let payload = serde_json::to_vec(&answer).unwrap_or_default();
    let topic = Topic::CommandResult(question.database.clone(), question.verb.clone()).to_string(&shared.world.fleet);
    let answers = OutMessage::answers(&topic, &question, &payload, now_ms);
    let written = shared.store.write(move |writer| answers.iter().try_for_each(|answer| writer.enqueue(answer)));
    if let Err(error) = written.await {
        tracing::error!(error = chain(&error), "the answer to a question could not be stored");
    }
}

fn unseen(error: &(dyn std::error::Error + 'static)) -> Vec<Fault> {
    let message = format!("the question cannot be answered now: {}", chain(error));
    vec![Fault::new(Code::Unavailable, "", message).hint("ask again; `pgmoor status` says how the host is")]
}

/// How a plan came about: one that is kept, or what would be done now; none: no older one is kept.
async fn decision(shared: &Shared, id: &DatabaseId, before: Option<u64>) -> Result<Option<DecisionDoc>, Vec<Fault>> {
    let record = shared.store.read(|reader| reader.record(id)).map_err(|error| unseen(&error))?;
    let Some(record) = record else {
        let message = format!("there is no database {id}, living or in the trash");
        return Err(vec![Fault::new(Code::NotFound, "", message).hint("`pgmoor status` lists what there is")]);
    };
    let found = match before {
        Some(number) => shared.decisions.before(id, number),
        None => Some(decisions::now(shared, id, &record).await.map_err(|error| unseen(&*error))?),
    };
    let bytes = found.as_ref().map_or(0, |found| to_bytes(found).len());
    if bytes > DECISION_BYTES_MAX {
        let message = format!("the decision has {bytes} bytes, and an answer has {DECISION_BYTES_MAX} at most");
        return Err(vec![
            Fault::new(Code::Unavailable, "", message).hint("`pgmoor status` and the plan's topic tell the plan"),
        ]);
    }
    Ok(found)
}

async fn proposed(shared: &Shared, question: &Question) -> Result<PlanDoc, Vec<Fault>> {
    let id = &question.database;
    let (record, ports) =
        shared.store.read(|reader| Ok((reader.record(id)?, reader.ports()?))).map_err(|error| unseen(&error))?;
    let previous = record.as_ref().and_then(|record| judge::guard(shared, record));
    let others: HostPorts = ports.into_iter().filter(|(_, owner)| owner != id).collect();
    let (hosts, placed) = (shared.hosts(), previous.as_ref().map(AcceptedSpec::placed).unwrap_or_default());
    let context = shared.context((&hosts, &placed), previous.as_ref(), &others);
    let mut spec = contract::accept(id, &question.payload, &context)?;
    let (mut notes, mut chosen) = (Vec::new(), Placements::new());
    if !spec.deleted {
        let document = serde_json::from_slice(&question.payload).unwrap_or(Value::Null);
        let accepted = shared.accepting.lock().await.clone();
        let accepted = accepted.map_or_else(|| Promises::read(shared), Ok).map_err(|error| unseen(&error))?;
        let placing = Placing::of(shared, &spec, record.as_ref(), previous.as_ref());
        let choices = choices(&placing, &document, Given { promises: &accepted, ports: &others }).await?;
        spec = placing::with_hosts(spec, &choices);
        chosen = placing::placements(choices);
        let looked = live::look(&shared.world, &spec, &document, Missing::Tell).await;
        let looked = looked.map_err(|error| unseen(&error))?;
        let promised = live::promised(&shared.world, &spec, &document, &looked, &accepted);
        let strangers = judge::strangers(&spec, (record.as_ref(), previous.as_ref()), &document);
        let faults: Vec<Fault> = looked.faults.into_iter().chain(promised).chain(strangers).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        notes = looked.notes;
    }
    let before = record.unwrap_or_else(|| Record { revision: 0, ..Record::new(id.clone()) });
    let stored = match &before.spec {
        // The applied document itself: it would not be accepted anew, so the record would stay as it is.
        Some(applied) if applied.digest == spec.digest => applied.clone(),
        Some(_) | None => StoredSpec {
            document: Secret::new(String::from_utf8_lossy(&question.payload)),
            digest: spec.digest.clone(),
            generation: spec.generation,
            accepted_at_s: shared.world.now_s(),
        },
    };
    let chosen_before = before.ports.clone();
    let accepted = Accepted { spec: &spec, stored: &stored, previous: previous.as_ref(), placement: &chosen };
    let graphs = graphs(shared, accepted, before).await;
    let (desired, previous_graph, record) = graphs.map_err(|error| unseen(&*error))?;
    let scope = Scope::Database(id.clone());
    let observed = refresh(&shared.world, &scope, &desired, &previous_graph).await;
    let (outcomes, forced) = (BTreeMap::new(), BTreeSet::new());
    let input = Input { scope: &scope, desired: &desired, observed: &observed, outcomes: &outcomes, forced: &forced };
    let plan = plan(&input);
    let approvals = shared.store.read(|reader| Ok((reader.approval(id)?, reader.downtimes(id)?)));
    let (approval, downtimes) = approvals.map_err(|error| unseen(&error))?;
    let disruptions = Disruptions::of(&plan, &desired);
    let state = approval::state(spec.approval, &disruptions, approval.given.as_ref());
    let now = Time::from_ms(shared.world.clock.now_ms());
    notes.extend(report::scripts::notes(&desired, &observed));
    let document = report::proposed_plan_document(id, &plan, &record, now);
    let document = report::with_interruptions(document, &disruptions, &downtimes, state);
    let guesses = record.ports.iter().filter(|(instance, _)| !chosen_before.contains_key(*instance));
    Ok(report::with_guesses(PlanDoc { notes, ..document }, &guesses.map(|(_, port)| *port).collect()))
}

/// The hosts that would be chosen.
async fn choices(placing: &Placing<'_>, document: &Value, given: Given<'_>) -> Result<Choices, Vec<Fault>> {
    let choices = match placing.at_once() {
        Some(choices) => choices,
        None => {
            let seen = placing.look().await.map_err(|error| unseen(&error))?;
            placing.choose(&seen, given, &BTreeSet::new())
        }
    };
    let faults = placing::faults(placing.spec, document, &choices);
    if faults.is_empty() { Ok(choices) } else { Err(faults) }
}

type Graphs = (Graph, Graph, Record);

/// What is desired under the spec in question, what was desired before where that goes, and the record it would lead to.
async fn graphs(
    shared: &Shared,
    accepted: Accepted<'_>,
    before: Record,
) -> Result<Graphs, Box<dyn std::error::Error + Send + Sync>> {
    let Accepted { spec, previous, .. } = accepted;
    if spec.deleted {
        let old = match previous {
            Some(previous) => shared.graph(previous, &before)?,
            None => Graph::default(),
        };
        let after = database::bury(before, shared.world.now_s(), shared.options.deletion_grace_s);
        return Ok((database::buried(&after)?, old, after));
    }
    let mut choose = Chooser::new(shared, spec, &before.ports, &HostPorts::new()).await?;
    let after = database::mint(accepted, before, &mut choose)?;
    choose.ended()?;
    Ok((shared.graph(spec, &after)?, shared.leaving(spec, &after)?, after))
}
