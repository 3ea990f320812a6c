//! Generated files are as the code makes them. `PGMOOR_WRITE=1` writes them (`make generate`).

use pgmoor::contract::schema::{self, Kind};

use crate::world::root;

#[test]
fn generated_files_are_up_to_date() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one switch of this test; the product reads its environment in app"
    )]
    let write = std::env::var("PGMOOR_WRITE").is_ok_and(|value| value == "1");
    let mut stale = Vec::new();
    for file in pgmoor::contract::generated::files() {
        let path = root().join(&file.path);
        if write {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &file.content).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != file.content {
            stale.push(file.path);
        }
    }
    assert!(stale.is_empty(), "run `make generate`: {stale:?}");
}

#[test]
fn there_is_no_schema_file_without_a_kind() {
    for entry in std::fs::read_dir(root().join("schemas/v1")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(kind) = name.strip_suffix(".schema.json") {
            assert!(Kind::parse(kind).is_some_and(Kind::has_own_schema), "{name} belongs to no kind");
        }
    }
}

#[test]
fn every_embedded_schema_is_a_schema() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::JsonSchema) {
        let schema: serde_json::Value = serde_json::from_str(schema::schema(kind)).unwrap();
        assert!(jsonschema::options().should_validate_formats(true).build(&schema).is_ok(), "{}", kind.as_str());
        assert_eq!(schema["type"], "object", "{}", kind.as_str());
        undescribed(kind.as_str(), &schema);
    }
}

/// Each field of each object says what it is.
fn undescribed(place: &str, schema: &serde_json::Value) {
    if let Some(fields) = schema.get("properties").and_then(|fields| fields.as_object()) {
        for (name, field) in fields {
            assert!(field.get("description").is_some(), "{place}/{name} has no description");
        }
    }
    for (name, definition) in schema.get("$defs").and_then(|defs| defs.as_object()).into_iter().flatten() {
        undescribed(&format!("{place}/{name}"), definition);
    }
}
