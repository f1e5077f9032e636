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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::frame::put_plain_frame;

    const LOGIN: Login<'_> = Login {
        user: "default",
        password: "",
        database: "default",
    };
    const QUERY: Query<'_> = Query {
        id: "",
        text: "INSERT INTO t (a) VALUES",
        settings: &[],
    };

    const HELLO: &[u8] = b"\0\x0aClickHouse\x1a\x07\xd8\xa9\x03\x07Etc/UTC\x02vm\x02";
    const HELLO_OLDEST: &[u8] = b"\0\x0aClickHouse\x12\x10\x8c\xa9\x03\x07Etc/UTC\x02vm\x01";
    const TABLE_COLUMNS: &[u8] = b"\x0b\0\x01x";
    const PROGRESS: &[u8] = b"\x03\x01\x02\0\x01\x02";
    const EXCEPTION: &[u8] = b"\x02\x3c\0\0\0\x01N\x01m\0\0";
    const PONG: &[u8] = b"\x04";
    const END_OF_STREAM: &[u8] = b"\x05";

    #[test]
    fn goes_through_two_inserts_and_a_ping() {
        let mut session = idle();
        for _ in 0..2 {
            let mut out = Vec::new();
            session.begin_insert(&mut out, &QUERY);
            assert!(matches!(
                feed_all(&mut session, &[TABLE_COLUMNS, &sample()])[..],
                [Event::Ready(_)]
            ));
            assert!(!session.data_sent());
            session.put_data_header(&mut out);
            assert!(session.data_sent());
            assert!(matches!(
                feed_all(&mut session, &[PROGRESS])[..],
                [Event::Progress(_)]
            ));
            session.put_data_header(&mut out);
            session.end_insert(&mut out);
            let events = feed_all(&mut session, &[PROGRESS, END_OF_STREAM]);
            assert!(matches!(events[..], [Event::Progress(_), Event::Finished]));
            assert!(!session.data_sent());
        }
        session.ping(&mut Vec::new());
        assert_eq!(feed_all(&mut session, &[PONG]), [Event::Pong]);
        assert_eq!(session.phase(), Phase::Idle);
    }

    #[test]
    fn gives_the_same_events_however_the_bytes_are_cut() {
        let bytes = [TABLE_COLUMNS, &sample(), PROGRESS, PROGRESS].concat();
        let run = |cut: usize| {
            let mut session = idle();
            session.begin_insert(&mut Vec::new(), &QUERY);
            let (mut events, mut received) = (Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                received.extend_from_slice(part);
                loop {
                    let (consumed, event) = session.feed(&received).expect("correct packets");
                    received.drain(..consumed);
                    let Some(event) = event else { break };
                    events.push(event);
                }
            }
            assert!(received.is_empty(), "cut at {cut}");
            events
        };
        let whole = run(0);
        assert_eq!(whole.len(), 3);
        for cut in 1..=bytes.len() {
            assert_eq!(run(cut), whole, "cut at {cut}");
        }
    }

    #[test]
    fn speaks_the_smaller_of_both_revisions() {
        assert_eq!(idle().revision(), CLIENT_REVISION);
        let mut session = Session::new();
        session.begin_hello(&mut Vec::new(), &LOGIN);
        assert!(matches!(
            feed_all(&mut session, &[HELLO_OLDEST])[..],
            [Event::Connected(_)]
        ));
        assert_eq!(session.revision(), 54412);
    }

    #[test]
    fn an_exception_before_data_leaves_the_session_idle() {
        let mut session = idle();
        session.begin_insert(&mut Vec::new(), &QUERY);
        assert!(matches!(
            feed_all(&mut session, &[EXCEPTION])[..],
            [Event::Exception(_)]
        ));
        assert_eq!((session.phase(), session.data_sent()), (Phase::Idle, false));
    }

    #[test]
    fn an_exception_after_data_closes_the_session_and_leaves_the_outcome_open() {
        for ended in [false, true] {
            let mut session = ready();
            session.put_data_header(&mut Vec::new());
            if ended {
                session.end_insert(&mut Vec::new());
            }
            assert!(matches!(
                feed_all(&mut session, &[EXCEPTION])[..],
                [Event::Exception(_)]
            ));
            assert_eq!((session.phase(), session.data_sent()), (Phase::Closed, true));
        }
    }

    #[test]
    fn a_refused_login_closes_the_session() {
        let mut session = Session::new();
        session.begin_hello(&mut Vec::new(), &LOGIN);
        assert!(matches!(
            feed_all(&mut session, &[EXCEPTION])[..],
            [Event::Exception(_)]
        ));
        assert_eq!(session.phase(), Phase::Closed);
    }

    #[test]
    fn a_packet_out_of_place_is_an_error_and_closes_the_session() {
        let sample = sample();
        type Begin = fn() -> Session;
        let out_of_place: [(Begin, &[u8]); 7] = [
            (idle, HELLO),
            (idle, PROGRESS),
            (idle, END_OF_STREAM),
            (ready, &sample),
            (ready, END_OF_STREAM),
            (ready, PONG),
            (Session::new, HELLO),
        ];
        for (session, packet) in out_of_place {
            let mut session = session();
            let phase = session.phase();
            let error = session.feed(packet).expect_err("out of place");
            assert!(
                matches!(error, ProtocolError::UnexpectedPacket { phase: p, .. } if p == phase),
                "{error}"
            );
            assert_eq!(session.phase(), Phase::Closed);
        }
    }

    #[test]
    fn a_packet_that_never_ends_is_an_error() {
        let mut session = idle();
        session.begin_insert(&mut Vec::new(), &QUERY);
        // Log lines of 1 MiB each, more of them than the limit.
        let mut log = b"\x0a\0\0\x01\xff\x7f\x01c\x06String".to_vec();
        while log.len() <= PACKET_BYTES_MAX {
            crate::clickhouse::wire::put_string(&mut log, vec![b'x'; 1 << 20]);
        }
        assert_eq!(session.feed(&log), Err(ProtocolError::PacketTooLong));
    }

    #[test]
    #[should_panic(expected = "called in phase Idle")]
    fn data_without_an_insert_is_a_mistake_of_the_driver() {
        idle().put_data_header(&mut Vec::new());
    }

    #[test]
    fn a_cancelled_session_is_closed() {
        let mut session = ready();
        let mut out = Vec::new();
        session.cancel(&mut out);
        assert_eq!((out.as_slice(), session.phase()), (&[3][..], Phase::Closed));
    }

    fn idle() -> Session {
        let mut session = Session::new();
        session.begin_hello(&mut Vec::new(), &LOGIN);
        assert!(matches!(
            feed_all(&mut session, &[HELLO])[..],
            [Event::Connected(_)]
        ));
        assert_eq!(session.phase(), Phase::Idle);
        session
    }

    fn ready() -> Session {
        let mut session = idle();
        session.begin_insert(&mut Vec::new(), &QUERY);
        assert!(matches!(
            feed_all(&mut session, &[&sample()])[..],
            [Event::Ready(_)]
        ));
        session
    }

    /// A data packet: one column `a` of type String, no rows.
    fn sample() -> Vec<u8> {
        let mut bytes = b"\x01\0".to_vec();
        put_plain_frame(b"\0\x01\0\x01a\x06String", &mut bytes);
        bytes
    }

    fn feed_all(session: &mut Session, packets: &[&[u8]]) -> Vec<Event> {
        let bytes = packets.concat();
        let (mut at, mut events) = (0, Vec::new());
        while let (consumed, Some(event)) = session.feed(&bytes[at..]).expect("correct packets") {
            at += consumed;
            events.push(event);
            if at == bytes.len() {
                break;
            }
        }
        events
    }
}
