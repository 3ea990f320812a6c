//! Any text as a topic: what is read as ours is written back as the very same text.
#![no_main]

use pgmoor::contract::topics::Topic;
use pgmoor::model::FleetId;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(fleet) = FleetId::parse("harbour") else { return };
    if let Some(topic) = Topic::parse(&fleet, text) {
        assert_eq!(topic.to_string(&fleet), text);
    }
    // Most random texts are far from a topic; below the fleet they are not.
    let below = format!("pgmoor/v1/harbour/{text}");
    if let Some(topic) = Topic::parse(&fleet, &below) {
        assert_eq!(topic.to_string(&fleet), below);
    }
});
