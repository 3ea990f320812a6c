//! Images and hosts: which host has which image, what is on its way to one, and why one is missing.
//!
//! A host looks, pulls, hands over and takes as it is asked ([`Depot::run`]); the one that leads asks, and notes on its
//! board what each host said. Invariants: a host takes one image at a time and hands over one at a time, both within a
//! limit of time and size; an image that came is the one that was asked for, by its id, or it loses its name again.

mod give;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::World;
use crate::drivers::{Error, Result};
use crate::model::secret::clear;
use crate::model::{HostId, Secret};
use crate::runtime::backoff::Schedule;
use give::Gift;

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What stands before an image's name in the registry, with the slash at its end; none: no registry is asked first.
    pub registry: Option<String>,
    /// The port at which this host hands an image over, while it does.
    pub port: u16,
}

/// The port where nobody says otherwise: between Swarm's and etcd's.
pub const PORT: u16 = 2378;

impl Default for Options {
    fn default() -> Self {
        Self { registry: None, port: PORT }
    }
}

/// An image on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// Docker's id: the same where the image is the same.
    pub id: String,
    /// What it takes on the disk, in bytes.
    pub bytes: u64,
}

/// An image on its way to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Which.
    pub image: String,
    /// The host that hands it over; none: it is pulled.
    pub from: Option<HostId>,
    /// Bytes that came.
    pub bytes: u64,
    /// Of so many, about; 0: not known.
    pub of_bytes: u64,
}

/// How the images stand on a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct At {
    /// Those that it was asked about.
    pub asked: BTreeSet<String>,
    /// Those of them that it has.
    pub present: BTreeMap<String, Here>,
    /// What is on its way.
    pub arriving: Option<Arrival>,
    /// Those that did not get there, and why; they are not tried again yet.
    pub refused: BTreeMap<String, String>,
    /// Those that it would pull.
    pub pulls: BTreeSet<String>,
}

/// The host that hands an image over, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Giver {
    /// Which.
    pub host: HostId,
    /// Where.
    pub address: IpAddr,
    /// At which port.
    pub port: u16,
    /// What it must be shown.
    #[serde(with = "clear")]
    pub ticket: Secret,
    /// What the image takes on its disk, in bytes.
    pub bytes: u64,
}

/// An image that a host is to get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which.
    pub image: String,
    /// The id that it must have; none: whatever the registry has.
    pub id: Option<String>,
    /// Who hands it over; none: it is pulled.
    pub giver: Option<Giver>,
}

/// The pause before an image that did not get there is tried again, at first and at most.
const AGAIN: Schedule = Schedule { first: Duration::from_secs(15), max: Duration::from_secs(900) };

/// Why something did not work, and until when it is not tried again.
#[derive(Debug, Clone)]
struct Refused {
    why: String,
    times: u32,
    until: Duration,
}

#[derive(Debug)]
struct Arriving {
    image: String,
    from: Option<HostId>,
    bytes: Arc<AtomicU64>,
    of_bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    arriving: Option<Arriving>,
    /// The ticket of the hand-over that this host is at.
    giving: Option<Secret>,
    /// By image: those that did not get here, and those that could not be pulled.
    refused: BTreeMap<String, Refused>,
    unpulled: BTreeMap<String, Refused>,
    /// What this host was last asked about.
    asked: BTreeSet<String>,
    /// What the hosts said, where this host leads; none: it is not known of that host.
    board: BTreeMap<HostId, At>,
    /// Why nobody hands an image over to a host now.
    no_offer: BTreeMap<(HostId, String), String>,
    /// Somebody keeps the board.
    kept: bool,
    /// An image came since this depot was made.
    got_any: bool,
}

/// The images of this host and, where it leads, what is known of those of the others.
#[derive(Debug)]
pub struct Depot {
    options: Options,
    state: Mutex<State>,
    orders: mpsc::Sender<Order>,
    gifts: mpsc::Sender<Gift>,
    inbox: Mutex<Option<Inbox>>,
    /// Wakes who keeps the board.
    wake: Notify,
}

#[derive(Debug)]
struct Inbox {
    orders: mpsc::Receiver<Order>,
    gifts: mpsc::Receiver<Gift>,
}

impl Default for Depot {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Depot {
    /// A depot in which nothing happens until it runs.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let ((orders, to_take), (gifts, to_give)) = (mpsc::channel(1), mpsc::channel(1));
        let inbox = Mutex::new(Some(Inbox { orders: to_take, gifts: to_give }));
        Self { options, state: Mutex::default(), orders, gifts, inbox, wake: Notify::new() }
    }

    /// Takes and hands over what this host is asked to, until told to stop. What is on its way then breaks off, and is
    /// begun again when it is asked for.
    pub async fn run(&self, world: &World, stop: CancellationToken) {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Inbox { mut orders, mut gifts }) = inbox else {
            tracing::error!("the images of this host are looked after already");
            return stop.cancelled().await;
        };
        let taking = async {
            while let Some(order) = orders.recv().await {
                self.take(world, order).await;
            }
        };
        let giving = async {
            while let Some(gift) = gifts.recv().await {
                self.give(world, gift).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _never = futures_util::future::join(taking, giving) => {}
        }
        *self.inbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(Inbox { orders, gifts });
        let mut state = self.state();
        (state.arriving, state.giving) = (None, None);
    }

    /// Whether a registry is asked before other hosts are.
    #[must_use]
    pub fn has_registry(&self) -> bool {
        self.options.registry.is_some()
    }

    /// Whether an image came to this host, by us, since the world was looked at.
    #[must_use]
    pub fn has_got_any(&self) -> bool {
        self.state().got_any
    }

    /// What is on its way to this host.
    #[must_use]
    pub fn arriving(&self) -> Option<Arrival> {
        self.state().arriving.as_ref().map(Arriving::seen)
    }

    /// The images that this host was asked about, and of each that did not get here why.
    #[must_use]
    pub fn asked(&self) -> BTreeMap<String, Option<String>> {
        let state = self.state();
        let why = |image: &String| state.refused.get(image).or_else(|| state.unpulled.get(image));
        state.asked.iter().map(|image| (image.clone(), why(image).map(|refused| refused.why.clone()))).collect()
    }

    /// How the images that are asked about stand on this host.
    ///
    /// # Errors
    /// Docker does not answer.
    pub async fn look(&self, world: &World, asked: &BTreeSet<String>) -> Result<At> {
        let mut present = BTreeMap::new();
        for image in asked {
            if let Some(seen) = world.drivers.swarm.image(image).await? {
                present.insert(image.clone(), Here { id: seen.id, bytes: seen.bytes });
            }
        }
        let now = world.clock.monotonic();
        let mut state = self.state();
        state.asked.clone_from(asked);
        state.refused.retain(|image, _| !present.contains_key(image));
        state.unpulled.retain(|image, _| !present.contains_key(image));
        let held = |refused: &BTreeMap<String, Refused>, image: &String| {
            refused.get(image).is_some_and(|refused| refused.until > now)
        };
        let refused = state.refused.iter().filter(|(image, _)| held(&state.refused, image));
        let pulls = asked.iter().filter(|image| !present.contains_key(*image) && !held(&state.unpulled, image));
        Ok(At {
            asked: asked.clone(),
            arriving: state.arriving.as_ref().map(Arriving::seen),
            refused: refused.map(|(image, refused)| (image.clone(), refused.why.clone())).collect(),
            pulls: pulls.filter(|_| self.has_registry()).cloned().collect(),
            present,
        })
    }

    /// Takes an order; it is done by whoever runs the depot.
    ///
    /// # Errors
    /// The host is at another one.
    pub fn order(&self, order: Order) -> Result<()> {
        let act = || format!("get image {}", order.image);
        let mut state = self.state();
        if let Some(arriving) = &state.arriving {
            // The same order once more: its answer got lost.
            return if arriving.image == order.image {
                Ok(())
            } else {
                Err(Error::Failed { act: act(), why: format!("image {} is on its way here", arriving.image) })
            };
        }
        state.arriving = Some(Arriving {
            image: order.image.clone(),
            from: order.giver.as_ref().map(|giver| giver.host.clone()),
            bytes: Arc::default(),
            of_bytes: order.giver.as_ref().map_or(0, |giver| giver.bytes),
        });
        self.orders.try_send(order.clone()).map_err(|error| {
            state.arriving = None;
            Error::Failed { act: act(), why: error.to_string() }
        })
    }

    /// From now on the board is kept: what does not stand on it is not known.
    pub fn keep_board(&self) {
        self.state().kept = true;
    }

    /// Notes what a host said; none: it does not answer.
    pub fn note(&self, host: &HostId, at: Option<At>) {
        match at {
            Some(at) => self.state().board.insert(host.clone(), at),
            None => self.state().board.remove(host),
        };
    }

    /// Notes why nobody hands an image over to a host now; none: somebody does.
    pub fn offers(&self, to: &HostId, image: &str, why_not: Option<String>) {
        let (mut state, key) = (self.state(), (to.clone(), image.to_owned()));
        match why_not {
            Some(why) => state.no_offer.insert(key, why),
            None => state.no_offer.remove(&key),
        };
    }

    /// Notes that a host said to lack an image which another one has, and wakes who keeps the board.
    pub fn note_missing(&self, host: &HostId, image: &str, from: &HostId) {
        let mut state = self.state();
        let has = state.board.entry(from.clone()).or_default();
        has.asked.insert(image.to_owned());
        has.present.entry(image.to_owned()).or_insert_with(|| Here { id: String::new(), bytes: 0 });
        let at = state.board.entry(host.clone()).or_default();
        at.asked.insert(image.to_owned());
        at.present.remove(image);
        drop(state);
        self.wake.notify_one();
    }

    /// Waits until somebody found an image missing.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether a host is known to lack an image; none: it has not said yet, or nobody asks.
    #[must_use]
    pub fn lacks(&self, host: &HostId, image: &str) -> Option<bool> {
        let state = self.state();
        let at = state.board.get(host).filter(|at| at.asked.contains(image))?;
        Some(!at.present.contains_key(image))
    }

    /// Whether a host may be given something that needs an image: it has it, or nobody keeps a board.
    #[must_use]
    pub fn may_use(&self, host: &HostId, image: &str) -> bool {
        if !self.state().kept {
            return true;
        }
        self.lacks(host, image) == Some(false)
    }

    /// What is known of an image that a host lacks, as a sentence for people; none: it is not known to lack it.
    #[must_use]
    pub fn why_missing(&self, host: &HostId, image: &str) -> Option<String> {
        let state = self.state();
        let at = state.board.get(host).filter(|at| at.asked.contains(image) && !at.present.contains_key(image))?;
        let elsewhere = state.board.iter().find(|(_, at)| at.present.contains_key(image)).map(|(host, _)| host);
        let why_not = at.refused.get(image).or_else(|| state.no_offer.get(&(host.clone(), image.to_owned())));
        Some(match (&at.arriving, why_not, elsewhere) {
            (Some(arrival), _, _) if arrival.image == image => arrival.words(host),
            (_, Some(why), _) => format!("image {image} is not on host {host}, and did not get there: {why}"),
            (_, None, Some(from)) => {
                format!("image {image} is not on host {host}, and will be handed over from {from}")
            }
            (_, None, None) => format!("image {image} is not on host {host}, nor on any other host that answers"),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arriving {
    fn seen(&self) -> Arrival {
        let came = self.bytes.load(Ordering::Relaxed);
        Arrival {
            image: self.image.clone(),
            from: self.from.clone(),
            // What is written out is a little more than what it takes on the disk.
            bytes: if self.of_bytes == 0 { came } else { came.min(self.of_bytes) },
            of_bytes: self.of_bytes,
        }
    }
}

/// Bytes of a MB, as people count them.
const MB: u64 = 1_000_000;

impl Arrival {
    /// What happens, as a sentence for people.
    #[must_use]
    pub fn words(&self, to: &HostId) -> String {
        let Self { image, from, bytes, of_bytes } = self;
        match from {
            Some(from) => {
                format!(
                    "image {image} is being handed over from {from} to {to} ({} of {} MB)",
                    bytes / MB,
                    of_bytes / MB
                )
            }
            None => format!("image {image} is being pulled on {to}"),
        }
    }
}

impl Refused {
    /// One more of the same, after those before it.
    fn after(before: Option<&Self>, why: String, now: Duration) -> Self {
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let pause = AGAIN.first.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1))).min(AGAIN.max);
        Self { why, times, until: now.saturating_add(pause) }
    }
}

#[cfg(test)]
mod tests;
