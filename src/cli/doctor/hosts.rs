//! The other hosts of the fleet, as far as they tell of themselves: which images they lack, and whether the same name
//! means the same image everywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Check;
use crate::contract::documents::{HostStatus, ImageState};
use crate::model::HostId;

/// Bytes of a MB.
const MB: u64 = 1_000_000;

/// Judges what the hosts said; `here` is this one, which is looked at itself.
pub(super) fn judge(hosts: &[HostStatus], here: Option<&HostId>) -> Vec<Check> {
    let mut checks = Vec::new();
    for host in hosts.iter().filter(|host| Some(&host.host) != here) {
        let lacks = host.inventory.images.iter().filter(|image| !image.present);
        checks.extend(lacks.map(|image| missing(hosts, &host.host, image)));
    }
    checks.extend(different(hosts));
    if checks.is_empty() && hosts.len() > 1 {
        let finding = format!("each of the fleet's {} hosts has every image that it needs", hosts.len());
        checks.push(Check::ok("hosts.images", finding));
    }
    checks
}

fn missing(hosts: &[HostStatus], host: &HostId, image: &ImageState) -> Check {
    let name = &image.image;
    if let Some(arrival) = &image.arrives {
        let how = match &arrival.from {
            Some(from) => {
                format!("is being handed over from {from} ({} of {} MB)", arrival.bytes / MB, arrival.of_bytes / MB)
            }
            None => "is being pulled".to_owned(),
        };
        return Check::warn(
            "hosts.images",
            format!("host {host} has no {name} yet: it {how}"),
            "wait until it is there",
        );
    }
    let by_hand = format!("put it on {host} by hand: `docker load`, or `docker pull`");
    if let Some(why) = &image.trouble {
        let finding = format!("host {host} has no {name}, and it did not get there: {why}");
        return Check::warn("hosts.images", finding, format!("mend what the message names, or {by_hand}"));
    }
    let has = |other: &&HostStatus| other.inventory.images.iter().any(|has| has.image == *name && has.present);
    match hosts.iter().find(has) {
        Some(from) => {
            let fix =
                format!("nothing: pgmoor hands it over from {}, while the one that leads the fleet runs", from.host);
            Check::warn("hosts.images", format!("host {host} has no {name} yet"), fix)
        }
        None => {
            let finding = format!("host {host} has no {name}, nor has any other host");
            let fix = format!("name a `registry` that has it, or {by_hand}; the other hosts get it from there");
            Check::warn("hosts.images", finding, fix)
        }
    }
}

/// Names under which two hosts have different images: an instance that moves would be another program.
fn different(hosts: &[HostStatus]) -> Vec<Check> {
    let mut ids: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for host in hosts {
        for image in &host.inventory.images {
            let Some(id) = &image.id else { continue };
            ids.entry(&image.image).or_default().entry(id).or_default().insert(host.host.as_str());
        }
    }
    let differ = ids.into_iter().filter(|(_, ids)| ids.len() > 1);
    let told = differ.map(|(image, ids)| {
        let groups: Vec<String> = ids.values().map(|hosts| hosts.iter().copied().collect::<Vec<_>>().join(", ")).collect();
        let finding = format!("{image} is not the same image on all hosts: {}", groups.join(" have one, "));
        let fix = format!(
            "where it is the wrong one, `docker rmi {image}`: the right one is handed over then, and containers that run keep \
             theirs until they are made anew"
        );
        Check::warn("hosts.images", finding, fix)
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check::Verdict::{Ok as Good, Warn};
    use super::*;

    fn host(name: &str, images: &serde_json::Value) -> HostStatus {
        let at = "2026-11-20T12:00:00Z";
        let status = json!({
            "host": name, "epoch": 3, "updated_at": at,
            "health": {"health": "healthy", "since": at, "checked_at": at, "valid_for_s": 90, "reason": null},
            "inventory": {
                "cpus": 4, "memory_bytes": 1, "memory_promised_bytes": 1, "disk_bytes": 1, "disk_free_bytes": 1,
                "operating_system": "", "architecture": "", "address": "192.0.2.2", "pgmoor_version": "", "instances": 1,
                "images": images,
            },
        });
        serde_json::from_value(status).unwrap()
    }

    fn image(more: &serde_json::Value) -> serde_json::Value {
        let mut image = json!({"component": "etcd", "version": "3", "image": "etcd:3", "present": false});
        image.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([image])
    }

    #[test]
    fn what_a_host_lacks_is_told_with_what_happens() {
        let one = host("h1", &image(&json!({"present": true, "id": "a"})));
        let here = HostId::parse("h1").unwrap();
        let said = |two: serde_json::Value| {
            let hosts = [one.clone(), host("h2", &image(&two))];
            let checks = judge(&hosts, Some(&here));
            assert_eq!(checks.len(), 1, "{checks:?}");
            (checks[0].result, format!("{} [{}]", checks[0].finding, checks[0].fix.clone().unwrap_or_default()))
        };
        assert_eq!(said(json!({"present": true, "id": "a"})).0, Good);
        let cases = [
            (json!({}), "hands it over from h1"),
            (json!({"arrives": {"from": "h1", "bytes": 3_000_000, "of_bytes": 9_000_000}}), "from h1 (3 of 9 MB)"),
            (json!({"arrives": {"bytes": 0, "of_bytes": 0}}), "is being pulled"),
            (json!({"trouble": "the port"}), "did not get there: the port"),
            (json!({"present": true, "id": "b"}), "docker rmi etcd:3"),
        ];
        for (two, words) in cases {
            let (verdict, text) = said(two);
            assert!(verdict == Warn && text.contains(words), "{text}");
        }
        let alone = judge(&[host("h2", &image(&json!({})))], Some(&here));
        assert!(alone[0].finding.contains("nor has any other host"), "{alone:?}");
        // This host is looked at itself.
        assert!(judge(&[host("h1", &image(&json!({})))], Some(&here)).is_empty());
    }
}
