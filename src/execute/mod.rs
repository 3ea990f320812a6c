//! Looking at the world and doing single steps, on this host and, through [`crate::world::work::Remote`], on others.
//!
//! The reconciler looks and acts through it where this host leads, and the agent where another one does: so a step is done
//! the same way wherever it is asked for.
//!
//! Architecture invariants: nothing is decided here, neither what is to be done nor whether; what could not be looked at
//! is `Unknown` with the reason, never `Absent` (rule 2).

mod act;
mod leftovers;
mod look;
mod patroni_config;
mod place;
mod swarm_words;
mod vitals;

pub use act::{Ended, Task, Waits, run};
pub use look::{look, refresh};
pub use place::{answer, ask, unexpected};
pub use vitals::vitals;
