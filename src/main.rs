//! The command `pgmoor`: reads the command line, starts the logs, and chooses between the daemon and the command line's
//! other half. The one place that ends the process.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use pgmoor::app::config::{self, LogFormat, Settings, default};
use pgmoor::app::serve;
use pgmoor::cli;
use pgmoor::runtime::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// PostgreSQL at the edge: publish what database you want, and pgmoor makes it so
#[derive(Debug, Parser)]
#[command(name = "pgmoor", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Arguments {
    /// A TOML file with settings; flags and variables win over it
    #[arg(long, value_name = "FILE", env = "PGMOOR_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// No colours, as with the variable NO_COLOR
    #[arg(
        long,
        env = "NO_COLOR",
        global = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        hide_env_values = true
    )]
    no_color: Option<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon of this host
    Serve,
    #[command(flatten)]
    Cli(cli::Command),
}

impl Arguments {
    /// The command line as clap knows it: every setting may stand behind the subcommand too, and the short help shows
    /// what belongs to the subcommand alone.
    fn program() -> clap::Command {
        Self::command().mut_args(|argument| {
            if argument.is_global_set() && argument.get_id() == "config" {
                return argument;
            }
            argument.global(true).hide_short_help(true).help_heading("Settings")
        })
    }
}

fn main() -> ExitCode {
    let matches = match Arguments::program().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("error: {}", pgmoor::runtime::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

/// Help and versions go to standard output and are no error; anything else is one, with the code of every error: clap's
/// own, 2, means changes here.
fn usage(error: &clap::Error) -> ExitCode {
    let _nobody_reads = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn complain(text: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{text}");
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let plain = arguments.no_color.as_deref().is_some_and(|value| !value.is_empty());
    let settings = config::layered(arguments.settings, arguments.config.as_deref())?;
    match arguments.command {
        Command::Serve => {
            start_logs(&settings, default::LOG_LEVEL, plain)?;
            let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
            runtime.block_on(serving(&settings))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Cli(command) => {
            start_logs(&settings, CLI_LOG_LEVEL, plain)?;
            // One thread: a command does one thing after another.
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
            let options = options(&settings)?;
            let mut out = cli::Out::standard(plain);
            let ended = runtime.block_on(cli::run(&command, &options, Arguments::program(), &mut out));
            Ok(exit(ended))
        }
    }
}

/// What the daemon would tell its operator is of no use to somebody at a prompt.
const CLI_LOG_LEVEL: &str = "error";

fn exit(ended: Result<cli::Exit, cli::Error>) -> ExitCode {
    match ended {
        Ok(exit) => ExitCode::from(exit.code()),
        // `pgmoor events | head -1` is used as intended.
        Err(cli::Error::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {}", pgmoor::runtime::chain(&error)));
            if let Some(hint) = error.hint() {
                complain(&format!("  {hint}"));
            }
            ExitCode::from(cli::Exit::Failed.code())
        }
    }
}

/// The settings as far as the command line needs them.
fn options(settings: &Settings) -> anyhow::Result<cli::Options> {
    let listen = match settings.broker_listen {
        Some(address) => address,
        None => default::BROKER_LISTEN.parse().context("read the default address of the broker")?,
    };
    let socket = settings.docker_socket.clone().unwrap_or_else(|| PathBuf::from(default::DOCKER_SOCKET));
    Ok(cli::Options {
        fleet: settings.fleet()?,
        host: settings.host.clone(),
        machine: settings.host().ok(),
        data_dir: settings.data_dir()?,
        advertise_address: settings.advertise_address,
        docker_socket: socket.to_string_lossy().into_owned(),
        catalogue: settings.catalogue.clone(),
        broker: cli::BrokerSettings {
            url: settings.broker_url.clone(),
            listen,
            listen_cert_file: settings.broker_tls_cert_file.clone(),
            username: settings.broker_username.clone(),
            password_file: settings.broker_password_file.clone(),
            ca_file: settings.broker_ca_file.clone(),
            cert_file: settings.broker_cert_file.clone(),
            key_file: settings.broker_key_file.clone(),
        },
        doctor: cli::DoctorSettings {
            docker: settings.drivers != Some(config::DriverKind::Fake),
            etcd_client_port: settings.etcd_client_port.unwrap_or(default::ETCD_CLIENT_PORT),
            etcd_peer_port: settings.etcd_peer_port.unwrap_or(default::ETCD_PEER_PORT),
            registry: settings.images().registry,
            hostname: config::hostname(),
        },
    })
}

/// Logs go to standard error: pretty on a terminal, JSON elsewhere, unless the settings say otherwise.
fn start_logs(settings: &Settings, level: &str, plain: bool) -> anyhow::Result<()> {
    let terminal = std::io::stderr().is_terminal();
    let format = match settings.log {
        Some(LogFormat::Pretty) => telemetry::Format::Pretty,
        Some(LogFormat::Json) => telemetry::Format::Json,
        None if terminal => telemetry::Format::Pretty,
        None => telemetry::Format::Json,
    };
    let level = settings.log_level.as_deref().unwrap_or(level);
    let level = format!("{level},{}", pgmoor_broker::LOG_DIRECTIVE);
    telemetry::start(&telemetry::Options { format, level, colour: terminal && !plain }).context("start the logs")
}

/// Serves until SIGTERM or SIGINT; a second one does not wait for the end in good order.
async fn serving(settings: &Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut asked = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let stop = CancellationToken::new();
    let mut serving = Box::pin(serve(settings, stop.clone()));
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = asked() => stop.cancel(),
    }
    tokio::select! {
        ended = &mut serving => Ok(ended?),
        () = asked() => anyhow::bail!("stopped a second time, before everything had ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Arguments, clap::Error> {
        let matches = Arguments::program().try_get_matches_from(line)?;
        Arguments::from_arg_matches(&matches)
    }

    #[test]
    fn the_command_line_holds_together() {
        Arguments::program().debug_assert();
    }

    #[test]
    fn settings_stand_before_and_behind_the_subcommand() {
        for line in
            [["pgmoor", "--tick-s", "7", "serve"], ["pgmoor", "serve", "--tick-s", "7"]].iter().map(|line| &line[..])
        {
            assert_eq!(parse(line).unwrap().settings.tick_s, Some(7), "{line:?}");
        }
        let arguments = parse(&["pgmoor", "serve", "--config", "a.toml", "--drivers", "fake"]).unwrap();
        assert_eq!(arguments.config.as_deref(), Some(std::path::Path::new("a.toml")));
        assert_eq!(arguments.settings.drivers, Some(config::DriverKind::Fake));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for line in
            [&["pgmoor", "sevre"][..], &["pgmoor", "serve", "--tick-s", "0"], &["pgmoor", "--fleet", "A", "serve"]]
        {
            assert!(parse(line).unwrap_err().use_stderr(), "{line:?}");
        }
    }
}
