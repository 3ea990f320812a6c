//! `deploy/stack.yml` on the real Swarm, twice: the broker of a site, and a central one that it is bridged to by a line
//! which can be cut. The daemon has an in-memory world: what is looked at is the way of its messages.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::daemon::{free_port, until};
use crate::docker::docker;

/// A stack made from our file; it goes with this, its volume too.
struct Stack {
    name: String,
    files: PathBuf,
    passwords: u16,
    certificates: u16,
}

impl Stack {
    /// Makes the files for a broker, before anything runs.
    fn prepare(directory: &Path, fleet: &str, name: &str, users: &[&str]) -> Self {
        let files = directory.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgmoor"));
        command.args(["broker", "init"]).arg(&files).args(["--fleet", fleet, "--name", "localhost"]).args(users);
        said(&command.output().unwrap());
        Self { name: format!("{fleet}-{name}"), files, passwords: free_port(), certificates: free_port() }
    }

    fn deploy(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/stack.yml");
        let mut command = Command::new("docker");
        command.args(["stack", "deploy", "--resolve-image", "never", "-c"]).arg(file).arg(&self.name);
        command.env("PGMOOR_BROKER_STACK", &self.name).env("PGMOOR_BROKER_FILES", &self.files);
        command.env("PGMOOR_BROKER_PORT", self.passwords.to_string());
        command.env("PGMOOR_BROKER_CERTIFICATE_PORT", self.certificates.to_string());
        said(&command.output().unwrap());
        until("the broker listens", || TcpStream::connect(("127.0.0.1", self.certificates)).is_ok());
    }

    fn file(&self, name: &str) -> String {
        self.files.join(name).to_str().unwrap().to_owned()
    }

    /// The settings to reach it with a password.
    fn by_password(&self, user: &str) -> Vec<String> {
        let url = format!("mqtts://localhost:{}", self.passwords);
        let [ca, password] = [self.file("ca.crt"), self.file(&format!("clients/{user}.password"))];
        let flags = ["--broker-url", &url, "--broker-ca-file", &ca, "--broker-username", user];
        flags.into_iter().chain(["--broker-password-file", &password]).map(str::to_owned).collect()
    }

    /// The settings to reach it with a certificate.
    fn by_certificate(&self, user: &str) -> Vec<String> {
        let url = format!("mqtts://localhost:{}", self.certificates);
        let [ca, certificate, key] =
            ["ca.crt", &format!("clients/{user}.crt"), &format!("clients/{user}.key")].map(|name| self.file(name));
        let flags = ["--broker-url", &url, "--broker-ca-file", &ca, "--broker-cert-file", &certificate];
        flags.into_iter().chain(["--broker-key-file", &key]).map(str::to_owned).collect()
    }

    fn container(&self) -> String {
        let filter = format!("label=com.docker.stack.namespace={}", self.name);
        docker(&["ps", "-q", "--filter", &filter]).unwrap()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        drop(docker(&["stack", "rm", &self.name]));
        let filter = format!("label=com.docker.stack.namespace={}", self.name);
        until("the stack's containers are gone", || {
            docker(&["ps", "-aq", "--filter", &filter]).unwrap_or_default().is_empty()
        });
        drop(docker(&["volume", "rm", &format!("{}_store", self.name)]));
    }
}

/// The node's label that the stack asks for; taken off again where it was not there before.
struct Label(Option<String>);

impl Label {
    fn put() -> Self {
        let node = docker(&["info", "--format", "{{.Swarm.NodeID}}"]).unwrap();
        let before = docker(&["node", "inspect", &node, "--format", "{{index .Spec.Labels \"pgmoor.broker\"}}"]);
        docker(&["node", "update", "--label-add", "pgmoor.broker=true", &node]).unwrap();
        Self(before.unwrap().is_empty().then_some(node))
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        if let Some(node) = &self.0 {
            drop(docker(&["node", "update", "--label-rm", "pgmoor.broker", node]));
        }
    }
}

/// The line between the brokers, on the bridge by which containers reach this host.
struct Line {
    up: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    port: u16,
}

impl Line {
    fn to(address: &str, target: u16) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (up, open) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (is_up, kept) = (Arc::clone(&up), Arc::clone(&open));
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if !is_up.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let mut buffer = [0; 16 * 1024];
                        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..bytes]).is_err() {
                                break;
                            }
                        }
                        drop(to.shutdown(Shutdown::Both));
                    });
                }
                kept.lock().unwrap().extend([near, far]);
            }
        });
        Self { up, open, port }
    }

    fn cut(&self) {
        self.up.store(false, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn heal(&self) {
        self.up.store(true, Ordering::SeqCst);
    }
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a program printed; it must have gone well.
fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

fn pgmoor(arguments: &[&str], settings: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pgmoor")).args(arguments).args(settings).stdin(Stdio::null()).output().unwrap()
}

fn available(database: &str, fleet: &str, broker: &[String]) -> bool {
    let output = pgmoor(&["status", database, "--fleet", fleet, "-o", "json"], broker);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    status.pointer("/status/state").or(status.get("state")).is_some_and(|state| state == "available")
}

#[test]
fn a_site_goes_on_while_its_line_is_cut() {
    let directory = tempfile::Builder::new().prefix("pgmoor-stack-").tempdir_in("/var/tmp").unwrap();
    let fleet = format!("t{}", directory.path().to_str().unwrap().rsplit('-').next().unwrap().to_lowercase());
    let gateway = docker(&["network", "inspect", "docker_gwbridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"]);
    let gateway = gateway.unwrap();
    let _label = Label::put();

    let users = ["--name", &gateway, "--site", "site", "--publisher", "office"];
    let central = Stack::prepare(directory.path(), &fleet, "central", &users);
    central.deploy();
    let line = Line::to(&gateway, central.passwords);
    let site = Stack::prepare(directory.path(), &fleet, "site", &["--host-user", "host-1", "--publisher", "tool"]);
    let address = format!("{gateway}:{}", line.port);
    let password = central.file("clients/site.password");
    let bridge = ["broker", "bridge", &address, "site", "--fleet", &fleet, "--password-file", &password];
    std::fs::write(site.file("conf.d/bridge.conf"), said(&pgmoor(&bridge, &[]))).unwrap();
    std::fs::copy(central.file("ca.crt"), site.file("certs/central-ca.crt")).unwrap();
    site.deploy();

    let (tool, office) = (site.by_password("tool"), central.by_password("office"));
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let data = directory.path().join("data");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_pgmoor"));
    serve.args(["serve", "--fleet", &fleet, "--host", "host-1", "--drivers", "fake", "--log", "json"]);
    serve.arg("--data-dir").arg(data).args(site.by_certificate("host-1")).stdin(Stdio::null()).stderr(log);
    let _serving = Serving(serve.spawn().unwrap());

    let spec = |name: &str| {
        let path = directory.path().join(format!("{name}.json"));
        std::fs::write(&path, r#"{"template": "postgres"}"#).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let apply = ["--fleet", &fleet, "--wait", "--timeout", "90s"];
    let wait_for = |name: &str, broker: &[String]| {
        let path = spec(name);
        said(&pgmoor(&[&["apply", &path], &apply[..]].concat(), broker));
    };
    // At the site, and by way of the centre: the wish goes down, the report comes up.
    wait_for("near", &tool);
    wait_for("far", &office);

    line.cut();
    wait_for("alone", &tool);
    let wish = spec("later");
    said(&pgmoor(&["apply", &wish, "--fleet", &fleet], &office));
    assert!(!available("alone", &fleet, &office), "the line is cut");
    assert!(!available("later", &fleet, &tool), "the line is cut");

    line.heal();
    until("the site hears of the wish", || available("later", &fleet, &tool));
    for database in ["near", "far", "alone", "later"] {
        until("the centre hears of the databases", || available(database, &fleet, &office));
    }

    // The store of the site's broker outlives its container: the wishes are there for somebody new.
    let before = site.container();
    docker(&["service", "update", "--force", "--detach", &format!("{}_broker", site.name)]).unwrap();
    until("another container", || !site.container().is_empty() && site.container() != before);
    until("the broker listens", || TcpStream::connect(("127.0.0.1", site.certificates)).is_ok());
    let kept = || {
        let listening = ["mosquitto_sub", "-h", "localhost", "--cafile", &site.file("ca.crt"), "-u", "tool"].join(" ");
        let password = format!("$(cat {})", site.file("clients/tool.password"));
        let topic = format!("pgmoor/v1/{fleet}/databases/later/spec");
        let line = format!("{listening} -P {password} -p {} -t {topic} -C 1 -W 5", site.passwords);
        Command::new("sh").args(["-c", &line]).output().is_ok_and(|output| output.status.success())
    };
    until("the spec is retained", kept);
}
