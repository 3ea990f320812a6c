//! Where everything is and what it is called: host paths, paths in containers, derived names. Nobody else spells one.
//!
//! Invariants: paths are absolute when `data_dir` is; every path that pgmoor deletes or moves lies below `data_dir`;
//! names of Swarm objects are DNS labels of at most 63 characters.

use crate::model::ids::short_hash;
use crate::model::{DatabaseId, FleetId, HostId, InstanceId, NodeName, Scope, TaskId};

/// Postgres's superuser, which `initdb` makes and pgmoor logs in as, with a certificate.
pub const SUPERUSER: &str = "pgmoor";
/// The role that replicas stream as, with a certificate.
pub const REPLICATION_ROLE: &str = "patroni_replicator";
/// The role that poolers check passwords as, with a certificate.
pub const POOLER_ROLE: &str = "pgmoor_pooler";
/// Roles that are pgmoor's own: no spec may describe them.
pub const SYSTEM_ROLES: [&str; 3] = [SUPERUSER, REPLICATION_ROLE, POOLER_ROLE];
/// The database that `initdb` makes: what is the whole node's is in it.
pub const MAINTENANCE_DATABASE: &str = "postgres";
/// The user of the operating system that Postgres runs as in the container.
pub const CONTAINER_USER: &str = "postgres";
/// Postgres's port in the container.
pub const POSTGRES_PORT: u16 = 5432;
/// Port of Patroni's REST interface in the container.
pub const PATRONI_PORT: u16 = 8008;
/// A pooler's port in its container.
pub const POOLER_PORT: u16 = 6432;
/// etcd's client port in the container.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// etcd's peer port in the container.
pub const ETCD_PEER_PORT: u16 = 2380;
/// The port on the container's loopback where etcd tells its health without a certificate.
pub const ETCD_METRICS_PORT: u16 = 2381;

/// The common name of certificates that are shown to etcd: none. Once authentication is on, etcd 3.5 answers every
/// request to its JSON gateway with 400 when the client's certificate has a common name.
pub const ETCD_CLIENT_COMMON_NAME: &str = "";

/// The prefix of everything that Patroni keeps in etcd (its `namespace`).
pub const PATRONI_NAMESPACE: &str = "/patroni/";

/// Paths in the container of an instance.
pub mod container {
    /// The data volume: the one thing that cannot be made again.
    pub const DATA: &str = "/opt/pgmoor/data";
    /// `PGDATA`, below the volume so that `initdb` owns a directory of its own.
    pub const PGDATA: &str = "/opt/pgmoor/data/pgdata";
    /// Configuration, read-only.
    pub const CONFIGS: &str = "/opt/pgmoor/configs";
    /// Patroni's own file.
    pub const PATRONI_FILE: &str = "/opt/pgmoor/configs/patroni.yml";
    /// Certificates, read-only: `ca.crt`, and `.crt` and `.key` of [`super::CERTIFICATES`].
    pub const CERTIFICATES: &str = "/opt/pgmoor/certificates";
    /// A pooler's own file.
    pub const POOLER_FILE: &str = "/opt/pgmoor/configs/pgbouncer.ini";
    /// Where a pooler writes the databases that it leads to its primary.
    pub const POOLER_DATABASES: &str = "/run/pgbouncer/databases.ini";
    /// Where a pooler writes a password for its own role that nobody knows, so that nobody gets in with an empty one.
    pub const POOLER_USERS: &str = "/run/pgbouncer/users";
    /// Where a pooler says to which instance it is led: in a file `primary`.
    pub const RUN: &str = "/opt/pgmoor/run";
    /// Where Postgres's socket is.
    pub const SOCKETS: &str = "/var/run/postgresql";
    /// etcd's data volume.
    pub const ETCD_DATA: &str = "/var/lib/etcd";
}

/// The certificates of an instance, by the stem of their files.
pub const CERTIFICATES: [&str; 4] = [SERVER, SUPERUSER_CERTIFICATE, REPLICATION, ETCD];
/// What Postgres and Patroni's REST interface show.
pub const SERVER: &str = "server";
/// Logs in as [`SUPERUSER`].
pub const SUPERUSER_CERTIFICATE: &str = "superuser";
/// Logs in as [`REPLICATION_ROLE`].
pub const REPLICATION: &str = "replication";
/// What the instance shows to etcd, and to Patroni's REST interface (its own health check, other members).
pub const ETCD: &str = "etcd";
/// What a pooler shows to Postgres (it logs in as [`POOLER_ROLE`]) and to Patroni's REST interface.
pub const LOGIN: &str = "login";
/// etcd's certificate towards other members.
pub const PEER: &str = "peer";
/// What the daemon shows to etcd.
pub const DAEMON: &str = "daemon";

// ---- names ----

/// The Swarm service of an instance (reference 1.9).
#[must_use]
pub fn service(instance: &InstanceId) -> String {
    format!("postgres-{instance}")
}

/// The Swarm service of the pooler beside an instance.
#[must_use]
pub fn pooler_service(instance: &InstanceId) -> String {
    format!("pooler-{instance}")
}

/// The database whose instance or pooler this service is, by its name; none for other services.
#[must_use]
pub fn database_of_service(service: &str) -> Option<String> {
    let instance = service.strip_prefix("postgres-").or_else(|| service.strip_prefix("pooler-"));
    database_of_instance(instance?)
}

/// The database whose overlay network this is, by its name; none for other networks.
#[must_use]
pub fn database_of_network(network: &str) -> Option<String> {
    DatabaseId::parse(network.strip_suffix("-database")?).ok().map(String::from)
}

/// The overlay network of a database (reference 1.9).
#[must_use]
pub fn network(database: &DatabaseId) -> String {
    format!("{database}-database")
}

/// The Swarm service of a host's etcd member.
#[must_use]
pub fn etcd_service(fleet: &FleetId, host: &HostId) -> String {
    format!("pgmoor-etcd-{}", short_hash(&format!("{fleet}/{host}")))
}

/// Patroni's scope of a node (reference 1.9).
#[must_use]
pub fn patroni_scope(database: &DatabaseId, node: &NodeName) -> String {
    format!("{database}:{node}")
}

/// The prefix in etcd of everything about a node; it ends with a slash, so no other node's prefix starts with it.
#[must_use]
pub fn patroni_prefix(database: &DatabaseId, node: &NodeName) -> String {
    format!("{PATRONI_NAMESPACE}{}/", patroni_scope(database, node))
}

/// The Swarm config that holds one revision of a scope's record: at most 64 characters for Docker, so the fleet is in
/// it as a hash (its labels say it in full).
#[must_use]
pub fn record_config(fleet: &FleetId, scope: &Scope, revision: u64) -> String {
    format!("pgmoor.{}.{}.{revision}", scope.label(), short_hash(fleet.as_str()))
}

/// The Swarm config that says which host leads a fleet: one for each, whose labels change.
#[must_use]
pub fn lease_config(fleet: &FleetId) -> String {
    format!("pgmoor.lease.{}", short_hash(fleet.as_str()))
}

/// The Swarm config in which a host says what it is: 58 characters at most.
#[must_use]
pub fn host_config(fleet: &FleetId, host: &HostId) -> String {
    format!("pgmoor.host.{}.{host}", short_hash(fleet.as_str()))
}

/// The Swarm config that says that a token is used up: 58 characters at most.
#[must_use]
pub fn token_config(fleet: &FleetId, token: &TaskId) -> String {
    format!("pgmoor.join.{}.{token}", short_hash(fleet.as_str()))
}

/// The etcd key of the dynamic configuration below a node's prefix.
#[must_use]
pub fn patroni_config_key(prefix: &str) -> String {
    format!("{prefix}config")
}

/// The etcd user of an instance (reference 3.6).
#[must_use]
pub fn etcd_user(instance: &InstanceId) -> String {
    format!("instance.{instance}")
}

/// The instance that an etcd user is of; none for other users.
#[must_use]
pub fn instance_of_etcd_user(user: &str) -> Option<String> {
    let instance = user.strip_prefix("instance.")?;
    InstanceId::parse(instance).ok().map(String::from)
}

/// The database that an instance is of: its id without node and host hash.
#[must_use]
pub fn database_of_instance(instance: &str) -> Option<String> {
    let (rest, _host) = instance.rsplit_once('-')?;
    let (database, node) = rest.rsplit_once('-')?;
    NodeName::parse(node).ok()?;
    DatabaseId::parse(database).ok().map(String::from)
}

/// The URL of an etcd member's client port. An IPv6 address is put in brackets.
#[must_use]
pub fn etcd_url(address: &str, port: u16) -> String {
    format!("https://{}", etcd_address(address, port))
}

/// Address and port of an etcd member, as Patroni's `etcd3.hosts` lists it.
#[must_use]
pub fn etcd_address(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

// ---- host paths ----

/// The directory of the fleet's authority, and of what the daemon shows to etcd.
#[must_use]
pub fn ca_directory(data_dir: &str) -> String {
    format!("{data_dir}/ca")
}

/// The authority's certificate, for whoever connects from this host.
#[must_use]
pub fn ca_file(data_dir: &str) -> String {
    format!("{data_dir}/ca/ca.crt")
}

/// The daemon's client certificate for etcd, without its ending.
#[must_use]
pub fn daemon_etcd_stem(data_dir: &str) -> String {
    format!("{data_dir}/ca/{DAEMON}")
}

/// The directory of this host's etcd member.
#[must_use]
pub fn etcd_directory(data_dir: &str) -> String {
    format!("{data_dir}/etcd")
}

/// The name below etcd's directory of a member's data: one that joined has the number of the record that it came with.
#[must_use]
pub fn etcd_data_name(joined: Option<u64>) -> String {
    joined.map_or("data".to_owned(), |revision| format!("data-{revision}"))
}

/// etcd's data.
#[must_use]
pub fn etcd_data(data_dir: &str, joined: Option<u64>) -> String {
    format!("{data_dir}/etcd/{}", etcd_data_name(joined))
}

/// etcd's certificates.
#[must_use]
pub fn etcd_certificates(data_dir: &str) -> String {
    format!("{data_dir}/etcd/certificates")
}

/// The directory of all instances.
#[must_use]
pub fn instances_directory(data_dir: &str) -> String {
    format!("{data_dir}/instances")
}

/// The directory of one instance.
#[must_use]
pub fn instance_directory(data_dir: &str, instance: &str) -> String {
    format!("{data_dir}/instances/{instance}")
}

/// The data of one instance.
#[must_use]
pub fn data_directory(data_dir: &str, instance: &str) -> String {
    format!("{data_dir}/instances/{instance}/data")
}

/// The configuration of one instance.
#[must_use]
pub fn configs_directory(data_dir: &str, instance: &str) -> String {
    format!("{data_dir}/instances/{instance}/configs")
}

/// The certificates of one instance.
#[must_use]
pub fn certificates_directory(data_dir: &str, instance: &str) -> String {
    format!("{data_dir}/instances/{instance}/certificates")
}

/// The directory of the pooler beside an instance.
#[must_use]
pub fn pooler_directory(data_dir: &str, instance: &str) -> String {
    format!("{data_dir}/poolers/{instance}")
}

/// Where the pooler beside an instance says to which instance it is led.
#[must_use]
pub fn pooler_primary_file(data_dir: &str, instance: &str) -> String {
    format!("{}/run/primary", pooler_directory(data_dir, instance))
}

/// An instance's server certificate, without its ending.
#[must_use]
pub fn server_stem(data_dir: &str, instance: &str) -> String {
    format!("{}/{SERVER}", certificates_directory(data_dir, instance))
}

/// The certificate that logs in as the superuser of an instance, without its ending. The daemon, which is root,
/// reads it where the container has it.
#[must_use]
pub fn superuser_stem(data_dir: &str, instance: &str) -> String {
    format!("{}/{SUPERUSER_CERTIFICATE}", certificates_directory(data_dir, instance))
}

/// The directory of all that was deleted and may come back.
#[must_use]
pub fn trash_directory(data_dir: &str) -> String {
    format!("{data_dir}/trash")
}

/// Where the data of a deleted instance waits.
#[must_use]
pub fn trash(data_dir: &str, instance: &str) -> String {
    format!("{data_dir}/trash/{instance}")
}

/// Where a directory goes that is deleted with [`OnDelete::Trash`](crate::model::resource::OnDelete): the data of an
/// instance to [`trash`], anything else to a name made of its own path.
#[must_use]
pub fn trash_of(data_dir: &str, path: &str) -> String {
    let below = path.strip_prefix(data_dir).unwrap_or(path).trim_matches('/');
    let instance = below.strip_prefix("instances/").and_then(|rest| rest.strip_suffix("/data"));
    match instance {
        Some(instance) => trash(data_dir, instance),
        None => trash(data_dir, &below.replace('/', ".")),
    }
}

/// The directory of all credentials files.
#[must_use]
pub fn credentials_directory(data_dir: &str) -> String {
    format!("{data_dir}/credentials")
}

/// The file with the passwords of a database's users, 0600.
#[must_use]
pub fn credentials_file(data_dir: &str, database: &DatabaseId) -> String {
    format!("{data_dir}/credentials/{database}.json")
}

/// A certificate's stem in the container of an instance or of etcd.
#[must_use]
pub fn in_container(certificate: &str) -> String {
    format!("{}/{certificate}", container::CERTIFICATES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> InstanceId {
        let database = DatabaseId::parse("shop-2").unwrap();
        InstanceId::derive(&database, &NodeName::parse("n1").unwrap(), &HostId::parse("host-1").unwrap())
    }

    #[test]
    fn names_can_be_read_back() {
        let user = etcd_user(&instance());
        let found = instance_of_etcd_user(&user).unwrap();
        assert_eq!(found, instance().as_str());
        assert_eq!(database_of_instance(&found).as_deref(), Some("shop-2"));
        assert_eq!(instance_of_etcd_user("root"), None);
        assert_eq!(database_of_service(&service(&instance())).as_deref(), Some("shop-2"));
        assert_eq!(database_of_service(&pooler_service(&instance())).as_deref(), Some("shop-2"));
        assert_eq!(database_of_service("shop-2"), None);
        assert_eq!(database_of_network(&network(&DatabaseId::parse("shop-2").unwrap())).as_deref(), Some("shop-2"));
        assert_eq!(database_of_network("bridge"), None);
        assert_eq!(instance_of_etcd_user("instance.A"), None);
        assert_eq!(database_of_instance("shop-x1-689qacsi"), None);
        assert_eq!(database_of_instance("shop"), None);
    }

    #[test]
    fn the_longest_names_fit_dns() {
        let database = DatabaseId::parse(&"a".repeat(36)).unwrap();
        let node = NodeName::parse("n9999").unwrap();
        let instance = InstanceId::derive(&database, &node, &HostId::parse("h").unwrap());
        assert!(service(&instance).len() <= 63 && pooler_service(&instance).len() <= 63);
        assert!(network(&database).len() <= 63);
        // A common name has at most 64 characters (X.520).
        assert!(etcd_user(&instance).len() <= 64);
    }

    #[test]
    fn deleted_data_has_one_place() {
        let name = instance().to_string();
        assert_eq!(trash_of("/d", &data_directory("/d", &name)), trash("/d", &name));
        assert_eq!(trash_of("/d", &etcd_data("/d", None)), "/d/trash/etcd.data");
        assert_eq!(etcd_data("/d", Some(7)), "/d/etcd/data-7");
    }

    #[test]
    fn addresses_of_both_families() {
        assert_eq!(etcd_url("192.0.2.1", 2379), "https://192.0.2.1:2379");
        assert_eq!(etcd_url("2001:db8::1", 2379), "https://[2001:db8::1]:2379");
    }
}
