//! etcd with client certificates, through its gateway: authentication from nothing to on, users within their prefix.

use std::sync::Arc;

use pgmoor::drivers::etcd::{Etcd, EtcdTarget, Gateway};
use pgmoor::drivers::{Error, TlsIdentity};
use pgmoor::model::Secret;

use super::container::{Container, pki};

fn user_target(target: &EtcdTarget) -> EtcdTarget {
    EtcdTarget { root_password: Secret::new("not the password"), ..target.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_from_nothing_to_users_within_their_prefix() {
    let pki = pki("etcd");
    let files = pki.directory.path().to_str().unwrap();
    let etcd = Container::run(
        "pgmoor-drivers-etcd",
        &["-p", "127.0.0.1:0:2379", "-v", &format!("{files}:/c:ro"), "pgmoor/etcd:3.5.16", "etcd"],
        &[
            "--listen-client-urls=https://0.0.0.0:2379",
            "--advertise-client-urls=https://127.0.0.1:2379",
            "--client-cert-auth",
            "--trusted-ca-file=/c/ca.crt",
            "--cert-file=/c/server.crt",
            "--key-file=/c/server.key",
        ],
    );
    let identity = pki.client("");
    let target = EtcdTarget {
        // The first does not answer: the second is asked.
        endpoints: vec!["https://127.0.0.1:9".to_owned(), format!("https://127.0.0.1:{}", etcd.port(2379))],
        identity: Arc::clone(&identity),
        root_password: Secret::new("root \"pw\" ü"),
    };
    let gateway = Gateway::new();
    super::container::until("etcd answers", async || gateway.authentication(&target).await.is_ok()).await;

    assert!(!gateway.authentication(&target).await.unwrap());
    gateway.put(&target, "/before", b"1", None).await.unwrap();
    for _ in 0..2 {
        gateway.enable_authentication(&target).await.unwrap();
        assert!(gateway.authentication(&target).await.unwrap());
    }
    assert_eq!(gateway.users(&target).await.unwrap(), [""; 0]);
    assert!(Gateway::new().get(&user_target(&target), "/before").await.is_err(), "a wrong password reads nothing");

    keys(&gateway, &target).await;
    users(&gateway, &target).await;

    let silent = EtcdTarget { endpoints: vec!["https://127.0.0.1:9".to_owned()], ..target.clone() };
    assert!(matches!(gateway.authentication(&silent).await, Err(Error::Unreachable { .. })));
    let stranger: Arc<TlsIdentity> = super::container::pki("stranger").client("");
    let stranger = EtcdTarget { identity: stranger, ..target.clone() };
    assert!(matches!(gateway.get(&stranger, "/before").await, Err(Error::Unreachable { .. })));
    let named = EtcdTarget { identity: pki.client("pgmoor"), ..target };
    let refused = gateway.get(&named, "/before").await;
    assert!(matches!(&refused, Err(Error::Failed { why, .. }) if why.contains("CommonName")), "{refused:?}");
}

async fn keys(gateway: &Gateway, target: &EtcdTarget) {
    assert_eq!(gateway.get(target, "/a/1").await.unwrap(), None);
    gateway.put(target, "/a/1", b"\x00\xff", Some(0)).await.unwrap();
    let seen = gateway.get(target, "/a/1").await.unwrap().unwrap();
    assert_eq!(seen.value, b"\x00\xff");
    assert!(matches!(gateway.put(target, "/a/1", b"x", Some(0)).await, Err(Error::Conflict { .. })));
    gateway.put(target, "/a/1", b"y", Some(seen.mod_revision)).await.unwrap();
    assert!(matches!(gateway.put(target, "/a/1", b"z", Some(seen.mod_revision)).await, Err(Error::Conflict { .. })));
    gateway.put(target, "/a/2", b"", None).await.unwrap();
    gateway.put(target, "/ab", b"", None).await.unwrap();
    assert_eq!(gateway.keys(target, "/a/").await.unwrap(), ["/a/1", "/a/2"]);
    assert_eq!(gateway.get(target, "/a/2").await.unwrap().unwrap().value, b"");
    for _ in 0..2 {
        gateway.delete_prefix(target, "/a/").await.unwrap();
    }
    assert_eq!(gateway.keys(target, "").await.unwrap(), ["/ab", "/before"]);
}

async fn users(gateway: &Gateway, target: &EtcdTarget) {
    let (one, two) = (Secret::new("pw 1"), Secret::new("pw 2"));
    assert_eq!(gateway.user(target, "shop", &one).await.unwrap(), None);
    for _ in 0..2 {
        gateway.put_user(target, "shop", &one, "/patroni/shop/").await.unwrap();
        let seen = gateway.user(target, "shop", &one).await.unwrap().unwrap();
        assert_eq!((seen.prefixes, seen.password_matches), (vec!["/patroni/shop/".to_owned()], true));
    }
    assert!(!gateway.user(target, "shop", &two).await.unwrap().unwrap().password_matches);
    // Another password and another prefix, on the token that this change makes old.
    gateway.put_user(target, "shop", &two, "/patroni/other/").await.unwrap();
    let seen = gateway.user(target, "shop", &two).await.unwrap().unwrap();
    assert_eq!((seen.prefixes, seen.password_matches), (vec!["/patroni/other/".to_owned()], true));
    assert_eq!(gateway.users(target).await.unwrap(), ["shop"]);
    gateway.put_user(target, "second", &one, "/patroni/second/").await.unwrap();
    for _ in 0..2 {
        gateway.delete_user(target, "shop").await.unwrap();
    }
    assert_eq!(gateway.users(target).await.unwrap(), ["second"]);
    assert_eq!(gateway.user(target, "shop", &two).await.unwrap(), None);
    assert!(gateway.delete_user(target, "root").await.is_err());
    assert!(gateway.put_user(target, "root", &one, "/").await.is_err());
}
