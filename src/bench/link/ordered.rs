//! A connection whose requests are answered in their order, or not at all: HTTP/1.1, Fluent Forward, bytes on end.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll::EventFlags;

use super::outgoing::Outgoing;
use super::{Flight, Settled, broken, connect};
use crate::bench::id::RunId;
use crate::bench::reply::{self, Expected, NotAReply, Verdict};
use crate::forward::put_ack;

/// What is answered.
pub(super) enum Replies {
    /// As HTTP/1.1 does.
    Http(Expected),
    /// The chunk of each message, which is the id behind its rows'.
    Acks {
        /// Whose ids they are.
        run: RunId,
        /// Rows of a message.
        rows: u64,
    },
    /// Nothing.
    None,
}

/// One reply at the start of what was received.
struct Answer {
    verdict: Verdict,
    bytes: usize,
    /// The server takes nothing more on this connection.
    is_last: bool,
}

impl Replies {
    /// The reply to `flight` at the start of `bytes`; `None` while it is not whole.
    fn read(&self, flight: &Flight, bytes: &[u8]) -> Result<Option<Answer>, NotAReply> {
        match self {
            Replies::Http(expected) => Ok(reply::read(bytes)?.map(|reply| Answer {
                verdict: expected.judge(&reply),
                bytes: reply.bytes,
                is_last: !reply.is_kept,
            })),
            Replies::Acks { run, rows } => {
                let mut ack = Vec::new();
                put_ack(run.id(flight.first + rows).as_bytes(), &mut ack);
                let known = bytes.len().min(ack.len());
                if bytes[..known] != ack[..known] {
                    return Err(NotAReply);
                }
                Ok((known == ack.len()).then_some(Answer {
                    verdict: Verdict::Taken,
                    bytes: known,
                    is_last: false,
                }))
            }
            Replies::None => Err(NotAReply),
        }
    }
}

/// Such a connection.
pub struct Ordered {
    out: Outgoing,
    address: SocketAddr,
    replies: Replies,
    /// In the order of their replies.
    flights: VecDeque<Flight>,
    /// The beginning of a reply.
    received: Vec<u8>,
    was_opened_anew: bool,
}

impl Ordered {
    pub(super) fn new(stream: TcpStream, address: SocketAddr, replies: Replies) -> Ordered {
        Ordered {
            out: Outgoing::new(stream),
            address,
            replies,
            flights: VecDeque::new(),
            received: Vec::new(),
            was_opened_anew: false,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn waits_to_write(&self) -> bool {
        self.out.is_waiting()
    }

    pub(super) fn was_opened_anew(&mut self) -> bool {
        std::mem::take(&mut self.was_opened_anew)
    }

    pub(super) fn send(
        &mut self,
        flight: Flight,
        request: &[u8],
        settled: &mut Settled,
    ) -> Result<(), String> {
        self.flights.push_back(flight);
        let sent = self.out.send(request);
        self.note_written(sent, settled)
    }

    pub(super) fn serve(
        &mut self,
        flags: EventFlags,
        scratch: &mut [u8],
        settled: &mut Settled,
    ) -> Result<(), String> {
        if flags.contains(EventFlags::OUT) && self.out.is_waiting() {
            let flushed = self.out.flush();
            self.note_written(flushed, settled)?;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.receive(scratch, settled)?;
        }
        Ok(())
    }

    fn note_written(&mut self, written: std::io::Result<()>, settled: &mut Settled) -> Result<(), String> {
        let is_answered = !matches!(self.replies, Replies::None);
        match written {
            Ok(()) if is_answered || self.out.is_waiting() => Ok(()),
            Ok(()) => {
                settled.extend(self.flights.drain(..).map(|flight| (flight, Verdict::Taken)));
                Ok(())
            }
            // Why the server takes no more may be in its last reply, which is still to be read.
            Err(error)
                if is_answered
                    && matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                self.out.forget();
                Ok(())
            }
            Err(error) => Err(broken(error)),
        }
    }

    /// Reads once; whatever is left makes the socket ready again.
    fn receive(&mut self, scratch: &mut [u8], settled: &mut Settled) -> Result<(), String> {
        let count = match self.out.stream.read(scratch) {
            Ok(0) => return Err(broken(ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(broken(error)),
        };
        let mut received = std::mem::take(&mut self.received);
        if received.is_empty() {
            let used = self.take_replies(&scratch[..count], settled)?;
            received.extend_from_slice(&scratch[used..count]);
        } else {
            received.extend_from_slice(&scratch[..count]);
            let used = self.take_replies(&received, settled)?;
            received.drain(..used);
        }
        self.received = received;
        Ok(())
    }

    /// Takes the whole replies from the start of `bytes`; returns their length, or that of all when the last one of the
    /// connection is among them.
    fn take_replies(&mut self, bytes: &[u8], settled: &mut Settled) -> Result<usize, String> {
        let no_reply = |NotAReply| "what the server sends is no reply of its protocol".to_owned();
        let mut used = 0;
        while used < bytes.len() {
            let flight = self.flights.front().ok_or(NotAReply).map_err(no_reply)?;
            let Some(answer) = self.replies.read(flight, &bytes[used..]).map_err(no_reply)? else {
                break;
            };
            used += answer.bytes;
            settled.push((*flight, answer.verdict));
            self.flights.pop_front();
            if answer.is_last {
                self.open_anew(settled)?;
                return Ok(bytes.len());
            }
        }
        Ok(used)
    }

    /// Goes on with another connection. What was sent behind the last request that was answered was not looked at
    /// (RFC 9112 section 9.6).
    fn open_anew(&mut self, settled: &mut Settled) -> Result<(), String> {
        settled.extend(self.flights.drain(..).map(|flight| (flight, Verdict::Refused)));
        let stream = connect(self.address)
            .map_err(|error| format!("the server ended a connection, and takes no other: {error}"))?;
        self.out = Outgoing::new(stream);
        self.was_opened_anew = true;
        Ok(())
    }
}

impl AsFd for Ordered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.out.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    fn flight(first: u64) -> Flight {
        Flight {
            due_ns: 0,
            first,
            body_bytes: 1,
            wire_bytes: 1,
            refusals: 0,
        }
    }

    /// A link, and the server's end of its connection.
    fn pair(listener: &TcpListener, replies: Replies) -> (Ordered, TcpStream) {
        let address = listener.local_addr().unwrap();
        let link = Ordered::new(connect(address).unwrap(), address, replies);
        (link, listener.accept().unwrap().0)
    }

    /// Serves the link until something was settled.
    fn wait(link: &mut Ordered) -> Result<Settled, String> {
        let (mut scratch, mut settled) = ([0; 4096], Settled::new());
        while settled.is_empty() {
            let mut ready = [rustix::event::PollFd::new(
                &link.out.stream,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut ready, None).unwrap();
            link.receive(&mut scratch, &mut settled)?;
        }
        Ok(settled)
    }

    #[test]
    fn repeats_on_another_connection_what_the_last_reply_of_one_left_unread() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut link, mut server) = pair(&listener, Replies::Http(Expected::beginning(200, "")));
        for first in [0, 5] {
            link.send(flight(first), b"x", &mut Settled::new()).unwrap();
        }
        let reply = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 10\r\n\r\n{\"error\":1";
        server.write_all(reply).unwrap();
        drop(server);
        let settled = wait(&mut link).unwrap();
        assert_eq!(
            settled,
            [(flight(0), Verdict::Refused), (flight(5), Verdict::Refused)]
        );
        assert!(link.was_opened_anew() && !link.was_opened_anew());
        let mut server = listener.accept().unwrap().0;
        link.send(flight(0), b"y", &mut Settled::new()).unwrap();
        server
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        assert_eq!(wait(&mut link).unwrap(), [(flight(0), Verdict::Taken)]);
    }

    #[test]
    fn a_connection_that_ends_without_a_last_reply_is_broken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut link, server) = pair(&listener, Replies::Http(Expected::beginning(200, "")));
        link.send(flight(0), b"x", &mut Settled::new()).unwrap();
        drop(server);
        assert!(wait(&mut link).unwrap_err().contains("broke"));
    }

    #[test]
    fn takes_the_ack_of_its_own_chunk_and_no_other() {
        let (run, other) = (RunId::random(), RunId::random());
        let replies = Replies::Acks {
            run: run.clone(),
            rows: 3,
        };
        let mut ack = Vec::new();
        put_ack(run.id(10).as_bytes(), &mut ack);
        for len in 0..ack.len() {
            assert!(replies.read(&flight(7), &ack[..len]).unwrap().is_none(), "{len}");
        }
        let answer = replies.read(&flight(7), &ack).unwrap().unwrap();
        assert_eq!((answer.verdict, answer.bytes), (Verdict::Taken, ack.len()));
        assert!(replies.read(&flight(8), &ack).is_err());
        ack.clear();
        put_ack(other.id(10).as_bytes(), &mut ack);
        assert!(replies.read(&flight(7), &ack).is_err());
    }

    #[test]
    fn without_replies_a_request_is_done_with_once_the_socket_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut link, mut server) = pair(&listener, Replies::None);
        // More than the buffers of both sockets hold.
        let large = vec![b'x'; 32 << 20];
        let mut settled = Settled::new();
        link.send(flight(0), &large, &mut settled).unwrap();
        assert!(settled.is_empty() && link.waits_to_write());
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; large.len()];
            server.read_exact(&mut bytes).map(|()| bytes == large)
        });
        while settled.is_empty() {
            link.serve(EventFlags::OUT, &mut [], &mut settled).unwrap();
        }
        assert_eq!(settled, [(flight(0), Verdict::Taken)]);
        assert!(reading.join().unwrap().unwrap());
    }
}
