//! How databases stand, as text: a table of all, one in detail, and a line for each change.

use std::fmt::Write as _;

use super::super::output::{Colour, Style, plain};
use super::faults;
use crate::contract::documents::{
    Condition, ConditionStatus, ConditionType, Event, HealthDoc, InstanceSummary, Role, State, Status, Time,
    VerdictResult,
};
use crate::model::Health;

/// What is known of one database.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Row {
    pub(in crate::cli) status: Status,
    pub(in crate::cli) health: Option<HealthDoc>,
}

impl Row {
    /// Health counts for as long as it says; later nobody knows.
    fn health(&self, now: Time) -> Health {
        match &self.health {
            Some(document) if now.ms() <= counts_until_ms(document) => document.health,
            Some(_) | None => Health::Unknown,
        }
    }
}

/// Until when health counts.
pub(super) fn counts_until_ms(document: &HealthDoc) -> i64 {
    document.checked_at.ms().saturating_add(i64::from(document.valid_for_s).saturating_mul(1000))
}

/// All databases, a line each, with a head.
pub(in crate::cli) fn table(rows: &[Row], now: Time, style: Style) -> String {
    let head = ["DATABASE", "STATE", "HEALTH", "GENERATION", "AGE", "MESSAGE"].map(str::to_owned);
    let cells: Vec<[String; 6]> = rows.iter().map(|row| cells(row, now)).collect();
    lines(&head, &cells, style, |at, column, cell| match (column, rows.get(at)) {
        (1, Some(row)) => style.paint(colour_of_state(row.status.state), &cell),
        (2, Some(row)) => style.paint(colour_of_health(row.health(now)), &cell),
        _ => cell,
    })
}

/// A table: a head and lines, each column as wide as its widest cell. `paint` gets line, column and cell.
pub(super) fn lines<const COLUMNS: usize>(
    head: &[String; COLUMNS],
    cells: &[[String; COLUMNS]],
    style: Style,
    paint: impl Fn(usize, usize, String) -> String,
) -> String {
    let width = |column: usize| {
        let lines = std::iter::once(head).chain(cells);
        lines.filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let mut text = aligned(head, &widths, |_, cell| style.paint(Colour::Bold, &cell));
    for (row, line) in cells.iter().enumerate() {
        text.push_str(&aligned(line, &widths, |column, cell| paint(row, column, cell)));
    }
    text
}

fn cells(row: &Row, now: Time) -> [String; 6] {
    let status = &row.status;
    let generation = status.observed.as_ref().and_then(|observed| observed.generation);
    let ready = condition(status, ConditionType::Ready);
    let since = ready.map_or(status.updated_at, |ready| ready.since);
    [
        status.database.to_string(),
        state_word(status.state).to_owned(),
        health(row.health(now)).to_owned(),
        generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
        age(since, now),
        message(status),
    ]
}

/// The cells of a line at their columns; the last is not filled up.
fn aligned(cells: &[String], widths: &[usize], paint: impl Fn(usize, String) -> String) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let fill = width.saturating_sub(cell.chars().count());
        line.push_str(&paint(column, cell.clone()));
        if column + 1 < cells.len() {
            line.push_str(&" ".repeat(fill + 2));
        }
    }
    format!("{}\n", line.trim_end())
}

/// What is to be said in a line: why the last spec was refused, else why the database is as it is.
fn message(status: &Status) -> String {
    let ready = condition(status, ConditionType::Ready).map(|ready| plain(&ready.message)).unwrap_or_default();
    match &status.verdict {
        Some(verdict) if verdict.result == VerdictResult::Rejected => {
            let count = verdict.faults.len();
            let refused =
                format!("the last spec was rejected ({count} {})", if count == 1 { "fault" } else { "faults" });
            if ready.is_empty() { refused } else { format!("{refused}; {ready}") }
        }
        Some(_) | None => ready,
    }
}

fn condition(status: &Status, kind: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
}

/// One database with all that its status says.
pub(in crate::cli) fn details(row: &Row, now: Time, style: Style) -> String {
    let status = &row.status;
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{name:<12}{value}");
    };
    field("database", status.database.as_str());
    field("state", &style.paint(colour_of_state(status.state), state_word(status.state)));
    let seen = row.health(now);
    let why = row.health.as_ref().and_then(|document| document.reason.as_deref());
    let why = why.map(|why| format!(" ({})", plain(why))).unwrap_or_default();
    field("health", &format!("{}{why}", style.paint(colour_of_health(seen), health(seen))));
    if let Some(observed) = &status.observed {
        let generation = observed.generation.map(|number| format!("generation {number}, ")).unwrap_or_default();
        let token = observed.client_token.as_deref().map(|token| format!(", token {}", plain(token)));
        field("observed", &format!("{generation}digest {}{}", observed.digest.short(), token.unwrap_or_default()));
    }
    if let Some(connection) = &status.connection {
        if connection.nodes.is_empty() {
            field("connect", &plain(&connection.uri));
        }
        for node in &connection.nodes {
            field("connect", &format!("{} {}", node.node, plain(&node.uri)));
        }
        if let Some(network) = &connection.network {
            field("network", &plain(network));
        }
    }
    field("updated", &format!("{} ({} ago)", status.updated_at, age(status.updated_at, now)));
    if let Some(verdict) = status.verdict.as_ref().filter(|verdict| verdict.result == VerdictResult::Rejected) {
        let head = format!("the spec {} was rejected at {}:", verdict.digest.short(), verdict.at);
        let _infallible = write!(text, "\n{}\n{}", style.paint(Colour::Red, &head), faults(&verdict.faults, style));
    }
    if !status.conditions.is_empty() {
        text.push_str("\nconditions:\n");
        let mut hinted: Vec<&str> = Vec::new();
        for condition in &status.conditions {
            text.push_str(&condition_line(condition, now));
            // Several conditions may have one cause: what to do about it stands once.
            if let Some(hint) = condition.hint.as_deref().filter(|hint| !hinted.contains(hint)) {
                hinted.push(hint);
                text.push_str(&format!("    what to do: {}\n", style.paint(Colour::Bold, &plain(hint))));
            }
        }
    }
    if !status.instances.is_empty() {
        text.push_str("\ninstances:\n");
        for instance in &status.instances {
            text.push_str(&instance_line(instance, style));
        }
    }
    for placement in &status.placement {
        text.push_str(&format!("\nhosts chosen for {}:\n", placement.node));
        for placed in &placement.hosts {
            text.push_str(&format!("  {}: {}\n", placed.host, plain(&placed.reason)));
        }
    }
    text
}

fn condition_line(condition: &Condition, now: Time) -> String {
    let status = match condition.status {
        ConditionStatus::True => "true",
        ConditionStatus::False => "false",
        ConditionStatus::Unknown => "unknown",
    };
    format!(
        "  {:<18} {status:<8} {:>4}  {}: {}\n",
        format!("{:?}", condition.kind),
        age(condition.since, now),
        plain(&condition.reason),
        plain(&condition.message)
    )
}

fn instance_line(instance: &InstanceSummary, style: Style) -> String {
    let role = match instance.role {
        Some(Role::Primary) => "primary",
        Some(Role::Replica) => "replica",
        None => "-",
    };
    let version = instance.postgres_version.as_deref().map(plain).unwrap_or_default();
    let seen = style.paint(colour_of_health(instance.health), &format!("{:<9}", health(instance.health)));
    let line = format!("  {}  {}  {}  {role:<8} {seen} {version}", instance.instance, instance.node, instance.host);
    format!("{}\n", line.trim_end())
}

/// A line for a changed status: when, which, how, why.
pub(in crate::cli) fn change(row: &Row, now: Time, style: Style) -> String {
    let status = &row.status;
    let seen = row.health(now);
    let line = format!(
        "{}  {}  {}  {}  {}",
        clock(status.updated_at),
        status.database,
        style.paint(colour_of_state(status.state), state_word(status.state)),
        style.paint(colour_of_health(seen), health(seen)),
        message(status)
    );
    format!("{}\n", line.trim_end())
}

/// When, and in which state for which reason: what somebody who waits is told.
pub(in crate::cli) fn progress(status: &Status) -> (String, String) {
    let waiting = [ConditionType::ApprovalNeeded, ConditionType::Stalled, ConditionType::Waiting]
        .into_iter()
        .filter_map(|kind| condition(status, kind))
        .find(|condition| condition.status == ConditionStatus::True);
    let why = waiting.or_else(|| condition(status, ConditionType::Ready)).map(|condition| plain(&condition.message));
    let why = why.filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default();
    (clock(status.updated_at), format!("{}{why}", state_word(status.state)))
}

/// The state of a database in a word.
pub(in crate::cli) fn state(status: &Status) -> &'static str {
    state_word(status.state)
}

/// A line for an event.
pub(in crate::cli) fn event(event: &Event, style: Style) -> String {
    let database = event.source.rsplit('/').next().unwrap_or_default();
    // The type as the contract writes it, without what all types begin with.
    let kind = serde_json::to_value(event.kind).ok().and_then(|value| value.as_str().map(str::to_owned));
    let kind = kind.as_deref().map_or("", |kind| kind.strip_prefix("dev.pgmoor.").unwrap_or(kind)).to_owned();
    let subject = event.subject.as_deref().map(|subject| format!("  {}", plain(subject))).unwrap_or_default();
    let kind = style.paint(Colour::Bold, &kind);
    let mut text =
        format!("{}  {}  {kind}{subject}  {}\n", clock(event.time), plain(database), plain(&event.data.message));
    for line in faults(&event.data.faults, style).lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// The time to the second, UTC.
pub(super) fn clock(time: Time) -> String {
    let text = time.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// How long ago: `5s`, `3m`, `2h`, `4d`.
pub(super) fn age(since: Time, now: Time) -> String {
    let seconds = now.ms().saturating_sub(since.ms()).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400.. => format!("{}d", seconds / 86_400),
        i64::MIN..0 => "0s".to_owned(),
    }
}

fn state_word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Creating => "creating",
        State::Modifying => "modifying",
        State::Available => "available",
        State::Degraded => "degraded",
        State::Stalled => "stalled",
        State::Failed => "failed",
        State::Deleting => "deleting",
        State::Deleted => "deleted",
        State::Rejected => "rejected",
    }
}

pub(super) fn health(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Down => "down",
        Health::Unknown => "unknown",
    }
}

fn colour_of_state(state: State) -> Colour {
    match state {
        State::Available => Colour::Green,
        State::Pending | State::Creating | State::Modifying | State::Deleting | State::Degraded | State::Stalled => {
            Colour::Yellow
        }
        State::Failed | State::Rejected => Colour::Red,
        State::Deleted => Colour::Grey,
    }
}

pub(super) fn colour_of_health(health: Health) -> Colour {
    match health {
        Health::Healthy => Colour::Green,
        Health::Degraded => Colour::Yellow,
        Health::Down => Colour::Red,
        Health::Unknown => Colour::Grey,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: Style = Style { coloured: false };

    fn row(id: &str, state: &str, health: Option<&str>) -> Row {
        let digest = "0".repeat(64);
        let status = json!({
            "database": id, "state": state, "seq": 1, "epoch": 1, "updated_at": "2026-01-01T00:00:00Z",
            "observed": {"generation": 3, "digest": digest, "client_token": "t\u{1b}"},
            "verdict": {"result": "rejected", "digest": digest, "at": "2026-01-01T00:00:00Z",
                        "faults": [{"pointer": "/port", "code": "out-of-range", "message": "too large"}]},
            "conditions": [{"type": "Ready", "status": "true", "reason": "Settled", "message": "as the spec asks",
                            "since": "2026-01-01T00:01:00Z"}],
            "instances": [{"instance": "shop-n1-689qacsi", "node": "n1", "host": "host-1", "role": "primary",
                           "health": "healthy", "postgres_version": "17.11"}],
            "connection": {"hosts": ["192.0.2.1"], "database": "shop", "uri": "postgresql://192.0.2.1/shop",
                           "network": "shop-database", "users": []},
        });
        let health = health.map(|health| {
            serde_json::from_value(json!({
                "health": health, "since": "2026-01-01T00:00:00Z", "checked_at": "2026-01-01T00:02:00Z",
                "valid_for_s": 60, "reason": "one replica is away",
            }))
            .unwrap()
        });
        Row { status: serde_json::from_value(status).unwrap(), health }
    }

    fn at(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    #[test]
    fn the_table_is_aligned_and_old_health_is_unknown() {
        let mut accepted = row("a", "available", Some("healthy"));
        accepted.status.verdict = None;
        let rows = [accepted, row("long-name", "failed", None)];
        let text = table(&rows, at("2026-01-01T00:02:30Z"), PLAIN);
        assert_eq!(
            text,
            "DATABASE   STATE      HEALTH   GENERATION  AGE  MESSAGE\n\
             a          available  healthy  3           1m   as the spec asks\n\
             long-name  failed     unknown  3           1m   the last spec was rejected (1 fault); as the spec asks\n"
        );
        assert!(table(&rows, at("2026-01-01T00:03:01Z"), PLAIN).contains("a          available  unknown"));
    }

    #[test]
    fn details_show_verdict_conditions_and_instances() {
        let text = details(&row("shop", "available", Some("degraded")), at("2026-01-01T00:02:30Z"), PLAIN);
        assert_eq!(
            text,
            "database    shop
state       available
health      degraded (one replica is away)
observed    generation 3, digest 000000000000, token t 
connect     postgresql://192.0.2.1/shop
network     shop-database
updated     2026-01-01T00:00:00.000Z (2m ago)

the spec 000000000000 was rejected at 2026-01-01T00:00:00.000Z:
/port: too large [out-of-range]

conditions:
  Ready              true       1m  Settled: as the spec asks

instances:
  shop-n1-689qacsi  n1  host-1  primary  healthy   17.11
"
        );
    }

    #[test]
    fn changes_and_events_are_a_line() {
        let mut row = row("shop", "creating", None);
        row.status.verdict = None;
        let text = change(&row, at("2026-01-01T00:02:30Z"), PLAIN);
        assert_eq!(text, "2026-01-01T00:00:00Z  shop  creating  unknown  as the spec asks\n");
        let document = json!({
            "specversion": "1.0", "id": "1", "source": "/pgmoor/v1/demo/databases/shop",
            "type": "dev.pgmoor.step.finished", "subject": "network::shop", "time": "2026-01-01T00:00:00.5Z",
            "datacontenttype": "application/json", "data": {"message": "done"},
        });
        let event: Event = serde_json::from_value(document).unwrap();
        let text = super::event(&event, PLAIN);
        assert_eq!(text, "2026-01-01T00:00:00Z  shop  step.finished  network::shop  done\n");
    }

    #[test]
    fn ages_are_short() {
        let zero = Time::from_s(0);
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (200_000, "2d"), (-5, "0s")] {
            assert_eq!(age(zero, Time::from_s(seconds)), text);
        }
    }
}
