//! Postgres roles as pgmoor describes them, desired and observed in the same shape.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The attributes of a role that a spec may set (the reference's allow-list, section 1.4), each with its
/// Postgres default for a role made with LOGIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoleFlags {
    /// `SUPERUSER`
    pub superuser: bool,
    /// `CREATEDB`
    pub createdb: bool,
    /// `CREATEROLE`
    pub createrole: bool,
    /// `INHERIT`
    pub inherit: bool,
    /// `LOGIN`
    pub login: bool,
    /// `REPLICATION`
    pub replication: bool,
    /// `BYPASSRLS`
    pub bypassrls: bool,
}

impl Default for RoleFlags {
    /// What `CREATE ROLE x` gives.
    fn default() -> Self {
        Self {
            superuser: false,
            createdb: false,
            createrole: false,
            inherit: true,
            login: false,
            replication: false,
            bypassrls: false,
        }
    }
}

impl RoleFlags {
    /// Sets the flag that an attribute such as `CREATEDB` or `NOLOGIN` names, in any case.
    /// Gives `None` when the attribute is not on the allow-list.
    #[must_use]
    pub fn with(mut self, attribute: &str) -> Option<Self> {
        let upper = attribute.to_ascii_uppercase();
        let (name, on) = match upper.strip_prefix("NO") {
            Some(rest) => (rest, false),
            None => (upper.as_str(), true),
        };
        let flag = match name {
            "SUPERUSER" => &mut self.superuser,
            "CREATEDB" => &mut self.createdb,
            "CREATEROLE" => &mut self.createrole,
            "INHERIT" => &mut self.inherit,
            "LOGIN" => &mut self.login,
            "REPLICATION" => &mut self.replication,
            "BYPASSRLS" => &mut self.bypassrls,
            _ => return None,
        };
        *flag = on;
        Some(self)
    }

    /// The flags as SQL, every one said: `NOSUPERUSER CREATEDB …`.
    #[must_use]
    pub fn sql(self) -> String {
        [
            (self.superuser, "SUPERUSER"),
            (self.createdb, "CREATEDB"),
            (self.createrole, "CREATEROLE"),
            (self.inherit, "INHERIT"),
            (self.login, "LOGIN"),
            (self.replication, "REPLICATION"),
            (self.bypassrls, "BYPASSRLS"),
        ]
        .map(|(on, name)| format!("{}{name}", if on { "" } else { "NO" }))
        .join(" ")
    }
}

/// A role, without its password: of that only whether it is the one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleAttributes {
    /// The role's name.
    pub name: String,
    /// Its attributes.
    pub flags: RoleFlags,
    /// The roles it is a member of.
    pub member_of: BTreeSet<String>,
    /// Desired: always true. Observed: whether the stored verifier is one of the wanted password.
    pub password_matches: bool,
    /// `CONNECTION LIMIT`; desired: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<i32>,
    /// `VALID UNTIL`, after which the password is refused: RFC 3339 in UTC, or `-infinity`; desired: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    /// Whether it may ask for the password verifier of a user, through a function of pgmoor's own that gives nothing else:
    /// a pooler checks passwords by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_verifiers: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_allow_listed() {
        let flags = RoleFlags::default().with("login").and_then(|f| f.with("NOINHERIT")).unwrap();
        assert!(flags.login && !flags.inherit);
        assert_eq!(RoleFlags::default().with("SUPERUSER; DROP TABLE x"), None);
        assert_eq!(RoleFlags::default().with("NO"), None);
        assert_eq!(
            RoleFlags::default().sql(),
            "NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT NOLOGIN NOREPLICATION NOBYPASSRLS"
        );
    }
}
