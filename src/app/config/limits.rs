//! The tables `[deadlines]` and `[limits]`: how long each phase may take, how much may go on and go wrong at a time.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::Error;
use crate::reconcile::{Deadlines, Limits};

/// Seconds of a deadline.
const DEADLINE_S: RangeInclusive<u32> = 1..=86_400;
/// Databases at a time, or in a row.
const DATABASES: RangeInclusive<u32> = 1..=10_000;

/// Seconds that each phase may take, 1-86400. Past it the database's state is `stalled`, with its reason; the work goes
/// on, step by step, with a back-off.
#[derive(Debug, Clone, Copy, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlineSettings {
    /// Seconds that the check of a spec against the host may take; an image may be pulled [default: 600]
    #[arg(id = "deadline_judge_s", long = "deadline-judge-s", env = "PGMOOR_DEADLINE_JUDGE_S")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub judge_s: Option<u32>,
    /// Seconds that databases may wait for the Swarm and the fleet's etcd [default: 60]
    #[arg(id = "deadline_fleet_s", long = "deadline-fleet-s", env = "PGMOOR_DEADLINE_FLEET_S")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub fleet_s: Option<u32>,
    /// Seconds that something may stay out of sight: Docker, etcd or an instance that does not answer [default: 60]
    #[arg(id = "deadline_wait_s", long = "deadline-wait-s", env = "PGMOOR_DEADLINE_WAIT_S")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub wait_s: Option<u32>,
    /// Seconds for each directory, file, certificate, network and configuration in etcd [default: 60]
    #[arg(id = "deadline_prepare_s", long = "deadline-prepare-s", env = "PGMOOR_DEADLINE_PREPARE_S")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub prepare_s: Option<u32>,
    /// Seconds for a service to be made, changed or removed, with the stop of its old container [default: 180]
    #[arg(id = "deadline_stop_s", long = "deadline-stop-s", env = "PGMOOR_DEADLINE_STOP_S")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub stop_s: Option<u32>,
    /// Seconds for an instance, or etcd, to come up [default: 300]
    #[arg(id = "deadline_start_s", long = "deadline-start-s", env = "PGMOOR_DEADLINE_START_S")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub start_s: Option<u32>,
    /// Seconds for each role, database and extension [default: 60]
    #[arg(id = "deadline_configure_s", long = "deadline-configure-s", env = "PGMOOR_DEADLINE_CONFIGURE_S")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub configure_s: Option<u32>,
    /// Seconds for each script [default: 300]
    #[arg(id = "deadline_script_s", long = "deadline-script-s", env = "PGMOOR_DEADLINE_SCRIPT_S")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub script_s: Option<u32>,
}

/// How much may go on, and go wrong, at a time.
#[derive(Debug, Clone, Copy, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Databases on one host that may be restarted or replaced at a time, 1-10000 [default: 2]
    #[arg(long, env = "PGMOOR_DISRUPTIONS_PER_HOST", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub disruptions_per_host: Option<u32>,
    /// Databases of the fleet that may be restarted or replaced at a time, 1-10000 [default: 4]
    #[arg(long, env = "PGMOOR_DISRUPTIONS_PER_FLEET", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub disruptions_per_fleet: Option<u32>,
    /// Databases in a row whose steps fail until nothing new is begun, 1-10000; `pgmoor resume` goes on [default: 10]
    #[arg(long, env = "PGMOOR_HALT_AFTER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub halt_after: Option<u32>,
}

impl DeadlineSettings {
    /// What flags and variables check as they are read, for the file.
    pub(super) fn check(&self) -> Result<(), Error> {
        let all = [
            ("deadlines.judge_s", self.judge_s),
            ("deadlines.fleet_s", self.fleet_s),
            ("deadlines.wait_s", self.wait_s),
            ("deadlines.prepare_s", self.prepare_s),
            ("deadlines.stop_s", self.stop_s),
            ("deadlines.start_s", self.start_s),
            ("deadlines.configure_s", self.configure_s),
            ("deadlines.script_s", self.script_s),
        ];
        in_range(&all, DEADLINE_S, "a deadline is 1 to 86400 seconds")
    }

    /// These where they say something, else `lower`.
    pub(super) fn over(self, lower: Self) -> Self {
        Self {
            judge_s: self.judge_s.or(lower.judge_s),
            fleet_s: self.fleet_s.or(lower.fleet_s),
            wait_s: self.wait_s.or(lower.wait_s),
            prepare_s: self.prepare_s.or(lower.prepare_s),
            stop_s: self.stop_s.or(lower.stop_s),
            start_s: self.start_s.or(lower.start_s),
            configure_s: self.configure_s.or(lower.configure_s),
            script_s: self.script_s.or(lower.script_s),
        }
    }

    /// The deadlines, with the default of each that is not set.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        let default = Deadlines::default();
        let or = |seconds: Option<u32>, default| seconds.map_or(default, |s| Duration::from_secs(u64::from(s)));
        Deadlines {
            judge: or(self.judge_s, default.judge),
            fleet: or(self.fleet_s, default.fleet),
            wait: or(self.wait_s, default.wait),
            prepare: or(self.prepare_s, default.prepare),
            stop: or(self.stop_s, default.stop),
            start: or(self.start_s, default.start),
            configure: or(self.configure_s, default.configure),
            script: or(self.script_s, default.script),
        }
    }
}

impl LimitSettings {
    /// What flags and variables check as they are read, for the file.
    pub(super) fn check(&self) -> Result<(), Error> {
        let all = [
            ("limits.disruptions_per_host", self.disruptions_per_host),
            ("limits.disruptions_per_fleet", self.disruptions_per_fleet),
            ("limits.halt_after", self.halt_after),
        ];
        in_range(&all, DATABASES, "it is a number of databases, 1 to 10000")
    }

    /// These where they say something, else `lower`.
    pub(super) fn over(self, lower: Self) -> Self {
        Self {
            disruptions_per_host: self.disruptions_per_host.or(lower.disruptions_per_host),
            disruptions_per_fleet: self.disruptions_per_fleet.or(lower.disruptions_per_fleet),
            halt_after: self.halt_after.or(lower.halt_after),
        }
    }

    /// The limits, with the default of each that is not set.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            disruptions_per_host: self.disruptions_per_host.unwrap_or(default.disruptions_per_host),
            disruptions_per_fleet: self.disruptions_per_fleet.unwrap_or(default.disruptions_per_fleet),
            halt_after: self.halt_after.unwrap_or(default.halt_after),
        }
    }
}

/// The first value that is out of its range is the fault.
fn in_range(all: &[(&'static str, Option<u32>)], range: RangeInclusive<u32>, why: &'static str) -> Result<(), Error> {
    let wrong = all.iter().find_map(|(setting, value)| Some((*setting, value.filter(|value| !range.contains(value))?)));
    match wrong {
        Some((setting, value)) => Err(Error::Value { setting, value: value.to_string(), why }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, layered};
    use super::*;

    #[test]
    fn deadlines_are_laid_over_each_other_one_by_one_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgmoor.toml");
        std::fs::write(&path, "[deadlines]\nstart_s = 20\nstop_s = 30\n").unwrap();
        let flags = Settings {
            deadlines: DeadlineSettings { start_s: Some(7), ..DeadlineSettings::default() },
            ..Settings::default()
        };
        let deadlines = layered(flags, Some(&path)).unwrap().deadlines.deadlines();
        let seconds = Duration::from_secs;
        assert_eq!((deadlines.start, deadlines.stop), (seconds(7), seconds(30)));
        assert_eq!(deadlines.script, Deadlines::default().script);
        for (text, setting) in
            [("[deadlines]\nstart_s = 0", "deadlines.start_s"), ("[limits]\nhalt_after = 0", "limits.halt_after")]
        {
            std::fs::write(&path, text).unwrap();
            let error = layered(Settings::default(), Some(&path)).unwrap_err().to_string();
            assert!(error.contains(setting), "{error}");
        }
    }
}
