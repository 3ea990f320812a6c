//! Docker Swarm and the engine, as the driver's trait asks for them.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::World;
use super::call::{Refusal, System};
use super::images;
use super::network::selects;
use super::service::Service;
use super::shelf::Key;
use crate::drivers::Result;
use crate::drivers::swarm::{
    ConfigSeen, ContainerSeen, EngineSeen, Event, ImageSeen, ImageStream, Labels, NetworkSeen, ServiceSeen, Swarm,
    SwarmAdmission, TaskSeen,
};
use crate::model::Secret;
use crate::model::service::ServiceAttributes;

#[async_trait]
impl Swarm for World {
    async fn engine(&self) -> Result<EngineSeen> {
        self.call(System::Swarm, "swarm.engine", "ask the engine".to_owned(), |state| {
            let machine = state.machine()?;
            Ok(EngineSeen {
                engine_version: "20.10.24".to_owned(),
                swarm_node: Some(state.here.clone()),
                manager: true,
                leader: state.machines.is_led_by(&state.here, state.now_ms),
                address: Some(machine.address),
                hostname: machine.hostname.clone(),
                cpus: machine.cpus,
                memory_bytes: machine.memory_bytes,
                root_dir: state.options.data_dir.clone(),
            })
        })
        .await
    }

    async fn admission(&self) -> Result<SwarmAdmission> {
        self.call(System::Swarm, "swarm.admission", "ask how to join".to_owned(), |state| {
            state.with_majority()?;
            Ok(SwarmAdmission {
                cluster: "fake".to_owned(),
                token: Secret::new("SWMTKN-fake"),
                managers: vec![format!("{}:2377", state.machine()?.address)],
            })
        })
        .await
    }

    async fn services(&self, selector: &Labels) -> Result<Vec<ServiceSeen>> {
        self.call(System::Swarm, "swarm.services", "list services".to_owned(), |state| {
            let wanted = |labels: &Labels| selects(selector, labels);
            state.read_swarm(
                |state| {
                    let services = state.services.labelled(selector).filter(|one| wanted(&one.attributes.labels));
                    services.map(Service::seen).collect()
                },
                |belief| belief.services.iter().filter(|one| wanted(&one.attributes.labels)).cloned().collect(),
            )
        })
        .await
    }

    async fn create_service(&self, attributes: &ServiceAttributes) -> Result<String> {
        let about = format!("create service {}", attributes.name);
        self.call(System::Swarm, "swarm.create_service", about, |state| {
            state.with_majority()?;
            state.create_service(attributes)
        })
        .await
    }

    async fn update_service(&self, id: &str, attributes: &ServiceAttributes) -> Result<()> {
        let about = format!("update service {}", attributes.name);
        self.call(System::Swarm, "swarm.update_service", about, |state| {
            state.with_majority()?;
            if state.update_service(id, attributes)? {
                state.interrupt(&attributes.name);
            }
            Ok(())
        })
        .await
    }

    async fn remove_service(&self, id: &str) -> Result<()> {
        let about = format!("remove service {id}");
        self.call(System::Swarm, "swarm.remove_service", about, |state| {
            state.with_majority()?;
            state.remove_service(id)
        })
        .await
    }

    async fn tasks(&self, service: &str) -> Result<Vec<TaskSeen>> {
        let about = format!("list tasks of {service}");
        self.call(System::Swarm, "swarm.tasks", about, |state| {
            state.with_majority()?;
            Ok(state.tasks_seen(service))
        })
        .await
    }

    async fn networks(&self, selector: &Labels) -> Result<Vec<NetworkSeen>> {
        self.call(System::Swarm, "swarm.networks", "list networks".to_owned(), |state| {
            let wanted = |network: &&NetworkSeen| selects(selector, &network.labels);
            state.read_swarm(
                |state| state.networks.labelled(selector).filter(wanted).cloned().collect(),
                |belief| belief.networks.iter().filter(wanted).cloned().collect(),
            )
        })
        .await
    }

    async fn find_network(&self, name_or_id: &str) -> Result<Option<NetworkSeen>> {
        let about = format!("find network {name_or_id}");
        self.call(System::Swarm, "swarm.find_network", about, |state| {
            let named = |network: &&NetworkSeen| network.name == name_or_id || network.id == name_or_id;
            state.read_swarm(
                |state| state.network(name_or_id).cloned(),
                |belief| belief.networks.iter().find(named).cloned(),
            )
        })
        .await
    }

    async fn create_network(&self, name: &str, attachable: bool, labels: &Labels) -> Result<String> {
        let about = format!("create network {name}");
        self.call(System::Swarm, "swarm.create_network", about, |state| {
            state.with_majority()?;
            state.create_network(name, attachable, labels)
        })
        .await
    }

    async fn free_subnets(&self) -> Result<Option<u64>> {
        self.call(System::Swarm, "swarm.free_subnets", "count Swarm's subnets".to_owned(), |state| {
            state.with_majority()?;
            Ok(Some(state.free_subnets()))
        })
        .await
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        let about = format!("remove network {id}");
        self.call(System::Swarm, "swarm.remove_network", about, |state| {
            state.with_majority()?;
            state.remove_network(id)
        })
        .await
    }

    async fn configs(&self, selector: &Labels) -> Result<Vec<ConfigSeen>> {
        self.call(System::Swarm, "swarm.configs", "list configs".to_owned(), |state| {
            let wanted = |config: &&ConfigSeen| selects(selector, &config.labels);
            state.read_swarm(
                |state| state.configs.labelled(selector).filter(wanted).cloned().collect(),
                |belief| belief.configs.iter().filter(wanted).cloned().collect(),
            )
        })
        .await
    }

    async fn create_config(&self, name: &str, labels: &Labels, data: &[u8]) -> Result<String> {
        let about = format!("create config {name}");
        self.call(System::Swarm, "swarm.create_config", about, |state| {
            state.with_majority()?;
            state.create_config(name, labels, data)
        })
        .await
    }

    async fn label_config(&self, seen: &ConfigSeen, labels: &Labels) -> Result<()> {
        let about = format!("label config {}", seen.name);
        self.call(System::Swarm, "swarm.label_config", about, |state| {
            state.with_majority()?;
            state.label_config(seen, labels)
        })
        .await
    }

    async fn remove_config(&self, id: &str) -> Result<()> {
        let about = format!("remove config {id}");
        self.call(System::Swarm, "swarm.remove_config", about, |state| {
            state.with_majority()?;
            state.remove_config(id)
        })
        .await
    }

    async fn remove_node(&self, node: &str) -> Result<()> {
        let about = format!("remove node {node}");
        self.call(System::Swarm, "swarm.remove_node", about, |state| {
            state.with_majority()?;
            if node == state.here {
                return Err(Refusal::failed("node is a member of the raft cluster and cannot remove itself"));
            }
            state.count("remove node", node);
            Ok(())
        })
        .await
    }

    async fn containers(&self, selector: &Labels) -> Result<Vec<ContainerSeen>> {
        self.call(System::Swarm, "swarm.containers", "list containers".to_owned(), |state| {
            let containers = state
                .containers
                .labelled(selector)
                .filter(|one| one.is_on(&state.here) && selects(selector, &one.labels));
            Ok(containers.map(super::engine::Container::seen).collect())
        })
        .await
    }

    async fn containers_mounting(&self, path: &str) -> Result<Vec<ContainerSeen>> {
        let about = format!("list containers that mount {path}");
        self.call(System::Swarm, "swarm.containers_mounting", about, |state| {
            let wanted = Key::Mount(state.at_path(path.trim_end_matches('/')));
            let live = state.containers.found(&wanted).filter(|container| container.is_live());
            Ok(live.map(super::engine::Container::seen).collect())
        })
        .await
    }

    async fn log(&self, container: &str, _lines: u32) -> Result<Vec<String>> {
        let about = format!("read the log of container {container}");
        self.call(System::Swarm, "swarm.log", about, |state| state.log(container)).await
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageSeen>> {
        let about = format!("look at image {reference}");
        self.call(System::Swarm, "swarm.image", about, |state| {
            Ok(state.machine()?.images.get(reference).map(|labels| images::seen(reference, labels)))
        })
        .await
    }

    async fn pull(&self, reference: &str) -> Result<()> {
        let about = format!("pull {reference}");
        self.call(System::Swarm, "swarm.pull", about, |state| {
            let machine = state.machine_mut()?;
            let Some(labels) = machine.pullable.get(reference).cloned() else {
                let why = format!("pull access denied for {reference}, repository does not exist");
                return Err(Refusal::failed(why));
            };
            machine.images.insert(reference.to_owned(), labels);
            Ok(())
        })
        .await
    }

    async fn export_image(&self, reference: &str) -> Result<ImageStream> {
        images::export(self, reference).await
    }

    async fn import_image(&self, image: ImageStream) -> Result<()> {
        images::import(self, image).await
    }

    async fn tag_image(&self, reference: &str, name: &str) -> Result<()> {
        let about = format!("name image {reference} {name}");
        self.call(System::Swarm, "swarm.tag_image", about, |state| {
            let images = &mut state.machine_mut()?.images;
            let labels = images.get(reference).cloned().ok_or(Refusal::NotFound)?;
            images.insert(name.to_owned(), labels);
            Ok(())
        })
        .await
    }

    async fn untag_image(&self, reference: &str) -> Result<()> {
        let about = format!("take the name {reference}");
        self.call(System::Swarm, "swarm.untag_image", about, |state| {
            state.machine_mut()?.images.remove(reference).map(|_labels| ()).ok_or(Refusal::NotFound)
        })
        .await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        let about = "listen to events".to_owned();
        let cursor = self.call(System::Swarm, "swarm.events", about, |state| Ok(state.events_end())).await?;
        let stream = stream::unfold((self.clone(), cursor), |(world, cursor)| async move {
            loop {
                // The guard ends with this block: nothing is locked while we sleep.
                let (next, pause_ms) = {
                    let state = world.state();
                    (state.event_at(cursor), state.options.delays.events_ms)
                };
                if let Some((event, cursor)) = next {
                    return Some((event, (world, cursor)));
                }
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
        });
        Ok(stream.boxed())
    }
}
