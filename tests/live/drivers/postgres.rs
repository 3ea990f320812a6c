//! Patroni and Postgres 17: one instance, every call of both drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgmoor::drivers::patroni::{Patroni, Rest};
use pgmoor::drivers::postgres::{Postgres, RoleSeen, Sql};
use pgmoor::drivers::{Endpoint, Error, certificates};
use pgmoor::model::role::{RoleAttributes, RoleFlags};
use pgmoor::model::{Digest, Secret};

use super::container::{Container, Pki, pki, until};

const NAME: &str = "pgmoor-drivers-pg";
/// A name that any careless quoting would break on.
const ODD: &str = "o'dd \"r\\le; --";

/// What specs are judged by.
const SETTINGS: &str = include_str!("../../../src/contract/spec/rules/parameters/postgres-17.tsv");

struct Instance {
    pki: Pki,
    postgres: Container,
    _etcd: Container,
    sql: Endpoint,
    rest: Endpoint,
}

impl Instance {
    async fn start() -> Self {
        // Patroni goes to the address that the member advertises.
        let start = "exec etcd --listen-client-urls=http://0.0.0.0:2379 \
                     --advertise-client-urls=http://$(hostname -i):2379";
        let etcd = Container::run("pgmoor-drivers-pg-etcd", &["pgmoor/etcd:3.5.16"], &["sh", "-c", start]);
        let pki = pki(NAME);
        pki.file("patroni.yml", &configuration(&etcd.address()));
        let files = format!("{}:/c:ro", pki.directory.path().display());
        let docker = ["-p", "127.0.0.1:0:5432", "-p", "127.0.0.1:0:8008", "-v", &files, "pgmoor/postgres:17.11"];
        let start = "install -m 600 /c/server.key /tmp/server.key && exec patroni /c/patroni.yml";
        let postgres = Container::run(NAME, &docker, &["bash", "-c", start]);
        let identity = pki.client("pgmoor");
        let endpoint = |inside| Endpoint {
            address: "127.0.0.1".parse().unwrap(),
            port: postgres.port(inside),
            server_name: NAME.to_owned(),
            identity: Arc::clone(&identity),
        };
        let (sql, rest) = (endpoint(5432), endpoint(8008));
        until("Postgres is primary", async || Sql::new().server(&sql).await.is_ok_and(|server| !server.in_recovery))
            .await;
        Self { pki, postgres, _etcd: etcd, sql, rest }
    }
}

fn configuration(etcd: &str) -> String {
    format!(
        "
name: {NAME}
scope: drivers
namespace: /patroni/
etcd3: {{hosts: ['{etcd}:2379'], protocol: http}}
restapi:
  listen: 0.0.0.0:8008
  connect_address: 127.0.0.1:8008
  certfile: /c/server.crt
  keyfile: /c/server.key
  cafile: /c/ca.crt
  verify_client: required
bootstrap:
  dcs:
    loop_wait: 1
    ttl: 20
    retry_timeout: 5
    postgresql:
      parameters: {{pgmoor.config: one}}
      pg_hba: ['local all all trust', 'host all all 127.0.0.1/32 scram-sha-256', 'hostssl all pgmoor all cert']
  initdb: [data-checksums, {{encoding: UTF8}}]
postgresql:
  listen: 0.0.0.0:5432
  connect_address: 127.0.0.1:5432
  data_dir: /opt/pgmoor/data/pgdata
  use_unix_socket: true
  authentication: {{superuser: {{username: pgmoor}}, replication: {{username: patroni_replicator}}}}
  parameters:
    unix_socket_directories: /run/postgresql
    ssl: 'on'
    ssl_cert_file: /c/server.crt
    ssl_key_file: /tmp/server.key
    ssl_ca_file: /c/ca.crt
    log_statement: all
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn patroni_and_postgres() {
    let instance = Instance::start().await;
    let sql = Sql::new();
    about_itself(&instance, &sql).await;
    settings(&instance);
    patroni(&instance, &sql).await;
    roles(&instance, &sql).await;
    verifiers(&instance, &sql).await;
    databases(&instance, &sql).await;
    extensions(&instance, &sql).await;
    scripts(&instance, &sql).await;
    errors(&instance, &sql).await;
    let log = instance.postgres.log();
    assert!(log.contains("pgmoor.extensions") || log.contains("starting PostgreSQL"), "the log is there");
    assert!(!log.contains("pass-word"), "no secret of ours is in Postgres's log");
    assert!(!log.contains("statement: DO LANGUAGE"), "nor what a script says");
}

async fn about_itself(instance: &Instance, sql: &Sql) {
    let server = sql.server(&instance.sql).await.unwrap();
    assert_eq!(server.config.as_deref(), Some("one"));
    assert_eq!(server.version, "17.11");
    assert!(server.started_ms > 0 && server.pending_restart.is_empty());
    assert_eq!(server.configuration_errors, [""; 0]);
}

/// The table by which specs are judged has every parameter of the real Postgres, with its type, range and words.
fn settings(instance: &Instance) {
    let query = "SELECT concat_ws(chr(9), lower(name), vartype, coalesce(unit, ''), coalesce(min_val, ''), \
                                  coalesce(max_val, ''), coalesce(array_to_string(enumvals, ','), '')) \
                   FROM pg_settings WHERE context <> 'internal' AND position('.' IN name) = 0";
    let psql = ["psql", "-U", "pgmoor", "-h", "/run/postgresql", "-d", "postgres", "-XAtc", query];
    let (fine, text) = instance.postgres.exec(&psql);
    assert!(fine, "{text}");
    let known: BTreeSet<&str> = SETTINGS.lines().map(str::trim_end).collect();
    let missing: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !known.contains(line)).collect();
    assert!(missing.is_empty() && text.lines().count() > 300, "{missing:#?}");
}

async fn patroni(instance: &Instance, sql: &Sql) {
    let rest = Rest::new();
    let at = &instance.rest;
    until("Patroni runs as primary", async || {
        rest.status(at).await.is_ok_and(|seen| seen.state == "running" && seen.role == "primary")
    })
    .await;
    let seen = rest.status(at).await.unwrap();
    assert_eq!((seen.timeline, seen.server_version), (Some(1), Some(170_011)));
    assert!(seen.lsn.is_some() && seen.patroni_version.is_some() && !seen.paused && !seen.pending_restart);
    let shown = std::fs::read_to_string(instance.pki.directory.path().join("server.crt")).unwrap();
    assert_eq!(seen.certificate, certificates::certificate_digest(&shown).unwrap());

    let patch = |parameters: serde_json::Value| serde_json::json!({ "postgresql": { "parameters": parameters } });
    let before = sql.server(&instance.sql).await.unwrap();
    let two = patch(serde_json::json!({"pgmoor.config": "two", "work_mem": "5MB"}));
    until("the patch is taken", async || match rest.patch_config(at, &two).await {
        // Patroni is still bootstrapping.
        Err(Error::Unreachable { .. }) => false,
        outcome => outcome.map(|()| true).unwrap(),
    })
    .await;
    until("the patch is loaded", async || sql.server(&instance.sql).await.unwrap().config.as_deref() == Some("two"))
        .await;
    assert_eq!(sql.server(&instance.sql).await.unwrap().started_ms, before.started_ms, "a reload is enough");

    rest.patch_config(at, &patch(serde_json::json!({"max_connections": 77}))).await.unwrap();
    until("a restart is pending", async || rest.status(at).await.unwrap().pending_restart).await;
    let waiting = sql.server(&instance.sql).await.unwrap();
    assert_eq!(waiting.pending_restart, ["max_connections"]);
    assert_eq!(waiting.configuration_errors, [""; 0], "what waits for a restart is no error");
    rest.restart(at).await.unwrap();
    until("restarted", async || {
        sql.server(&instance.sql).await.is_ok_and(|server| server.started_ms > before.started_ms)
    })
    .await;
    assert_eq!(sql.server(&instance.sql).await.unwrap().pending_restart, [""; 0]);

    let good = ["local all all trust", "host all all 127.0.0.1/32 scram-sha-256", "hostssl all pgmoor all cert"];
    let bad = [&good[..], &["host all all nonsense/99 md5"]].concat();
    rest.patch_config(at, &serde_json::json!({"postgresql": {"pg_hba": bad}})).await.unwrap();
    until("the bad line is told", async || {
        let errors = sql.server(&instance.sql).await.unwrap().configuration_errors;
        errors.iter().any(|error| error.contains("line") && error.contains("nonsense"))
    })
    .await;
    rest.patch_config(at, &serde_json::json!({"postgresql": {"pg_hba": good}})).await.unwrap();
    until("it is gone", async || sql.server(&instance.sql).await.unwrap().configuration_errors.is_empty()).await;
    rest.reload(at).await.unwrap();
    let stranger = Endpoint { identity: pki("stranger").client("pgmoor"), ..at.clone() };
    assert!(matches!(rest.status(&stranger).await, Err(Error::Unreachable { .. })));
    let misnamed = Endpoint { server_name: "another".to_owned(), ..at.clone() };
    assert!(matches!(rest.status(&misnamed).await, Err(Error::Unreachable { .. })));
}

fn wanted(name: &str, login: bool, member_of: &[&str]) -> RoleAttributes {
    RoleAttributes {
        name: name.to_owned(),
        flags: RoleFlags { login, ..RoleFlags::default() },
        member_of: member_of.iter().map(|group| (*group).to_owned()).collect::<BTreeSet<_>>(),
        password_matches: true,
        connection_limit: None,
        valid_until: None,
        asks_verifiers: false,
    }
}

async fn role(sql: &Sql, at: &Endpoint, name: &str, password: &str) -> Option<RoleSeen> {
    let passwords = BTreeMap::from([(name.to_owned(), Secret::new(password))]);
    sql.roles(at, &passwords).await.unwrap().into_iter().find(|role| role.attributes.name == name)
}

async fn roles(instance: &Instance, sql: &Sql) {
    let at = &instance.sql;
    let psql = |statement: &str| {
        let (good, text) = instance.postgres.exec(&["psql", "-qAtU", "pgmoor", "-d", "postgres", "-c", statement]);
        assert!(good, "{text}");
        text
    };
    psql("CREATE ROLE readers; CREATE ROLE writers");
    assert!(!role(sql, at, "readers", "x").await.unwrap().managed, "made by somebody else");
    let secret = Secret::new("pass-word'\\ü");
    for _ in 0..2 {
        sql.put_role(at, &wanted(ODD, true, &["readers", "pg_read_all_data"]), Some(&secret)).await.unwrap();
    }
    let seen = role(sql, at, ODD, secret.expose()).await.unwrap();
    assert_eq!((seen.attributes, seen.managed), (wanted(ODD, true, &["readers", "pg_read_all_data"]), true));
    assert!(!role(sql, at, ODD, "other").await.unwrap().attributes.password_matches);

    // Grants by hand go, options and flags come back, the password stays.
    psql("GRANT writers TO \"o'dd \"\"r\\le; --\" WITH INHERIT FALSE; ALTER ROLE \"o'dd \"\"r\\le; --\" CREATEDB");
    sql.put_role(at, &wanted(ODD, true, &["writers"]), None).await.unwrap();
    assert_eq!(role(sql, at, ODD, secret.expose()).await.unwrap().attributes, wanted(ODD, true, &["writers"]));
    let inherits = psql(
        "SELECT inherit_option FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid \
                         WHERE r.rolname = 'writers'",
    );
    assert_eq!(inherits, "t");
    let login = ["env", "PGPASSWORD=pass-word'\\ü", "psql", "-qAth", "127.0.0.1", "-U", ODD, "-d", "postgres"];
    let (good, text) = instance.postgres.exec(&[&login[..], &["-c", "SELECT 1"]].concat());
    assert!(good && text == "1", "{text}");

    assert!(matches!(sql.put_role(at, &wanted("pgmoor", true, &[]), None).await, Err(Error::Failed { .. })));
    let lost = sql.put_role(at, &wanted("half", true, &["nobody"]), None).await;
    assert!(matches!(lost, Err(Error::Failed { .. })), "{lost:?}");
    assert!(role(sql, at, "half", "x").await.is_none(), "a role is made whole or not at all");
}

/// The role that asks gets the verifier of whoever may log in with a password, and can do nothing else; nobody else gets
/// it; what somebody changed about that is seen and mended.
async fn verifiers(instance: &Instance, sql: &Sql) {
    let at = &instance.sql;
    let psql = |statement: &str| {
        instance.postgres.exec(&["psql", "-qAtU", "pgmoor", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", statement])
    };
    let asks = RoleAttributes { asks_verifiers: true, ..wanted("asker", true, &[]) };
    sql.put_role(at, &wanted("clerk", true, &[]), Some(&Secret::new("pass-word"))).await.unwrap();
    sql.put_role(at, &wanted("group", false, &[]), Some(&Secret::new("pass-word"))).await.unwrap();
    sql.put_role(at, &asks, None).await.unwrap();
    let is = async || role(sql, at, "asker", "x").await.unwrap().attributes;
    assert_eq!(is().await, asks);
    let ask = |who: &str, whom: &str| {
        psql(&format!(
            "SET ROLE {who}; SELECT name || ' ' || coalesce(verifier, 'none') FROM pgmoor.verifier('{whom}')"
        ))
    };
    let (fine, told) = ask("asker", "clerk");
    assert!(fine && told.starts_with("clerk SCRAM-SHA-256$"), "{told}");
    for nobody in ["pgmoor", "asker", "group", "nobody", "clerk'' or ''"] {
        assert_eq!(ask("asker", nobody), (true, String::new()), "{nobody}");
    }
    let (fine, told) = psql("SET ROLE asker; SELECT rolpassword FROM pg_authid");
    assert!(!fine && told.contains("permission denied"), "{told}");
    let (fine, told) = ask("clerk", "clerk");
    assert!(!fine && told.contains("permission denied"), "{told}");
    assert!(psql("ALTER ROLE clerk VALID UNTIL '2001-01-01'").0);
    assert_eq!(ask("asker", "clerk"), (true, "clerk none".to_owned()), "its time is over");

    for by_hand in [
        "GRANT EXECUTE ON FUNCTION pgmoor.verifier(text) TO clerk",
        "GRANT EXECUTE ON FUNCTION pgmoor.verifier(text) TO PUBLIC",
        "REVOKE USAGE ON SCHEMA pgmoor FROM asker",
        "ALTER FUNCTION pgmoor.verifier(text) RESET search_path",
        "DROP FUNCTION pgmoor.verifier(text)",
    ] {
        assert!(psql(by_hand).0, "{by_hand}");
        assert!(!is().await.asks_verifiers, "{by_hand}");
        sql.put_role(at, &asks, None).await.unwrap();
        assert_eq!(is().await, asks, "{by_hand}");
    }
    assert!(!ask("clerk", "clerk").0);
    sql.put_role(at, &wanted("asker", true, &[]), None).await.unwrap();
    assert!(!is().await.asks_verifiers && !ask("asker", "clerk").0, "the right is taken back");
    sql.put_role(at, &asks, None).await.unwrap();
    sql.drop_role(at, "asker", "pgmoor").await.unwrap();
    assert!(role(sql, at, "asker", "x").await.is_none());
}

async fn databases(instance: &Instance, sql: &Sql) {
    let at = &instance.sql;
    let odd_database = "s'h\"op";
    sql.put_role(at, &wanted("heir", true, &[]), None).await.unwrap();
    for owner in [ODD, ODD, "heir", ODD] {
        sql.put_database(at, odd_database, owner).await.unwrap();
        let seen = sql.databases(at).await.unwrap();
        assert_eq!(seen.iter().find(|database| database.name == odd_database).unwrap().owner, owner);
    }
    assert!(sql.put_database(at, "shop", "nobody").await.is_err());
    // A role that owns a database, tables and rights goes, and what it owned stays.
    let make =
        ["CREATE TABLE t (x int)".to_owned(), format!("ALTER TABLE t OWNER TO \"{}\"", ODD.replace('"', "\"\""))];
    sql.run_script(at, odd_database, "make", &make).await.unwrap();
    for _ in 0..2 {
        sql.drop_role(at, ODD, "heir").await.unwrap();
        assert!(role(sql, at, ODD, "x").await.is_none());
    }
    assert_eq!(sql.databases(at).await.unwrap().iter().find(|d| d.name == odd_database).unwrap().owner, "heir");
    let owner =
        ["psql", "-qAtU", "pgmoor", "-d", odd_database, "-c", "SELECT tableowner FROM pg_tables WHERE tablename = 't'"];
    assert_eq!(instance.postgres.exec(&owner).1, "heir");
    sql.put_database(at, "shop", "heir").await.unwrap();
}

async fn extensions(instance: &Instance, sql: &Sql) {
    let at = &instance.sql;
    let find = async |name: &str| {
        sql.extensions(at, "shop").await.unwrap().into_iter().find(|extension| extension.name == name)
    };
    assert!(!find("plpgsql").await.unwrap().managed);
    for _ in 0..2 {
        sql.put_extension(at, "shop", "vector", None, None).await.unwrap();
    }
    let vector = find("vector").await.unwrap();
    assert_eq!((vector.schema.as_str(), vector.managed), ("public", true));
    sql.put_extension(at, "shop", "vector", Some(&vector.version), Some("s'ch\"ema")).await.unwrap();
    assert_eq!(find("vector").await.unwrap().schema, "s'ch\"ema");
    sql.put_extension(at, "shop", "earthdistance", None, None).await.unwrap();
    assert!(!find("cube").await.unwrap().managed, "came along");
    let needed = sql.drop_extension(at, "shop", "cube").await;
    assert!(matches!(&needed, Err(Error::Failed { why, .. }) if why.contains("earthdistance")), "{needed:?}");
    for _ in 0..2 {
        sql.drop_extension(at, "shop", "vector").await.unwrap();
        assert!(find("vector").await.is_none());
    }
    assert!(sql.put_extension(at, "shop", "nothing", None, None).await.is_err());
    assert!(sql.put_extension(at, "shop", "vector", Some("0.0.0"), None).await.is_err());
    assert!(find("vector").await.is_none());
    assert!(matches!(sql.extensions(at, "nowhere").await, Err(Error::NotFound { .. })));
}

async fn scripts(instance: &Instance, sql: &Sql) {
    let at = &instance.sql;
    let statements = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(sql.scripts_done(at, "shop").await.unwrap(), BTreeMap::new());
    let good = statements(&["CREATE TABLE once (x text)", "INSERT INTO once VALUES ('it''s \\ $$'); SELECT 1"]);
    for _ in 0..2 {
        sql.run_script(at, "shop", "post_init", &good).await.unwrap();
    }
    let done = BTreeMap::from([("post_init".to_owned(), Digest::of(&good))]);
    assert_eq!(sql.scripts_done(at, "shop").await.unwrap(), done);
    let count = ["psql", "-qAtU", "pgmoor", "-d", "shop", "-c", "SELECT string_agg(x, '|') FROM once"];
    assert_eq!(instance.postgres.exec(&count).1, "it's \\ $$", "it ran once");
    for (name, bad, says) in [
        ("syntax", statements(&["SELECT 1", "CREATE ROLE z PASSWORD pass-word"]), "statement 2 of 2: syntax error"),
        ("commit", statements(&["INSERT INTO once VALUES ('no')", "COMMIT"]), "statement 2 of 2"),
        ("fails", statements(&["INSERT INTO once VALUES ('no')", "SELECT 1/0"]), "division by zero"),
    ] {
        let error = sql.run_script(at, "shop", name, &bad).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(says) && !text.contains("pass-word"), "{text}");
    }
    assert_eq!(instance.postgres.exec(&count).1, "it's \\ $$", "nothing of what failed stays");
    assert_eq!(sql.scripts_done(at, "shop").await.unwrap(), done);

    // A schema of that name which a user made is neither read nor written.
    sql.put_database(at, "planted", "heir").await.unwrap();
    let plant = "SET ROLE heir; CREATE SCHEMA pgmoor; CREATE TABLE pgmoor.scripts (name text PRIMARY KEY, digest text); \
                 INSERT INTO pgmoor.scripts VALUES ('post_init', '')";
    let (planted, text) = instance.postgres.exec(&["psql", "-qU", "pgmoor", "-d", "planted", "-c", plant]);
    assert!(planted, "{text}");
    assert_eq!(sql.scripts_done(at, "planted").await.unwrap(), BTreeMap::new());
    let error = sql.run_script(at, "planted", "post_init", &good).await.unwrap_err();
    assert!(error.to_string().contains("belongs to heir"), "{error}");
}

async fn errors(instance: &Instance, sql: &Sql) {
    let closed = Endpoint { port: 9, ..instance.sql.clone() };
    assert!(matches!(sql.server(&closed).await, Err(Error::Unreachable { .. })));
    let misnamed = Endpoint { server_name: "another".to_owned(), ..instance.sql.clone() };
    assert!(matches!(sql.server(&misnamed).await, Err(Error::Unreachable { .. })));
    let nobody = Endpoint { identity: instance.pki.client("nobody"), ..instance.sql.clone() };
    assert!(matches!(sql.server(&nobody).await, Err(Error::Unreachable { .. })));
}
