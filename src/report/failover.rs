//! Whether a replica takes over by itself when its primary's host is lost, in plain words where it does not.
//!
//! Patroni promotes a replica only while etcd has a quorum without the lost host: that takes members on three hosts. A
//! node on one host has nobody to take over, and says so by having one instance.

use super::conditions::Found;
use crate::contract::documents::ConditionType;
use crate::model::AcceptedSpec;

/// Members of etcd that keep a quorum when one is lost.
const ETCD_MEMBERS: usize = 3;

/// The condition of a database whose replicas do not take over by themselves.
#[must_use]
pub fn condition(spec: &AcceptedSpec, etcd_members: usize) -> Option<Found> {
    let replicated = spec.nodes.iter().find(|node| node.hosts.len() > 1)?;
    if etcd_members >= ETCD_MEMBERS {
        return None;
    }
    let on = if etcd_members == 1 { "one host".to_owned() } else { format!("{etcd_members} hosts") };
    Some(Found {
        kind: ConditionType::NoAutomaticFailover,
        reason: "FewerThanThreeHosts".to_owned(),
        message: format!(
            "{} has replicas, and none of them takes over by itself when its primary's host is lost: \
             etcd runs on {on}, and without a majority of them nobody can tell who is primary",
            replicated.name
        ),
        hint: Some("add hosts until etcd runs on three".to_owned()),
    })
}
