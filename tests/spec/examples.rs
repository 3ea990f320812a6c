//! Every example goes through schema and types both ways.

use std::collections::BTreeMap;

use pgmoor::contract::faults::{Code, Fault};
use pgmoor::contract::schema::{self, Kind};
use pgmoor::contract::wire::DatabaseSpec;
use serde::Deserialize;
use serde_json::Value;

use crate::world::{World, list, root};

/// Faults that are of JSON or of the schema; all others are of the rules, and the schema knows nothing of them.
const FORM: [Code; 8] = [
    Code::UnknownField,
    Code::TypeMismatch,
    Code::Required,
    Code::OutOfRange,
    Code::InvalidFormat,
    Code::InvalidValue,
    Code::InvalidId,
    Code::InvalidQuantity,
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bad {
    description: String,
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    spec: Option<Value>,
    #[serde(default)]
    raw: Option<String>,
    #[serde(default)]
    previous: Option<Value>,
    expect: Vec<Expected>,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(deny_unknown_fields)]
struct Expected {
    pointer: String,
    code: Code,
}

fn folder(name: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(root().join("schemas/v1/examples").join(name)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(schema::schema(Kind::DatabaseSpec)).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

#[test]
fn valid_examples_pass_the_schema_and_are_accepted() {
    let (world, validator) = (World::new(), validator());
    let examples = folder("valid");
    for expected in ["shop.json", "minimal.json"] {
        assert!(examples.contains_key(expected), "{expected}");
    }
    for (name, text) in &examples {
        let document: Value = serde_json::from_str(text).unwrap();
        let wrong: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        let first = world.accept(text.as_bytes(), None).unwrap_or_else(|faults| panic!("{name}\n{}", list(&faults)));
        // The same document again is no change, whatever its generation.
        if !first.deleted && !first.deletion_protection {
            assert_eq!(
                world.accept(text.as_bytes(), Some(&first)).map_err(|faults| list(&faults)),
                Ok(first),
                "{name}"
            );
        }
    }
}

#[test]
fn valid_examples_keep_their_meaning_through_the_types() {
    for (name, text) in folder("valid") {
        let document: Value = serde_json::from_str(&text).unwrap();
        let types: DatabaseSpec = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(serde_json::to_value(&types).unwrap(), document, "{name}");
    }
}

#[test]
fn one_example_has_every_field_that_is_acted_on() {
    let full: Value = serde_json::from_str(&folder("valid")["full-single-node.json"]).unwrap();
    let schema: Value = serde_json::from_str(schema::schema(Kind::DatabaseSpec)).unwrap();
    let refused = ["services", "backup_config", "restore_config", "spock_version", "patroni_port", "source_node"];
    // These are for nodes that name no hosts.
    let open: Value = serde_json::from_str(&folder("valid")["placement-of-a-node.json"]).unwrap();
    let of_open = ["replicas", "host_labels"];
    assert!(of_open.iter().all(|name| open.get(name).is_some() && open["nodes"][0].get(name).is_some()));
    // These are for several nodes.
    let several: Value = serde_json::from_str(&folder("valid")["nodes-apart.json"]).unwrap();
    let of_several = ["node_replication", "node_updates"];
    assert!(of_several.iter().all(|name| several.get(name).is_some()) && several["nodes"][2].get("deleted").is_some());
    let refused: Vec<&str> = refused.into_iter().chain(of_open).chain(of_several).collect();
    let missing = |schema: &Value, object: &Value, elsewhere: &[&str]| -> Vec<String> {
        let fields = schema["properties"].as_object().unwrap().keys().map(String::as_str);
        let missing = fields.filter(|name| object.get(name).is_none() && !elsewhere.contains(name));
        missing.map(str::to_owned).collect()
    };
    assert_eq!(missing(&schema, &full, &refused), Vec::<String>::new());
    let of_node: Vec<&str> = refused.into_iter().chain(["deleted"]).collect();
    assert_eq!(missing(&schema["$defs"]["DatabaseNodeSpec"], &full["nodes"][0], &of_node), Vec::<String>::new());
}

#[test]
fn invalid_examples_give_exactly_their_faults() {
    let (world, validator) = (World::new(), validator());
    let examples = folder("invalid");
    assert!(examples.len() >= 40, "only {} invalid examples", examples.len());
    for (name, text) in &examples {
        let bad: Bad = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!bad.description.is_empty() && !bad.expect.is_empty(), "{name}");
        // No file of the repository needs to be larger than what pgmoor takes.
        let raw = bad.raw.as_ref().map(|raw| raw.replace("@LARGE@", &"x".repeat(128 * 1024)));
        let bytes = raw.unwrap_or_else(|| bad.spec.as_ref().unwrap().to_string());
        let id = bad.database.as_deref().unwrap_or("shop");
        let previous = bad.previous.as_ref().map(|spec| {
            let spec = spec.to_string();
            world.accept_as(id, spec.as_bytes(), None).unwrap_or_else(|faults| panic!("{name}\n{}", list(&faults)))
        });
        let faults = world.accept_as(id, bytes.as_bytes(), previous.as_ref()).expect_err(name);
        let mut expected = bad.expect;
        expected.sort();
        assert_eq!(brief(&faults), expected, "{name}\n{}", list(&faults));
        let helps =
            |fault: &Fault| !fault.message.is_empty() && fault.hint.as_ref().is_some_and(|hint| !hint.is_empty());
        assert!(faults.iter().all(helps), "{name}: a fault says what is wrong, and what to do\n{}", list(&faults));
        if let Some(document) = &bad.spec {
            let of_form = expected.iter().any(|fault| FORM.contains(&fault.code));
            if !of_form {
                assert!(validator.is_valid(document), "{name}: the rules refuse it, the schema must not");
            }
            if !validator.is_valid(document) {
                assert!(of_form, "{name}: what the schema refuses is told as a fault of form");
            }
        }
    }
}

fn brief(faults: &[Fault]) -> Vec<Expected> {
    let mut brief: Vec<Expected> =
        faults.iter().map(|fault| Expected { code: fault.code, pointer: fault.pointer.clone() }).collect();
    brief.sort();
    brief
}

#[test]
fn examples_use_every_code_that_reading_can_give() {
    let told: Vec<Code> = folder("invalid")
        .values()
        .flat_map(|text| serde_json::from_str::<Bad>(text).unwrap().expect)
        .map(|expected| expected.code)
        .collect();
    let elsewhere = [
        Code::RetainedCommand,
        Code::UnknownCommand,
        Code::StaleApproval,
        Code::NotFound,
        Code::NotDeleted,
        Code::HostInUse,
        Code::HostDrained,
        Code::NotEnoughHosts,
        Code::IsDeleted,
        Code::TokenInvalid,
        Code::TokenExpired,
        Code::TokenUsed,
        Code::Unavailable,
        Code::Internal,
        Code::NameTaken,
        Code::PortInUse,
        Code::VolumePathMissing,
        Code::NetworkMissing,
        Code::NetworkNotAttachable,
        Code::ImageMissing,
        Code::MemoryOvercommitted,
        Code::CpuOvercommitted,
        Code::SubnetsExhausted,
    ];
    let unused: Vec<&Code> =
        Code::ALL.iter().filter(|code| !told.contains(code) && !elsewhere.contains(code)).collect();
    assert!(unused.is_empty(), "no invalid example gives {unused:?}");
}
