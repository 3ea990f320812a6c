//! What a server says about itself.

use std::collections::BTreeSet;

use super::ServerSeen;
use super::quote::identifier;
use super::session::{Act, MAINTENANCE, Path, Session, map};
use crate::drivers::{Endpoint, Result};
use crate::model::parameters::as_much_as_primary;

/// `setting could not be applied` is Postgres's word both for a value that it does not take and for one that waits for
/// a restart: the latter is `pending_restart` and no error. `ALTER SYSTEM` writes `postgresql.auto.conf`, which is read last
/// and so wins; Patroni writes `postgresql.conf`.
const ABOUT_ITSELF: &str = "
    SELECT current_setting('pgmoor.config', true),
           pg_is_in_recovery(),
           ARRAY(SELECT s.name::text FROM pg_settings s
                  WHERE s.pending_restart
                    AND NOT EXISTS (SELECT FROM pg_file_settings f WHERE lower(f.name) = lower(s.name)
                                       AND f.sourcefile LIKE '%/postgresql.auto.conf')
                  ORDER BY s.name),
           (extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint,
           current_setting('server_version'),
           ARRAY(SELECT format('%s line %s: %s', file_name, line_number, error)
                   FROM pg_hba_file_rules WHERE error IS NOT NULL ORDER BY file_name, line_number)
        || ARRAY(SELECT format('%s line %s: %s', file_name, line_number, error)
                   FROM pg_ident_file_mappings WHERE error IS NOT NULL ORDER BY file_name, line_number)
        || ARRAY(SELECT format('%s line %s: %s: %s', f.sourcefile, f.sourceline, f.name, f.error)
                   FROM pg_file_settings f
                  WHERE f.error IS NOT NULL
                    AND NOT EXISTS (SELECT FROM pg_settings s WHERE s.name = lower(f.name) AND s.pending_restart)
                  ORDER BY f.sourcefile, f.sourceline),
           ARRAY(SELECT a.name FROM pg_file_settings a
                  WHERE a.sourcefile LIKE '%/postgresql.auto.conf'
                    AND EXISTS (SELECT FROM pg_file_settings p WHERE lower(p.name) = lower(a.name)
                                   AND p.sourcefile LIKE '%/postgresql.conf')),
           ARRAY(SELECT format('%s %s', r.application_name, pg_wal_lsn_diff(
                            CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                            r.replay_lsn)::bigint)
                   FROM pg_stat_replication r
                  WHERE r.state = 'streaming' AND r.replay_lsn IS NOT NULL),
           ARRAY(SELECT format('%s %s', name, setting) FROM pg_settings WHERE name = ANY ($1))";

/// Takes back what `ALTER SYSTEM` set for these parameters.
pub(super) async fn reset(at: &Endpoint, names: &BTreeSet<String>, act: &Act) -> Result<()> {
    let session = Session::open(at, MAINTENANCE, Path::Catalog, act).await?;
    let failed = |error: tokio_postgres::Error| map(act, &error);
    for name in names {
        // A statement of its own: ALTER SYSTEM takes no transaction.
        session.client.batch_execute(&format!("ALTER SYSTEM RESET {}", identifier(name)?)).await.map_err(failed)?;
    }
    session.client.query_one("SELECT pg_reload_conf()", &[]).await.map_err(failed)?;
    session.close().await;
    Ok(())
}

pub(super) async fn look(at: &Endpoint, act: &Act) -> Result<ServerSeen> {
    let session = Session::open(at, MAINTENANCE, Path::Catalog, act).await?;
    let names: Vec<&str> = as_much_as_primary().collect();
    let row = session.client.query_one(ABOUT_ITSELF, &[&names]).await.map_err(|error| map(act, &error))?;
    session.close().await;
    let get = |error: tokio_postgres::Error| map(act, &error);
    let version: String = row.try_get(4).map_err(get)?;
    Ok(ServerSeen {
        // An empty text is what remains of a parameter that was once set and is no more.
        config: row.try_get::<_, Option<String>>(0).map_err(get)?.filter(|config| !config.is_empty()),
        in_recovery: row.try_get(1).map_err(get)?,
        pending_restart: row.try_get(2).map_err(get)?,
        alter_system: row.try_get::<_, Vec<String>>(6).map_err(get)?.into_iter().collect(),
        started_ms: row.try_get(3).map_err(get)?,
        // `17.11 (Debian 17.11-1.pgdg13+1)`
        version: version.split(' ').next().unwrap_or_default().to_owned(),
        configuration_errors: row.try_get(5).map_err(get)?,
        streaming: row.try_get::<_, Vec<String>>(7).map_err(get)?.iter().filter_map(|line| replica(line)).collect(),
        runs_with: row.try_get::<_, Vec<String>>(8).map_err(get)?.iter().filter_map(|line| replica(line)).collect(),
    })
}

/// A replica's name and its lag. A replica that has just replayed more than the primary had written when it looked is not
/// behind.
fn replica(line: &str) -> Option<(String, u64)> {
    let (name, lag) = line.rsplit_once(' ')?;
    let lag: i64 = lag.parse().ok()?;
    Some((name.to_owned(), u64::try_from(lag).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_read() {
        assert_eq!(replica("shop-n1-1 512"), Some(("shop-n1-1".to_owned(), 512)));
        assert_eq!(replica("a b -8"), Some(("a b".to_owned(), 0)));
        assert_eq!(replica("shop-n1-1 "), None);
    }
}
