//! Requests: which verbs this build knows, and what their payloads are.
//!
//! `plan` takes a spec as its whole payload, so that one file serves both `commands/plan` and `spec`; it changes
//! nothing and needs no correlation id (the answer names the digest of the payload).

use super::faults::{Code, Fault};
use super::topics::Verb;
use crate::model::DatabaseId;

/// A request that this build acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// What would this spec change? The payload is to be read with [`super::accept`].
    Plan,
}

/// A request that was read, on its way to whoever answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The database that it is about.
    pub database: DatabaseId,
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

/// Reads a request.
///
/// # Errors
/// The message was retained, or this build knows no such verb.
pub fn parse(verb: &Verb, retained: bool) -> Result<Command, Vec<Fault>> {
    let mut faults = Vec::new();
    if retained {
        faults.push(
            Fault::new(Code::RetainedCommand, "", "a command must not be retained: it would run at each reconnect")
                .hint("publish it without the retain flag, and clear the topic with an empty retained message"),
        );
    }
    if verb.as_str() != Verb::PLAN {
        faults.push(
            Fault::new(Code::UnknownCommand, "", format!("there is no command \"{}\"", verb.as_str()))
                .hint(format!("commands of this build: {}", Verb::PLAN)),
        );
    }
    if faults.is_empty() { Ok(Command::Plan) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_and_live_commands_are_taken() {
        let verb = |text| Verb::parse(text).unwrap();
        assert_eq!(parse(&verb("plan"), false), Ok(Command::Plan));
        let codes = |faults: Vec<Fault>| faults.iter().map(|fault| fault.code).collect::<Vec<_>>();
        assert_eq!(parse(&verb("plan"), true).map_err(codes), Err(vec![Code::RetainedCommand]));
        let both = parse(&verb("drop"), true).map_err(codes);
        assert_eq!(both, Err(vec![Code::RetainedCommand, Code::UnknownCommand]));
    }
}
