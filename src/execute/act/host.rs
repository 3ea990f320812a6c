//! Directories, files and certificates of this host.

use super::{Task, failed};
use crate::domain::layout;
use crate::drivers::certificates;
use crate::drivers::host::Permissions;
use crate::drivers::{Error, Result};
use crate::model::resource::{CertificateAttributes, OnDelete};
use crate::model::{Attributes, Payload, Resource, Secret};

/// A certificate is public.
pub(in crate::execute) const CERTIFICATE_MODE: u32 = 0o644;
/// Its key is its owner's alone.
pub(in crate::execute) const KEY_MODE: u32 = 0o600;

/// Makes it what is described.
pub(super) async fn establish(task: &Task, resource: &Resource) -> Result<()> {
    let host = &task.world.drivers.host;
    match (&resource.attributes, &resource.payload) {
        (Attributes::Directory { path, mode, uid, gid, on_delete }, _) => {
            let permissions = Permissions { mode: *mode, uid: *uid, gid: *gid };
            if *on_delete == OnDelete::Trash && host.directory(path).await?.is_none() {
                bring_back(task, path).await?;
            }
            host.make_directory(path, permissions).await
        }
        (Attributes::File { path, mode, uid, gid, .. }, Payload::Content(content)) => {
            host.write(path, content, Permissions { mode: *mode, uid: *uid, gid: *gid }).await
        }
        (Attributes::Certificate(wanted), _) => certificate(task, wanted).await,
        _ => Err(failed(task, "it has no content, or is no file")),
    }
}

/// The data of a database that was deleted and is wanted again comes back from the trash (rule 4).
async fn bring_back(task: &Task, path: &str) -> Result<()> {
    let trash = layout::trash_of(&task.world.facts.data_dir, path);
    match task.world.drivers.host.move_directory(&trash, path).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn certificate(task: &Task, wanted: &CertificateAttributes) -> Result<()> {
    let issued = certificates::issue(&task.world.authority(), wanted, task.world.now_s())?;
    let owned = |mode: u32| Permissions { mode, uid: wanted.uid, gid: wanted.gid };
    let host = &task.world.drivers.host;
    // Key first: a certificate without its key counts as none, and is made again.
    host.write(&format!("{}.key", wanted.stem), &issued.key_pem, owned(KEY_MODE)).await?;
    let certificate = Secret::new(issued.certificate_pem);
    host.write(&format!("{}.crt", wanted.stem), &certificate, owned(CERTIFICATE_MODE)).await
}

/// Removes it; data goes to the trash.
pub(super) async fn remove(task: &Task, seen: &Attributes) -> Result<()> {
    let host = &task.world.drivers.host;
    if let Attributes::Directory { path, on_delete, .. } = seen {
        remove_directory(task, path, *on_delete).await
    } else if let Attributes::File { path, .. } = seen {
        host.remove_file(path).await
    } else if let Attributes::Certificate(certificate) = seen {
        host.remove_file(&format!("{}.key", certificate.stem)).await?;
        host.remove_file(&format!("{}.crt", certificate.stem)).await
    } else {
        Err(failed(task, "it is no file"))
    }
}

async fn remove_directory(task: &Task, path: &str, on_delete: OnDelete) -> Result<()> {
    let host = &task.world.drivers.host;
    let mounting = task.world.drivers.swarm.containers_mounting(path).await?;
    if !mounting.is_empty() {
        let act = format!("remove {path}");
        return Err(Error::Conflict { act, why: "a container still has it mounted".to_owned() });
    }
    match on_delete {
        OnDelete::Remove => host.remove_directory(path).await,
        OnDelete::Trash => {
            let trash = layout::trash_of(&task.world.facts.data_dir, path);
            match host.move_directory(path, &trash).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        }
    }
}
