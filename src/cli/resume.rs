//! `resume`: says go on to a fleet whose work was halted after failures in a row.

use std::time::Duration;

use super::args::Resume as Args;
use super::link::{Link, nobody_online};
use super::output::plain;
use super::{Context, Error, Exit, Out, render};
use crate::contract::commands::RESUME;
use crate::contract::documents::{CommandOutcome, CommandResult};
use crate::contract::topics::{Topic, Verb};
use crate::mqtt::{Message, Subscription};

/// How long an answer may take until the request is sent again.
const AGAIN: Duration = Duration::from_secs(5);

pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let link = Link::connect(context).await?;
    let answer = match tokio::time::timeout(args.timeout, ask(context, &link)).await {
        Ok(answer) => answer?,
        Err(_elapsed) => {
            let controllers = link.controllers(context).await.unwrap_or_default();
            let controllers = nobody_online(context, link.server(), &controllers)
                .unwrap_or_else(|| "a controller is online, but busy: ask again with a longer --timeout".to_owned());
            return Err(Error::NoAnswer { limit: args.timeout, controllers });
        }
    };
    link.close().await;
    out.document(args.output.format, &answer, |style| match answer.result {
        CommandOutcome::Accepted => "accepted: work begins again\n".to_owned(),
        CommandOutcome::Rejected => render::faults(&answer.faults, style),
    })?;
    Ok(if answer.result == CommandOutcome::Accepted { Exit::Done } else { Exit::Failed })
}

/// Sends the request until it is answered: its correlation data tells the controller that it is the same one.
async fn ask(context: &Context<'_>, link: &Link) -> Result<CommandResult, Error> {
    let fleet = &context.options.fleet;
    let verb = Verb::parse(RESUME).ok_or(Error::NoVerb(RESUME))?;
    let mut answers = link.subscribe(&[Topic::FleetCommandResult(verb.clone()).to_string(fleet)]).await?;
    let correlation = format!("{:016x}{:016x}", context.random.next_u64(), context.random.next_u64());
    let message = Message {
        correlation_data: Some(correlation.clone().into_bytes()),
        ..Message::new(Topic::FleetCommand(verb).to_string(fleet), b"{}".to_vec())
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
