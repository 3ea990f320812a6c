//! A fleet with its etcd and one database, brought up with nothing but the drivers' own calls, from the domain's graphs.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgmoor::contract::{Context, accept};
use pgmoor::domain::database::{self, Accepted, Choose, PASSWORD_BYTES, PORT_FIRST};
use pgmoor::domain::patroni::document;
use pgmoor::domain::{FleetOptions, HostFacts, Hosts, Owner, catalogue, fleet, layout, members};
use pgmoor::drivers::certificates::{Authority, issue, make_authority};
use pgmoor::drivers::etcd::EtcdTarget;
use pgmoor::drivers::host::Permissions;
use pgmoor::drivers::swarm::Labels;
use pgmoor::drivers::{Endpoint, TlsIdentity};
use pgmoor::model::record::StoredSpec;
use pgmoor::model::resource::{CertificateAttributes, PatroniConfigAttributes};
use pgmoor::model::service::ServiceAttributes;
use pgmoor::model::{
    Attributes, DatabaseId, Digest, FleetId, FleetRecord, Graph, HostId, InstanceId, NodeName, Payload, Record,
    Resource, Secret,
};

use super::{Bench, free_port, until};

/// The database that the suite looks at.
const DOCUMENT: &str = r#"{"database_name": "shop", "memory": "256MiB", "database_users": [
    {"username": "app", "password": "a long enough password", "db_owner": true, "attributes": ["LOGIN"]}]}"#;

/// A fleet on this bench.
pub(super) struct Site<'a, B> {
    pub(super) bench: &'a B,
    pub(super) fleet: FleetRecord,
    pub(super) facts: HostFacts,
    options: FleetOptions,
}

/// A second member of etcd, as on another host, with ports of its own.
pub(super) struct SecondMember {
    pub(super) peer_url: String,
    pub(super) client_url: String,
    resources: Vec<Resource>,
}

/// The database on it.
pub(super) struct Shop {
    pub(super) instance: InstanceId,
    pub(super) service: ServiceAttributes,
    pub(super) config: PatroniConfigAttributes,
    pub(super) patroni: Endpoint,
    pub(super) postgres: Endpoint,
}

struct Choices;

impl Choose for Choices {
    fn entropy(&mut self) -> [u8; PASSWORD_BYTES] {
        [7; PASSWORD_BYTES]
    }

    fn port(&mut self, _host: &HostId) -> Option<u16> {
        Some(PORT_FIRST)
    }
}

impl<'a, B: Bench> Site<'a, B> {
    /// A fleet with nothing made yet.
    pub(super) async fn new(bench: &'a B) -> Self {
        let engine = bench.drivers().swarm.engine().await.unwrap();
        let (id, host) = (FleetId::parse(&bench.fleet()).unwrap(), HostId::parse("host-1").unwrap());
        let address = engine.address.unwrap();
        let authority = make_authority(&id, bench.now_s()).unwrap();
        let entropy = [7; fleet::ENTROPY_BYTES];
        let (client, peer) = (free_port(), free_port());
        Self {
            bench,
            fleet: fleet::mint(&id, (&host, address), authority.certificate_pem, authority.key_pem, &entropy),
            facts: HostFacts {
                host,
                hostname: engine.hostname,
                swarm_node: engine.swarm_node.unwrap(),
                data_dir: bench.data_dir(),
                advertise_address: address,
                cpus: engine.cpus,
                memory_bytes: engine.memory_bytes,
                labels: BTreeMap::new(),
                postgres_owner: Owner::IMAGE,
                etcd_owner: Owner::IMAGE,
            },
            options: FleetOptions { etcd_client_port: client, etcd_peer_port: peer },
        }
    }

    /// Directories, certificates and service of etcd; it answers, with authentication off.
    pub(super) async fn start_etcd(&self) {
        let catalogue = catalogue::embedded().unwrap();
        let graph = fleet::graph(&self.fleet, &Hosts::from(self.facts.clone()), &catalogue, &self.options).unwrap();
        for resource in graph.in_order() {
            self.establish(resource).await;
        }
        let (etcd, target) = (&self.bench.drivers().etcd, self.etcd().await);
        until("etcd answers", async || etcd.authentication(&target).await == Ok(false)).await;
    }

    /// How the daemon reaches etcd.
    pub(super) async fn etcd(&self) -> EtcdTarget {
        EtcdTarget {
            endpoints: vec![layout::etcd_url(&self.facts.advertise_address.to_string(), self.options.etcd_client_port)],
            identity: Arc::new(self.identity(&layout::daemon_etcd_stem(&self.facts.data_dir)).await),
            root_password: self.fleet.etcd_root_password.clone(),
        }
    }

    /// What the next member of a fleet of three hosts is made of.
    pub(super) fn second_member(&self) -> SecondMember {
        let host = |number: u8| HostFacts {
            host: HostId::parse(&format!("host-{number}")).unwrap(),
            data_dir: format!("{}/host-{number}", self.facts.data_dir),
            ..self.facts.clone()
        };
        let hosts: Hosts = [self.facts.clone(), host(2), host(3)].into_iter().collect();
        let record = members::next(&self.fleet, &hosts, &members::Standing::default()).unwrap();
        let graph = fleet::graph(&record, &hosts, &catalogue::embedded().unwrap(), &self.options).unwrap();
        let address = self.facts.advertise_address.to_string();
        let (client, peer) = (free_port(), free_port());
        let at = |port| layout::etcd_url(&address, port);
        let mut resources: Vec<Resource> =
            graph.in_order().filter(|resource| resource.id.name.contains("host-2")).cloned().collect();
        for resource in &mut resources {
            let Attributes::Service(service) = &mut resource.attributes else { continue };
            for port in &mut service.ports {
                port.published = if port.name == "client" { client } else { peer };
            }
            let (first, second) = (at(self.options.etcd_peer_port), at(peer));
            let cluster = format!("host-1={first},host-2={second}");
            for (name, value) in [
                ("ADVERTISE_CLIENT_URLS", at(client)),
                ("INITIAL_ADVERTISE_PEER_URLS", second),
                ("INITIAL_CLUSTER", cluster),
            ] {
                assert!(service.env.insert(format!("ETCD_{name}"), value).is_some(), "{name}");
            }
        }
        SecondMember { peer_url: at(peer), client_url: at(client), resources }
    }

    /// Starts it.
    pub(super) async fn start_member(&self, member: &SecondMember) {
        let owner = Permissions { mode: 0o700, uid: 0, gid: 0 };
        let data_dir = format!("{}/host-2", self.facts.data_dir);
        self.bench.drivers().host.make_directory(&data_dir, owner).await.unwrap();
        for resource in &member.resources {
            self.establish(resource).await;
        }
    }

    /// A database: etcd with authentication, and an instance that serves.
    pub(super) async fn start_shop(&self) -> Shop {
        self.start_etcd().await;
        self.bench.drivers().etcd.enable_authentication(&self.etcd().await).await.unwrap();
        let graph = self.graph();
        let (mut service, mut config) = (None, None);
        for resource in graph.in_order() {
            self.establish(resource).await;
            if let Attributes::Service(attributes) = &resource.attributes {
                service = Some(attributes.as_ref().clone());
            } else if let Attributes::PatroniConfig(attributes) = &resource.attributes {
                config = Some(attributes.clone());
            }
        }
        let database = DatabaseId::parse(&format!("shop-{}", self.bench.fleet())).unwrap();
        let instance = InstanceId::derive(&database, &NodeName::parse("n1").unwrap(), &self.facts.host);
        let service = self.labelled(&service.unwrap());
        let (patroni, postgres) = self.endpoints(&instance, &service.name).await;
        let shop = Shop { instance, service, config: config.unwrap(), patroni, postgres };
        self.serves(&shop).await;
        shop
    }

    /// Waits until Postgres serves as a primary, and Patroni has finished its bootstrap: until it takes the leader's
    /// key, it makes roles, and then writes the configuration that it started with over whatever came since.
    pub(super) async fn serves(&self, shop: &Shop) {
        let (drivers, target) = (self.bench.drivers(), self.etcd().await);
        let leader = format!("{}leader", shop.config.prefix);
        until("Postgres serves", async || {
            let up = drivers.postgres.server(&shop.postgres).await.is_ok_and(|server| !server.in_recovery);
            up && drivers.patroni.status(&shop.patroni).await.is_ok_and(|seen| seen.role == "primary")
                && drivers.etcd.get(&target, &leader).await.is_ok_and(|key| key.is_some())
        })
        .await;
    }

    /// Where the instance's Patroni and Postgres answer, once a container runs.
    pub(super) async fn endpoints(&self, instance: &InstanceId, service: &str) -> (Endpoint, Endpoint) {
        let selector = Labels::from([("com.docker.swarm.service.name".to_owned(), service.to_owned())]);
        let swarm = &self.bench.drivers().swarm;
        let address = async || {
            let containers = swarm.containers(&selector).await.unwrap();
            containers.iter().filter(|container| container.state == "running").find_map(|seen| seen.bridge_address)
        };
        until("a container has an address", async || address().await.is_some()).await;
        let address = address().await.unwrap();
        let identity = self.identity(&layout::superuser_stem(&self.facts.data_dir, instance.as_str())).await;
        let identity = Arc::new(identity);
        let at = |port| Endpoint { address, port, server_name: instance.to_string(), identity: Arc::clone(&identity) };
        (at(layout::PATRONI_PORT), at(layout::POSTGRES_PORT))
    }

    /// A certificate and its key from the host's files.
    pub(super) async fn identity(&self, stem: &str) -> TlsIdentity {
        let host = &self.bench.drivers().host;
        let read = async |ending: &str| host.read(&format!("{stem}.{ending}")).await.unwrap().unwrap().content;
        TlsIdentity {
            ca_pem: self.fleet.ca_certificate_pem.clone(),
            certificate_pem: read("crt").await.expose().to_owned(),
            key_pem: read("key").await,
        }
    }

    /// A second instance of the database's node, as on another host; it follows the first.
    pub(super) async fn start_replica(&self, shop: &Shop) -> Shop {
        let second = HostFacts { host: HostId::parse("host-2").unwrap(), ..self.facts.clone() };
        let hosts: Hosts = [self.facts.clone(), second].into_iter().collect();
        let (mut instance, mut service) = (None, None);
        for resource in self.graph_on(&hosts).in_order() {
            let Some(member) = resource.member.as_ref().filter(|member| member.place == 1) else { continue };
            instance = Some(member.instance.clone());
            self.establish(resource).await;
            if let Attributes::Service(attributes) = &resource.attributes {
                service = Some(self.labelled(attributes));
            }
        }
        let (instance, service) = (instance.unwrap(), service.unwrap());
        let (patroni, postgres) = self.endpoints(&instance, &service.name).await;
        Shop { instance, service, config: shop.config.clone(), patroni, postgres }
    }

    fn graph(&self) -> Graph {
        self.graph_on(&Hosts::from(self.facts.clone()))
    }

    /// The database with an instance on each of these hosts.
    fn graph_on(&self, hosts: &Hosts) -> Graph {
        let catalogue = catalogue::embedded().unwrap();
        let id = DatabaseId::parse(&format!("shop-{}", self.bench.fleet())).unwrap();
        let context = Context {
            catalogue: &catalogue,
            host: Some(&self.facts.host),
            placed: &BTreeMap::new(),
            known_hosts: None,
            drained_hosts: None,
            previous: None,
            ports_in_use: &BTreeMap::new(),
            data_dir: &self.facts.data_dir,
            default_memory_bytes: pgmoor::contract::spec::DEFAULT_MEMORY_BYTES,
        };
        let mut spec = accept(&id, DOCUMENT.as_bytes(), &context).unwrap();
        for node in &mut spec.nodes {
            node.hosts = hosts.iter().map(|facts| facts.host.clone()).collect();
        }
        let stored = StoredSpec {
            document: Secret::new(DOCUMENT),
            digest: Digest::of_bytes(DOCUMENT.as_bytes()),
            generation: None,
            accepted_at_s: self.bench.now_s(),
        };
        let placement = &BTreeMap::new();
        let accepted = Accepted { spec: &spec, stored: &stored, previous: None, placement };
        let record = database::mint(accepted, Record::new(id), &mut Choices).unwrap();
        database::graph(&spec, &record, &self.fleet, hosts, &catalogue, &self.options).unwrap()
    }

    /// What carries the fleet's label, so that the bench finds it again.
    fn labelled(&self, service: &ServiceAttributes) -> ServiceAttributes {
        let mut service = service.clone();
        service.labels.extend(self.bench.labels());
        service.container_labels.extend(self.bench.labels());
        service
    }

    /// Makes one resource as the reconciler does, up to what Postgres itself must do.
    async fn establish(&self, resource: &Resource) {
        let drivers = self.bench.drivers();
        match (&resource.attributes, &resource.payload) {
            (Attributes::Directory { path, mode, uid, gid, .. }, _) => {
                let permissions = Permissions { mode: *mode, uid: *uid, gid: *gid };
                drivers.host.make_directory(path, permissions).await.unwrap();
            }
            (Attributes::File { path, mode, uid, gid, .. }, Payload::Content(content)) => {
                let permissions = Permissions { mode: *mode, uid: *uid, gid: *gid };
                drivers.host.write(path, content, permissions).await.unwrap();
            }
            (Attributes::Certificate(wanted), _) => self.certificate(wanted).await,
            (Attributes::Network { name, attachable }, _) => {
                drivers.swarm.create_network(name, *attachable, &self.bench.labels()).await.unwrap();
            }
            (Attributes::Service(service), _) => {
                drivers.swarm.create_service(&self.labelled(service)).await.unwrap();
            }
            (Attributes::EtcdUser { name, prefix, .. }, Payload::Password(password)) => {
                drivers.etcd.put_user(&self.etcd().await, name, password, prefix).await.unwrap();
            }
            (Attributes::PatroniConfig(config), _) => {
                let (key, text) = (layout::patroni_config_key(&config.prefix), document(config).to_string());
                drivers.etcd.put(&self.etcd().await, &key, text.as_bytes(), Some(0)).await.unwrap();
            }
            _ => {}
        }
    }

    /// Signs a certificate and writes both of its files.
    pub(super) async fn certificate(&self, wanted: &CertificateAttributes) {
        let authority = Authority {
            certificate_pem: self.fleet.ca_certificate_pem.clone(),
            key_pem: self.fleet.ca_key_pem.clone(),
        };
        let issued = issue(&authority, wanted, self.bench.now_s()).unwrap();
        let owned = |mode| Permissions { mode, uid: wanted.uid, gid: wanted.gid };
        let host = &self.bench.drivers().host;
        host.write(&format!("{}.key", wanted.stem), &issued.key_pem, owned(0o600)).await.unwrap();
        let certificate = Secret::new(issued.certificate_pem);
        host.write(&format!("{}.crt", wanted.stem), &certificate, owned(0o644)).await.unwrap();
    }

    /// The server certificate of an instance as it shall be.
    pub(super) fn server_certificate(&self, shop: &Shop) -> CertificateAttributes {
        let graph = self.graph();
        let stem = layout::server_stem(&self.facts.data_dir, shop.instance.as_str());
        let mut certificates = graph.in_order().filter_map(|resource| {
            let Attributes::Certificate(certificate) = &resource.attributes else { return None };
            (certificate.stem == stem).then(|| certificate.clone())
        });
        certificates.next().unwrap()
    }
}
