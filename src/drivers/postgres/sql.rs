//! The real Postgres, over SQL. Each act opens its own connection: after a container was replaced its address belongs to
//! another, and a kept connection would outlive what it was opened for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;

use super::extensions::Wanted;
use super::quote::identifier;
use super::session::{Act, MAINTENANCE, Path, Session, map};
use super::{DatabaseSeen, ExtensionSeen, Postgres, RoleSeen, ServerSeen, extensions, roles, scripts, server};
use crate::drivers::{Endpoint, Error, Result};
use crate::model::role::RoleAttributes;
use crate::model::{Digest, Secret};

/// How long a look may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(15);
/// How long a change may take: a new database copies its template, a new extension runs its script.
const CHANGE_DEADLINE: Duration = Duration::from_secs(120);
/// How long a script may take. It is a transaction of the user's: an hour would be a migration, which is not its place.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(900);

/// Postgres over SQL.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sql;

impl Sql {
    /// The driver; it keeps nothing.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

async fn look_at_databases(at: &Endpoint, act: &Act) -> Result<Vec<DatabaseSeen>> {
    let session = Session::open(at, MAINTENANCE, Path::Catalog, act).await?;
    let all = "SELECT datname::text, pg_get_userbyid(datdba)::text FROM pg_database \
               WHERE NOT datistemplate ORDER BY datname";
    let rows = session.client.query(all, &[]).await.map_err(|error| map(act, &error))?;
    session.close().await;
    rows.iter()
        .map(|row| Ok(DatabaseSeen { name: row.try_get(0)?, owner: row.try_get(1)? }))
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(|error| map(act, &error))
}

async fn put_database(at: &Endpoint, name: &str, owner: &str, act: &Act) -> Result<()> {
    let (quoted, quoted_owner) = (identifier(name)?, identifier(owner)?);
    let session = Session::open(at, MAINTENANCE, Path::Catalog, act).await?;
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let owned = "SELECT pg_get_userbyid(datdba) = $2 FROM pg_database WHERE datname = $1";
    let statement = match session.client.query_opt(owned, &[&name, &owner]).await.map_err(failed)? {
        None => format!("CREATE DATABASE {quoted} OWNER {quoted_owner}"),
        Some(row) if row.try_get(0).map_err(failed)? => return Ok(()),
        Some(_) => format!("ALTER DATABASE {quoted} OWNER TO {quoted_owner}"),
    };
    // A statement of its own: CREATE DATABASE takes no transaction.
    session.client.batch_execute(&statement).await.map_err(failed)?;
    session.close().await;
    Ok(())
}

/// What cannot be missing: the instance answers for itself, so "database not found" for the maintenance database means
/// that nothing was learnt.
fn of_server<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        Error::NotFound { act } => Error::Unreachable { act, why: format!("the database {MAINTENANCE} is not there") },
        Error::Unreachable { .. } | Error::Conflict { .. } | Error::Failed { .. } => error,
    })
}

#[async_trait]
impl Postgres for Sql {
    async fn server(&self, at: &Endpoint) -> Result<ServerSeen> {
        let act = Act::new(LOOK_DEADLINE, format!("ask Postgres of {} about itself", at.server_name));
        of_server(act.run(server::look(at, &act)).await)
    }

    async fn reset_parameters(&self, at: &Endpoint, names: &BTreeSet<String>) -> Result<()> {
        let act = Act::new(CHANGE_DEADLINE, format!("reset parameters of {}", at.server_name));
        of_server(act.run(server::reset(at, names, &act)).await)
    }

    async fn roles(&self, at: &Endpoint, passwords: &BTreeMap<String, Secret>) -> Result<Vec<RoleSeen>> {
        let act = Act::new(LOOK_DEADLINE, format!("look at the roles of {}", at.server_name));
        of_server(act.run(roles::look(at, passwords, &act)).await)
    }

    async fn put_role(&self, at: &Endpoint, role: &RoleAttributes, password: Option<&Secret>) -> Result<()> {
        let act = Act::new(CHANGE_DEADLINE, format!("put role {} of {}", role.name, at.server_name));
        of_server(act.run(roles::put(at, role, password, &act)).await)
    }

    async fn drop_role(&self, at: &Endpoint, name: &str, heir: &str) -> Result<()> {
        let act = Act::new(CHANGE_DEADLINE, format!("drop role {name} of {}", at.server_name));
        of_server(act.run(roles::drop_role(at, name, heir, &act)).await)
    }

    async fn databases(&self, at: &Endpoint) -> Result<Vec<DatabaseSeen>> {
        let act = Act::new(LOOK_DEADLINE, format!("look at the databases of {}", at.server_name));
        of_server(act.run(look_at_databases(at, &act)).await)
    }

    async fn put_database(&self, at: &Endpoint, name: &str, owner: &str) -> Result<()> {
        let act = Act::new(CHANGE_DEADLINE, format!("put database {name} of {}", at.server_name));
        of_server(act.run(put_database(at, name, owner, &act)).await)
    }

    async fn extensions(&self, at: &Endpoint, database: &str) -> Result<Vec<ExtensionSeen>> {
        let act = Act::new(LOOK_DEADLINE, format!("look at the extensions in {database} of {}", at.server_name));
        act.run(extensions::look(at, database, &act)).await
    }

    async fn put_extension(
        &self,
        at: &Endpoint,
        database: &str,
        name: &str,
        version: Option<&str>,
        schema: Option<&str>,
    ) -> Result<()> {
        let act = Act::new(CHANGE_DEADLINE, format!("put extension {name} in {database} of {}", at.server_name));
        let wanted = Wanted { name, version, schema };
        act.run(extensions::put(at, database, wanted, &act)).await
    }

    async fn drop_extension(&self, at: &Endpoint, database: &str, name: &str) -> Result<()> {
        let act = Act::new(CHANGE_DEADLINE, format!("drop extension {name} in {database} of {}", at.server_name));
        act.run(extensions::drop_extension(at, database, name, &act)).await
    }

    async fn scripts_done(&self, at: &Endpoint, database: &str) -> Result<BTreeMap<String, Digest>> {
        let act = Act::new(LOOK_DEADLINE, format!("look at the scripts that ran in {database} of {}", at.server_name));
        act.run(scripts::done(at, database, &act)).await
    }

    async fn run_script(&self, at: &Endpoint, database: &str, name: &str, statements: &[String]) -> Result<()> {
        let act = Act::new(SCRIPT_DEADLINE, format!("run script {name} in {database} of {}", at.server_name));
        act.run(scripts::run(at, database, name, statements, &act)).await
    }
}
