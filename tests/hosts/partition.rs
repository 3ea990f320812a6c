//! The host that leads is cut off: the others elect and go on, it does not; healed, there is one Swarm again.

use crate::daemon::until;
use crate::testbed::Bed;

/// Any text that a config can hold.
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE");

#[test]
fn the_leader_is_cut_off_and_comes_back() {
    let bed = Bed::up(3);
    let cut = bed.leader().unwrap().clone();
    let asked = bed.others(&cut).next().unwrap();
    cut.partition();
    until("the others have a leader", || bed.leader_for(asked).is_some_and(|leader| *leader != cut));
    asked.docker(&["config", "create", "written", TEXT]).unwrap();
    until("the one that is cut off cannot tell any more who leads", || cut.nodes().is_empty());
    let alone = cut.docker(&["config", "create", "alone", TEXT]);
    assert!(alone.is_err(), "a minority takes nothing");

    cut.heal();
    until("the Swarm is whole again", || bed.is_whole());
    let configs = cut.docker(&["config", "ls", "--format", "{{.Name}}"]).unwrap();
    assert_eq!(configs, "written");
}
