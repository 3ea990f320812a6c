//! Images for all hosts: the host that leads asks every host which images it has, has those pulled that are missing, or
//! handed over by a host that has them, and tells when one arrived.
//!
//! Invariants: an image comes from a host whose image has the id that this host runs, else that of the first host that has
//! one; a host that does not answer holds up no other; one order for a host at a time, and nothing rests on an order being
//! remembered: the next round sees what is missing then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::judge;
use super::ledger::say;
use super::service::{Reconciler, Shared};
use crate::contract::documents::{Event, EventData, EventType, Time};
use crate::contract::topics::Topic;
use crate::drivers::{self, Result, handover};
use crate::execute::{ask, unexpected};
use crate::model::{HostId, Record, Scope};
use crate::runtime::bell::Bell;
use crate::runtime::chain::chain;
use crate::store::{self, Rows as _};
use crate::world::World;
use crate::world::images::{At, Giver, Here, Order};
use crate::world::work::{Question, Told};

/// Time between two rounds while an image is on its way.
const BUSY: Duration = Duration::from_secs(2);
/// The same while one is missing that nobody has, or that did not get there.
const MISSING: Duration = Duration::from_secs(10);
/// The same while every host has all it needs.
const IDLE: Duration = Duration::from_secs(30);

/// Who sees to it.
pub struct Images {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}

impl Reconciler {
    /// Who sees to it that every host has the images that it needs.
    #[must_use]
    pub fn images(&self) -> Images {
        Images { shared: Arc::clone(&self.shared) }
    }
}

/// What every host said in this round, and was asked about.
pub(super) type Board = BTreeMap<HostId, At>;

impl Images {
    /// Sees to it until told to stop. Rings for whoever waited for an image.
    pub async fn run(&self, changed: Bell, stop: CancellationToken) {
        let world = &self.shared.world;
        if world.hosts.iter().count() < 2 && !world.images.has_registry() {
            // Nobody could hand anything over.
            return stop.cancelled().await;
        }
        world.images.keep_board();
        let mut before = Board::new();
        while !stop.is_cancelled() {
            let round = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                round = self.round(&mut before, &changed) => round,
            };
            let pause = round.unwrap_or_else(|error| {
                tracing::warn!(error = chain(&error), "images could not be looked after now");
                MISSING
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = world.images.woken() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round. Gives the pause until the next.
    pub(super) async fn round(
        &self,
        before: &mut Board,
        changed: &Bell,
    ) -> std::result::Result<Duration, store::Error> {
        let world = &self.shared.world;
        let records = self.shared.store.read(|reader| reader.all_records())?;
        let mut board = Board::new();
        let asks = self.wanted(records.values());
        let mut asks: FuturesUnordered<_> = asks.into_iter().map(|(host, images)| asked(world, host, images)).collect();
        while let Some((host, answer)) = asks.next().await {
            match answer {
                Ok(at) => {
                    world.images.note(&host, Some(at.clone()));
                    board.insert(host, at);
                }
                Err(error) => {
                    tracing::debug!(%host, %error, "a host does not say which images it has");
                    world.images.note(&host, None);
                }
            }
        }
        for (host, at) in &board {
            let was = before.get(host);
            let lacked = |image: &&String| {
                was.is_some_and(|was| was.asked.contains(*image) && !was.present.contains_key(*image))
            };
            for image in at.present.keys().filter(lacked) {
                self.arrived(host, image, records.values(), changed).await?;
            }
        }
        // What a host was not asked about this time is remembered of it: a host that was silent for a moment, too.
        before.extend(board.clone());
        Ok(self.supply(&board).await)
    }

    /// Which images every host needs: those of the catalogue, and those that specs pin for it.
    fn wanted<'a>(&self, records: impl Iterator<Item = &'a Record>) -> BTreeMap<HostId, BTreeSet<String>> {
        let (world, catalogue) = (&self.shared.world, &self.shared.options.catalogue);
        let all: BTreeSet<String> =
            catalogue.postgres.iter().map(|image| &image.image).chain([&catalogue.etcd.image]).cloned().collect();
        let hosts = world.hosts.of(&world.record.get());
        let mut wanted: BTreeMap<HostId, BTreeSet<String>> =
            hosts.iter().map(|facts| (facts.host.clone(), all.clone())).collect();
        let pins = records.filter(|record| record.images.values().any(|image| !all.contains(image)));
        for (host, image) in pins.flat_map(|record| self.needed(record)) {
            if let Some(images) = wanted.get_mut(&host) {
                images.insert(image);
            }
        }
        wanted
    }

    /// Which images a database needs on which hosts.
    fn needed(&self, record: &Record) -> Vec<(HostId, String)> {
        let spec = judge::read_back(&self.shared, record).filter(|_| record.tombstone.is_none());
        let nodes = spec.into_iter().flat_map(|spec| spec.nodes);
        nodes
            .flat_map(|node| {
                let image = record.images.get(node.name.as_str()).unwrap_or(&node.image).clone();
                node.hosts.into_iter().map(move |host| (host, image.clone()))
            })
            .collect()
    }

    /// An image came to a host: whoever waited for it hears, and its databases' events tell.
    async fn arrived<'a>(
        &self,
        host: &HostId,
        image: &str,
        records: impl Iterator<Item = &'a Record>,
        changed: &Bell,
    ) -> std::result::Result<(), store::Error> {
        let shared = &self.shared;
        tracing::info!(%host, image, "the image arrived");
        changed.ring(Scope::Fleet);
        let waited = records.filter(|record| record.images.values().any(|needed| needed == image));
        for record in waited {
            if !self.needed(record).contains(&(host.clone(), image.to_owned())) {
                continue;
            }
            changed.ring(Scope::Database(record.database.clone()));
            let (fleet, id, now_ms) =
                (shared.world.fleet.clone(), record.database.clone(), shared.world.clock.now_ms());
            let message = format!("image {image} arrived on host {host}");
            let data = EventData { message, noticed_by: Some(shared.world.facts.host.clone()), ..EventData::default() };
            let name = format!("{now_ms}-image-{host}");
            let event = Event::new(&fleet, &id, name, EventType::ImageArrived, Time::from_ms(now_ms), data);
            let event = event.about(format!("{host}/{image}"));
            let written = shared
                .store
                .write(move |writer| writer.enqueue(&say(&fleet, &Topic::Events(id.clone()), &event, now_ms)));
            written.await?;
        }
        Ok(())
    }

    /// Has each host that lacks an image get one. Gives the pause until the next round.
    async fn supply(&self, board: &Board) -> Duration {
        let (mut pause, mut gives) = (IDLE, BTreeSet::new());
        for (host, at) in board {
            let missing: Vec<&String> = self.missing(at);
            pause = if at.arriving.is_some() {
                pause.min(BUSY)
            } else if missing.is_empty() && at.refused.is_empty() {
                pause
            } else if self.order(board, (host, at), missing, &mut gives).await {
                pause.min(BUSY)
            } else {
                pause.min(MISSING)
            };
        }
        pause
    }

    /// What a host lacks and may be tried: etcd's first, since all stands on it, then what a spec gets by itself.
    fn missing<'a>(&self, at: &'a At) -> Vec<&'a String> {
        let catalogue = &self.shared.options.catalogue;
        let default = catalogue.postgres(&catalogue.default).map(|image| &image.image);
        let is_missing = |image: &&String| !at.present.contains_key(*image);
        let may_come = |image: &&String| at.pulls.contains(*image) || !at.refused.contains_key(*image);
        let mut missing: Vec<&String> = at.asked.iter().filter(is_missing).filter(may_come).collect();
        missing.sort_by_key(|image| (**image != catalogue.etcd.image, Some(*image) != default, *image));
        missing
    }

    /// Orders the first of these that can be got; whether one was.
    async fn order(
        &self,
        board: &Board,
        (host, at): (&HostId, &At),
        missing: Vec<&String>,
        gives: &mut BTreeSet<HostId>,
    ) -> bool {
        let world = &self.shared.world;
        for image in missing {
            let reference = self.reference(board, image);
            let id = reference.map(|here| here.id.clone());
            let giver = if at.pulls.contains(image) {
                None
            } else {
                let Some(reference) = reference else { continue };
                let Some(giver) = self.giver(board, host, (image, reference), gives).await else { continue };
                Some(giver)
            };
            let order = Order { image: image.clone(), id, giver };
            match ask(world, host, Question::TakeImage { order }).await {
                Ok(Told::Takes) => return true,
                Ok(told) => tracing::warn!(%host, error = %unexpected(host, &told), "an image was not ordered"),
                Err(error) => tracing::info!(%host, image, %error, "an image was not ordered"),
            }
            return false;
        }
        false
    }

    /// The image that all hosts shall have under a name: this host's, else that of the first host that has it.
    fn reference<'a>(&self, board: &'a Board, image: &str) -> Option<&'a Here> {
        let own = board.get(&self.shared.world.facts.host).and_then(|at| at.present.get(image));
        own.or_else(|| board.values().find_map(|at| at.present.get(image)))
    }

    /// A host that hands an image over now. One is at it once in a round.
    async fn giver(
        &self,
        board: &Board,
        to: &HostId,
        (image, reference): (&str, &Here),
        gives: &mut BTreeSet<HostId>,
    ) -> Option<Giver> {
        let world = &self.shared.world;
        let has = |at: &At| at.present.get(image).is_some_and(|here| here.id == reference.id);
        let from: Vec<&HostId> =
            board.iter().filter(|(host, at)| *host != to && has(at)).map(|(host, _)| host).collect();
        for host in from {
            if gives.contains(host) {
                continue;
            }
            match self.offered(host, image, reference).await {
                Ok(giver) => {
                    world.images.offers(to, image, None);
                    gives.insert(host.clone());
                    return Some(giver);
                }
                Err(error) => {
                    tracing::info!(%host, image, %error, "the image is not handed over now");
                    world.images.offers(to, image, Some(error.to_string()));
                }
            }
        }
        None
    }

    async fn offered(&self, host: &HostId, image: &str, reference: &Here) -> Result<Giver> {
        let world = &self.shared.world;
        let ticket = handover::ticket()?;
        let question =
            Question::GiveImage { image: image.to_owned(), id: reference.id.clone(), ticket: ticket.clone() };
        let told = ask(world, host, question).await?;
        let Told::Gives { port, bytes } = told else { return Err(unexpected(host, &told)) };
        let address = world.hosts.get(host).map(|facts| facts.advertise_address);
        let address = address.ok_or_else(|| drivers::Error::NotFound { act: format!("find host {host}") })?;
        Ok(Giver { host: host.clone(), address, port, ticket, bytes })
    }
}

async fn asked(world: &World, host: HostId, images: BTreeSet<String>) -> (HostId, Result<At>) {
    let answer = match ask(world, &host, Question::Images { images }).await {
        Ok(Told::Images { at }) => Ok(at),
        Ok(told) => Err(unexpected(&host, &told)),
        Err(error) => Err(error),
    };
    (host, answer)
}
