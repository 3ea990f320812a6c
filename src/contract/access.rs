//! Who may write what at a broker: the access list of a fleet for mosquitto, and the lines of a bridge, both made from the
//! table of topics.
//!
//! Invariants: what the table gives to users is written by publishers, what it gives to pgmoor by controllers and hosts,
//! and nothing by watchers; a host writes under no other host's name; a topic that is added to the table is in the list
//! without further words.

use std::fmt::{self, Write as _};

use super::topics::{Publisher, ROOT, Row, SCHEMAS_LEVEL, TABLE};

/// What stands in front of each access list.
const HEAD: &str = "\
# Access list of one fleet for mosquitto, as `pgmoor broker acl` writes it. A mosquitto that serves several fleets gets
# the lists of all of them in one file, with user names of their own. What no line allows is denied. mosquitto knows no
# groups: every person and every program is a user with a section of its own.
";

/// Users write it, and pgmoor where somebody asked for it.
const SPEC: &str = "databases/{db}/spec";
/// The topics whose host is the one that reads: others write to it.
const ADDRESSED: [&str; 2] = ["hosts/{host}/work", "hosts/{host}/admission"];
/// What a host writes before it is of the fleet.
const JOIN: &str = "hosts/{host}/join";

/// What a user of the broker is to a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Says what shall be: the fleet tool, and people who use the command line.
    Publisher,
    /// pgmoor itself, one user on every host.
    Controller,
    /// pgmoor on one host: the user's name is the host's id.
    Host,
    /// Reads.
    Watcher,
    /// The site's broker, on the central one.
    Bridge,
}

impl Role {
    fn describe(self) -> &'static str {
        match self {
            Self::Publisher => "says what shall be: specs, commands, the inventory. It may not pretend to be pgmoor.",
            Self::Controller => {
                "is pgmoor itself, the same user on every host. It says what is. It writes a spec only where a person \
                 asked\n# for it with `undelete` or `rollback`."
            }
            Self::Host => {
                "is pgmoor on the host of that name. It says what is, about itself under its own name alone. Each host \
                 may\n# lead, so each may report on databases and address work to the others."
            }
            Self::Watcher => {
                "reads. Specs may hold a password that their author put there: list the topics instead of `#` where it\n\
                 # must not see them."
            }
            Self::Bridge => {
                "is the broker of a site that is bridged to this one: wishes go down to it, reports come up."
            }
        }
    }

    /// The filter of what such a user may write of a row, if anything.
    fn writes(self, row: &Row, fleet: &str, name: &str) -> Option<String> {
        let wanted = row.publisher == Publisher::User;
        let allowed = match self {
            Self::Publisher => wanted,
            Self::Controller | Self::Host => !wanted || is_spec(row) || row.pattern == JOIN,
            Self::Watcher => false,
            Self::Bridge => Direction::of(row).is_some_and(|direction| direction != Direction::Down),
        };
        let own = self == Self::Host && !ADDRESSED.contains(&row.pattern);
        allowed.then(|| row.filter(fleet, own.then_some(name)))
    }

    /// The filters of what such a user may read.
    fn reads(self, fleet: &str) -> Vec<String> {
        match self {
            Self::Publisher | Self::Controller | Self::Host | Self::Watcher => {
                vec![format!("{ROOT}/{fleet}/#"), format!("{ROOT}/{SCHEMAS_LEVEL}/#")]
            }
            Self::Bridge => {
                let down = |row: &&Row| Direction::of(row).is_some_and(|direction| direction != Direction::Up);
                TABLE.iter().filter(down).map(|row| row.filter(fleet, None)).collect()
            }
        }
    }
}

/// A user of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name that it logs in with; with client certificates the common name.
    pub name: String,
    /// What it is.
    pub role: Role,
}

impl User {
    /// One user of each role that a small fleet needs.
    #[must_use]
    pub fn usual() -> Vec<Self> {
        let user = |name: &str, role| Self { name: name.to_owned(), role };
        vec![user("publisher", Role::Publisher), user("controller", Role::Controller), user("watcher", Role::Watcher)]
    }
}

/// mosquitto's access list for these users.
#[must_use]
pub fn list(fleet: &str, users: &[User]) -> String {
    let mut text = HEAD.to_owned();
    for User { name, role } in users {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\n# {name} {}\nuser {name}\n", role.describe());
        for filter in role.reads(fleet) {
            let _infallible = writeln!(text, "topic read {filter}");
        }
        for filter in TABLE.iter().filter_map(|row| role.writes(row, fleet, name)) {
            let _infallible = writeln!(text, "topic write {filter}");
        }
    }
    text
}

/// Which way a topic goes over the bridge between a site's broker and the central one, seen from the centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
    Both,
}

impl Direction {
    /// None: the topic is the site's own business.
    fn of(row: &Row) -> Option<Self> {
        match row.publisher {
            // `undelete` and `rollback` publish a spec at the site: the centre must have it too.
            _ if is_spec(row) => Some(Self::Both),
            _ if row.internal => None,
            Publisher::User => Some(Self::Down),
            Publisher::Pgmoor => Some(Self::Up),
        }
    }
}

impl fmt::Display for Direction {
    /// As mosquitto says it, on the site's side.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "in",
            Self::Up => "out",
            Self::Both => "both",
        })
    }
}

/// The `topic` lines of a mosquitto bridge on the site's broker.
#[must_use]
pub fn bridged(fleet: &str) -> String {
    let line = |row: &Row| Direction::of(row).map(|way| format!("topic {} {way} 1\n", row.filter(fleet, None)));
    TABLE.iter().filter_map(line).collect()
}

fn is_spec(row: &Row) -> bool {
    row.pattern == SPEC
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, role: Role) -> User {
        User { name: name.to_owned(), role }
    }

    fn lines<'a>(list: &'a str, start: &str) -> Vec<&'a str> {
        list.lines().filter_map(|line| line.strip_prefix(start)).collect()
    }

    #[test]
    fn every_topic_of_the_contract_has_its_writers() {
        for row in &TABLE {
            let wanted = row.publisher == Publisher::User;
            let may = |role: Role| role.writes(row, "edge", "host-1").is_some();
            assert_eq!(may(Role::Publisher), wanted, "{}", row.pattern);
            assert_eq!(may(Role::Controller), !wanted || [SPEC, JOIN].contains(&row.pattern), "{}", row.pattern);
            assert_eq!(may(Role::Host), may(Role::Controller), "{}", row.pattern);
            assert!(!may(Role::Watcher), "{}", row.pattern);
        }
        for named in [SPEC, JOIN].iter().chain(&ADDRESSED) {
            assert!(TABLE.iter().any(|row| row.pattern == *named), "a renamed topic keeps its rule: {named}");
        }
    }

    #[test]
    fn a_host_writes_under_its_own_name_alone() {
        let list = list("edge", &[user("host-1", Role::Host)]);
        let writes = lines(&list, "topic write ");
        let named = |prefix: &str| writes.iter().filter(|line| line.starts_with(prefix)).copied().collect::<Vec<_>>();
        assert_eq!(
            named("pgmoor/v1/edge/hosts/"),
            [("host-1", "status"), ("+", "work"), ("host-1", "answers"), ("host-1", "join"), ("+", "admission")]
                .map(|(host, last)| format!("pgmoor/v1/edge/hosts/{host}/{last}"))
        );
        assert!(
            named("pgmoor/v1/edge/controllers/").iter().all(|line| line.contains("/controllers/host-1/")),
            "{list}"
        );
        assert_eq!(named("pgmoor/v1/edge/controllers/").len(), 3, "{list}");
    }

    #[test]
    fn a_bridge_carries_wishes_down_and_reports_up() {
        let bridged = bridged("edge");
        for line in [
            "topic pgmoor/v1/edge/databases/+/spec both 1",
            "topic pgmoor/v1/edge/databases/+/commands/+ in 1",
            "topic pgmoor/v1/edge/databases/+/status out 1",
            "topic pgmoor/v1/edge/hosts/+/status out 1",
        ] {
            assert!(bridged.lines().any(|there| there == line), "{line}\n{bridged}");
        }
        assert!(
            !bridged.contains("/work")
                && !bridged.contains("/join")
                && !bridged.contains("/sync")
                && !bridged.contains("/probe"),
            "{bridged}"
        );
        // What the bridge asks of the centre, the centre lets its user do.
        let list = list("edge", &[user("site", Role::Bridge)]);
        for line in bridged.lines() {
            let [_, filter, way, _] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let (reads, writes) = (lines(&list, "topic read "), lines(&list, "topic write "));
            assert_eq!(reads.contains(&filter), way != "out", "{line}");
            assert_eq!(writes.contains(&filter), way != "in", "{line}");
        }
    }
}
