//! Roles and their memberships.
//!
//! Invariants: a password reaches Postgres only as a verifier; a membership that gives neither rights nor `SET ROLE`
//! (Postgres grants one to a role with CREATEROLE for each role it makes) is not ours to judge; one with other options
//! than those of a plain `GRANT` shows under another name, and so as a difference.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Row, Transaction};

use super::quote::{identifier, literal};
use super::session::{Act, MAINTENANCE, Path, Session, map};
use super::{RoleSeen, scram, verifier};
use crate::drivers::{Endpoint, Error, Result};
use crate::model::Secret;
use crate::model::role::{RoleAttributes, RoleFlags};

/// The comment that marks a role as made by pgmoor.
const MARK: &str = "managed by pgmoor";

const ALL: &str = r#"
    SELECT r.rolname::text, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolinherit, r.rolcanlogin,
           r.rolreplication, r.rolbypassrls, r.rolpassword,
           coalesce(shobj_description(r.oid, 'pg_authid') = $1, false),
           ARRAY(SELECT g.rolname::text || CASE WHEN bool_or(m.set_option AND m.inherit_option = r.rolinherit) THEN ''
                                                ELSE ' (with other options)' END
                   FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid
                  WHERE m.member = r.oid AND (m.inherit_option OR m.set_option)
                  GROUP BY g.rolname),
           nullif(r.rolconnlimit, -1),
           CASE WHEN r.rolvaliduntil = '-infinity' THEN '-infinity'
                WHEN isfinite(r.rolvaliduntil) THEN to_char(r.rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
           END,
           EXISTS (SELECT FROM pg_proc p
                     JOIN pg_namespace n ON n.oid = p.pronamespace
                     JOIN pg_authid own ON own.oid = p.proowner AND own.oid = n.nspowner AND own.rolname = current_user
                    CROSS JOIN aclexplode(p.proacl) a
                    WHERE r.oid <> own.oid AND n.nspname = 'pgmoor' AND p.proname = 'verifier' AND p.prosrc = $2 AND p.prosecdef
                      AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp']
                      AND a.grantee = r.oid AND a.privilege_type = 'EXECUTE'
                      AND EXISTS (SELECT FROM aclexplode(n.nspacl) u WHERE u.grantee = r.oid AND u.privilege_type = 'USAGE')
                      AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) o WHERE o.grantee NOT IN (r.oid, own.oid)))
      FROM pg_authid r
     WHERE r.rolname !~ '^pg_'
     ORDER BY r.rolname"#;

const MEMBERSHIPS: &str = "
    SELECT g.rolname::text, by.rolname::text, m.inherit_option, m.set_option
      FROM pg_auth_members m
      JOIN pg_authid g ON g.oid = m.roleid
      JOIN pg_authid by ON by.oid = m.grantor
      JOIN pg_authid r ON r.oid = m.member
     WHERE r.rolname = $1 AND (m.inherit_option OR m.set_option)
     ORDER BY 1, 2";

pub(super) async fn look(at: &Endpoint, passwords: &BTreeMap<String, Secret>, act: &Act) -> Result<Vec<RoleSeen>> {
    let session = Session::open(at, MAINTENANCE, Path::Catalog, act).await?;
    let rows = session.client.query(ALL, &[&MARK, &verifier::BODY]).await.map_err(|error| map(act, &error))?;
    session.close().await;
    let passwords = passwords.clone();
    // A comparison is thousands of hashes: not on the threads that serve everybody.
    let seen = tokio::task::spawn_blocking(move || {
        rows.iter().map(|row| role(row, &passwords)).collect::<std::result::Result<Vec<_>, _>>()
    });
    let seen = seen.await.map_err(|error| Error::Failed { act: act.to_string(), why: error.to_string() })?;
    seen.map_err(|error| map(act, &error))
}

fn role(row: &Row, passwords: &BTreeMap<String, Secret>) -> std::result::Result<RoleSeen, tokio_postgres::Error> {
    let name: String = row.try_get(0)?;
    let stored: Option<String> = row.try_get(8)?;
    let password_matches = passwords
        .get(&name)
        .is_none_or(|password| stored.as_deref().is_some_and(|stored| scram::matches(stored, password)));
    Ok(RoleSeen {
        managed: row.try_get(9)?,
        attributes: RoleAttributes {
            name,
            flags: RoleFlags {
                superuser: row.try_get(1)?,
                createdb: row.try_get(2)?,
                createrole: row.try_get(3)?,
                inherit: row.try_get(4)?,
                login: row.try_get(5)?,
                replication: row.try_get(6)?,
                bypassrls: row.try_get(7)?,
            },
            member_of: row.try_get::<_, Vec<String>>(10)?.into_iter().collect(),
            password_matches,
            connection_limit: row.try_get(11)?,
            valid_until: row.try_get(12)?,
            asks_verifiers: row.try_get(13)?,
        },
    })
}

pub(super) async fn put(at: &Endpoint, role: &RoleAttributes, password: Option<&Secret>, act: &Act) -> Result<()> {
    let name = identifier(&role.name)?;
    let password = match password {
        Some(password) => format!(" PASSWORD {}", literal(&scram::verifier(password))?),
        None => String::new(),
    };
    let (limit, until) = (role.connection_limit.unwrap_or(-1), role.valid_until.as_deref().unwrap_or("infinity"));
    let flags = role.flags.sql();
    let options = format!("WITH {flags} CONNECTION LIMIT {limit} VALID UNTIL {}{password}", literal(until)?);
    let mut session = Session::open(at, MAINTENANCE, Path::Catalog, act).await?;
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let transaction = session.client.transaction().await.map_err(failed)?;
    let exists = "SELECT rolname = current_user FROM pg_authid WHERE rolname = $1";
    let statement = match transaction.query_opt(exists, &[&role.name]).await.map_err(failed)? {
        Some(row) if row.try_get(0).map_err(failed)? => {
            let why = "pgmoor does not change the role that it works as".to_owned();
            return Err(Error::Failed { act: act.to_string(), why });
        }
        Some(_) => format!("ALTER ROLE {name} {options}"),
        None => format!("CREATE ROLE {name} {options}; COMMENT ON ROLE {name} IS {}", literal(MARK)?),
    };
    transaction.batch_execute(&statement).await.map_err(failed)?;
    put_memberships(&transaction, role, act).await?;
    verifier::grant(&transaction, role, act).await?;
    transaction.commit().await.map_err(failed)?;
    session.close().await;
    Ok(())
}

/// Brings the memberships to exactly what is described, whoever granted them.
async fn put_memberships(transaction: &Transaction<'_>, role: &RoleAttributes, act: &Act) -> Result<()> {
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let name = identifier(&role.name)?;
    let mut there = BTreeSet::new();
    for row in transaction.query(MEMBERSHIPS, &[&role.name]).await.map_err(failed)? {
        let (group, grantor): (String, String) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let (inherit, set): (bool, bool) = (row.try_get(2).map_err(failed)?, row.try_get(3).map_err(failed)?);
        if !role.member_of.contains(&group) {
            // CASCADE: what the role passed on rested on this grant.
            let revoke =
                format!("REVOKE {} FROM {name} GRANTED BY {} CASCADE", identifier(&group)?, identifier(&grantor)?);
            transaction.batch_execute(&revoke).await.map_err(failed)?;
        } else if set && inherit == role.flags.inherit {
            there.insert(group);
        }
    }
    for group in role.member_of.difference(&there) {
        let inherit = if role.flags.inherit { "TRUE" } else { "FALSE" };
        let grant = format!("GRANT {} TO {name} WITH INHERIT {inherit}, SET TRUE", identifier(group)?);
        transaction.batch_execute(&grant).await.map_err(failed)?;
    }
    Ok(())
}

pub(super) async fn drop_role(at: &Endpoint, name: &str, heir: &str, act: &Act) -> Result<()> {
    if name == heir {
        return Err(Error::Failed { act: act.to_string(), why: "a role cannot inherit from itself".to_owned() });
    }
    let (quoted, quoted_heir) = (identifier(name)?, identifier(heir)?);
    let session = Session::open(at, MAINTENANCE, Path::Catalog, act).await?;
    let failed = |error: tokio_postgres::Error| map(act, &error);
    let exists = "SELECT FROM pg_authid WHERE rolname = $1";
    if session.client.query_opt(exists, &[&name]).await.map_err(failed)?.is_none() {
        session.close().await;
        return Ok(());
    }
    // No new sessions first, then no sessions: otherwise one could own something new after we looked.
    session.client.batch_execute(&format!("ALTER ROLE {quoted} NOLOGIN")).await.map_err(failed)?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
    session.client.query(end, &[&name]).await.map_err(failed)?;
    let databases = "SELECT datname::text FROM pg_database WHERE datallowconn ORDER BY datname";
    for row in session.client.query(databases, &[]).await.map_err(failed)? {
        let database: String = row.try_get(0).map_err(failed)?;
        let inside = Session::open(at, &database, Path::Catalog, act).await?;
        // The simple protocol runs both in one transaction.
        let hand_over = format!("REASSIGN OWNED BY {quoted} TO {quoted_heir}; DROP OWNED BY {quoted}");
        inside.client.batch_execute(&hand_over).await.map_err(failed)?;
        inside.close().await;
    }
    session.client.batch_execute(&format!("DROP ROLE IF EXISTS {quoted}")).await.map_err(failed)?;
    session.close().await;
    Ok(())
}
