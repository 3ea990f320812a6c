//! rumqttd, as far from the world as it can be put: two listeners on loopback
//! (MQTT 3.1.1 and 5), on threads of their own, behind a secret of this process.
//!
//! rumqttd binds its ports itself, so a free one is looked for first and tried
//! again when somebody was faster. Its listeners and connections live on a
//! runtime of ours and end with it; its routing thread has no stop.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use rumqttd::protocol::Protocol;
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::v5::V5;
use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::wire::Version;
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
/// How often a pair of free ports is looked for.
const PORT_TRIES: usize = 8;
/// How long a listener of the engine may take to answer: 100 times 20 ms.
const PROBES: usize = 100;
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// Deadline in which the engine must have read the front's CONNECT, which
/// arrives in one piece.
const CONNECT_MS: u16 = 5_000;
/// Name by which the front and the process itself log in to the engine.
const ENGINE_USER: &str = "pgmoor";

/// The running engine; dropping it closes its listeners and connections.
pub(crate) struct Engine {
    runtime: Option<Runtime>,
    listeners: Listeners,
    secret: String,
    router_gone: Box<dyn Fn() -> bool + Send + Sync>,
}

struct Listeners {
    v4: SocketAddr,
    v5: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Bytes of the largest packet that the engine accepts.
pub(crate) fn packet_bytes_max(options: &Options) -> usize {
    options.max_payload_bytes.saturating_add(PACKET_OVERHEAD_BYTES)
}

impl Engine {
    /// Starts rumqttd and waits until both listeners answer.
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
            let (v4, v5) = free_ports()?;
            let mut server4 = Server::new(settings("v4", v4, options, &secret), router.clone(), V4);
            let mut server5 = Server::new(settings("v5", v5, options, &secret), router.clone(), V5);
            let tasks = [
                runtime.spawn(async move { serve(&mut server4).await }),
                runtime.spawn(async move { serve(&mut server5).await }),
            ];
            let listeners = Listeners { v4, v5, tasks };
            if listeners.answer().await {
                found = Some(listeners);
                break;
            }
            listeners.tasks.iter().for_each(JoinHandle::abort);
        }
        // On the error path too the runtime must not be dropped in async code.
        let Some(listeners) = found else {
            runtime.shutdown_background();
            return Err(Error::EngineNotListening);
        };
        let router_gone = Box::new(move || router.is_disconnected());
        Ok(Self { runtime: Some(runtime), listeners, secret, router_gone })
    }

    pub(crate) fn addr(&self, version: Version) -> SocketAddr {
        match version {
            Version::V4 => self.listeners.v4,
            Version::V5 => self.listeners.v5,
        }
    }

    /// User name and password that the engine asks for.
    pub(crate) fn credentials(&self) -> (&'static str, &str) {
        (ENGINE_USER, &self.secret)
    }

    /// Whether router and listeners still run.
    pub(crate) fn alive(&self) -> bool {
        !(self.router_gone)() && !self.listeners.ended()
    }
}

impl Listeners {
    fn ended(&self) -> bool {
        self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Waits until both accept connections; `false` when one ended or was late.
    async fn answer(&self) -> bool {
        for addr in [self.v4, self.v5] {
            let mut probes = 0;
            while !matches!(timeout(PROBE_PAUSE, TcpStream::connect(addr)).await, Ok(Ok(_))) {
                probes += 1;
                if self.ended() || probes > PROBES {
                    return false;
                }
                sleep(PROBE_PAUSE).await;
            }
        }
        // Somebody else's listener answers too; then ours could not bind.
        sleep(PROBE_PAUSE).await;
        !self.ended()
    }
}

async fn serve<P: Protocol + Clone + Send + 'static>(server: &mut Server<P>) {
    if let Err(error) = server.start(LinkType::Remote).await {
        tracing::debug!(%error, "a listener of the broker engine ended");
    }
}

fn free_ports() -> Result<(SocketAddr, SocketAddr), Error> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let failed = |source| Error::Listen { address: any, source };
    // Both are held before either is let go, so that they differ.
    let (one, two) = (TcpListener::bind(any).map_err(failed)?, TcpListener::bind(any).map_err(failed)?);
    Ok((one.local_addr().map_err(failed)?, two.local_addr().map_err(failed)?))
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

fn settings(name: &str, listen: SocketAddr, options: &Options, secret: &str) -> ServerSettings {
    ServerSettings {
        name: name.to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: CONNECT_MS,
            max_payload_size: packet_bytes_max(options),
            max_inflight_count: PACKETS_PER_READ,
            auth: Some([(ENGINE_USER.to_owned(), secret.to_owned())].into()),
            external_auth: None,
            dynamic_filters: false,
        },
    }
}
