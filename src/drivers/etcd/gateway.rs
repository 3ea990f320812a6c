//! Calls to the gateway: one member after another, logged in as `root` where authentication is on.
//!
//! Invariant: a password is only ever in the body of a request over TLS; a token lives in memory and is thrown away when
//! etcd does not take it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Etcd, EtcdTarget, KeySeen, MemberSeen, UserSeen, json as wire, members, users};
use crate::drivers::{Error, Result, tls};
use crate::model::{Digest, Secret};

/// How long one member may take to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How long one member may take to answer: etcd itself gives up after 5 s and an election where it has no quorum.
const MEMBER_DEADLINE: Duration = Duration::from_secs(8);
/// How many clients and tokens are kept: one fleet needs one; the identity changes once a year.
const KEPT_MAX: usize = 8;

/// etcd's JSON gateway.
#[derive(Debug, Default)]
pub struct Gateway {
    clients: Mutex<BTreeMap<Digest, reqwest::Client>>,
    /// Tokens of `root`, by target. Not shown by `Debug`.
    tokens: Mutex<BTreeMap<Digest, Secret>>,
}

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// No member answered, or none could reach a quorum.
    Unreachable(String),
    /// etcd said no, in these words.
    Refused(String),
}

impl Fault {
    /// Whether etcd refused with these words.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Refused(message) if message.contains(words))
    }

    pub(super) fn error(self, act: &str) -> Error {
        let act = act.to_owned();
        match self {
            Self::Unreachable(why) => Error::Unreachable { act, why },
            Self::Refused(why) => Error::Failed { act, why },
        }
    }
}

impl Gateway {
    /// A gateway with nothing kept yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A call as `root` where authentication is on, without a login where it is off.
    pub(super) async fn call(
        &self,
        target: &EtcdTarget,
        path: &str,
        body: &Value,
    ) -> std::result::Result<Value, Fault> {
        let name = target_digest(target);
        let token = held(&self.tokens).get(&name).cloned();
        let first = self.call_with(target, path, body, token.as_ref()).await;
        let Err(fault) = first else { return first };
        if !wants_login(&fault) {
            return Err(fault);
        }
        match self.login(target, "root", &target.root_password).await {
            Ok(token) => {
                keep(&self.tokens, name, token.clone());
                self.call_with(target, path, body, Some(&token)).await
            }
            // Switched off between the two calls, or the token was from before.
            Err(fault) if fault.says("authentication is not enabled") => {
                held(&self.tokens).remove(&name);
                self.call_with(target, path, body, None).await
            }
            Err(Fault::Refused(words)) => Err(Fault::Refused(format!("log in as root: {words}"))),
            Err(fault) => Err(fault),
        }
    }

    /// A token for a user.
    pub(super) async fn login(
        &self,
        target: &EtcdTarget,
        user: &str,
        password: &Secret,
    ) -> std::result::Result<Secret, Fault> {
        let body = json!({ "name": user, "password": password.expose() });
        let answer = self.call_with(target, "auth/authenticate", &body, None).await?;
        let token = answer.get("token").and_then(Value::as_str).unwrap_or_default();
        Ok(Secret::new(token))
    }

    /// A call with this token, or with none: each member in turn until one answers.
    pub(super) async fn call_with(
        &self,
        target: &EtcdTarget,
        path: &str,
        body: &Value,
        token: Option<&Secret>,
    ) -> std::result::Result<Value, Fault> {
        let client = self.client(target)?;
        let mut silent = Vec::new();
        for endpoint in &target.endpoints {
            let mut request = client.post(format!("{}/v3/{path}", endpoint.trim_end_matches('/'))).json(body);
            if let Some(token) = token {
                request = request.header(reqwest::header::AUTHORIZATION, token.expose());
            }
            match answer(request).await {
                Err(Fault::Unreachable(why)) => silent.push(format!("{endpoint}: {why}")),
                outcome => return outcome,
            }
        }
        Err(Fault::Unreachable(if silent.is_empty() { "no member is known".to_owned() } else { silent.join("; ") }))
    }

    fn client(&self, target: &EtcdTarget) -> std::result::Result<reqwest::Client, Fault> {
        let name = tls::identity_digest(&target.identity);
        if let Some(client) = held(&self.clients).get(&name) {
            return Ok(client.clone());
        }
        let client = tls::http_client(&target.identity)
            .map_err(|error| Fault::Refused(error.to_string()))?
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(MEMBER_DEADLINE)
            .build()
            .map_err(|error| Fault::Refused(tls::words(error)))?;
        keep(&self.clients, name, client.clone());
        Ok(client)
    }
}

/// Nothing here can panic while a lock is held, so a poisoned lock still holds a whole map.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep<T>(lock: &Mutex<BTreeMap<Digest, T>>, name: Digest, value: T) {
    let mut map = held(lock);
    if map.len() >= KEPT_MAX {
        map.clear();
    }
    map.insert(name, value);
}

fn target_digest(target: &EtcdTarget) -> Digest {
    let password = Digest::of_bytes(target.root_password.expose().as_bytes());
    Digest::of(&(&target.endpoints, tls::identity_digest(&target.identity), password))
}

/// etcd says so when a token is missing, expired or older than the last change of a user.
fn wants_login(fault: &Fault) -> bool {
    ["user name is empty", "invalid auth token", "revision of auth store is old"].iter().any(|words| fault.says(words))
}

async fn answer(request: reqwest::RequestBuilder) -> std::result::Result<Value, Fault> {
    let silent = |error: reqwest::Error| Fault::Unreachable(tls::words(error));
    let response = request.send().await.map_err(silent)?;
    let status = response.status();
    let text = response.text().await.map_err(silent)?;
    let body = serde_json::from_str::<Value>(&text);
    if status.is_success() {
        return body.map_err(|error| Fault::Unreachable(format!("not an answer of etcd: {error}")));
    }
    let Ok(body) = body else {
        // The gateway itself speaks plain text.
        let words: String = text.trim().chars().take(200).collect();
        return Err(refusal(None, status.as_u16(), words));
    };
    let words = body.get("message").or_else(|| body.get("error")).and_then(Value::as_str).unwrap_or_default();
    Err(refusal(body.get("code").and_then(Value::as_i64), status.as_u16(), words.to_owned()))
}

/// The codes are gRPC's: 4 deadline exceeded, 14 unavailable (no leader, no quorum, starting).
fn refusal(code: Option<i64>, status: u16, words: String) -> Fault {
    if matches!(code, Some(4 | 14)) || (code.is_none() && status >= 500) {
        Fault::Unreachable(words)
    } else {
        Fault::Refused(words)
    }
}

#[async_trait]
impl Etcd for Gateway {
    async fn authentication(&self, target: &EtcdTarget) -> Result<bool> {
        // Asked without a token: the answer goes through a quorum either way, and etcd tells strangers only that it
        // wants a name.
        match self.call_with(target, "auth/status", &json!({}), None).await {
            Ok(answer) => Ok(answer.get("enabled").and_then(Value::as_bool).unwrap_or_default()),
            Err(fault) if fault.says("user name is empty") => Ok(true),
            Err(fault) => Err(fault.error("ask etcd whether authentication is on")),
        }
    }

    async fn enable_authentication(&self, target: &EtcdTarget) -> Result<()> {
        users::enable(self, target).await.map_err(|fault| fault.error("switch etcd's authentication on"))
    }

    async fn members(&self, target: &EtcdTarget) -> Result<Vec<MemberSeen>> {
        members::list(self, target).await.map_err(|fault| fault.error("list etcd's members"))
    }

    async fn add_member(&self, target: &EtcdTarget, peer_url: &str) -> Result<()> {
        members::add(self, target, peer_url).await.map_err(|fault| fault.error(&format!("add etcd member {peer_url}")))
    }

    async fn promote_member(&self, target: &EtcdTarget, id: &str) -> Result<()> {
        members::promote(self, target, id).await.map_err(|fault| fault.error(&format!("give etcd member {id} a vote")))
    }

    async fn move_member(&self, target: &EtcdTarget, id: &str, peer_url: &str) -> Result<()> {
        let moved = self.call(target, "cluster/member/update", &json!({ "ID": id, "peerURLs": [peer_url] })).await;
        moved.map(|_| ()).map_err(|fault| fault.error(&format!("move etcd member {id} to {peer_url}")))
    }

    async fn remove_member(&self, target: &EtcdTarget, id: &str) -> Result<()> {
        members::remove(self, target, id).await.map_err(|fault| fault.error(&format!("remove etcd member {id}")))
    }

    async fn users(&self, target: &EtcdTarget) -> Result<Vec<String>> {
        let answer = self.call(target, "auth/user/list", &json!({})).await;
        let mut names = wire::texts(&answer.map_err(|fault| fault.error("list etcd users"))?, "users");
        names.retain(|name| name != "root");
        Ok(names)
    }

    async fn user(&self, target: &EtcdTarget, name: &str, password: &Secret) -> Result<Option<UserSeen>> {
        users::look(self, target, name, password)
            .await
            .map_err(|fault| fault.error(&format!("look at etcd user {name}")))
    }

    async fn put_user(&self, target: &EtcdTarget, name: &str, password: &Secret, prefix: &str) -> Result<()> {
        let act = format!("make etcd user {name}");
        if name == "root" || prefix.is_empty() {
            let why = "root and the empty prefix are the whole store".to_owned();
            return Err(Error::Failed { act, why });
        }
        users::put(self, target, name, password, prefix).await.map_err(|fault| fault.error(&act))
    }

    async fn delete_user(&self, target: &EtcdTarget, name: &str) -> Result<()> {
        let act = format!("delete etcd user {name}");
        if name == "root" {
            return Err(Error::Failed { act, why: "root stays".to_owned() });
        }
        users::delete(self, target, name).await.map_err(|fault| fault.error(&act))
    }

    async fn get(&self, target: &EtcdTarget, key: &str) -> Result<Option<KeySeen>> {
        let body = json!({ "key": wire::encode(key.as_bytes()) });
        let answer = self.call(target, "kv/range", &body).await;
        let answer = answer.map_err(|fault| fault.error(&format!("read etcd key {key}")))?;
        Ok(wire::list(&answer, "kvs").first().map(wire::key_seen))
    }

    async fn keys(&self, target: &EtcdTarget, prefix: &str) -> Result<Vec<String>> {
        let mut body = wire::below(prefix);
        if let Some(body) = body.as_object_mut() {
            body.insert("keys_only".to_owned(), Value::Bool(true));
        }
        let answer = self.call(target, "kv/range", &body).await;
        let answer = answer.map_err(|fault| fault.error(&format!("list etcd keys below {prefix}")))?;
        let text = |pair: &Value| String::from_utf8_lossy(&wire::bytes(pair, "key")).into_owned();
        Ok(wire::list(&answer, "kvs").iter().map(text).collect())
    }

    async fn put(&self, target: &EtcdTarget, key: &str, value: &[u8], expected: Option<i64>) -> Result<()> {
        let act = format!("write etcd key {key}");
        let encoded = wire::encode(key.as_bytes());
        let compare: Vec<Value> = expected
            .iter()
            .map(|revision| {
                json!({ "target": "MOD", "result": "EQUAL", "key": encoded, "mod_revision": revision.to_string() })
            })
            .collect();
        let write = json!({ "request_put": { "key": encoded, "value": wire::encode(value) } });
        let body = json!({ "compare": compare, "success": [write] });
        let answer = self.call(target, "kv/txn", &body).await.map_err(|fault| fault.error(&act))?;
        if answer.get("succeeded").and_then(Value::as_bool).unwrap_or_default() {
            Ok(())
        } else {
            Err(Error::Conflict { act, why: "it was changed since it was read".to_owned() })
        }
    }

    async fn delete_prefix(&self, target: &EtcdTarget, prefix: &str) -> Result<()> {
        let answer = self.call(target, "kv/deleterange", &wire::below(prefix)).await;
        answer.map(|_| ()).map_err(|fault| fault.error(&format!("delete etcd keys below {prefix}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_says_has_its_meaning() {
        let words = || "etcdserver: no leader".to_owned();
        assert_eq!(refusal(Some(14), 503, words()), Fault::Unreachable(words()));
        assert_eq!(refusal(None, 502, words()), Fault::Unreachable(words()));
        assert_eq!(refusal(Some(9), 400, words()), Fault::Refused(words()));
        let old = Fault::Refused("etcdserver: revision of auth store is old".to_owned());
        assert!(wants_login(&old));
        assert!(!wants_login(&Fault::Refused("etcdserver: permission denied".to_owned())));
        assert!(!wants_login(&Fault::Unreachable("user name is empty".to_owned())));
    }

    #[test]
    fn tokens_and_passwords_do_not_show() {
        let gateway = Gateway::new();
        keep(&gateway.tokens, Digest::of_bytes(b"x"), Secret::new("HFnsloEPXUZXsWfb.17"));
        assert!(!format!("{gateway:?}").contains("HFnslo"));
    }
}
