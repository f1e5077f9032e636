//! One TLS session as a machine without I/O: ciphertext in, plaintext out, and the other way round.
//!
//! What is buffered is bounded: one received piece, one record and its plaintext, and what one call of
//! [`Session::write`] makes, which takes no more until that has been sent.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

/// Ciphertext received at once. One record has at most 16,384 bytes of plaintext.
const PIECE_BYTES: usize = 16 * 1024;

/// Plaintext encrypted at once: a full record.
const WRITE_BYTES: usize = 16 * 1024;

/// Pieces a thread keeps for whichever of its sessions receives next.
const SPARE_MAX: usize = 64;

thread_local! {
    /// A session holds a piece only while ciphertext is in it, so that idle ones hold none.
    static SPARE: RefCell<Vec<Box<[u8]>>> = RefCell::new(Vec::with_capacity(SPARE_MAX));
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes of plaintext, at least one.
    Bytes(usize),
    /// The peer has said that nothing follows.
    End,
    /// More ciphertext is needed.
    Nothing,
}

/// A session's state.
pub struct Session {
    connection: Connection,
    piece: Option<Box<[u8]>>,
    /// Ciphertext in `piece` that the connection has not taken.
    start: usize,
    end: usize,
    /// What the peer did wrong: nothing more comes of this session.
    offence: Option<rustls::Error>,
}

impl Session {
    /// The accepting side.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Session, rustls::Error> {
        ServerConnection::new(config).map(|connection| Session::new(connection.into()))
    }

    /// The connecting side; the peer must prove to be `name`.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, rustls::Error> {
        ClientConnection::new(config, name).map(|connection| Session::new(connection.into()))
    }

    fn new(connection: Connection) -> Session {
        Session {
            connection,
            piece: None,
            start: 0,
            end: 0,
            offence: None,
        }
    }

    /// Neither side can send plaintext yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The protocol that was agreed on, once the handshake is over.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The certificate the peer has proven to be its own, in DER; of a session that was resumed, that of the first one. `None` when
    /// it was asked for none.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let chain = self.connection.peer_certificates()?;
        chain.first().map(|certificate| &**certificate)
    }

    /// Lets `receive` fill room with ciphertext and say how many bytes that were; 0 is the end of the stream.
    ///
    /// # Errors
    /// What `receive` returns; nothing has happened then.
    ///
    /// # Panics
    /// When [`Session::read`] or [`Session::shake_hands`] has not taken all that was received before.
    pub fn receive<E>(&mut self, receive: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        assert!(self.start == self.end, "what was received is taken first");
        let mut piece = SPARE
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| vec![0; PIECE_BYTES].into_boxed_slice());
        let received = receive(&mut piece);
        match received {
            Ok(bytes @ 1..) => {
                (self.start, self.end) = (0, bytes);
                self.piece = Some(piece);
            }
            Ok(0) => {
                give_back(piece);
                // The connection remembers the end, and whether the peer had announced it.
                let _ = self.connection.read_tls(&mut io::empty());
            }
            Err(_) => give_back(piece),
        }
        received
    }

    /// Goes on with the handshake as far as what was received allows.
    ///
    /// # Errors
    /// `InvalidData`: the peer is refused, and what is left to send tells it why.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        while self.is_handshaking() && self.feed()? {}
        Ok(())
    }

    /// Whether received ciphertext lies here.
    #[cfg(test)]
    pub(super) fn holds_a_piece(&self) -> bool {
        self.piece.is_some()
    }

    /// Whether the handshake was a full one or resumed an earlier session; `None` until that is known.
    pub fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        self.connection.handshake_kind()
    }

    /// Takes plaintext into `buffer`, as much as is there.
    ///
    /// # Errors
    /// `InvalidData` when the peer breaks the protocol (what is left to send tells it so), `UnexpectedEof` when its
    /// stream ended without its word. Plaintext from before comes first.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Taken> {
        let mut filled = 0;
        while filled < buffer.len() {
            let end = match self.connection.reader().read(&mut buffer[filled..]) {
                Ok(0) => Ok(Taken::End),
                Ok(bytes) => {
                    filled += bytes;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.feed() {
                    Ok(true) => continue,
                    Ok(false) => Ok(Taken::Nothing),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            if filled == 0 {
                return end;
            }
            break;
        }
        Ok(Taken::Bytes(filled))
    }

    /// Encrypts some of `buffer`. Send what is there first: until then nothing is taken.
    ///
    /// # Errors
    /// None by a session whose handshake is over.
    pub fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.wants_send() {
            return Ok(0);
        }
        self.connection
            .writer()
            .write(&buffer[..buffer.len().min(WRITE_BYTES)])
    }

    /// Announces that nothing follows.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// Whether there is ciphertext to send.
    pub fn wants_send(&self) -> bool {
        self.connection.wants_write()
    }

    /// Writes ciphertext to `socket`, until that takes no more.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self, socket: &mut dyn io::Write) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Gives the connection some of what was received; false when nothing is left.
    fn feed(&mut self) -> io::Result<bool> {
        if let Some(offence) = &self.offence {
            return Err(super::failed(offence));
        }
        let Some(piece) = &self.piece else {
            return Ok(false);
        };
        let taken = self.connection.read_tls(&mut &piece[self.start..self.end])?;
        // It takes nothing after the peer's last word: what still comes is not looked at (RFC 8446 section 6.1).
        self.start = if taken == 0 { self.end } else { self.start + taken };
        if self.start == self.end {
            self.piece.take().into_iter().for_each(give_back);
        }
        // Told by the next call: plaintext from before it is the peer's all the same.
        self.offence = self.connection.process_new_packets().err();
        Ok(true)
    }
}

fn give_back(piece: Box<[u8]>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(piece);
        }
    });
}

impl Drop for Session {
    fn drop(&mut self) {
        self.piece.take().into_iter().for_each(give_back);
    }
}
