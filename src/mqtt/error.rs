//! What can go wrong on the link, named by the act that failed. No variant carries a password or a payload.

use std::path::PathBuf;

use crate::runtime::Expired;

/// Why the link did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not the address of a broker.
    #[error("\"{text}\" is not the address of a broker: {rule}")]
    Address {
        /// The text as it came; an address with a password in it is cut at the password.
        text: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A number is outside the range that its documentation gives.
    #[error("{option} is {value}, allowed is {min} to {max}")]
    OutOfRange {
        /// Name of the option.
        option: &'static str,
        /// The value that was given.
        value: u64,
        /// Smallest allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
    },
    /// A certificate or key file could not be read.
    #[error("read {what} from {}", path.display())]
    ReadPem {
        /// What the file holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The files do not make a TLS client.
    #[error("set up TLS to the broker")]
    Tls(#[source] rustls::Error),
    /// The broker was not reached, or did not let us in.
    #[error("connect to {server}: {why}")]
    Connect {
        /// The broker's address.
        server: String,
        /// What happened.
        why: String,
    },
    /// There is no connection at the moment.
    #[error("there is no connection to the broker")]
    NotConnected,
    /// The connection ended before the answer came.
    #[error("the connection to the broker ended before {what} came")]
    Lost {
        /// What was waited for.
        what: String,
    },
    /// The broker did not grant a subscription.
    #[error("subscribe to {filter}: {why}")]
    Subscribe {
        /// The filter, or the first of several.
        filter: String,
        /// The broker's reason.
        why: String,
    },
    /// The broker took the message and refused it.
    #[error("publish on {topic}: {why}")]
    Refused {
        /// The topic.
        topic: String,
        /// The broker's reason.
        why: String,
    },
    /// The broker takes no packet of this size; it was not sent, since the broker would end the connection.
    #[error("publish on {topic}: {bytes} bytes are more than the {bytes_max} that the broker takes")]
    TooLarge {
        /// The topic.
        topic: String,
        /// Size of the packet, about.
        bytes: usize,
        /// The broker's limit, or our own.
        bytes_max: usize,
    },
    /// Something took longer than it may.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// Nobody takes the messages any more.
    #[error("the one who takes the messages is gone")]
    Unheard,
}
