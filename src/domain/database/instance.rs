//! One instance: directories, certificates, files, etcd user, service, and that it is ready.
//!
//! Invariants: what the container reads lies in directories that it mounts read-only; its data directory is mounted by
//! nobody else; the service changes only with its description, so files and certificates are reloaded, not restarted.

use std::collections::BTreeSet;

use super::{Inputs, Place, minted, service};
use crate::domain::describe::{self, Draft, Drafts, Usage, certificate, directory, file, issuer};
use crate::domain::{Error, Owner, layout, members, parameters, patroni};
use crate::model::resource::{InstanceAttributes, OnDelete, PatroniConfigAttributes};
use crate::model::spec::NodeSpec;
use crate::model::{Attributes, Executor, InstanceId, Kind, Payload, ResourceId, Secret};

/// What the instances of a node share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The overlay network.
    pub(super) network: ResourceId,
    /// Patroni's dynamic configuration.
    pub(super) config: ResourceId,
    /// The digest in it.
    pub(super) marker: String,
}

/// The node's dynamic configuration.
pub(super) fn patroni_config(inputs: Inputs<'_>, node: &NodeSpec) -> Result<PatroniConfigAttributes, Error> {
    let parameters = parameters::render(inputs.spec, node, inputs.hosts, inputs.catalogue)?;
    Ok(patroni::attributes(inputs.spec, node, parameters))
}

/// Adds the instance and gives the id of its readiness.
pub(super) fn describe(
    drafts: &mut Drafts,
    inputs: Inputs<'_>,
    place: Place<'_>,
    shared: &Shared,
) -> Result<ResourceId, Error> {
    let instance = place.instance;
    let directories = directories(drafts, place);
    let mut loaded = certificates(drafts, inputs, place, &directories.certificates)?;
    loaded.push(ca_file(drafts, inputs, place, &directories.certificates));
    let etcd_user = etcd_user(drafts, inputs, place, &shared.config)?;
    loaded.push(patroni_file(drafts, inputs, place, &directories.configs)?);

    let name = layout::service(instance);
    let service = Draft::new(Kind::Service, instance.as_str(), Executor::Manager, service::describe(inputs, place)?)
        .after([&shared.network, &shared.config, &etcd_user])
        .after([&directories.data, &directories.configs, &directories.certificates])
        .after(&loaded);
    let service = drafts.add(service);
    let attributes = InstanceAttributes {
        service: name,
        running: true,
        config: shared.marker.clone(),
        pending_restart: false,
        certificate_loaded: true,
        alter_system: BTreeSet::new(),
    };
    let executor = Executor::Host(place.facts.host.clone());
    let ready = Draft::new(Kind::Instance, instance.as_str(), executor, Attributes::Instance(attributes));
    Ok(drafts.add(ready.from([&shared.config, &service]).from(&loaded)))
}

struct Directories {
    data: ResourceId,
    configs: ResourceId,
    certificates: ResourceId,
}

fn directories(drafts: &mut Drafts, place: Place<'_>) -> Directories {
    let Place { facts, instance, .. } = place;
    let data_dir = &facts.data_dir;
    let root = format!("instances/{instance}");
    let mut add = |name: String, path: String, owner: Owner, on_delete: OnDelete, parent: Option<&ResourceId>| {
        let executor = Executor::Host(facts.host.clone());
        drafts.add(Draft::new(Kind::Directory, name, executor, directory(path, owner, on_delete)).after(parent))
    };
    let path = layout::instance_directory(data_dir, instance.as_str());
    let top = add(root.clone(), path, Owner::ROOT, OnDelete::Remove, None);
    let owner = facts.postgres_owner;
    let mut below = |name: &str, path: String, on_delete: OnDelete| {
        add(format!("{root}/{name}"), path, owner, on_delete, Some(&top))
    };
    Directories {
        data: below("data", layout::data_directory(data_dir, instance.as_str()), place.on_delete),
        configs: below("configs", layout::configs_directory(data_dir, instance.as_str()), OnDelete::Remove),
        certificates: below(
            "certificates",
            layout::certificates_directory(data_dir, instance.as_str()),
            OnDelete::Remove,
        ),
    }
}

/// The four certificates. Each system user logs in with the one whose common name is the user's; etcd wants a name and
/// a password, and a certificate without a common name.
fn certificates(
    drafts: &mut Drafts,
    inputs: Inputs<'_>,
    place: Place<'_>,
    parent: &ResourceId,
) -> Result<Vec<ResourceId>, Error> {
    let Place { facts, instance, .. } = place;
    let issuer = issuer(&inputs.fleet.ca_certificate_pem)?;
    let directory = layout::certificates_directory(&facts.data_dir, instance.as_str());
    let names = [
        (layout::SERVER, instance.as_str(), Usage::Server),
        (layout::SUPERUSER_CERTIFICATE, layout::SUPERUSER, Usage::Client),
        (layout::REPLICATION, layout::REPLICATION_ROLE, Usage::Client),
        (layout::ETCD, layout::ETCD_CLIENT_COMMON_NAME, Usage::Client),
    ];
    let mut ids = Vec::new();
    for (stem, common_name, usage) in names {
        let alternatives = match usage {
            Usage::Server | Usage::Both => server_names(place),
            // Something that names it must be in it.
            Usage::Client if common_name.is_empty() => BTreeSet::from([instance.to_string()]),
            Usage::Client => BTreeSet::new(),
        };
        let path = format!("{directory}/{stem}");
        let attributes = certificate(path, facts.postgres_owner, common_name, alternatives, usage, &issuer);
        let executor = Executor::Host(facts.host.clone());
        let draft = Draft::new(Kind::Certificate, format!("{instance}/{stem}"), executor, attributes);
        ids.push(drafts.add(draft.after([parent])));
    }
    Ok(ids)
}

/// Every name by which a client may have reached the instance.
fn server_names(place: Place<'_>) -> BTreeSet<String> {
    let Place { facts, instance, .. } = place;
    let names = [
        instance.to_string(),
        layout::service(instance),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        facts.advertise_address.to_string(),
        facts.hostname.clone(),
    ];
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

fn ca_file(drafts: &mut Drafts, inputs: Inputs<'_>, place: Place<'_>, parent: &ResourceId) -> ResourceId {
    let Place { facts, instance, .. } = place;
    let path = format!("{}/ca.crt", layout::certificates_directory(&facts.data_dir, instance.as_str()));
    let content = Secret::new(inputs.fleet.ca_certificate_pem.as_str());
    let (attributes, payload) = file(path, describe::PUBLIC, facts.postgres_owner, content);
    let executor = Executor::Host(facts.host.clone());
    let draft = Draft::new(Kind::File, format!("instances/{instance}/certificates/ca.crt"), executor, attributes);
    drafts.add(draft.after([parent]).carrying(payload))
}

fn etcd_password(inputs: Inputs<'_>, instance: &InstanceId) -> Result<Secret, Error> {
    minted(inputs.record.etcd_passwords.get(instance.as_str()), || format!("etcd password of instance {instance}"))
}

/// It comes after the node's configuration so that, in a delete, it goes before: then nobody can write below the prefix
/// any more when the prefix is deleted.
fn etcd_user(
    drafts: &mut Drafts,
    inputs: Inputs<'_>,
    place: Place<'_>,
    config: &ResourceId,
) -> Result<ResourceId, Error> {
    let attributes = Attributes::EtcdUser {
        name: layout::etcd_user(place.instance),
        prefix: layout::patroni_prefix(&inputs.spec.id, &place.node.name),
        password_matches: true,
    };
    let password = Payload::Password(etcd_password(inputs, place.instance)?);
    let draft = Draft::new(Kind::EtcdUser, place.instance.as_str(), Executor::Manager, attributes);
    Ok(drafts.add(draft.after([config]).carrying(password)))
}

fn patroni_file(
    drafts: &mut Drafts,
    inputs: Inputs<'_>,
    place: Place<'_>,
    parent: &ResourceId,
) -> Result<ResourceId, Error> {
    let Place { facts, instance, .. } = place;
    let addresses = members::addresses(inputs.fleet, inputs.hosts);
    let content = patroni::render(&patroni::Member {
        database: &inputs.spec.id,
        node: &place.node.name,
        instance,
        etcd: addresses.iter().map(|address| layout::etcd_address(address, inputs.options.etcd_client_port)).collect(),
        etcd_password: &etcd_password(inputs, instance)?,
        replicated: place.node.hosts.len() > 1,
    })?;
    let path = format!("{}/patroni.yml", layout::configs_directory(&facts.data_dir, instance.as_str()));
    let (attributes, payload) = file(path, describe::PRIVATE, facts.postgres_owner, content);
    let executor = Executor::Host(facts.host.clone());
    let draft = Draft::new(Kind::File, format!("instances/{instance}/configs/patroni.yml"), executor, attributes);
    Ok(drafts.add(draft.after([parent]).carrying(payload)))
}
