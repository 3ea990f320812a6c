//! No secret is seen: not in logs, topics, events, process arguments, or anything that Docker shows.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;

use crate::docker::docker;

use super::Site;
use super::site::entries;

/// The shortest text that is looked for: a line of a key is longer, and so is a generated password.
const LENGTH_MIN: usize = 12;

/// What must stand nowhere, kept so that it is still known when its database is gone.
#[derive(Debug, Default)]
pub(super) struct Secrets(BTreeSet<String>);

impl Secrets {
    /// What there is now: passwords of users, of etcd's root and of its users, every private key and the fleet's key.
    pub(super) fn of(site: &Site) -> Self {
        let mut all = Self::default();
        all.learn(site);
        all
    }

    /// Remembers also what there is now.
    pub(super) fn learn(&mut self, site: &Site) {
        let records = site.records();
        let fleet = records.fleet.unwrap();
        self.add(fleet.etcd_root_password.expose());
        self.add_key(fleet.ca_key_pem.expose());
        for record in &records.databases {
            assert!(!record.etcd_passwords.is_empty(), "{}", record.database);
            for password in record.passwords.values().chain(record.etcd_passwords.values()) {
                self.add(password.expose());
            }
        }
        site.passwords().iter().for_each(|password| self.add(password));
        let key = std::fs::read(site.data_dir().join("fleet.key")).unwrap();
        self.add(&base64::engine::general_purpose::STANDARD.encode(&key));
        self.add(&key.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        if let Ok(text) = String::from_utf8(key) {
            self.add(text.trim());
        }
        let mut keys = 0;
        for file in files(&site.data_dir()).iter().filter(|file| file.extension().is_some_and(|ending| ending == "key"))
        {
            if let Ok(text) = std::fs::read_to_string(file) {
                self.add_key(&text);
                keys += 1;
            }
        }
        assert!(keys >= 4, "server, superuser, replication and etcd each have a key: {keys}");
    }

    fn add(&mut self, secret: &str) {
        if secret.len() >= LENGTH_MIN {
            self.0.insert(secret.to_owned());
        }
    }

    /// A key in PEM, line by line: a quotation may break it elsewhere.
    fn add_key(&mut self, pem: &str) {
        pem.lines().filter(|line| !line.starts_with("-----")).for_each(|line| self.add(line));
    }

    /// Nothing that can be looked at holds one. `also` are secrets of the spec itself; topics of specs are exempted by
    /// name, since their authors put them there.
    pub(super) fn are_nowhere(&self, site: &Site, also: &[&str]) {
        assert!(self.0.len() >= 10, "users, etcd and keys: {}", self.0.len());
        let check = |place: &str, text: &str| {
            let seen =
                self.0.iter().map(String::as_str).chain(also.iter().copied()).any(|secret| text.contains(secret));
            assert!(!seen, "a secret stands in {place}");
        };
        check("the log", &site.daemon.log());
        let said = site.daemon.wire.everything();
        assert!(said.iter().any(|(topic, _)| topic.ends_with("/events")), "events were heard");
        for (topic, payload) in said.iter().filter(|(topic, _)| !topic.ends_with("/spec")) {
            check(topic, payload);
        }
        for kind in ["service", "container", "network", "config"] {
            for object in site.objects(kind) {
                check(&format!("{kind} {object}"), &docker(&[kind, "inspect", &object]).unwrap_or_default());
            }
        }
        for config in site.objects("config") {
            let format = "{{printf \"%s\" .Spec.Data}}";
            check(
                "what a config holds",
                &docker(&["config", "inspect", "--format", format, &config]).unwrap_or_default(),
            );
        }
        for container in site.objects("container") {
            check("the logs of a container", &docker(&["logs", &container]).unwrap_or_default());
        }
        for process in std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()) {
            // A process may end while we look.
            let arguments = std::fs::read(Path::join(&process, "cmdline")).unwrap_or_default();
            check("the arguments of a process", &String::from_utf8_lossy(&arguments));
        }
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for path in entries(directory) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
