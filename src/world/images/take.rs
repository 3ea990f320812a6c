//! An image comes to this host: pulled, or handed over by another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

use super::super::World;
use super::{Depot, Giver, Order, Refused};
use crate::drivers::{Error, Result, handover};
use crate::runtime::chain::chain;

/// How long another host may take to be connected to.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long an image may take in all, however it comes.
const TAKE_LIMIT: Duration = Duration::from_secs(3600);
/// The largest image that is taken, in bytes.
pub(super) const IMAGE_BYTES_MAX: u64 = 32 << 30;
/// What is left free on the disk besides the image, in bytes.
pub(super) const LEFT_FREE_BYTES: u64 = 512 << 20;

impl Depot {
    /// Does an order, and remembers why where it does not work.
    pub(super) async fn take(&self, world: &World, order: Order) {
        let done = match tokio::time::timeout(TAKE_LIMIT, self.get(world, &order)).await {
            Ok(done) => done,
            Err(_late) => {
                let why = format!("it did not get here within {} s", TAKE_LIMIT.as_secs());
                Err(Error::Failed { act: format!("get image {}", order.image), why })
            }
        };
        let now = world.clock.monotonic();
        let mut state = self.state();
        state.arriving = None;
        match done {
            Ok(()) => {
                state.got_any = true;
                tracing::info!(image = order.image, pulled = order.giver.is_none(), "the image is here");
            }
            Err(error) => {
                let why = chain(&error);
                tracing::warn!(image = order.image, error = why, "the image did not get here");
                let refused = if order.giver.is_some() { &mut state.refused } else { &mut state.unpulled };
                let refusal = Refused::after(refused.get(&order.image), why, now);
                refused.insert(order.image, refusal);
            }
        }
    }

    async fn get(&self, world: &World, order: &Order) -> Result<()> {
        let counted = self.state().arriving.as_ref().map(|arriving| Arc::clone(&arriving.bytes)).unwrap_or_default();
        match &order.giver {
            None => self.pull(world, &order.image).await?,
            Some(giver) => receive(world, giver, counted).await?,
        }
        let act = || format!("get image {}", order.image);
        let swarm = &world.drivers.swarm;
        let Some(seen) = swarm.image(&order.image).await? else {
            return Err(Error::Failed { act: act(), why: "what came is another image".to_owned() });
        };
        match &order.id {
            Some(id) if *id != seen.id => {
                swarm.untag_image(&order.image).await?;
                let why = format!("what came is {}, and the other hosts have {id} under this name", seen.id);
                Err(Error::Failed { act: act(), why })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Pulls an image: by its name behind the registry's prefix, where there is one, and it gets its own name then.
    ///
    /// # Errors
    /// The registry does not have it, or does not answer.
    pub async fn pull(&self, world: &World, image: &str) -> Result<()> {
        let swarm = &world.drivers.swarm;
        let Some(prefix) = &self.options.registry else { return swarm.pull(image).await };
        let there = format!("{prefix}{image}");
        swarm.pull(&there).await?;
        swarm.tag_image(&there, image).await?;
        match swarm.untag_image(&there).await {
            // One name more does no harm.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Takes an image from another host.
async fn receive(world: &World, giver: &Giver, counted: Arc<AtomicU64>) -> Result<()> {
    // Docker keeps what comes beside what it makes of it.
    has_room(world, giver.bytes.saturating_mul(2)).await?;
    let act = || format!("take an image from host {}", giver.host);
    let unreachable = |why: String| Error::Unreachable { act: act(), why };
    let at = (giver.address, giver.port);
    let stream = match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(at)).await {
        Ok(stream) => stream.map_err(|error| unreachable(format!("{}:{}: {error}", giver.address, giver.port)))?,
        Err(_late) => {
            let why = format!("{}:{} is not reached within {} s", giver.address, giver.port, CONNECT_LIMIT.as_secs());
            return Err(unreachable(why));
        }
    };
    let identity = handover::identity(&world.authority(), &world.facts.host, world.now_s())?;
    let bytes_max = giver.bytes.saturating_mul(2).saturating_add(LEFT_FREE_BYTES).min(IMAGE_BYTES_MAX);
    let told = move |bytes| {
        counted.fetch_add(bytes, Ordering::Relaxed);
    };
    let image = handover::take(stream, (&identity, &giver.host), &giver.ticket, bytes_max, told).await?;
    world.drivers.swarm.import_image(image).await
}

/// Whether Docker's disk has room for so much.
///
/// # Errors
/// It has not.
pub(super) async fn has_room(world: &World, bytes: u64) -> Result<()> {
    let Ok(engine) = world.drivers.swarm.engine().await else { return Ok(()) };
    let Ok(disk) = world.drivers.host.disk(&engine.root_dir).await else { return Ok(()) };
    let needed = bytes.saturating_add(LEFT_FREE_BYTES);
    if disk.free_bytes < needed {
        let why = format!(
            "no space left on device: it needs {} MB on the disk of {}, and {} MB are free",
            needed / super::MB,
            engine.root_dir,
            disk.free_bytes / super::MB
        );
        return Err(Error::Failed { act: format!("find room for an image on host {}", world.facts.host), why });
    }
    Ok(())
}
