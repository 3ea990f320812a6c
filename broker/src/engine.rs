//! rumqttd, as far from the world as it can be put: one listener on loopback,
//! MQTT 5 only (see `translate`), on threads of its own, behind a secret of this
//! process.
//!
//! rumqttd binds its ports itself, so a free one is looked for first and tried
//! again when somebody was faster. Its listeners and connections live on a
//! runtime of ours and end with it; its routing thread has no stop.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use rumqttd::protocol::v5::V5;
use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::handshake::read_packet;
use crate::wire::Connect;
use crate::{Error, Options, passwords};

/// Messages that may leave for one subscription at once. It bounds the replay
/// of retained messages at QoS 0: with rumqttd's own 200, ten thousand
/// retained specs shrink to two hundred without a word.
const OUTGOING_PACKETS: u64 = 1_000_000;
/// The engine keeps what it delivered, per filter, until its segments are full:
/// 4 MiB here, hundreds of megabytes at the sizes of rumqttd's examples.
const SEGMENT_BYTES: usize = 1024 * 1024;
const SEGMENTS: usize = 4;
/// Room for topic and properties beside the payload: a topic has 65,535 bytes at most.
const PACKET_OVERHEAD_BYTES: usize = 64 * 1024;
/// Packets that the engine reads from one connection before it handles them.
const PACKETS_PER_READ: usize = 100;
/// Connections that the engine may still hold while the front gave their place
/// to somebody else.
const LEAVING_CONNECTIONS: usize = 64;
/// How often a free port is looked for.
const PORT_TRIES: usize = 8;
/// How long the listener of the engine may take to answer: 100 times 20 ms.
const PROBES: usize = 100;
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// Deadline in which the engine must have read the front's CONNECT, which
/// arrives in one piece.
const CONNECT_MS: u16 = 5_000;
/// Name by which the front and the process itself log in to the engine.
const ENGINE_USER: &str = "pgmoor";

/// Bytes by which a packet of MQTT 3.1.1 grows at most on its way to the
/// engine: an empty property set, and a length that needs one byte more.
const TRANSLATION_BYTES: usize = 16;
/// Deadline for the engine to let the pulse in: a replay of ten thousand
/// retained messages keeps it busy for far less.
const PULSE_DEADLINE: Duration = Duration::from_secs(10);
/// Length of the client id of the pulse: nobody guesses it.
const PULSE_ID_CHARS: usize = 20;
/// Largest CONNACK of the engine in bytes.
const CONNACK_BYTES_MAX: usize = 4 * 1024;

/// The running engine; dropping it closes its listener and connections.
pub(crate) struct Engine {
    runtime: Option<Runtime>,
    listener: Listener,
    secret: String,
    router_gone: Box<dyn Fn() -> bool + Send + Sync>,
}

struct Listener {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Bytes of the largest packet that a client may send.
pub(crate) fn packet_bytes_max(options: &Options) -> usize {
    options.max_payload_bytes.saturating_add(PACKET_OVERHEAD_BYTES)
}

impl Engine {
    /// Starts rumqttd and waits until its listener answers.
    pub(crate) async fn start(options: &Options) -> Result<Self, Error> {
        let secret = passwords::fresh_secret()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("pgmoor-rumqttd")
            .enable_all()
            .build()
            .map_err(Error::StartEngine)?;
        let router = Router::new(0, router_config(options)).spawn();
        let mut found = None;
        for _ in 0..PORT_TRIES {
            let addr = free_port()?;
            let mut server = Server::new(settings(addr, options, &secret), router.clone(), V5);
            let listener = Listener { addr, task: runtime.spawn(async move { serve(&mut server).await }) };
            if listener.answers().await {
                found = Some(listener);
                break;
            }
            listener.task.abort();
        }
        // On the error path too the runtime must not be dropped in async code.
        let Some(listener) = found else {
            runtime.shutdown_background();
            return Err(Error::EngineNotListening);
        };
        let router_gone = Box::new(move || router.is_disconnected());
        Ok(Self { runtime: Some(runtime), listener, secret, router_gone })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.addr
    }

    /// User name and password that the engine asks for.
    pub(crate) fn credentials(&self) -> (&'static str, &str) {
        (ENGINE_USER, &self.secret)
    }

    /// Whether router and listener still run.
    pub(crate) fn alive(&self) -> bool {
        !(self.router_gone)() && !self.listener.task.is_finished()
    }

    /// Whether the engine lets a client in, as it must: a lock that a panic left
    /// poisoned shuts everybody out while router and listener seem to run. The
    /// id is the same each time, since the engine remembers every id it saw.
    pub(crate) async fn has_pulse(&self) -> bool {
        matches!(timeout(PULSE_DEADLINE, self.pulse()).await, Ok(Ok(true)))
    }

    async fn pulse(&self) -> std::io::Result<bool> {
        // Nobody can take this place from it: no client knows the secret.
        let id: String = self.secret.chars().filter(char::is_ascii_alphanumeric).take(PULSE_ID_CHARS).collect();
        let connect = Connect::clean(&id).for_engine(ENGINE_USER, &self.secret);
        let mut stream = TcpStream::connect(self.listener.addr).await?;
        stream.write_all(&connect).await?;
        let answer = read_packet(&mut stream, 0x20, CONNACK_BYTES_MAX).await?;
        Ok(answer.is_some_and(|body| body.get(1) == Some(&0)))
    }
}

impl Listener {
    /// Waits until it accepts connections; `false` when it ended or was late.
    async fn answers(&self) -> bool {
        let mut probes = 0;
        while !matches!(timeout(PROBE_PAUSE, TcpStream::connect(self.addr)).await, Ok(Ok(_))) {
            probes += 1;
            if self.task.is_finished() || probes > PROBES {
                return false;
            }
            sleep(PROBE_PAUSE).await;
        }
        // Somebody else's listener answers too; then ours could not bind.
        sleep(PROBE_PAUSE).await;
        !self.task.is_finished()
    }
}

async fn serve(server: &mut Server<V5>) {
    if let Err(error) = server.start(LinkType::Remote).await {
        tracing::debug!(%error, "a listener of the broker engine ended");
    }
}

fn free_port() -> Result<SocketAddr, Error> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let failed = |source| Error::Listen { address: any, source };
    TcpListener::bind(any).and_then(|socket| socket.local_addr()).map_err(failed)
}

fn router_config(options: &Options) -> RouterConfig {
    RouterConfig {
        max_connections: options.max_connections.saturating_add(LEAVING_CONNECTIONS),
        max_outgoing_packet_count: OUTGOING_PACKETS,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    }
}

fn settings(listen: SocketAddr, options: &Options, secret: &str) -> ServerSettings {
    ServerSettings {
        name: "v5".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: CONNECT_MS,
            max_payload_size: packet_bytes_max(options).saturating_add(TRANSLATION_BYTES),
            max_inflight_count: PACKETS_PER_READ,
            auth: Some([(ENGINE_USER.to_owned(), secret.to_owned())].into()),
            external_auth: None,
            dynamic_filters: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn an_engine_that_a_panic_left_locked_has_no_pulse() {
        let engine = Engine::start(&Options::default()).await.unwrap();
        // The first may come before the router is awake: the front, too, acts on three failures in a row only.
        let mut beats = 0;
        for _ in 0..20 {
            beats += u32::from(engine.has_pulse().await);
            if beats == 2 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(beats, 2);
        // A CONNACK from a client makes rumqttd 0.20 panic; a later client with that
        // id poisons its lock, unless it comes before the panic has let go of
        // everything. The front lets neither through.
        let (user, secret) = engine.credentials();
        let mut beats = true;
        for _ in 0..10 {
            let mut stream = TcpStream::connect(engine.addr()).await.unwrap();
            let mut bytes = Connect::clean("x").for_engine(user, secret);
            bytes.extend(b"\x20\x03\0\0\0");
            stream.write_all(&bytes).await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.ok();
            beats = engine.has_pulse().await;
            if !beats {
                break;
            }
        }
        assert!(!beats);
        assert!(engine.alive(), "to all appearance");
    }
}
