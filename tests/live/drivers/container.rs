//! What the live driver tests share: certificates in a directory, and a plain container that goes with the test.

use std::collections::BTreeSet;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pgmoor::drivers::TlsIdentity;
use pgmoor::drivers::certificates::{Authority, Issued, issue, make_authority};
use pgmoor::model::resource::CertificateAttributes;
use pgmoor::model::{Digest, FleetId};

/// A container that is removed with its last owner.
pub(super) struct Container(String);

impl Container {
    /// Runs `docker run -d` with these arguments (the image among them) and then the program's own.
    pub(super) fn run(name: &str, docker: &[&str], program: &[&str]) -> Self {
        remove(name);
        let output =
            Command::new("docker").args(["run", "-d", "--name", name]).args(docker).args(program).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(name.to_owned())
    }

    /// The port on the loopback address that a port of the container was given.
    pub(super) fn port(&self, inside: u16) -> u16 {
        let output = Command::new("docker").args(["port", &self.0, &inside.to_string()]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().next().and_then(|line| line.rsplit(':').next()).unwrap().trim().parse().unwrap()
    }

    /// All that the container wrote.
    pub(super) fn log(&self) -> String {
        let output = Command::new("docker").args(["logs", &self.0]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// The address on the `bridge` network.
    pub(super) fn address(&self) -> String {
        let format = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
        let output = Command::new("docker").args(["inspect", "--format", format, &self.0]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What a command in the container prints, and whether it ended well.
    pub(super) fn exec(&self, command: &[&str]) -> (bool, String) {
        let output = Command::new("docker").args(["exec", &self.0]).args(command).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap().trim().to_owned())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(output) = Command::new("docker").args(["logs", "--tail", "40", &self.0]).output()
        {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
        remove(&self.0);
    }
}

fn remove(name: &str) {
    let output = Command::new("docker").args(["rm", "-f", "-v", name]).output().unwrap();
    assert!(output.status.success() || String::from_utf8_lossy(&output.stderr).contains("No such container"));
}

/// An authority with a server's certificate, as files in a directory that every user may read.
pub(super) struct Pki {
    pub(super) directory: tempfile::TempDir,
    authority: Authority,
}

/// Makes `ca.crt`, `server.crt` and `server.key` for a server at 127.0.0.1 that is also called `name`.
pub(super) fn pki(name: &str) -> Pki {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let authority = make_authority(&FleetId::parse("drivers").unwrap(), now_s()).unwrap();
    let pki = Pki { directory, authority };
    let server = pki.issue("", &["127.0.0.1", name], true);
    pki.file("ca.crt", &pki.authority.certificate_pem);
    pki.file("server.crt", &server.certificate_pem);
    pki.file("server.key", server.key_pem.expose());
    pki
}

impl Pki {
    /// A client's identity with this common name.
    pub(super) fn client(&self, common_name: &str) -> Arc<TlsIdentity> {
        let issued = self.issue(common_name, &["client"], false);
        Arc::new(TlsIdentity {
            ca_pem: self.authority.certificate_pem.clone(),
            certificate_pem: issued.certificate_pem,
            key_pem: issued.key_pem,
        })
    }

    /// The path of a file in the directory.
    pub(super) fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn issue(&self, common_name: &str, names: &[&str], server: bool) -> Issued {
        let attributes = CertificateAttributes {
            stem: common_name.to_owned(),
            uid: 0,
            gid: 0,
            common_name: common_name.to_owned(),
            subject_alt_names: names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
            server,
            // etcd's gateway is a client of its own member, with the server's certificate.
            client: true,
            issuer: Digest::of_bytes(b""),
            fresh: true,
        };
        issue(&self.authority, &attributes, now_s()).unwrap()
    }
}

fn now_s() -> i64 {
    let modified = tempfile::tempfile().unwrap().metadata().unwrap().modified().unwrap();
    i64::try_from(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Waits at most a minute.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "waited in vain: {what}");
}
