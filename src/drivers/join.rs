//! Joining a fleet: the token that a new host is let in with, and what it and the fleet say to each other, sealed with it.
//!
//! Invariants: a token's secret follows from the fleet's key and from all that stands in the token (fleet, id, end,
//! authority), so a token that was changed opens nothing, and nobody has to remember which were made; which were used
//! is Swarm's to know ([`claim`]); a secret is shown in no `Debug` and no error.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::certificates::certificate_digest;
use super::seal::{FleetKey, HostKey};
use super::swarm::{Labels, Swarm, SwarmAdmission};
use super::{Error, Result};
use crate::model::secret::clear;
use crate::model::{Digest, FleetId, HostId, Secret, TaskId};

/// What every token begins with; another form gets another number.
const FORM: &str = "pgmoor-join-1";
/// The label of a used token with the request that used it.
const REQUEST_LABEL: &str = "pgmoor.request";
/// The label of a used token with its end: seconds since 1970.
const UNTIL_LABEL: &str = "pgmoor.until";
/// Swarm wants a config to have content.
const CONTENT: &[u8] = b"A token that a host joined with. It is used up.";

/// A token.
#[derive(Debug, Clone)]
pub struct JoinToken {
    /// The fleet that it lets in to.
    pub fleet: FleetId,
    /// Its name.
    pub id: TaskId,
    /// When it ends: seconds since 1970.
    pub expires_at_s: i64,
    /// The digest of the certificate of the fleet's authority.
    pub authority: Digest,
    key: HostKey,
    secret: Secret,
}

/// What a host says of itself, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// Its id.
    pub host: HostId,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The fleet's key, as `FleetKey::to_text` gives it.
    #[serde(with = "clear")]
    pub fleet_key: Secret,
    /// The certificate of the fleet's authority, PEM.
    pub authority_pem: String,
    /// How to become a manager of the fleet's Swarm.
    pub swarm: SwarmAdmission,
}

impl JoinToken {
    /// The token of this id that the fleet's key stands for.
    ///
    /// # Errors
    /// None that can happen: see [`FleetKey::of_token`].
    pub fn new(key: &FleetKey, fleet: &FleetId, id: &TaskId, expires_at_s: i64, authority: &Digest) -> Result<Self> {
        let (key, bytes) = key.of_token(&format!("{fleet}/{id}/{expires_at_s}/{}", authority.as_str()))?;
        Ok(Self {
            fleet: fleet.clone(),
            id: id.clone(),
            expires_at_s,
            authority: authority.clone(),
            key,
            secret: Secret::new(URL_SAFE_NO_PAD.encode(bytes)),
        })
    }

    /// The token as text, to be given to the new host and to nobody else.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        let Self { fleet, id, expires_at_s, authority, secret, .. } = self;
        Secret::new(format!("{FORM}.{fleet}.{id}.{expires_at_s}.{}.{}", authority.as_str(), secret.expose()))
    }

    /// Whether this is the certificate of the authority that the token was made under.
    #[must_use]
    pub fn is_of(&self, authority_pem: &str) -> bool {
        certificate_digest(authority_pem).is_ok_and(|digest| digest == self.authority)
    }

    /// Seals something for one topic and one request.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn seal(&self, topic: &str, request: &TaskId, inside: &impl Serialize) -> Result<String> {
        let act = || format!("write a message on {topic}");
        let plain = serde_json::to_vec(inside).map_err(|error| Error::Failed { act: act(), why: error.to_string() })?;
        Ok(STANDARD.encode(self.key.seal(&format!("{topic} {request}"), &plain)?))
    }

    /// Opens what was sealed for it.
    ///
    /// # Errors
    /// It was sealed with another token, or for something else, or was changed.
    pub fn open<T: DeserializeOwned>(&self, topic: &str, request: &TaskId, sealed: &str) -> Result<T> {
        let failed = |why: &str| Error::Failed { act: format!("read a message on {topic}"), why: why.to_owned() };
        let sealed = STANDARD.decode(sealed).map_err(|_| failed("what is sealed is no base64"))?;
        let plain = self.key.open(&format!("{topic} {request}"), &sealed)?;
        serde_json::from_slice(&plain).map_err(|_| failed("it is of another version of pgmoor"))
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let failed = |why: &str| Error::Failed { act: "read the token".to_owned(), why: why.to_owned() };
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [FORM, fleet, id, expires, authority, secret] = parts[..] else {
            return Err(failed("it is not of the form that `pgmoor host token` prints"));
        };
        let cut = || failed("a part of it is missing or changed: was it copied whole?");
        let bytes = URL_SAFE_NO_PAD.decode(secret).map_err(|_| cut())?;
        Ok(Self {
            fleet: FleetId::parse(fleet).map_err(|_| cut())?,
            id: TaskId::parse(id).map_err(|_| cut())?,
            expires_at_s: expires.parse().map_err(|_| cut())?,
            authority: Digest::from_text(authority),
            key: HostKey::from_bytes(&bytes).ok_or_else(cut)?,
            secret: Secret::new(secret),
        })
    }
}

/// What became of a claim on a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is this request's, now or since before.
    Ours,
    /// Another request has used it.
    Used,
}

/// Uses a token up for one request: a Swarm config of its name is made, which every manager knows. Those of tokens whose
/// time is over go.
///
/// # Errors
/// Swarm does not answer.
pub async fn claim(
    swarm: &dyn Swarm,
    name: &str,
    selector: &Labels,
    token: &JoinToken,
    (request, now_s): (&TaskId, i64),
) -> Result<Claim> {
    let used = swarm.configs(selector).await?;
    for config in used.iter().filter(|config| config.name != name) {
        let until: Option<i64> = config.labels.get(UNTIL_LABEL).and_then(|text| text.parse().ok());
        if until.is_some_and(|until| until < now_s) {
            match swarm.remove_config(&config.id).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let mut labels = selector.clone();
    labels.insert(REQUEST_LABEL.to_owned(), request.to_string());
    labels.insert(UNTIL_LABEL.to_owned(), token.expires_at_s.to_string());
    match swarm.create_config(name, &labels, CONTENT).await {
        Ok(_id) => Ok(Claim::Ours),
        Err(Error::Conflict { .. }) => {
            let used = swarm.configs(selector).await?;
            let by = used.iter().find(|config| config.name == name).and_then(|config| config.labels.get(REQUEST_LABEL));
            Ok(if by.is_some_and(|by| *by == request.to_string()) { Claim::Ours } else { Claim::Used })
        }
        Err(error) => Err(error),
    }
}

impl fmt::Display for JoinToken {
    /// Without its secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {} of fleet {}", self.id, self.fleet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expires_at_s: i64) -> JoinToken {
        let directory = tempfile::tempdir().unwrap();
        let key = FleetKey::load_or_create(&directory.path().join("fleet.key")).unwrap();
        let (fleet, id) = (FleetId::parse("edge").unwrap(), TaskId::parse("t1").unwrap());
        JoinToken::new(&key, &fleet, &id, expires_at_s, &Digest::of_bytes(b"ca")).unwrap()
    }

    #[test]
    fn a_token_reads_back_and_hides_its_secret() {
        let token = token(9);
        let text = token.to_text();
        let again: JoinToken = text.expose().parse().unwrap();
        let request = TaskId::parse("r").unwrap();
        let knock = Knock { host: HostId::parse("host-2").unwrap() };
        let sealed = again.seal("topic", &request, &knock).unwrap();
        assert_eq!(token.open::<Knock>("topic", &request, &sealed).unwrap(), knock);
        assert!(token.open::<Knock>("other", &request, &sealed).is_err());
        assert!(token.open::<Knock>("topic", &TaskId::parse("s").unwrap(), &sealed).is_err());
        let secret = text.expose().rsplit('.').next().unwrap();
        assert!(!format!("{token:?} {token}").contains(secret));
    }

    #[test]
    fn a_token_that_was_changed_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let key = FleetKey::load_or_create(&directory.path().join("fleet.key")).unwrap();
        let (fleet, id, ca) = (FleetId::parse("edge").unwrap(), TaskId::parse("t1").unwrap(), Digest::of_bytes(b"ca"));
        let told = JoinToken::new(&key, &fleet, &id, 9, &ca).unwrap();
        // Somebody gives it a later end: its secret is that of the old one.
        let longer: JoinToken = told.to_text().expose().replace(".9.", ".99.").parse().unwrap();
        let real = JoinToken::new(&key, &fleet, &id, longer.expires_at_s, &ca).unwrap();
        let sealed = longer.seal("topic", &id, &1).unwrap();
        assert!(real.open::<u8>("topic", &id, &sealed).is_err());
        for text in ["", "pgmoor-join-1", "pgmoor-join-1.edge.t1.9.ca.AAAA", "pgmoor-join-2.a.b.1.c.d"] {
            assert!(text.parse::<JoinToken>().is_err(), "{text}");
        }
    }
}
