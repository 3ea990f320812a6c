//! Work addressed to this host, and the work that this host, while it leads, addresses to others.
//!
//! Hosts speak over MQTT: `hosts/{host}/work` one way, `hosts/{host}/answers` the other, neither retained. A message may
//! get lost with a connection, so who asks goes on asking until it is answered or its time is up; what changes something
//! stands in the journal before it is begun ([`crate::store::Journal`]), so it is done once.
//!
//! Architecture invariants: nothing is decided here; a host does what the newest lead says and refuses an older one;
//! what is said is sealed for one host, one piece of work and one lead, so nobody without the fleet's key can read it,
//! make it up, or say it again elsewhere.

mod asker;
mod doer;
mod door;
mod envelope;
mod line;
#[cfg(test)]
mod tests;

pub use asker::Asker;
pub use doer::Agent;
pub use door::Door;
pub use envelope::Envelopes;
pub use line::{Heard, Laid, LayLine, Line, Wire};
