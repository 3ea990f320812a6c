//! The host that leads loses its power: the others elect, its daemon is heard of no more, and it comes back.

use std::net::Ipv4Addr;

use crate::daemon::{mosquitto, until};
use crate::testbed::{Bed, CONTROLLER, Running};
use crate::wire::Wire;

const PORT: u16 = 1883;
const FLEET: &str = "crash";

#[test]
fn the_leader_crashes_and_comes_back() {
    let bed = Bed::up(3);
    bed.enter();
    let directory = tempfile::Builder::new().prefix("pgmoor-hosts-").tempdir_in("/var/tmp").unwrap();
    let _broker = Running::of(mosquitto(directory.path(), Ipv4Addr::UNSPECIFIED, PORT, None));
    let wire = Wire::connect(PORT, FLEET, "any", None);
    let leads = bed.leader().unwrap().clone();

    // A daemon on the leader, at the broker beside the hosts; its id is the host's name.
    let url = format!("mqtt://{CONTROLLER}:{PORT}");
    let serve = [env!("CARGO_BIN_EXE_pgmoor"), "serve", "--fleet", FLEET, "--broker-url", &url, "--log", "json"];
    let log = directory.path().join("log");
    let mut running = leads.spawn(&serve, &log);
    let availability = || wire.last(&format!("controllers/{}/availability", leads.name)).unwrap_or_default();
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the daemon is online", || {
        assert!(!running.has_ended(), "{}", read());
        availability().contains("\"online\"")
    });
    assert!(leads.exec(&["test", "-f", "/var/lib/pgmoor/pgmoor.redb"]).is_ok(), "its data is on the host's disk");

    leads.crash();
    until("the daemon has died with its host", || running.has_ended());
    until("the broker has sent the daemon's will", || availability().contains("\"lost\""));
    let asked = bed.others(&leads).next().unwrap();
    until("the others have a leader", || bed.leader_for(asked).is_some_and(|leader| *leader != leads));
    until("the crashed one is seen to be", || {
        asked.nodes().iter().any(|(name, state)| *name == leads.name && state.ends_with("Unreachable"))
    });

    leads.start();
    until("the Swarm is whole again", || bed.is_whole());
    assert!(leads.exec(&["pgrep", "-x", "pgmoor"]).is_err(), "nothing survived the crash");
    assert!(leads.exec(&["test", "-f", "/var/lib/pgmoor/pgmoor.redb"]).is_ok(), "but the disk did");
}
