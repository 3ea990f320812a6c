//! The veil over a decision: what may be secret becomes a name that tells nothing, and equal things get equal names, so
//! that whoever compares comes to the same end.
//!
//! Invariants: names and digests are keyed: without the key nobody can try out guesses of a weak password; attributes
//! keep their shape; ids are never changed, since a plan's order follows from them.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac as _};
use serde_json::{Map, Value};
use sha2::Sha256;

use super::super::kinds::may_hold_secret;
use super::super::value::{Change, Plan, Reason, WaitsFor};
use crate::model::{Attributes, Digest, Graph, GraphError, Observation, Observed, Payload, Present, Resource, Secret};

/// Known secrets that are shorter are found by the words around them only.
const LENGTH_MIN: usize = 4;

/// Words in the name of a setting whose value may be secret.
const SECRET_NAMES: [&str; 7] = ["password", "passphrase", "secret", "token", "key", "credential", "conninfo"];

/// A key, and the secrets that are known.
#[derive(Debug)]
pub struct Veil<'a> {
    key: &'a [u8],
    known: Vec<&'a str>,
}

impl<'a> Veil<'a> {
    /// A veil that hides these secrets wherever they stand, and all that looks like one.
    #[must_use]
    pub fn new(key: &'a [u8], known: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut known: Vec<&str> = known.into_iter().map(Secret::expose).collect();
        known.retain(|text| text.len() >= LENGTH_MIN);
        known.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self { key, known }
    }

    /// A keyed digest of a text.
    fn digest_of(&self, text: &str) -> Digest {
        // HMAC takes a key of any length.
        let bytes = Hmac::<Sha256>::new_from_slice(self.key).map(|mut mac| {
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().to_vec()
        });
        Digest::of_bytes(&bytes.unwrap_or_default())
    }

    /// The name of a text that may not be shown. It says «secret», so plans hide it as they hide what it stands for.
    fn name(&self, text: &str) -> String {
        format!("(secret {})", self.digest_of(text).short())
    }

    fn digest(&self, digest: &Digest) -> Digest {
        self.digest_of(digest.as_str())
    }

    fn holds_known(&self, text: &str) -> bool {
        self.known.iter().any(|secret| text.contains(secret))
    }

    /// A sentence for people: only known secrets are taken out.
    fn sentence(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.known {
            if text.contains(secret) {
                text = text.replace(secret, "(secret)");
            }
        }
        text
    }

    fn text(&self, text: &str, named_secret: bool) -> String {
        let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if named_secret || self.holds_known(text) || may_hold_secret(&Value::from(text)) {
            self.name(text)
        } else if is_digest {
            self.digest_of(text).as_str().to_owned()
        } else {
            text.to_owned()
        }
    }

    fn value(&self, value: &Value, named_secret: bool) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| (name.clone(), self.value(value, named_secret || names_a_secret(name))));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            Value::Array(items) => Value::Array(items.iter().map(|item| self.value(item, named_secret)).collect()),
            Value::String(text) => Value::String(self.text(text, named_secret)),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn attributes(&self, attributes: &Attributes) -> Result<Attributes, serde_json::Error> {
        let mut veiled: Attributes = serde_json::from_value(self.value(&serde_json::to_value(attributes)?, false))?;
        // Digests over access lines, however many digits they have.
        if let Attributes::Instance(instance) = &mut veiled {
            instance.config = self.marker(&instance.config);
        }
        if let Attributes::PatroniConfig(config) = &mut veiled
            && let Some(marker) = config.parameters.get_mut(MARKER)
        {
            *marker = self.marker(marker);
        }
        Ok(veiled)
    }

    fn marker(&self, marker: &str) -> String {
        if marker.is_empty() { String::new() } else { self.digest_of(marker).short().to_owned() }
    }

    /// The graph without payloads and secrets.
    pub(super) fn graph(&self, graph: &Graph) -> Result<Graph, Error> {
        let resources = graph.in_order().map(|resource| {
            let attributes = self.attributes(&resource.attributes)?;
            Ok(Resource { attributes, payload: Payload::None, ..resource.clone() })
        });
        Ok(Graph::new(resources.collect::<Result<Vec<_>, serde_json::Error>>()?)?)
    }

    /// What was seen, with labels that fit the veiled graph where they fitted the real one.
    pub(super) fn observed(&self, observed: &Observed, (graph, veiled): (&Graph, &Graph)) -> Result<Observed, Error> {
        let mut resources = BTreeMap::new();
        for (id, observation) in &observed.resources {
            let observation = match observation {
                Observation::Present(present) => Observation::Present(Present {
                    attributes: self.attributes(&present.attributes)?,
                    applied: present.applied.as_ref().map(|applied| match (graph.digest(id), veiled.digest(id)) {
                        (Some(own), Some(veiled)) if own == applied => veiled.clone(),
                        _ => self.digest(applied),
                    }),
                    object: present.object.clone(),
                    needs_recreate: present.needs_recreate,
                    error: present.error.as_deref().map(|error| self.sentence(error)),
                    standing: present.standing.clone(),
                }),
                Observation::Absent => Observation::Absent,
                Observation::Unknown { why } => Observation::Unknown { why: self.sentence(why) },
            };
            resources.insert(id.clone(), observation);
        }
        Ok(Observed { resources, strays: observed.strays.clone() })
    }

    /// An error that was noted.
    pub(super) fn error(&self, error: &str) -> String {
        self.sentence(error)
    }

    /// The plan as it would be, had the planner seen what is veiled.
    pub(super) fn plan(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        for step in plan.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
            if let Reason::HasError { error } = &mut step.reason {
                *error = self.sentence(error);
            }
            for change in &mut step.changes {
                *change = self.change(change);
            }
        }
        for waiting in &mut plan.waiting {
            if let WaitsFor::Unknown { why } | WaitsFor::Person { why } | WaitsFor::Node { why } = &mut waiting.on {
                *why = self.sentence(why);
            }
        }
        plan
    }

    fn change(&self, change: &Change) -> Change {
        let named = change.pointer.split('/').any(names_a_secret);
        let side = |value: &Option<Value>| value.as_ref().map(|value| self.value(value, named));
        let (from, to) = (side(&change.from), side(&change.to));
        // What got a name on either side is hidden on both, as the planner hides it.
        let hidden = [&from, &to].into_iter().flatten().any(may_hold_secret);
        let shown = |value: Option<Value>| value.filter(|_| !hidden);
        Change { pointer: change.pointer.clone(), from: shown(from), to: shown(to) }
    }
}

/// Why a decision cannot be veiled: a mistake of ours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Attributes lost their shape.
    #[error("attributes cannot be veiled")]
    Shape(#[from] serde_json::Error),
    /// Resources are no graph any more.
    #[error("the veiled resources are no graph")]
    Graph(#[from] GraphError),
}

/// The parameter that holds a digest over all others; see [`crate::model::resource::InstanceAttributes::config`].
const MARKER: &str = "pgmoor.config";

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|word| name.contains(word))
}
