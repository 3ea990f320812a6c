//! What was seen of the world: `Present`, `Absent`, or `Unknown` with the reason. Unknown is inert (rule 2).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::ids::InstanceId;
use super::resource::{Attributes, Executor, Member, ResourceId};

/// What was seen of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "seen")]
pub enum Observation {
    /// It is there.
    Present(Present),
    /// We looked, and it is not there.
    Absent,
    /// We could not look.
    Unknown {
        /// Why, as a sentence for people.
        why: String,
    },
}

/// A resource that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// What it is, in the shape of the desired attributes.
    pub attributes: Attributes,
    /// The digest of all that it was applied with, where the object itself carries it (a label).
    pub applied: Option<Digest>,
    /// Its id in the outside system (Swarm object id), by which it is deleted.
    pub object: Option<String>,
    /// It exists, but in a form that only a new creation mends.
    pub needs_recreate: bool,
    /// What is wrong with it, as a sentence for people.
    pub error: Option<String>,
    /// Of an instance that runs: how it stands in its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Box<Standing>>,
}

/// How an instance stands in its node. It is seen and never desired: who is primary, Patroni decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Standing {
    /// It takes writes.
    Primary {
        /// The instances that stream from it, each with the bytes of write-ahead log that it has yet to replay.
        streaming: BTreeMap<InstanceId, u64>,
        /// What it runs with of the parameters of which a replica must have at least as much, by name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        runs_with: BTreeMap<String, u64>,
    },
    /// It follows a primary, or recovers.
    Replica,
}

impl Present {
    /// Just these attributes, nothing wrong.
    #[must_use]
    pub fn new(attributes: Attributes) -> Self {
        Self { attributes, applied: None, object: None, needs_recreate: false, error: None, standing: None }
    }
}

/// All that was seen for one scope: the desired resources, and what is there besides and is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// By resource. Keys are serialised as a list of pairs, since JSON keys are texts.
    #[serde(with = "pairs")]
    pub resources: BTreeMap<ResourceId, Observation>,
    /// What is ours and not desired: who can delete it, and in which order.
    #[serde(with = "pairs")]
    pub strays: BTreeMap<ResourceId, Stray>,
}

/// A resource that is ours and not desired. No graph describes it any more, so what is needed to delete it is observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// Who does the delete.
    pub executor: Executor,
    /// What it depends on, and what therefore goes after it.
    pub dependencies: BTreeSet<ResourceId>,
    /// The instance that it is a part of, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
}

/// A map whose keys are no texts, as a list of pairs.
pub(crate) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter())
    }

    pub(crate) fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
