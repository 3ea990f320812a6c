//! What is held: steps of a plan's first stage that may not run now, and why. A plan says what is to be done; whether it
//! may begin now is decided apart from it (`reconcile::gate`), and told beside it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::value::Step;
use crate::model::{HostId, ResourceId};

/// A step that may not run now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The step's resource.
    pub resource: ResourceId,
    /// Why.
    pub why: Hold,
}

/// Why a step may not run now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Hold {
    /// It failed, and is not tried again before.
    BackOff {
        /// Milliseconds since 1970.
        until_ms: i64,
    },
    /// The spec asks that nothing is applied (`reconcile`).
    Observed,
    /// It mends drift that comes back as often as it is mended, and waits.
    Fight {
        /// Milliseconds since 1970.
        until_ms: i64,
    },
    /// Steps of many databases failed in a row, and a person has not said go on yet.
    Halted {
        /// Since when: milliseconds since 1970.
        since_ms: i64,
    },
    /// As many databases are being restarted or replaced as may be at a time.
    Cap {
        /// Where.
        of: CapOf,
        /// How many may be.
        limit: u32,
        /// Which are.
        busy: BTreeSet<String>,
    },
    /// It interrupts what runs, or is what an interruption would be made from, and nobody has approved of it.
    Approval,
    /// Its host does not have the image that it needs.
    Image {
        /// The host.
        host: HostId,
        /// The image.
        image: String,
        /// What is being done about it, as a sentence for people.
        words: String,
    },
    /// It comes after a step that is held itself.
    Behind {
        /// That step's resource.
        step: ResourceId,
    },
}

/// What a cap is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapOf {
    /// One host.
    Host(HostId),
    /// The whole fleet.
    Fleet,
}

impl Hold {
    /// When it ends by itself, in milliseconds since 1970; none: something else must happen first.
    #[must_use]
    pub fn until_ms(&self) -> Option<i64> {
        match self {
            Self::BackOff { until_ms } | Self::Fight { until_ms } => Some(*until_ms),
            Self::Observed
            | Self::Halted { .. }
            | Self::Cap { .. }
            | Self::Approval
            | Self::Image { .. }
            | Self::Behind { .. } => None,
        }
    }
}

impl Held {
    /// A step that is held for this reason.
    #[must_use]
    pub fn new(step: &Step, why: Hold) -> Self {
        Self { resource: step.resource.clone(), why }
    }
}
