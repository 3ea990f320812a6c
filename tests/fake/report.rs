//! The support bundle, end to end: what is in it, that no password is, and that its decisions can be made again.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use pgmoor::domain::layout;
use pgmoor::model::DatabaseId;
use serde_json::Value;

use crate::daemon::Daemon;
use crate::start;

/// In the spec, by choice of its author.
const CHOSEN: &str = "chosen-by-the-author";
/// In the credentials file of the host.
const KEPT: &str = "kept-on-\"this\"-host";

fn spec(more: &str) -> String {
    format!(
        r#"{{"database_name": "shop", "database_users": [{{"username": "a", "password": "{CHOSEN}", "db_owner": true}},
            {{"username": "b"}}], "pg_hba_conf": ["host all all 192.0.2.0/24 ldap ldapserver=x ldapbasedn=y ldapbindpasswd={CHOSEN}"]{more}}}"#
    )
}

/// Writes a bundle with the command line; gives its path.
fn report(daemon: &Daemon, more: &[&str]) -> PathBuf {
    let directory = daemon.directory.path();
    let (path, data, log) = (directory.join("b.tar.gz"), directory.join("data"), directory.join("log"));
    let [file, data, log] = [&path, &data, &log].map(|path| path.to_str().unwrap());
    let own = ["report", "-o", file, "--data-dir", data, "--log-file", log, "--drivers", "fake"];
    let said = daemon.cli(&[&own, more].concat());
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    path
}

/// The files of a bundle.
fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(entry.path().unwrap().to_string_lossy().into_owned(), text);
    }
    files
}

/// A credentials file, as the daemon keeps it on a real host: the in-memory world has no files.
fn keep_credentials(daemon: &Daemon) {
    let data = daemon.directory.path().join("data").to_string_lossy().into_owned();
    std::fs::create_dir_all(layout::credentials_directory(&data)).unwrap();
    let credentials = serde_json::json!({
        "schema_version": 1, "database": "shop", "database_name": "shop", "default_user": "a",
        "passwords": {"b": KEPT}, "instances": [], "network": "n", "ca_file": "c", "salt": "s",
    });
    let path = layout::credentials_file(&data, &DatabaseId::parse("shop").unwrap());
    std::fs::write(path, credentials.to_string()).unwrap();
}

#[test]
fn a_bundle_tells_everything_but_passwords() {
    let daemon = start();
    daemon.apply("shop", &spec(""));
    daemon.apply("shop", &spec(r#", "postgresql_conf": {"work_mem": "9MB"}"#));
    daemon.apply("other", r#"{"database_name": "other"}"#);
    keep_credentials(&daemon);
    let log = std::fs::OpenOptions::new().append(true).open(daemon.directory.path().join("log"));
    let line = serde_json::json!({"level": "INFO", "message": format!("psql said {KEPT} and {CHOSEN}")});
    std::io::Write::write_all(&mut log.unwrap(), format!("{line}\n").as_bytes()).unwrap();

    let files = unpacked(&report(&daemon, &[]));
    for name in [
        "manifest.json",
        "doctor.json",
        "host.json",
        "settings.json",
        "logs/daemon.log",
        "topics/databases/shop/spec.json",
        "topics/databases/shop/status.json",
        "topics/databases/shop/plan.json",
        "topics/databases/other/status.json",
        "topics/hosts/host-1/status.json",
        "topics/controllers/host-1/availability.json",
        "databases/shop/explain.txt",
        "databases/shop/history.json",
        "databases/shop/diff.json",
        "decisions/shop/now.json",
        "decisions/kept/000001.json",
    ] {
        assert!(files.contains_key(name), "{name} is not among {:?}", files.keys());
    }
    for (name, text) in &files {
        for secret in [CHOSEN, KEPT, &KEPT.replace('"', "\\\"")] {
            assert!(!text.contains(secret), "a password in {name}: {text}");
        }
    }
    assert!(files["logs/daemon.log"].contains("psql said (hidden) and (hidden)"));
    assert!(files["topics/databases/shop/spec.json"].contains(r#""username": "a""#));
    let manifest: Value = serde_json::from_str(&files["manifest.json"]).unwrap();
    assert_eq!(manifest["files"].as_object().unwrap().len(), files.len() - 1);
    let missing = manifest["missing"].as_array().unwrap();
    assert!(missing.iter().any(|one| one["what"] == "docker"), "{missing:?}");

    let only = unpacked(&report(&daemon, &["other"]));
    assert!(only.contains_key("topics/databases/other/spec.json"));
    assert!(!only.keys().any(|name| name.contains("shop")), "{:?}", only.keys());
}

/// Makes the decisions of a bundle again; gives the exit code, the answer and what was said beside it.
fn replay(path: &Path) -> (Option<i32>, Value, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pgmoor"));
    let said = command.arg("replay").arg(path).args(["-o", "json"]).output().unwrap();
    let answer = serde_json::from_slice(&said.stdout).unwrap_or_default();
    (said.status.code(), answer, String::from_utf8(said.stderr).unwrap())
}

/// Packs files as a bundle.
fn pack(path: &Path, files: &BTreeMap<String, String>) {
    let file = std::fs::File::create(path).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}

#[test]
fn decisions_are_made_again_and_a_difference_is_found() {
    let daemon = start();
    daemon.apply("shop", &spec(""));
    daemon.apply("shop", &spec(r#", "port": 15998"#));
    let path = report(&daemon, &["shop"]);
    let (code, answer, beside) = replay(&path);
    assert_eq!(code, Some(0), "{answer:#} {beside}");
    let decisions = answer["decisions"].as_array().unwrap();
    let about = |database: &Value| decisions.iter().filter(|one| one["told"]["database"] == *database).count();
    assert!(about(&Value::from("shop")) >= 3, "created, changed, and now: {answer:#}");
    assert!(about(&Value::Null) >= 1, "and the fleet's own services: {answer:#}");
    for one in decisions {
        assert_eq!(
            (&one["same"], &one["replayed"]["end"]["end"]),
            (&Value::from(true), &Value::from("settled")),
            "{one:#}"
        );
    }
    let created = decisions.iter().find(|one| one["told"]["database"] == "shop").unwrap();
    assert!(created["replayed"]["rounds"][0]["steps"].as_array().unwrap().len() > 10, "{created:#}");
    assert!(!created["told"]["begun"].as_array().unwrap().is_empty(), "{created:#}");

    let whole = unpacked(&path);
    let mut altered = whole.clone();
    let now = altered.get_mut("decisions/shop/now.json").unwrap();
    let mut decision: Value = serde_json::from_str(now).unwrap();
    let seen = decision["decision"]["observed"]["resources"].as_array_mut().unwrap();
    let network = seen.iter_mut().find(|pair| pair[0]["kind"] == "network").unwrap();
    network[1] = serde_json::json!({"seen": "absent"});
    *now = decision.to_string();
    pack(&path, &altered);
    let (code, answer, beside) = replay(&path);
    assert_eq!(code, Some(2), "{answer:#} {beside}");
    let other: Vec<&Value> =
        answer["decisions"].as_array().unwrap().iter().filter(|one| one["same"] == false).collect();
    assert_eq!(other.len(), 1);
    assert_eq!(other[0]["file"], "decisions/shop/now.json");
    let differences = other[0]["replayed"]["differences"].as_array().unwrap();
    assert!(differences.iter().any(|one| one["now"].as_str().unwrap().starts_with("create")), "{differences:#?}");

    let refused = |what: &str| {
        let (code, _, beside) = replay(&path);
        assert_eq!(code, Some(1), "{beside}");
        assert!(beside.contains(what), "{what}: {beside}");
    };
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    refused("its end is missing");
    std::fs::write(&path, "this is no bundle").unwrap();
    refused("gzip");
    let mut broken = whole.clone();
    broken.insert("decisions/shop/now.json".to_owned(), "{}".to_owned());
    pack(&path, &broken);
    refused("decisions/shop/now.json");
    let mut empty = whole;
    empty.retain(|name, _| !name.starts_with("decisions/"));
    pack(&path, &empty);
    refused("no decision is in it");
}

#[test]
fn a_bundle_is_written_without_a_daemon_too() {
    let mut daemon = start();
    let mut child = daemon.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let files = unpacked(&report(&daemon, &[]));
    let manifest: Value = serde_json::from_str(&files["manifest.json"]).unwrap();
    let missing = manifest["missing"].as_array().unwrap();
    assert!(missing.iter().any(|one| one["what"] == "topics"), "{missing:?}");
    assert!(files.contains_key("doctor.json") && files.contains_key("logs/daemon.log"));
}
