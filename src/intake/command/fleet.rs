//! Requests about the whole fleet, on `commands/{verb}`: `resume` goes on after a halt.

use super::{Arrival, Error, Intake};
use crate::contract::commands::FleetCommand;
use crate::contract::documents::{CommandOutcome, CommandResult, EventType, Time, to_bytes};
use crate::contract::faults::Fault;
use crate::contract::topics::{Topic, Verb};
use crate::model::{Digest, FleetId, Scope};
use crate::report;
use crate::store::{self, OutMessage, Rows as _, Writer};

impl Intake {
    /// Does what a request asks for, with its answer, in one transaction; one that was done before is not done again.
    pub(in super::super) async fn fleet_command(&self, verb: &Verb, arrival: &Arrival) -> Result<(), Error> {
        if arrival.retained && arrival.payload.is_empty() {
            return Ok(());
        }
        let read = FleetCommand::read(verb, &arrival.payload, arrival.retained);
        let (fleet, now_ms) = (self.fleet.clone(), self.clock.now_ms());
        let (verb, arrival) = (verb.clone(), arrival.clone());
        let write = self.store.write(move |writer| {
            if let Some(correlation) = &arrival.correlation {
                let key = format!("/{}/{}", verb.as_str(), Digest::of_bytes(correlation));
                if !writer.command_is_new(&key, now_ms)? {
                    return Ok(());
                }
            }
            let faults = match &read {
                Ok(FleetCommand::Resume) => {
                    resume(writer, &fleet, now_ms)?;
                    Vec::new()
                }
                Err(faults) => faults.clone(),
            };
            answers(&fleet, &verb, &arrival, faults, now_ms).iter().try_for_each(|message| writer.enqueue(message))
        });
        write.await?;
        // The loop looks at the halt whenever it wakes.
        self.bell.ring(Scope::Fleet);
        Ok(())
    }
}

/// A person says go on. Without a halt there is nothing to do, and that is no fault: it may be asked twice.
fn resume(writer: &mut Writer<'_>, fleet: &FleetId, now_ms: i64) -> store::Result<()> {
    let mut halt = writer.halt()?;
    if halt.since_ms.is_none() {
        return Ok(());
    }
    for (database, event) in report::halt::events(fleet, &halt, EventType::FleetResumed, Time::from_ms(now_ms)) {
        writer.enqueue(&OutMessage::event(Topic::Events(database).to_string(fleet), to_bytes(&event), now_ms))?;
    }
    tracing::info!(databases = halt.failed.len(), "a person said go on after the halt");
    halt.resume();
    writer.put_halt(&halt)
}

fn answers(fleet: &FleetId, verb: &Verb, arrival: &Arrival, faults: Vec<Fault>, now_ms: i64) -> Vec<OutMessage> {
    let answer = CommandResult {
        database: None,
        verb: verb.as_str().to_owned(),
        request: Digest::of_bytes(&arrival.payload),
        correlation_id: arrival.correlation.clone().and_then(|bytes| String::from_utf8(bytes).ok()),
        result: if faults.is_empty() { CommandOutcome::Accepted } else { CommandOutcome::Rejected },
        faults,
        plan: None,
        message: None,
        spec: None,
        history: None,
        diff: None,
        decision: None,
        task: None,
        at: Time::from_ms(now_ms),
    };
    let payload = to_bytes(&answer);
    let topic = Topic::FleetCommandResult(verb.clone()).to_string(fleet);
    std::iter::once(topic.as_str())
        .chain(arrival.response_topic.as_deref())
        .map(|topic| OutMessage {
            correlation_data: arrival.correlation.clone(),
            ..OutMessage::event(topic, payload.clone(), now_ms)
        })
        .collect()
}
