//! `pgmoor hosts` and `pgmoor host …`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};

use super::{Output, duration};
use crate::model::HostId;

/// `pgmoor hosts`
#[derive(Debug, Clone, Args)]
pub struct Hosts {
    /// How the hosts are printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor host`
#[derive(Debug, Clone, Subcommand)]
pub enum HostCommand {
    /// On a host of the fleet: print a token that lets one new host in
    Token(HostToken),
    /// On a new host: join the fleet, and its Swarm where this host is in none
    Join(HostJoin),
    /// Leave a host: nothing new comes there, primaries hand their role over, its member of etcd moves
    Drain(HostNamed),
    /// Take a host that was drained or removed into use again
    Use(HostNamed),
    /// Take a host out of the fleet and its Swarm
    Remove(HostRemove),
}

/// `pgmoor host token`
#[derive(Debug, Clone, Args)]
pub struct HostToken {
    /// How long it is good for, such as 30m or 24h
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
    pub expires: Duration,
}

/// `pgmoor host join`
#[derive(Debug, Clone, Args)]
pub struct HostJoin {
    /// The token; `-` reads it from standard input, where nobody sees it among the processes
    #[arg(value_name = "TOKEN")]
    pub token: String,
    /// Where the configuration of the daemon is written, if there is none
    #[arg(long, value_name = "FILE", default_value = "/etc/pgmoor/pgmoor.toml", value_hint = ValueHint::FilePath)]
    pub write_config: PathBuf,
    /// How long to wait for a host of the fleet to answer, such as 30s or 2m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1m")]
    pub timeout: Duration,
}

/// `pgmoor host drain` and `pgmoor host use`
#[derive(Debug, Clone, Args)]
pub struct HostNamed {
    /// The host
    #[arg(value_name = "HOST")]
    pub host: HostId,
    /// How long to wait for the answer, such as 30s or 2m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,
    /// How the answer is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `pgmoor host remove`
#[derive(Debug, Clone, Args)]
pub struct HostRemove {
    /// Which, and how the answer is printed.
    #[command(flatten)]
    pub named: HostNamed,
    /// It is dead and stays so: databases go on without its instances
    #[arg(long)]
    pub force: bool,
}
