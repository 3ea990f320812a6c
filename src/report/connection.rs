//! How to reach a database, and its instances in a line each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::contract::documents::{
    Connection, ConnectionUser, HealthDoc, InstanceState, InstanceSummary, NodeConnection,
};
use crate::contract::topics::Topic;
use crate::model::ids::NodeName;
use crate::model::spec::{NodeSpec, PortRequest};
use crate::model::{AcceptedSpec, Health, HostId, InstanceId, Record};

/// The port inside the container and on the database's own network.
const POSTGRES_PORT: u16 = 5432;

/// How to reach a database whose instances run on hosts with these addresses, each node's primary first where it is
/// known. There is no password in it.
#[must_use]
pub fn connection(
    spec: &AcceptedSpec,
    record: &Record,
    addresses: &BTreeMap<HostId, IpAddr>,
    network: String,
    primaries: &BTreeSet<InstanceId>,
) -> Connection {
    let user = spec.owner().or_else(|| spec.users.first()).map(|user| user.username.as_str());
    let of_node = |node: &NodeSpec| {
        let mut places = places(spec, node, record, addresses);
        // The sort is stable: the rest stays in the order of the spec.
        places.sort_by_key(|place| !primaries.contains(&place.instance));
        let names: Vec<String> = places.iter().map(Place::name).collect();
        let several = names.len() > 1;
        let uri = |attributes| uri(user, &names.join(","), &spec.database_name, attributes);
        NodeConnection {
            node: node.name.clone(),
            hosts: places.iter().filter_map(|place| place.address).map(|address| address.to_string()).collect(),
            port: places.first().and_then(|place| place.port),
            uri: uri(several.then_some("read-write")),
            uri_read_only: several.then(|| uri(Some("prefer-standby"))),
        }
    };
    let nodes: Vec<NodeConnection> = spec.nodes.iter().map(of_node).collect();
    let first = nodes.first().cloned();
    Connection {
        hosts: first.as_ref().map(|node| node.hosts.clone()).unwrap_or_default(),
        port: first.as_ref().and_then(|node| node.port),
        database: spec.database_name.clone(),
        uri: first.as_ref().map(|node| node.uri.clone()).unwrap_or_default(),
        uri_read_only: first.and_then(|node| node.uri_read_only),
        network: Some(network),
        users: spec
            .users
            .iter()
            .map(|user| ConnectionUser { username: user.username.clone(), db_owner: user.db_owner })
            .collect(),
        nodes: if nodes.len() > 1 { nodes } else { Vec::new() },
    }
}

/// Where an instance is.
struct Place {
    instance: InstanceId,
    address: Option<IpAddr>,
    port: Option<u16>,
}

fn places(spec: &AcceptedSpec, node: &NodeSpec, record: &Record, addresses: &BTreeMap<HostId, IpAddr>) -> Vec<Place> {
    let place = |host: &HostId| {
        let instance = InstanceId::derive(&spec.id, &node.name, host);
        let port = match node.port {
            PortRequest::Unpublished => None,
            PortRequest::Fixed(port) => Some(port),
            PortRequest::Chosen => record.ports.get(&instance).copied(),
        };
        Place { address: addresses.get(host).copied(), port, instance }
    };
    node.hosts.iter().map(place).collect()
}

impl Place {
    fn name(&self) -> String {
        match (self.address, self.port) {
            (Some(IpAddr::V4(address)), Some(port)) => format!("{address}:{port}"),
            (Some(IpAddr::V6(address)), Some(port)) => format!("[{address}]:{port}"),
            // Not published: the name that it has on its own network.
            (Some(_) | None, None) | (None, Some(_)) => format!("{}:{POSTGRES_PORT}", self.instance),
        }
    }
}

fn uri(user: Option<&str>, places: &str, database: &str, attributes: Option<&str>) -> String {
    let user = user.map(|user| format!("{}@", escaped(user))).unwrap_or_default();
    let attributes = attributes.map(|attributes| format!("&target_session_attrs={attributes}")).unwrap_or_default();
    format!("postgresql://{user}{places}/{}?sslmode=require{attributes}", escaped(database))
}

/// Percent-encoding of everything but unreserved characters (RFC 3986).
fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// The instances of a spec, with what was last said of each on its own topics.
pub fn instance_summaries(spec: &AcceptedSpec, said: impl Fn(&Topic) -> Option<Vec<u8>>) -> Vec<InstanceSummary> {
    let mut summaries = Vec::new();
    for node in &spec.nodes {
        for host in &node.hosts {
            let instance = InstanceId::derive(&spec.id, &node.name, host);
            let state: Option<InstanceState> = said(&Topic::InstanceState(spec.id.clone(), instance.clone()))
                .and_then(|payload| serde_json::from_slice(&payload).ok());
            let health: Option<HealthDoc> = said(&Topic::InstanceHealth(spec.id.clone(), instance.clone()))
                .and_then(|payload| serde_json::from_slice(&payload).ok());
            summaries.push(InstanceSummary {
                instance,
                node: NodeName::clone(&node.name),
                host: host.clone(),
                role: state.as_ref().and_then(|state| state.role),
                synchronous: state.as_ref().is_some_and(|state| state.synchronous),
                health: health.map_or(Health::Unknown, |document| document.health),
                postgres_version: state.and_then(|state| state.postgres_version),
            });
        }
    }
    summaries.sort_by(|a, b| a.instance.cmp(&b.instance));
    summaries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::minimal;

    /// A database without users on hosts `a` and `b`.
    fn on_two(port: PortRequest) -> AcceptedSpec {
        let mut spec = minimal();
        spec.nodes[0].hosts = ["a", "b"].map(|host| HostId::parse(host).unwrap()).into();
        spec.nodes[0].port = port;
        spec
    }

    fn told(spec: &AcceptedSpec, primary: Option<usize>) -> Connection {
        let instance = |host: &HostId| InstanceId::derive(&spec.id, &spec.nodes[0].name, host);
        let addresses: BTreeMap<HostId, IpAddr> =
            spec.nodes[0].hosts.iter().zip(1..).map(|(host, n)| (host.clone(), [192, 0, 2, n].into())).collect();
        let mut record = Record::new(spec.id.clone());
        record.ports = spec.nodes[0].hosts.iter().zip(6001..).map(|(host, port)| (instance(host), port)).collect();
        let primaries = primary.map(|at| instance(&spec.nodes[0].hosts[at])).into_iter().collect();
        connection(spec, &record, &addresses, "shop-database".to_owned(), &primaries)
    }

    #[test]
    fn several_instances_stand_in_one_uri() {
        let told = |port, primary| told(&on_two(port), primary);
        let fixed = told(PortRequest::Fixed(5432), None);
        assert_eq!(fixed.hosts, ["192.0.2.1", "192.0.2.2"]);
        let read_write =
            "postgresql://192.0.2.1:5432,192.0.2.2:5432/shop?sslmode=require&target_session_attrs=read-write";
        assert_eq!(fixed.uri, read_write);
        assert_eq!(fixed.uri_read_only, Some(read_write.replace("read-write", "prefer-standby")));
        // Chosen ports differ from host to host, and the primary comes first wherever it is.
        let chosen = told(PortRequest::Chosen, Some(1));
        assert_eq!((chosen.hosts[0].as_str(), chosen.port), ("192.0.2.2", Some(6002)));
        assert!(chosen.uri.starts_with("postgresql://192.0.2.2:6002,192.0.2.1:6001/"), "{}", chosen.uri);
        let private = told(PortRequest::Unpublished, Some(0)).uri;
        assert_eq!(private.matches(":5432").count(), 2, "{private}");
    }

    #[test]
    fn each_of_several_nodes_has_its_own() {
        let mut spec = on_two(PortRequest::Fixed(5432));
        assert_eq!(told(&spec, None).nodes, []);
        let second =
            NodeSpec { name: NodeName::parse("n2").unwrap(), port: PortRequest::Fixed(5433), ..spec.nodes[0].clone() };
        spec.nodes.push(NodeSpec { hosts: vec![HostId::parse("b").unwrap()], ..second });
        let told = told(&spec, Some(1));
        let uris: Vec<(&str, &str)> = told.nodes.iter().map(|node| (node.node.as_str(), node.uri.as_str())).collect();
        let of_first =
            "postgresql://192.0.2.2:5432,192.0.2.1:5432/shop?sslmode=require&target_session_attrs=read-write";
        assert_eq!(uris, [("n1", of_first), ("n2", "postgresql://192.0.2.2:5433/shop?sslmode=require")]);
        assert_eq!((told.uri.as_str(), told.nodes[1].port), (of_first, Some(5433)));
    }

    #[test]
    fn one_instance_needs_no_choice() {
        let mut spec = on_two(PortRequest::Fixed(5432));
        spec.nodes[0].hosts.pop();
        let told = told(&spec, Some(0));
        assert_eq!((told.uri.as_str(), told.uri_read_only), ("postgresql://192.0.2.1:5432/shop?sslmode=require", None));
    }

    #[test]
    fn uris_are_escaped() {
        assert_eq!(
            uri(Some("a b"), "[2001:db8::1]:1", "x/y", None),
            "postgresql://a%20b@[2001:db8::1]:1/x%2Fy?sslmode=require"
        );
        assert_eq!(uri(None, "shop-n1-1:5432", "d", None), "postgresql://shop-n1-1:5432/d?sslmode=require");
    }
}
