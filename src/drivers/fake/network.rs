//! Networks and configs of the Swarm.

use super::call::{Outcome, Refusal};
use super::shelf::{Key, Shelf};
use super::state::State;
use crate::drivers::swarm::{ConfigSeen, Labels, NetworkSeen};

/// A network, as it is seen.
pub(super) type Network = NetworkSeen;

/// What every Docker in a Swarm has.
pub(super) fn predefined() -> Shelf<Network> {
    let network = |name: &str, scope: &str, driver: &str| Network {
        id: format!("{name}0000000000000000"),
        name: name.to_owned(),
        scope: scope.to_owned(),
        driver: driver.to_owned(),
        attachable: false,
        labels: Labels::new(),
    };
    let mut shelf = Shelf::new(0);
    for network in
        [network("bridge", "local", "bridge"), network("host", "local", "host"), network("ingress", "swarm", "overlay")]
    {
        shelf.insert(network.id.clone(), network);
    }
    shelf
}

/// Whether all of `selector` stands in `labels`.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn note_labels(state: &mut State, place: &str, labels: &Labels) {
    for (key, value) in labels {
        state.watch.visible(&format!("label {key} of {place}"), value);
    }
}

impl State {
    pub(super) fn network(&self, name_or_id: &str) -> Option<&Network> {
        self.networks.get(name_or_id).or_else(|| self.networks.found(&Key::Name(name_or_id.to_owned())).next())
    }

    /// What is left of Swarm's address pool, from which `ingress` has its subnet too.
    pub(super) fn free_subnets(&self) -> u64 {
        let overlays = self.networks.values().filter(|network| network.driver == "overlay").count();
        u64::try_from((self.options.networks_max + 1).saturating_sub(overlays)).unwrap_or(u64::MAX)
    }

    pub(super) fn create_network(&mut self, name: &str, attachable: bool, labels: &Labels) -> Outcome<String> {
        if self.network(name).is_some() {
            return Err(Refusal::Conflict(format!("network with name {name} already exists")));
        }
        if self.free_subnets() == 0 {
            return Err(Refusal::failed(
                "Swarm gave it no subnet: could not find an available, non-overlapping IPv4 address pool among the defaults \
                 to assign to the network",
            ));
        }
        let id = self.new_id("net");
        note_labels(self, &format!("network {name}"), labels);
        let network = Network {
            id: id.clone(),
            name: name.to_owned(),
            scope: "swarm".to_owned(),
            driver: "overlay".to_owned(),
            attachable,
            labels: labels.clone(),
        };
        self.networks.insert(id.clone(), network);
        self.count("create network", name);
        self.emit("network", "create", Labels::from([("name".to_owned(), name.to_owned())]));
        Ok(id)
    }

    pub(super) fn remove_network(&mut self, id: &str) -> Outcome<()> {
        let Some(network) = self.networks.get(id).cloned() else { return Err(Refusal::NotFound) };
        let joined = |attributes: &crate::model::service::ServiceAttributes| {
            attributes.networks.iter().any(|at| at.network == network.name || at.network == network.id)
        };
        if let Some(service) = self.services.values().find(|service| joined(&service.attributes)) {
            let why = format!("network {} is in use by service {}", network.name, service.id);
            return Err(Refusal::Conflict(why));
        }
        if self.containers.values().any(|container| container.is_live() && joined(&container.attributes)) {
            return Err(Refusal::Conflict(format!("network {} has active endpoints", network.name)));
        }
        if network.driver != "overlay" || network.name == "ingress" {
            return Err(Refusal::failed(format!("{} is a pre-defined network and cannot be removed", network.name)));
        }
        self.check_ours(&format!("network {}", network.name), &network.labels);
        self.networks.remove(id);
        self.count("remove network", &network.name);
        self.emit("network", "remove", Labels::from([("name".to_owned(), network.name)]));
        Ok(())
    }

    pub(super) fn create_config(&mut self, name: &str, labels: &Labels, data: &[u8]) -> Outcome<String> {
        if self.configs.found(&Key::Name(name.to_owned())).next().is_some() {
            return Err(Refusal::Conflict(format!("config {name} already exists")));
        }
        let id = self.new_id("cfg");
        let place = format!("config {name}");
        note_labels(self, &place, labels);
        self.watch.visible(&place, &String::from_utf8_lossy(data));
        let config = ConfigSeen {
            id: id.clone(),
            name: name.to_owned(),
            labels: labels.clone(),
            data: data.to_owned(),
            version: self.last_number(),
        };
        self.configs.insert(id.clone(), config);
        self.count("create config", name);
        Ok(id)
    }

    pub(super) fn label_config(&mut self, seen: &ConfigSeen, labels: &Labels) -> Outcome<()> {
        let Some(live) = self.configs.get(&seen.id).cloned() else { return Err(Refusal::NotFound) };
        if live.version != seen.version {
            return Err(Refusal::Conflict("update out of sequence".to_owned()));
        }
        let place = format!("config {}", live.name);
        self.check_ours(&place, &live.labels);
        note_labels(self, &place, labels);
        self.configs.replace(&seen.id, |config| {
            config.labels = labels.clone();
            config.version += 1;
        });
        Ok(())
    }

    pub(super) fn remove_config(&mut self, id: &str) -> Outcome<()> {
        let Some(config) = self.configs.remove(id) else { return Err(Refusal::NotFound) };
        self.check_ours(&format!("config {}", config.name), &config.labels);
        self.count("remove config", &config.name);
        Ok(())
    }
}
