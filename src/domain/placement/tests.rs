//! Choices by rule, and what must hold of every choice.

use proptest::prelude::*;

use super::*;
use crate::domain::fixture;
use crate::model::FleetId;
use crate::model::fixture::minimal;

fn id(number: usize) -> HostId {
    HostId::parse(&format!("h{number}")).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> HostLabels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A host with so many instances of others, and so many MiB of memory free.
fn host(number: usize, zone: &str) -> HostFacts {
    let zone = if zone.is_empty() { HostLabels::new() } else { labels(&[("zone", zone)]) };
    HostFacts { host: id(number), labels: zone, memory_bytes: 8 << 30, cpus: 4, ..fixture::facts() }
}

fn room(facts: &HostFacts, (instances, free_mib): (usize, u64)) -> Room<'_> {
    Room {
        facts,
        answers: true,
        instances,
        memory_promised_bytes: facts.memory_bytes - (free_mib << 20),
        cpu_promised_millis: 0,
        port_taken: None,
    }
}

/// What is asked, of whom it was chosen before, and how hosts stand.
struct Asked {
    request: PlacementRequest,
    before: Option<Placement>,
    stay: Stay,
    primary: Option<HostId>,
    standings: BTreeMap<HostId, HostStanding>,
}

impl Asked {
    fn new(replicas: u8) -> Self {
        Self {
            request: PlacementRequest { replicas, labels: HostLabels::new() },
            before: None,
            stay: Stay::Labelled,
            primary: None,
            standings: BTreeMap::new(),
        }
    }

    /// The same of who was chosen.
    fn after(self, choice: &Choice) -> Self {
        Self { before: Some(choice.placement.clone()), ..self }
    }

    fn drained(mut self, number: usize) -> Self {
        self.standings.insert(id(number), HostStanding::Drained);
        Self { stay: Stay::Wanted, ..self }
    }

    fn removed(mut self, number: usize) -> Self {
        self.standings.insert(id(number), HostStanding::Removed);
        Self { stay: Stay::Wanted, ..self }
    }

    fn zone(mut self, zone: &str) -> Self {
        self.request.labels = labels(&[("zone", zone)]);
        self
    }

    fn choose(&self, rooms: &[Room<'_>]) -> Choice {
        let node = &minimal().nodes[0];
        let (request, before, primary) = (&self.request, self.before.as_ref(), self.primary.as_ref());
        let (first, standings) = (&BTreeSet::new(), &self.standings);
        choose(&Wanted { node, request, before, stay: self.stay, primary, first, standings }, rooms)
    }
}

fn names(choice: &Choice) -> Vec<String> {
    hosts_of(&choice.placement).map(ToString::to_string).collect()
}

fn node() -> NodeName {
    NodeName::parse("n1").unwrap()
}

#[test]
fn the_fewest_instances_come_first_then_the_most_memory_then_the_id() {
    let hosts: Vec<HostFacts> = (1..=4).map(|number| host(number, "")).collect();
    let rooms: Vec<Room<'_>> =
        hosts.iter().zip([(2, 4096), (1, 1024), (1, 2048), (1, 2048)]).map(|(facts, has)| room(facts, has)).collect();
    let choice = Asked::new(2).choose(&rooms);
    assert_eq!(names(&choice), ["h3", "h4", "h2"]);
    assert_eq!((choice.missing, choice.wanting(&node())), (0, None));
    let why = &choice.placement.hosts[0].why;
    assert!(why.contains("of 4 hosts that fit") && why.contains("1 instances of others and 2048 MiB free"), "{why}");
}

#[test]
fn every_host_that_is_out_says_why() {
    let hosts: Vec<HostFacts> = (1..=7).map(|number| host(number, if number == 2 { "b" } else { "a" })).collect();
    let mut rooms: Vec<Room<'_>> = hosts.iter().map(|facts| room(facts, (0, 4096))).collect();
    rooms[2].memory_promised_bytes = 8 << 30;
    rooms[3].answers = false;
    rooms[4].port_taken = Some("port 5432 there belongs to database other".to_owned());
    let bare = HostFacts { labels: HostLabels::new(), ..host(7, "") };
    rooms[6] = room(&bare, (0, 4096));
    let asked = Asked::new(1).zone("a").drained(6);
    let choice = asked.choose(&rooms);
    assert_eq!((names(&choice), choice.missing), (vec!["h1".to_owned()], 1));
    let said = choice.wanting(&node()).unwrap();
    let expected = "n1 needs 2 hosts, and the fleet has 1 for it; h2: its label zone is b, not a; \
                    h3: it has 0 MiB of memory that is not promised, and 512 MiB are asked for; h4: it does not answer; \
                    h5: port 5432 there belongs to database other; h6: it is to be left; h7: it has no label zone";
    assert_eq!(said, expected);
}

#[test]
fn who_was_chosen_stays_whatever_else_changes() {
    let hosts: Vec<HostFacts> = (1..=4).map(|number| host(number, "a")).collect();
    let rooms = |has: [(usize, u64); 4]| -> Vec<Room<'_>> {
        hosts.iter().zip(has).map(|(facts, has)| room(facts, has)).collect()
    };
    let first = Asked::new(1).choose(&rooms([(0, 1), (1, 4096), (0, 4096), (0, 2048)]));
    assert_eq!(names(&first), ["h3", "h4"], "h1 has no room");
    let other = rooms([(0, 4096), (0, 4096), (9, 0), (9, 0)]);
    assert_eq!(Asked::new(1).after(&first).choose(&other).placement, first.placement);
    let more = Asked::new(2).after(&first).choose(&other);
    assert_eq!(names(&more), ["h3", "h4", "h1"]);
    assert_eq!(names(&Asked::new(1).after(&more).choose(&other)), ["h3", "h4"], "who came last goes first");
    let led = Asked { primary: Some(id(1)), ..Asked::new(0).after(&more) };
    assert_eq!(names(&led.choose(&other)), ["h1"], "never the primary");
}

#[test]
fn other_labels_move_those_that_lack_them_and_no_other() {
    let hosts: Vec<HostFacts> = [(1, "a"), (2, "b"), (3, "b")].map(|(number, zone)| host(number, zone)).into();
    let rooms: Vec<Room<'_>> = hosts.iter().map(|facts| room(facts, (0, 4096))).collect();
    let first = Asked::new(1).choose(&rooms);
    assert_eq!(names(&first), ["h1", "h2"]);
    let moved = Asked::new(1).zone("b").after(&first).choose(&rooms);
    assert_eq!(names(&moved), ["h2", "h3"]);
    assert!(moved.placement.hosts[1].why.contains("no other host with zone=b fits"), "{moved:?}");
    // A host whose own labels became others loses nobody.
    let hosts: Vec<HostFacts> = (1..=3).map(|number| host(number, "c")).collect();
    let rooms: Vec<Room<'_>> = hosts.iter().map(|facts| room(facts, (0, 4096))).collect();
    assert_eq!(names(&Asked::new(1).zone("b").after(&moved).choose(&rooms)), ["h2", "h3"]);
    // What comes back from the trash is where it is, and moves later.
    let back = Asked { stay: Stay::All, ..Asked::new(1).zone("c").after(&moved) };
    let back = back.choose(&rooms);
    assert_eq!(
        (names(&back), &back.placement.labels),
        (vec!["h2".to_owned(), "h3".to_owned()], &moved.placement.labels)
    );
    assert!(is_due(&Asked::new(1).zone("c").request, &back.placement, &BTreeMap::new()));
}

#[test]
fn a_host_that_is_left_is_replaced_where_another_fits() {
    let hosts: Vec<HostFacts> = (1..=3).map(|number| host(number, "")).collect();
    let rooms: Vec<Room<'_>> = hosts.iter().map(|facts| room(facts, (0, 4096))).collect();
    let first = Asked::new(1).choose(&rooms);
    let moved = Asked::new(1).after(&first).drained(1).choose(&rooms);
    assert_eq!((names(&moved), moved.wanting(&node())), (vec!["h2".to_owned(), "h3".to_owned()], None));
    let stuck = Asked::new(1).after(&first).drained(1).drained(3).choose(&rooms);
    assert_eq!(names(&stuck), ["h2", "h1"]);
    assert_eq!(stuck.wanting(&node()).unwrap(), "n1 is still on h1, which is to be left; h3: it is to be left");
    let accepted = Asked { stay: Stay::Labelled, ..Asked::new(1).after(&first).drained(1) };
    assert_eq!(names(&accepted.choose(&rooms)), ["h1", "h2"], "a spec moves nobody; the database comes to rest first");
    let removed = Asked::new(1).after(&first).removed(1).choose(&rooms[1..]);
    assert_eq!(names(&removed), ["h2", "h3"]);
}

#[test]
fn what_lost_all_of_its_hosts_gets_no_other() {
    let hosts: Vec<HostFacts> = (1..=3).map(|number| host(number, "")).collect();
    let rooms: Vec<Room<'_>> = hosts.iter().map(|facts| room(facts, (0, 4096))).collect();
    let first = Asked::new(0).choose(&rooms);
    let gone = Asked::new(0).after(&first).removed(1).choose(&rooms[1..]);
    assert_eq!((names(&gone), gone.missing), (Vec::<String>::new(), 1));
    assert!(gone.wanting(&node()).unwrap().contains("no other host has any of it"), "{gone:?}");
}

#[test]
fn the_only_host_of_a_fleet_is_chosen_whatever_it_lacks_and_has_no_replica() {
    let only = host(1, "a");
    let full = Room { answers: false, memory_promised_bytes: 8 << 30, ..room(&only, (3, 0)) };
    let choice = Asked::new(0).choose(std::slice::from_ref(&full));
    assert_eq!((names(&choice), choice.placement.hosts[0].why.as_str()), (vec!["h1".to_owned()], ONLY_HOST));
    let two = Asked::new(1).choose(std::slice::from_ref(&full));
    assert_eq!(two.wanting(&node()).unwrap(), "n1 needs 2 hosts, and the fleet has 1 for it; there is no other host");
    assert_eq!(Asked::new(0).zone("b").choose(std::slice::from_ref(&full)).missing, 1);
}

#[test]
fn a_record_from_before_keeps_its_host() {
    let mut record = Record::new(minimal().id);
    record.images.insert("n1".to_owned(), String::new());
    let known: BTreeSet<HostId> = (1..=3).map(id).collect();
    let has = |record: &Record, default| placed(record, &known, &id(default)).remove(&node()).unwrap();
    assert_eq!(has(&record, 1), [id(1)]);
    let instance = InstanceId::derive(&record.database, &node(), &id(2));
    record.etcd_passwords.insert(instance.to_string(), crate::model::Secret::new(""));
    assert_eq!(has(&record, 1), [id(2)], "its instance is there, whoever founded the fleet");
    let chosen = Placement { labels: HostLabels::new(), hosts: vec![ChosenHost { host: id(3), why: String::new() }] };
    record.placement.insert("n1".to_owned(), chosen.clone());
    assert_eq!(has(&record, 1), [id(3)]);
    assert_eq!(before(&node(), Some(&record), None), Some(chosen));
    let named = before(&node(), Some(&Record::new(minimal().id)), Some(&minimal())).unwrap();
    assert_eq!(named.hosts[0].why, WAS_THERE);
    let mut fleet = fixture::fleet_record();
    fleet.fleet = FleetId::parse("edge").unwrap();
    fleet.hosts.insert(id(9), HostStanding::Removed);
    assert!(ever_known(&fleet, &[host(1, "")].into_iter().collect()).contains(&id(9)));
}

/// Hosts (instances, MiB free, kind), two numbers of replicas, and whether a zone is asked for.
type Fleet = (Vec<(usize, u64, u8)>, u8, u8, Option<bool>);

/// A fleet of up to six hosts, each with a zone, load, and a standing; and what is asked of it, then asked again.
fn fleets() -> impl Strategy<Value = Fleet> {
    let host = (0..4_usize, 0..4096_u64, 0..6_u8);
    (prop::collection::vec(host, 1..7), 0..4_u8, 0..4_u8, prop::option::of(any::<bool>()))
}

fn zone(of: u8) -> &'static str {
    if of.is_multiple_of(2) { "a" } else { "b" }
}

proptest! {
    #[test]
    fn choices_are_sound((all, replicas, then, zoned) in fleets()) {
        let hosts: Vec<HostFacts> =
            all.iter().enumerate().map(|(number, (.., kind))| host(number, zone(*kind))).collect();
        let rooms: Vec<Room<'_>> =
            hosts.iter().zip(&all).map(|(facts, (instances, free, _))| room(facts, (*instances, *free))).collect();
        let asked = |replicas: u8| {
            let asked = Asked::new(replicas);
            match zoned { Some(of) => asked.zone(zone(u8::from(of))), None => asked }
        };
        let first = asked(replicas).choose(&rooms);
        let mut turned = rooms.clone();
        turned.reverse();
        // Equal inputs, whatever their order, give the same hosts.
        prop_assert_eq!(names(&asked(replicas).choose(&turned)), names(&first));
        prop_assert_eq!(&asked(replicas).choose(&rooms), &first);
        let distinct: BTreeSet<&HostId> = hosts_of(&first.placement).collect();
        prop_assert_eq!(distinct.len(), first.placement.hosts.len(), "no host twice");
        prop_assert_eq!(first.placement.hosts.len() + first.missing, usize::from(replicas) + 1);
        // Asked again, nobody moves; asked for another number, only as many come or go.
        prop_assert_eq!(&asked(replicas).after(&first).choose(&rooms).placement, &first.placement);
        let second = asked(then).after(&first).choose(&rooms);
        let (was, is): (BTreeSet<_>, BTreeSet<_>) = (names(&first).into_iter().collect(), names(&second).into_iter().collect());
        prop_assert!(was.is_subset(&is) || is.is_subset(&was), "{:?} {:?}", was, is);
        // One that is to be left is the only one that goes, and one comes for it at most.
        if let Some(leaves) = first.placement.hosts.first().map(|chosen| chosen.host.clone()) {
            let mut left = asked(replicas).after(&first);
            left.standings.insert(leaves.clone(), HostStanding::Drained);
            left.stay = Stay::Wanted;
            let moved = left.choose(&rooms);
            let is: BTreeSet<&HostId> = hosts_of(&moved.placement).collect();
            prop_assert!(hosts_of(&first.placement).all(|host| *host == leaves || is.contains(host)));
            prop_assert!(moved.placement.hosts.len() >= first.placement.hosts.len());
            prop_assert!(!moved.to_be_left.is_empty() || !is.contains(&leaves));
        }
    }
}
