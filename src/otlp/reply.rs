//! The bodies of OTLP replies: `ExportLogsServiceResponse`, and `google.rpc.Status` for failures.
//!
//! Source: the OTLP specification 1.x, "OTLP/HTTP Response".

use serde_json::json;

use crate::protobuf::{put_bytes_field, put_varint_field};

/// Appends the response to a request of which `rejected` records were refused, for the reason in `message`.
///
/// Nothing refused is a message without fields: no bytes.
pub fn put_response(rejected: u64, message: &str, out: &mut Vec<u8>) {
    if rejected == 0 && message.is_empty() {
        return;
    }
    // ExportLogsPartialSuccess: 1 rejected_log_records, 2 error_message.
    let mut partial = Vec::new();
    put_varint_field(1, rejected, &mut partial);
    put_bytes_field(2, message.as_bytes(), &mut partial);
    put_bytes_field(1, &partial, out);
}

/// Appends a `google.rpc.Status`: 2 message. Its code is that of gRPC, which HTTP clients take from the status line.
pub fn put_status(code: u8, message: &str, out: &mut Vec<u8>) {
    put_varint_field(1, u64::from(code), out);
    put_bytes_field(2, message.as_bytes(), out);
}

/// [`put_response`] in JSON: `{}` when nothing was refused.
pub fn put_json_response(rejected: u64, message: &str, out: &mut Vec<u8>) {
    let response = match (rejected, message) {
        (0, "") => json!({}),
        // int64 is a text in JSON.
        _ => json!({"partialSuccess": {"rejectedLogRecords": rejected.to_string(), "errorMessage": message}}),
    };
    out.extend_from_slice(response.to_string().as_bytes());
}

/// [`put_status`] in JSON.
pub fn put_json_status(code: u8, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(json!({"code": code, "message": message}).to_string().as_bytes());
}
