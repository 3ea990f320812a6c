//! TLS in the front: both versions of MQTT through it, a stuck handshake that
//! holds nobody up, client certificates.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgmoor_broker::{Broker, Error, Options, TlsFiles};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::raw::{Hello, Raw};
use crate::support::{options, start};

struct Pki {
    dir: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), authority }
    }

    fn leaf(&self, name: &str) -> (CertificateDer<'static>, KeyPair, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.authority).unwrap();
        (leaf.der().clone(), key, leaf.pem())
    }

    fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    fn server(&self) -> TlsFiles {
        let (_, key, pem) = self.leaf("localhost");
        TlsFiles {
            cert: self.file("server.crt", &pem),
            key: self.file("server.key", &key.serialize_pem()),
            client_ca: None,
        }
    }

    async fn connect(&self, addr: SocketAddr, certificate: bool) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if certificate {
            let (leaf, key, _) = self.leaf("client");
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            config.with_client_auth_cert(vec![leaf], key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        let tcp = TcpStream::connect(addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

fn with_tls(tls: TlsFiles) -> Options {
    Options { tls: Some(tls), ..options() }
}

#[tokio::test]
async fn both_versions_work_over_tls_while_a_stranger_is_silent() {
    let pki = Pki::new();
    let broker = start(with_tls(pki.server())).await;
    let _silent = TcpStream::connect(broker.addr).await.unwrap();
    for version in [4, 5] {
        let stream = pki.connect(broker.addr, false).await.unwrap();
        let mut client = Raw::new(stream, version);
        let ack = client.hello(&Hello::new(version, "tls")).await;
        assert_eq!(ack[1], 0);
        client.subscribe("t", 1).await;
        let large = vec![7; 200 * 1024];
        assert_eq!(client.publish("t", &large, false).await, Some(0));
        assert_eq!(client.messages(1).await[0].payload, large);
    }
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_end_is_dropped() {
    let pki = Pki::new();
    let handshake_timeout = Duration::from_millis(300);
    let broker = start(Options { handshake_timeout, ..with_tls(pki.server()) }).await;
    let mut silent = Raw::new(TcpStream::connect(broker.addr).await.unwrap(), 4);
    assert!(silent.ended().await);
    // TLS done, and then silence: the same deadline.
    let mut silent = Raw::new(pki.connect(broker.addr, false).await.unwrap(), 4);
    assert!(silent.ended().await);
}

#[tokio::test]
async fn plain_mqtt_on_a_tls_port_is_dropped() {
    let pki = Pki::new();
    let broker = start(with_tls(pki.server())).await;
    let mut plain = Raw::new(TcpStream::connect(broker.addr).await.unwrap(), 4);
    plain.send(&Hello::new(4, "plain").bytes()).await;
    while let Some((first, _)) = plain.packet().await {
        assert_eq!(first, 0x15, "a TLS alert at most");
    }
}

#[tokio::test]
async fn with_a_client_authority_only_its_certificates_get_in() {
    let pki = Pki::new();
    let client_ca = Some(pki.file("ca.crt", &pki.authority.pem()));
    let broker = start(with_tls(TlsFiles { client_ca, ..pki.server() })).await;
    let mut known = Raw::new(pki.connect(broker.addr, true).await.unwrap(), 5);
    assert_eq!(known.hello(&Hello::new(5, "known")).await[1], 0);
    // In TLS 1.3 the client learns of the refusal with its first read.
    if let Ok(stream) = pki.connect(broker.addr, false).await {
        let mut stranger = Raw::new(stream, 5);
        assert!(stranger.ended().await);
    }
}

#[tokio::test]
async fn bad_files_are_named() {
    let pki = Pki::new();
    let good = pki.server();
    let missing = TlsFiles { cert: pki.dir.path().join("none"), ..good.clone() };
    assert!(matches!(refusal(missing).await, Error::ReadPem { what: "the certificate", .. }));
    let empty = TlsFiles { key: pki.file("empty.key", ""), ..good.clone() };
    assert!(matches!(refusal(empty).await, Error::ReadPem { what: "the key", .. }));
    let (_, other, _) = pki.leaf("localhost");
    let mismatched = TlsFiles { key: pki.file("other.key", &other.serialize_pem()), ..good.clone() };
    assert!(matches!(refusal(mismatched).await, Error::Tls(_)));
    open(&good.key);
    assert!(matches!(refusal(good).await, Error::FileNotPrivate { mode: 0o644, .. }));
}

fn open(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
}

async fn refusal(tls: TlsFiles) -> Error {
    Broker::start(with_tls(tls)).await.err().expect("refused")
}
