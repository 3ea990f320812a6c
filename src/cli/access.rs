//! `connection` and `psql`: how to log in to a database of this host, from the 0600 file that the daemon keeps.
//!
//! Invariants: a password goes to standard output only when it was asked for, and to psql only in its environment, never
//! as an argument (which every user of the machine can read). The server is always checked: by the address that its
//! certificate names, and where it is reached at a container's address, by the instance's name. Of a node with several
//! instances all are named, and libpq finds the one that is asked for; where no port is published, only what runs on
//! this host can be reached from it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use serde::Serialize;

use super::args::{Connection as ConnectionArgs, Psql, Way};
use super::output::plain;
use super::{Context, Error, Exit, Out};
use crate::domain::credentials::{Credentials, InstanceAccess};
use crate::domain::layout;
use crate::drivers::swarm::{Docker, Labels, Swarm as _};
use crate::model::{DatabaseId, Secret};

/// The label by which Docker says which Swarm service a container is of.
const SERVICE_LABEL: &str = "com.docker.swarm.service.name";

/// Variables of libpq that would lead psql elsewhere.
const MISLEADING: [&str; 8] = [
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGHOSTADDR",
    "PGSSLCRL",
    "PGREQUIREAUTH",
    "PGTARGETSESSIONATTRS",
];

/// Everything that a client needs.
#[derive(Debug, Serialize)]
struct Target {
    database: DatabaseId,
    network: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// In the order in which libpq tries them.
    servers: Vec<Server>,
    /// Which of several libpq stays with.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_session_attrs: Option<&'static str>,
    dbname: String,
    sslmode: &'static str,
    sslrootcert: String,
    uri: String,
}

/// One server that the client may end up with.
#[derive(Debug, Serialize)]
struct Server {
    instance: String,
    service: String,
    /// The name that the server's certificate is checked for.
    host: String,
    /// The address to connect to, where it is not `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    hostaddr: Option<String>,
    port: u16,
}

pub(super) async fn connection(context: &Context<'_>, args: &ConnectionArgs, out: &mut Out) -> Result<Exit, Error> {
    let credentials = read(context, &args.database)?;
    let (mut target, password) = target(context, credentials, args.user.as_deref(), args.way).await?;
    target.password = password.filter(|_| args.show_password).map(|password| password.expose().to_owned());
    target.uri = uri(&target);
    out.document(args.output.format, &target, |_| format!("{}\n", plain(&target.uri)))?;
    Ok(Exit::Done)
}

pub(super) async fn psql(context: &Context<'_>, args: &Psql) -> Result<Exit, Error> {
    let credentials = read(context, &args.database)?;
    let (target, password) = target(context, credentials, args.user.as_deref(), args.way).await?;
    let mut command = std::process::Command::new("psql");
    for variable in MISLEADING {
        command.env_remove(variable);
    }
    command.args(&args.arguments).envs(environment(&target, password.as_ref()));
    // The process becomes psql; there is a way back only when that fails.
    Err(Error::Psql(command.exec()))
}

/// What libpq reads from the environment.
fn environment(target: &Target, password: Option<&Secret>) -> Vec<(&'static str, OsString)> {
    let list = |of: fn(&Server) -> String| target.servers.iter().map(of).collect::<Vec<_>>().join(",");
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("PGHOST", list(|server| server.host.clone()).into()),
        ("PGPORT", list(|server| server.port.to_string()).into()),
        ("PGDATABASE", target.dbname.clone().into()),
        ("PGUSER", target.user.clone().into()),
        ("PGSSLMODE", target.sslmode.into()),
        ("PGSSLROOTCERT", target.sslrootcert.clone().into()),
    ];
    if target.servers.iter().any(|server| server.hostaddr.is_some()) {
        variables.push(("PGHOSTADDR", list(|server| server.hostaddr.clone().unwrap_or_default()).into()));
    }
    if let Some(attributes) = target.target_session_attrs {
        variables.push(("PGTARGETSESSIONATTRS", attributes.into()));
    }
    if let Some(password) = password {
        variables.push(("PGPASSWORD", password.expose().into()));
    }
    variables
}

fn read(context: &Context<'_>, database: &DatabaseId) -> Result<Credentials, Error> {
    let path = PathBuf::from(layout::credentials_file(&context.options.data_dir, database));
    let text = std::fs::read_to_string(&path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            Error::NoCredentials { database: database.clone(), path: path.clone() }
        } else {
            Error::ReadFile { path: path.clone(), source }
        }
    })?;
    // The parser's own words may repeat a value.
    serde_json::from_str(&text).map_err(|error| {
        let why = format!("it is not what it should be at line {}, column {}", error.line(), error.column());
        Error::BadCredentials { path, why }
    })
}

/// Whom to log in as: the one asked for, else the file's default, else whoever there is.
fn user(credentials: &Credentials, asked: Option<&str>) -> Result<String, Error> {
    if let Some(user) = asked {
        if credentials.passwords.contains_key(user) {
            return Ok(user.to_owned());
        }
        let users = credentials.passwords.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(Error::NoUser { database: credentials.database.clone(), user: user.to_owned(), users });
    }
    let user = credentials.default_user.as_ref().or_else(|| credentials.passwords.keys().next());
    user.cloned().ok_or_else(|| Error::NoUsers(credentials.database.clone()))
}

async fn target(
    context: &Context<'_>,
    credentials: Credentials,
    asked: Option<&str>,
    way: Way,
) -> Result<(Target, Option<Secret>), Error> {
    let user = user(&credentials, asked)?;
    let servers = servers(context, &credentials, way).await?;
    let password = credentials.passwords.get(&user).cloned();
    let several = credentials.instances.len() > 1;
    let target = Target {
        // Each pooler leads to the primary. Where only this host's instance can be reached, it is taken as it is.
        target_session_attrs: match (way.read_only, several && !way.pooled && servers.len() > 1) {
            (_, false) => None,
            (true, true) => Some("prefer-standby"),
            (false, true) => Some("read-write"),
        },
        servers,
        database: credentials.database,
        network: credentials.network,
        user,
        password: None,
        dbname: credentials.database_name,
        sslmode: "verify-full",
        sslrootcert: credentials.ca_file,
        uri: String::new(),
    };
    Ok((target, password))
}

/// A way to one instance, or to its pooler.
struct Door<'a> {
    instance: &'a InstanceAccess,
    service: &'a str,
    /// The name that its certificate has, where it is reached at its container.
    name: &'a str,
    published: Option<u16>,
    /// The port in its container.
    port: u16,
}

fn door(instance: &InstanceAccess, pooled: bool) -> Option<Door<'_>> {
    if !pooled {
        let (service, name) = (instance.service.as_str(), instance.instance.as_str());
        return Some(Door { instance, service, name, published: instance.port, port: layout::POSTGRES_PORT });
    }
    let pooler = instance.pooler.as_ref()?;
    let service = pooler.service.as_str();
    Some(Door { instance, service, name: service, published: pooler.port, port: layout::POOLER_PORT })
}

/// Where the client may go: to every instance whose port is published, else to the one whose container is on this host.
async fn servers(context: &Context<'_>, credentials: &Credentials, way: Way) -> Result<Vec<Server>, Error> {
    let doors: Vec<Door<'_>> = credentials.instances.iter().filter_map(|instance| door(instance, way.pooled)).collect();
    if way.pooled && doors.is_empty() {
        return Err(Error::NoPooler(credentials.database.clone()));
    }
    let published = doors.iter().filter_map(|door| {
        let (instance, service) = (door.instance.instance.to_string(), door.service.to_owned());
        Some(Server { instance, service, host: door.instance.address.clone(), hostaddr: None, port: door.published? })
    });
    let published: Vec<Server> = published.collect();
    if !published.is_empty() {
        return Ok(published);
    }
    let mut last = Error::NoContainer { service: credentials.database.to_string() };
    for door in doors {
        match container_address(context, door.service).await {
            Ok(address) => {
                let (instance, service) = (door.instance.instance.to_string(), door.service.to_owned());
                let host = door.name.to_owned();
                return Ok(vec![Server { instance, service, host, hostaddr: Some(address), port: door.port }]);
            }
            Err(error @ Error::NoContainer { .. }) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The address of a service's container on this host.
async fn container_address(context: &Context<'_>, service: &str) -> Result<String, Error> {
    let docker = Docker::new(&context.options.docker_socket);
    let selector = Labels::from([(SERVICE_LABEL.to_owned(), service.to_owned())]);
    let containers = docker.containers(&selector).await?;
    let running = containers.into_iter().filter(|container| container.state == "running");
    let address = running.filter_map(|container| container.bridge_address).next();
    let address = address.ok_or_else(|| Error::NoContainer { service: service.to_owned() })?;
    Ok(address.to_string())
}

fn uri(target: &Target) -> String {
    let password = target.password.as_deref().map(|password| format!(":{}", escaped(password))).unwrap_or_default();
    let place = |server: &Server| {
        let host = if server.host.contains(':') { format!("[{}]", server.host) } else { escaped(&server.host) };
        format!("{host}:{}", server.port)
    };
    let places: Vec<String> = target.servers.iter().map(place).collect();
    // Only ever of one server: see `servers`.
    let addresses = target.servers.iter().filter_map(|server| server.hostaddr.as_deref());
    let address: String = addresses.map(|address| format!("&hostaddr={}", escaped(address))).collect();
    let attributes = target.target_session_attrs.map(|attributes| format!("&target_session_attrs={attributes}"));
    format!(
        "postgresql://{}{password}@{}/{}?sslmode={}&sslrootcert={}{address}{}",
        escaped(&target.user),
        places.join(","),
        escaped(&target.dbname),
        target.sslmode,
        escaped(&target.sslrootcert),
        attributes.unwrap_or_default(),
    )
}

/// Percent-encoding of everything but unreserved characters and slashes (RFC 3986).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        serde_json::from_value(serde_json::json!({
            "schema_version": 1, "database": "shop", "database_name": "shop db", "default_user": "owner",
            "passwords": {"app": "p/w", "owner": "s3cret"},
            "instances": [{"instance": "shop-n1-689qacsi", "node": "n1", "service": "postgres-shop-n1-689qacsi",
                           "address": "192.0.2.1", "port": 5433}],
            "network": "shop-database", "ca_file": "/var/lib/pgmoor/ca/ca.crt", "salt": "x",
        }))
        .unwrap()
    }

    #[test]
    fn the_owner_is_the_default_and_others_must_exist() {
        let mut credentials = credentials();
        assert_eq!(user(&credentials, None).unwrap(), "owner");
        assert_eq!(user(&credentials, Some("app")).unwrap(), "app");
        let error = user(&credentials, Some("nobody")).unwrap_err().to_string();
        assert!(error.contains("app, owner"), "{error}");
        credentials.default_user = None;
        assert_eq!(user(&credentials, None).unwrap(), "app");
        credentials.passwords.clear();
        assert!(matches!(user(&credentials, None), Err(Error::NoUsers(_))));
    }

    fn server(host: &str, hostaddr: Option<&str>, port: u16) -> Server {
        Server {
            instance: "shop-n1-689qacsi".to_owned(),
            service: "postgres-shop-n1-689qacsi".to_owned(),
            host: host.to_owned(),
            hostaddr: hostaddr.map(str::to_owned),
            port,
        }
    }

    fn example() -> Target {
        Target {
            database: DatabaseId::parse("shop").unwrap(),
            network: "shop-database".to_owned(),
            user: "a b".to_owned(),
            password: None,
            servers: vec![server("192.0.2.1", None, 5433)],
            target_session_attrs: None,
            dbname: "shop".to_owned(),
            sslmode: "verify-full",
            sslrootcert: "/ca.crt".to_owned(),
            uri: String::new(),
        }
    }

    #[test]
    fn uris_check_the_server_and_hide_the_password() {
        let published = example();
        assert_eq!(uri(&published), "postgresql://a%20b@192.0.2.1:5433/shop?sslmode=verify-full&sslrootcert=%2Fca.crt");
        let private = Target {
            servers: vec![server("shop-n1-689qacsi", Some("172.17.0.2"), 5432)],
            password: Some("p/w".to_owned()),
            ..example()
        };
        let expected = "postgresql://a%20b:p%2Fw@shop-n1-689qacsi:5432/shop?sslmode=verify-full&\
                        sslrootcert=%2Fca.crt&hostaddr=172.17.0.2";
        assert_eq!(uri(&private), expected);
        let six = Target { servers: vec![server("2001:db8::1", None, 5433)], ..example() };
        assert!(uri(&six).contains("@[2001:db8::1]:5433/"));
    }

    #[test]
    fn several_servers_stand_side_by_side() {
        let servers = vec![server("192.0.2.1", None, 5433), server("192.0.2.2", None, 5434)];
        let target = Target { servers, target_session_attrs: Some("read-write"), ..example() };
        let uri = uri(&target);
        assert!(uri.contains("@192.0.2.1:5433,192.0.2.2:5434/shop?"), "{uri}");
        assert!(uri.ends_with("&target_session_attrs=read-write"), "{uri}");
        let variables = environment(&target, None);
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.to_str());
        assert_eq!((find("PGHOST"), find("PGPORT")), (Some("192.0.2.1,192.0.2.2"), Some("5433,5434")));
        assert_eq!(find("PGTARGETSESSIONATTRS"), Some("read-write"));
    }

    #[test]
    fn a_pooler_has_a_door_of_its_own() {
        let mut credentials = credentials();
        assert!(door(&credentials.instances[0], true).is_none());
        let pooler = serde_json::json!({"service": "pooler-shop-n1-689qacsi", "port": 6543});
        credentials.instances[0].pooler = Some(serde_json::from_value(pooler).unwrap());
        let found = door(&credentials.instances[0], true).unwrap();
        assert_eq!((found.name, found.published, found.port), ("pooler-shop-n1-689qacsi", Some(6543), 6432));
        let own = door(&credentials.instances[0], false).unwrap();
        assert_eq!((own.name, own.published, own.port), ("shop-n1-689qacsi", Some(5433), 5432));
    }

    #[test]
    fn the_environment_says_all_that_libpq_needs() {
        let variables = environment(&example(), Some(&Secret::new("p/w")));
        let find =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_str().unwrap());
        assert_eq!(find("PGHOST"), Some("192.0.2.1"));
        assert_eq!(find("PGSSLMODE"), Some("verify-full"));
        assert_eq!(find("PGPASSWORD"), Some("p/w"));
        assert_eq!(find("PGHOSTADDR"), None);
    }
}
