//! Mistakes on purpose: that the simulation can fail is shown by what it finds in them.
//!
//! None of them is in the program. Each is a wrapper around what a daemon is handed: a driver, or its link.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use pgmoor::drivers::fake::World;
use pgmoor::drivers::swarm::{
    ConfigSeen, ContainerSeen, EngineSeen, Event, ImageSeen, ImageStream, Labels, NetworkSeen, ServiceSeen, Swarm,
    SwarmAdmission, TaskSeen,
};
use pgmoor::drivers::{Drivers, Error, Result};
use pgmoor::model::service::ServiceAttributes;

use crate::invariants::Invariant;
use crate::story::Lean;
use crate::{FIRST, SOME, search, story};

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// None.
    None,
    /// No answer of Docker is read as: there is none (rule 2).
    TimeoutIsAbsence,
    /// A service is made again without asking the host who still has its data mounted (rule 3).
    NoMountCheck,
    /// What the broker replays from an older time is taken for news (rule 9).
    ReplayIsNews,
    /// A message is acknowledged when it comes, not when it is on the disk (rule 5).
    AckBeforeCommit,
    /// An acknowledgement that belongs to an earlier connection is let through to this one.
    StaleEpoch,
    /// Nobody listens to what others write on our topics.
    NoGuard,
    /// A host does what an older lead than the newest that it has heard of asks of it.
    StaleLead,
}

/// The drivers of a daemon with a mistake.
pub(crate) fn drivers(world: &World, plant: Plant) -> Drivers {
    let drivers = world.drivers();
    match plant {
        Plant::None
        | Plant::ReplayIsNews
        | Plant::AckBeforeCommit
        | Plant::StaleEpoch
        | Plant::NoGuard
        | Plant::StaleLead => drivers,
        Plant::TimeoutIsAbsence | Plant::NoMountCheck => {
            let swarm = Arc::new(Mistaken { swarm: Arc::clone(&drivers.swarm), plant });
            Drivers { swarm, ..drivers }
        }
    }
}

/// A Docker that is misread.
struct Mistaken {
    swarm: Arc<dyn Swarm>,
    plant: Plant,
}

impl Mistaken {
    fn misread<T: Default>(&self, answer: Result<T>) -> Result<T> {
        match answer {
            Err(Error::Unreachable { .. }) if self.plant == Plant::TimeoutIsAbsence => Ok(T::default()),
            answer => answer,
        }
    }
}

#[async_trait]
impl Swarm for Mistaken {
    async fn engine(&self) -> Result<EngineSeen> {
        self.swarm.engine().await
    }

    async fn admission(&self) -> Result<SwarmAdmission> {
        self.swarm.admission().await
    }

    async fn remove_node(&self, id: &str) -> Result<()> {
        self.swarm.remove_node(id).await
    }

    async fn services(&self, selector: &Labels) -> Result<Vec<ServiceSeen>> {
        self.misread(self.swarm.services(selector).await)
    }

    async fn create_service(&self, attributes: &ServiceAttributes) -> Result<String> {
        self.swarm.create_service(attributes).await
    }

    async fn update_service(&self, id: &str, attributes: &ServiceAttributes) -> Result<()> {
        self.swarm.update_service(id, attributes).await
    }

    async fn remove_service(&self, id: &str) -> Result<()> {
        self.swarm.remove_service(id).await
    }

    async fn tasks(&self, service: &str) -> Result<Vec<TaskSeen>> {
        self.swarm.tasks(service).await
    }

    async fn log(&self, container: &str, lines: u32) -> Result<Vec<String>> {
        self.swarm.log(container, lines).await
    }

    async fn networks(&self, selector: &Labels) -> Result<Vec<NetworkSeen>> {
        self.misread(self.swarm.networks(selector).await)
    }

    async fn free_subnets(&self) -> Result<Option<u64>> {
        self.swarm.free_subnets().await
    }

    async fn find_network(&self, name_or_id: &str) -> Result<Option<NetworkSeen>> {
        self.swarm.find_network(name_or_id).await
    }

    async fn create_network(&self, name: &str, attachable: bool, labels: &Labels) -> Result<String> {
        self.swarm.create_network(name, attachable, labels).await
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        self.swarm.remove_network(id).await
    }

    async fn configs(&self, selector: &Labels) -> Result<Vec<ConfigSeen>> {
        self.misread(self.swarm.configs(selector).await)
    }

    async fn create_config(&self, name: &str, labels: &Labels, data: &[u8]) -> Result<String> {
        self.swarm.create_config(name, labels, data).await
    }

    async fn label_config(&self, seen: &ConfigSeen, labels: &Labels) -> Result<()> {
        self.swarm.label_config(seen, labels).await
    }

    async fn remove_config(&self, id: &str) -> Result<()> {
        self.swarm.remove_config(id).await
    }

    async fn containers(&self, selector: &Labels) -> Result<Vec<ContainerSeen>> {
        self.misread(self.swarm.containers(selector).await)
    }

    async fn containers_mounting(&self, path: &str) -> Result<Vec<ContainerSeen>> {
        let mounting = self.misread(self.swarm.containers_mounting(path).await);
        if self.plant == Plant::NoMountCheck { Ok(Vec::new()) } else { mounting }
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageSeen>> {
        self.swarm.image(reference).await
    }

    async fn pull(&self, reference: &str) -> Result<()> {
        self.swarm.pull(reference).await
    }

    async fn export_image(&self, reference: &str) -> Result<ImageStream> {
        self.swarm.export_image(reference).await
    }

    async fn import_image(&self, image: ImageStream) -> Result<()> {
        self.swarm.import_image(image).await
    }

    async fn tag_image(&self, reference: &str, name: &str) -> Result<()> {
        self.swarm.tag_image(reference, name).await
    }

    async fn untag_image(&self, reference: &str) -> Result<()> {
        self.swarm.untag_image(reference).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        self.swarm.events().await
    }
}

/// Runs seeds until the mistake is found, and says by which promise. A seed that fails without the mistake as well proves
/// nothing about it and does not count.
fn found_by(plant: Plant, lean: Lean, promises: &[Invariant], seeds: u64) {
    let found = search(0..seeds, (plant, lean), FIRST, |seed, outcome| {
        promises.iter().any(|promise| outcome.breaches.contains_key(promise))
            && story::run(seed, Plant::None, lean).breaches.is_empty()
    });
    assert!(!found.is_empty(), "{plant:?} is not found by {promises:?} in {seeds} seeds");
    for (seed, outcome) in found {
        println!("{plant:?} is found in seed {seed}: {:?}", outcome.breaches);
    }
}

#[test]
fn a_timeout_read_as_absence_is_found() {
    found_by(Plant::TimeoutIsAbsence, Lean::Silence, &[Invariant::OnePostgres], 100);
}

#[test]
fn a_service_made_again_without_asking_the_host_is_found() {
    found_by(Plant::NoMountCheck, Lean::Nothing, &[Invariant::OnePostgres], 100);
}

#[test]
fn a_replay_from_an_older_time_taken_for_news_is_found() {
    found_by(Plant::ReplayIsNews, Lean::Rewind, &[Invariant::Converges], 100);
}

#[test]
fn an_acknowledgement_before_the_commit_is_found() {
    found_by(Plant::AckBeforeCommit, Lean::Nothing, &[Invariant::AckedIsDurable], 50);
}

#[test]
fn an_acknowledgement_of_a_stale_epoch_is_found() {
    found_by(Plant::StaleEpoch, Lean::Line, &[Invariant::AckedIsDurable], 100);
}

#[test]
fn foreign_writes_that_nobody_hears_are_found() {
    found_by(Plant::NoGuard, Lean::Meddler, &[Invariant::Converges], 100);
}

#[test]
fn work_for_a_stale_lead_is_found() {
    found_by(Plant::StaleLead, Lean::Fleet, &[Invariant::NewestLead], 100);
}

#[test]
fn what_others_write_on_our_topics_is_restored() {
    let failed = search(0..40, (Plant::None, Lean::Meddler), SOME, |_, outcome| !outcome.breaches.is_empty());
    let failed: Vec<_> = failed.iter().map(|(seed, outcome)| (seed, &outcome.breaches)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
