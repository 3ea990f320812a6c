//! The real host, in directories that vanish with the test.

use super::*;

struct Room {
    directory: tempfile::TempDir,
    host: Local,
    permissions: Permissions,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        let ours = fs::metadata(directory.path()).unwrap();
        let permissions = Permissions { mode: 0o700, uid: ours.uid(), gid: ours.gid() };
        Self { host: Local::new(directory.path().join("data")), directory, permissions }
    }

    fn data(&self, name: &str) -> String {
        self.directory.path().join("data").join(name).to_str().unwrap().to_owned()
    }

    fn outside(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn directories_are_made_with_their_permissions_and_private_parents() {
    let room = Room::new();
    let path = room.data("instances/a/data");
    assert_eq!(room.host.directory(&path).await.unwrap(), None);
    let wanted = Permissions { mode: 0o750, ..room.permissions };
    for _ in 0..2 {
        room.host.make_directory(&path, wanted).await.unwrap();
        assert_eq!(room.host.directory(&path).await.unwrap(), Some(wanted));
    }
    assert_eq!(room.host.directory(&room.data("instances")).await.unwrap().unwrap().mode, 0o700);
    assert_eq!(room.host.list(&room.data("instances/a")).await.unwrap(), ["data"]);
    assert_eq!(room.host.list(&room.data("nothing")).await.unwrap(), [""; 0]);
    let file = room.data("file");
    room.host.write(&file, &Secret::new("x"), wanted).await.unwrap();
    assert!(matches!(room.host.directory(&file).await, Err(Error::Failed { .. })));
    assert!(matches!(room.host.make_directory(&file, wanted).await, Err(Error::Failed { .. })));
}

#[tokio::test]
async fn files_are_written_whole_and_read_back() {
    let room = Room::new();
    let path = room.data("patroni.yml");
    assert_eq!(room.host.read(&path).await.unwrap(), None);
    for (content, mode) in [("one", 0o600), ("two: ü\n", 0o640), ("", 0o600)] {
        let permissions = Permissions { mode, ..room.permissions };
        room.host.write(&path, &Secret::new(content), permissions).await.unwrap();
        let seen = room.host.read(&path).await.unwrap().unwrap();
        assert_eq!((seen.content.expose(), seen.permissions), (content, permissions));
    }
    assert_eq!(room.host.list(&room.data("")).await.unwrap(), ["patroni.yml"]);
    let lost = room.data("missing/patroni.yml");
    let written = room.host.write(&lost, &Secret::new("x"), room.permissions).await;
    assert!(matches!(written, Err(Error::NotFound { .. })));
    for _ in 0..2 {
        room.host.remove_file(&path).await.unwrap();
        assert!(!room.host.exists(&path).await.unwrap());
    }
    assert!(matches!(room.host.read(&room.data("")).await, Err(Error::Failed { .. })));
}

#[tokio::test]
async fn nothing_outside_the_data_directory_is_removed_or_moved() {
    let room = Room::new();
    let outside = room.outside("precious");
    fs::create_dir(&outside).unwrap();
    fs::write(format!("{outside}/file"), "x").unwrap();
    fs::create_dir(room.data("inside")).unwrap();
    std::os::unix::fs::symlink(&outside, room.data("link")).unwrap();
    for path in [
        outside.clone(),
        room.data(""),
        room.data("link"),
        room.data("link/deeper"),
        room.data("../precious"),
        format!("{}-not", room.data("").trim_end_matches('/')),
        "relative".to_owned(),
        "/".to_owned(),
    ] {
        let removed = room.host.remove_directory(&path).await;
        assert!(matches!(removed, Err(Error::Failed { .. })), "remove {path}: {removed:?}");
        let moved = room.host.move_directory(&path, &room.data("moved")).await;
        assert!(matches!(moved, Err(Error::Failed { .. })), "move {path}: {moved:?}");
    }
    assert!(room.host.move_directory(&room.data("inside"), &room.outside("moved")).await.is_err());
    assert!(room.host.move_directory(&room.data("inside"), &room.data("link/moved")).await.is_err());
    for path in [format!("{outside}/file"), room.data("link/file")] {
        assert!(matches!(room.host.remove_file(&path).await, Err(Error::Failed { .. })), "{path}");
    }
    assert!(fs::exists(format!("{outside}/file")).unwrap());
    assert!(fs::exists(room.data("inside")).unwrap());
}

#[tokio::test]
async fn directories_move_only_to_where_nothing_is() {
    let room = Room::new();
    let (from, to) = (room.data("instances/a/data"), room.data("trash/a"));
    room.host.make_directory(&from, room.permissions).await.unwrap();
    fs::write(format!("{from}/file"), "x").unwrap();
    room.host.move_directory(&from, &to).await.unwrap();
    assert!(fs::exists(format!("{to}/file")).unwrap());
    assert!(matches!(room.host.move_directory(&from, &to).await, Err(Error::NotFound { .. })));
    room.host.make_directory(&from, room.permissions).await.unwrap();
    assert!(matches!(room.host.move_directory(&to, &from).await, Err(Error::Conflict { .. })));
    for _ in 0..2 {
        room.host.remove_directory(&to).await.unwrap();
        assert!(!room.host.exists(&to).await.unwrap());
    }
    room.host.remove_directory(&room.data("never/was/there")).await.unwrap();
}

#[tokio::test]
async fn a_port_is_free_when_nobody_listens_on_any_address() {
    let room = Room::new();
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let Ok(listener) = std::net::TcpListener::bind(address) else {
            assert!(address.starts_with('['), "a machine without IPv6 is fine, one without IPv4 is not");
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        assert!(!room.host.port_is_free(port).await.unwrap(), "{address}");
        // A connection that the listener's side ended leaves TIME_WAIT behind, which is in nobody's way.
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(listener.accept().unwrap());
        drop((client, listener));
        assert!(room.host.port_is_free(port).await.unwrap(), "{address}");
    }
}

#[tokio::test]
async fn a_disk_has_a_size() {
    let room = Room::new();
    let disk = room.host.disk(&room.data("")).await.unwrap();
    assert!(disk.total_bytes > 0 && disk.free_bytes <= disk.total_bytes);
    assert!(matches!(room.host.disk(&room.data("nothing")).await, Err(Error::NotFound { .. })));
}
