//! Extensions of a database. Those that pgmoor installed are rows of `pgmoor.extensions`, written in the transaction
//! that installed them.

use super::ExtensionSeen;
use super::own::{self, Table};
use super::quote::{identifier, literal};
use super::session::{Act, Path, Session, map};
use crate::drivers::{Endpoint, Result};

const ALL: &str = "
    SELECT e.extname::text, e.extversion, n.nspname::text
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     ORDER BY e.extname";

/// An extension as it is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) version: Option<&'a str>,
    pub(super) schema: Option<&'a str>,
}

pub(super) async fn look(at: &Endpoint, database: &str, act: &Act) -> Result<Vec<ExtensionSeen>> {
    let session = Session::open(at, database, Path::Catalog, act).await?;
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let mut managed: Vec<String> = Vec::new();
    if own::is_there(&session.client, Table::Extensions, act).await? {
        let rows = session.client.query("SELECT name FROM pgmoor.extensions", &[]).await.map_err(failed)?;
        managed = rows.iter().map(|row| row.try_get(0)).collect::<std::result::Result<_, _>>().map_err(failed)?;
    }
    let mut seen = Vec::new();
    for row in session.client.query(ALL, &[]).await.map_err(failed)? {
        let name: String = row.try_get(0).map_err(failed)?;
        seen.push(ExtensionSeen {
            managed: managed.contains(&name),
            name,
            version: row.try_get(1).map_err(failed)?,
            schema: row.try_get(2).map_err(failed)?,
        });
    }
    session.close().await;
    Ok(seen)
}

pub(super) async fn put(at: &Endpoint, database: &str, wanted: Wanted<'_>, act: &Act) -> Result<()> {
    let name = identifier(wanted.name)?;
    let mut session = Session::open(at, database, Path::Catalog, act).await?;
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let transaction = session.client.transaction().await.map_err(failed)?;
    let installed = "SELECT e.extversion, n.nspname::text FROM pg_extension e \
                     JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = $1";
    let there = transaction.query_opt(installed, &[&wanted.name]).await.map_err(failed)?;
    let mut statements = Vec::new();
    if let Some(schema) = wanted.schema {
        // A spec can name a schema that nobody had the chance to make.
        statements.push(format!("CREATE SCHEMA IF NOT EXISTS {}", identifier(schema)?));
    }
    match there {
        None => {
            own::make(&transaction, Table::Extensions, act).await?;
            // What others need goes where unqualified names look.
            statements.push("SET LOCAL search_path = public".to_owned());
            let schema = wanted.schema.map(identifier).transpose()?.map(|schema| format!(" SCHEMA {schema}"));
            let version = wanted.version.map(literal).transpose()?.map(|version| format!(" VERSION {version}"));
            statements.push(format!(
                "CREATE EXTENSION {name}{}{} CASCADE",
                schema.unwrap_or_default(),
                version.unwrap_or_default()
            ));
            let row = format!("INSERT INTO pgmoor.extensions (name) VALUES ({})", literal(wanted.name)?);
            statements.push(format!("{row} ON CONFLICT DO NOTHING"));
        }
        Some(row) => {
            let (version, schema): (String, String) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            if let Some(wanted) = wanted.version.filter(|wanted| **wanted != version) {
                statements.push(format!("ALTER EXTENSION {name} UPDATE TO {}", literal(wanted)?));
            }
            if let Some(wanted) = wanted.schema.filter(|wanted| **wanted != schema) {
                statements.push(format!("ALTER EXTENSION {name} SET SCHEMA {}", identifier(wanted)?));
            }
        }
    }
    transaction.batch_execute(&statements.join("; ")).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    session.close().await;
    Ok(())
}

pub(super) async fn drop_extension(at: &Endpoint, database: &str, name: &str, act: &Act) -> Result<()> {
    let quoted = identifier(name)?;
    let mut session = Session::open(at, database, Path::Catalog, act).await?;
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let transaction = session.client.transaction().await.map_err(failed)?;
    transaction.batch_execute(&format!("DROP EXTENSION IF EXISTS {quoted} RESTRICT")).await.map_err(failed)?;
    if own::is_there(&transaction, Table::Extensions, act).await? {
        transaction.execute("DELETE FROM pgmoor.extensions WHERE name = $1", &[&name]).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    session.close().await;
    Ok(())
}
