//! What a wait stands on is lost while it lasts: noticed, and made again long before the deadline of the wait.

use std::time::Duration;

use super::site::Site;
use crate::contract::documents::State;
use crate::domain::layout;
use crate::drivers::fake::World;
use crate::runtime::clock::SharedClock;

const SHOP: &str = r#"{"database_name": "shop", "memory": "256MiB"}"#;
const CHANGED: &str = r#"{"database_name": "shop", "memory": "512MiB"}"#;
/// A look every five seconds, a start, and half as much again; the wait has three hundred.
const MENDED_WITHIN: Duration = Duration::from_secs(30);

/// The container is replaced, and `hand` does something as soon as the new one has started.
async fn lost_meanwhile(hand: impl Fn(&World, &str)) {
    let site = Site::new().await;
    site.apply(SHOP).await;
    let (service, clock): (String, &SharedClock) = (site.service(), &site.shared.world.clock);
    let started = || site.fake.count("start container", &service);
    let (before, begun) = (started(), clock.monotonic());
    site.publish(CHANGED).await;
    let meanwhile = async {
        while started() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        hand(&site.fake, &service);
    };
    let scope = site.scope();
    tokio::join!(site.settle(&scope), meanwhile);
    let took = clock.monotonic().saturating_sub(begun);
    assert!(took < MENDED_WITHIN, "{took:?}");
    assert_eq!(site.status().state, State::Available);
    assert_eq!(site.fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_file_that_an_instance_needs_to_start() {
    lost_meanwhile(|fake, service| {
        let instance = service.trim_start_matches("postgres-");
        let file = format!("{}/patroni.yml", layout::configs_directory("/var/lib/pgmoor", instance));
        assert!(fake.remove_file_by_hand(&file) && fake.crash(service));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_service_of_the_instance() {
    lost_meanwhile(|fake, service| assert!(fake.remove_service_by_hand(service))).await;
}
