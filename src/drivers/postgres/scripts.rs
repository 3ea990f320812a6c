//! Scripts that run once.
//!
//! Invariant: all statements and the row that remembers them are one transaction. The row comes first, so a second run
//! at the same time waits for the first; and each statement runs inside PL/pgSQL, which refuses `COMMIT` and `ROLLBACK`,
//! so none can cut the transaction in two.

use std::collections::BTreeMap;

use tokio_postgres::error::{DbError, ErrorPosition, SqlState};
use tokio_postgres::{Row, Transaction};

use super::own::{self, Table};
use super::quote::literal;
use super::session::{Act, Path, Session, map, words};
use crate::drivers::{Endpoint, Error, Result};
use crate::model::Digest;

pub(super) async fn done(at: &Endpoint, database: &str, act: &Act) -> Result<BTreeMap<String, Digest>> {
    let session = Session::open(at, database, Path::Catalog, act).await?;
    if !own::is_there(&session.client, Table::Scripts, act).await? {
        session.close().await;
        return Ok(BTreeMap::new());
    }
    let rows = session.client.query("SELECT name, digest FROM pgmoor.scripts", &[]).await;
    let rows = rows.map_err(|error| map(act, &error))?;
    session.close().await;
    rows.iter().map(|row| one_done(row).map_err(|error| map(act, &error))).collect()
}

fn one_done(row: &Row) -> std::result::Result<(String, Digest), tokio_postgres::Error> {
    Ok((row.try_get(0)?, Digest::from_text(row.try_get(1)?)))
}

pub(super) async fn run(at: &Endpoint, database: &str, name: &str, statements: &[String], act: &Act) -> Result<()> {
    let mut session = Session::open(at, database, Path::Usual, act).await?;
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let transaction = session.client.transaction().await.map_err(failed)?;
    own::make(&transaction, Table::Scripts, act).await?;
    let remember = "INSERT INTO pgmoor.scripts (name, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let digest = Digest::of(&statements);
    if transaction.execute(remember, &[&name, &digest.as_str()]).await.map_err(failed)? == 0 {
        transaction.rollback().await.map_err(failed)?;
        session.close().await;
        return Ok(());
    }
    for (at, statement) in statements.iter().enumerate() {
        run_one(&transaction, statement, &format!("{}, statement {} of {}", &**act, at + 1, statements.len())).await?;
    }
    transaction.commit().await.map_err(failed)?;
    session.close().await;
    Ok(())
}

async fn run_one(transaction: &Transaction<'_>, statement: &str, act: &str) -> Result<()> {
    let block = format!("BEGIN EXECUTE {}; END", literal(statement)?);
    let outcome = transaction.batch_execute(&format!("DO LANGUAGE plpgsql {}", literal(&block)?)).await;
    outcome.map_err(|error| match error.as_db_error() {
        Some(answer) if *answer.code() == SqlState::SYNTAX_ERROR => {
            Error::Failed { act: act.to_owned(), why: syntax_error(answer) }
        }
        // A data exception that quotes something quotes the value, which may be a password.
        Some(answer) if answer.code().code().starts_with("22") && answer.message().contains('"') => {
            let why = format!("a value in it is not valid; it is not quoted here (SQLSTATE {})", answer.code().code());
            Error::Failed { act: act.to_owned(), why }
        }
        Some(answer) if *answer.code() == SqlState::FEATURE_NOT_SUPPORTED => {
            Error::Failed { act: act.to_owned(), why: format!("{}; a script is one transaction", words(answer)) }
        }
        Some(_) | None => map(act, &error),
    })
}

/// Where the error is, without the word that Postgres quotes: it may be a part of a password.
fn syntax_error(answer: &DbError) -> String {
    let position = match answer.position() {
        Some(ErrorPosition::Original(position)) => Some(position),
        Some(ErrorPosition::Internal { position, .. }) => Some(position),
        None => None,
    };
    let position = position.map(|position| format!(" at character {position}")).unwrap_or_default();
    format!("syntax error{position} (SQLSTATE {})", answer.code().code())
}
