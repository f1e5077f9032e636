//! Makes the rows that are sent: as a web service writes them, or one for each line of a corpus.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::http::date::civil;

/// What a row says, whatever dialect writes it. Its id is added when it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Unix time in milliseconds.
    pub unix_ms: u64,
    /// Level in words.
    pub level: &'static str,
    /// Who writes it.
    pub service: String,
    /// The log line.
    pub message: String,
    /// Everything else.
    pub attributes: Vec<(&'static str, Value)>,
}

impl Row {
    /// The row's time as RFC 3339.
    pub fn timestamp(&self) -> String {
        let (seconds, milliseconds) = (self.unix_ms / 1000, self.unix_ms % 1000);
        let (year, month, day) = civil(seconds / 86_400);
        let second = seconds % 86_400;
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{milliseconds:03}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Where rows come from. Every seed gives its own, always the same.
#[derive(Debug)]
pub struct Rows {
    random: fastrand::Rng,
    unix_ms: u64,
    /// Lines to wrap; without any, rows are generated.
    corpus: Vec<String>,
    next_line: usize,
    /// In place of the service a row would have.
    service: Option<&'static str>,
    /// Bytes by which messages are longer.
    longer_by: usize,
}

/// What longer messages go on with.
const WORDS: [&str; 16] = [
    "after",
    "cache",
    "client",
    "connection",
    "error",
    "from",
    "handler",
    "in",
    "queue",
    "request",
    "retry",
    "session",
    "shard",
    "timeout",
    "upstream",
    "worker",
];

/// Time between two rows, so that they are not all of one moment.
const STEP_MS: u64 = 1;

impl Rows {
    /// Rows from `unix_ms` on, a millisecond apart.
    pub fn generated(seed: u64, unix_ms: u64) -> Rows {
        Rows {
            random: fastrand::Rng::with_seed(seed),
            unix_ms,
            corpus: Vec::new(),
            next_line: 0,
            service: None,
            longer_by: 0,
        }
    }

    /// The same with the lines of all files right in `directory` as messages, in the order of the files' names.
    ///
    /// # Errors
    /// The directory or a file of it cannot be read, or there is no line that is UTF-8.
    pub fn from_corpus(seed: u64, unix_ms: u64, directory: &Path) -> Result<Rows, CorpusError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CorpusError::Unreadable { path, source }
        };
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
            let path = entry.map_err(failed(directory))?.path();
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        let mut rows = Rows::generated(seed, unix_ms);
        for path in files {
            let bytes = std::fs::read(&path).map_err(failed(&path))?;
            let lines = bytes
                .split(|byte| *byte == b'\n')
                .filter_map(|line| std::str::from_utf8(line).ok());
            rows.corpus
                .extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
        }
        if rows.corpus.is_empty() {
            return Err(CorpusError::Empty(directory.to_owned()));
        }
        Ok(rows)
    }

    /// The same, all of one service.
    pub fn of_service(self, service: &'static str) -> Rows {
        Rows {
            service: Some(service),
            ..self
        }
    }

    /// The same, each message longer by so many bytes of words.
    pub fn with_longer_messages(self, bytes: usize) -> Rows {
        Rows {
            longer_by: bytes,
            ..self
        }
    }

    /// Rows of the same kind for one of several threads; each has its own.
    pub fn of_thread(&self, thread: u64) -> Rows {
        let mut random = self.random.clone();
        for _ in 0..thread {
            random = random.fork();
        }
        Rows {
            next_line: random.usize(0..self.corpus.len().max(1)),
            corpus: self.corpus.clone(),
            random,
            ..*self
        }
    }

    /// The next row.
    pub fn next_row(&mut self) -> Row {
        let mut row = self.any_row();
        if let Some(service) = self.service {
            row.service = service.to_owned();
        }
        let end = row.message.len() + self.longer_by;
        while row.message.len() < end {
            row.message.push(' ');
            row.message.push_str(WORDS[self.random.usize(0..WORDS.len())]);
        }
        // Words are ASCII, and so is all that is cut off.
        row.message.truncate(end);
        row
    }

    fn any_row(&mut self) -> Row {
        let unix_ms = self.unix_ms;
        self.unix_ms += STEP_MS;
        if self.corpus.is_empty() {
            return self.web_request(unix_ms);
        }
        let message = self.corpus[self.next_line].clone();
        self.next_line = (self.next_line + 1) % self.corpus.len();
        Row {
            unix_ms,
            level: "INFO",
            service: "corpus".to_owned(),
            message,
            attributes: Vec::new(),
        }
    }

    /// About 240 bytes as JSON.
    fn web_request(&mut self, unix_ms: u64) -> Row {
        const LEVELS: [&str; 6] = ["INFO", "INFO", "INFO", "WARN", "ERROR", "DEBUG"];
        const SERVICES: [&str; 4] = ["checkout", "payments", "search", "frontend"];
        let random = &mut self.random;
        Row {
            unix_ms,
            level: LEVELS[random.usize(0..LEVELS.len())],
            service: SERVICES[random.usize(0..SERVICES.len())].to_owned(),
            message: format!(
                "GET /api/v1/orders/{} took {} ms for user {}",
                random.u32(0..1 << 20),
                random.u32(1..1000),
                random.u32(0..1 << 14)
            ),
            attributes: vec![
                ("pid", random.u32(1000..5000).into()),
                ("host", format!("node-{:02}.eu-west", random.u32(0..32)).into()),
                (
                    "status",
                    [200, 200, 200, 204, 301, 404, 500][random.usize(0..7)].into(),
                ),
            ],
        }
    }
}

/// Why a corpus gives no rows.
#[derive(Debug)]
pub enum CorpusError {
    /// The system does not let it be read.
    Unreadable {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No file of the directory has a line.
    Empty(PathBuf),
}

impl std::fmt::Display for CorpusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CorpusError::Unreadable { path, source } => {
                write!(f, "the corpus {} cannot be read: {source}", path.display())
            }
            CorpusError::Empty(path) => {
                write!(f, "the corpus {} holds no line of UTF-8 text", path.display())
            }
        }
    }
}

impl std::error::Error for CorpusError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_same_rows_for_the_same_seed() {
        let rows = |seed| {
            let mut rows = Rows::generated(seed, 0);
            (0..100).map(|_| rows.next_row()).collect::<Vec<_>>()
        };
        assert_eq!(rows(7), rows(7));
        assert_ne!(rows(7), rows(8));
    }

    #[test]
    fn writes_times_as_rfc_3339() {
        let mut rows = Rows::generated(1, 951_782_399_999);
        assert_eq!(rows.next_row().timestamp(), "2000-02-28T23:59:59.999Z");
        assert_eq!(rows.next_row().timestamp(), "2000-02-29T00:00:00.000Z");
    }

    #[test]
    fn wraps_the_lines_of_a_corpus_in_turn() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("b"), "third\n").unwrap();
        std::fs::write(directory.path().join("a"), b"first\n\nsec\"ond\n\xff\n").unwrap();
        let mut rows = Rows::from_corpus(1, 0, directory.path()).unwrap();
        let messages: Vec<String> = (0..4).map(|_| rows.next_row().message).collect();
        assert_eq!(messages, ["first", "sec\"ond", "third", "first"]);
    }

    #[test]
    fn makes_messages_longer_by_as_much_as_asked_for() {
        let mut plain = Rows::generated(1, 0);
        let first = plain.next_row().message;
        let mut longer = Rows::generated(1, 0).with_longer_messages(61);
        let message = longer.next_row().message;
        assert_eq!(message.len(), first.len() + 61);
        assert!(message.starts_with(&format!("{first} ")), "{message}");
    }

    #[test]
    fn rejects_a_corpus_without_lines() {
        let directory = tempfile::tempdir().unwrap();
        let refused = Rows::from_corpus(1, 0, directory.path()).unwrap_err();
        assert!(refused.to_string().contains("holds no line"), "{refused}");
    }
}
