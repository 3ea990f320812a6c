//! A pooler on a real host: SQL through it, users that come and change, Postgres that goes and comes, with and without a
//! daemon; and it goes without a trace.

use std::process::{Child, Command, Stdio};

use pgmoor::domain::layout;
use pgmoor::drivers::{TlsIdentity, tls};
use pgmoor::model::Secret;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Site;
use super::secrets::Secrets;
use crate::daemon::until;
use crate::docker::docker;

/// The shop with this pooler, these users and these further keys.
fn shop(pooler: &str, users: &str, more: &str) -> String {
    format!(
        r#"{{"database_name": "shop"{pooler}, "database_users": [
            {{"username": "owner", "db_owner": true, "attributes": ["LOGIN"]}}{users}]{more}}}"#
    )
}

const POOLER: &str = r#", "pooler": {"port": 0, "pool_size": 1}"#;
const SESSION: &str = r#", "pooler": {"port": 0, "pool_size": 1, "mode": "session"}"#;
const CLERK: &str = r#", {"username": "clerk", "attributes": ["LOGIN"], "password": "pass-word-of-clerk"}"#;
const OTHER: &str = r#", {"username": "clerk", "attributes": ["LOGIN"], "password": "other-word-of-clerk"}"#;

/// psql through the pooler, as a user with a password, at a database.
fn through(site: &Site, (user, password): (&str, &str), database: &str) -> Command {
    let mut command = Command::new("psql");
    let target = target(site, user, database, "verify-full");
    command.args(["-XqtA", "-v", "ON_ERROR_STOP=1", "-d", &target]).env("PGPASSWORD", password);
    command
}

fn target(site: &Site, user: &str, database: &str, sslmode: &str) -> String {
    let credentials = site.credentials("shop");
    let (access, ca) = (&credentials.instances[0], &credentials.ca_file);
    let port = access.pooler.as_ref().unwrap().port.unwrap();
    format!(
        "host={} port={port} dbname={database} user={user} sslmode={sslmode} sslrootcert={ca} connect_timeout=10",
        access.address
    )
}

/// SQL as Postgres' superuser, in its container.
fn as_system(site: &Site, sql: &str) {
    let container = site.container(&site.service("shop")).unwrap();
    docker(&["exec", &container, "psql", "-XqAtU", "pgmoor", "-d", "postgres", "-c", sql]).unwrap();
}

fn answer(mut command: Command, sql: &str) -> Result<String, String> {
    let output = command.args(["-c", sql]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn as_owner(site: &Site, sql: &str) -> Result<String, String> {
    let password = site.credentials("shop").passwords["owner"].expose().to_owned();
    answer(through(site, ("owner", &password), "shop"), sql)
}

fn pooler_service(site: &Site) -> String {
    site.credentials("shop").instances[0].pooler.as_ref().unwrap().service.clone()
}

#[test]
fn a_pooler_serves_follows_and_goes() {
    let mut site = Site::start(false);
    // Postgres is killed below; what looks at it just then says so.
    site.daemon.expect_log(&["pass failed", "could not be looked at"]);
    let status = site.apply("shop", &shop(POOLER, "", ""));
    let port = site.credentials("shop").instances[0].pooler.as_ref().unwrap().port.unwrap();
    let uri = status["connection"]["uri_pooled"].as_str().unwrap();
    assert!(uri.contains(&format!(":{port}/shop?")), "{status}");
    until("SQL goes through the pooler", || as_owner(&site, "SELECT 1").as_deref() == Ok("1"));
    as_owner(&site, "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)").unwrap();
    assert_eq!(site.psql("shop", "SELECT x FROM kept"), "7", "it is the same database");
    let pooler = site.container(&pooler_service(&site));
    assert!(pooler.is_some());
    told(&site);
    strangers(&site);
    an_empty_password_opens_nothing(&site);
    users(&site);
    restarts(&site);
    modes(&site);
    assert_eq!(site.container(&pooler_service(&site)), pooler, "all that without another container");
    let secrets = Secrets::of(&site);
    without_a_daemon(&mut site);
    replaced_alone(&site);
    secrets.are_nowhere(&site, &["pass-word-of-clerk", "other-word-of-clerk"]);
    goes(&site);
}

/// The instance's state says that it runs, and to whom it leads.
fn told(site: &Site) {
    let instance = site.credentials("shop").instances[0].instance.to_string();
    let topic = format!("databases/{}/instances/{instance}/state", site.id("shop"));
    until("the pooler is told of", || {
        let state: serde_json::Value =
            site.daemon.wire.last(&topic).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        state["pooler"]["state"] == "running" && state["pooler"]["primary"] == instance
    });
    let said = site.daemon.cli(&["connection", &site.id("shop"), "--pooled"]);
    let uri = String::from_utf8_lossy(&said.stdout).into_owned();
    let port = site.credentials("shop").instances[0].pooler.as_ref().unwrap().port.unwrap();
    assert!(said.status.success() && uri.contains(&format!(":{port}/shop?sslmode=verify-full")), "{uri}");
}

/// Nobody gets in who may not, and its own role is of no use to anybody.
fn strangers(site: &Site) {
    for (user, password) in
        [("owner", "wrong"), ("pgmoor_pooler", ""), ("pgmoor_pooler", "x"), ("pgmoor", ""), ("nobody", "")]
    {
        let refused = answer(through(site, (user, password), "shop"), "SELECT 1");
        assert!(refused.is_err(), "{user}: {refused:?}");
    }
    let password = site.credentials("shop").passwords["owner"].expose().to_owned();
    let console = answer(through(site, ("owner", &password), "pgbouncer"), "SHOW CONFIG");
    assert!(console.is_err(), "{console:?}");
    let direct = site.psql_as("shop", "pgmoor_pooler", "SELECT 1");
    assert!(direct.is_err(), "its role logs in with a certificate alone: {direct:?}");
    let mut plain = Command::new("psql");
    plain.args(["-XqtA", "-d", &target(site, "owner", "shop", "disable")]).env("PGPASSWORD", &password);
    assert!(answer(plain, "SELECT 1").is_err(), "not without TLS");
}

/// libpq sends no empty password, and others do: to pgbouncer's own role it would open every verifier.
fn an_empty_password_opens_nothing(site: &Site) {
    let credentials = site.credentials("shop");
    let access = &credentials.instances[0];
    let login =
        layout::pooler_directory(&site.data_dir().to_string_lossy(), access.instance.as_str()) + "/certificates/login";
    let read = |path: String| std::fs::read_to_string(path).unwrap();
    let identity = TlsIdentity {
        ca_pem: read(credentials.ca_file.clone()),
        certificate_pem: read(login.clone() + ".crt"),
        key_pem: Secret::new(read(login + ".key")),
    };
    let connect = |user: &str, password: &str, database: &str| {
        let mut config = tokio_postgres::Config::new();
        config.user(user).password(password).dbname(database).ssl_mode(SslMode::Require);
        config.host(&access.address).port(access.pooler.as_ref().unwrap().port.unwrap());
        config.connect_timeout(std::time::Duration::from_secs(10));
        let connector = MakeRustlsConnect::new(tls::client_config(&identity).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(config.connect(connector)).map(|_connected| ())
    };
    connect("owner", credentials.passwords["owner"].expose(), "shop").expect("the right password does");
    let ini = read(
        layout::pooler_directory(&site.data_dir().to_string_lossy(), access.instance.as_str())
            + "/configs/pgbouncer.ini",
    );
    let lookup = ini.lines().find_map(|line| line.strip_prefix("auth_dbname = ")).unwrap();
    for database in ["shop", "pgbouncer", lookup] {
        for user in ["pgmoor_pooler", "pgmoor", "owner"] {
            let refused = connect(user, "", database).expect_err("an empty password");
            assert!(refused.as_db_error().is_some(), "{user} at {database}: {refused}");
        }
    }
}

/// A user that comes, and a password that changes, without a restart of anything.
fn users(site: &Site) {
    let clerk = |password: &str| answer(through(site, ("clerk", password), "shop"), "SELECT current_user");
    assert!(clerk("pass-word-of-clerk").is_err());
    site.apply("shop", &shop(POOLER, CLERK, ""));
    assert_eq!(clerk("pass-word-of-clerk").as_deref(), Ok("clerk"));
    site.apply("shop", &shop(POOLER, OTHER, ""));
    assert_eq!(clerk("other-word-of-clerk").as_deref(), Ok("clerk"));
    assert!(clerk("pass-word-of-clerk").is_err(), "the old one is over");
    // One that somebody makes inside.
    as_system(site, "CREATE ROLE guest LOGIN PASSWORD 'word-of-guest'");
    let guest = answer(through(site, ("guest", "word-of-guest"), "shop"), "SELECT current_user");
    assert_eq!(guest.as_deref(), Ok("guest"));
    as_system(site, "DROP ROLE guest");
}

/// Postgres is restarted, and what goes through the pooler works again.
fn restarts(site: &Site) {
    let started = as_owner(site, "SELECT pg_postmaster_start_time()").unwrap();
    site.apply("shop", &shop(POOLER, OTHER, r#", "postgresql_conf": {"max_connections": 60}"#));
    until("the pooler leads to the restarted Postgres", || {
        as_owner(site, "SELECT pg_postmaster_start_time()").is_ok_and(|now| now != started)
    });
    assert_eq!(as_owner(site, "SHOW max_connections").as_deref(), Ok("60"));
}

/// A client that has asked something and stays.
struct Stays(Child);

impl Stays {
    fn as_owner(site: &Site) -> Self {
        let password = site.credentials("shop").passwords["owner"].expose().to_owned();
        let mut command = through(site, ("owner", &password), "shop");
        command.args(["-c", "SELECT 1", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// With one connection in the pool, a client that stays holds others up in one mode and not in the other.
fn modes(site: &Site) {
    let restarted = r#", "postgresql_conf": {"max_connections": 60}"#;
    let held_up = || {
        let _stays = Stays::as_owner(site);
        std::thread::sleep(std::time::Duration::from_secs(2));
        let password = site.credentials("shop").passwords["owner"].expose().to_owned();
        let command = through(site, ("owner", &password), "shop");
        let mut limited = Command::new("timeout");
        limited.arg("5").arg(command.get_program()).args(command.get_args());
        limited.env("PGPASSWORD", password);
        answer(limited, "SELECT 1").is_err()
    };
    assert!(!held_up(), "in transaction mode it has no connection");
    site.apply("shop", &shop(SESSION, OTHER, restarted));
    until("the pooler works in session mode", held_up);
    site.apply("shop", &shop(POOLER, OTHER, restarted));
    until("the pooler works in transaction mode again", || !held_up());
}

/// Postgres' container is killed while nobody is there to mend anything: Swarm brings another, at another address, and the
/// pooler finds it.
fn without_a_daemon(site: &mut Site) {
    let service = site.service("shop");
    let before = site.container(&service).unwrap();
    site.kill();
    docker(&["kill", &before]).unwrap();
    until("another container of Postgres runs", || site.container(&service).is_some_and(|now| now != before));
    until("the pooler leads to it", || as_owner(site, "SELECT x FROM kept").as_deref() == Ok("7"));
    as_owner(site, "INSERT INTO kept VALUES (8)").unwrap();
    site.daemon.start_again();
    let id = site.id("shop");
    site.daemon.wait_status(&id, "it is available again", |status| status["state"] == "available");
}

/// More memory is another container of the pooler, and of nobody else.
fn replaced_alone(site: &Site) {
    let (pooler, postgres) = (site.container(&pooler_service(site)), site.container(&site.service("shop")));
    let started = site.postmaster("shop");
    let larger = POOLER.replace("\"pool_size\": 1", "\"pool_size\": 1, \"memory\": \"96MiB\"");
    site.apply("shop", &shop(&larger, OTHER, r#", "postgresql_conf": {"max_connections": 60}"#));
    until("another pooler serves", || {
        site.container(&pooler_service(site)) != pooler && as_owner(site, "SELECT 1").as_deref() == Ok("1")
    });
    assert_eq!((site.container(&site.service("shop")), site.postmaster("shop")), (postgres, started));
}

/// Without the field nothing is left of it: no service, no directory, no role.
fn goes(site: &Site) {
    let service = pooler_service(site);
    site.apply("shop", &shop("", OTHER, r#", "postgresql_conf": {"max_connections": 60}"#));
    until("the pooler's container is gone", || site.container(&service).is_none());
    assert!(!site.names("service").contains(&service));
    until("its files are gone", || super::site::entries(&site.data_dir().join("poolers")).is_empty());
    assert_eq!(site.psql("shop", "SELECT count(*) FROM pg_roles WHERE rolname = 'pgmoor_pooler'"), "0");
    assert!(site.status("shop")["connection"]["uri_pooled"].is_null());
    until("it is forgotten", || site.records().databases.iter().all(|record| record.poolers.is_empty()));
}
