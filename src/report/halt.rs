//! The halt in words: a condition on every database and host, an event when it begins and when it ends.

use super::conditions::Found;
use crate::contract::documents::{ConditionType, Event, EventData, EventType, Time};
use crate::model::{DatabaseId, FleetId};
use crate::plan::halt::Halt;

/// How many failed databases are named: the first few tell what is wrong.
const NAMED_MAX: usize = 3;

/// What to do about a halt.
const HINT: &str = "mend the cause, then say go on: `pgmoor resume`";

/// The condition; none while there is no halt.
#[must_use]
pub fn condition(halt: &Halt) -> Option<Found> {
    let since = Time::from_ms(halt.since_ms?);
    let message =
        format!("{} since {since}, so nothing is made and nobody is disturbed until `pgmoor resume`", failures(halt));
    Some(Found { kind: ConditionType::Halted, reason: "FailedInARow".to_owned(), message, hint: Some(HINT.to_owned()) })
}

/// The events of those whose steps failed: the halt has begun, or a person said go on.
#[must_use]
pub fn events(fleet: &FleetId, halt: &Halt, kind: EventType, at: Time) -> Vec<(DatabaseId, Event)> {
    let (word, message) = if kind == EventType::FleetHalted {
        ("halted", format!("{}: nothing new begins until `pgmoor resume`", failures(halt)))
    } else {
        ("resumed", "a person said go on: work begins again".to_owned())
    };
    let event = |database: &DatabaseId| {
        let failed = halt.failed.get(database);
        let resource = failed.map(|failed| failed.resource.to_string());
        let data = EventData { message: message.clone(), resource, ..EventData::default() };
        (database.clone(), Event::new(fleet, database, format!("{}-{word}", at.ms()), kind, at, data))
    };
    halt.failed.keys().map(event).collect()
}

fn failures(halt: &Halt) -> String {
    let count = halt.failed.len();
    let named = halt.failed.iter().take(NAMED_MAX);
    let mut named: Vec<String> =
        named.map(|(database, failed)| format!("{database}: {}: {}", failed.resource, failed.error)).collect();
    if count > NAMED_MAX {
        named.push(format!("and {} more", count - NAMED_MAX));
    }
    let databases = if count == 1 { "database" } else { "databases" };
    format!("steps of {count} {databases} failed in a row ({})", named.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, ResourceId};
    use crate::plan::halt::FailedStep;

    fn halt(names: &[&str]) -> Halt {
        let mut halt = Halt::default();
        for name in names {
            let step = FailedStep { resource: ResourceId::new(Kind::Service, "x"), error: "no image".to_owned() };
            halt.failed(&DatabaseId::parse(name).unwrap(), step, 2, 1000);
        }
        halt
    }

    #[test]
    fn a_halt_says_who_failed_since_when_and_what_to_do() {
        assert_eq!(condition(&halt(&["a"])), None);
        let found = condition(&halt(&["a", "b", "c", "d", "e"])).unwrap();
        assert_eq!(found.kind, ConditionType::Halted);
        for part in ["5 databases", "a: service::x: no image", "and 2 more", "1970-01-01T00:00:01"] {
            assert!(found.message.contains(part), "{part}: {}", found.message);
        }
        assert!(!found.message.contains("d: "), "{}", found.message);
        assert!(found.hint.unwrap().contains("pgmoor resume"));
    }

    #[test]
    fn those_concerned_hear_of_it() {
        let fleet = FleetId::parse("edge").unwrap();
        let told = events(&fleet, &halt(&["a", "b"]), EventType::FleetHalted, Time::from_ms(7));
        let ids: Vec<_> = told.iter().map(|(database, event)| (database.as_str(), event.id.as_str())).collect();
        assert_eq!(ids, [("a", "7-halted"), ("b", "7-halted")]);
        assert!(told[0].1.data.message.contains("pgmoor resume"));
    }
}
