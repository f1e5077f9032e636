//! The least that a responder on one core does: finds a request's end by its Content-Length and sends a fixed reply.
//!
//! It runs in a process of its own, on the same runtime as an ingest core, and ends with whoever started it.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use memchr::memmem;

use crate::runtime::{self, Connection, CoreOptions, Listener};

/// Options of `bench bare-responder`.
#[derive(Debug, Clone, Args)]
pub struct BareArgs {
    /// CPU of its core
    #[arg(long, value_name = "CPU")]
    pub cpu: usize,
}

/// What its core's thread is called before a number.
pub const THREAD_NAME: &str = "bare";

/// What its one line on standard output begins with.
const LISTENING: &str = "listening on ";

/// As long as this program's for a row at `ack=memory`.
const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Length: 54\r\n\r\n{\"accepted\":1,\"rejected\":0,\"ack\":\"memory\",\"errors\":[]}";

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Bytes of the largest request.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The body of `bench bare-responder`: answers until standard input ends.
///
/// # Errors
/// There is no port or no core.
pub fn run(args: &BareArgs) -> io::Result<ExitCode> {
    let listener = runtime::listen((Ipv4Addr::LOCALHOST, 0).into(), BACKLOG)?;
    println!("{LISTENING}{}", listener.local_addr()?);
    let options = CoreOptions {
        cpu: Some(args.cpu),
        spin_before_park: Duration::ZERO,
    };
    runtime::spawn_core(THREAD_NAME, options, move || async move {
        let listener = Listener::from_std(listener);
        loop {
            match listener.accept().await {
                Ok(connection) => runtime::spawn(async {
                    // A connection that breaks is its client's loss, and noticed there.
                    let _ = answer(connection).await;
                }),
                Err(_) => runtime::sleep(ACCEPT_PAUSE).await,
            }
        }
    })?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(ExitCode::SUCCESS)
}

async fn answer(mut connection: Connection) -> io::Result<()> {
    let mut buffer = vec![0; REQUEST_BYTES_MAX];
    let mut filled = 0;
    while filled < buffer.len() {
        match connection.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            count => filled += count,
        }
        while let Some(end) = request_bytes(&buffer[..filled]) {
            connection.write_all(REPLY).await?;
            buffer.copy_within(end..filled, 0);
            filled -= end;
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Length of the request at the start of `bytes`; `None` when more of it must be received.
fn request_bytes(bytes: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"Content-Length: ";
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let digits = &bytes[memmem::find(&bytes[..head], LENGTH)? + LENGTH.len()..head];
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let body = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    (bytes.len() >= head + body).then_some(head + body)
}

/// A running responder. Dropping it ends it.
#[derive(Debug)]
pub struct Bare {
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Bare {
    /// Starts one on `cpu` and waits until it listens. Call it from a thread that is not pinned.
    ///
    /// # Errors
    /// It does not start; it has said why on standard error.
    pub fn start(cpu: usize) -> io::Result<Bare> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "bare-responder", "--cpu", &cpu.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // As with the server: Ctrl-C is for whoever started it.
            .process_group(0)
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        let read = BufReader::new(output).read_line(&mut line);
        let address = line
            .trim_end()
            .strip_prefix(LISTENING)
            .and_then(|text| text.parse().ok());
        let bare = Bare {
            child,
            address: address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into()),
        };
        read?;
        match address {
            Some(_) => Ok(bare),
            None => Err(io::Error::other("the bare responder does not start")),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_a_request() {
        let one = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n{\"a\":\"b\"}  \n";
        for length in 0..one.len() {
            assert_eq!(request_bytes(&one[..length]), None, "{length}");
        }
        assert_eq!(request_bytes(one), Some(one.len()));
        let two = [&one[..], &one[..10]].concat();
        assert_eq!(request_bytes(&two), Some(one.len()));
    }

    #[test]
    fn answers_with_a_whole_reply() {
        let reply = crate::bench::reply::read(REPLY).unwrap().unwrap();
        assert_eq!((reply.status, reply.bytes), (200, REPLY.len()));
    }
}
