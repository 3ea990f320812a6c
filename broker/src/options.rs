//! What a broker is told at its start, and the rule that nothing off loopback
//! is open: [`Options::validate`] is asked again by [`crate::Broker::start`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, PasswordFile};

/// Smallest and largest `max_payload_bytes`: a spec of 1 KiB must fit, and one
/// message must not outgrow the 1 MiB segments of the engine's log by far.
const PAYLOAD_BYTES: (u64, u64) = (1024, 4 * 1024 * 1024);
/// Smallest and largest `handshake_timeout` in milliseconds: below, TLS over a
/// slow line fails; above, idle strangers hold places for too long.
const HANDSHAKE_MS: (u64, u64) = (100, 60_000);
/// Smallest and largest `max_connections`: every connection costs three file
/// descriptors and about 100 KiB.
const CONNECTIONS: (u64, u64) = (1, 10_000);

/// Where the certificate, its key and the authority of client certificates are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM file with the server's certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM file with the key of the leaf; not readable for every user.
    pub key: PathBuf,
    /// PEM file with the authorities of client certificates. When it is given,
    /// a client without a certificate from them is refused; it still needs its
    /// password when `users` is given.
    pub client_ca: Option<PathBuf>,
}

/// What the broker is told at its start. Files are read once, at the start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The addresses that clients connect to; port 0 lets the system choose
    /// (see [`crate::Broker::local_addr`]). At least one. Default:
    /// `127.0.0.1:1883`.
    pub listen: Vec<SocketAddr>,
    /// Ends TLS 1.2 and 1.3 on every address of `listen`. Needed off loopback.
    pub tls: Option<TlsFiles>,
    /// The users who may connect; `None` lets everybody in. Needed off loopback.
    pub users: Option<PasswordFile>,
    /// Largest payload of one message, in bytes; 1,024 to 4,194,304, default
    /// 262,144. A client that sends more is disconnected; MQTT 5 clients are
    /// told the limit (64 KiB more, for topic and properties) in CONNACK.
    pub max_payload_bytes: usize,
    /// Time from accepting a connection to its CONNACK, TLS and the password
    /// included; 100 ms to 60 s, default 10 s.
    pub handshake_timeout: Duration,
    /// Connections that are through the handshake at one time; 1 to 10,000,
    /// default 1,000. One more is answered with "server unavailable" or "quota
    /// exceeded".
    pub max_connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 1883))],
            tls: None,
            users: None,
            max_payload_bytes: 256 * 1024,
            handshake_timeout: Duration::from_secs(10),
            max_connections: 1000,
        }
    }
}

impl Options {
    /// Checks ranges, and that every address off loopback has a password file
    /// and a certificate. Opens no file.
    ///
    /// # Errors
    ///
    /// [`Error::NoListenAddress`], [`Error::OutOfRange`] or
    /// [`Error::OpenToNetwork`].
    pub fn validate(&self) -> Result<(), Error> {
        if self.listen.is_empty() {
            return Err(Error::NoListenAddress);
        }
        in_range("max_payload_bytes", wide(self.max_payload_bytes), PAYLOAD_BYTES)?;
        let timeout_ms = u64::try_from(self.handshake_timeout.as_millis()).unwrap_or(u64::MAX);
        in_range("handshake_timeout", timeout_ms, HANDSHAKE_MS)?;
        in_range("max_connections", wide(self.max_connections), CONNECTIONS)?;
        for &address in &self.listen {
            if address.ip().to_canonical().is_loopback() {
                continue;
            }
            let lacks = match (&self.users, &self.tls) {
                (Some(_), Some(_)) => continue,
                (None, None) => "a password file and a TLS certificate",
                (None, Some(_)) => "a password file",
                (Some(_), None) => "a TLS certificate",
            };
            return Err(Error::OpenToNetwork { address, lacks });
        }
        Ok(())
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn in_range(option: &'static str, value: u64, (min, max): (u64, u64)) -> Result<(), Error> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(Error::OutOfRange { option, value, min, max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening_on(address: &str) -> Options {
        Options { listen: vec![address.parse().unwrap()], ..Options::default() }
    }

    #[test]
    fn loopback_needs_neither_password_nor_certificate() {
        for address in ["127.0.0.1:1883", "127.8.9.1:0", "[::1]:1883", "[::ffff:127.0.0.1]:1883"] {
            listening_on(address).validate().unwrap();
        }
    }

    #[test]
    fn off_loopback_needs_both() {
        let tls = TlsFiles { cert: "c".into(), key: "k".into(), client_ca: None };
        for address in ["0.0.0.0:1883", "192.0.2.1:1883", "[::]:1883", "[::ffff:192.0.2.1]:1"] {
            let mut options = listening_on(address);
            assert!(matches!(options.validate(), Err(Error::OpenToNetwork { .. })), "{address}");
            options.users = Some(PasswordFile::default());
            assert!(matches!(options.validate(), Err(Error::OpenToNetwork { .. })), "{address}");
            options.tls = Some(tls.clone());
            options.validate().unwrap();
            options.users = None;
            assert!(matches!(options.validate(), Err(Error::OpenToNetwork { .. })), "{address}");
        }
    }

    #[test]
    fn one_open_address_among_closed_ones_is_found() {
        let mut options = listening_on("127.0.0.1:0");
        options.listen.push("0.0.0.0:0".parse().unwrap());
        assert!(matches!(options.validate(), Err(Error::OpenToNetwork { .. })));
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let faulty = [
            Options { max_payload_bytes: 1023, ..Options::default() },
            Options { max_payload_bytes: usize::MAX, ..Options::default() },
            Options { handshake_timeout: Duration::ZERO, ..Options::default() },
            Options { handshake_timeout: Duration::MAX, ..Options::default() },
            Options { max_connections: 0, ..Options::default() },
        ];
        for options in faulty {
            assert!(matches!(options.validate(), Err(Error::OutOfRange { .. })), "{options:?}");
        }
        let nowhere = Options { listen: Vec::new(), ..Options::default() };
        assert!(matches!(nowhere.validate(), Err(Error::NoListenAddress)));
    }
}
