//! What the fleet tells: the retained documents of hosts, controllers and databases, and the answers to the questions that
//! change nothing.
//!
//! Invariant: a topic becomes a file's name only when it is one of ours, so no name leads out of the bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;

use super::super::ask::{Request, ask_on};
use super::super::link::{Link, nobody_online};
use super::super::output::Style;
use super::super::{Context, Error, explain, render};
use super::draft::{Content, Draft};
use super::replay::DECISIONS;
use crate::contract::commands::{DECISION, DIFF, DecisionRequest, DiffRequest, HISTORY, Nothing};
use crate::contract::documents::{CommandResult, HistoryDoc, Time};
use crate::contract::topics::{Topic, filters};
use crate::model::DatabaseId;
use crate::report::explain::explain as why;
use crate::runtime::{chain, within};

/// How many databases one bundle takes when none is named.
const DATABASES_MAX: usize = 100;
/// How many decisions of one database are taken: all that a controller keeps of it and of the fleet, and one of now.
const DECISIONS_MAX: usize = 21;
/// How many are asked about at a time.
const AT_ONCE: usize = 8;
/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long all of them may take.
const ALL_LIMIT: Duration = Duration::from_secs(120);

/// Retained documents by their topics.
type Retained = BTreeMap<String, Vec<u8>>;

/// Gathers what the broker and the controller tell of these databases, or of all.
pub(super) async fn gather(context: &Context<'_>, asked: &[DatabaseId], draft: &mut Draft) -> Result<(), Error> {
    let link = match Link::connect(context).await {
        Ok(link) => link,
        Err(error) => {
            draft.missing("topics", format!("the broker was not reached: {}", chain(&error)));
            return Ok(());
        }
    };
    let shared = shared(context, &link, draft).await;
    let answers = match link.controllers(context).await {
        Ok(controllers) => nobody_online(context, link.server(), &controllers),
        Err(error) => Some(chain(&error)),
    };
    if let Some(nobody) = &answers {
        draft.missing("answers of the controller", nobody.clone());
    }
    let databases = databases(context, &link, asked, draft).await;
    let looking = async {
        let looks = databases.iter().map(|id| one(context, &link, id, &shared, answers.is_none()));
        let mut looks = futures_util::stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some(found) = looks.next().await {
            found?.move_into(draft);
        }
        Ok::<(), Error>(())
    };
    // Boxed: it holds the futures of eight databases.
    match within("the questions about all databases", ALL_LIMIT, Box::pin(looking)).await {
        Ok(ended) => ended?,
        Err(late) => draft.missing("some databases", late.to_string()),
    }
    link.close().await;
    Ok(())
}

/// What is told of the whole fleet.
async fn shared(context: &Context<'_>, link: &Link, draft: &mut Draft) -> Retained {
    let fleet = &context.options.fleet;
    let mut found = Retained::new();
    for filter in [filters::hosts(fleet), filters::availability(fleet), Topic::Inventory.to_string(fleet)] {
        match link.all_retained(&filter).await {
            Ok(retained) => found.extend(retained),
            Err(error) => draft.missing(filter, chain(&error)),
        }
    }
    keep(context, &found, draft);
    found
}

/// The databases that the bundle is about.
async fn databases(
    context: &Context<'_>,
    link: &Link,
    asked: &[DatabaseId],
    draft: &mut Draft,
) -> BTreeSet<DatabaseId> {
    if !asked.is_empty() {
        return asked.iter().cloned().collect();
    }
    let fleet = &context.options.fleet;
    let mut names = BTreeSet::new();
    for filter in [filters::specs(fleet), filters::statuses(fleet)] {
        match link.all_retained(&filter).await {
            Ok(found) => names.extend(found.iter().filter_map(|(topic, _)| database_of(&Topic::parse(fleet, topic)?))),
            Err(error) => draft.missing(filter, chain(&error)),
        }
    }
    if names.len() > DATABASES_MAX {
        let why = format!("a bundle takes {DATABASES_MAX}: name those that matter");
        draft.missing(format!("{} of {} databases", names.len() - DATABASES_MAX, names.len()), why);
    }
    names.into_iter().take(DATABASES_MAX).collect()
}

/// The database whose spec or status stands on a topic.
fn database_of(topic: &Topic) -> Option<DatabaseId> {
    if let Topic::Spec(id) | Topic::Status(id) = topic { Some(id.clone()) } else { None }
}

/// What was gathered of one database.
#[derive(Default)]
struct Found {
    contents: Vec<(String, Content)>,
    missing: Vec<(String, String)>,
}

impl Found {
    fn move_into(self, draft: &mut Draft) {
        self.contents.into_iter().for_each(|(name, content)| draft.put(name, content));
        self.missing.into_iter().for_each(|(what, why)| draft.missing(what, why));
    }
}

async fn one(
    context: &Context<'_>,
    link: &Link,
    id: &DatabaseId,
    shared: &Retained,
    answers: bool,
) -> Result<Found, Error> {
    let mut draft = Draft::default();
    let mut found = Found::default();
    match link.all_retained(&filters::database(&context.options.fleet, id)).await {
        Ok(retained) => {
            let mut known: Retained = retained.into_iter().collect();
            if known.is_empty() {
                found.missing.push((format!("database {id}"), "nothing is retained of it".to_owned()));
            }
            keep(context, &known, &mut draft);
            known.extend(shared.clone());
            found.contents.push((format!("databases/{id}/explain.txt"), Content::Text(explained(context, id, &known))));
        }
        Err(error) => found.missing.push((format!("topics of database {id}"), chain(&error))),
    }
    found.contents.extend(draft.contents);
    if answers {
        asked(context, link, id, &mut found).await?;
    }
    Ok(found)
}

/// Keeps the documents of our topics.
fn keep(context: &Context<'_>, retained: &Retained, draft: &mut Draft) {
    for (name, payload) in retained {
        let Some(topic) = Topic::parse(&context.options.fleet, name) else { continue };
        let below = topic.to_string(&context.options.fleet);
        let file = format!("topics/{}.json", below.splitn(4, '/').last().unwrap_or_default());
        match (serde_json::from_slice::<Value>(payload), &topic) {
            (Ok(value), Topic::Spec(_)) => draft.put(file, Content::Spec(value)),
            (Ok(value), _) => draft.put(file, Content::Document(value)),
            // What is no JSON cannot be told from a secret.
            (Err(error), _) => draft.missing(file, format!("it is no JSON ({error}), so it is left out")),
        }
    }
}

fn explained(context: &Context<'_>, id: &DatabaseId, retained: &Retained) -> String {
    let now = Time::from_ms(context.clock.now_ms());
    match explain::known(&context.options.fleet, retained) {
        Ok(known) => render::explanation(&why(id, &known, now), now, Style { coloured: false }),
        Err(error) => format!("{}\n", chain(&error)),
    }
}

/// The questions that change nothing.
async fn asked(context: &Context<'_>, link: &Link, id: &DatabaseId, found: &mut Found) -> Result<(), Error> {
    let question = Request { timeout: ANSWER_LIMIT, ..Request::of(id, HISTORY, &Nothing {})? };
    let history = answer(context, link, &question, found).await.and_then(|answer| answer.history);
    let Some(history) = history else { return Ok(()) };
    put(found, format!("databases/{id}/history.json"), &history)?;
    decisions(context, link, id, found).await?;
    let Some(range) = last_change(&history) else { return Ok(()) };
    let question = Request { timeout: ANSWER_LIMIT, ..Request::of(id, DIFF, &range)? };
    if let Some(diff) = answer(context, link, &question, found).await.and_then(|answer| answer.diff) {
        put(found, format!("databases/{id}/diff.json"), &diff)?;
    }
    Ok(())
}

/// What would be done now, and the decisions that are kept, the newest first.
async fn decisions(context: &Context<'_>, link: &Link, id: &DatabaseId, found: &mut Found) -> Result<(), Error> {
    let mut before = None;
    for _ in 0..DECISIONS_MAX {
        let question = Request { timeout: ANSWER_LIMIT, ..Request::of(id, DECISION, &DecisionRequest { before })? };
        let answer = answer(context, link, &question, found).await;
        let Some(decision) = answer.and_then(|answer| answer.decision) else { break };
        let name = match decision.number {
            None => format!("{DECISIONS}{id}/now.json"),
            // The fleet's own are told with each database: the number is theirs alone.
            Some(number) => format!("{DECISIONS}kept/{number:06}.json"),
        };
        put(found, name, &decision)?;
        before = Some(decision.number.unwrap_or(u64::MAX));
    }
    Ok(())
}

/// The last two accepted specs, by the numbers that `diff` takes.
fn last_change(history: &HistoryDoc) -> Option<DiffRequest> {
    let mut numbers = history.specs.iter().rev().map(|spec| spec.generation.unwrap_or(spec.number));
    let to = numbers.next()?;
    numbers.next().filter(|from| *from != to).map(|from| DiffRequest { from, to })
}

/// The answer, when there is one that is no refusal; else why not is noted.
async fn answer(
    context: &Context<'_>,
    link: &Link,
    question: &Request<'_>,
    found: &mut Found,
) -> Option<CommandResult> {
    let what = || format!("the answer to `{}` of database {}", question.verb, question.database);
    match ask_on(context, link, question).await {
        Ok(answer) if answer.faults.is_empty() => Some(answer),
        Ok(answer) => {
            let said = answer.faults.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("; ");
            found.missing.push((what(), said));
            None
        }
        Err(error) => {
            found.missing.push((what(), chain(&error)));
            None
        }
    }
}

fn put<T: serde::Serialize>(found: &mut Found, name: String, document: &T) -> Result<(), Error> {
    let value = serde_json::to_value(document).map_err(Error::of_json)?;
    found.contents.push((name, Content::Document(value)));
    Ok(())
}
