//! The client side of one native-protocol connection, without its socket.
//!
//! The driver owns the socket and its buffers. It sends what the session appends to `out`, feeds what it
//! receives, and acts on the events:
//!
//! ```text
//! begin_hello ─→ Connected ─→ begin_insert ─→ Ready ─→ put_data_header + frames, any number of times
//!                   ↑                                        │
//!                   └────────── Finished ←── end_insert ←────┘
//! ```
//!
//! An [`Event::Exception`] may come at any time. Before data were sent it ends the query and the session
//! is idle again; afterwards the session is closed: the server may or may not have read the rest of the
//! data, and connecting anew costs less than finding out.
//!
//! Calls in the wrong order are the driver's mistake and panic. Whatever the server sends is an event
//! or a [`ProtocolError`], never a panic.

use super::error::{Exception, ProtocolError};
use super::packet::{
    self, BlockHead, CLIENT_REVISION, Login, Packet, Progress, Query, ServerHello, decode_packet,
};
use super::wire::Decoded;

/// Most unread bytes of one packet. The largest is the sample block of a table of thousands of columns.
pub const PACKET_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where a session stands, and so what may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing sent: `begin_hello`.
    New,
    /// Waits for the server's hello.
    AwaitHello,
    /// No query runs: `begin_insert`, `ping`.
    Idle,
    /// Waits for the sample block.
    AwaitSample,
    /// The server takes data: `put_data_header`, `end_insert`.
    Ready,
    /// All data sent; waits for the outcome.
    AwaitOutcome,
    /// Waits for the answer to a ping.
    AwaitPong,
    /// Of no more use; connect anew.
    Closed,
}

/// What the server's packets amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Logged in; the session is idle.
    Connected(ServerHello),
    /// The server takes the INSERT and expects blocks of these columns.
    Ready(BlockHead),
    /// The server is alive and this far on.
    Progress(Progress),
    /// The INSERT is confirmed; the session is idle.
    Finished,
    /// The login or the query failed. The session is idle or closed, as its phase tells.
    Exception(Exception),
    /// The ping was answered; the session is idle.
    Pong,
}

/// State of one connection.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    /// Negotiated: the smaller of both sides'.
    revision: u64,
    data_sent: bool,
    /// Decompressed sample block.
    scratch: Vec<u8>,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// A session for a connection on which nothing was sent yet.
    pub fn new() -> Self {
        Session {
            phase: Phase::New,
            revision: CLIENT_REVISION,
            data_sent: false,
            scratch: Vec::new(),
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The negotiated protocol revision; ours until the server has named its own.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Data of the last INSERT were handed out. If it did not finish, its outcome is unknown: it may be
    /// in the table, in whole or in part, and must be repeated with the same token and the same blocks.
    pub fn data_sent(&self) -> bool {
        self.data_sent
    }

    /// Appends the hello. Answered by `Connected` or `Exception`.
    pub fn begin_hello(&mut self, out: &mut Vec<u8>, login: &Login<'_>) {
        self.step(&[Phase::New], Phase::AwaitHello);
        packet::put_hello(out, login);
    }

    /// Appends an INSERT without its data. Answered by `Ready` or `Exception`.
    ///
    /// The text names the format, as in ``INSERT INTO `db`.`table` (`a`, `b`) FORMAT Native``.
    pub fn begin_insert(&mut self, out: &mut Vec<u8>, query: &Query<'_>) {
        self.step(&[Phase::Idle], Phase::AwaitSample);
        self.data_sent = false;
        packet::put_query(out, self.revision, query);
    }

    /// Appends what precedes a block's frames; the driver sends the frames right after it.
    pub fn put_data_header(&mut self, out: &mut Vec<u8>) {
        self.step(&[Phase::Ready], Phase::Ready);
        self.data_sent = true;
        packet::put_data_header(out);
    }

    /// Appends the end of the data. Answered by `Finished` or `Exception`, perhaps after `Progress`.
    pub fn end_insert(&mut self, out: &mut Vec<u8>) {
        self.step(&[Phase::Ready], Phase::AwaitOutcome);
        packet::put_empty_block(out);
    }

    /// Appends a ping. Answered by `Pong`.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        self.step(&[Phase::Idle], Phase::AwaitPong);
        packet::put_ping(out);
    }

    /// Appends a request to stop the running query and closes the session: what the server still
    /// sends tells nothing, for it stops where it happens to be.
    pub fn cancel(&mut self, out: &mut Vec<u8>) {
        self.step(
            &[Phase::AwaitSample, Phase::Ready, Phase::AwaitOutcome],
            Phase::Closed,
        );
        packet::put_cancel(out);
    }

    /// Takes received bytes up to the next event. Gives the number of bytes taken and the event; without
    /// an event, all complete packets were taken and the rest must be fed again with more behind it.
    ///
    /// An error closes the session.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), ProtocolError> {
        let mut consumed = 0;
        let result = loop {
            let rest = &bytes[consumed..];
            match decode_packet(rest, self.revision, &mut self.scratch) {
                Ok(Decoded::Complete(packet, size)) => {
                    consumed += size;
                    match self.take(packet) {
                        Ok(None) => {}
                        Ok(event) => break Ok((consumed, event)),
                        Err(error) => break Err(error),
                    }
                }
                Ok(Decoded::Partial) if rest.len() > PACKET_BYTES_MAX => {
                    break Err(ProtocolError::PacketTooLong);
                }
                Ok(Decoded::Partial) => break Ok((consumed, None)),
                Err(error) => break Err(error),
            }
        };
        if result.is_err() {
            self.phase = Phase::Closed;
        }
        result
    }

    /// Checks that the phase is one of `from`, and goes on to `to`.
    fn step(&mut self, from: &[Phase], to: Phase) {
        assert!(
            from.contains(&self.phase),
            "called in phase {:?}, not one of {from:?}",
            self.phase
        );
        self.phase = to;
    }

    fn take(&mut self, packet: Packet) -> Result<Option<Event>, ProtocolError> {
        let (next, event) = match (self.phase, packet) {
            (Phase::AwaitHello, Packet::Hello(hello)) => {
                self.revision = hello.revision.min(CLIENT_REVISION);
                (Phase::Idle, Event::Connected(hello))
            }
            (Phase::AwaitSample, Packet::Data(head)) if head.rows == 0 => (Phase::Ready, Event::Ready(head)),
            (Phase::AwaitOutcome, Packet::EndOfStream) => {
                self.data_sent = false;
                (Phase::Idle, Event::Finished)
            }
            (Phase::AwaitPong, Packet::Pong) => (Phase::Idle, Event::Pong),
            (Phase::AwaitSample, Packet::Exception(exception)) => (Phase::Idle, Event::Exception(exception)),
            (_, Packet::Exception(exception)) => (Phase::Closed, Event::Exception(exception)),
            (phase @ (Phase::AwaitSample | Phase::Ready | Phase::AwaitOutcome), packet) => match packet {
                Packet::Progress(progress) => (phase, Event::Progress(progress)),
                Packet::Skipped => return Ok(None),
                packet => return Err(unexpected(phase, &packet)),
            },
            (phase, packet) => return Err(unexpected(phase, &packet)),
        };
        self.phase = next;
        Ok(Some(event))
    }
}

fn unexpected(phase: Phase, packet: &Packet) -> ProtocolError {
    let packet = match packet {
        Packet::Hello(_) => "Hello",
        Packet::Data(_) => "Data",
        Packet::Exception(_) => "Exception",
        Packet::Progress(_) => "Progress",
        Packet::Pong => "Pong",
        Packet::EndOfStream => "EndOfStream",
        Packet::Skipped => "Log, ProfileInfo, TableColumns, Totals or Extremes",
    };
    ProtocolError::UnexpectedPacket { packet, phase }
}
