//! Names: the host's own, and the name servers that every pull of an image waits for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::check::Check;
use crate::runtime::within;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(2);
/// A question for the name servers of the root, as RFC 1035 writes it: every server answers it, with whatever answer.
const QUESTION: [u8; 17] = [0x70, 0x67, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// The servers of a `resolv.conf`.
pub(super) fn servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
}

/// Each server, and whether it answers.
pub(super) async fn ask(servers: &[IpAddr]) -> Vec<(IpAddr, bool)> {
    futures_util::future::join_all(servers.iter().map(|server| async move { (*server, answers(*server).await) })).await
}

async fn answers(server: IpAddr) -> bool {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let asked = async {
        let socket = tokio::net::UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(SocketAddr::new(server, 53)).await?;
        socket.send(&QUESTION).await?;
        let mut answer = [0; 512];
        socket.recv(&mut answer).await
    };
    matches!(within("the name server", LIMIT, asked).await, Ok(Ok(_)))
}

/// Whether the host's own name has an address.
pub(super) async fn resolves(hostname: &str) -> Result<(), String> {
    match within("the host's own name", LIMIT, tokio::net::lookup_host((hostname, 0))).await {
        Ok(Ok(_addresses)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(late) => Err(late.to_string()),
    }
}

pub(super) fn judge(hostname: &str, own: &Result<(), String>, servers: &[(IpAddr, bool)]) -> Vec<Check> {
    let own = match own {
        Ok(()) => Check::ok("dns.own_name", format!("{hostname} has an address")),
        Err(why) => Check::warn(
            "dns.own_name",
            format!("this host's own name {hostname} has no address: {why}"),
            format!("put a line with {hostname} into /etc/hosts"),
        ),
    };
    let list = |answer: bool| {
        let them: Vec<String> =
            servers.iter().filter(|(_, answers)| *answers == answer).map(|(server, _)| server.to_string()).collect();
        them.join(", ")
    };
    let (good, bad) = (list(true), list(false));
    let servers = if servers.is_empty() {
        let fix = "name one there; without it images come by docker load only";
        Check::warn("dns.servers", "/etc/resolv.conf names no server", fix)
    } else if bad.is_empty() {
        Check::ok("dns.servers", format!("the name servers answer: {good}"))
    } else {
        let finding = format!(
            "these name servers of /etc/resolv.conf do not answer: {bad}. Docker asks a registry at each start of a task, \
             so that every start waits for their silence to end"
        );
        Check::warn("dns.servers", finding, "take them out of /etc/resolv.conf, or make them reachable")
    };
    vec![own, servers]
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict::{self, Ok as Good, Warn};
    use super::*;

    #[test]
    fn resolv_conf_is_read() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1\n nameserver ::1 # x\nnameserver y\n";
        let wanted: Vec<IpAddr> = ["192.0.2.1", "::1"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(servers(text), wanted);
    }

    #[test]
    fn silence_is_told() {
        let server = |last: u8, answers| (IpAddr::from([192, 0, 2, last]), answers);
        let judged = |own: &Result<(), String>, servers: &[(IpAddr, bool)]| -> Vec<Verdict> {
            judge("h", own, servers).iter().map(|check| check.result).collect()
        };
        assert_eq!(judged(&Ok(()), &[server(1, true)]), [Good, Good]);
        assert_eq!(judged(&Err("no".to_owned()), &[]), [Warn, Warn]);
        let one = judge("h", &Ok(()), &[server(1, true), server(2, false)]);
        assert_eq!(one[1].result, Warn);
        assert!(one[1].finding.contains("192.0.2.2") && !one[1].finding.contains("192.0.2.1,"));
    }
}
