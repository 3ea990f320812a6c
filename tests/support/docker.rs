//! Docker by its command line, for what tests look at and clean up behind everybody's back.

use std::process::Command;
use std::time::Duration;

/// How long a container or network may take to go: longer than anything of ours that was just killed.
const DEADLINE_LOOKS: u32 = 150;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What `docker` prints for these arguments; its words of complaint when it fails.
pub(crate) fn docker(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Sets a parameter by `ALTER SYSTEM` as a superuser in a service's container, and has Postgres reload.
pub(crate) fn alter_system(service: &str, name: &str, value: &str) {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    let container = docker(&["ps", "-q", "--filter", &filter]).unwrap();
    let set = format!("ALTER SYSTEM SET {name} = '{value}'");
    let psql = ["psql", "-XqAtU", "pgmoor", "-d", "postgres", "-c", &set, "-c", "SELECT pg_reload_conf()"];
    docker(&[&["exec", container.as_str()], &psql[..]].concat()).unwrap();
}

/// Everything in Docker that carries a fleet's label goes when this is dropped, also when a test fails.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The fleet.
    pub(crate) fleet: String,
}

impl Sweep {
    fn ids(&self, list: &[&str]) -> Vec<String> {
        let filter = format!("label=pgmoor.fleet={}", self.fleet);
        let arguments: Vec<&str> = list.iter().copied().chain(["-q", "--filter", filter.as_str()]).collect();
        docker(&arguments).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Removes services, waits until their containers are gone, and removes networks and configs.
    pub(crate) fn sweep(&self) {
        for id in self.ids(&["service", "ls"]) {
            drop(docker(&["service", "rm", &id]));
        }
        for id in self.ids(&["ps", "-a"]) {
            drop(docker(&["rm", "-f", &id]));
        }
        for _ in 0..DEADLINE_LOOKS {
            if self.ids(&["ps", "-a"]).is_empty() {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        for _ in 0..DEADLINE_LOOKS {
            let networks = self.ids(&["network", "ls"]);
            if networks.is_empty() {
                break;
            }
            for id in networks {
                drop(docker(&["network", "rm", &id]));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        for id in self.ids(&["config", "ls"]) {
            drop(docker(&["config", "rm", &id]));
        }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        self.sweep();
    }
}
