//! The members of the fleet's etcd. The first one founds the cluster; each that joins keeps no data of its own but stands on
//! that of the founder, so that all give the same answers. None answers without a majority of those that vote.

use std::collections::BTreeMap;

use super::call::{Outcome, Refusal};
use super::engine::Container;
use super::state::State;
use crate::drivers::etcd::MemberSeen;

/// The variable with the URL at which a member is reached.
const PEER_URL: &str = "ETCD_INITIAL_ADVERTISE_PEER_URLS";
/// etcd's answer when a learner has not caught up.
const NOT_READY: &str = "etcdserver: can only promote a learner member which is in sync with leader";

/// The members by id.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<String, Member>,
    added: u64,
}

#[derive(Debug)]
struct Member {
    peer_url: String,
    votes: bool,
}

impl Members {
    fn put(&mut self, peer_url: &str, votes: bool) {
        self.added += 1;
        let member = Member { peer_url: peer_url.to_owned(), votes };
        self.by_id.insert(format!("{:016}", self.added), member);
    }

    fn at(&self, peer_url: &str) -> Option<&Member> {
        self.by_id.values().find(|member| member.peer_url == peer_url)
    }

    /// The founder is the first member, under the address that it then had.
    pub(super) fn found(&mut self, container: &Container) {
        if self.by_id.is_empty() {
            self.put(&peer_url(container), true);
        }
    }

    /// Whether the member in this container serves clients: one without a vote does not.
    pub(super) fn serves(&self, container: &Container) -> bool {
        self.at(&peer_url(container)).is_none_or(|member| member.votes)
    }

    fn voters(&self) -> impl Iterator<Item = &str> {
        self.by_id.values().filter(|member| member.votes).map(|member| member.peer_url.as_str())
    }

    pub(super) fn list(&self) -> Vec<MemberSeen> {
        let seen = |(id, member): (&String, &Member)| MemberSeen {
            id: id.clone(),
            peer_urls: [member.peer_url.clone()].into(),
            votes: member.votes,
        };
        self.by_id.iter().map(seen).collect()
    }

    pub(super) fn add(&mut self, peer_url: &str) -> Outcome<()> {
        if self.at(peer_url).is_none() {
            if self.by_id.values().any(|member| !member.votes) {
                return Err(Refusal::failed("etcdserver: too many learner members in cluster"));
            }
            self.put(peer_url, false);
        }
        Ok(())
    }

    /// The URL of a member that waits for its vote; none: it has it already.
    pub(super) fn learner(&self, id: &str) -> Outcome<Option<String>> {
        let member = self.by_id.get(id).ok_or_else(not_found)?;
        Ok((!member.votes).then(|| member.peer_url.clone()))
    }

    pub(super) fn promote(&mut self, id: &str) -> Outcome<()> {
        self.by_id.get_mut(id).ok_or_else(not_found)?.votes = true;
        Ok(())
    }

    pub(super) fn relocate(&mut self, id: &str, peer_url: &str) -> Outcome<()> {
        self.by_id.get_mut(id).ok_or_else(not_found)?.peer_url = peer_url.to_owned();
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
    }
}

fn not_found() -> Refusal {
    Refusal::failed("etcdserver: member not found")
}

fn peer_url(container: &Container) -> String {
    container.attributes.env.get(PEER_URL).cloned().unwrap_or_default()
}

/// Whether a container joins a cluster that is there already.
pub(super) fn joins(container: &Container) -> bool {
    container.attributes.env.get("ETCD_INITIAL_CLUSTER_STATE").is_some_and(|state| state == "existing")
}

impl State {
    /// The data of the cluster that has this container among its members.
    pub(super) fn cluster_of(&self, container: &Container) -> Result<String, String> {
        let url = peer_url(container);
        let home = self.files.etcds().find(|(_, data)| data.members.at(&url).is_some());
        home.map(|(path, _)| path.to_owned())
            .ok_or_else(|| "error validating peerURLs: member count is unequal".to_owned())
    }

    /// Whether the member in this container reaches a majority of those that vote, itself among them. A member on a node
    /// that is not in this world is there.
    pub(super) fn has_quorum(&self, members: &Members, asked: &Container) -> bool {
        let voters = members.voters().count();
        if voters <= 1 {
            return true;
        }
        let own = peer_url(asked);
        let is_it = |env: &BTreeMap<String, String>, url: &str| env.get(PEER_URL).is_some_and(|has| has == url);
        let runs = |url: &str| {
            self.containers.values().any(|one| {
                is_it(&one.attributes.env, url)
                    && one.is_running()
                    && one.healthy
                    && self.machines.reach(asked.node(), one.node())
            })
        };
        let elsewhere = |url: &str| {
            let services = self.services.values().map(|one| &one.attributes);
            services.into_iter().any(|one| is_it(&one.env, url) && self.machines.get(&one.swarm_node).is_none())
        };
        2 * members.voters().filter(|url| *url == own || runs(url) || elsewhere(url)).count() > voters
    }

    /// A member catches up once it runs; on a node that is not in this world, once it has a service there.
    pub(super) fn has_caught_up(&self, peer_url: &str) -> Outcome<()> {
        let is_it = |env: &BTreeMap<String, String>| env.get(PEER_URL).is_some_and(|url| url == peer_url);
        let runs = self.containers.values().any(|one| is_it(&one.attributes.env) && one.is_running() && one.healthy);
        let elsewhere = || {
            self.services
                .values()
                .any(|one| is_it(&one.attributes.env) && self.machines.get(&one.attributes.swarm_node).is_none())
        };
        if runs || elsewhere() { Ok(()) } else { Err(Refusal::Unreachable(NOT_READY.to_owned())) }
    }
}
