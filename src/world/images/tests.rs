//! Images between two hosts over a real connection, each host an in-memory world.

use std::pin::Pin;
use std::sync::Arc;

use super::*;
use crate::domain::{HostFacts, Hosts, Owner, catalogue, fleet};
use crate::drivers::seal::FleetKey;
use crate::drivers::{certificates, fake, handover};
use crate::model::FleetId;
use crate::runtime::clock::{SharedClock, SystemClock};
use crate::runtime::random::Random;
use crate::world::current::Current;

const IMAGE: &str = "pgmoor/special:1";
const REGISTRY: &str = "registry.example.org/pgmoor/";

struct Site {
    one: (fake::World, World),
    two: (fake::World, World),
    _key: tempfile::TempDir,
}

fn host(name: &str) -> HostId {
    HostId::parse(name).unwrap()
}

fn labels(what: &str) -> crate::drivers::swarm::Labels {
    [("what".to_owned(), what.to_owned())].into()
}

fn asked() -> BTreeSet<String> {
    [IMAGE.to_owned()].into()
}

impl Site {
    /// Two hosts on loopback; the first has the image.
    fn new(registry: Option<&str>) -> Self {
        // Certificates are checked against the clock of this machine.
        let clock: SharedClock = SystemClock::shared();
        let directory = tempfile::tempdir().unwrap();
        let key = Arc::new(FleetKey::load_or_create(&directory.path().join("fleet.key")).unwrap());
        let id = FleetId::parse("edge").unwrap();
        let facts = ["host-1", "host-2"].map(|name| HostFacts {
            host: host(name),
            hostname: name.to_owned(),
            swarm_node: name.to_owned(),
            data_dir: "/var/lib/pgmoor".to_owned(),
            advertise_address: IpAddr::from([127, 0, 0, 1]),
            cpus: 2,
            memory_bytes: 1 << 32,
            labels: [].into(),
            postgres_owner: Owner::IMAGE,
            etcd_owner: Owner::IMAGE,
        });
        let authority = certificates::make_authority(&id, clock.now_s()).unwrap();
        let member = (&facts[0].host, facts[0].advertise_address);
        let entropy = [7; fleet::ENTROPY_BYTES];
        let record = fleet::mint(&id, member, authority.certificate_pem, authority.key_pem, &entropy);
        let [one, two] = facts.clone().map(|own| {
            let fake = fake::World::new(fake::Options::new(Arc::clone(&clock)));
            let options = Options { registry: registry.map(str::to_owned), port: 0 };
            let world = World {
                drivers: fake.drivers(),
                fleet: id.clone(),
                key: Arc::clone(&key),
                facts: own,
                hosts: facts.iter().cloned().collect::<Hosts>(),
                catalogue: Arc::new(catalogue::embedded().unwrap()),
                record: Current::new(record.clone()),
                etcd_client_port: 2379,
                clock: Arc::clone(&clock),
                random: Random::seeded(7),
                lease: None,
                remote: None,
                images: Arc::new(Depot::new(options)),
            };
            (fake, world)
        });
        one.0.add_image(IMAGE, labels("right"));
        Self { one, two, _key: directory }
    }

    /// Does something while both hosts do what they are asked.
    fn during<'a, T: 'a>(&'a self, work: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
        Box::pin(self.both_at_work(work))
    }

    async fn both_at_work<T>(&self, work: impl Future<Output = T>) -> T {
        let stop = CancellationToken::new();
        let (one, two) = (&self.one.1, &self.two.1);
        let working = async {
            let done = work.await;
            stop.cancel();
            done
        };
        tokio::join!(working, one.images.run(one, stop.clone()), two.images.run(two, stop.clone())).0
    }

    async fn id(&self) -> String {
        let at = self.one.1.images.look(&self.one.1, &asked()).await.unwrap();
        at.present[IMAGE].id.clone()
    }

    /// The first host offers the image.
    async fn offer(&self, ticket: &Secret) -> Result<Giver> {
        let (port, bytes) = self.one.1.images.offer(&self.one.1, IMAGE, &self.id().await, ticket).await?;
        let address = self.one.1.facts.advertise_address;
        Ok(Giver { host: host("host-1"), address, port, ticket: ticket.clone(), bytes })
    }

    /// The second host gets it; gives how it then stands there.
    async fn got(&self, id: Option<String>, giver: Option<Giver>) -> At {
        let world = &self.two.1;
        world.images.order(Order { image: IMAGE.to_owned(), id, giver }).unwrap();
        assert_eq!(world.images.arriving().map(|arrival| arrival.image).as_deref(), Some(IMAGE));
        while world.images.arriving().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.images.look(world, &asked()).await.unwrap()
    }
}

#[tokio::test]
async fn an_image_is_handed_over_and_is_the_same() {
    let site = Site::new(None);
    let before = site.two.1.images.look(&site.two.1, &asked()).await.unwrap();
    assert!(before.present.is_empty() && before.pulls.is_empty());
    site.during(async {
        let id = site.id().await;
        let giver = site.offer(&handover::ticket().unwrap()).await.unwrap();
        let at = site.got(Some(id.clone()), Some(giver)).await;
        assert_eq!((at.present[IMAGE].id.clone(), at.arriving, at.refused), (id, None, BTreeMap::new()));
        assert!(site.two.1.images.has_got_any());
        // The port is closed, and another one may be handed over.
        site.offer(&handover::ticket().unwrap()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn one_is_handed_over_at_a_time_and_only_the_one_that_is_meant() {
    let site = Site::new(None);
    let nobody = site.offer(&handover::ticket().unwrap()).await.unwrap_err();
    assert!(nobody.to_string().contains("its port was not opened"), "{nobody}");
    let site = Site::new(None);
    site.during(async {
        let ticket = handover::ticket().unwrap();
        site.offer(&ticket).await.unwrap();
        site.offer(&ticket).await.unwrap();
        let busy = site.offer(&handover::ticket().unwrap()).await.unwrap_err();
        assert!(busy.to_string().contains("another one is being handed over"), "{busy}");
        let world = &site.one.1;
        let other = world.images.offer(world, IMAGE, "sha256:other", &ticket).await.unwrap_err();
        assert!(other.to_string().contains("another one by now"), "{other}");
        let gone = world.images.offer(world, "gone:1", "sha256:other", &ticket).await.unwrap_err();
        assert!(gone.to_string().contains("not on this host"), "{gone}");
    })
    .await;
}

#[tokio::test]
async fn what_came_is_another_one_and_loses_its_name() {
    let site = Site::new(None);
    site.during(async {
        let giver = site.offer(&handover::ticket().unwrap()).await.unwrap();
        let at = site.got(Some("sha256:wanted".to_owned()), Some(giver)).await;
        assert!(at.present.is_empty() && at.refused[IMAGE].contains("sha256:wanted"), "{at:?}");
        assert!(site.two.1.images.asked()[IMAGE].is_some(), "and the host's status says so");
    })
    .await;
}

#[tokio::test]
async fn a_host_that_is_not_there_is_no_reason_to_wait_for_it() {
    let site = Site::new(None);
    site.during(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, ticket) = (listener.local_addr().unwrap().port(), handover::ticket().unwrap());
        drop(listener);
        let address = IpAddr::from([127, 0, 0, 1]);
        let giver = Giver { host: host("host-1"), address, port, ticket, bytes: 1 };
        let at = site.got(None, Some(giver.clone())).await;
        assert!(at.refused[IMAGE].contains("refused"), "{at:?}");
        // More than the disk has room for is not begun.
        site.two.1.images.order(Order { image: "other:1".to_owned(), id: None, giver: None }).unwrap();
        let busy = site.two.1.images.order(Order { image: IMAGE.to_owned(), id: None, giver: None });
        assert!(busy.unwrap_err().to_string().contains("other:1 is on its way"));
        while site.two.1.images.arriving().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let at = site.got(None, Some(Giver { bytes: 1 << 60, ..giver })).await;
        assert!(at.refused[IMAGE].contains("no space left"), "{at:?}");
    })
    .await;
}

#[tokio::test]
async fn a_registry_gives_an_image_under_its_own_name() {
    let site = Site::new(Some(REGISTRY));
    let there = format!("{REGISTRY}{IMAGE}");
    site.during(async {
        let (id, world) = (site.id().await, &site.two.1);
        let look = async || world.images.look(world, &asked()).await.unwrap();
        assert_eq!(look().await.pulls, asked());
        // The registry does not have it: another host is asked instead, and it is not pulled again for a while.
        let at = site.got(Some(id.clone()), None).await;
        assert!(at.pulls.is_empty() && at.refused.is_empty() && at.present.is_empty(), "{at:?}");
        assert!(world.images.asked()[IMAGE].as_deref().is_some_and(|why| why.contains("pull")));
        // It has another one than the other hosts.
        site.two.0.add_image(&there, labels("wrong"));
        site.two.0.remove_image(&there, true);
        let at = site.got(Some(id), None).await;
        assert!(at.present.is_empty(), "{at:?}");
        let at = site.got(None, None).await;
        assert_eq!(at.present.len(), 1);
        assert_eq!(world.drivers.swarm.image(&there).await, Ok(None), "one name is enough");
    })
    .await;
}

#[test]
fn a_refusal_lasts_longer_each_time() {
    let mut refused = None;
    let pauses: Vec<u64> = (0..9)
        .map(|_| {
            let next = Refused::after(refused.as_ref(), "no".to_owned(), Duration::ZERO);
            let pause = next.until.as_secs();
            refused = Some(next);
            pause
        })
        .collect();
    assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 900, 900, 900]);
}

#[test]
fn what_is_missing_is_said_as_it_stands() {
    let depot = Depot::default();
    let (one, two) = (host("host-1"), host("host-2"));
    let why = |depot: &Depot| depot.why_missing(&two, IMAGE).unwrap_or_default();
    assert_eq!((why(&depot), depot.lacks(&two, IMAGE), depot.may_use(&two, IMAGE)), (String::new(), None, true));
    depot.keep_board();
    assert!(!depot.may_use(&two, IMAGE), "what is not known is not used");
    depot.note(&two, Some(At { asked: asked(), ..At::default() }));
    assert_eq!((depot.lacks(&two, IMAGE), depot.may_use(&two, IMAGE)), (Some(true), false));
    assert!(why(&depot).contains("nor on any other host"), "{}", why(&depot));
    depot.note_missing(&two, IMAGE, &one);
    assert!(why(&depot).contains("will be handed over from host-1"), "{}", why(&depot));
    let here = Here { id: "a".to_owned(), bytes: 1 };
    let has = At { asked: asked(), present: [(IMAGE.to_owned(), here)].into(), ..At::default() };
    depot.note(&one, Some(has.clone()));
    assert!(why(&depot).contains("will be handed over from host-1"), "{}", why(&depot));
    depot.offers(&two, IMAGE, Some("the port is in use".to_owned()));
    assert!(why(&depot).contains("did not get there: the port"), "{}", why(&depot));
    let (image, from) = (IMAGE.to_owned(), Some(one));
    let arriving = Some(Arrival { image, from, bytes: 2_500_000, of_bytes: 600_000_000 });
    depot.note(&two, Some(At { asked: asked(), arriving, ..At::default() }));
    let words = format!("image {IMAGE} is being handed over from host-1 to host-2 (2 of 600 MB)");
    assert_eq!(why(&depot), words);
    depot.note(&two, Some(has));
    assert_eq!((why(&depot), depot.may_use(&two, IMAGE)), (String::new(), true));
    depot.note(&two, None);
    assert!(!depot.may_use(&two, IMAGE) && why(&depot).is_empty(), "a host that is silent says nothing");
}
