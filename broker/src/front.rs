//! The broker that people connect to: accepts, hands each connection to a task
//! of its own (so a slow handshake never holds the accept loop), and ends them
//! all when it is told to stop.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, packet_bytes_max};
use crate::handshake::{Admitted, Door, Turned};
use crate::passwords::{Verifier, fresh_secret};
use crate::splice::{PATIENCE, Terms, splice};
use crate::{Error, Options, tls};

/// How long a seat stays taken after its connection. rumqttd closes a connection first and asks its router for a will a
/// timer's tick later, by client id alone and whether there was one or not: a successor that is through by then would
/// have its own will published, and none left.
const LAST_WORD: Duration = Duration::from_millis(250);

/// Handshakes that run at one time, on top of the connections that are through:
/// strangers who say nothing can hold these places and no others.
const HANDSHAKES: usize = 256;
/// Key derivations that run at one time; each takes one processor for a fifth
/// of a second, and guessers must not take them all.
const DERIVATIONS: usize = 2;
/// Pause after a failed accept (mostly: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the engine is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// How often the engine must let somebody in, in seconds.
const PULSE_SECONDS: u64 = 5;
/// So many times in a row it may fail to: one may be a full queue, three are not.
const PULSES_MISSED: u32 = 3;

/// Name of the process itself at its private listener.
const PRIVATE_USER: &str = "pgmoor";

/// A way in for the process that runs the broker: plain MQTT (both versions) on
/// a loopback port of its own, whatever TLS and users the others need. The
/// password changes with every start.
#[derive(Clone)]
pub struct PrivateAccess {
    /// The private listener.
    pub addr: SocketAddr,
    /// User name for CONNECT.
    pub username: String,
    /// Password for CONNECT.
    pub password: String,
}

impl fmt::Debug for PrivateAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateAccess").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// A broker that listens; [`Broker::run`] serves.
pub struct Broker {
    engine: Engine,
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    private: PrivateAccess,
    shared: Arc<Shared>,
}

/// One address, and what is asked of those who come in by it.
struct Listener {
    socket: TcpListener,
    gate: Gate,
}

#[derive(Clone)]
struct Gate {
    tls: Option<TlsAcceptor>,
    verifier: Option<Arc<Verifier>>,
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

struct Shared {
    door: Door,
    handshakes: Arc<Semaphore>,
    handshake_timeout: Duration,
}

impl Broker {
    /// Validates the options, reads the files, starts the engine and binds
    /// every address. Clients that connect now are served once
    /// [`Broker::run`] runs.
    ///
    /// # Errors
    ///
    /// Whatever [`Options::validate`] finds, a file that cannot be read, an
    /// address that cannot be bound, or an engine that does not come up.
    pub async fn start(options: Options) -> Result<Self, Error> {
        options.validate()?;
        let gate = Gate {
            tls: options.tls.as_ref().map(tls::acceptor).transpose()?,
            verifier: options.users.clone().map(Verifier::new).transpose()?.map(Arc::new),
        };
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for &address in &options.listen {
            let (socket, address) = bind(address).await?;
            addresses.push(address);
            listeners.push(Listener { socket, gate: gate.clone() });
        }
        let (socket, addr) = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let private = PrivateAccess { addr, username: PRIVATE_USER.to_owned(), password: fresh_secret()? };
        let verifier = Verifier::for_secret(&private.username, &private.password)?;
        listeners.push(Listener { socket, gate: Gate { tls: None, verifier: Some(Arc::new(verifier)) } });
        let engine = Engine::start(&options).await?;
        let (engine_user, engine_password) = engine.credentials();
        let door = Door {
            engine: engine.addr(),
            engine_user,
            engine_password: engine_password.to_owned(),
            seats: Arc::default(),
            derivations: Semaphore::new(DERIVATIONS),
            places: Arc::new(Semaphore::new(options.max_connections)),
            packet_bytes_max: u32::try_from(packet_bytes_max(&options)).unwrap_or(u32::MAX),
        };
        let shared = Shared {
            door,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            handshake_timeout: options.handshake_timeout,
        };
        Ok(Self { engine, listeners, addresses, private, shared: Arc::new(shared) })
    }

    /// The first address that the broker listens on, its port as the system
    /// chose it.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.first().copied().unwrap_or(self.private.addr)
    }

    /// All addresses that the broker listens on, in the order of the options.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The way in for this very process. It goes by the same doors as every
    /// client: whoever knows the password counts as a connection.
    pub fn private_access(&self) -> PrivateAccess {
        self.private.clone()
    }

    /// Serves until `stop`; then closes every listener and connection.
    ///
    /// # Errors
    ///
    /// [`Error::EngineStopped`] when rumqttd ends by itself, or lets nobody in
    /// any more. A new [`Broker`] can take its place.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(accept(listener, Arc::clone(&self.shared), stop.clone()));
        }
        let watched = tokio::select! {
            () = stop.cancelled() => Ok(()),
            stopped = watch(&self.engine) => Err(stopped),
        };
        // On an error the listeners end with the set, at once.
        watched?;
        while accepting.join_next().await.is_some() {}
        Ok(())
    }
}

/// Looks at the engine until it ended, or lets nobody in any more.
async fn watch(engine: &Engine) -> Error {
    let mut missed = 0;
    for second in 1_u64.. {
        sleep(WATCH).await;
        if !engine.alive() {
            break;
        }
        if second % PULSE_SECONDS == 0 {
            missed = if engine.has_pulse().await { 0 } else { missed + 1 };
            if missed == PULSES_MISSED {
                break;
            }
        }
    }
    Error::EngineStopped
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// Accepts until `stop`. Dropping it ends its connections with it.
async fn accept(listener: Listener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (shared, gate) = (Arc::clone(&shared), listener.gate.clone());
                connections.spawn(async move { shared.attend(stream, peer, gate).await });
            }
            Err(error) => {
                tracing::warn!(%error, "the broker could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.shutdown().await;
}

impl Shared {
    /// One connection from its first byte to its last.
    async fn attend(&self, stream: TcpStream, peer: SocketAddr, gate: Gate) {
        let Ok(handshake) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            tracing::debug!(%peer, "turned away: too many handshakes at one time");
            return;
        };
        let through = timeout(self.handshake_timeout, self.handshake(stream, &gate)).await;
        drop(handshake);
        match through {
            Ok(Ok((stream, way))) => self.serve(stream, way, peer).await,
            Ok(Err(turned @ (Turned::Refused(_) | Turned::EngineSilent))) => {
                tracing::info!(%peer, reason = %turned, "the broker refused a client");
            }
            Ok(Err(turned)) => tracing::debug!(%peer, reason = %turned, "no MQTT client"),
            Err(_) => tracing::debug!(%peer, "the handshake took too long"),
        }
    }

    async fn handshake(&self, tcp: TcpStream, gate: &Gate) -> Result<(Box<dyn Stream>, Admitted), Turned> {
        tcp.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match &gate.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.accept(tcp).await.map_err(Turned::Tls)?),
        };
        let way = self.door.admit(&mut stream, gate.verifier.as_ref()).await?;
        Ok((stream, way))
    }

    /// The bytes of a client that is through.
    async fn serve(&self, stream: Box<dyn Stream>, way: Admitted, peer: SocketAddr) {
        let Admitted { version, has_will, engine, seat, place } = way;
        let packet_bytes_max = usize::try_from(self.door.packet_bytes_max).unwrap_or(usize::MAX);
        let terms = Terms { version, has_will, packet_bytes_max, leave: seat.leave() };
        if let Err(error) = splice(stream, engine, &terms, PATIENCE).await {
            tracing::debug!(%peer, %error, "a connection broke");
        }
        if seat.leave().is_cancelled() {
            tracing::info!(%peer, "a newer connection with the same client id took over");
        }
        // First the place: the newer connection that waits for the seat needs one.
        drop(place);
        sleep(LAST_WORD).await;
        drop(seat);
    }
}
