//! Takes a reply that was written for HTTP/1.1 apart, for protocols with another form for it.

/// A complete reply as [`Replier`](super::reply::Replier) appends it.
#[derive(Debug, Clone, Copy)]
pub struct ReplyParts<'r> {
    /// Three digits.
    pub status: u16,
    /// Every field with its line end.
    fields: &'r [u8],
    /// What follows the fields.
    pub body: &'r [u8],
}

impl<'r> ReplyParts<'r> {
    /// The parts of one reply.
    ///
    /// # Panics
    /// When `reply` is none of ours: its status line, field lines and blank line are what we have written.
    pub fn of(reply: &'r [u8]) -> ReplyParts<'r> {
        let line_end = memchr::memmem::find(reply, b"\r\n").expect("a reply has a status line") + 2;
        let head_end = memchr::memmem::find(reply, b"\r\n\r\n").expect("a reply has a blank line") + 4;
        let digits = reply[..line_end].splitn(3, |byte| *byte == b' ').nth(1);
        let status = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse().ok());
        ReplyParts {
            status: status.expect("a reply has a status"),
            // The blank line of a reply without fields is the end of its status line.
            fields: &reply[line_end..(head_end - 2).max(line_end)],
            body: &reply[head_end..],
        }
    }

    /// Name and value of every field, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'r [u8], &'r [u8])> + use<'r> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\n', rest)? + 1;
            let (line, next) = rest.split_at(end);
            rest = next;
            let colon = memchr::memchr(b':', line).expect("a field has a colon");
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reply::{CONTINUE, Envelope, Persistence, Replier};
    use crate::http::status::Status;

    #[test]
    fn every_reply_comes_apart_into_what_it_says() {
        let replier = Replier::new(784_111_777, 3);
        for status in Status::ALL {
            for persistence in [Persistence::Keep, Persistence::KeepHttp10, Persistence::Close] {
                let envelope = Envelope {
                    persistence,
                    ..Envelope::CLOSE
                };
                let mut out = Vec::new();
                replier.message(&mut out, envelope, status, "text/plain", |out| {
                    out.extend_from_slice(b"a: b\r\n\r\nc");
                });
                let parts = ReplyParts::of(&out);
                assert_eq!(parts.status, status.code());
                assert_eq!(parts.body, b"a: b\r\n\r\nc");
                // httparse is the oracle for the fields.
                let mut headers = [httparse::EMPTY_HEADER; 16];
                let mut response = httparse::Response::new(&mut headers);
                assert!(response.parse(&out).unwrap().is_complete());
                let expected: Vec<_> = response
                    .headers
                    .iter()
                    .map(|header| (header.name.as_bytes(), header.value))
                    .collect();
                assert_eq!(parts.fields().collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn a_reply_may_have_no_fields() {
        let parts = ReplyParts::of(CONTINUE);
        assert_eq!(
            (parts.status, parts.fields().count(), parts.body),
            (100, 0, &b""[..])
        );
    }
}
