//! A host without a Swarm and without images joins the fleet with a token: the images come by themselves, etcd grows, and a
//! database gets an instance there.

use serde_json::{Value, json};

use crate::daemon::until;
use crate::site::Site;
use crate::testbed::Host;

/// The images that a host says it has, by name, with their ids.
fn present(site: &Site, host: &Host) -> Vec<(String, String)> {
    let text = |image: &Value, field: &str| image[field].as_str().unwrap_or_default().to_owned();
    images(site, host)
        .iter()
        .filter(|image| image["present"] == true)
        .map(|image| (text(image, "image"), text(image, "id")))
        .collect()
}

fn images(site: &Site, host: &Host) -> Vec<Value> {
    let status = site.document(&format!("hosts/{}/status", host.name));
    status["inventory"]["images"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_host_joins_and_gets_its_images_from_another() {
    let site = Site::up_with_fleet_of("joins", 3, 2);
    let [one, _two, three] = site.bed.hosts() else { panic!("three hosts") };
    // With one instance there is no replica that a commit could wait for.
    site.publish("shop", 1, &[one], &json!({"synchronous": "off"}));
    // It has nothing.
    let ids = three.docker(&["image", "ls", "-q"]).unwrap();
    let mut remove = vec!["image", "rm", "--force"];
    remove.extend(ids.lines());
    three.docker(&remove).unwrap();
    assert_eq!(three.docker(&["image", "ls", "-q"]).unwrap(), "");

    let token = site.cli(one, &["host", "token"]).unwrap();
    let joins = |host: &str| {
        let file = site.path("pgmoor.toml");
        let arguments = ["host", "join", &token, "--host", host, "--write-config", &file];
        site.cli(three, &[&arguments[..], &["--advertise-address", &three.address]].concat())
    };
    let joined = joins(&three.name).unwrap();
    assert!(joined.contains("joined the Swarm as a manager"), "{joined}");
    until("it is a manager", || site.bed.is_whole());
    assert!(joins("h9").unwrap_err().contains("fleet.key"), "it has the fleet's key now");
    site.is("shop", 1, "available");
    site.psql("shop", &[one], "CREATE TABLE kept (n int PRIMARY KEY); INSERT INTO kept VALUES (7)").unwrap();

    site.serve(three);
    site.publish("shop", 2, &[one, three], &json!({"synchronous": "off"}));
    until("an image is on its way to it", || images(&site, three).iter().any(|image| !image["arrives"].is_null()));
    until("it has what the others have", || {
        let there = present(&site, three);
        !there.is_empty() && there == present(&site, one)
    });
    site.is("shop", 2, "available");
    until("the row is there, too", || site.psql("shop", &[three], "SELECT n FROM kept").as_deref() == Ok("7"));
    site.has_quorum_to_spare("shop");
    let told =
        |(topic, text): &(String, String)| topic.ends_with("shop/events") && text.contains("dev.pgmoor.image.arrived");
    assert!(site.wire.everything().iter().any(told), "and it was told");
    let doctor = site.cli(one, &["doctor"]).unwrap_or_else(|told| told);
    for (image, _) in present(&site, one) {
        assert!(doctor.contains("images") && !doctor.contains(&format!("h3 has no {image}")), "{doctor}");
    }
}
