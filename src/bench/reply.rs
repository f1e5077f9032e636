//! Reads HTTP replies off a connection, and judges them.

/// A whole reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// HTTP status.
    pub status: u16,
    /// Its body.
    pub body: &'a [u8],
    /// Bytes it took on the wire.
    pub bytes: usize,
}

/// What comes is no reply with a Content-Length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAReply;

/// Reads one reply from the start of `bytes`; `None` when more of it must be received.
///
/// # Errors
/// See [`NotAReply`].
pub fn read(bytes: &[u8]) -> Result<Option<Reply<'_>>, NotAReply> {
    let mut headers = [httparse::EMPTY_HEADER; 24];
    let mut head = httparse::Response::new(&mut headers);
    let end = match head.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(NotAReply),
    };
    let length: usize = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
        .ok_or(NotAReply)?;
    Ok(bytes.get(end..end + length).map(|body| Reply {
        status: head.code.unwrap_or(0),
        body,
        bytes: end + length,
    }))
}

/// Reads to the end of a reply that ClickHouse gives, which ends by its length or by its chunks; `None` when more of it
/// must be received. Its status, and whether the connection stays open.
///
/// # Errors
/// See [`NotAReply`].
pub fn read_to_end(bytes: &[u8]) -> Result<Option<(u16, bool)>, NotAReply> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let end = match head.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(NotAReply),
    };
    let header = |name: &str| {
        let mut headers = head.headers.iter();
        let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let is_whole = match header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => bytes.len() >= end + length,
        None if header("transfer-encoding").is_some() => bytes[end..].ends_with(b"0\r\n\r\n"),
        None => return Err(NotAReply),
    };
    let is_kept = !header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(is_whole.then_some((head.code.unwrap_or(0), is_kept)))
}

/// What a reply means for the rows of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All of them are taken, at the level that was asked for.
    Taken,
    /// None of them is: the server is full, and they may be sent again.
    Refused,
    /// Anything else; what was said.
    Wrong(String),
}

/// What replies must look like.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Status of success.
    pub status: u16,
    /// Body of success.
    pub body: ExpectedBody,
}

/// What the body of success is.
#[derive(Debug, Clone)]
pub enum ExpectedBody {
    /// It begins so.
    Begins(String),
    /// No bytes.
    Empty,
}

impl ExpectedBody {
    fn is(&self, body: &[u8]) -> bool {
        match self {
            ExpectedBody::Begins(beginning) => body.starts_with(beginning.as_bytes()),
            ExpectedBody::Empty => body.is_empty(),
        }
    }

    /// Whether a body is that of a refusal in the same protocol.
    fn refuses(&self, body: &[u8]) -> bool {
        match self {
            ExpectedBody::Begins(_) => body.starts_with(b"{\"error\":"),
            // google.rpc.Status: field 1, its code.
            ExpectedBody::Empty => body.starts_with(b"\x08"),
        }
    }
}

impl Expected {
    /// Judges a reply.
    pub fn judge(&self, reply: &Reply<'_>) -> Verdict {
        if reply.status == self.status && self.body.is(reply.body) {
            return Verdict::Taken;
        }
        let text = String::from_utf8_lossy(reply.body);
        // A 503 also answers a request whose rows are held but late: those may not be sent again.
        if reply.status == 503 && self.body.refuses(reply.body) && !text.contains("may still be inserted") {
            return Verdict::Refused;
        }
        let shown: String = text.trim_end().chars().take(300).collect();
        Verdict::Wrong(format!("{} {shown}", reply.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &[u8] =
        b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 16\r\n\r\n{\"accepted\":12,}HTTP/1.1 202";

    #[test]
    fn reads_a_reply_once_it_is_whole() {
        let whole = REPLY.len() - "HTTP/1.1 202".len();
        for length in 0..whole {
            assert_eq!(read(&REPLY[..length]), Ok(None), "{length}");
        }
        let reply = read(REPLY).unwrap().unwrap();
        assert_eq!((reply.status, reply.bytes), (200, whole));
        assert_eq!(reply.body, b"{\"accepted\":12,}");
        assert_eq!(read(b"SSH-2.0"), Err(NotAReply));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n"), Err(NotAReply));
    }

    #[test]
    fn a_reply_ends_by_its_length_or_its_chunks() {
        let read = |text: &str| read_to_end(text.as_bytes());
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Le"), Ok(None));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1"), Ok(None));
        assert_eq!(
            read("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n12"),
            Ok(Some((202, true)))
        );
        let chunked = "HTTP/1.1 200 OK\r\nConnection: Close\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(chunked), Ok(None));
        assert_eq!(read(&format!("{chunked}0\r\n\r\n")), Ok(Some((200, false))));
        assert_eq!(
            read("HTTP/1.1 500 Error\r\nContent-Length: 2\r\n\r\nno"),
            Ok(Some((500, true)))
        );
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n"), Err(NotAReply));
    }

    #[test]
    fn takes_only_the_promise_it_asked_for() {
        let expected = Expected {
            status: 200,
            body: ExpectedBody::Begins("{\"accepted\":2,\"rejected\":0,\"ack\":\"wal\"".into()),
        };
        let judge = |status, body: &str| {
            expected.judge(&Reply {
                status,
                body: body.as_bytes(),
                bytes: 0,
            })
        };
        let good = "{\"accepted\":2,\"rejected\":0,\"ack\":\"wal\",\"errors\":[]}";
        assert_eq!(judge(200, good), Verdict::Taken);
        assert_eq!(judge(503, "{\"error\":\"full\"}"), Verdict::Refused);
        for (status, body) in [
            (202, good),
            (200, "{\"accepted\":1,\"rejected\":1,\"ack\":\"wal\"}"),
            (200, "{\"accepted\":20,\"rejected\":0,\"ack\":\"wal\"}"),
            (404, "{\"error\":\"no such table\"}"),
            (
                503,
                "{\"error\":\"the rows are held, but late; they may still be inserted\"}",
            ),
            (503, "{\"accepted\":1,\"rejected\":0,\"ack\":\"wal\"}"),
        ] {
            assert!(
                matches!(judge(status, body), Verdict::Wrong(_)),
                "{status} {body}"
            );
        }
    }
}
