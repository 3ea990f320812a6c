//! `history` and `diff`: what was accepted and done, told from the store.

use super::super::{Error, Intake};
use super::again::no_database;
use crate::contract::commands::Question;
use crate::contract::documents::{CommandResult, HistoryDoc, SpecDiff};
use crate::contract::faults::{Code, Fault};
use crate::contract::spec::diff::diff;
use crate::store::{History as _, Rows as _, SpecRow};

impl Intake {
    pub(super) async fn history(&self, question: Question) -> Result<(), Error> {
        let id = question.database.clone();
        self.carry_out(question, move |writer, answer| {
            let Some(record) = writer.record(&id)? else { return Ok(Err(vec![no_database(&id)])) };
            let intent = writer.intent(&id)?;
            let history = HistoryDoc {
                specs: writer.past_specs(&id)?.iter().map(SpecRow::told).collect(),
                plans: writer.past_plans(&id)?,
                trash: record.tombstone.as_ref().map(|tombstone| intent.trash(tombstone)),
            };
            Ok(Ok(CommandResult { history: Some(history), ..answer }))
        })
        .await
    }

    pub(super) async fn diff(&self, question: Question, from: u64, to: u64) -> Result<(), Error> {
        let id = question.database.clone();
        self.carry_out(question, move |writer, answer| {
            if writer.record(&id)?.is_none() {
                return Ok(Err(vec![no_database(&id)]));
            }
            let specs = writer.past_specs(&id)?;
            let (older, newer) = match (find(&specs, from), find(&specs, to)) {
                (Some(older), Some(newer)) => (older, newer),
                (older, newer) => {
                    let missing = [("/from", from, older), ("/to", to, newer)];
                    let missing = missing.into_iter().filter(|(_, _, found)| found.is_none());
                    return Ok(Err(missing.map(|(place, number, _)| not_found(place, number, &specs)).collect()));
                }
            };
            let changes = diff(older.spec.document.expose(), newer.spec.document.expose());
            let diff = SpecDiff { from: older.told(), to: newer.told(), changes };
            Ok(Ok(CommandResult { diff: Some(diff), ..answer }))
        })
        .await
    }
}

/// The spec that a person means by a number: the one of that generation, else the one of that number. Of several of one
/// generation (a spec was brought back unchanged) the newest.
pub(super) fn find(specs: &[SpecRow], number: u64) -> Option<&SpecRow> {
    let mut newest_first = specs.iter().rev();
    let by_generation = newest_first.find(|row| row.spec.generation == Some(number));
    by_generation.or_else(|| specs.iter().find(|row| row.number == number))
}

pub(super) fn not_found(place: &str, number: u64, specs: &[SpecRow]) -> Fault {
    let names: Vec<String> = specs.iter().map(|row| row.spec.generation.unwrap_or(row.number).to_string()).collect();
    let hint =
        if names.is_empty() { "the history is empty".to_owned() } else { format!("there are {}", names.join(", ")) };
    Fault::new(Code::NotFound, place, format!("the history has no generation {number}")).hint(hint)
}
