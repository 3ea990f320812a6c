//! Rows that are written while hosts come and go: what was acknowledged must be there in the end, on every host.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::site::{Site, eventually, psql_at};
use crate::testbed::Host;

/// How often it is looked where the role as primary has gone, when nobody died: a switchover takes seconds.
const LOOKS: u32 = 300;
/// The pause between two rows of a load.
const PAUSE: Duration = Duration::from_millis(50);

/// Writes row after row until one is acknowledged, from `from` on, and gives all that were.
pub(crate) fn written(site: &Site, hosts: &[&Host], from: u32) -> BTreeSet<u32> {
    let (mut rows, mut next) = (BTreeSet::new(), from);
    let status = || format!("{:#}", site.status("shop"));
    eventually("a row is acknowledged", status, || {
        let row = next;
        next += 1;
        let written = site.psql("shop", hosts, &format!("INSERT INTO kept VALUES ({row})"));
        if written.is_ok() {
            rows.insert(row);
        }
        written.is_ok()
    });
    rows
}

/// The rows that a host has.
pub(crate) fn rows(site: &Site, host: &Host) -> BTreeSet<u32> {
    let said = site.psql("shop", &[host], "SELECT n FROM kept").unwrap_or_default();
    said.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Somebody who writes one row after another, and tries each a second time where it fails, once the role has moved.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<Written>,
}

/// What a load has written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The rows that were acknowledged.
    pub(crate) rows: BTreeSet<u32>,
    /// Those among them that were tried twice, with what the first attempt heard.
    pub(crate) again: Vec<(u32, String)>,
    /// Those that failed twice.
    pub(crate) failed: Vec<(u32, String)>,
}

impl Load {
    /// Begins to write into the database on these hosts.
    pub(crate) fn on(hosts: &[&Host], from: u32) -> Self {
        let addresses: Vec<String> = hosts.iter().map(|host| host.address.clone()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = std::thread::spawn(move || {
            let (mut written, mut row) = (Written::default(), from);
            while !stopped.load(Ordering::SeqCst) {
                write(&addresses, row, &mut written);
                row += 1;
                std::thread::sleep(PAUSE);
            }
            written
        });
        Self { stop, writer }
    }

    /// Ends it.
    pub(crate) fn end(self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        self.writer.join().unwrap()
    }
}

fn write(addresses: &[String], row: u32, written: &mut Written) {
    // The first attempt may have been done although its answer got lost.
    let insert = format!("INSERT INTO kept VALUES ({row}) ON CONFLICT DO NOTHING");
    let Err(why) = psql_at(addresses, "shop", &insert) else {
        written.rows.insert(row);
        return;
    };
    for _ in 0..LOOKS {
        if psql_at(addresses, "shop", "SELECT 1").is_ok() {
            break;
        }
        std::thread::sleep(2 * PAUSE);
    }
    match psql_at(addresses, "shop", &insert) {
        Ok(_) => {
            written.rows.insert(row);
            written.again.push((row, why));
        }
        Err(again) => written.failed.push((row, format!("{why}; then {again}"))),
    }
}
