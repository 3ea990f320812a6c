//! What can be said about a spec without asking anyone: whether it is valid, and what it would make in an empty world.
//!
//! Invariants: the same room judges and plans as in the daemon; nothing that is minted here is ever shown or kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use super::args::{Plan as PlanArgs, Validate};
use super::input::Spec;
use super::{Context, Error, Exit, Out, render};
use crate::contract::documents::{PlanDoc, PlanNote, Time};
use crate::contract::spec::DEFAULT_MEMORY_BYTES;
use crate::contract::{self, Fault};
use crate::domain::database::{self, Accepted, Choose, PASSWORD_BYTES, PORT_FIRST, PORT_LAST, Placements};
use crate::domain::{FleetOptions, HostFacts, Hosts, Owner, fleet};
use crate::drivers::certificates;
use crate::model::record::StoredSpec;
use crate::model::{AcceptedSpec, Catalogue, DatabaseId, Digest, HostId, HostLabels, NodeHosts, Record, Scope, Secret};
use crate::plan::{Input, nothing_there, plan as make_plan};
use crate::report;

/// What `validate` says.
#[derive(Debug, Serialize)]
struct Verdict {
    database: DatabaseId,
    valid: bool,
    digest: Digest,
    faults: Vec<Fault>,
}

pub(super) fn validate(context: &Context<'_>, args: &Validate, out: &mut Out) -> Result<Exit, Error> {
    let spec = Spec::read(&args.spec)?;
    let catalogue = context.catalogue()?;
    let faults = accept(context, &spec, &catalogue)?.err().unwrap_or_default();
    let verdict = Verdict { database: spec.database.clone(), valid: faults.is_empty(), digest: spec.digest(), faults };
    out.document(args.output.format, &verdict, |style| {
        if verdict.valid { format!("{}: valid\n", verdict.database) } else { render::faults(&verdict.faults, style) }
    })?;
    Ok(if verdict.valid { Exit::Done } else { Exit::Failed })
}

pub(super) fn plan(context: &Context<'_>, args: &PlanArgs, out: &mut Out) -> Result<Exit, Error> {
    let spec = Spec::read(&args.spec)?;
    let catalogue = context.catalogue()?;
    match accept(context, &spec, &catalogue)? {
        Ok(accepted) => {
            let (accepted, notes) = placed(accepted);
            let mut document = planned(context, &spec, &accepted, &catalogue)?;
            document.notes.extend(notes);
            super::plan::show(&document, args.output.format, out)
        }
        Err(faults) => super::ask::rejected(&spec.database, &faults, args.output.format, out),
    }
}

fn accept(
    context: &Context<'_>,
    spec: &Spec,
    catalogue: &Catalogue,
) -> Result<Result<AcceptedSpec, Vec<Fault>>, Error> {
    let (host, known_hosts) = hosts(context, spec)?;
    let (ports_in_use, placed) = (BTreeMap::new(), NodeHosts::new());
    let context = contract::Context {
        data_dir: &context.options.data_dir,
        catalogue,
        host: Some(&host),
        placed: &placed,
        known_hosts: Some(&known_hosts),
        drained_hosts: None,
        previous: None,
        ports_in_use: &ports_in_use,
        default_memory_bytes: DEFAULT_MEMORY_BYTES,
    };
    Ok(contract::accept(&spec.database, &spec.bytes, &context))
}

/// The host that would read the spec, and the hosts of its fleet. Nobody is there to ask, so the spec is believed: its
/// hosts exist, and the first of them reads it unless the settings say otherwise.
fn hosts(context: &Context<'_>, spec: &Spec) -> Result<(HostId, BTreeSet<HostId>), Error> {
    let named = named_hosts(&spec.bytes);
    let set = context.options.host.clone();
    let host = set.or_else(|| named.first().cloned()).or_else(|| context.options.machine.clone());
    let host = host.ok_or(Error::NoHost)?;
    let mut known: BTreeSet<HostId> = named.into_iter().collect();
    known.insert(host.clone());
    Ok((host, known))
}

fn named_hosts(bytes: &[u8]) -> Vec<HostId> {
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let nodes = document.get("nodes").and_then(serde_json::Value::as_array).into_iter().flatten();
    let hosts = nodes.filter_map(|node| node.get("host_ids")?.as_array()).flatten();
    hosts.filter_map(|host| HostId::parse(host.as_str()?).ok()).collect()
}

/// Choices of a world in which nothing is taken. Nothing chosen here is shown.
struct Anything {
    port: u16,
}

impl Choose for Anything {
    fn entropy(&mut self) -> [u8; PASSWORD_BYTES] {
        [0; PASSWORD_BYTES]
    }

    fn port(&mut self, _host: &HostId) -> Option<u16> {
        let port = self.port;
        self.port = port.saturating_add(1);
        (port <= PORT_LAST).then_some(port)
    }
}

fn planned(
    context: &Context<'_>,
    spec: &Spec,
    accepted: &AcceptedSpec,
    catalogue: &Catalogue,
) -> Result<PlanDoc, Error> {
    let now_s = context.clock.now_s();
    let stored = StoredSpec {
        document: Secret::new(String::from_utf8_lossy(&spec.bytes)),
        digest: accepted.digest.clone(),
        generation: accepted.generation,
        accepted_at_s: now_s,
    };
    let record = Record::new(accepted.id.clone());
    let facts = facts(context, spec)?;
    let desired_and_record = if accepted.deleted {
        let record = database::bury(record, now_s, 0);
        (database::buried(&record)?, record)
    } else {
        let choose = &mut Anything { port: PORT_FIRST };
        let placement = &Placements::new();
        let accepted = Accepted { spec: accepted, stored: &stored, previous: None, placement };
        let record = database::mint(accepted, record, choose)?;
        let authority = certificates::make_authority(&context.options.fleet, now_s)?;
        let member = (&facts.host, facts.advertise_address);
        let entropy = [0; fleet::ENTROPY_BYTES];
        let fleet = fleet::mint(&context.options.fleet, member, authority.certificate_pem, authority.key_pem, &entropy);
        let hosts = every_host(accepted.spec, &facts);
        (database::graph(accepted.spec, &record, &fleet, &hosts, catalogue, &FleetOptions::default())?, record)
    };
    let (desired, record) = desired_and_record;
    let scope = Scope::Database(accepted.id.clone());
    let (outcomes, forced) = (BTreeMap::new(), BTreeSet::new());
    let observed = nothing_there(&desired);
    let input = Input { scope: &scope, desired: &desired, observed: &observed, outcomes: &outcomes, forced: &forced };
    let now = Time::from_ms(context.clock.now_ms());
    let document = report::proposed_plan_document(&accepted.id, &make_plan(&input), &record, now);
    Ok(report::with_guesses(document, &record.ports.values().copied().collect()))
}

/// The spec with a host for each instance whose host pgmoor chooses when it accepts the spec, and a word about it. The
/// first is the one that reads the spec; the others stand for any.
fn placed(mut accepted: AcceptedSpec) -> (AcceptedSpec, Vec<PlanNote>) {
    let mut notes = Vec::new();
    for node in &mut accepted.nodes {
        let Some(request) = &node.placement else { continue };
        let stands_for = (2..=request.hosts()).map(|number| format!("any-host-{number}"));
        let others: Vec<HostId> = stands_for.filter_map(|name| HostId::parse(&name).ok()).collect();
        if !others.is_empty() {
            let message = format!(
                "the hosts of {} are chosen when the spec is accepted; any-host-2 and on stand for what is not known offline",
                node.name
            );
            notes.push(PlanNote { pointer: "/replicas".to_owned(), message });
        }
        node.hosts.extend(others);
    }
    (accepted, notes)
}

/// All hosts of a spec, each as this one.
fn every_host(spec: &AcceptedSpec, facts: &HostFacts) -> Hosts {
    let hosts = spec.nodes.iter().flat_map(|node| &node.hosts);
    hosts.map(|host| HostFacts { host: host.clone(), hostname: host.to_string(), ..facts.clone() }).collect()
}

/// A host that has all it needs. What it has shows nowhere in a plan for an empty world.
fn facts(context: &Context<'_>, spec: &Spec) -> Result<HostFacts, Error> {
    /// An address for documentation (RFC 5737), where nothing answers.
    const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let (host, _) = hosts(context, spec)?;
    Ok(HostFacts {
        hostname: host.to_string(),
        host,
        swarm_node: "offline".to_owned(),
        data_dir: context.options.data_dir.clone(),
        advertise_address: NOWHERE,
        cpus: 1,
        memory_bytes: DEFAULT_MEMORY_BYTES,
        labels: HostLabels::new(),
        postgres_owner: Owner::IMAGE,
        etcd_owner: Owner::IMAGE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_a_spec_are_found() {
        let spec = br#"{"nodes": [{"host_ids": ["b", "No"]}, {"name": "n2"}, {"host_ids": ["a", 7]}]}"#;
        let hosts: Vec<String> = named_hosts(spec).into_iter().map(String::from).collect();
        assert_eq!(hosts, ["b", "a"]);
        assert!(named_hosts(b"[").is_empty());
        assert!(named_hosts(br#"{"nodes": {}}"#).is_empty());
    }

    #[test]
    fn ports_run_out() {
        let host = HostId::parse("h").unwrap();
        let mut choose = Anything { port: PORT_LAST };
        assert_eq!(choose.port(&host), Some(PORT_LAST));
        assert_eq!(choose.port(&host), None);
    }
}
