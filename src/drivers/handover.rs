//! An image on its way from one host to another: one connection, TLS, both ends with a certificate that the fleet's
//! authority signed for this purpose, and a ticket that the one which takes must show.
//!
//! What is said: the one that takes sends the ticket; the one that has the image sends pieces, each after its length, an
//! empty one at the end, and in between that it is still there. Invariants: nothing is sent before the ticket was shown; what has no end came in part only;
//! a ticket is compared as a whole, and shown in no error.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream::{self, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificates::{Authority, issue};
use super::swarm::ImageStream;
use super::tls::client_config;
use super::{Error, Result, TlsIdentity};
use crate::model::resource::CertificateAttributes;
use crate::model::{Digest, HostId, Secret};

/// How long both ends may take to know each other.
const GREETING_LIMIT: Duration = Duration::from_secs(20);
/// How often the end that has the image says that it is still there, while its engine prepares the image.
const STILL_EVERY: Duration = Duration::from_secs(5);
/// How long the other end is believed to be there without a word, or without taking what it was sent.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// The length of a piece that says no more than that.
const STILL: u32 = u32::MAX;
/// The longest piece that is taken.
const PIECE_BYTES_MAX: u32 = 1 << 20;
/// Random bytes of a ticket.
const TICKET_BYTES: usize = 32;
/// The same as text.
const TICKET_CHARS: usize = 43;

/// A ticket that nobody guesses, for one hand-over.
///
/// # Errors
/// The system gives no randomness.
pub fn ticket() -> Result<Secret> {
    let mut bytes = [0; TICKET_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Failed { act: "make a ticket".to_owned(), why: error.to_string() })?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// What a host shows of itself while it hands an image over, or takes one: made for this and kept nowhere.
///
/// # Errors
/// The authority's texts cannot be read.
pub fn identity(authority: &Authority, host: &HostId, now_s: i64) -> Result<TlsIdentity> {
    let attributes = CertificateAttributes {
        stem: name_of(host),
        uid: 0,
        gid: 0,
        common_name: String::new(),
        subject_alt_names: [name_of(host)].into(),
        server: true,
        client: true,
        issuer: Digest::of_bytes(authority.certificate_pem.as_bytes()),
        fresh: true,
    };
    let issued = issue(authority, &attributes, now_s)?;
    Ok(TlsIdentity {
        ca_pem: authority.certificate_pem.clone(),
        certificate_pem: issued.certificate_pem,
        key_pem: issued.key_pem,
    })
}

/// The name in the certificate of a host that hands images over: no other certificate of the fleet has it.
fn name_of(host: &HostId) -> String {
    format!("{host}.images.pgmoor.internal")
}

/// The end that has the image: lets the other one show who it is and its ticket.
///
/// # Errors
/// It is not of the fleet, or has another ticket.
pub async fn admit<S>(stream: S, identity: &TlsIdentity, ticket: &Secret) -> Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let act = "let a host take an image";
    let greeting = async {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(identity)?));
        let mut stream = acceptor.accept(stream).await.map_err(|error| broken(act, &error))?;
        let mut shown = [0; TICKET_CHARS];
        stream.read_exact(&mut shown).await.map_err(|error| broken(act, &error))?;
        // Digests of both are compared, so that the time it takes tells nothing of the ticket.
        if Digest::of_bytes(&shown) == Digest::of_bytes(ticket.expose().as_bytes()) {
            Ok(stream)
        } else {
            Err(Error::Failed { act: act.to_owned(), why: "it showed another ticket".to_owned() })
        }
    };
    within(act, GREETING_LIMIT, greeting).await
}

/// Sends the image to one that was let in; `told` hears of each piece.
///
/// # Errors
/// The image breaks off, or the other end does.
pub async fn send(
    stream: &mut (impl AsyncWrite + Send + Unpin),
    mut image: ImageStream,
    told: impl Fn(u64) + Send,
) -> Result<()> {
    let act = "hand an image over";
    loop {
        let piece = match tokio::time::timeout(STILL_EVERY, image.next()).await {
            Ok(Some(piece)) => piece?,
            Ok(None) => break,
            Err(_not_yet) => {
                say(stream, STILL, &[]).await?;
                continue;
            }
        };
        for piece in piece.chunks(usize::try_from(PIECE_BYTES_MAX).unwrap_or(usize::MAX)) {
            let length = u32::try_from(piece.len()).unwrap_or(PIECE_BYTES_MAX);
            say(stream, length, piece).await?;
            told(u64::from(length));
        }
    }
    say(stream, 0, &[]).await?;
    let ended = async {
        stream.flush().await?;
        stream.shutdown().await
    };
    within(act, SILENCE_LIMIT, async { ended.await.map_err(|error| broken(act, &error)) }).await
}

async fn say(stream: &mut (impl AsyncWrite + Send + Unpin), length: u32, piece: &[u8]) -> Result<()> {
    let act = "hand an image over";
    let said = async {
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(piece).await?;
        if length == STILL { stream.flush().await } else { Ok(()) }
    };
    within(act, SILENCE_LIMIT, async { said.await.map_err(|error| broken(act, &error)) }).await
}

/// The end that takes: shows who it is, and its ticket; gives the image, which ends with an error where it broke off or
/// has more than `bytes_max` bytes. `told` hears of each piece.
///
/// # Errors
/// The other end is not that host of the fleet.
pub async fn take<S>(
    stream: S,
    (identity, from): (&TlsIdentity, &HostId),
    ticket: &Secret,
    bytes_max: u64,
    told: impl Fn(u64) + Send + 'static,
) -> Result<ImageStream>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let act = "take an image";
    let greeting = async {
        let failed = |why: String| Error::Failed { act: act.to_owned(), why };
        let connector = TlsConnector::from(Arc::new(client_config(identity)?));
        let name = ServerName::try_from(name_of(from)).map_err(|error| failed(error.to_string()))?;
        let mut stream = connector.connect(name, stream).await.map_err(|error| broken(act, &error))?;
        stream.write_all(ticket.expose().as_bytes()).await.map_err(|error| broken(act, &error))?;
        stream.flush().await.map_err(|error| broken(act, &error))?;
        Ok(stream)
    };
    let stream = within(act, GREETING_LIMIT, greeting).await?;
    let pieces = stream::try_unfold((stream, 0_u64, told), move |(mut stream, before, told)| async move {
        let Some(piece) = piece(&mut stream).await? else { return Ok(None) };
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let all = before.saturating_add(length);
        if all > bytes_max {
            let why = format!("it has more than the {bytes_max} bytes that were told of it");
            return Err(Error::Failed { act: act.to_owned(), why });
        }
        told(length);
        Ok(Some((piece, (stream, all, told))))
    });
    Ok(pieces.boxed())
}

/// The next piece; none: that was all.
async fn piece(stream: &mut (impl AsyncRead + Send + Unpin)) -> Result<Option<Vec<u8>>> {
    let act = "take an image";
    let length = loop {
        let read = async { stream.read_u32().await.map_err(|error| broken(act, &error)) };
        match within(act, SILENCE_LIMIT, read).await? {
            STILL => {}
            length => break length,
        }
    };
    if length == 0 {
        return Ok(None);
    }
    if length > PIECE_BYTES_MAX {
        return Err(Error::Failed { act: act.to_owned(), why: "a piece of it is longer than any may be".to_owned() });
    }
    let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
    let read = async { stream.read_exact(&mut piece).await.map_err(|error| broken(act, &error)) };
    within(act, SILENCE_LIMIT, read).await?;
    Ok(Some(piece))
}

async fn within<T>(act: &str, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_late) => {
            let why = format!("the other end said nothing for {} s", limit.as_secs());
            Err(Error::Unreachable { act: act.to_owned(), why })
        }
    }
}

fn broken(act: &str, error: &std::io::Error) -> Error {
    Error::Unreachable { act: act.to_owned(), why: error.to_string() }
}

/// Only who has a certificate of the fleet's authority is listened to.
fn server_config(identity: &TlsIdentity) -> Result<ServerConfig> {
    let failed = |what: &str, why: String| Error::Failed { act: format!("read {what} of the TLS identity"), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(identity.ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| failed("the authority", error.to_string()))?;
        roots.add(certificate).map_err(|error| failed("the authority", error.to_string()))?;
    }
    let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| failed("the certificate", error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose().as_bytes())
        .map_err(|_| failed("the key", "not a private key in PEM".to_owned()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| failed("the authority", error.to_string()))?;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("the protocol versions", error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| failed("the certificate and key", error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::TryStreamExt as _;
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::drivers::certificates::make_authority;
    use crate::model::FleetId;
    use crate::runtime::clock::SystemClock;

    /// Certificates are checked against the clock of this machine.
    fn now_s() -> i64 {
        SystemClock::shared().now_s()
    }

    fn authority() -> Authority {
        make_authority(&FleetId::parse("edge").unwrap(), now_s()).unwrap()
    }

    fn host(name: &str) -> HostId {
        HostId::parse(name).unwrap()
    }

    fn image(pieces: Vec<Result<Vec<u8>>>) -> ImageStream {
        stream::iter(pieces).boxed()
    }

    /// The ends of a line, and who is at them: `host-1` has the image.
    struct Ends {
        gives: (DuplexStream, TlsIdentity, Secret),
        takes: (DuplexStream, TlsIdentity, Secret),
        from: HostId,
    }

    impl Ends {
        fn new() -> Self {
            let (authority, (one, two), ticket) = (authority(), duplex(1024), ticket().unwrap());
            let of = |name: &str| identity(&authority, &host(name), now_s()).unwrap();
            let gives = (one, of("host-1"), ticket.clone());
            Self { gives, takes: (two, of("host-2"), ticket), from: host("host-1") }
        }

        /// What each end says of it, and the bytes that came.
        async fn exchange(self, pieces: Vec<Result<Vec<u8>>>, bytes_max: u64) -> (Result<()>, Result<Vec<u8>>, u64) {
            let Self { gives, takes, from } = self;
            let heard = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&heard);
            let giving = async move {
                let mut stream = admit(gives.0, &gives.1, &gives.2).await?;
                send(&mut stream, image(pieces), |_| {}).await
            };
            let taking = async move {
                let told = move |bytes| {
                    counted.fetch_add(bytes, Ordering::Relaxed);
                };
                let pieces = take(takes.0, (&takes.1, &from), &takes.2, bytes_max, told).await?;
                pieces.try_concat().await
            };
            let (gave, took) = tokio::join!(giving, taking);
            (gave, took, heard.load(Ordering::Relaxed))
        }
    }

    #[tokio::test]
    async fn an_image_comes_as_it_went() {
        let long = vec![7; 3 * usize::try_from(PIECE_BYTES_MAX).unwrap() + 5];
        let pieces = vec![Ok(vec![1, 2]), Ok(Vec::new()), Ok(long.clone())];
        let (gave, took, heard) = Ends::new().exchange(pieces, 1 << 30).await;
        let wanted: Vec<u8> = [vec![1, 2], long].concat();
        assert_eq!((gave, heard), (Ok(()), u64::try_from(wanted.len()).unwrap()));
        assert!(took.unwrap() == wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_may_take_its_time_and_a_dead_host_may_not() {
        let slow = |wait: u64| {
            let wait = Duration::from_secs(wait);
            stream::once(async move {
                tokio::time::sleep(wait).await;
                Ok(vec![1])
            })
            .boxed()
        };
        let Ends { gives, takes, from } = Ends::new();
        let giving = async {
            let mut stream = admit(gives.0, &gives.1, &gives.2).await?;
            send(&mut stream, slow(1000), |_| {}).await
        };
        let taking = async {
            let pieces = take(takes.0, (&takes.1, &from), &takes.2, 10, |_| {}).await?;
            pieces.try_concat().await
        };
        assert_eq!(tokio::join!(giving, taking), (Ok(()), Ok(vec![1])));
        // One that lost its power closes nothing.
        let Ends { gives, takes, from } = Ends::new();
        let giving = async { admit(gives.0, &gives.1, &gives.2).await };
        let taking = async {
            let pieces = take(takes.0, (&takes.1, &from), &takes.2, 10, |_| {}).await?;
            pieces.try_concat().await
        };
        let (held, took) = tokio::join!(giving, taking);
        assert!(held.is_ok() && matches!(took, Err(Error::Unreachable { .. })), "{took:?}");
    }

    #[tokio::test]
    async fn what_breaks_off_or_is_too_long_is_no_image() {
        let broken = || Err(Error::Failed { act: "read".to_owned(), why: "the disk".to_owned() });
        let (gave, took, _) = Ends::new().exchange(vec![Ok(vec![1]), broken()], 100).await;
        assert!(gave == broken().map(|_: Vec<u8>| ()) && matches!(took, Err(Error::Unreachable { .. })), "{took:?}");
        let (_, took, heard) = Ends::new().exchange(vec![Ok(vec![1; 60]), Ok(vec![1; 60])], 100).await;
        assert!(matches!(&took, Err(Error::Failed { why, .. }) if why.contains("100")) && heard == 60, "{took:?}");
    }

    #[tokio::test]
    async fn who_is_not_known_gets_nothing() {
        let other = identity(&authority(), &host("host-2"), now_s()).unwrap();
        let nothing = |took: &Result<Vec<u8>>| took.as_ref().is_ok_and(Vec::is_empty) || took.is_err();
        // Another ticket.
        let mut ends = Ends::new();
        ends.takes.2 = ticket().unwrap();
        let (gave, took, heard) = ends.exchange(vec![Ok(vec![1])], 10).await;
        assert!(gave.as_ref().is_err_and(|error| error.to_string().contains("another ticket")), "{gave:?}");
        assert!(took.is_err() && heard == 0);
        // A certificate of another authority, at either end.
        let mut ends = Ends::new();
        ends.takes.1 = TlsIdentity { ca_pem: ends.takes.1.ca_pem, ..other.clone() };
        let (gave, took, heard) = ends.exchange(vec![Ok(vec![1])], 10).await;
        assert!(gave.is_err() && nothing(&took) && heard == 0, "{gave:?} {took:?}");
        let mut ends = Ends::new();
        ends.gives.1 = other;
        let (gave, took, heard) = ends.exchange(vec![Ok(vec![1])], 10).await;
        assert!(gave.is_err() && took.is_err() && heard == 0, "{gave:?} {took:?}");
        // Another host of the fleet than the one that was named.
        let mut ends = Ends::new();
        ends.from = host("host-3");
        let (gave, took, heard) = ends.exchange(vec![Ok(vec![1])], 10).await;
        assert!(gave.is_err() && took.is_err() && heard == 0, "{gave:?} {took:?}");
    }
}
