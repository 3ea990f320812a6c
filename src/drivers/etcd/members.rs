//! Members of the cluster: listed, added without a vote, given one, taken out.
//!
//! Invariants: a member is added without a vote, so that no quorum ever needs one that has not started yet; what etcd says
//! no to because of its quorum, or because a member has not caught up, is "not now" and no failure.

use serde_json::{Value, json};

use super::gateway::{Fault, Gateway};
use super::{EtcdTarget, MemberSeen, json as wire};

type Outcome<T> = Result<T, Fault>;

/// What etcd says to a change of members that may come true a moment later.
const NOT_NOW: &[&str] = &[
    "can only promote a learner member which is in sync with leader",
    "unhealthy cluster",
    "re-configuration failed due to not enough started members",
];

/// Nothing where the fault says what is wanted anyway; no answer where it may be otherwise in a moment.
fn done(outcome: Outcome<Value>, already: &[&str]) -> Outcome<()> {
    match outcome {
        Err(Fault::Refused(words)) if NOT_NOW.iter().any(|now| words.contains(now)) => Err(Fault::Unreachable(words)),
        Err(fault) if already.iter().any(|words| fault.says(words)) => Ok(()),
        Err(fault) => Err(fault),
        Ok(_) => Ok(()),
    }
}

/// The members, read through a quorum: a member that was cut off knows an old list.
pub(super) async fn list(gateway: &Gateway, target: &EtcdTarget) -> Outcome<Vec<MemberSeen>> {
    let answer = gateway.call(target, "cluster/member/list", &json!({ "linearizable": true })).await?;
    Ok(wire::list(&answer, "members").iter().filter_map(member).collect())
}

fn member(value: &Value) -> Option<MemberSeen> {
    Some(MemberSeen {
        id: value.get("ID").and_then(Value::as_str)?.to_owned(),
        peer_urls: wire::texts(value, "peerURLs").into_iter().collect(),
        votes: !value.get("isLearner").and_then(Value::as_bool).unwrap_or_default(),
    })
}

/// Adds a member without a vote.
pub(super) async fn add(gateway: &Gateway, target: &EtcdTarget, peer_url: &str) -> Outcome<()> {
    let body = json!({ "peerURLs": [peer_url], "isLearner": true });
    // Its id is made from the URL and the second: within the same second etcd complains of the id first.
    let there = ["Peer URLs already exists", "member ID already exist"];
    done(gateway.call(target, "cluster/member/add", &body).await, &there)
}

/// Gives a member its vote.
pub(super) async fn promote(gateway: &Gateway, target: &EtcdTarget, id: &str) -> Outcome<()> {
    let promoted = gateway.call(target, "cluster/member/promote", &json!({ "ID": id })).await;
    // The words for one that has not caught up begin with the same ones.
    done(promoted, &["can only promote a learner member"])
}

/// Takes a member out.
pub(super) async fn remove(gateway: &Gateway, target: &EtcdTarget, id: &str) -> Outcome<()> {
    done(gateway.call(target, "cluster/member/remove", &json!({ "ID": id })).await, &["member not found"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_quorum_forbids_now_is_no_failure() {
        for words in NOT_NOW {
            let refused = Err(Fault::Refused(format!("etcdserver: {words}")));
            let outcome = done(refused, &["can only promote a learner member"]);
            assert!(matches!(outcome, Err(Fault::Unreachable(_))), "{words}");
        }
        let promoted = Err(Fault::Refused("etcdserver: can only promote a learner member".to_owned()));
        assert_eq!(done(promoted, &["can only promote a learner member"]), Ok(()));
        let gone = || Err(Fault::Refused("etcdserver: member not found".to_owned()));
        assert_eq!(done(gone(), &["member not found"]), Ok(()));
        assert!(matches!(done(gone(), &[]), Err(Fault::Refused(_))));
    }

    #[test]
    fn who_has_not_caught_up_has_no_vote() {
        let listed = json!({ "ID": "7", "peerURLs": ["https://192.0.2.1:2380"], "isLearner": true });
        let seen = member(&listed).unwrap();
        assert_eq!((seen.id.as_str(), seen.votes), ("7", false));
        assert!(member(&json!({ "ID": "8" })).unwrap().votes, "the gateway leaves out what is false");
        assert_eq!(member(&json!({})), None);
    }
}
