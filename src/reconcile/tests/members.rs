//! etcd's members in passes over the fleet: they come one by one, one that goes leaves nothing, and whatever happens in
//! between is finished.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::pass::Next;
use super::site::Site;
use crate::domain::layout;
use crate::drivers::fake::{CallSeen, Fate, Fates, Mishap, System};
use crate::model::{HostId, HostStanding, Scope};
use crate::store::Rows as _;
use crate::world::{record, roster};

fn host(number: u8) -> HostId {
    HostId::parse(&format!("host-{number}")).unwrap()
}

fn hosts(numbers: &[u8]) -> BTreeSet<HostId> {
    numbers.iter().map(|number| host(*number)).collect()
}

impl Site {
    /// The hosts that have a member by the record, by etcd's list, and by Swarm's services; all must agree.
    async fn members(&self) -> BTreeSet<HostId> {
        let world = &self.shared.world;
        let held = world.record.get();
        let by_record: BTreeSet<HostId> = held.etcd_members.keys().cloned().collect();
        let listed = world.drivers.etcd.members(&world.etcd().await.unwrap()).await.unwrap();
        assert!(listed.iter().all(|member| member.votes), "{listed:?}");
        let port = self.shared.options.fleet.etcd_peer_port;
        let url = |address: &String| layout::etcd_url(address, port);
        let urls: BTreeSet<String> = listed.into_iter().flat_map(|member| member.peer_urls).collect();
        assert_eq!(urls, held.etcd_members.values().map(url).collect());
        let services = world.drivers.swarm.services(&world.selector(&Scope::Fleet)).await.unwrap();
        let names: BTreeSet<String> = services.into_iter().map(|service| service.attributes.name).collect();
        assert_eq!(names, by_record.iter().map(|host| layout::etcd_service(&world.fleet, host)).collect());
        assert_eq!(held.etcd_change, None);
        assert_eq!(record::newest_revision(world, &Scope::Fleet).await, Ok(Some(held.revision)));
        by_record
    }

    /// A host stands otherwise from now on, as a command asks for.
    async fn stands(&self, number: u8, standing: Option<HostStanding>) {
        let wishes = [(host(number), standing)].into();
        self.shared.store.write(move |writer| writer.put_host_wishes(&wishes)).await.unwrap();
        self.settle(&Scope::Fleet).await;
        assert!(self.shared.store.read(|reader| reader.host_wishes()).unwrap().is_empty());
        assert_eq!(self.shared.world.record.get().hosts.get(&host(number)).copied(), standing);
    }

    /// The directories of etcd's data on another host.
    async fn data(&self, number: u8) -> BTreeSet<String> {
        let (_, world) = &self.others.worlds[&host(number)];
        let mut found = BTreeSet::new();
        for revision in 1..40 {
            let path = layout::etcd_data(&world.facts.data_dir, Some(revision));
            if world.drivers.host.directory(&path).await.unwrap().is_some() {
                found.insert(path);
            }
        }
        found
    }
}

#[tokio::test(start_paused = true)]
async fn three_hosts_have_a_member_each() {
    let site = Site::among(2).await;
    site.settle(&Scope::Fleet).await;
    assert_eq!(site.members().await, hosts(&[1, 2, 3]));
    assert_eq!(site.data(2).await.len(), 1);
    let two = Site::among(1).await;
    two.settle(&Scope::Fleet).await;
    assert_eq!(two.members().await, hosts(&[1]), "two members would need each other");
}

#[tokio::test(start_paused = true)]
async fn a_drained_host_gives_its_member_to_another_and_keeps_nothing() {
    let site = Site::among(3).await;
    site.settle(&Scope::Fleet).await;
    assert_eq!(site.members().await, hosts(&[1, 2, 3]));
    site.stands(2, Some(HostStanding::Drained)).await;
    assert_eq!(site.members().await, hosts(&[1, 3, 4]));
    assert_eq!(site.data(2).await, BTreeSet::new());
    site.stands(2, None).await;
    assert_eq!(site.members().await, hosts(&[1, 3, 4]), "nobody moves without need");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_somebody_took_out_is_made_anew() {
    let site = Site::among(2).await;
    site.settle(&Scope::Fleet).await;
    let (world, before) = (&site.shared.world, site.data(3).await);
    let target = world.etcd().await.unwrap();
    let address = world.record.get().etcd_members[&host(3)].clone();
    let listed = world.drivers.etcd.members(&target).await.unwrap();
    let third = listed.iter().find(|member| member.peer_urls.iter().any(|url| url.contains(&address))).unwrap();
    world.drivers.etcd.remove_member(&target, &third.id).await.unwrap();
    site.settle(&Scope::Fleet).await;
    assert_eq!(site.members().await, hosts(&[1, 2, 3]));
    let after = site.data(3).await;
    assert!(after.len() == 1 && after != before, "on data of its own: {before:?} {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_nobody_wants_goes() {
    let site = Site::among(0).await;
    let world = &site.shared.world;
    world.drivers.etcd.add_member(&world.etcd().await.unwrap(), "https://192.0.2.77:2380").await.unwrap();
    site.settle(&Scope::Fleet).await;
    assert_eq!(site.members().await, hosts(&[1]));
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_holds_up_nothing_and_is_replaced_once_it_is_removed() {
    let site = Site::among(3).await;
    site.settle(&Scope::Fleet).await;
    site.others.silent.lock().unwrap().insert(host(2));
    site.settle(&Scope::Fleet).await;
    assert_eq!(site.members().await, hosts(&[1, 2, 3]), "it may come back");
    let world = &site.shared.world;
    for facts in world.hosts.iter() {
        roster::announce(&site.fake, &world.fleet, facts).await.unwrap();
    }
    site.stands(2, Some(HostStanding::Removed)).await;
    assert_eq!(site.members().await, hosts(&[1, 3, 4]));
    let left = roster::read(&site.fake, &world.fleet).await.unwrap();
    assert_eq!(left.iter().map(|facts| facts.host.clone()).collect::<BTreeSet<_>>(), hosts(&[1, 3, 4]));
    let calls = site.fake.take_calls();
    let removed: Vec<_> = calls.iter().filter(|call| call.name == "swarm.remove_node").collect();
    assert!(removed.len() == 1 && removed[0].act.contains("node2"), "{removed:?}");
}

/// Each call that changes something gets through, and its answer is lost, or it does not get through, once.
struct Once {
    seen: BTreeSet<String>,
    reaches: bool,
}

impl Fates for Once {
    fn of(&mut self, _system: System, call: &CallSeen) -> Fate {
        let changes = call.name.ends_with("_member") || call.name.contains("create");
        let first = changes && self.seen.insert(format!("{call:?}"));
        let mishap = if self.reaches { Mishap::Unheard } else { Mishap::Lost };
        Fate { mishap: first.then_some(mishap), ..Fate::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_gets_lost_is_done_once_and_finished() {
    for reaches in [true, false] {
        let site = Site::among(3).await;
        site.fake.ruled_by(Box::new(Once { seen: BTreeSet::new(), reaches }));
        while site.pass(&Scope::Fleet).await != Next::Settled {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(site.members().await, hosts(&[1, 2, 3]), "reaches: {reaches}");
        let revision = site.shared.world.record.get().revision;
        assert_eq!(revision, 7, "two members came, each with a record when it came, had started, and had its vote");
    }
}
