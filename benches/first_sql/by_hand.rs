//! One round by hand: everything that can be prepared is there, and the clock starts with `docker service create`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use pgmoor::contract::spec::DEFAULT_MEMORY_BYTES;
use pgmoor::contract::{self, Context};
use pgmoor::domain::database::{self, Accepted, Choose, PASSWORD_BYTES};
use pgmoor::domain::{FleetOptions, HostFacts, Hosts, Owner, layout, patroni};
use pgmoor::drivers::TlsIdentity;
use pgmoor::drivers::certificates::{self, Authority};
use pgmoor::drivers::etcd::{Etcd, EtcdTarget, Gateway};
use pgmoor::drivers::host::{Host, Local, Permissions};
use pgmoor::drivers::seal::FleetKey;
use pgmoor::model::record::StoredSpec;
use pgmoor::model::resource::CertificateAttributes;
use pgmoor::model::service::{Attachment, Healthcheck, Mount, ServiceAttributes};
use pgmoor::model::{Attributes, Digest, FleetRecord, Graph, HostId, Payload, Record, Resource, Scope, Secret};
use pgmoor::runtime::{Clock as _, Random, SystemClock};
use pgmoor::world::record;
use tokio::process::Command;

use super::site::{Database, FLEET_LABEL, Site, unless_gone};
use super::sql;

/// How long after `docker service create` began.
pub(super) struct Times {
    /// The superuser wrote a row.
    pub(super) superuser: Duration,
    /// The owner of a database wrote a row.
    pub(super) role: Duration,
}

/// The fleet's secrets and drivers, as a person with access to the host has them.
pub(super) struct ByHand {
    facts: HostFacts,
    fleet: FleetRecord,
    host: Local,
    etcd: Gateway,
    target: EtcdTarget,
    clock: SystemClock,
}

/// Fresh passwords; ports are in the spec.
struct Chooser;

impl Choose for Chooser {
    fn entropy(&mut self) -> [u8; PASSWORD_BYTES] {
        // A bench's password keeps nobody out: numbers will do.
        std::array::from_fn(|_| Random::System.next_u64().to_le_bytes()[0])
    }

    fn port(&mut self, _host: &HostId) -> Option<u16> {
        None
    }
}

impl ByHand {
    /// Reads what the daemon made for its fleet.
    pub(super) async fn prepare(site: &Site) -> anyhow::Result<Self> {
        let data_dir = site.data_dir()?.to_owned();
        let key = FleetKey::load_or_create(&Path::new(&data_dir).join("fleet.key"))?;
        let found = record::find(&*site.swarm, &key, &site.fleet).await?;
        let fleet = found.fleet.context("Swarm has the fleet's record")?;
        let engine = site.swarm.engine().await?;
        let address: IpAddr = engine.address.context("this host is in a Swarm")?;
        let facts = HostFacts {
            host: site.host.clone(),
            hostname: engine.hostname,
            swarm_node: engine.swarm_node.context("this host is in a Swarm")?,
            data_dir: data_dir.clone(),
            advertise_address: address,
            cpus: engine.cpus,
            memory_bytes: engine.memory_bytes,
            labels: BTreeMap::new(),
            postgres_owner: Owner::IMAGE,
            etcd_owner: Owner::IMAGE,
        };
        let target = EtcdTarget {
            endpoints: fleet
                .etcd_members
                .values()
                .map(|address| layout::etcd_url(address, site.etcd_client_port))
                .collect(),
            identity: Arc::new(identity(&fleet, &layout::daemon_etcd_stem(&data_dir))?),
            root_password: fleet.etcd_root_password.clone(),
        };
        let host = Local::new(data_dir);
        Ok(Self { facts, fleet, host, etcd: Gateway::new(), target, clock: SystemClock::new() })
    }

    /// From `docker service create` to the row.
    pub(super) async fn round(&self, site: &Site, database: &Database) -> anyhow::Result<Times> {
        let graph = self.described(site, database)?;
        let mut service = None;
        for resource in graph.in_order() {
            if let Attributes::Service(attributes) = &resource.attributes {
                service = Some(ServiceAttributes {
                    labels: marked(site, &attributes.labels),
                    container_labels: marked(site, &attributes.container_labels),
                    ..(**attributes).clone()
                });
            } else {
                self.make(site, database, resource).await?;
            }
        }
        let service = service.context("the description has a service")?;
        let instance = service.hostname.clone();
        let superuser = identity(&self.fleet, &layout::superuser_stem(&self.facts.data_dir, &instance))?;
        let mut docker = Command::new("docker");
        docker.args(arguments(&service)).kill_on_drop(true);

        let begun = Instant::now();
        let mut superuser_after = Duration::ZERO;
        let create = async {
            let output = docker.output().await.context("run docker")?;
            if !output.status.success() {
                bail!("docker service create: {}", String::from_utf8_lossy(&output.stderr));
            }
            Ok(())
        };
        let usable = async {
            let is_in = || superuser_after = begun.elapsed();
            sql::until_superuser_made(database, &instance, &superuser, is_in).await?;
            sql::until_role_writes(database).await
        };
        tokio::try_join!(create, usable).with_context(|| format!("make {}", database.id))?;
        let role = begun.elapsed();

        self.remove(site, database, &graph).await?;
        Ok(Times { superuser: superuser_after, role })
    }

    /// The same description as pgmoor's own.
    fn described(&self, site: &Site, database: &Database) -> anyhow::Result<Graph> {
        let document = database.spec();
        let (known_hosts, nobody, placed) = (BTreeSet::from([site.host.clone()]), BTreeMap::new(), BTreeMap::new());
        let context = Context {
            catalogue: &site.catalogue,
            host: Some(&site.host),
            placed: &placed,
            known_hosts: Some(&known_hosts),
            drained_hosts: None,
            previous: None,
            ports_in_use: &nobody,
            data_dir: &self.facts.data_dir,
            default_memory_bytes: DEFAULT_MEMORY_BYTES,
        };
        let spec = contract::accept(&database.id, document.as_bytes(), &context)
            .map_err(|faults| anyhow!("the spec is refused: {faults:?}"))?;
        let stored = StoredSpec {
            digest: Digest::of_bytes(document.as_bytes()),
            document: Secret::new(document),
            generation: None,
            accepted_at_s: self.now_s(),
        };
        let accepted = Accepted { spec: &spec, stored: &stored, previous: None, placement: &BTreeMap::new() };
        let record = database::mint(accepted, Record::new(database.id.clone()), &mut Chooser)?;
        let options = FleetOptions { etcd_client_port: site.etcd_client_port, ..FleetOptions::default() };
        Ok(database::graph(&spec, &record, &self.fleet, &Hosts::from(self.facts.clone()), &site.catalogue, &options)?)
    }

    fn now_s(&self) -> i64 {
        self.clock.now_ms() / 1000
    }

    /// Makes what stands before the service; what comes after it is made with SQL.
    async fn make(&self, site: &Site, database: &Database, resource: &Resource) -> anyhow::Result<()> {
        match (&resource.attributes, &resource.payload) {
            (Attributes::Directory { path, mode, uid, gid, .. }, _) => {
                let permissions = Permissions { mode: *mode, uid: *uid, gid: *gid };
                self.host.make_directory(path, permissions).await?;
            }
            (Attributes::File { path, mode, uid, gid, .. }, Payload::Content(content)) => {
                let permissions = Permissions { mode: *mode, uid: *uid, gid: *gid };
                self.host.write(path, content, permissions).await?;
            }
            (Attributes::Certificate(wanted), _) => self.certificate(wanted).await?,
            (Attributes::Network { name, attachable }, _) => {
                let scope = Scope::Database(database.id.clone()).label();
                let labels = BTreeMap::from([("pgmoor.scope".to_owned(), scope)]);
                site.swarm.create_network(name, *attachable, &marked(site, &labels)).await?;
            }
            (Attributes::EtcdUser { name, prefix, .. }, Payload::Password(password)) => {
                self.etcd.put_user(&self.target, name, password, prefix).await?;
            }
            (Attributes::PatroniConfig(wanted), _) => {
                let document = patroni::document(wanted).to_string();
                let key = layout::patroni_config_key(&wanted.prefix);
                self.etcd.put(&self.target, &key, document.as_bytes(), Some(0)).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn certificate(&self, wanted: &CertificateAttributes) -> anyhow::Result<()> {
        let authority = Authority {
            certificate_pem: self.fleet.ca_certificate_pem.clone(),
            key_pem: self.fleet.ca_key_pem.clone(),
        };
        let issued = certificates::issue(&authority, wanted, self.now_s())?;
        let owned = |mode: u32| Permissions { mode, uid: wanted.uid, gid: wanted.gid };
        self.host.write(&format!("{}.key", wanted.stem), &issued.key_pem, owned(0o600)).await?;
        let certificate = Secret::new(issued.certificate_pem);
        self.host.write(&format!("{}.crt", wanted.stem), &certificate, owned(0o644)).await?;
        Ok(())
    }

    /// Removes what the round made.
    async fn remove(&self, site: &Site, database: &Database, graph: &Graph) -> anyhow::Result<()> {
        let labels = marked(site, &BTreeMap::new());
        for service in site.swarm.services(&labels).await? {
            unless_gone(site.swarm.remove_service(&service.id).await)?;
        }
        while !site.swarm.containers(&labels).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for network in site.swarm.networks(&labels).await? {
            unless_gone(site.swarm.remove_network(&network.id).await)?;
        }
        site.gone(&site.by_hand, &Scope::Database(database.id.clone()).label()).await?;
        for resource in graph.in_order() {
            if let Attributes::EtcdUser { name, prefix, .. } = &resource.attributes {
                unless_gone(self.etcd.delete_user(&self.target, name).await)?;
                unless_gone(self.etcd.delete_prefix(&self.target, prefix).await)?;
            } else if let Attributes::Service(service) = &resource.attributes {
                let directory = layout::instance_directory(&self.facts.data_dir, &service.hostname);
                self.host.remove_directory(&directory).await?;
            }
        }
        Ok(())
    }
}

/// Labels under the fleet that the daemon does not look at.
fn marked(site: &Site, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    labels.insert(FLEET_LABEL.to_owned(), site.by_hand.to_string());
    labels
}

fn identity(fleet: &FleetRecord, stem: &str) -> anyhow::Result<TlsIdentity> {
    let read = |ending: &str| {
        let path = format!("{stem}.{ending}");
        std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
    };
    Ok(TlsIdentity {
        ca_pem: fleet.ca_certificate_pem.clone(),
        certificate_pem: read("crt")?,
        key_pem: Secret::new(read("key")?),
    })
}

/// The arguments of `docker service create` that make the service that pgmoor would make.
fn arguments(service: &ServiceAttributes) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--endpoint-mode=dnsrr"]
            .map(str::to_owned)
            .into();
    let mut add = |option: &str, value: String| arguments.push(format!("--{option}={value}"));
    add("name", service.name.clone());
    add("hostname", service.hostname.clone());
    add("constraint", format!("node.id=={}", service.swarm_node));
    add("restart-condition", "any".to_owned());
    add("restart-delay", format!("{}s", service.restart_delay_s));
    add("stop-grace-period", format!("{}s", service.stop_grace_s));
    service.command.iter().for_each(|word| add("entrypoint", word.clone()));
    service.env.iter().for_each(|(name, value)| add("env", format!("{name}={value}")));
    service.labels.iter().for_each(|(name, value)| add("label", format!("{name}={value}")));
    service.container_labels.iter().for_each(|(name, value)| add("container-label", format!("{name}={value}")));
    service.mounts.iter().for_each(|one| add("mount", mount(one)));
    service.networks.iter().for_each(|one| add("network", network(one)));
    for port in &service.ports {
        add("publish", format!("mode=host,protocol=tcp,target={},published={}", port.target, port.published));
    }
    if let Some(bytes) = service.shm_bytes {
        add("mount", format!("type=tmpfs,target=/dev/shm,tmpfs-size={bytes}"));
    }
    let bytes = [("limit-memory", service.memory_limit_bytes), ("reserve-memory", service.memory_reservation_bytes)];
    let millis = [("limit-cpu", service.cpu_limit_millis), ("reserve-cpu", service.cpu_reservation_millis)];
    for (option, bytes) in bytes {
        bytes.into_iter().for_each(|bytes| add(option, bytes.to_string()));
    }
    for (option, millis) in millis {
        millis.into_iter().for_each(|millis| add(option, format!("{}.{:03}", millis / 1000, millis % 1000)));
    }
    if let Some(check) = &service.healthcheck {
        health(check).into_iter().for_each(|(option, value)| add(option, value));
    }
    arguments.push(service.image.clone());
    arguments.extend(service.args.iter().cloned());
    arguments
}

fn mount(mount: &Mount) -> String {
    format!("type=bind,source={},target={},readonly={}", mount.source, mount.target, mount.read_only)
}

fn network(network: &Attachment) -> String {
    let aliases: Vec<String> = network.aliases.iter().map(|alias| format!(",alias={alias}")).collect();
    format!("name={}{}", network.network, aliases.concat())
}

fn health(check: &Healthcheck) -> [(&'static str, String); 5] {
    [
        ("health-cmd", check.shell.clone()),
        ("health-interval", format!("{}s", check.interval_s)),
        ("health-timeout", format!("{}s", check.timeout_s)),
        ("health-start-period", format!("{}s", check.start_period_s)),
        ("health-retries", check.retries.to_string()),
    ]
}
