//! Whether a replica takes over by itself when its primary's host is lost, in plain words where it does not.
//!
//! Patroni promotes a replica only while etcd has a quorum without the lost host: that takes members on three hosts. Where
//! commits are synchronous it promotes one only that they waited for, or acknowledged rows could be lost. A node on one host
//! has nobody to take over, and says so by having one instance.

use super::conditions::Found;
use crate::contract::documents::{ConditionType, InstanceSummary, Role};
use crate::model::resource::SynchronousMode;
use crate::model::spec::NodeSpec;
use crate::model::{AcceptedSpec, NodeName};

/// Members of etcd that keep a quorum when one is lost.
const ETCD_MEMBERS: usize = 3;

/// The condition of a database whose replicas do not take over by themselves.
#[must_use]
pub fn condition(spec: &AcceptedSpec, etcd_members: usize, instances: &[InstanceSummary]) -> Option<Found> {
    let mut replicated = spec.nodes.iter().filter(|node| node.hosts.len() > 1).peekable();
    let first = &replicated.peek()?.name;
    if etcd_members < ETCD_MEMBERS {
        return Some(without_majority(first, etcd_members));
    }
    replicated.find(|node| waits_for_nobody(node, instances)).map(|node| without_choice(&node.name))
}

fn without_majority(node: &NodeName, etcd_members: usize) -> Found {
    let on = if etcd_members == 1 { "one host".to_owned() } else { format!("{etcd_members} hosts") };
    Found {
        kind: ConditionType::NoAutomaticFailover,
        reason: "FewerThanThreeHosts".to_owned(),
        message: format!(
            "{node} has replicas, and none of them takes over by itself when its primary's host is lost: \
             etcd runs on {on}, and without a majority of them nobody can tell who is primary"
        ),
        hint: Some("add hosts until etcd runs on three".to_owned()),
    }
}

/// Whether a primary acknowledges commits alone although the spec wants them to be synchronous.
fn waits_for_nobody(node: &NodeSpec, instances: &[InstanceSummary]) -> bool {
    let has = |is: fn(&InstanceSummary) -> bool| instances.iter().any(|one| one.node == node.name && is(one));
    node.synchronous != SynchronousMode::Off
        && has(|one| one.role == Some(Role::Primary))
        && !has(|one| one.role == Some(Role::Replica) && one.synchronous)
}

fn without_choice(node: &NodeName) -> Found {
    Found {
        kind: ConditionType::NoAutomaticFailover,
        reason: "NoSynchronousReplica".to_owned(),
        message: format!(
            "commits of {node} wait for no replica now, so the primary acknowledges them alone, and no replica takes over \
             by itself when its host is lost"
        ),
        hint: Some(
            "Patroni chooses a replica within ten seconds of its streaming; see `instances` for who streams".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::minimal;
    use crate::model::{Health, HostId, InstanceId};

    fn on_two(synchronous: SynchronousMode) -> AcceptedSpec {
        let mut spec = minimal();
        spec.nodes[0].hosts = ["a", "b"].map(|host| HostId::parse(host).unwrap()).into();
        spec.nodes[0].synchronous = synchronous;
        spec
    }

    fn seen(spec: &AcceptedSpec, roles: [Option<Role>; 2], synchronous: bool) -> Vec<InstanceSummary> {
        let node = &spec.nodes[0];
        let one = |(host, role): (&HostId, Option<Role>)| InstanceSummary {
            instance: InstanceId::derive(&spec.id, &node.name, host),
            node: NodeName::clone(&node.name),
            host: host.clone(),
            role,
            synchronous: synchronous && role == Some(Role::Replica),
            health: Health::Healthy,
            postgres_version: None,
        };
        node.hosts.iter().zip(roles).map(one).collect()
    }

    #[test]
    fn replicas_without_a_majority_of_etcd_take_over_nothing() {
        let spec = on_two(SynchronousMode::Off);
        let words = |members| condition(&spec, members, &[]).map(|found| found.message);
        assert!(words(1).unwrap().contains("etcd runs on one host"));
        assert!(words(2).unwrap().contains("etcd runs on 2 hosts"));
        assert_eq!(words(3), None);
        let mut alone = spec.clone();
        alone.nodes[0].hosts.pop();
        assert_eq!(condition(&alone, 1, &[]), None);
    }

    #[test]
    fn where_commits_are_synchronous_a_replica_takes_over_that_they_wait_for() {
        let both = [Some(Role::Primary), Some(Role::Replica)];
        for mode in [SynchronousMode::On, SynchronousMode::Quorum] {
            let spec = on_two(mode);
            let reason = |roles, waits| condition(&spec, 3, &seen(&spec, roles, waits)).map(|found| found.reason);
            assert_eq!(reason(both, true), None);
            assert_eq!(reason(both, false).as_deref(), Some("NoSynchronousReplica"));
            assert_eq!(reason([Some(Role::Primary), None], false).as_deref(), Some("NoSynchronousReplica"));
            assert_eq!(reason([None, Some(Role::Replica)], false), None, "there is no primary: that is told elsewhere");
        }
        let spec = on_two(SynchronousMode::Off);
        assert_eq!(condition(&spec, 3, &seen(&spec, both, false)), None);
    }
}
