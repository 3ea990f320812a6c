//! Hosts that pgmoor chose and that are to be left, or gone: others are chosen where there are some.
//!
//! Invariants: a database that has not come to rest under what was chosen before does not move, so its data is never on two
//! ways at once; nothing moves that a spec wants to be left alone; where no other host fits, everything stays as it is, and
//! why is said.

use std::collections::BTreeSet;

use super::chooser::Chooser;
use super::judge;
use super::live::{self, Missing};
use super::pass::{Error, Next, Pass, published_ports};
use super::placing::{self, Choices, Given, Placing, Seen};
use super::promises::Promises;
use super::service::Shared;
use crate::contract::documents::ConditionType;
use crate::domain::database::{self, Accepted};
use crate::domain::placement::Stay;
use crate::drivers;
use crate::model::spec::Reconcile;
use crate::model::{AcceptedSpec, HostPorts, Record};
use crate::report::conditions::Found;
use crate::runtime::chain::chain;
use crate::store::{self, Rows as _};

/// What another choice would be.
pub(super) struct Wish {
    choices: Choices,
    seen: Seen,
    /// What is said of it, where something is wanting.
    pub(super) found: Option<Found>,
    /// Whether the other hosts can take it.
    moves: bool,
}

/// Looks whether other hosts are to be chosen; none: what was chosen stands, or nobody can tell now.
pub(super) async fn wish(shared: &Shared, spec: &AcceptedSpec, record: &Record) -> Option<Wish> {
    let placing = placing(shared, spec, record);
    if spec.reconcile != Reconcile::Repair || !placing.is_due() {
        return None;
    }
    match wished(shared, &placing).await {
        Ok(wish) => Some(wish),
        Err(error) => {
            tracing::debug!(database = %spec.id, error = chain(&error), "nobody can tell now whether other hosts fit");
            None
        }
    }
}

fn placing<'a>(shared: &'a Shared, spec: &'a AcceptedSpec, record: &'a Record) -> Placing<'a> {
    Placing { shared, spec, record: Some(record), previous: Some(spec), stay: Stay::Wanted }
}

/// Why other hosts could not be chosen.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error("look at the hosts")]
    Hosts(#[from] drivers::Error),
    #[error("read what is promised")]
    Store(#[from] store::Error),
}

async fn wished(shared: &Shared, placing: &Placing<'_>) -> Result<Wish, Unseen> {
    let (spec, seen) = (placing.spec, placing.look().await?);
    let others = ports_of_others(shared, spec)?;
    let choices = {
        let mut accepting = shared.accepting.lock().await;
        let promises = judge::promises(shared, &mut accepting)?;
        placing.choose(&seen, Given { promises, ports: &others }, &BTreeSet::new())
    };
    let goes_on = choices.values().all(|choice| !choice.placement.hosts.is_empty());
    let moves = goes_on && placing::all_hosts(&choices) != hosts_of(spec);
    let refused = if moves { refused(shared, &placing::with_hosts(spec.clone(), &choices)).await? } else { None };
    let wanting = choices.iter().find_map(|(node, choice)| choice.wanting(node));
    let found = refused.clone().or(wanting).map(|message| Found {
        kind: ConditionType::PlacementIncomplete,
        reason: "NoOtherHost".to_owned(),
        message,
        hint: Some(
            "bring a host in, or take one into use again: `pgmoor hosts` shows them with their labels".to_owned(),
        ),
    });
    Ok(Wish { choices, seen, found, moves: moves && refused.is_none() })
}

/// Why the hosts that were chosen cannot take it, in a sentence; none: they can.
async fn refused(shared: &Shared, spec: &AcceptedSpec) -> Result<Option<String>, drivers::Error> {
    let looked = live::look(&shared.world, spec, &serde_json::Value::Null, Missing::Pull).await?;
    let words: Vec<String> = looked.faults.into_iter().map(|fault| fault.message).collect();
    let hosts: Vec<String> = hosts_of(spec).into_iter().map(String::from).collect();
    Ok((!words.is_empty()).then(|| format!("it would be on {}, but {}", hosts.join(", "), words.join("; "))))
}

fn hosts_of(spec: &AcceptedSpec) -> BTreeSet<crate::model::HostId> {
    let open = spec.nodes.iter().filter(|node| node.placement.is_some());
    open.flat_map(|node| &node.hosts).cloned().collect()
}

fn ports_of_others(shared: &Shared, spec: &AcceptedSpec) -> store::Result<HostPorts> {
    let ports = shared.store.read(|reader| reader.ports())?;
    Ok(ports.into_iter().filter(|(_, owner)| *owner != spec.id).collect())
}

impl Pass {
    /// Takes the other hosts, in the record first; none: they are not free any more, or something else came meanwhile.
    pub(super) async fn replace(&self, spec: &AcceptedSpec, record: Record, wish: Wish) -> Result<Option<Next>, Error> {
        let (shared, revision) = (&self.shared, record.revision);
        let Some(stored) = record.spec.clone().filter(|_| wish.moves) else { return Ok(None) };
        shared.world.confirm_lead().await.map_err(Error::Record)?;
        let others = ports_of_others(shared, spec)?;
        let mut accepting = shared.accepting.lock().await;
        let promises: &mut Promises = judge::promises(shared, &mut accepting)?;
        let first = placing::all_hosts(&wish.choices);
        let again = placing(shared, spec, &record).choose(&wish.seen, Given { promises, ports: &others }, &first);
        if placing::all_hosts(&again) != first {
            return Ok(None);
        }
        let moved = placing::with_hosts(spec.clone(), &wish.choices);
        let chosen = placing::placements(wish.choices);
        let mut choose = Chooser::new(shared, &moved, &record.ports, &others).await?;
        let accepted = Accepted { spec: &moved, stored: &stored, previous: Some(spec), placement: &chosen };
        let next = database::mint(accepted, record, &mut choose)?;
        choose.ended()?;
        tracing::info!(database = %spec.id, hosts = ?hosts_of(&moved), was = ?hosts_of(spec), "other hosts are chosen");
        let (ports, next) = (published_ports(&moved, &next), next);
        let written = shared.store.write(move |writer| {
            let is_last = writer.record(&next.database)?.is_some_and(|kept| kept.revision == revision);
            if is_last {
                writer.put_record(&next)?;
                writer.put_ports(&next.database, &ports)?;
            }
            Ok(is_last)
        });
        if !written.await? {
            return Ok(None);
        }
        promises.accepted(&moved);
        Ok(Some(Next::Again))
    }
}
