//! Starts real servers and engines for the integration tests, and ends them whatever happens.
#![allow(dead_code)] // Each test program uses its own part of this.

pub mod client;
pub mod corpus;
pub mod keys;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ringhouse::clickhouse::embedded::{self, Embedded, EmbeddedConfig};
use rustix::process::{Pid, Signal, kill_process};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ringhouse");

/// Time anything a test waits for may take. Long: continuous integration shares its cores.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `check` until it returns a value.
///
/// # Panics
///
/// After [`PATIENCE`], naming `what`.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain for {what}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a program is here, or was installed from Debian's `package` just now.
pub fn has_program(program: &str, package: &str) -> bool {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let is_here = || Command::new(program).arg("--version").output().is_ok();
    if is_here() {
        return true;
    }
    let install = format!("apt-get update --quiet && apt-get install --quiet --yes {package}");
    let installed = Command::new("sh").args(["-c", &install]).output();
    if installed.is_ok() && is_here() {
        return true;
    }
    println!("{program} of {package} is missing and cannot be installed: what needs it is not tried");
    false
}

/// An HTTP reply.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Status line and headers as they came.
    pub head: String,
    pub body: String,
}

/// Sends one request with `Connection: close` and reads the reply to its end.
pub fn http(
    method: &str,
    port: u16,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"))
    {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    raw(port, &request)
}

/// Sends bytes as they are - also what is no request - and reads until the server closes.
pub fn raw(port: u16, request: &[u8]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut sender = stream.try_clone()?;
    let mut bytes = Vec::new();
    thread::scope(|scope| {
        // A server may answer and close before it has read everything: the answer counts, not the broken send.
        scope.spawn(move || sender.write_all(request));
        let mut piece = [0; 65_536];
        loop {
            match stream.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !bytes.is_empty() => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    })?;
    parse_reply(&bytes)
}

pub(crate) fn parse_reply(bytes: &[u8]) -> io::Result<Reply> {
    let wrong = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{what}: {:?}", String::from_utf8_lossy(bytes)),
        )
    };
    let end = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .ok_or_else(|| wrong("no complete head"))?
        + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| wrong("no status"))?;
    if status == 100 {
        return parse_reply(&bytes[end..]);
    }
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked {
        dechunk(&bytes[end..]).ok_or_else(|| wrong("broken chunks"))?
    } else {
        bytes[end..].to_vec()
    };
    Ok(Reply {
        status,
        head,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|w| w == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..line_end]).ok()?;
        let length = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line_end + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

/// Runs SQL over ClickHouse's HTTP interface in database `default`; the result as ClickHouse prints it (TabSeparated
/// when the query names no format), without the last newline.
///
/// A SELECT that meets a broken connection is asked again for up to [`PATIENCE`]: the embedded engine ends its process on
/// a reset of any connection, and its supervisor starts it again. Other statements may have had their effect.
pub fn try_sql(http_port: u16, query: &str) -> Result<String, String> {
    let started = Instant::now();
    let ask = || http("POST", http_port, "/?database=default", &[], query.as_bytes());
    let mut reply = ask();
    while reply.is_err() && query.starts_with("SELECT") && started.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
        reply = ask();
    }
    let reply = reply.map_err(|error| error.to_string())?;
    match reply.status {
        200 => Ok(reply.body.strip_suffix('\n').unwrap_or(&reply.body).to_owned()),
        _ => Err(reply.body),
    }
}

/// [`try_sql`] for queries that must work.
pub fn sql(http_port: u16, query: &str) -> String {
    try_sql(http_port, query).unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// A TCP port of 127.0.0.1 nobody listens on.
pub fn free_port() -> u16 {
    embedded::free_port().expect("a free port")
}

/// Sends a signal to a process of ours.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).expect("no process has the id 0");
    kill_process(pid, signal).unwrap_or_else(|error| panic!("signal {signal:?} to {pid:?}: {error}"));
}

/// Whether the process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with('Z')
    })
}

/// Children of a process, by pid.
pub fn children(pid: u32) -> Vec<u32> {
    let parent_of = |entry: fs::DirEntry| {
        let child: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: u32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        (parent == pid).then_some(child)
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(parent_of)
        .collect()
}

/// A ClickHouse of its own in a directory of its own; gone when dropped.
pub struct Engine {
    pub embedded: Embedded,
    directory: tempfile::TempDir,
}

impl Engine {
    pub fn start() -> Engine {
        Engine::start_with(None)
    }

    /// With a ClickHouse users file (passwords, read-only users, quotas) in place of the usual one.
    pub fn start_with(users_xml: Option<&str>) -> Engine {
        let directory = tempfile::tempdir().unwrap();
        let users_config = users_xml.map(|text| {
            let path = directory.path().join("test-users.xml");
            fs::write(&path, text).unwrap();
            path
        });
        let embedded = Embedded::start(EmbeddedConfig {
            directory: directory.path().join("clickhouse"),
            tcp_port: None,
            http_port: free_port(),
            memory_bytes_max: Some(2 << 30),
            users_config,
            executable: Some(BINARY.into()),
        })
        .unwrap_or_else(|error| panic!("{error}"));
        Engine { embedded, directory }
    }

    pub fn tcp_port(&self) -> u16 {
        self.embedded.endpoint().port
    }

    pub fn sql(&self, query: &str) -> String {
        sql(self.embedded.http_port(), query)
    }

    pub fn try_sql(&self, query: &str) -> Result<String, String> {
        try_sql(self.embedded.http_port(), query)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// A running `ringhouse serve`; killed when dropped, its log printed when the test failed.
pub struct Server {
    child: Child,
    /// Ports as the server printed them; `clickhouse_port` is 0 when it printed none.
    pub port: u16,
    pub admin_port: u16,
    pub clickhouse_port: u16,
    /// HTTP port of the embedded engine, 0 without one.
    pub clickhouse_http_port: u16,
    output: PathBuf,
    log: PathBuf,
    directory: Option<tempfile::TempDir>,
}

impl Server {
    /// `ringhouse serve --embedded` with free ports in a fresh directory, once it is ready.
    pub fn embedded(arguments: &[&str]) -> Server {
        // Two tests may be at this at once: the default ports would be one's only.
        let (tcp_port, http_port) = (free_port(), free_port());
        let (embedded_tcp_port, embedded_http_port) = (tcp_port.to_string(), http_port.to_string());
        let mut all = vec![
            "--embedded",
            "--embedded-tcp-port",
            &embedded_tcp_port,
            "--embedded-http-port",
            &embedded_http_port,
        ];
        all.extend_from_slice(arguments);
        let mut server = Server::start(&all);
        server.clickhouse_http_port = http_port;
        server.wait_until_ready();
        server
    }

    /// `ringhouse serve` with `arguments`, free ports and a fresh directory, once it listens. It need not be ready.
    pub fn start(arguments: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::start_in(directory.path(), arguments);
        server.directory = Some(directory);
        server
    }

    /// The same in a directory of the caller's, for restarts.
    pub fn start_in(directory: &Path, arguments: &[&str]) -> Server {
        let (output, log) = (directory.join("stdout.txt"), directory.join("stderr.txt"));
        let mut server = Server::spawn(&directory.join("data"), output, log, arguments);
        server.wait_until_it_listens();
        server
    }

    /// One of many lives over the same data, with files of its own in `logs`. It need not listen yet.
    pub fn spawn_life(data: &Path, logs: &Path, life: u64, arguments: &[&str]) -> Server {
        let file = |name: &str| logs.join(format!("{life:04}-{name}.txt"));
        Server::spawn(data, file("stdout"), file("stderr"), arguments)
    }

    /// At ack level `inserted` unless `arguments` say otherwise: what was answered can be read back then.
    fn spawn(data: &Path, output: PathBuf, log: PathBuf, arguments: &[&str]) -> Server {
        let mut command = Command::new(BINARY);
        command.arg("serve");
        let usual = [
            ("--listen", "127.0.0.1:0"),
            ("--admin", "127.0.0.1:0"),
            ("--ack", "inserted"),
        ];
        for (flag, value) in usual.iter().filter(|(flag, _)| !arguments.contains(flag)) {
            command.args([flag, value]);
        }
        let child = command
            .arg("--data-dir")
            .arg(data)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Server {
            child,
            port: 0,
            admin_port: 0,
            clickhouse_port: 0,
            clickhouse_http_port: 0,
            output,
            log,
            directory: None,
        }
    }

    /// Learns the ports it prints.
    pub fn wait_until_it_listens(&mut self) {
        if let Err(status) = self.try_wait_until_it_listens() {
            panic!("ringhouse ended at its start: {status}");
        }
    }

    /// The same; its exit status when it ends before.
    pub fn try_wait_until_it_listens(&mut self) -> Result<(), ExitStatus> {
        let announced = |server: &Server, what: &str| {
            let output = fs::read_to_string(&server.output).unwrap_or_default();
            let line = output.lines().find(|l| l.starts_with(what))?.to_owned();
            let port = line.rsplit(':').next()?;
            let digits = port.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<u16>().ok()
        };
        let wait_for = |server: &mut Server, what: &str| {
            eventually(what, || match server.child.try_wait().unwrap() {
                Some(status) => Some(Err(status)),
                None => announced(server, what).map(Ok),
            })
        };
        self.port = wait_for(self, "ringhouse: listening on ")?;
        self.admin_port = wait_for(self, "ringhouse: admin on ")?;
        self.clickhouse_port = announced(self, "ringhouse: clickhouse at ").unwrap_or(0);
        Ok(())
    }

    /// The port of a further listener, which it printed before the admin pages'.
    pub fn port_of(&self, listener: &str) -> u16 {
        let output = fs::read_to_string(&self.output).unwrap();
        let start = format!("ringhouse: {listener} on ");
        let line = output.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no listener {listener}: {output}"));
        line.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub fn wait_until_ready(&self) {
        let started = Instant::now();
        loop {
            let reply = self.admin("/readyz");
            if reply.as_ref().is_ok_and(|reply| reply.status == 200) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "not ready: {reply:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn admin(&self, target: &str) -> io::Result<Reply> {
        http("GET", self.admin_port, target, &[], b"")
    }

    pub fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        http("POST", self.port, target, &[], body.as_ref())
            .unwrap_or_else(|error| panic!("POST {target}: {error}"))
    }

    /// SQL in the embedded engine.
    pub fn sql(&self, query: &str) -> String {
        sql(self.clickhouse_http_port, query)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it holds of memory, engine aside.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// Process id of the embedded engine.
    pub fn engine_pid(&self) -> u32 {
        eventually("the engine's process", || children(self.pid()).first().copied())
    }

    pub fn signal(&self, which: Signal) {
        signal(self.pid(), which);
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// Waits for the server to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the server's end", || child.try_wait().unwrap())
    }

    /// Directory of its own, with its data under `data`.
    pub fn directory(&self) -> &Path {
        self.output.parent().expect("the output file is in it")
    }

    /// What it has printed on stdout so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let engines = children(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The engine ends with its parent; the directory must not vanish under it before.
        let asked = Instant::now();
        while engines.iter().any(|pid| is_alive(*pid)) && asked.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(10));
        }
        if thread::panicking() {
            eprintln!(
                "--- stdout of ringhouse\n{}--- stderr of ringhouse\n{}---",
                self.output(),
                self.log()
            );
        }
    }
}
