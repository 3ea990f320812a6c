//! Which instances pgmoor has interrupted and which of them are not back yet: of one node there must never be two.
//!
//! An update that makes a new container, and a restart, interrupt. Ends do not count, since a delete ends all at once, and
//! neither does what something else interrupts.

use super::engine::Process;
use super::shelf::Key;
use super::state::State;
use super::violation::Violation;

/// What the services of one node begin with; none: it is no instance's.
fn node_of(service: &str) -> Option<&str> {
    service.strip_prefix("postgres-").and_then(|_| service.rsplit_once('-')).map(|(node, _)| node)
}

impl State {
    /// pgmoor interrupts the instance of this service.
    pub(super) fn interrupt(&mut self, service: &str) {
        let Some(node) = node_of(service) else { return };
        let other = self.interrupted.iter().find(|other| *other != service && node_of(other) == Some(node));
        if let Some(other) = other {
            let instances = vec![other.clone(), service.to_owned()];
            self.watch.found(Violation::TwoInstancesInterrupted { instances });
        }
        self.interrupted.insert(service.to_owned());
    }

    /// Something else has interrupted it, or ended it.
    pub(super) fn excuse(&mut self, service: &str) {
        self.interrupted.remove(service);
    }

    /// Those that serve again, as primary or as a replica that streams, are back.
    pub(super) fn step_interrupted(&mut self) {
        if self.interrupted.is_empty() {
            return;
        }
        let back: Vec<String> = self.interrupted.iter().filter(|service| self.is_back(service)).cloned().collect();
        back.iter().for_each(|service| self.excuse(service));
    }

    fn is_back(&self, service: &str) -> bool {
        let mut containers = self.containers.found(&Key::Name(service.to_owned()));
        containers.any(|container| match &container.process {
            Process::Postgres(instance) => {
                container.is_running() && !container.unwanted && instance.serves(self.now_ms)
            }
            Process::Plain | Process::Etcd { .. } => false,
        })
    }
}
