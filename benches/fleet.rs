//! What a fleet costs: many specs at once, starting, standing still, and looking at everything. Prints `name value unit`.
//!
//! The daemon is the whole program on the drivers of the in-memory world, with a store on the disk and a mosquitto beside
//! it, set up as `broker/mosquitto/` ships it (without passwords). The databases of that world are part of its memory and
//! of its work: what is printed is the upper bound.
//!
//! - `specs_*`: `FLEET_SPECS` (10,000) retained specs, from the first publish to the last event that says `accepted`,
//!   against a bare subscriber of the same messages on the same broker: one run before and one after, of which the mean
//!   counts. Beside it what the daemon uses of the processor, which a busy machine changes less. Then the time until every
//!   `status` says so too, and the peak memory of the daemon until then.
//! - `start_to_subscribed`: from the start of the process to the message that says it listens, against a bare client
//!   that connects, subscribes and hears its own message.
//! - `idle_*`: resident memory (and what of it are pages of files) and processor of a daemon with 1 and with 1,000
//!   databases that stand as desired.
//! - `sweep_*`: what the making of `FLEET_SWEEP` (1,000) databases takes, and the processor seconds of one look at every one of
//!   them that finds nothing to do; what the monitor uses in that time is part of it.
//!
//! `FLEET_PARTS` chooses among `starts`, `idle`, `many` and `sweep`, with commas. Every wait has an end, and with an error all
//! that was started ends too.

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
use serde::Deserialize;

/// How many specs, unless `FLEET_SPECS` says otherwise.
const SPECS: usize = 10_000;
/// How many databases are looked at, unless `FLEET_SWEEP` says otherwise: making them takes longer than all the rest.
const SWEEP: usize = 1_000;
/// Odd, so that the median is a measurement.
const STARTS: usize = 5;
/// How long a daemon that stands still is watched.
const IDLE: Duration = Duration::from_secs(30);
/// How long what was just made may take to stand still.
const SETTLE: Duration = Duration::from_secs(10);
/// A host looks at so many databases in each tick; beyond that, looks at one of them are further apart.
const LOOKS_A_TICK: usize = 50;
/// No wait may take longer, but for the making of many databases.
const DEADLINE: Duration = Duration::from_secs(300);
/// How long the making of each database may take on a busy machine.
const MAKE_MAX: Duration = Duration::from_millis(100);
/// The pause between two looks at what was heard.
const LOOK_EVERY: Duration = Duration::from_millis(2);

fn main() -> anyhow::Result<()> {
    let parts = std::env::var("FLEET_PARTS").unwrap_or_else(|_| "starts,idle,many,sweep".to_owned());
    for part in parts.split(',') {
        match part {
            "starts" => starts()?,
            "idle" => {
                idle(1)?;
                idle(1_000)?;
            }
            "many" => many(number("FLEET_SPECS", SPECS)?)?,
            "sweep" => sweep(number("FLEET_SWEEP", SWEEP)?)?,
            other => bail!("FLEET_PARTS has no \"{other}\""),
        }
    }
    Ok(())
}

fn number(variable: &'static str, otherwise: usize) -> anyhow::Result<usize> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is a number")),
        Err(_) => Ok(otherwise),
    }
}

/// Many specs at once.
fn many(specs: usize) -> anyhow::Result<()> {
    let site = Site::start()?;
    let before = bare(&site, "before", specs)?;
    let daemon = site.daemon(specs + 1, 10)?;
    // A first database, which is not counted: the fleet's own services come up with it.
    let warm = Heard::listen(site.port, "pgmoor/v1/bench/databases/warm/status", Said::hear_status)?;
    let _publisher = publish_one(site.port, "pgmoor/v1/bench/databases/warm/spec")?;
    warm.until("the fleet's own services run", |said| !said.available.is_empty())?;
    drop(warm);
    let events = Heard::listen(site.port, "pgmoor/v1/bench/databases/+/events", Said::hear_event)?;
    let statuses = Heard::listen(site.port, "pgmoor/v1/bench/databases/+/status", Said::hear_status)?;
    let (begun, used_before) = (Instant::now(), daemon.processor()?);
    let publisher = publish(site.port, "pgmoor/v1/bench", specs)?;
    events.until("every spec is accepted", |said| said.accepted.len() == specs)?;
    let (took, used) = (begun.elapsed(), daemon.processor()?.saturating_sub(used_before));
    drop(publisher);
    drop(events);
    let after = bare(&site, "after", specs)?;
    let bare = (before + after) / 2;
    println!("specs_{specs}_bare {:.0} ms", ms(bare));
    println!("specs_{specs}_accepted {:.0} ms", ms(took));
    println!("specs_{specs}_ratio {:.2} ratio", took.as_secs_f64() / bare.as_secs_f64());
    println!("specs_{specs}_processor {:.2} s", used.as_secs_f64());

    // Retained, the warm one's is heard too.
    statuses.until("every status says accepted", |said| said.accepted.len() == specs + 1)?;
    println!("specs_{specs}_status {:.0} ms", ms(begun.elapsed()));
    println!("specs_{specs}_peak_memory {:.1} MB", daemon.memory("VmHWM")?);
    Ok(())
}

/// One look at each of many databases that stand as desired.
fn sweep(databases: usize) -> anyhow::Result<()> {
    let site = Site::start()?;
    let (daemon, took) = site.stands(databases, 1)?;
    println!("sweep_{databases}_available {:.0} ms", ms(took));
    println!("sweep_{databases}_available_processor {:.2} s", daemon.processor()?.as_secs_f64());
    // With a tick of a second.
    let period = Duration::from_secs(databases.div_ceil(LOOKS_A_TICK) as u64);
    let used = daemon.used_in(period)?;
    println!("sweep_{databases}_processor {:.2} s", used.as_secs_f64());
    println!("sweep_{databases}_period {:.0} s", period.as_secs_f64());
    Ok(())
}

/// The same messages to a subscriber that does nothing with them but count.
fn bare(site: &Site, root: &str, specs: usize) -> anyhow::Result<Duration> {
    let heard = Heard::listen(site.port, &format!("{root}/databases/+/spec"), |said, _, _| said.messages += 1)?;
    let begun = Instant::now();
    let publisher = publish(site.port, root, specs)?;
    heard.until("a bare subscriber has every spec", |said| said.messages == specs)?;
    let took = begun.elapsed();
    drop(publisher);
    Ok(took)
}

fn starts() -> anyhow::Result<()> {
    let (mut bare_client, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let site = Site::start()?;
        let begun = Instant::now();
        let _heard = bare(&site, "bare", 1)?;
        bare_client.push(begun.elapsed());

        let heard = Heard::listen(site.port, "pgmoor/v1/bench/controllers/+/availability", Said::hear_state)?;
        let begun = Instant::now();
        let _daemon = site.spawn(1, 10)?;
        heard.until("the daemon is online", |said| !said.online.is_empty())?;
        whole.push(begun.elapsed());
    }
    println!("start_to_subscribed_bare {:.0} ms", ms(median(bare_client)));
    println!("start_to_subscribed {:.0} ms", ms(median(whole)));
    Ok(())
}

fn idle(databases: usize) -> anyhow::Result<()> {
    let site = Site::start()?;
    let (daemon, _took) = site.stands(databases, 10)?;
    let used = daemon.used_in(IDLE)?;
    println!("idle_{databases}_memory {:.1} MB", daemon.memory("VmRSS")?);
    println!("idle_{databases}_memory_of_files {:.1} MB", daemon.memory("RssFile")?);
    println!("idle_{databases}_peak_memory {:.1} MB", daemon.memory("VmHWM")?);
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
        // As broker/mosquitto ships it, without passwords.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 1000000\nmax_queued_bytes 0\n\
             max_inflight_messages 100\nset_tcp_nodelay true\nlog_type error\n"
        );
        std::fs::write(&configuration, text)?;
        let programs = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let program = programs.into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.context("mosquitto is not installed: apt-get install mosquitto")?);
        let broker = Process::spawn(command.arg("-c").arg(configuration))?;
        until("mosquitto listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        Ok(Self { directory, port, _broker: broker })
    }

    /// A daemon that listens, on a host for so many databases.
    fn daemon(&self, databases: usize, tick_s: u32) -> anyhow::Result<Process> {
        let heard = Heard::listen(self.port, "pgmoor/v1/bench/controllers/+/availability", Said::hear_state)?;
        let daemon = self.spawn(databases, tick_s)?;
        heard.until("the daemon is online", |said| !said.online.is_empty())?;
        Ok(daemon)
    }

    /// A daemon with so many databases that stand as desired, and how long it took until they did.
    fn stands(&self, databases: usize, tick_s: u32) -> anyhow::Result<(Process, Duration)> {
        let daemon = self.daemon(databases, tick_s)?;
        let heard = Heard::listen(self.port, "pgmoor/v1/bench/databases/+/status", Said::hear_status)?;
        let begun = Instant::now();
        let _publisher = publish(self.port, "pgmoor/v1/bench", databases)?;
        let limit = DEADLINE.max(MAKE_MAX.saturating_mul(u32::try_from(databases)?));
        heard.within(limit, "every database is available", |said| said.available.len() == databases)?;
        let took = begun.elapsed();
        std::thread::sleep(SETTLE);
        Ok((daemon, took))
    }

    fn spawn(&self, databases: usize, tick_s: u32) -> anyhow::Result<Process> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgmoor"));
        command.args(["serve", "--fleet", "bench", "--host", "host-1", "--drivers", "fake", "--log-level", "warn"]);
        command.args(["--fake-databases", &databases.to_string(), "--tick-s", &tick_s.to_string()]);
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

    /// Processor time that it uses within this time.
    fn used_in(&self, time: Duration) -> anyhow::Result<Duration> {
        let before = self.processor()?;
        std::thread::sleep(time);
        Ok(self.processor()?.saturating_sub(before))
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

/// What a subscriber has heard.
#[derive(Debug, Default)]
struct Said {
    messages: usize,
    accepted: BTreeSet<String>,
    available: BTreeSet<String>,
    online: BTreeSet<String>,
}

#[derive(Deserialize)]
struct EventSeen<'a> {
    r#type: &'a str,
}

#[derive(Deserialize)]
struct StateSeen<'a> {
    state: &'a str,
    #[serde(borrow)]
    verdict: Option<VerdictSeen<'a>>,
}

#[derive(Deserialize)]
struct VerdictSeen<'a> {
    result: &'a str,
}

fn note(set: &mut BTreeSet<String>, topic: &str, so: bool) {
    if so {
        set.insert(topic.to_owned());
    } else {
        set.remove(topic);
    }
}

impl Said {
    fn hear_event(&mut self, topic: &str, payload: &[u8]) {
        let event = serde_json::from_slice::<EventSeen<'_>>(payload);
        if event.is_ok_and(|event| event.r#type == "dev.pgmoor.spec.accepted") {
            self.accepted.insert(topic.to_owned());
        }
    }

    fn hear_status(&mut self, topic: &str, payload: &[u8]) {
        let Ok(status) = serde_json::from_slice::<StateSeen<'_>>(payload) else { return };
        note(&mut self.accepted, topic, status.verdict.is_some_and(|verdict| verdict.result == "accepted"));
        note(&mut self.available, topic, status.state == "available");
    }

    fn hear_state(&mut self, topic: &str, payload: &[u8]) {
        let state = serde_json::from_slice::<StateSeen<'_>>(payload);
        note(&mut self.online, topic, state.is_ok_and(|seen| seen.state == "online"));
    }
}

/// A subscriber.
struct Heard {
    client: Client,
    said: Arc<Mutex<Said>>,
}

impl Heard {
    /// Listens, once the broker has said that it does.
    fn listen(port: u16, filter: &str, hear: fn(&mut Said, &str, &[u8])) -> anyhow::Result<Self> {
        let (client, connection) = connect(port, filter);
        client.subscribe(filter, QoS::AtLeastOnce)?;
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
                    hear(&mut said, &String::from_utf8_lossy(&publish.topic), &publish.payload);
                }
            });
        });
        until("the broker has taken a subscription", || subscribed.load(Ordering::SeqCst))?;
        Ok(Self { client, said })
    }

    fn until(&self, what: &str, so: impl Fn(&Said) -> bool) -> anyhow::Result<()> {
        self.within(DEADLINE, what, so)
    }

    fn within(&self, limit: Duration, what: &str, so: impl Fn(&Said) -> bool) -> anyhow::Result<()> {
        let waited = within(limit, what, || self.said.lock().is_ok_and(|said| so(&said)));
        waited.with_context(|| {
            let Ok(said) = self.said.lock() else { return "nothing was heard".to_owned() };
            let Said { messages, accepted, available, online } = &*said;
            let (accepted, available, online) = (accepted.len(), available.len(), online.len());
            format!("heard: {messages} messages, {accepted} accepted, {available} available, {online} online")
        })
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
fn publish(port: u16, root: &str, specs: usize) -> anyhow::Result<Publisher> {
    let (client, connection) = connect(port, &format!("publisher{root}"));
    std::thread::spawn(move || poll(connection, |_| {}));
    let options = PublishOptions::new(QoS::AtLeastOnce).retained();
    for number in 0..specs {
        let payload =
            format!(r#"{{"template": "postgres", "postgresql_conf": {{"work_mem": "{}kB"}}}}"#, 4_096 + number);
        client.publish(format!("{root}/databases/site-{number:05}/spec"), payload.into_bytes(), options.clone())?;
    }
    Ok(Publisher(client))
}

/// Publishes one spec.
fn publish_one(port: u16, topic: &str) -> anyhow::Result<Publisher> {
    let (client, connection) = connect(port, "one");
    std::thread::spawn(move || poll(connection, |_| {}));
    let options = PublishOptions::new(QoS::AtLeastOnce).retained();
    client.publish(topic, br#"{"template": "postgres"}"#.to_vec(), options)?;
    Ok(Publisher(client))
}

struct Publisher(Client);

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.0.disconnect());
    }
}

fn until(what: &str, so: impl Fn() -> bool) -> anyhow::Result<()> {
    within(DEADLINE, what, so)
}

fn within(limit: Duration, what: &str, so: impl Fn() -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    eprintln!("# until {what}");
    while !so() {
        if begun.elapsed() > limit {
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
