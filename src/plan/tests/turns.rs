//! Several nodes: whose turn it is, and what the checker refuses; and who goes first where a parameter is lowered.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::world::{Shop, World, id, resource, unknown};
use crate::model::resource::{InstanceAttributes, OnDelete};
use crate::model::role::{RoleAttributes, RoleFlags};
use crate::model::{
    Attributes, DatabaseId, Dependency, Executor, Graph, HostId, InstanceId, Kind, Member, NodeName, Observation,
    Resource, ResourceId, Scope, Standing,
};
use crate::plan::check::{Violation, check};
use crate::plan::decision::End;
use crate::plan::{LAG_BYTES_MAX, Plan, Purpose, Stage, WaitsFor};

/// What tests change of a database with nodes.
#[derive(Debug, Clone)]
struct Wish {
    /// By the number of the node: its hosts, and what its configuration says.
    nodes: Vec<(usize, &'static [usize], &'static str)>,
    image: &'static str,
    role: &'static str,
    concurrent: bool,
}

fn two() -> Wish {
    Wish { nodes: vec![(1, &[1, 2], "100"), (2, &[3, 4], "100")], image: "old", role: "app", concurrent: false }
}

fn node(number: usize) -> NodeName {
    NodeName::parse(&format!("n{number}")).unwrap()
}

fn name(node: usize, host: usize) -> String {
    format!("shop-n{node}-h{host}")
}

fn ready(node: usize, host: usize) -> ResourceId {
    id(Kind::Instance, &name(node, host))
}

impl Wish {
    fn graph(&self) -> Graph {
        let shop = |connections| Shop {
            image: self.image,
            parameters: BTreeMap::from([("max_connections", connections)]),
            ..Shop::default()
        };
        let record = Shop::default().graph().in_order().find(|one| one.id.kind == Kind::Record).cloned();
        let mut all: Vec<Resource> = record.into_iter().collect();
        for (index, (number, hosts, connections)) in self.nodes.iter().enumerate() {
            let shop = shop(*connections);
            let config = shop.graph().in_order().find(|one| one.id.kind == Kind::PatroniConfig).cloned().unwrap();
            let config = Resource { id: id(Kind::PatroniConfig, &format!("n{number}")), ..config };
            let Attributes::PatroniConfig(attributes) = &config.attributes else { panic!("no configuration") };
            let marker = attributes.parameters["pgmoor.config"].clone();
            let turn = if self.concurrent { 0 } else { index };
            for (place, host) in hosts.iter().enumerate() {
                let member = Member {
                    node: node(*number),
                    turn,
                    place,
                    instance: InstanceId::parse(&name(*number, *host)).unwrap(),
                    drained: false,
                };
                all.extend(instance(&member, *host, &shop, &marker));
            }
            all.push(config);
            all.push(self.role(*number, hosts));
        }
        Graph::new(all).unwrap()
    }

    fn role(&self, number: usize, hosts: &[usize]) -> Resource {
        let attributes = Attributes::Role(RoleAttributes {
            name: self.role.to_owned(),
            flags: RoleFlags { login: true, ..RoleFlags::default() },
            member_of: BTreeSet::new(),
            password_matches: true,
            connection_limit: None,
            valid_until: None,
        });
        let names: Vec<String> = hosts.iter().map(|host| name(number, *host)).collect();
        let needs = names.iter().map(|name| (Kind::Instance, name.as_str(), Dependency::Any));
        let called = format!("n{number}/{}", self.role);
        resource(Kind::Role, &called, Executor::Primary(node(number)), needs, attributes)
    }

    fn settled(&self) -> World {
        World::settled(self.graph())
    }
}

fn instance(member: &Member, host: usize, shop: &Shop, marker: &str) -> [Resource; 3] {
    let name = member.instance.as_str();
    let config = member.node.to_string();
    let at = || Executor::Host(HostId::parse(&format!("host-{host}")).unwrap());
    let data =
        Attributes::Directory { path: format!("/d/{name}"), mode: 0o700, uid: 26, gid: 26, on_delete: OnDelete::Trash };
    let mut service = shop.service_attributes();
    name.clone_into(&mut service.name);
    let ready = InstanceAttributes {
        service: name.to_owned(),
        running: true,
        config: marker.to_owned(),
        pending_restart: false,
        certificate_loaded: true,
        alter_system: BTreeSet::new(),
    };
    let (order, content) = (Dependency::Order, Dependency::Content);
    let before = [(Kind::PatroniConfig, config.as_str(), order), (Kind::Directory, name, order)];
    let from = [(Kind::PatroniConfig, config.as_str(), content), (Kind::Service, name, content)];
    let service = Attributes::Service(Box::new(service));
    [
        resource(Kind::Directory, name, at(), [(Kind::Record, "shop", order)], data),
        resource(Kind::Service, name, Executor::Manager, before, service),
        resource(Kind::Instance, name, at(), from, Attributes::Instance(ready)),
    ]
    .map(|one| Resource { member: Some(member.clone()), ..one })
}

fn wish(change: impl FnOnce(&mut Wish)) -> Graph {
    let mut wish = two();
    change(&mut wish);
    wish.graph()
}

/// Each stage in a word or two: of each node the numbers of the hosts it touches, or `in` for what is its own besides.
fn journey(plan: &Plan) -> Vec<String> {
    let touched = |stage: &Stage| -> BTreeSet<String> {
        let word = |step: &crate::plan::Step| match step.resource.name.strip_prefix("shop-") {
            Some(rest) => rest.replace("-h", ":"),
            None if step.resource.kind == Kind::Role => step.resource.name.replace('/', " "),
            None => step.resource.name.clone(),
        };
        stage.steps.iter().map(word).collect()
    };
    let word = |stage: &Stage| {
        let names = touched(stage).into_iter().collect::<Vec<_>>().join(", ");
        match stage.purpose {
            Purpose::Converge => names,
            Purpose::Switchover => format!("switchover {names}"),
            Purpose::Remove => format!("remove {names}"),
        }
    };
    plan.stages.iter().map(word).collect()
}

#[test]
fn nodes_are_changed_one_after_another() {
    let plan = two().settled().wish(wish(|wish| wish.image = "new")).plan();
    let one_by_one = ["n1:2", "switchover n1:1", "n1:1", "n2:4", "switchover n2:3", "n2:3"];
    assert_eq!(journey(&plan), one_by_one);
    // As the spec lists them.
    let turned = wish(|wish| {
        wish.nodes.reverse();
        wish.image = "new";
    });
    let plan = two().settled().wish(turned).plan();
    assert_eq!(journey(&plan), ["n2:4", "switchover n2:3", "n2:3", "n1:2", "switchover n1:1", "n1:1"]);
}

#[test]
fn or_all_of_them_at_the_same_time() {
    let both = |wish: &mut Wish| (wish.image, wish.concurrent) = ("new", true);
    let plan = two().settled().wish(wish(both)).plan();
    assert_eq!(journey(&plan), ["n1:2, n2:4", "switchover n1:1, n2:3", "n1:1, n2:3"]);
    let more = Wish { nodes: vec![(1, &[1, 2, 5], "100"), (2, &[3], "100")], ..two() };
    let mut next = more.clone();
    both(&mut next);
    let plan = more.settled().wish(next.graph()).plan();
    assert_eq!(journey(&plan), ["n1:2", "n1:5", "switchover n1:1", "n1:1, n2:3"]);
}

#[test]
fn what_interrupts_nobody_has_its_turn_too() {
    let raised = wish(|wish| wish.nodes[1].2 = "200");
    let plan = two().settled().wish(raised).plan();
    assert_eq!(journey(&plan), ["n2", "n2:4", "switchover n2:3", "n2:3"]);
    let plan = two().settled().wish(wish(|wish| wish.role = "other")).plan();
    assert_eq!(journey(&plan), ["n1 other", "n2 other", "remove n1 app, n2 app"]);
    let plan = World::new(two().graph()).plan();
    let first = "n1, n1 app, n1:1, n2, n2 app, n2:3, shop";
    assert_eq!(journey(&plan), [first, "n1:2, n2:4"], "those that are new have no turns");
}

#[test]
fn new_nodes_come_after_those_that_are_there_and_what_goes_is_last() {
    let next = wish(|wish| {
        wish.nodes = vec![(3, &[5, 6], "100"), (1, &[1, 2], "100")];
        wish.image = "new";
    });
    let plan = two().settled().wish(next).plan();
    let gone = "remove n2, n2:3, n2:4";
    assert_eq!(journey(&plan), ["n1:2", "switchover n1:1", "n1:1", "n3, n3 app, n3:5", "n3:6", gone]);
}

#[test]
fn a_node_whose_host_does_not_answer_holds_nobody_up() {
    let away = |world: World| {
        let world = world.see(ready(1, 1), unknown("no answer")).see(ready(1, 2), unknown("no answer"));
        world.see(id(Kind::Directory, &name(1, 1)), unknown("no answer"))
    };
    let plan = away(two().settled().wish(wish(|wish| (wish.image, wish.role) = ("new", "other")))).plan();
    let last = journey(&plan);
    assert!(
        last.ends_with(&["n2:4", "switchover n2:3", "n2 other, n2:3", "remove n2 app"].map(str::to_owned)),
        "{last:?}"
    );
    // Nor does it keep what goes of another node.
    let plan = away(two().settled().wish(wish(|wish| wish.nodes[1].1 = &[3]))).plan();
    assert_eq!(journey(&plan), ["remove n2:4"]);
}

fn runs_with(world: World, at: (usize, usize), connections: u64) -> World {
    world.change(&ready(at.0, at.1), |present| match present.standing.as_deref_mut() {
        Some(Standing::Primary { runs_with, .. }) => runs_with.extend([("max_connections".to_owned(), connections)]),
        other => panic!("no primary: {other:?}"),
    })
}

fn waits_for_restart(mut world: World, hosts: &[usize]) -> World {
    for host in hosts {
        world = world.change(&ready(1, *host), |present| {
            let Attributes::Instance(instance) = &mut present.attributes else { panic!("no instance") };
            instance.pending_restart = true;
        });
    }
    world
}

/// A node with three instances.
fn three(connections: &'static str) -> Wish {
    Wish { nodes: vec![(1, &[1, 2, 3], connections)], ..two() }
}

#[test]
fn a_raised_parameter_reaches_the_replicas_first() {
    let plan = three("100").settled().wish(three("200").graph()).plan();
    assert_eq!(journey(&plan), ["n1", "n1:2", "n1:3", "switchover n1:1", "n1:1"]);
    // The same after the first stage, when only the instances say that they wait.
    let waiting = waits_for_restart(runs_with(three("200").settled(), (1, 1), 100), &[1, 2, 3]);
    assert_eq!(journey(&waiting.plan()), ["n1:2", "n1:3", "switchover n1:1", "n1:1"]);
}

#[test]
fn a_lowered_parameter_reaches_the_primary_first() {
    let plan = three("200").settled().wish(three("100").graph()).plan();
    assert_eq!(journey(&plan), ["n1", "n1:1", "n1:2", "n1:3"]);
    let waiting = waits_for_restart(runs_with(three("100").settled(), (1, 1), 200), &[1, 2, 3]);
    assert_eq!(journey(&waiting.plan()), ["n1:1", "n1:2", "n1:3"]);
    // The primary has it: the replicas follow.
    let waiting = waits_for_restart(three("100").settled(), &[2, 3]);
    assert_eq!(journey(&waiting.plan()), ["n1:2", "n1:3"]);
}

#[test]
fn replicas_wait_for_a_primary_that_cannot_take_a_lowered_parameter_now() {
    let waiting = waits_for_restart(runs_with(three("100").settled(), (1, 1), 200), &[1, 2]);
    let plan = waiting.see(ready(1, 3), unknown("no answer")).plan();
    assert_eq!(journey(&plan), Vec::<String>::new());
    let held = plan.waiting.iter().filter(|waiting| matches!(waiting.on, WaitsFor::Node { .. })).count();
    assert_eq!(held, 2, "{:#?}", plan.waiting);
}

/// A primary that leaves does not take what is lowered: who takes its role over takes it next.
#[test]
fn a_primary_that_leaves_hands_over_before_a_lowered_parameter() {
    let next = Wish { nodes: vec![(1, &[2, 3], "100")], ..two() };
    let plan = three("200").settled().wish(next.graph()).plan();
    assert_eq!(journey(&plan), ["n1", "switchover n1:1", "n1:2", "n1:3", "remove n1:1"]);
}

type Nodes = &'static [(usize, &'static [usize], &'static str)];

const SETS: [Nodes; 7] = [
    &[(1, &[1], "100")],
    &[(1, &[1, 2], "100"), (2, &[3], "100")],
    &[(2, &[3, 4], "200"), (1, &[2, 1], "100")],
    &[(1, &[1, 2, 3], "50"), (2, &[1, 2], "100"), (3, &[2], "100")],
    &[(3, &[2, 3], "100"), (1, &[1], "100")],
    &[(2, &[3], "50")],
    &[(1, &[2], "100"), (2, &[4], "200")],
];

fn a_wish(set: usize, (image, role, concurrent): (bool, bool, bool)) -> Wish {
    let image = if image { "new" } else { "old" };
    Wish { nodes: SETS[set].to_vec(), image, role: if role { "other" } else { "app" }, concurrent }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// From any set of nodes to any other: the checker is content with each plan, and each stage done and looked at in
    /// turn leads to the end.
    #[test]
    fn every_change_of_whole_nodes_leads_to_its_end(
        before in 0..SETS.len(), after in 0..SETS.len(), how in any::<(bool, bool, bool)>(),
    ) {
        let whole = a_wish(before, (false, false, false)).settled();
        let world = whole.wish(a_wish(after, how).graph());
        let (plan, scope) = (world.plan(), Scope::Database(DatabaseId::parse("shop").unwrap()));
        prop_assert!(plan.waiting.is_empty(), "{plan:#?}");
        let replayed = super::world::decision(&world.input(&scope), &plan).replay().unwrap();
        prop_assert_eq!(replayed.end, End::Settled);
    }

    /// Whatever is wrong with instances, what is planned breaks no rule; and a node in which nothing is wrong, and whose
    /// turn does not come after one that is at work, is worked on.
    #[test]
    fn nodes_in_disorder_are_treated_by_the_rules(
        before in 0..SETS.len(), after in 0..SETS.len(), how in any::<(bool, bool, bool)>(),
        injuries in prop::collection::vec((any::<prop::sample::Index>(), 0..5_usize), 0..4),
    ) {
        let whole = a_wish(before, (false, false, false)).settled();
        let all: Vec<(usize, usize)> =
            SETS[before].iter().flat_map(|(node, hosts, _)| hosts.iter().map(move |host| (*node, *host))).collect();
        let mut world = whole.wish(a_wish(after, how).graph());
        for (which, injury) in injuries {
            let (node, host) = all[which.index(all.len())];
            world = injured(world, (node, host), injury);
        }
        // The checker has seen it when it comes out.
        world.plan();
    }
}

fn injured(world: World, (node, host): (usize, usize), injury: usize) -> World {
    let service = id(Kind::Service, &name(node, host));
    let at = ready(node, host);
    match injury {
        0 => world.see(at, unknown("no answer")),
        1 => world.see(service, unknown("no answer")).see(at, unknown("no answer")),
        2 => world.see(service, Observation::Absent).see(at, Observation::Absent),
        3 if is_there(&world, &at) => world.change(&at, |present| present.standing = Some(Box::new(Standing::Replica))),
        _ if is_there(&world, &at) => world.change(&at, |present| {
            if let Some(Standing::Primary { streaming, .. }) = present.standing.as_deref_mut() {
                streaming.values_mut().for_each(|lag| *lag = LAG_BYTES_MAX + 1);
            }
        }),
        _ => world,
    }
}

fn is_there(world: &World, id: &ResourceId) -> bool {
    matches!(world.observed.resources.get(id), Some(Observation::Present(_)))
}

/// Spoils a good plan and expects the checker to find it.
fn refuses(world: &World, spoil: impl FnOnce(&mut Plan), expected: impl Fn(&Violation) -> bool) {
    let mut plan = world.plan();
    spoil(&mut plan);
    let scope = Scope::Database(DatabaseId::parse("shop").unwrap());
    let found = check(&plan, &world.input(&scope)).unwrap_err();
    assert!(found.iter().any(expected), "{found:?}");
}

#[test]
fn plans_out_of_turn_are_refused() {
    let world = two().settled().wish(wish(|wish| wish.image = "new"));
    let merge = |plan: &mut Plan| {
        let of_second = plan.stages.remove(3);
        plan.stages[0].steps.extend(of_second.steps);
    };
    refuses(&world, merge, |found| matches!(found, Violation::TwoNodesAtOnce { stage: 0, .. }));
    let turned = |plan: &mut Plan| plan.stages.rotate_left(3);
    let second = node(2);
    refuses(&world, turned, |found| matches!(found, Violation::BeforeItsTurn { node, stage: 0 } if *node == second));
    let added = two().settled().wish(wish(|wish| {
        wish.nodes.push((3, &[5], "100"));
        wish.image = "new";
    }));
    let third = node(3);
    let first = |plan: &mut Plan| plan.stages.rotate_right(1);
    refuses(&added, first, |found| matches!(found, Violation::BeforeItsTurn { node, .. } if *node == third));
    // What all of them may do at once, none of two with turns may.
    let (at_once, scope) =
        (two().settled().wish(wish(|wish| (wish.image, wish.concurrent) = ("new", true))), Scope::Fleet);
    let found = check(&at_once.plan(), &world.input(&scope)).unwrap_err();
    assert!(found.iter().any(|found| matches!(found, Violation::TwoNodesAtOnce { .. })), "{found:?}");
}

#[test]
fn plans_that_forget_who_needs_as_much_are_refused() {
    let lowered = three("200").settled().wish(three("100").graph());
    let replica_first = |plan: &mut Plan| plan.stages.swap(1, 2);
    refuses(&lowered, replica_first, |found| matches!(found, Violation::BeforeItsPrimary(_)));
    let raised = three("100").settled().wish(three("200").graph());
    let primary_early = |plan: &mut Plan| {
        let last_replica = plan.stages.remove(2);
        plan.stages.push(last_replica);
    };
    refuses(&raised, primary_early, |found| matches!(found, Violation::BeforeItsReplicas(_)));
}
