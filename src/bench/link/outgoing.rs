//! A socket that does not block, and what it has not taken yet.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;

/// The sending side of a connection.
pub(super) struct Outgoing {
    pub(super) stream: TcpStream,
    /// What the socket did not take, from `written` on.
    unsent: Vec<u8>,
    written: usize,
}

impl Outgoing {
    pub(super) fn new(stream: TcpStream) -> Outgoing {
        Outgoing {
            stream,
            unsent: Vec::new(),
            written: 0,
        }
    }

    /// Whether anything was not taken yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Gives up what was not taken.
    pub(super) fn forget(&mut self) {
        self.unsent.clear();
        self.written = 0;
    }

    /// Sends `bytes` behind what waits. Mostly all of it goes, and nothing is copied.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = match self.is_waiting() {
            true => 0,
            false => write(&mut self.stream, bytes)?,
        };
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.written += write(&mut self.stream, &self.unsent[self.written..])?;
        if self.written == self.unsent.len() {
            self.forget();
        }
        Ok(())
    }
}

/// Writes as much as the socket takes.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
