//! The messages of `grpc.health.v1`.
//!
//! Source: gRPC, "GRPC Health Checking Protocol"; `proto/grpc/health/v1/health.proto`.

use crate::otlp::wire::{Fields, Malformed, Value, put_varint_field};

/// What a health check is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Serving {
    /// Rows are taken.
    Serving = 1,
    /// They are not.
    NotServing = 2,
    /// No such service is here.
    Unknown = 3,
}

impl Serving {
    /// Appends a `HealthCheckResponse`.
    pub fn put(self, out: &mut Vec<u8>) {
        put_varint_field(1, self as u64, out);
    }
}

/// The service a `HealthCheckRequest` asks for; empty is the server.
///
/// # Errors
/// The bytes are no message, or the name is no text.
pub fn service(request: &[u8]) -> Result<&str, Malformed> {
    let mut service = "";
    for field in Fields::new(request) {
        if let (1, Value::Bytes(name)) = field? {
            service = std::str::from_utf8(name).map_err(|_| Malformed)?;
        }
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_service_and_writes_the_status() {
        assert_eq!(service(b""), Ok(""));
        assert_eq!(service(b"\x0a\x03a.b"), Ok("a.b"));
        assert_eq!(service(b"\x0a\x03a."), Err(Malformed));
        assert_eq!(service(b"\x0a\x01\xff"), Err(Malformed));
        let mut out = Vec::new();
        Serving::NotServing.put(&mut out);
        assert_eq!(out, b"\x08\x02");
    }
}
