//! Postgres' own parameters, by major version: which there are, and which values each takes.
//!
//! Why they are known here: Patroni takes a parameter that Postgres does not know, or a value that it cannot read, out of
//! the configuration, and moves a number into its range, with a line in its own log and nowhere else. A spec with such a
//! parameter would be accepted and ignored.
//!
//! Invariants: what is taken here, Patroni takes as it stands; a message repeats no value. Of a major version without a
//! table, and of parameters of extensions (`pgaudit.log`), nothing is known, so nothing is said.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::super::super::nearest;

/// `pg_settings` of PostgreSQL 17, without what nobody can set.
const POSTGRES_17: &str = include_str!("postgres-17.tsv");

static TABLES: LazyLock<BTreeMap<&str, BTreeMap<&str, Kind>>> = LazyLock::new(|| [("17", table(POSTGRES_17))].into());

/// What is wrong with a parameter, and what may be meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: String,
}

/// The values that a parameter takes.
enum Kind {
    Bool,
    /// One of these words, in any case.
    Words(Vec<&'static str>),
    Number(Range),
    /// Postgres' own code judges it.
    Text,
}

struct Range {
    whole: bool,
    /// The unit of a number without one, with its count of pages: `8kB`.
    unit: &'static str,
    least: &'static str,
    most: &'static str,
}

fn table(text: &'static str) -> BTreeMap<&'static str, Kind> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect()
}

fn row(line: &'static str) -> Option<(&'static str, Kind)> {
    let mut columns = line.split('\t');
    let (name, kind) = (columns.next()?, columns.next()?);
    let (unit, least, most, words) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let kind = match kind {
        "bool" => Kind::Bool,
        "enum" => Kind::Words(words.split(',').collect()),
        "integer" | "real" => Kind::Number(Range { whole: kind == "integer", unit, least, most }),
        _ => Kind::Text,
    };
    Some((name, kind))
}

/// What is wrong with `lower = value` in this major version. `lower` is in lower case.
pub(super) fn wrong(major: &str, lower: &str, value: &str) -> Option<Wrong> {
    let table = TABLES.get(major).filter(|_| !lower.contains('.'))?;
    let Some(kind) = table.get(lower) else {
        let hint = match nearest(lower, table.keys().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "leave it out; a parameter of an extension has the extension's name before a dot".to_owned(),
        };
        return Some(Wrong { message: format!("PostgreSQL {major} has no such parameter that can be set"), hint });
    };
    let wrong = |message: &str, hint: String| Some(Wrong { message: message.to_owned(), hint });
    match kind {
        Kind::Text => None,
        Kind::Bool if is_bool(value) => None,
        Kind::Bool => wrong("it is true or false", "write true or false".to_owned()),
        Kind::Words(words) => {
            let is_one = words.iter().any(|word| word.eq_ignore_ascii_case(value));
            let may_be_bool = words.contains(&"on") || words.contains(&"off");
            let fits = is_one || may_be_bool && is_bool(value);
            if fits { None } else { wrong("it is not one of its words", format!("one of {}", words.join(", "))) }
        }
        Kind::Number(range) if range.holds(value.trim()) => None,
        Kind::Number(range) => {
            let message =
                if range.whole { "it is not a whole number that fits" } else { "it is not a number that fits" };
            wrong(message, range.hint())
        }
    }
}

/// The words that Patroni reads as a boolean; Postgres reads more.
fn is_bool(value: &str) -> bool {
    ["on", "off", "true", "false", "yes", "no", "1", "0"].iter().any(|word| word.eq_ignore_ascii_case(value))
}

impl Range {
    fn holds(&self, value: &str) -> bool {
        let (Some(number), Ok(least), Ok(most)) =
            (number(value, self.unit), self.least.parse::<f64>(), self.most.parse::<f64>())
        else {
            return false;
        };
        let number = if self.whole { number.round() } else { number };
        (least..=most).contains(&number)
    }

    fn hint(&self) -> String {
        let Self { unit, least, most, .. } = self;
        match units(unit) {
            [] => format!("from {least} to {most}"),
            units => {
                let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
                format!("from {least} to {most}, counted in {unit}; or with a unit: {}", names.join(", "))
            }
        }
    }
}

/// Units of memory, in bytes.
const MEMORY: [(&str, f64); 5] =
    [("B", 1.0), ("kB", 1024.0), ("MB", 1_048_576.0), ("GB", 1_073_741_824.0), ("TB", 1_099_511_627_776.0)];
/// Units of time, in milliseconds.
const TIME: [(&str, f64); 6] =
    [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("min", 60_000.0), ("h", 3_600_000.0), ("d", 86_400_000.0)];

/// The units that a number in this base unit may have.
fn units(base: &str) -> &'static [(&'static str, f64)] {
    let plain = base.trim_start_matches(|c: char| c.is_ascii_digit());
    [&MEMORY[..], &TIME[..]].into_iter().find(|units| units.iter().any(|(name, _)| *name == plain)).unwrap_or(&[])
}

/// The number in the base unit. None when it is no number, or its unit is not one of this parameter's.
pub(super) fn number(value: &str, base: &str) -> Option<f64> {
    let end = value.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-' | 'e' | 'E')).unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Some(number);
    }
    let (_, factor) = units(base).iter().find(|(name, _)| *name == unit)?;
    let plain = base.trim_start_matches(|c: char| c.is_ascii_digit());
    let (_, of_base) = units(base).iter().find(|(name, _)| *name == plain)?;
    let count: f64 =
        base.strip_suffix(plain).filter(|count| !count.is_empty()).map_or(Some(1.0), |n| n.parse().ok())?;
    Some(number * factor / (of_base * count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_read() {
        let rows = POSTGRES_17.lines().filter(|line| !line.starts_with('#')).count();
        let table = &TABLES["17"];
        assert_eq!(table.len(), rows);
        assert!(rows > 300, "{rows}");
        for (name, kind) in table {
            assert_eq!(*name, name.to_ascii_lowercase());
            match kind {
                Kind::Number(range) => {
                    assert!(range.holds(range.least) && range.holds(range.most), "{name}");
                    assert!(range.unit.is_empty() || !units(range.unit).is_empty(), "{name}: {}", range.unit);
                }
                Kind::Words(words) => assert!(words.len() > 1, "{name}"),
                Kind::Bool | Kind::Text => {}
            }
        }
    }

    #[test]
    fn what_patroni_takes_as_it_stands_is_taken() {
        for (name, value) in [
            ("work_mem", "4MB"),
            ("work_mem", "64"),
            ("work_mem", " 1.5 GB "),
            ("shared_buffers", "128kB"),
            ("statement_timeout", "0"),
            ("statement_timeout", "1d"),
            ("log_min_duration_statement", "-1"),
            ("max_connections", "1e3"),
            ("random_page_cost", "1.1"),
            ("vacuum_cost_delay", "500us"),
            ("autovacuum", "Off"),
            ("synchronous_commit", "true"),
            ("synchronous_commit", "remote_apply"),
            ("wal_level", "logical"),
            ("timezone", "UTC"),
            ("log_line_prefix", "%m "),
            ("pgaudit.log", "anything"),
        ] {
            assert_eq!(wrong("17", name, value), None, "{name} = {value}");
        }
        assert_eq!(wrong("16", "nosuch", "1"), None, "no table, no word");
    }

    #[test]
    fn what_patroni_would_drop_or_change_is_not() {
        for (name, value, says) in [
            ("work_memm", "4MB", "did you mean \"work_mem\"?"),
            ("block_size", "8192", "leave it out"),
            ("work_mem", "lots", "counted in kB"),
            ("work_mem", "32", "from 64 to"),
            ("work_mem", "4mb", "with a unit: B, kB, MB, GB, TB"),
            ("work_mem", "4 s", "counted in kB"),
            ("max_connections", "300000", "to 262143"),
            ("max_connections", "100 MB", "from 1 to 262143"),
            ("max_connections", "", "from 1"),
            ("random_page_cost", "NaN", "from 0"),
            ("random_page_cost", "-1", "from 0"),
            ("autovacuum", "t", "true or false"),
            ("synchronous_commit", "maybe", "remote_apply"),
            ("jit", "2", "true or false"),
        ] {
            let wrong = wrong("17", name, value).unwrap_or_else(|| panic!("{name} = {value}"));
            assert!(wrong.hint.contains(says), "{name} = {value}: {}", wrong.hint);
            assert!(value.len() < 3 || !wrong.message.contains(value), "{}", wrong.message);
        }
    }
}
