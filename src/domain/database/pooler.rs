//! The pooler beside an instance: directories, certificates, files and its Swarm service.
//!
//! Invariants: nothing of Postgres depends on any of it, and it is no part of the instance, so a change of the pooler touches
//! no instance and holds up no switchover; its service changes only with its description, since pgbouncer reads its
//! files again by itself; who is primary stands in none of these texts: the pooler finds that out.

use std::collections::{BTreeMap, BTreeSet};

use super::instance::{ca_file, server_names};
use super::{Inputs, Place, service};
use crate::domain::credentials::published;
use crate::domain::describe::{self, Draft, Drafts, Usage, certificate, directory, file, issuer};
use crate::domain::layout::{self, container};
use crate::domain::{Error, Owner};
use crate::model::record::PoolerChoice;
use crate::model::resource::OnDelete;
use crate::model::role::{RoleAttributes, RoleFlags};
use crate::model::service::{Attachment, Healthcheck, Mount, PublishedPort, ServiceAttributes};
use crate::model::spec::{NodeSpec, PoolMode, PoolerSpec, PortRequest};
use crate::model::{AcceptedSpec, Attributes, Executor, InstanceId, Kind, Record, ResourceId, Secret};

/// Whom pgbouncer runs as in the project's image; another image must do the same.
const OWNER: Owner = Owner::IMAGE;
/// The name by which the pooler itself reaches the maintenance database: longer than the name of a user's database can be.
const LOOKUP_DATABASE: &str = "pgmoor-asks-for-verifiers-in-here";
/// Longer than `pooler` in the image gives open transactions.
const STOP_GRACE_S: u32 = 15;
const RESTART_DELAY_S: u32 = 2;

/// What the poolers of a node share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<'a> {
    /// The overlay network.
    pub(super) network: &'a ResourceId,
    /// What `pg_hba.conf` asks of passwords: `scram-sha-256` or `md5`.
    pub(super) password_method: &'static str,
}

/// The role that poolers check passwords as.
pub(super) fn role() -> RoleAttributes {
    RoleAttributes {
        name: layout::POOLER_ROLE.to_owned(),
        flags: RoleFlags { login: true, ..RoleFlags::default() },
        member_of: BTreeSet::new(),
        password_matches: true,
        connection_limit: None,
        valid_until: None,
        asks_verifiers: true,
    }
}

/// The instances of the record that have a pooler which nobody wants any more.
pub(super) fn unwanted<'a>(spec: &'a AcceptedSpec, record: &'a Record) -> impl Iterator<Item = &'a InstanceId> {
    record.poolers.keys().filter(|instance| !is_wanted(spec, instance))
}

/// Whether the spec asks for a pooler beside this instance.
pub(super) fn is_wanted(spec: &AcceptedSpec, instance: &InstanceId) -> bool {
    let mut pooled = spec.nodes.iter().filter(|node| node.pooler.is_some());
    pooled.any(|node| node.hosts.iter().any(|host| InstanceId::derive(&spec.id, &node.name, host) == *instance))
}

/// Adds the pooler beside the instance, where there is to be one, or is one that goes.
pub(super) fn describe(
    drafts: &mut Drafts,
    inputs: Inputs<'_>,
    place: Place<'_>,
    shared: Shared<'_>,
) -> Result<(), Error> {
    let Some(choice) = inputs.record.poolers.get(place.instance) else {
        let wanted = place.node.pooler.is_some() && !place.leaves;
        return if wanted { Err(Error::NotMinted(format!("pooler of instance {}", place.instance))) } else { Ok(()) };
    };
    let settings = match place.node.pooler.as_ref().filter(|_| !place.leaves) {
        Some(settings) => settings.clone(),
        None => leaves(choice),
    };
    let root = format!("poolers/{}", place.instance);
    let home = layout::pooler_directory(&place.facts.data_dir, place.instance.as_str());
    let here = || Executor::Host(place.facts.host.clone());
    let attributes = directory(home.clone(), Owner::ROOT, OnDelete::Remove);
    let top = drafts.add(Draft::new(Kind::Directory, root.clone(), here(), attributes));
    let mut below = |name: &str| {
        let attributes = directory(format!("{home}/{name}"), OWNER, OnDelete::Remove);
        drafts.add(Draft::new(Kind::Directory, format!("{root}/{name}"), here(), attributes).after([&top]))
    };
    let (configs, secrets, run) = (below("configs"), below("certificates"), below("run"));
    let mut needed = certificates(drafts, inputs, place, (&root, &secrets))?;
    needed.push(ca_file(drafts, inputs, place, (&home, &root, &secrets)));
    let files = [
        ("pgbouncer.ini", configuration(&settings, shared.password_method)),
        ("databases", databases(&inputs.spec.database_name)),
        ("instances", instances(inputs, place.node)),
    ];
    for (name, text) in files {
        let path = format!("{home}/configs/{name}");
        let (attributes, payload) = file(path, describe::PRIVATE, OWNER, Secret::new(text));
        let draft = Draft::new(Kind::File, format!("{root}/configs/{name}"), here(), attributes);
        needed.push(drafts.add(draft.after([&configs]).carrying(payload)));
    }
    let attributes = pooler_service(inputs, place, &settings)?;
    let service = Draft::new(Kind::Service, resource(place.instance), Executor::Manager, attributes);
    drafts.add(service.after([shared.network, &configs, &secrets, &run]).after(&needed));
    Ok(())
}

/// The name of the service as a resource, in which the instance can be read.
fn resource(instance: &InstanceId) -> String {
    format!("{instance}/pooler")
}

/// What is left to say of one that goes: where it is.
fn leaves(choice: &PoolerChoice) -> PoolerSpec {
    PoolerSpec {
        image: choice.image.clone(),
        port: PortRequest::Unpublished,
        mode: PoolMode::Transaction,
        clients_max: 1,
        pool_size: 1,
        memory_bytes: 0,
    }
}

/// One to show to clients, and one to log in with.
fn certificates(
    drafts: &mut Drafts,
    inputs: Inputs<'_>,
    place: Place<'_>,
    (root, parent): (&str, &ResourceId),
) -> Result<Vec<ResourceId>, Error> {
    let Place { facts, instance, .. } = place;
    let issuer = issuer(&inputs.fleet.ca_certificate_pem)?;
    let home = layout::pooler_directory(&facts.data_dir, instance.as_str());
    let name = layout::pooler_service(instance);
    let mut shown = server_names(place);
    shown.insert(name.clone());
    let each = [
        (layout::SERVER, name.as_str(), shown, Usage::Server),
        (layout::LOGIN, layout::POOLER_ROLE, BTreeSet::new(), Usage::Client),
    ];
    let ids = each.into_iter().map(|(stem, common_name, names, usage)| {
        let path = format!("{home}/certificates/{stem}");
        let attributes = certificate(path, OWNER, common_name, names, usage, &issuer);
        let executor = Executor::Host(facts.host.clone());
        drafts.add(Draft::new(Kind::Certificate, format!("{root}/{stem}"), executor, attributes).after([parent]))
    });
    Ok(ids.collect())
}

/// `pgbouncer.ini`. A login that failed is tried again after a second, not after fifteen, and a name's address is asked
/// for as often, so that a failover lasts no longer here than it does; a host that vanished is given up after twenty
/// seconds.
fn configuration(settings: &PoolerSpec, password_method: &str) -> String {
    let mode = match settings.mode {
        PoolMode::Transaction => "transaction",
        PoolMode::Session => "session",
    };
    let path = |stem: &str, ending: &str| format!("{}.{ending}", layout::in_container(stem));
    let lines = [
        "; Made by pgmoor; a change by hand is undone.".to_owned(),
        "[pgbouncer]".to_owned(),
        "listen_addr = *".to_owned(),
        format!("listen_port = {}", layout::POOLER_PORT),
        "unix_socket_dir =".to_owned(),
        format!("pool_mode = {mode}"),
        format!("max_client_conn = {}", settings.clients_max),
        format!("default_pool_size = {}", settings.pool_size),
        "max_prepared_statements = 200".to_owned(),
        "ignore_startup_parameters = extra_float_digits".to_owned(),
        format!("auth_type = {password_method}"),
        format!("auth_file = {}", container::POOLER_USERS),
        format!("auth_user = {}", layout::POOLER_ROLE),
        format!("auth_dbname = {LOOKUP_DATABASE}"),
        "auth_query = SELECT name, verifier FROM pgmoor.verifier($1)".to_owned(),
        "client_tls_sslmode = require".to_owned(),
        format!("client_tls_cert_file = {}", path(layout::SERVER, "crt")),
        format!("client_tls_key_file = {}", path(layout::SERVER, "key")),
        "server_tls_sslmode = verify-full".to_owned(),
        format!("server_tls_ca_file = {}", path("ca", "crt")),
        format!("server_tls_cert_file = {}", path(layout::LOGIN, "crt")),
        format!("server_tls_key_file = {}", path(layout::LOGIN, "key")),
        "server_connect_timeout = 5".to_owned(),
        "server_login_retry = 1".to_owned(),
        "dns_max_ttl = 1".to_owned(),
        "dns_nxdomain_ttl = 1".to_owned(),
        "tcp_keepalive = 1".to_owned(),
        "tcp_keepidle = 10".to_owned(),
        "tcp_keepintvl = 5".to_owned(),
        "tcp_keepcnt = 2".to_owned(),
        "tcp_user_timeout = 20000".to_owned(),
        "log_connections = 0".to_owned(),
        "log_disconnections = 0".to_owned(),
        "log_stats = 0".to_owned(),
        format!("%include {}", container::POOLER_DATABASES),
    ];
    lines.join("\n") + "\n"
}

/// The databases that a pooler leads to its primary: it adds the host to each line. The rules let no name pass that would
/// have to be quoted, which pgbouncer does not know.
fn databases(name: &str) -> String {
    let line = |called: &str, name: &str, pool: &str| {
        format!("{called} = port={} dbname={name}{pool}\n", layout::POSTGRES_PORT)
    };
    let lookup = line(LOOKUP_DATABASE, layout::MAINTENANCE_DATABASE, " pool_size=2");
    format!("[databases]\n{}{lookup}", line(name, name, ""))
}

/// The instances that may be primary, one a line, the initial one first. One that leaves may still be it.
fn instances(inputs: Inputs<'_>, node: &NodeSpec) -> String {
    let mut all: Vec<String> =
        node.hosts.iter().map(|host| InstanceId::derive(&inputs.spec.id, &node.name, host).to_string()).collect();
    let of_node = format!("{}-{}-", inputs.spec.id, node.name);
    let leaving = inputs.record.etcd_passwords.keys().filter(|name| name.starts_with(&of_node));
    let leaving: Vec<String> = leaving.filter(|name| !all.contains(name)).cloned().collect();
    all.extend(leaving);
    all.join("\n") + "\n"
}

fn pooler_service(inputs: Inputs<'_>, place: Place<'_>, settings: &PoolerSpec) -> Result<Attributes, Error> {
    let Place { instance, facts, .. } = place;
    let choice = inputs.record.poolers.get(instance);
    let image = choice.map_or(&settings.image, |choice| &choice.image);
    let name = layout::pooler_service(instance);
    let port = published(settings.port, choice.and_then(|choice| choice.port), || format!("port of {name}"))?;
    let (container_labels, mut labels) = service::labels(inputs, place, "pooler");
    labels.insert("pgmoor.resource".to_owned(), resource(instance));
    let home = layout::pooler_directory(&facts.data_dir, instance.as_str());
    let mounts = [("configs", container::CONFIGS), ("certificates", container::CERTIFICATES), ("run", container::RUN)];
    let mount = |(name, target): (&str, &str)| Mount {
        source: format!("{home}/{name}"),
        target: target.to_owned(),
        read_only: target != container::RUN,
        exclusive: false,
    };
    let attachment = |network: String| Attachment { network, aliases: Vec::new(), driver_opts: BTreeMap::new() };
    Ok(Attributes::Service(Box::new(ServiceAttributes {
        name,
        image: image.clone(),
        command: vec!["pooler".to_owned()],
        args: Vec::new(),
        env: BTreeMap::new(),
        hostname: layout::pooler_service(instance),
        mounts: mounts.map(mount).into(),
        networks: vec![attachment("bridge".to_owned()), attachment(layout::network(&inputs.spec.id))],
        ports: port
            .map(|published| PublishedPort { name: "pooler".to_owned(), target: layout::POOLER_PORT, published })
            .into_iter()
            .collect(),
        healthcheck: Some(Healthcheck {
            shell: "pooler check".to_owned(),
            interval_s: 5,
            timeout_s: 5,
            start_period_s: 30,
            retries: 6,
        }),
        swarm_node: facts.swarm_node.clone(),
        cpu_limit_millis: None,
        cpu_reservation_millis: None,
        memory_limit_bytes: Some(settings.memory_bytes),
        memory_reservation_bytes: Some(settings.memory_bytes),
        shm_bytes: None,
        stop_grace_s: STOP_GRACE_S,
        restart_delay_s: RESTART_DELAY_S,
        replicas: 1,
        container_labels,
        labels,
    })))
}
