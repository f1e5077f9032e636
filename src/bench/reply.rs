//! Reads HTTP replies off a connection, and judges them.

/// A whole reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// HTTP status.
    pub status: u16,
    /// Its body; one in chunks as it came, their sizes included.
    pub body: &'a [u8],
    /// Bytes it took on the wire.
    pub bytes: usize,
    /// The connection stays open.
    pub is_kept: bool,
}

/// What comes is no reply whose end can be told.
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
    let header = |name: &str| {
        let mut headers = head.headers.iter();
        headers.find(|header| header.name.eq_ignore_ascii_case(name))
    };
    let is_closing = |header: &httparse::Header<'_>| header.value.eq_ignore_ascii_case(b"close");
    let is_kept = !header("connection").is_some_and(is_closing);
    let length = match header("content-length") {
        Some(length) => std::str::from_utf8(length.value)
            .ok()
            .and_then(|text| text.parse().ok()),
        None if header("transfer-encoding").is_some() => match chunks_bytes(&bytes[end..])? {
            Some(length) => Some(length),
            None => return Ok(None),
        },
        // RFC 9110 section 6.4.1: it has no body.
        None if head.code == Some(204) => Some(0),
        None => None,
    };
    let length: usize = length.ok_or(NotAReply)?;
    Ok(bytes.get(end..end + length).map(|body| Reply {
        status: head.code.unwrap_or(0),
        body,
        bytes: end + length,
        is_kept,
    }))
}

/// Length of all chunks and the end of the body, which is to have no trailers (RFC 9112, 7.1); `None` when more must be
/// received.
fn chunks_bytes(bytes: &[u8]) -> Result<Option<usize>, NotAReply> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(chunk)) => chunk,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(NotAReply),
        };
        // Each chunk ends with a line's end, the last one has nothing but that.
        at += start + size as usize + 2;
        if size == 0 {
            return Ok((at <= bytes.len()).then_some(at));
        }
    }
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
    /// No bytes; of a failure a sentence.
    EmptyOrText,
}

impl ExpectedBody {
    fn is(&self, body: &[u8]) -> bool {
        match self {
            ExpectedBody::Begins(beginning) => body.starts_with(beginning.as_bytes()),
            ExpectedBody::Empty | ExpectedBody::EmptyOrText => body.is_empty(),
        }
    }

    /// Whether a body is that of a refusal in the same protocol.
    fn refuses(&self, body: &[u8]) -> bool {
        match self {
            // Of several protocols, none of which begins success so.
            ExpectedBody::Begins(_) => {
                let begins = |beginning: &&[u8]| body.starts_with(beginning);
                let refusals = [
                    &b"{\"error\":"[..],
                    b"{\"errors\":[",
                    b"{\"text\":\"Server is busy\"",
                    b"{\"received\":0,",
                    b"{\"success\":false,",
                ];
                // What the LogEntry API says when it took some of them.
                refusals.iter().any(begins) && !begins(&&b"{\"success\":false,\"message\":\"only "[..])
            }
            // google.rpc.Status: field 1, its code.
            ExpectedBody::Empty => body.starts_with(b"\x08"),
            // What failed at some entry was taken up to there.
            ExpectedBody::EmptyOrText => !body.starts_with(b"entry "),
        }
    }
}

impl Verdict {
    /// Of a call of gRPC that failed with a code, in digits, and a message.
    pub fn of_failed_call(code: &str, message: &str) -> Verdict {
        // UNAVAILABLE also answers rows that are held but late, as a 503 does.
        match code == "14" && !message.contains(HELD) {
            true => Verdict::Refused,
            false => Verdict::Wrong(format!("by gRPC's code {code}: {message}")),
        }
    }
}

/// What is said of rows that may not be sent again.
const HELD: &str = "may still be inserted";

impl Expected {
    /// A status and how its body begins.
    pub fn beginning(status: u16, body: &str) -> Expected {
        Expected {
            status,
            body: ExpectedBody::Begins(body.to_owned()),
        }
    }

    /// Judges a reply.
    pub fn judge(&self, reply: &Reply<'_>) -> Verdict {
        if reply.status == self.status && self.body.is(reply.body) {
            return Verdict::Taken;
        }
        let text = String::from_utf8_lossy(reply.body);
        // A 503, or Elasticsearch's 429, also answers a request whose rows are held but late: those may not be sent again.
        if matches!(reply.status, 429 | 503) && self.body.refuses(reply.body) && !text.contains(HELD) {
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
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 202";
        let whole = chunked.len() - "HTTP/1.1 202".len();
        for length in 0..whole {
            assert_eq!(read(&chunked[..length]), Ok(None), "{length}");
        }
        let reply = read(chunked).unwrap().unwrap();
        assert_eq!((reply.body, reply.bytes), (&b"3\r\nabc\r\n0\r\n\r\n"[..], whole));
        let empty = b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\nHTTP/1.1 204";
        let reply = read(empty).unwrap().unwrap();
        assert_eq!((reply.status, reply.body), (204, &b""[..]));
        assert_eq!(reply.bytes, empty.len() - "HTTP/1.1 204".len());
        assert_eq!(read(b"SSH-2.0"), Err(NotAReply));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n"), Err(NotAReply));
    }

    #[test]
    fn tells_whether_the_connection_stays_open() {
        let kept = |text: &str| read(text.as_bytes()).map(|reply| reply.map(|reply| reply.is_kept));
        assert_eq!(
            kept("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n12"),
            Ok(Some(true))
        );
        let closing = "HTTP/1.1 200 OK\r\nConnection: Close\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(kept(closing), Ok(None));
        assert_eq!(kept(&format!("{closing}0\r\n\r\n")), Ok(Some(false)));
    }

    #[test]
    fn tells_refusals_that_took_nothing_from_those_that_took_some() {
        let judge = |body: &str| {
            Expected::beginning(202, "{}").judge(&Reply {
                status: 503,
                body: body.as_bytes(),
                bytes: 0,
                is_kept: false,
            })
        };
        for nothing_taken in [
            "{\"received\":0,\"rejected\":[],\"error\":\"full\"}",
            "{\"success\":false,\"message\":\"no log was accepted\",\"stats\":{}}",
            "{\"success\":false,\"message\":\"the log is full\",\"errors\":[]}",
        ] {
            assert_eq!(judge(nothing_taken), Verdict::Refused, "{nothing_taken}");
        }
        for some_taken in [
            "{\"received\":3,\"rejected\":[],\"error\":\"full\"}",
            "{\"success\":false,\"message\":\"only 3 logs were accepted\",\"stats\":{}}",
        ] {
            assert!(matches!(judge(some_taken), Verdict::Wrong(_)), "{some_taken}");
        }
    }

    #[test]
    fn sends_only_calls_again_that_are_unavailable() {
        assert_eq!(Verdict::of_failed_call("14", "the log is full"), Verdict::Refused);
        for (code, message) in [
            ("14", "the rows may still be inserted"),
            ("5", "no such table"),
            ("8", ""),
        ] {
            let verdict = Verdict::of_failed_call(code, message);
            assert!(matches!(verdict, Verdict::Wrong(_)), "{code}");
        }
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
                is_kept: true,
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
