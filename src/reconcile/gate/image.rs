//! Image: a service is not made or changed on a host that lacks its image, as Docker would only say so, and an instance
//! that runs would be gone. The image is on its way, or what keeps it away is said.

use super::Gate;
use crate::domain::Hosts;
use crate::model::{Attributes, Graph};
use crate::plan::{Action, Hold, Step};
use crate::world::images::Depot;

/// Holds services whose host is known to lack the image.
pub(in super::super) struct Image<'a> {
    images: &'a Depot,
    hosts: &'a Hosts,
    desired: &'a Graph,
}

impl<'a> Image<'a> {
    /// By what the hosts have said of their images.
    pub(in super::super) fn new(images: &'a Depot, hosts: &'a Hosts, desired: &'a Graph) -> Self {
        Self { images, hosts, desired }
    }
}

impl Gate for Image<'_> {
    fn holds(&mut self, step: &Step) -> Option<Hold> {
        match step.action {
            Action::Create | Action::Recreate | Action::Update => {}
            Action::Delete | Action::Switchover => return None,
        }
        let Attributes::Service(service) = &self.desired.get(&step.resource)?.attributes else { return None };
        let host = self.hosts.iter().find(|facts| facts.swarm_node == service.swarm_node)?;
        let words = self.images.why_missing(&host.host, &service.image)?;
        Some(Hold::Image { host: host.host.clone(), image: service.image.clone(), words })
    }
}
