//! A small database as the domain would describe it, and the world around it, for tests to change.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::resource::{CertificateAttributes, InstanceAttributes, OnDelete, PatroniConfigAttributes};
use crate::model::role::{RoleAttributes, RoleFlags};
use crate::model::service::{Mount, PublishedPort, ServiceAttributes};
use crate::model::{
    Attributes, DatabaseId, Dependency, Digest, Executor, Graph, HostId, Kind, NodeName, Observation, Observed,
    Payload, Present, Resource, ResourceId, Scope,
};
use crate::plan::decision::{Decision, Veil};
use crate::plan::{Input, Outcome, Plan, check, nothing_there, plan, simulate};

/// What tests change of the database.
#[derive(Debug, Clone)]
pub(super) struct Shop {
    pub(super) image: &'static str,
    pub(super) port: u16,
    pub(super) parameters: BTreeMap<&'static str, &'static str>,
    pub(super) pg_hba: Vec<&'static str>,
    pub(super) roles: BTreeSet<&'static str>,
    pub(super) labels: BTreeMap<&'static str, &'static str>,
}

impl Default for Shop {
    fn default() -> Self {
        Self {
            image: "pgmoor/postgres:17.11",
            port: 5432,
            parameters: BTreeMap::from([("max_connections", "100"), ("work_mem", "4MB")]),
            pg_hba: vec!["local all all peer", "hostssl all all samenet cert clientcert=verify-full"],
            roles: BTreeSet::from(["app"]),
            labels: BTreeMap::new(),
        }
    }
}

pub(super) fn id(kind: Kind, name: &str) -> ResourceId {
    ResourceId::new(kind, name)
}

pub(super) fn host() -> Executor {
    Executor::Host(HostId::parse("host-1").unwrap())
}

fn primary() -> Executor {
    Executor::Primary(NodeName::parse("n1").unwrap())
}

impl Shop {
    pub(super) fn graph(&self) -> Graph {
        let mut resources = vec![self.record(), self.directory(), self.network(), self.certificate(), self.file()];
        resources.extend([self.patroni_config(), self.service(), self.instance()]);
        resources.extend(self.roles.iter().map(|name| self.role(name)));
        resources.push(self.database());
        Graph::new(resources).unwrap()
    }

    fn config(&self) -> String {
        Digest::of(&(&self.parameters, &self.pg_hba)).short().to_owned()
    }

    fn record(&self) -> Resource {
        resource(Kind::Record, "shop", Executor::Manager, [], Attributes::Record { revision: 1 })
    }

    fn directory(&self) -> Resource {
        let attributes = Attributes::Directory {
            path: "/var/lib/pgmoor/instances/shop-n1/data".to_owned(),
            mode: 0o700,
            uid: 999,
            gid: 999,
            on_delete: OnDelete::Trash,
        };
        resource(Kind::Directory, "shop-n1/data", host(), [(Kind::Record, "shop", Dependency::Order)], attributes)
    }

    fn network(&self) -> Resource {
        let attributes = Attributes::Network { name: "shop-database".to_owned(), attachable: true };
        let needs = [(Kind::Record, "shop", Dependency::Order)];
        resource(Kind::Network, "shop-database", Executor::Manager, needs, attributes)
    }

    fn certificate(&self) -> Resource {
        let attributes = Attributes::Certificate(CertificateAttributes {
            stem: "/var/lib/pgmoor/instances/shop-n1/certificates/server".to_owned(),
            uid: 999,
            gid: 999,
            common_name: "shop-n1".to_owned(),
            subject_alt_names: BTreeSet::from(["shop-n1".to_owned()]),
            server: true,
            client: false,
            issuer: Digest::of_bytes(b"authority"),
            fresh: true,
        });
        let needs = [(Kind::Directory, "shop-n1/data", Dependency::Order)];
        resource(Kind::Certificate, "shop-n1/server", host(), needs, attributes)
    }

    fn file(&self) -> Resource {
        let attributes = Attributes::File {
            path: "/var/lib/pgmoor/instances/shop-n1/configs/patroni.yml".to_owned(),
            mode: 0o600,
            uid: 999,
            gid: 999,
            content: Digest::of_bytes(b"patroni.yml"),
        };
        let needs = [(Kind::Directory, "shop-n1/data", Dependency::Order)];
        resource(Kind::File, "shop-n1/patroni.yml", host(), needs, attributes)
    }

    fn patroni_config(&self) -> Resource {
        let mut parameters: BTreeMap<String, String> =
            self.parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parameters.insert("pgmoor.config".to_owned(), self.config());
        let attributes = Attributes::PatroniConfig(PatroniConfigAttributes {
            prefix: "/patroni/shop:n1/".to_owned(),
            ttl: 30,
            loop_wait: 10,
            retry_timeout: 10,
            failsafe_mode: true,
            maximum_lag_on_failover: 1_048_576,
            synchronous_mode: crate::model::resource::SynchronousMode::Off,
            use_pg_rewind: true,
            parameters,
            pg_hba: self.pg_hba.iter().map(|line| (*line).to_owned()).collect(),
            pg_ident: Vec::new(),
        });
        let needs = [(Kind::Record, "shop", Dependency::Order)];
        resource(Kind::PatroniConfig, "n1", Executor::Manager, needs, attributes)
    }

    fn service(&self) -> Resource {
        let needs = [
            (Kind::Directory, "shop-n1/data", Dependency::Content),
            (Kind::Network, "shop-database", Dependency::Content),
            (Kind::File, "shop-n1/patroni.yml", Dependency::Content),
            (Kind::Certificate, "shop-n1/server", Dependency::Order),
            (Kind::PatroniConfig, "n1", Dependency::Order),
        ];
        let attributes = Attributes::Service(Box::new(self.service_attributes()));
        resource(Kind::Service, "postgres-shop-n1", Executor::Manager, needs, attributes)
    }

    pub(super) fn service_attributes(&self) -> ServiceAttributes {
        ServiceAttributes {
            name: "postgres-shop-n1".to_owned(),
            image: self.image.to_owned(),
            command: Vec::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            hostname: "shop-n1".to_owned(),
            mounts: BTreeSet::from([Mount {
                source: "/var/lib/pgmoor/instances/shop-n1/data".to_owned(),
                target: "/opt/pgmoor/data".to_owned(),
                read_only: false,
                exclusive: true,
            }]),
            networks: Vec::new(),
            ports: vec![PublishedPort { name: "postgres".to_owned(), target: 5432, published: self.port }],
            healthcheck: None,
            swarm_node: "node-1".to_owned(),
            cpu_limit_millis: None,
            cpu_reservation_millis: None,
            memory_limit_bytes: Some(536_870_912),
            memory_reservation_bytes: None,
            shm_bytes: None,
            stop_grace_s: 90,
            restart_delay_s: 5,
            replicas: 1,
            container_labels: BTreeMap::new(),
            labels: self.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn instance(&self) -> Resource {
        let needs = [
            (Kind::Service, "postgres-shop-n1", Dependency::Content),
            (Kind::PatroniConfig, "n1", Dependency::Content),
            (Kind::Certificate, "shop-n1/server", Dependency::Content),
        ];
        let attributes = Attributes::Instance(InstanceAttributes {
            service: "postgres-shop-n1".to_owned(),
            running: true,
            config: self.config(),
            pending_restart: false,
            certificate_loaded: true,
            alter_system: BTreeSet::new(),
        });
        resource(Kind::Instance, "shop-n1", host(), needs, attributes)
    }

    fn role(&self, name: &str) -> Resource {
        let attributes = Attributes::Role(RoleAttributes {
            name: name.to_owned(),
            flags: RoleFlags { login: true, ..RoleFlags::default() },
            member_of: BTreeSet::new(),
            password_matches: true,
            connection_limit: None,
            valid_until: None,
            asks_verifiers: false,
        });
        resource(Kind::Role, name, primary(), [(Kind::Instance, "shop-n1", Dependency::Order)], attributes)
    }

    fn database(&self) -> Resource {
        let mut needs = vec![(Kind::Instance, "shop-n1", Dependency::Order)];
        needs.extend(self.roles.iter().map(|name| (Kind::Role, *name, Dependency::Order)));
        let attributes = Attributes::Database { name: "shop".to_owned(), owner: "app".to_owned() };
        resource(Kind::Database, "shop", primary(), needs, attributes)
    }
}

pub(super) fn resource<'a>(
    kind: Kind,
    name: &str,
    executor: Executor,
    needs: impl IntoIterator<Item = (Kind, &'a str, Dependency)>,
    attributes: Attributes,
) -> Resource {
    Resource {
        id: id(kind, name),
        executor,
        member: None,
        dependencies: needs.into_iter().map(|(kind, name, why)| (id(kind, name), why)).collect(),
        attributes,
        may_differ: Vec::new(),
        payload: Payload::None,
    }
}

/// A graph and the world it is planned against.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) desired: Graph,
    pub(super) observed: Observed,
    pub(super) outcomes: BTreeMap<ResourceId, Outcome>,
    pub(super) forced: BTreeSet<ResourceId>,
}

impl World {
    /// Nothing is there yet.
    pub(super) fn new(desired: Graph) -> Self {
        let observed = nothing_there(&desired);
        Self { desired, observed, outcomes: BTreeMap::new(), forced: BTreeSet::new() }
    }

    /// Everything is there, as desired.
    pub(super) fn settled(desired: Graph) -> Self {
        let mut world = Self::new(desired);
        world.observed = simulate::apply(&world.plan(), &world.desired, &world.observed);
        world
    }

    /// Another desire; what it does not have any more becomes stray, and what it has besides is absent.
    pub(super) fn wish(mut self, desired: Graph) -> Self {
        for resource in self.desired.in_order().filter(|resource| !desired.contains(&resource.id)) {
            let stray = crate::model::Stray {
                executor: resource.executor.clone(),
                dependencies: resource.dependencies.keys().cloned().collect(),
                member: resource.member.clone(),
            };
            self.observed.strays.insert(resource.id.clone(), stray);
        }
        for resource in desired.in_order() {
            self.observed.resources.entry(resource.id.clone()).or_insert(Observation::Absent);
        }
        self.desired = desired;
        self
    }

    pub(super) fn see(mut self, id: ResourceId, observation: Observation) -> Self {
        self.observed.resources.insert(id, observation);
        self
    }

    pub(super) fn change(mut self, id: &ResourceId, change: impl FnOnce(&mut Present)) -> Self {
        match self.observed.resources.get_mut(id) {
            Some(Observation::Present(present)) => change(present),
            other => panic!("{id} is not there: {other:?}"),
        }
        self
    }

    /// The plan, after the checker has seen it.
    pub(super) fn plan(&self) -> Plan {
        let scope = Scope::Database(DatabaseId::parse("shop").unwrap());
        let input = self.input(&scope);
        let plan = plan(&input);
        assert_eq!(check::check(&plan, &input), Ok(()), "{plan:#?}");
        // Every plan of these tests is decided again from behind the veil, and comes out the same.
        let decision = decision(&input, &plan);
        let replayed = decision.replay().unwrap();
        assert!(replayed.same(), "{replayed:#?}");
        plan
    }

    pub(super) fn input<'a>(&'a self, scope: &'a Scope) -> Input<'a> {
        Input {
            scope,
            desired: &self.desired,
            observed: &self.observed,
            outcomes: &self.outcomes,
            forced: &self.forced,
        }
    }
}

/// The decision as it would be kept.
pub(super) fn decision(input: &Input<'_>, plan: &Plan) -> Decision {
    Decision::new(input, plan, &Veil::new(b"key", [])).unwrap()
}

pub(super) fn unknown(why: &str) -> Observation {
    Observation::Unknown { why: why.to_owned() }
}
