//! The part of `patroni.yml` that this world acts on, read as Patroni reads it.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The file.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PatroniFile {
    pub(super) name: String,
    #[serde(default = "default_namespace")]
    pub(super) namespace: String,
    pub(super) scope: String,
    pub(super) etcd3: Etcd,
    pub(super) restapi: Rest,
    pub(super) postgresql: Postgres,
}

fn default_namespace() -> String {
    "/service/".to_owned()
}

/// How to reach etcd.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Etcd {
    /// `host:port`, as a list or as one text with commas.
    hosts: Value,
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) password: String,
    pub(super) cacert: String,
    pub(super) cert: String,
    pub(super) key: String,
}

/// The REST interface.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Rest {
    pub(super) certfile: String,
    pub(super) keyfile: String,
    pub(super) cafile: String,
}

/// The part about Postgres; local values win over the dynamic configuration.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Postgres {
    pub(super) data_dir: String,
    pub(super) authentication: Authentication,
    #[serde(default)]
    pub(super) parameters: Map<String, Value>,
    #[serde(default)]
    pub(super) pg_hba: Vec<String>,
}

/// The system's roles.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Authentication {
    pub(super) superuser: Login,
    pub(super) replication: Login,
}

/// One of them.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) sslcert: Option<String>,
    pub(super) sslkey: Option<String>,
    pub(super) sslrootcert: Option<String>,
}

impl PatroniFile {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_yaml_ng::from_str(text).map_err(|error| format!("patroni.yml: {error}"))
    }

    /// The prefix in etcd of all that this instance writes.
    pub(super) fn prefix(&self) -> String {
        format!("/{}/{}/", self.namespace.trim_matches('/'), self.scope)
    }

    /// Address and port of each etcd member.
    pub(super) fn etcd_members(&self) -> Vec<(String, u16)> {
        let texts: Vec<&str> = match &self.etcd3.hosts {
            Value::String(list) => list.split(',').collect(),
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        };
        let read = |text: &&str| {
            let (address, port) = text.trim().rsplit_once(':')?;
            Some((address.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        };
        texts.iter().filter_map(read).collect()
    }

    /// Every file that Patroni itself opens at its start.
    pub(super) fn files(&self) -> Vec<&str> {
        let Authentication { superuser, replication } = &self.postgresql.authentication;
        let logins = [superuser, replication].into_iter().flat_map(|login| {
            [&login.sslcert, &login.sslkey, &login.sslrootcert].into_iter().filter_map(|path| path.as_deref())
        });
        [&self.etcd3.cacert, &self.etcd3.cert, &self.etcd3.key]
            .into_iter()
            .chain([&self.restapi.certfile, &self.restapi.keyfile, &self.restapi.cafile])
            .map(String::as_str)
            .chain(logins)
            .collect()
    }
}
