//! The annotated example names every setting, with the default that the program has.

use std::collections::BTreeSet;

use clap::Args as _;
use pgmoor::app::config::{self, Settings, default};
use pgmoor::plan::Phase;
use pgmoor::reconcile::{Deadlines, Limits};

use crate::support::file;

/// The example with every setting switched on.
fn example() -> String {
    let text = std::fs::read_to_string(file("deploy/config.example.toml")).unwrap();
    let setting = |line: &str| {
        let rest = line.strip_prefix('#')?;
        rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[').then(|| rest.to_owned())
    };
    text.lines().filter_map(setting).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_example_has_every_setting_and_no_other() {
    let table: toml::Table = toml::from_str(&example()).unwrap();
    let named: BTreeSet<String> = table
        .iter()
        .flat_map(|(key, value)| match (key.as_str(), value.as_table()) {
            ("deadlines", Some(phases)) => phases.keys().map(|phase| format!("deadline_{phase}")).collect(),
            ("limits", Some(limits)) => limits.keys().cloned().collect(),
            _ => vec![key.clone()],
        })
        .collect();
    let command = Settings::augment_args(clap::Command::new("x"));
    let settings: BTreeSet<String> = command.get_arguments().map(|argument| argument.get_id().to_string()).collect();
    assert_eq!(named, settings);
}

#[test]
fn the_example_can_be_read_and_says_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pgmoor.toml");
    std::fs::write(&path, example()).unwrap();
    let settings = config::layered(Settings::default(), Some(&path)).unwrap();
    assert_eq!(settings.fleet().unwrap().as_str(), default::FLEET);
    assert_eq!(settings.data_dir().unwrap(), default::DATA_DIR);
    assert_eq!(settings.broker_listen, default::BROKER_LISTEN.parse().ok());
    assert_eq!(settings.docker_socket.unwrap().to_str(), Some(default::DOCKER_SOCKET));
    assert_eq!(settings.etcd_client_port, Some(default::ETCD_CLIENT_PORT));
    assert_eq!(settings.etcd_peer_port, Some(default::ETCD_PEER_PORT));
    assert_eq!(settings.deletion_grace_s, Some(default::DELETION_GRACE_S));
    assert_eq!(settings.reseed_specs, Some(default::RESEED_SPECS));
    assert_eq!(settings.tick_s, Some(default::TICK_S));
    assert_eq!(settings.log_level.as_deref(), Some(default::LOG_LEVEL));
    assert_eq!(settings.drivers, Some(config::DriverKind::Docker));
    assert_eq!(settings.deadlines.deadlines(), Deadlines::default());
    assert_eq!(settings.limits.limits(), Limits::default());
    let deadlines = toml::from_str::<toml::Table>(&example()).unwrap()["deadlines"].as_table().unwrap().clone();
    let phases: BTreeSet<String> = Phase::ALL.map(|phase| format!("{}_s", phase.as_str())).into();
    assert_eq!(deadlines.keys().cloned().collect::<BTreeSet<_>>(), phases, "each is said, so none is a default unsaid");
}
