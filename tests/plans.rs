//! Golden plans of real databases: spec documents in, through admission and the domain's graph, a plan out. They hold
//! the promises about change classes (reload, restart, replace) for the resources that are really there.
//!
//! Digests and passwords differ from run to run and appear in no plan, so the texts are stable.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};

use pgmoor::contract::{Context, accept};
use pgmoor::domain::database::{self, Accepted, Choose, PASSWORD_BYTES};
use pgmoor::domain::{FleetOptions, HostFacts, Hosts, Owner, catalogue, fleet, members};
use pgmoor::drivers::certificates::make_authority;
use pgmoor::model::record::StoredSpec;
use pgmoor::model::{
    AcceptedSpec, Catalogue, DatabaseId, Digest, Executor, FleetId, FleetRecord, Graph, HostId, HostStanding, Kind,
    Observation, Observed, Record, Scope, Secret, Stray,
};
use pgmoor::plan::decision::{Decision, End, Veil};
use pgmoor::plan::{Disruption, Input, Plan, check, nothing_there, plan, simulate, text};

/// A moment in 2026: seconds since 1970.
const NOW_S: i64 = 1_780_000_000;

struct Site {
    catalogue: Catalogue,
    fleet: FleetRecord,
    /// Three; a fleet's plans are of the first alone.
    hosts: Hosts,
}

fn facts(number: u8) -> HostFacts {
    HostFacts {
        host: HostId::parse(&format!("host-{number}")).unwrap(),
        hostname: format!("host-{number}"),
        swarm_node: format!("node-{number}"),
        data_dir: "/var/lib/pgmoor".to_owned(),
        advertise_address: [192, 0, 2, number].into(),
        cpus: 4,
        memory_bytes: 8 << 30,
        labels: BTreeMap::new(),
        postgres_owner: Owner::IMAGE,
        etcd_owner: Owner::IMAGE,
    }
}

struct Choices;

impl Choose for Choices {
    fn entropy(&mut self) -> [u8; PASSWORD_BYTES] {
        [7; PASSWORD_BYTES]
    }

    fn port(&mut self, _host: &HostId) -> Option<u16> {
        Some(database::PORT_FIRST)
    }
}

/// A database as it was applied last.
struct Applied {
    spec: AcceptedSpec,
    record: Record,
    graph: Graph,
}

impl Site {
    fn new() -> Self {
        let fleet_id = FleetId::parse("demo").unwrap();
        let HostFacts { host, advertise_address: address, .. } = facts(1);
        let authority = make_authority(&fleet_id, NOW_S).unwrap();
        let entropy = [7; fleet::ENTROPY_BYTES];
        Self {
            catalogue: catalogue::embedded().unwrap(),
            fleet: fleet::mint(&fleet_id, (&host, address), authority.certificate_pem, authority.key_pem, &entropy),
            hosts: (1..=3).map(facts).collect(),
        }
    }

    /// The same with its nodes on these hosts.
    fn database_on(&self, hosts: &[u8], document: &str, before: Option<&Applied>) -> Applied {
        let ids: Vec<HostId> = hosts.iter().map(|number| facts(*number).host).collect();
        let mut document: serde_json::Value = serde_json::from_str(document).unwrap();
        document["nodes"] = serde_json::json!([{"name": "n1", "host_ids": ids}]);
        self.database(&document.to_string(), before)
    }

    /// The database after this document was accepted; without nodes, on the first host.
    fn database(&self, document: &str, before: Option<&Applied>) -> Applied {
        let here = facts(1);
        let id = DatabaseId::parse("shop").unwrap();
        let context = Context {
            catalogue: &self.catalogue,
            host: Some(&here.host),
            placed: &BTreeMap::new(),
            known_hosts: None,
            drained_hosts: None,
            previous: before.map(|before| &before.spec),
            ports_in_use: &BTreeMap::new(),
            data_dir: &here.data_dir,
            default_memory_bytes: pgmoor::contract::spec::DEFAULT_MEMORY_BYTES,
        };
        let spec = accept(&id, document.as_bytes(), &context).unwrap();
        let stored = StoredSpec {
            document: Secret::new(document),
            digest: Digest::of_bytes(document.as_bytes()),
            generation: None,
            accepted_at_s: NOW_S,
        };
        let placement = &BTreeMap::new();
        let accepted =
            Accepted { spec: &spec, stored: &stored, previous: before.map(|before| &before.spec), placement };
        let record = before.map_or_else(|| Record::new(id), |before| before.record.clone());
        let record = if spec.deleted {
            database::bury(record, NOW_S, 3_600)
        } else {
            database::mint(accepted, record, &mut Choices).unwrap()
        };
        let options = FleetOptions::default();
        let graph = database::graph(&spec, &record, &self.fleet, &self.hosts, &self.catalogue, &options).unwrap();
        Applied { spec, record, graph }
    }
}

fn planned(scope: &Scope, desired: &Graph, observed: &Observed) -> Plan {
    let (outcomes, forced) = (BTreeMap::new(), BTreeSet::new());
    let input = Input { scope, desired, observed, outcomes: &outcomes, forced: &forced };
    let plan = plan(&input);
    assert_eq!(check::check(&plan, &input), Ok(()));
    // Decided again by somebody who sees no secret, it is the same.
    let decision = Decision::new(&input, &plan, &Veil::new(b"key", [])).unwrap();
    let sent = serde_json::to_string(&decision).unwrap();
    let replayed = serde_json::from_str::<Decision>(&sent).unwrap().replay().unwrap();
    assert!(replayed.same(), "{replayed:#?}");
    assert!(!plan.waiting.is_empty() || replayed.end == End::Settled, "{replayed:#?}");
    plan
}

/// The world in which `before` stands, as it is seen by one who desires `after`.
fn seen(before: &Graph, after: &Graph) -> Observed {
    let scope = Scope::Fleet;
    let nothing = nothing_there(before);
    let mut world = simulate::apply(&planned(&scope, before, &nothing), before, &nothing);
    assert!(planned(&scope, before, &world).is_settled(), "applied, there is nothing left to do");
    for resource in after.in_order() {
        world.resources.entry(resource.id.clone()).or_insert(Observation::Absent);
    }
    for resource in before.in_order().filter(|resource| !after.contains(&resource.id)) {
        let dependencies = resource.dependencies.keys().cloned().collect();
        world.strays.insert(
            resource.id.clone(),
            Stray { executor: resource.executor.clone(), dependencies, member: resource.member.clone() },
        );
    }
    world
}

fn golden(scenario: &str, plan: &Plan) {
    insta::with_settings!({ snapshot_path => "golden/plan", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(scenario, text::render(plan));
    });
}

const SHOP: &str = r#"{
    "database_name": "shop", "port": 5432, "postgres_version": "OLD",
    "database_users": [{"username": "app", "db_owner": true, "attributes": ["LOGIN"]}],
    "extensions": ["vector"],
    "postgresql_conf": {"work_mem": "8MB", "max_connections": 100}
}"#;

/// The plan from the shop as it is to the shop with one text of its document replaced.
fn changed(replaced: &str, by: &str) -> Plan {
    moved((&[1], &[1]), replaced, by)
}

/// The same, while its node goes from some hosts to others. The first of them has the primary.
fn moved((from, to): (&[u8], &[u8]), replaced: &str, by: &str) -> Plan {
    let site = Site::new();
    let mut versions: Vec<&str> = site.catalogue.postgres.iter().map(|image| image.version.as_str()).collect();
    versions.sort_unstable();
    let versions = |document: &str| document.replace("OLD", versions[0]).replace("NEW", versions[1]);
    assert!(SHOP.contains(replaced), "{replaced}");
    let before = site.database_on(from, &versions(SHOP), None);
    let after = site.database_on(to, &versions(&SHOP.replace(replaced, by)), Some(&before));
    planned(&Scope::Database(before.spec.id), &after.graph, &seen(&before.graph, &after.graph))
}

#[test]
fn a_database_is_created() {
    let site = Site::new();
    let shop = site.database(r#"{"template": "postgres"}"#, None);
    golden("real-create", &planned(&Scope::Database(shop.spec.id), &shop.graph, &nothing_there(&shop.graph)));
}

#[test]
fn a_fleet_is_created() {
    let site = Site::new();
    let graph = fleet::graph(&site.fleet, &Hosts::from(facts(1)), &site.catalogue, &FleetOptions::default()).unwrap();
    golden("real-create-fleet", &planned(&Scope::Fleet, &graph, &nothing_there(&graph)));
}

/// A fleet of three hosts while its etcd grows by a member, and while one goes.
#[test]
fn members_of_etcd_come_and_go() {
    let site = Site::new();
    let (catalogue, options) = (&site.catalogue, FleetOptions::default());
    let graph = |record: &FleetRecord| fleet::graph(record, &site.hosts, catalogue, &options).unwrap();
    let next = |record: &FleetRecord| members::next(record, &site.hosts, &members::Standing::default()).unwrap();
    let joins = next(&site.fleet);
    golden(
        "real-etcd-member-joins",
        &planned(&Scope::Fleet, &graph(&joins), &seen(&graph(&site.fleet), &graph(&joins))),
    );
    let mut three = members::done(members::done(next(&members::done(members::done(joins)))));
    three.hosts.insert(facts(2).host, HostStanding::Drained);
    let leaves = next(&three);
    let before = fleet::leaving(&leaves, &site.hosts, catalogue, &options).unwrap();
    golden("real-etcd-member-leaves", &planned(&Scope::Fleet, &graph(&leaves), &seen(&before, &graph(&leaves))));
}

#[test]
fn a_reloadable_parameter_reloads() {
    let plan = changed("8MB", "16MB");
    assert_eq!(plan.disruption(), Disruption::Reload);
    golden("real-reloadable-parameter", &plan);
}

#[test]
fn max_connections_restarts() {
    let plan = changed("\"max_connections\": 100", "\"max_connections\": 200");
    assert_eq!(plan.disruption(), Disruption::Restart);
    golden("real-restart-parameter", &plan);
}

#[test]
fn a_port_replaces_the_container() {
    let plan = changed("5432", "5433");
    assert_eq!(plan.disruption(), Disruption::Replace);
    golden("real-port-change", &plan);
}

#[test]
fn another_version_replaces_the_container() {
    let plan = changed("OLD", "NEW");
    assert_eq!(plan.disruption(), Disruption::Replace);
    assert!(plan.steps().all(|step| step.resource.kind != Kind::Directory), "the data stays");
}

#[test]
fn an_extension_disturbs_nobody() {
    let plan = changed(r#"["vector"]"#, r#"["vector", "citext"]"#);
    assert_eq!(plan.disruption(), Disruption::None);
    golden("real-extension", &plan);
}

#[test]
fn a_deleted_database_keeps_its_record() {
    let plan = changed(r#""database_name": "shop","#, r#""deleted": true, "database_name": "shop","#);
    golden("real-delete", &plan);
}

const THREE: &[u8] = &[1, 2, 3];

#[test]
fn a_database_on_three_hosts_is_created() {
    let site = Site::new();
    let shop = site.database_on(THREE, r#"{"template": "postgres"}"#, None);
    golden("hosts-create", &planned(&Scope::Database(shop.spec.id), &shop.graph, &nothing_there(&shop.graph)));
}

#[test]
fn a_replica_is_added() {
    let plan = moved((&[1, 2], THREE), "", "");
    assert_eq!(plan.disruption(), Disruption::None);
    golden("hosts-add-replica", &plan);
}

#[test]
fn a_lone_primary_gets_a_replica() {
    let plan = moved((&[1], &[1, 2]), "", "");
    assert_eq!(plan.disruption(), Disruption::Reload);
    golden("hosts-first-replica", &plan);
}

#[test]
fn a_replica_is_removed() {
    golden("hosts-remove-replica", &moved((THREE, &[1, 2]), "", ""));
}

#[test]
fn the_primarys_host_leaves() {
    golden("hosts-primary-leaves", &moved((THREE, &[2, 3]), "", ""));
}

#[test]
fn a_database_moves_to_another_host() {
    golden("hosts-move", &moved((&[1], &[2]), "", ""));
}

#[test]
fn a_node_is_resized() {
    golden("hosts-resize", &moved((THREE, THREE), r#""port": 5432,"#, r#""port": 5432, "memory": "1GiB","#));
}

#[test]
fn a_node_gets_another_image() {
    golden("hosts-image", &moved((THREE, THREE), "OLD", "NEW"));
}

#[test]
fn a_node_gets_another_port() {
    golden("hosts-port-change", &moved((THREE, THREE), "5432", "5433"));
}

/// Some nodes of a shop on these hosts, each with what more it says.
fn nodes(site: &Site, nodes: &[(u8, &[u8], &str)], more: &str) -> String {
    let mut versions: Vec<&str> = site.catalogue.postgres.iter().map(|image| image.version.as_str()).collect();
    versions.sort_unstable();
    let node = |(number, hosts, own): &(u8, &[u8], &str)| {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("\"host-{host}\"")).collect();
        format!(r#"{{"name": "n{number}", "host_ids": [{}], "port": 543{number}{own}}}"#, hosts.join(", "))
    };
    let list: Vec<String> = nodes.iter().map(node).collect();
    let document = format!(
        r#"{{"node_replication": "none", "nodes": [{}], "postgres_version": "OLD",
            "database_users": [{{"username": "app", "db_owner": true, "attributes": ["LOGIN"]}}]{more}}}"#,
        list.join(", ")
    );
    // What is said later wins.
    let document = if document.contains("NEW") { document.replace("\"OLD\"", "\"NEW\"") } else { document };
    document.replace("OLD", versions[0]).replace("NEW", versions[1])
}

/// Nodes, each with its number, its hosts and what else it says, and what else the document says.
type Declared<'a> = (&'a [(u8, &'a [u8], &'a str)], &'a str);

/// The plan from some nodes to others.
fn between(before: Declared<'_>, after: Declared<'_>) -> Plan {
    let site = Site::new();
    let before = site.database(&nodes(&site, before.0, before.1), None);
    let after = site.database(&nodes(&site, after.0, after.1), Some(&before));
    let (record, options) = (&after.record, FleetOptions::default());
    let leaving = database::leaving(&after.spec, record, &site.fleet, &site.hosts, &site.catalogue, &options).unwrap();
    let mut seen = seen(&before.graph, &after.graph);
    // What is inside a Postgres that goes is not looked at.
    seen.strays.retain(|id, _| leaving.contains(id));
    seen.resources.retain(|id, _| after.graph.contains(id) || leaving.contains(id));
    planned(&Scope::Database(before.spec.id), &after.graph, &seen)
}

const PAIR: &[(u8, &[u8], &str)] = &[(1, &[1, 2], ""), (2, &[3], "")];
/// A word in a document that asks for the newer version.
const NEWER: &str = r#", "client_token": "NEW""#;

#[test]
fn two_nodes_get_another_image_one_by_one() {
    golden("nodes-image", &between((PAIR, ""), (PAIR, NEWER)));
}

#[test]
fn two_nodes_get_another_image_at_the_same_time() {
    let concurrent = format!(r#"{NEWER}, "node_updates": "concurrent""#);
    golden("nodes-image-concurrent", &between((PAIR, ""), (PAIR, &concurrent)));
}

#[test]
fn a_node_comes_beside_an_update() {
    let one: &[(u8, &[u8], &str)] = &[(1, &[1], ""), (2, &[2], "")];
    let more: &[(u8, &[u8], &str)] = &[(3, &[1], ""), (1, &[1], ""), (2, &[2], r#", "memory": "1GiB""#)];
    golden("nodes-new-beside-update", &between((one, ""), (more, "")));
}

#[test]
fn a_node_is_removed() {
    let three: &[(u8, &[u8], &str)] = &[(1, &[1], ""), (2, &[2, 1], ""), (3, &[3], "")];
    let removed: &[(u8, &[u8], &str)] = &[(1, &[1], ""), (2, &[2, 1], r#", "deleted": true"#), (3, &[3], "")];
    let plan = between((three, ""), (removed, ""));
    assert!(plan.steps().all(|step| !step.resource.name.contains("-n1-") && !step.resource.name.contains("-n3-")));
    golden("nodes-removed", &plan);
}

#[test]
fn a_node_gets_a_replica() {
    let more: &[(u8, &[u8], &str)] = &[(1, &[1, 2], ""), (2, &[3, 1], "")];
    golden("nodes-add-replica", &between((PAIR, ""), (more, "")));
}

/// Its primary takes it first: a replica must not have less than its primary.
#[test]
fn a_parameter_is_lowered() {
    let from = ("\"max_connections\": 100", "\"max_connections\": 50");
    golden("hosts-parameter-lowered", &moved((&[1, 2], &[1, 2]), from.0, from.1));
}

#[test]
fn a_parameter_is_raised() {
    let from = ("\"max_connections\": 100", "\"max_connections\": 200");
    golden("hosts-parameter-raised", &moved((&[1, 2], &[1, 2]), from.0, from.1));
}

/// Whoever plans describes the same, and what leaves is remembered until it is gone.
#[test]
fn an_instance_that_leaves_is_remembered() {
    let site = Site::new();
    let options = FleetOptions::default();
    let before = site.database_on(THREE, SHOP.replace("OLD", &site.catalogue.default).as_str(), None);
    let after = site.database_on(&[2, 3], SHOP.replace("OLD", &site.catalogue.default).as_str(), Some(&before));
    let leaving =
        database::leaving(&after.spec, &after.record, &site.fleet, &site.hosts, &site.catalogue, &options).unwrap();
    let strays: Vec<_> = leaving.in_order().filter(|one| !after.graph.contains(&one.id)).collect();
    assert!(
        strays.iter().all(|one| one.executor == Executor::Host(facts(1).host) || one.executor == Executor::Manager)
    );
    let all = |graph: &Graph| graph.in_order().map(|one| one.id.clone()).collect::<BTreeSet<_>>();
    assert_eq!(all(&leaving), &all(&before.graph) | &all(&after.graph));
    let released = database::released(&after.spec, after.record.clone());
    assert_eq!(released.revision, after.record.revision + 1);
    let nobody =
        database::leaving(&after.spec, &released, &site.fleet, &site.hosts, &site.catalogue, &options).unwrap();
    assert!(nobody.is_empty());
    assert_eq!(database::released(&after.spec, released.clone()), released);
}
