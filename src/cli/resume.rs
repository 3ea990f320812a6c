//! Requests about the whole fleet: `resume` says go on to one whose work was halted after failures in a row, `host` how a
//! host is to stand.

use std::time::Duration;

use super::args::{HostNamed, HostRemove, Output, Resume as Args};
use super::link::{Link, nobody_online};
use super::output::plain;
use super::{Context, Error, Exit, Out, render};
use crate::contract::commands::{HostRemoval, HostRequest, REMOVE_HOST, RESUME};
use crate::contract::documents::{CommandOutcome, CommandResult, to_bytes};
use crate::contract::topics::{Topic, Verb};
use crate::mqtt::{Message, Subscription};

/// How long an answer may take until the request is sent again.
const AGAIN: Duration = Duration::from_secs(5);

/// `pgmoor resume`
pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let answer = request(context, (RESUME, b"{}".to_vec()), args.timeout).await?;
    show(&answer, args.output, out)
}

/// `pgmoor host drain` and `pgmoor host use`
pub(super) async fn host(
    context: &Context<'_>,
    (verb, named): (&'static str, &HostNamed),
    out: &mut Out,
) -> Result<Exit, Error> {
    let payload = to_bytes(&HostRequest { host: named.host.clone() });
    show(&request(context, (verb, payload), named.timeout).await?, named.output, out)
}

/// `pgmoor host remove`
pub(super) async fn remove(context: &Context<'_>, args: &HostRemove, out: &mut Out) -> Result<Exit, Error> {
    let HostRemove { named, force } = args;
    let payload = to_bytes(&HostRemoval { host: named.host.clone(), force: *force });
    show(&request(context, (REMOVE_HOST, payload), named.timeout).await?, named.output, out)
}

fn show(answer: &CommandResult, output: Output, out: &mut Out) -> Result<Exit, Error> {
    out.document(output.format, answer, |style| match (answer.result, &answer.message) {
        (CommandOutcome::Accepted, Some(message)) => format!("accepted: {}\n", plain(message)),
        (CommandOutcome::Accepted, None) => "accepted: work begins again\n".to_owned(),
        (CommandOutcome::Rejected, _) => render::faults(&answer.faults, style),
    })?;
    Ok(if answer.result == CommandOutcome::Accepted { Exit::Done } else { Exit::Failed })
}

async fn request(
    context: &Context<'_>,
    (verb, payload): (&'static str, Vec<u8>),
    timeout: Duration,
) -> Result<CommandResult, Error> {
    let link = Link::connect(context).await?;
    let answer = match tokio::time::timeout(timeout, ask(context, &link, (verb, payload))).await {
        Ok(answer) => answer?,
        Err(_elapsed) => {
            let controllers = link.controllers(context).await.unwrap_or_default();
            let controllers = nobody_online(context, link.server(), &controllers)
                .unwrap_or_else(|| "a controller is online, but busy: ask again with a longer --timeout".to_owned());
            return Err(Error::NoAnswer { limit: timeout, controllers });
        }
    };
    link.close().await;
    Ok(answer)
}

/// Sends the request until it is answered: its correlation data tells the controller that it is the same one.
async fn ask(
    context: &Context<'_>,
    link: &Link,
    (name, payload): (&'static str, Vec<u8>),
) -> Result<CommandResult, Error> {
    let fleet = &context.options.fleet;
    let verb = Verb::parse(name).ok_or(Error::NoVerb(name))?;
    let mut answers = link.subscribe(&[Topic::FleetCommandResult(verb.clone()).to_string(fleet)]).await?;
    let correlation = format!("{:016x}{:016x}", context.random.next_u64(), context.random.next_u64());
    let message = Message {
        correlation_data: Some(correlation.clone().into_bytes()),
        ..Message::new(Topic::FleetCommand(verb).to_string(fleet), payload)
    };
    loop {
        link.publish(&message).await?;
        if let Ok(answer) = tokio::time::timeout(AGAIN, answer_to(link, &mut answers, &correlation)).await {
            return answer;
        }
    }
}

async fn answer_to(link: &Link, answers: &mut Subscription, correlation: &str) -> Result<CommandResult, Error> {
    loop {
        let message = answers.next().await.map_err(|source| link.error(source))?;
        let result: CommandResult = serde_json::from_slice(&message.payload)
            .map_err(|error| Error::Unreadable { topic: plain(&message.topic), why: error.to_string() })?;
        // A broker that loses the correlation data leaves one answer that may be ours: all of them say the same.
        if result.correlation_id.as_deref().is_none_or(|id| id == correlation) {
            return Ok(result);
        }
    }
}
