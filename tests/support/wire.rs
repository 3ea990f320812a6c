//! A client that publishes specs and remembers everything that is said in a fleet.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::{Client, Event, Incoming, MqttOptions, PublishOptions};

/// The pause before a broker that was killed is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// What was heard.
#[derive(Debug, Default)]
struct Heard {
    /// The last message of each topic; empty ones are gone.
    last: BTreeMap<String, String>,
    /// Every message that came, for the search for secrets.
    all: Vec<(String, String)>,
}

/// The client.
pub(crate) struct Wire {
    /// The fleet's root topic.
    pub(crate) root: String,
    client: Client,
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Wire {
    /// Listens to a fleet at the broker on this port of loopback, now and whenever it comes back; as this user, whose
    /// password is the name and `-password`. Each client of a test has a name of its own: two with one id would end each
    /// other's connections for ever.
    pub(crate) fn connect(port: u16, fleet: &str, name: &str, user: Option<&str>) -> Self {
        let root = format!("pgmoor/v1/{fleet}");
        let mut options = MqttOptions::new(format!("test-{fleet}-{name}"), ("127.0.0.1", port));
        options.set_keep_alive(5).set_max_packet_size(Some(1 << 20));
        if let Some(user) = user {
            options.set_credentials(user, format!("{user}-password"));
        }
        let (client, mut connection) = Client::builder(options).capacity(100).build();
        let (heard, stop) = (Arc::new(Mutex::new(Heard::default())), Arc::new(AtomicBool::new(false)));
        let (hears, stopped, asks, all) = (Arc::clone(&heard), Arc::clone(&stop), client.clone(), format!("{root}/#"));
        let listener = std::thread::spawn(move || {
            for event in connection.iter() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                match event {
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => asks.subscribe(all.clone(), QoS::AtLeastOnce).unwrap(),
                    Ok(Event::Incoming(Incoming::Publish(publish))) => {
                        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                        let mut heard = hears.lock().unwrap();
                        if payload.is_empty() {
                            heard.last.remove(&topic);
                        } else {
                            heard.last.insert(topic.clone(), payload.clone());
                        }
                        heard.all.push((topic, payload));
                    }
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(AGAIN),
                }
            }
        });
        Self { root, client, heard, stop, listener: Some(listener) }
    }

    /// Publishes below the fleet.
    pub(crate) fn publish(&self, below: &str, payload: &str, retain: bool) {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let options = if retain { options.retained() } else { options };
        self.client.publish(format!("{}/{below}", self.root), payload.as_bytes().to_vec(), options).unwrap();
    }

    /// The last message of a topic below the fleet, if it is not gone.
    pub(crate) fn last(&self, below: &str) -> Option<String> {
        self.heard.lock().unwrap().last.get(&format!("{}/{below}", self.root)).cloned()
    }

    /// What a topic below the fleet holds, once it is heard.
    pub(crate) fn retained(&self, below: &str) -> String {
        let mut heard = None;
        crate::daemon::until("the topic is heard", || {
            heard = self.last(below);
            heard.is_some()
        });
        heard.unwrap_or_default()
    }

    /// The topics below a prefix that hold a message, without the fleet.
    pub(crate) fn topics(&self, below: &str) -> Vec<String> {
        let prefix = format!("{}/{below}", self.root);
        let heard = self.heard.lock().unwrap();
        let topics = heard.last.keys().filter(|topic| topic.starts_with(&prefix));
        topics.map(|topic| topic[self.root.len() + 1..].to_owned()).collect()
    }

    /// Forgets what stands on the topics: what is there from now on was said from now on, or replayed by a new broker.
    pub(crate) fn forget(&self) {
        self.heard.lock().unwrap().last.clear();
    }

    /// Everything that was ever said: topic and payload.
    pub(crate) fn everything(&self) -> Vec<(String, String)> {
        self.heard.lock().unwrap().all.clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.client.disconnect().ok();
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}
