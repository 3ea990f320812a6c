//! Every text that is rendered, for the smallest spec and for one that uses everything. The texts were tried against
//! etcd 3.5.16 and Patroni 4.0.7 by hand when they were written; a change of one is to be tried again.

use crate::domain::fixture::{content, fleet_record, full, graph, hosts, minimal, minted, only, the_catalogue};
use crate::domain::{FleetOptions, fleet, patroni};
use crate::model::{AcceptedSpec, Attributes, Graph, Kind};

fn check(name: &str, text: &str) {
    let settings = || {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../../tests/golden/domain");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings
    };
    settings().bind(|| insta::assert_snapshot!(name, text));
}

fn pretty<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

const PATRONI_FILE: &str = "instances/shop-n1-689qacsi/configs/patroni.yml";

fn dynamic(spec: &AcceptedSpec) -> String {
    let Attributes::PatroniConfig(config) = only(&graph(spec), Kind::PatroniConfig) else { panic!("no configuration") };
    pretty(&patroni::document(&config))
}

/// Each resource, and what it comes after (`-`) or is made from (`=`); the record, which all come after, is left out.
fn outline(graph: &Graph) -> String {
    let mut text = String::new();
    for resource in graph.in_order() {
        text += &format!("{}\n", resource.id);
        for (id, why) in resource.dependencies.iter().filter(|(id, _)| id.kind != Kind::Record) {
            let sign = if *why == crate::model::Dependency::Content { '=' } else { '-' };
            text += &format!("  {sign} {id}\n");
        }
    }
    text
}

#[test]
fn patroni_file() {
    check("patroni_file", &content(&graph(&minimal()), PATRONI_FILE));
}

#[test]
fn the_patroni_file_holds_nothing_of_the_spec() {
    let file = |spec: &AcceptedSpec| {
        let password = minted(spec).etcd_passwords.into_values().next().unwrap();
        content(&graph(spec), PATRONI_FILE).replace(password.expose(), "…")
    };
    assert_eq!(file(&minimal()), file(&full()));
}

#[test]
fn dynamic_minimal() {
    check("dynamic_minimal", &dynamic(&minimal()));
}

#[test]
fn dynamic_full() {
    check("dynamic_full", &dynamic(&full()));
}

#[test]
fn service_minimal() {
    check("service_minimal", &pretty(&only(&graph(&minimal()), Kind::Service)));
}

#[test]
fn service_full() {
    check("service_full", &pretty(&only(&graph(&full()), Kind::Service)));
}

#[test]
fn credentials_full() {
    check("credentials_full", &content(&graph(&full()), "credentials/host-1/shop.json"));
}

#[test]
fn outline_full() {
    check("outline_full", &outline(&graph(&full())));
}

#[test]
fn fleet_graph() {
    let options = FleetOptions::default();
    let graph = fleet::graph(&fleet_record(), &hosts(), &the_catalogue(), &options).unwrap();
    check("outline_fleet", &outline(&graph));
    check("service_etcd", &pretty(&only(&graph, Kind::Service)));
}
