//! What can be typed: one struct for each subcommand. What they mean for the world stands in the other files.

mod broker;
mod host;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

pub use broker::{Bridge, BrokerCommand, BrokerInit, BrokerUsers, Passwd};
pub use host::{HostCommand, HostJoin, HostNamed, HostRemove, HostToken, Hosts};

use crate::model::{DatabaseId, NodeName};

/// How answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON; where it follows something, one document a line.
    Json,
    /// YAML; where it follows something, documents begin with `---`.
    Yaml,
}

/// How the answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// How the answer looks
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
}

/// A spec, and the database that it is for.
#[derive(Debug, Clone, Args)]
pub struct SpecFile {
    /// The spec, JSON; `-` reads standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The id of the database [default: the file's name without its ending]
    #[arg(long, value_name = "ID")]
    pub database: Option<DatabaseId>,
}

/// What the command line can do besides `serve`.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Say everything that is wrong with a spec, without asking anyone
    Validate(Validate),
    /// Show what a spec would change, and change nothing (exit code 2: there are changes)
    Plan(Plan),
    /// Publish a spec: it is what shall be from now on
    Apply(Apply),
    /// Approve of what a database's plan interrupts (restarts, replaced containers, its end), by the digest of the plan
    Approve(Approve),
    /// Show how databases stand
    Status(Status),
    /// Say why a database is as it is, and what to do; also when the daemon is dead (exit code 2: not all is well)
    Explain(Explain),
    /// Delete a database; its data stays in the trash of its host for a while
    Delete(Delete),
    /// Show the hosts of the fleet: what they have, and whether they can work
    Hosts(Hosts),
    /// Go on after a halt: steps of too many databases failed in a row, and nothing new begins
    Resume(Resume),
    /// Bring a deleted database back from the trash, with its rows and passwords
    Undelete(Undelete),
    /// Remove a deleted database for good, now; its id is free then
    Purge(Purge),
    /// Do deletes that are held, since too many databases were deleted at once
    ConfirmDelete(ConfirmDelete),
    /// Show the last accepted specs and finished plans of a database
    History(History),
    /// Show what differs between two accepted specs of a database; secrets are hidden
    Diff(Diff),
    /// Go back to an accepted spec: it is published again, as a new generation
    Rollback(Rollback),
    /// Print how to connect to a database of this host
    Connection(Connection),
    /// Open psql on a database of this host
    Psql(Psql),
    /// Follow what happens
    Events(Events),
    /// Look at everything that pgmoor stands on (Docker, Swarm, images, names, ports, clock, disks, store, broker)
    Doctor(Doctor),
    /// Write a support bundle: specs, plans, states, logs and versions in one file, without secrets
    Report(Report),
    /// Make the decisions of a support bundle again, and show what follows (exit code 2: one comes out otherwise)
    Replay(Replay),
    /// Print the JSON Schema of a document; without KIND, list the kinds
    Schema(Schema),
    /// Print the completions of a shell
    Completions(Completions),
    /// Let a new host into the fleet; leave a host, use it again, take it out
    #[command(subcommand)]
    Host(HostCommand),
    /// Help with brokers
    #[command(subcommand)]
    Broker(BrokerCommand),
}

/// `pgmoor validate`
#[derive(Debug, Clone, Args)]
pub struct Validate {
    /// What is judged.
    #[command(flatten)]
    pub spec: SpecFile,
    /// How the verdict is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor plan`
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// What is planned.
    #[command(flatten)]
    pub spec: SpecFile,
    /// Ask no daemon: plan for a world in which nothing exists yet
    #[arg(long)]
    pub offline: bool,
    /// How long to wait for the answer, such as 30s or 2m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
    /// How the plan is printed.
    #[command(flatten)]
    pub output: Output,
}

/// How long to wait until something is done.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Wait until it is done, and show what happens meanwhile
    #[arg(short = 'w', long)]
    pub wait: bool,
    /// How long to wait, such as 90s, 10m or 1h
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m", requires = "wait")]
    pub timeout: Duration,
}

/// `pgmoor apply`
#[derive(Debug, Clone, Args)]
pub struct Apply {
    /// What is published, byte for byte.
    #[command(flatten)]
    pub spec: SpecFile,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: Wait,
    /// How the outcome is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor resume`
#[derive(Debug, Clone, Args)]
pub struct Resume {
    /// How long to wait for the answer, such as 30s or 2m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
    /// How the answer is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor approve`
#[derive(Debug, Clone, Args)]
pub struct Approve {
    /// The database
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// The digest that `pgmoor plan`, `pgmoor status` and the plan's topic show, or its first twelve digits
    #[arg(value_name = "DIGEST")]
    pub digest: String,
    /// How long to wait for the answer, such as 30s or 2m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
    /// How the answer is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor status`
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// One database in detail; all of them in a line each without it
    #[arg(value_name = "DATABASE")]
    pub database: Option<DatabaseId>,
    /// Go on, and print each change
    #[arg(short = 'w', long)]
    pub watch: bool,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor explain`
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// The database
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// How the answer is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor delete`
#[derive(Debug, Clone, Args)]
pub struct Delete {
    /// The database
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// Do not ask
    #[arg(short = 'y', long)]
    pub yes: bool,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: Wait,
    /// How the outcome is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor undelete`
#[derive(Debug, Clone, Args)]
pub struct Undelete {
    /// The database
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// Whether to wait until it is available.
    #[command(flatten)]
    pub wait: Wait,
    /// How the outcome is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor purge`
#[derive(Debug, Clone, Args)]
pub struct Purge {
    /// The database
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// Do not ask
    #[arg(short = 'y', long)]
    pub yes: bool,
    /// How long to wait until it is gone, such as 30s or 2m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2m")]
    pub timeout: Duration,
    /// How the outcome is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor confirm-delete`
#[derive(Debug, Clone, Args)]
pub struct ConfirmDelete {
    /// The databases
    #[arg(value_name = "DATABASE", required_unless_present = "all")]
    pub databases: Vec<DatabaseId>,
    /// Every delete of the fleet that is held
    #[arg(long, conflicts_with = "databases")]
    pub all: bool,
    /// How the outcome is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor history`
#[derive(Debug, Clone, Args)]
pub struct History {
    /// The database, living or in the trash
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor diff`
#[derive(Debug, Clone, Args)]
pub struct Diff {
    /// The database
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// The older spec: its generation; of specs without one, its number in the history
    #[arg(value_name = "A")]
    pub from: u64,
    /// The newer spec
    #[arg(value_name = "B")]
    pub to: u64,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor rollback`
#[derive(Debug, Clone, Args)]
pub struct Rollback {
    /// The database
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// The spec to go back to: its generation; of specs without one, its number in the history
    #[arg(long, value_name = "GENERATION")]
    pub to: u64,
    /// Whether to wait until it is applied.
    #[command(flatten)]
    pub wait: Wait,
    /// How the outcome is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor connection`
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// The database
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// The node, where the database has several [default: the first]
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,
    /// The user to log in as [default: the owner]
    #[arg(long, short = 'U', value_name = "NAME")]
    pub user: Option<String>,
    /// Put the password into the answer
    #[arg(long)]
    pub show_password: bool,
    /// How it is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor psql`
#[derive(Debug, Clone, Args)]
pub struct Psql {
    /// The database
    #[arg(value_name = "DATABASE")]
    pub database: DatabaseId,
    /// The node, where the database has several [default: the first]
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,
    /// The user to log in as [default: the owner]
    #[arg(long, short = 'U', value_name = "NAME")]
    pub user: Option<String>,
    /// Arguments for psql itself
    #[arg(last = true, value_name = "PSQL ARGUMENTS")]
    pub arguments: Vec<OsString>,
}

/// `pgmoor events`
#[derive(Debug, Clone, Args)]
pub struct Events {
    /// One database; all of them without it
    #[arg(value_name = "DATABASE")]
    pub database: Option<DatabaseId>,
    /// How they are printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor doctor`
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// How the report is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor report`
#[derive(Debug, Clone, Args)]
pub struct Report {
    /// The databases it is about; all of them without one
    #[arg(value_name = "DATABASE")]
    pub databases: Vec<DatabaseId>,
    /// The file to write, tar.gz [default: pgmoor-FLEET-TIME.tar.gz]
    #[arg(short = 'o', long = "output", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// The daemon's log [default: what systemd's journal has of pgmoor.service]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log_file: Option<PathBuf>,
}

/// `pgmoor replay`
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// What `pgmoor report` wrote
    #[arg(value_name = "BUNDLE", value_hint = ValueHint::FilePath)]
    pub bundle: PathBuf,
    /// How the answer is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor schema`
#[derive(Debug, Clone, Args)]
pub struct Schema {
    /// The kind of document, such as database-spec or status
    #[arg(value_name = "KIND")]
    pub kind: Option<String>,
}

/// `pgmoor completions`
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// The longest that anything waits: a day. What takes longer is not waited for at a terminal.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// `90s`, `10m`, `1h`, or a bare number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit_s = match text.strip_prefix(digits) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        Some(_) | None => return Err("write a number and s, m or h, such as 90s".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number and s, m or h, such as 90s".to_owned())?;
    let duration = Duration::from_secs(number.saturating_mul(unit_s));
    if duration.is_zero() || duration > DURATION_MAX {
        return Err("it is between 1s and 24h".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("1", 1), ("90s", 90), ("10m", 600), ("24h", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "0", "25h", "1d", "-1s", "1.5s", "m10", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
