//! The function by which a pooler asks for the password verifier of a user: `pgmoor.verifier(name)` in the maintenance
//! database, run with its owner's rights.
//!
//! Invariants: it gives the verifier of one user who may log in, and nothing else; only its owner and the role that asks
//! may call it; a role that does not ask has no right to it. What the function really is, and who may call it, is compared
//! with each look at the roles (`roles::look`), not remembered.

use tokio_postgres::Transaction;

use super::own;
use super::quote::identifier;
use super::session::{Act, map};
use crate::drivers::{Error, Result};
use crate::model::role::RoleAttributes;

/// What it does. A password whose time is over is none (`VALID UNTIL`), as for Postgres itself.
pub(super) const BODY: &str = " SELECT rolname::text, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END \
                               FROM pg_authid WHERE rolname = asked AND rolcanlogin AND rolpassword IS NOT NULL ";

/// Gives the role the right to ask, and makes what it asks; or takes it.
pub(super) async fn grant(transaction: &Transaction<'_>, role: &RoleAttributes, act: &Act) -> Result<()> {
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let name = identifier(&role.name)?;
    let there = "SELECT proowner::regrole::text = quote_ident(current_user) FROM pg_proc \
                 WHERE oid = to_regprocedure('pgmoor.verifier(text)')";
    let owned: Option<bool> = match transaction.query_opt(there, &[]).await.map_err(failed)? {
        Some(row) => Some(row.try_get(0).map_err(failed)?),
        None => None,
    };
    if !role.asks_verifiers {
        if owned == Some(true) {
            let take = format!("REVOKE ALL ON FUNCTION pgmoor.verifier(text) FROM {name}");
            transaction.batch_execute(&take).await.map_err(failed)?;
        }
        return Ok(());
    }
    own::schema(transaction, act).await?;
    if owned == Some(false) {
        // It would run with the rights of whoever made it.
        let why = "the function pgmoor.verifier is not pgmoor's own: drop it, the name is pgmoor's".to_owned();
        return Err(Error::Failed { act: act.to_string(), why });
    }
    // Whoever else was given the right loses it with the function.
    let make = format!(
        "DROP FUNCTION IF EXISTS pgmoor.verifier(text); \
         CREATE FUNCTION pgmoor.verifier(asked text) RETURNS TABLE (name text, verifier text) LANGUAGE sql STABLE \
         STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body${BODY}$body$; \
         REVOKE ALL ON FUNCTION pgmoor.verifier(text) FROM PUBLIC; \
         GRANT USAGE ON SCHEMA pgmoor TO {name}; \
         GRANT EXECUTE ON FUNCTION pgmoor.verifier(text) TO {name}"
    );
    transaction.batch_execute(&make).await.map_err(failed)
}
