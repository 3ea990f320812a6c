//! What happens to a fleet of three hosts: daemons and hosts that die, hosts that are cut off, another leader.

use pgmoor::drivers::fake::System;

use crate::broker::Memory;
use crate::disk::Failure;
use crate::site::DATABASES;
use crate::story::{Lean, Story};
use crate::words::Word;

/// How a host is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// From the other hosts and from the broker.
    Off,
    /// From the other hosts.
    FromHosts,
    /// From the broker.
    FromBroker,
}

impl Story {
    fn a_host(&self) -> usize {
        usize::try_from(self.dice.below(self.daemons.len() as u64)).unwrap_or(0)
    }

    pub(crate) async fn act_in_fleet(&mut self) {
        if self.lean == Lean::Fleet && self.dice.percent(50) {
            return self.overtake().await;
        }
        let at = self.a_host();
        match self.dice.below(100) {
            0..=27 => self.speak(),
            28..=36 => self.kill(at).await,
            37..=47 => self.crash(at).await,
            48..=61 => self.cut_host_off(at).await,
            62..=66 => self.elect(at),
            67..=69 => self.overtake().await,
            70..=73 => self.broker_down(Memory::Kept).await,
            74..=82 => self.drift(),
            83..=89 => self.cut_system_off(at).await,
            90..=93 => self.lose_store(at).await,
            _ => self.break_disk(at).await,
        }
    }

    /// Things go on while a host is away.
    async fn meanwhile(&mut self, most_ms: u64) {
        for _ in 0..self.dice.below(3) {
            match self.dice.below(6) {
                0 | 1 => self.speak(),
                2 => self.drift(),
                3 => {
                    let at = self.a_host();
                    self.elect(at);
                }
                _ => {}
            }
            self.pass(self.dice.time(0, most_ms / 3)).await;
        }
        self.pass(self.dice.time(0, most_ms)).await;
    }

    /// A host loses its power and comes back.
    async fn crash(&mut self, at: usize) {
        let host = self.site.hosts[at].clone();
        self.site.trace.say(format!("{} loses its power", host.id));
        self.away.insert(at);
        if let Some(daemon) = self.daemons[at].take() {
            daemon.kill(&self.site).await;
        }
        host.disk.power_loss(&self.dice);
        host.world.power(false);
        self.site.lines.lose(Some(host.id.as_str()));
        self.meanwhile(60_000).await;
        self.power_on(at);
    }

    fn power_on(&mut self, at: usize) {
        if self.away.remove(&at) {
            self.site.trace.say(format!("{} is back", self.site.hosts[at].id));
            self.site.hosts[at].world.power(true);
            self.start(at);
        }
    }

    /// A host is cut off, and reached again.
    async fn cut_host_off(&mut self, at: usize) {
        let how = self.dice.one_of(&[Cut::Off, Cut::Off, Cut::FromHosts, Cut::FromBroker]).copied().unwrap_or(Cut::Off);
        let host = self.site.hosts[at].clone();
        self.site.trace.say(format!("{} is cut off: {how:?}", host.id));
        if how != Cut::FromBroker {
            host.world.cut_off(true);
        }
        if how != Cut::FromHosts {
            self.site.broker.cut_off(host.id.as_str(), true);
            self.site.lines.lose(Some(host.id.as_str()));
        }
        self.meanwhile(45_000).await;
        self.site.trace.say(format!("{} is reached again", host.id));
        host.world.cut_off(false);
        self.site.broker.cut_off(host.id.as_str(), false);
    }

    /// Swarm's managers elect another leader without a fault.
    fn elect(&mut self, at: usize) {
        let host = &self.site.hosts[at];
        let elected = host.world.elect();
        self.site.trace.say(format!("the managers elect {}: {elected}", host.id));
    }

    /// Another host leads while work is on its way, and who led before does not hear of it.
    async fn overtake(&mut self) {
        let Some(at) = self.site.hosts.iter().position(|host| host.world.is_elected()) else { return };
        let before = self.site.hosts[at].clone();
        self.site.trace.say(format!("work under the lead of {} comes late", before.id));
        self.site.lines.slow(true);
        let spec = self.spec(DATABASES[0]);
        self.publish(DATABASES[0], spec.as_bytes(), Word::Good(spec.clone()));
        self.pass(self.dice.time(0, 6000)).await;
        before.world.unreachable(System::Swarm, true);
        let next = (at + 1 + usize::from(self.dice.percent(50))) % self.daemons.len();
        self.elect(next);
        self.pass(self.dice.time(5000, 25_000)).await;
        before.world.unreachable(System::Swarm, false);
        self.site.lines.slow(false);
        self.site.trace.say("the lines are as before");
    }

    async fn cut_system_off(&mut self, at: usize) {
        let systems = [System::Swarm, System::Host, System::Etcd, System::Patroni, System::Postgres];
        let Some(system) = self.dice.one_of(&systems).copied() else { return };
        let host = self.site.hosts[at].clone();
        self.site.trace.say(format!("{system:?} does not answer on {}", host.id));
        host.world.unreachable(system, true);
        self.meanwhile(30_000).await;
        self.site.trace.say(format!("{system:?} answers again on {}", host.id));
        host.world.unreachable(system, false);
    }

    async fn break_disk(&mut self, at: usize) {
        let disk = self.site.hosts[at].disk.clone();
        if self.dice.percent(50) {
            let failure = if self.dice.percent(50) { Failure::Lost } else { Failure::Untold };
            let number = disk.syncs() + 1 + self.dice.below(12);
            self.site.trace.say(format!("sync {number} of {} will fail: {failure:?}", self.site.hosts[at].id));
            disk.fail_sync(number, failure);
        } else {
            self.site.trace.say(format!("the disk of {} is full", self.site.hosts[at].id));
            disk.full(true);
            self.pass(self.dice.time(500, 20_000)).await;
            disk.full(false);
        }
    }

    /// All hosts are up and reach each other.
    pub(crate) fn heal(&mut self) {
        for at in 0..self.daemons.len() {
            let host = self.site.hosts[at].clone();
            host.disk.full(false);
            host.disk.fail_sync(0, Failure::Lost);
            host.world.cut_off(false);
            self.site.broker.cut_off(host.id.as_str(), false);
            self.power_on(at);
        }
    }
}
