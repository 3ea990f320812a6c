//! What the host that leads asks of another, and how it is reached: to look at what is on that host, to do one step of a
//! plan, to answer a question.
//!
//! Invariants: what is asked carries all that is needed, secrets among it, so it is sealed for its host before it leaves;
//! no answer is `Unreachable`, and says nothing about the thing (rule 2).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::images;
use super::vitals::{Target, Vitals};
use crate::drivers::Result;
use crate::model::observed::pairs;
use crate::model::secret::clear;
use crate::model::{
    Attributes, Dependency, Digest, Executor, HostId, InstanceId, Member, NodeName, Observation, Payload, Resource,
    ResourceId, Scope, Secret,
};
use crate::plan::Step;

/// Observations by resource.
pub type Seen = BTreeMap<ResourceId, Observation>;

/// What a host is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "work")]
pub enum Work {
    /// To look.
    Look(Look),
    /// To do a step.
    Act(Box<Act>),
    /// To answer a question.
    Ask(Question),
}

/// A look at what is on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// What is looked at: directories, files, certificates and instances of the host, and what is inside the database,
    /// where an instance of it is there.
    #[serde(with = "whole_list")]
    pub resources: Vec<Resource>,
    /// The services of the scope as Swarm has them: an instance without one is not there.
    #[serde(with = "pairs")]
    pub services: Seen,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// Whose plan it is.
    pub scope: Scope,
    /// What it says.
    pub step: Step,
    /// The desired resource; none for a delete.
    #[serde(with = "whole_option")]
    pub resource: Option<Resource>,
    /// What was seen of it.
    pub seen: Option<Attributes>,
    /// The digest of all that it is applied with.
    pub applied: Option<Digest>,
    /// How long it may take.
    pub limit: Duration,
}

/// What only the host itself can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "question")]
pub enum Question {
    /// Which containers, running or stopping, have this path mounted, or one above or below it.
    Mounting {
        /// The path.
        path: String,
    },
    /// Whether an instance of this node serves here as primary.
    Primary {
        /// The scope.
        scope: Scope,
        /// The node.
        node: NodeName,
    },
    /// Whether the host has what a spec needs of it.
    Room {
        /// Ports that something may listen on.
        ports: BTreeSet<u16>,
        /// Paths that must be there.
        paths: BTreeSet<String>,
        /// An image, and whether it is to be pulled where it is not there.
        image: Option<(String, bool)>,
    },
    /// How instances are.
    Vitals {
        /// Which.
        targets: Vec<Target>,
    },
    /// To empty the trash of these instances.
    Purge {
        /// Their ids.
        instances: BTreeSet<InstanceId>,
    },
    /// To delete what the fleet's record says is left of purged databases there.
    Clear,
    /// How these images stand on the host.
    Images {
        /// Their names.
        images: BTreeSet<String>,
    },
    /// To hand an image over to who shows the ticket.
    GiveImage {
        /// Its name.
        image: String,
        /// Its id.
        id: String,
        /// What must be shown.
        #[serde(with = "clear")]
        ticket: Secret,
    },
    /// To get an image.
    TakeImage {
        /// Which, and from whom.
        order: images::Order,
    },
}

/// Whether an image is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "image")]
pub enum ImageFound {
    /// It is, now at least; or nobody asked.
    There,
    /// It is not, and was not pulled.
    Missing,
    /// It is not, and could not be pulled.
    Refused {
        /// Why.
        why: String,
    },
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "told")]
pub enum Told {
    /// The containers: id, and the state in Docker's word.
    Mounting {
        /// By id.
        containers: BTreeMap<String, String>,
    },
    /// Whether it does.
    Primary {
        /// It does.
        serves: bool,
    },
    /// What the host lacks.
    Room {
        /// Ports that something listens on.
        listened: BTreeSet<u16>,
        /// Paths that are not there.
        missing: BTreeSet<String>,
        /// The image.
        image: ImageFound,
    },
    /// How they are.
    Vitals {
        /// In the order of the question.
        vitals: Vec<Vitals>,
    },
    /// The trash is empty.
    Purged,
    /// Nothing is left of these instances.
    Cleared {
        /// Their ids.
        instances: BTreeSet<InstanceId>,
    },
    /// How images stand.
    Images {
        /// So.
        at: images::At,
    },
    /// An image is handed over.
    Gives {
        /// At this port.
        port: u16,
        /// It takes so many bytes on the disk.
        bytes: u64,
    },
    /// An image is on its way here, or will be.
    Takes,
}

/// What was seen on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSeen {
    /// What is on the host itself.
    #[serde(with = "pairs")]
    pub seen: Seen,
    /// What can be said from there of the inside of each node that has an instance there, or would have one.
    pub inside: BTreeMap<NodeName, Inside>,
}

/// What can be said of the inside of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "inside")]
pub enum Inside {
    /// A primary serves there, and this is what was seen through it.
    Seen {
        /// By resource.
        #[serde(with = "pairs")]
        contents: Seen,
    },
    /// There is no data yet, so nothing is inside.
    NotThere,
    /// There is data, or may be, and no primary to ask.
    Hidden {
        /// Why.
        why: String,
    },
}

impl Inside {
    /// A primary's word is enough; what may hide something outweighs what is not there.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (seen @ Self::Seen { .. }, _) | (_, seen @ Self::Seen { .. }) => seen,
            (hidden @ Self::Hidden { .. }, _) | (_, hidden @ Self::Hidden { .. }) => hidden,
            (Self::NotThere, Self::NotThere) => Self::NotThere,
        }
    }
}

/// The other hosts, as the one that leads reaches them.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Looks at what is on a host.
    async fn look(&self, host: &HostId, look: Look) -> Result<HostSeen>;

    /// Has a host do a step, and tells `waits` what it says to wait for meanwhile. `Failed` with the host's words when it
    /// could not be done.
    async fn act(&self, host: &HostId, act: Act, waits: &(dyn Fn(Option<String>) + Sync)) -> Result<()>;

    /// Asks a host.
    async fn ask(&self, host: &HostId, question: Question) -> Result<Told>;
}

/// A resource with all that it carries, in clear text: only for what is sealed.
#[derive(Serialize, Deserialize)]
struct Whole {
    id: ResourceId,
    executor: Executor,
    member: Option<Member>,
    #[serde(with = "pairs")]
    dependencies: BTreeMap<ResourceId, Dependency>,
    attributes: Attributes,
    may_differ: Vec<String>,
    payload: Carried,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "carries")]
enum Carried {
    Nothing,
    Content {
        #[serde(with = "clear")]
        content: Secret,
    },
    Password {
        #[serde(with = "clear")]
        password: Secret,
    },
    Statements {
        statements: Vec<String>,
    },
}

impl From<&Resource> for Whole {
    fn from(resource: &Resource) -> Self {
        let payload = match &resource.payload {
            Payload::None => Carried::Nothing,
            Payload::Content(content) => Carried::Content { content: content.clone() },
            Payload::Password(password) => Carried::Password { password: password.clone() },
            Payload::Statements(statements) => Carried::Statements { statements: statements.clone() },
        };
        let Resource { id, executor, member, dependencies, attributes, may_differ, payload: _ } = resource.clone();
        Self { id, executor, member, dependencies, attributes, may_differ, payload }
    }
}

impl From<Whole> for Resource {
    fn from(whole: Whole) -> Self {
        let payload = match whole.payload {
            Carried::Nothing => Payload::None,
            Carried::Content { content } => Payload::Content(content),
            Carried::Password { password } => Payload::Password(password),
            Carried::Statements { statements } => Payload::Statements(statements),
        };
        let Whole { id, executor, member, dependencies, attributes, may_differ, payload: _ } = whole;
        Self { id, executor, member, dependencies, attributes, may_differ, payload }
    }
}

mod whole_list {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Resource, Whole};

    pub(super) fn serialize<S: Serializer>(resources: &[Resource], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(resources.iter().map(Whole::from))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Resource>, D::Error> {
        Ok(Vec::<Whole>::deserialize(deserializer)?.into_iter().map(Resource::from).collect())
    }
}

mod whole_option {
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    use super::{Resource, Whole};

    pub(super) fn serialize<S: Serializer>(resource: &Option<Resource>, serializer: S) -> Result<S::Ok, S::Error> {
        resource.as_ref().map(Whole::from).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Resource>, D::Error> {
        Ok(Option::<Whole>::deserialize(deserializer)?.map(Resource::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn work_comes_out_as_it_went_in() {
        let carries = [
            Payload::None,
            Payload::Content(Secret::new("text")),
            Payload::Password(Secret::new("word")),
            Payload::Statements(vec!["SELECT 1".to_owned()]),
        ];
        let resource = |payload| Resource {
            id: ResourceId::new(Kind::Network, "shop"),
            executor: Executor::Host(HostId::parse("host-1").unwrap()),
            member: None,
            dependencies: [(ResourceId::new(Kind::Record, "record"), Dependency::Content)].into(),
            attributes: Attributes::Network { name: "shop".to_owned(), attachable: true },
            may_differ: vec!["/name".to_owned()],
            payload,
        };
        let services = [(ResourceId::new(Kind::Service, "shop"), Observation::Absent)].into();
        let look = Work::Look(Look { resources: carries.map(resource).into(), services });
        let ask = Work::Ask(Question::Mounting { path: "/data".to_owned() });
        for work in [look, ask] {
            let bytes = serde_json::to_vec(&work).unwrap();
            assert_eq!(serde_json::from_slice::<Work>(&bytes).unwrap(), work);
        }
    }

    #[test]
    fn a_primary_outweighs_what_is_hidden_and_that_what_is_not_there() {
        let hidden = || Inside::Hidden { why: "it starts".to_owned() };
        let seen = || Inside::Seen { contents: Seen::new() };
        assert_eq!((hidden().or(seen()), Inside::NotThere.or(hidden())), (seen(), hidden()));
        assert_eq!(Inside::NotThere.or(Inside::NotThere), Inside::NotThere);
    }
}
