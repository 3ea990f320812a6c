//! The ports that pgmoor needs on this host: etcd's two, and the embedded broker's.

use std::net::{SocketAddr, TcpListener};

use super::check::Check;

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    /// A service of our own fleet, or our own daemon.
    Ourselves,
    Others,
    /// Somebody, and Docker could not be asked who.
    Somebody,
    Unknown(String),
}

/// Who has the port of an address, where `ours` says whether we publish it (none: not known).
pub(super) fn holder(address: SocketAddr, ours: Option<bool>) -> Holder {
    match TcpListener::bind(address) {
        Ok(_free_again) => Holder::Nobody,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => match ours {
            Some(true) => Holder::Ourselves,
            Some(false) => Holder::Others,
            None => Holder::Somebody,
        },
        Err(error) => Holder::Unknown(error.to_string()),
    }
}

/// Whether pgmoor can have the port. `what` says what it is for, `setting` how it is set.
pub(super) fn judge(name: &'static str, what: &str, address: SocketAddr, holder: &Holder, setting: &str) -> Check {
    let port = address.port();
    let look = format!("ss -ltnp 'sport = :{port}' shows who; end that, or set {setting}");
    match holder {
        Holder::Nobody => Check::ok(name, format!("port {port} ({what}) is free")),
        Holder::Ourselves => Check::ok(name, format!("port {port} ({what}) is held by this fleet")),
        Holder::Others => Check::fail(name, format!("port {port} ({what}) is taken by something else"), look),
        Holder::Somebody => Check::warn(name, format!("port {port} ({what}) is taken; by whom is not known"), look),
        Holder::Unknown(why) => {
            let finding = format!("{address} ({what}) cannot be listened at: {why}");
            Check::fail(name, finding, format!("set {setting} to an address and a port of this host"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn a_taken_port_is_judged_by_who_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let cases = [(Some(true), Verdict::Ok), (Some(false), Verdict::Fail), (None, Verdict::Warn)];
        for (ours, wanted) in cases {
            let check = judge("ports.etcd_client", "etcd", address, &holder(address, ours), "--etcd-client-port");
            assert_eq!(check.result, wanted, "{check:?}");
            assert_eq!(check.fix.is_some(), wanted != Verdict::Ok);
        }
        drop(taken);
        assert_eq!(holder(address, Some(false)), Holder::Nobody);
        let elsewhere = "192.0.2.1:5".parse().unwrap();
        assert!(matches!(holder(elsewhere, None), Holder::Unknown(_)));
    }
}
