//! The pooler beside an instance: its texts, what depends on it (nothing), and how it comes and goes.

use crate::domain::database::{Accepted, graph as describe, leaving, mint, released};
use crate::domain::fixture::{
    Counting, content, facts, fleet_record, graph, hosts, minimal, minted, only, stored, the_catalogue,
};
use crate::domain::{FleetOptions, credentials, layout};
use crate::model::spec::{PoolMode, PoolerSpec, PortRequest};
use crate::model::{AcceptedSpec, Attributes, Graph, HostStanding, InstanceId, Kind, Record, ResourceId};

const INI: &str = "poolers/shop-n1-689qacsi/configs/pgbouncer.ini";
const SERVICE: &str = "shop-n1-689qacsi/pooler";

fn pooled(port: PortRequest) -> AcceptedSpec {
    let mut spec = minimal();
    spec.nodes[0].pooler = Some(PoolerSpec {
        image: "pgmoor/pgbouncer:1.24".to_owned(),
        port,
        mode: PoolMode::Transaction,
        clients_max: 200,
        pool_size: 20,
        memory_bytes: 64 << 20,
    });
    spec
}

fn instance() -> InstanceId {
    let spec = minimal();
    InstanceId::derive(&spec.id, &spec.nodes[0].name, &spec.nodes[0].hosts[0])
}

fn check(name: &str, text: &str) {
    insta::with_settings!({ snapshot_path => "../../../tests/golden/domain", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

fn is_pooler(id: &ResourceId) -> bool {
    id.name.starts_with("poolers/") || id.name.ends_with("/pooler") || id.name == layout::POOLER_ROLE
}

/// What has another digest in one graph than in the other, or is in one alone.
fn differ(one: &Graph, other: &Graph) -> Vec<String> {
    let ids = one.in_order().chain(other.in_order()).map(|resource| &resource.id);
    let mut found: Vec<String> = ids.filter(|id| one.digest(id) != other.digest(id)).map(ToString::to_string).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn the_files_of_a_pooler() {
    let graph = graph(&pooled(PortRequest::Chosen));
    check("pooler_ini", &content(&graph, INI));
    let of = |name: &str| content(&graph, &INI.replace("pgbouncer.ini", name));
    let databases = of("databases");
    assert!(databases.starts_with("[databases]\nshop = port=5432 dbname=shop\n"), "{databases}");
    assert_eq!(of("instances"), "shop-n1-689qacsi\n");
    let lookup = databases.lines().nth(2).and_then(|line| line.split_once(' ')).unwrap().0;
    assert!(lookup.len() > 31, "no user's database has this name: {lookup}");
    assert!(content(&graph, INI).contains(&format!("auth_dbname = {lookup}\n")));
    assert!(!content(&graph, INI).contains("password"), "it holds none");
}

#[test]
fn the_service_of_a_pooler() {
    let graph = graph(&pooled(PortRequest::Chosen));
    let service = graph.get(&ResourceId::new(Kind::Service, SERVICE)).unwrap();
    assert_eq!(service.member, None, "it is no part of the instance");
    check("pooler_service", &serde_json::to_string_pretty(&service.attributes).unwrap());
}

#[test]
fn another_mode_or_size_touches_files_of_the_pooler_alone() {
    let before = graph(&pooled(PortRequest::Unpublished));
    let mut spec = pooled(PortRequest::Unpublished);
    if let Some(pooler) = &mut spec.nodes[0].pooler {
        (pooler.mode, pooler.pool_size, pooler.clients_max) = (PoolMode::Session, 5, 40);
    }
    assert_eq!(differ(&before, &graph(&spec)), [format!("file::{INI}")]);
    if let Some(pooler) = &mut spec.nodes[0].pooler {
        (pooler.memory_bytes, pooler.port) = (96 << 20, PortRequest::Fixed(6000));
    }
    let changed = differ(&before, &graph(&spec));
    let credentials = "file::credentials/host-1/shop.json".to_owned();
    assert_eq!(changed, [credentials, format!("file::{INI}"), format!("service::{SERVICE}")]);
}

#[test]
fn nothing_of_postgres_depends_on_a_pooler() {
    let graph = graph(&pooled(PortRequest::Unpublished));
    let others = graph.in_order().filter(|resource| !is_pooler(&resource.id));
    for resource in others {
        let on = resource.dependencies.keys().find(|id| is_pooler(id));
        assert_eq!(on, None, "{} waits for it", resource.id);
    }
    let poolers: Vec<_> = graph.in_order().filter(|resource| is_pooler(&resource.id)).collect();
    assert!(poolers.len() > 8 && poolers.iter().all(|resource| resource.member.is_none()));
}

#[test]
fn a_new_pooler_reloads_postgres_and_replaces_nothing() {
    let changed = differ(&graph(&minimal()), &graph(&pooled(PortRequest::Unpublished)));
    let others: Vec<&String> = changed.iter().filter(|id| !id.contains("pooler")).collect();
    let expected = ["file::credentials/host-1/shop.json", "instance::shop-n1-689qacsi", "patroni-config::shop:n1"];
    assert_eq!(others, expected);
}

#[test]
fn its_port_and_image_are_chosen_once() {
    let spec = pooled(PortRequest::Chosen);
    let record = minted(&spec);
    let choice = &record.poolers[&instance()];
    assert_eq!((choice.image.as_str(), choice.port), ("pgmoor/pgbouncer:1.24", Some(6001)));
    let again = |spec: &AcceptedSpec, record: &Record| {
        let accepted = Accepted { spec, stored: &stored(spec), previous: Some(spec), placement: &[].into() };
        mint(accepted, record.clone(), &mut Counting { bytes: 9, ports: 5 }).unwrap()
    };
    assert_eq!(again(&spec, &record), record);
    let mut newer = spec.clone();
    if let Some(pooler) = &mut newer.nodes[0].pooler {
        pooler.image = "pgmoor/pgbouncer:1.25".to_owned();
    }
    assert_eq!(again(&newer, &record).poolers, record.poolers, "a newer catalogue changes nothing that runs");
    let accepted = Accepted { spec: &newer, stored: &stored(&newer), previous: Some(&spec), placement: &[].into() };
    let asked = mint(accepted, record, &mut Counting::default()).unwrap();
    assert_eq!(asked.poolers[&instance()].image, "pgmoor/pgbouncer:1.25");
}

#[test]
fn a_pooler_that_goes_is_remembered_until_it_is_gone() {
    let (before, after) = (pooled(PortRequest::Chosen), minimal());
    let accepted = Accepted { spec: &after, stored: &stored(&after), previous: Some(&before), placement: &[].into() };
    let record = mint(accepted, minted(&before), &mut Counting::default()).unwrap();
    assert!(record.poolers.contains_key(&instance()));
    let (mut fleet, options) = (fleet_record(), FleetOptions::default());
    let left =
        |record: &Record, fleet: &_| leaving(&after, record, fleet, &hosts(), &the_catalogue(), &options).unwrap();
    let desired = describe(&after, &record, &fleet, &hosts(), &the_catalogue(), &options).unwrap();
    assert!(desired.in_order().all(|resource| !is_pooler(&resource.id)));
    let strays: Vec<ResourceId> =
        left(&record, &fleet).in_order().map(|one| one.id.clone()).filter(|id| !desired.contains(id)).collect();
    assert!(strays.iter().all(is_pooler) && strays.contains(&ResourceId::new(Kind::Service, SERVICE)), "{strays:?}");
    let released = released(&after, record.clone());
    assert!(released.poolers.is_empty() && left(&released, &fleet).is_empty());
    // Nobody can look on a host that was removed: nothing is waited for.
    fleet.hosts.insert(facts().host, HostStanding::Removed);
    assert!(left(&record, &fleet).is_empty());
}

#[test]
fn the_credentials_say_where_the_pooler_is() {
    let graph = graph(&pooled(PortRequest::Chosen));
    let text = content(&graph, "credentials/host-1/shop.json");
    let credentials: credentials::Credentials = serde_json::from_str(&text).unwrap();
    let pooler = credentials.instances[0].pooler.as_ref().unwrap();
    assert_eq!((pooler.service.as_str(), pooler.port), ("pooler-shop-n1-689qacsi", Some(6001)));
}

#[test]
fn only_a_pooled_node_lets_its_role_in() {
    let lines = |spec: &AcceptedSpec| {
        let graph = graph(spec);
        let Attributes::PatroniConfig(config) = only(&graph, Kind::PatroniConfig) else { panic!("no configuration") };
        config.pg_hba.into_iter().filter(|line| line.contains(layout::POOLER_ROLE)).collect::<Vec<_>>()
    };
    assert!(lines(&minimal()).is_empty());
    let expected = [
        "hostssl postgres pgmoor_pooler samenet cert clientcert=verify-full",
        "host all,replication pgmoor_pooler all reject",
    ];
    assert_eq!(lines(&pooled(PortRequest::Unpublished)), expected);
}
