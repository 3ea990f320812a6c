//! What all databases of a fleet share: on every host the authority's certificate and what the daemon shows to etcd, on
//! its members' hosts an etcd member and its certificates.
//!
//! Invariants: etcd answers only to certificates of the fleet's authority, on both ports; its health check asks only
//! itself, since a member's name resolves only once it is healthy (rule 12); its data outlives its container.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::describe::{Draft, Drafts, Usage, certificate, directory, file, issuer};
use super::layout::{self, container};
use super::members;
use super::{Error, FleetOptions, HostFacts, Hosts, Owner, describe, is_removed};
use crate::model::resource::OnDelete;
use crate::model::service::{Attachment, Healthcheck, Mount, PublishedPort, ServiceAttributes};
use crate::model::{
    Attributes, Catalogue, Digest, EtcdChange, Executor, FleetId, FleetRecord, Graph, HostId, Kind, Payload,
    ResourceId, Scope, Secret,
};

/// Bytes of randomness that a new fleet takes: a password and a token.
pub const ENTROPY_BYTES: usize = 40;
/// How much etcd may keep: Patroni's keys are kilobytes, so this is room for history, not for data.
const QUOTA_BYTES: u64 = 1 << 30;
/// History that etcd keeps (reference, section 6).
const COMPACTION: &str = "5m";
/// etcd stops within a second; a slow disk may take longer.
const STOP_GRACE_S: u32 = 30;
const RESTART_DELAY_S: u32 = 5;
/// A task's name is not in DNS before its first good check, and that comes one interval after the start; a check costs
/// a tenth of a second of a processor. Etcd and Postgres answer within two seconds, so a shorter interval gains nothing.
pub(super) const CHECK_INTERVAL_S: u32 = 2;

/// The first record of a fleet whose only member is this host. `entropy` must be fresh.
#[must_use]
pub fn mint(
    fleet: &FleetId,
    member: (&HostId, IpAddr),
    ca_certificate_pem: String,
    ca_key_pem: Secret,
    entropy: &[u8; ENTROPY_BYTES],
) -> FleetRecord {
    let (password, token) = entropy.split_at(24);
    FleetRecord {
        revision: 1,
        fleet: fleet.clone(),
        ca_certificate_pem,
        ca_key_pem,
        etcd_root_password: Secret::new(URL_SAFE_NO_PAD.encode(password)),
        etcd_members: BTreeMap::from([(member.0.clone(), member.1.to_string())]),
        etcd_joined: BTreeMap::new(),
        etcd_change: None,
        etcd_cluster_token: URL_SAFE_NO_PAD.encode(token),
        hosts: BTreeMap::new(),
        leftovers: BTreeMap::new(),
    }
}

/// The fleet's resources on all its hosts.
///
/// # Errors
/// A member's host is not known, or the authority's certificate cannot be read.
pub fn graph(
    record: &FleetRecord,
    hosts: &Hosts,
    catalogue: &Catalogue,
    options: &FleetOptions,
) -> Result<Graph, Error> {
    if let Some(unknown) =
        record.etcd_members.keys().find(|host| hosts.get(host).is_none() && !is_removed(record, host))
    {
        return Err(Error::UnknownMember(unknown.clone()));
    }
    let mut drafts = Drafts::new(Scope::Fleet.label(), record.revision, record)?;
    let fleet = Fleet { record, catalogue, options, issuer: issuer(&record.ca_certificate_pem)? };
    let (mut services, mut daemons) = (Vec::new(), Vec::new());
    for facts in hosts.of(record).iter() {
        let daemon = fleet.every_host(&mut drafts, facts);
        if let Some(address) = record.etcd_members.get(&facts.host) {
            services.push(fleet.member(&mut drafts, facts, address));
            daemons.push(daemon);
        }
    }
    let endpoints = record.etcd_members.values().map(|address| layout::etcd_url(address, options.etcd_client_port));
    let voters = members::voters(record).map(|address| members::peer_url(address, options));
    let etcd = Attributes::Etcd { endpoints: endpoints.collect(), voters: voters.collect(), authentication: true };
    let etcd = Draft::new(Kind::Etcd, "etcd", Executor::Manager, etcd)
        .from(&services)
        .after(&daemons)
        .carrying(Payload::Password(record.etcd_root_password.clone()));
    drafts.add(etcd);
    Ok(Graph::new(drafts.done())?)
}

/// The fleet's resources with those of the member that leaves; an empty graph where none does. It is what was desired
/// before, for whoever looks for what is left. On a host that is not known any more nobody can look, or clean up.
///
/// # Errors
/// As of [`graph`].
pub fn leaving(
    record: &FleetRecord,
    hosts: &Hosts,
    catalogue: &Catalogue,
    options: &FleetOptions,
) -> Result<Graph, Error> {
    let Some(EtcdChange::Leaves { host, address, joined }) = &record.etcd_change else { return Ok(Graph::default()) };
    if hosts.get(host).is_none() {
        return Ok(Graph::default());
    }
    let mut before = record.clone();
    before.etcd_members.insert(host.clone(), address.clone());
    before.etcd_joined.extend(joined.iter().map(|joined| (host.clone(), joined.clone())));
    graph(&before, hosts, catalogue, options)
}

/// What the resources of all hosts are made from.
struct Fleet<'a> {
    record: &'a FleetRecord,
    catalogue: &'a Catalogue,
    options: &'a FleetOptions,
    /// The digest of the authority's certificate.
    issuer: Digest,
}

impl Fleet<'_> {
    /// What every host has. Gives the certificate with which its daemon reaches etcd.
    fn every_host(&self, drafts: &mut Drafts, facts: &HostFacts) -> ResourceId {
        let data_dir = &facts.data_dir;
        let mut add = |name: &str, path: String, on_delete: OnDelete| {
            add_directory(drafts, facts, name, directory(path, Owner::ROOT, on_delete), None)
        };
        let ca = add("ca", layout::ca_directory(data_dir), OnDelete::Remove);
        add("instances", layout::instances_directory(data_dir), OnDelete::Trash);
        add("trash", layout::trash_directory(data_dir), OnDelete::Trash);
        add("credentials", layout::credentials_directory(data_dir), OnDelete::Remove);
        self.ca_file(drafts, facts, "ca/ca.crt", (layout::ca_file(data_dir), Owner::ROOT), &ca);
        let daemon = certificate(
            layout::daemon_etcd_stem(data_dir),
            Owner::ROOT,
            layout::ETCD_CLIENT_COMMON_NAME,
            BTreeSet::from([facts.host.to_string()]),
            Usage::Client,
            &self.issuer,
        );
        let name = on(facts, &format!("ca/{}", layout::DAEMON));
        drafts.add(Draft::new(Kind::Certificate, name, at(facts), daemon).after([&ca]))
    }

    /// The etcd member of a host. Gives its service.
    fn member(&self, drafts: &mut Drafts, facts: &HostFacts, address: &str) -> ResourceId {
        let data_dir = &facts.data_dir;
        let owner = facts.etcd_owner;
        let (joins, leaves) = self.changes(&facts.host);
        let path = layout::etcd_directory(data_dir);
        let etcd = add_directory(drafts, facts, "etcd", directory(path, Owner::ROOT, OnDelete::Remove), None);
        let joined = self.record.etcd_joined.get(&facts.host).map(|joined| joined.revision);
        // etcd's data goes to the trash, as all that cannot be made again does; but the other members have it too when one
        // leaves them.
        let on_delete = if leaves { OnDelete::Remove } else { OnDelete::Trash };
        let name = format!("etcd/{}", layout::etcd_data_name(joined));
        let attributes = directory(layout::etcd_data(data_dir, joined), owner, on_delete);
        let data = add_directory(drafts, facts, &name, attributes, Some(&etcd));
        let path = layout::etcd_certificates(data_dir);
        let attributes = directory(path, owner, OnDelete::Remove);
        let certificates = add_directory(drafts, facts, "etcd/certificates", attributes, Some(&etcd));
        let file = (format!("{}/ca.crt", layout::etcd_certificates(data_dir)), owner);
        let ca = self.ca_file(drafts, facts, "etcd/certificates/ca.crt", file, &certificates);
        let mut before = vec![data, ca];
        let service_name = layout::etcd_service(&self.record.fleet, &facts.host);
        for name in [layout::SERVER, layout::PEER] {
            let stem = format!("{}/{name}", layout::etcd_certificates(data_dir));
            let names = names(address, &service_name, &facts.hostname);
            let attributes = certificate(stem, owner, &common_name(name), names, Usage::Both, &self.issuer);
            let draft = Draft::new(Kind::Certificate, on(facts, &format!("etcd/{name}")), at(facts), attributes);
            before.push(drafts.add(draft.after([&certificates])));
        }
        before.push(certificates);
        let in_list = Attributes::EtcdMember { peer_url: members::peer_url(address, self.options) };
        let in_list = Draft::new(Kind::EtcdMember, facts.host.as_str(), Executor::Manager, in_list);
        if joins {
            before.push(drafts.add(in_list));
            return self.service(drafts, facts, address, &before);
        }
        let service = self.service(drafts, facts, address, &before);
        if leaves {
            drafts.add(in_list.after([&service]));
        }
        service
    }

    fn service(&self, drafts: &mut Drafts, facts: &HostFacts, address: &str, before: &[ResourceId]) -> ResourceId {
        let attributes = service(self, facts, address);
        let service = Draft::new(Kind::Service, service_resource(&facts.host), Executor::Manager, attributes);
        drafts.add(service.after(before))
    }

    /// Whether a host's member comes and has not started, and whether it goes. One that comes is in the list of members
    /// before it starts; one that goes is taken out before it ends.
    fn changes(&self, of: &HostId) -> (bool, bool) {
        match &self.record.etcd_change {
            None => (false, false),
            Some(EtcdChange::Joins { host, started: false }) => (host == of, false),
            Some(EtcdChange::Joins { started: true, .. }) => (false, false),
            Some(EtcdChange::Leaves { host, .. }) => (false, host == of),
        }
    }

    fn ca_file(
        &self,
        drafts: &mut Drafts,
        facts: &HostFacts,
        name: &str,
        (path, owner): (String, Owner),
        parent: &ResourceId,
    ) -> ResourceId {
        let content = Secret::new(self.record.ca_certificate_pem.as_str());
        let (attributes, payload) = file(path, describe::PUBLIC, owner, content);
        drafts.add(Draft::new(Kind::File, on(facts, name), at(facts), attributes).after([parent]).carrying(payload))
    }
}

/// The name of what is there once on each host.
fn on(facts: &HostFacts, name: &str) -> String {
    format!("{}/{name}", facts.host)
}

fn at(facts: &HostFacts) -> Executor {
    Executor::Host(facts.host.clone())
}

fn add_directory(
    drafts: &mut Drafts,
    facts: &HostFacts,
    name: &str,
    attributes: Attributes,
    parent: Option<&ResourceId>,
) -> ResourceId {
    drafts.add(Draft::new(Kind::Directory, on(facts, name), at(facts), attributes).after(parent))
}

fn names(address: &str, service: &str, hostname: &str) -> BTreeSet<String> {
    let names = [address, "127.0.0.1", "localhost", service, hostname];
    names.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The common name of a member's certificate.
fn common_name(name: &str) -> String {
    format!("pgmoor-etcd-{name}")
}

fn service_resource(host: &HostId) -> String {
    format!("etcd/{host}")
}

/// One etcd member. Its settings are environment variables, which etcd reads one and all; none is a secret.
fn service(fleet: &Fleet<'_>, facts: &HostFacts, address: &str) -> Attributes {
    let Fleet { record, catalogue, options, .. } = *fleet;
    let name = layout::etcd_service(&record.fleet, &facts.host);
    let joined = record.etcd_joined.get(&facts.host).map(|joined| joined.revision);
    let mount = |source: String, target: &str, read_only: bool| Mount {
        source,
        target: target.to_owned(),
        read_only,
        exclusive: !read_only,
    };
    let port = |name: &str, target: u16, published: u16| PublishedPort { name: name.to_owned(), target, published };
    let labels = |more: &[(&str, String)]| -> BTreeMap<String, String> {
        let common = [
            ("pgmoor.fleet", record.fleet.to_string()),
            ("pgmoor.scope", Scope::Fleet.label()),
            ("pgmoor.component", "etcd".to_owned()),
            ("pgmoor.host", facts.host.to_string()),
        ];
        common.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    };
    Attributes::Service(Box::new(ServiceAttributes {
        hostname: name.clone(),
        name,
        image: catalogue.etcd.image.clone(),
        command: vec!["etcd".to_owned()],
        args: Vec::new(),
        env: environment(record, facts, options, address),
        mounts: BTreeSet::from([
            mount(layout::etcd_certificates(&facts.data_dir), container::CERTIFICATES, true),
            mount(layout::etcd_data(&facts.data_dir, joined), container::ETCD_DATA, false),
        ]),
        networks: vec![Attachment { network: "bridge".to_owned(), aliases: Vec::new(), driver_opts: BTreeMap::new() }],
        ports: vec![
            port("client", layout::ETCD_CLIENT_PORT, options.etcd_client_port),
            port("peer", layout::ETCD_PEER_PORT, options.etcd_peer_port),
        ],
        healthcheck: Some(Healthcheck {
            shell: format!("curl -sSf 'http://127.0.0.1:{}/health?serializable=true'", layout::ETCD_METRICS_PORT),
            interval_s: CHECK_INTERVAL_S,
            timeout_s: 5,
            start_period_s: 30,
            retries: 30,
        }),
        swarm_node: facts.swarm_node.clone(),
        cpu_limit_millis: None,
        cpu_reservation_millis: None,
        memory_limit_bytes: None,
        memory_reservation_bytes: None,
        shm_bytes: None,
        stop_grace_s: STOP_GRACE_S,
        restart_delay_s: RESTART_DELAY_S,
        replicas: 1,
        container_labels: labels(&[]),
        labels: labels(&[("pgmoor.resource", service_resource(&facts.host))]),
    }))
}

fn environment(
    record: &FleetRecord,
    facts: &HostFacts,
    options: &FleetOptions,
    address: &str,
) -> BTreeMap<String, String> {
    let peer = |address: &str| members::peer_url(address, options);
    let (members, joined) = members::started_with(record, &facts.host, address);
    let members: Vec<String> = members.iter().map(|(host, address)| format!("{host}={}", peer(address))).collect();
    let ca = format!("{}.crt", layout::in_container("ca"));
    let pair = |name: &str, ending: &str| format!("{}.{ending}", layout::in_container(name));
    let any = |scheme: &str, port: u16| format!("{scheme}://0.0.0.0:{port}");
    [
        ("NAME", facts.host.to_string()),
        ("DATA_DIR", container::ETCD_DATA.to_owned()),
        ("LISTEN_CLIENT_URLS", any("https", layout::ETCD_CLIENT_PORT)),
        ("ADVERTISE_CLIENT_URLS", layout::etcd_url(address, options.etcd_client_port)),
        ("LISTEN_PEER_URLS", any("https", layout::ETCD_PEER_PORT)),
        ("INITIAL_ADVERTISE_PEER_URLS", peer(address)),
        ("INITIAL_CLUSTER", members.join(",")),
        ("INITIAL_CLUSTER_STATE", if joined { "existing" } else { "new" }.to_owned()),
        ("INITIAL_CLUSTER_TOKEN", record.etcd_cluster_token.clone()),
        ("LISTEN_METRICS_URLS", format!("http://127.0.0.1:{}", layout::ETCD_METRICS_PORT)),
        ("CLIENT_CERT_AUTH", "true".to_owned()),
        ("TRUSTED_CA_FILE", ca.clone()),
        ("CERT_FILE", pair(layout::SERVER, "crt")),
        ("KEY_FILE", pair(layout::SERVER, "key")),
        ("PEER_CLIENT_CERT_AUTH", "true".to_owned()),
        // A member shows its own kind of certificate, and is not asked for the address that it comes from: Docker may give
        // it another one on the way (seen: a member on the same host came from the bridge).
        ("PEER_CERT_ALLOWED_CN", common_name(layout::PEER)),
        ("EXPERIMENTAL_PEER_SKIP_CLIENT_SAN_VERIFICATION", "true".to_owned()),
        ("PEER_TRUSTED_CA_FILE", ca),
        ("PEER_CERT_FILE", pair(layout::PEER, "crt")),
        ("PEER_KEY_FILE", pair(layout::PEER, "key")),
        ("AUTO_COMPACTION_MODE", "periodic".to_owned()),
        ("AUTO_COMPACTION_RETENTION", COMPACTION.to_owned()),
        ("QUOTA_BACKEND_BYTES", QUOTA_BYTES.to_string()),
    ]
    .map(|(name, value)| (format!("ETCD_{name}"), value))
    .into()
}
