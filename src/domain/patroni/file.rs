//! `patroni.yml`: name, addresses, certificates and passwords of one instance, nothing that its node shares.
//!
//! Invariants: it names no dynamic setting, so an instance that starts without a `config` key in etcd stops with an
//! error instead of making one up; system roles log in with certificates, and locally over the socket.

use serde::Serialize;

use crate::domain::Error;
use crate::domain::layout::{self, container};
use crate::model::{DatabaseId, InstanceId, NodeName, Secret};

/// What the file is made from.
#[derive(Debug)]
pub(in crate::domain) struct Member<'a> {
    /// The database.
    pub(in crate::domain) database: &'a DatabaseId,
    /// The node.
    pub(in crate::domain) node: &'a NodeName,
    /// The instance.
    pub(in crate::domain) instance: &'a InstanceId,
    /// Address and port of every etcd member, and of the hosts that get the next ones.
    pub(in crate::domain) etcd: Vec<String>,
    /// The password of the instance's etcd user.
    pub(in crate::domain) etcd_password: &'a Secret,
    /// Whether the node has other instances to follow or to be followed by.
    pub(in crate::domain) replicated: bool,
}

/// The file's text. It holds the password of the instance's etcd user.
///
/// # Errors
/// YAML cannot be written.
pub(in crate::domain) fn render(member: &Member<'_>) -> Result<Secret, Error> {
    let path = |stem: &str, ending: &str| format!("{}.{ending}", layout::in_container(stem));
    let login = |username: &'static str, stem: &str| Login {
        username,
        sslmode: "verify-full",
        sslrootcert: path("ca", "crt"),
        sslcert: path(stem, "crt"),
        sslkey: path(stem, "key"),
    };
    let file = File {
        name: member.instance.as_str(),
        namespace: layout::PATRONI_NAMESPACE,
        scope: layout::patroni_scope(member.database, member.node),
        log: Log { level: "INFO" },
        etcd3: Etcd {
            hosts: &member.etcd,
            protocol: "https",
            username: layout::etcd_user(member.instance),
            password: member.etcd_password.expose(),
            cacert: path("ca", "crt"),
            cert: path(layout::ETCD, "crt"),
            key: path(layout::ETCD, "key"),
        },
        restapi: Rest {
            listen: format!("0.0.0.0:{}", layout::PATRONI_PORT),
            connect_address: format!("{}:{}", member.instance, layout::PATRONI_PORT),
            certfile: path(layout::SERVER, "crt"),
            keyfile: path(layout::SERVER, "key"),
            cafile: path("ca", "crt"),
            verify_client: "required",
        },
        ctl: Ctl {
            insecure: false,
            cacert: path("ca", "crt"),
            certfile: path(layout::ETCD, "crt"),
            keyfile: path(layout::ETCD, "key"),
        },
        bootstrap: Bootstrap {
            initdb: vec![
                InitDb::Flag("data-checksums"),
                InitDb::Encoding { encoding: "UTF8" },
                InitDb::Locale { locale: "C.UTF-8" },
                // Replaced by our pg_hba.conf before the first start; without it initdb would write `trust`.
                InitDb::AuthLocal { auth_local: "peer" },
                InitDb::AuthHost { auth_host: "scram-sha-256" },
            ],
        },
        postgresql: Postgres {
            listen: format!("*:{}", layout::POSTGRES_PORT),
            connect_address: format!("{}:{}", member.instance, layout::POSTGRES_PORT),
            data_dir: container::PGDATA,
            use_unix_socket: true,
            use_unix_socket_repl: true,
            authentication: Authentication {
                superuser: login(layout::SUPERUSER, layout::SUPERUSER_CERTIFICATE),
                replication: login(layout::REPLICATION_ROLE, layout::REPLICATION),
            },
            remove_data_directory_on_rewind_failure: member.replicated,
            remove_data_directory_on_diverged_timelines: member.replicated,
            basebackup: vec![BaseBackup { checkpoint: "fast" }],
        },
        watchdog: Watchdog { mode: "off" },
    };
    let text = serde_yaml_ng::to_string(&file)
        .map_err(|error| Error::Render { what: "patroni.yml", why: error.to_string() })?;
    Ok(Secret::new(format!("# Made by pgmoor; a change by hand is undone.\n{text}")))
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    namespace: &'static str,
    scope: String,
    log: Log,
    etcd3: Etcd<'a>,
    restapi: Rest,
    ctl: Ctl,
    bootstrap: Bootstrap,
    postgresql: Postgres,
    watchdog: Watchdog,
}

#[derive(Serialize)]
struct Log {
    level: &'static str,
}

#[derive(Serialize)]
struct Etcd<'a> {
    hosts: &'a [String],
    protocol: &'static str,
    username: String,
    password: &'a str,
    cacert: String,
    cert: String,
    key: String,
}

#[derive(Serialize)]
struct Rest {
    listen: String,
    connect_address: String,
    certfile: String,
    keyfile: String,
    cafile: String,
    verify_client: &'static str,
}

/// How this instance calls the REST interface of others (and `patronictl` its own).
#[derive(Serialize)]
struct Ctl {
    insecure: bool,
    cacert: String,
    certfile: String,
    keyfile: String,
}

#[derive(Serialize)]
struct Bootstrap {
    initdb: Vec<InitDb>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum InitDb {
    Flag(&'static str),
    Encoding {
        encoding: &'static str,
    },
    Locale {
        locale: &'static str,
    },
    AuthLocal {
        #[serde(rename = "auth-local")]
        auth_local: &'static str,
    },
    AuthHost {
        #[serde(rename = "auth-host")]
        auth_host: &'static str,
    },
}

#[derive(Serialize)]
struct Postgres {
    listen: String,
    connect_address: String,
    data_dir: &'static str,
    use_unix_socket: bool,
    use_unix_socket_repl: bool,
    authentication: Authentication,
    remove_data_directory_on_rewind_failure: bool,
    remove_data_directory_on_diverged_timelines: bool,
    basebackup: Vec<BaseBackup>,
}

#[derive(Serialize)]
struct Authentication {
    superuser: Login,
    replication: Login,
}

#[derive(Serialize)]
struct Login {
    username: &'static str,
    sslmode: &'static str,
    sslrootcert: String,
    sslcert: String,
    sslkey: String,
}

#[derive(Serialize)]
struct BaseBackup {
    checkpoint: &'static str,
}

#[derive(Serialize)]
struct Watchdog {
    mode: &'static str,
}
