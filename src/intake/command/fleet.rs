//! Requests about the whole fleet, on `commands/{verb}`: `resume` goes on after a halt, others are about a host.

use super::{Arrival, Error, Intake, hosts};
use crate::contract::commands::{FleetCommand, HostRemoval, HostRequest};
use crate::contract::documents::{CommandOutcome, CommandResult, EventType, Time, to_bytes};
use crate::contract::faults::Fault;
use crate::contract::topics::{Topic, Verb};
use crate::model::{Digest, FleetId, HostStanding, Scope};
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
        let (verb, arrival, here) = (verb.clone(), arrival.clone(), self.host.clone());
        let write = self.store.write(move |writer| {
            if let Some(correlation) = &arrival.correlation {
                let key = format!("/{}/{}", verb.as_str(), Digest::of_bytes(correlation));
                if !writer.command_is_new(&key, now_ms)? {
                    return Ok(());
                }
            }
            let reply = match &read {
                Ok(FleetCommand::Resume) => {
                    resume(writer, &fleet, now_ms)?;
                    Ok(None)
                }
                Ok(FleetCommand::Drain(HostRequest { host })) => {
                    hosts::wish(writer, &here, (host, Some(HostStanding::Drained), false))?.map(Some)
                }
                Ok(FleetCommand::Use(HostRequest { host })) => {
                    hosts::wish(writer, &here, (host, None, false))?.map(Some)
                }
                Ok(FleetCommand::Remove(HostRemoval { host, force })) => {
                    hosts::wish(writer, &here, (host, Some(HostStanding::Removed), *force))?.map(Some)
                }
                Err(faults) => Err(faults.clone()),
            };
            answers(&fleet, &verb, &arrival, reply, now_ms).iter().try_for_each(|message| writer.enqueue(message))
        });
        write.await?;
        // The loop looks at the halt whenever it wakes, and the fleet's pass at what is wanted of hosts.
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

fn answers(
    fleet: &FleetId,
    verb: &Verb,
    arrival: &Arrival,
    reply: Result<Option<String>, Vec<Fault>>,
    now_ms: i64,
) -> Vec<OutMessage> {
    let (result, message, faults) = match reply {
        Ok(message) => (CommandOutcome::Accepted, message, Vec::new()),
        Err(faults) => (CommandOutcome::Rejected, None, faults),
    };
    let answer = CommandResult {
        database: None,
        verb: verb.as_str().to_owned(),
        request: Digest::of_bytes(&arrival.payload),
        correlation_id: arrival.correlation.clone().and_then(|bytes| String::from_utf8(bytes).ok()),
        result,
        faults,
        plan: None,
        message,
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
