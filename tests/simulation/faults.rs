//! What goes wrong on a host: drift by hand, systems that do not answer, a clock that jumps, a disk that fails.

use pgmoor::drivers::fake::System;

use crate::disk::Failure;
use crate::site::DATABASES;
use crate::story::Story;

impl Story {
    /// Somebody changes things by hand, or something crashes.
    pub(crate) fn drift(&mut self) {
        let look = self.site.world.look();
        let services: Vec<String> = look.services.keys().cloned().collect();
        let Some(service) = self.dice.one_of(&services).cloned() else { return };
        let world = &self.site.world;
        let what = match self.dice.below(8) {
            0 | 1 => format!("docker service rm {service}: {}", world.remove_service_by_hand(&service)),
            2 => {
                let edited = world.edit_service(&service, |service| {
                    service.env.insert("EDITED".to_owned(), "by hand".to_owned());
                });
                format!("docker service update {service}: {edited}")
            }
            3 => {
                let files: Vec<String> = look
                    .files
                    .into_iter()
                    .filter(|path| path.contains("/configs/") || path.contains("/certificates/"))
                    .collect();
                match self.dice.one_of(&files) {
                    Some(path) => format!("rm {path}: {}", world.remove_file_by_hand(path)),
                    None => "nothing".to_owned(),
                }
            }
            4 => format!("crash {service}: {}", world.crash(&service)),
            5 => {
                let patch = serde_json::json!({"postgresql": {"parameters": {"work_mem": "1MB"}}});
                format!("patch the configuration of {service}: {}", world.patch_config_by_hand(&service, &patch))
            }
            6 => format!("alter role app in {service}: {}", world.alter_role_by_hand(&service, "app")),
            _ => {
                let role = format!("u{}", self.dice.below(3));
                format!("drop role {role} in {service}: {}", world.drop_role_by_hand(&service, &role))
            }
        };
        self.site.trace.say(format!("by hand: {what}"));
    }

    pub(crate) async fn cut_off(&mut self) {
        let systems = [System::Swarm, System::Host, System::Etcd, System::Patroni, System::Postgres];
        let Some(system) = self.dice.one_of(&systems).copied() else { return };
        if self.dice.percent(40) {
            self.limp(system).await;
            return;
        }
        self.site.trace.say(format!("{system:?} does not answer"));
        self.site.world.unreachable(system, true);
        self.pass(self.dice.time(500, 40_000)).await;
        if self.dice.percent(30) {
            self.speak();
            self.drift();
            self.pass(self.dice.time(500, 10_000)).await;
        }
        self.site.trace.say(format!("{system:?} answers again"));
        self.site.world.unreachable(system, false);
    }

    /// A system answers only now and then, just when there is something to do.
    async fn limp(&mut self, system: System) {
        self.site.trace.say(format!("{system:?} limps"));
        self.site.weather.limp(Some(system));
        if self.dice.percent(70) {
            self.drift();
        }
        self.pass(self.dice.time(500, 20_000)).await;
        self.site.trace.say(format!("{system:?} is well again"));
        self.site.weather.limp(None);
    }

    pub(crate) fn jump(&mut self) {
        let by_s = match self.dice.below(10) {
            0 => {
                // Deleted data may be past its time then.
                self.site.allow_purge();
                3 * 24 * 3600
            }
            1 => -365 * 24 * 3600,
            _ => i64::try_from(self.dice.below(600)).unwrap_or(0) - 300,
        };
        self.site.trace.say(format!("the clock jumps by {by_s} s"));
        self.site.clock.jump(by_s * 1000);
        DATABASES.iter().for_each(|database| self.site.words.change(database, |wish| wish.jumped = true));
    }

    pub(crate) async fn disk(&mut self) {
        if self.dice.percent(50) {
            let (number, failure) = (
                self.site.disk.syncs() + 1 + self.dice.below(12),
                if self.dice.percent(50) { Failure::Lost } else { Failure::Untold },
            );
            self.site.trace.say(format!("sync {number} will fail: {failure:?}"));
            self.site.disk.fail_sync(number, failure);
        } else {
            self.site.trace.say("the disk is full");
            self.site.disk.full(true);
            self.pass(self.dice.time(500, 20_000)).await;
            self.site.trace.say("the disk has room again");
            self.site.disk.full(false);
        }
    }
}
