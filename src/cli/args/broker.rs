//! `pgmoor broker …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use crate::model::HostId;

/// `pgmoor broker`
#[derive(Debug, Clone, Subcommand)]
pub enum BrokerCommand {
    /// Make the line of the embedded broker's password file for a user; the password is asked for, or read from standard input
    Passwd(Passwd),
    /// Print mosquitto's access list for the fleet (--fleet): who may read and write which topics
    Acl(BrokerUsers),
    /// Print the lines of a mosquitto at a site that connect it to a central broker: specs come down, reports go up
    Bridge(Bridge),
    /// Write all that a mosquitto of the fleet needs into a directory: authority, certificates, passwords, access list,
    /// configuration. Run again it keeps what is there, and adds what is missing
    Init(BrokerInit),
}

/// `pgmoor broker init`
#[derive(Debug, Clone, Args)]
pub struct BrokerInit {
    /// The directory; made where it is missing
    #[arg(value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub directory: PathBuf,
    /// A name or address at which the broker is reached, for its certificate; may stand several times
    #[arg(long = "name", value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Who may connect.
    #[command(flatten)]
    pub users: BrokerUsers,
}

/// The users of a broker, by what they are to the fleet. With client certificates, their common names.
#[derive(Debug, Clone, Default, Args)]
pub struct BrokerUsers {
    /// A user who says what shall be: the fleet tool, a person; may stand several times, as all of these [without any
    /// user: publisher, controller, watcher]
    #[arg(long = "publisher", value_name = "USER", value_parser = user_name)]
    pub publishers: Vec<String>,
    /// The user that pgmoor is on every host
    #[arg(long = "controller", value_name = "USER", value_parser = user_name)]
    pub controllers: Vec<String>,
    /// A host whose pgmoor logs in with the host's id, and may write about no other
    #[arg(long = "host-user", value_name = "HOST")]
    pub hosts: Vec<HostId>,
    /// A user who reads
    #[arg(long = "watcher", value_name = "USER", value_parser = user_name)]
    pub watchers: Vec<String>,
    /// On a central broker: the user that a site's broker is
    #[arg(long = "site", value_name = "USER", value_parser = user_name)]
    pub sites: Vec<String>,
}

/// `pgmoor broker bridge`
#[derive(Debug, Clone, Args)]
pub struct Bridge {
    /// The central broker, as mosquitto reads it: HOST:PORT
    #[arg(value_name = "HOST:PORT")]
    pub address: String,
    /// The user that the site is there (`pgmoor broker acl --site USER`), and the bridge's name
    #[arg(value_name = "USER", value_parser = user_name)]
    pub user: String,
    /// The file with its password there; without one the bridge shows a client certificate
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
}

/// A name that stands in a line of an access list and of a password file as it is.
fn user_name(text: &str) -> Result<String, String> {
    let wrong = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '+' | '#' | '/');
    if text.is_empty() || text.contains(wrong) {
        return Err("a name without spaces, `:`, `/`, `+` and `#`".to_owned());
    }
    Ok(text.to_owned())
}

/// `pgmoor broker passwd`
#[derive(Debug, Clone, Args)]
pub struct Passwd {
    /// The user's name at the broker
    #[arg(value_name = "USER")]
    pub user: String,
    /// Put the line into this file, in the place of the user's old one, instead of printing it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_users_fit_into_the_files_of_a_broker() {
        assert_eq!(user_name("fleet-tool@example"), Ok("fleet-tool@example".to_owned()));
        for text in ["", "a b", "a:b", "a\ntopic #", "+", "a/b", "#"] {
            assert!(user_name(text).is_err(), "{text:?}");
        }
    }
}
