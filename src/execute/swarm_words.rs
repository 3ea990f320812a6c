//! Why a service does not run, in Swarm's own words, and the last words of its container where the program ended by itself.

use crate::drivers::swarm::{TaskTrouble, last_trouble, last_words};
use crate::world::World;

/// Lines of a container's log that are read, and that are told.
const LINES_READ: u32 = 60;
const LINES_TOLD: usize = 3;

/// What keeps a service from running, as Swarm has it and as a sentence; errors of tasks that failed before `since_ms`
/// (milliseconds since 1970) belong to an earlier description of it. None while nothing is wrong, or when Swarm does
/// not answer, which the look at the thing itself tells.
pub(super) async fn why_not(world: &World, service: &str, since_ms: i64) -> Option<(TaskTrouble, String)> {
    let tasks = world.drivers.swarm.tasks(service).await.ok()?;
    let trouble = last_trouble(&tasks, since_ms)?;
    let mut words = format!("{service} has no running task; Swarm says {}: {}", trouble.state, trouble.error);
    if let Some(container) = trouble.container.as_ref().filter(|_| trouble.error.contains("non-zero exit")) {
        // Swarm removes old containers; then there is nothing more to say.
        let log = world.drivers.swarm.log(container, LINES_READ).await.unwrap_or_default();
        let last = last_words(&log, LINES_TOLD);
        if !last.is_empty() {
            words.push_str(&format!("; its last words: {}", last.join(" | ")));
        }
    }
    Some((trouble, words))
}
