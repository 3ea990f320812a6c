//! What is inside Postgres: roles, the database, extensions, scripts that run once.
//!
//! Each node has its own: where there are several, the resource's name begins with the node's, and a slash.
//!
//! Invariant: roles come after the roles that they are members of, the database after its owner, and
//! `post_database_create` last of all.

use std::collections::BTreeMap;

use super::{Inputs, minted};
use crate::domain::describe::{Draft, Drafts};
use crate::domain::{Error, layout};
use crate::model::role::RoleAttributes;
use crate::model::spec::{NodeSpec, UserSpec};
use crate::model::{AcceptedSpec, Attributes, Digest, Executor, Kind, NodeName, Payload, ResourceId};

/// The database that `initdb` makes, in which `post_init` runs.
const MAINTENANCE_DATABASE: &str = "postgres";
/// Extensions of the image that need another extension. (`CREATE EXTENSION … CASCADE` would race with the other.)
const NEEDS: [(&str, &str); 1] = [("earthdistance", "cube")];

/// What a thing inside the Postgres of a node is called.
#[must_use]
pub fn name(spec: &AcceptedSpec, node: &NodeName, thing: &str) -> String {
    if spec.nodes.len() > 1 { format!("{node}/{thing}") } else { thing.to_owned() }
}

/// The node in the name of a thing inside Postgres, where there are several.
#[must_use]
pub fn node(called: &str) -> Option<NodeName> {
    called.split_once('/').and_then(|(node, _)| NodeName::parse(node).ok())
}

pub(super) fn describe(
    drafts: &mut Drafts,
    inputs: Inputs<'_>,
    node: &NodeSpec,
    instances: &[ResourceId],
) -> Result<(), Error> {
    let spec = inputs.spec;
    let primary = || Executor::Primary(node.name.clone());
    let called = |thing: &str| name(spec, &node.name, thing);
    let scripts = &spec.scripts;
    // Whichever of the instances is primary serves: the others may be away.
    let mut ready = Vec::new();
    if !scripts.post_init.is_empty() {
        let draft = script("post_init", MAINTENANCE_DATABASE, &scripts.post_init, (called("post_init"), primary()));
        ready.push(drafts.add(draft.after_any(instances)));
    }
    let roles = roles(drafts, inputs, &node.name, (instances, &ready))?;

    let in_database = &spec.database_name;
    let owner = spec.owner();
    let attributes = Attributes::Database {
        name: in_database.clone(),
        owner: owner.map_or(layout::SUPERUSER, |user| user.username.as_str()).to_owned(),
    };
    let owner = owner.and_then(|user| roles.get(user.username.as_str()));
    let database = Draft::new(Kind::Database, called(in_database), primary(), attributes);
    let database = database.after_any(instances).after(&ready).after(owner);
    let database = drafts.add(database);

    let extensions: Vec<ResourceId> = spec
        .extensions
        .iter()
        .map(|(extension, wanted)| {
            let attributes = Attributes::Extension {
                database: in_database.clone(),
                name: extension.clone(),
                version: wanted.version.clone(),
                schema: wanted.schema.clone(),
            };
            let needed = NEEDS.iter().filter(|(of, what)| of == extension && spec.extensions.contains_key(*what));
            let needed: Vec<ResourceId> =
                needed.map(|(_, what)| ResourceId::new(Kind::Extension, called(what))).collect();
            let draft = Draft::new(Kind::Extension, called(extension), primary(), attributes)
                .after([&database])
                .after(&needed)
                .may_differ(wanted.version.is_none().then_some("/version"))
                .may_differ(wanted.schema.is_none().then_some("/schema"));
            drafts.add(draft)
        })
        .collect();
    if !scripts.post_database_create.is_empty() {
        let draft = "post_database_create";
        let draft = script(draft, in_database, &scripts.post_database_create, (called(draft), primary()));
        drafts.add(draft.after([&database]).after(roles.values()).after(&extensions));
    }
    Ok(())
}

fn roles<'a>(
    drafts: &mut Drafts,
    inputs: Inputs<'a>,
    node: &NodeName,
    (instances, ready): (&[ResourceId], &[ResourceId]),
) -> Result<BTreeMap<&'a str, ResourceId>, Error> {
    let id = |user: &UserSpec| ResourceId::new(Kind::Role, self::name(inputs.spec, node, &user.username));
    let ids: BTreeMap<&str, ResourceId> =
        inputs.spec.users.iter().map(|user| (user.username.as_str(), id(user))).collect();
    for user in &inputs.spec.users {
        let name = user.username.as_str();
        if layout::SYSTEM_ROLES.contains(&name) {
            return Err(Error::ReservedRole(name.to_owned()));
        }
        let password = minted(inputs.record.passwords.get(name), || format!("password of user \"{name}\""))?;
        let attributes = Attributes::Role(RoleAttributes {
            name: name.to_owned(),
            flags: user.flags,
            member_of: user.roles.clone(),
            password_matches: true,
            connection_limit: None,
            valid_until: None,
        });
        let groups = user.roles.iter().filter_map(|role| ids.get(role.as_str()));
        let draft = Draft::new(Kind::Role, id(user).name, Executor::Primary(node.clone()), attributes);
        drafts.add(draft.after_any(instances).after(ready).after(groups).carrying(Payload::Password(password)));
    }
    Ok(ids)
}

fn script(name: &str, database: &str, statements: &[String], (called, executor): (String, Executor)) -> Draft {
    let (database, digest) = (database.to_owned(), Digest::of(&statements));
    let attributes = Attributes::Script { database, name: name.to_owned(), done: true, statements: digest };
    let draft = Draft::new(Kind::Script, called, executor, attributes).may_differ(Some("/statements"));
    draft.carrying(Payload::Statements(statements.to_vec()))
}
