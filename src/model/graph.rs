//! The graph of desired resources: every dependency exists, nothing depends on itself, there is no cycle.
//!
//! Invariant: a [`Graph`] can only be made through [`Graph::new`], which checks all three.

use std::collections::{BTreeMap, BTreeSet};

use super::digest::Digest;
use super::resource::{Dependency, Resource, ResourceId};

/// Why resources are not a graph (the reference's messages, section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two resources have one id.
    #[error("resource {0} is described twice")]
    Duplicate(ResourceId),
    /// A dependency is not in the graph.
    #[error("dependency of {of} not found: {missing}")]
    MissingDependency {
        /// Whose dependency.
        of: ResourceId,
        /// What is missing.
        missing: ResourceId,
    },
    /// A resource depends on itself.
    #[error("invalid dependency: resource {0} cannot depend on itself")]
    SelfDependency(ResourceId),
    /// Resources depend on each other in a circle.
    #[error("cycle detected in graph: {0} and others wait for each other")]
    Cycle(ResourceId),
}

/// Checked resources, in an order in which each comes after all that it depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graph {
    resources: BTreeMap<ResourceId, Resource>,
    order: Vec<ResourceId>,
    digests: BTreeMap<ResourceId, Digest>,
}

impl Graph {
    /// Checks and orders the resources.
    ///
    /// # Errors
    /// See [`GraphError`].
    pub fn new(resources: impl IntoIterator<Item = Resource>) -> Result<Self, GraphError> {
        let mut by_id = BTreeMap::new();
        for resource in resources {
            let id = resource.id.clone();
            if by_id.insert(id.clone(), resource).is_some() {
                return Err(GraphError::Duplicate(id));
            }
        }
        for resource in by_id.values() {
            for dependency in resource.dependencies.keys() {
                if *dependency == resource.id {
                    return Err(GraphError::SelfDependency(resource.id.clone()));
                }
                if !by_id.contains_key(dependency) {
                    return Err(GraphError::MissingDependency { of: resource.id.clone(), missing: dependency.clone() });
                }
            }
        }
        let order = topological(&by_id)?;
        let mut graph = Self { resources: by_id, order, digests: BTreeMap::new() };
        graph.digests = graph.full_digests();
        Ok(graph)
    }

    /// The resource with this id.
    #[must_use]
    pub fn get(&self, id: &ResourceId) -> Option<&Resource> {
        self.resources.get(id)
    }

    /// Whether the graph has it.
    #[must_use]
    pub fn contains(&self, id: &ResourceId) -> bool {
        self.resources.contains_key(id)
    }

    /// The resources, each after all that it depends on.
    pub fn in_order(&self) -> impl DoubleEndedIterator<Item = &Resource> {
        self.order.iter().filter_map(|id| self.resources.get(id))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The digest of all that a resource is applied with: its attributes and, through content dependencies, theirs.
    #[must_use]
    pub fn digest(&self, id: &ResourceId) -> Option<&Digest> {
        self.digests.get(id)
    }

    fn full_digests(&self) -> BTreeMap<ResourceId, Digest> {
        let mut digests: BTreeMap<ResourceId, Digest> = BTreeMap::new();
        for resource in self.in_order() {
            let inputs: Vec<&Digest> = resource
                .dependencies
                .iter()
                .filter(|(_, why)| **why == Dependency::Content)
                .filter_map(|(id, _)| digests.get(id))
                .collect();
            let digest = Digest::of(&(&resource.attributes, inputs));
            digests.insert(resource.id.clone(), digest);
        }
        digests
    }
}

fn topological(resources: &BTreeMap<ResourceId, Resource>) -> Result<Vec<ResourceId>, GraphError> {
    let mut missing: BTreeMap<&ResourceId, usize> = BTreeMap::new();
    let mut dependents: BTreeMap<&ResourceId, Vec<&ResourceId>> = BTreeMap::new();
    for (id, resource) in resources {
        missing.insert(id, resource.dependencies.len());
        for dependency in resource.dependencies.keys() {
            dependents.entry(dependency).or_default().push(id);
        }
    }
    let mut ready: BTreeSet<&ResourceId> =
        missing.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    let mut order = Vec::with_capacity(resources.len());
    while let Some(id) = ready.pop_first() {
        order.push(id.clone());
        for dependent in dependents.get(id).into_iter().flatten() {
            if let Some(count) = missing.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(dependent);
                }
            }
        }
    }
    match missing.iter().find(|(_, count)| **count > 0) {
        Some((id, _)) => Err(GraphError::Cycle((*id).clone())),
        None => Ok(order),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::{Attributes, Executor, Kind, Payload};

    fn resource(name: &str, needs: &[&str]) -> Resource {
        Resource {
            id: ResourceId::new(Kind::Network, name),
            executor: Executor::Manager,
            member: None,
            dependencies: needs
                .iter()
                .map(|need| (ResourceId::new(Kind::Network, *need), Dependency::Content))
                .collect(),
            attributes: Attributes::Network { name: name.to_owned(), attachable: true },
            may_differ: Vec::new(),
            payload: Payload::None,
        }
    }

    #[test]
    fn order_respects_dependencies() {
        let graph = Graph::new([resource("a", &["b"]), resource("b", &["c"]), resource("c", &[])]).unwrap();
        let names: Vec<&str> = graph.in_order().map(|r| r.id.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a"]);
    }

    #[test]
    fn what_is_no_graph_is_refused() {
        let id = |name: &str| ResourceId::new(Kind::Network, name);
        assert_eq!(Graph::new([resource("a", &["a"])]), Err(GraphError::SelfDependency(id("a"))));
        assert_eq!(
            Graph::new([resource("a", &["x"])]),
            Err(GraphError::MissingDependency { of: id("a"), missing: id("x") })
        );
        assert_eq!(Graph::new([resource("a", &["b"]), resource("b", &["a"])]), Err(GraphError::Cycle(id("a"))));
        assert_eq!(Graph::new([resource("a", &[]), resource("a", &[])]), Err(GraphError::Duplicate(id("a"))));
    }

    #[test]
    fn digests_follow_content_dependencies() {
        let one = Graph::new([resource("a", &["b"]), resource("b", &[])]).unwrap();
        let mut changed = resource("b", &[]);
        changed.attributes = Attributes::Network { name: "b".to_owned(), attachable: false };
        let two = Graph::new([resource("a", &["b"]), changed]).unwrap();
        let id = ResourceId::new(Kind::Network, "a");
        assert_ne!(one.digest(&id), two.digest(&id));
    }
}
