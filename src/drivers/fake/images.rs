//! Images that go from one in-memory host to another: a name and labels, in so many pieces.

use futures_util::stream::{self, StreamExt as _};

use super::World;
use super::call::{Refusal, System};
use crate::drivers::swarm::{ImageSeen, ImageStream, Labels};
use crate::drivers::{Error, Result};
use crate::model::Digest;

/// What each image takes on the disk.
pub(super) const IMAGE_BYTES: u64 = 64 * 1024;
/// The size of a piece of an image that is written out.
const PIECE_BYTES: usize = 4 * 1024;

/// An image as the engine tells of it: its id follows from its labels, which stand for what is in it.
pub(super) fn seen(reference: &str, labels: &Labels) -> ImageSeen {
    let id = format!("sha256:{}", Digest::of(&(reference, labels)).short());
    ImageSeen { id, bytes: IMAGE_BYTES, labels: labels.clone() }
}

/// Writes an image out: what it is, and nothing behind it until the size is reached.
pub(super) async fn export(world: &World, reference: &str) -> Result<ImageStream> {
    let about = format!("write out image {reference}");
    let labels = world.call(System::Swarm, "swarm.export_image", about.clone(), |state| {
        state.machine()?.images.get(reference).cloned().ok_or(Refusal::NotFound)
    });
    let failed = |error: serde_json::Error| Error::Failed { act: about.clone(), why: error.to_string() };
    let mut bytes = serde_json::to_vec(&(reference, labels.await?)).map_err(failed)?;
    bytes.resize(usize::try_from(IMAGE_BYTES).unwrap_or_default().max(bytes.len()), b' ');
    let pieces: Vec<Result<Vec<u8>>> = bytes.chunks(PIECE_BYTES).map(|piece| Ok(piece.to_vec())).collect();
    Ok(stream::iter(pieces).boxed())
}

/// Takes an image in that came whole.
pub(super) async fn import(world: &World, mut image: ImageStream) -> Result<()> {
    let mut whole = Vec::new();
    while let Some(piece) = image.next().await {
        whole.extend(piece?);
    }
    world
        .call(System::Swarm, "swarm.import_image", "take in an image".to_owned(), |state| {
            let read: std::result::Result<(String, Labels), _> = serde_json::from_slice(&whole);
            let (reference, labels) = read.map_err(|error| Refusal::failed(format!("invalid tar header: {error}")))?;
            state.machine_mut()?.images.insert(reference, labels);
            Ok(())
        })
        .await
}
