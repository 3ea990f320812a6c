//! What must hold of graphs: dependencies, secrets, refusals, and what a change of the spec changes.

use std::collections::BTreeSet;

use crate::domain::database::graph as describe;
use crate::domain::fixture::{
    content, facts, fleet_record, full, graph, hosts, minimal, minted, only, the_catalogue, user,
};
use crate::domain::{Error, FleetOptions, HostFacts, Hosts, credentials, fleet};
use crate::model::spec::{NodeSpec, PortRequest};
use crate::model::{AcceptedSpec, Attributes, Graph, HostId, Kind, Payload, ResourceId};

fn refused(spec: &AcceptedSpec) -> Error {
    let options = FleetOptions::default();
    describe(spec, &minted(spec), &fleet_record(), &hosts(), &the_catalogue(), &options).unwrap_err()
}

/// The resources whose digest is another one.
fn changed(before: &AcceptedSpec, after: &AcceptedSpec) -> Vec<String> {
    let (before, after) = (graph(before), graph(after));
    after
        .in_order()
        .filter(|resource| before.digest(&resource.id) != after.digest(&resource.id))
        .map(|resource| resource.id.to_string())
        .collect()
}

fn with(change: impl FnOnce(&mut NodeSpec)) -> AcceptedSpec {
    let mut spec = minimal();
    change(&mut spec.nodes[0]);
    spec
}

/// A parameter or an access line is a matter of Patroni and a reload; only what the service says replaces a container.
#[test]
fn changes_reach_what_they_should() {
    let config = ["patroni-config::shop:n1", "instance::shop-n1-689qacsi"];
    let parameter = with(|node| _ = node.postgresql_conf.insert("work_mem".to_owned(), "8MB".to_owned()));
    assert_eq!(changed(&minimal(), &parameter), config);
    let access = with(|node| node.pg_hba = vec!["host all all all reject".to_owned()]);
    assert_eq!(changed(&minimal(), &access), config);
    let service = ["service::shop-n1-689qacsi", "instance::shop-n1-689qacsi"];
    let image = with(|node| node.image = "other".to_owned());
    assert_eq!(changed(&minimal(), &image), service);
    let port = with(|node| node.port = PortRequest::Fixed(5555));
    assert_eq!(changed(&minimal(), &port), ["file::credentials/host-1/shop.json", service[0], service[1]]);
}

#[test]
fn attributes_show_no_secret() {
    let graph = graph(&full());
    let passwords: Vec<String> = minted(&full())
        .passwords
        .values()
        .chain(minted(&full()).etcd_passwords.values())
        .map(|secret| secret.expose().to_owned())
        .collect();
    assert_eq!(passwords.len(), 3);
    for resource in graph.in_order() {
        let shown = format!("{}{resource:?}", serde_json::to_string(&resource.attributes).unwrap());
        for password in &passwords {
            assert!(!shown.contains(password), "{} shows a password", resource.id);
        }
    }
}

/// The digest of a file stands in plans: two databases with the same weak password must not have the same one.
#[test]
fn the_digest_of_credentials_is_salted() {
    let spec = full();
    let file: credentials::Credentials =
        serde_json::from_str(&content(&graph(&spec), "credentials/host-1/shop.json")).unwrap();
    assert_eq!(file.salt.len(), 64);
    assert_eq!(file.default_user.as_deref(), Some("app"));
    assert_eq!(file.passwords, minted(&spec).passwords);
    let mut record = minted(&spec);
    for password in record.etcd_passwords.values_mut() {
        *password = crate::model::Secret::new("another");
    }
    let options = FleetOptions::default();
    let other = describe(&spec, &record, &fleet_record(), &hosts(), &the_catalogue(), &options).unwrap();
    let digest = |graph: &Graph| graph.digest(&ResourceId::new(Kind::File, "credentials/host-1/shop.json")).cloned();
    assert_ne!(digest(&other), digest(&graph(&spec)));
}

#[test]
fn a_label_of_the_user_replaces_none_of_ours() {
    let Attributes::Service(service) = only(&graph(&full()), Kind::Service) else { panic!("no service") };
    for labels in [&service.labels, &service.container_labels] {
        assert_eq!(labels["pgmoor.fleet"], "edge");
        assert_eq!(labels["team"], "blue");
    }
}

#[test]
fn a_deleted_database_is_its_record() {
    let mut spec = full();
    let record = minted(&spec);
    let buried = crate::domain::database::bury(record.clone(), 5, 60);
    let options = FleetOptions::default();
    let by_tombstone = describe(&spec, &buried, &fleet_record(), &hosts(), &the_catalogue(), &options).unwrap();
    spec.deleted = true;
    let by_word = describe(&spec, &record, &fleet_record(), &hosts(), &the_catalogue(), &options).unwrap();
    for graph in [by_tombstone, by_word] {
        assert_eq!(graph.in_order().map(|resource| resource.id.kind).collect::<Vec<_>>(), [Kind::Record]);
    }
}

#[test]
fn what_admission_lets_through_by_mistake_is_refused() {
    let mut reserved = minimal();
    reserved.users = vec![user("pgmoor", false)];
    assert!(matches!(refused(&reserved), Error::ReservedRole(name) if name == "pgmoor"));
    let parameter = with(|node| _ = node.postgresql_conf.insert("ssl".to_owned(), "off".to_owned()));
    assert!(matches!(refused(&parameter), Error::Parameter { name, .. } if name == "ssl"));
    let host = HostId::parse("host-2").unwrap();
    assert!(matches!(refused(&with(|node| node.hosts = vec![host])), Error::Host { .. }));
    let mut circle = minimal();
    circle.users = vec![user("a", false), user("b", false)];
    circle.users[0].roles = BTreeSet::from(["b".to_owned()]);
    circle.users[1].roles = BTreeSet::from(["a".to_owned()]);
    assert!(matches!(refused(&circle), Error::Graph(_)));
}

#[test]
fn what_was_not_minted_is_told() {
    let options = FleetOptions::default();
    let mut spec = full();
    let record = minted(&spec);
    spec.users.push(user("late", false));
    let error = describe(&spec, &record, &fleet_record(), &hosts(), &the_catalogue(), &options).unwrap_err();
    assert_eq!(error.to_string(), "describe the database: the record has no password of user \"late\"");
}

#[test]
fn the_owner_comes_before_the_database() {
    let graph = graph(&full());
    let names: Vec<String> = graph.in_order().map(|resource| resource.id.to_string()).collect();
    let place = |name: &str| names.iter().position(|known| known == name).unwrap();
    let order = ["script::post_init", "role::app", "role::reader"];
    assert!(order.map(place).is_sorted());
    let order = ["role::app", "database::shop", "extension::cube", "extension::earthdistance"];
    assert!(order.map(place).is_sorted());
    assert_eq!(place("script::post_database_create"), names.len() - 1);
}

/// The daemon logs in to a spec's Postgres as its own role, so that a database without users works too.
#[test]
fn a_database_without_owner_is_ours() {
    let Attributes::Database { owner, .. } = only(&graph(&minimal()), Kind::Database) else { panic!("no database") };
    assert_eq!(owner, "pgmoor");
}

/// etcd's gateway refuses certificates with a common name.
#[test]
fn certificates_for_etcd_have_no_common_name() {
    let options = FleetOptions::default();
    let fleet = fleet::graph(&fleet_record(), &hosts(), &the_catalogue(), &options).unwrap();
    let database = graph(&minimal());
    let common_name = |graph: &Graph, name: &str| {
        let resource = graph.get(&ResourceId::new(Kind::Certificate, name)).unwrap();
        let Attributes::Certificate(certificate) = &resource.attributes else { panic!("no certificate") };
        certificate.common_name.clone()
    };
    assert_eq!(common_name(&fleet, "host-1/ca/daemon"), "");
    assert_eq!(common_name(&database, "shop-n1-689qacsi/etcd"), "");
    assert_eq!(common_name(&database, "shop-n1-689qacsi/superuser"), "pgmoor");
    assert_eq!(common_name(&database, "shop-n1-689qacsi/replication"), "patroni_replicator");
}

#[test]
fn a_fleet_graph_needs_the_facts_of_every_member() {
    let elsewhere = HostFacts { host: HostId::parse("host-2").unwrap(), ..facts() };
    let elsewhere = Hosts::from(elsewhere);
    let error = fleet::graph(&fleet_record(), &elsewhere, &the_catalogue(), &FleetOptions::default()).unwrap_err();
    assert!(matches!(error, Error::UnknownMember(host) if host.as_str() == "host-1"));
    let mut broken = fleet_record();
    broken.ca_certificate_pem = "no certificate".to_owned();
    let error = fleet::graph(&broken, &hosts(), &the_catalogue(), &FleetOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Authority(_)));
}

#[test]
fn the_record_carries_itself() {
    let record = minted(&full());
    let graph = graph(&full());
    let Payload::Content(text) = &graph.get(&ResourceId::new(Kind::Record, "db.shop")).unwrap().payload else {
        panic!("the record carries nothing")
    };
    assert_eq!(serde_json::from_str::<crate::model::Record>(text.expose()).unwrap(), record);
}

#[test]
fn spock_is_set_up_where_the_image_has_it() {
    let mut catalogue = the_catalogue();
    catalogue.postgres[0].multi_active = Some("spock".to_owned());
    let mut spec = minimal();
    spec.nodes[0].postgres_version.clone_from(&catalogue.postgres[0].version);
    let options = FleetOptions::default();
    let graph = describe(&spec, &minted(&spec), &fleet_record(), &hosts(), &catalogue, &options).unwrap();
    let Attributes::PatroniConfig(config) = only(&graph, Kind::PatroniConfig) else { panic!("no configuration") };
    assert_eq!(config.parameters["shared_preload_libraries"], "pg_stat_statements,snowflake,spock");
    assert_eq!(config.parameters["snowflake.node"], "1");
    assert_eq!(config.parameters["spock.conflict_resolution"], "last_update_wins");
}
