//! What a fleet costs: many specs at once, starting, standing still, and looking at everything. Prints `name value unit`.
//!
//! The daemon is the whole program on the drivers of the in-memory world, with a store on the disk and a mosquitto beside
//! it. The databases of that world are part of its memory: what is printed is the upper bound.
//!
//! - `specs_*`: `FLEET_SPECS` (10,000) retained specs, from the first publish to the last status that says `accepted`,
//!   against a bare subscriber of the same messages on the same broker, taking turns; peak memory of the daemon.
//! - `start_to_subscribed`: from the start of the process to the message that says it listens, against a bare client
//!   that connects, subscribes and hears its own message.
//! - `idle_*`: resident memory and processor of a daemon with 1 and with 1,000 databases that stand as desired.
//! - `sweep_*`: processor seconds of one look at every one of the databases of `specs_*`, which finds nothing to do.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures with the real clock, and reads its own environment"
)]
#![expect(clippy::print_stdout, reason = "the figures are its output")]
#![expect(clippy::print_stderr, reason = "so that a person sees it move")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rumqttc::mqttbytes::QoS;
use rumqttc::{Client, Connection, Event, Incoming, MqttOptions, PublishOptions};
use serde_json::Value;

/// How many specs, unless `FLEET_SPECS` says otherwise.
const SPECS: usize = 10_000;
/// Odd, so that the median is a measurement.
const STARTS: usize = 5;
/// How long a daemon that stands still is watched.
const IDLE: Duration = Duration::from_secs(30);
/// How long one look at everything takes: the tick that the daemon is given.
const SWEEP: Duration = Duration::from_secs(60);
/// No part of this may take longer.
const DEADLINE: Duration = Duration::from_secs(900);
/// The pause between two looks at what was heard.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The fleet's root.
const ROOT: &str = "pgmoor/v1/bench";

fn main() -> anyhow::Result<()> {
    let specs = match std::env::var("FLEET_SPECS") {
        Ok(text) => text.parse().context("FLEET_SPECS is a number")?,
        Err(_) => SPECS,
    };
    starts()?;
    idle(1)?;
    idle(1_000)?;
    many(specs)
}

/// Many specs at once, and then a look at each.
fn many(specs: usize) -> anyhow::Result<()> {
    let bare = bare(specs)?;
    println!("specs_{specs}_bare {:.0} ms", ms(bare));

    let site = Site::start()?;
    let daemon = site.daemon()?;
    let heard = Heard::listen(site.port, "databases/+/status")?;
    let begun = Instant::now();
    let publisher = publish(site.port, specs)?;
    heard.until("every spec is accepted", |said| said.accepted.len() == specs)?;
    let took = begun.elapsed();
    println!("specs_{specs}_accepted {:.0} ms", ms(took));
    println!("specs_{specs}_ratio {:.2} ratio", took.as_secs_f64() / bare.as_secs_f64());
    drop(publisher);

    heard.until("every database is available", |said| said.available.len() == specs)?;
    println!("specs_{specs}_available {:.0} ms", ms(begun.elapsed()));
    println!("specs_{specs}_peak_memory {:.1} MB", daemon.memory("VmHWM")?);

    std::thread::sleep(SWEEP);
    let before = daemon.processor()?;
    std::thread::sleep(SWEEP);
    println!("sweep_{specs}_processor {:.2} s", (daemon.processor()? - before).as_secs_f64());
    println!("sweep_{specs}_period {:.0} s", SWEEP.as_secs_f64());
    Ok(())
}

/// The same messages to a subscriber that does nothing with them.
fn bare(specs: usize) -> anyhow::Result<Duration> {
    let site = Site::start()?;
    let heard = Heard::listen(site.port, "databases/+/spec")?;
    let begun = Instant::now();
    let _publisher = publish(site.port, specs)?;
    heard.until("a bare subscriber has every spec", |said| said.topics.len() == specs)?;
    Ok(begun.elapsed())
}

fn starts() -> anyhow::Result<()> {
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let site = Site::start()?;
        let begun = Instant::now();
        let heard = Heard::listen(site.port, "databases/+/spec")?;
        let _publisher = publish(site.port, 1)?;
        heard.until("a bare client hears itself", |said| said.topics.len() == 1)?;
        bare.push(begun.elapsed());
        drop(heard);

        let heard = Heard::listen(site.port, "controllers/+/availability")?;
        let begun = Instant::now();
        let _daemon = site.spawn()?;
        heard.until("the daemon is online", |said| !said.online.is_empty())?;
        whole.push(begun.elapsed());
    }
    println!("start_to_subscribed_bare {:.0} ms", ms(median(bare)));
    println!("start_to_subscribed {:.0} ms", ms(median(whole)));
    Ok(())
}

fn idle(databases: usize) -> anyhow::Result<()> {
    let site = Site::start()?;
    let daemon = site.daemon()?;
    let heard = Heard::listen(site.port, "databases/+/status")?;
    let _publisher = publish(site.port, databases)?;
    heard.until("every database is available", |said| said.available.len() == databases)?;
    // What came up is looked at once more; then it stands still.
    std::thread::sleep(IDLE);
    let before = daemon.processor()?;
    std::thread::sleep(IDLE);
    let used = daemon.processor()? - before;
    println!("idle_{databases}_memory {:.1} MB", daemon.memory("VmRSS")?);
    println!("idle_{databases}_processor {:.2} %", used.as_secs_f64() / IDLE.as_secs_f64() * 100.0);
    Ok(())
}

/// A broker, a directory for everything, and a port.
struct Site {
    directory: tempfile::TempDir,
    port: u16,
    _broker: Process,
}

impl Site {
    fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("pgmoor-bench-").tempdir_in("/var/tmp")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let configuration = directory.path().join("mosquitto.conf");
        // As broker/mosquitto ships it: nothing is dropped from a queue.
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n");
        std::fs::write(&configuration, text)?;
        let programs = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let program = programs.into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.context("mosquitto is not installed: apt-get install mosquitto")?);
        let broker = Process::spawn(command.arg("-c").arg(configuration))?;
        until("mosquitto listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        Ok(Self { directory, port, _broker: broker })
    }

    /// A daemon that listens.
    fn daemon(&self) -> anyhow::Result<Process> {
        let heard = Heard::listen(self.port, "controllers/+/availability")?;
        let daemon = self.spawn()?;
        heard.until("the daemon is online", |said| !said.online.is_empty())?;
        Ok(daemon)
    }

    fn spawn(&self) -> anyhow::Result<Process> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgmoor"));
        command.args([
            "serve",
            "--fleet",
            "bench",
            "--host",
            "host-1",
            "--drivers",
            "fake",
            "--log-level",
            "warn",
            "--tick-s",
            "60",
        ]);
        command.arg("--data-dir").arg(self.directory.path().join("data"));
        Process::spawn(command.arg("--broker-url").arg(format!("mqtt://127.0.0.1:{}", self.port)))
    }
}

/// A process that ends with its owner.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        Ok(Self(child.with_context(|| format!("start {}", command.get_program().display()))?))
    }

    /// Of `/proc/{pid}/status`, in megabytes of 1,000,000 bytes.
    fn memory(&self, field: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib: f64 = line.and_then(|line| line.trim().strip_suffix(" kB")).context("a size")?.trim().parse()?;
        Ok(kib * 1_024.0 / 1_000_000.0)
    }

    /// Processor time that it has used: fields 14 and 15 of `/proc/{pid}/stat`, in hundredths of a second.
    fn processor(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, after_name) = stat.rsplit_once(") ").context("a process")?;
        let ticks: Vec<u64> = after_name.split(' ').skip(11).take(2).map_while(|text| text.parse().ok()).collect();
        ensure!(ticks.len() == 2, "user and system time");
        Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a subscriber has heard: topics by what their last message said.
#[derive(Debug, Default)]
struct Said {
    topics: BTreeSet<String>,
    accepted: BTreeSet<String>,
    available: BTreeSet<String>,
    online: BTreeSet<String>,
}

impl Said {
    fn hear(&mut self, topic: &str, payload: &[u8]) {
        let document: Value = serde_json::from_slice(payload).unwrap_or_default();
        let note = |set: &mut BTreeSet<String>, so: bool| {
            if so {
                set.insert(topic.to_owned())
            } else {
                set.remove(topic)
            };
        };
        note(&mut self.topics, !payload.is_empty());
        let says = |pointer, word| document.pointer(pointer).and_then(Value::as_str) == Some(word);
        note(&mut self.accepted, says("/verdict/result", "accepted"));
        note(&mut self.available, says("/state", "available"));
        note(&mut self.online, says("/state", "online"));
    }
}

/// A subscriber.
struct Heard {
    client: Client,
    said: Arc<Mutex<Said>>,
}

impl Heard {
    /// Listens, once the broker has said that it does.
    fn listen(port: u16, below: &str) -> anyhow::Result<Self> {
        let (client, connection) = connect(port, below);
        client.subscribe(format!("{ROOT}/{below}"), QoS::AtLeastOnce)?;
        let said = Arc::new(Mutex::new(Said::default()));
        let subscribed = Arc::new(AtomicBool::new(false));
        let (hears, answered) = (Arc::clone(&said), Arc::clone(&subscribed));
        std::thread::spawn(move || {
            poll(connection, |event| {
                if let Incoming::SubAck(_) = event {
                    answered.store(true, Ordering::SeqCst);
                } else if let Incoming::Publish(publish) = event
                    && let Ok(mut said) = hears.lock()
                {
                    said.hear(&String::from_utf8_lossy(&publish.topic), &publish.payload);
                }
            });
        });
        until("the broker has taken a subscription", || subscribed.load(Ordering::SeqCst))?;
        Ok(Self { client, said })
    }

    fn until(&self, what: &str, so: impl Fn(&Said) -> bool) -> anyhow::Result<()> {
        until(what, || self.said.lock().is_ok_and(|said| so(&said)))
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        drop(self.client.disconnect());
    }
}

fn connect(port: u16, name: &str) -> (Client, Connection) {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let mut options = MqttOptions::new(format!("bench-{name}"), ("127.0.0.1", port));
    options.set_keep_alive(60).set_max_packet_size(Some(1 << 20));
    Client::builder(options).capacity(100).build()
}

/// Reads until the connection ends.
fn poll(mut connection: Connection, mut hear: impl FnMut(Incoming)) {
    for event in connection.iter() {
        match event {
            Ok(Event::Incoming(incoming)) => hear(incoming),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Publishes that many specs, retained; the client keeps the connection until it is dropped.
fn publish(port: u16, specs: usize) -> anyhow::Result<Publisher> {
    let (client, connection) = connect(port, "publisher");
    std::thread::spawn(move || poll(connection, |_| {}));
    let options = PublishOptions::new(QoS::AtLeastOnce).retained();
    for number in 0..specs {
        let payload =
            format!(r#"{{"template": "postgres", "postgresql_conf": {{"work_mem": "{}kB"}}}}"#, 4_096 + number);
        client.publish(format!("{ROOT}/databases/site-{number:05}/spec"), payload.into_bytes(), options.clone())?;
    }
    Ok(Publisher(client))
}

struct Publisher(Client);

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.0.disconnect());
    }
}

fn until(what: &str, so: impl Fn() -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    eprintln!("# until {what}");
    while !so() {
        if begun.elapsed() > DEADLINE {
            bail!("waited in vain until {what}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
