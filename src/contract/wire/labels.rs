//! `host_labels`: what a host must have to be chosen.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::model::HostLabels;
use crate::model::labels::{HOST_LABEL_CHARS_MAX, HOST_LABELS_MAX};

/// The form of a value.
pub(in crate::contract) const VALUE: &str = crate::model::labels::HOST_LABEL_VALUE_PATTERN;

/// Labels of hosts: names and values, at most 16.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostLabelsSpec(pub HostLabels);

impl JsonSchema for HostLabelsSpec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HostLabels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": HOST_LABEL_CHARS_MAX, "pattern": VALUE},
            "maxProperties": HOST_LABELS_MAX,
        })
    }
}
