//! Two nodes on one host: databases of their own, changed one after another; one goes on a word, and comes back.

use serde_json::Value;

use super::Site;
use crate::daemon::free_port;
use crate::docker::docker;
use crate::image;

/// Runs SQL in a node as the owner.
fn psql(site: &Site, node: &str, sql: &str) -> String {
    site.psql_at("shop", Some(node), "owner", sql).unwrap()
}

#[test]
fn two_nodes_of_one_host_are_databases_of_their_own() {
    let site = Site::start(false);
    let ports = [free_port(), free_port()];
    let host = "host-1";
    let shop = |image: &str, of_second: &str| {
        format!(
            r#"{{"database_name": "shop", "node_replication": "none",
                "orchestrator_opts": {{"swarm": {{"image": "{image}"}}}},
                "nodes": [{{"name": "n1", "host_ids": ["{host}"], "port": {}}},
                          {{"name": "n2", "host_ids": ["{host}"], "port": {}{of_second}}}],
                "database_users": [{{"username": "owner", "db_owner": true, "attributes": ["LOGIN"]}}]}}"#,
            ports[0], ports[1]
        )
    };
    // Mirrors keep one minor version: the second image is the same one under another name and id.
    let images = [image(), format!("{}-r2", image())];
    let status = site.apply("shop", &shop(&images[0], ""));
    assert!(status.to_string().contains("\"NodesApart\""), "{status}");
    let uris: Vec<&Value> = status["connection"]["nodes"].as_array().unwrap().iter().map(|node| &node["uri"]).collect();
    for (port, uri) in ports.iter().zip(&uris) {
        assert!(uris.len() == 2 && uri.as_str().unwrap().contains(&format!(":{port}/shop")), "{uris:?}");
    }
    for node in ["n1", "n2"] {
        psql(&site, node, &format!("CREATE TABLE kept (x text); INSERT INTO kept VALUES ('{node}')"));
    }
    // Another image, one after another: the second is touched once the first serves again.
    site.apply("shop", &shop(&images[1], ""));
    let second = docker(&["image", "inspect", "--format", "{{.Id}}", &images[1]]);
    for (at, node) in ["n1", "n2"].into_iter().enumerate() {
        let container = site.container(&site.credentials("shop").instances[at].service).unwrap();
        assert_eq!(docker(&["inspect", "--format", "{{.Image}}", &container]), second, "{node}");
        assert_eq!(psql(&site, node, "SELECT x FROM kept"), node);
    }
    let started =
        |node| psql(&site, node, "SELECT extract(epoch FROM pg_postmaster_start_time())").parse::<f64>().unwrap();
    let (first, second) = (started("n1"), started("n2"));
    assert!(first < second, "{first} {second}");
    // Leaving it out is no removal.
    let alone = format!(r#"{{"nodes": [{{"name": "n1", "host_ids": ["{host}"], "port": {}}}]}}"#, ports[0]);
    assert_eq!(site.refused("shop", &alone), ["node-missing"]);
    let service = |at: usize| site.credentials("shop").instances[at].service.clone();
    let gone = site.credentials("shop").instances[1].clone();
    site.apply("shop", &shop(&images[1], r#", "deleted": true"#));
    assert_eq!(site.credentials("shop").instances.len(), 1);
    assert_eq!(site.container(&gone.service), None);
    let trash = site.data_dir().join("trash").join(gone.instance.as_str());
    assert!(trash.is_dir(), "its data is kept");
    assert_eq!(started("n1"), first, "the other node went on");
    assert!(site.container(&service(0)).is_some());
    site.apply("shop", &shop(&images[1], ""));
    assert_eq!(psql(&site, "n2", "SELECT x FROM kept"), "n2");
    assert!(!trash.exists());
}
