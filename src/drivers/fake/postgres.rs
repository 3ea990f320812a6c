//! Postgres over SQL, as the driver's trait asks for it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::World;
use super::call::{Outcome, Refusal, System};
use super::cluster::{Cluster, Database, Extension, LSN_OF_CHANGE, Role};
use super::hba;
use super::instance::{Instance, Server};
use super::state::State;
use crate::drivers::postgres::{DatabaseSeen, ExtensionSeen, Postgres, RoleSeen, ServerSeen};
use crate::drivers::{Endpoint, Result};
use crate::model::parameters::as_much;
use crate::model::role::RoleAttributes;
use crate::model::{Digest, Secret};

/// Port of Postgres in the container.
const PORT: u16 = 5432;

/// A statement that divides by zero fails here as it does in Postgres, so that tests have one that does.
const FAILS: &str = "1/0";

impl State {
    /// The server behind an address, after TLS, `pg_hba.conf` and the login as superuser.
    fn connect(&self, at: &Endpoint, database: &str) -> Outcome<(&Instance, &Server)> {
        let (_, instance) = self.instance_at(at)?;
        let up = instance.server.as_ref().filter(|_| at.port == PORT);
        let Some(server) = up else { return Err(Refusal::Unreachable("connection refused".to_owned())) };
        if server.ready_ms > self.now_ms {
            return Err(Refusal::Unreachable("the database system is starting up".to_owned()));
        }
        let user = server.identity.handshake(&at.server_name, &at.identity)?;
        let superuser = &instance.file.postgresql.authentication.superuser.username;
        if user != *superuser {
            return Err(Refusal::failed(format!("certificate authentication failed for user \"{superuser}\"")));
        }
        match hba::method(&server.pg_hba, superuser, database) {
            Some("cert" | "trust") => {}
            Some("reject") => {
                return Err(Refusal::failed(format!("pg_hba.conf rejects connection for user \"{superuser}\"")));
            }
            Some(method) => {
                return Err(Refusal::failed(format!("{method} authentication failed for user \"{superuser}\"")));
            }
            None => return Err(Refusal::failed(format!("no pg_hba.conf entry for user \"{superuser}\""))),
        }
        match self.files.cluster(&instance.pgdata) {
            Some(cluster) if !cluster.databases.contains_key(database) => Err(Refusal::NotFound),
            Some(_) => Ok((instance, server)),
            None => Err(Refusal::Unreachable("terminating connection".to_owned())),
        }
    }

    fn cluster_at(&mut self, at: &Endpoint, database: &str) -> Outcome<&mut Cluster> {
        let path = self.connect(at, database)?.0.pgdata.clone();
        self.files.cluster_mut(&path).ok_or_else(|| Refusal::Unreachable("terminating connection".to_owned()))
    }

    /// Refuses a change where no primary is, as Postgres does; what is let through is in the write-ahead log.
    fn written(&mut self, at: &Endpoint) -> Outcome<()> {
        if self.connect(at, "postgres")?.0.follows {
            return Err(Refusal::failed("cannot execute this in a read-only transaction"));
        }
        self.cluster_at(at, "postgres")?.lsn += LSN_OF_CHANGE;
        Ok(())
    }

    fn database_at(&mut self, at: &Endpoint, database: &str) -> Outcome<&mut Database> {
        self.cluster_at(at, database)?.databases.get_mut(database).map(Box::as_mut).ok_or(Refusal::NotFound)
    }

    fn server_seen(&self, at: &Endpoint) -> Outcome<ServerSeen> {
        let (id, _) = self.instance_at(at)?;
        let image = self.containers.get(id).map(|container| container.attributes.image.clone()).unwrap_or_default();
        let (instance, server) = self.connect(at, "postgres")?;
        let none = BTreeMap::new();
        let auto_conf = self.files.cluster(&instance.pgdata).map_or(&none, |cluster| &cluster.auto_conf);
        // Mostly there is nothing to compare with it.
        let written = if auto_conf.is_empty() { BTreeMap::new() } else { instance.written() };
        Ok(ServerSeen {
            config: server.parameters.get("pgmoor.config").map(str::to_owned),
            in_recovery: instance.follows,
            streaming: self.streaming(instance),
            runs_with: as_much(|name| server.parameters.get(name)),
            pending_restart: server.pending.iter().filter(|name| !auto_conf.contains_key(*name)).cloned().collect(),
            alter_system: auto_conf.keys().filter(|name| written.contains_key(*name)).cloned().collect(),
            started_ms: server.started_ms,
            version: self.postgres_version(&image),
            configuration_errors: server.errors.clone(),
        })
    }

    fn reset_parameters(&mut self, at: &Endpoint, names: &BTreeSet<String>) -> Outcome<()> {
        self.cluster_at(at, "postgres")?.auto_conf.retain(|name, _| !names.contains(name));
        let (id, _) = self.instance_at(at)?;
        let id = id.to_owned();
        self.with_instance(&id, Self::take_config_in);
        Ok(())
    }

    fn put_role(&mut self, at: &Endpoint, role: &RoleAttributes, password: Option<&Secret>) -> Outcome<()> {
        self.written(at)?;
        if let Some(password) = password {
            self.watch.secret(password.expose());
        }
        let cluster = self.cluster_at(at, "postgres")?;
        if let Some(missing) = role.member_of.iter().find(|name| !cluster.knows_role(name)) {
            return Err(Refusal::failed(format!("role \"{missing}\" does not exist")));
        }
        let before = cluster.roles.get(&role.name);
        let made = Role {
            flags: role.flags,
            member_of: role.member_of.clone(),
            password: password.or_else(|| before.and_then(|role| role.password.as_ref())).cloned(),
            managed: before.is_none_or(|role| role.managed),
            connection_limit: role.connection_limit,
            valid_until: role.valid_until.clone(),
        };
        cluster.roles.insert(role.name.clone(), Box::new(made));
        self.count("put role", &role.name);
        Ok(())
    }

    fn drop_role(&mut self, at: &Endpoint, name: &str, heir: &str) -> Outcome<()> {
        self.written(at)?;
        let cluster = self.cluster_at(at, "postgres")?;
        if !cluster.roles.contains_key(name) {
            return Ok(());
        }
        if !cluster.roles.contains_key(heir) {
            return Err(Refusal::failed(format!("role \"{heir}\" does not exist")));
        }
        for database in cluster.databases.values_mut().filter(|database| database.owner == name) {
            heir.clone_into(&mut database.owner);
        }
        cluster.roles.remove(name);
        for role in cluster.roles.values_mut() {
            role.member_of.remove(name);
        }
        self.count("drop role", name);
        Ok(())
    }

    fn put_database(&mut self, at: &Endpoint, name: &str, owner: &str) -> Outcome<()> {
        self.written(at)?;
        let cluster = self.cluster_at(at, "postgres")?;
        if !cluster.roles.contains_key(owner) {
            return Err(Refusal::failed(format!("role \"{owner}\" does not exist")));
        }
        let database = cluster.databases.entry(name.to_owned()).or_insert_with(|| Box::new(Database::new(owner)));
        owner.clone_into(&mut database.owner);
        Ok(())
    }

    fn put_extension(
        &mut self,
        at: &Endpoint,
        database: &str,
        name: &str,
        (version, schema): (Option<&str>, Option<&str>),
    ) -> Outcome<()> {
        self.written(at)?;
        let (id, _) = self.instance_at(at)?;
        let image = self.containers.get(id).map(|container| container.attributes.image.clone()).unwrap_or_default();
        let postgres = self.postgres_version(&image);
        let info = self.options.catalogue.postgres(&postgres).and_then(|image| image.extensions.get(name)).cloned();
        let Some(info) = info else {
            return Err(Refusal::failed(format!("extension \"{name}\" is not available")));
        };
        let (_, server) = self.connect(at, database)?;
        let loaded = server.parameters.get("shared_preload_libraries").unwrap_or_default().to_owned();
        if let Some(library) = info.preload.filter(|library| matches!(library.as_str(), "pgaudit" | "pglogical"))
            && !loaded.split(',').any(|word| word.trim() == library)
        {
            return Err(Refusal::failed(format!("{library} must be loaded via \"shared_preload_libraries\"")));
        }
        let available = info.version.unwrap_or_else(|| "1.0".to_owned());
        if let Some(wanted) = version.filter(|wanted| *wanted != available) {
            let why =
                format!("extension \"{name}\" has no installation script nor update path for version \"{wanted}\"");
            return Err(Refusal::failed(why));
        }
        let database = self.database_at(at, database)?;
        let new = || Extension { version: available.clone(), schema: "public".to_owned(), managed: true };
        let extension = database.extensions.entry(name.to_owned()).or_insert_with(new);
        if let Some(schema) = schema {
            schema.clone_into(&mut extension.schema);
        }
        Ok(())
    }

    fn run_script(&mut self, at: &Endpoint, database: &str, name: &str, statements: &[String]) -> Outcome<()> {
        self.written(at)?;
        let seen = self.database_at(at, database)?;
        if seen.scripts.contains_key(name) {
            return Ok(());
        }
        if statements.iter().any(|statement| statement.contains(FAILS)) {
            return Err(Refusal::failed("division by zero"));
        }
        seen.scripts.insert(name.to_owned(), statements.to_owned());
        self.count("run script", &format!("{database}/{name}"));
        Ok(())
    }
}

fn role_seen(name: &str, role: &Role, asked: Option<&Secret>) -> RoleSeen {
    let attributes = RoleAttributes {
        name: name.to_owned(),
        flags: role.flags,
        member_of: role.member_of.clone(),
        // Nothing is wrong with a password that nobody asked about.
        password_matches: asked.is_none() || role.password.as_ref() == asked,
        connection_limit: role.connection_limit,
        valid_until: role.valid_until.clone(),
    };
    RoleSeen { attributes, managed: role.managed }
}

#[async_trait]
impl Postgres for World {
    async fn server(&self, at: &Endpoint) -> Result<ServerSeen> {
        let about = format!("look at server {}", at.server_name);
        self.call(System::Postgres, "postgres.server", about, |state| state.server_seen(at)).await
    }

    async fn reset_parameters(&self, at: &Endpoint, names: &BTreeSet<String>) -> Result<()> {
        let about = format!("reset parameters of {}", at.server_name);
        self.call(System::Postgres, "postgres.reset_parameters", about, |state| state.reset_parameters(at, names)).await
    }

    async fn roles(&self, at: &Endpoint, passwords: &BTreeMap<String, Secret>) -> Result<Vec<RoleSeen>> {
        let about = format!("list roles of {}", at.server_name);
        self.call(System::Postgres, "postgres.roles", about, |state| {
            let roles = &state.cluster_at(at, "postgres")?.roles;
            Ok(roles.iter().map(|(name, role)| role_seen(name, role, passwords.get(name))).collect())
        })
        .await
    }

    async fn put_role(&self, at: &Endpoint, role: &RoleAttributes, password: Option<&Secret>) -> Result<()> {
        let about = format!("put role {} on {}", role.name, at.server_name);
        self.call(System::Postgres, "postgres.put_role", about, |state| state.put_role(at, role, password)).await
    }

    async fn drop_role(&self, at: &Endpoint, name: &str, heir: &str) -> Result<()> {
        let about = format!("drop role {name} on {}", at.server_name);
        self.call(System::Postgres, "postgres.drop_role", about, |state| state.drop_role(at, name, heir)).await
    }

    async fn databases(&self, at: &Endpoint) -> Result<Vec<DatabaseSeen>> {
        let about = format!("list databases of {}", at.server_name);
        self.call(System::Postgres, "postgres.databases", about, |state| {
            let databases = &state.cluster_at(at, "postgres")?.databases;
            let seen = databases.iter();
            Ok(seen.map(|(name, seen)| DatabaseSeen { name: name.clone(), owner: seen.owner.clone() }).collect())
        })
        .await
    }

    async fn put_database(&self, at: &Endpoint, name: &str, owner: &str) -> Result<()> {
        let about = format!("put database {name} on {}", at.server_name);
        self.call(System::Postgres, "postgres.put_database", about, |state| state.put_database(at, name, owner)).await
    }

    async fn extensions(&self, at: &Endpoint, database: &str) -> Result<Vec<ExtensionSeen>> {
        let about = format!("list extensions of {database} on {}", at.server_name);
        self.call(System::Postgres, "postgres.extensions", about, |state| {
            let seen = |(name, extension): (&String, &Extension)| ExtensionSeen {
                name: name.clone(),
                version: extension.version.clone(),
                schema: extension.schema.clone(),
                managed: extension.managed,
            };
            Ok(state.database_at(at, database)?.extensions.iter().map(seen).collect())
        })
        .await
    }

    async fn put_extension(
        &self,
        at: &Endpoint,
        database: &str,
        name: &str,
        version: Option<&str>,
        schema: Option<&str>,
    ) -> Result<()> {
        let about = format!("put extension {name} into {database} on {}", at.server_name);
        self.call(System::Postgres, "postgres.put_extension", about, |state| {
            state.put_extension(at, database, name, (version, schema))
        })
        .await
    }

    async fn drop_extension(&self, at: &Endpoint, database: &str, name: &str) -> Result<()> {
        let about = format!("drop extension {name} of {database} on {}", at.server_name);
        self.call(System::Postgres, "postgres.drop_extension", about, |state| {
            state.written(at)?;
            state.database_at(at, database)?.extensions.remove(name);
            Ok(())
        })
        .await
    }

    async fn scripts_done(&self, at: &Endpoint, database: &str) -> Result<BTreeMap<String, Digest>> {
        let about = format!("list scripts of {database} on {}", at.server_name);
        self.call(System::Postgres, "postgres.scripts_done", about, |state| {
            let done = &state.database_at(at, database)?.scripts;
            Ok(done.iter().map(|(name, statements)| (name.clone(), Digest::of(statements))).collect())
        })
        .await
    }

    async fn run_script(&self, at: &Endpoint, database: &str, name: &str, statements: &[String]) -> Result<()> {
        let about = format!("run script {name} in {database} on {}", at.server_name);
        self.call(System::Postgres, "postgres.run_script", about, |state| {
            state.run_script(at, database, name, statements)
        })
        .await
    }
}
