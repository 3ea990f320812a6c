//! `doctor`: looks at everything that pgmoor stands on, one line each, with the fix.
//!
//! Invariants: it works with and without a daemon; every probe has a deadline, and all run whatever the others found; it
//! changes nothing that outlives it.

mod broker;
mod check;
mod clock;
mod disk;
mod dns;
mod docker;
mod hosts;
mod ports;
mod store;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use super::args::Doctor as Args;
use super::output::{Colour, Style, plain};
use super::{Context, Error, Exit, Out};
use crate::drivers::swarm::{Docker, EngineReport, Labels, Swarm as _};
use crate::runtime::within;
use check::{Check, Verdict};

/// How long the engine may take to describe itself.
const ENGINE_LIMIT: Duration = Duration::from_secs(5);
/// How long all images together may take.
const IMAGES_LIMIT: Duration = Duration::from_secs(10);
/// How long disks may take.
const DISK_LIMIT: Duration = Duration::from_secs(5);
/// The label of everything that a fleet has in Docker.
const FLEET_LABEL: &str = "pgmoor.fleet";

/// What the doctor needs to know beside what every command does.
#[derive(Debug, Clone)]
pub struct DoctorSettings {
    /// Whether the daemon drives Docker; the in-memory world has none to look at.
    pub docker: bool,
    /// etcd's port for clients.
    pub etcd_client_port: u16,
    /// etcd's port for its other members.
    pub etcd_peer_port: u16,
    /// What stands before an image's name in the registry.
    pub registry: Option<String>,
    /// The machine's name.
    pub hostname: String,
}

/// The doctor's report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The worst of all results.
    result: Verdict,
    checks: Vec<Check>,
}

pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let report = Box::pin(examine(context)).await;
    out.document(args.output.format, &report, |style| text(&report.checks, style))?;
    Ok(if report.result == Verdict::Fail { Exit::Failed } else { Exit::Done })
}

/// Looks at everything.
pub(super) async fn examine(context: &Context<'_>) -> Report {
    let data_dir = &context.options.data_dir;
    let store = store::look(data_dir);
    let daemon = store.daemon();
    let (world, names, synchronised, broker) = futures_util::join!(
        Box::pin(look_at_docker(context)),
        look_at_names(&context.options.doctor.hostname),
        clock::synchronised(),
        Box::pin(broker::look(context, daemon)),
    );
    let World { mut checks, engine, published, skew_ms } = world;
    checks.extend(names);
    checks.extend(look_at_ports(context, published.as_ref(), daemon));
    checks.extend(clock::judge(context.clock.now_s(), synchronised, skew_ms));
    checks.extend(look_at_disks(context, engine.as_ref()).await);
    checks.extend(store::judge(data_dir, &store));
    checks.extend(broker);
    Report { result: worst(&checks), checks }
}

/// What Docker told.
struct World {
    checks: Vec<Check>,
    engine: Option<EngineReport>,
    /// The ports that services of this fleet publish.
    published: Option<BTreeSet<u16>>,
    skew_ms: Option<i64>,
}

async fn look_at_docker(context: &Context<'_>) -> World {
    let nothing = |checks| World { checks, engine: None, published: None, skew_ms: None };
    if !context.options.doctor.docker {
        return nothing(vec![Check::skipped("docker.engine", "the drivers are fake: there is no Docker to look at")]);
    }
    let socket = &context.options.docker_socket;
    let docker = Docker::new(socket);
    let engine = match within("Docker's answer", ENGINE_LIMIT, docker.examine()).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(late) => Err(late.to_string()),
    };
    let now_ms = context.clock.now_ms();
    let mut checks = docker::judge_engine(&engine, socket);
    let Ok(engine) = engine else { return nothing(checks) };
    checks.extend(docker::judge_swarm(&engine));
    let registry = context.options.doctor.registry.as_deref();
    match context.catalogue() {
        Ok(catalogue) => {
            let looked =
                within("the look for images", IMAGES_LIMIT, docker::look_for_images(&docker, &catalogue, registry))
                    .await;
            match looked {
                Ok(images) => checks.extend(docker::judge_images(&images, &catalogue.etcd.image)),
                Err(late) => checks.push(Check::skipped("images", late.to_string())),
            }
        }
        Err(error) => {
            let why = crate::runtime::chain(&error);
            checks.push(Check::fail("images", why, "mend the file that --catalogue names"));
        }
    }
    let selector = Labels::from([(FLEET_LABEL.to_owned(), context.options.fleet.to_string())]);
    let services = within("Docker's list of services", ENGINE_LIMIT, docker.services(&selector)).await;
    let published = services.ok().and_then(Result::ok).map(|services| {
        services.iter().flat_map(|service| &service.attributes.ports).map(|port| port.published).collect()
    });
    let skew_ms = engine.time_ms.map(|time_ms| time_ms.saturating_sub(now_ms));
    World { checks, engine: Some(engine), published, skew_ms }
}

async fn look_at_names(hostname: &str) -> Vec<Check> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = dns::servers(&text);
    let (own, servers) = futures_util::join!(dns::resolves(hostname), dns::ask(&servers));
    dns::judge(hostname, &own, &servers)
}

fn look_at_ports(context: &Context<'_>, published: Option<&BTreeSet<u16>>, daemon: Option<bool>) -> Vec<Check> {
    let settings = &context.options.doctor;
    let mut checks = Vec::new();
    if settings.docker {
        let etcd = [
            ("ports.etcd_client", "etcd's clients", settings.etcd_client_port, "--etcd-client-port"),
            ("ports.etcd_peer", "etcd's members", settings.etcd_peer_port, "--etcd-peer-port"),
        ];
        for (name, what, port, setting) in etcd {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let ours = published.map(|published| published.contains(&port));
            checks.push(ports::judge(name, what, address, &ports::holder(address, ours), setting));
        }
    }
    if context.options.broker.url.is_none() {
        let address = context.options.broker.listen;
        let holder = ports::holder(address, daemon);
        checks.push(ports::judge("ports.broker", "the embedded broker", address, &holder, "--broker-listen"));
    }
    checks
}

async fn look_at_disks(context: &Context<'_>, engine: Option<&EngineReport>) -> Vec<Check> {
    let data_dir = context.options.data_dir.clone();
    let root = engine.map(|engine| engine.root_dir.clone()).filter(|root| !root.is_empty());
    let (clock, random) = (context.clock.clone(), context.random.clone());
    let look = tokio::task::spawn_blocking(move || {
        let mut checks = vec![disk::judge_room("disk.data", &data_dir, &disk::room(&data_dir))];
        if let Some(root) = root {
            checks.push(disk::judge_room("disk.docker", &root, &disk::room(&root)));
        }
        checks.push(disk::judge_sync(&data_dir, &disk::measure_sync(&data_dir, clock.as_ref(), &random)));
        checks
    });
    match within("the look at the disks", DISK_LIMIT, look).await {
        Ok(Ok(checks)) => checks,
        Ok(Err(error)) => vec![Check::skipped("disk.data", error.to_string())],
        Err(late) => vec![Check::fail("disk.data", late.to_string(), "dmesg shows what is wrong with the disk")],
    }
}

fn worst(checks: &[Check]) -> Verdict {
    let has = |verdict| checks.iter().any(|check| check.result == verdict);
    match (has(Verdict::Fail), has(Verdict::Warn)) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Warn,
        (false, false) => Verdict::Ok,
    }
}

fn text(checks: &[Check], style: Style) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let line = |check: &Check| {
        let (word, colour) = match check.result {
            Verdict::Ok => ("ok  ", Colour::Green),
            Verdict::Warn => ("warn", Colour::Yellow),
            Verdict::Fail => ("FAIL", Colour::Red),
            Verdict::Skipped => ("-   ", Colour::Grey),
        };
        let fix = check.fix.as_ref().map(|fix| format!(" [fix: {}]", plain(fix))).unwrap_or_default();
        format!("{} {:width$}  {}{fix}\n", style.paint(colour, word), check.name, plain(&check.finding))
    };
    checks.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each_with_the_fix_and_the_worst_of_all() {
        let mut checks = vec![Check::ok("a", "fine"), Check::skipped("b.c", "not\nseen")];
        assert_eq!(worst(&checks), Verdict::Ok);
        checks.push(Check::warn("d", "soon", "do"));
        assert_eq!(worst(&checks), Verdict::Warn);
        checks.push(Check::fail("e", "broken", "mend"));
        assert_eq!(worst(&checks), Verdict::Fail);
        let shown = text(&checks, Style { coloured: false });
        let lines = "ok   a    fine\n-    b.c  not seen\nwarn d    soon [fix: do]\nFAIL e    broken [fix: mend]\n";
        assert_eq!(shown, lines);
    }
}
