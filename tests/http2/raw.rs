//! HTTP/2 frames by hand, for clients that no library would be.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use crate::common::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a GOAWAY or of a RST_STREAM.
    pub fn code(&self) -> u32 {
        let at = self.payload.len().min(if self.kind == GOAWAY { 4 } else { 0 });
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header field, literal and without indexing. RFC 7541 section 6.2.2.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        match text.len() {
            length @ 0..127 => field.push(length as u8),
            length => {
                field.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    field.push(rest as u8 | 128);
                    rest >>= 7;
                }
                field.push(rest as u8);
            }
        }
        field.extend_from_slice(text.as_bytes());
    }
    field
}

/// The header block of a request.
pub fn block(method: &str, path: &str) -> Vec<u8> {
    [
        field(":method", method),
        field(":scheme", "http"),
        field(":authority", "a"),
        field(":path", path),
    ]
    .concat()
}

pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// A connection whose preface and these SETTINGS are sent.
    pub fn connect(port: u16, settings: &[(u16, u32)]) -> Raw {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Raw { stream };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(key, value)| [&key.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        raw
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server reads what is sent");
    }

    /// The next frame; `None` at the end of the connection, however it came.
    pub fn next(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.read_exact(&mut header)?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.read_exact(&mut payload)?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the server says nothing"),
            Err(_) => None,
        }
    }

    /// The next frame of a kind, others passed over; `None` at the end.
    pub fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}
