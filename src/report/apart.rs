//! Several nodes that do not replicate to each other, said in plain words.

use super::conditions::Found;
use crate::contract::documents::ConditionType;
use crate::model::{AcceptedSpec, NodeName};

/// The condition of a database with several nodes: in this build they never replicate to each other.
#[must_use]
pub fn condition(spec: &AcceptedSpec) -> Option<Found> {
    let names: Vec<&str> = spec.nodes.iter().map(|node| &node.name).map(NodeName::as_str).collect();
    let (last, others) = names.split_last().filter(|(_, others)| !others.is_empty())?;
    Some(Found {
        kind: ConditionType::NodesApart,
        reason: "NotReplicated".to_owned(),
        message: format!(
            "{} and {last} do not replicate to each other: each is a database of its own, writable apart, and what is \
             written to one is in no other",
            others.join(", ")
        ),
        hint: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::minimal;

    #[test]
    fn nodes_beside_each_other_are_told() {
        let mut spec = minimal();
        assert_eq!(condition(&spec), None);
        for name in ["n2", "n3"] {
            let mut node = spec.nodes[0].clone();
            node.name = NodeName::parse(name).unwrap();
            spec.nodes.push(node);
        }
        let found = condition(&spec).unwrap();
        assert!(found.message.starts_with("n1, n2 and n3 do not replicate"), "{}", found.message);
    }
}
