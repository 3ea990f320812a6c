//! Rules of the design that somebody broke in this world.

use std::collections::BTreeSet;

use super::World;
use super::state::State;

/// Shorter texts are not looked for: they would be found by chance.
const SECRET_CHARS_MIN: usize = 8;

/// Visible texts remembered at most.
const TEXTS_MAX: usize = 50_000;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Rule 3: a container was started on a directory that another one, running or stopping, has mounted.
    TwoPostgresOnOneDirectory {
        /// The path on the host.
        path: String,
        /// The containers.
        containers: Vec<String>,
    },
    /// Rule 3: a directory was moved or removed while a container had it mounted.
    DirectoryTakenFromContainer {
        /// The path on the host.
        path: String,
        /// The container.
        container: String,
    },
    /// Rule 4: data was removed that had not been moved to the trash.
    DataRemovedWithoutTrash {
        /// The path on the host.
        path: String,
    },
    /// Two instances of one node were interrupted at once.
    TwoInstancesInterrupted {
        /// Their services.
        instances: Vec<String>,
    },
    /// Rule 10: a password stands where everybody can read it.
    SecretExposed {
        /// Where: a service's environment, a label, a config, an etcd key.
        place: String,
    },
    /// Rule 13: an object without a fleet's label was changed or removed.
    ForeignObjectTouched {
        /// Its kind and name.
        object: String,
    },
}

/// What is needed to find violations.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Whether texts are remembered.
    remembers: bool,
    found: BTreeSet<Violation>,
    secrets: BTreeSet<String>,
    visible: BTreeSet<(String, String)>,
}

impl Watch {
    pub(super) fn new(remembers: bool) -> Self {
        Self { remembers, ..Self::default() }
    }

    pub(super) fn found(&mut self, violation: Violation) {
        self.found.insert(violation);
    }

    /// A password that must be seen nowhere.
    pub(super) fn secret(&mut self, text: &str) {
        if self.remembers && text.len() >= SECRET_CHARS_MIN {
            self.secrets.insert(text.to_owned());
        }
    }

    /// A text that everybody can read.
    pub(super) fn visible(&mut self, place: &str, text: &str) {
        if self.remembers && self.visible.len() < TEXTS_MAX {
            self.visible.insert((place.to_owned(), text.to_owned()));
        }
    }

    fn all(&self) -> Vec<Violation> {
        let exposed = self
            .visible
            .iter()
            .filter(|(_, text)| self.secrets.iter().any(|secret| text.contains(secret.as_str())))
            .map(|(place, _)| Violation::SecretExposed { place: place.clone() });
        self.found.iter().cloned().chain(exposed).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl State {
    /// Writes down that an object is touched which carries no fleet's label.
    pub(super) fn check_ours(&mut self, object: &str, labels: &crate::drivers::swarm::Labels) {
        if !labels.contains_key("pgmoor.fleet") {
            self.watch.found(Violation::ForeignObjectTouched { object: object.to_owned() });
        }
    }
}

impl World {
    /// Whether a text holds a password that this world was given.
    #[must_use]
    pub fn holds_secret(&self, text: &str) -> bool {
        self.state().watch.secrets.iter().any(|secret| text.contains(secret.as_str()))
    }

    /// Every rule that was broken so far, in a stable order.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.state().watch.all()
    }
}
