//! Requests: which verbs this build knows, and what their payloads are.
//!
//! Each verb has a row in [`VERBS`] and a variant of [`Command`]. A payload is a JSON document with a schema of its own,
//! judged like a spec: all faults at once, each with its pointer. A message without a payload asks for nothing and is
//! refused: it is how a retained command is taken off the broker, and a `purge` that is cleared must not be done. The
//! exception is `plan`, whose payload is a spec, so that one file serves both `commands/plan` and `spec`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::documents::Approve;
use super::faults::{Code, Fault, sorted};
use super::schema::Kind;
use super::spec::form::Form;
use super::spec::json;
use super::topics::Verb;
use crate::model::{DatabaseId, HostId};

/// A request that this build acts on, with what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// What the plan interrupts may be done.
    Apply(Approve),
    /// What would this spec change? The payload is to be read with [`super::accept`].
    Plan,
    /// Take the database out of the trash.
    Undelete,
    /// Remove what is in the trash now.
    Purge,
    /// Do a delete that is held.
    ConfirmDelete,
    /// Tell what was accepted and done.
    History,
    /// Tell what differs between two accepted specs.
    Diff(DiffRequest),
    /// Tell how a plan came about.
    Decision(DecisionRequest),
    /// Go back to an accepted spec.
    Rollback(RollbackRequest),
}

/// The payload of verbs that take nothing: `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The payload of `diff`. A number means the spec's own generation; of specs without one, its number in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// The older one.
    pub from: u64,
    /// The newer one.
    pub to: u64,
}

/// The payload of `decision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// The newest that is kept with a lower number than this; without it, look now and say what would be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// The payload of `rollback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// To which accepted spec: its own generation; of specs without one, its number in the history.
    pub to: u64,
}

/// The payload of `drain-host` and `use-host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRequest {
    /// The host.
    pub host: HostId,
}

/// The payload of `remove-host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRemoval {
    /// The host.
    pub host: HostId,
    /// It is dead and stays so: databases go on without its instances, and what they alone had is lost.
    #[serde(default)]
    pub force: bool,
}

/// One row of the table of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerbRow {
    /// The verb: the last level of `databases/{db}/commands/{verb}`.
    pub name: &'static str,
    /// What its payload is.
    pub payload: Kind,
    /// What it does.
    pub description: &'static str,
}

/// The verb that asks what a spec would change.
pub const PLAN: &str = "plan";

/// The verb that approves of what a plan interrupts.
pub const APPLY: &str = "apply";

/// See [`Command::Undelete`].
pub const UNDELETE: &str = "undelete";
/// See [`Command::Purge`].
pub const PURGE: &str = "purge";
/// See [`Command::ConfirmDelete`].
pub const CONFIRM_DELETE: &str = "confirm-delete";
/// See [`Command::History`].
pub const HISTORY: &str = "history";
/// See [`Command::Diff`].
pub const DIFF: &str = "diff";
/// See [`Command::Decision`].
pub const DECISION: &str = "decision";
/// See [`Command::Rollback`].
pub const ROLLBACK: &str = "rollback";

const fn verb(name: &'static str, payload: Kind, description: &'static str) -> VerbRow {
    VerbRow { name, payload, description }
}

/// Every verb of this build. Documentation and the AsyncAPI document come from here.
pub const VERBS: [VerbRow; 9] = [
    verb(
        APPLY,
        Kind::Approve,
        "A person approves of what the plan on `databases/{db}/plan` interrupts: restarts, replaced containers, the end of \
         what runs. A digest of anything else is refused with what differs.",
    ),
    verb(PLAN, Kind::Command, "What would this spec change? Changes nothing; answered with `plan`."),
    verb(
        UNDELETE,
        Kind::Nothing,
        "Brings a deleted database back from the trash: its last accepted spec is published again, as a new generation, \
         and judged.",
    ),
    verb(PURGE, Kind::Nothing, "Removes a deleted database for good, now: data, record, history. Its id is free then."),
    verb(CONFIRM_DELETE, Kind::Nothing, "Does a delete that is held (`DeletionHeld`)."),
    verb(HISTORY, Kind::Nothing, "The last accepted specs and finished plans; answered with `history`."),
    verb(DIFF, Kind::DiffRequest, "What differs between two accepted specs; answered with `diff`, secrets hidden."),
    verb(
        DECISION,
        Kind::DecisionRequest,
        "How a plan came about: what was desired and seen, and the plan, without secrets. Without `before`, look now and \
         change nothing; with it, the newest that is kept below this number; answered with `decision`.",
    ),
    verb(ROLLBACK, Kind::RollbackRequest, "Publishes an accepted spec again, as a new generation."),
];

/// The verb that goes on after a halt.
pub const RESUME: &str = "resume";

/// The verb that empties a host.
pub const DRAIN_HOST: &str = "drain-host";
/// The verb that takes a host into use again.
pub const USE_HOST: &str = "use-host";
/// The verb that removes a host.
pub const REMOVE_HOST: &str = "remove-host";

/// The verbs about the whole fleet, on `commands/{verb}`.
pub const FLEET_VERBS: [VerbRow; 4] = [
    verb(
        RESUME,
        Kind::Nothing,
        "Go on after a halt (condition `Halted`): what failed until now makes no new halt until it has worked.",
    ),
    verb(
        DRAIN_HOST,
        Kind::HostRequest,
        "Leave a host: no spec may name it anew, primaries on it hand their role over, its member of etcd goes to another \
         host. Instances whose host pgmoor chose move where another fits; those whose spec names it stay; the answer \
         names both.",
    ),
    verb(USE_HOST, Kind::HostRequest, "Take a host that was drained or removed into use again."),
    verb(
        REMOVE_HOST,
        Kind::HostRemoval,
        "Take a host out of the fleet and its Swarm. Refused while instances or a member of etcd are there, unless `force` \
         says that it is dead: databases then go on without its instances.",
    ),
];

/// A request about the whole fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetCommand {
    /// Work begins again after a halt.
    Resume,
    /// A host is left.
    Drain(HostRequest),
    /// A host is used again.
    Use(HostRequest),
    /// A host is removed.
    Remove(HostRemoval),
}

impl FleetCommand {
    /// Reads a request.
    ///
    /// # Errors
    /// The message was retained, there is no such verb, or its payload is not what it takes: every fault at once.
    pub fn read(verb: &Verb, payload: &[u8], retained: bool) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        if retained {
            faults.push(retained_command());
        }
        let known = FLEET_VERBS.iter().any(|row| row.name == verb.as_str());
        let command = if known && payload.trim_ascii().is_empty() {
            Err(vec![empty_command()])
        } else {
            Self::of_verb(verb, payload)
        };
        match command {
            Ok(command) if faults.is_empty() => Ok(command),
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    fn of_verb(verb: &Verb, bytes: &[u8]) -> Result<Self, Vec<Fault>> {
        match verb.as_str() {
            RESUME if bytes.trim_ascii() == b"{}" => Ok(Self::Resume),
            RESUME => {
                let message = format!("`{RESUME}` takes `{{}}`");
                Err(vec![Fault::new(Code::TypeMismatch, "", message).hint("publish `{}`")])
            }
            DRAIN_HOST => payload(Kind::HostRequest, bytes).map(Self::Drain),
            USE_HOST => payload(Kind::HostRequest, bytes).map(Self::Use),
            REMOVE_HOST => payload(Kind::HostRemoval, bytes).map(Self::Remove),
            unknown => Err(vec![unknown_verb(unknown, &FLEET_VERBS)]),
        }
    }
}

fn empty_command() -> Fault {
    let message = "a command without a payload asks for nothing: so a retained one is cleared";
    Fault::new(Code::Required, "", message).hint("publish `{}`, or the document that the command takes")
}

fn retained_command() -> Fault {
    Fault::new(Code::RetainedCommand, "", "a command must not be retained: it would run at each reconnect")
        .hint("publish it without the retain flag, and clear the topic with an empty retained message")
}

impl Command {
    /// Reads a request.
    ///
    /// # Errors
    /// The message was retained, this build knows no such verb, or its payload is not what the verb takes: every fault
    /// at once.
    pub fn read(verb: &Verb, payload: &[u8], retained: bool) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        if retained {
            faults.push(retained_command());
        }
        let command = Self::of_verb(verb, payload)
            .and_then(|command| if payload.trim_ascii().is_empty() { Err(vec![empty_command()]) } else { Ok(command) });
        let command = command.map_err(|more| faults.extend(more));
        match command {
            Ok(command) if faults.is_empty() => Ok(command),
            Ok(_) | Err(()) => Err(faults),
        }
    }

    fn of_verb(verb: &Verb, bytes: &[u8]) -> Result<Self, Vec<Fault>> {
        let nothing = |command| payload::<Nothing>(Kind::Nothing, bytes).map(|_nothing| command);
        match verb.as_str() {
            APPLY => payload(Kind::Approve, bytes).map(Self::Apply),
            PLAN => Ok(Self::Plan),
            UNDELETE => nothing(Self::Undelete),
            PURGE => nothing(Self::Purge),
            CONFIRM_DELETE => nothing(Self::ConfirmDelete),
            HISTORY => nothing(Self::History),
            DIFF => payload(Kind::DiffRequest, bytes).map(Self::Diff),
            DECISION => payload(Kind::DecisionRequest, bytes).map(Self::Decision),
            ROLLBACK => payload(Kind::RollbackRequest, bytes).map(Self::Rollback),
            unknown => Err(vec![unknown_verb(unknown, &VERBS)]),
        }
    }
}

fn unknown_verb(verb: &str, known: &[VerbRow]) -> Fault {
    let names = known.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    Fault::new(Code::UnknownCommand, "", format!("there is no command \"{verb}\""))
        .hint(format!("commands of this build: {names}"))
}

/// Reads a payload as the document of its kind. Of an empty one it is said what is missing, as of `{}`.
///
/// # Errors
/// Everything that is wrong with it: size, JSON, keys that stand twice, and all that the kind's schema asks for.
pub fn payload<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, Vec<Fault>> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    let json::Document { value, mut faults } = json::read(bytes).map_err(|fault| vec![fault])?;
    faults.extend(Form::compiled(kind).faults(&value));
    if faults.is_empty() {
        // What the schema takes and the type does not is a mistake of ours; the reader's own words may hold a value.
        return serde_json::from_value(value)
            .map_err(|_| vec![Fault::new(Code::TypeMismatch, "", format!("the document is no {}", kind.as_str()))]);
    }
    Err(sorted(faults))
}

/// A request on its way to whoever answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The database that it is about.
    pub database: DatabaseId,
    /// What is asked.
    pub verb: Verb,
    /// The payload as it came.
    pub payload: Vec<u8>,
    /// MQTT 5: the correlation data, which the answer shows again.
    pub correlation: Option<Vec<u8>>,
    /// MQTT 5: where else the answer is wanted.
    pub response_topic: Option<String>,
}

impl Question {
    /// The correlation data as text, where it is text: what the answer's document shows.
    #[must_use]
    pub fn correlation_id(&self) -> Option<String> {
        self.correlation.clone().and_then(|bytes| String::from_utf8(bytes).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::documents::Inventory;

    fn codes(faults: Vec<Fault>) -> Vec<Code> {
        faults.iter().map(|fault| fault.code).collect()
    }

    #[test]
    fn only_known_and_live_commands_are_taken() {
        let verb = |text| Verb::parse(text).unwrap();
        assert_eq!(Command::read(&verb("plan"), b"{", false), Ok(Command::Plan));
        assert_eq!(Command::read(&verb("plan"), b"{}", true).map_err(codes), Err(vec![Code::RetainedCommand]));
        let both = Command::read(&verb("drop"), b"", true).map_err(codes);
        assert_eq!(both, Err(vec![Code::RetainedCommand, Code::UnknownCommand]));
    }

    #[test]
    fn a_cleared_command_is_not_done() {
        for verb in ["purge", "undelete", "confirm-delete", "history", "plan"] {
            let verb = Verb::parse(verb).unwrap();
            for payload in [&b""[..], b" \n"] {
                assert_eq!(Command::read(&verb, payload, false).map_err(codes), Err(vec![Code::Required]), "{verb:?}");
            }
            assert!(Command::read(&verb, b"{}", false).is_ok(), "{verb:?}");
        }
    }

    #[test]
    fn the_fleet_has_verbs_of_its_own() {
        let read = |text: &str, payload: &str, retained| {
            FleetCommand::read(&Verb::parse(text).unwrap(), payload.as_bytes(), retained).map_err(codes)
        };
        assert_eq!(read("resume", "", false), Err(vec![Code::Required]));
        assert_eq!(read("resume", " {}\n", false), Ok(FleetCommand::Resume));
        assert_eq!(read("resume", "{\"x\": 1}", true), Err(vec![Code::RetainedCommand, Code::TypeMismatch]));
        assert_eq!(read("plan", "", false), Err(vec![Code::UnknownCommand]));
        let host = HostId::parse("h2").unwrap();
        let drained = FleetCommand::Drain(HostRequest { host: host.clone() });
        assert_eq!(read("drain-host", r#"{"host": "h2"}"#, false), Ok(drained));
        let removed = FleetCommand::Remove(HostRemoval { host, force: false });
        assert_eq!(read("remove-host", r#"{"host": "h2"}"#, false), Ok(removed), "force is never meant by chance");
        assert_eq!(read("use-host", "{}", false), Err(vec![Code::Required]));
        assert_eq!(read("use-host", r#"{"host": "h2", "force": true}"#, false), Err(vec![Code::UnknownField]));
    }

    #[test]
    fn every_verb_of_the_table_is_a_verb_and_known() {
        for row in VERBS {
            let read = Command::read(&Verb::parse(row.name).unwrap(), b"[]", false);
            let unknown = read.is_err_and(|faults| codes(faults).contains(&Code::UnknownCommand));
            assert!(!unknown, "{}", row.name);
        }
    }

    #[test]
    fn payloads_get_all_their_faults_with_their_places() {
        let read = |text: &str| payload::<Inventory>(Kind::Inventory, text.as_bytes());
        assert_eq!(read(r#"{"revision": 1, "databases": {"a": 2}}"#).unwrap().revision, 1);
        let faults = read(r#"{"revision": "x", "reversion": 1, "databases": {}, "databases": {}}"#).unwrap_err();
        let places: Vec<(Code, &str)> = faults.iter().map(|fault| (fault.code, fault.pointer.as_str())).collect();
        assert_eq!(
            places,
            [(Code::DuplicateKey, "/databases"), (Code::UnknownField, "/reversion"), (Code::TypeMismatch, "/revision"),]
        );
        assert_eq!(codes(read(" ").unwrap_err()), [Code::Required, Code::Required], "nothing stands for {{}}");
        assert_eq!(codes(read("{").unwrap_err()), [Code::InvalidJson]);
        let nothing = payload::<Nothing>(Kind::Nothing, br#"{"now": true, "then": 1}"#).unwrap_err();
        let places: Vec<&str> = nothing.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!((places, codes(nothing.clone())), (vec!["/now", "/then"], vec![Code::UnknownField; 2]));
    }
}
