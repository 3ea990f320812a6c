//! One connection as the system superuser, for one act.
//!
//! Invariants: the certificate is checked against the instance's name while the address is the container's, so a reused
//! address is never taken for the instance. Sessions see `pg_catalog` alone (what a user made in `public` is never
//! called by mistake), and neither our statements nor their errors reach the server's log: an error quotes the statement,
//! and a script's may hold a password. The caller has the error.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::drivers::{Endpoint, Error, Result, certificates, tls};

/// How long a connection may take, TLS and login included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long the end of a connection may take.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);
/// How long a lock may be waited for: a user's long transaction must not stall a plan.
const LOCK_WAIT_MS: u32 = 10_000;
/// The database that global acts (roles, databases) go through: `initdb` always makes it.
pub(super) const MAINTENANCE: &str = "postgres";

/// A connection that ends with this value.
pub(super) struct Session {
    pub(super) client: Client,
    /// Reads and writes the socket; dropped with us, which cuts the connection.
    driver: JoinSet<()>,
}

/// What a session may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// `pg_catalog` alone.
    Catalog,
    /// `public`: for scripts of the user.
    Usual,
}

impl Session {
    /// Connects to a database. `act` is what it is for.
    pub(super) async fn open(at: &Endpoint, database: &str, path: Path, act: &Act) -> Result<Self> {
        let user = certificates::common_name(&at.identity.certificate_pem)?;
        let path = match path {
            Path::Catalog => "-c search_path=pg_catalog",
            // Without "$user": the superuser has the name of our own schema, and a script's tables would go in there.
            Path::Usual => "-c search_path=public",
        };
        let mut config = Config::new();
        config
            .user(user)
            .dbname(database)
            .host(&at.server_name)
            .hostaddr(at.address)
            .port(at.port)
            .ssl_mode(SslMode::Require)
            .connect_timeout(CONNECT_DEADLINE)
            .application_name("pgmoor")
            .options(format!(
                "-c statement_timeout={} -c lock_timeout={LOCK_WAIT_MS} -c log_statement=none -c log_min_messages=panic \
                 -c log_min_duration_statement=-1 -c client_min_messages=error {path}",
                act.deadline.as_millis()
            ));
        let connector = MakeRustlsConnect::new(tls::client_config(&at.identity)?);
        let (client, connection) = tokio::time::timeout(CONNECT_DEADLINE, config.connect(connector))
            .await
            .map_err(|_| Error::Unreachable {
                act: act.to_string(),
                why: format!("no connection within {} s", CONNECT_DEADLINE.as_secs()),
            })?
            .map_err(|error| map(act, &error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error also ends the call that waits on the connection, which reports it.
            drop(connection.await);
        });
        Ok(Self { client, driver })
    }

    /// Says goodbye. A session that is dropped without (after an error) leaves a line in Postgres's log.
    pub(super) async fn close(self) {
        let Self { client, mut driver } = self;
        drop(client);
        // If it does not end in time, dropping the driver cuts it.
        drop(tokio::time::timeout(GOODBYE_DEADLINE, driver.join_next()).await);
    }
}

/// What is being done, for errors, and how long it may take.
#[derive(Debug, Clone)]
pub(super) struct Act {
    what: String,
    deadline: Duration,
}

impl std::ops::Deref for Act {
    type Target = str;

    fn deref(&self) -> &str {
        &self.what
    }
}

impl Act {
    pub(super) fn new(deadline: Duration, what: String) -> Self {
        Self { what, deadline }
    }

    /// Runs it under its deadline. Postgres ends the statement by the same deadline of its own.
    pub(super) async fn run<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        tokio::time::timeout(self.deadline, work).await.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", self.deadline.as_secs());
            Err(Error::Unreachable { act: self.what.clone(), why })
        })
    }
}

/// Our words for an error of Postgres's.
pub(super) fn map(act: &str, error: &tokio_postgres::Error) -> Error {
    let act = act.to_owned();
    let Some(answer) = error.as_db_error() else {
        return Error::Unreachable { act, why: chain(error) };
    };
    let why = words(answer);
    let code = answer.code();
    let class = code.code().get(..2).unwrap_or_default();
    // Connection trouble, no resources, not (yet) allowed in, shutting down or starting: nothing about the thing.
    let silent = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    let again = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::OBJECT_IN_USE,
        SqlState::LOCK_NOT_AVAILABLE,
        // The primary is elsewhere now.
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    if matches!(class, "08" | "28" | "53") || silent.contains(code) {
        Error::Unreachable { act, why }
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        Error::NotFound { act }
    } else if again.contains(code) {
        Error::Conflict { act, why }
    } else {
        Error::Failed { act, why }
    }
}

/// Postgres's message. Details and queries stay out, for they may quote data; only of dependent objects the detail is
/// the answer itself.
pub(super) fn words(answer: &DbError) -> String {
    let detail = answer.detail().filter(|_| *answer.code() == SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    let detail = detail.map(|detail| format!(": {}", detail.replace('\n', "; "))).unwrap_or_default();
    format!("{}{detail} (SQLSTATE {})", answer.message(), answer.code().code())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
