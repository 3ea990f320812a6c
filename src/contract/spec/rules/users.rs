//! `database_users`: names, owner, attributes, memberships.

use std::collections::BTreeMap;

use super::{Check, postgres_name};
use crate::contract::faults::{Code, pointer};
use crate::contract::wire::DatabaseUserSpec;
use crate::model::role::RoleFlags;

/// Roles of pgmoor and of the images, and words that are no role names in SQL.
const RESERVED: [&str; 11] = [
    "pgmoor",
    "pgmoor_pooler",
    "patroni_replicator",
    "postgres",
    "pgedge",
    "pgedge_superuser",
    "public",
    "none",
    "current_user",
    "current_role",
    "session_user",
];

/// Roles that a user may not be a member of: whoever is can do what pgmoor can.
const SYSTEM: [&str; 4] = ["pgmoor", "pgmoor_pooler", "patroni_replicator", "postgres"];

pub(super) fn check(check: &mut Check<'_>) {
    let users = check.spec.database_users.as_deref().unwrap_or_default();
    let mut owner = None;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, user) in users.iter().enumerate() {
        let place = pointer("/database_users", index);
        if user.username.is_empty() {
            continue;
        }
        if seen.insert(&user.username, index).is_some() {
            let message = format!("usernames must be unique within a database: \"{}\" stands twice", user.username);
            check.add(Code::DuplicateName, pointer(&place, "username"), message);
        }
        name(check, &user.username, &pointer(&place, "username"));
        if user.db_owner == Some(true) {
            if let Some(first) = owner {
                let message = format!("cannot have multiple users with db_owner = true; \"{first}\" has it");
                check.add(Code::MultipleOwners, pointer(&place, "db_owner"), message);
            } else {
                owner = Some(user.username.as_str());
            }
        }
        if user.password.as_ref().is_some_and(|password| password.secret().expose().contains('\0')) {
            check.add(Code::InvalidFormat, pointer(&place, "password"), "a password cannot have a zero character");
        }
        attributes(check, user, &place);
        memberships(check, user, &place);
    }
    cycles(check, users);
}

fn name(check: &mut Check<'_>, name: &str, place: &str) {
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || lower.starts_with("pg_") {
        let message = format!("the name \"{name}\" is reserved");
        check.add_with_hint(Code::ReservedName, place, message, "pgmoor's own roles and names with pg_ are taken");
    } else {
        postgres_name(check, "a role's name", name, place);
    }
}

fn attributes(check: &mut Check<'_>, user: &DatabaseUserSpec, place: &str) {
    let mut said: BTreeMap<String, bool> = BTreeMap::new();
    for (index, attribute) in user.attributes.iter().enumerate() {
        let place = format!("{place}/attributes/{index}");
        if RoleFlags::default().with(attribute).is_none() {
            check.add(Code::InvalidAttribute, place, "unsupported role attribute");
            continue;
        }
        let upper = attribute.to_ascii_uppercase();
        let (flag, on) = upper.strip_prefix("NO").map_or((upper.as_str(), true), |flag| (flag, false));
        if said.insert(flag.to_owned(), on).is_some_and(|before| before != on) {
            check.add(Code::Conflict, place, format!("{flag} and NO{flag} exclude each other"));
        }
    }
}

fn memberships(check: &mut Check<'_>, user: &DatabaseUserSpec, place: &str) {
    for (index, role) in user.roles.iter().enumerate() {
        let place = format!("{place}/roles/{index}");
        if SYSTEM.contains(&role.as_str()) {
            let message = format!("nobody can be a member of the system's role \"{role}\"");
            check.add(Code::ReservedName, place, message);
        } else {
            postgres_name(check, "a role's name", role, &place);
        }
    }
}

/// Reports each membership that closes a circle among the spec's own users.
fn cycles(check: &mut Check<'_>, users: &[DatabaseUserSpec]) {
    let index_of: BTreeMap<&str, usize> =
        users.iter().enumerate().map(|(index, user)| (user.username.as_str(), index)).collect();
    let mut granted: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (member, user) in users.iter().enumerate() {
        for (at, role) in user.roles.iter().enumerate() {
            let Some(group) = index_of.get(role.as_str()).copied() else { continue };
            if reaches(&granted, group, member) {
                let message = format!("\"{}\" and \"{role}\" would be members of each other", user.username);
                check.add(Code::MembershipCycle, format!("/database_users/{member}/roles/{at}"), message);
            } else {
                granted.entry(member).or_default().push(group);
            }
        }
    }
}

fn reaches(granted: &BTreeMap<usize, Vec<usize>>, from: usize, to: usize) -> bool {
    let mut open = vec![from];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            open.extend(granted.get(&at).into_iter().flatten());
        }
    }
    false
}
