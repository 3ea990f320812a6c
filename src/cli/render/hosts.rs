//! Hosts, a line each.

use super::super::output::{Style, plain};
use super::status::{colour_of_health, counts_until_ms, health, lines};
use crate::contract::documents::{HostStatus, ImageArrival, ImageState, Time};
use crate::model::Health;
use crate::model::labels::host_labels_text;

/// Bytes in a MB.
const MB: u64 = 1_000_000;
/// Bytes in a GiB.
const GIB: u64 = 1 << 30;

/// All hosts, with a head.
pub(in crate::cli) fn hosts(hosts: &[HostStatus], now: Time, style: Style) -> String {
    if hosts.is_empty() {
        return String::new();
    }
    let head = [
        "HOST",
        "HEALTH",
        "LABELS",
        "ADDRESS",
        "CPUS",
        "MEMORY",
        "DISK FREE",
        "DOCKER",
        "POSTGRES",
        "MISSING",
        "INSTANCES",
    ];
    let cells: Vec<[String; 11]> = hosts.iter().map(|host| cells(host, now)).collect();
    let states: Vec<Health> = hosts.iter().map(|host| state(host, now)).collect();
    lines(&head.map(str::to_owned), &cells, style, |row, column, cell| match (column, states.get(row)) {
        (1, Some(state)) => style.paint(colour_of_health(*state), &cell),
        _ => cell,
    })
}

/// Health counts for as long as it says; later nobody knows.
fn state(host: &HostStatus, now: Time) -> Health {
    if now.ms() <= counts_until_ms(&host.health) { host.health.health } else { Health::Unknown }
}

fn cells(host: &HostStatus, now: Time) -> [String; 11] {
    let has = &host.inventory;
    let missing: Vec<String> = has.images.iter().filter(|image| !image.present).map(missing).collect();
    let list = |all: &[String]| if all.is_empty() { "-".to_owned() } else { plain(&all.join(", ")) };
    [
        host.host.to_string(),
        health(state(host, now)).to_owned(),
        if has.labels.is_empty() { "-".to_owned() } else { plain(&host_labels_text(&has.labels)) },
        plain(&has.address),
        has.cpus.to_string(),
        format!("{} of {}", gib(has.memory_promised_bytes), gib(has.memory_bytes)),
        format!("{} of {}", gib(has.disk_free_bytes), gib(has.disk_bytes)),
        has.docker.as_ref().map_or("-".to_owned(), |docker| plain(&docker.version)),
        list(&has.postgres_versions),
        list(&missing),
        has.instances.to_string(),
    ]
}

/// An image that a host lacks, and what is being done about it.
fn missing(image: &ImageState) -> String {
    let name =
        if image.version.is_empty() { image.image.clone() } else { format!("{} {}", image.component, image.version) };
    match (&image.arrives, &image.trouble) {
        (Some(ImageArrival { from: Some(from), bytes, of_bytes }), _) => {
            format!("{name} (from {from}, {} of {} MB)", bytes / MB, of_bytes / MB)
        }
        (Some(ImageArrival { from: None, .. }), _) => format!("{name} (is pulled)"),
        (None, Some(why)) => format!("{name} ({why})"),
        (None, None) => name,
    }
}

fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / GIB;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::HostId;

    #[test]
    fn a_host_is_a_line_and_an_old_word_counts_no_more() {
        let at = |minute: u32| format!("2026-11-20T12:{minute:02}:00Z");
        let status = json!({
            "host": "h2", "epoch": 3, "updated_at": at(0),
            "health": {"health": "healthy", "since": at(0), "checked_at": at(0), "valid_for_s": 90, "reason": null},
            "inventory": {
                "cpus": 4, "memory_bytes": 8_u64 << 30, "memory_promised_bytes": 1_610_612_736_u64,
                "disk_bytes": 100_u64 << 30, "disk_free_bytes": 40_u64 << 30, "operating_system": "", "architecture": "",
                "address": "192.0.2.2", "pgmoor_version": "", "instances": 1, "postgres_versions": ["17.11"],
                "docker": {"version": "20.10.24", "swarm_node": "n", "manager": true},
                "labels": {"zone": "a", "disk": "ssd"},
                "images": [{"component": "etcd", "version": "3.5.16", "image": "x", "present": false}],
            },
        });
        let status: HostStatus = serde_json::from_value(status).unwrap();
        let told = |minute: &str| {
            let now = serde_json::from_value(json!(minute)).unwrap();
            hosts(std::slice::from_ref(&status), now, Style { coloured: false })
        };
        let line = told(&at(1));
        let words: Vec<&str> = line.lines().nth(1).unwrap().split("  ").filter(|word| !word.is_empty()).collect();
        let words: Vec<&str> = words.into_iter().map(str::trim).collect();
        let expected = [
            "h2",
            "healthy",
            "disk=ssd, zone=a",
            "192.0.2.2",
            "4",
            "1.5 GiB of 8.0 GiB",
            "40.0 GiB of 100.0 GiB",
            "20.10.24",
            "17.11",
            "etcd 3.5.16",
            "1",
        ];
        assert_eq!(words, expected);
        assert!(told(&at(2)).contains("unknown"), "its controller may be dead");
        let mut image = status.inventory.images[0].clone();
        image.arrives = Some(ImageArrival { from: HostId::parse("h1").ok(), bytes: 12_900_000, of_bytes: 600_000_000 });
        assert_eq!(missing(&image), "etcd 3.5.16 (from h1, 12 of 600 MB)");
        image.arrives = Some(ImageArrival { from: None, bytes: 0, of_bytes: 0 });
        assert_eq!(missing(&image), "etcd 3.5.16 (is pulled)");
        image = ImageState { arrives: None, trouble: Some("no".to_owned()), version: String::new(), ..image };
        assert_eq!(missing(&image), "x (no)");
    }
}
