//! The embedded broker: rumqttd on loopback, and the front that people connect to.
//!
//! rumqttd (the *engine*) has one protocol version per listener and panics where
//! the versions meet; it has no access control, a TLS handshake that blocks its
//! accept loop, and cannot be stopped or told to listen on a port it was handed.
//! The front mends what can be mended from outside:
//!
//! - one port for MQTT 3.1.1 and 5, with or without TLS (current rustls),
//!   every handshake under a deadline and the number of connections bounded;
//! - MQTT 3.1.1 itself: the engine panics when it has to send a message with
//!   properties to such a client, so it runs with MQTT 5 only, and the front
//!   translates packet by packet (`translate`);
//! - packets at which the engine panics, or at which its router throws a client
//!   out: the front ends that connection instead (`translate` says which). One
//!   panic is not one client's loss: the next client with the same id poisons a
//!   lock of the engine, and nobody gets in any more. So besides the front logs
//!   in to the engine every 5 s, and [`Broker::run`] ends with
//!   [`Error::EngineStopped`] when that fails three times: never silently;
//! - user names and passwords, checked before a byte reaches the engine. The
//!   engine itself asks for a secret of this process, so that another user of
//!   the machine cannot walk around the front to the engine's loopback ports.
//!   The process itself comes in by [`Broker::private_access`];
//! - keep-alive 0, which the engine refuses (it becomes 65,535 s, and MQTT 5
//!   clients are told);
//! - topic aliases, which the engine delivers as empty topics to wildcard
//!   subscriptions (the client's offer of aliases is taken out of its CONNECT);
//! - client ids that the engine drops without an answer (`+ $ # /`), which get
//!   the right CONNACK;
//! - a client that comes back while its old connection lingers: the engine mixes
//!   the two up and throws out the new one, so the front lets the old one end
//!   first, and tells an MQTT 5 client that it was replaced (reason 0x8E).
//!
//! What stays, and belongs in every operator's head:
//!
//! - there are no access lists: whoever may connect may read and write every
//!   topic. A fleet that needs publishers, controllers and watchers apart runs
//!   mosquitto with `broker/mosquitto/`;
//! - nothing is kept on disk: a restart forgets retained messages and sessions
//!   (pgmoor publishes its own again from its store);
//! - a *non-retained* empty publish deletes the retained message of its topic;
//! - a wildcard subscription at QoS 1 replays at most 100 retained messages,
//!   at QoS 0 all of them; a re-subscribe of a live session replays none
//!   (unsubscribe first);
//! - receive maximum, session expiry, no-local, retain handling and
//!   retain-as-published of MQTT 5 are ignored: a session lives as long as the process when its client
//!   connects with clean start off, and not at all otherwise;
//! - an UNSUBSCRIBE with several filters is acknowledged once for each, and one
//!   for a filter that this connection did not subscribe to (a resumed session
//!   must subscribe again first) not at all;
//! - acknowledgements out of order end the connection, and so do subscriptions
//!   to `$` topics, shared ones (`$share/...`) included: a shared subscription
//!   of a session that ends with messages under way kills the engine's router;
//! - a client that says good-bye and has a will keeps the engine busy with a
//!   ping first (see `splice`). A flood of two hundred messages in the instant
//!   between that answer and the DISCONNECT could still end the router, which
//!   ends the broker, and loudly;
//! - messages at QoS 2 that a client does not release are kept in memory without
//!   a bound for as long as it is connected, and a reconnect forgets them;
//! - a retained message with an expiry loses its age anew at every subscription
//!   that matches it, so it is gone earlier than it says;
//! - the engine remembers every client id it ever saw (some hundred bytes each):
//!   clients that come back should have an id of their own;
//! - per subscription filter the engine keeps at most 4 MiB of messages: a
//!   subscriber further behind than that skips to the oldest that is left;
//! - rumqttd has no stop. [`Broker::run`] closes every listener and connection
//!   when it is told to stop, but the routing thread and the memory it holds
//!   live until the process ends: start one broker per process.
//!
//! rumqttd logs ordinary disconnections as errors. [`LOG_DIRECTIVE`] is the
//! filter directive that a subscriber should carry by default.

mod engine;
mod error;
mod front;
mod handshake;
mod options;
mod passwords;
mod seats;
mod splice;
mod tls;
mod translate;
mod wire;

pub use error::Error;
pub use front::{Broker, PrivateAccess};
pub use options::{Options, TlsFiles};
pub use passwords::{PasswordFile, drawn_password_line, password_line};

/// The `tracing` filter directive that silences the engine, which reports every
/// dropped client as an error; the front reports what matters itself.
pub const LOG_DIRECTIVE: &str = "rumqttd=off";
