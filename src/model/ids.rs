//! Typed ids. Each is parsed once, at the border, and is valid ever after.
//!
//! The rule for ids that people choose is the reference's (section 1.1): 1–36 lowercase letters, digits and single
//! hyphens, starting and ending with a letter or digit. Derived ids (instances) may be longer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

/// What is known of the hosts of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetHosts {
    /// All of them.
    pub known: BTreeSet<HostId>,
    /// Those of them that get nothing new.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub drained: BTreeSet<HostId>,
    /// Where a database is whose spec leaves its host open, and whose record, from before hosts were chosen, tells nothing.
    pub default: HostId,
}

impl FleetHosts {
    /// The only host of the fleet; none: it has several, or they are not known.
    #[must_use]
    pub fn only(&self) -> Option<&HostId> {
        self.known.first().filter(|_| self.known.len() == 1)
    }
}

/// The hosts of the instances of each node.
pub type NodeHosts = BTreeMap<NodeName, Vec<HostId>>;

/// Which database has a port of a host.
pub type HostPorts = BTreeMap<(HostId, u16), DatabaseId>;

/// The most characters an id chosen by a person may have (reference 1.1).
pub const ID_CHARS_MAX: usize = 36;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} \"{text}\" is not valid: {rule}")]
pub struct IdError {
    /// Which id was read, for example `database id`.
    pub what: &'static str,
    /// The text as it came.
    pub text: String,
    /// The rule that it breaks, as a sentence for people.
    pub rule: &'static str,
}

/// The rule for ids that people choose, as it is told to them.
pub const ID_RULE: &str = "1-36 characters, only lowercase letters, digits and hyphens, \
     starting and ending with a letter or digit, without two hyphens in a row";

/// The most characters of a derived id that we put in a schema: database, service and host id with two hyphens.
pub const LABEL_CHARS_MAX: usize = 3 * ID_CHARS_MAX + 2;

/// The rule for derived ids, as it is told to people.
pub const LABEL_RULE: &str = "lowercase letters, digits and single hyphens, 110 characters at most";

/// [`LABEL_RULE`], and without its length [`ID_RULE`], as a regular expression for JSON Schema.
pub const LABEL_PATTERN: &str = "^[a-z0-9]+(-[a-z0-9]+)*$";

/// The rule of [`NodeName`] as a regular expression for JSON Schema.
pub const NODE_NAME_PATTERN: &str = "^n[1-9][0-9]{0,3}$";

fn chosen_id_is_valid(text: &str) -> bool {
    text.len() <= ID_CHARS_MAX && label_is_valid(text)
}

fn label_is_valid(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= LABEL_CHARS_MAX
        && text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && !text.contains("--")
        && text.chars().all(|c| alphanumeric(c) || c == '-')
}

fn node_is_valid(text: &str) -> bool {
    text.strip_prefix('n').is_some_and(|digits| {
        !digits.is_empty()
            && digits.len() <= 4
            && !digits.starts_with('0')
            && digits.chars().all(|c| c.is_ascii_digit())
    })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:expr, $rule:expr, $pattern:expr, $chars_max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads the id.
            ///
            /// # Errors
            /// The text breaks the rule of this id.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError { what: $what, text: text.chars().take(80).collect(), rule: $rule })
                }
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern, "maxLength": $chars_max})
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// One Swarm cluster and the databases on it; the level below `pgmoor/v1/` in every topic.
    FleetId, "fleet id", chosen_id_is_valid, ID_RULE, LABEL_PATTERN, ID_CHARS_MAX
);
id!(
    /// One machine of the Swarm. Default: its short hostname.
    HostId, "host id", chosen_id_is_valid, ID_RULE, LABEL_PATTERN, ID_CHARS_MAX
);
id!(
    /// One database: what a spec topic describes.
    DatabaseId, "database id", chosen_id_is_valid, ID_RULE, LABEL_PATTERN, ID_CHARS_MAX
);
id!(
    /// A running `pgmoor serve`; the same text as the host id it runs on.
    ControllerId, "controller id", chosen_id_is_valid, ID_RULE, LABEL_PATTERN, ID_CHARS_MAX
);
id!(
    /// `n1`, `n2`, …: one writable primary with its replicas.
    NodeName, "node name", node_is_valid, "an n and a number from 1, for example n1", NODE_NAME_PATTERN, 5
);
id!(
    /// One Postgres under Patroni on one host: `{db}-{node}-{hash of the host}`; up to 51 characters.
    InstanceId, "instance id", label_is_valid, LABEL_RULE, LABEL_PATTERN, LABEL_CHARS_MAX
);
id!(
    /// One container beside a database, on one host.
    ServiceInstanceId, "service instance id", label_is_valid, LABEL_RULE, LABEL_PATTERN, LABEL_CHARS_MAX
);
id!(
    /// One operation that a person asked for; a UUID.
    TaskId, "task id", label_is_valid, LABEL_RULE, LABEL_PATTERN, LABEL_CHARS_MAX
);

impl NodeName {
    /// The node's number: 1 for `n1`.
    #[must_use]
    pub fn ordinal(&self) -> u16 {
        self.0.get(1..).and_then(|digits| digits.parse().ok()).unwrap_or(1)
    }
}

/// Characters of the host's hash in an instance id (reference 1.9).
const HOST_HASH_CHARS: usize = 8;

impl InstanceId {
    /// The id of the instance of `node` of `database` on `host`, as the reference derives it (1.9).
    #[must_use]
    pub fn derive(database: &DatabaseId, node: &NodeName, host: &HostId) -> Self {
        Self(format!("{database}-{node}-{}", short_hash(host.as_str())))
    }

    /// The node that it is of; none: it was not derived by [`InstanceId::derive`].
    #[must_use]
    pub fn node(&self) -> Option<NodeName> {
        let (rest, _host) = self.0.rsplit_once('-')?;
        let (_database, node) = rest.rsplit_once('-')?;
        NodeName::parse(node).ok()
    }

    /// Whether it was derived for this host.
    #[must_use]
    pub fn is_on(&self, host: &HostId) -> bool {
        self.0.rsplit_once('-').is_some_and(|(_, end)| end == short_hash(host.as_str()))
    }
}

/// Eight characters of base 36 that stand for `text` in a derived name.
#[must_use]
pub fn short_hash(text: &str) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digest: [u8; 20] = Sha1::digest(text.as_bytes()).into();
    let mut number: Vec<u8> = digest.to_vec();
    let mut reversed = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut rest: u32 = 0;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).unwrap_or(0);
            rest = value % 36;
        }
        reversed.push(DIGITS.get(rest as usize).copied().unwrap_or(b'0'));
    }
    reversed.iter().rev().take(HOST_HASH_CHARS).map(|c| char::from(*c)).collect()
}

/// What one plan covers: the fleet's own resources (authority, etcd), or one database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "scope", content = "id")]
pub enum Scope {
    /// Resources that all databases of the fleet share.
    Fleet,
    /// Resources of one database.
    Database(DatabaseId),
}

impl Scope {
    /// The text of the label `pgmoor.scope` on Swarm objects: `fleet`, or `db.{id}` (a dot, which no id has).
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Fleet => "fleet".to_owned(),
            Self::Database(id) => format!("db.{id}"),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("fleet"),
            Self::Database(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_ids_follow_the_rule() {
        for good in ["a", "shop", "shop-1", "0a", &"a".repeat(36)] {
            assert!(DatabaseId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "A", "a_b", "a.b", "ä", "a/b", &"a".repeat(37)] {
            assert!(DatabaseId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn node_names_are_anchored() {
        assert_eq!(NodeName::parse("n9").map(|n| n.ordinal()), Ok(9));
        for bad in ["n", "n0", "xn1y", "n1y", "1", "n01"] {
            assert!(NodeName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instance_ids_are_stable() {
        let id = InstanceId::derive(
            &DatabaseId::parse("shop").unwrap(),
            &NodeName::parse("n1").unwrap(),
            &HostId::parse("host-1").unwrap(),
        );
        // base36(sha1("host-1")) computed with Python's hashlib.
        assert_eq!(id.as_str(), format!("shop-n1-{}", short_hash("host-1")));
        assert_eq!(id.node(), NodeName::parse("n1").ok());
        assert_eq!(short_hash("host-1").len(), 8);
        assert_eq!(short_hash("host-1"), HOST_1_HASH);
    }

    const HOST_1_HASH: &str = "689qacsi";
}
