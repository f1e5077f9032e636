//! The messages of `ringhouse.v1.Ingest`. See `proto/ringhouse/v1/ingest.proto`.

use super::status::Code;
use crate::protobuf::{Fields, Malformed, Value, put_bytes_field, put_varint_field};

/// A `StreamRequest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'b> {
    /// Chosen by the client.
    pub sequence: u64,
    /// What it brings.
    pub rows: Rows<'b>,
}

/// The rows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows<'b> {
    /// None.
    None,
    /// JSON text in any form of a body.
    Json(&'b [u8]),
    /// An `ExportLogsServiceRequest`.
    Otlp(&'b [u8]),
}

/// Reads a `StreamRequest`. Of several forms of rows the last one counts, as protobuf has it.
///
/// # Errors
/// The bytes are no message.
pub fn rows_of(message: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut request = Request {
        sequence: 0,
        rows: Rows::None,
    };
    for field in Fields::new(message) {
        match field? {
            (1, Value::Varint(sequence)) => request.sequence = sequence,
            (2, Value::Bytes(text)) => request.rows = Rows::Json(text),
            (3, Value::Bytes(bytes)) => request.rows = Rows::Otlp(bytes),
            _ => {}
        }
    }
    Ok(request)
}

/// A `StreamReply` but for its errors.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'r> {
    /// Of the request.
    pub sequence: u64,
    /// Rows that are where the ack level says.
    pub accepted: u64,
    /// Rows that never will be.
    pub rejected: u64,
    /// Whether the message was taken.
    pub code: Code,
    /// What the code is about.
    pub message: &'r str,
}

/// Appends a `StreamReply`; `errors` are the index of a rejected row and the reason.
pub fn put_reply<'e>(reply: &Reply<'_>, errors: impl IntoIterator<Item = (u64, &'e str)>, out: &mut Vec<u8>) {
    put_varint_field(1, reply.sequence, out);
    put_varint_field(2, reply.accepted, out);
    put_varint_field(3, reply.rejected, out);
    for (row, reason) in errors {
        let mut error = Vec::new();
        put_varint_field(1, row, &mut error);
        put_bytes_field(2, reason.as_bytes(), &mut error);
        put_bytes_field(4, &error, out);
    }
    put_varint_field(5, u64::from(reply.code.number()), out);
    put_bytes_field(6, reply.message.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_request_and_the_last_of_its_forms() {
        let mut message = Vec::new();
        put_varint_field(1, 7, &mut message);
        let none = Request {
            sequence: 7,
            rows: Rows::None,
        };
        assert_eq!(rows_of(&message), Ok(none));
        put_bytes_field(2, b"{}", &mut message);
        let rows = Rows::Json(b"{}");
        assert_eq!(rows_of(&message), Ok(Request { rows, ..none }));
        put_bytes_field(3, b"", &mut message);
        let rows = Rows::Otlp(b"");
        assert_eq!(rows_of(&message), Ok(Request { rows, ..none }));
        for end in [1, 3, 5] {
            assert_eq!(rows_of(&message[..end]), Err(Malformed), "{end}");
        }
    }

    #[test]
    fn writes_a_reply_with_its_errors() {
        let reply = Reply {
            sequence: 1,
            accepted: 2,
            rejected: 300,
            code: Code::Unavailable,
            message: "m",
        };
        let mut out = Vec::new();
        put_reply(&reply, [(4, "why")], &mut out);
        assert_eq!(
            out,
            b"\x08\x01\x10\x02\x18\xac\x02\x22\x07\x08\x04\x12\x03why\x28\x0e\x32\x01m"
        );
    }
}
