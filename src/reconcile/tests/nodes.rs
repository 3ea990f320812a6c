//! Several nodes on one host: each is a database of its own; one is removed, comes back with its rows, and its trash goes
//! with that of the whole database.

use super::site::Site;
use crate::contract::documents::{ConditionType, PlanState, State, VerdictResult};
use crate::domain::layout;
use crate::model::{InstanceId, NodeName};
use crate::store::Rows as _;

/// A shop with these nodes.
fn shop(nodes: &str) -> String {
    format!(
        r#"{{"database_name": "shop", "node_replication": "none", "port": 0, "nodes": [{nodes}],
            "scripts": {{"post_init": ["CREATE ROLE clerks"]}}, "extensions": ["citext"],
            "database_users": [{{"username": "app", "db_owner": true, "attributes": ["LOGIN"]}}]}}"#
    )
}

fn node(name: &str, more: &str) -> String {
    format!(r#"{{"name": "{name}", "host_ids": ["host-1"]{more}}}"#)
}

fn both() -> String {
    shop(&[node("n1", ""), node("n2", "")].join(", "))
}

impl Site {
    fn instance_of(&self, node: &str) -> InstanceId {
        InstanceId::derive(&self.id, &NodeName::parse(node).unwrap(), &self.shared.world.facts.host)
    }

    fn service_of(&self, node: &str) -> String {
        layout::service(&self.instance_of(node))
    }

    async fn is_in_trash(&self, node: &str) -> bool {
        let trash = layout::trash(&self.shared.world.facts.data_dir, self.instance_of(node).as_str());
        self.shared.world.drivers.host.directory(&trash).await.unwrap().is_some()
    }

    fn faults(&self) -> Vec<(String, String)> {
        let verdict = self.shared.store.read(|reader| reader.desired(&self.id)).unwrap().unwrap().verdict.unwrap();
        assert_eq!(verdict.result, VerdictResult::Rejected, "{verdict:?}");
        verdict.faults.into_iter().map(|fault| (fault.code.as_str().to_owned(), fault.pointer)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn each_node_is_a_database_of_its_own() {
    let site = &Site::new().await;
    site.apply(&both()).await;
    let status = site.status();
    assert_eq!((status.state, site.plan().state), (State::Available, PlanState::Done));
    assert!(site.condition(ConditionType::NodesApart).is_some());
    let nodes = status.connection.unwrap().nodes;
    assert_eq!(nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["n1", "n2"]);
    assert_ne!(nodes[0].port, nodes[1].port);
    for node in ["n1", "n2"] {
        let service = site.service_of(node);
        assert_eq!(site.fake.script(&service, "postgres", "post_init").unwrap(), ["CREATE ROLE clerks"]);
        assert!(site.fake.write_row(&service, "shop", node));
    }
    // What somebody does to one is mended there, and the other stays as it is.
    assert!(site.fake.drop_role_by_hand(&site.service_of("n2"), "app"));
    let before = site.fake.disruptions();
    site.settle(&site.scope()).await;
    let password = site.shared.store.read(|reader| reader.record(&site.id)).unwrap().unwrap().passwords["app"].clone();
    for node in ["n1", "n2"] {
        let service = site.service_of(node);
        assert!(site.fake.lets_in(&service, "shop", "app", password.expose()), "{node}");
        assert_eq!(site.fake.rows(&service, "shop"), [node]);
    }
    assert_eq!(site.fake.disruptions(), before);
    // A role that leaves the spec leaves both.
    site.apply(&both().replace("\"app\"", "\"clerk\"")).await;
    assert!(site.plan().stages.is_empty(), "{:?}", site.plan());
    for node in ["n1", "n2"] {
        assert!(!site.fake.lets_in(&site.service_of(node), "shop", "app", password.expose()), "{node}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_goes_on_a_word_and_its_data_comes_back() {
    let site = &Site::new().await;
    site.apply(&both()).await;
    assert!(site.fake.write_row(&site.service_of("n2"), "shop", "kept"));
    let (first, second) = (site.service_of("n1"), site.service_of("n2"));
    let ended = || [&first, &second].map(|service| site.fake.count("stop container", service));
    assert_eq!(ended(), [0, 0]);
    site.apply(&shop(&[node("n1", ""), node("n2", r#", "deleted": true"#)].join(", "))).await;
    assert_eq!(site.status().state, State::Available);
    assert!(site.is_in_trash("n2").await && !site.is_in_trash("n1").await);
    assert_eq!(site.status().instances.len(), 1);
    assert_eq!(site.condition(ConditionType::NodesApart), None);
    let record = site.shared.store.read(|reader| reader.record(&site.id)).unwrap().unwrap();
    assert_eq!((record.trashed.len(), record.etcd_passwords.len(), record.ports.len()), (1, 1, 1));
    assert_eq!(ended(), [0, 1], "n2 ended, n1 went on");
    // Its entry may go too now, and the node may come back.
    site.apply(&shop(&node("n1", ""))).await;
    site.apply(&both()).await;
    assert!(!site.is_in_trash("n2").await);
    assert_eq!(site.fake.rows(&site.service_of("n2"), "shop"), ["kept"]);
    let record = site.shared.store.read(|reader| reader.record(&site.id)).unwrap().unwrap();
    assert!(record.trashed.is_empty(), "{:?}", record.trashed);
}

#[tokio::test(start_paused = true)]
async fn the_trash_of_a_node_goes_with_the_database() {
    let site = &Site::new().await;
    site.apply(&both()).await;
    site.apply(&shop(&[node("n1", ""), node("n2", r#", "deleted": true"#)].join(", "))).await;
    site.publish(r#"{"deleted": true}"#).await;
    for _ in 0..200 {
        site.look().await;
        if !site.is_in_trash("n1").await && !site.is_in_trash("n2").await {
            let record = site.shared.store.read(|reader| reader.record(&site.id)).unwrap();
            assert_eq!(record, None);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    }
    panic!("the trash is still there");
}

#[tokio::test(start_paused = true)]
async fn a_port_of_a_node_is_given_up_before_another_gets_it() {
    let site = &Site::new().await;
    let with = |first: u16, second: u16| {
        shop(&[node("n1", &format!(r#", "port": {first}"#)), node("n2", &format!(r#", "port": {second}"#))].join(", "))
    };
    site.apply(&with(6001, 6002)).await;
    site.publish(&with(6002, 6001)).await;
    site.look().await;
    let clash = |at: usize| ("port-clash".to_owned(), format!("/nodes/{at}/port"));
    assert_eq!(site.faults(), [clash(0), clash(1)]);
    site.publish(&with(6003, 6001)).await;
    site.look().await;
    assert_eq!(site.faults(), [clash(1)]);
    site.apply(&with(6003, 6002)).await;
    site.apply(&with(6003, 6001)).await;
    assert_eq!(site.status().state, State::Available);
}
