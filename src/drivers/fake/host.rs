//! The host's files, ports and disk, as the driver's trait asks for them.

use async_trait::async_trait;

use super::World;
use super::call::{Outcome, Refusal, System};
use super::files::is_within;
use super::state::State;
use super::violation::Violation;
use crate::drivers::Result;
use crate::drivers::host::{DiskSeen, FileSeen, Host, Permissions};
use crate::model::Secret;

/// The directory below the data directory that keeps what was deleted.
const TRASH: &str = "trash";

impl State {
    /// Whether something on the host listens on this port.
    pub(super) fn port_is_free(&self, port: u16) -> bool {
        let listened = self.machine().is_ok_and(|machine| machine.occupied_ports.contains(&port));
        !listened && self.publisher(&self.here, port).is_none()
    }

    fn take_directory(&mut self, path: &str) {
        let mounted: Vec<String> = self
            .containers
            .values()
            .filter(|container| container.is_live() && container.is_on(&self.here))
            .filter(|container| container.attributes.mounts.iter().any(|mount| is_within(&mount.source, path)))
            .map(|container| container.id.clone())
            .collect();
        for container in mounted {
            self.watch.found(Violation::DirectoryTakenFromContainer { path: path.to_owned(), container });
        }
    }

    fn remove_directory(&mut self, path: &str) -> Outcome<()> {
        if !is_within(path, &self.options.data_dir) {
            return Err(Refusal::failed("the path is outside the data directory"));
        }
        let there = self.at_path(path);
        if self.files.directory(&there)?.is_none() {
            return Ok(());
        }
        self.take_directory(path);
        let trash = format!("{}/{TRASH}", self.options.data_dir.trim_end_matches('/'));
        if self.files.remove(&there) && !is_within(path, &trash) {
            self.watch.found(Violation::DataRemovedWithoutTrash { path: path.to_owned() });
        }
        self.containers.touch_all();
        self.count("remove directory", path);
        Ok(())
    }
}

#[async_trait]
impl Host for World {
    async fn directory(&self, path: &str) -> Result<Option<Permissions>> {
        let about = format!("look at directory {path}");
        self.call(System::Host, "host.directory", about, |state| state.files.directory(&state.at_path(path))).await
    }

    async fn list(&self, path: &str) -> Result<Vec<String>> {
        self.call(System::Host, "host.list", format!("list {path}"), |state| Ok(state.files.list(&state.at_path(path))))
            .await
    }

    async fn make_directory(&self, path: &str, permissions: Permissions) -> Result<()> {
        let about = format!("make directory {path}");
        self.call(System::Host, "host.make_directory", about, |state| {
            let path = state.at_path(path);
            state.files.make_directory(&path, permissions)
        })
        .await
    }

    async fn remove_directory(&self, path: &str) -> Result<()> {
        let about = format!("remove directory {path}");
        self.call(System::Host, "host.remove_directory", about, |state| state.remove_directory(path)).await
    }

    async fn move_directory(&self, from: &str, to: &str) -> Result<()> {
        let about = format!("move directory {from} to {to}");
        self.call(System::Host, "host.move_directory", about, |state| {
            let (source, target) = (state.at_path(from), state.at_path(to));
            state.files.move_directory(&source, &target)?;
            state.containers.touch_all();
            state.take_directory(from);
            state.count("move directory", from);
            Ok(())
        })
        .await
    }

    async fn read(&self, path: &str) -> Result<Option<FileSeen>> {
        let about = format!("read {path}");
        self.call(System::Host, "host.read", about, |state| {
            state.files.read(&state.at_path(path)).map(Option::<&_>::cloned)
        })
        .await
    }

    async fn write(&self, path: &str, content: &Secret, permissions: Permissions) -> Result<()> {
        let about = format!("write {path}");
        self.call(System::Host, "host.write", about, |state| {
            let there = state.at_path(path);
            state.files.write(&there, content, permissions)?;
            state.count("write file", path);
            Ok(())
        })
        .await
    }

    async fn remove_file(&self, path: &str) -> Result<()> {
        let about = format!("remove file {path}");
        self.call(System::Host, "host.remove_file", about, |state| {
            let path = state.at_path(path);
            state.files.remove_file(&path)
        })
        .await
    }

    async fn port_is_free(&self, port: u16) -> Result<bool> {
        let about = format!("try port {port}");
        self.call(System::Host, "host.port_is_free", about, |state| Ok(state.port_is_free(port))).await
    }

    async fn exists(&self, path: &str) -> Result<bool> {
        let about = format!("look for {path}");
        self.call(System::Host, "host.exists", about, |state| Ok(state.files.exists(&state.at_path(path)))).await
    }

    async fn disk(&self, path: &str) -> Result<DiskSeen> {
        let about = format!("look at the disk of {path}");
        self.call(System::Host, "host.disk", about, |state| {
            let total_bytes = state.machine()?.disk_bytes;
            Ok(DiskSeen { total_bytes, free_bytes: total_bytes / 2 })
        })
        .await
    }
}
