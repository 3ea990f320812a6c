//! A node with an instance on each of three hosts.

use std::collections::BTreeSet;

use crate::domain::database::graph as describe;
use crate::domain::fixture::{content, facts, fleet_record, full, minted, only, the_catalogue};
use crate::domain::{FleetOptions, HostFacts, Hosts, credentials, patroni};
use crate::model::resource::SynchronousMode;
use crate::model::{
    AcceptedSpec, Attributes, Dependency, Executor, Graph, HostId, HostStanding, InstanceId, Kind, ResourceId,
};

fn host(number: u8) -> HostFacts {
    HostFacts {
        host: HostId::parse(&format!("host-{number}")).unwrap(),
        swarm_node: format!("node{number}"),
        advertise_address: [192, 0, 2, number].into(),
        // The last one is the smallest.
        cpus: 20 - u32::from(number),
        ..facts()
    }
}

fn hosts() -> Hosts {
    (1..=3).map(host).collect()
}

fn spec() -> AcceptedSpec {
    let mut spec = full();
    spec.nodes[0].hosts = (1..=3).map(|number| host(number).host).collect();
    spec.nodes[0].cpu_millis = None;
    spec
}

fn graph(spec: &AcceptedSpec) -> Graph {
    let options = FleetOptions::default();
    describe(spec, &minted(spec), &fleet_record(), &hosts(), &the_catalogue(), &options).unwrap()
}

fn instance(number: u8) -> InstanceId {
    let spec = spec();
    InstanceId::derive(&spec.id, &spec.nodes[0].name, &host(number).host)
}

/// The graph while hosts stand so.
fn standing(standings: &[(u8, HostStanding)]) -> Graph {
    let mut fleet = fleet_record();
    fleet.hosts = standings.iter().map(|(number, standing)| (host(*number).host, *standing)).collect();
    let (spec, options) = (spec(), FleetOptions::default());
    describe(&spec, &minted(&spec), &fleet, &hosts(), &the_catalogue(), &options).unwrap()
}

#[test]
fn a_removed_host_has_nothing_and_the_others_go_on() {
    let instances = |graph: &Graph| graph.in_order().filter(|one| one.id.kind == Kind::Instance).count();
    let without = standing(&[(2, HostStanding::Removed)]);
    assert_eq!(instances(&without), 2);
    let at_two = Executor::Host(host(2).host);
    assert!(without.in_order().all(|one| one.executor != at_two), "nobody waits for it");
    let credentials = content(&without, "credentials/host-1/shop.json");
    assert!(!credentials.contains("192.0.2.2") && credentials.contains("192.0.2.3"), "nobody is sent there");
    let nothing = standing(&[1, 2, 3].map(|number| (number, HostStanding::Removed)));
    assert!(nothing.in_order().all(|one| one.id.kind == Kind::Record));
}

#[test]
fn a_drained_host_keeps_its_instance_which_is_to_be_no_primary() {
    let drained = standing(&[(2, HostStanding::Drained)]);
    let plain = standing(&[]);
    for one in drained.in_order() {
        assert_eq!(drained.digest(&one.id), plain.digest(&one.id), "nothing is changed: {}", one.id);
        if let Some(member) = &one.member {
            assert_eq!(member.drained, member.instance == instance(2));
        }
    }
}

#[test]
fn each_host_has_an_instance_of_its_own() {
    let graph = graph(&spec());
    for number in 1..=3 {
        let (name, here) = (instance(number), host(number));
        let Attributes::Service(service) =
            &graph.get(&ResourceId::new(Kind::Service, name.as_str())).unwrap().attributes
        else {
            panic!("no service")
        };
        assert_eq!(
            (service.swarm_node.as_str(), &service.labels["pgmoor.host"]),
            (here.swarm_node.as_str(), &here.host.to_string())
        );
        let own = graph.in_order().filter(|one| one.member.as_ref().is_some_and(|member| member.instance == name));
        let own: Vec<_> = own.collect();
        assert!(own.iter().all(|one| [Executor::Host(here.host.clone()), Executor::Manager].contains(&one.executor)));
        assert!(own.iter().all(|one| one.member.as_ref().unwrap().place == usize::from(number) - 1));
        let kinds: BTreeSet<Kind> = own.iter().map(|one| one.id.kind).collect();
        let all = [Kind::Directory, Kind::File, Kind::Certificate, Kind::Service, Kind::EtcdUser, Kind::Instance];
        assert_eq!(kinds, all.into());
        let id = ResourceId::new(Kind::Certificate, format!("{name}/server"));
        let Attributes::Certificate(certificate) = &graph.get(&id).unwrap().attributes else {
            panic!("no certificate")
        };
        assert!(certificate.subject_alt_names.contains(&here.advertise_address.to_string()));
        let file = content(&graph, &format!("instances/{name}/configs/patroni.yml"));
        assert!(file.contains("remove_data_directory_on_diverged_timelines: true"), "{file}");
    }
    assert_eq!(graph.in_order().filter(|one| one.id.kind == Kind::Instance).count(), 3);
}

#[test]
fn what_is_inside_needs_any_of_them() {
    let graph = graph(&spec());
    let inside = graph.in_order().filter(|one| matches!(one.executor, Executor::Primary(_)));
    for one in inside.filter(|one| [Kind::Role, Kind::Database].contains(&one.id.kind)) {
        let any = one.dependencies.iter().filter(|(id, why)| id.kind == Kind::Instance && **why == Dependency::Any);
        assert_eq!(any.count(), 3, "{}", one.id);
    }
}

#[test]
fn every_host_can_be_told_all_of_them() {
    let graph = graph(&spec());
    let read = |number: u8| -> credentials::Credentials {
        serde_json::from_str(&content(&graph, &format!("credentials/host-{number}/shop.json"))).unwrap()
    };
    assert_eq!(read(1), read(3));
    let addresses: Vec<String> = read(2).instances.into_iter().map(|one| one.address).collect();
    assert_eq!(addresses, ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
}

/// Any of them may become the primary, so none is promised more than it has.
#[test]
fn parameters_fit_the_smallest_host() {
    let mut wanted = spec();
    let config = |spec: &AcceptedSpec| {
        let Attributes::PatroniConfig(config) = only(&graph(spec), Kind::PatroniConfig) else {
            panic!("no configuration")
        };
        config
    };
    assert_eq!(config(&wanted).parameters["max_worker_processes"], "34");
    assert!(config(&wanted).failsafe_mode);
    assert_eq!(patroni::document(&config(&wanted)).get("synchronous_mode"), None);
    wanted.nodes[0].synchronous = SynchronousMode::Quorum;
    assert_eq!(patroni::document(&config(&wanted))["synchronous_mode"], "quorum");
}
