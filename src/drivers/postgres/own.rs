//! pgmoor's own schema in a database: `pgmoor.scripts` and `pgmoor.extensions` (and the function of [`verifier`](super::verifier)
//! in the maintenance database).
//!
//! Invariant: only tables that the system superuser made in a schema of its own are read or written. A user who may
//! create schemas could plant a `pgmoor.scripts` with a trigger or a view, and it would run as superuser.

use tokio_postgres::GenericClient;

use super::session::map;
use crate::drivers::{Error, Result};

/// Tables of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// Scripts that have run.
    Scripts,
    /// Extensions that pgmoor installed.
    Extensions,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Scripts => "scripts",
            Self::Extensions => "extensions",
        }
    }

    fn definition(self) -> &'static str {
        match self {
            Self::Scripts => {
                "CREATE TABLE IF NOT EXISTS pgmoor.scripts (name text PRIMARY KEY, digest text NOT NULL, \
                 ran_at timestamptz NOT NULL DEFAULT now())"
            }
            Self::Extensions => "CREATE TABLE IF NOT EXISTS pgmoor.extensions (name text PRIMARY KEY)",
        }
    }
}

/// Whether the table is there and ours.
pub(super) async fn is_there(client: &impl GenericClient, table: Table, act: &str) -> Result<bool> {
    let ours = "
        SELECT FROM pg_class c
          JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_roles u ON u.oid = n.nspowner AND u.oid = c.relowner
         WHERE n.nspname = 'pgmoor' AND c.relname = $1 AND c.relkind = 'r' AND u.rolname = current_user";
    let row = client.query_opt(ours, &[&table.name()]).await.map_err(|error| map(act, &error))?;
    Ok(row.is_some())
}

/// Makes the schema and the table where they are missing, inside the transaction of the caller.
pub(super) async fn make(client: &impl GenericClient, table: Table, act: &str) -> Result<()> {
    let failed = |error: tokio_postgres::Error| map(act, &error);
    if is_there(client, table, act).await? {
        return Ok(());
    }
    schema(client, act).await?;
    let definition = format!("{}; REVOKE ALL ON pgmoor.{} FROM PUBLIC", table.definition(), table.name());
    client.batch_execute(&definition).await.map_err(failed)?;
    if is_there(client, table, act).await? {
        Ok(())
    } else {
        let why = format!("pgmoor.{} is not a table of pgmoor's own", table.name());
        Err(Error::Failed { act: act.to_owned(), why })
    }
}

/// Makes the schema where it is missing, inside the transaction of the caller.
pub(super) async fn schema(client: &impl GenericClient, act: &str) -> Result<()> {
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let owner = "SELECT pg_get_userbyid(nspowner)::text, pg_get_userbyid(nspowner) = current_user \
                 FROM pg_namespace WHERE nspname = 'pgmoor'";
    if let Some(row) = client.query_opt(owner, &[]).await.map_err(failed)?
        && !row.try_get::<_, bool>(1).map_err(failed)?
    {
        let owner: String = row.try_get(0).map_err(failed)?;
        let why = format!("the schema pgmoor belongs to {owner}: rename it, the name is pgmoor's own");
        return Err(Error::Failed { act: act.to_owned(), why });
    }
    // A new schema and its tables are closed to PUBLIC unless somebody changed the default privileges.
    let definition = "CREATE SCHEMA IF NOT EXISTS pgmoor; REVOKE ALL ON SCHEMA pgmoor FROM PUBLIC";
    client.batch_execute(definition).await.map_err(failed)
}
