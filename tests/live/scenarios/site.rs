//! A daemon on real Docker, and what a person with a shell on its host can see.

use std::path::{Path, PathBuf};
use std::process::Command;

use pgmoor::domain::credentials::Credentials;
use pgmoor::drivers::seal::FleetKey;
use pgmoor::drivers::swarm::{DEFAULT_SOCKET, Docker};
use pgmoor::model::FleetId;
use pgmoor::world::record;

use crate::daemon::{Daemon, Options, until};
use crate::docker::{Sweep, docker};

/// The daemon and everything that it makes. It ends in this order: the daemon, or it would make again what is swept
/// away; what is in Docker; the directory, which containers have mounted.
pub(super) struct Site {
    pub(super) daemon: Daemon,
    pub(super) fleet: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.daemon.child.is_some() {
            self.kill();
        }
        drop(Sweep { fleet: self.fleet.clone() });
    }
}

impl Site {
    /// A daemon with its own broker, or with a mosquitto.
    pub(super) fn start(mosquitto: bool) -> Self {
        Self::start_with(mosquitto, &[])
    }

    /// The same with more settings.
    pub(super) fn start_with(mosquitto: bool, more: &[&str]) -> Self {
        Self::of(Daemon::start_with(Options { drivers: "docker", mosquitto, guarded: false }, more))
    }

    /// A daemon with a mosquitto as we ship it, with users and access list.
    pub(super) fn start_guarded() -> Self {
        Self::of(Daemon::start(Options { drivers: "docker", mosquitto: true, guarded: true }))
    }

    fn of(daemon: Daemon) -> Self {
        let fleet = daemon.wire.root.rsplit('/').next().unwrap().to_owned();
        Self { daemon, fleet }
    }

    /// The id of a database: names of networks and services are the whole Swarm's, which other fleets use too.
    pub(super) fn id(&self, database: &str) -> String {
        format!("{database}-{}", self.fleet)
    }

    /// Publishes a spec and waits until it is applied.
    pub(super) fn apply(&self, database: &str, spec: &str) -> serde_json::Value {
        self.daemon.apply(&self.id(database), spec)
    }

    /// Publishes a spec that must be refused; gives the codes of its faults.
    pub(super) fn refused(&self, database: &str, spec: &str) -> Vec<String> {
        self.daemon.refused(&self.id(database), spec)
    }

    /// The status of a database.
    pub(super) fn status(&self, database: &str) -> serde_json::Value {
        self.daemon.status(&self.id(database)).unwrap()
    }

    /// Kills the program without a word.
    pub(super) fn kill(&mut self) {
        let mut child = self.daemon.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The data directory.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.daemon.directory.path().join("data")
    }

    /// What a person on the host needs to log in.
    pub(super) fn credentials(&self, database: &str) -> Credentials {
        let path = self.data_dir().join(format!("credentials/{}.json", self.id(database)));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Runs SQL as a user, over TLS with the server's certificate checked; standard error when it fails.
    pub(super) fn psql_as(&self, database: &str, user: &str, sql: &str) -> Result<String, String> {
        self.psql_at(database, None, user, sql)
    }

    /// The same at an instance of this node.
    pub(super) fn psql_at(&self, database: &str, node: Option<&str>, user: &str, sql: &str) -> Result<String, String> {
        let credentials = self.credentials(database);
        let mut instances = credentials.instances.iter();
        let access = instances.find(|access| node.is_none_or(|node| access.node.as_str() == node)).unwrap();
        let address = match access.port {
            Some(_) => access.address.clone(),
            None => self.container_address(&access.service),
        };
        let port = access.port.unwrap_or(5432);
        let target = format!(
            "host={} hostaddr={address} port={port} dbname={} user={user} sslmode=verify-full sslrootcert={} \
             connect_timeout=10",
            access.instance, credentials.database_name, credentials.ca_file
        );
        let password = credentials.passwords.get(user).map_or("", |password| password.expose());
        let output = Command::new("psql")
            .args(["-XqtA", "-v", "ON_ERROR_STOP=1", "-c", sql, &target])
            .env("PGPASSWORD", password)
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Runs SQL as the owner.
    pub(super) fn psql(&self, database: &str, sql: &str) -> String {
        let user = self.credentials(database).default_user.unwrap();
        self.psql_as(database, &user, sql).unwrap()
    }

    fn container_address(&self, service: &str) -> String {
        let container = self.container(service).unwrap();
        let format = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
        docker(&["inspect", "--format", format, &container]).unwrap()
    }

    /// The running container of a service.
    pub(super) fn container(&self, service: &str) -> Option<String> {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let ids = docker(&["ps", "-q", "--filter", &filter]).unwrap();
        ids.lines().next().map(str::to_owned)
    }

    /// What Docker has of this fleet: `service`, `network`, `config` or `container`.
    pub(super) fn objects(&self, kind: &str) -> Vec<String> {
        let filter = format!("label=pgmoor.fleet={}", self.fleet);
        let all: &[&str] = if kind == "container" { &["-a"] } else { &[] };
        let list = [&[kind, "ls", "-q", "--filter", &filter], all].concat();
        docker(&list).unwrap().lines().map(str::to_owned).collect()
    }

    /// The names of these objects.
    pub(super) fn names(&self, kind: &str) -> Vec<String> {
        let name = |id: String| {
            let format = if kind == "service" { "{{.Spec.Name}}" } else { "{{.Name}}" };
            docker(&[kind, "inspect", "--format", format, &id]).unwrap_or(id)
        };
        self.objects(kind).into_iter().map(name).collect()
    }

    /// When the postmaster of a database was started.
    pub(super) fn postmaster(&self, database: &str) -> String {
        self.psql(database, "SELECT pg_postmaster_start_time()")
    }

    /// The service of a database's only instance.
    pub(super) fn service(&self, database: &str) -> String {
        self.credentials(database).instances[0].service.clone()
    }

    /// Waits until nothing of a database is left in Docker but the fleet's own etcd.
    pub(super) fn wait_only_etcd(&self) {
        until("only etcd is left", || {
            self.objects("service").len() == 1
                && self.objects("container").len() == 1
                && self.objects("network").is_empty()
        });
    }

    /// The containers of this fleet, also those that ended.
    pub(super) fn containers(&self) -> Vec<Container> {
        let told = |id: String| {
            let format =
                "{{.State.StartedAt}} {{.Name}}: {{.State.Status}}, exit code {{.State.ExitCode}} {{.State.Error}}";
            let mut told = docker(&["inspect", "--format", format, &id]).unwrap_or_default();
            // Docker's way to say never.
            let ever_ran = !told.starts_with("0001-");
            if !told.contains(": running,") {
                told.push_str(&docker(&["logs", "--tail", "20", &id]).unwrap_or_default());
            }
            Container { ever_ran, told }
        };
        self.objects("container").into_iter().map(told).collect()
    }

    /// What Swarm holds of the fleet, opened with the fleet's key.
    pub(super) fn records(&self) -> record::Found {
        let fleet = FleetId::parse(&self.fleet).unwrap();
        let key = FleetKey::load_or_create(&self.data_dir().join("fleet.key")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(record::find(&Docker::new(DEFAULT_SOCKET), &key, &fleet)).unwrap()
    }

    /// The passwords of users, and those of every `patroni.yml`.
    pub(super) fn secrets(&self) -> Vec<String> {
        let mut secrets = self.passwords();
        for instance in entries(&self.data_dir().join("instances")) {
            let text = std::fs::read_to_string(instance.join("configs/patroni.yml")).unwrap();
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("password: "));
            secrets.extend(lines.map(|password| password.trim_matches(['\'', '"']).to_owned()));
        }
        secrets.sort();
        secrets
    }

    /// The passwords of users, by what the credentials files say.
    pub(super) fn passwords(&self) -> Vec<String> {
        let mut passwords = Vec::new();
        for file in entries(&self.data_dir().join("credentials")) {
            let credentials: Credentials = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
            passwords.extend(credentials.passwords.values().map(|password| password.expose().to_owned()));
        }
        passwords.sort();
        passwords
    }
}

/// A container, running or not.
#[derive(Debug)]
pub(super) struct Container {
    /// Whether its program was ever started.
    pub(super) ever_ran: bool,
    /// When it started, its name, and how it is or ended.
    pub(super) told: String,
}

/// What is in a directory; nothing when it is not there.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}
