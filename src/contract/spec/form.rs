//! The JSON Schema's verdict in faults: pointers to the very place, sentences instead of keywords, and no values.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the validator's kinds of errors are not ours, and our schema uses a few"
)]

use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::nearest;
use crate::contract::faults::{Code, Fault, pointer};
use crate::contract::schema::{self, CPUS, HOST_LABEL, IMAGE, Kind, MEMORY, POSTGRES_VERSION};
use crate::model::ids::{ID_RULE, LABEL_PATTERN, NODE_NAME_PATTERN};
use crate::model::labels::HOST_LABEL_VALUE_RULE;

/// The schema of a kind of document, ready to judge.
pub(in crate::contract) struct Form {
    schema: Value,
    validator: Validator,
}

/// The form of a spec; compiling it takes milliseconds, and specs come in thousands.
pub(super) static SPEC: LazyLock<Form> = LazyLock::new(|| Form::compiled(Kind::DatabaseSpec));

impl Form {
    /// The form of a kind.
    #[expect(clippy::expect_used, reason = "the schemas are constants of the binary, and a test compiles every one")]
    pub(in crate::contract) fn compiled(kind: Kind) -> Self {
        let schema = schema::value(kind);
        let validator = jsonschema::options().should_validate_formats(true).build(&schema);
        Self { schema, validator: validator.expect("the embedded schema is one") }
    }

    /// Everything that the schema finds wrong.
    pub(in crate::contract) fn faults(&self, document: &Value) -> Vec<Fault> {
        self.validator.iter_errors(document).flat_map(|error| self.of_document(document, &error)).collect()
    }

    fn of_document(&self, document: &Value, error: &ValidationError<'_>) -> Vec<Fault> {
        // Where no field at all may stand, the error is the object's and does not name the field.
        let none_may_stand = matches!(error.kind(), ValidationErrorKind::FalseSchema);
        let place = error.instance_path().as_str();
        match document.pointer(place).and_then(Value::as_object).filter(|_| none_may_stand) {
            Some(fields) => fields.keys().map(|name| unknown_field(&self.schema, error, place, name)).collect(),
            None => of_error(&self.schema, error),
        }
    }
}

fn of_error(schema: &Value, error: &ValidationError<'_>) -> Vec<Fault> {
    let place = error.instance_path().as_str();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            unexpected.iter().map(|name| unknown_field(schema, error, place, name)).collect()
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            if let Some(values) = values_at(context, place) {
                return vec![not_one_of(place, &values)];
            }
            let branch = context.iter().find(|branch| !branch.iter().any(|inner| is_type_error_at(inner, place)));
            match branch {
                Some(branch) => branch.iter().flat_map(|error| of_error(schema, error)).collect(),
                None => vec![other_type(place, &types_at(context, place), error.instance())],
            }
        }
        _ => vec![simple(schema, error, place)],
    }
}

/// The values of a choice whose branches are all one value each: how the schema describes an enumeration with a word
/// about each value. Something of another type than all of them is no choice among them.
fn values_at(context: &[Vec<ValidationError<'_>>], place: &str) -> Option<Vec<String>> {
    let value = |branch: &Vec<ValidationError<'_>>| {
        if branch.iter().any(|inner| is_type_error_at(inner, place)) {
            return None;
        }
        branch.iter().find_map(|inner| match inner.kind() {
            ValidationErrorKind::Constant { expected_value } if inner.instance_path().as_str() == place => {
                Some(expected_value.as_str()?.to_owned())
            }
            _ => None,
        })
    };
    context.iter().map(value).collect()
}

/// The types that the branches ask for, each once, in their order.
fn types_at(context: &[Vec<ValidationError<'_>>], place: &str) -> String {
    let mut wanted: Vec<String> = Vec::new();
    for inner in context.iter().flatten().filter(|inner| is_type_error_at(inner, place)) {
        if let ValidationErrorKind::Type { kind } = inner.kind()
            && !wanted.contains(&types(kind))
        {
            wanted.push(types(kind));
        }
    }
    wanted.join(" or ")
}

fn not_one_of(place: &str, values: &[impl AsRef<str>]) -> Fault {
    let names: Vec<String> = values.iter().map(|value| format!("\"{}\"", value.as_ref())).collect();
    Fault::new(Code::InvalidValue, place, format!("must be {}", names.join(" or ")))
}

fn is_type_error_at(error: &ValidationError<'_>, place: &str) -> bool {
    matches!(error.kind(), ValidationErrorKind::Type { .. }) && error.instance_path().as_str() == place
}

fn unknown_field(schema: &Value, error: &ValidationError<'_>, place: &str, name: &str) -> Fault {
    let known = keyword_owner(schema, error).and_then(|owner| owner.get("properties")).and_then(Value::as_object);
    let near = known.and_then(|known| nearest(name, known.keys().map(String::as_str)));
    let hint = match (place, name, near) {
        ("", "spec", _) => Some("publish what is inside \"spec\" as the whole document".to_owned()),
        ("", "tenant_id", _) => {
            Some("a tenant belongs to a request; here a fleet or a broker's access list parts tenants".to_owned())
        }
        ("", "id", _) => Some("the topic names the database".to_owned()),
        (_, _, Some(near)) => Some(format!("did you mean \"{near}\"?")),
        _ => None,
    };
    let what = if place.is_empty() { "the document has".to_owned() } else { format!("{place} has") };
    let fault = Fault::new(Code::UnknownField, pointer(place, name), format!("{what} no field \"{name}\""));
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

/// The part of the schema whose keyword failed.
fn keyword_owner<'a>(schema: &'a Value, error: &ValidationError<'_>) -> Option<&'a Value> {
    let path = error.schema_path().as_str();
    let (owner, _) = path.rsplit_once('/')?;
    schema.pointer(owner)
}

fn simple(schema: &Value, error: &ValidationError<'_>, place: &str) -> Fault {
    let pattern = keyword_owner(schema, error).and_then(|owner| owner.get("pattern")).and_then(Value::as_str);
    if let Some(fault) = pattern.and_then(|pattern| of_pattern(error, place, pattern)) {
        return fault;
    }
    let range = |message: String| Fault::new(Code::OutOfRange, place, message);
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            Fault::new(Code::Required, pointer(place, name), format!("\"{name}\" must be there"))
        }
        ValidationErrorKind::Type { kind } => other_type(place, &types(kind), error.instance()),
        ValidationErrorKind::Enum { options } => {
            let names: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            not_one_of(place, &names)
        }
        ValidationErrorKind::Constant { expected_value } => {
            Fault::new(Code::InvalidValue, place, format!("must be {expected_value}"))
        }
        ValidationErrorKind::Minimum { limit } => range(format!("must be {limit} or more")),
        ValidationErrorKind::Maximum { limit } => range(format!("must be {limit} or less")),
        ValidationErrorKind::MinLength { limit } => range(format!("must have {limit} characters or more")),
        ValidationErrorKind::MaxLength { limit } => range(format!("must have {limit} characters or fewer")),
        ValidationErrorKind::MinItems { limit } => range(format!("must have {limit} entries or more")),
        ValidationErrorKind::MaxItems { limit } | ValidationErrorKind::MaxProperties { limit } => {
            range(format!("must have {limit} entries or fewer"))
        }
        ValidationErrorKind::Pattern { pattern } => {
            Fault::new(Code::InvalidFormat, place, format!("must be of the form {pattern}"))
        }
        _ => Fault::new(Code::InvalidValue, place, format!("breaks the schema's rule \"{}\"", error.kind().keyword())),
    }
}

/// A text that a pattern describes breaks one rule, whichever keyword says so.
fn of_pattern(error: &ValidationError<'_>, place: &str, pattern: &str) -> Option<Fault> {
    let is_text = error.instance().is_string();
    if !is_text || matches!(error.kind(), ValidationErrorKind::Type { .. }) {
        return None;
    }
    let (code, message) = match pattern {
        LABEL_PATTERN => (Code::InvalidId, format!("valid IDs: {ID_RULE}")),
        NODE_NAME_PATTERN => (Code::InvalidId, "a node's name is an n and a number from 1, for example n1".to_owned()),
        CPUS => (
            Code::InvalidQuantity,
            "processors are a number with up to three decimals, or thousandths: 0.5, 500m".to_owned(),
        ),
        MEMORY => (Code::InvalidQuantity, "memory is a number with a unit: 512MiB, 2GB".to_owned()),
        POSTGRES_VERSION => {
            (Code::InvalidFormat, "a version has a major and a minor part, for example 17.12".to_owned())
        }
        HOST_LABEL => (Code::InvalidFormat, format!("a label's value has {HOST_LABEL_VALUE_RULE}")),
        IMAGE => (Code::InvalidFormat, "an image is [registry/]name[:tag][@digest]".to_owned()),
        _ => return None,
    };
    Some(Fault::new(code, place, message))
}

fn types(kind: &TypeKind) -> String {
    let names = match kind {
        TypeKind::Single(one) => vec![word(&one.to_string())],
        TypeKind::Multiple(set) => set.iter().map(|one| word(&one.to_string())).collect(),
    };
    names.join(" or ")
}

fn word(json_type: &str) -> &'static str {
    match json_type {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "an object",
        _ => "null",
    }
}

fn other_type(place: &str, wanted: &str, found: &Value) -> Fault {
    let is = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let fault = Fault::new(Code::TypeMismatch, place, format!("must be {wanted}, and is {is}"));
    if found.is_null() { fault.hint("leave the field out instead") } else { fault }
}
