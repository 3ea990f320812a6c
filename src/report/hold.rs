//! Why a step is held, in words: the reason in one word, a sentence, what to do, and until when.

use super::trouble::diagnose;
use super::work::Failure;
use crate::contract::documents::Time;
use crate::plan::{CapOf, Held, Hold};

/// A held step in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// The step's resource.
    pub(super) resource: String,
    /// The reason in one word, for conditions.
    pub(super) reason: &'static str,
    /// The reason as a sentence.
    pub(super) message: String,
    /// What to do; none: nothing, it goes on by itself.
    pub(super) hint: Option<String>,
    /// When it ends by itself.
    pub(super) until: Option<Time>,
}

/// The words for a held step; none for one that only comes after another that is held.
#[must_use]
pub(super) fn told(held: &Held, failures: &[Failure]) -> Option<Told> {
    let resource = held.resource.to_string();
    match &held.why {
        // An approval and what is only observed have conditions of their own, and a place in the plan.
        Hold::Behind { .. } | Hold::Approval | Hold::Observed => None,
        Hold::Fight { until_ms } => {
            let message =
                format!("{resource} differs again as often as it is mended, and waits before the next repair");
            Some(Told { resource, reason: "Fight", message, hint: None, until: Some(Time::from_ms(*until_ms)) })
        }
        Hold::Halted { .. } => {
            let message = format!("{resource} waits: steps of many databases failed in a row, so nothing new begins");
            let hint = "see the condition `Halted`; mend the cause, then say go on: `pgmoor resume`".to_owned();
            Some(Told { resource, reason: "Halted", message, hint: Some(hint), until: None })
        }
        Hold::Cap { of, limit, busy } => {
            let of = match of {
                CapOf::Host(host) => format!("host {host}"),
                CapOf::Fleet => "the fleet".to_owned(),
            };
            let busy = busy.iter().cloned().collect::<Vec<_>>().join(", ");
            let message = format!(
                "{resource} would restart or replace an instance; {limit} at a time may be on {of}, now {busy}"
            );
            Some(Told { resource, reason: "Cap", message, hint: None, until: None })
        }
        Hold::Image { words, .. } => {
            let diagnosis = diagnose(words);
            let reason = diagnosis.as_ref().map_or("ImageMissing", |diagnosis| diagnosis.reason);
            let hint = diagnosis.map(|diagnosis| diagnosis.hint);
            Some(Told {
                resource: resource.clone(),
                reason,
                message: format!("{resource} waits: {words}"),
                hint,
                until: None,
            })
        }
        Hold::BackOff { until_ms } => {
            let failure = failures.iter().find(|failure| failure.resource == held.resource);
            let attempts = failure.map_or(1, |failure| failure.attempts);
            let times = if attempts == 1 { "once".to_owned() } else { format!("{attempts} times in a row") };
            let message = format!("{resource} failed {times} and is tried again after a back-off");
            Some(Told { resource, reason: "BackOff", message, hint: None, until: Some(Time::from_ms(*until_ms)) })
        }
    }
}
