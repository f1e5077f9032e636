//! Ports of 127.0.0.1 for an engine, looked at without being taken.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below 32,768, where Linux takes the ports of outgoing connections from: one of those would take a port away between
/// the look at it and its use.
const RANGE: Range<u16> = 10_240..32_768;

/// A TCP port of 127.0.0.1 that nobody listens on. One process gets each of them once, until all were had.
///
/// # Errors
/// `AddrInUse` when all are taken, or the system gives no socket.
pub fn free_port() -> io::Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    static FIRST: OnceLock<u32> = OnceLock::new();
    let ports = u32::from(RANGE.end - RANGE.start);
    // Each process begins elsewhere, so that two of them rarely look at the same.
    let first = *FIRST.get_or_init(|| fastrand::u32(..ports));
    let mut refused = io::ErrorKind::AddrInUse.into();
    for _ in RANGE {
        let place = (first + GIVEN.fetch_add(1, Ordering::Relaxed) % ports) % ports;
        let port = RANGE.start + place as u16;
        match check_port(port) {
            Ok(()) => return Ok(port),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Whether 127.0.0.1 can be listened on at `port`.
///
/// The socket is bound and does not listen. A listening one would be in the way of the next who listens for as long as
/// any process holds a copy of it, and every child of this process does between fork and exec: one look in 200 was
/// followed by "address in use" beside a thread that starts processes.
///
/// # Errors
/// The operating system's reason.
pub(super) fn check_port(port: u16) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::Command;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(check_port(port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
    }

    #[test]
    fn a_look_is_in_nobodys_way_while_processes_are_started() {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            });
            // Some ten thousand looks, fifty of which a listening socket would spoil.
            let looks = (0..10_000).map(|_| check_port(free_port()?));
            let looked: io::Result<Vec<()>> = looks.collect();
            done.store(true, Ordering::Relaxed);
            looked.unwrap();
        });
    }
}
