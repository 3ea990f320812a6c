//! The way to a broker that others can reach: TLS, a password, client certificates, names and addresses of all kinds.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pgmoor::model::Secret;
use pgmoor::mqtt::{Credentials, Message, Options, Server, Session, Tls};
use pgmoor::runtime::Random;
use pgmoor_broker::{Broker, Error, PasswordFile, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::brokers::PATIENCE;

struct Pki {
    dir: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), authority }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    fn authority(&self) -> PathBuf {
        self.file("ca.crt", &self.authority.pem())
    }

    /// Certificate and key for these names.
    fn leaf(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &self.authority).unwrap();
        (self.file(&format!("{file}.crt"), &leaf.pem()), self.file(&format!("{file}.key"), &key.serialize_pem()))
    }
}

struct Running {
    port: u16,
    _task: JoinSet<Result<(), Error>>,
}

/// A broker as one would open it to a network, on loopback all the same.
async fn broker(pki: &Pki, client_ca: Option<PathBuf>, listen: &str) -> Running {
    let (cert, key) = pki.leaf("server", &["localhost", "127.0.0.1", "::1"]);
    // Written by mosquitto_passwd; the password is the name and `-password`.
    let users = PasswordFile::parse(include_str!("mosquitto.passwords")).unwrap();
    let broker = Broker::start(pgmoor_broker::Options {
        listen: vec![listen.parse().unwrap()],
        tls: Some(TlsFiles { cert, key, client_ca }),
        users: Some(users),
        ..pgmoor_broker::Options::default()
    });
    let broker = broker.await.unwrap();
    let port = broker.local_addr().port();
    let mut task = JoinSet::new();
    task.spawn(broker.run(CancellationToken::new()));
    Running { port, _task: task }
}

fn options(host: &str, port: u16, tls: Tls) -> Options {
    let credentials = Credentials { username: "watcher".to_owned(), password: Secret::new("watcher-password") };
    Options {
        server: Server { host: host.to_owned(), port, tls: true },
        tls: Some(tls),
        credentials: Some(credentials),
        ..Options::default()
    }
}

async fn outcome(options: &Options) -> Result<(), String> {
    let session = Session::connect(options, "test", &Random::System, PATIENCE).await.map_err(|e| e.to_string())?;
    let published = session.publish(&Message::new("t", "x"), PATIENCE).await.map_err(|e| e.to_string());
    session.close().await;
    published
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_addresses_reach_the_broker() {
    let pki = Pki::new();
    let four = broker(&pki, None, "127.0.0.1:0").await;
    let tls = Tls { ca: pki.authority(), client: None };
    for host in ["localhost", "127.0.0.1"] {
        outcome(&options(host, four.port, tls.clone())).await.unwrap();
    }
    let six = broker(&pki, None, "[::1]:0").await;
    outcome(&options("::1", six.port, tls)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_of_a_broker_and_a_wrong_password_are_refused() {
    let pki = Pki::new();
    let running = broker(&pki, None, "127.0.0.1:0").await;
    let other = Pki::new();
    let stranger = Tls { ca: other.authority(), client: None };
    let refused = outcome(&options("localhost", running.port, stranger)).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    let mut wrong = options("localhost", running.port, Tls { ca: pki.authority(), client: None });
    wrong.credentials = Some(Credentials { username: "watcher".to_owned(), password: Secret::new("wr0ng") });
    let refused = outcome(&wrong).await.unwrap_err();
    assert!(refused.contains("NotAuthorized") && !refused.contains("wr0ng"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_shown_where_one_is_asked_for() {
    let pki = Pki::new();
    let running = broker(&pki, Some(pki.authority()), "127.0.0.1:0").await;
    let client = Some(pki.leaf("client", &["client"]));
    outcome(&options("localhost", running.port, Tls { ca: pki.authority(), client })).await.unwrap();
    let without = Tls { ca: pki.authority(), client: None };
    outcome(&options("localhost", running.port, without)).await.unwrap_err();
}
