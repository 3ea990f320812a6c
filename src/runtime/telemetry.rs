//! Logs: pretty ones for people, JSON for machines, on standard error, so that standard output stays for answers.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For a person at a terminal.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            other => Err(Error::Format { text: other.chars().take(40).collect() }),
        }
    }
}

/// What to log, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// How lines look.
    pub format: Format,
    /// `info`, or directives such as `info,pgmoor::reconcile=debug`.
    pub level: String,
    /// Whether pretty lines may be coloured (a terminal, and no `NO_COLOR`).
    pub colour: bool,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The format has another name.
    #[error("log format \"{text}\" is not known: it is pretty or json")]
    Format {
        /// What was given.
        text: String,
    },
    /// The level cannot be read.
    #[error(
        "log level \"{level}\" is not valid: it is error, warn, info, debug or trace, or directives like pgmoor=debug"
    )]
    Level {
        /// What was given.
        level: String,
        /// Where it fails.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logs were set up before.
    #[error("logs are set up already")]
    Twice,
}

/// Starts logging for the whole process. Once.
///
/// # Errors
/// The level is not valid, or logs were set up before.
pub fn start(options: &Options) -> Result<(), Error> {
    let filter =
        EnvFilter::try_new(&options.level).map_err(|source| Error::Level { level: options.level.clone(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match options.format {
        Format::Pretty => builder.with_ansi(options.colour).with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|_already_set| Error::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names_and_levels_are_checked() {
        assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
        assert_eq!("pretty".parse::<Format>().unwrap(), Format::Pretty);
        assert!(matches!("xml".parse::<Format>(), Err(Error::Format { .. })));
        let options = Options { format: Format::Json, level: "pgmoor=loud".to_owned(), colour: false };
        assert!(matches!(start(&options), Err(Error::Level { .. })));
    }
}
