//! An image goes from this host to another: the port is open only from the offer until the other host has shown its
//! ticket, or until the offer ends.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::server::TlsStream;

use super::super::World;
use super::take::{IMAGE_BYTES_MAX, has_room};
use super::{Depot, Here};
use crate::drivers::{Error, Result, TlsIdentity, handover};
use crate::model::Secret;
use crate::runtime::chain::chain;

/// How long the other host has to come: it is told at once, unless its answer gets lost.
const OFFER_LIMIT: Duration = Duration::from_secs(60);
/// How long the port may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// How long a hand-over may take in all.
const GIVE_LIMIT: Duration = Duration::from_secs(3600);
/// So many may be about to show who they are; who comes then waits in the system's queue.
const GUESTS_MAX: usize = 8;

/// An image that is offered.
#[derive(Debug)]
pub(super) struct Gift {
    image: String,
    ticket: Secret,
    /// Where the port is told, or why there is none.
    opened: oneshot::Sender<Result<u16>>,
}

impl Depot {
    /// Offers an image to who has the ticket: gives the port, and what the image takes on the disk.
    ///
    /// # Errors
    /// The image is not here, or is another one; this host is at another hand-over; the port cannot be opened.
    pub async fn offer(&self, world: &World, image: &str, id: &str, ticket: &Secret) -> Result<(u16, u64)> {
        let failed = |why: &str| Error::Failed { act: format!("hand image {image} over"), why: why.to_owned() };
        let Some(seen) = world.drivers.swarm.image(image).await? else {
            return Err(failed("it is not on this host any more"));
        };
        let here = Here { id: seen.id, bytes: seen.bytes };
        if here.id != id {
            return Err(failed("it is another one by now"));
        }
        if here.bytes > IMAGE_BYTES_MAX {
            return Err(failed("it is larger than what is handed over"));
        }
        has_room(world, here.bytes).await?;
        {
            let mut state = self.state();
            match &state.giving {
                // The same once more: its answer got lost.
                Some(giving) if giving == ticket => return Ok((self.options.port, here.bytes)),
                Some(_) => return Err(failed("another one is being handed over")),
                None => state.giving = Some(ticket.clone()),
            }
        }
        let (opened, port) = oneshot::channel();
        let gift = Gift { image: image.to_owned(), ticket: ticket.clone(), opened };
        if self.gifts.try_send(gift).is_err() {
            self.state().giving = None;
            return Err(failed("nobody hands images over now"));
        }
        match tokio::time::timeout(OPEN_LIMIT, port).await {
            Ok(Ok(port)) => Ok((port?, here.bytes)),
            Ok(Err(_)) | Err(_) => {
                self.state().giving = None;
                Err(failed("its port was not opened in time"))
            }
        }
    }

    /// Hands it over.
    pub(super) async fn give(&self, world: &World, gift: Gift) {
        let Gift { image, ticket, opened } = gift;
        let done = match open(world, self.options.port).await {
            Ok((listener, port)) => {
                // Who asked may have given up; the other host does not come then.
                opened.send(Ok(port)).ok();
                let giving = hand_over(world, listener, &image, &ticket);
                match tokio::time::timeout(GIVE_LIMIT, giving).await {
                    Ok(done) => done,
                    Err(_late) => {
                        let why = format!("it was not done within {} s", GIVE_LIMIT.as_secs());
                        Err(Error::Failed { act: format!("hand image {image} over"), why })
                    }
                }
            }
            Err(error) => {
                opened.send(Err(error.clone())).ok();
                Err(error)
            }
        };
        self.state().giving = None;
        match done {
            Ok(()) => tracing::info!(image, "an image was handed over"),
            Err(error) => tracing::warn!(image, error = chain(&error), "an image was not handed over"),
        }
    }
}

/// Listens on this host's own address; where that is not one of the machine's (it stands before it), on all.
async fn open(world: &World, port: u16) -> Result<(TcpListener, u16)> {
    let own = world.facts.advertise_address;
    let all = if own.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let failed = |error: std::io::Error| Error::Failed {
        act: format!("listen on port {port} of host {}", world.facts.host),
        why: error.to_string(),
    };
    let listener = match TcpListener::bind(SocketAddr::from((own, port))).await {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            TcpListener::bind(SocketAddr::new(all, port)).await
        }
        listener => listener,
    };
    let listener = listener.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}

async fn hand_over(world: &World, listener: TcpListener, image: &str, ticket: &Secret) -> Result<()> {
    let identity = handover::identity(&world.authority(), &world.facts.host, world.now_s())?;
    let coming = guest(listener, &identity, ticket);
    let Ok(stream) = tokio::time::timeout(OFFER_LIMIT, coming).await else {
        let why = format!("the other host did not come within {} s", OFFER_LIMIT.as_secs());
        return Err(Error::Failed { act: format!("hand image {image} over"), why });
    };
    let mut stream = stream?;
    let pieces = world.drivers.swarm.export_image(image).await?;
    handover::send(&mut stream, pieces, |_| {}).await
}

/// Waits for the one with the ticket. Others are sent away; the port is closed afterwards.
async fn guest(listener: TcpListener, identity: &TlsIdentity, ticket: &Secret) -> Result<TlsStream<TcpStream>> {
    let mut guests = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(admitted) = guests.next(), if !guests.is_empty() => match admitted {
                Ok(stream) => return Ok(stream),
                Err(error) => tracing::warn!(%error, "somebody came for an image who may not have it"),
            },
            came = listener.accept(), if guests.len() < GUESTS_MAX => match came {
                Ok((stream, _address)) => guests.push(handover::admit(stream, identity, ticket)),
                Err(error) => {
                    return Err(Error::Failed { act: "let a host take an image".to_owned(), why: error.to_string() });
                }
            },
        }
    }
}
