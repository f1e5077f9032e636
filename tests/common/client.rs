//! A client that keeps its connection: requests in any shape out, replies in order back.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use super::{PATIENCE, Reply, parse_reply};

/// One connection to 127.0.0.1.
pub struct Client {
    stream: TcpStream,
    /// Received and not given out as a reply yet.
    unread: Vec<u8>,
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            unread: Vec::new(),
        }
    }
}

impl Client {
    pub fn connect(port: u16) -> Client {
        let stream =
            TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client::from(stream)
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server reads what is sent");
    }

    /// Tells the server that nothing more comes.
    pub fn finish(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// The next reply. An interim one (100) counts as a reply.
    pub fn try_reply(&mut self) -> io::Result<Reply> {
        self.reply_with(true)
    }

    pub fn reply(&mut self) -> Reply {
        self.try_reply().expect("a whole reply")
    }

    /// The next reply when it answers HEAD: without the body its Content-Length speaks of.
    pub fn reply_to_head(&mut self) -> Reply {
        self.reply_with(false).expect("a whole reply")
    }

    fn reply_with(&mut self, has_body: bool) -> io::Result<Reply> {
        let head_end = loop {
            match self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.receive()?,
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..head_end]).into_owned();
        let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        if status == 100 {
            self.unread.drain(..head_end);
            return Ok(Reply {
                status,
                head,
                body: String::new(),
            });
        }
        let length = header(&head, "content-length").and_then(|value| value.parse().ok());
        let end = head_end + if has_body { length.unwrap_or(0) } else { 0 };
        while self.unread.len() < end {
            self.receive()?;
        }
        let bytes: Vec<u8> = self.unread.drain(..end).collect();
        parse_reply(&bytes)
    }

    /// Whether the server has ended the connection with nothing more to read.
    pub fn is_at_end(&mut self) -> bool {
        self.unread.is_empty()
            && self
                .receive()
                .is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof)
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut piece = [0; 16_384];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.unread.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }
}

/// The value of a header of a reply; `name` in lower case.
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A POST with a Content-Length.
pub fn post(target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = head(target, headers);
    request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    request.extend_from_slice(body);
    request
}

/// A POST in chunks of the sizes that `sizes` gives.
pub fn post_chunked(
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    mut sizes: impl FnMut() -> usize,
) -> Vec<u8> {
    let mut request = head(target, headers);
    request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(sizes().clamp(1, rest.len()));
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
        rest = after;
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

fn head(target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("POST {target} HTTP/1.1\r\nHost: ringhouse\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.into_bytes()
}
