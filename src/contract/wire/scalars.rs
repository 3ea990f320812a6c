//! The small values of a spec: patterns, secrets, parameters.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Secret;

/// The rule for ids (reference 1.1), without their length.
pub(in crate::contract) const ID: &str = crate::model::ids::LABEL_PATTERN;
/// Reference 1.1.
pub(in crate::contract) const CPUS: &str = r"^[0-9]+(\.[0-9]{1,3}|m)?$";
/// A number, decimals allowed, with an SI or IEC unit (reference 1.1); units in any case, as the reference reads them.
pub(in crate::contract) const MEMORY: &str = r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtTpP][iI]?)?[bB]?$";
/// Reference 1.1.
pub(in crate::contract) const POSTGRES_VERSION: &str = r"^[0-9]{2}\.[0-9]{1,2}$";

/// An image reference, roughly: the registry decides the rest.
pub(in crate::contract) const IMAGE: &str = r"^[a-z0-9][A-Za-z0-9._:/@-]*$";

/// A secret as it stands in a spec. Shown as `***`; written in clear only when the spec itself is written.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretText(Secret);

impl SecretText {
    /// The secret, for the accepted spec.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl JsonSchema for SecretText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "writeOnly": true})
    }
}

/// The value of a parameter: a text, a number or a boolean, as Postgres takes them.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParameterValue {
    /// `on` or `off`.
    Bool(bool),
    /// As it stands.
    Number(serde_json::Number),
    /// As it stands.
    Text(String),
}

impl ParameterValue {
    /// The value as text, as `postgresql.conf` has it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Bool(true) => "on".to_owned(),
            Self::Bool(false) => "off".to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl fmt::Debug for ParameterValue {
    /// Hidden: a parameter may hold a connection string with a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl JsonSchema for ParameterValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ParameterValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean"]})
    }
}

/// Parameters of `postgresql.conf`, at most 64 (reference 1.2).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parameters(pub BTreeMap<String, ParameterValue>);

impl Parameters {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl JsonSchema for Parameters {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Parameters".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<ParameterValue>();
        json_schema!({"type": "object", "additionalProperties": value, "maxProperties": 64})
    }
}
