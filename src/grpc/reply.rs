//! Appends the replies of calls, in the form every reply is written in.
//!
//! The fields `grpc-status`, `grpc-message` and `grpc-status-details-bin` are trailers: whoever sends the reply puts them
//! behind the message, or alone when there is none.

use super::frame::put_message;
use super::metadata::{put_base64, put_percent_encoded};
use super::status::{Code, is_retryable, put_retry_status};
use crate::http::status::Status;

/// The head of every reply: what is not a trailer.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\
content-type: application/grpc\r\n\
grpc-accept-encoding: identity,gzip,deflate,zstd\r\n";

/// Bytes of an error's text. Clients take some 8 KiB of trailers, and a byte may become three, or four thirds in the details.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Appends a success with the message that `put` writes.
pub fn put_success(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(b"grpc-status: 0\r\n\r\n");
    put_message(out, put);
}

/// Appends a failure: no message, but its code, its text, and when to come again if that helps.
pub fn put_failure(out: &mut Vec<u8>, status: Status, message: &str, retry_after_s: u32) {
    out.extend_from_slice(HEAD);
    for (name, value) in trailers(status, message, retry_after_s) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(&value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Name and value of each trailer of a failure.
pub fn trailers(
    status: Status,
    message: &str,
    retry_after_s: u32,
) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let message = &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)];
    let code = Code::of(status);
    let mut text = Vec::new();
    put_percent_encoded(message, &mut text);
    let details = is_retryable(status).then(|| {
        let (mut details, mut value) = (Vec::new(), Vec::new());
        put_retry_status(code, message, retry_after_s, &mut details);
        put_base64(&details, &mut value);
        ("grpc-status-details-bin", value)
    });
    let number = code.number().to_string().into_bytes();
    [("grpc-status", number), ("grpc-message", text)]
        .into_iter()
        .chain(details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reply_parts::ReplyParts;

    fn field<'r>(parts: &ReplyParts<'r>, name: &str) -> Option<&'r str> {
        let found = parts.fields().find(|field| field.0 == name.as_bytes())?;
        Some(std::str::from_utf8(found.1).unwrap())
    }

    #[test]
    fn a_success_is_a_message_and_status_0() {
        let mut out = Vec::new();
        put_success(&mut out, |out| out.extend_from_slice(b"abc"));
        let parts = ReplyParts::of(&out);
        assert_eq!((parts.status, parts.body), (200, &b"\0\0\0\0\x03abc"[..]));
        assert_eq!(field(&parts, "grpc-status"), Some("0"));
        assert_eq!(field(&parts, "content-type"), Some("application/grpc"));
    }

    #[test]
    fn a_failure_has_no_message_and_says_when_to_come_again_only_if_that_helps() {
        for status in Status::ALL.into_iter().filter(|status| status.code() >= 400) {
            let mut out = Vec::new();
            put_failure(&mut out, status, "100% µ\n", 1);
            let parts = ReplyParts::of(&out);
            assert_eq!((parts.status, parts.body), (200, &b""[..]));
            assert_ne!(field(&parts, "grpc-status"), Some("0"));
            assert_eq!(field(&parts, "grpc-message"), Some("100%25 %C2%B5%0A"));
            let details = field(&parts, "grpc-status-details-bin");
            assert_eq!(
                details.is_some(),
                matches!(status.code(), 429 | 503),
                "{status:?}"
            );
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut out = Vec::new();
        put_failure(&mut out, Status::BadRequest, &"é".repeat(5000), 1);
        let message = field(&ReplyParts::of(&out), "grpc-message").unwrap();
        assert_eq!(message, "%C3%A9".repeat(MESSAGE_BYTES_MAX / 2));
    }
}
