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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Lines;

        fn make_writer(&self) -> Lines {
            self.clone()
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn events() {
        tracing::info!(target: "ringhouse::writer", table = "d.t", rows = 7, "inserted");
        tracing::debug!(target: "ringhouse::writer", "block taken");
        tracing::info!(target: "hyper", "library chatter");
        tracing::warn!(target: "hyper", "library warning");
    }

    #[test]
    fn shows_our_level_and_only_warnings_of_libraries() {
        for (level, shown) in [
            ("off", vec![]),
            ("warn", vec!["library warning"]),
            ("info", vec!["inserted", "library warning"]),
            ("debug", vec!["inserted", "block taken", "library warning"]),
            ("error,ringhouse::writer=debug", vec!["inserted", "block taken"]),
        ] {
            let lines = Lines::default();
            tracing::subscriber::with_default(text(filter(level).unwrap(), lines.clone()), events);
            let text = lines.text();
            assert_eq!(text.lines().count(), shown.len(), "{level}: {text}");
            assert!(
                text.lines()
                    .zip(&shown)
                    .all(|(line, message)| line.contains(message)),
                "{level}: {text}"
            );
        }
    }

    #[test]
    fn writes_fields_as_pairs_or_as_json() {
        let lines = Lines::default();
        tracing::subscriber::with_default(text(filter("info").unwrap(), lines.clone()), events);
        assert!(
            lines
                .text()
                .lines()
                .next()
                .unwrap()
                .ends_with(r#"inserted table="d.t" rows=7"#),
            "{}",
            lines.text()
        );
        let lines = Lines::default();
        tracing::subscriber::with_default(json(filter("info").unwrap(), lines.clone()), events);
        let first: serde_json::Value = serde_json::from_str(lines.text().lines().next().unwrap()).unwrap();
        assert_eq!(
            (&first["message"], &first["rows"]),
            (&"inserted".into(), &7.into())
        );
    }

    #[test]
    fn rejects_a_filter_that_would_silence_everything_by_mistake() {
        for text in ["chatty", "", "INFO ", "ringhouse=loud"] {
            assert!(
                matches!(check_filter(text), Err(ConfigError::LogLevel { .. })),
                "{text:?}"
            );
        }
    }
}
