//! A host that does not lead any more does nothing stale, whether it knows it or not.

use super::super::pass::Next;
use super::site::Site;
use crate::drivers::fake::{CallSeen, Fate, Fates, Mishap, System};
use crate::model::HostId;
use crate::store::Rows as _;
use crate::world::lease::Lease;

const SHOP: &str = r#"{"database_name": "shop", "memory": "256MiB"}"#;
const CHANGED: &str = r#"{"database_name": "shop", "memory": "512MiB"}"#;

/// Whether a call changes something.
fn changes(name: &str) -> bool {
    let reads = ["swarm.services", "swarm.configs", "swarm.networks", "swarm.engine", "swarm.tasks"];
    name.starts_with("swarm.") && !reads.contains(&name) && !name.starts_with("swarm.containers")
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_lease_begins_nothing() {
    let site = Site::leading().await;
    site.apply(SHOP).await;
    let lease = site.shared.world.lease.clone().unwrap();
    site.publish(CHANGED).await;
    let other = HostId::parse("host-2").unwrap();
    let newer = Lease::take(&site.fake, &lease.fleet, &other, 0).await.unwrap();
    assert_eq!(newer.epoch, lease.epoch + 1);
    let _before = site.fake.take_calls();
    for _ in 0..3 {
        site.look().await;
    }
    let waits = site.shared.store.read(|reader| reader.desired(&site.id)).unwrap().unwrap().candidate.is_some();
    assert!(waits, "nothing is accepted");
    let calls = site.fake.take_calls();
    assert!(!calls.is_empty() && !calls.iter().any(|call| changes(call.name)), "{calls:#?}");
}

/// The second renewal does not get through.
struct Second(u32);

impl Fates for Second {
    fn of(&mut self, _system: System, call: &CallSeen) -> Fate {
        self.0 += u32::from(call.name == "swarm.label_config");
        let lost = self.0 == 2 && call.name == "swarm.label_config";
        Fate { mishap: lost.then_some(Mishap::Lost), ..Fate::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_cannot_be_confirmed_before_a_stage_does_not_begin_it() {
    let site = Site::leading().await;
    site.apply(SHOP).await;
    site.publish(CHANGED).await;
    let before = site.fake.disruptions();
    site.fake.ruled_by(Box::new(Second(0)));
    let next = site.look().await;
    assert!(matches!(next, Next::After(_)), "{next:?}");
    assert_eq!(site.fake.disruptions(), before, "nothing was replaced");
    site.settle(&site.scope()).await;
    assert!(site.fake.disruptions() > before, "and then it was");
}

#[tokio::test(start_paused = true)]
async fn without_swarm_nothing_is_begun_and_afterwards_all_goes_on() {
    let site = Site::leading().await;
    site.publish(SHOP).await;
    site.fake.unreachable(System::Swarm, true);
    assert_eq!(site.look().await, Next::Failed);
    site.fake.unreachable(System::Swarm, false);
    site.settle(&site.scope()).await;
    assert_eq!(site.fake.violations(), []);
}
