//! How to reach a database, and its instances in a line each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::contract::documents::{Connection, ConnectionUser, HealthDoc, InstanceState, InstanceSummary};
use crate::contract::topics::Topic;
use crate::model::ids::NodeName;
use crate::model::spec::PortRequest;
use crate::model::{AcceptedSpec, Health, HostId, InstanceId, Record};

/// The port inside the container and on the database's own network.
const POSTGRES_PORT: u16 = 5432;

/// How to reach a database whose instances run on hosts with these addresses. There is no password in it.
#[must_use]
pub fn connection(
    spec: &AcceptedSpec,
    record: &Record,
    addresses: &BTreeMap<HostId, IpAddr>,
    network: String,
) -> Connection {
    let first = spec.nodes.first().and_then(|node| Some((node, node.hosts.first()?)));
    let instance = first.map(|(node, host)| InstanceId::derive(&spec.id, &node.name, host));
    let port = first.and_then(|(node, _host)| match node.port {
        PortRequest::Unpublished => None,
        PortRequest::Fixed(port) => Some(port),
        PortRequest::Chosen => record.ports.get(instance.as_ref()?).copied(),
    });
    let address = first.and_then(|(_node, host)| addresses.get(host));
    let place = match (port, address, &instance) {
        (Some(port), Some(IpAddr::V4(address)), _) => format!("{address}:{port}"),
        (Some(port), Some(IpAddr::V6(address)), _) => format!("[{address}]:{port}"),
        // Not published: the name that it has on its own network.
        (_, _, Some(instance)) => format!("{instance}:{POSTGRES_PORT}"),
        (_, _, None) => String::new(),
    };
    let user = spec.owner().or_else(|| spec.users.first()).map(|user| user.username.as_str());
    Connection {
        hosts: address.map(ToString::to_string).into_iter().collect(),
        port,
        database: spec.database_name.clone(),
        uri: uri(user, &place, &spec.database_name),
        network: Some(network),
        users: spec
            .users
            .iter()
            .map(|user| ConnectionUser { username: user.username.clone(), db_owner: user.db_owner })
            .collect(),
    }
}

fn uri(user: Option<&str>, place: &str, database: &str) -> String {
    let user = user.map(|user| format!("{}@", escaped(user))).unwrap_or_default();
    format!("postgresql://{user}{place}/{}?sslmode=require", escaped(database))
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

    #[test]
    fn uris_are_escaped() {
        assert_eq!(
            uri(Some("a b"), "[2001:db8::1]:1", "x/y"),
            "postgresql://a%20b@[2001:db8::1]:1/x%2Fy?sslmode=require"
        );
        assert_eq!(uri(None, "shop-n1-1:5432", "d"), "postgresql://shop-n1-1:5432/d?sslmode=require");
    }
}
