//! Members come and go in the record: a walk over hosts that come, are drained, are removed, fall silent.

use super::*;
use crate::domain::fixture::{facts, fleet_record, the_catalogue};
use crate::domain::fleet;
use crate::model::{Attributes, Graph, HostStanding, Kind, ResourceId};

fn id(number: u8) -> HostId {
    HostId::parse(&format!("host-{number}")).unwrap()
}

fn host(number: u8) -> HostFacts {
    HostFacts { host: id(number), advertise_address: [192, 0, 2, number].into(), ..facts() }
}

fn hosts(numbers: impl IntoIterator<Item = u8>) -> Hosts {
    numbers.into_iter().map(host).collect()
}

/// All changes until nothing is due, each done before the next: `+2` for one that comes, `-2` for one that goes.
fn walk(record: &mut FleetRecord, hosts: &Hosts) -> String {
    let mut way = Vec::new();
    while let Some(changed) = next(record, hosts, &Standing::default()) {
        assert_eq!(changed.revision, record.revision + 1);
        assert_eq!(next(&changed, hosts, &Standing::default()), None, "one at a time");
        let (sign, host) = match changed.etcd_change.clone().unwrap() {
            EtcdChange::Joins { host, .. } => ('+', host),
            EtcdChange::Leaves { host, .. } => ('-', host),
        };
        way.push(format!("{sign}{}", host.as_str().trim_start_matches("host-")));
        let least = record.etcd_members.len().min(changed.etcd_members.len());
        assert_eq!(voting(&changed), least, "who comes has no vote yet");
        *record = done(changed);
        if sign == '+' {
            assert_eq!(next(record, hosts, &Standing::default()), None, "it has no vote yet");
            *record = done(record.clone());
        }
        assert_eq!(record.etcd_change, None);
        assert!(way.len() < 20, "no end: {way:?}");
    }
    way.join(" ")
}

fn graph(record: &FleetRecord, hosts: &Hosts) -> Graph {
    fleet::graph(record, hosts, &the_catalogue(), &FleetOptions::default()).unwrap()
}

/// What a member is started with.
fn environment(record: &FleetRecord, number: u8) -> BTreeMap<String, String> {
    let graph = graph(record, &hosts(1..=4));
    let Attributes::Service(service) = &graph.get(&service(number)).unwrap().attributes else { panic!("no service") };
    service.env.clone()
}

fn service(number: u8) -> ResourceId {
    ResourceId::new(Kind::Service, format!("etcd/host-{number}"))
}

fn in_list(number: u8) -> ResourceId {
    ResourceId::new(Kind::EtcdMember, format!("host-{number}"))
}

#[test]
fn one_or_three_and_never_two_for_long() {
    let mut record = fleet_record();
    assert_eq!(walk(&mut record, &hosts(1..=1)), "");
    assert_eq!(walk(&mut record, &hosts(1..=2)), "", "two members need each other: one is better");
    assert_eq!(walk(&mut record, &hosts(1..=3)), "+2 +3");
    assert_eq!(walk(&mut record, &hosts(1..=4)), "", "three are enough");
    assert_eq!(walk(&mut record, &hosts([1, 2, 4])), "-3 +4", "one host goes, another is there");
    assert_eq!(walk(&mut record, &hosts([1, 4])), "-2 -4", "and back to one: who founded it stays");
}

#[test]
fn a_host_that_is_not_to_be_used_has_no_member() {
    let mut record = fleet_record();
    record.hosts.insert(id(1), HostStanding::Drained);
    assert_eq!(walk(&mut record, &hosts(1..=1)), "", "the last one stays");
    assert_eq!(walk(&mut record, &hosts(1..=2)), "+2 -1", "and goes once another has come");
    record.hosts.clear();
    assert_eq!(walk(&mut record, &hosts(1..=4)), "+1 +3");
    record.hosts.insert(id(3), HostStanding::Removed);
    assert_eq!(walk(&mut record, &hosts(1..=4)), "-3 +4");
}

#[test]
fn who_answers_stays_while_another_does_not() {
    let mut record = fleet_record();
    walk(&mut record, &hosts(1..=3));
    record.hosts.insert(id(2), HostStanding::Drained);
    let silent = |number| Standing { silent: [id(number)].into(), ..Standing::default() };
    assert_eq!(next(&record, &hosts(1..=4), &silent(3)), None, "two of three answer, and both are needed");
    record.hosts.insert(id(3), HostStanding::Removed);
    let gone = next(&record, &hosts(1..=4), &silent(3)).unwrap();
    assert!(!gone.etcd_members.contains_key(&id(3)), "the silent one first: {:?}", gone.etcd_members);
    let shrinks = next(&done(gone), &hosts(1..=2), &silent(1));
    assert_eq!(shrinks, None, "who is left of two that need each other");
}

#[test]
fn who_comes_and_is_removed_meanwhile_goes_again() {
    let mut record = next(&fleet_record(), &hosts(1..=3), &Standing::default()).unwrap();
    record.hosts.insert(id(2), HostStanding::Removed);
    let gone = next(&record, &hosts([1, 3]), &Standing::default()).unwrap();
    let EtcdChange::Leaves { host, joined: Some(_), .. } = gone.etcd_change.clone().unwrap() else {
        panic!("{gone:?}")
    };
    assert_eq!(host, id(2));
    assert_eq!(walk(&mut done(gone), &hosts([1, 3])), "");
}

#[test]
fn one_that_is_not_in_the_list_any_more_is_made_anew() {
    let mut record = fleet_record();
    let options = FleetOptions::default();
    let url = |number: u8| peer_url(&host(number).advertise_address.to_string(), &options);
    let listed = |numbers: &[u8]| numbers.iter().map(|number| url(*number)).collect::<BTreeSet<_>>();
    assert_eq!(lost(&record, &options, &listed(&[])), None, "the only one is never lost");
    walk(&mut record, &hosts(1..=3));
    assert_eq!(lost(&record, &options, &listed(&[1, 2, 3, 4])), None);
    let standing = Standing { lost: lost(&record, &options, &listed(&[1, 3])), ..Standing::default() };
    assert_eq!(standing.lost, Some(id(2)));
    let gone = next(&record, &hosts(1..=3), &standing).unwrap();
    assert_eq!(lost(&gone, &options, &listed(&[1, 3])), None, "what is under way ends first");
    record = done(gone);
    assert_eq!(walk(&mut record, &hosts(1..=3)), "+2");
    assert!(record.etcd_joined[&id(2)].revision > 3, "with a data directory of its own");
}

#[test]
fn nobody_is_started_again_for_another() {
    let mut record = fleet_record();
    let first = environment(&record, 1);
    assert_eq!(first["ETCD_INITIAL_CLUSTER_STATE"], "new");
    walk(&mut record, &hosts(1..=3));
    let all: Vec<_> = (1..=3).map(|number| environment(&record, number)).collect();
    assert_eq!(all[0], first);
    assert_eq!(all[2]["ETCD_INITIAL_CLUSTER_STATE"], "existing");
    let cluster = "host-1=https://192.0.2.1:2380,host-2=https://192.0.2.2:2380,host-3=https://192.0.2.3:2380";
    assert_eq!(all[2]["ETCD_INITIAL_CLUSTER"], cluster);
    walk(&mut record, &hosts([2, 3, 4]));
    assert_eq!(environment(&record, 2), all[1]);
    assert_eq!(environment(&record, 3), all[2]);
}

/// How many members are to have a vote.
fn voting_in(graph: &Graph) -> usize {
    let etcd = &graph.get(&ResourceId::new(Kind::Etcd, "etcd")).unwrap().attributes;
    let Attributes::Etcd { voters, .. } = etcd else { panic!("no etcd: {etcd:?}") };
    voters.len()
}

#[test]
fn in_the_list_before_it_starts_and_out_of_it_before_it_ends() {
    let mut record = fleet_record();
    let comes = next(&record, &hosts(1..=3), &Standing::default()).unwrap();
    let desired = graph(&comes, &hosts(1..=3));
    assert!(desired.get(&service(2)).unwrap().dependencies.contains_key(&in_list(2)));
    assert!(!desired.contains(&in_list(1)));
    assert_eq!(voting_in(&desired), 1, "no vote before it has started");
    let started = graph(&done(comes), &hosts(1..=3));
    assert!(!started.contains(&in_list(2)), "who has a vote must start also while nobody can read the list");
    assert_eq!(voting_in(&started), 2);

    walk(&mut record, &hosts(1..=3));
    record.hosts.insert(id(2), HostStanding::Drained);
    let goes = next(&record, &hosts(1..=4), &Standing::default()).unwrap();
    let (options, catalogue) = (FleetOptions::default(), the_catalogue());
    let before = fleet::leaving(&goes, &hosts(1..=4), &catalogue, &options).unwrap();
    assert!(before.get(&in_list(2)).unwrap().dependencies.contains_key(&service(2)));
    assert!(!graph(&goes, &hosts(1..=4)).contains(&service(2)));
    let unknown = fleet::leaving(&goes, &hosts([1, 3, 4]), &catalogue, &options).unwrap();
    assert!(unknown.is_empty(), "nobody can look there");
    assert!(fleet::leaving(&record, &hosts(1..=3), &catalogue, &options).unwrap().is_empty());
}

#[test]
fn a_member_on_a_host_that_nobody_knows_is_a_mistake_unless_it_was_removed() {
    let mut record = fleet_record();
    walk(&mut record, &hosts(1..=3));
    let described = |record: &FleetRecord| {
        fleet::graph(record, &hosts(1..=2), &the_catalogue(), &FleetOptions::default()).map(|_| ())
    };
    assert!(described(&record).is_err());
    record.hosts.insert(id(3), HostStanding::Removed);
    described(&record).unwrap();
}

#[test]
fn a_patroni_knows_where_the_next_members_will_be() {
    let written = |record: &FleetRecord, numbers: &[u8]| -> Vec<String> {
        let last = |address: String| address.rsplit_once('.').unwrap().1.to_owned();
        addresses(record, &hosts(numbers.iter().copied())).into_iter().map(last).collect()
    };
    let mut record = fleet_record();
    let before = written(&record, &[1, 2, 3, 4]);
    assert_eq!(before, ["1", "2", "3"], "they come later, and the founder may be lost before Patroni asks again");
    assert_eq!(walk(&mut record, &hosts(1..=4)), "+2 +3");
    assert_eq!(written(&record, &[1, 2, 3, 4]), before, "so no file changes when they come");
    record.hosts.insert(id(2), HostStanding::Drained);
    assert_eq!(walk(&mut record, &hosts(1..=4)), "-2 +4");
    assert_eq!(written(&record, &[1, 2, 3, 4]), ["1", "3", "4"], "not one that is left");
    assert_eq!(written(&fleet_record(), &[1]), ["1"]);
}
