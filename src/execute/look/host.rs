//! Looking at this host: directories, files, certificates.

use super::super::act::{CERTIFICATE_MODE, KEY_MODE};
use super::{Seen, observation};
use crate::drivers::certificates;
use crate::drivers::host::FileSeen;
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
            Attributes::Certificate(wanted) => {
                seen.insert(resource.id.clone(), observation(certificate(world, wanted).await));
                continue;
            }
            Attributes::Record { .. }
            | Attributes::Network { .. }
            | Attributes::Service(_)
            | Attributes::EtcdMember { .. }
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

/// What is wrong with the two files of a certificate that the certificate itself does not show.
fn broken(certificate: &FileSeen, key: &FileSeen) -> Option<String> {
    let (public, private) = (certificate.permissions, key.permissions);
    if !certificates::key_matches(certificate.content.expose(), &key.content) {
        Some("its key belongs to another certificate".to_owned())
    } else if private.mode != KEY_MODE {
        Some(format!("its key has the mode {:04o}", private.mode))
    } else if public.mode != CERTIFICATE_MODE || (public.uid, public.gid) != (private.uid, private.gid) {
        Some(format!("its file has the mode {:04o} or another owner than its key", public.mode))
    } else {
        None
    }
}

/// A certificate without its key, or one that cannot be read, is as good as none: it is made again.
async fn certificate(world: &World, wanted: &CertificateAttributes) -> Result<Option<Present>> {
    let certificate = world.drivers.host.read(&format!("{}.crt", wanted.stem)).await?;
    let key = world.drivers.host.read(&format!("{}.key", wanted.stem)).await?;
    let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
    let inspected = certificates::inspect(
        &wanted.stem,
        certificate.content.expose(),
        &world.record.get().ca_certificate_pem,
        world.now_s(),
        key.permissions.uid,
        key.permissions.gid,
    );
    match inspected {
        Ok(attributes) => {
            let mut present = Present::new(Attributes::Certificate(attributes));
            present.error = broken(&certificate, &key);
            Ok(Some(present))
        }
        Err(Error::Unreachable { act, why }) => Err(Error::Unreachable { act, why }),
        Err(Error::NotFound { .. } | Error::Conflict { .. } | Error::Failed { .. }) => Ok(None),
    }
}
