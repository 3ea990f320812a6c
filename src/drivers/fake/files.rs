//! The file trees of all hosts. What Postgres and etcd keep is a node of one, so it moves and goes with its directory.
//!
//! Invariant: paths in here are [`on`] a host; what a host itself says is made so at the border.

use std::collections::BTreeMap;

use super::call::{Outcome, Refusal};
use super::cluster::Cluster;
use super::etcd::EtcdData;
use crate::drivers::host::{FileSeen, Permissions};
use crate::model::Secret;

/// Directories that every host has.
const BASE: [&str; 7] = ["/", "/etc", "/mnt", "/srv", "/tmp", "/var", "/var/lib"];

/// Something at a path.
#[derive(Debug)]
enum Node {
    Directory(Permissions),
    File(FileSeen),
    /// The data directory of a Postgres cluster.
    Cluster(Permissions, Box<Cluster>),
    /// The data directory of an etcd member.
    Etcd(Permissions, Box<EtcdData>),
}

impl Node {
    fn directory(&self) -> Option<Permissions> {
        match self {
            Self::Directory(permissions) | Self::Cluster(permissions, _) | Self::Etcd(permissions, _) => {
                Some(*permissions)
            }
            Self::File(_) => None,
        }
    }

    fn is_data(&self) -> bool {
        match self {
            Self::Cluster(..) | Self::Etcd(..) => true,
            Self::Directory(_) | Self::File(_) => false,
        }
    }
}

/// The trees of all hosts.
#[derive(Debug)]
pub(super) struct Files {
    /// By absolute path on a host.
    nodes: BTreeMap<String, Node>,
    /// By the name of a file, what was last written under it anywhere: the authority's certificate is the same in all
    /// directories, and is kept once.
    texts: BTreeMap<String, Secret>,
}

/// A path of a host, as the tree knows it.
pub(super) fn on(node: &str, path: &str) -> String {
    format!("{node}:{path}")
}

/// What the host itself calls it.
pub(super) fn own(path: &str) -> &str {
    path.split_once(":/").and_then(|(node, _)| path.get(node.len() + 1..)).unwrap_or(path)
}

/// The path without a trailing slash.
fn plain(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// Whether `path` is `root` or below it.
pub(super) fn is_within(path: &str, root: &str) -> bool {
    let (path, root) = (plain(path), plain(root));
    path == root || root == "/" || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

impl Files {
    pub(super) fn new(node: &str) -> Self {
        let mut files = Self { nodes: BTreeMap::new(), texts: BTreeMap::new() };
        files.add_host(node);
        files
    }

    /// The tree of a host on which there is nothing yet.
    pub(super) fn add_host(&mut self, node: &str) {
        let root = Permissions { mode: 0o755, uid: 0, gid: 0 };
        self.nodes.extend(BASE.iter().map(|path| (plain(&on(node, path)).to_owned(), Node::Directory(root))));
    }

    /// What is at a path and below it.
    fn within<'a>(&'a self, root: &'a str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let root = plain(root);
        let nodes = self.nodes.range(root.to_owned()..).take_while(move |(path, _)| path.starts_with(root));
        nodes.filter(move |(path, _)| is_within(path, root)).map(|(path, node)| (path.as_str(), node))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.nodes.contains_key(plain(path))
    }

    pub(super) fn directory(&self, path: &str) -> Outcome<Option<Permissions>> {
        match self.nodes.get(plain(path)) {
            None => Ok(None),
            Some(node) => {
                node.directory().map(Some).ok_or_else(|| Refusal::failed("something that is no directory is there"))
            }
        }
    }

    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let path = plain(path);
        let children = self.within(path).map(|(key, _)| key).filter(|key| *key != "/" && parent(key) == path);
        children.filter_map(|key| key.rsplit_once('/').map(|(_, name)| name.to_owned())).collect()
    }

    pub(super) fn make_directory(&mut self, path: &str, permissions: Permissions) -> Outcome<()> {
        let path = plain(path).to_owned();
        let above = parent(&path).to_owned();
        if above != path && !self.exists(&above) {
            self.make_directory(&above, Permissions { mode: 0o700, uid: 0, gid: 0 })?;
        }
        if self.directory(&above)?.is_none() {
            return Err(Refusal::NotFound);
        }
        match self.nodes.get_mut(&path) {
            None => {
                self.nodes.insert(path, Node::Directory(permissions));
            }
            Some(Node::Directory(has) | Node::Cluster(has, _) | Node::Etcd(has, _)) => *has = permissions,
            Some(Node::File(_)) => return Err(Refusal::failed("File exists")),
        }
        Ok(())
    }

    /// Removes all at and below a path; tells whether data went with it.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        let gone: Vec<String> = self.within(path).map(|(path, _)| path.to_owned()).collect();
        let nodes: Vec<Node> = gone.iter().filter_map(|key| self.nodes.remove(key)).collect();
        nodes.iter().any(Node::is_data)
    }

    pub(super) fn move_directory(&mut self, from: &str, to: &str) -> Outcome<()> {
        let (from, to) = (plain(from).to_owned(), plain(to).to_owned());
        if self.directory(&from)?.is_none() {
            return Err(Refusal::NotFound);
        }
        if self.exists(&to) {
            return Err(Refusal::Conflict("the target is there".to_owned()));
        }
        if !self.exists(parent(&to)) {
            return Err(Refusal::NotFound);
        }
        let moved: Vec<String> = self.within(&from).map(|(path, _)| path.to_owned()).collect();
        for old in moved {
            if let Some(node) = self.nodes.remove(&old) {
                let rest = old.get(from.len()..).unwrap_or_default();
                self.nodes.insert(format!("{to}{rest}"), node);
            }
        }
        Ok(())
    }

    pub(super) fn read(&self, path: &str) -> Outcome<Option<&FileSeen>> {
        match self.nodes.get(plain(path)) {
            None => Ok(None),
            Some(Node::File(file)) => Ok(Some(file)),
            Some(Node::Directory(_) | Node::Cluster(..) | Node::Etcd(..)) => Err(Refusal::failed("Is a directory")),
        }
    }

    pub(super) fn write(&mut self, path: &str, content: &Secret, permissions: Permissions) -> Outcome<()> {
        if self.directory(parent(plain(path)))?.is_none() {
            return Err(Refusal::NotFound);
        }
        if self.nodes.get(plain(path)).is_some_and(|node| node.directory().is_some()) {
            return Err(Refusal::failed("Is a directory"));
        }
        let name = plain(path).rsplit('/').next().unwrap_or_default();
        let content = match self.texts.get(name).filter(|last| *last == content) {
            Some(last) => last.clone(),
            None => content.clone(),
        };
        self.texts.insert(name.to_owned(), content.clone());
        self.nodes.insert(plain(path).to_owned(), Node::File(FileSeen { content, permissions }));
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &str) -> Outcome<()> {
        self.read(path)?;
        self.nodes.remove(plain(path));
        Ok(())
    }

    /// The text of a file that a process of this user may read.
    pub(super) fn read_as(&self, path: &str, uid: u32) -> Result<&Secret, String> {
        let file = match self.read(path) {
            Ok(Some(file)) => file,
            Ok(None) => return Err(format!("{}: No such file or directory", own(path))),
            Err(_) => return Err(format!("{}: Is a directory", own(path))),
        };
        let Permissions { mode, uid: owner, gid } = file.permissions;
        let readable = (owner == uid && mode & 0o400 != 0) || (gid == uid && mode & 0o040 != 0) || mode & 0o004 != 0;
        if readable { Ok(&file.content) } else { Err(format!("{}: Permission denied", own(path))) }
    }

    /// Every Postgres data directory.
    pub(super) fn clusters(&self) -> impl Iterator<Item = (&str, &Cluster)> {
        self.nodes.iter().filter_map(|(path, node)| match node {
            Node::Cluster(_, cluster) => Some((path.as_str(), &**cluster)),
            Node::Directory(_) | Node::File(_) | Node::Etcd(..) => None,
        })
    }

    /// Every file below a path.
    pub(super) fn below<'a>(&'a self, root: &'a str) -> impl Iterator<Item = &'a str> {
        self.within(root).filter(|(_, node)| matches!(node, Node::File(_))).map(|(path, _)| path)
    }

    pub(super) fn cluster(&self, path: &str) -> Option<&Cluster> {
        match self.nodes.get(plain(path)) {
            Some(Node::Cluster(_, cluster)) => Some(cluster),
            Some(Node::Directory(_) | Node::File(_) | Node::Etcd(..)) | None => None,
        }
    }

    pub(super) fn cluster_mut(&mut self, path: &str) -> Option<&mut Cluster> {
        match self.nodes.get_mut(plain(path)) {
            Some(Node::Cluster(_, cluster)) => Some(cluster),
            Some(Node::Directory(_) | Node::File(_) | Node::Etcd(..)) | None => None,
        }
    }

    /// `initdb`: the data directory comes to be.
    pub(super) fn put_cluster(&mut self, path: &str, uid: u32, cluster: Cluster) {
        let permissions = Permissions { mode: 0o700, uid, gid: uid };
        self.nodes.insert(plain(path).to_owned(), Node::Cluster(permissions, Box::new(cluster)));
    }

    pub(super) fn etcd(&self, path: &str) -> Option<&EtcdData> {
        match self.nodes.get(plain(path)) {
            Some(Node::Etcd(_, data)) => Some(data),
            Some(Node::Directory(_) | Node::File(_) | Node::Cluster(..)) | None => None,
        }
    }

    /// The data of all etcd members.
    pub(super) fn etcds(&self) -> impl Iterator<Item = (&str, &EtcdData)> {
        self.nodes.iter().filter_map(|(path, node)| match node {
            Node::Etcd(_, data) => Some((path.as_str(), &**data)),
            Node::Directory(_) | Node::File(_) | Node::Cluster(..) => None,
        })
    }

    pub(super) fn etcd_mut(&mut self, path: &str) -> Option<&mut EtcdData> {
        match self.nodes.get_mut(plain(path)) {
            Some(Node::Etcd(_, data)) => Some(data),
            Some(Node::Directory(_) | Node::File(_) | Node::Cluster(..)) | None => None,
        }
    }

    /// A new member's data directory comes to be below its mount.
    pub(super) fn put_etcd(&mut self, path: &str, uid: u32) {
        let permissions = Permissions { mode: 0o700, uid, gid: uid };
        self.nodes.insert(plain(path).to_owned(), Node::Etcd(permissions, Box::default()));
    }
}
