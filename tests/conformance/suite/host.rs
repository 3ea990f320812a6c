//! Files, ports and disk of a host.

use pgmoor::drivers::host::{FileSeen, Host, Permissions};
use pgmoor::model::Secret;

use super::{Bench, free_port, is_conflict, is_failed, is_not_found};

const OWNER: Permissions = Permissions { mode: 0o700, uid: 26, gid: 26 };
const FILE: Permissions = Permissions { mode: 0o640, uid: 26, gid: 0 };

pub(crate) async fn host(bench: &impl Bench) {
    let host = &*bench.drivers().host;
    let root = format!("{}/host", bench.data_dir());
    directories(host, &root).await;
    files(host, &root).await;
    moves_and_removes(host, &root).await;
    ports_and_disk(bench, host, &root).await;
}

async fn directories(host: &dyn Host, root: &str) {
    let deep = format!("{root}/a/b");
    assert_eq!(host.directory(&deep).await, Ok(None));
    assert_eq!(host.list(&deep).await, Ok(Vec::new()));
    host.make_directory(&deep, OWNER).await.unwrap();
    assert_eq!(host.directory(&deep).await, Ok(Some(OWNER)));
    let parent = host.directory(&format!("{root}/a")).await.unwrap().unwrap();
    assert_eq!((parent.mode, parent.uid), (0o700, 0), "parents are the daemon's own");
    let other = Permissions { mode: 0o750, ..OWNER };
    host.make_directory(&deep, other).await.unwrap();
    assert_eq!(host.directory(&deep).await, Ok(Some(other)), "one that is there gets these permissions");
    assert_eq!(host.list(&format!("{root}/a")).await, Ok(vec!["b".to_owned()]));
}

async fn files(host: &dyn Host, root: &str) {
    let path = format!("{root}/a/file");
    assert_eq!(host.read(&path).await, Ok(None));
    for (content, permissions) in [("one", FILE), ("two\n", Permissions { mode: 0o600, uid: 0, gid: 26 })] {
        host.write(&path, &Secret::new(content), permissions).await.unwrap();
        let seen = FileSeen { content: Secret::new(content), permissions };
        assert_eq!(host.read(&path).await, Ok(Some(seen)));
    }
    assert_eq!(host.list(&format!("{root}/a")).await.unwrap().len(), 2, "nothing is left beside the file");
    assert!(host.directory(&path).await.is_err(), "a file is no directory");
    assert!(host.read(&format!("{root}/a")).await.is_err(), "a directory is no file");
    let lost = host.write(&format!("{root}/missing/file"), &Secret::new("x"), FILE).await;
    assert!(is_not_found(&lost), "{lost:?}");
    assert_eq!(host.exists(&path).await, Ok(true));
    host.remove_file(&path).await.unwrap();
    host.remove_file(&path).await.unwrap();
    assert_eq!(host.exists(&path).await, Ok(false));
}

async fn moves_and_removes(host: &dyn Host, root: &str) {
    let (from, to) = (format!("{root}/a"), format!("{root}/trash/a"));
    host.make_directory(&format!("{root}/trash"), OWNER).await.unwrap();
    host.write(&format!("{from}/b/kept"), &Secret::new("data"), FILE).await.unwrap();
    host.move_directory(&from, &to).await.unwrap();
    assert_eq!(host.exists(&from).await, Ok(false));
    let kept = host.read(&format!("{to}/b/kept")).await.unwrap().unwrap();
    assert_eq!((kept.content, kept.permissions), (Secret::new("data"), FILE));
    let again = host.move_directory(&from, &to).await;
    assert!(is_not_found(&again), "{again:?}");
    host.make_directory(&from, OWNER).await.unwrap();
    let taken = host.move_directory(&from, &to).await;
    assert!(is_conflict(&taken), "{taken:?}");
    assert_eq!(host.exists(&format!("{to}/b/kept")).await, Ok(true), "what was there stays");
    let outside = host.remove_directory("/var/lib").await;
    assert!(is_failed(&outside), "{outside:?}");
    host.remove_directory(&to).await.unwrap();
    host.remove_directory(&to).await.unwrap();
    assert_eq!(host.directory(&to).await, Ok(None));
}

async fn ports_and_disk(bench: &impl Bench, host: &dyn Host, root: &str) {
    let port = free_port();
    assert_eq!(host.port_is_free(port).await, Ok(true));
    let _listener = bench.listen(port);
    assert_eq!(host.port_is_free(port).await, Ok(false));
    let disk = host.disk(root).await.unwrap();
    assert!(disk.total_bytes > disk.free_bytes && disk.free_bytes > 0, "{disk:?}");
}
