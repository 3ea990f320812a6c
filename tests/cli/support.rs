//! Running the program, alone or against a broker of its own.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pgmoor::model::{DatabaseId, FleetId};
use pgmoor::mqtt::{Message, Options, Server, Session};
use pgmoor::runtime::Random;
use tokio_util::sync::CancellationToken;

/// How long anything here may take: a start of the program on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The program, with nothing of this process's settings.
pub(crate) fn pgmoor(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgmoor"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PGMOOR_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What the program said, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) fn run(arguments: &[&str]) -> Said {
    pgmoor(arguments).output().unwrap().into()
}

/// A file below the project's root.
pub(crate) fn file(path: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path).to_string_lossy().into_owned()
}

/// An embedded broker, and a session that stands for the controller.
pub(crate) struct Site {
    pub(crate) fleet: FleetId,
    pub(crate) controller: Session,
    address: String,
    stop: CancellationToken,
    broker: tokio::task::JoinSet<()>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let options =
            pgmoor_broker::Options { listen: vec![([127, 0, 0, 1], 0).into()], ..pgmoor_broker::Options::default() };
        let broker = pgmoor_broker::Broker::start(options).await.unwrap();
        let address = broker.local_addr();
        let stop = CancellationToken::new();
        let mut running = tokio::task::JoinSet::new();
        let token = stop.clone();
        running.spawn(async move { broker.run(token).await.unwrap() });
        let server = Server { host: address.ip().to_string(), port: address.port(), tls: false };
        let options = Options { server, ..Options::default() };
        let controller = Session::connect(&options, "test", &Random::System, LIMIT).await.unwrap();
        let fleet = FleetId::parse("test").unwrap();
        Self { fleet, controller, address: address.to_string(), stop, broker: running }
    }

    /// Runs the program against this broker, beside the test.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        let mut all = arguments.to_vec();
        all.extend(["--fleet", self.fleet.as_str(), "--broker-listen", &self.address]);
        let mut command = pgmoor(&all);
        let running = tokio::task::spawn_blocking(move || command.output().unwrap());
        tokio::time::timeout(LIMIT, running).await.unwrap().unwrap().into()
    }

    pub(crate) async fn retain(&self, topic: &str, document: &serde_json::Value) {
        let message = Message::retained(topic, document.to_string());
        self.controller.publish(&message, LIMIT).await.unwrap();
    }

    /// Says that a controller is online.
    pub(crate) async fn online(&self) {
        let topic = format!("pgmoor/v1/{}/controllers/host-1/availability", self.fleet);
        let document = serde_json::json!({
            "state": "online", "controller": "host-1", "epoch": 1, "since": "2026-01-01T00:00:00Z", "version": "0",
        });
        self.retain(&topic, &document).await;
    }

    pub(crate) async fn end(mut self) {
        self.controller.close().await;
        self.stop.cancel();
        while self.broker.join_next().await.is_some() {}
    }
}

pub(crate) fn shop() -> DatabaseId {
    DatabaseId::parse("shop").unwrap()
}

/// A status of the database `shop` in this state, about the spec with these bytes.
pub(crate) fn status(state: &str, spec: &[u8], verdict: &str, faults: serde_json::Value) -> serde_json::Value {
    let digest = pgmoor::model::Digest::of_bytes(spec).to_string();
    let mut status = serde_json::json!({
        "database": "shop", "state": state, "seq": 1, "epoch": 1, "updated_at": "2026-01-01T00:00:00Z",
        "verdict": {"result": verdict, "digest": digest, "at": "2026-01-01T00:00:00Z", "faults": faults},
        "conditions": [{"type": "Ready", "status": "false", "reason": "R", "message": "as told",
                        "since": "2026-01-01T00:00:00Z"}],
        "instances": [], "later_key": 7,
    });
    if verdict == "accepted" {
        status["observed"] = serde_json::json!({"digest": digest});
    }
    status
}
