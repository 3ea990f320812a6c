//! `reconcile` at `observe` and `paused`.

use super::super::pass::Next;
use super::site::Site;
use crate::contract::documents::{ConditionStatus, ConditionType, EventType, PlanState, State};
use crate::domain::layout;

const SHOP: &str = r#"{"database_name": "shop", "reconcile": "repair", "database_users": [
    {"username": "app", "db_owner": true, "attributes": ["LOGIN"]}, {"username": "clerk"}]}"#;

async fn drop_role(site: &Site) {
    let at = site.endpoints().await.postgres;
    site.shared.world.drivers.postgres.drop_role(&at, "clerk", layout::SUPERUSER).await.unwrap();
}

async fn has_role(site: &Site) -> bool {
    let at = site.endpoints().await.postgres;
    let roles = site.shared.world.drivers.postgres.roles(&at, &std::collections::BTreeMap::new()).await.unwrap();
    roles.iter().any(|role| role.attributes.name == "clerk")
}

async fn services(site: &Site) -> usize {
    let world = &site.shared.world;
    world.drivers.swarm.services(&world.selector(&site.scope())).await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn what_is_observed_is_told_and_left() {
    let site = &Site::new().await;
    let observe = SHOP.replace("\"repair\"", "\"observe\"");
    site.apply(SHOP).await;
    site.apply(&observe).await;
    assert_eq!((site.status().state, site.plan().state), (State::Available, PlanState::Done));
    assert!(site.condition(ConditionType::Observed).is_some());
    site.events();
    drop_role(site).await;
    for _ in 0..3 {
        assert_eq!(site.look().await, Next::Settled, "with the tick");
    }
    assert!(!has_role(site).await);
    let found = site.events_of(EventType::DriftFound);
    assert_eq!(found.len(), 1, "told once");
    assert_eq!(found[0].data.resource.as_deref(), Some("role::clerk"));
    assert_eq!(site.status().state, State::Available);
    assert!(site.condition(ConditionType::Drifted).unwrap().message.starts_with("role::clerk is not there"));
    assert_eq!(site.condition(ConditionType::Ready).unwrap().reason, "Drifted");
    let plan = site.plan();
    assert_eq!((plan.state, plan.counts.create, plan.waiting.len()), (PlanState::Waiting, 1, 1));

    // A changed spec is not applied either.
    let changed = observe.replace("\"database_users\"", "\"port\": 15000, \"database_users\"");
    site.apply(&changed).await;
    assert_eq!(site.status().state, State::Pending);
    assert_eq!(site.condition(ConditionType::Ready).unwrap().reason, "NotApplied");
    assert!(!has_role(site).await);

    site.apply(&changed.replace("\"observe\"", "\"repair\"")).await;
    assert!(has_role(site).await);
    assert_eq!((site.status().state, site.plan().state), (State::Available, PlanState::Done));
    assert_eq!(site.condition(ConditionType::Observed), None);
    assert_eq!(site.fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_paused_is_not_looked_at() {
    let site = &Site::new().await;
    site.apply(SHOP).await;
    let paused = SHOP.replace("\"repair\"", "\"paused\"");
    site.apply(&paused).await;
    let revision = crate::world::record::newest_revision(&site.shared.world, &site.scope()).await.unwrap();
    assert_eq!(revision, Some(2), "that it is paused survives a lost store");
    drop_role(site).await;
    site.events();
    assert_eq!(site.look().await, Next::Settled);
    assert_eq!(site.events(), []);
    assert!(!has_role(site).await);
    assert_eq!(site.status().state, State::Available);
    assert!(site.condition(ConditionType::Paused).is_some());
    assert_eq!(site.condition(ConditionType::Ready).unwrap().status, ConditionStatus::Unknown);
    assert_eq!(site.plan().state, PlanState::Waiting);

    let changed = paused.replace("\"database_users\"", "\"port\": 15000, \"database_users\"");
    site.apply(&changed).await;
    assert_eq!((site.status().state, site.status().connection.is_some()), (State::Pending, true));

    site.apply(r#"{"deleted": true}"#).await;
    assert_eq!(services(site).await, 0, "a delete is acted on");
    assert_eq!(site.fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_created_by_those_who_only_look() {
    for word in ["observe", "paused"] {
        let site = &Site::new().await;
        site.apply(&SHOP.replace("repair", word)).await;
        assert_eq!(services(site).await, 0);
        assert_eq!(site.shared.world.drivers.host.list("/var/lib/pgmoor/instances").await.unwrap_or_default().len(), 0);
        assert_eq!((site.status().state, site.plan().state), (State::Pending, PlanState::Waiting), "{word}");
        assert_eq!(site.condition(ConditionType::Ready).unwrap().status, ConditionStatus::False);
        site.apply(SHOP).await;
        assert_eq!(site.status().state, State::Available);
        assert_eq!(site.events_of(EventType::DriftFound), []);
    }
}
