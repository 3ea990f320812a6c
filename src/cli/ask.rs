//! A request to the fleet's controller and its answer, with a deadline: what every command of the command line does that
//! is a verb on `commands/{verb}`.

use std::time::Duration;

use serde::Serialize;

use super::args::Format;
use super::link::{Link, nobody_online};
use super::output::plain;
use super::{Context, Error, Exit, Out, render};
use crate::contract::Fault;
use crate::contract::documents::{CommandOutcome, CommandResult};
use crate::contract::topics::{Topic, Verb};
use crate::model::{DatabaseId, Digest};
use crate::mqtt::{Message, Subscription};

/// How long an answer may take until the request is sent again: a look at the world takes a second or two.
const AGAIN: Duration = Duration::from_secs(5);

/// How long requests that change what is stored are waited for: they take milliseconds, a busy host seconds.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    /// Which database it is about.
    pub(super) database: &'a DatabaseId,
    /// What is asked: a name of `contract::commands::VERBS`.
    pub(super) verb: &'static str,
    /// Its payload.
    pub(super) payload: Vec<u8>,
    /// How long to wait for the answer.
    pub(super) timeout: Duration,
}

impl<'a> Request<'a> {
    /// A request whose payload is this document.
    pub(super) fn of<T: Serialize>(database: &'a DatabaseId, verb: &'static str, document: &T) -> Result<Self, Error> {
        let payload = serde_json::to_vec(document).map_err(Error::of_json)?;
        Ok(Self { database, verb, payload, timeout: ANSWER_LIMIT })
    }
}

/// Sends a request on a connection of its own and waits for the answer: accepted or rejected.
pub(super) async fn ask(context: &Context<'_>, request: &Request<'_>) -> Result<CommandResult, Error> {
    let link = Link::connect(context).await?;
    let answer = ask_on(context, &link, request).await?;
    link.close().await;
    Ok(answer)
}

/// The same on a link that is there.
pub(super) async fn ask_on(context: &Context<'_>, link: &Link, request: &Request<'_>) -> Result<CommandResult, Error> {
    let fleet = &context.options.fleet;
    let verb = Verb::parse(request.verb).ok_or_else(|| Error::NoVerb(request.verb))?;
    let result = Topic::CommandResult(request.database.clone(), verb.clone()).to_string(fleet);
    // The answer comes on the result topic whether or not it also goes to a topic of our own, so none is named.
    let mut answers = link.subscribe(&[result]).await?;
    let correlation = format!("{:016x}{:016x}", context.random.next_u64(), context.random.next_u64());
    let message = Message {
        correlation_data: Some(correlation.clone().into_bytes()),
        ..Message::new(Topic::Command(request.database.clone(), verb).to_string(fleet), request.payload.clone())
    };
    let digest = Digest::of_bytes(&request.payload);
    // A request is not kept for a controller that comes later, so it is sent again; the correlation data tells the
    // controller that it is the same one.
    let asking = async {
        loop {
            link.publish(&message).await?;
            let answer = answer_to(link, &mut answers, &correlation, &digest);
            if let Ok(answer) = tokio::time::timeout(AGAIN, answer).await {
                return answer;
            }
        }
    };
    match tokio::time::timeout(request.timeout, asking).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(no_answer(context, link, request.timeout).await),
    }
}

async fn no_answer(context: &Context<'_>, link: &Link, limit: Duration) -> Error {
    let controllers = link.controllers(context).await.unwrap_or_default();
    let controllers = nobody_online(context, link.server(), &controllers)
        .unwrap_or_else(|| "a controller is online, but busy: ask again with a longer --timeout".to_owned());
    Error::NoAnswer { limit, controllers }
}

/// Waits for the answer to our own request: by its correlation data, and where a broker lost that, by the digest.
async fn answer_to(
    link: &Link,
    answers: &mut Subscription,
    correlation: &str,
    digest: &Digest,
) -> Result<CommandResult, Error> {
    loop {
        let message = answers.next().await.map_err(|source| link.error(source))?;
        let result: CommandResult = serde_json::from_slice(&message.payload)
            .map_err(|error| Error::Unreadable { topic: plain(&message.topic), why: error.to_string() })?;
        let ours = match &result.correlation_id {
            Some(id) => id == correlation,
            None => result.request == *digest,
        };
        if ours {
            return Ok(result);
        }
    }
}

/// What machines get when a request was rejected.
#[derive(Debug, Serialize)]
struct Rejected<'a> {
    database: &'a DatabaseId,
    result: CommandOutcome,
    faults: &'a [Fault],
}

/// Shows why a request was rejected.
pub(super) fn rejected(database: &DatabaseId, faults: &[Fault], format: Format, out: &mut Out) -> Result<Exit, Error> {
    let document = Rejected { database, result: CommandOutcome::Rejected, faults };
    out.document(format, &document, |style| render::faults(faults, style))?;
    Ok(Exit::Failed)
}
