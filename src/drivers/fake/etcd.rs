//! The fleet's etcd: keys with revisions, users, and authentication that is off until it is switched on.
//!
//! It answers only while a container with its data directory runs, and the data stays when the container goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::World;
use super::call::{Outcome, Refusal, System};
use super::certificate::ServerIdentity;
use super::engine::Process;
use super::etcd_members::{Members, joins};
use super::state::State;
use crate::drivers::Result;
use crate::drivers::etcd::{Etcd, EtcdTarget, KeySeen, MemberSeen, UserSeen};
use crate::model::Secret;

/// etcd's answer to a wrong login.
const BAD_LOGIN: &str = "etcdserver: authentication failed, invalid user ID or password";
/// etcd's answer to its JSON gateway when a client's certificate has a common name and authentication is on.
const COMMON_NAME: &str = "error \"etcdserver: user name in the certificate\": 400 Bad Request";

/// A user with the role of the same name.
#[derive(Debug)]
struct User {
    password: Secret,
    prefixes: Vec<String>,
}

/// A key's value, shared with whoever loaded it, and the revision of its last change.
#[derive(Debug, Clone)]
struct Kept {
    value: Arc<[u8]>,
    mod_revision: i64,
}

/// What lies in a member's data directory.
#[derive(Debug, Default)]
pub(super) struct EtcdData {
    root: Option<Secret>,
    authentication: bool,
    users: BTreeMap<String, User>,
    keys: BTreeMap<String, Kept>,
    revision: i64,
    pub(super) members: Members,
    /// Where the cluster's data is, of a member that joined it.
    stands_on: Option<String>,
    /// Until when keys last that somebody has to renew.
    leases: BTreeMap<String, i64>,
}

impl EtcdData {
    pub(super) fn get(&self, key: &str) -> Option<&Arc<[u8]>> {
        self.keys.get(key).map(|kept| &kept.value)
    }

    /// Keys with this beginning.
    pub(super) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let keys = self.keys.range(prefix.to_owned()..).map(|(key, _)| key.as_str());
        keys.take_while(move |key| key.starts_with(prefix))
    }

    pub(super) fn put(&mut self, key: &str, value: &[u8]) {
        self.revision += 1;
        self.keys.insert(key.to_owned(), Kept { value: Arc::from(value), mod_revision: self.revision });
    }

    /// Puts a key that lasts until then, or renews it.
    pub(super) fn put_until(&mut self, key: &str, value: &str, until_ms: i64) {
        if self.get(key).is_none_or(|has| **has != *value.as_bytes()) {
            self.put(key, value.as_bytes());
        }
        self.leases.insert(key.to_owned(), until_ms);
    }

    /// Whether a key that was put so lasts still.
    pub(super) fn lasts(&self, key: &str, now_ms: i64) -> bool {
        self.leases.get(key).is_some_and(|until_ms| now_ms < *until_ms)
    }

    /// Whether this user, with this password, may write below a prefix.
    pub(super) fn lets(&self, user: &str, password: &str, prefix: &str) -> bool {
        !self.authentication
            || self.users.get(user).is_some_and(|user| {
                user.password.expose() == password && user.prefixes.iter().any(|own| prefix.starts_with(own.as_str()))
            })
    }

    fn login(&self, target: &EtcdTarget, common_name: &str) -> Outcome<()> {
        if !self.authentication {
            return Ok(());
        }
        if self.root.as_ref() != Some(&target.root_password) {
            return Err(Refusal::failed(BAD_LOGIN));
        }
        if common_name.is_empty() { Ok(()) } else { Err(Refusal::failed(COMMON_NAME)) }
    }

    fn compare_and_put(&mut self, key: &str, value: &[u8], expected: Option<i64>) -> Outcome<()> {
        let is = self.keys.get(key).map_or(0, |seen| seen.mod_revision);
        if expected.is_some_and(|expected| expected != is) {
            return Err(Refusal::Conflict(format!("the key is at revision {is}")));
        }
        self.put(key, value);
        Ok(())
    }
}

impl State {
    /// The program of an etcd container comes up: its data directory is there, or is made.
    pub(super) fn boot_etcd(&mut self, id: &str) -> std::result::Result<String, String> {
        let Some(container) = self.containers.get(id) else { return Err("no container".to_owned()) };
        let data_dir = container.attributes.env.get("ETCD_DATA_DIR").map_or("/var/lib/etcd", String::as_str);
        let data = format!("{}/member", container.host_path(data_dir)?);
        let uid = container.uid;
        self.etcd_identity(id)?;
        let stands_on = if joins(container) { Some(self.cluster_of(container)?) } else { None };
        if self.files.etcd(&data).is_none() {
            let above = data.trim_end_matches("/member");
            let writable = matches!(self.files.directory(above), Ok(Some(seen)) if seen.uid == uid);
            if !writable {
                return Err(format!("cannot access data directory: {above}: permission denied"));
            }
            self.files.put_etcd(&data, uid);
        }
        if let (Some(own), Some(container)) = (self.files.etcd_mut(&data), self.containers.get(id)) {
            if stands_on.is_none() {
                own.members.found(container);
            }
            own.stands_on = stands_on;
        }
        Ok(data)
    }

    /// What an etcd container shows and trusts; none when it speaks without TLS.
    fn etcd_identity(&self, id: &str) -> std::result::Result<Option<ServerIdentity>, String> {
        let Some(container) = self.containers.get(id) else { return Ok(None) };
        let setting = |name: &str| container.attributes.env.get(name);
        let (Some(certificate), Some(ca)) = (setting("ETCD_CERT_FILE"), setting("ETCD_TRUSTED_CA_FILE")) else {
            return Ok(None);
        };
        let read = |inside: &str| self.files.read_as(&container.host_path(inside)?, container.uid);
        if let Some(key) = setting("ETCD_KEY_FILE") {
            read(key)?;
        }
        ServerIdentity::load(read(certificate)?, read(ca)?).map(Some)
    }

    /// The data directory of the first of these members that answers to somebody on this node, and its container.
    pub(super) fn etcd_behind(&self, from: &str, members: &[(String, u16)]) -> Option<(&str, &str)> {
        members.iter().find_map(|(address, port)| {
            // An address that no host has is one of the host itself, its loopback above all.
            let node = self.machines.node_at(address).unwrap_or(from);
            let container =
                self.publisher(node, *port).filter(|container| container.is_running() && container.healthy)?;
            if !self.machines.reach(from, node) {
                return None;
            }
            match &container.process {
                Process::Etcd { data } => {
                    let home = self.files.etcd(data)?.stands_on.as_deref().unwrap_or(data);
                    let members = &self.files.etcd(home)?.members;
                    let serves = members.serves(container) && self.has_quorum(members, container);
                    serves.then_some((container.id.as_str(), home))
                }
                Process::Plain | Process::Postgres(_) => None,
            }
        })
    }

    /// The data of the etcd that a target names, after the handshake, and the client's common name.
    fn etcd_path(&self, target: &EtcdTarget) -> Outcome<(String, String)> {
        let mut why = "connection refused".to_owned();
        for endpoint in &target.endpoints {
            let address = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, address)| address);
            let Some((host, port)) = address.rsplit_once(':') else { continue };
            let name = host.trim_matches(['[', ']']);
            let Ok(port) = port.parse() else { continue };
            let Some((id, data)) = self.etcd_behind(&self.here, &[(name.to_owned(), port)]) else { continue };
            match self.etcd_identity(id).map_err(Refusal::Unreachable)? {
                None => return Ok((data.to_owned(), String::new())),
                Some(identity) => match identity.handshake(name, &target.identity) {
                    Ok(common_name) => return Ok((data.to_owned(), common_name)),
                    Err(Refusal::Unreachable(refused)) => why = refused,
                    Err(other) => return Err(other),
                },
            }
        }
        Err(Refusal::Unreachable(why))
    }

    /// The data after handshake and login.
    fn etcd_open(&mut self, target: &EtcdTarget) -> Outcome<&mut EtcdData> {
        let (path, common_name) = self.etcd_path(target)?;
        let gone = || Refusal::Unreachable("the member lost its data".to_owned());
        let data = self.files.etcd_mut(&path).ok_or_else(gone)?;
        data.login(target, &common_name)?;
        Ok(data)
    }
}

#[async_trait]
impl Etcd for World {
    async fn authentication(&self, target: &EtcdTarget) -> Result<bool> {
        let about = "ask etcd for authentication".to_owned();
        self.call(System::Etcd, "etcd.authentication", about, |state| {
            let (path, _) = state.etcd_path(target)?;
            Ok(state.files.etcd(&path).is_some_and(|data| data.authentication))
        })
        .await
    }

    async fn enable_authentication(&self, target: &EtcdTarget) -> Result<()> {
        let about = "enable etcd's authentication".to_owned();
        self.call(System::Etcd, "etcd.enable_authentication", about, |state| {
            state.watch.secret(target.root_password.expose());
            let data = state.etcd_open(target)?;
            data.root = Some(target.root_password.clone());
            data.authentication = true;
            Ok(())
        })
        .await
    }

    async fn members(&self, target: &EtcdTarget) -> Result<Vec<MemberSeen>> {
        let about = "list etcd members".to_owned();
        self.call(System::Etcd, "etcd.members", about, |state| Ok(state.etcd_open(target)?.members.list())).await
    }

    async fn add_member(&self, target: &EtcdTarget, peer_url: &str) -> Result<()> {
        let about = format!("add etcd member {peer_url}");
        self.call(System::Etcd, "etcd.add_member", about, |state| state.etcd_open(target)?.members.add(peer_url)).await
    }

    async fn promote_member(&self, target: &EtcdTarget, id: &str) -> Result<()> {
        let about = format!("promote etcd member {id}");
        self.call(System::Etcd, "etcd.promote_member", about, |state| {
            let Some(url) = state.etcd_open(target)?.members.learner(id)? else { return Ok(()) };
            state.has_caught_up(&url)?;
            state.etcd_open(target)?.members.promote(id)
        })
        .await
    }

    async fn move_member(&self, target: &EtcdTarget, id: &str, peer_url: &str) -> Result<()> {
        let about = format!("move etcd member {id}");
        self.call(System::Etcd, "etcd.move_member", about, |state| {
            state.etcd_open(target)?.members.relocate(id, peer_url)
        })
        .await
    }

    async fn remove_member(&self, target: &EtcdTarget, id: &str) -> Result<()> {
        let about = format!("remove etcd member {id}");
        self.call(System::Etcd, "etcd.remove_member", about, |state| {
            state.etcd_open(target)?.members.remove(id);
            Ok(())
        })
        .await
    }

    async fn users(&self, target: &EtcdTarget) -> Result<Vec<String>> {
        let about = "list etcd users".to_owned();
        self.call(System::Etcd, "etcd.users", about, |state| {
            Ok(state.etcd_open(target)?.users.keys().cloned().collect())
        })
        .await
    }

    async fn user(&self, target: &EtcdTarget, name: &str, password: &Secret) -> Result<Option<UserSeen>> {
        let about = format!("look at etcd user {name}");
        self.call(System::Etcd, "etcd.user", about, |state| {
            let data = state.etcd_open(target)?;
            let Some(user) = data.users.get(name) else { return Ok(None) };
            if !data.authentication {
                // Nothing checks a password then, so nothing can be said about it.
                return Err(Refusal::Unreachable("authentication is off, so the password cannot be tried".to_owned()));
            }
            let password_matches = user.password == *password;
            Ok(Some(UserSeen { prefixes: user.prefixes.clone(), password_matches }))
        })
        .await
    }

    async fn put_user(&self, target: &EtcdTarget, name: &str, password: &Secret, prefix: &str) -> Result<()> {
        let about = format!("put etcd user {name}");
        self.call(System::Etcd, "etcd.put_user", about, |state| {
            state.watch.secret(password.expose());
            let user = User { password: password.clone(), prefixes: vec![prefix.to_owned()] };
            state.etcd_open(target)?.users.insert(name.to_owned(), user);
            Ok(())
        })
        .await
    }

    async fn delete_user(&self, target: &EtcdTarget, name: &str) -> Result<()> {
        let about = format!("delete etcd user {name}");
        self.call(System::Etcd, "etcd.delete_user", about, |state| {
            state.etcd_open(target)?.users.remove(name);
            Ok(())
        })
        .await
    }

    async fn get(&self, target: &EtcdTarget, key: &str) -> Result<Option<KeySeen>> {
        let about = format!("get {key}");
        self.call(System::Etcd, "etcd.get", about, |state| {
            let seen = |kept: &Kept| KeySeen { value: kept.value.to_vec(), mod_revision: kept.mod_revision };
            Ok(state.etcd_open(target)?.keys.get(key).map(seen))
        })
        .await
    }

    async fn keys(&self, target: &EtcdTarget, prefix: &str) -> Result<Vec<String>> {
        let about = format!("list keys below {prefix}");
        self.call(System::Etcd, "etcd.keys", about, |state| {
            let keys = state.etcd_open(target)?.keys.range(prefix.to_owned()..).map(|(key, _)| key);
            Ok(keys.take_while(|key| key.starts_with(prefix)).cloned().collect())
        })
        .await
    }

    async fn put(&self, target: &EtcdTarget, key: &str, value: &[u8], expected: Option<i64>) -> Result<()> {
        let about = format!("put {key}");
        self.call(System::Etcd, "etcd.put", about, |state| {
            state.watch.visible(&format!("etcd key {key}"), &String::from_utf8_lossy(value));
            state.etcd_open(target)?.compare_and_put(key, value, expected)
        })
        .await
    }

    async fn delete_prefix(&self, target: &EtcdTarget, prefix: &str) -> Result<()> {
        let about = format!("delete keys below {prefix}");
        self.call(System::Etcd, "etcd.delete_prefix", about, |state| {
            state.etcd_open(target)?.keys.retain(|key, _| !key.starts_with(prefix));
            state.count("delete keys", prefix);
            Ok(())
        })
        .await
    }
}
