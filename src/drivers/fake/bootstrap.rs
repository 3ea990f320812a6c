//! How an instance comes to its data: it takes what is there, makes a new cluster, or copies its node's primary.

use serde_json::Value;

use super::cluster::Cluster;
use super::instance::{Instance, Phase};
use super::state::State;

impl State {
    /// Patroni has started and waits for etcd: once that lets it in, it looks what it begins with.
    pub(super) fn find_cluster(&mut self, instance: &mut Instance) -> Result<(), String> {
        let Some(path) = self.etcd_of(instance) else { return Ok(()) };
        let prefix = instance.file.prefix();
        let Some(config) = self.etcd_value(&path, &format!("{prefix}config")) else {
            return Err("no dynamic configuration in etcd, and none in patroni.yml to start with".to_owned());
        };
        serde_json::from_slice::<Value>(&config).map_err(|error| format!("{prefix}config: {error}"))?;
        instance.dynamic = config;
        instance.looked_ms = self.now_ms;
        let initialized = self.etcd_value(&path, &format!("{prefix}initialize"));
        match (self.files.cluster(&instance.pgdata), initialized) {
            (Some(cluster), Some(id)) if cluster.system_id.as_bytes() != &*id => {
                let id = String::from_utf8_lossy(&id);
                Err(format!("system ID mismatch, node belongs to a different cluster: {} != {id}", cluster.system_id))
            }
            (Some(_), _) => {
                self.start_postgres(instance);
                Ok(())
            }
            (None, Some(_)) if self.can_be_copied(instance) => self.begin_data(instance),
            (None, Some(_)) if self.has_members(&path, instance) => Ok(()),
            // A lone instance whose cluster exists elsewhere waits for a primary that never comes.
            (None, Some(_)) => Err("waiting for leader to bootstrap".to_owned()),
            (None, None) => self.begin_data(instance),
        }
    }

    /// Whether others of its node have been there.
    fn has_members(&self, etcd: &str, instance: &Instance) -> bool {
        let (members, own) = (format!("{}members/", instance.file.prefix()), &instance.file.name);
        self.files.etcd(etcd).is_some_and(|data| data.below(&members).any(|key| !key.ends_with(own.as_str())))
    }

    /// `initdb` begins, or the copying of a primary.
    fn begin_data(&self, instance: &mut Instance) -> Result<(), String> {
        let above = instance.pgdata.rsplit_once('/').map_or("/", |(above, _)| above);
        match self.files.directory(above) {
            Ok(Some(seen)) if seen.uid == instance.uid && seen.mode & 0o700 == 0o700 => {
                instance.phase = Phase::InitDb(self.now_ms + self.options.delays.initdb_ms);
                Ok(())
            }
            Ok(_) | Err(_) => {
                let path = super::files::own(&instance.pgdata);
                Err(format!("could not create directory {path}: Permission denied"))
            }
        }
    }

    pub(super) fn init_db(&mut self, instance: &mut Instance) -> Result<(), String> {
        let Some(path) = self.etcd_of(instance) else {
            return Err("etcd went away while the cluster was being made".to_owned());
        };
        if self.etcd_value(&path, &format!("{}initialize", instance.file.prefix())).is_some() {
            // Another was faster, or was there before.
            let Some(copy) = self.copy_for(instance) else {
                instance.phase = Phase::WaitingForEtcd;
                return Ok(());
            };
            self.files.put_cluster(&instance.pgdata, instance.uid, copy);
            self.count("copy", &instance.file.name);
            self.start_postgres(instance);
            return Ok(());
        }
        let system_id = self.new_id("7");
        let version = self.postgres_version(&instance.attributes.image);
        let major = version.split('.').next().unwrap_or_default();
        let roles = &instance.file.postgresql.authentication;
        let cluster = Cluster::new(system_id.clone(), major, &roles.superuser.username, &roles.replication.username);
        self.files.put_cluster(&instance.pgdata, instance.uid, cluster);
        if let Some(data) = self.files.etcd_mut(&path) {
            data.put(&format!("{}initialize", instance.file.prefix()), system_id.as_bytes());
        }
        self.count("initdb", &instance.file.name);
        self.start_postgres(instance);
        Ok(())
    }
}
