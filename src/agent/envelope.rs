//! What goes over the line: documents whose inside is sealed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::contract::documents::{HostAnswer, HostWork, to_bytes};
use crate::contract::topics::Topic;
use crate::drivers::seal::FleetKey;
use crate::drivers::{Error, Result};
use crate::model::{FleetId, HostId, TaskId};
use crate::world::work::{HostSeen, Told, Work};

/// What a host says to work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub(super) enum Answer {
    /// It looked.
    Looked {
        /// What it saw.
        seen: HostSeen,
    },
    /// It knows.
    Told {
        /// What.
        told: Told,
    },
    /// The step is done.
    Done,
    /// The step failed, or the host cannot tell.
    Failed {
        /// Why, as a sentence for people.
        error: String,
    },
    /// The host could not reach what it needs for it: it says nothing about the thing.
    Unreachable {
        /// Why, as a sentence for people.
        why: String,
    },
    /// It is at it.
    Running {
        /// What it waits for, if it does.
        waits: Option<String>,
    },
    /// It has heard of a newer lead.
    Stale {
        /// The newest epoch.
        newest: u64,
    },
}

/// Seals and opens what hosts say to each other.
#[derive(Debug, Clone)]
pub struct Envelopes {
    /// The fleet.
    pub fleet: FleetId,
    /// This host.
    pub here: HostId,
    /// What all keys follow from.
    pub key: Arc<FleetKey>,
}

impl Envelopes {
    /// Work for a host: its topic and the document.
    ///
    /// # Errors
    /// The fleet's key does not seal; so with all that follow.
    pub fn work(&self, to: &HostId, id: &TaskId, epoch: u64, work: &Work) -> Result<(String, Vec<u8>)> {
        let topic = Topic::HostWork(to.clone()).to_string(&self.fleet);
        let sealed = self.seal(to, &context(&topic, id, epoch, &self.here), work)?;
        Ok((topic, to_bytes(&HostWork { id: id.clone(), epoch, from: self.here.clone(), sealed })))
    }

    /// Opens work for this host.
    ///
    /// # Errors
    /// It is no work, or not sealed for this host by its fleet.
    pub fn open_work(&self, payload: &[u8]) -> Result<(HostWork, Work)> {
        let topic = Topic::HostWork(self.here.clone()).to_string(&self.fleet);
        let document: HostWork = serde_json::from_slice(payload).map_err(|error| not_ours(&topic, error))?;
        let context = context(&topic, &document.id, document.epoch, &document.from);
        let work = self.open(&self.here, &context, &document.sealed)?;
        Ok((document, work))
    }

    /// The answer of this host: its topic and the document.
    pub(super) fn answer(&self, id: &TaskId, epoch: u64, answer: &Answer) -> Result<(String, Vec<u8>)> {
        let topic = Topic::HostAnswers(self.here.clone()).to_string(&self.fleet);
        let sealed = self.seal(&self.here, &context(&topic, id, epoch, &self.here), answer)?;
        Ok((topic, to_bytes(&HostAnswer { id: id.clone(), epoch, from: self.here.clone(), sealed })))
    }

    /// Opens an answer of a host.
    pub(super) fn open_answer(&self, from: &HostId, payload: &[u8]) -> Result<(HostAnswer, Answer)> {
        let topic = Topic::HostAnswers(from.clone()).to_string(&self.fleet);
        let document: HostAnswer = serde_json::from_slice(payload).map_err(|error| not_ours(&topic, error))?;
        let answer = self.open(from, &context(&topic, &document.id, document.epoch, from), &document.sealed)?;
        Ok((document, answer))
    }

    fn seal(&self, host: &HostId, context: &str, inside: &impl Serialize) -> Result<String> {
        let failed = |error: serde_json::Error| Error::Failed { act: format!("write {context}"), why: told(&error) };
        let plain = serde_json::to_vec(inside).map_err(failed)?;
        Ok(STANDARD.encode(self.key.of_host(&self.fleet, host)?.seal(context, &plain)?))
    }

    fn open<T: DeserializeOwned>(&self, host: &HostId, context: &str, sealed: &str) -> Result<T> {
        let failed = |why: String| Error::Failed { act: format!("read {context}"), why };
        let sealed = STANDARD.decode(sealed).map_err(|error| failed(error.to_string()))?;
        let plain = self.key.of_host(&self.fleet, host)?.open(context, &sealed)?;
        serde_json::from_slice(&plain).map_err(|error| {
            failed(format!("it is sealed by this fleet, and of another version of pgmoor: {}", told(&error)))
        })
    }
}

/// All that stands in clear beside what is sealed. No part of it holds a space.
fn context(topic: &str, id: &TaskId, epoch: u64, from: &HostId) -> String {
    format!("{topic} {id} {epoch} {from}")
}

/// The place of an error only: serde's own words may quote a secret.
fn told(error: &serde_json::Error) -> String {
    format!("{:?} error at column {}", error.classify(), error.column())
}

fn not_ours(topic: &str, error: serde_json::Error) -> Error {
    Error::Failed { act: format!("read a message on {topic}"), why: error.to_string() }
}
