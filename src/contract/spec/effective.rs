//! The nodes of a spec with the database's values merged in, each value with the place that it comes from.
//!
//! Reference 1.2 and 1.3: a node's value wins, parameters merge key by key, `pg_hba` and `pg_ident` lines of the node
//! come first, `orchestrator_opts` are replaced as a whole. Unlike there, a node's explicit `port: 0` stays 0.

use std::collections::BTreeMap;

use super::{Context, quantity};
use crate::contract::faults::pointer;
use crate::contract::wire::{DatabaseNodeSpec, DatabaseSpec, ParameterValue, SwarmOpts, SynchronousReplication};
use crate::model::catalogue::{PostgresImage, Template, Visibility};
use crate::model::resource::SynchronousMode;
use crate::model::spec::{NodeSpec, PlacementRequest, PortRequest};
use crate::model::{HostId, NodeName};

/// A value and the JSON pointer to where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) pointer: String,
}

/// A node as it would be.
#[derive(Debug)]
pub(super) struct Effective<'a> {
    /// The node's own entry, when the spec lists nodes.
    pub(super) own: Option<&'a DatabaseNodeSpec>,
    /// What is asked of its hosts; none: it names them.
    pub(super) placement: Option<PlacementRequest>,
    /// Its version; the pointer is where the document says it, or would say it.
    pub(super) version: At<String>,
    /// Whether the document itself says the version.
    pub(super) version_is_explicit: bool,
    /// The catalogue's entry of the version.
    pub(super) image: Option<&'a PostgresImage>,
    /// The port.
    pub(super) port: At<PortRequest>,
    /// Thousandths of a processor.
    pub(super) cpu_millis: Option<u64>,
    /// Bytes.
    pub(super) memory_bytes: u64,
    /// Whether a commit waits for a replica.
    pub(super) synchronous: SynchronousMode,
    /// Parameters by name.
    pub(super) parameters: BTreeMap<&'a str, At<&'a ParameterValue>>,
    /// Lines of `pg_hba.conf`.
    pub(super) pg_hba: Vec<&'a str>,
    /// Lines of `pg_ident.conf`.
    pub(super) pg_ident: Vec<&'a str>,
    /// Options for Swarm.
    pub(super) swarm: Option<At<&'a SwarmOpts>>,
}

impl Effective<'_> {
    /// The pinned image, if there is one.
    pub(super) fn pin(&self) -> Option<At<&str>> {
        let swarm = self.swarm.as_ref()?;
        let image = swarm.value.image.as_deref()?;
        Some(At { value: image, pointer: pointer(&swarm.pointer, "image") })
    }
}

/// The template that the spec names, as the catalogue has it.
pub(super) fn template<'a>(spec: &DatabaseSpec, context: &Context<'a>) -> Option<&'a Template> {
    context.catalogue.templates.get(spec.template.as_deref()?)
}

/// The nodes of the spec without those that it removes; one without an entry of its own when it lists none.
pub(super) fn nodes<'a>(spec: &'a DatabaseSpec, context: &Context<'a>) -> Vec<Effective<'a>> {
    match spec.nodes.as_deref() {
        None | Some([]) => vec![node(spec, None, String::new(), context)],
        Some(nodes) => {
            let each = nodes.iter().enumerate().filter(|(_, own)| own.deleted != Some(true));
            each.map(|(index, own)| node(spec, Some(own), pointer("/nodes", index), context)).collect()
        }
    }
}

fn node<'a>(
    spec: &'a DatabaseSpec,
    own: Option<&'a DatabaseNodeSpec>,
    place: String,
    context: &Context<'a>,
) -> Effective<'a> {
    let (version, version_is_explicit) = version(spec, own, &place, context);
    let cpus = own.and_then(|own| own.cpus.as_deref()).or(spec.cpus.as_deref());
    let memory = own.and_then(|own| own.memory.as_deref()).or(spec.memory.as_deref());
    let own_lines = |lines: fn(&DatabaseNodeSpec) -> &Vec<String>| own.map(lines).into_iter().flatten();
    Effective {
        own,
        placement: placement(spec, own),
        image: context.catalogue.postgres(&version.value),
        version,
        version_is_explicit,
        port: port(spec, own, &place, context),
        cpu_millis: cpus.and_then(|text| quantity::cpu_millis(text).ok()),
        memory_bytes: memory.and_then(|text| quantity::memory_bytes(text).ok()).unwrap_or(context.default_memory_bytes),
        synchronous: match spec.synchronous {
            None | Some(SynchronousReplication::Off) => SynchronousMode::Off,
            Some(SynchronousReplication::On) => SynchronousMode::On,
            Some(SynchronousReplication::Quorum) => SynchronousMode::Quorum,
        },
        parameters: parameters(spec, own, &place),
        pg_hba: own_lines(|own| &own.pg_hba_conf).chain(&spec.pg_hba_conf).map(String::as_str).collect(),
        pg_ident: own_lines(|own| &own.pg_ident_conf).chain(&spec.pg_ident_conf).map(String::as_str).collect(),
        swarm: swarm(spec, own, &place),
    }
}

fn placement(spec: &DatabaseSpec, own: Option<&DatabaseNodeSpec>) -> Option<PlacementRequest> {
    if own.is_some_and(|own| !own.host_ids.is_empty()) {
        return None;
    }
    let labels = own.and_then(|own| own.host_labels.as_ref()).or(spec.host_labels.as_ref());
    Some(PlacementRequest {
        replicas: own.and_then(|own| own.replicas).or(spec.replicas).unwrap_or(0),
        labels: labels.map(|labels| labels.0.clone()).unwrap_or_default(),
    })
}

fn version(
    spec: &DatabaseSpec,
    own: Option<&DatabaseNodeSpec>,
    place: &str,
    context: &Context<'_>,
) -> (At<String>, bool) {
    if let Some(version) = own.and_then(|own| own.postgres_version.clone()) {
        return (At { value: version, pointer: pointer(place, "postgres_version") }, true);
    }
    let pointer = "/postgres_version".to_owned();
    if let Some(version) = spec.postgres_version.clone() {
        return (At { value: version, pointer }, true);
    }
    let running = previous_node(own, context).map(|node| node.postgres_version.clone());
    let template = || template(spec, context).and_then(|template| template.postgres_version.clone());
    let value = running.or_else(template).unwrap_or_else(|| context.catalogue.default.clone());
    (At { value, pointer }, false)
}

/// The same node in the spec that is applied now.
pub(super) fn previous_node<'a>(own: Option<&DatabaseNodeSpec>, context: &Context<'a>) -> Option<&'a NodeSpec> {
    let name = own.map_or(DEFAULT_NODE, |own| own.name.as_str());
    context.previous?.nodes.iter().find(|node| node.name.as_str() == name)
}

impl Effective<'_> {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.own.map_or(DEFAULT_NODE, |own| own.name.as_str())
    }

    /// Its hosts, as far as they are known: those that it names, those that were chosen, or the only one that there is.
    pub(super) fn hosts(&self, context: &Context<'_>) -> Vec<HostId> {
        match self.own {
            Some(own) if self.placement.is_none() => {
                own.host_ids.iter().filter_map(|host| HostId::parse(host).ok()).collect()
            }
            Some(_) | None => {
                let chosen = NodeName::parse(self.name()).ok().and_then(|name| context.placed.get(&name));
                chosen.cloned().unwrap_or_else(|| context.host.into_iter().cloned().collect())
            }
        }
    }
}

/// The node of a database that lists none.
pub(super) const DEFAULT_NODE: &str = "n1";

fn port(spec: &DatabaseSpec, own: Option<&DatabaseNodeSpec>, place: &str, context: &Context<'_>) -> At<PortRequest> {
    let request = |port: u16| if port == 0 { PortRequest::Chosen } else { PortRequest::Fixed(port) };
    if let Some(port) = own.and_then(|own| own.port) {
        return At { value: request(port), pointer: pointer(place, "port") };
    }
    let value = match (spec.port, template(spec, context)) {
        (Some(port), _) => request(port),
        (None, Some(Template { port: Some(port), .. })) => request(*port),
        (None, Some(Template { visibility: Visibility::Host, .. })) => PortRequest::Chosen,
        (None, Some(Template { visibility: Visibility::Private, .. }) | None) => PortRequest::Unpublished,
    };
    At { value, pointer: "/port".to_owned() }
}

fn parameters<'a>(
    spec: &'a DatabaseSpec,
    own: Option<&'a DatabaseNodeSpec>,
    place: &str,
) -> BTreeMap<&'a str, At<&'a ParameterValue>> {
    let mut merged = BTreeMap::new();
    let layers = [(Some(&spec.postgresql_conf), ""), (own.map(|own| &own.postgresql_conf), place)];
    for (parameters, place) in layers {
        let place = pointer(place, "postgresql_conf");
        for (name, value) in parameters.into_iter().flat_map(|parameters| &parameters.0) {
            merged.insert(name.as_str(), At { value, pointer: pointer(&place, name) });
        }
    }
    merged
}

fn swarm<'a>(spec: &'a DatabaseSpec, own: Option<&'a DatabaseNodeSpec>, place: &str) -> Option<At<&'a SwarmOpts>> {
    let (options, place) = match own.and_then(|own| own.orchestrator_opts.as_ref()) {
        Some(options) => (options, place),
        None => (spec.orchestrator_opts.as_ref()?, ""),
    };
    let value = options.swarm.as_ref()?;
    Some(At { value, pointer: format!("{place}/orchestrator_opts/swarm") })
}
