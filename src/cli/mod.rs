//! The command line: `validate`, `plan`, `apply`, `status`, … It speaks MQTT with the broker, as any other client could;
//! only `connection` and `psql` read a file, the credentials that the daemon keeps on its host, and `doctor` and `report`
//! look at that host.
//!
//! Architecture invariant: it never opens the store, and knows nothing that is not on the topics, so it works from any
//! machine that reaches the broker. Exit codes are those of [`Exit`] and nothing else (docs/cli.md).

mod access;
mod apply;
mod approve;
pub mod args;
mod ask;
mod broker;
mod bundle;
mod doctor;
mod error;
mod events;
mod explain;
mod follow;
mod history;
mod host;
mod hosts;
mod input;
mod link;
mod offline;
mod output;
mod passwd;
mod plan;
mod render;
mod resume;
mod schema;
mod status;
mod trash;

pub use args::Command;
pub use doctor::DoctorSettings;
pub use error::Error;
pub use link::BrokerSettings;
pub use output::Out;

use std::path::PathBuf;

use crate::contract::commands::{DRAIN_HOST, USE_HOST};
use crate::domain::catalogue;
use crate::model::{Catalogue, FleetId, HostId};
use crate::runtime::{Random, SharedClock, SystemClock};
use args::{BrokerCommand, HostCommand};

/// What every subcommand may need to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The fleet.
    pub fleet: FleetId,
    /// The host, when it was set; else the one that a spec names, else this machine.
    pub host: Option<HostId>,
    /// This machine as a host, when its name is an id.
    pub machine: Option<HostId>,
    /// The daemon's data directory, where it runs on this machine.
    pub data_dir: String,
    /// The address that this host advertises, where the settings say one.
    pub advertise_address: Option<std::net::IpAddr>,
    /// Docker's socket.
    pub docker_socket: String,
    /// A version catalogue instead of the embedded one.
    pub catalogue: Option<PathBuf>,
    /// How the broker is reached.
    pub broker: BrokerSettings,
    /// What the doctor looks at beside.
    pub doctor: DoctorSettings,
}

/// How a command ended. The numbers are part of the contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; of `plan`: there is nothing to do.
    Done,
    /// 1: an error, or the spec was rejected.
    Failed,
    /// 2: of `plan`: there are changes; of `explain`: not all is well, the answer says why; of `replay`: a decision comes
    /// out otherwise.
    Changes,
    /// 3: the time to wait has passed; the database goes on by itself.
    TimedOut,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Changes => 2,
            Self::TimedOut => 3,
        }
    }
}

/// The surroundings of a command.
struct Context<'a> {
    options: &'a Options,
    clock: SharedClock,
    random: Random,
}

impl Context<'_> {
    fn catalogue(&self) -> Result<Catalogue, Error> {
        match &self.options.catalogue {
            None => Ok(catalogue::embedded()?),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| Error::ReadFile { path: path.clone(), source })?;
                Ok(catalogue::parse(&text)?)
            }
        }
    }
}

/// Runs a command. `program` is the whole command line as clap knows it, for completions.
///
/// # Errors
/// See [`Error`].
pub async fn run(command: &Command, options: &Options, program: clap::Command, out: &mut Out) -> Result<Exit, Error> {
    let context = Context { options, clock: SystemClock::shared(), random: Random::System };
    match command {
        Command::Validate(args) => offline::validate(&context, args, out),
        Command::Plan(args) if args.offline => offline::plan(&context, args, out),
        Command::Plan(args) => plan::run(&context, args, out).await,
        Command::Apply(args) => apply::apply(&context, args, out).await,
        Command::Approve(args) => approve::run(&context, args, out).await,
        Command::Delete(args) => apply::delete(&context, args, out).await,
        Command::Undelete(args) => trash::undelete(&context, args, out).await,
        Command::Purge(args) => trash::purge(&context, args, out).await,
        Command::ConfirmDelete(args) => trash::confirm_delete(&context, args, out).await,
        Command::History(args) => history::history(&context, args, out).await,
        Command::Diff(args) => history::diff(&context, args, out).await,
        Command::Rollback(args) => history::rollback(&context, args, out).await,
        Command::Status(args) => status::run(&context, args, out).await,
        Command::Explain(args) => explain::run(&context, args, out).await,
        Command::Events(args) => events::run(&context, args, out).await,
        Command::Doctor(args) => doctor::run(&context, args, out).await,
        Command::Report(args) => Box::pin(bundle::report(&context, args, out)).await,
        Command::Replay(args) => bundle::replay::replay(args, out),
        Command::Hosts(args) => hosts::run(&context, args, out).await,
        Command::Resume(args) => resume::run(&context, args, out).await,
        Command::Connection(args) => access::connection(&context, args, out).await,
        Command::Psql(args) => access::psql(&context, args).await,
        Command::Schema(args) => schema::run(args, out),
        Command::Completions(args) => schema::completions(args, program, out),
        Command::Host(HostCommand::Token(args)) => host::token::run(&context, args, out),
        Command::Host(HostCommand::Join(args)) => host::join::run(&context, args, out).await,
        Command::Host(HostCommand::Drain(named)) => resume::host(&context, (DRAIN_HOST, named), out).await,
        Command::Host(HostCommand::Use(named)) => resume::host(&context, (USE_HOST, named), out).await,
        Command::Host(HostCommand::Remove(args)) => resume::remove(&context, args, out).await,
        Command::Broker(BrokerCommand::Passwd(args)) => passwd::run(args, out),
        Command::Broker(BrokerCommand::Acl(args)) => broker::acl(&context, args, out),
        Command::Broker(BrokerCommand::Bridge(args)) => broker::bridge(&context, args, out),
        Command::Broker(BrokerCommand::Init(args)) => broker::init::run(&context, args, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_never_change() {
        let codes = [Exit::Done, Exit::Failed, Exit::Changes, Exit::TimedOut].map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3]);
    }
}
