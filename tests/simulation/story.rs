//! One seed: what the user does, what fails, and what must hold at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::broker::Memory;
use crate::dice::Dice;
use crate::disk::Failure;
use crate::invariants::{self, Invariant, always, unsettled};
use crate::planted::Plant;
use crate::site::{DATABASES, Daemon, HOSTS, Manner, Site};
use crate::words::{DELETE, Word};

/// Once the faults have stopped, all must be as asked within this: the longest deadline of a step, and the longest
/// back-off after it, twice.
const CONVERGES_WITHIN: Duration = Duration::from_secs(2 * (300 + 120));
/// How long it is watched afterwards: more than two ticks.
const WATCHED: Duration = Duration::from_secs(40);
/// Two looks at what must always hold.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a seed ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Promises that were broken.
    pub(crate) breaches: BTreeMap<Invariant, String>,
    /// What happened.
    pub(crate) trace: Vec<String>,
}

/// What a run has more of, where a promise is to be tried hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lean {
    /// Of nothing.
    Nothing,
    /// A line that breaks while something is looked into.
    Line,
    /// A broker that comes back with an older memory.
    Rewind,
    /// A Docker that does not say which containers there are, just when a service is gone and another must be made.
    Silence,
    /// Somebody else who writes on the daemon's own topics.
    Meddler,
    /// Three hosts.
    Fleet,
}

/// Whether a seed has three hosts: one in sixteen, as each takes the time of four others; with generations and without.
fn is_fleet(seed: u64) -> bool {
    matches!(seed % 32, 3 | 22)
}

/// Runs one seed.
pub(crate) fn run(seed: u64, plant: Plant, lean: Lean) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let dice = Dice::new(seed, 0);
        // One seed in five lets deleted data go for good while it runs.
        let grace_s = if dice.percent(20) { 30 } else { 24 * 3600 };
        let hosts = if lean == Lean::Fleet || lean == Lean::Nothing && is_fleet(seed) { HOSTS.len() } else { 1 };
        let site = Site::new(Manner { seed, plant, grace_s, embedded: false, hosts }).await;
        if grace_s < 3600 {
            site.allow_purge();
        }
        let story = Story {
            site: site.clone(),
            dice,
            daemons: site.hosts.iter().map(|_| None).collect(),
            away: BTreeSet::new(),
            memory: invariants::Memory::default(),
            lean,
            numbered: seed.is_multiple_of(2),
            counter: 0,
            rewound: false,
            lost: false,
        };
        Box::pin(story.tell()).await;
        Outcome { breaches: site.breaches.all(), trace: site.trace.lines() }
    })
}

/// A run as it goes on.
pub(crate) struct Story {
    pub(crate) site: Site,
    pub(crate) dice: Dice,
    /// Of each host, if it runs.
    pub(crate) daemons: Vec<Option<Daemon>>,
    /// Hosts whose daemon is not started again now.
    pub(crate) away: BTreeSet<usize>,
    memory: invariants::Memory,
    pub(crate) lean: Lean,
    /// Whether specs carry a generation.
    pub(crate) numbered: bool,
    /// Numbers what the user says.
    pub(crate) counter: u64,
    /// The broker once came back with an older memory.
    rewound: bool,
    /// The store was lost once.
    lost: bool,
}

impl Story {
    async fn tell(mut self) {
        for at in 0..self.daemons.len() {
            self.start(at);
        }
        self.pass(self.dice.time(0, 8000)).await;
        if self.is_fleet() {
            // Most of what can go wrong between hosts needs a database on all of them.
            let spec = self.spec(DATABASES[0]);
            self.publish(DATABASES[0], spec.as_bytes(), Word::Good(spec.clone()));
            self.pass(self.dice.time(0, 60_000)).await;
        }
        for _ in 0..6 + self.dice.below(9) {
            if self.is_fleet() {
                self.act_in_fleet().await;
            } else {
                self.act().await;
            }
            let pause = if self.dice.percent(40) { self.dice.time(0, 800) } else { self.dice.time(0, 20_000) };
            self.pass(pause).await;
        }
        self.calm().await;
        if self.lean == Lean::Meddler {
            // Nothing that happens later says the topic again.
            self.meddle();
        }
        self.ends_well().await;
        for at in 0..self.daemons.len() {
            if let Some(daemon) = self.daemons[at].take() {
                daemon.stop(&self.site).await;
            }
        }
        invariants::at_the_end(&self.site, &mut self.memory);
    }

    pub(crate) fn is_fleet(&self) -> bool {
        self.daemons.len() > 1
    }

    /// Starts the daemon of a host.
    pub(crate) fn start(&mut self, at: usize) {
        self.daemons[at] = Some(self.site.start(&self.site.hosts[at]));
    }

    /// Time passes; a daemon that ended is started again, as systemd does.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let mut left = time;
        loop {
            let step = left.min(LOOK_EVERY);
            tokio::time::sleep(step).await;
            always(&self.site, &mut self.memory);
            for at in 0..self.daemons.len() {
                if let Some(why) = self.daemons[at].as_mut().and_then(Daemon::ended) {
                    self.site.trace.say(format!("the daemon ended: {why}"));
                    if let Some(daemon) = self.daemons[at].take() {
                        daemon.kill(&self.site).await;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    self.start(at);
                }
            }
            left = left.saturating_sub(step);
            if left.is_zero() {
                return;
            }
        }
    }

    /// The one that is spoken of next.
    pub(crate) fn database(&self) -> &'static str {
        // The first is spoken of more often, so that more happens to one.
        DATABASES.get(usize::from(self.dice.percent(30))).copied().unwrap_or("crm")
    }

    async fn act(&mut self) {
        if self.lean != Lean::Nothing && self.dice.percent(50) {
            return match self.lean {
                Lean::Line => self.broken_line().await,
                Lean::Rewind => self.rewind().await,
                Lean::Silence => self.silent_engine().await,
                Lean::Meddler => self.meddle(),
                Lean::Nothing | Lean::Fleet => {}
            };
        }
        match self.dice.below(100) {
            0..=24 => self.speak(),
            25..=30 => {
                self.speak();
                self.pass(self.dice.time(0, 60)).await;
                self.kill(0).await;
            }
            31..=35 => {
                self.speak();
                self.pass(self.dice.time(0, 60)).await;
                self.site.broker.cut();
            }
            36..=42 => self.kill(0).await,
            43..=46 => self.lose_store(0).await,
            47..=50 => self.power_cut().await,
            51..=60 => self.broker().await,
            61..=71 => self.drift(),
            72..=81 => self.cut_off().await,
            82..=86 => self.jump(),
            87..=91 => self.disk().await,
            92..=95 => self.command(),
            _ => self.write_row(),
        }
    }

    // ---- what fails ----

    /// A fault takes memory away: what only that memory held is said again once all is calm.
    fn forget(&self, lost: impl Fn(&str, &str) -> bool) {
        for database in DATABASES {
            let topic = self.site.topic(&format!("databases/{database}/spec"));
            if lost(database, &topic) {
                self.site.words.change(database, |wish| wish.uncertain = true);
            }
        }
    }

    pub(crate) async fn kill(&mut self, at: usize) {
        if let Some(daemon) = self.daemons[at].take() {
            if self.dice.percent(20) {
                daemon.stop(&self.site).await;
            } else {
                daemon.kill(&self.site).await;
            }
        }
        self.come_back(at).await;
    }

    /// Things happen while it is away.
    async fn come_back(&mut self, at: usize) {
        for _ in 0..self.dice.below(3) {
            match self.dice.below(3) {
                0 => self.speak(),
                1 => self.drift(),
                _ => {}
            }
        }
        self.pass(self.dice.time(0, 5000)).await;
        self.start(at);
    }

    pub(crate) async fn lose_store(&mut self, at: usize) {
        self.site.trace.say("the store is lost");
        self.lost = true;
        if let Some(daemon) = self.daemons[at].take() {
            daemon.kill(&self.site).await;
        }
        self.site.hosts[at].disk.wipe();
        self.forget_with_store();
        self.come_back(at).await;
    }

    /// What one daemon alone knew is gone.
    pub(crate) fn forget_with_store(&mut self) {
        // What was acknowledged and stood in the store alone: anything but the spec that the broker still holds.
        let (broker, words, rewound) = (self.site.broker.clone(), self.site.words.clone(), self.rewound);
        let site = self.site.clone();
        self.forget(|database, topic| {
            let retained = broker.retained(topic);
            // Nobody names the topic of a database without a record, and the broker's replay may be cut short.
            let says = match words.of(database).word.filter(|_| site.recorded(database)) {
                Some(Word::Good(spec)) => Some(spec.into_bytes()),
                Some(Word::Delete) => Some(DELETE.as_bytes().to_vec()),
                Some(Word::Bad(_) | Word::Clear) | None => None,
            };
            rewound || says.is_none() || says != retained
        });
    }

    async fn power_cut(&mut self) {
        self.site.trace.say("the host loses its power");
        if let Some(daemon) = self.daemons[0].take() {
            daemon.kill(&self.site).await;
        }
        self.site.disk.power_loss(&self.dice);
        self.site.world.restart_host();
        self.come_back(0).await;
    }

    async fn broker(&mut self) {
        let memory = match self.dice.below(10) {
            0..=4 => Memory::Kept,
            5 | 6 => Memory::Lost,
            _ => Memory::Older,
        };
        if self.dice.percent(40) {
            self.site.trace.say("the broker saves");
            self.site.broker.save();
            return;
        }
        self.broker_down(memory).await;
    }

    pub(crate) async fn broker_down(&mut self, memory: Memory) {
        self.site.trace.say(format!("the broker goes down, memory {memory:?}"));
        if memory != Memory::Kept {
            let unacknowledged = self.site.broker.unacknowledged();
            let (away, lost) = (!self.site.broker.has_session(), self.lost && memory == Memory::Older);
            self.forget(|_, topic| away || lost || unacknowledged.contains(topic));
        }
        self.rewound |= memory == Memory::Older;
        if memory == Memory::Older {
            let (broker, words) = (self.site.broker.clone(), self.site.words.clone());
            self.forget(|database, topic| {
                let (saved, wish) = (broker.saved(topic).unwrap_or_default(), words.of(database));
                // What was said before the database that is there now began (docs/open-points.md); and a refused spec of
                // which the broker knows nothing any more: then the verdict is about the one before it.
                wish.is_forgotten(&saved) || matches!(&wish.word, Some(Word::Bad(bad)) if bad.as_bytes() != saved)
            });
        }
        self.site.broker.down(memory);
        self.pass(self.dice.time(0, 15_000)).await;
        self.site.trace.say("the broker is back");
        self.site.broker.up();
    }

    /// The line breaks while a cleared topic is looked at afresh, and more is said of the database before it is back.
    async fn broken_line(&mut self) {
        let database = self.database();
        self.site.broker.look_slowly();
        if self.site.observed(database) {
            self.publish(database, b"", Word::Clear);
        }
        self.pass(self.dice.time(0, 60)).await;
        self.site.trace.say("the line is cut");
        self.site.broker.cut();
        for _ in 0..=self.dice.below(4) {
            let spec = self.spec(database);
            self.publish(database, spec.as_bytes(), Word::Good(spec.clone()));
        }
    }

    /// A spec is superseded, and the broker comes back with what it had before.
    async fn rewind(&mut self) {
        let database = self.database();
        self.site.trace.say("the broker saves");
        self.site.broker.save();
        let spec = self.spec(database);
        self.publish(database, spec.as_bytes(), Word::Good(spec.clone()));
        self.pass(self.dice.time(0, 20_000)).await;
        self.broker_down(Memory::Older).await;
    }

    /// Services are removed by hand, their containers go on stopping, and Docker does not say which there are.
    async fn silent_engine(&mut self) {
        self.site.trace.say("Docker does not say which containers there are");
        self.site.weather.lose(Some("swarm.containers_mounting"));
        for _ in 0..2 {
            let services: Vec<String> = self.site.world.look().services.keys().cloned().collect();
            if let Some(service) = self.dice.one_of(&services) {
                let removed = self.site.world.remove_service_by_hand(service);
                self.site.trace.say(format!("by hand: docker service rm {service}: {removed}"));
            }
            self.pass(self.dice.time(500, 6_000)).await;
        }
        self.site.trace.say("Docker says it again");
        self.site.weather.lose(None);
    }

    // ---- the end ----

    /// The faults stop, and a user whose word was lost says it again.
    async fn calm(&mut self) {
        self.site.trace.say("the faults stop");
        self.site.weather.calm();
        self.site.disk.full(false);
        self.site.disk.fail_sync(0, Failure::Lost);
        self.site.broker.up();
        self.site.broker.calm();
        if self.is_fleet() {
            self.heal();
            // Who leads next knows what stands in Swarm and in the broker, and nothing else.
            self.forget_with_store();
        }
        if self.site.words.all().values().any(|wish| wish.asked_back) {
            // What pgmoor still has to publish for its user is out by then.
            self.pass(Duration::from_secs(10)).await;
        }
        // A broker with an older state may hold what pgmoor did not take while it knew better, and forgot with the purge.
        let (broker, words) = (self.site.broker.clone(), self.site.words.clone());
        self.forget(|database, topic| {
            broker.retained(topic).is_some_and(|retained| words.of(database).is_forgotten(&retained))
        });
        for (database, wish) in self.site.words.all() {
            if !wish.uncertain && !wish.asked_back {
                continue;
            }
            match wish.spec {
                Some(spec) => {
                    let spec = if wish.asked_back { self.renumbered(&spec) } else { spec };
                    self.publish(&database, spec.as_bytes(), Word::Good(spec.clone()));
                }
                None => self.publish(&database, DELETE.as_bytes(), Word::Delete),
            }
        }
        self.pass(Duration::from_secs(1)).await;
    }

    async fn ends_well(&mut self) {
        let mut waited = Duration::ZERO;
        while let Some(why) = unsettled(&self.site) {
            if waited >= CONVERGES_WITHIN {
                self.site.breaches.found(Invariant::Converges, format!("{why}\n{}", self.site.told()));
                return;
            }
            self.pass(Duration::from_secs(4)).await;
            waited += Duration::from_secs(4);
        }
        self.site.trace.say("all is as it was asked for");
        // A reload that was just ordered, a purge that was just begun: one tick for what goes on behind the plan.
        self.pass(Duration::from_secs(20)).await;
        let before = self.site.weather.changes();
        self.pass(WATCHED).await;
        if self.site.weather.changes() != before {
            self.site.breaches.found(Invariant::Quiet, "something is still done although nothing is to do".to_owned());
        }
        if let Some(why) = unsettled(&self.site) {
            self.site.breaches.found(Invariant::Converges, format!("it did not stay so: {why}"));
        }
    }
}
