//! The status codes of gRPC, and which of them an HTTP status is.

use crate::http::status::Status;
use crate::protobuf::{put_bytes_field, put_varint_field};

/// A code of gRPC, which is also `google.rpc.Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// The request is wrong; sent again it is wrong again.
    InvalidArgument = 3,
    /// Not done in the time the client gave.
    DeadlineExceeded = 4,
    /// What is named is not here.
    NotFound = 5,
    /// The client is known and may not.
    PermissionDenied = 7,
    /// Too large, or over a quota.
    ResourceExhausted = 8,
    /// Another request is in the way.
    Aborted = 10,
    /// No such service, method or coding.
    Unimplemented = 12,
    /// A defect of ours.
    Internal = 13,
    /// Full or draining; the same request may succeed later.
    Unavailable = 14,
    /// The client is not known.
    Unauthenticated = 16,
}

impl Code {
    /// The number that is sent.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The code of an HTTP status.
    ///
    /// This table alone decides: whatever speaks gRPC, or puts a `google.rpc.Status` into a body, asks here.
    pub fn of(status: Status) -> Code {
        match status.code() {
            200..300 => Code::Ok,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            408 => Code::DeadlineExceeded,
            409 => Code::Aborted,
            413 | 429 | 431 => Code::ResourceExhausted,
            // Of gRPC only a grpc-encoding gets that far: a wrong media type is answered in HTTP.
            415 | 501 => Code::Unimplemented,
            503 => Code::Unavailable,
            500 | 502..600 => Code::Internal,
            _ => Code::InvalidArgument,
        }
    }
}

/// Whether the same request may succeed later. RESOURCE_EXHAUSTED alone does not tell: a message too large stays so.
pub fn is_retryable(status: Status) -> bool {
    matches!(status.code(), 429 | 503)
}

/// Appends a `google.rpc.Status` with a `google.rpc.RetryInfo` that asks for a pause of `retry_after_s` seconds.
///
/// Source: googleapis `google/rpc/status.proto`, `google/rpc/error_details.proto`; OTLP 1.x, "OTLP/gRPC Throttling".
pub fn put_retry_status(code: Code, message: &str, retry_after_s: u32, out: &mut Vec<u8>) {
    let (mut duration, mut info, mut any) = (Vec::new(), Vec::new(), Vec::new());
    // google.protobuf.Duration: 1 seconds. RetryInfo: 1 retry_delay. Any: 1 type_url, 2 value.
    put_varint_field(1, u64::from(retry_after_s), &mut duration);
    put_bytes_field(1, &duration, &mut info);
    put_bytes_field(1, b"type.googleapis.com/google.rpc.RetryInfo", &mut any);
    put_bytes_field(2, &info, &mut any);
    // Status: 1 code, 2 message, 3 details.
    put_varint_field(1, u64::from(code.number()), out);
    put_bytes_field(2, message.as_bytes(), out);
    put_bytes_field(3, &any, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::{Fields, Value};

    #[test]
    fn every_status_has_a_code_and_only_success_is_ok() {
        for status in Status::ALL {
            assert_eq!(
                Code::of(status) == Code::Ok,
                status.code() < 300,
                "{status:?} is {:?}",
                Code::of(status)
            );
        }
        let codes = [
            (Status::BadRequest, 3),
            (Status::RequestTimeout, 4),
            (Status::NotFound, 5),
            (Status::ContentTooLarge, 8),
            (Status::TooManyRequests, 8),
            (Status::Conflict, 10),
            (Status::NotImplemented, 12),
            (Status::InternalServerError, 13),
            (Status::ServiceUnavailable, 14),
        ];
        for (status, number) in codes {
            assert_eq!(Code::of(status).number(), number, "{status:?}");
        }
    }

    #[test]
    fn a_retry_status_says_when_to_come_again() {
        let mut out = Vec::new();
        put_retry_status(Code::Unavailable, "full", 3, &mut out);
        let fields: Vec<_> = Fields::new(&out).map(|field| field.unwrap()).collect();
        let any = b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x03";
        assert_eq!(
            fields,
            [
                (1, Value::Varint(14)),
                (2, Value::Bytes(b"full")),
                (3, Value::Bytes(any))
            ]
        );
    }
}
