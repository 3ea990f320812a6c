//! Images for all hosts: who is asked for what, what waits meanwhile, and who hears when one arrived.

use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::super::images::{Board, Images};
use super::super::pass::Next;
use super::site::Site;
use crate::contract::documents::{ConditionType, EventType, State};
use crate::model::{HostId, Scope};
use crate::runtime::bell::{Bell, Listener, bell};
use crate::world::World;
use crate::world::images::Arrival;

fn host(number: u8) -> HostId {
    HostId::parse(&format!("host-{number}")).unwrap()
}

/// What sees to images, and what it remembers and rings.
struct Supply {
    images: Images,
    board: Board,
    rings: (Bell, Listener),
}

impl Supply {
    fn of(site: &Site) -> Self {
        site.shared.world.images.keep_board();
        Self { images: Images { shared: Arc::clone(&site.shared) }, board: Board::new(), rings: bell() }
    }

    async fn round(&mut self) {
        self.images.round(&mut self.board, &self.rings.0).await.unwrap();
    }
}

impl Site {
    fn other(&self, number: u8) -> &World {
        &self.others.worlds[&host(number)].1
    }

    /// Takes an image from a host.
    fn without(&self, number: u8, image: &str) {
        self.others.worlds[&host(number)].0.remove_image(image, false);
    }

    /// The image arrives on a host, by whatever way.
    fn gets(&self, number: u8, image: &str) {
        let right = &self.fake;
        let labels = right.image_labels(image).unwrap();
        self.others.worlds[&host(number)].0.add_image(image, labels);
    }

    /// While the hosts hand over what they are asked for.
    fn while_giving<'a, T: 'a>(&'a self, work: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
        Box::pin(self.giving(work))
    }

    async fn giving<T>(&self, work: impl Future<Output = T>) -> T {
        let (stop, leads) = (CancellationToken::new(), &self.shared.world);
        let working = async {
            let done = work.await;
            stop.cancel();
            done
        };
        tokio::join!(working, leads.images.run(leads, stop.clone())).0
    }
}

fn etcd(site: &Site) -> String {
    site.shared.options.catalogue.etcd.image.clone()
}

fn postgres(site: &Site) -> String {
    let catalogue = &site.shared.options.catalogue;
    catalogue.postgres(&catalogue.default).unwrap().image.clone()
}

#[tokio::test(start_paused = true)]
async fn a_host_without_images_is_given_etcds_first_and_no_member_before() {
    let site = Site::among(2).await;
    let (etcd, postgres) = (etcd(&site), postgres(&site));
    site.without(3, &etcd);
    site.without(3, &postgres);
    let mut supply = Supply::of(&site);
    site.while_giving(supply.round()).await;
    let arriving = site.other(3).images.arriving().unwrap();
    let Arrival { image, from, bytes: 0, of_bytes } = arriving else { panic!("{arriving:?}") };
    assert_eq!((image, from), (etcd.clone(), Some(host(1))), "from the first that has it");
    assert!(of_bytes > 0);
    assert_eq!(site.other(2).images.arriving(), None, "it has them all");
    // Two members would need each other, so none comes until both hosts can.
    site.settle(&Scope::Fleet).await;
    assert_eq!(site.shared.world.record.get().etcd_members.len(), 1);
    site.gets(3, &etcd);
    supply.round().await;
    assert!(supply.rings.1.wait().await.contains(&Scope::Fleet), "who waited for it hears");
    site.settle(&Scope::Fleet).await;
    assert_eq!(site.shared.world.record.get().etcd_members.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_spec_for_a_host_without_the_image_waits_and_says_for_what() {
    let site = Site::among(2).await;
    site.settle(&Scope::Fleet).await;
    let image = postgres(&site);
    site.without(2, &image);
    let mut supply = Supply::of(&site);
    site.while_giving(async {
        site.publish(r#"{"template": "postgres", "nodes": [{"name": "n1", "host_ids": ["host-2"]}]}"#).await;
        // It is accepted, since another host has the image; and held from then on.
        while matches!(site.look().await, Next::Again) {}
        assert_eq!(site.status().state, State::Creating);
        let waiting = site.condition(ConditionType::Waiting).unwrap();
        assert_eq!(waiting.reason, "ImageArrives", "{}", waiting.message);
        assert!(waiting.message.contains(&format!("image {image} is not on host host-2")), "{}", waiting.message);
        supply.round().await;
        supply.round().await;
        site.look().await;
        let waiting = site.condition(ConditionType::Waiting).unwrap();
        let words = format!("image {image} is being handed over from host-1 to host-2 (0 of 0 MB)");
        assert!(waiting.message.contains(&words), "{}", waiting.message);
        // An hour later, and still on its way: that has a deadline of its own.
        tokio::time::sleep(std::time::Duration::from_secs(3500)).await;
        site.look().await;
        assert_eq!(site.status().state, State::Creating);
        let services = async || site.fake.drivers().swarm.services(&site.shared.world.selector(&site.scope())).await;
        assert!(services().await.unwrap().is_empty());
        site.events();
        site.gets(2, &image);
        supply.round().await;
        let arrived = site.events_of(EventType::ImageArrived);
        assert_eq!(arrived.len(), 1);
        assert!(arrived[0].data.message.contains("arrived on host host-2"), "{arrived:?}");
        assert!(supply.rings.1.wait().await.contains(&site.scope()));
        site.look().await;
        assert_eq!(services().await.unwrap().len(), 1);
        supply.round().await;
        assert!(site.events_of(EventType::ImageArrived).is_empty(), "once");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_nobody_has_is_missing_and_a_silent_host_holds_up_nobody() {
    let site = Site::among(2).await;
    site.settle(&Scope::Fleet).await;
    let image = postgres(&site);
    site.fake.remove_image(&image, false);
    site.without(2, &image);
    site.without(3, &image);
    site.others.silent.lock().unwrap().insert(host(3));
    let mut supply = Supply::of(&site);
    site.while_giving(supply.round()).await;
    let images = &site.shared.world.images;
    let why = images.why_missing(&host(2), &image).unwrap();
    assert!(why.contains("nor on any other host"), "{why}");
    assert_eq!(images.why_missing(&host(3), &image), None, "nothing is known of it");
    assert_eq!(images.arriving(), None);
    site.publish(r#"{"template": "postgres", "nodes": [{"name": "n1", "host_ids": ["host-2"]}]}"#).await;
    site.look().await;
    assert_eq!(site.status().state, State::Rejected, "no registry has it either");
}

#[tokio::test(start_paused = true)]
async fn hosts_that_disagree_get_what_the_one_that_leads_runs() {
    let site = Site::among(2).await;
    let image = postgres(&site);
    site.without(3, &image);
    site.without(2, &image);
    site.others.worlds[&host(2)].0.add_image(&image, Default::default());
    let mut supply = Supply::of(&site);
    site.while_giving(supply.round()).await;
    assert_eq!(site.other(3).images.arriving().unwrap().from, Some(host(1)));
    let right = site.shared.world.images.look(&site.shared.world, &[image.clone()].into()).await.unwrap();
    let other = site.other(2).images.look(site.other(2), &[image.clone()].into()).await.unwrap();
    assert_ne!(right.present[&image].id, other.present[&image].id);
    assert_eq!(site.other(2).images.arriving(), None, "what is there is not replaced");
}
