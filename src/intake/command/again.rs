//! `undelete` and `rollback`: a spec that was accepted before is published again, as a new generation.
//!
//! It is judged as any other: by the rules here and at once, so that the answer tells the faults, then by the host. The
//! topic gets it through the outbox, and the answer says whether the broker took it. Invariants: the candidate and the
//! message are one transaction, and a candidate keeps the trash from being purged; who is killed before the answer has
//! done what was asked, and says nothing.

use std::time::Duration;

use super::super::spec::{candidate, propose};
use super::super::{Error, Intake, Retained};
use super::history::{find, not_found};
use super::{answers, is_new};
use crate::contract;
use crate::contract::commands::Question;
use crate::contract::documents::{AcceptedBy, CommandResult, ObservedSpec, Time};
use crate::contract::faults::{Code, Fault};
use crate::contract::spec::diff::with_generation;
use crate::contract::topics::Topic;
use crate::model::{AcceptedSpec, DatabaseId, Record, Scope};
use crate::store::{self, History as _, OutMessage, Rows as _, SpecRow, Writer};

/// Which spec is published again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    /// The last accepted one of a database in the trash.
    LastAccepted,
    /// One of the history.
    Past(u64),
}

/// How long the broker may take to say whether it takes the spec; the answer comes then in any case.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is published again.
struct Again {
    spec: ObservedSpec,
    document: String,
}

impl Intake {
    pub(super) async fn publish_again(&self, question: Question, which: Which) -> Result<(), Error> {
        let (intake, id, asked) = (self.clone(), question.database.clone(), question.clone());
        let accepted = CommandResult::accepted(&question, Time::from_ms(self.clock.now_ms()));
        let refused = accepted.clone();
        let begun = self.store.write(move |writer| {
            if !is_new(writer, &asked, refused.at.ms())? {
                return Ok(None);
            }
            match intake.again_in(writer, &asked.database, which)? {
                Ok(again) => Ok(Some(again)),
                Err(faults) => {
                    let messages = answers(&intake.fleet, &asked, &refused.rejected(faults));
                    messages.iter().try_for_each(|message| writer.enqueue(message))?;
                    Ok(None)
                }
            }
        });
        let Some(again) = begun.await? else { return Ok(()) };
        self.bell.ring(Scope::Database(id.clone()));
        let message = self.told(&id, &again).await?;
        let answer = CommandResult { spec: Some(again.spec), message: Some(message), ..accepted };
        let messages = answers(&self.fleet, &question, &answer);
        let write = self.store.write(move |writer| messages.iter().try_for_each(|message| writer.enqueue(message)));
        Ok(write.await?)
    }

    /// What the answer says: whether the broker took the spec, which a fresh look at the topic shows. One that does not
    /// let pgmoor write there says so, or says nothing, depending on the broker.
    async fn told(&self, id: &DatabaseId, again: &Again) -> Result<String, Error> {
        let topic = Topic::Spec(id.clone());
        let name = topic.to_string(&self.fleet);
        let sent = async {
            while self.store.read(|reader| reader.waits(&name))? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok::<_, store::Error>(())
        };
        let sent = tokio::time::timeout(TAKEN_WITHIN, sent).await.ok().transpose()?;
        let holds = if sent.is_some() { self.confirm.retained(&topic).await } else { Retained::Unknown };
        let number = again.spec.generation.unwrap_or_default();
        Ok(match holds {
            Retained::Payload(payload) if payload == again.document.as_bytes() => {
                format!("its spec is published again as generation {number}, and judged")
            }
            Retained::Payload(_) | Retained::Nothing => format!(
                "its spec is judged again as generation {number}, but {name} does not hold it: the broker did not take it, or \
                 somebody published there since. Publish it there yourself, or let pgmoor write there \
                 (broker/mosquitto/pgmoor.acl)"
            ),
            Retained::Unknown => format!(
                "its spec is judged again as generation {number}; whether the broker took it on {name} is not known yet"
            ),
        })
    }

    fn again_in(
        &self,
        writer: &mut Writer<'_>,
        id: &DatabaseId,
        which: Which,
    ) -> store::Result<Result<Again, Vec<Fault>>> {
        let (record, specs) = (writer.record(id)?, writer.past_specs(id)?);
        let Some(record) = record else { return Ok(Err(vec![no_database(id)])) };
        let document = match chosen(&record, &specs, which) {
            Ok(document) => document,
            Err(fault) => return Ok(Err(vec![fault])),
        };
        let generation = next_generation(&record, &specs);
        let Some(document) = with_generation(&document, generation) else {
            return Ok(Err(vec![Fault::new(Code::InvalidJson, "", "the spec of the past cannot be read any more")]));
        };
        let previous = record.spec.as_ref().and_then(|stored| self.read_back(id, stored, Some(&record)));
        let (hosts, ports) = (writer.fleet_hosts()?, writer.ports()?);
        let placed = previous.as_ref().map(AcceptedSpec::placed).unwrap_or_default();
        let context = self.context((hosts.as_ref(), &placed), previous.as_ref(), &ports);
        let spec = match contract::accept(id, document.as_bytes(), &context) {
            Ok(spec) => spec,
            Err(faults) => return Ok(Err(faults)),
        };
        let now_ms = self.clock.now_ms();
        let by = match which {
            Which::LastAccepted => AcceptedBy::Undelete,
            Which::Past(_) => AcceptedBy::Rollback,
        };
        let mut row = writer.desired(id)?.unwrap_or_default();
        propose(&mut row, candidate(&spec, document.as_bytes(), by, now_ms));
        writer.put_desired(id, &row)?;
        let intent = writer.intent(id)?;
        writer.put_intent(id, &store::IntentRow { purge: false, ..intent })?;
        let topic = Topic::Spec(id.clone()).to_string(&self.fleet);
        writer.enqueue(&OutMessage::on_behalf(topic, document.clone().into_bytes(), now_ms))?;
        let (digest, client_token) = (spec.digest, spec.client_token);
        Ok(Ok(Again { spec: ObservedSpec { generation: Some(generation), digest, client_token }, document }))
    }
}

fn chosen(record: &Record, specs: &[SpecRow], which: Which) -> Result<String, Fault> {
    let id = &record.database;
    match (which, record.tombstone.is_some()) {
        (Which::LastAccepted, false) => Err(Fault::new(
            Code::NotDeleted,
            "",
            format!("database {id} is not deleted: there is nothing to bring back"),
        )),
        (Which::LastAccepted, true) => match &record.spec {
            Some(stored) => Ok(stored.document.expose().to_owned()),
            None => Err(no_database(id)),
        },
        (Which::Past(_), true) => Err(Fault::new(Code::IsDeleted, "", format!("database {id} is deleted"))
            .hint("bring it back first: `undelete`")),
        (Which::Past(number), false) => match find(specs, number) {
            Some(row) if !row.deleted => Ok(row.spec.document.expose().to_owned()),
            Some(_) => {
                Err(Fault::new(Code::InvalidValue, "/to", format!("{number} is a delete, and no spec to go back to"))
                    .hint("to delete the database, publish {\"deleted\": true}"))
            }
            None => Err(not_found("/to", number, specs)),
        },
    }
}

pub(super) fn no_database(id: &DatabaseId) -> Fault {
    Fault::new(Code::NotFound, "", format!("there is no database {id}, living or in the trash"))
        .hint("`pgmoor status` lists what there is; after a purge nothing comes back")
}

/// Higher than any generation that is known, and than any number of the history: nobody has used it.
fn next_generation(record: &Record, specs: &[SpecRow]) -> u64 {
    let accepted = record.spec.as_ref().and_then(|stored| stored.generation);
    let past = specs.iter().flat_map(|row| [Some(row.number), row.spec.generation]);
    past.chain([accepted]).flatten().max().unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{StoredSpec, Tombstone};
    use crate::model::{Digest, Secret};

    fn stored(text: &str, generation: Option<u64>) -> StoredSpec {
        StoredSpec {
            document: Secret::new(text),
            digest: Digest::of_bytes(text.as_bytes()),
            generation,
            accepted_at_s: 0,
        }
    }

    fn past(number: u64, generation: Option<u64>, deleted: bool) -> SpecRow {
        SpecRow { number, spec: stored(&format!("{number}"), generation), deleted, by: AcceptedBy::Publish, at_ms: 0 }
    }

    fn living() -> Record {
        Record { spec: Some(stored("last", Some(4))), ..Record::new(DatabaseId::parse("shop").unwrap()) }
    }

    #[test]
    fn a_new_generation_is_higher_than_all_that_is_known() {
        assert_eq!(next_generation(&living(), &[past(1, None, false), past(2, Some(3), false)]), 5);
        assert_eq!(next_generation(&living(), &[past(9, None, true)]), 10);
        assert_eq!(next_generation(&Record { spec: None, ..living() }, &[]), 1);
    }

    #[test]
    fn what_is_published_again_is_chosen_by_where_the_database_stands() {
        let tombstone = Tombstone { deleted_at_s: 0, purge_at_s: 1, last_digest: None };
        let buried = Record { tombstone: Some(tombstone), ..living() };
        let specs = [past(1, None, false), past(2, Some(7), false), past(3, None, true)];
        let code = |record: &Record, which| chosen(record, &specs, which).map_err(|fault| fault.code);
        assert_eq!(code(&buried, Which::LastAccepted), Ok("last".to_owned()));
        assert_eq!(code(&living(), Which::LastAccepted), Err(Code::NotDeleted));
        assert_eq!(code(&living(), Which::Past(7)), Ok("2".to_owned()), "by its generation");
        assert_eq!(code(&living(), Which::Past(1)), Ok("1".to_owned()), "by its number");
        assert_eq!(code(&living(), Which::Past(3)), Err(Code::InvalidValue));
        assert_eq!(code(&living(), Which::Past(8)), Err(Code::NotFound));
        assert_eq!(code(&buried, Which::Past(1)), Err(Code::IsDeleted));
    }
}
