//! Why a command did not do what it was asked for, and what a person can do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::ids::IdError;
use crate::model::{DatabaseId, FleetId, NodeName};
use crate::{domain, drivers, mqtt};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Whoever read the answers has left. Not worth a word.
    #[error("the reader of the output is gone")]
    Closed,
    /// The answer could not be written.
    #[error("write to standard output")]
    Output(#[source] io::Error),
    /// The answer could not be put into this form.
    #[error("write the answer as {form}: {why}")]
    Render {
        /// JSON or YAML.
        form: &'static str,
        /// What the serializer said.
        why: String,
    },
    /// The spec could not be read.
    #[error("read the spec {}", path.display())]
    ReadSpec {
        /// From where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A spec came on standard input, which has no name.
    #[error("a spec on standard input does not say which database it is for")]
    NoDatabaseId,
    /// The spec's file name does not name a database.
    #[error("the file's name does not say which database the spec is for")]
    FileNameIsNoId(#[source] IdError),
    /// The host's name is no id.
    #[error("this machine's name is no host id")]
    NoHost,
    /// An empty spec would clear the topic, which asks for a deletion.
    #[error("the spec is empty: publishing it would delete database {0}")]
    EmptySpec(DatabaseId),
    /// The spec is larger than a broker lets through.
    #[error("the spec is larger than {bytes_max} bytes")]
    SpecTooLarge {
        /// The most that it may have.
        bytes_max: usize,
    },
    /// A file that the settings name could not be read.
    #[error("read {}", path.display())]
    ReadFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("write {}", path.display())]
    WriteFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was to be taken out of a bundle is still in it: a mistake of ours, and nothing was written.
    #[error("a known secret is left in {file} of the bundle: nothing is written")]
    BundleHoldsSecret {
        /// The file in the bundle.
        file: String,
    },
    /// It is no bundle, or not a whole one.
    #[error("read the bundle {}: {why}", path.display())]
    BadBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The catalogue.
    #[error("read the version catalogue")]
    Catalogue(#[from] domain::catalogue::Error),
    /// The plan for an empty world could not be made.
    #[error("plan for an empty world")]
    Offline(#[from] domain::Error),
    /// Something of the outside world that the command needs.
    #[error("ask the host")]
    Driver(#[from] drivers::Error),
    /// The broker was not reached.
    #[error("reach the broker")]
    Unreachable(#[source] mqtt::Error),
    /// The broker was reached, and then something went wrong.
    #[error("talk to the broker at {server}")]
    Broker {
        /// Its address.
        server: String,
        /// What.
        #[source]
        source: mqtt::Error,
    },
    /// The settings name no broker that can be reached.
    #[error("read where the broker is")]
    BrokerSettings(#[source] mqtt::Error),
    /// A verb that is no word: a mistake of ours.
    #[error("there is no verb \"{0}\"")]
    NoVerb(&'static str),
    /// Nobody answered a request.
    #[error("nobody answered within {} s", limit.as_secs())]
    NoAnswer {
        /// How long was waited.
        limit: Duration,
        /// What the fleet's controllers say about themselves.
        controllers: String,
    },
    /// The fleet has no such database.
    #[error("there is no database {database} in fleet {fleet}")]
    NoDatabase {
        /// The database.
        database: DatabaseId,
        /// The fleet.
        fleet: FleetId,
    },
    /// An id that pgmoor made itself is none: a mistake of ours.
    #[error("make an id")]
    NotAnId(#[source] IdError),
    /// This host has no key of a fleet.
    #[error("this host is of no fleet: {} is not there", .0.display())]
    NoFleetKey(PathBuf),
    /// This host has a key of a fleet.
    #[error("this host is of a fleet already: {} is there", .0.display())]
    HasFleetKey(PathBuf),
    /// This host is in a Swarm, and not in the fleet's.
    #[error("this host is in another Swarm than the fleet's")]
    OtherSwarm,
    /// The answer is that of another fleet.
    #[error("who answered is not the fleet that the token was made by")]
    OtherAuthority,
    /// The Swarm was joined, and this host did not become a manager.
    #[error("this host joined the Swarm, and is no manager of it after {} s", limit.as_secs())]
    NoManager {
        /// How long was waited.
        limit: Duration,
    },
    /// What is on a topic is not what this version can read.
    #[error("read what stands on {topic}: {why}")]
    Unreadable {
        /// The topic.
        topic: String,
        /// What the parser said.
        why: String,
    },
    /// What removes something must be confirmed, and there is nobody to ask.
    #[error("deleting or purging {0} must be confirmed")]
    NotConfirmed(DatabaseId),
    /// There is no credentials file of the database on this host.
    #[error("there are no credentials of database {database} on this host: {} is not there", path.display())]
    NoCredentials {
        /// The database.
        database: DatabaseId,
        /// Where they would be.
        path: PathBuf,
    },
    /// The credentials file is not what it should be.
    #[error("read the credentials in {}: {why}", path.display())]
    BadCredentials {
        /// The file.
        path: PathBuf,
        /// What the parser said, without the content.
        why: String,
    },
    /// The database has no such user with a password.
    #[error("database {database} has no user \"{user}\"; it has: {users}")]
    NoUser {
        /// The database.
        database: DatabaseId,
        /// Who was asked for.
        user: String,
        /// Who there is.
        users: String,
    },
    /// The database has no such node.
    #[error("database {database} has no node {node}; it has: {nodes}")]
    NoNode {
        /// The database.
        database: DatabaseId,
        /// Which was asked for.
        node: NodeName,
        /// Which there are.
        nodes: String,
    },
    /// The database has no user at all.
    #[error("database {0} has no user to log in as")]
    NoUsers(DatabaseId),
    /// The instance publishes no port, and no container of it runs on this host.
    #[error("no container of {service} runs on this host, and it publishes no port")]
    NoContainer {
        /// The service.
        service: String,
    },
    /// psql could not be started.
    #[error("start psql")]
    Psql(#[source] io::Error),
    /// There is no schema of that name.
    #[error("there is no kind of document called \"{kind}\"; the kinds are: {kinds}")]
    NoKind {
        /// What was asked for.
        kind: String,
        /// What there is.
        kinds: String,
    },
    /// The password could not be read.
    #[error("read the password")]
    ReadPassword(#[source] io::Error),
    /// The two passwords differ.
    #[error("the two passwords differ")]
    PasswordsDiffer,
    /// The line of the password file could not be made.
    #[error("make the line of the password file")]
    PasswordLine(#[source] pgmoor_broker::Error),
}

impl Error {
    pub(super) fn of_output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Output(source) }
    }

    pub(super) fn of_json(error: serde_json::Error) -> Self {
        Self::Render { form: "JSON", why: error.to_string() }
    }

    pub(super) fn of_yaml(error: serde_yaml_ng::Error) -> Self {
        Self::Render { form: "YAML", why: error.to_string() }
    }

    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let denied = |source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::NoDatabaseId | Self::FileNameIsNoId(_) => Some("say it with --database ID".to_owned()),
            Self::NoHost => Some("say which host the spec is for with --host ID".to_owned()),
            Self::EmptySpec(database) => Some(format!("if that is meant: pgmoor delete {database}")),
            Self::Unreachable(_) => Some(
                "is `pgmoor serve` running there? Another broker is named with --broker-url or --broker-listen, \
                 or in the file that --config or PGMOOR_CONFIG names"
                    .to_owned(),
            ),
            Self::BrokerSettings(_) => Some("--broker-url is mqtt://host:1883 or mqtts://host:8883".to_owned()),
            Self::NoAnswer { controllers, .. } => Some(controllers.clone()),
            Self::NoDatabase { .. } => {
                Some("`pgmoor status` lists what there is; --fleet names another fleet".to_owned())
            }
            Self::NoFleetKey(_) => {
                Some("run it where `pgmoor serve` runs, as root; --data-dir names another directory of it".to_owned())
            }
            Self::HasFleetKey(_) => Some(
                "start pgmoor serve; to move the host to another fleet, move its data directory away first".to_owned(),
            ),
            Self::OtherSwarm => Some("leave it first: docker swarm leave".to_owned()),
            Self::OtherAuthority => Some("make another token on a host of the fleet: pgmoor host token".to_owned()),
            Self::NoManager { .. } => {
                Some("on a manager: docker node ls; then make another token, and join again".to_owned())
            }
            Self::NotConfirmed(_) => Some("say --yes".to_owned()),
            Self::NoCredentials { .. } => Some(
                "they are on the host where the database runs, below its --data-dir, once it is there: `pgmoor status`"
                    .to_owned(),
            ),
            Self::ReadFile { source, .. } if denied(source) => {
                Some("only root may read that file: run it with sudo".to_owned())
            }
            Self::BadBundle { .. } => {
                Some("`pgmoor report` makes one; was it copied whole, and in binary form?".to_owned())
            }
            Self::BundleHoldsSecret { .. } => {
                Some("please report it, with the name of the file and this version".to_owned())
            }
            Self::NoUsers(_) => Some("name one under `database_users` in the spec".to_owned()),
            Self::NoContainer { .. } => Some("`pgmoor status` says where it runs and how it is".to_owned()),
            Self::Psql(source) if source.kind() == io::ErrorKind::NotFound => {
                Some("psql is in the package postgresql-client".to_owned())
            }
            Self::Closed
            | Self::Output(_)
            | Self::Render { .. }
            | Self::ReadSpec { .. }
            | Self::SpecTooLarge { .. }
            | Self::ReadFile { .. }
            | Self::WriteFile { .. }
            | Self::Catalogue(_)
            | Self::Offline(_)
            | Self::Driver(_)
            | Self::Broker { .. }
            | Self::NotAnId(_)
            | Self::Unreadable { .. }
            | Self::BadCredentials { .. }
            | Self::NoUser { .. }
            | Self::NoNode { .. }
            | Self::Psql(_)
            | Self::NoKind { .. }
            | Self::NoVerb(_)
            | Self::ReadPassword(_)
            | Self::PasswordsDiffer
            | Self::PasswordLine(_) => None,
        }
    }
}
