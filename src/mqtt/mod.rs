//! The client link: connect, resubscribe, windowed resync, manual acks, publish until acknowledged.
//!
//! - [`Inbound`] brings specs and commands in: a persistent session under a fixed client id, acknowledged by the one
//!   who stored the message.
//! - [`Outbound`] takes reports out: a clean start, the will, several publishes on the way at once.
//! - [`Session`] serves a person: connect, ask, leave. [`confirm_absent`] and [`probe_replay`] are some too.
//!
//! Invariants: each connection has an `EventLoop` of its own, so nothing is carried from one to the next behind our
//! back (rumqttc would replay or drop what was on the way without a word); one task owns its `poll()`, which is dropped
//! with the connection and never in the middle of one that goes on. A subscription counts from its SUBACK, a publish
//! from its PUBACK. rumqttc lets a publish overtake a subscription that was asked for earlier, so the one waits for the
//! acknowledgement of the other. Every wait has a deadline.

mod confirm;
mod error;
mod inbound;
mod link;
mod message;
mod options;
mod outbound;
mod probe;
mod resync;
mod session;
mod window;

pub use confirm::{Presence, confirm_absent};
pub use error::Error;
pub use inbound::{Inbound, InboundHandle, KnownInventory};
pub use link::LinkState;
pub use message::{Delivery, Message, Properties, Received};
pub use options::{Credentials, Identity, Options, Server, Tls};
pub use outbound::{Outbound, OutboundHandle, Unacknowledged, Will};
pub use probe::{Probe, Retention, probe_replay, probe_retention};
pub use resync::Resync;
pub use session::{BrokerLimits, Session, Subscription};
pub use window::AckToken;
