//! Configuration: flags over `PGMOOR_*` variables over a TOML file over defaults. The one place that reads any of them.
//!
//! Invariant: a key of the file that nobody knows is an error, with the keys that there are.

mod labels;
mod limits;
mod registry;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Deserialize;

pub use labels::Labels;
pub use limits::{DeadlineSettings, LimitSettings};
pub use registry::Registry;

use crate::model::{FleetId, HostId};
use crate::world::images;

/// Which outside world the daemon drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverKind {
    /// Docker Swarm, etcd, Patroni and Postgres.
    Docker,
    /// An in-memory world that behaves like them: to watch pgmoor work without Docker.
    Fake,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// What is said by flags, variables or the file. Everything is optional here; [`default`] holds the defaults.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The fleet: the level below `pgmoor/v1/` in every topic [default: default]
    #[arg(long, env = "PGMOOR_FLEET", global = true)]
    pub fleet: Option<FleetId>,
    /// The id of this host [default: its short hostname]
    #[arg(long, env = "PGMOOR_HOST", global = true)]
    pub host: Option<HostId>,
    /// What is said of this host, for specs that ask for it (`host_labels`), for example `zone=a,disk=ssd`; in the file a
    /// table `[host_labels]`
    #[arg(long, env = "PGMOOR_HOST_LABELS")]
    pub host_labels: Option<Labels>,
    /// Where the store, keys, certificates and data directories are [default: /var/lib/pgmoor]
    #[arg(long, env = "PGMOOR_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// An external broker, `mqtt://host:1883` or `mqtts://host:8883`; without one the daemon runs its own
    #[arg(long, env = "PGMOOR_BROKER_URL", global = true)]
    pub broker_url: Option<String>,
    /// User name at the broker
    #[arg(long, env = "PGMOOR_BROKER_USERNAME", global = true)]
    pub broker_username: Option<String>,
    /// File that holds the password at the broker (a trailing newline is cut off)
    #[arg(long, env = "PGMOOR_BROKER_PASSWORD_FILE", global = true)]
    pub broker_password_file: Option<PathBuf>,
    /// Certificate authorities that the broker's certificate is checked against, PEM
    #[arg(long, env = "PGMOOR_BROKER_CA_FILE", global = true)]
    pub broker_ca_file: Option<PathBuf>,
    /// Client certificate for the broker, PEM
    #[arg(long, env = "PGMOOR_BROKER_CERT_FILE", global = true)]
    pub broker_cert_file: Option<PathBuf>,
    /// Key of the client certificate, PEM
    #[arg(long, env = "PGMOOR_BROKER_KEY_FILE", global = true)]
    pub broker_key_file: Option<PathBuf>,
    /// Publish specs again that an external broker lost, where their topic is empty; its access list must allow it. The
    /// embedded broker keeps nothing over a restart and always gets them again [default: false]
    #[arg(long, env = "PGMOOR_RESEED_SPECS", num_args = 0..=1, default_missing_value = "true")]
    pub reseed_specs: Option<bool>,
    /// Where the embedded broker listens [default: 127.0.0.1:1883]
    #[arg(long, env = "PGMOOR_BROKER_LISTEN", global = true)]
    pub broker_listen: Option<SocketAddr>,
    /// Password file of the embedded broker; needed off loopback
    #[arg(long, env = "PGMOOR_BROKER_USERS_FILE")]
    pub broker_users_file: Option<PathBuf>,
    /// Certificate of the embedded broker, PEM; needed off loopback
    #[arg(long, env = "PGMOOR_BROKER_TLS_CERT_FILE")]
    pub broker_tls_cert_file: Option<PathBuf>,
    /// Key of the embedded broker's certificate, PEM
    #[arg(long, env = "PGMOOR_BROKER_TLS_KEY_FILE")]
    pub broker_tls_key_file: Option<PathBuf>,
    /// Which world is driven [default: docker]
    #[arg(long, value_enum, env = "PGMOOR_DRIVERS")]
    pub drivers: Option<DriverKind>,
    /// With `--drivers fake`: how many databases of 512 MiB its host has room for, 1–100000 [default: 8]
    #[arg(long, env = "PGMOOR_FAKE_DATABASES", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub fake_databases: Option<u32>,
    /// The Docker engine's socket [default: /var/run/docker.sock]
    #[arg(long, env = "PGMOOR_DOCKER_SOCKET")]
    pub docker_socket: Option<PathBuf>,
    /// The address at which other hosts and containers reach this host, never loopback [default: what Swarm advertises]
    #[arg(long, env = "PGMOOR_ADVERTISE_ADDRESS")]
    pub advertise_address: Option<IpAddr>,
    /// Port of etcd for its clients [default: 2379]
    #[arg(long, env = "PGMOOR_ETCD_CLIENT_PORT")]
    pub etcd_client_port: Option<u16>,
    /// Port of etcd for its other members [default: 2380]
    #[arg(long, env = "PGMOOR_ETCD_PEER_PORT")]
    pub etcd_peer_port: Option<u16>,
    /// What stands before an image's name in a registry, `registry.example.org/pgmoor/`: images that a host lacks are
    /// pulled from there and get their own name [default: none, another host hands them over]
    #[arg(long, env = "PGMOOR_REGISTRY")]
    pub registry: Option<Registry>,
    /// Port at which this host hands an image over to another one, open only while it does [default: 2378]
    #[arg(long, env = "PGMOOR_IMAGE_PORT")]
    pub image_port: Option<u16>,
    /// A version catalogue instead of the embedded one
    #[arg(long, env = "PGMOOR_CATALOGUE", global = true)]
    pub catalogue: Option<PathBuf>,
    /// Seconds that the data of a deleted database stays in the trash [default: 259200, 72 hours]
    #[arg(long, env = "PGMOOR_DELETION_GRACE_S")]
    pub deletion_grace_s: Option<u32>,
    /// Accepted specs and finished plans that are kept of each database, 1–1000 [default: 10]
    #[arg(long, env = "PGMOOR_HISTORY_MAX", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub history_max: Option<u32>,
    /// Seconds between two looks at everything, 1–3600 [default: 10]
    #[arg(long, env = "PGMOOR_TICK_S", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub tick_s: Option<u32>,
    /// How log lines look [default: pretty on a terminal, json elsewhere]
    #[arg(long, value_enum, env = "PGMOOR_LOG")]
    pub log: Option<LogFormat>,
    /// Which log lines are written: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `pgmoor::mqtt=debug` [default: info]
    #[arg(long, env = "PGMOOR_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// How long each phase may take: the table `[deadlines]` of the file.
    #[command(flatten)]
    pub deadlines: DeadlineSettings,
    /// How much may go on, and go wrong, at a time: the table `[limits]` of the file.
    #[command(flatten)]
    pub limits: LimitSettings,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read the configuration file {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration file {path} is not valid: {why}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What the parser says, with line and column.
        why: String,
    },
    /// A value that cannot be.
    #[error("{setting} cannot be {value}: {why}")]
    Value {
        /// The flag's name without dashes, or the file's.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// Why not, as a sentence for people.
        why: &'static str,
    },
}

/// Reads the file and lays the flags and variables over it.
///
/// # Errors
/// The file cannot be read or has a fault.
pub fn layered(flags: Settings, file: Option<&Path>) -> Result<Settings, Error> {
    let Some(path) = file else { return Ok(flags) };
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let file: Settings =
        toml::from_str(&text).map_err(|error| Error::Parse { path: path.to_owned(), why: error.to_string() })?;
    file.deadlines.check()?;
    file.limits.check()?;
    Ok(over(flags, file))
}

/// `upper` where it says something, else `lower`.
fn over(upper: Settings, lower: Settings) -> Settings {
    macro_rules! pick {
        ($($field:ident),+ $(,)?) => {
            Settings {
                $($field: upper.$field.or(lower.$field),)+
                deadlines: upper.deadlines.over(lower.deadlines),
                limits: upper.limits.over(lower.limits),
            }
        };
    }
    pick!(
        fleet,
        host,
        host_labels,
        data_dir,
        broker_url,
        broker_username,
        broker_password_file,
        broker_ca_file,
        broker_cert_file,
        broker_key_file,
        reseed_specs,
        broker_listen,
        broker_users_file,
        broker_tls_cert_file,
        broker_tls_key_file,
        drivers,
        fake_databases,
        docker_socket,
        advertise_address,
        etcd_client_port,
        etcd_peer_port,
        registry,
        image_port,
        catalogue,
        deletion_grace_s,
        history_max,
        tick_s,
        log,
        log_level,
    )
}

/// The default of each setting that has one.
pub mod default {
    /// See `Settings::fleet`.
    pub const FLEET: &str = "default";
    /// See `Settings::data_dir`.
    pub const DATA_DIR: &str = "/var/lib/pgmoor";
    /// See `Settings::reseed_specs`.
    pub const RESEED_SPECS: bool = false;
    /// See `Settings::broker_listen`.
    pub const BROKER_LISTEN: &str = "127.0.0.1:1883";
    /// See `Settings::docker_socket`.
    pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";
    /// See `Settings::etcd_client_port`.
    pub const ETCD_CLIENT_PORT: u16 = 2379;
    /// See `Settings::etcd_peer_port`.
    pub const ETCD_PEER_PORT: u16 = 2380;
    /// See `Settings::image_port`.
    pub const IMAGE_PORT: u16 = crate::world::images::PORT;
    /// See `Settings::deletion_grace_s`: 72 hours (issue 3).
    pub const DELETION_GRACE_S: u32 = 72 * 3600;
    /// See `Settings::history_max` (issue 3).
    pub const HISTORY_MAX: u32 = 10;
    /// See `Settings::tick_s`.
    pub const TICK_S: u32 = 10;
    /// See `Settings::log_level`.
    pub const LOG_LEVEL: &str = "info";
}

impl Settings {
    /// The fleet.
    ///
    /// # Errors
    /// Never for the default; kept a result so that callers treat all settings alike.
    pub fn fleet(&self) -> Result<FleetId, Error> {
        match &self.fleet {
            Some(fleet) => Ok(fleet.clone()),
            None => FleetId::parse(default::FLEET).map_err(|_| Error::Value {
                setting: "fleet",
                value: default::FLEET.to_owned(),
                why: "it is not an id",
            }),
        }
    }

    /// This host's id: as set, or the short hostname made into an id.
    ///
    /// # Errors
    /// The hostname cannot be made into an id.
    pub fn host(&self) -> Result<HostId, Error> {
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        let hostname = hostname();
        let id = id_of_hostname(&hostname);
        HostId::parse(&id).map_err(|_| Error::Value {
            setting: "host",
            value: hostname,
            why: "the hostname is no id; set --host to 1-36 lowercase letters, digits and hyphens",
        })
    }

    /// Where images come from.
    #[must_use]
    pub fn images(&self) -> images::Options {
        images::Options {
            registry: self.registry.as_ref().map(|registry| registry.prefix().to_owned()),
            port: self.image_port.unwrap_or(default::IMAGE_PORT),
        }
    }

    /// The data directory, absolute.
    ///
    /// # Errors
    /// It is not absolute, or not UTF-8.
    pub fn data_dir(&self) -> Result<String, Error> {
        let path = self.data_dir.clone().unwrap_or_else(|| PathBuf::from(default::DATA_DIR));
        let fault = |why| Error::Value { setting: "data-dir", value: path.display().to_string(), why };
        if !path.is_absolute() {
            return Err(fault("it must be an absolute path: containers mount it"));
        }
        let text = path.to_str().ok_or_else(|| fault("it is not UTF-8"))?;
        Ok(text.trim_end_matches('/').to_owned())
    }
}

/// The machine's name without its domain.
#[must_use]
pub fn hostname() -> String {
    let name = rustix::system::uname();
    let full = name.nodename().to_string_lossy().into_owned();
    full.split('.').next().unwrap_or_default().to_owned()
}

fn id_of_hostname(hostname: &str) -> String {
    let lower = hostname.to_ascii_lowercase();
    let mut id: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    while id.contains("--") {
        id = id.replace("--", "-");
    }
    id.truncate(crate::model::ids::ID_CHARS_MAX);
    id.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgmoor.toml");
        std::fs::write(&path, "fleet = \"site\"\ntick_s = 5\n").unwrap();
        let flags = Settings { tick_s: Some(7), ..Settings::default() };
        let settings = layered(flags, Some(&path)).unwrap();
        assert_eq!(settings.fleet().unwrap().as_str(), "site");
        assert_eq!(settings.tick_s, Some(7));
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgmoor.toml");
        std::fs::write(&path, "flett = \"site\"\n").unwrap();
        let error = layered(Settings::default(), Some(&path)).unwrap_err().to_string();
        assert!(error.contains("flett"), "{error}");
    }

    #[test]
    fn labels_of_the_host_are_a_table_or_a_flag() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgmoor.toml");
        std::fs::write(&path, "tick_s = 5\n[host_labels]\nzone = \"a\"\n").unwrap();
        let labels = |flags| layered(flags, Some(&path)).map(|settings| settings.host_labels.unwrap().to_string());
        assert_eq!(labels(Settings::default()).unwrap(), "zone=a");
        let flag = Settings { host_labels: Some("disk=ssd, zone=b".parse().unwrap()), ..Settings::default() };
        assert_eq!(labels(flag).unwrap(), "disk=ssd, zone=b");
        std::fs::write(&path, "[host_labels]\nZone = \"a\"\n").unwrap();
        let error = labels(Settings::default()).unwrap_err().to_string();
        assert!(error.contains("\"Zone\""), "{error}");
    }

    #[test]
    fn hostnames_become_ids() {
        assert_eq!(id_of_hostname("Edge_Box--7"), "edge-box-7");
        assert_eq!(id_of_hostname("-a-"), "a");
    }

    #[test]
    fn the_data_directory_is_absolute() {
        let settings = Settings { data_dir: Some(PathBuf::from("here")), ..Settings::default() };
        assert!(settings.data_dir().is_err());
    }
}
