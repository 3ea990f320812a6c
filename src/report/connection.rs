//! How to reach a database, and its instances in a line each.

use std::net::IpAddr;

use crate::contract::documents::{Connection, ConnectionUser, HealthDoc, InstanceState, InstanceSummary};
use crate::contract::topics::Topic;
use crate::model::ids::NodeName;
use crate::model::spec::PortRequest;
use crate::model::{AcceptedSpec, Health, InstanceId, Record};

/// How to reach a database whose instances run on the host with this address. There is no password in it.
#[must_use]
pub fn connection(spec: &AcceptedSpec, record: &Record, address: IpAddr, network: String) -> Connection {
    let port = spec.nodes.first().and_then(|node| match node.port {
        PortRequest::Unpublished => None,
        PortRequest::Fixed(port) => Some(port),
        PortRequest::Chosen => {
            let host = node.hosts.first()?;
            record.ports.get(&InstanceId::derive(&spec.id, &node.name, host)).copied()
        }
    });
    let user = spec.owner().or_else(|| spec.users.first()).map(|user| user.username.as_str());
    Connection {
        hosts: vec![address.to_string()],
        port,
        database: spec.database_name.clone(),
        uri: uri(user, address, port, &spec.database_name),
        network: Some(network),
        users: spec
            .users
            .iter()
            .map(|user| ConnectionUser { username: user.username.clone(), db_owner: user.db_owner })
            .collect(),
    }
}

fn uri(user: Option<&str>, address: IpAddr, port: Option<u16>, database: &str) -> String {
    let user = user.map(|user| format!("{}@", escaped(user))).unwrap_or_default();
    let host = match (port, address) {
        (None, _) => String::new(),
        (Some(port), IpAddr::V4(address)) => format!("{address}:{port}"),
        (Some(port), IpAddr::V6(address)) => format!("[{address}]:{port}"),
    };
    format!("postgresql://{user}{host}/{}?sslmode=require", escaped(database))
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
    fn uris_are_escaped_and_bracketed() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(uri(Some("a b"), v6, Some(1), "x/y"), "postgresql://a%20b@[2001:db8::1]:1/x%2Fy?sslmode=require");
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(uri(None, v4, None, "d"), "postgresql:///d?sslmode=require");
    }
}
