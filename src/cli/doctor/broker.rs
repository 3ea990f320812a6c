//! The broker, as it really behaves: what it takes, what it keeps, how much it replays, and who is there.
//!
//! Invariant: what is written for it stands below a controller id of its own, expires, and is removed again.

use std::time::Duration;

use super::super::link::nobody_online;
use super::super::{Context, Error};
use super::check::Check;
use super::hosts;
use crate::contract::documents::Availability;
use crate::contract::topics::filters;
use crate::model::ControllerId;
use crate::mqtt::{BrokerLimits, Identity, Options, Probe, Retention, Session, probe_replay, probe_retention};

/// How long the connection, and each of its probes, may take.
const LIMIT: Duration = Duration::from_secs(8);
/// Markers that are retained to see how many come back: more than a default mosquitto queues for one connection.
const MARKERS: u32 = 1_500;
/// The embedded broker replays a hundred, whatever its settings: so many show it.
const MARKERS_EMBEDDED: u32 = 150;
/// How long they may take: a small broker on a busy host.
const REPLAY_LIMIT: Duration = Duration::from_secs(15);

/// The broker's checks. `daemon`: whether a daemon runs on this host's data directory, where it can be told.
pub(super) async fn look(context: &Context<'_>, daemon: Option<bool>) -> Vec<Check> {
    let embedded = context.options.broker.url.is_none();
    let options = match context.options.broker.options() {
        Ok(options) => options,
        Err(error) => return vec![unusable(&error)],
    };
    let server = options.server.to_string();
    let session = match Session::connect(&options, "doctor", &context.random, LIMIT).await {
        Ok(session) => session,
        Err(error) => return vec![judge_unreachable(&error.to_string(), embedded, daemon)],
    };
    let mut checks = judge_limits(&server, session.limits());
    let filter = filters::availability(&context.options.fleet);
    checks.push(match session.read_retained(&filter, LIMIT).await {
        Ok(found) => {
            let parsed = found.iter().filter_map(|(_, payload)| serde_json::from_slice(payload).ok());
            let controllers: Vec<Availability> = parsed.collect();
            judge_controllers(nobody_online(context, &server, &controllers), controllers.len())
        }
        Err(error) => Check::fail("broker.controller", format!("availability cannot be read: {error}"), ALLOW),
    });
    match session.read_retained(&filters::hosts(&context.options.fleet), LIMIT).await {
        Ok(found) => {
            let parsed = found.iter().filter_map(|(_, payload)| serde_json::from_slice(payload).ok());
            checks.extend(hosts::judge(&parsed.collect::<Vec<_>>(), context.options.machine.as_ref()));
        }
        Err(error) => checks.push(Check::skipped("hosts.images", format!("the hosts' status cannot be read: {error}"))),
    }
    session.close().await;
    let id = format!("doctor-{:08x}", context.random.next_u64() >> 32);
    match ControllerId::parse(&id) {
        Ok(controller) => {
            let identity = Identity { fleet: context.options.fleet.clone(), controller };
            checks.extend(probe(context, &options, &identity, embedded).await);
        }
        Err(error) => checks.push(Check::skipped("broker.retained", error.to_string())),
    }
    let told = if embedded {
        "the embedded broker keeps nothing over a restart; the daemon publishes specs and reports again"
    } else {
        "whether the broker keeps retained messages over its restart was not tried: it would interrupt others"
    };
    checks.push(Check::skipped("broker.persistence", told));
    checks
}

const ALLOW: &str = "let this user read and write as broker/mosquitto/pgmoor.acl says for controllers";

async fn probe(context: &Context<'_>, options: &Options, identity: &Identity, embedded: bool) -> Vec<Check> {
    let retention = probe_retention(options, identity, &context.random, LIMIT).await;
    let kept = matches!(retention, Ok(Retention { kept: true, .. }));
    let mut checks = match retention {
        Ok(retention) => judge_retention(retention, embedded),
        Err(error) => vec![refused("broker.retained", &error)],
    };
    if kept {
        let markers = if embedded { MARKERS_EMBEDDED } else { MARKERS };
        checks.push(match probe_replay(options, identity, markers, &context.random, REPLAY_LIMIT).await {
            Ok(probe) => judge_replay(probe, embedded),
            Err(error) => refused("broker.replay", &error),
        });
    }
    checks
}

fn refused(name: &'static str, error: &crate::mqtt::Error) -> Check {
    if matches!(error, crate::mqtt::Error::Expired(_)) {
        let fix = "the broker, or the line to it, is slow: ask again when there is less to do";
        return Check::warn(name, error.to_string(), fix);
    }
    Check::fail(name, error.to_string(), ALLOW)
}

fn unusable(error: &Error) -> Check {
    let fix = error.hint().unwrap_or_else(|| "mend the settings that begin with broker".to_owned());
    Check::fail("broker.connection", crate::runtime::chain(error), fix)
}

fn judge_unreachable(why: &str, embedded: bool, daemon: Option<bool>) -> Check {
    if embedded && daemon == Some(false) {
        let finding = format!("the embedded broker runs with the daemon, and no daemon runs here: {why}");
        return Check::warn("broker.connection", finding, "start pgmoor serve, and ask again");
    }
    let fix = "start it, or name another with --broker-url; check user, password file and authority";
    Check::fail("broker.connection", why.to_owned(), fix)
}

fn judge_limits(server: &str, limits: BrokerLimits) -> Vec<Check> {
    let mut checks = vec![Check::ok("broker.connection", format!("{server} answers in MQTT 5"))];
    if !limits.retains || !limits.wildcards || limits.qos_max < 1 {
        let finding = "the broker refuses retained messages, wildcards or QoS 1; pgmoor lives on all three";
        checks.push(Check::fail("broker.features", finding, "switch them on in the broker"));
    }
    // 128 KiB of a spec, and room for a plan of it.
    const PACKET_BYTES: u32 = 256 * 1024;
    if let Some(bytes) = limits.packet_bytes_max.filter(|bytes| *bytes < PACKET_BYTES) {
        let finding = format!("the broker takes packets of at most {bytes} bytes; a spec may have 128 KiB");
        checks.push(Check::warn("broker.packet_size", finding, "mosquitto: max_packet_size 1048576"));
    }
    let receive = format!("{} publishes may wait for their acknowledgement", limits.receive_max);
    checks.push(if limits.receive_max < 10 {
        let fix = "mosquitto: max_inflight_messages 20 or more";
        Check::warn("broker.receive_maximum", format!("{receive}: reports go out slowly"), fix)
    } else {
        Check::ok("broker.receive_maximum", receive)
    });
    checks
}

fn judge_controllers(nobody: Option<String>, count: usize) -> Check {
    match nobody {
        None => Check::ok("broker.controller", format!("a controller of the fleet is online ({count} known)")),
        Some(told) => Check::warn("broker.controller", told, "start pgmoor serve with this fleet and broker"),
    }
}

fn judge_retention(retention: Retention, embedded: bool) -> Vec<Check> {
    if !retention.kept {
        let finding = "a retained message of ours did not come back on a new connection";
        let fix = format!("{ALLOW}, and let the broker keep retained messages");
        return vec![Check::fail("broker.retained", finding, fix)];
    }
    let kept = Check::ok("broker.retained", "a retained message comes back on a new connection, and its topic is ours");
    let empty = if retention.survives_empty_publish {
        Check::ok("broker.empty_publish", "an empty publish that is not retained deletes nothing")
    } else if embedded {
        let told = "an empty publish deletes the retained message even when it is not retained; the embedded broker is \
                    known to, and pgmoor looks again before it believes a deletion";
        Check::ok("broker.empty_publish", told)
    } else {
        let finding =
            "an empty publish deletes the retained message even when it is not retained, against the standard";
        Check::warn("broker.empty_publish", finding, "publish {\"deleted\": true} to delete, and never empty payloads")
    };
    vec![kept, empty]
}

fn judge_replay(probe: Probe, embedded: bool) -> Check {
    if embedded && probe.replayed < probe.retained {
        let told = format!(
            "one subscription gets {} of {} retained messages; the embedded broker is known to, and the daemon knows its \
             specs without it. For more databases than that, watchers need mosquitto (broker/mosquitto/)",
            probe.replayed, probe.retained
        );
        return Check::ok("broker.replay", told);
    }
    if probe.replayed < probe.retained {
        let finding = format!(
            "of {} retained messages one subscription got {}: a longer replay is cut short in silence",
            probe.retained, probe.replayed
        );
        let fix = "mosquitto: max_queued_messages 0 (broker/mosquitto/), or publish an inventory of the databases";
        return Check::warn("broker.replay", finding, fix);
    }
    Check::ok("broker.replay", format!("one subscription got all of {} retained messages", probe.retained))
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict::{self, Fail, Ok as Good, Warn};
    use super::*;

    #[test]
    fn no_broker_is_a_fault_unless_it_would_come_with_the_daemon() {
        assert_eq!(judge_unreachable("refused", true, Some(false)).result, Warn);
        for (embedded, daemon) in [(true, Some(true)), (true, None), (false, Some(false))] {
            assert_eq!(judge_unreachable("refused", embedded, daemon).result, Fail, "{embedded} {daemon:?}");
        }
    }

    #[test]
    fn a_slow_broker_is_no_refusal() {
        let late = crate::runtime::Expired { what: "it".into(), limit: LIMIT };
        assert_eq!(refused("broker.replay", &late.into()).result, Warn);
        let no = crate::mqtt::Error::Refused { topic: "t".to_owned(), why: "not authorised".to_owned() };
        assert_eq!(refused("broker.replay", &no).result, Fail);
    }

    #[test]
    fn what_a_broker_takes_is_judged() {
        let good = BrokerLimits { receive_max: 20, packet_bytes_max: None, qos_max: 2, retains: true, wildcards: true };
        let judged = |limits| -> Vec<Verdict> { judge_limits("b", limits).iter().map(|check| check.result).collect() };
        assert_eq!(judged(good), [Good, Good]);
        assert_eq!(judged(BrokerLimits { retains: false, ..good }), [Good, Fail, Good]);
        assert_eq!(judged(BrokerLimits { qos_max: 0, ..good }), [Good, Fail, Good]);
        assert_eq!(judged(BrokerLimits { packet_bytes_max: Some(65_536), ..good }), [Good, Warn, Good]);
        assert_eq!(judged(BrokerLimits { receive_max: 1, ..good }), [Good, Warn]);
    }

    #[test]
    fn what_a_broker_keeps_is_judged() {
        let judged = |kept, survives_empty_publish, embedded| -> Vec<Verdict> {
            let checks = judge_retention(Retention { kept, survives_empty_publish }, embedded);
            checks.iter().map(|check| check.result).collect()
        };
        assert_eq!(judged(true, true, false), [Good, Good]);
        assert_eq!(judged(true, false, false), [Good, Warn]);
        assert_eq!(judged(true, false, true), [Good, Good]);
        assert_eq!(judged(false, false, false), [Fail]);
        assert_eq!(judge_replay(Probe { retained: 10, replayed: 10 }, false).result, Good);
        assert_eq!(judge_replay(Probe { retained: 10, replayed: 9 }, false).result, Warn);
        assert_eq!(judge_replay(Probe { retained: 10, replayed: 9 }, true).result, Good);
    }
}
