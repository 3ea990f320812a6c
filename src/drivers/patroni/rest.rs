//! Patroni's REST interface over HTTP.
//!
//! Invariant: no connection is used twice, so that the certificate which a status reports is the one that Patroni shows
//! now, not one from before its last reload.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::tls::TlsInfo;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Patroni, PatroniSeen};
use crate::drivers::{Endpoint, Error, Result, tls};
use crate::model::Digest;

/// How long the connection may take: the container is on this host.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How long an answer may take. Patroni asks Postgres before it answers, and gives up after 3 s of its own.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long a restart may take: Patroni answers when Postgres serves again, which replays what the last checkpoint
/// left behind.
const RESTART_DEADLINE: Duration = Duration::from_secs(180);
/// How many clients are kept, one for each endpoint: more than any host has instances.
const CLIENTS_MAX: usize = 256;

/// Patroni over HTTP.
#[derive(Debug, Default)]
pub struct Rest {
    clients: Mutex<BTreeMap<Digest, reqwest::Client>>,
}

impl Rest {
    /// An interface with no client made yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn client(&self, at: &Endpoint, act: &str) -> Result<reqwest::Client> {
        let name = Digest::of(&(at.address, at.port, &at.server_name, tls::identity_digest(&at.identity)));
        // Nothing here can panic while the lock is held, so a poisoned one still holds a whole map.
        if let Some(client) = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return Ok(client.clone());
        }
        let client = tls::http_client(&at.identity)?
            .resolve(&at.server_name, SocketAddr::new(at.address, at.port))
            .tls_info(true)
            .connect_timeout(CONNECT_DEADLINE)
            .build()
            .map_err(|error| Error::Failed { act: act.to_owned(), why: tls::words(error) })?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(name, client.clone());
        Ok(client)
    }

    async fn ask(&self, at: &Endpoint, act: &str, request: Request<'_>) -> Result<Answer> {
        let unreachable = |error: reqwest::Error| Error::Unreachable { act: act.to_owned(), why: tls::words(error) };
        let address = format!("https://{}:{}/{}", at.server_name, at.port, request.path);
        let mut sent = self.client(at, act)?.request(request.method, address).timeout(request.deadline);
        if let Some(body) = request.body {
            sent = sent.json(body);
        }
        let response = sent.send().await.map_err(unreachable)?;
        let tls = response.extensions().get::<TlsInfo>();
        let certificate = tls.and_then(TlsInfo::peer_certificate).map(Digest::of_bytes);
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        Ok(Answer { status, text, certificate })
    }

    /// A request that changes something: whatever is not a success is Patroni's no.
    async fn act(&self, at: &Endpoint, act: &str, request: Request<'_>) -> Result<()> {
        let answer = self.ask(at, act, request).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        let (act, why) = (act.to_owned(), format!("{}: {}", answer.status, answer.words()));
        Err(if answer.status == StatusCode::SERVICE_UNAVAILABLE && answer.is_page() {
            // Patroni's own no has words; a bare 503 is one that is still starting, or without etcd.
            Error::Unreachable { act, why }
        } else if answer.status == StatusCode::CONFLICT {
            Error::Conflict { act, why }
        } else {
            Error::Failed { act, why }
        })
    }
}

struct Request<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    deadline: Duration,
}

struct Answer {
    status: StatusCode,
    text: String,
    certificate: Option<Digest>,
}

impl Answer {
    /// Whether it is the error page of Python's HTTP server, which says no more than the status.
    fn is_page(&self) -> bool {
        self.text.trim_start().starts_with("<!DOCTYPE")
    }

    /// The beginning of what Patroni said, on one line.
    fn words(&self) -> String {
        if self.is_page() {
            return "no reason given".to_owned();
        }
        self.text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
    }
}

/// What a status document says, and the certificate it came with.
fn seen(document: &Value, certificate: Digest) -> Option<PatroniSeen> {
    let text = |field: &str| document.get(field).and_then(Value::as_str);
    let number = |field: &str| document.get(field).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let flag = |field: &str| document.get(field).and_then(Value::as_bool).unwrap_or_default();
    let role = text("role").unwrap_or_default();
    let position = |field: &str| document.pointer(&format!("/xlog/{field}")).and_then(Value::as_u64);
    Some(PatroniSeen {
        state: text("state")?.to_owned(),
        // Patroni said `master` until version 4.
        role: if role == "master" { "primary" } else { role }.to_owned(),
        synchronous: flag("sync_standby") || flag("quorum_standby"),
        pending_restart: flag("pending_restart"),
        timeline: number("timeline"),
        server_version: number("server_version"),
        patroni_version: document.pointer("/patroni/version").and_then(Value::as_str).map(str::to_owned),
        lsn: position("location").or_else(|| position("replayed_location")),
        paused: flag("pause"),
        certificate,
    })
}

#[async_trait]
impl Patroni for Rest {
    async fn status(&self, at: &Endpoint) -> Result<PatroniSeen> {
        let act = format!("ask Patroni of {} for its status", at.server_name);
        // The same document as `/patroni`, which however asks a Postgres that is starting again only after a second.
        let request = Request { method: Method::GET, path: "health", body: None, deadline: ANSWER_DEADLINE };
        let answer = self.ask(at, &act, request).await?;
        // An instance that does not run says so with 503 and the same document.
        let document = serde_json::from_str::<Value>(&answer.text).ok();
        let whole = document.zip(answer.certificate.clone());
        whole.and_then(|(document, certificate)| seen(&document, certificate)).ok_or_else(|| Error::Unreachable {
            act,
            why: format!("{} without a status: {}", answer.status, answer.words()),
        })
    }

    async fn patch_config(&self, at: &Endpoint, patch: &Value) -> Result<()> {
        let act = format!("patch the configuration of Patroni of {}", at.server_name);
        let request = Request { method: Method::PATCH, path: "config", body: Some(patch), deadline: ANSWER_DEADLINE };
        self.act(at, &act, request).await
    }

    async fn reload(&self, at: &Endpoint) -> Result<()> {
        let act = format!("reload Patroni of {}", at.server_name);
        let request = Request { method: Method::POST, path: "reload", body: None, deadline: ANSWER_DEADLINE };
        self.act(at, &act, request).await
    }

    async fn restart(&self, at: &Endpoint) -> Result<()> {
        let act = format!("restart Postgres of {}", at.server_name);
        // Patroni takes a restart without a body for a malformed one.
        let body = json!({});
        let request = Request { method: Method::POST, path: "restart", body: Some(&body), deadline: RESTART_DEADLINE };
        self.act(at, &act, request).await
    }

    async fn switchover(&self, at: &Endpoint, primary: &str, candidate: &str) -> Result<()> {
        let act = format!("switch over from {primary} to {candidate}");
        let body = json!({"leader": primary, "candidate": candidate});
        let request =
            Request { method: Method::POST, path: "switchover", body: Some(&body), deadline: RESTART_DEADLINE };
        self.act(at, &act, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Digest {
        Digest::of_bytes(b"der")
    }

    #[test]
    fn a_primary_reads() {
        let document = json!({
            "state": "running", "postmaster_start_time": "2026-11-21 05:00:00.000000+00:00", "role": "master",
            "server_version": 170_011, "xlog": {"location": 67_108_960}, "timeline": 3, "pending_restart": true,
            "patroni": {"version": "4.0.7", "scope": "shop:n1", "name": "shop-n1-689qacsi"}
        });
        let seen = seen(&document, certificate()).unwrap();
        assert_eq!((seen.state.as_str(), seen.role.as_str()), ("running", "primary"));
        assert_eq!((seen.timeline, seen.server_version, seen.lsn), (Some(3), Some(170_011), Some(67_108_960)));
        assert!(seen.pending_restart && !seen.paused);
        assert_eq!(seen.patroni_version.as_deref(), Some("4.0.7"));
    }

    #[test]
    fn a_replica_and_one_that_does_not_run_read() {
        let replica = json!({
            "state": "streaming", "role": "replica", "pause": true,
            "xlog": {"received_location": 20, "replayed_location": 10, "paused": false}
        });
        let replica = seen(&replica, certificate()).unwrap();
        assert_eq!((replica.lsn, replica.paused), (Some(10), true));
        let stopped = json!({"state": "stopped", "role": "replica", "patroni": {"version": "4.0.7"}});
        let stopped = seen(&stopped, certificate()).unwrap();
        assert_eq!((stopped.lsn, stopped.timeline, stopped.server_version), (None, None, None));
        assert_eq!(seen(&json!({"message": "no"}), certificate()), None);
    }
}
