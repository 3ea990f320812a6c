//! What a test does to the world besides calling drivers, and what it asks it.

use super::World;
use super::cluster::{Cluster, LSN_OF_CHANGE};
use super::hba;
use super::instance::Instance;
use super::shelf::Key;
use super::state::State;
use crate::drivers::host::Permissions;
use crate::drivers::swarm::Labels;
use crate::model::service::ServiceAttributes;

/// Acts that stop users from working, or cost them their data.
const DISRUPTIVE: [&str; 6] =
    ["initdb", "remove directory", "replace container", "restart postgres", "start container", "stop container"];

impl State {
    fn instance_of(&self, service: &str) -> Option<&Instance> {
        let containers = self.containers.found(&Key::Name(service.to_owned()));
        containers.filter(|container| container.is_running()).find_map(|container| match &container.process {
            super::engine::Process::Postgres(instance) => Some(&**instance),
            super::engine::Process::Plain | super::engine::Process::Etcd { .. } => None,
        })
    }
}

impl State {
    /// The cluster of the primary in a service's container, to be written to; none where none takes writes.
    fn written_by_hand(&mut self, service: &str) -> Option<&mut Cluster> {
        let path = self.instance_of(service).filter(|instance| !instance.follows)?.pgdata.clone();
        let cluster = self.files.cluster_mut(&path)?;
        cluster.lsn += LSN_OF_CHANGE;
        Some(cluster)
    }
}

impl World {
    /// How often something was done: `start container`, `restart postgres`, `reload postgres`, `initdb`,
    /// `remove directory`, … to a service, instance or path.
    #[must_use]
    pub fn count(&self, act: &'static str, subject: &str) -> u64 {
        self.state().counts.get(&(act, subject.to_owned())).copied().unwrap_or(0)
    }

    /// How often something was done, to whatever it was.
    #[must_use]
    pub fn count_all(&self, act: &'static str) -> u64 {
        self.state().counts.iter().filter(|((seen, _), _)| *seen == act).map(|(_, count)| count).sum()
    }

    /// Everything that was done and stops users from working, in total: equal before and after what must not disturb.
    #[must_use]
    pub fn disruptions(&self) -> u64 {
        DISRUPTIVE.iter().map(|act| self.count_all(act)).sum()
    }

    /// A program outside Docker listens on a port, or ceases to.
    pub fn occupy_port(&self, port: u16, occupied: bool) {
        let state = &mut *self.state();
        let Ok(machine) = state.machine_mut() else { return };
        if occupied {
            machine.occupied_ports.insert(port);
        } else {
            machine.occupied_ports.remove(&port);
        }
    }

    /// Puts an image on the host.
    pub fn add_image(&self, reference: &str, labels: Labels) {
        if let Ok(machine) = self.state().machine_mut() {
            machine.images.insert(reference.to_owned(), labels);
        }
    }

    /// The labels of an image that the host has.
    pub fn image_labels(&self, reference: &str) -> Option<Labels> {
        self.state().machine().ok()?.images.get(reference).cloned()
    }

    /// Takes an image from the host; `docker pull` finds it again if `pullable`.
    pub fn remove_image(&self, reference: &str, pullable: bool) {
        let state = &mut *self.state();
        let Ok(machine) = state.machine_mut() else { return };
        if let Some(labels) = machine.images.remove(reference).filter(|_| pullable) {
            machine.pullable.insert(reference.to_owned(), labels);
        }
    }

    /// Makes a directory that somebody else owns, for extra volumes.
    pub fn add_directory(&self, path: &str) {
        // A path below a file cannot be made; the test then finds nothing there.
        let state = &mut *self.state();
        let path = state.at_path(path);
        drop(state.files.make_directory(&path, Permissions { mode: 0o755, uid: 0, gid: 0 }));
    }

    /// Somebody edits a live service by hand. False when there is none of this name.
    pub fn edit_service(&self, name: &str, edit: impl FnOnce(&mut ServiceAttributes)) -> bool {
        let state = &mut *self.state();
        let Some(service) = state.service_named(name) else { return false };
        let (id, mut attributes) = (service.id.clone(), (*service.attributes).clone());
        edit(&mut attributes);
        state.excuse(name);
        state.update_service(&id, &attributes).is_ok()
    }

    /// The program in a service's container crashes. False when none runs.
    pub fn crash(&self, service: &str) -> bool {
        let state = &mut *self.state();
        let running = state.containers.found(&Key::Name(service.to_owned())).find(|c| c.is_running());
        let Some(id) = running.map(|container| container.id.clone()) else { return false };
        state.exit_container(&id, Some("killed"));
        true
    }

    /// The labels of a config; none where there is no such one.
    #[must_use]
    pub fn labels_of_config(&self, name: &str) -> Option<Labels> {
        let state = self.state();
        state.configs.found(&Key::Name(name.to_owned())).next().map(|config| config.labels.clone())
    }

    /// `docker service rm` by hand. False when there is none of this name.
    pub fn remove_service_by_hand(&self, name: &str) -> bool {
        let state = &mut *self.state();
        let Some(id) = state.service_named(name).map(|service| service.id.clone()) else { return false };
        state.remove_service(&id).is_ok()
    }

    /// Somebody removes a file of the host. False when there is none.
    pub fn remove_file_by_hand(&self, path: &str) -> bool {
        let state = &mut *self.state();
        let path = state.at_path(path);
        state.files.exists(&path) && state.files.remove_file(&path).is_ok()
    }

    /// A superuser drops a role behind our back. False when it is not there.
    pub fn drop_role_by_hand(&self, service: &str, role: &str) -> bool {
        let state = &mut *self.state();
        state.written_by_hand(service).is_some_and(|cluster| cluster.roles.remove(role).is_some())
    }

    /// A superuser sets a parameter by `ALTER SYSTEM`, and has Postgres reload. False when none runs.
    pub fn alter_system(&self, service: &str, name: &str, value: &str) -> bool {
        let state = &mut *self.state();
        let running = state.containers.found(&Key::Name(service.to_owned())).find(|c| c.is_running());
        let Some(id) = running.map(|container| container.id.clone()) else { return false };
        let set = state.with_instance(&id, |state, instance| {
            let cluster = state.files.cluster_mut(&instance.pgdata)?;
            cluster.auto_conf.insert(name.to_owned(), value.to_owned());
            state.take_config_in(instance);
            Some(())
        });
        set.flatten().is_some()
    }

    /// A superuser changes what a role may do, and its password, behind our back. False when it is not there.
    pub fn alter_role_by_hand(&self, service: &str, role: &str) -> bool {
        let state = &mut *self.state();
        let Some(role) = state.written_by_hand(service).and_then(|cluster| cluster.roles.get_mut(role)) else {
            return false;
        };
        role.flags.createdb = !role.flags.createdb;
        role.password = None;
        true
    }

    /// Somebody patches the dynamic configuration at Patroni by hand (`patronictl edit-config`). False when no Patroni
    /// runs there.
    pub fn patch_config_by_hand(&self, service: &str, patch: &serde_json::Value) -> bool {
        let state = &mut *self.state();
        let running = state.containers.found(&Key::Name(service.to_owned())).find(|c| c.is_running());
        let Some(id) = running.map(|container| container.id.clone()) else { return false };
        state.with_instance(&id, |state, instance| state.patch_config(instance, patch)).unwrap_or(false)
    }

    /// The host loses its power and comes back: every container has crashed, and Swarm starts them again.
    pub fn restart_host(&self) {
        self.state().fail_containers();
    }

    /// Writes a row as a user would. False when the service's Postgres or the database is not there.
    pub fn write_row(&self, service: &str, database: &str, row: &str) -> bool {
        let state = &mut *self.state();
        let Some(cluster) = state.written_by_hand(service) else { return false };
        cluster.databases.get_mut(database).map(|database| database.rows.push(row.to_owned())).is_some()
    }

    /// The rows of a database, oldest first; empty when it is not there.
    #[must_use]
    pub fn rows(&self, service: &str, database: &str) -> Vec<String> {
        let state = self.state();
        let Some(path) = state.instance_of(service).map(|instance| instance.pgdata.as_str()) else { return Vec::new() };
        let cluster = state.files.cluster(path);
        cluster.and_then(|cluster| cluster.databases.get(database)).map(|seen| seen.rows.clone()).unwrap_or_default()
    }

    /// What a script ran in a database, none when it has not run.
    #[must_use]
    pub fn script(&self, service: &str, database: &str, name: &str) -> Option<Vec<String>> {
        let state = self.state();
        let cluster = state.files.cluster(&state.instance_of(service)?.pgdata)?;
        cluster.databases.get(database)?.scripts.get(name).cloned()
    }

    /// Whether a user gets in with a password from another machine, as `pg_hba.conf` and the role say.
    #[must_use]
    pub fn lets_in(&self, service: &str, database: &str, user: &str, password: &str) -> bool {
        let state = self.state();
        let Some(instance) = state.instance_of(service) else { return false };
        let Some(server) = instance.server.as_ref().filter(|server| server.ready_ms <= state.now_ms) else {
            return false;
        };
        let Some(cluster) = state.files.cluster(&instance.pgdata) else { return false };
        let Some(role) = cluster.roles.get(user).filter(|role| role.flags.login) else { return false };
        let known = cluster.databases.contains_key(database);
        let matches = role.password.as_ref().is_some_and(|stored| stored.expose() == password);
        known
            && match hba::method(&server.pg_hba, user, database) {
                Some("trust") => true,
                Some("scram-sha-256" | "md5" | "password") => matches,
                Some(_) | None => false,
            }
    }
}
