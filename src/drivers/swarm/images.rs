//! Images of the engine: pulled, written out, taken in, named.
//!
//! Invariant: what the engine does not go on with for a while is ended, so that a registry that swallows packets, or a
//! host that does, holds nobody up for long; how much and how long in all is bounded by who asks.

use std::future::ready;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::query_parameters::{CreateImageOptions, ImportImageOptions, RemoveImageOptions, TagImageOptions};
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};

use super::client::{Connection, Missing, map};
use super::seen;
use crate::drivers::{Error, Result};

/// An image as `docker save` writes it, piece by piece.
pub type ImageStream = BoxStream<'static, Result<Vec<u8>>>;

/// How long a pull may take in all: a Postgres image over a thin line.
const PULL_DEADLINE: Duration = Duration::from_secs(900);
/// How long a pull may say nothing: a registry that is there answers within seconds, and what is unpacked tells of it.
const PULL_SILENCE: Duration = Duration::from_secs(30);
/// How long the engine may prepare an image before its first piece comes, or finish one after its last: it writes all of
/// it to its disk.
const PREPARE_DEADLINE: Duration = Duration::from_secs(600);

/// Pulls an image.
pub(super) async fn pull(connection: &Connection, reference: &str) -> Result<()> {
    let (name, tag) = seen::name_and_tag(reference);
    let options = CreateImageOptions {
        from_image: Some(name.to_owned()),
        tag: tag.map(str::to_owned),
        ..CreateImageOptions::default()
    };
    let act = format!("pull image {reference}");
    connection
        .call_within(&act, Missing::Failed, PULL_DEADLINE, |docker| async move {
            // Each item is a line of progress; an error in the middle ends the stream.
            let mut progress = Box::pin(docker.create_image(Some(options), None, None));
            loop {
                match tokio::time::timeout(PULL_SILENCE, progress.next()).await {
                    Ok(Some(Ok(_line))) => {}
                    Ok(Some(Err(error))) => return Err(error),
                    Ok(None) => return Ok(()),
                    Err(_silence) => return Err(bollard::errors::Error::RequestTimeoutError),
                }
            }
        })
        .await
}

/// An image as `docker save` writes it.
pub(super) async fn export(connection: &Connection, reference: &str) -> Result<ImageStream> {
    let act = format!("write out image {reference}");
    let client = patient(connection, &act).await?;
    let pieces = client.export_image(reference);
    let pieces = pieces.map(move |piece| match piece {
        Ok(piece) => Ok(piece.to_vec()),
        Err(error) => Err(map(&act, Missing::NotFound, &error)),
    });
    Ok(pieces.boxed())
}

/// Takes an image in, as `docker load` does.
pub(super) async fn import(connection: &Connection, image: ImageStream) -> Result<()> {
    let act = "take in an image";
    let client = patient(connection, act).await?;
    let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
    let pieces = image.map(|piece| match piece {
        Ok(piece) => Ok(piece.into()),
        Err(error) => Err(std::io::Error::other(error.to_string())),
    });
    let loaded = client.import_image_stream(options, pieces, None).try_for_each(|_line| ready(Ok(())));
    loaded.await.map_err(|error| map(act, Missing::Failed, &error))
}

/// Gives an image one more name.
pub(super) async fn tag(connection: &Connection, reference: &str, name: &str) -> Result<()> {
    let (repository, tag) = seen::name_and_tag(name);
    let options = TagImageOptions { repo: Some(repository.to_owned()), tag: tag.map(str::to_owned) };
    let owned = reference.to_owned();
    let act = format!("name image {reference} {name}");
    let call =
        connection.call(&act, Missing::NotFound, |docker| async move { docker.tag_image(&owned, Some(options)).await });
    call.await
}

/// Takes a name from an image; without its last one the image goes.
pub(super) async fn untag(connection: &Connection, reference: &str) -> Result<()> {
    let owned = reference.to_owned();
    let act = format!("take the name {reference}");
    let call = connection.call(&act, Missing::NotFound, |docker| async move {
        docker.remove_image(&owned, None::<RemoveImageOptions>, None).await
    });
    call.await.map(|_removed| ())
}

/// A client that waits for the engine's first word as long as it needs to prepare an image.
async fn patient(connection: &Connection, act: &str) -> Result<Client> {
    // Agrees on the version of the API, and says whether the engine is there at all.
    let version = connection.client(act).await?.client_version();
    let unreachable =
        |error: bollard::errors::Error| Error::Unreachable { act: act.to_owned(), why: error.to_string() };
    let limit_s = PREPARE_DEADLINE.as_secs();
    Client::connect_with_unix(connection.socket(), limit_s, &version).map_err(unreachable)
}
