//! Whatever spec is accepted has a graph, and the same one each time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::domain::fixture::{facts, graph, minimal, minted, only, the_catalogue, user};
use crate::domain::patroni::{document, marker, read};
use crate::model::spec::{ExtensionSpec, PortRequest};
use crate::model::{AcceptedSpec, Attributes, DatabaseId, Dependency, Kind, ResourceId, Secret};

prop_compose! {
    fn users()(names in btree_set("[a-z]{1,8}", 0..6), owner in any::<prop::sample::Index>(), given in any::<u8>(), of in any::<u64>())
        -> Vec<crate::model::spec::UserSpec>
    {
        let names: Vec<String> = names.into_iter().collect();
        let owner = (!names.is_empty()).then(|| owner.index(names.len()));
        let mut users: Vec<_> = names.iter().enumerate().map(|(n, name)| user(name, owner == Some(n))).collect();
        for (n, user) in users.iter_mut().enumerate() {
            // Members of roles before them, so there is no circle, and of one that the spec does not describe.
            user.roles = names.iter().take(n).enumerate().filter(|(m, _)| of >> (n * 6 + m) & 1 == 1).map(|(_, name)| name.clone()).collect();
            user.roles.insert("pg_monitor".to_owned());
            if given >> n & 1 == 1 {
                user.password = Some(Secret::new("x"));
            }
        }
        users.reverse();
        users
    }
}

prop_compose! {
    fn parameters()(settings in btree_map("x[a-z_]{0,9}(\\.[a-z]{1,5})?", "[ -~]{0,20}", 0..8), connections in option::of(25_u32..9_000))
        -> BTreeMap<String, String>
    {
        let mut settings = settings;
        settings.extend(connections.map(|count| ("max_connections".to_owned(), count.to_string())));
        settings
    }
}

fn extensions() -> impl Strategy<Value = BTreeMap<String, ExtensionSpec>> {
    let catalogue = the_catalogue();
    let all: Vec<(String, Option<String>)> = catalogue
        .postgres
        .first()
        .into_iter()
        .flat_map(|image| image.extensions.iter().map(|(name, info)| (name.clone(), info.preload.clone())))
        .collect();
    let few = 0..all.len().min(6);
    prop::sample::subsequence(all, few).prop_map(|chosen| {
        chosen.into_iter().map(|(name, preload)| (name, ExtensionSpec { preload, ..Default::default() })).collect()
    })
}

prop_compose! {
    fn specs()(
        id in "[a-z0-9]{1,18}(-[a-z0-9]{1,17})?", users in users(), parameters in parameters(), extensions in extensions(),
        memory in 1_u64..1 << 45, cpus in option::of(1_u64..1_000_000), port in 0_u16..3,
        hba in vec("[ -~]{0,40}", 0..4), scripts in vec("[ -~]{1,20}", 0..3)
    ) -> AcceptedSpec {
        let mut spec = minimal();
        spec.id = DatabaseId::parse(&id).unwrap();
        spec.users = users;
        spec.extensions = extensions;
        spec.scripts.post_init.clone_from(&scripts);
        spec.scripts.post_database_create = scripts;
        let node = &mut spec.nodes[0];
        node.postgresql_conf = parameters;
        node.memory_bytes = memory;
        node.cpu_millis = cpus;
        node.pg_hba.clone_from(&hba);
        node.pg_ident = hba;
        node.port = match port {
            0 => PortRequest::Unpublished,
            1 => PortRequest::Chosen,
            _ => PortRequest::Fixed(5432),
        };
        spec
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_accepted_spec_has_one_graph(spec in specs()) {
        let one = graph(&spec);
        let two = graph(&spec);
        prop_assert_eq!(&one, &two);
        for resource in one.in_order() {
            prop_assert_eq!(one.digest(&resource.id), two.digest(&resource.id));
            let after_record = resource.dependencies.keys().any(|id| id.kind == Kind::Record);
            prop_assert!(after_record || resource.id.kind == Kind::Record, "{} does not wait for the record", resource.id);
        }
    }

    #[test]
    fn paths_stay_below_the_data_directory(spec in specs()) {
        let data_dir = format!("{}/", facts().data_dir);
        for resource in graph(&spec).in_order() {
            let path = if let Attributes::Directory { path, .. } | Attributes::File { path, .. } = &resource.attributes {
                path
            } else if let Attributes::Certificate(certificate) = &resource.attributes {
                &certificate.stem
            } else {
                continue;
            };
            prop_assert!(path.starts_with(&data_dir) && !path.contains(".."), "{path}");
        }
    }

    #[test]
    fn the_configuration_survives_etcd(spec in specs()) {
        let graph = graph(&spec);
        let Attributes::Instance(instance) = only(&graph, Kind::Instance) else { panic!("no instance") };
        let Attributes::PatroniConfig(config) = only(&graph, Kind::PatroniConfig) else { panic!("no configuration") };
        let id = ResourceId::new(Kind::PatroniConfig, format!("{}:n1", spec.id));
        let resource = graph.in_order().find(|resource| resource.id.kind == Kind::Instance).unwrap();
        let dependencies = &resource.dependencies;
        prop_assert_eq!(dependencies.get(&id), Some(&Dependency::Content));
        prop_assert_eq!(&instance.config, &marker(&config.parameters, &config.pg_hba, &config.pg_ident));
        prop_assert_eq!(read(&config.prefix, &document(&config)), config);
    }

    #[test]
    fn no_password_is_used_twice(spec in specs()) {
        let record = minted(&spec);
        let given: BTreeSet<&str> = spec.users.iter().filter(|user| user.password.is_some()).map(|user| user.username.as_str()).collect();
        let chosen: Vec<&str> = record
            .passwords
            .iter()
            .filter(|(name, _)| !given.contains(name.as_str()))
            .map(|(_, secret)| secret.expose())
            .chain(record.etcd_passwords.values().map(Secret::expose))
            .collect();
        prop_assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), chosen.len());
        prop_assert_eq!(record.passwords.len(), spec.users.len());
    }
}
