//! Group commit: bodies that come while the disk writes are written together next, and each waits for its own.

use std::io;

use tokio::sync::watch;

use super::buffer::{Buffer, Rows};
use super::log::Log;

/// Lines on their way into a log.
#[derive(Debug)]
pub struct Commits {
    waiting: Buffer,
    /// Commits that are durable.
    durable: watch::Sender<u64>,
}

impl Commits {
    /// None yet.
    pub fn new() -> Commits {
        Commits {
            waiting: Buffer::default(),
            durable: watch::Sender::new(0),
        }
    }

    /// Returns when the lines are durable.
    pub async fn take(&self, lines: &[u8]) {
        let mut durable = self.durable.subscribe();
        let number = self.waiting.append(lines, &[]).await;
        let reached = durable.wait_for(|commits| *commits > number).await;
        assert!(reached.is_ok(), "the other end is in self");
    }

    /// Writes commit after commit, and hands each on when it is durable. Whoever does not take it holds up the next.
    ///
    /// # Errors
    /// The log fails. Nobody who waits is told: the process is to end.
    pub async fn log_all(&self, mut log: Log, mut hand_on: impl AsyncFnMut(Rows)) -> io::Result<()> {
        loop {
            self.waiting.has(1).await;
            let (number, mut rows) = self.waiting.take();
            // fdatasync blocks its thread.
            let written = tokio::task::spawn_blocking(move || {
                let segment = log.append(&rows.lines)?;
                rows.segments.push(segment);
                Ok::<_, io::Error>((log, rows))
            });
            (log, rows) = written.await.map_err(io::Error::other)??;
            self.durable.send_replace(number + 1);
            hand_on(rows).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::left_behind;
    use super::*;

    #[test]
    fn answers_each_body_after_it_is_in_the_log_and_hands_it_on() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(directory.path(), 0).unwrap();
        let commits = Commits::new();
        let handed_on = std::cell::RefCell::new(Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bodies = async {
                let body = async |lines: &str| {
                    commits.take(lines.as_bytes()).await;
                    let logged =
                        String::from_utf8(left_behind(directory.path()).unwrap().remove(0).1).unwrap();
                    assert!(logged.contains(lines), "{lines} in {logged}");
                };
                tokio::join!(body("{1}\n"), body("{2}\n"));
                body("{3}\n").await;
            };
            tokio::select! {
                () = bodies => {}
                ended = commits.log_all(log, async |rows| handed_on.borrow_mut().extend(rows.lines)) => {
                    panic!("{ended:?}")
                }
            }
        });
        // The last one may have been answered just before it is handed on.
        assert!(handed_on.into_inner().starts_with(b"{1}\n{2}\n"));
    }
}
