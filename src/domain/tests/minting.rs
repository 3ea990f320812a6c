//! What is chosen once, and stays.

use crate::domain::Error;
use crate::domain::database::{Accepted, bury, mint};
use crate::domain::fixture::{Counting, full, minimal, minted, stored, user};
use crate::model::spec::PortRequest;
use crate::model::{AcceptedSpec, Record, Secret};

fn again(spec: &AcceptedSpec, previous: Option<&AcceptedSpec>, record: Record) -> Record {
    // Other randomness than the first time: what is kept is kept, not chosen alike.
    let mut choose = Counting { bytes: 100, ports: 5 };
    mint(Accepted { spec, stored: &stored(spec), previous, placement: &[].into() }, record, &mut choose).unwrap()
}

#[test]
fn the_first_time_everything_is_chosen() {
    let record = minted(&full());
    assert_eq!(record.revision, 2);
    assert_eq!(record.images["n1"], "pgmoor/postgres:17.11");
    assert_eq!(record.ports.values().collect::<Vec<_>>(), [&6001]);
    assert_eq!(record.passwords["reader"].expose(), "given");
    let generated = [&record.passwords["app"], record.etcd_passwords.values().next().unwrap()];
    for password in generated {
        assert_eq!(password.expose().len(), 32);
        assert!(password.expose().chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    }
    assert_ne!(generated[0], generated[1]);
    assert_eq!(record.spec, Some(stored(&full())));
}

#[test]
fn the_second_time_nothing_changes() {
    let record = minted(&full());
    assert_eq!(again(&full(), Some(&full()), record.clone()), record);
}

#[test]
fn a_newer_catalogue_changes_no_running_image() {
    let record = minted(&minimal());
    let mut today = minimal();
    today.nodes[0].image = "pgmoor/postgres:17.11-rebuilt".to_owned();
    // The document is the same, and today's catalogue gives both readings of it the new image.
    assert_eq!(again(&today, Some(&today), record.clone()), record);
    // A new version or pin is another image than what the document before asks for today.
    assert_eq!(again(&today, Some(&minimal()), record.clone()).images["n1"], "pgmoor/postgres:17.11-rebuilt");
    assert_eq!(again(&today, None, record).images["n1"], "pgmoor/postgres:17.11-rebuilt");
}

#[test]
fn what_nobody_wants_is_forgotten() {
    let record = minted(&full());
    let mut spec = full();
    spec.users = vec![user("other", true)];
    spec.nodes[0].port = PortRequest::Fixed(7000);
    let after = again(&spec, Some(&full()), record.clone());
    assert_eq!(after.revision, record.revision + 1);
    assert_eq!(after.passwords.keys().collect::<Vec<_>>(), ["other"]);
    assert!(after.ports.is_empty());
    assert_eq!(after.etcd_passwords, record.etcd_passwords);
}

#[test]
fn a_password_left_out_stays_the_given_one() {
    let record = minted(&full());
    let mut spec = full();
    spec.users[1].password = None;
    assert_eq!(again(&spec, Some(&full()), record.clone()).passwords["reader"].expose(), "given");
    spec.users[1].password = Some(Secret::new("changed"));
    assert_eq!(again(&spec, Some(&full()), record).passwords["reader"].expose(), "changed");
}

#[test]
fn a_deleted_database_comes_back_the_same() {
    let record = minted(&full());
    let buried = bury(record.clone(), 1_000, 60);
    let tombstone = buried.tombstone.as_ref().unwrap();
    assert_eq!((tombstone.deleted_at_s, tombstone.purge_at_s), (1_000, 1_060));
    assert_eq!(tombstone.last_digest, record.spec.as_ref().map(|spec| spec.digest.clone()));
    assert_eq!(bury(buried.clone(), 2_000, 60), buried);
    let back = again(&full(), Some(&full()), buried);
    assert_eq!((back.revision, back.tombstone.as_ref()), (record.revision + 2, None));
    assert_eq!(
        (back.ports, back.passwords, back.etcd_passwords),
        (record.ports, record.passwords, record.etcd_passwords)
    );
}

#[test]
fn ports_run_out() {
    let spec = full();
    let mut choose = Counting { bytes: 0, ports: 9 };
    let accepted = Accepted { spec: &spec, stored: &stored(&spec), previous: None, placement: &[].into() };
    let error = mint(accepted, Record::new(spec.id.clone()), &mut choose).unwrap_err();
    assert!(matches!(error, Error::NoPort(_)));
}
