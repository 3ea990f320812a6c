//! What is remembered of drift.

use super::world::{Shop, World, id};
use crate::model::{Attributes, Kind};
use crate::plan::drift::{FIGHT_PAUSE_MAX_MS, FIGHT_TIMES, FIGHT_WINDOW_MS, Look, Memory, News};

const YEAR_MS: i64 = 365 * 24 * 3_600_000;

/// A settled world, and the same after somebody has altered a role.
fn worlds() -> (World, World) {
    let settled = World::settled(Shop::default().graph());
    let drifted = settled.clone().change(&id(Kind::Role, "app"), |present| {
        if let Attributes::Role(role) = &mut present.attributes {
            role.flags.createdb = true;
        }
    });
    (settled, drifted)
}

fn take(memory: &mut Memory, world: &World, now_ms: i64) -> Vec<News> {
    memory.take(Look { desired: &world.desired, plan: &world.plan(), now_ms, repairs: true })
}

#[test]
fn a_clock_that_was_set_back_makes_no_fight_endless() {
    let ((settled, drifted), mut memory, mut now_ms) = (worlds(), Memory::default(), YEAR_MS);
    take(&mut memory, &settled, now_ms);
    for _ in 0..FIGHT_TIMES {
        take(&mut memory, &drifted, now_ms);
        now_ms += 1000;
        assert!(memory.held_until_ms(&id(Kind::Role, "app")).is_none_or(|until_ms| until_ms > now_ms));
        if memory.fights().count() == 0 {
            take(&mut memory, &settled, now_ms);
        }
    }
    let held = |memory: &Memory| memory.held_until_ms(&id(Kind::Role, "app")).unwrap();
    assert!(held(&memory) > now_ms, "the repair waits");
    now_ms -= YEAR_MS;
    assert_eq!(take(&mut memory, &drifted, now_ms), []);
    assert!((now_ms..=now_ms + FIGHT_PAUSE_MAX_MS).contains(&held(&memory)), "no longer than the longest pause");
    take(&mut memory, &settled, now_ms);
    take(&mut memory, &settled, now_ms + FIGHT_WINDOW_MS);
    assert_eq!(memory.fights().count(), 0, "ten quiet minutes end it");
}
