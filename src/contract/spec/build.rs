//! The last step: a spec in which nothing is wrong becomes an accepted spec, defaults and overrides resolved.

use std::collections::{BTreeMap, BTreeSet};

use super::Context;
use super::effective::{self, Effective};
use crate::contract::wire::{
    self, ApprovalMode, DatabaseSpec, DatabaseUserSpec, ExtensionEntry, ReconcileMode, SwarmOpts,
};
use crate::model::role::RoleFlags;
use crate::model::spec::{
    Approval, ExtensionSpec, ExtraNetwork, ExtraVolume, NodeSpec, NodeUpdates, Reconcile, Scripts, SwarmOptions,
    UserSpec,
};
use crate::model::{AcceptedSpec, DatabaseId, Digest, NodeName};

/// The accepted spec. The rules have passed, so what cannot be read here is not there.
pub(super) fn accepted(
    id: &DatabaseId,
    digest: Digest,
    spec: &DatabaseSpec,
    nodes: &[Effective<'_>],
    holds_secret: bool,
    context: &Context<'_>,
) -> AcceptedSpec {
    let previous_name = context.previous.map(|previous| previous.database_name.clone());
    AcceptedSpec {
        id: id.clone(),
        digest,
        generation: spec.generation,
        client_token: spec.client_token.clone(),
        deleted: false,
        deletion_protection: spec.deletion_protection.unwrap_or(false),
        approval: spec.approval.map_or_else(Approval::default, approval),
        reconcile: reconcile(spec),
        database_name: spec.database_name.clone().or(previous_name).unwrap_or_else(|| id.to_string()),
        template: spec.template.clone(),
        nodes: nodes.iter().filter_map(|node| node_spec(node, context)).collect(),
        node_updates: match spec.node_updates {
            Some(wire::NodeUpdates::OneByOne) | None => NodeUpdates::OneByOne,
            Some(wire::NodeUpdates::Concurrent) => NodeUpdates::Concurrent,
        },
        users: users(spec, context),
        extensions: extensions(spec, nodes, context),
        scripts: spec.scripts.as_ref().map_or_else(Scripts::default, |scripts| Scripts {
            post_init: scripts.post_init.clone(),
            post_database_create: scripts.post_database_create.clone(),
        }),
        holds_secret,
    }
}

/// The accepted spec of a delete: what was, marked as deleted.
pub(super) fn deleted(
    id: &DatabaseId,
    digest: Digest,
    spec: &DatabaseSpec,
    holds_secret: bool,
    context: &Context<'_>,
) -> AcceptedSpec {
    let was = context.previous.cloned();
    let was = was.unwrap_or_else(|| {
        let empty = DatabaseSpec::default();
        accepted(id, digest.clone(), &empty, &effective::nodes(&empty, context), false, context)
    });
    AcceptedSpec {
        digest,
        generation: spec.generation,
        client_token: spec.client_token.clone(),
        deleted: true,
        deletion_protection: false,
        approval: spec.approval.map_or(was.approval, approval),
        // A delete takes the place of the spec, and so of its wish to be left alone.
        reconcile: Reconcile::Repair,
        holds_secret,
        ..was
    }
}

fn approval(mode: ApprovalMode) -> Approval {
    match mode {
        ApprovalMode::Auto => Approval::Auto,
        ApprovalMode::Manual => Approval::Manual,
    }
}

fn reconcile(spec: &DatabaseSpec) -> Reconcile {
    match spec.reconcile {
        Some(ReconcileMode::Repair) | None => Reconcile::Repair,
        Some(ReconcileMode::Observe) => Reconcile::Observe,
        Some(ReconcileMode::Paused) => Reconcile::Paused,
    }
}

/// A node of a document that today's rules may refuse: its image may be gone from the catalogue.
pub(super) fn remembered_node(
    node: &Effective<'_>,
    images: &BTreeMap<String, String>,
    context: &Context<'_>,
) -> Option<NodeSpec> {
    node_spec_with(node, images.get(node.name()).cloned().unwrap_or_default(), context)
}

fn node_spec(node: &Effective<'_>, context: &Context<'_>) -> Option<NodeSpec> {
    let catalogue_image = node.image.map(|image| image.image.clone());
    let running = || effective::previous_node(node.own, context).map(|previous| previous.image.clone());
    let image = node.pin().map(|pin| pin.value.to_owned()).or(catalogue_image).or_else(running)?;
    node_spec_with(node, image, context)
}

fn node_spec_with(node: &Effective<'_>, image: String, context: &Context<'_>) -> Option<NodeSpec> {
    Some(NodeSpec {
        name: NodeName::parse(node.name()).ok()?,
        hosts: node.hosts(context),
        placement: node.placement.clone(),
        postgres_version: node.version.value.clone(),
        image,
        port: node.port.value,
        cpu_millis: node.cpu_millis,
        memory_bytes: node.memory_bytes,
        synchronous: node.synchronous,
        postgresql_conf: node.parameters.iter().map(|(name, at)| ((*name).to_owned(), at.value.text())).collect(),
        pg_hba: entries(&node.pg_hba),
        pg_ident: entries(&node.pg_ident),
        swarm: node.swarm.as_ref().map_or_else(SwarmOptions::default, |at| swarm_options(at.value)),
    })
}

/// The lines that say something: blank and comment lines are left out.
fn entries(lines: &[&str]) -> Vec<String> {
    let says_something = |line: &&&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    lines.iter().filter(says_something).map(|line| line.trim().to_owned()).collect()
}

fn swarm_options(options: &SwarmOpts) -> SwarmOptions {
    let volumes = options.extra_volumes.iter().map(|volume| ExtraVolume {
        host_path: volume.host_path.clone(),
        destination_path: volume.destination_path.clone(),
    });
    let networks = options.extra_networks.iter().map(|network| ExtraNetwork {
        id: network.id.clone(),
        aliases: network.aliases.clone(),
        driver_opts: network.driver_opts.clone(),
    });
    SwarmOptions {
        extra_volumes: volumes.collect(),
        extra_networks: networks.collect(),
        extra_labels: options.extra_labels.clone(),
    }
}

fn users(spec: &DatabaseSpec, context: &Context<'_>) -> Vec<UserSpec> {
    match (&spec.database_users, effective::template(spec, context)) {
        (Some(users), _) => users.iter().map(user).collect(),
        (None, Some(template)) => {
            let of_template = template.users.iter().map(|user| UserSpec {
                username: user.username.clone(),
                password: None,
                db_owner: user.db_owner,
                flags: flags(&user.attributes),
                roles: BTreeSet::new(),
            });
            of_template.collect()
        }
        (None, None) => Vec::new(),
    }
}

fn user(user: &DatabaseUserSpec) -> UserSpec {
    UserSpec {
        username: user.username.clone(),
        password: user.password.as_ref().map(|password| password.secret().clone()),
        db_owner: user.db_owner.unwrap_or(false),
        flags: flags(&user.attributes),
        roles: user.roles.iter().cloned().collect(),
    }
}

fn flags(attributes: &[String]) -> RoleFlags {
    attributes.iter().fold(RoleFlags::default(), |flags, attribute| flags.with(attribute).unwrap_or(flags))
}

fn extensions(spec: &DatabaseSpec, nodes: &[Effective<'_>], context: &Context<'_>) -> BTreeMap<String, ExtensionSpec> {
    let preload = |name: &str| nodes.iter().find_map(|node| node.image?.extensions.get(name)?.preload.clone());
    let of_template = effective::template(spec, context).into_iter().flat_map(|template| &template.extensions);
    let plain = |name: &String| (name.clone(), ExtensionSpec { version: None, schema: None, preload: preload(name) });
    let mut all: BTreeMap<String, ExtensionSpec> = of_template.map(plain).collect();
    for entry in &spec.extensions {
        let (name, extension) = match entry {
            ExtensionEntry::Name(name) => plain(name),
            ExtensionEntry::Object(object) => {
                let extension = ExtensionSpec {
                    version: object.version.clone(),
                    schema: object.schema.clone(),
                    preload: preload(&object.name),
                };
                (object.name.clone(), extension)
            }
        };
        all.insert(name, extension);
    }
    all
}
