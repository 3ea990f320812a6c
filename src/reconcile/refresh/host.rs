//! Looking at this host: directories, files, certificates.

use super::{Seen, observation};
use crate::drivers::certificates;
use crate::drivers::{Error, Result};
use crate::model::resource::CertificateAttributes;
use crate::model::{Attributes, Digest, Present, Resource};
use crate::world::World;

/// Looks at the directories, files and certificates among these resources.
pub(super) async fn look(world: &World, resources: &[&Resource]) -> Seen {
    let mut seen = Seen::new();
    for resource in resources {
        let found = match &resource.attributes {
            Attributes::Directory { path, on_delete, .. } => {
                world.drivers.host.directory(path).await.map(|permissions| {
                    permissions.map(|is| Attributes::Directory {
                        path: path.clone(),
                        mode: is.mode,
                        uid: is.uid,
                        gid: is.gid,
                        on_delete: *on_delete,
                    })
                })
            }
            Attributes::File { path, .. } => file(world, path).await,
            Attributes::Certificate(wanted) => certificate(world, wanted).await,
            Attributes::Record { .. }
            | Attributes::Network { .. }
            | Attributes::Service(_)
            | Attributes::Etcd { .. }
            | Attributes::EtcdUser { .. }
            | Attributes::PatroniConfig(_)
            | Attributes::Instance(_)
            | Attributes::Role(_)
            | Attributes::Database { .. }
            | Attributes::Extension { .. }
            | Attributes::Script { .. } => continue,
        };
        seen.insert(resource.id.clone(), observation(found.map(|attributes| attributes.map(Present::new))));
    }
    seen
}

async fn file(world: &World, path: &str) -> Result<Option<Attributes>> {
    let found = world.drivers.host.read(path).await?;
    Ok(found.map(|file| Attributes::File {
        path: path.to_owned(),
        mode: file.permissions.mode,
        uid: file.permissions.uid,
        gid: file.permissions.gid,
        content: Digest::of_bytes(file.content.expose().as_bytes()),
    }))
}

/// A certificate without its key, or one that cannot be read, is as good as none: it is made again.
async fn certificate(world: &World, wanted: &CertificateAttributes) -> Result<Option<Attributes>> {
    let certificate = world.drivers.host.read(&format!("{}.crt", wanted.stem)).await?;
    let key = world.drivers.host.read(&format!("{}.key", wanted.stem)).await?;
    let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
    let inspected = certificates::inspect(
        &wanted.stem,
        certificate.content.expose(),
        &world.record.ca_certificate_pem,
        world.now_s(),
        key.permissions.uid,
        key.permissions.gid,
    );
    match inspected {
        Ok(attributes) => Ok(Some(Attributes::Certificate(attributes))),
        Err(Error::Unreachable { act, why }) => Err(Error::Unreachable { act, why }),
        Err(Error::NotFound { .. } | Error::Conflict { .. } | Error::Failed { .. }) => Ok(None),
    }
}
