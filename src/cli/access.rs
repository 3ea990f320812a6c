//! `connection` and `psql`: how to log in to a database of this host, from the 0600 file that the daemon keeps.
//!
//! Invariants: a password goes to standard output only when it was asked for, and to psql only in its environment, never
//! as an argument (which every user of the machine can read). The server is always checked: by the address that its
//! certificate names, and where it is reached at a container's address, by the instance's name.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use serde::Serialize;

use super::args::{Connection as ConnectionArgs, Psql};
use super::output::plain;
use super::{Context, Error, Exit, Out};
use crate::domain::credentials::{Credentials, InstanceAccess};
use crate::domain::layout;
use crate::drivers::swarm::{Docker, Labels, Swarm as _};
use crate::model::{DatabaseId, NodeName, Secret};

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
    instance: String,
    service: String,
    network: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// The name that the server's certificate is checked for.
    host: String,
    /// The address to connect to, where it is not `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    hostaddr: Option<String>,
    port: u16,
    dbname: String,
    sslmode: &'static str,
    sslrootcert: String,
    uri: String,
}

pub(super) async fn connection(context: &Context<'_>, args: &ConnectionArgs, out: &mut Out) -> Result<Exit, Error> {
    let credentials = read(context, &args.database)?;
    let (mut target, password) = target(context, credentials, (args.node.as_ref(), args.user.as_deref())).await?;
    target.password = password.filter(|_| args.show_password).map(|password| password.expose().to_owned());
    target.uri = uri(&target);
    out.document(args.output.format, &target, |_| format!("{}\n", plain(&target.uri)))?;
    Ok(Exit::Done)
}

pub(super) async fn psql(context: &Context<'_>, args: &Psql) -> Result<Exit, Error> {
    let credentials = read(context, &args.database)?;
    let (target, password) = target(context, credentials, (args.node.as_ref(), args.user.as_deref())).await?;
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
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("PGHOST", target.host.clone().into()),
        ("PGPORT", target.port.to_string().into()),
        ("PGDATABASE", target.dbname.clone().into()),
        ("PGUSER", target.user.clone().into()),
        ("PGSSLMODE", target.sslmode.into()),
        ("PGSSLROOTCERT", target.sslrootcert.clone().into()),
    ];
    if let Some(address) = &target.hostaddr {
        variables.push(("PGHOSTADDR", address.clone().into()));
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

/// The first instance of a node; of the first node where none is named.
fn of_node<'a>(credentials: &'a Credentials, node: Option<&NodeName>) -> Result<&'a InstanceAccess, Error> {
    let mut instances = credentials.instances.iter();
    if let Some(instance) = instances.find(|instance| node.is_none_or(|node| instance.node == *node)) {
        return Ok(instance);
    }
    let database = credentials.database.clone();
    let Some(node) = node else { return Err(Error::NoContainer { service: database.to_string() }) };
    let nodes: BTreeSet<&str> = credentials.instances.iter().map(|instance| instance.node.as_str()).collect();
    let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
    Err(Error::NoNode { database, node: node.clone(), nodes })
}

async fn target(
    context: &Context<'_>,
    credentials: Credentials,
    (node, asked): (Option<&NodeName>, Option<&str>),
) -> Result<(Target, Option<Secret>), Error> {
    let user = user(&credentials, asked)?;
    let instance = of_node(&credentials, node)?;
    let (host, hostaddr, port) = match instance.port {
        Some(port) => (instance.address.clone(), None, port),
        None => {
            let address = container_address(context, instance).await?;
            (instance.instance.to_string(), Some(address), layout::POSTGRES_PORT)
        }
    };
    let password = credentials.passwords.get(&user).cloned();
    let target = Target {
        instance: instance.instance.to_string(),
        service: instance.service.clone(),
        database: credentials.database,
        network: credentials.network,
        user,
        password: None,
        host,
        hostaddr,
        port,
        dbname: credentials.database_name,
        sslmode: "verify-full",
        sslrootcert: credentials.ca_file,
        uri: String::new(),
    };
    Ok((target, password))
}

/// The address of the instance's container on this host.
async fn container_address(context: &Context<'_>, instance: &InstanceAccess) -> Result<String, Error> {
    let docker = Docker::new(&context.options.docker_socket);
    let selector = Labels::from([(SERVICE_LABEL.to_owned(), instance.service.clone())]);
    let containers = docker.containers(&selector).await?;
    let running = containers.into_iter().filter(|container| container.state == "running");
    let address = running.filter_map(|container| container.bridge_address).next();
    let address = address.ok_or_else(|| Error::NoContainer { service: instance.service.clone() })?;
    Ok(address.to_string())
}

fn uri(target: &Target) -> String {
    let password = target.password.as_deref().map(|password| format!(":{}", escaped(password))).unwrap_or_default();
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { escaped(&target.host) };
    let address = target.hostaddr.as_deref().map(|address| format!("&hostaddr={}", escaped(address)));
    format!(
        "postgresql://{}{password}@{host}:{}/{}?sslmode={}&sslrootcert={}{}",
        escaped(&target.user),
        target.port,
        escaped(&target.dbname),
        target.sslmode,
        escaped(&target.sslrootcert),
        address.unwrap_or_default(),
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

    #[test]
    fn a_node_is_chosen_by_its_name() {
        let mut credentials = credentials();
        let mut second = credentials.instances[0].clone();
        second.node = NodeName::parse("n2").unwrap();
        second.port = Some(5434);
        credentials.instances.push(second);
        let port = |node: Option<&str>| {
            let node = node.map(|name| NodeName::parse(name).unwrap());
            of_node(&credentials, node.as_ref()).map(|instance| instance.port)
        };
        assert_eq!((port(None).unwrap(), port(Some("n2")).unwrap()), (Some(5433), Some(5434)));
        let error = port(Some("n3")).unwrap_err().to_string();
        assert!(error.contains("n1, n2"), "{error}");
    }

    fn example() -> Target {
        Target {
            database: DatabaseId::parse("shop").unwrap(),
            instance: "shop-n1-689qacsi".to_owned(),
            service: "postgres-shop-n1-689qacsi".to_owned(),
            network: "shop-database".to_owned(),
            user: "a b".to_owned(),
            password: None,
            host: "192.0.2.1".to_owned(),
            hostaddr: None,
            port: 5433,
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
            host: "shop-n1-689qacsi".to_owned(),
            hostaddr: Some("172.17.0.2".to_owned()),
            password: Some("p/w".to_owned()),
            port: 5432,
            ..example()
        };
        let expected = "postgresql://a%20b:p%2Fw@shop-n1-689qacsi:5432/shop?sslmode=verify-full&\
                        sslrootcert=%2Fca.crt&hostaddr=172.17.0.2";
        assert_eq!(uri(&private), expected);
        assert!(uri(&Target { host: "2001:db8::1".to_owned(), ..example() }).contains("@[2001:db8::1]:5433/"));
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
