//! Several cores, each with a listener, a parser and a log of its own, and rings to one writer.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::Value;
use tokio::time::sleep;

use super::buffer::{Buffer, Rows};
use super::commit::Commits;
use super::insert::Inserts;
use super::log::Log;
use super::{Refused, Take, Taken, serve};
use crate::ack::AckLevel;
use crate::doorbell::Doorbell;
use crate::ring::{Consumer, Producer, ring};

/// Commits that may wait in one ring.
const RING_COMMITS: usize = 64;

/// Pause of a core whose ring is full.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// So many cores, each with a ring to the writer.
pub fn cores(count: usize) -> (Vec<Core>, Writer) {
    let bell = Arc::new(Doorbell::new());
    let (producers, rings): (Vec<_>, Vec<_>) =
        (0..count).map(|_| ring(RING_COMMITS, Arc::clone(&bell))).unzip();
    let cores = producers.into_iter().map(|ring| Core { ring }).collect();
    (cores, Writer { bell, rings })
}

/// One core that takes requests.
pub struct Core {
    ring: Producer<Rows>,
}

impl Core {
    /// Serves until something fails.
    ///
    /// # Errors
    /// The log cannot be written.
    pub async fn run(mut self, listener: TcpListener, log: Log, ack: AckLevel) -> io::Result<()> {
        let parsing = Arc::new(Parsing {
            commits: Commits::new(),
        });
        let hand_on = async |mut rows: Rows| {
            while let Err(back) = self.ring.push(rows) {
                rows = back;
                sleep(FULL_PAUSE).await;
            }
        };
        tokio::try_join!(
            serve(listener, Arc::clone(&parsing), ack),
            parsing.commits.log_all(log, hand_on)
        )
        .map(drop)
    }
}

/// The end of all rings.
pub struct Writer {
    bell: Arc<Doorbell>,
    rings: Vec<Consumer<Rows>>,
}

impl Writer {
    /// Inserts what the cores send until something fails.
    ///
    /// # Errors
    /// See [`Inserts::insert_all`].
    pub async fn run(self, inserts: Inserts) -> io::Result<()> {
        let Writer { bell, mut rings } = self;
        let buffer = Buffer::default();
        let gather = async {
            let mut turn = 0;
            loop {
                let rows = bell.wait(|| pop(&mut rings, &mut turn)).await;
                buffer.append(&rows.lines, &rows.segments).await;
            }
        };
        tokio::select! {
            ended = inserts.insert_all(&buffer) => ended,
            () = gather => Ok(()),
        }
    }
}

/// The oldest of the next ring that has something.
fn pop(rings: &mut [Consumer<Rows>], turn: &mut usize) -> Option<Rows> {
    (0..rings.len()).find_map(|_| {
        *turn = (*turn + 1) % rings.len();
        rings[*turn].pop()
    })
}

/// Replies when the rows of a body are on the disk; those that are no rows are rejected alone.
struct Parsing {
    commits: Commits,
}

impl Take for Parsing {
    async fn take(&self, body: Bytes) -> Result<Taken, Refused> {
        let mut rows = Vec::with_capacity(body.len());
        let taken = keep_objects(&body, &mut rows);
        if taken.accepted > 0 {
            self.commits.take(&rows).await;
        }
        Ok(taken)
    }
}

/// Copies the lines that are JSON objects.
fn keep_objects(body: &[u8], rows: &mut Vec<u8>) -> Taken {
    let mut taken = Taken {
        accepted: 0,
        rejected: 0,
    };
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(Value::Object(_)) => {
                rows.extend_from_slice(line);
                rows.push(b'\n');
                taken.accepted += 1;
            }
            Ok(_) | Err(_) => taken.rejected += 1,
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_a_bad_line_alone() {
        let mut rows = Vec::new();
        let taken = keep_objects(b"{\"a\":1}\nno\n\n[]\n{\"b\":2}", &mut rows);
        assert_eq!(
            taken,
            Taken {
                accepted: 2,
                rejected: 2
            }
        );
        assert_eq!(rows, b"{\"a\":1}\n{\"b\":2}\n");
    }

    #[test]
    fn takes_from_every_ring_in_turn() {
        let (mut all, mut writer) = cores(2);
        let rows = |text: &str| Rows {
            lines: text.as_bytes().to_vec(),
            segments: Vec::new(),
        };
        for text in ["1", "2"] {
            all[0].ring.push(rows(text)).unwrap();
        }
        all[1].ring.push(rows("3")).unwrap();
        let mut turn = 0;
        let taken: Vec<Vec<u8>> = std::iter::from_fn(|| pop(&mut writer.rings, &mut turn))
            .map(|rows| rows.lines)
            .collect();
        assert_eq!(taken, [b"3", b"1", b"2"]);
    }
}
