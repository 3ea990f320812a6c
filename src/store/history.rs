//! The history of a database: its last accepted specs with their documents, and its last plans with their steps.
//!
//! Invariants: numbers grow and are never given twice while the store lives; the oldest beyond what is asked for goes in
//! the transaction that adds one; a store that was lost begins anew, with the spec of the record as the first.

use super::error::Result;
use super::reader::{self, Source};
use super::rows::SpecRow;
use super::tables::{self, Table};
use super::writer::Writer;
use crate::contract::documents::{AcceptedBy, PastPlan, PastStep, Time};
use crate::model::record::StoredSpec;
use crate::model::{DatabaseId, Digest};

/// Steps that are kept of one plan; a plan has some thirty, and one that fails for ever counts its attempts.
const STEPS_MAX: usize = 200;

/// A spec on its way into the history.
#[derive(Debug, Clone)]
pub struct NewSpec {
    /// The spec.
    pub spec: StoredSpec,
    /// Whether it is a delete.
    pub deleted: bool,
    /// How it came.
    pub by: AcceptedBy,
    /// When it was accepted: milliseconds since 1970.
    pub at_ms: i64,
}

/// The questions one can ask of the history. Implemented by [`super::Reader`] and by [`Writer`].
#[expect(private_bounds, reason = "sealed: only this room has sources of rows")]
pub trait History: Source {
    /// The accepted specs that are kept, oldest first.
    ///
    /// # Errors
    /// The store cannot be read; so with all that follow.
    fn past_specs(&self, database: &DatabaseId) -> Result<Vec<SpecRow>> {
        rows(self, Table::Specs, database)
    }

    /// The plans that are kept, oldest first; the last one may not be finished.
    ///
    /// # Errors
    /// See [`History::past_specs`].
    fn past_plans(&self, database: &DatabaseId) -> Result<Vec<PastPlan>> {
        rows(self, Table::Plans, database)
    }

    /// Whether something waits to be said on a retained topic.
    ///
    /// # Errors
    /// See [`History::past_specs`].
    fn waits_to_be_said(&self, topic: &str) -> Result<bool> {
        Ok(self.get(Table::Waiting, topic.as_bytes())?.is_some())
    }
}

impl<S: Source> History for S {}

fn rows<S, T>(source: &S, table: Table, database: &DatabaseId) -> Result<Vec<T>>
where
    S: Source + ?Sized,
    T: serde::de::DeserializeOwned,
{
    let found = source.scan(table, tables::starting_with(tables::history_prefix(database)), usize::MAX)?;
    found.iter().map(|(_, value)| table.decode(value)).collect()
}

impl Writer<'_> {
    /// Adds an accepted spec to the history and forgets the oldest beyond `keep`.
    ///
    /// # Errors
    /// The store cannot be read or written; so with all that follow.
    pub fn add_past_spec(&mut self, database: &DatabaseId, new: NewSpec, keep: usize) -> Result<()> {
        let number = self.past_specs(database)?.last().map_or(0, |row| row.number).saturating_add(1);
        let NewSpec { spec, deleted, by, at_ms } = new;
        let row = SpecRow { number, spec, deleted, by, at_ms };
        self.put(Table::Specs, tables::history_key(database, number), &row)?;
        self.drop_oldest(Table::Specs, database, keep)
    }

    /// Adds a step to the plan that runs; begins one where none does.
    ///
    /// # Errors
    /// See [`Writer::add_past_spec`].
    pub fn add_past_step(
        &mut self,
        database: &DatabaseId,
        (spec, step): (Option<Digest>, PastStep),
        now: Time,
        keep: usize,
    ) -> Result<()> {
        let last = self.last_plan(database)?;
        let (number, mut plan) = match last {
            Some((number, plan)) if plan.finished_at.is_none() && plan.spec == spec => (number, plan),
            other => {
                let number = other.map_or(0, |(number, _)| number).saturating_add(1);
                let disruption = step.disruption;
                let (steps, steps_left_out) = (Vec::new(), 0);
                (number, PastPlan { spec, started_at: now, finished_at: None, disruption, steps, steps_left_out })
            }
        };
        plan.disruption = plan.disruption.max(step.disruption);
        let again = |before: &&mut PastStep| {
            before.error.is_some() && before.resource == step.resource && before.action == step.action
        };
        if let Some(before) = plan.steps.iter_mut().rev().find(again) {
            *before = PastStep { attempts: before.attempts.saturating_add(1), ..step };
        } else if plan.steps.len() < STEPS_MAX {
            plan.steps.push(step);
        } else {
            plan.steps_left_out = plan.steps_left_out.saturating_add(1);
        }
        self.put(Table::Plans, tables::history_key(database, number), &plan)?;
        self.drop_oldest(Table::Plans, database, keep)
    }

    /// The plan that ran has nothing left to do.
    ///
    /// # Errors
    /// See [`Writer::add_past_spec`].
    pub fn finish_plan(&mut self, database: &DatabaseId, now: Time) -> Result<()> {
        match self.last_plan(database)? {
            Some((number, plan)) if plan.finished_at.is_none() => {
                let plan = PastPlan { finished_at: Some(now), ..plan };
                self.put(Table::Plans, tables::history_key(database, number), &plan)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Forgets the history of a database.
    ///
    /// # Errors
    /// See [`Writer::add_past_spec`].
    pub(super) fn forget_history(&mut self, database: &DatabaseId) -> Result<()> {
        self.drop_oldest(Table::Specs, database, 0)?;
        self.drop_oldest(Table::Plans, database, 0)
    }

    fn last_plan(&self, database: &DatabaseId) -> Result<Option<(u64, PastPlan)>> {
        let prefix = tables::history_prefix(database);
        let range = tables::starting_with(prefix.clone());
        let found = reader::Source::scan(self, Table::Plans, range, usize::MAX)?;
        let Some((key, value)) = found.last() else { return Ok(None) };
        let number = tables::key_number(Table::Plans, key.get(prefix.len()..).unwrap_or_default())?;
        Ok(Some((number, Table::Plans.decode(value)?)))
    }

    fn drop_oldest(&mut self, table: Table, database: &DatabaseId, keep: usize) -> Result<()> {
        let range = tables::starting_with(tables::history_prefix(database));
        let found = reader::Source::scan(self, table, range, usize::MAX)?;
        let beyond = found.len().saturating_sub(keep);
        for (key, _) in found.into_iter().take(beyond) {
            self.remove(table, key)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::documents::{Action, Disruption};
    use crate::model::{FleetId, Secret};
    use crate::store::{Commits, Options, Store};

    fn store() -> Store {
        Store::in_memory(&Options { commits: Commits::AtOnce, ..Options::new(FleetId::parse("edge").unwrap()) })
            .unwrap()
    }

    fn spec(text: &str) -> NewSpec {
        let digest = Digest::of_bytes(text.as_bytes());
        let spec = StoredSpec { document: Secret::new(text), digest, generation: None, accepted_at_s: 0 };
        NewSpec { spec, deleted: false, by: AcceptedBy::Publish, at_ms: 0 }
    }

    fn step(resource: &str, error: Option<&str>) -> PastStep {
        PastStep {
            action: Action::Update,
            resource: resource.to_owned(),
            disruption: if error.is_some() { Disruption::Restart } else { Disruption::None },
            took_ms: 1,
            attempts: 1,
            error: error.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn the_last_specs_are_kept_and_numbers_are_not_given_twice() {
        let (store, shop, shop2) = (store(), DatabaseId::parse("shop").unwrap(), DatabaseId::parse("shop-2").unwrap());
        let (one, two) = (shop.clone(), shop2.clone());
        store
            .write(move |writer| {
                writer.add_past_spec(&two, spec("other"), 2)?;
                ["a", "b", "c"].into_iter().try_for_each(|text| writer.add_past_spec(&one, spec(text), 2))
            })
            .await
            .unwrap();
        let kept = store.read(|reader| reader.past_specs(&shop)).unwrap();
        let told: Vec<(u64, &str)> = kept.iter().map(|row| (row.number, row.spec.document.expose())).collect();
        assert_eq!(told, [(2, "b"), (3, "c")]);
        let one = shop.clone();
        store.write(move |writer| writer.forget_database(&one)).await.unwrap();
        assert!(store.read(|reader| reader.past_specs(&shop)).unwrap().is_empty());
        assert_eq!(store.read(|reader| reader.past_specs(&shop2)).unwrap().len(), 1, "another one's history stays");
    }

    #[tokio::test]
    async fn a_plan_collects_its_steps_until_it_is_finished() {
        let (store, shop) = (store(), DatabaseId::parse("shop").unwrap());
        let id = shop.clone();
        store
            .write(move |writer| {
                let mut add = |step, at| writer.add_past_step(&id, (None, step), Time::from_ms(at), 10);
                add(step("a", Some("no")), 1)?;
                add(step("b", None), 2)?;
                add(step("a", None), 3)?;
                writer.finish_plan(&id, Time::from_ms(4))?;
                writer.finish_plan(&id, Time::from_ms(5))?;
                writer.add_past_step(&id, (None, step("c", None)), Time::from_ms(6), 10)
            })
            .await
            .unwrap();
        let plans = store.read(|reader| reader.past_plans(&shop)).unwrap();
        assert_eq!((plans[0].started_at.ms(), plans[0].finished_at.map(|at| at.ms())), (1, Some(4)));
        assert_eq!(plans[0].disruption, Disruption::Restart);
        let steps: Vec<(&str, u32, bool)> =
            plans[0].steps.iter().map(|step| (step.resource.as_str(), step.attempts, step.error.is_none())).collect();
        assert_eq!(steps, [("a", 2, true), ("b", 1, true)]);
        assert_eq!((plans.len(), plans[1].finished_at), (2, None));
    }
}
