//! A real ClickHouse as a supervised child process, for `--embedded`.
//!
//! The child is `clickhouse local` told to listen: a `clickhouse` binary (26.5 or newer) when one is on PATH, else our
//! own binary's hidden subcommand with the engine's library loaded. Its last query reads a pipe we hold open, so
//! that it ends when this process ends, however that happens. What it needs lies in one directory:
//! `store/` (tables), `config.xml`, `users.xml`, `log/`.

mod child;
mod fetch;
mod port;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clickhouse::endpoint::Endpoint;

pub use child::run_engine_child;
pub use fetch::{FetchError, cache_dir, fetch_library};
pub use port::free_port;

/// Time the engine gets to answer after its first start. Half a second is usual; loading thousands of parts after a
/// crash from a slow disk takes tens.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Time the engine gets to end by itself after its pipe was closed. It has no rows of its own to save.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// How often a child is looked after while nothing happens.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// First and longest pause before a dead child is started again.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A child that lived this long died of something new: the pause starts small again.
const RESTART_PAUSE_RESET: Duration = Duration::from_secs(60);

/// How to run the embedded engine.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Directory for everything the engine writes; created when missing.
    pub directory: PathBuf,
    /// Native-protocol port on 127.0.0.1; `None` = a free one, kept over restarts.
    pub tcp_port: Option<u16>,
    /// HTTP port on 127.0.0.1; 0 = none.
    pub http_port: u16,
    /// Memory the engine may use, in bytes; `None` = half of the machine's.
    pub memory_bytes_max: Option<u64>,
    /// A ClickHouse users file to use in place of ours (one `default` user without a password, from loopback).
    pub users_config: Option<PathBuf>,
    /// The ringhouse binary whose hidden subcommand becomes the engine; `None` = the running program. Tests, which are
    /// programs of their own, name it.
    pub executable: Option<PathBuf>,
}

/// A running, supervised engine. Dropping it ends the child.
#[derive(Debug)]
pub struct Embedded {
    tcp_port: u16,
    http_port: u16,
    shared: Arc<Shared>,
    stop: Sender<()>,
    supervisor: Option<JoinHandle<()>>,
}

/// What the supervisor tells the outside. Plain numbers, each meaningful alone: relaxed is enough.
#[derive(Debug, Default)]
struct Shared {
    pid: AtomicU32,
    restarts: AtomicU64,
}

impl Embedded {
    /// Provides the engine (fetching it when needed, with progress on stderr), starts it and waits until it answers.
    ///
    /// # Errors
    ///
    /// When there is no engine to be had, the directory or a port is unusable, or the engine ends or stays silent.
    /// Later deaths are not errors: the child is started again on the same ports for as long as this value lives.
    pub fn start(config: EmbeddedConfig) -> Result<Embedded, EmbeddedError> {
        let program = Program::find(config.executable.as_deref())?;
        let tcp_port = match config.tcp_port {
            Some(port) => check_port(port)?,
            None => free_port().map_err(|source| EmbeddedError::Port { port: 0, source })?,
        };
        let http_port = if config.http_port == 0 {
            0
        } else {
            check_port(config.http_port)?
        };
        let layout = Layout::prepare(&config)?;
        let launch = Launch {
            program,
            layout,
            tcp_port,
            http_port,
        };

        let started = Instant::now();
        let mut child = launch.spawn()?;
        if let Err(error) = wait_until_it_answers(&mut child, tcp_port, START_DEADLINE, &launch.layout) {
            end(&mut child);
            return Err(error);
        }
        tracing::info!(
            pid = child.id(),
            tcp_port,
            http_port,
            milliseconds = started.elapsed().as_millis() as u64,
            "the embedded ClickHouse answers"
        );

        let shared = Arc::new(Shared {
            pid: AtomicU32::new(child.id()),
            restarts: AtomicU64::new(0),
        });
        let (stop, stopped) = mpsc::channel();
        let supervisor = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("embedded".to_owned())
                .spawn(move || supervise(&launch, child, &shared, &stopped))
                .map_err(EmbeddedError::Spawn)?
        };
        Ok(Embedded {
            tcp_port,
            http_port,
            shared,
            stop,
            supervisor: Some(supervisor),
        })
    }

    /// Where it listens, as the `default` user.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::local(self.tcp_port)
    }

    /// Port of its HTTP interface on 127.0.0.1; 0 = none.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Process id of the current child; 0 while it is being restarted.
    pub fn pid(&self) -> u32 {
        self.shared.pid.load(Ordering::Relaxed)
    }

    /// How often the child died and was started again.
    pub fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// Ends the child and returns when it is gone.
    pub fn stop(self) {}
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // A supervisor that is gone already has ended its child.
        let _ = self.stop.send(());
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

/// Why the engine could not be provided or started. Each text says what to do.
#[derive(Debug)]
pub enum EmbeddedError {
    /// No `clickhouse` binary, and the library could not be had.
    Fetch(FetchError),
    /// The directory or a file in it cannot be created or written (also: disk full).
    Directory {
        /// What was being written.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Another process runs an engine in this directory.
    DirectoryInUse(PathBuf),
    /// Somebody else listens on the port, or it may not be used.
    Port {
        /// The port.
        port: u16,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The operating system gave no process or thread.
    Spawn(io::Error),
    /// The engine ended before it answered.
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The last it said.
        last_words: String,
    },
    /// The engine runs but does not answer.
    Silent {
        /// Where its log is.
        log: PathBuf,
    },
}

impl fmt::Display for EmbeddedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmbeddedError::Fetch(error) => error.fmt(f),
            EmbeddedError::Directory { path, source } => {
                write!(
                    f,
                    "the embedded ClickHouse cannot write {}: {source}",
                    path.display()
                )
            }
            EmbeddedError::DirectoryInUse(path) => write!(
                f,
                "another ringhouse runs its embedded ClickHouse in {}; give this one another --data-dir",
                path.display()
            ),
            EmbeddedError::Port { port, source } => {
                write!(
                    f,
                    "the embedded ClickHouse cannot listen on 127.0.0.1:{port}: {source}"
                )
            }
            EmbeddedError::Spawn(source) => write!(f, "the embedded ClickHouse cannot be started: {source}"),
            EmbeddedError::Ended { status, last_words } if last_words.is_empty() => {
                write!(
                    f,
                    "the embedded ClickHouse ended at its start ({status}) without a word"
                )
            }
            EmbeddedError::Ended { status, last_words } => {
                write!(
                    f,
                    "the embedded ClickHouse ended at its start ({status}): {last_words}"
                )
            }
            EmbeddedError::Silent { log } => write!(
                f,
                "the embedded ClickHouse runs but has not answered for {} s; its log is {}",
                START_DEADLINE.as_secs(),
                log.display()
            ),
        }
    }
}

impl std::error::Error for EmbeddedError {}

impl From<FetchError> for EmbeddedError {
    fn from(error: FetchError) -> Self {
        EmbeddedError::Fetch(error)
    }
}

/// The engine's executable form.
#[derive(Debug)]
enum Program {
    /// A `clickhouse` binary, run as `clickhouse local`.
    Binary(PathBuf),
    /// `libchdb.so`, run by the hidden subcommand of `executable`.
    Library {
        /// A ringhouse binary.
        executable: PathBuf,
        /// The library.
        library: PathBuf,
    },
}

impl Program {
    fn find(executable: Option<&Path>) -> Result<Program, EmbeddedError> {
        if let Some(path) = on_path("clickhouse") {
            match local_version(&path) {
                Some(version) if version >= LISTENING_SINCE => return Ok(Program::Binary(path)),
                Some((major, minor)) => tracing::warn!(
                    path = %path.display(),
                    "the clickhouse binary on PATH is {major}.{minor}, older than 26.5: taking the packaged library instead"
                ),
                None => tracing::warn!(
                    path = %path.display(),
                    "the clickhouse binary on PATH does not tell its version: taking the packaged library instead"
                ),
            }
        }
        let executable = match executable {
            Some(path) => path.to_owned(),
            None => std::env::current_exe().map_err(EmbeddedError::Spawn)?,
        };
        Ok(Program::Library {
            executable,
            library: fetch_library()?,
        })
    }

    fn command(&self) -> Command {
        let (executable, argument) = match self {
            Program::Binary(path) => (path, "local".as_ref()),
            Program::Library { executable, .. } => (executable, "embedded-engine".as_ref()),
        };
        let mut command = Command::new(executable);
        command.arg::<&std::ffi::OsStr>(argument);
        if let Program::Library { library, .. } = self {
            command.arg(library);
        }
        command
    }
}

/// `clickhouse local` can listen since 26.5 (`SYSTEM START LISTEN` there).
const LISTENING_SINCE: (u32, u32) = (26, 5);

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|p| p.is_file())
}

fn local_version(binary: &Path) -> Option<(u32, u32)> {
    let output = Command::new(binary)
        .args(["local", "--version"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// `ClickHouse local version 26.7.2.1 (official build).` → (26, 7).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (_, version) = text.split_once("version ")?;
    let mut numbers = version.split('.').map(|n| n.trim().parse::<u32>());
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Files of one engine, made ready once; the lock lives as long as the value.
#[derive(Debug)]
struct Layout {
    store: PathBuf,
    config: PathBuf,
    log: PathBuf,
    output: PathBuf,
    _lock: File,
}

impl Layout {
    fn prepare(config: &EmbeddedConfig) -> Result<Layout, EmbeddedError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| EmbeddedError::Directory { path, source }
        };
        let directory = &config.directory;
        fs::create_dir_all(directory).map_err(failed(directory))?;
        // The engine runs with another working directory: everything it is told must be absolute.
        let directory = fs::canonicalize(directory).map_err(failed(directory))?;
        let lock_path = directory.join("lock");
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EmbeddedError::DirectoryInUse(directory)),
            Err(TryLockError::Error(source)) => {
                return Err(EmbeddedError::Directory {
                    path: lock_path,
                    source,
                });
            }
        }
        let (store, log_directory) = (directory.join("store"), directory.join("log"));
        for path in [&store, &log_directory] {
            fs::create_dir_all(path).map_err(failed(path))?;
        }
        let users = match &config.users_config {
            Some(path) => fs::canonicalize(path).map_err(failed(path))?,
            None => {
                let path = directory.join("users.xml");
                fs::write(&path, USERS_XML).map_err(failed(&path))?;
                path
            }
        };
        let log = log_directory.join("clickhouse.log");
        let config_path = directory.join("config.xml");
        let text = config_xml(&log, &users, config.memory_bytes_max);
        fs::write(&config_path, text).map_err(failed(&config_path))?;
        Ok(Layout {
            store,
            config: config_path,
            log,
            output: log_directory.join("output.txt"),
            _lock: lock,
        })
    }

    /// The end of what the engine printed, in one line; of its log when it printed nothing.
    fn last_words(&self) -> String {
        let said = tail(&self.output);
        if said.is_empty() { tail(&self.log) } else { said }
    }
}

fn tail(path: &Path) -> String {
    const TAIL_BYTES: u64 = 2048;
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let length = file.metadata().map_or(0, |m| m.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)));
        let _ = file.read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    // The engine announces its log file on every start; that says nothing about an end.
    let telling = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with("Logging "));
    telling.collect::<Vec<_>>().join(" ")
}

/// One user, reachable from this machine only. Its sessions start in the engine's working database when a client
/// names none: giving the user another one keeps the engine itself from starting, which logs in as this user.
const USERS_XML: &str = "\
<clickhouse>
    <users>
        <default>
            <password></password>
            <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <access_management>1</access_management>
        </default>
    </users>
    <profiles><default></default></profiles>
    <quotas><default></default></quotas>
</clickhouse>
";

/// The engine's configuration. `default_database` names the overlay database `clickhouse local` works in, which
/// would otherwise take the name `default` and forget its tables.
fn config_xml(log: &Path, users: &Path, memory_bytes_max: Option<u64>) -> String {
    let memory = match memory_bytes_max {
        Some(bytes) => format!("<max_server_memory_usage>{bytes}</max_server_memory_usage>"),
        None => "<max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>".to_owned(),
    };
    format!(
        "\
<clickhouse>
    <log-level>warning</log-level>
    <logger>
        <log>{log}</log>
        <size>16M</size>
        <count>2</count>
    </logger>
    <users_config>{users}</users_config>
    <default_database>_local</default_database>
    <timezone>UTC</timezone>
    {memory}
    <mark_cache_size>268435456</mark_cache_size>
    <shutdown_wait_unfinished>1</shutdown_wait_unfinished>
</clickhouse>
",
        log = escape(&log.to_string_lossy()),
        users = escape(&users.to_string_lossy()),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Everything needed to start the child, the first time and every other time.
#[derive(Debug)]
struct Launch {
    program: Program,
    layout: Layout,
    tcp_port: u16,
    http_port: u16,
}

impl Launch {
    fn spawn(&self) -> Result<Child, EmbeddedError> {
        let failed = |source| EmbeddedError::Directory {
            path: self.layout.output.clone(),
            source,
        };
        let output = File::create(&self.layout.output).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let mut command = self.program.command();
        command
            .args(self.arguments())
            .current_dir(&self.layout.store)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C in a terminal goes to the whole foreground group: the engine must outlive it until we have drained.
            .process_group(0);
        command.spawn().map_err(EmbeddedError::Spawn)
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut listen = String::from("CREATE DATABASE IF NOT EXISTS default; SYSTEM START LISTEN TCP; ");
        let mut arguments: Vec<OsString> = vec!["--config-file".into(), self.layout.config.clone().into()];
        arguments.extend(["--path".into(), self.layout.store.clone().into()]);
        arguments.extend(["--listen_host".into(), "127.0.0.1".into()]);
        arguments.extend(["--tcp_port".into(), self.tcp_port.to_string().into()]);
        if self.http_port != 0 {
            arguments.extend(["--http_port".into(), self.http_port.to_string().into()]);
            listen.push_str("SYSTEM START LISTEN HTTP; ");
        }
        // Blocks for as long as the other end of the pipe is open, which is as long as we live.
        listen.push_str("SELECT count() FROM file('/dev/stdin', 'LineAsString')");
        arguments.extend(["--multiquery".into(), "--query".into(), listen.into()]);
        arguments
    }
}

/// Says at once that a port is taken, where the engine would only write it into its log.
fn check_port(port: u16) -> Result<u16, EmbeddedError> {
    match port::check_port(port) {
        Ok(()) => Ok(port),
        Err(source) => Err(EmbeddedError::Port { port, source }),
    }
}

fn wait_until_it_answers(
    child: &mut Child,
    tcp_port: u16,
    deadline: Duration,
    layout: &Layout,
) -> Result<(), EmbeddedError> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(EmbeddedError::Spawn)? {
            return Err(EmbeddedError::Ended {
                status,
                last_words: layout.last_words(),
            });
        }
        if answers(tcp_port) {
            return Ok(());
        }
        if started.elapsed() > deadline {
            return Err(EmbeddedError::Silent {
                log: layout.log.clone(),
            });
        }
        thread::sleep(WATCH_INTERVAL);
    }
}

/// Says hello in the native protocol (client packet 0) and looks for a hello (server packet 0) or an exception
/// (server packet 2: a users file of one's own may refuse the default user) in return.
fn answers(tcp_port: u16) -> bool {
    let exchange = || -> io::Result<u8> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, tcp_port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Packet 0; name "ringhouse"; version 1.1; revision 54429 as varint; database "", user "default", password "".
        stream.write_all(b"\x00\x09ringhouse\x01\x01\x9d\xa9\x03\x00\x07default\x00")?;
        let mut packet = [0];
        stream.read_exact(&mut packet)?;
        // Closed with unread bytes the connection would end in a reset, on which `clickhouse local` aborts: its threads'
        // unhandled errors are fatal there, and a reset between two packets is one (tried with 26.7).
        stream.shutdown(Shutdown::Write)?;
        io::copy(&mut stream, &mut io::sink())?;
        Ok(packet[0])
    };
    matches!(exchange(), Ok(0 | 2))
}

fn supervise(launch: &Launch, child: Child, shared: &Shared, stop: &Receiver<()>) {
    let mut current = Some(child);
    let mut pause = RESTART_PAUSE_MIN;
    let mut born = Instant::now();
    loop {
        let wait = if current.is_some() { WATCH_INTERVAL } else { pause };
        match stop.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if let Some(mut child) = current {
                    end(&mut child);
                }
                return;
            }
        }
        match &mut current {
            Some(child) => {
                let Ok(Some(status)) = child.try_wait() else {
                    continue;
                };
                current = None;
                shared.pid.store(0, Ordering::Relaxed);
                if born.elapsed() > RESTART_PAUSE_RESET {
                    pause = RESTART_PAUSE_MIN;
                }
                tracing::error!(
                    %status,
                    log = %launch.layout.log.display(),
                    pause_ms = pause.as_millis() as u64,
                    "the embedded ClickHouse died and is started again"
                );
            }
            None => {
                // Grown before the try: a child that dies at once finds the longer pause.
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
                born = Instant::now();
                match launch.spawn() {
                    Ok(child) => {
                        shared.restarts.fetch_add(1, Ordering::Relaxed);
                        shared.pid.store(child.id(), Ordering::Relaxed);
                        tracing::info!(
                            pid = child.id(),
                            tcp_port = launch.tcp_port,
                            "the embedded ClickHouse is back"
                        );
                        current = Some(child);
                    }
                    Err(error) => tracing::error!("{error}"),
                }
            }
        }
    }
}

/// Closes the pipe, waits, and kills what is still there.
fn end(child: &mut Child) {
    drop(child.stdin.take());
    let asked = Instant::now();
    while asked.elapsed() < STOP_DEADLINE {
        match child.try_wait() {
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            _ => return,
        }
    }
    tracing::warn!(
        pid = child.id(),
        "the embedded ClickHouse did not end by itself and is killed"
    );
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_a_binary() {
        assert_eq!(
            parse_version("ClickHouse local version 26.7.2.1 (official build).\n"),
            Some((26, 7))
        );
        assert_eq!(
            parse_version("ClickHouse local version 18.16.1.\n"),
            Some((18, 16))
        );
        assert!(parse_version("ClickHouse local version 25.12.1.1.").is_some_and(|v| v < LISTENING_SINCE));
        assert_eq!(parse_version("clickhouse: command not found"), None);
        assert_eq!(parse_version("version x.y"), None);
    }

    #[test]
    fn a_path_with_markup_stays_one_value() {
        let text = config_xml(Path::new("/tmp/a<b>&c/x.log"), Path::new("/u"), Some(7));
        assert!(text.contains("<log>/tmp/a&lt;b&gt;&amp;c/x.log</log>"), "{text}");
        assert!(text.contains("<max_server_memory_usage>7</max_server_memory_usage>"));
    }

    #[test]
    fn a_taken_port_is_named() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = check_port(port).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()), "{error}");
    }

    #[test]
    fn a_second_engine_in_one_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let config = EmbeddedConfig {
            directory: directory.path().join("engine"),
            tcp_port: None,
            http_port: 0,
            memory_bytes_max: None,
            users_config: None,
            executable: None,
        };
        let first = Layout::prepare(&config).unwrap();
        assert!(matches!(
            Layout::prepare(&config),
            Err(EmbeddedError::DirectoryInUse(_))
        ));
        drop(first);
        Layout::prepare(&config).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let config = EmbeddedConfig {
            directory: file.join("engine"),
            tcp_port: None,
            http_port: 0,
            memory_bytes_max: None,
            users_config: None,
            executable: None,
        };
        let error = Layout::prepare(&config).unwrap_err().to_string();
        assert!(error.contains("file/engine"), "{error}");
    }
}
