//! Requests share INSERTs: two buffers, one that fills and one that is inserted, first alone and then behind a log.

use std::io;

use axum::body::Bytes;

use super::buffer::{Buffer, Rows};
use super::commit::Commits;
use super::insert::Inserts;
use super::log::Log;
use super::{Refused, Take, Taken, lines};

/// Replies when a body is in memory.
#[derive(Debug, Default)]
pub struct Coalesce {
    buffer: Buffer,
}

impl Coalesce {
    /// Without rows.
    pub fn new() -> Coalesce {
        Coalesce::default()
    }

    /// See [`Inserts::insert_all`].
    pub async fn insert_all(&self, inserts: &Inserts) -> io::Result<()> {
        inserts.insert_all(&self.buffer).await
    }
}

impl Take for Coalesce {
    async fn take(&self, body: Bytes) -> Result<Taken, Refused> {
        self.buffer.append(&body, &[]).await;
        Ok(Taken {
            accepted: lines(&body),
            rejected: 0,
        })
    }
}

/// Replies when a body is on the disk.
#[derive(Debug)]
pub struct Logged {
    commits: Commits,
    buffer: Buffer,
}

impl Logged {
    /// Without rows.
    pub fn new() -> Logged {
        Logged {
            commits: Commits::new(),
            buffer: Buffer::default(),
        }
    }

    /// See [`Commits::log_all`].
    pub async fn log_all(&self, log: Log) -> io::Result<()> {
        let hand_on = async |rows: Rows| {
            self.buffer.append(&rows.lines, &rows.segments).await;
        };
        self.commits.log_all(log, hand_on).await
    }

    /// See [`Inserts::insert_all`].
    pub async fn insert_all(&self, inserts: &Inserts) -> io::Result<()> {
        inserts.insert_all(&self.buffer).await
    }
}

impl Take for Logged {
    async fn take(&self, body: Bytes) -> Result<Taken, Refused> {
        self.commits.take(&body).await;
        Ok(Taken {
            accepted: lines(&body),
            rejected: 0,
        })
    }
}
