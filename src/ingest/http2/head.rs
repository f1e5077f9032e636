//! Writes the fields of a stream's request as the head they would be in HTTP/1.1.
//!
//! `h2` has refused what is malformed: pseudo-fields that repeat or contradict, fields of a connection, names in capitals
//! (RFC 9113 section 8.2, 8.3). Its values hold no line end.

use http::header;
use http::request::Parts;

use crate::http::head::HeadError;

/// Writes the head; how many bytes it has.
///
/// # Errors
/// `out` is too small for it.
pub(super) fn put_head(request: &Parts, out: &mut [u8]) -> Result<usize, HeadError> {
    let mut head = Head { out, len: 0 };
    let target = match request.uri.path_and_query() {
        Some(target) if target.as_str() != "" => target.as_str(),
        // CONNECT has none.
        _ => "/",
    };
    head.put(&[
        request.method.as_str().as_bytes(),
        b" ",
        target.as_bytes(),
        b" HTTP/1.1\r\n",
    ])?;
    // RFC 9113 section 8.3.1: `:authority` goes before Host.
    let authority = request.uri.authority();
    if let Some(authority) = authority {
        head.put(&[b"host: ", authority.as_str().as_bytes(), b"\r\n"])?;
    }
    for (name, value) in &request.headers {
        if authority.is_some() && name == header::HOST {
            continue;
        }
        head.put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"])?;
    }
    head.put(&[b"\r\n"])?;
    Ok(head.len)
}

struct Head<'o> {
    out: &'o mut [u8],
    len: usize,
}

impl Head<'_> {
    fn put(&mut self, pieces: &[&[u8]]) -> Result<(), HeadError> {
        for piece in pieces {
            let end = self.len + piece.len();
            let bytes_max = self.out.len();
            let room = self.out.get_mut(self.len..end);
            room.ok_or(HeadError::HeadTooLong { bytes_max })?
                .copy_from_slice(piece);
            self.len = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Framing, Parse, parse_head};
    use crate::limits::Limits;

    fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn is_read_as_what_the_stream_said() {
        let request = parts(
            "POST",
            "http://logs.example:8080/ingest/a%20b?ack=wal",
            &[
                ("host", "other.example"),
                ("content-length", "12"),
                ("content-encoding", "gzip"),
                ("idempotency-key", "k"),
                ("x-ringhouse-table", "t"),
            ],
        );
        let mut out = [0; 1000];
        let bytes = put_head(&request, &mut out).unwrap();
        let parsed = parse_head(&out[..bytes], &Limits::default()).unwrap();
        let Parse::Complete(read, head) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(read, bytes);
        assert_eq!(
            (head.method, head.path, head.query),
            ("POST", "/ingest/a%20b", "ack=wal")
        );
        assert_eq!(head.framing, Framing::Length(12));
        assert_eq!(head.header("host"), Some(&b"logs.example:8080"[..]));
        assert_eq!(head.header("X-Ringhouse-Table"), Some(&b"t"[..]));
        assert_eq!(head.idempotency_key, Some(&b"k"[..]));
    }

    #[test]
    fn a_head_needs_the_room_it_takes_and_no_more() {
        let request = parts("GET", "http://a/b", &[("x", "y")]);
        let expected = b"GET /b HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n";
        for room in 0..expected.len() {
            let too_long = Err(HeadError::HeadTooLong { bytes_max: room });
            assert_eq!(put_head(&request, &mut vec![0; room]), too_long);
        }
        let mut out = vec![0; expected.len()];
        assert_eq!(put_head(&request, &mut out), Ok(expected.len()));
        assert_eq!(out, expected);
    }
}
