//! What this host tells: the doctor's findings, versions, Docker's objects of the fleet with the ends of their logs, the
//! daemon's log and the settings. And the passwords that it keeps, which must not be in the bundle.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Context, Error, doctor};
use super::draft::{Content, Draft, TEXT_BYTES_MAX};
use crate::domain::credentials::Credentials;
use crate::domain::layout;
use crate::drivers::swarm::{Docker, Labels, ServiceSeen, Swarm as _};
use crate::model::Secret;
use crate::runtime::{chain, within};

/// How long Docker may take for one answer.
const DOCKER_LIMIT: Duration = Duration::from_secs(5);
/// How long all logs together may take.
const LOGS_LIMIT: Duration = Duration::from_secs(30);
/// How long the journal may take.
const JOURNAL_LIMIT: Duration = Duration::from_secs(15);
/// The last lines of a container's log.
const LINES: u32 = 2000;
/// The labels of what a fleet has in Docker.
const FLEET_LABEL: &str = "pgmoor.fleet";
/// By which Docker says of which service a container is.
const SERVICE_LABEL: &str = "com.docker.swarm.service.name";
/// The daemon's unit (deploy/pgmoor.service).
const UNIT: &str = "pgmoor.service";

pub(super) async fn gather(context: &Context<'_>, log_file: Option<&Path>, draft: &mut Draft) -> Result<(), Error> {
    draft.document("doctor.json", &Box::pin(doctor::examine(context)).await)?;
    draft.put("host.json", Content::Document(host()));
    draft.put("settings.json", Content::Document(settings(context)));
    if context.options.doctor.docker {
        Box::pin(look_at_docker(context, draft)).await;
    } else {
        draft.missing("docker", "the drivers are fake: there is no Docker to look at");
    }
    match log_file {
        Some(path) => match end_of_file(path) {
            Ok(text) => draft.put("logs/daemon.log", Content::Text(text)),
            Err(error) => draft.missing(format!("the log {}", path.display()), error.to_string()),
        },
        None => journal(draft).await,
    }
    passwords(context, draft);
    Ok(())
}

fn host() -> Value {
    let kernel = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"'));
    json!({
        "pgmoor": env!("CARGO_PKG_VERSION"),
        "kernel": text(kernel.release()),
        "machine": text(kernel.machine()),
        "system": name,
        "processors": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
    })
}

/// The settings as far as the command line knows them. Secrets are in files, and only the files' names are settings.
fn settings(context: &Context<'_>) -> Value {
    let (options, broker) = (context.options, &context.options.broker);
    json!({
        "fleet": options.fleet,
        "host": options.host,
        "machine": options.machine,
        "data_dir": options.data_dir,
        "docker_socket": options.docker_socket,
        "catalogue": options.catalogue,
        "docker": options.doctor.docker,
        "etcd_client_port": options.doctor.etcd_client_port,
        "etcd_peer_port": options.doctor.etcd_peer_port,
        "registry": options.doctor.registry,
        "broker": {
            "url": broker.url,
            "listen": broker.listen,
            "username": broker.username,
            "password_file": broker.password_file,
            "ca_file": broker.ca_file,
            "cert_file": broker.cert_file,
        },
    })
}

async fn look_at_docker(context: &Context<'_>, draft: &mut Draft) {
    let docker = Docker::new(&context.options.docker_socket);
    match within("Docker's answer", DOCKER_LIMIT, docker.examine()).await {
        Ok(Ok(engine)) => {
            let swarm = engine.swarm.map(|swarm| {
                json!({
                    "manager": swarm.manager, "address": swarm.address, "nodes": swarm.nodes,
                    "nodes_ready": swarm.nodes_ready, "task_history": swarm.task_history,
                })
            });
            let engine = json!({
                "version": engine.version, "storage_driver": engine.storage_driver, "root_dir": engine.root_dir,
                "swarm": swarm,
            });
            draft.put("docker/engine.json", Content::Document(engine));
        }
        Ok(Err(error)) => return draft.missing("docker", chain(&error)),
        Err(late) => return draft.missing("docker", late.to_string()),
    }
    let selector = Labels::from([(FLEET_LABEL.to_owned(), context.options.fleet.to_string())]);
    match within("Docker's list of services", DOCKER_LIMIT, docker.services(&selector)).await {
        Ok(Ok(services)) => {
            let looking = look_at_services(&docker, &services, draft);
            if let Err(late) = within("the logs of the services", LOGS_LIMIT, looking).await {
                draft.missing("some services", late.to_string());
            }
        }
        Ok(Err(error)) => draft.missing("services", chain(&error)),
        Err(late) => draft.missing("services", late.to_string()),
    }
}

async fn look_at_services(docker: &Docker, services: &[ServiceSeen], draft: &mut Draft) {
    for service in services {
        let name = &service.attributes.name;
        let tasks = match docker.tasks(&service.id).await {
            Ok(tasks) => tasks
                .into_iter()
                .map(|task| {
                    json!({
                        "id": task.id, "state": task.state, "desired_state": task.desired_state,
                        "message": task.message, "error": task.error, "container": task.container,
                        "since_ms": task.since_ms,
                    })
                })
                .collect(),
            Err(error) => {
                draft.missing(format!("tasks of service {name}"), chain(&error));
                Vec::new()
            }
        };
        let update = service.update.as_ref().map(|update| format!("{update:?}"));
        let seen = json!({"id": service.id, "attributes": service.attributes, "update": update, "tasks": tasks});
        draft.put(format!("docker/services/{name}.json"), Content::Document(seen));
        let own = Labels::from([(SERVICE_LABEL.to_owned(), name.clone())]);
        let containers = match docker.containers(&own).await {
            Ok(containers) => containers,
            Err(error) => {
                draft.missing(format!("containers of service {name}"), chain(&error));
                continue;
            }
        };
        for container in containers {
            let short: String = container.id.chars().take(12).collect();
            match docker.log(&container.id, LINES).await {
                Ok(lines) => {
                    let head = format!("{} {:?}", container.state, container.health.unwrap_or_default());
                    let text = format!("({head})\n{}\n", lines.join("\n"));
                    draft.put(format!("logs/{name}/{short}.log"), Content::Text(text));
                }
                Err(error) => draft.missing(format!("the log of container {short} of {name}"), chain(&error)),
            }
        }
    }
}

/// The daemon's log, where systemd keeps it.
async fn journal(draft: &mut Draft) {
    let what = "the daemon's log";
    let hint = "name its file with --log-file";
    let mut command = tokio::process::Command::new("journalctl");
    command.args(["--unit", UNIT, "--lines", "5000", "--no-pager", "--output", "cat", "--quiet"]);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    match within("journalctl", JOURNAL_LIMIT, command.output()).await {
        Ok(Ok(output)) if output.stdout.is_empty() => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let said = if said.is_empty() { format!("the journal has nothing of {UNIT}") } else { said };
            draft.missing(what, format!("{said}; {hint}"));
        }
        Ok(Ok(output)) => {
            draft.put("logs/daemon.log", Content::Text(String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        Ok(Err(error)) => draft.missing(what, format!("journalctl: {error}; {hint}")),
        Err(late) => draft.missing(what, format!("{late}; {hint}")),
    }
}

/// The end of a file, as much as a text of the bundle may have.
fn end_of_file(path: &Path) -> io::Result<String> {
    use io::{Read as _, Seek as _};
    let mut file = std::fs::File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(TEXT_BYTES_MAX as u64);
    file.seek(io::SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The passwords that this host keeps: in the credentials files, in Patroni's files, and the broker's.
fn passwords(context: &Context<'_>, draft: &mut Draft) {
    let data_dir = &context.options.data_dir;
    let credentials = layout::credentials_directory(data_dir);
    for text in texts(&credentials, |name| format!("{credentials}/{name}"), draft) {
        if let Ok(credentials) = serde_json::from_str::<Credentials>(&text) {
            credentials.passwords.into_values().for_each(|password| draft.secret(password));
        }
    }
    let patroni = |instance: &str| format!("{}/patroni.yml", layout::configs_directory(data_dir, instance));
    for text in texts(&layout::instances_directory(data_dir), patroni, draft) {
        let document = serde_yaml_ng::from_str::<Value>(&text).unwrap_or_default();
        if let Some(password) = document.pointer("/etcd3/password").and_then(Value::as_str) {
            draft.secret(Secret::new(password));
        }
    }
    if let Some(path) = &context.options.broker.password_file
        && let Ok(text) = std::fs::read_to_string(path)
    {
        draft.secret(Secret::new(text.trim_end_matches(['\r', '\n'])));
    }
}

/// The texts of one file for each entry of a directory. A directory that is not there says that no database is.
fn texts(directory: &str, file: impl Fn(&str) -> String, draft: &mut Draft) -> Vec<String> {
    let mut texts = Vec::new();
    let mut denied = |path: &str, error: &io::Error| {
        if error.kind() != io::ErrorKind::NotFound {
            let why = format!("{error}: its passwords were not searched for; run it as root");
            draft.missing(path.to_owned(), why);
        }
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            denied(directory, &error);
            return texts;
        }
    };
    for entry in entries.filter_map(Result::ok) {
        let path = file(&entry.file_name().to_string_lossy());
        match std::fs::read_to_string(&path) {
            Ok(text) => texts.push(text),
            Err(error) => denied(&path, &error),
        }
    }
    texts
}
