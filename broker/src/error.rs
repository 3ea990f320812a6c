//! What can go wrong with the broker as a whole; trouble of one connection is
//! logged where it is handled and never ends the broker.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the broker did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options name no address to listen on.
    #[error("the broker has no address to listen on")]
    NoListenAddress,
    /// A number is outside the range that its documentation gives.
    #[error("broker option {option} is {value}, allowed is {min} to {max}")]
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
    /// An address off loopback needs both a password file and a certificate.
    #[error("the broker does not listen on {address}, which is not loopback, without {lacks}")]
    OpenToNetwork {
        /// The address that others could reach.
        address: SocketAddr,
        /// What is missing, in words.
        lacks: &'static str,
    },
    /// The password file could not be read.
    #[error("read the password file {}", path.display())]
    ReadPasswords {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Every user of the machine can read a file that should be private.
    #[error("{} can be read by every user of this machine (mode {mode:o}): chmod 0600", path.display())]
    FileNotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A line of the password file is not `user:$7$iterations$salt$hash`.
    #[error("password file, line {line}: {fault}")]
    PasswordLine {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it, without its content.
        fault: &'static str,
    },
    /// A user name or password cannot be put into a password file.
    #[error("make a password line: {fault}")]
    MakePasswordLine {
        /// What is wrong.
        fault: &'static str,
    },
    /// The system gave no random bytes.
    #[error("get random bytes from the system")]
    Random,
    /// A certificate, key or authority file could not be read.
    #[error("read {what} from {}", path.display())]
    ReadPem {
        /// Certificate, key or client authority.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file's metadata could not be read.
    #[error("look at {}", path.display())]
    LookAt {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The certificate and the key do not make a TLS server.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// The client authorities do not make a verifier.
    #[error("set up the check of client certificates")]
    ClientAuthority(#[source] rustls::server::VerifierBuilderError),
    /// An address could not be bound.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The threads of the engine could not be started.
    #[error("start the threads of the broker engine")]
    StartEngine(#[source] std::io::Error),
    /// The engine did not open its loopback listeners.
    #[error("the broker engine did not open its listeners on loopback")]
    EngineNotListening,
    /// The engine ended while the broker was running.
    #[error("the broker engine stopped by itself")]
    EngineStopped,
}
