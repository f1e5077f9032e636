//! A stage as a child process, in a directory that goes with it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::super::interrupt::Interrupt;
use super::super::layout::Layout;
use super::super::server::{ServerError, announced, kill, last_lines};
use super::stage::Stage;
use crate::topology::CoreChoice;

/// Time to listen: a stage waits for nothing.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A running stage. Dropping it ends it and its directory.
#[derive(Debug)]
pub struct StageProcess {
    child: Child,
    /// Where rows are posted.
    pub address: SocketAddr,
    // Last: fields are dropped in this order, and the process writes into it while it lives.
    directory: tempfile::TempDir,
}

impl StageProcess {
    /// Starts a stage that inserts into `table`, and waits until it listens.
    ///
    /// # Errors
    /// It does not start, or a signal has come.
    pub fn start(
        stage: Stage,
        clickhouse: SocketAddr,
        table: &str,
        layout: &Layout,
        interrupt: &Interrupt,
    ) -> Result<StageProcess, ServerError> {
        let directory = tempfile::Builder::new()
            .prefix("ringhouse-stage-")
            .tempdir()
            .map_err(ServerError::Io)?;
        let file = |name: &str| File::create(directory.path().join(name)).map_err(ServerError::Io);
        let child = Command::new(std::env::current_exe().map_err(ServerError::Io)?)
            .args(["bench", "stage", stage.name()])
            .args(["--clickhouse", &clickhouse.to_string()])
            .args(["--table", table])
            .args([
                "--ingest-cores",
                &CoreChoice::List(layout.ingest.clone()).to_string(),
            ])
            .args(["--writer-core", &layout.writer.to_string()])
            .arg("--directory")
            .arg(directory.path())
            // It ends when this closes, also when nobody is left to kill it.
            .stdin(Stdio::piped())
            .stdout(file(STDOUT)?)
            .stderr(file(STDERR)?)
            // Ctrl-C in a terminal goes to the whole group: whoever started it ends it.
            .process_group(0)
            .spawn()
            .map_err(ServerError::Io)?;
        let mut process = StageProcess {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            directory,
        };
        process.wait_until_it_listens(interrupt)?;
        Ok(process)
    }

    fn wait_until_it_listens(&mut self, interrupt: &Interrupt) -> Result<(), ServerError> {
        let listening = interrupt.wait_for(START_PATIENCE, || {
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Some(Err(ServerError::Ended(status, self.last_words()))),
                Err(error) => return Some(Err(ServerError::Io(error))),
            }
            let output = std::fs::read_to_string(self.directory.path().join(STDOUT)).ok()?;
            announced(&output, "ringhouse: listening on http://").map(Ok)
        });
        self.address = match listening {
            Some(result) => result?,
            None if interrupt.has_come() => return Err(ServerError::Interrupted),
            None => return Err(ServerError::Silent(self.last_words())),
        };
        Ok(())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: ends every request that is still awaited.
    pub fn kill(&self) {
        // It is ours and not waited for yet, so no other process has its id.
        kill(self.pid(), Signal::KILL);
    }

    /// The end of what it said, in one line.
    pub fn last_words(&self) -> String {
        last_lines(&self.directory.path().join(STDERR))
    }
}

const STDOUT: &str = "stdout.txt";
const STDERR: &str = "stderr.txt";

impl Drop for StageProcess {
    fn drop(&mut self) {
        // Killed, not asked: its rows are counted, or nobody wants them.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
