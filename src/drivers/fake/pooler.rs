//! A pooler in its container: it starts when it can read its files, and says to whom it is led.

use super::state::State;
use crate::drivers::host::Permissions;
use crate::model::Secret;

/// What it reads.
const FILES: [&str; 8] = [
    "configs/pgbouncer.ini",
    "configs/databases",
    "configs/instances",
    "certificates/ca.crt",
    "certificates/server.crt",
    "certificates/server.key",
    "certificates/login.crt",
    "certificates/login.key",
];

impl State {
    /// Starts the pooler of a container. It says the first instance of its file, and follows nobody: real poolers do that.
    pub(super) fn boot_pooler(&mut self, id: &str) -> Result<(), String> {
        let Some(container) = self.containers.get(id) else { return Err("no container".to_owned()) };
        let uid = container.uid;
        let mut primary = String::new();
        for file in FILES {
            let text = self.files.read_as(&container.host_path(&format!("/opt/pgmoor/{file}"))?, uid)?.expose();
            if file.ends_with("/instances") {
                primary = text.lines().next().unwrap_or_default().to_owned();
            }
        }
        let said = container.host_path("/opt/pgmoor/run/primary")?;
        let permissions = Permissions { mode: 0o644, uid, gid: uid };
        self.files.write(&said, &Secret::new(primary), permissions).map_err(|refusal| format!("{refusal:?}"))
    }
}
