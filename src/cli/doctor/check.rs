//! A check's outcome as a value: what was looked at, how it is, and what to do.

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// pgmoor works, but something will hurt.
    Warn,
    /// pgmoor does not work, or not all of it.
    Fail,
    /// It could not be looked at, or does not apply.
    Skipped,
}

/// One line of the doctor's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at, for programs: `docker.version`. It never changes its meaning.
    pub(super) name: &'static str,
    /// How it is.
    pub(super) result: Verdict,
    /// What was found, as a sentence for people.
    pub(super) finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, result: Verdict::Ok, finding: finding.into(), fix: None }
    }

    pub(super) fn warn(name: &'static str, finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, result: Verdict::Warn, finding: finding.into(), fix: Some(fix.into()) }
    }

    pub(super) fn fail(name: &'static str, finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, result: Verdict::Fail, finding: finding.into(), fix: Some(fix.into()) }
    }

    pub(super) fn skipped(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, result: Verdict::Skipped, finding: finding.into(), fix: None }
    }
}
