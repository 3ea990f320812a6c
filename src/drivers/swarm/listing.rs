//! The list of services, read without bollard: its model names the health check `HealthCheck`, while every engine
//! answers `Healthcheck`, so through bollard a live service never has one (bollard 0.21.1). Writing is not affected,
//! for the engine reads names in any case.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard::errors::Error as DockerError;
use bollard::models::Service;
use serde_json::Value;

use super::Labels;
use super::client::{CALL_DEADLINE, Connection, Missing, map};
use crate::drivers::tls::words;
use crate::drivers::{Error, Result};

const ACT: &str = "list services";

/// The services that carry all these labels.
pub(super) async fn services(connection: &Connection, selector: &Labels) -> Result<Vec<Service>> {
    let client = connection.client(ACT).await?;
    let version = client.client_version();
    let failed = |why: String| Error::Failed { act: ACT.to_owned(), why };
    let unreachable = |error: reqwest::Error| Error::Unreachable { act: ACT.to_owned(), why: words(error) };
    let labels: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let filters = serde_json::to_string(&BTreeMap::from([("label", labels)])).map_err(|e| failed(e.to_string()))?;
    // The host's name plays no part: the socket leads to the engine.
    let address = format!("http://docker/v{}.{}/services", version.major_version, version.minor_version);
    let address =
        reqwest::Url::parse_with_params(&address, [("filters", filters)]).map_err(|e| failed(e.to_string()))?;
    let answer = http(connection.socket())?.get(address).send().await.map_err(unreachable)?;
    let status = answer.status();
    let body: Value = answer.json().await.map_err(unreachable)?;
    if !status.is_success() {
        let message = body.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        let error = DockerError::DockerResponseServerError { status_code: status.as_u16(), message };
        return Err(map(ACT, Missing::Failed, &error));
    }
    parse(body).map_err(|error| failed(error.to_string()))
}

fn parse(mut body: Value) -> serde_json::Result<Vec<Service>> {
    for service in body.as_array_mut().into_iter().flatten() {
        let container = service.pointer_mut("/Spec/TaskTemplate/ContainerSpec").and_then(Value::as_object_mut);
        if let Some(container) = container
            && let Some(check) = container.remove("Healthcheck")
        {
            container.insert("HealthCheck".to_owned(), check);
        }
    }
    serde_json::from_value(body)
}

fn http(socket: &str) -> Result<reqwest::Client> {
    let failed = |why: String| Error::Failed { act: ACT.to_owned(), why };
    // No TLS is spoken on the socket; without a configuration reqwest would look for a provider of the process.
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .unix_socket(socket)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(CALL_DEADLINE)
        .build()
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_check_is_read_under_the_engines_name() {
        let body = serde_json::json!([
            {"ID": "a", "Spec": {"TaskTemplate": {"ContainerSpec": {"Healthcheck": {"Test": ["CMD-SHELL", "true"]}}}}},
            {"ID": "b", "Spec": {"TaskTemplate": {}}},
        ]);
        let services = parse(body).unwrap();
        let checks: Vec<bool> = services
            .into_iter()
            .map(|service| {
                let task = service.spec.and_then(|spec| spec.task_template);
                task.and_then(|task| task.container_spec).and_then(|container| container.health_check).is_some()
            })
            .collect();
        assert_eq!(checks, [true, false]);
    }
}
