//! From the first byte of a client to its CONNACK: read CONNECT within bounds,
//! check the password, log in to the engine in the client's name, pass the
//! CONNACK on. The caller holds the deadline over all of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::passwords::Verifier;
use crate::seats::{Seat, Seats};
use crate::wire::{self, Connect, KEEP_ALIVE_LONGEST, Opening, Refusal, Version};

/// First bytes of the packets that are read here.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
/// Largest CONNECT in bytes: client id, will, user and password of people are
/// far smaller, and strangers need no more.
const CONNECT_BYTES_MAX: usize = 64 * 1024;
/// Largest CONNACK of the engine in bytes.
const CONNACK_BYTES_MAX: usize = 4 * 1024;

/// What a handshake needs, shared by all connections.
pub(crate) struct Door {
    pub(crate) engine: SocketAddr,
    pub(crate) engine_user: &'static str,
    pub(crate) engine_password: String,
    pub(crate) seats: Arc<Seats>,
    /// Key derivations that run at one time.
    pub(crate) derivations: Semaphore,
    /// Places for connections that are through.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) packet_bytes_max: u32,
}

/// Why a client did not get through. The client has been answered where MQTT
/// has an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Turned {
    #[error("read or write during the handshake")]
    Io(#[from] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("this does not begin with a CONNECT of MQTT, or one larger than 64 KiB")]
    NotMqtt,
    #[error("the CONNECT packet is malformed")]
    Malformed,
    #[error("the protocol version is not served")]
    Version,
    #[error("refused: {0:?}")]
    Refused(Refusal),
    #[error("the broker engine gave no CONNACK")]
    EngineSilent,
}

/// A connection that is through: its way to the engine, its seat and its place.
pub(crate) struct Admitted {
    pub(crate) version: Version,
    pub(crate) has_will: bool,
    pub(crate) engine: TcpStream,
    pub(crate) seat: Seat,
    pub(crate) place: OwnedSemaphorePermit,
}

impl Door {
    /// Runs the handshake of one client. Without a verifier everybody is let in.
    pub(crate) async fn admit<S>(&self, client: &mut S, verifier: Option<&Arc<Verifier>>) -> Result<Admitted, Turned>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let body = read_packet(client, CONNECT, CONNECT_BYTES_MAX).await?;
        let body = body.ok_or(Turned::NotMqtt)?;
        let version = match wire::opening(&body).ok_or(Turned::NotMqtt)? {
            Opening::Served(version) => version,
            Opening::TooOld => return answer(client, &wire::TOO_OLD, Turned::Version).await,
            Opening::TooNew => return answer(client, &wire::TOO_NEW, Turned::Version).await,
        };
        let Some(connect) = Connect::parse(&body, version) else {
            return match version {
                Version::V4 => Err(Turned::Malformed),
                Version::V5 => answer(client, &[0x20, 3, 0, 0x81, 0], Turned::Malformed).await,
            };
        };
        match self.pass(&connect, verifier).await {
            Ok(admitted) => self.log_in(client, &connect, admitted).await,
            Err(refusal) => answer(client, &refusal.connack(version), Turned::Refused(refusal)).await,
        }
    }

    /// Checks who this is and whether there is a place, and opens the way.
    async fn pass(&self, connect: &Connect<'_>, verifier: Option<&Arc<Verifier>>) -> Result<Admitted, Refusal> {
        if connect.wants_authentication_exchange() {
            return Err(Refusal::AuthenticationMethod);
        }
        if let Some(verifier) = verifier {
            self.check_password(connect, verifier).await?;
        }
        // The engine drops such an id without a word, and the next client with it
        // would lock everybody out.
        if connect.session_of_nobody() || connect.client_id.contains(['+', '$', '#', '/']) {
            return Err(Refusal::ClientId);
        }
        let seat = self.seats.take(connect.client_id).await;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refusal::Full)?;
        let engine = TcpStream::connect(self.engine).await.map_err(|_| Refusal::Unavailable)?;
        engine.set_nodelay(true).map_err(|_| Refusal::Unavailable)?;
        Ok(Admitted { version: connect.version, has_will: connect.has_will(), engine, seat, place })
    }

    async fn check_password(&self, connect: &Connect<'_>, verifier: &Arc<Verifier>) -> Result<(), Refusal> {
        let (Some(user), Some(password)) = (connect.user, connect.password) else {
            return Err(Refusal::NotAuthorized);
        };
        if verifier.remembers(user, password) {
            return Ok(());
        }
        let _running = self.derivations.acquire().await.map_err(|_| Refusal::Unavailable)?;
        let (verifier, user, password) = (Arc::clone(verifier), user.to_owned(), password.to_vec());
        let checked = tokio::task::spawn_blocking(move || verifier.verify(&user, &password)).await;
        match checked {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::NotAuthorized),
            Err(_) => Err(Refusal::Unavailable),
        }
    }

    /// Connects to the engine in the client's name and passes its CONNACK on.
    async fn log_in<S>(&self, client: &mut S, connect: &Connect<'_>, mut way: Admitted) -> Result<Admitted, Turned>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let packet = connect.for_engine(self.engine_user, &self.engine_password);
        way.engine.write_all(&packet).await?;
        let answered = read_packet(&mut way.engine, CONNACK, CONNACK_BYTES_MAX).await;
        let Ok(Some(body)) = answered else {
            let refused = Refusal::Unavailable.connack(connect.version);
            return answer(client, &refused, Turned::EngineSilent).await;
        };
        let packet = match connect.version {
            Version::V4 => wire::connack_for_old_client(&body).ok_or(Turned::EngineSilent)?,
            Version::V5 => {
                let keep_alive = connect.keep_alive_changes().then_some(KEEP_ALIVE_LONGEST);
                wire::connack_for_client(&body, self.packet_bytes_max, keep_alive).ok_or(Turned::EngineSilent)?
            }
        };
        client.write_all(&packet).await?;
        client.flush().await?;
        Ok(way)
    }
}

/// Sends the refusal and ends the connection; the reason goes to the log.
async fn answer<S: AsyncWrite + Unpin, T>(client: &mut S, packet: &[u8], turned: Turned) -> Result<T, Turned> {
    client.write_all(packet).await?;
    client.shutdown().await?;
    Err(turned)
}

/// Reads the body of a packet of this kind; `None` when another packet comes, or
/// its length is malformed or above the bound. Memory grows with what arrives,
/// not with what is announced.
pub(crate) async fn read_packet<S: AsyncRead + Unpin>(
    from: &mut S,
    kind: u8,
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    if from.read_u8().await? != kind {
        return Ok(None);
    }
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = from.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        if shift == 21 {
            return Ok(None);
        }
    }
    if length > bytes_max {
        return Ok(None);
    }
    let mut body = Vec::new();
    from.take(u64::try_from(length).unwrap_or(0)).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(body))
}
