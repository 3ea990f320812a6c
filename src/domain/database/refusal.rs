//! What of a spec cannot be built, told all at once, for admission: the contract checks the document, this what it asks
//! of Patroni and Postgres.
//!
//! Invariant: a spec without refusals has a graph, once it is minted, on a host that has all its instances.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::layout;
use crate::domain::parameters::refusal;
use crate::model::{AcceptedSpec, NodeName};

/// One thing that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A parameter in `postgresql_conf` of the spec or of the node.
    Parameter {
        /// The node that it is for.
        node: NodeName,
        /// Its name as the document has it.
        name: String,
        /// Why, as a sentence for people.
        why: &'static str,
    },
    /// A user in `database_users` has the name of a role that is pgmoor's own.
    ReservedRole {
        /// Its place in `database_users`.
        index: usize,
    },
    /// A user in `database_users` is a member of itself, through other users: Postgres refuses that.
    RoleCircle {
        /// Its place in `database_users`.
        index: usize,
    },
}

/// Everything in a spec that cannot be built.
#[must_use]
pub fn refusals(spec: &AcceptedSpec) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for node in &spec.nodes {
        for (name, value) in &node.postgresql_conf {
            if let Some(why) = refusal(name, value) {
                refusals.push(Refusal::Parameter { node: node.name.clone(), name: name.clone(), why });
            }
        }
    }
    let groups: BTreeMap<&str, &BTreeSet<String>> =
        spec.users.iter().map(|user| (user.username.as_str(), &user.roles)).collect();
    for (index, user) in spec.users.iter().enumerate() {
        if layout::SYSTEM_ROLES.contains(&user.username.as_str()) {
            refusals.push(Refusal::ReservedRole { index });
        }
        if reaches_itself(&user.username, &groups) {
            refusals.push(Refusal::RoleCircle { index });
        }
    }
    refusals
}

fn reaches_itself(start: &str, groups: &BTreeMap<&str, &BTreeSet<String>>) -> bool {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut next: Vec<&str> = vec![start];
    while let Some(name) = next.pop() {
        for group in groups.get(name).copied().into_iter().flatten() {
            if group == start {
                return true;
            }
            if seen.insert(group) {
                next.push(group);
            }
        }
    }
    false
}
