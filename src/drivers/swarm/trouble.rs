//! Why a service does not come up, from what Swarm tells of its tasks; and the last words of a container, without
//! what may be secret.
//!
//! Invariant: pure. A line of a log that names a password, a verifier or a statement is never passed on.

use super::TaskSeen;

/// How long Swarm may say that no node is suitable before it is believed: after an update it says so of the port and the
/// memory that the old container has only just given back.
const NO_NODE_GRACE_MS: i64 = 15_000;

/// What keeps a service from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskTrouble {
    /// Docker's word for the state that the task is in.
    pub state: String,
    /// Docker's error.
    pub error: String,
    /// The container that failed, if there was one: its log may say more.
    pub container: Option<String>,
    /// When the task came into this state: milliseconds since 1970.
    pub since_ms: i64,
}

impl TaskTrouble {
    /// Whether waiting helps, at `now_ms`, only when somebody mends something: Swarm does not try the same again with
    /// another end.
    #[must_use]
    pub fn is_final(&self, now_ms: i64) -> bool {
        let waited_ms = now_ms.saturating_sub(self.since_ms);
        let no_node = self.error.contains("no suitable node") && waited_ms > NO_NODE_GRACE_MS;
        self.state == "rejected" || self.error.contains("No such image") || no_node
    }
}

/// The error that matters now, of the tasks of one service, newest first: that of the newest task, or while that is on
/// its way, of the one before it that failed at `since_ms` (milliseconds since 1970) or later. Older errors belong to
/// an earlier description of the service. None while nothing is wrong.
#[must_use]
pub fn last_trouble(tasks: &[TaskSeen], since_ms: i64) -> Option<TaskTrouble> {
    let newest = tasks.first()?;
    let recent = |task: &&TaskSeen| task.error.is_some() && task.since_ms >= since_ms;
    let told = if newest.error.is_some() { Some(newest) } else { tasks.iter().find(recent) };
    told.map(|task| TaskTrouble {
        state: task.state.clone(),
        error: task.error.as_deref().map(steady).unwrap_or_default(),
        container: task.container.clone(),
        since_ms: task.since_ms,
    })
}

/// The error without what differs from one attempt to the next: the name and the id of a task's endpoint.
fn steady(error: &str) -> String {
    let endpoint = error.split_once(" on endpoint ");
    let rest = endpoint.and_then(|(before, rest)| Some((before, rest.split_once("): ")?.1)));
    rest.map_or_else(|| error.to_owned(), |(before, after)| format!("{before}: {after}"))
}

/// The longest piece of a line that is passed on, in characters.
const LINE_CHARS_MAX: usize = 200;
/// Words of lines that say what went wrong, in the logs of Patroni, Postgres, etcd and of shells.
const TELLING: [&str; 8] = ["FATAL", "PANIC", "CRITICAL", "ERROR", "Error", "error", "cannot", "failed"];
/// Words of lines that may hold a secret: whole statements, passwords, verifiers, keys.
const SECRETIVE: [&str; 9] =
    ["statement:", "query:", "detail:", "context:", "passw", "secret", "scram-sha-256$", "private key", "://"];

/// The last lines of a log that say what went wrong, at most `lines_max`, oldest first; when none does, the last lines
/// as they are. Lines that may hold a secret are left out.
#[must_use]
pub fn last_words(log: &[String], lines_max: usize) -> Vec<String> {
    let safe: Vec<String> = log
        .iter()
        .map(|line| line.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect::<String>())
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty() && !secretive(line))
        .collect();
    let telling: Vec<&String> = safe.iter().filter(|line| TELLING.iter().any(|word| line.contains(word))).collect();
    let chosen = if telling.is_empty() { safe.iter().collect() } else { telling };
    chosen.iter().skip(chosen.len().saturating_sub(lines_max)).map(|line| (*line).clone()).collect()
}

fn secretive(line: &str) -> bool {
    // Postgres' own sentence about a refused login holds a role's name and nothing else.
    let line = line.to_lowercase().replace("password authentication failed", "");
    SECRETIVE.iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(state: &str, error: Option<&str>, since_ms: i64) -> TaskSeen {
        TaskSeen {
            id: "t".to_owned(),
            state: state.to_owned(),
            desired_state: "running".to_owned(),
            message: String::new(),
            error: error.map(str::to_owned),
            container: error.map(|_| "c0ffee".to_owned()),
            swarm_node: None,
            since_ms,
        }
    }

    #[test]
    fn the_newest_error_counts_and_an_old_one_does_not() {
        let says = |tasks: &[TaskSeen]| last_trouble(tasks, 100).map(|trouble| trouble.error);
        assert_eq!(says(&[]), None);
        assert_eq!(says(&[task("starting", None, 200)]), None);
        let image = Some("No such image: x");
        assert_eq!(says(&[task("rejected", image, 1)]).as_deref(), image, "the newest counts whenever it was");
        let exit = Some("task: non-zero exit (1)");
        assert_eq!(says(&[task("starting", None, 300), task("failed", exit, 200)]).as_deref(), exit);
        assert_eq!(says(&[task("starting", None, 300), task("failed", exit, 99)]), None, "of an earlier service");
    }

    #[test]
    fn an_error_is_the_same_at_each_attempt() {
        let error = |task: &str, id: &str| {
            format!(
                "starting container failed: driver failed programming external connectivity on endpoint {task} ({id}): \
                 Error starting userland proxy: listen tcp4 0.0.0.0:45991: bind: address already in use"
            )
        };
        let steady = steady(&error("x.1.9rxbqsf6v", "c9036b4c843e"));
        assert_eq!(steady, super::steady(&error("x.1.q7rogdoy2", "84e31138945f")));
        assert!(steady.ends_with(
            "connectivity: Error starting userland proxy: listen tcp4 0.0.0.0:45991: bind: address already in use"
        ));
        assert_eq!(super::steady("No such image: a on endpoint b"), "No such image: a on endpoint b");
    }

    #[test]
    fn only_what_somebody_must_mend_is_final() {
        let late = 1 + NO_NODE_GRACE_MS + 1;
        let at = |state: &str, error: &str, now| last_trouble(&[task(state, Some(error), 1)], 0).unwrap().is_final(now);
        let of = |state: &str, error: &str| at(state, error, late);
        assert!(!at("pending", "no suitable node (host-mode port already in use on 1 node)", 2), "it may be freed");
        assert!(of("rejected", "No such image: x"));
        assert!(of("pending", "no suitable node (insufficient resources on 1 node)"));
        assert!(!of("failed", "task: non-zero exit (1)"));
        assert!(!of("failed", "starting container failed: … bind: address already in use"), "Swarm tries again");
    }

    #[test]
    fn the_last_words_hold_what_went_wrong_and_no_secret() {
        let log = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let lines = log(&[
            "INFO: no action",
            "FATAL:  could not open file \"x\": Permission denied",
            "STATEMENT:  ALTER ROLE a PASSWORD 'geheim'",
            "ERROR: connect to postgres://app:geheim@host/x failed",
            "FATAL:  password authentication failed for user \"app\"",
            "LOG:  database system is shut down\u{1b}[0m",
        ]);
        let expected = [
            "FATAL:  could not open file \"x\": Permission denied",
            "FATAL:  password authentication failed for user \"app\"",
        ];
        assert_eq!(last_words(&lines, 3), expected);
        assert_eq!(last_words(&lines, 1), expected[1..]);
        assert_eq!(last_words(&log(&["one", "", "two", "pgpass=x PASSWORD"]), 5), ["one", "two"]);
        assert_eq!(last_words(&log(&[&"x".repeat(900)]), 1)[0].chars().count(), LINE_CHARS_MAX);
    }
}
