//! `replay`: the decisions of a bundle made again by this version's planner and checker, and what would have come of them
//! in the simulated world. It needs nothing but the file.

use serde::Serialize;

use super::super::args::Replay as Args;
use super::super::{Error, Exit, Out, render};
use super::file;
use crate::contract::documents::{DecisionDoc, Time};
use crate::plan::decision::{Decision, Replayed};

/// Where decisions are in a bundle.
pub(super) const DECISIONS: &str = "decisions/";

/// A decision that was made again.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Shown {
    /// Its file in the bundle.
    pub(in crate::cli) file: String,
    /// Whether it came out the same, and broke no rule.
    pub(in crate::cli) same: bool,
    /// What was told of it, without what it was made from.
    pub(in crate::cli) told: DecisionDoc,
    pub(in crate::cli) replayed: Replayed,
}

/// The whole answer.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Answer {
    pub(in crate::cli) fleet: String,
    pub(in crate::cli) made_at: Time,
    pub(in crate::cli) written_by: String,
    pub(in crate::cli) decided_by: &'static str,
    /// The oldest first.
    pub(in crate::cli) decisions: Vec<Shown>,
}

pub(in crate::cli) fn replay(args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let opened = file::read(&args.bundle, |name| name.starts_with(DECISIONS))?;
    let bad = |why: String| Error::BadBundle { path: args.bundle.clone(), why };
    if opened.files.is_empty() {
        let why: Vec<String> =
            opened.manifest.missing.iter().map(|missing| format!("{}: {}", missing.what, missing.why)).collect();
        let why = if why.is_empty() { String::new() } else { format!(" (not in it: {})", why.join("; ")) };
        return Err(bad(format!("no decision is in it{why}")));
    }
    let mut decisions = Vec::new();
    for (name, bytes) in opened.files {
        decisions.push(again(name, &bytes).map_err(bad)?);
    }
    decisions.sort_by_key(|shown| shown.told.at);
    let answer = Answer {
        fleet: opened.manifest.fleet.to_string(),
        made_at: opened.manifest.made_at,
        written_by: opened.manifest.pgmoor,
        decided_by: env!("CARGO_PKG_VERSION"),
        decisions,
    };
    out.document(args.output.format, &answer, |style| render::replay(&answer, style))?;
    Ok(if answer.decisions.iter().all(|shown| shown.same) { Exit::Done } else { Exit::Changes })
}

fn again(file: String, bytes: &[u8]) -> Result<Shown, String> {
    let mut told: DecisionDoc = serde_json::from_slice(bytes).map_err(|error| format!("{file}: {error}"))?;
    let decision: Decision = serde_json::from_value(told.decision.take())
        .map_err(|error| format!("{file}, decided by pgmoor {}: {error}", told.pgmoor))?;
    let replayed = decision.replay().map_err(|error| format!("{file}: {error}"))?;
    Ok(Shown { file, same: replayed.same(), told, replayed })
}
