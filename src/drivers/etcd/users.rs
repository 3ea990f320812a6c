//! Users and roles: each user has one role of its own name, which may read and write one prefix.
//!
//! Invariant: every act looks first and changes only what differs. A change of a user makes all tokens of all users old,
//! and Patroni would have to log in again for nothing; and what was half done is finished by doing it again.

use serde_json::{Value, json};

use super::gateway::{Fault, Gateway};
use super::{EtcdTarget, UserSeen, json as wire};
use crate::model::Secret;

type Outcome<T> = Result<T, Fault>;

const TAKEN: &[&str] = &["user name already exists", "role name already exists"];
const GONE: &[&str] =
    &["user name not found", "role name not found", "permission is not granted to the role", "role is not granted"];

/// Nothing where the fault says what is wanted anyway.
fn unless(outcome: Outcome<Value>, wanted: &[&str]) -> Outcome<()> {
    match outcome {
        Err(fault) if !wanted.iter().any(|words| fault.says(words)) => Err(fault),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn optional(outcome: Outcome<Value>) -> Outcome<Option<Value>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(fault) if GONE.iter().any(|words| fault.says(words)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Makes `root` and switches authentication on.
pub(super) async fn enable(gateway: &Gateway, target: &EtcdTarget) -> Outcome<()> {
    match gateway.login(target, "root", &target.root_password).await {
        // On, and ours.
        Ok(_) => return Ok(()),
        Err(fault) if fault.says("authentication is not enabled") => {}
        Err(fault) => return Err(fault),
    }
    let root = json!({ "name": "root", "password": target.root_password.expose() });
    match gateway.call(target, "auth/user/add", &root).await {
        // It may be from an attempt with another password; while authentication is off nobody needs the old one.
        Err(fault) if fault.says("user name already exists") => {
            gateway.call(target, "auth/user/changepw", &root).await?;
        }
        outcome => unless(outcome, &[])?,
    }
    unless(gateway.call(target, "auth/role/add", &json!({ "name": "root" })).await, TAKEN)?;
    // Granting twice is no error in etcd.
    gateway.call(target, "auth/user/grant", &json!({ "user": "root", "role": "root" })).await?;
    gateway.call(target, "auth/enable", &json!({})).await.map(|_| ())
}

/// The user, if it is there.
pub(super) async fn look(
    gateway: &Gateway,
    target: &EtcdTarget,
    name: &str,
    password: &Secret,
) -> Outcome<Option<UserSeen>> {
    let Some(user) = optional(gateway.call(target, "auth/user/get", &json!({ "name": name })).await)? else {
        return Ok(None);
    };
    let mut prefixes = Vec::new();
    // Any other role that somebody granted shows too, for it opens what it should not.
    for role in wire::texts(&user, "roles") {
        let role = optional(gateway.call(target, "auth/role/get", &json!({ "role": role })).await)?;
        prefixes.extend(role.iter().flat_map(|role| wire::list(role, "perm")).map(wire::permitted));
    }
    Ok(Some(UserSeen { prefixes, password_matches: logs_in(gateway, target, name, password).await? }))
}

/// Whether the password logs in. Where authentication is off nobody can tell: that is not "no".
async fn logs_in(gateway: &Gateway, target: &EtcdTarget, name: &str, password: &Secret) -> Outcome<bool> {
    match gateway.login(target, name, password).await {
        Ok(_) => Ok(true),
        Err(fault) if fault.says("authentication failed") => Ok(false),
        Err(fault) if fault.says("authentication is not enabled") => {
            Err(Fault::Unreachable("authentication is off, so the password cannot be tried".to_owned()))
        }
        Err(fault) => Err(fault),
    }
}

/// Makes the user and its role what is described.
pub(super) async fn put(
    gateway: &Gateway,
    target: &EtcdTarget,
    name: &str,
    password: &Secret,
    prefix: &str,
) -> Outcome<()> {
    put_role(gateway, target, name, prefix).await?;
    let credentials = json!({ "name": name, "password": password.expose() });
    let granted = match optional(gateway.call(target, "auth/user/get", &json!({ "name": name })).await)? {
        None => {
            gateway.call(target, "auth/user/add", &credentials).await?;
            Vec::new()
        }
        Some(user) => {
            if !logs_in(gateway, target, name, password).await? {
                gateway.call(target, "auth/user/changepw", &credentials).await?;
            }
            wire::texts(&user, "roles")
        }
    };
    for other in granted.iter().filter(|role| *role != name) {
        let body = json!({ "name": name, "role": other });
        unless(gateway.call(target, "auth/user/revoke", &body).await, GONE)?;
    }
    if !granted.iter().any(|role| role == name) {
        gateway.call(target, "auth/user/grant", &json!({ "user": name, "role": name })).await?;
    }
    Ok(())
}

async fn put_role(gateway: &Gateway, target: &EtcdTarget, name: &str, prefix: &str) -> Outcome<()> {
    let role = optional(gateway.call(target, "auth/role/get", &json!({ "role": name })).await)?;
    if role.is_none() {
        unless(gateway.call(target, "auth/role/add", &json!({ "name": name })).await, TAKEN)?;
    }
    let mut there = false;
    for permission in role.iter().flat_map(|role| wire::list(role, "perm")) {
        if wire::permitted(permission) == prefix {
            there = true;
            continue;
        }
        let body = json!({
            "role": name,
            "key": wire::encode(&wire::bytes(permission, "key")),
            "range_end": wire::encode(&wire::bytes(permission, "range_end")),
        });
        unless(gateway.call(target, "auth/role/revoke", &body).await, GONE)?;
    }
    if !there {
        let mut permission = wire::below(prefix);
        if let Some(permission) = permission.as_object_mut() {
            permission.insert("permType".to_owned(), json!("READWRITE"));
        }
        gateway.call(target, "auth/role/grant", &json!({ "name": name, "perm": permission })).await?;
    }
    Ok(())
}

/// Deletes the user and its role.
pub(super) async fn delete(gateway: &Gateway, target: &EtcdTarget, name: &str) -> Outcome<()> {
    unless(gateway.call(target, "auth/user/delete", &json!({ "name": name })).await, GONE)?;
    unless(gateway.call(target, "auth/role/delete", &json!({ "role": name })).await, GONE)
}
