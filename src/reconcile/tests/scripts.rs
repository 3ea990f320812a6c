//! Scripts that ran and are changed afterwards.

use std::time::Duration;

use super::super::preview;
use super::site::Site;
use crate::contract::commands::{PLAN, Question};
use crate::contract::documents::{CommandResult, ConditionStatus, ConditionType, EventType, PlanState, State};
use crate::contract::topics::{Topic, Verb};
use crate::drivers::fake::System;
use crate::store::Rows as _;

const SHOP: &str = r#"{"database_name": "shop", "scripts": {"post_init": ["CREATE ROLE clerks"],
    "post_database_create": ["CREATE TABLE goods (name text)"]}}"#;

/// What a question is told besides the plan.
async fn notes(site: &Site, document: &str) -> Vec<(String, String)> {
    let verb = Verb::parse(PLAN).unwrap();
    let question = Question {
        database: site.id.clone(),
        verb: verb.clone(),
        payload: document.as_bytes().to_vec(),
        correlation: None,
        response_topic: None,
    };
    preview::answer(&site.shared, question).await;
    let topic = Topic::CommandResult(site.id.clone(), verb).to_string(&site.shared.world.fleet);
    let messages = site.shared.store.read(|reader| reader.messages_after(None, usize::MAX)).unwrap();
    let answer = messages.iter().rfind(|waiting| waiting.message.topic == topic).unwrap();
    let answer: CommandResult = serde_json::from_slice(&answer.message.payload).unwrap();
    answer.plan.unwrap().notes.into_iter().map(|note| (note.pointer, note.message)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_ran_and_was_changed_is_told_and_not_run() {
    let site = &Site::new().await;
    let changed = SHOP.replace("clerks", "cashiers");
    assert_eq!(notes(site, SHOP).await, [], "nothing ran yet");
    site.apply(SHOP).await;
    assert_eq!(site.condition(ConditionType::ScriptChanged), None);
    assert_eq!(notes(site, SHOP).await, []);
    let noted = notes(site, &changed).await;
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert!(noted[0].0 == "/scripts/post_init" && noted[0].1.contains("ran already"), "{noted:?}");

    site.apply(&changed).await;
    let told = site.condition(ConditionType::ScriptChanged).unwrap();
    assert_eq!((told.status, told.reason.as_str()), (ConditionStatus::True, "RunsOnce"));
    assert!(told.message.starts_with("post_init (in database postgres) ran with other statements"), "{told:?}");
    assert!(told.hint.is_some() && !told.message.contains("cashiers"), "{told:?}");
    assert_eq!((site.status().state, site.plan().state), (State::Available, PlanState::Done));
    assert_eq!(site.fake.script(&site.service(), "postgres", "post_init").unwrap(), ["CREATE ROLE clerks"]);
    assert_eq!(site.events_of(EventType::DriftFound), [], "somebody asked for it");

    // While Postgres does not answer it is as it was told.
    site.fake.unreachable(System::Postgres, true);
    tokio::time::sleep(Duration::from_secs(10)).await;
    site.look().await;
    assert_ne!(site.status().state, State::Available);
    assert_eq!(site.condition(ConditionType::ScriptChanged), Some(told));
    site.fake.unreachable(System::Postgres, false);

    site.apply(SHOP).await;
    assert_eq!(site.condition(ConditionType::ScriptChanged), None, "the spec says again what ran");
    site.apply(r#"{"database_name": "shop"}"#).await;
    assert_eq!(site.condition(ConditionType::ScriptChanged), None, "what is asked no more is not compared");
}
