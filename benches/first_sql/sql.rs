//! Trying SQL until it works.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use pgmoor::domain::layout;
use pgmoor::drivers::{TlsIdentity, tls};
use pgmoor::runtime::{chain, within};
use tokio::task::JoinSet;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::site::Database;

/// The role that owns the database.
pub(super) const ROLE: &str = "bench";
/// The database's name in Postgres.
pub(super) const DATABASE: &str = "bench";
/// Between the beginnings of two attempts.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// How long one attempt may take: a machine under load answers late.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long it may take at all.
const LIMIT: Duration = Duration::from_secs(180);
/// What counts as read-write.
const WRITE: &str = "CREATE TABLE IF NOT EXISTS first (at timestamptz); INSERT INTO first VALUES (now())";

/// Returns when the database's owner has written its first row.
pub(super) async fn until_role_writes(database: &Database) -> anyhow::Result<()> {
    let mut config = at(database);
    config.user(ROLE).password(&database.password).dbname(DATABASE).host("127.0.0.1").ssl_mode(SslMode::Disable);
    until_works(&config, NoTls, WRITE).await
}

/// Returns when the superuser, who shows a certificate, has made the role and its database.
pub(super) async fn until_superuser_made(
    database: &Database,
    server_name: &str,
    identity: &TlsIdentity,
    superuser_is_in: impl FnOnce(),
) -> anyhow::Result<()> {
    let mut config = at(database);
    config.user(layout::SUPERUSER).dbname("postgres").host(server_name).ssl_mode(SslMode::Require);
    let connector = MakeRustlsConnect::new(tls::client_config(identity)?);
    until_works(&config, connector.clone(), WRITE).await?;
    superuser_is_in();
    let role = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{}'", database.password);
    Box::pin(once(&config, connector.clone(), &role)).await?;
    // Not in one string with the role: it cannot run in a transaction.
    Box::pin(once(&config, connector, &format!("CREATE DATABASE {DATABASE} OWNER {ROLE}"))).await
}

fn at(database: &Database) -> Config {
    let mut config = Config::new();
    config.hostaddr(IpAddr::V4(Ipv4Addr::LOCALHOST)).port(database.port).connect_timeout(ATTEMPT);
    config
}

async fn until_works<T>(config: &Config, tls: T, statements: &str) -> anyhow::Result<()>
where
    T: MakeTlsConnect<Socket> + Clone,
    T::Stream: Send + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let mut ticks = tokio::time::interval(TRY_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    let tries = async {
        loop {
            ticks.tick().await;
            match Box::pin(once(config, tls.clone(), statements)).await {
                Ok(()) => return,
                Err(error) => last = Some(error),
            }
        }
    };
    if within("the first SQL", LIMIT, tries).await.is_ok() {
        return Ok(());
    }
    let last = last.map_or_else(|| "no attempt ended".to_owned(), |error| chain(error.as_ref()));
    Err(anyhow!("no SQL worked within {} s; last: {last}", LIMIT.as_secs()))
}

async fn once<T>(config: &Config, tls: T, statements: &str) -> anyhow::Result<()>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let attempt = async {
        let (client, connection) = config.connect(tls).await.context("connect")?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error also ends the statement, which reports it.
            drop(connection.await);
        });
        run(&client, statements).await
    };
    within("an attempt", ATTEMPT, attempt).await?
}

async fn run(client: &Client, statements: &str) -> anyhow::Result<()> {
    client.batch_execute(statements).await.context("run the statements")
}
