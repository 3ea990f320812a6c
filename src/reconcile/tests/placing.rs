//! Hosts that pgmoor chooses: spread, kept, refused, and moved away from a host that is left. Instances of other hosts than
//! the one that leads never come up in these worlds, so what is looked at is what was chosen.

use std::time::Duration;

use futures_util::future::join_all;

use super::super::preview;
use super::site::Site;
use crate::contract::commands::{PLAN, Question};
use crate::contract::documents::{CommandResult, ConditionType, EventType, State, VerdictResult};
use crate::contract::faults::Code;
use crate::contract::topics::{Topic, Verb};
use crate::model::{DatabaseId, HostId, HostStanding, Scope};
use crate::store::Rows as _;

const SHOP: &str = r#"{"database_name": "shop", "memory": "256MiB"}"#;

fn host(number: u8) -> HostId {
    HostId::parse(&format!("host-{number}")).unwrap()
}

fn scope(name: &str) -> Scope {
    Scope::Database(DatabaseId::parse(name).unwrap())
}

fn spec(replicas: u8) -> String {
    SHOP.replace("\"memory\"", &format!("\"replicas\": {replicas}, \"memory\""))
}

impl Site {
    /// Turns to another database.
    fn of(&mut self, name: &str) -> &Self {
        self.id = DatabaseId::parse(name).unwrap();
        self
    }

    /// The hosts in its record.
    fn chosen(&self) -> Vec<String> {
        let record = self.shared.store.read(|reader| reader.record(&self.id)).unwrap();
        let placement = record.map(|record| record.placement).unwrap_or_default();
        placement.into_values().flat_map(|one| one.hosts).map(|chosen| chosen.host.to_string()).collect()
    }

    /// What became of the last spec: the code, the place and the message of its only fault.
    fn refused(&self) -> Option<(Code, String, String)> {
        let verdict = self.status().verdict.filter(|verdict| verdict.result == VerdictResult::Rejected)?;
        assert_eq!(verdict.faults.len(), 1, "{verdict:?}");
        verdict.faults.into_iter().next().map(|fault| (fault.code, fault.pointer, fault.message))
    }

    /// A host stands otherwise from now on.
    async fn is_to_stand(&self, number: u8, standing: HostStanding) {
        let wishes = [(host(number), Some(standing))].into();
        self.shared.store.write(move |writer| writer.put_host_wishes(&wishes)).await.unwrap();
        self.settle(&Scope::Fleet).await;
    }

    /// Passes until the hosts are these.
    async fn moves_to(&self, hosts: &[&str]) {
        for _ in 0..60 {
            if self.chosen() == hosts {
                return;
            }
            self.look().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("{:?} {:#?}", self.chosen(), self.status());
    }

    /// What is answered when it is asked what a spec would change.
    async fn asked(&self, document: &str) -> CommandResult {
        let verb = Verb::parse(PLAN).unwrap();
        let (database, payload) = (self.id.clone(), document.as_bytes().to_vec());
        let question = Question { database, verb: verb.clone(), payload, correlation: None, response_topic: None };
        preview::answer(&self.shared, question).await;
        let topic = Topic::CommandResult(self.id.clone(), verb).to_string(&self.shared.world.fleet);
        let messages = self.shared.store.read(|reader| reader.messages_after(None, usize::MAX)).unwrap();
        let answer = messages.iter().rfind(|waiting| waiting.message.topic == topic).unwrap();
        serde_json::from_slice(&answer.message.payload).unwrap()
    }
}

async fn of_three() -> Site {
    let site = Site::among(2).await;
    site.settle(&Scope::Fleet).await;
    site
}

#[tokio::test(start_paused = true)]
async fn one_after_another_they_are_spread_and_kept() {
    let mut site = of_three().await;
    for (name, expected) in [("a", "host-1"), ("b", "host-2"), ("c", "host-3"), ("d", "host-1")] {
        site.of(name).publish(SHOP).await;
        site.look().await;
        assert_eq!(site.chosen(), [expected], "{name}");
    }
    let placement = site.of("a").status().placement;
    assert_eq!((placement[0].node.as_str(), placement[0].hosts[0].host.as_str()), ("n1", "host-1"));
    assert!(placement[0].hosts[0].reason.contains("fewest instances"), "{placement:?}");
    // Another spec moves nobody; more replicas come beside, and the one that came last goes first.
    site.of("b").publish(&SHOP.replace("256", "512")).await;
    site.look().await;
    assert_eq!(site.chosen(), ["host-2"]);
    for (replicas, expected) in [(2, &["host-2", "host-3", "host-1"][..]), (1, &["host-2", "host-3"])] {
        site.publish(&spec(replicas)).await;
        site.look().await;
        assert_eq!(site.chosen(), expected);
    }
    // An answer to a question names the hosts that would be chosen, and chooses none.
    let plan = site.of("e").asked(&spec(1)).await.plan.unwrap();
    let would: Vec<&str> = plan.placement[0].hosts.iter().map(|placed| placed.host.as_str()).collect();
    // One instance is on host-2; of the others, with two each, host-1 has more memory left.
    assert_eq!((would, site.chosen().len()), (vec!["host-2", "host-1"], 0));
}

#[tokio::test(start_paused = true)]
async fn specs_of_one_moment_are_spread_too() {
    let mut site = of_three().await;
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        site.of(name).publish(SHOP).await;
    }
    let scopes = names.map(scope);
    join_all(scopes.iter().map(|scope| site.pass(scope))).await;
    let mut all: Vec<String> = Vec::new();
    for name in names {
        all.extend(site.of(name).chosen());
    }
    all.sort_unstable();
    assert_eq!(all, ["host-1", "host-1", "host-2", "host-2", "host-3", "host-3"]);
}

#[tokio::test(start_paused = true)]
async fn too_few_hosts_are_a_fault_until_there_are_enough() {
    let site = of_three().await;
    site.others.silent.lock().unwrap().insert(host(3));
    site.publish(&spec(2)).await;
    site.look().await;
    let (code, pointer, message) = site.refused().unwrap();
    assert_eq!((code, pointer.as_str()), (Code::NotEnoughHosts, "/replicas"));
    assert_eq!(message, "n1 needs 3 hosts, and the fleet has 2 for it; host-3: it does not answer");
    assert_eq!(site.asked(&spec(2)).await.faults[0].code, Code::NotEnoughHosts);
    site.others.silent.lock().unwrap().clear();
    site.look().await;
    assert_eq!((site.refused(), site.chosen().len()), (None, 3), "the host answers again");

    let labelled = spec(0).replace("\"memory\"", "\"host_labels\": {\"zone\": \"a\"}, \"memory\"");
    site.publish(&labelled).await;
    site.look().await;
    let (code, pointer, message) = site.refused().unwrap();
    assert_eq!((code, pointer.as_str()), (Code::NotEnoughHosts, "/host_labels"));
    assert!(
        message.starts_with("n1 needs 1 host, and the fleet has none for it; host-1: it has no label zone; host-2: "),
        "{message}"
    );
    assert_eq!(site.chosen().len(), 3, "the last good spec stays applied");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_of_one_host_has_no_choice() {
    let site = Site::leading().await;
    site.apply(SHOP).await;
    assert_eq!((site.chosen(), site.status().state), (vec!["host-1".to_owned()], State::Available));
    assert_eq!(site.status().placement[0].hosts[0].reason, "it is the only host of the fleet");
    site.publish(&spec(1)).await;
    site.look().await;
    let (code, pointer, message) = site.refused().unwrap();
    assert_eq!((code, pointer.as_str()), (Code::NotEnoughHosts, "/replicas"));
    assert_eq!(message, "n1 needs 2 hosts, and the fleet has 1 for it; there is no other host");
    let large = SHOP.replace("256MiB", "900GiB");
    site.publish(&large).await;
    site.look().await;
    assert_eq!(site.refused().unwrap().0, Code::MemoryOvercommitted, "what it lacks is told where it is asked for");
    // It is to be left, and there is no other.
    site.apply(SHOP).await;
    site.is_to_stand(1, HostStanding::Drained).await;
    site.look().await;
    let told = site.condition(ConditionType::PlacementIncomplete).unwrap();
    assert!(told.message.contains("n1 is still on host-1, which is to be left"), "{told:?}");
    assert_eq!((site.chosen(), site.status().state), (vec!["host-1".to_owned()], State::Available));
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_hosts_were_chosen_stays_where_it_is() {
    let site = of_three().await;
    site.apply(SHOP).await;
    let mut old = site.shared.store.read(|reader| reader.record(&site.id)).unwrap().unwrap();
    let before = old.clone();
    old.placement.clear();
    site.shared.store.write(move |writer| writer.put_record(&old)).await.unwrap();
    let disrupted = site.fake.disruptions();
    site.settle(&site.scope()).await;
    assert_eq!((site.chosen().len(), site.fake.disruptions()), (0, disrupted), "nothing moves, nothing is written");
    site.apply(&SHOP.replace("\"memory\"", "\"client_token\": \"two\", \"memory\"")).await;
    assert_eq!((site.chosen(), site.fake.disruptions()), (vec!["host-1".to_owned()], disrupted));
    let after = site.shared.store.read(|reader| reader.record(&site.id)).unwrap().unwrap();
    assert_eq!((&after.etcd_passwords, &after.ports), (&before.etcd_passwords, &before.ports));
    assert!(after.placement["n1"].hosts[0].why.contains("it was there before"), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_left_hands_its_databases_over_once_they_are_at_rest() {
    let site = of_three().await;
    site.apply(SHOP).await;
    site.is_to_stand(1, HostStanding::Drained).await;
    site.publish(&SHOP.replace("256", "512")).await;
    site.look().await;
    assert_eq!(site.chosen(), ["host-1"], "it has not come to rest there yet");
    site.events();
    site.moves_to(&["host-2"]).await;
    site.look().await;
    let events = site.events_of(EventType::PlacementChanged);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].data.message.starts_with("n1 is on host-2, it was on host-1; host-2: "), "{events:?}");
    let instances = site.status().instances;
    assert_eq!(instances.iter().map(|one| one.host.as_str()).collect::<Vec<_>>(), ["host-2"]);
    assert_eq!(site.fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_trash_comes_back_where_it_is_and_moves_then() {
    let site = of_three().await;
    site.apply(SHOP).await;
    site.publish(r#"{"deleted": true}"#).await;
    let mut gone = false;
    for _ in 0..60 {
        site.look().await;
        gone = site.events().iter().any(|event| event.data.state == Some(State::Deleted));
        if gone {
            break;
        }
    }
    assert!(gone, "it is in the trash");
    site.is_to_stand(1, HostStanding::Drained).await;
    site.publish(SHOP).await;
    site.look().await;
    assert_eq!(site.chosen(), ["host-1"], "its data is there");
    site.moves_to(&["host-2"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_only_observed_does_not_move() {
    let site = of_three().await;
    site.apply(SHOP).await;
    site.apply(&SHOP.replace("\"memory\"", "\"reconcile\": \"observe\", \"memory\"")).await;
    site.is_to_stand(1, HostStanding::Drained).await;
    for _ in 0..5 {
        site.look().await;
    }
    assert_eq!(site.chosen(), ["host-1"]);
}
