//! The server's own log: structured lines on stderr, few of them, never a row and never a secret.

use crate::config::{ConfigError, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts the log of this process. The first call stands; a later one changes nothing and says so with `false`.
///
/// # Errors
/// [`ConfigError::LogLevel`]: the filter cannot be read.
pub fn start(log_level: &str, format: LogFormat) -> Result<bool, ConfigError> {
    let filter = filter(log_level)?;
    let set = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(text(filter, std::io::stderr)),
        LogFormat::Json => tracing::subscriber::set_global_default(json(filter, std::io::stderr)),
    };
    Ok(set.is_ok())
}

/// Whether a filter can be read.
///
/// # Errors
/// [`ConfigError::LogLevel`].
pub fn check_filter(log_level: &str) -> Result<(), ConfigError> {
    filter(log_level).map(|_| ())
}

/// Levels of the libraries below us: their `info` is not an operator's, and axum's and hyper's `debug` shows requests.
const LIBRARIES: &str = "warn";

/// A bare level (`debug`) is ours alone; directives (`ringhouse::writer=debug,hyper=info`) say all themselves.
fn filter(log_level: &str) -> Result<EnvFilter, ConfigError> {
    let malformed = |why: String| ConfigError::LogLevel {
        text: log_level.to_owned(),
        why,
    };
    let is_level = ["off", "error", "warn", "info", "debug", "trace"].contains(&log_level);
    let directives = match log_level {
        "off" => "off".to_owned(),
        level if is_level => format!("{LIBRARIES},ringhouse={level}"),
        directives if directives.contains('=') || directives.contains(',') => directives.to_owned(),
        // EnvFilter would take any word as the name of a target and log nothing else.
        _ => return Err(malformed("it must be off, error, warn, info, debug, trace or directives like `warn,ringhouse::writer=debug`".to_owned())),
    };
    EnvFilter::try_new(directives).map_err(|error| malformed(error.to_string()))
}

fn text<W: for<'w> MakeWriter<'w> + Send + Sync + 'static>(
    filter: EnvFilter,
    to: W,
) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(to)
        .finish()
}

fn json<W: for<'w> MakeWriter<'w> + Send + Sync + 'static>(
    filter: EnvFilter,
    to: W,
) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(to)
        .finish()
}
