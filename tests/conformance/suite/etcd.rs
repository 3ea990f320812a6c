//! etcd: compare-and-set, users with one prefix each, and authentication that is switched on once.

use pgmoor::drivers::etcd::{Etcd, EtcdTarget, UserSeen};
use pgmoor::model::Secret;

use super::site::Site;
use super::{Bench, free_port, is_conflict, is_failed, is_unreachable, until};

pub(crate) async fn etcd(bench: &impl Bench) {
    let site = Site::new(bench).await;
    let etcd = &*bench.drivers().etcd;
    site.start_etcd().await;
    let target = site.etcd().await;
    assert_eq!(etcd.authentication(&target).await, Ok(false));
    keys(etcd, &target, "/without/").await;
    users(etcd, &target).await;

    etcd.enable_authentication(&target).await.unwrap();
    assert_eq!(etcd.authentication(&target).await, Ok(true));
    etcd.enable_authentication(&target).await.unwrap();
    keys(etcd, &target, "/with/").await;
    users(etcd, &target).await;
    members(&site, &target).await;
    let wrong = EtcdTarget { root_password: Secret::new("not the password"), ..target.clone() };
    let refused = etcd.get(&wrong, "/with/a").await;
    assert!(is_failed(&refused), "{refused:?}");
    let nobody = EtcdTarget { endpoints: vec![format!("https://127.0.0.1:{}", free_port())], ..target.clone() };
    let silent = etcd.get(&nobody, "/with/a").await;
    assert!(is_unreachable(&silent), "{silent:?}");
    let mut stranger = site.identity(&pgmoor::domain::layout::daemon_etcd_stem(&bench.data_dir())).await;
    let fleet = pgmoor::model::FleetId::parse("stranger").unwrap();
    let authority = pgmoor::drivers::certificates::make_authority(&fleet, bench.now_s()).unwrap();
    stranger.ca_pem = authority.certificate_pem;
    let distrusted = EtcdTarget { identity: stranger.into(), ..target };
    let refused = etcd.get(&distrusted, "/with/a").await;
    assert!(is_unreachable(&refused), "an etcd of another authority is not ours: {refused:?}");
}

/// A second member comes, gets its vote once it has caught up, gives the same answers, and goes again.
async fn members(site: &Site<'_, impl Bench>, target: &EtcdTarget) {
    let etcd = &*site.bench.drivers().etcd;
    let votes = async || -> Vec<bool> { etcd.members(target).await.unwrap().iter().map(|one| one.votes).collect() };
    let founder = etcd.members(target).await.unwrap().remove(0);
    let (first, elsewhere) = (founder.peer_urls.first().unwrap(), "https://192.0.2.9:2380");
    etcd.move_member(target, &founder.id, elsewhere).await.unwrap();
    assert_eq!(etcd.members(target).await.unwrap()[0].peer_urls, [elsewhere.to_owned()].into());
    etcd.move_member(target, &founder.id, first).await.unwrap();

    let second = site.second_member();
    etcd.add_member(target, &second.peer_url).await.unwrap();
    etcd.add_member(target, &second.peer_url).await.unwrap();
    let listed = etcd.members(target).await.unwrap();
    assert_eq!(listed.len(), 2);
    let added = listed.into_iter().find(|member| member.peer_urls.contains(&second.peer_url)).unwrap();
    assert!(!added.votes);
    let early = etcd.promote_member(target, &added.id).await;
    assert!(is_unreachable(&early), "it does not run yet: {early:?}");
    site.start_member(&second).await;
    until("it has caught up", async || etcd.promote_member(target, &added.id).await.is_ok()).await;
    etcd.promote_member(target, &added.id).await.unwrap();
    assert_eq!(votes().await, [true, true]);

    etcd.put(target, "/members/a", b"x", Some(0)).await.unwrap();
    let through_it = EtcdTarget { endpoints: vec![second.client_url.clone()], ..target.clone() };
    until("it answers", async || etcd.get(&through_it, "/members/a").await.is_ok_and(|key| key.is_some())).await;
    until("it goes", async || etcd.remove_member(target, &added.id).await.is_ok()).await;
    etcd.remove_member(target, &added.id).await.unwrap();
    assert_eq!(votes().await, [true]);
}

async fn keys(etcd: &dyn Etcd, target: &EtcdTarget, prefix: &str) {
    let key = format!("{prefix}a");
    assert_eq!(etcd.get(target, &key).await, Ok(None));
    assert_eq!(etcd.keys(target, prefix).await, Ok(Vec::new()));
    etcd.put(target, &key, b"one", Some(0)).await.unwrap();
    let one = etcd.get(target, &key).await.unwrap().unwrap();
    assert_eq!(one.value, b"one");
    let exists = etcd.put(target, &key, b"two", Some(0)).await;
    assert!(is_conflict(&exists), "{exists:?}");
    etcd.put(target, &key, b"two \xff\x00", Some(one.mod_revision)).await.unwrap();
    let stale = etcd.put(target, &key, b"three", Some(one.mod_revision)).await;
    assert!(is_conflict(&stale), "{stale:?}");
    let two = etcd.get(target, &key).await.unwrap().unwrap();
    assert_eq!(two.value, b"two \xff\x00");
    assert!(two.mod_revision > one.mod_revision);
    etcd.put(target, &key, b"three", None).await.unwrap();
    let outside = format!("{}-beside", prefix.trim_end_matches('/'));
    etcd.put(target, &outside, b"x", None).await.unwrap();
    assert_eq!(etcd.keys(target, prefix).await, Ok(vec![key.clone()]));
    etcd.delete_prefix(target, prefix).await.unwrap();
    etcd.delete_prefix(target, prefix).await.unwrap();
    assert_eq!(etcd.get(target, &key).await, Ok(None));
    assert!(etcd.get(target, &outside).await.unwrap().is_some(), "what is beside the prefix stays");
}

async fn users(etcd: &dyn Etcd, target: &EtcdTarget) {
    let (name, right, wrong) = ("instance.one", Secret::new("right password"), Secret::new("wrong password"));
    assert_eq!(etcd.user(target, name, &right).await, Ok(None));
    etcd.put_user(target, name, &right, "/one/").await.unwrap();
    assert_eq!(etcd.users(target).await, Ok(vec![name.to_owned()]), "root is not one of them");
    if etcd.authentication(target).await.unwrap() {
        let seen = |prefix: &str, password_matches| UserSeen { prefixes: vec![prefix.to_owned()], password_matches };
        assert_eq!(etcd.user(target, name, &right).await, Ok(Some(seen("/one/", true))));
        etcd.put_user(target, name, &wrong, "/two/").await.unwrap();
        assert_eq!(etcd.user(target, name, &wrong).await, Ok(Some(seen("/two/", true))), "one prefix at a time");
        assert_eq!(etcd.user(target, name, &right).await, Ok(Some(seen("/two/", false))));
    } else {
        let untried = etcd.user(target, name, &right).await;
        assert!(is_unreachable(&untried), "no password can be tried while authentication is off: {untried:?}");
    }
    etcd.delete_user(target, name).await.unwrap();
    let again = etcd.delete_user(target, name).await;
    assert!(again.is_ok() || super::is_not_found(&again), "{again:?}");
    assert_eq!(etcd.user(target, name, &right).await, Ok(None));
}
