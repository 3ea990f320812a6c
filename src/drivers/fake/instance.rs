//! Patroni and its Postgres in one container: from `patroni.yml` to a server that has loaded its configuration.
//!
//! Patroni waits for etcd, then makes a data directory or takes the one that is there, starts Postgres with the dynamic
//! configuration under the node's `config` key, and looks at that key again every few moments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::certificate::ServerIdentity;
use super::engine::{Process, host_path};
use super::in_force::InForce;
use super::node;
use super::patroni_file::PatroniFile;
use super::shelf::{Key, Work};
use super::state::State;
use super::{hba, libraries};
use crate::model::parameters::restart_required;
use crate::model::service::ServiceAttributes;

/// How far an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// etcd does not answer, or does not let it in: Patroni's REST interface is not up yet.
    WaitingForEtcd,
    /// `initdb` is done at this time.
    InitDb(i64),
    /// Postgres was started; see [`Server::ready_ms`].
    Started,
    /// Postgres did not start; Patroni says so and tries again in each round.
    StartFailed(String),
}

/// A started Postgres.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// What is in force.
    pub(super) parameters: InForce,
    /// What waits for a restart.
    pub(super) pending: BTreeSet<String>,
    pub(super) pg_hba: Vec<String>,
    pub(super) errors: Vec<String>,
    pub(super) identity: ServerIdentity,
    pub(super) started_ms: i64,
    /// It answers from then on.
    pub(super) ready_ms: i64,
}

/// An instance.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) file: PatroniFile,
    /// The Swarm node that it runs on.
    pub(super) node: String,
    /// What others of its database are found by.
    pub(super) found_by: Option<Key>,
    /// Whether it is no primary.
    pub(super) follows: bool,
    /// The primary that it streams from.
    pub(super) streams_from: Option<String>,
    /// Others of its node that it knows of.
    pub(super) others: usize,
    /// What its container was made from.
    pub(super) attributes: Arc<ServiceAttributes>,
    pub(super) uid: u32,
    /// The data directory on the host.
    pub(super) pgdata: String,
    /// What the REST interface shows and trusts.
    pub(super) rest: ServerIdentity,
    pub(super) phase: Phase,
    pub(super) server: Option<Server>,
    /// The dynamic configuration that was loaded last, JSON as it stood in etcd and shared with it: read, it would take
    /// several times the room.
    pub(super) dynamic: Arc<[u8]>,
    pub(super) looked_ms: i64,
}

impl Instance {
    /// When its phase ends by itself.
    pub(super) fn due(&self) -> Option<i64> {
        match self.phase {
            Phase::InitDb(due) => Some(due),
            Phase::WaitingForEtcd | Phase::Started | Phase::StartFailed(_) => None,
        }
    }

    /// What it does between: it waits for etcd, or looks at it every round.
    pub(super) fn work(&self, round_ms: i64) -> Work {
        match self.phase {
            Phase::WaitingForEtcd => Work::Always,
            Phase::InitDb(_) => Work::Never,
            Phase::Started | Phase::StartFailed(_) => Work::From(self.looked_ms.saturating_add(round_ms)),
        }
    }

    fn host_path(&self, inside: &str) -> Result<String, String> {
        host_path(&self.node, &self.attributes.mounts, inside)
    }

    /// What Patroni writes into `postgresql.conf`.
    pub(super) fn written(&self) -> BTreeMap<String, String> {
        let (empty, dynamic) = (Map::new(), self.dynamic());
        let dynamic = dynamic.pointer("/postgresql/parameters").and_then(Value::as_object).unwrap_or(&empty);
        dynamic
            .iter()
            .chain(&self.file.postgresql.parameters)
            .map(|(name, value)| (name.clone(), text(value)))
            .collect()
    }

    /// Whether commits of its primary wait for it.
    pub(super) fn is_waited_for(&self) -> bool {
        let off = |mode: &Value| mode.is_null() || *mode == Value::Bool(false);
        self.follows && self.dynamic().get("synchronous_mode").is_some_and(|mode| !off(mode))
    }

    fn dynamic(&self) -> Value {
        serde_json::from_slice(&self.dynamic).unwrap_or(Value::Null)
    }

    fn pg_hba(&self) -> Vec<String> {
        if !self.file.postgresql.pg_hba.is_empty() {
            return self.file.postgresql.pg_hba.clone();
        }
        let dynamic = self.dynamic();
        let lines = dynamic.pointer("/postgresql/pg_hba").and_then(Value::as_array);
        lines.into_iter().flatten().map(text).collect()
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The version that an image runs, as far as its name tells.
fn version_of(image: &str) -> String {
    let tag = image.rsplit_once(':').map_or("17.0", |(_, tag)| tag);
    tag.split('-').next().unwrap_or(tag).to_owned()
}

impl State {
    /// The version of Postgres in an image.
    pub(super) fn postgres_version(&self, image: &str) -> String {
        let known = self.options.catalogue.postgres.iter().find(|known| known.image == image);
        known.map_or_else(|| version_of(image), |known| known.version.clone())
    }

    /// Patroni starts: its file and certificates are there, and it may read them.
    pub(super) fn boot_postgres(&mut self, id: &str) -> Result<Instance, String> {
        let Some(container) = self.containers.get(id) else { return Err("no container".to_owned()) };
        let (uid, attributes) = (container.uid, Arc::clone(&container.attributes));
        let (node, found_by) = (container.node().to_owned(), node::found_by(container));
        let read = |inside: &str| self.files.read_as(&host_path(&node, &attributes.mounts, inside)?, uid);
        let file = PatroniFile::parse(read("/opt/pgmoor/configs/patroni.yml")?.expose())?;
        for path in file.files() {
            read(path)?;
        }
        let rest = ServerIdentity::load(read(&file.restapi.certfile)?, read(&file.restapi.cafile)?)?;
        let pgdata = host_path(&node, &attributes.mounts, &file.postgresql.data_dir)?;
        Ok(Instance {
            file,
            node,
            found_by,
            follows: true,
            streams_from: None,
            others: 0,
            attributes,
            uid,
            pgdata,
            rest,
            phase: Phase::WaitingForEtcd,
            server: None,
            dynamic: Arc::default(),
            looked_ms: i64::MIN,
        })
    }

    /// Runs `act` with an instance taken out of its container, and puts it back.
    pub(super) fn with_instance<T>(&mut self, id: &str, act: impl FnOnce(&mut Self, &mut Instance) -> T) -> Option<T> {
        let container = self.containers.get_mut(id)?;
        let process = std::mem::replace(&mut container.process, Process::Plain);
        let (process, outcome) = match process {
            Process::Postgres(mut instance) => {
                let outcome = act(self, &mut instance);
                (Process::Postgres(instance), Some(outcome))
            }
            other @ (Process::Plain | Process::Etcd { .. }) => (other, None),
        };
        if let Some(container) = self.containers.get_mut(id) {
            container.process = process;
        }
        outcome
    }

    /// Moves every running instance on.
    pub(super) fn step_instances(&mut self) {
        for id in self.containers.busy(self.now_ms) {
            if self.containers.get(&id).is_none_or(|container| !container.is_running()) {
                self.containers.done(&id);
                continue;
            }
            match self.with_instance(&id, Self::step_instance) {
                Some(Err(why)) => self.exit_container(&id, Some(&why)),
                Some(Ok(true)) => self.set_healthy(&id),
                Some(Ok(false)) | None => {}
            }
            self.containers.done(&id);
        }
    }

    /// Tells whether Patroni's REST interface is up, or why Patroni has ended.
    fn step_instance(&mut self, instance: &mut Instance) -> Result<bool, String> {
        if instance.server.is_some() && self.files.cluster(&instance.pgdata).is_none() {
            return Err("could not open the data directory".to_owned());
        }
        match instance.phase.clone() {
            Phase::WaitingForEtcd => self.find_cluster(instance)?,
            Phase::InitDb(due) if due <= self.now_ms => self.init_db(instance)?,
            Phase::InitDb(_) => {}
            Phase::Started | Phase::StartFailed(_) => {
                if self.look_at_etcd(instance) && instance.server.is_none() {
                    self.start_postgres(instance);
                }
            }
        }
        Ok(instance.phase != Phase::WaitingForEtcd)
    }

    /// The etcd data that an instance may use.
    pub(super) fn etcd_of(&self, instance: &Instance) -> Option<String> {
        let (_, path) = self.etcd_behind(&instance.node, &instance.file.etcd_members())?;
        let Instance { file, .. } = instance;
        let data = self.files.etcd(path)?;
        data.lets(&file.etcd3.username, &file.etcd3.password, &file.prefix()).then(|| path.to_owned())
    }

    pub(super) fn etcd_value(&self, path: &str, key: &str) -> Option<Arc<[u8]>> {
        self.files.etcd(path)?.get(key).cloned()
    }

    /// Starts Postgres, or says in the phase why it does not start.
    pub(super) fn start_postgres(&mut self, instance: &mut Instance) {
        match self.try_start(instance) {
            Ok(server) => {
                instance.phase = Phase::Started;
                instance.server = Some(server);
                if let Some(etcd) = self.etcd_of(instance) {
                    self.stand(instance, &etcd);
                }
                self.count("start postgres", &instance.file.name);
            }
            Err(why) => {
                instance.phase = Phase::StartFailed(why);
                instance.server = None;
            }
        }
    }

    fn try_start(&self, instance: &Instance) -> Result<Server, String> {
        let parameters = self.parameters(instance);
        let version = self.postgres_version(&instance.attributes.image);
        let cluster = self.files.cluster(&instance.pgdata).ok_or("the data directory is gone")?;
        if version.split('.').next() != Some(cluster.major.as_str()) {
            return Err(format!("database files are incompatible with server: {} and {version}", cluster.major));
        }
        let libraries = parameters.get("shared_preload_libraries").map_or("", String::as_str);
        for library in libraries.split(',').map(str::trim).filter(|library| !library.is_empty()) {
            if !self.has_library(&instance.attributes.image, library) {
                return Err(format!("could not access file \"{library}\": No such file or directory"));
            }
        }
        let pg_hba = instance.pg_hba();
        if let Some(why) = hba::errors(&pg_hba).into_iter().next() {
            return Err(format!("could not load pg_hba.conf: {why}"));
        }
        Ok(Server {
            identity: self.postgres_identity(instance, &parameters)?,
            parameters: InForce::packed(&parameters),
            pending: BTreeSet::new(),
            pg_hba,
            errors: Vec::new(),
            started_ms: self.now_ms,
            ready_ms: self.now_ms + self.options.delays.postgres_ms,
        })
    }

    /// What Postgres reads: what Patroni wrote, and over it what `ALTER SYSTEM` did.
    fn parameters(&self, instance: &Instance) -> BTreeMap<String, String> {
        let mut parameters = instance.written();
        let cluster = self.files.cluster(&instance.pgdata);
        parameters.extend(cluster.into_iter().flat_map(|cluster| cluster.auto_conf.clone()));
        parameters
    }

    fn has_library(&self, image: &str, library: &str) -> bool {
        let version = self.postgres_version(image);
        let known = self.options.catalogue.postgres(&version);
        let preload = known.into_iter().flat_map(|image| image.extensions.values());
        libraries::is_own_library(library) || preload.into_iter().any(|info| info.preload.as_deref() == Some(library))
    }

    /// What Postgres shows and trusts: its own files, or Patroni's where the configuration names none.
    fn postgres_identity(
        &self,
        instance: &Instance,
        parameters: &BTreeMap<String, String>,
    ) -> Result<ServerIdentity, String> {
        let read = |name: &str| match parameters.get(name) {
            None => Err(format!("{name} is not set")),
            Some(path) => self.files.read_as(&instance.host_path(path)?, instance.uid),
        };
        if parameters.get("ssl").map(String::as_str) != Some("on") {
            return Ok(instance.rest.clone());
        }
        read("ssl_key_file")?;
        ServerIdentity::load(read("ssl_cert_file")?, read("ssl_ca_file")?)
    }

    /// Patroni's round: it keeps its keys, and takes a changed configuration in. Whether it was one, and etcd answered.
    fn look_at_etcd(&mut self, instance: &mut Instance) -> bool {
        if self.now_ms < instance.looked_ms.saturating_add(self.options.delays.patroni_loop_ms) {
            return false;
        }
        instance.looked_ms = self.now_ms;
        let Some(path) = self.etcd_of(instance) else {
            self.stand_without_etcd(instance);
            return false;
        };
        let prefix = instance.file.prefix();
        let name = instance.file.name.clone();
        let system_id = self.files.cluster(&instance.pgdata).map(|cluster| cluster.system_id.clone());
        if let Some(data) = self.files.etcd_mut(&path) {
            let member = format!("{prefix}members/{name}");
            let kept = [(format!("{prefix}initialize"), system_id.unwrap_or_default()), (member, "{}".to_owned())];
            for (key, value) in kept {
                if data.get(&key).is_none() {
                    data.put(&key, value.as_bytes());
                }
            }
        }
        if instance.server.is_some() {
            self.stand(instance, &path);
        }
        let Some(config) = self.etcd_value(&path, &format!("{prefix}config")) else { return true };
        // A round in which nothing changed, as nearly all are, reads nothing.
        if config == instance.dynamic {
            return true;
        }
        if let Ok(dynamic) = serde_json::from_slice::<Value>(&config) {
            let is_news = dynamic != instance.dynamic();
            instance.dynamic = config;
            if is_news {
                self.take_config_in(instance);
            }
        }
        true
    }

    /// Writes a changed configuration to etcd and takes it in at once; false when etcd does not answer.
    pub(super) fn patch_config(&mut self, instance: &mut Instance, patch: &Value) -> bool {
        let Some(path) = self.etcd_of(instance) else { return false };
        let key = format!("{}config", instance.file.prefix());
        let live = self.etcd_value(&path, &key).and_then(|text| serde_json::from_slice(&text).ok());
        let mut config: Value = live.unwrap_or_else(|| Value::Object(Map::new()));
        merge(&mut config, patch);
        let is_news = config != instance.dynamic();
        if let Some(data) = self.files.etcd_mut(&path) {
            data.put(&key, config.to_string().as_bytes());
            instance.dynamic = data.get(&key).cloned().unwrap_or_default();
        }
        if is_news {
            self.take_config_in(instance);
        }
        true
    }

    /// A reload: what can change does, what cannot waits for a restart.
    pub(super) fn take_config_in(&mut self, instance: &mut Instance) {
        // A cluster that is being made is not there to be started; it will be, with what is wanted then.
        if matches!(instance.phase, Phase::InitDb(_)) {
            return;
        }
        if instance.server.is_none() {
            self.start_postgres(instance);
            return;
        }
        let (wanted, pg_hba) = (self.parameters(instance), instance.pg_hba());
        let identity = self.postgres_identity(instance, &wanted);
        self.count("reload postgres", &instance.file.name);
        let Some(server) = instance.server.as_mut() else { return };
        let mut in_force = server.parameters.all();
        let names: BTreeSet<String> = in_force.keys().chain(wanted.keys()).cloned().collect();
        for name in names {
            let value = wanted.get(&name);
            if restart_required(&name) {
                if in_force.get(&name) == value {
                    server.pending.remove(&name);
                } else {
                    server.pending.insert(name);
                }
            } else if let Some(value) = value {
                in_force.insert(name, value.clone());
            } else {
                in_force.remove(&name);
            }
        }
        server.parameters = InForce::packed(&in_force);
        // Postgres keeps the lines it has when it cannot load the new ones.
        server.errors = hba::errors(&pg_hba).into_iter().map(|why| format!("pg_hba.conf: {why}")).collect();
        if server.errors.is_empty() {
            server.pg_hba = pg_hba;
        }
        // A certificate that it cannot read is in its log alone, and it goes on with the one it has.
        if let Ok(identity) = identity {
            server.identity = identity;
        }
    }

    /// `POST /reload`: Patroni reads its file and certificates again.
    pub(super) fn reload_patroni(&mut self, instance: &mut Instance) -> Result<(), String> {
        let read = |inside: &str| self.files.read_as(&instance.host_path(inside)?, instance.uid);
        let file = PatroniFile::parse(read("/opt/pgmoor/configs/patroni.yml")?.expose())?;
        let rest = ServerIdentity::load(read(&file.restapi.certfile)?, read(&file.restapi.cafile)?)?;
        (instance.file, instance.rest) = (file, rest);
        self.take_config_in(instance);
        Ok(())
    }
}

/// A JSON merge patch as Patroni applies it: null removes a key.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(_) => merge(target.entry(key.clone()).or_insert(Value::Null), value),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}
