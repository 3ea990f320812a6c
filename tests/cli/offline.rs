//! What needs nobody else: validate, plan --offline, schema, completions, passwords, and how errors end.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::{Said, file, pgmoor, run};

fn with_input(arguments: &[&str], input: &str) -> Said {
    let mut command = pgmoor(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_good_spec_is_valid() {
    let said = run(&["validate", &file("schemas/v1/examples/valid/shop.json")]);
    assert_eq!((said.code, said.out.as_str()), (0, "shop: valid\n"), "{said:?}");
}

#[test]
fn every_fault_is_told_with_its_place() {
    let spec = r#"{"template": "postgres", "port": 70000, "nonsense": 1}"#;
    let said = with_input(&["validate", "-", "--database", "shop"], spec);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("/port: ") && said.out.contains("[out-of-range]"), "{said:?}");
    assert!(said.out.contains("/nonsense: ") && said.out.contains("[unknown-field]"), "{said:?}");
    let said = with_input(&["validate", "-", "--database", "shop", "-o", "json"], spec);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, document["valid"].as_bool()), (1, Some(false)));
    assert_eq!(document["faults"].as_array().unwrap().len(), 2);
}

#[test]
fn a_spec_must_name_its_database() {
    let said = with_input(&["validate", "-"], "{}");
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("--database ID"), "{said:?}");
    assert_eq!(run(&["validate", "/nonexistent/shop.json"]).code, 1);
}

#[test]
fn an_offline_plan_creates_everything() {
    let shop = file("schemas/v1/examples/valid/shop.json");
    let said = run(&["plan", "--offline", &shop]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.out.starts_with("database shop\n\nstage 1: create and update\n"), "{said:?}");
    assert!(said.out.contains("    + network::shop-database (does not exist)\n"), "{said:?}");
    assert!(said.out.ends_with(" 0 to update, 0 to replace, 0 to delete; disruption: none\n"), "{said:?}");
    let yaml = run(&["plan", "--offline", &shop, "-o", "yaml"]);
    let document: serde_json::Value = serde_yaml_ng::from_str(&yaml.out).unwrap();
    assert_eq!((yaml.code, document["state"].as_str()), (2, Some("proposed")));
}

#[test]
fn an_offline_plan_of_a_bad_spec_is_an_error() {
    let said = with_input(&["plan", "--offline", "-", "--database", "shop"], r#"{"port": "x"}"#);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("/port: "), "{said:?}");
}

#[test]
fn schemas_are_listed_and_printed() {
    let list = run(&["schema"]);
    assert!(list.out.lines().any(|line| line == "database-spec"), "{list:?}");
    for kind in list.out.lines() {
        let schema = run(&["schema", kind]);
        let document: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
        assert!(document.get("$schema").is_some(), "{kind}");
    }
    let said = run(&["schema", "nonsense"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("database-spec"), "{said:?}");
}

#[test]
fn completions_know_the_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        let said = run(&["completions", shell]);
        assert_eq!(said.code, 0);
        assert!(said.out.contains("validate") && said.out.contains("broker-listen"), "{shell}");
    }
}

#[test]
fn a_password_line_comes_from_standard_input() {
    let said = with_input(&["broker", "passwd", "anna"], "s3cret\n");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("anna:$7$") && !said.out.contains("s3cret"), "{said:?}");
    assert_eq!(with_input(&["broker", "passwd", "anna"], "\n").code, 1, "an empty password is none");
}

#[test]
fn usage_errors_are_errors_and_help_is_none() {
    for arguments in [&["sevre"][..], &["plan"], &["status", "NOT-AN-ID"], &["apply", "x.json", "--timeout", "0s"]] {
        let said = run(arguments);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{arguments:?}");
        assert!(!said.err.is_empty());
    }
    let said = run(&["plan", "--help"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains("--offline") && said.out.contains("PGMOOR_FLEET"), "{said:?}");
}

#[test]
fn a_broker_that_is_not_there_is_named_with_what_to_do() {
    let said = run(&["status", "--broker-listen", "127.0.0.1:9"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("127.0.0.1:9") && said.err.contains("is `pgmoor serve` running"), "{said:?}");
}

#[test]
fn a_database_of_another_host_has_no_connection_here() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(&["connection", "shop", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("no credentials of database shop"), "{said:?}");
}

#[test]
fn a_password_is_shown_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("credentials")).unwrap();
    let credentials = serde_json::json!({
        "schema_version": 1, "database": "shop", "database_name": "shop", "default_user": "owner",
        "passwords": {"owner": "s3cret"}, "network": "shop-database", "ca_file": "/ca.crt", "salt": "x",
        "instances": [{"instance": "shop-n1-689qacsi", "node": "n1", "service": "postgres-shop-n1-689qacsi",
                       "address": "192.0.2.1", "port": 5433}],
    });
    std::fs::write(dir.path().join("credentials/shop.json"), credentials.to_string()).unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let said = run(&["connection", "shop", "--data-dir", data_dir]);
    let uri = "postgresql://owner@192.0.2.1:5433/shop?sslmode=verify-full&sslrootcert=%2Fca.crt\n";
    assert_eq!((said.code, said.out.as_str()), (0, uri));
    let said = run(&["connection", "shop", "--data-dir", data_dir, "-o", "json"]);
    assert!(said.code == 0 && !said.out.contains("s3cret"), "{said:?}");
    let said = run(&["connection", "shop", "--data-dir", data_dir, "-o", "json", "--show-password"]);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((document["password"].as_str(), document["servers"][0]["port"].as_u64()), (Some("s3cret"), Some(5433)));
    let said = run(&["connection", "shop", "--data-dir", data_dir, "--pooled"]);
    assert!(said.code == 1 && said.err.contains("has no pooler"), "{said:?}");
}
