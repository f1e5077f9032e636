//! INSERTs of JSON lines over HTTP, on connections that are kept.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::super::reply::{self, NotAReply};
use super::buffer::{Buffer, ROWS_BYTES_MAX};
use super::log;

/// Time an INSERT may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time a connection may lie idle: ClickHouse closes one after 10 s and more, and an INSERT must not meet that.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// Pause before a failed INSERT is repeated.
const REPEAT_PAUSE: Duration = Duration::from_millis(100);

/// INSERTs of what was gathered start at least so far apart, as the server's own do by default, unless half a buffer
/// waits.
const INTERVAL: Duration = Duration::from_millis(200);

/// INSERTs into one table. Its connections are of the thread that first uses it.
pub struct Inserts {
    address: SocketAddr,
    /// Head up to the digits of Content-Length.
    head: String,
    idle: Mutex<Vec<(TcpStream, Instant)>>,
}

impl Inserts {
    /// INSERTs into a table of the database `default`.
    pub fn new(address: SocketAddr, table: &str) -> Inserts {
        let head = format!(
            "POST /?database=default&query=INSERT+INTO+{table}+FORMAT+JSONEachRow&date_time_input_format=best_effort&async_insert=0 \
             HTTP/1.1\r\nHost: {address}\r\nContent-Length: "
        );
        Inserts {
            address,
            head,
            idle: Mutex::default(),
        }
    }

    /// One INSERT, on a connection nobody else has.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub async fn insert(&self, lines: &[u8]) -> Result<(), InsertError> {
        let outcome = timeout(PATIENCE, self.exchange(lines)).await;
        outcome.map_err(|_| InsertError::Io(io::ErrorKind::TimedOut.into()))?
    }

    /// The same, again and again until ClickHouse has the rows: some of them twice when a reply was lost.
    async fn insert_until_taken(&self, lines: &[u8]) {
        while let Err(error) = self.insert(lines).await {
            eprintln!("an INSERT is repeated: {error}");
            sleep(REPEAT_PAUSE).await;
        }
    }

    /// Inserts what is in `buffer` as long as the process lives, one INSERT at a time.
    ///
    /// # Errors
    /// A file of the log cannot be deleted.
    pub async fn insert_all(&self, buffer: &Buffer) -> io::Result<()> {
        let mut due = Instant::now();
        loop {
            buffer.has(1).await;
            // Late is no error: it is what an INSERT of few rows waits for.
            let _ = timeout_at(due, buffer.has(ROWS_BYTES_MAX / 2)).await;
            due = Instant::now() + INTERVAL;
            let (_, rows) = buffer.take();
            self.insert_until_taken(&rows.lines).await;
            rows.release()?;
        }
    }

    async fn exchange(&self, lines: &[u8]) -> Result<(), InsertError> {
        let mut stream = self.connection().await?;
        let head = format!("{}{}\r\n\r\n", self.head, lines.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(lines).await?;
        let mut received = Vec::with_capacity(1024);
        let (status, is_kept) = loop {
            if let Some(reply) = reply::read(&received).map_err(InsertError::NotHttp)? {
                break (reply.status, reply.is_kept);
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Err(InsertError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        if is_kept {
            self.idle().push((stream, Instant::now()));
        }
        if status == 200 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&received);
        let said = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let said: String = said.trim().chars().take(300).collect();
        Err(
            match said.contains("TOO_MANY_PARTS") || text.contains("Exception-Code: 252\r") {
                true => InsertError::TooManyParts(said),
                false => InsertError::Refused(status, said),
            },
        )
    }

    async fn connection(&self) -> io::Result<TcpStream> {
        // The one used last lives longest; what lies below it too long goes with it.
        let kept = self.idle().pop();
        match kept {
            Some((stream, since)) if since.elapsed() < IDLE_MAX => Ok(stream),
            _ => {
                self.idle().clear();
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(TcpStream, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Inserts what the logs of a process before this one hold, and deletes them. Rows that were inserted already are
/// inserted again.
///
/// # Errors
/// A log cannot be read or deleted.
pub async fn insert_left_behind(directory: &Path, inserts: &Inserts) -> io::Result<()> {
    for (path, lines) in log::left_behind(directory)? {
        if !lines.is_empty() {
            inserts.insert_until_taken(&lines).await;
        }
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Why an INSERT failed.
#[derive(Debug)]
pub enum InsertError {
    /// The connection broke, or stayed silent: nobody knows.
    Io(io::Error),
    /// What came is not HTTP.
    NotHttp(NotAReply),
    /// ClickHouse has more parts than it wants before it takes another; no row is in.
    TooManyParts(String),
    /// It answered otherwise.
    Refused(u16, String),
}

impl From<io::Error> for InsertError {
    fn from(error: io::Error) -> InsertError {
        InsertError::Io(error)
    }
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InsertError::Io(error) => write!(f, "the connection to ClickHouse broke: {error}"),
            InsertError::NotHttp(NotAReply) => f.write_str("ClickHouse does not speak HTTP there"),
            InsertError::TooManyParts(said) => write!(f, "ClickHouse has too many parts: {said}"),
            InsertError::Refused(status, said) => write!(f, "ClickHouse answered {status}: {said}"),
        }
    }
}

impl std::error::Error for InsertError {}
