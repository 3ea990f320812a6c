//! `broker acl`, `broker bridge` and `broker init`: what a mosquitto is told about a fleet.

pub(super) mod init;

use super::args::{Bridge, BrokerUsers};
use super::{Context, Error, Exit, Out};
use crate::contract::access::{self, Role, User};
use crate::model::Secret;

pub(super) fn acl(context: &Context<'_>, args: &BrokerUsers, out: &mut Out) -> Result<Exit, Error> {
    out.text(&access::list(context.options.fleet.as_str(), &users(args)))?;
    Ok(Exit::Done)
}

pub(super) fn bridge(context: &Context<'_>, args: &Bridge, out: &mut Out) -> Result<Exit, Error> {
    let password = match &args.password_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path);
            Some(Secret::new(text.map_err(|source| Error::ReadFile { path: path.clone(), source })?.trim_end()))
        }
    };
    out.text(&connection(context.options.fleet.as_str(), args, password.as_ref()))?;
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
/// mosquitto's default. MQTT 5, so that the properties of requests and answers pass; always TLS, since it leaves the site.
fn connection(fleet: &str, args: &Bridge, password: Option<&Secret>) -> String {
    let Bridge { address, user, .. } = args;
    let proof = match password {
        Some(password) => format!("remote_username {user}\nremote_password {}", password.expose()),
        None => "bridge_certfile /etc/mosquitto/certs/central-client.crt\n\
                 bridge_keyfile /etc/mosquitto/certs/central-client.key"
            .to_owned(),
    };
    format!(
        "# The bridge of fleet {fleet} to its central broker, as `pgmoor broker bridge` writes it.\n\
         connection {user}\n\
         address {address}\n\
         bridge_protocol_version mqttv50\n\
         bridge_cafile /etc/mosquitto/certs/central-ca.crt\n\
         {proof}\n\
         remote_clientid pgmoor-{fleet}-bridge\n\
         cleansession false\n\
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
