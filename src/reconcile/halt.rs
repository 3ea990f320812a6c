//! The halt as it is kept: each failed step of a database counts in the transaction that stores its outcome, and so does
//! what breaks the row.

use crate::contract::documents::{EventType, Time};
use crate::contract::topics::Topic;
use crate::model::{DatabaseId, FleetId};
use crate::plan::Step;
use crate::plan::halt::FailedStep;
use crate::report;
use crate::store::{Result, Rows as _, Writer};

use super::ledger::say;

/// A step of a database failed. Where this makes the halt, an event of each database concerned says so.
pub(super) fn failed(
    writer: &mut Writer<'_>,
    (fleet, limit, now_ms): (&FleetId, u32, i64),
    database: &DatabaseId,
    (step, error): (&Step, &str),
) -> Result<()> {
    let mut halt = writer.halt()?;
    let before = halt.clone();
    let failed = FailedStep { resource: step.resource.clone(), error: error.to_owned() };
    let begins = halt.failed(database, failed, limit, now_ms);
    if halt != before {
        writer.put_halt(&halt)?;
    }
    if begins {
        tracing::error!(
            databases = halt.failed.len(),
            "steps of too many databases failed in a row: nothing new begins"
        );
        for (id, event) in report::halt::events(fleet, &halt, EventType::FleetHalted, Time::from_ms(now_ms)) {
            writer.enqueue(&say(fleet, &Topic::Events(id), &event, now_ms))?;
        }
    }
    Ok(())
}

/// A retry of a database worked, or all of it came to be as desired.
pub(super) fn worked(writer: &mut Writer<'_>, database: &DatabaseId) -> Result<()> {
    let mut halt = writer.halt()?;
    let before = halt.clone();
    halt.worked(database);
    if halt == before { Ok(()) } else { writer.put_halt(&halt) }
}
