//! The host's clock: certificates, the grace period of deletes and every time that is shown go by it.

use std::process::Stdio;
use std::time::Duration;

use super::check::Check;
use crate::runtime::within;

/// 2025-01-01: a clock before it was never set.
const SANE_AFTER_S: i64 = 1_735_689_600;
/// A difference to the engine's clock, in milliseconds, that no slow answer explains.
const SKEW_MS_MAX: i64 = 2_000;
const TIMEDATECTL_LIMIT: Duration = Duration::from_secs(3);

/// Whether something keeps the clock right; none: nobody could say.
pub(super) async fn synchronised() -> Option<bool> {
    let mut command = tokio::process::Command::new("timedatectl");
    command.args(["show", "-p", "NTPSynchronized", "--value"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = within("timedatectl", TIMEDATECTL_LIMIT, command.output()).await.ok()?.ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// How the clock is. `skew_ms`: how far the engine's is ahead, where it was told.
pub(super) fn judge(now_s: i64, synchronised: Option<bool>, skew_ms: Option<i64>) -> Vec<Check> {
    let mut checks = Vec::new();
    let set = "set it, and let chrony or systemd-timesyncd keep it";
    checks.push(if now_s < SANE_AFTER_S {
        Check::fail("clock.sane", "the clock is before 2025: it was never set", set)
    } else {
        Check::ok("clock.sane", "the clock was set")
    });
    checks.push(match synchronised {
        Some(true) => Check::ok("clock.synchronised", "the clock is kept by NTP"),
        Some(false) => Check::warn("clock.synchronised", "nothing keeps the clock: NTP is not synchronised", set),
        None => {
            Check::skipped("clock.synchronised", "whether NTP keeps the clock is not known: timedatectl did not say")
        }
    });
    match skew_ms {
        Some(skew) if skew.abs() > SKEW_MS_MAX => checks.push(Check::warn(
            "clock.engine",
            format!("Docker's clock differs from this one by {skew} ms"),
            "is Docker on another machine? pgmoor runs on the host of its engine",
        )),
        Some(_) => checks.push(Check::ok("clock.engine", "Docker's clock is this one")),
        None => checks.push(Check::skipped("clock.engine", "Docker did not tell its time")),
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict::{self, Fail, Ok as Good, Skipped, Warn};
    use super::*;

    #[test]
    fn clocks_are_judged() {
        let judged = |now_s, synchronised, skew| -> Vec<Verdict> {
            judge(now_s, synchronised, skew).iter().map(|check| check.result).collect()
        };
        let now = SANE_AFTER_S + 1;
        assert_eq!(judged(now, Some(true), Some(-2_000)), [Good, Good, Good]);
        assert_eq!(judged(0, Some(false), Some(-2_001)), [Fail, Warn, Warn]);
        assert_eq!(judged(now, None, None), [Good, Skipped, Skipped]);
    }
}
