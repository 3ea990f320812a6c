//! Nodes with several instances: in which order they are touched, what holds that back, and what the checker refuses.

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
use crate::plan::{Action, Disruptions, LAG_BYTES_MAX, Plan, Purpose, Stage, WaitsFor, simulate};

/// What tests change of a node.
#[derive(Debug, Clone, Copy)]
struct Wish {
    /// The numbers of its hosts, the initial primary's first.
    hosts: &'static [usize],
    image: &'static str,
    max_connections: &'static str,
    hba: &'static str,
    role: &'static str,
}

const THREE: Wish =
    Wish { hosts: &[1, 2, 3], image: "old", max_connections: "100", hba: "local all all peer", role: "app" };

fn name(host: usize) -> String {
    format!("shop-n1-h{host}")
}

fn instance(host: usize) -> InstanceId {
    InstanceId::parse(&name(host)).unwrap()
}

fn ready(host: usize) -> ResourceId {
    id(Kind::Instance, &name(host))
}

impl Wish {
    fn graph(self) -> Graph {
        let shop = Shop {
            image: self.image,
            parameters: BTreeMap::from([("max_connections", self.max_connections)]),
            pg_hba: vec![self.hba],
            ..Shop::default()
        };
        let shared = [Kind::Record, Kind::PatroniConfig];
        let of_all: Vec<Resource> =
            shop.graph().in_order().filter(|one| shared.contains(&one.id.kind)).cloned().collect();
        let Attributes::PatroniConfig(config) = &of_all[1].attributes else { panic!("no configuration") };
        let marker = config.parameters["pgmoor.config"].clone();
        let of_each =
            self.hosts.iter().enumerate().flat_map(|(place, host)| self.instance(place, *host, &shop, &marker));
        let mut all: Vec<Resource> = of_each.collect();
        all.push(self.role());
        Graph::new(of_all.into_iter().chain(all)).unwrap()
    }

    fn instance(self, place: usize, host: usize, shop: &Shop, marker: &str) -> [Resource; 3] {
        let name = name(host);
        let at = || Executor::Host(HostId::parse(&format!("host-{host}")).unwrap());
        let data = Attributes::Directory {
            path: format!("/d/{name}"),
            mode: 0o700,
            uid: 26,
            gid: 26,
            on_delete: OnDelete::Trash,
        };
        let mut service = shop.service_attributes();
        service.name.clone_from(&name);
        let ready = InstanceAttributes {
            service: name.clone(),
            running: true,
            config: marker.to_owned(),
            pending_restart: false,
            certificate_loaded: true,
            alter_system: BTreeSet::new(),
        };
        let (order, content) = (Dependency::Order, Dependency::Content);
        let before = [(Kind::PatroniConfig, "n1", order), (Kind::Directory, name.as_str(), order)];
        let from = [(Kind::PatroniConfig, "n1", content), (Kind::Service, name.as_str(), content)];
        let service = Attributes::Service(Box::new(service));
        [
            resource(Kind::Directory, &name, at(), [(Kind::Record, "shop", order)], data),
            resource(Kind::Service, &name, Executor::Manager, before, service),
            resource(Kind::Instance, &name, at(), from, Attributes::Instance(ready)),
        ]
        .map(|one| {
            let node = NodeName::parse("n1").unwrap();
            Resource { member: Some(Member { node, turn: 0, place, instance: instance(host), drained: false }), ..one }
        })
    }

    fn role(self) -> Resource {
        let attributes = Attributes::Role(RoleAttributes {
            name: self.role.to_owned(),
            flags: RoleFlags { login: true, ..RoleFlags::default() },
            member_of: BTreeSet::new(),
            password_matches: true,
            connection_limit: None,
            valid_until: None,
        });
        let names: Vec<String> = self.hosts.iter().map(|host| name(*host)).collect();
        let needs = names.iter().map(|name| (Kind::Instance, name.as_str(), Dependency::Any));
        resource(Kind::Role, self.role, Executor::Primary(NodeName::parse("n1").unwrap()), needs, attributes)
    }

    fn settled(self) -> World {
        World::settled(self.graph())
    }
}

/// The world with its primary on this host, and these bytes of lag behind it.
fn led_by(mut world: World, hosts: &[usize], primary: usize, lag: &[(usize, Option<u64>)]) -> World {
    for host in hosts {
        let others = hosts.iter().filter(|other| *other != host);
        let lag_of = |host: usize| lag.iter().find(|(other, _)| *other == host).map_or(Some(0), |(_, lag)| *lag);
        let streaming = others.filter_map(|other| Some((instance(*other), lag_of(*other)?))).collect();
        let standing = if *host == primary {
            Standing::Primary { streaming, runs_with: BTreeMap::new() }
        } else {
            Standing::Replica
        };
        world = world.change(&ready(*host), |present| present.standing = Some(Box::new(standing)));
    }
    world
}

/// Each stage in a word or two: the instances it touches, or `all`.
fn journey(plan: &Plan) -> Vec<String> {
    let touched = |stage: &Stage| -> BTreeSet<String> {
        let number = |step: &crate::plan::Step| step.resource.name.strip_prefix("shop-n1-").map(str::to_owned);
        stage.steps.iter().map(|step| number(step).unwrap_or_else(|| "all".to_owned())).collect()
    };
    let word = |stage: &Stage| {
        let names = touched(stage).into_iter().collect::<Vec<_>>().join(" ");
        match stage.purpose {
            Purpose::Converge => names,
            Purpose::Switchover => format!("switchover {names}"),
            Purpose::Remove => format!("remove {names}"),
        }
    };
    plan.stages.iter().map(word).collect()
}

/// The names of the instances of which something waits for the node.
fn held(plan: &Plan) -> BTreeSet<&str> {
    let held = plan.waiting.iter().filter(|waiting| matches!(waiting.on, WaitsFor::Node { .. }));
    held.filter_map(|waiting| waiting.resource.name.strip_prefix("shop-n1-")).collect()
}

fn wish(change: impl FnOnce(&mut Wish)) -> Graph {
    let mut wish = THREE;
    change(&mut wish);
    wish.graph()
}

#[test]
fn the_first_instance_comes_with_what_is_inside_and_the_others_one_by_one() {
    assert_eq!(journey(&World::new(THREE.graph()).plan()), ["all h1", "h2", "h3"]);
    let one = Wish { hosts: &[1], ..THREE };
    assert_eq!(journey(&World::new(one.graph()).plan()), ["all h1"]);
    assert_eq!(journey(&one.settled().wish(THREE.graph()).plan()), ["h2", "h3"], "nobody is interrupted");
}

#[test]
fn replicas_are_replaced_one_by_one_and_the_primary_last() {
    let plan = THREE.settled().wish(wish(|wish| wish.image = "new")).plan();
    assert_eq!(journey(&plan), ["h2", "h3", "switchover h1", "h1"]);
    let [step] = plan.stages[2].steps.as_slice() else { panic!("not one step") };
    assert_eq!(step.candidates, [ready(2), ready(3)].into());
    assert_eq!(step.executor, Executor::Primary(NodeName::parse("n1").unwrap()));
    // Who is primary is seen, not said by the spec.
    let elsewhere = led_by(THREE.settled(), &[1, 2, 3], 2, &[]).wish(wish(|wish| wish.image = "new"));
    assert_eq!(journey(&elsewhere.plan()), ["h1", "h3", "switchover h2", "h2"]);
}

#[test]
fn what_all_share_comes_first_and_what_is_inside_last() {
    let plan = THREE.settled().wish(wish(|wish| wish.max_connections = "200")).plan();
    assert_eq!(journey(&plan), ["all", "h2", "h3", "switchover h1", "h1"]);
    let plan = THREE.settled().wish(wish(|wish| (wish.image, wish.role) = ("new", "other"))).plan();
    assert_eq!(journey(&plan), ["h2", "h3", "switchover h1", "all h1", "remove all"]);
    let plan = THREE.settled().wish(wish(|wish| wish.hba = "host all all all reject")).plan();
    assert_eq!(journey(&plan), ["all h1 h2 h3"], "a reload interrupts nobody");
}

#[test]
fn a_primary_alone_is_interrupted_in_place() {
    let one = Wish { hosts: &[1], ..THREE };
    let plan = one.settled().wish(Wish { image: "new", ..one }.graph()).plan();
    assert_eq!(journey(&plan), ["h1"]);
    let plan = one.settled().wish(Wish { image: "new", hosts: &[1, 2], ..THREE }.graph()).plan();
    assert_eq!(journey(&plan), ["h1", "h2"]);
}

#[test]
fn a_node_that_is_short_of_one_keeps_the_others() {
    let world = || THREE.settled().wish(wish(|wish| wish.image = "new"));
    for lag in [Some(LAG_BYTES_MAX + 1), None] {
        let plan = led_by(world(), &[1, 2, 3], 1, &[(3, lag)]).plan();
        assert_eq!((journey(&plan), held(&plan)), (vec!["h3".to_owned()], ["h1", "h2"].into()), "{lag:?}");
    }
    let down = world().see(ready(3), unknown("its container is not running"));
    assert_eq!(
        (journey(&down.plan()), held(&down.plan())),
        (vec!["h3".to_owned()], ["h1", "h2"].into()),
        "it is mended"
    );
    let stopped = world().change(&ready(3), |present| {
        let Attributes::Instance(instance) = &mut present.attributes else { panic!("no instance") };
        instance.running = false;
    });
    assert_eq!((journey(&stopped.plan()), held(&stopped.plan())), (vec!["h3".to_owned()], ["h1", "h2"].into()));
    let leaderless = [1, 2, 3].into_iter().fold(world(), |world, host| {
        world.change(&ready(host), |present| present.standing = Some(Box::new(Standing::Replica)))
    });
    assert_eq!((journey(&leaderless.plan()), held(&leaderless.plan())), (Vec::new(), ["h1", "h2", "h3"].into()));
    let at_bound = led_by(world(), &[1, 2, 3], 1, &[(3, Some(LAG_BYTES_MAX))]);
    assert_eq!(held(&at_bound.plan()), BTreeSet::new());
}

#[test]
fn what_is_inside_needs_no_instance_but_the_primary() {
    let down = THREE.settled().wish(wish(|wish| wish.role = "other")).see(ready(3), unknown("no answer"));
    assert_eq!(journey(&down.plan()), ["all", "remove all"]);
}

#[test]
fn who_leaves_goes_when_the_others_are_there() {
    let without = |hosts| move |wish: &mut Wish| wish.hosts = hosts;
    let plan = THREE.settled().wish(wish(without(&[1, 2]))).plan();
    assert_eq!(journey(&plan), ["remove h3"]);
    let plan = THREE.settled().wish(wish(without(&[2, 3]))).plan();
    assert_eq!(journey(&plan), ["switchover h1", "remove h1"]);
    // Everything moves to another host: the data first.
    let one = Wish { hosts: &[1], ..THREE };
    let plan = one.settled().wish(Wish { hosts: &[2], ..THREE }.graph()).plan();
    assert_eq!(journey(&plan), ["h2", "switchover h1", "remove h1"]);
    let plan = THREE.settled().wish(Graph::default()).plan();
    assert_eq!(journey(&plan), ["remove all h1 h2 h3"], "a database that goes hands nothing over");
}

#[test]
fn a_primary_on_a_host_that_is_to_be_left_hands_its_role_over_and_stays() {
    let drained = |graph: Graph, hosts: &[usize]| {
        let mark = |one: &Resource| {
            let drained = hosts.iter().any(|host| one.id.name == name(*host));
            let member = one.member.clone().map(|member| Member { drained, ..member });
            Resource { member, ..one.clone() }
        };
        Graph::new(graph.in_order().map(mark)).unwrap()
    };
    let plan = THREE.settled().wish(drained(THREE.graph(), &[1])).plan();
    assert_eq!(journey(&plan), ["switchover h1"]);
    let plan = THREE.settled().wish(drained(THREE.graph(), &[1, 2])).plan();
    assert_eq!(plan.stages[0].steps[0].candidates, [ready(3)].into(), "the other one is to be left too");
    let elsewhere = led_by(THREE.settled(), &[1, 2, 3], 2, &[]).wish(drained(THREE.graph(), &[1]));
    assert_eq!(journey(&elsewhere.plan()), Vec::<String>::new(), "a replica may stay");
    let all = THREE.settled().wish(drained(THREE.graph(), &[1, 2, 3]));
    assert_eq!(journey(&all.plan()), Vec::<String>::new(), "there is nowhere to go");
    let behind = led_by(THREE.settled(), &[1, 2, 3], 1, &[(2, None), (3, None)]).wish(drained(THREE.graph(), &[1]));
    assert_eq!(journey(&behind.plan()), Vec::<String>::new(), "nobody can take it now");
}

#[test]
fn who_leaves_stays_while_it_is_needed() {
    let leaves = || THREE.settled().wish(wish(|wish| wish.hosts = &[2, 3]));
    let behind = led_by(leaves(), &[1, 2, 3], 1, &[(2, None), (3, Some(LAG_BYTES_MAX + 1))]);
    assert_eq!((journey(&behind.plan()), held(&behind.plan())), (Vec::new(), ["h1"].into()));
    let unseen = leaves().see(ready(1), unknown("no answer"));
    assert_eq!((journey(&unseen.plan()), held(&unseen.plan())), (Vec::new(), ["h1"].into()), "it may be the primary");
    let short = THREE.settled().wish(wish(|wish| wish.hosts = &[1, 2])).see(ready(2), unknown("no answer"));
    assert_eq!(journey(&short.plan()), Vec::<String>::new());
    assert!(short.plan().waiting.iter().any(|waiting| matches!(waiting.on, WaitsFor::Desired { .. })));
}

const SETS: [&[usize]; 7] = [&[1], &[2], &[1, 2], &[2, 1], &[1, 3], &[1, 2, 3], &[3, 2, 1]];

const CHANGES: [fn(&mut Wish); 4] = [
    |_| (),
    |wish| wish.image = "new",
    |wish| (wish.max_connections, wish.role) = ("200", "other"),
    |wish| (wish.hba, wish.image) = ("host all all all reject", "new"),
];

/// Every set of hosts before and after, every primary, every kind of change: the checker is content with each plan, and
/// each stage done and looked at in turn leads to the end.
#[test]
fn every_change_of_a_whole_node_leads_to_its_end() {
    for before in SETS {
        let whole = Wish { hosts: before, ..THREE }.settled();
        for (primary, after) in before.iter().flat_map(|primary| SETS.map(|after| (*primary, after))) {
            for change in CHANGES {
                let desired = wish(|wish| {
                    wish.hosts = after;
                    change(wish);
                });
                let world = led_by(whole.clone(), before, primary, &[]).wish(desired);
                let (plan, scope) = (world.plan(), Scope::Database(DatabaseId::parse("shop").unwrap()));
                assert!(plan.waiting.is_empty(), "{before:?} led by {primary} -> {after:?}: {plan:#?}");
                let decision = super::world::decision(&world.input(&scope), &plan);
                let replayed = decision.replay().unwrap();
                assert_eq!(
                    replayed.end,
                    crate::plan::decision::End::Settled,
                    "{before:?} led by {primary} -> {after:?}"
                );
            }
        }
    }
}

/// What may be wrong with an instance.
#[derive(Debug, Clone, Copy)]
enum Injury {
    None,
    Behind,
    NotStreaming,
    TakesWritesToo,
    Leaderless,
    Stopped,
    Unseen,
    ServiceUnseen,
    ServiceGone,
}

fn injured(world: World, host: usize, injury: Injury) -> World {
    let service = id(Kind::Service, &name(host));
    let standing =
        |world: World, standing| world.change(&ready(host), |present| present.standing = Some(Box::new(standing)));
    match injury {
        Injury::None | Injury::Behind | Injury::NotStreaming => world,
        Injury::TakesWritesToo => {
            standing(world, Standing::Primary { streaming: BTreeMap::new(), runs_with: BTreeMap::new() })
        }
        Injury::Leaderless => standing(world, Standing::Replica),
        Injury::Stopped => world.change(&ready(host), |present| {
            let Attributes::Instance(instance) = &mut present.attributes else { panic!("no instance") };
            instance.running = false;
        }),
        Injury::Unseen => world.see(ready(host), unknown("no answer")),
        Injury::ServiceUnseen => world.see(service, unknown("no answer")).see(ready(host), unknown("no answer")),
        Injury::ServiceGone => world.see(service, Observation::Absent).see(ready(host), Observation::Absent),
    }
}

fn injury() -> impl Strategy<Value = Injury> {
    let all = [
        Injury::Behind,
        Injury::NotStreaming,
        Injury::TakesWritesToo,
        Injury::Leaderless,
        Injury::Stopped,
        Injury::Unseen,
        Injury::ServiceUnseen,
        Injury::ServiceGone,
    ];
    prop_oneof![3 => Just(Injury::None), 2 => proptest::sample::select(all.to_vec())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is wrong with a node, what is planned for it breaks no rule.
    #[test]
    fn a_node_in_disorder_is_treated_by_the_rules(
        before in 0..SETS.len(), after in 0..SETS.len(), change in 0..4_usize, primary in 0..3_usize,
        injuries in [injury(), injury(), injury()],
    ) {
        let (before, after) = (SETS[before], SETS[after]);
        let desired = wish(|wish| {
            wish.hosts = after;
            CHANGES[change](wish);
        });
        let of = |kind: fn(&Injury) -> bool| before.iter().zip(&injuries).filter(move |(_, one)| kind(one));
        let behind = of(|one| matches!(one, Injury::Behind)).map(|(host, _)| (*host, Some(LAG_BYTES_MAX + 1)));
        let silent = of(|one| matches!(one, Injury::NotStreaming)).map(|(host, _)| (*host, None));
        let lag: Vec<(usize, Option<u64>)> = behind.chain(silent).collect();
        let primary = before[primary % before.len()];
        let mut world = led_by(Wish { hosts: before, ..THREE }.settled(), before, primary, &lag).wish(desired);
        for (host, injury) in before.iter().zip(injuries) {
            world = injured(world, *host, injury);
        }
        // The checker has seen it when it comes out.
        world.plan();
    }
}

/// Who approves of what a plan interrupts approves of the whole journey, whoever becomes primary on the way.
#[test]
fn an_approval_holds_to_the_end_of_the_journey() {
    for hosts in [&[1, 2, 3][..], &[2, 3], &[3, 1]] {
        let mut world = THREE.settled().wish(wish(|wish| (wish.hosts, wish.image) = (hosts, "new")));
        let approved = Disruptions::of(&world.plan(), &world.desired);
        for round in 0.. {
            let plan = world.plan();
            let left = Disruptions::of(&plan, &world.desired);
            assert!(left.is_part_of(&approved), "{hosts:?}: {:?}", left.beyond(&approved));
            let Some(stage) = plan.stages.first() else { break };
            assert!(round < 20, "{hosts:?}: there is always one more stage");
            simulate::apply_stage(stage, &world.desired, &mut world.observed, |_| true);
        }
    }
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
fn plans_that_take_too_much_away_are_refused() {
    let world = || THREE.settled().wish(wish(|wish| wish.image = "new"));
    let merge = |plan: &mut Plan| {
        let second = plan.stages.remove(1);
        plan.stages[0].steps.extend(second.steps);
    };
    refuses(&world(), merge, |found| matches!(found, Violation::TwoAtOnce { stage: 0, .. }));
    let primary = |found: &Violation| matches!(found, Violation::InterruptsPrimary(_));
    refuses(&world(), |plan| drop(plan.stages.remove(2)), primary);
    refuses(&world(), |plan| plan.stages.swap(2, 3), primary);
    let leaves = THREE.settled().wish(wish(|wish| wish.hosts = &[2, 3]));
    refuses(&leaves, |plan| drop(plan.stages.remove(0)), primary);
    let bad = |found: &Violation| matches!(found, Violation::BadSwitchover(_));
    refuses(&world(), |plan| plan.stages[2].steps[0].candidates.clear(), bad);
    refuses(&world(), |plan| plan.stages[2].steps[0].candidates = [ready(1)].into(), bad);
    refuses(&world(), |plan| plan.stages[2].steps[0].resource = ready(2), bad);
    refuses(&world(), |plan| plan.stages[2].purpose = Purpose::Converge, bad);
}

#[test]
fn a_plan_for_a_better_world_is_refused() {
    let (better, scope) = (THREE.settled().wish(wish(|wish| wish.image = "new")), Scope::Fleet);
    let plan = better.plan();
    assert_eq!(plan.stages[0].steps[0].action, Action::Update);
    for lag in [None, Some(LAG_BYTES_MAX + 1)] {
        let worse = led_by(better.clone(), &[1, 2, 3], 1, &[(3, lag)]);
        let found = check(&plan, &worse.input(&scope)).unwrap_err();
        assert!(found.iter().any(|found| matches!(found, Violation::LeavesNodeShort(_))), "{found:?}");
    }
}
