//! What is left of purged databases on a host that did not answer: remembered by the fleet's record, deleted when the host
//! answers, and only what the record says.

use std::collections::BTreeSet;

use super::site::Site;
use crate::domain::layout;
use crate::drivers::host::Permissions;
use crate::model::{DatabaseId, HostId, InstanceId, NodeName, Scope, Secret};
use crate::world::{World, record};

fn other() -> HostId {
    HostId::parse("host-2").unwrap()
}

fn instance(database: &str) -> InstanceId {
    InstanceId::derive(&DatabaseId::parse(database).unwrap(), &NodeName::parse("n1").unwrap(), &other())
}

impl Site {
    /// The other host's world.
    fn there(&self) -> &World {
        &self.others.worlds[&other()].1
    }

    /// What the fleet's record says is left on the other host.
    fn left(&self) -> BTreeSet<InstanceId> {
        self.shared.world.record.get().leftovers.get(&other()).cloned().unwrap_or_default()
    }

    /// The other host has a database's data, and that of one in the trash.
    async fn data_of(&self, database: &str) -> [String; 2] {
        let (world, instance) = (self.there(), instance(database));
        let data = layout::data_directory(&world.facts.data_dir, instance.as_str());
        let trash = layout::trash(&world.facts.data_dir, instance.as_str());
        for path in [&data, &trash] {
            world.drivers.host.make_directory(path, Permissions { mode: 0o700, uid: 26, gid: 26 }).await.unwrap();
        }
        [data, trash]
    }

    async fn is_there(&self, path: &str) -> bool {
        self.there().drivers.host.directory(path).await.unwrap().is_some()
    }

    /// All hosts are managers of one Swarm; the in-memory ones have one each.
    async fn replicate(&self) {
        let held = self.shared.world.record.get();
        let text = Secret::new(serde_json::to_string(&*held).unwrap());
        record::put(self.there(), &Scope::Fleet, held.revision, &text).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_silent_host_owes_is_remembered_and_deleted_when_it_answers() {
    let site = Site::among(2).await;
    site.settle(&Scope::Fleet).await;
    let (gone, kept) = (site.data_of("gone").await, site.data_of("kept").await);
    site.others.silent.lock().unwrap().insert(other());
    let owed = [(other(), BTreeSet::from([instance("gone")]))].into();
    assert!(!site.shared.owed.is_kept(&owed, &site.shared.world.record.get()), "the record has yet to say it");
    site.settle(&Scope::Fleet).await;
    assert!(site.shared.owed.is_kept(&owed, &site.shared.world.record.get()));
    assert_eq!(site.left(), [instance("gone")].into());
    let found = record::newest_revision(&site.shared.world, &Scope::Fleet).await;
    assert_eq!(found, Ok(Some(site.shared.world.record.get().revision)), "another leader knows it too");

    // It answers, and has not heard yet of what it owes: nothing goes, and nothing is forgotten.
    site.others.silent.lock().unwrap().clear();
    site.settle(&Scope::Fleet).await;
    assert!(site.is_there(&gone[0]).await && !site.left().is_empty());
    site.replicate().await;
    site.settle(&Scope::Fleet).await;
    assert_eq!(site.left(), BTreeSet::new());
    for (path, there) in [(&gone[0], false), (&gone[1], false), (&kept[0], true), (&kept[1], true)] {
        assert_eq!(site.is_there(path).await, there, "{path}");
    }
    // A question that comes late does nothing to an instance that has the name since.
    site.replicate().await;
    let again = site.data_of("gone").await;
    let asked = crate::execute::ask(&site.shared.world, &other(), crate::world::work::Question::Clear).await;
    asked.unwrap();
    assert!(site.is_there(&again[0]).await);
}
