//! Where the broker is and how we present ourselves to it; and from that, what rumqttc is told.
//!
//! Invariant: topic aliases are never offered (the embedded broker's engine gets them wrong), and the packet size is
//! always set (rumqttc's own 10 KiB makes a reconnect loop out of one larger retained message).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{MqttOptions, NetworkOptions, TlsConfiguration, Transport};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;
use crate::model::{ControllerId, FleetId, Secret};

/// Smallest and largest packet in bytes: above what a small report needs, below what would exhaust a small host.
const PACKET_BYTES: (u64, u64) = (16 * 1024, 16 * 1024 * 1024);
/// Shortest and longest keep-alive in seconds: what MQTT can say, and more than never.
const KEEP_ALIVE_S: (u64, u64) = (1, 65_535);

/// Publishes on their way at once, at most. The client walks all its places several times for each packet: with the
/// 65,535 that MQTT allows, most of a resync was spent on that, and each link took 14 MB.
pub(super) const IN_FLIGHT_MAX: u16 = 256;

/// How long a connection may take until its CONNACK.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The address of a broker: `mqtt://host[:port]` or `mqtts://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address, an IPv6 address without brackets.
    pub host: String,
    /// TCP port; 1883, with TLS 8883, where the address names none.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Server {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |rule| Error::Address { text: text.split('@').next_back().unwrap_or_default().to_owned(), rule };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it begins with mqtt:// or mqtts://"))?;
        let tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(wrong("it begins with mqtt:// or mqtts://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(wrong("user and password do not belong in the address"));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or_else(|| wrong("a bracket is open"))?;
                (host, after.strip_prefix(':').or(if after.is_empty() { None } else { Some("") }))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            None if tls => 8883,
            None => 1883,
            Some(port) => port.parse().ok().filter(|&p| p != 0).ok_or_else(|| wrong("the port is 1 to 65535"))?,
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(wrong("after the scheme come a host and, if need be, a port"));
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

/// The files for TLS to the broker.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM file with the authorities that the broker's certificate may come from.
    pub ca: PathBuf,
    /// PEM files with our certificate chain and its key, where the broker asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// User name and password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// How a broker is reached. Default: `mqtt://127.0.0.1:1883`, nobody in particular.
#[derive(Debug, Clone)]
pub struct Options {
    /// The broker.
    pub server: Server,
    /// Needed when the server's address begins with `mqtts://`.
    pub tls: Option<Tls>,
    /// As whom.
    pub credentials: Option<Credentials>,
    /// The largest packet that we take and send, in bytes; 16 KiB to 16 MiB, default 1 MiB. A broker does not deliver
    /// what is larger, and does not say so: keep it above what the broker takes.
    pub packet_bytes_max: u32,
    /// A ping goes out when nothing else did for so long; 1 s to 65,535 s, default 8 s. The broker gives us up after
    /// one and a half of it. Keep it well below the 12 s of silence after which a link gives the broker up.
    pub keep_alive: Duration,
    /// How long the broker keeps the inbound session while we are away; default a week.
    pub session_expiry: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server: Server { host: "127.0.0.1".to_owned(), port: 1883, tls: false },
            tls: None,
            credentials: None,
            packet_bytes_max: 1024 * 1024,
            keep_alive: Duration::from_secs(8),
            session_expiry: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Who a controller is on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The fleet whose topics these are.
    pub fleet: FleetId,
    /// This controller.
    pub controller: ControllerId,
}

impl Identity {
    /// The client id of the inbound link. It is the fleet's, so that the broker hands the one session to the newest
    /// controller.
    #[must_use]
    pub fn inbound_client_id(&self) -> String {
        format!("pgmoor-{}", self.fleet)
    }

    /// The client id of the outbound link: the controller's own.
    #[must_use]
    pub fn outbound_client_id(&self) -> String {
        format!("pgmoor-{}-{}-out", self.fleet, self.controller)
    }
}

impl Options {
    /// What rumqttc is told, for a clean start; the links add what is theirs.
    pub(super) fn client(&self, client_id: &str) -> Result<MqttOptions, Error> {
        in_range("packet_bytes_max", u64::from(self.packet_bytes_max), PACKET_BYTES)?;
        in_range("keep_alive", self.keep_alive.as_secs(), KEEP_ALIVE_S)?;
        let server = rumqttc::Broker::tcp(self.server.host.clone(), self.server.port);
        let mut options = MqttOptions::new(client_id, server);
        if self.server.tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(self.tls_client()?)));
        }
        if let Some(Credentials { username, password }) = &self.credentials {
            options.set_credentials(username.clone(), password.expose().to_owned());
        }
        let keep_alive_s = u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX);
        options.set_keep_alive(keep_alive_s);
        options.set_clean_start(true);
        options.set_max_packet_size(Some(self.packet_bytes_max));
        options.set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX);
        options.set_connect_timeout(CONNECT_TIMEOUT);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        Ok(options)
    }

    fn tls_client(&self) -> Result<Arc<ClientConfig>, Error> {
        let mut roots = RootCertStore::empty();
        if let Some(tls) = &self.tls {
            for authority in certificates("the broker's authority", &tls.ca)? {
                roots.add(authority).map_err(Error::Tls)?;
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots);
        let client = self.tls.as_ref().and_then(|tls| tls.client.as_ref());
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates("our certificate", cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|source| Error::ReadPem {
                    what: "our key",
                    path: key.clone(),
                    source,
                })?;
                builder.with_client_auth_cert(chain, key).map_err(Error::Tls)?
            }
        };
        Ok(Arc::new(config))
    }
}

fn in_range(option: &'static str, value: u64, (min, max): (u64, u64)) -> Result<(), Error> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(Error::OutOfRange { option, value, min, max }) }
}

fn certificates(what: &'static str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| Error::ReadPem { what, path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let cases = [
            ("mqtt://localhost", "mqtt://localhost:1883"),
            ("mqtts://broker.example", "mqtts://broker.example:8883"),
            ("mqtt://192.0.2.1:11883/", "mqtt://192.0.2.1:11883"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
            ("mqtts://[2001:db8::1]:1", "mqtts://[2001:db8::1]:1"),
        ];
        for (text, written) in cases {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_no_password_shown() {
        for text in [
            "localhost",
            "http://localhost",
            "mqtt://",
            "mqtt://host:0",
            "mqtt://host:70000",
            "mqtt://host:x",
            "mqtt://[::1",
            "mqtt://[::1]x",
            "mqtt://host/path",
            "mqtt://anna:s3cret@host",
        ] {
            let error = text.parse::<Server>().unwrap_err().to_string();
            assert!(error.contains("is not the address of a broker"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let faulty = [
            Options { packet_bytes_max: 1000, ..Options::default() },
            Options { packet_bytes_max: u32::MAX, ..Options::default() },
            Options { keep_alive: Duration::from_millis(999), ..Options::default() },
            Options { keep_alive: Duration::MAX, ..Options::default() },
        ];
        for options in faulty {
            assert!(matches!(options.client("c"), Err(Error::OutOfRange { .. })), "{options:?}");
        }
    }

    #[test]
    fn tls_needs_its_files() {
        let server = "mqtts://localhost".parse().unwrap();
        let tls = Some(Tls { ca: "/nonexistent".into(), client: None });
        let options = Options { server, tls, ..Options::default() };
        assert!(matches!(options.client("c"), Err(Error::ReadPem { what: "the broker's authority", .. })));
    }
}
