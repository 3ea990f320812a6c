//! `plan`: asks the fleet's controller what a spec would change, and shows the answer.

use std::time::Duration;

use serde::Serialize;

use super::args::{Format, Plan as Args};
use super::input::Spec;
use super::link::{Link, nobody_online};
use super::output::plain;
use super::{Context, Error, Exit, Out, render};
use crate::contract::Fault;
use crate::contract::documents::{CommandOutcome, CommandResult, PlanDoc};
use crate::contract::topics::{Topic, Verb};
use crate::model::{DatabaseId, Digest};
use crate::mqtt::{Message, Subscription};

/// How long an answer may take until the question is asked again: a look at the world takes a second or two.
const AGAIN: Duration = Duration::from_secs(5);

/// What machines get when the spec was rejected.
#[derive(Debug, Serialize)]
struct Rejected<'a> {
    database: &'a DatabaseId,
    result: CommandOutcome,
    faults: &'a [Fault],
}

pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let spec = Spec::read(&args.spec)?;
    spec.publishable()?;
    let fleet = &context.options.fleet;
    let Some(verb) = Verb::parse(Verb::PLAN) else { return Ok(Exit::Failed) };
    let result = Topic::CommandResult(spec.database.clone(), verb.clone()).to_string(fleet);
    let link = Link::connect(context).await?;
    // The answer comes on the result topic whether or not it also goes to a topic of our own, so none is named.
    let mut answers = link.subscribe(&[result]).await?;
    let correlation = format!("{:016x}{:016x}", context.random.next_u64(), context.random.next_u64());
    let question = Message {
        correlation_data: Some(correlation.clone().into_bytes()),
        ..Message::new(Topic::Command(spec.database.clone(), verb).to_string(fleet), spec.bytes.clone())
    };
    let digest = spec.digest();
    // A request is not kept for a controller that comes later, so it is sent again; the correlation data tells the
    // controller that it is the same one.
    let asking = async {
        loop {
            link.publish(&question).await?;
            let answer = answer_to(&link, &mut answers, &correlation, &digest);
            if let Ok(answer) = tokio::time::timeout(AGAIN, answer).await {
                return answer;
            }
        }
    };
    let answer = match tokio::time::timeout(args.timeout, asking).await {
        Ok(answer) => answer?,
        Err(_elapsed) => return Err(no_answer(context, &link, args.timeout).await),
    };
    link.close().await;
    match answer.plan {
        Some(document) if answer.result == CommandOutcome::Accepted => show(&document, args.output.format, out),
        Some(_) | None => rejected(&spec, &answer.faults, args.output.format, out),
    }
}

async fn no_answer(context: &Context<'_>, link: &Link, limit: Duration) -> Error {
    let controllers = link.controllers(context).await.unwrap_or_default();
    let controllers = nobody_online(context, link.server(), &controllers)
        .unwrap_or_else(|| "a controller is online, but busy: ask again with a longer --timeout".to_owned());
    Error::NoAnswer { limit, controllers }
}

/// Waits for the answer to our own question: by its correlation data, and where a broker lost that, by the digest.
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

/// Shows a plan; its exit code says whether there is anything to do. What waits is still to be done.
pub(super) fn show(document: &PlanDoc, format: Format, out: &mut Out) -> Result<Exit, Error> {
    out.document(format, document, |style| render::plan(document, style))?;
    Ok(if document.is_empty() && document.waiting.is_empty() { Exit::Done } else { Exit::Changes })
}

/// Shows why there is no plan.
pub(super) fn rejected(spec: &Spec, faults: &[Fault], format: Format, out: &mut Out) -> Result<Exit, Error> {
    let document = Rejected { database: &spec.database, result: CommandOutcome::Rejected, faults };
    out.document(format, &document, |style| render::faults(faults, style))?;
    Ok(Exit::Failed)
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::Written;
    use super::*;

    #[test]
    fn what_waits_is_still_to_be_done() {
        let document = |waiting: serde_json::Value| -> PlanDoc {
            serde_json::from_value(serde_json::json!({
                "database": "shop", "state": "proposed", "digest": Digest::of_bytes(b"").to_string(),
                "counts": {"create": 0, "update": 0, "recreate": 0, "delete": 0}, "disruption": "none",
                "stages": [], "waiting": waiting, "updated_at": "2026-01-01T00:00:00Z",
            }))
            .unwrap()
        };
        let written = Written::default();
        let mut out = Out::to(Box::new(written.clone()), Box::new(std::io::sink()));
        let nothing = show(&document(serde_json::json!([])), Format::Text, &mut out).unwrap();
        assert_eq!(nothing, Exit::Done);
        let waits = show(&document(serde_json::json!([{"reason": "r"}])), Format::Text, &mut out).unwrap();
        assert_eq!(waits, Exit::Changes);
        assert!(written.text().contains("nothing to do now, 1 waiting"));
    }
}
