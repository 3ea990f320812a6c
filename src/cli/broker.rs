//! `broker acl` and `broker bridge`: what a mosquitto is told about a fleet.

use super::args::{Bridge, BrokerUsers};
use super::{Context, Error, Exit, Out};
use crate::contract::access::{self, Role, User};

pub(super) fn acl(context: &Context<'_>, args: &BrokerUsers, out: &mut Out) -> Result<Exit, Error> {
    out.text(&access::list(context.options.fleet.as_str(), &users(args)))?;
    Ok(Exit::Done)
}

pub(super) fn bridge(context: &Context<'_>, args: &Bridge, out: &mut Out) -> Result<Exit, Error> {
    out.text(&connection(context.options.fleet.as_str(), &args.address, &args.user))?;
    Ok(Exit::Done)
}

/// The users that were named; the usual ones when nobody was.
pub(super) fn users(args: &BrokerUsers) -> Vec<User> {
    let of = |names: &[String], role| names.iter().map(|name| User { name: name.clone(), role }).collect::<Vec<_>>();
    let hosts: Vec<String> = args.hosts.iter().map(ToString::to_string).collect();
    let named = [
        of(&args.publishers, Role::Publisher),
        of(&args.controllers, Role::Controller),
        of(&hosts, Role::Host),
        of(&args.watchers, Role::Watcher),
        of(&args.sites, Role::Bridge),
    ]
    .concat();
    if named.is_empty() { User::usual() } else { named }
}

/// A bridge that loses nothing while the line is cut: both brokers keep a session for it, and what waits is not bounded by
/// mosquitto's default. MQTT 5, so that the properties of requests and answers pass.
fn connection(fleet: &str, address: &str, user: &str) -> String {
    format!(
        "# The bridge of fleet {fleet} to its central broker, as `pgmoor broker bridge` writes it.\n\
         connection {user}\n\
         address {address}\n\
         bridge_protocol_version mqttv50\n\
         remote_clientid pgmoor-{fleet}-bridge\n\
         remote_username {user}\n\
         # mosquitto reads no password from a file of its own: put the line in here, and keep this file 0600; or name a\n\
         # certificate with bridge_certfile and bridge_keyfile.\n\
         #remote_password …\n\
         # The authority of the central broker's certificate; without it the line is not encrypted.\n\
         #bridge_cafile /etc/mosquitto/certs/central-ca.crt\n\
         cleansession false\n\
         start_type automatic\n\
         restart_timeout 2 30\n\
         keepalive_interval 10\n\
         notifications false\n\
         try_private true\n\
         {}",
        access::bridged(fleet)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_named_means_the_usual_users() {
        assert_eq!(users(&BrokerUsers::default()), User::usual());
        let named = BrokerUsers { sites: vec!["harbour".to_owned()], ..BrokerUsers::default() };
        assert_eq!(users(&named), [User { name: "harbour".to_owned(), role: Role::Bridge }]);
    }
}
