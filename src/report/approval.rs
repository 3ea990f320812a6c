//! What is said about approvals: what waits, how it differs from what was approved, and what to type.

use super::conditions::Found;
use crate::contract::documents::ConditionType;
use crate::contract::faults::{Code, Fault};
use crate::model::DatabaseId;
use crate::plan::Disruptions;

/// The condition while something waits for approval. `given`: what was approved before, which no longer covers it.
#[must_use]
pub fn needed(id: &DatabaseId, waits: &Disruptions, given: Option<&Disruptions>) -> Found {
    let digest = waits.digest();
    let beyond = given.map(|given| format!("; it goes beyond what was approved: {}", beyond(waits, given)));
    let message = format!(
        "{} waits for approval (digest {digest}){}; to approve: {}",
        list(waits),
        beyond.unwrap_or_default(),
        command(id, waits),
    );
    let reason = if given.is_some() { "BeyondApproved" } else { "Interrupts" };
    Found { kind: ConditionType::ApprovalNeeded, reason: reason.to_owned(), message, hint: Some(command(id, waits)) }
}

/// Why a digest releases nothing: what waits instead, and how that differs from what the digest named, where that is
/// remembered.
#[must_use]
pub fn stale(id: &DatabaseId, waits: Option<&Disruptions>, named: Option<&Disruptions>) -> Fault {
    let fault = |message: String| Fault::new(Code::StaleApproval, "/digest", message);
    let Some(waits) = waits else {
        return fault(format!("nothing of {id} waits for an approval"))
            .hint(format!("`pgmoor status {id}` says how it stands"));
    };
    let changed = match named {
        Some(named) => format!("since the plan of this digest, {}", beyond(waits, named)),
        None => "the digest is of no plan that waited".to_owned(),
    };
    let now = format!("what waits now is {} (digest {})", list(waits), waits.digest());
    let command = command(id, waits);
    fault(format!("{changed}; {now}")).hint(format!("look at databases/{id}/plan again; to approve of that: {command}"))
}

/// The very command to type.
fn command(id: &DatabaseId, waits: &Disruptions) -> String {
    format!("pgmoor approve {id} {}", waits.digest().short())
}

fn list(waits: &Disruptions) -> String {
    waits.iter().map(|one| format!("{} of {}", one.word(), one.what)).collect::<Vec<_>>().join(", ")
}

fn beyond(waits: &Disruptions, given: &Disruptions) -> String {
    let beyond = waits.beyond(given).into_iter();
    beyond.map(|(one, how)| format!("{} of {} {}", one.word(), one.what, how.as_str())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(toward: &str) -> Disruptions {
        let one = serde_json::json!([{
            "what": {"kind": "instance", "name": "shop-n1"}, "disruption": "restart", "toward": toward,
        }]);
        serde_json::from_value(one).unwrap()
    }

    #[test]
    fn what_waits_is_said_with_what_to_type() {
        let (id, now) = (DatabaseId::parse("shop").unwrap(), waits("b"));
        let found = needed(&id, &now, Some(&waits("a")));
        let command = format!("pgmoor approve shop {}", now.digest().short());
        let said = format!(
            "restart of instance::shop-n1 waits for approval (digest {}); it goes beyond what was approved: restart of \
             instance::shop-n1 leads to something else; to approve: {command}",
            now.digest()
        );
        assert_eq!((found.reason.as_str(), found.message), ("BeyondApproved", said));
        assert_eq!(needed(&id, &now, None).reason, "Interrupts");
        let fault = stale(&id, Some(&now), Some(&waits("a")));
        assert!(fault.message.starts_with("since the plan of this digest, restart of instance::shop-n1 leads to"));
        assert!(fault.hint.is_some_and(|hint| hint.ends_with(&command)));
        assert_eq!(fault.pointer, "/digest");
        assert!(stale(&id, Some(&now), None).message.starts_with("the digest is of no plan"));
        assert!(stale(&id, None, Some(&now)).message.starts_with("nothing of shop waits"));
    }
}
