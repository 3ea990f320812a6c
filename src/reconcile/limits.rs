//! How much may go on, and go wrong, at a time. From the configuration.

/// The limits of one fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Databases on one host that may be restarted or replaced at a time; at least 1.
    pub disruptions_per_host: u32,
    /// The same in the whole fleet; at least 1.
    pub disruptions_per_fleet: u32,
    /// After steps of so many databases failed in a row nothing new is begun until a person says go on; at least 1.
    pub halt_after: u32,
}

impl Default for Limits {
    fn default() -> Self {
        // Two: a host of the edge has few processors, and a start takes all of one. Ten: more than a bad disk or one bad
        // spec reaches, fewer than a person would want to see broken by a change of a template.
        Self { disruptions_per_host: 2, disruptions_per_fleet: 4, halt_after: 10 }
    }
}
