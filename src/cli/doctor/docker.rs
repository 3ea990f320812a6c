//! Docker, its Swarm, and the images of the catalogue.

use std::time::Duration;

use super::check::Check;
use crate::drivers::swarm::{Docker, EngineReport, Swarm as _};
use crate::model::Catalogue;
use crate::runtime::within;

/// The oldest engine that pgmoor is tested with.
const OLDEST: (u32, u32) = (20, 10);
/// How long a registry may take to answer about one image.
const REGISTRY_LIMIT: Duration = Duration::from_secs(4);

/// How the engine is, or why there is none.
pub(super) fn judge_engine(engine: &Result<EngineReport, String>, socket: &str) -> Vec<Check> {
    let engine = match engine {
        Ok(engine) => engine,
        Err(why) => {
            let fix = "start it (systemctl start docker), name its socket with --docker-socket, and run pgmoor as root";
            return vec![Check::fail("docker.engine", format!("Docker does not answer at {socket}: {why}"), fix)];
        }
    };
    let told = format!("Docker {} answers, storage {}", engine.version, engine.storage_driver);
    let version = match version(&engine.version) {
        Some(version) if version < OLDEST => Check::fail("docker.engine", told, "install Docker Engine 20.10 or later"),
        Some(_) => Check::ok("docker.engine", told),
        None => Check::warn("docker.engine", told, "its version is not readable; 20.10 or later is needed"),
    };
    let mut checks = vec![version];
    if engine.storage_driver == "vfs" {
        let finding = "Docker keeps layers with the driver vfs: every container copies its whole image";
        checks.push(Check::warn("docker.storage", finding, "use overlay2 (daemon.json: \"storage-driver\")"));
    }
    checks
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// How the Swarm is.
pub(super) fn judge_swarm(engine: &EngineReport) -> Vec<Check> {
    let Some(swarm) = &engine.swarm else {
        let fix = "docker swarm init --advertise-addr ADDRESS, with the address at which others reach this host";
        return vec![Check::fail("swarm.active", "this host is in no Swarm", fix)];
    };
    let mut checks = Vec::new();
    if !swarm.manager {
        let fix = "on a manager: docker node promote THIS-HOST";
        checks.push(Check::fail("swarm.active", "this host is in a Swarm, but not as a manager", fix));
    } else if swarm.nodes_ready == 0 {
        let finding = format!("none of the Swarm's {} hosts is ready", swarm.nodes);
        checks.push(Check::fail("swarm.active", finding, "docker node ls shows them; restart Docker on this one"));
    } else {
        let finding = format!("this host is a manager; {} of {} hosts are ready", swarm.nodes_ready, swarm.nodes);
        checks.push(if swarm.nodes_ready < swarm.nodes {
            Check::warn("swarm.active", finding, "docker node ls shows which one is down")
        } else {
            Check::ok("swarm.active", finding)
        });
    }
    let again = "docker swarm leave --force and docker swarm init --advertise-addr ADDRESS: it ends all services";
    checks.push(match swarm.address {
        None => Check::fail("swarm.address", "the Swarm advertises no address of this host", again),
        Some(address) if address.is_loopback() || address.is_unspecified() => {
            let finding = format!("the Swarm advertises {address}, which containers do not reach this host by");
            Check::fail("swarm.address", finding, again)
        }
        Some(address) => Check::ok("swarm.address", format!("the Swarm advertises {address}")),
    });
    match swarm.task_history {
        Some(0) => checks.push(Check::warn(
            "swarm.task_history",
            "the Swarm forgets ended tasks at once, so that why one failed is not told",
            "docker swarm update --task-history-limit 5",
        )),
        Some(kept) if !(0..=20).contains(&kept) => checks.push(Check::warn(
            "swarm.task_history",
            format!(
                "the Swarm keeps {} ended tasks of each instance",
                if kept < 0 { "all".to_owned() } else { kept.to_string() }
            ),
            "docker swarm update --task-history-limit 5",
        )),
        Some(_) | None => {}
    }
    checks
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Here,
    InARegistry,
    Nowhere(String),
}

/// Looks for the images of the catalogue, here and behind the registry's prefix.
pub(super) async fn look_for_images(
    docker: &Docker,
    catalogue: &Catalogue,
    registry: Option<&str>,
) -> Vec<(String, Found)> {
    let names: std::collections::BTreeSet<&String> =
        catalogue.postgres.iter().map(|entry| &entry.image).chain([&catalogue.etcd.image]).collect();
    let there = |image: &str| format!("{}{image}", registry.unwrap_or_default());
    let looks = names.into_iter().map(|image| async move {
        let found = match docker.image(image).await {
            Ok(Some(_)) => Found::Here,
            Ok(None) => match within("the registry", REGISTRY_LIMIT, docker.in_a_registry(&there(image))).await {
                Ok(Ok(())) => Found::InARegistry,
                Ok(Err(error)) => Found::Nowhere(error.to_string()),
                Err(late) => Found::Nowhere(late.to_string()),
            },
            Err(error) => Found::Nowhere(error.to_string()),
        };
        (image.clone(), found)
    });
    futures_util::future::join_all(looks).await
}

/// Whether databases can be made with the images of the catalogue; `etcd` is the one that every fleet needs.
pub(super) fn judge_images(images: &[(String, Found)], etcd: &str) -> Vec<Check> {
    let here = images.iter().filter(|(_, found)| *found == Found::Here).count();
    let pullable = images.iter().filter(|(_, found)| *found == Found::InARegistry).count();
    let mut checks = Vec::new();
    for (image, found) in images {
        let Found::Nowhere(why) = found else { continue };
        let finding = format!("{image} is neither on this host nor in a registry that it reaches: {why}");
        let fix = format!(
            "docker pull {image} (or docker load), or take it out of the catalogue; where another host of the fleet has it, \
             pgmoor hands it over"
        );
        let check = if image == etcd { Check::fail } else { Check::warn };
        checks.push(check("images", finding, fix.as_str()));
    }
    let told = format!("{here} of the catalogue's {} images are on this host, {pullable} can be pulled", images.len());
    checks.insert(0, Check::ok("images", told));
    checks
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;
    use crate::drivers::swarm::SwarmReport;

    fn engine(version: &str, swarm: Option<SwarmReport>) -> EngineReport {
        let (storage_driver, root_dir) = ("overlay2".to_owned(), "/var/lib/docker".to_owned());
        EngineReport { version: version.to_owned(), storage_driver, root_dir, time_ms: None, swarm }
    }

    fn swarm() -> SwarmReport {
        let address = "192.0.2.7".parse().ok();
        SwarmReport { manager: true, address, nodes: 1, nodes_ready: 1, task_history: Some(5) }
    }

    fn results(checks: &[Check]) -> Vec<(&'static str, Verdict)> {
        checks.iter().map(|check| (check.name, check.result)).collect()
    }

    #[test]
    fn old_and_absent_engines_fail() {
        let judged = |version: &str| judge_engine(&Ok(engine(version, None)), "/s")[0].result;
        assert_eq!(judged("19.03.1"), Verdict::Fail);
        assert_eq!(judged("20.10.24"), Verdict::Ok);
        assert_eq!(judged("28.0.0-rc.1"), Verdict::Ok);
        assert_eq!(judged("dev"), Verdict::Warn);
        let absent = judge_engine(&Err("refused".to_owned()), "/s");
        assert_eq!(results(&absent), [("docker.engine", Verdict::Fail)]);
        assert!(absent[0].finding.contains("/s: refused") && absent[0].fix.is_some());
        let slow = judge_engine(&Ok(EngineReport { storage_driver: "vfs".to_owned(), ..engine("28.0", None) }), "/s");
        assert_eq!(results(&slow)[1], ("docker.storage", Verdict::Warn));
    }

    #[test]
    fn a_swarm_needs_a_manager_a_ready_host_and_an_address() {
        use Verdict::{Fail, Ok as Good, Warn};
        let judged = |swarm| results(&judge_swarm(&engine("28.0", swarm)));
        assert_eq!(judged(None), [("swarm.active", Fail)]);
        assert_eq!(judged(Some(swarm())), [("swarm.active", Good), ("swarm.address", Good)]);
        let cases = [
            (SwarmReport { manager: false, ..swarm() }, ("swarm.active", Fail)),
            (SwarmReport { nodes_ready: 0, ..swarm() }, ("swarm.active", Fail)),
            (SwarmReport { nodes: 2, ..swarm() }, ("swarm.active", Warn)),
            (SwarmReport { address: "127.0.0.1".parse().ok(), ..swarm() }, ("swarm.address", Fail)),
            (SwarmReport { address: None, ..swarm() }, ("swarm.address", Fail)),
            (SwarmReport { task_history: Some(0), ..swarm() }, ("swarm.task_history", Warn)),
            (SwarmReport { task_history: Some(-1), ..swarm() }, ("swarm.task_history", Warn)),
        ];
        for (case, wanted) in cases {
            assert!(judged(Some(case.clone())).contains(&wanted), "{case:?}");
        }
    }

    #[test]
    fn without_etcds_image_nothing_works() {
        let images = |found: Found| [("etcd:3".to_owned(), found), ("postgres:17".to_owned(), Found::Here)];
        assert_eq!(results(&judge_images(&images(Found::Here), "etcd:3")), [("images", Verdict::Ok)]);
        assert_eq!(judge_images(&images(Found::InARegistry), "etcd:3")[0].finding.matches('1').count(), 2);
        let gone = images(Found::Nowhere("no such host".to_owned()));
        assert_eq!(judge_images(&gone, "etcd:3")[1].result, Verdict::Fail);
        assert_eq!(judge_images(&gone, "other")[1].result, Verdict::Warn);
    }
}
