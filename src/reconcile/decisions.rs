//! The last decisions, with all that they were made from, for whoever asks how a plan came about (`commands/decision`).
//!
//! Invariants: kept in memory, packed and bounded, and lost with the process: nothing is decided by them; what is kept is
//! veiled, so no secret is among it; a decision that finds nothing to do is not kept.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde_json::Value;

use super::judge;
use super::service::Shared;
use crate::contract::documents::{DecisionDoc, HeldStep, Time};
use crate::domain::database;
use crate::execute::refresh;
use crate::model::{DatabaseId, Digest, FleetRecord, Graph, Record, Scope, Secret};
use crate::plan::decision::{Decision, Veil};
use crate::plan::{CapOf, Held, Hold, Input, Plan, Stage, plan};
use crate::runtime::chain;
use crate::store::Rows as _;

/// How many of one scope are kept.
const EACH_MAX: usize = 10;
/// How many bytes of all, packed: several hundred decisions about small databases.
const BYTES_MAX: usize = 2 << 20;

/// What was decided.
pub(super) struct Made<'a> {
    pub(super) input: Input<'a>,
    pub(super) plan: &'a Plan,
    /// What of it begins at once.
    pub(super) stage: Option<&'a Stage>,
    pub(super) held: &'a [Held],
}

/// The decisions that are kept.
#[derive(Debug, Default)]
pub(super) struct Decisions(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    last_number: u64,
    bytes: usize,
    /// The oldest first.
    rows: VecDeque<Row>,
}

#[derive(Debug)]
struct Row {
    scope: Scope,
    plan: Digest,
    /// Without the decision itself.
    told: DecisionDoc,
    packed: Vec<u8>,
}

impl Decisions {
    /// Keeps a decision, or notes that it was made once more.
    pub(super) fn note(&self, made: &Made<'_>, veil: &Veil<'_>, now_ms: i64) {
        if made.plan.is_settled() {
            return;
        }
        let (plan, told) = (made.plan.digest(), told(made, now_ms));
        if self.again(made.input.scope, &plan, &told) {
            return;
        }
        let decision = Decision::new(&made.input, made.plan, veil);
        match decision.map_err(|error| chain(&error)).and_then(|decision| pack(&decision)) {
            Ok(packed) => self.lock().push(Row { scope: made.input.scope.clone(), plan, told, packed }),
            Err(error) => tracing::warn!(scope = %made.input.scope, error, "a decision could not be kept"),
        }
    }

    /// Whether it is the scope's last decision once more.
    fn again(&self, scope: &Scope, plan: &Digest, told: &DecisionDoc) -> bool {
        let mut ring = self.lock();
        let Some(last) = ring.rows.iter_mut().rev().find(|row| row.scope == *scope) else { return false };
        let same = last.plan == *plan && last.told.begun == told.begun && last.told.held == told.held;
        if same {
            last.told.times = last.told.times.saturating_add(1);
            last.told.last_at = told.last_at;
        }
        same
    }

    /// The newest decision before this number that is about a database, or about what it stands on.
    pub(super) fn before(&self, database: &DatabaseId, number: u64) -> Option<DecisionDoc> {
        let (told, packed) = {
            let ring = self.lock();
            let concerns = |scope: &Scope| match scope {
                Scope::Fleet => true,
                Scope::Database(id) => id == database,
            };
            let older = |row: &&Row| row.told.number.is_some_and(|own| own < number) && concerns(&row.scope);
            let row = ring.rows.iter().rev().find(older)?;
            (row.told.clone(), row.packed.clone())
        };
        match unpack(&packed) {
            Ok(decision) => Some(DecisionDoc { decision, ..told }),
            Err(error) => {
                tracing::error!(error = chain(&error), "a decision that was kept cannot be read");
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, mut row: Row) {
        self.last_number += 1;
        row.told.number = Some(self.last_number);
        self.bytes += row.packed.len();
        if self.rows.iter().filter(|kept| kept.scope == row.scope).count() >= EACH_MAX {
            let oldest = self.rows.iter().position(|kept| kept.scope == row.scope);
            self.remove(oldest);
        }
        self.rows.push_back(row);
        while self.bytes > BYTES_MAX && !self.rows.is_empty() {
            self.remove(Some(0));
        }
    }

    fn remove(&mut self, at: Option<usize>) {
        let removed = at.and_then(|at| self.rows.remove(at));
        self.bytes -= removed.map_or(0, |row| row.packed.len());
    }
}

/// The veil of a fleet: its names are the same as long as the fleet lives, and nobody without its record can try them out.
pub(super) struct Names<'a> {
    key: Digest,
    known: Vec<&'a Secret>,
}

impl<'a> Names<'a> {
    pub(super) fn new(fleet: &'a FleetRecord, record: Option<&'a Record>) -> Self {
        let own = record.into_iter().flat_map(|record| record.passwords.values().chain(record.etcd_passwords.values()));
        let known = own.chain([&fleet.etcd_root_password, &fleet.ca_key_pem]).collect();
        Self { key: Digest::of(&("the veil of decisions", fleet.etcd_root_password.expose())), known }
    }

    pub(super) fn veil(&self) -> Veil<'_> {
        Veil::new(self.key.as_str().as_bytes(), self.known.iter().copied())
    }
}

/// What would be decided now, by a look at the world; nothing is done about it.
pub(super) async fn now(shared: &Shared, id: &DatabaseId, record: &Record) -> Result<DecisionDoc, Unseen> {
    let spec = judge::read_back(shared, record);
    let living = |spec| shared.graph(spec, &Record { tombstone: None, ..record.clone() });
    let graph = spec.as_ref().map(living).transpose()?.unwrap_or_default();
    let (desired, previous) = match &record.tombstone {
        Some(_) => (database::buried(record)?, graph),
        None => (graph, Graph::default()),
    };
    let scope = Scope::Database(id.clone());
    let observed = refresh(&shared.world, &scope, &desired, &previous).await;
    let rows = shared.store.read(|reader| reader.outcomes(&scope))?;
    let outcomes = rows.into_iter().map(|(resource, row)| (resource, row.outcome)).collect();
    let forced = BTreeSet::new();
    let input = Input { scope: &scope, desired: &desired, observed: &observed, outcomes: &outcomes, forced: &forced };
    let made = Made { input, plan: &plan(&input), stage: None, held: &[] };
    let fleet = shared.world.record.get();
    let names = Names::new(&fleet, Some(record));
    let decision = Decision::new(&input, made.plan, &names.veil())?;
    Ok(DecisionDoc { decision: serde_json::to_value(decision)?, ..told(&made, shared.world.clock.now_ms()) })
}

/// Why it cannot be said now.
type Unseen = Box<dyn std::error::Error + Send + Sync>;

/// A decision without what it was made from.
pub(super) fn told(made: &Made<'_>, now_ms: i64) -> DecisionDoc {
    let steps = made.stage.into_iter().flat_map(|stage| &stage.steps);
    DecisionDoc {
        database: match made.input.scope {
            Scope::Fleet => None,
            Scope::Database(id) => Some(id.clone()),
        },
        number: None,
        pgmoor: env!("CARGO_PKG_VERSION").to_owned(),
        at: Time::from_ms(now_ms),
        last_at: Time::from_ms(now_ms),
        times: 1,
        begun: steps.map(|step| step.resource.to_string()).collect(),
        held: made
            .held
            .iter()
            .map(|held| HeldStep { resource: held.resource.to_string(), why: why(&held.why) })
            .collect(),
        decision: Value::Null,
    }
}

/// Why a step is held. Times are left out: with them the same decision would be another each time.
fn why(hold: &Hold) -> String {
    match hold {
        Hold::BackOff { .. } => "it failed, and is tried again later".to_owned(),
        Hold::Observed => "the spec asks that nothing is applied".to_owned(),
        Hold::Fight { .. } => "it drifts as often as it is mended".to_owned(),
        Hold::Halted { .. } => "a halt".to_owned(),
        Hold::Cap { of: CapOf::Fleet, .. } => "enough databases of the fleet are interrupted".to_owned(),
        Hold::Cap { of: CapOf::Host(host), .. } => format!("enough databases of {host} are interrupted"),
        Hold::Approval => "nobody has approved of it".to_owned(),
        Hold::Image { host, image, .. } => format!("host {host} does not have image {image}"),
        Hold::Behind { step } => format!("it comes after {step}"),
    }
}

fn pack(decision: &Decision) -> Result<Vec<u8>, String> {
    let pack = || {
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&serde_json::to_vec(decision)?)?;
        packed.finish()
    };
    pack().map_err(|error: io::Error| chain(&error))
}

fn unpack(packed: &[u8]) -> io::Result<Value> {
    let mut text = Vec::new();
    DeflateDecoder::new(packed).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Attributes, Executor, Graph, Kind, Resource, ResourceId};
    use crate::plan::nothing_there;

    /// The decision about a network of this name that is not there.
    fn note(decisions: &Decisions, scope: &Scope, name: &str, now_ms: i64) {
        let network = Resource {
            id: ResourceId::new(Kind::Network, name),
            executor: Executor::Manager,
            member: None,
            dependencies: BTreeMap::new(),
            attributes: Attributes::Network { name: name.to_owned(), attachable: true },
            may_differ: Vec::new(),
            payload: crate::model::Payload::None,
        };
        let desired = Graph::new([network]).unwrap();
        let (observed, outcomes, forced) = (nothing_there(&desired), BTreeMap::new(), BTreeSet::new());
        let input = Input { scope, desired: &desired, observed: &observed, outcomes: &outcomes, forced: &forced };
        let plan = plan(&input);
        let made = Made { input, plan: &plan, stage: plan.stages.first(), held: &[] };
        decisions.note(&made, &Veil::new(b"k", []), now_ms);
    }

    fn numbers(decisions: &Decisions, database: &DatabaseId) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(found) = decisions.before(database, numbers.last().copied().unwrap_or(u64::MAX)) {
            numbers.extend(found.number);
        }
        numbers
    }

    #[test]
    fn the_last_of_each_are_kept_and_what_repeats_is_counted() {
        let decisions = Decisions::default();
        let [shop, other] = ["shop", "other"].map(|id| DatabaseId::parse(id).unwrap());
        let scope = Scope::Database(shop.clone());
        note(&decisions, &Scope::Fleet, "f", 1);
        for n in 0..12 {
            note(&decisions, &scope, &format!("n{n}"), n);
        }
        note(&decisions, &scope, "n11", 99);
        assert_eq!(numbers(&decisions, &shop), [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 1]);
        assert_eq!(numbers(&decisions, &other), [1], "the fleet's, on which it stands");
        let last = decisions.before(&shop, u64::MAX).unwrap();
        assert_eq!((last.times, last.at, last.last_at), (2, Time::from_ms(11), Time::from_ms(99)));
        assert_eq!(last.begun, ["network::n11"]);
        let decision: Decision = serde_json::from_value(last.decision).unwrap();
        assert!(decision.replay().unwrap().same());
    }

    #[test]
    fn memory_is_bounded() {
        let mut ring = Ring::default();
        for n in 0..30 {
            let scope = Scope::Database(DatabaseId::parse(&format!("d{n}")).unwrap());
            let told = DecisionDoc {
                database: None,
                number: None,
                pgmoor: String::new(),
                at: Time::from_ms(0),
                last_at: Time::from_ms(0),
                times: 1,
                begun: Vec::new(),
                held: Vec::new(),
                decision: Value::Null,
            };
            ring.push(Row { scope, plan: Digest::of_bytes(b""), told, packed: vec![0; BYTES_MAX / 10] });
        }
        assert_eq!((ring.rows.len(), ring.bytes), (10, BYTES_MAX / 10 * 10));
        assert_eq!(ring.rows.back().unwrap().told.number, Some(30));
    }
}
