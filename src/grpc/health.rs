//! The messages of health checks.
//!
//! Source: gRPC, "GRPC Health Checking Protocol"; `proto/grpc/health/v1/health.proto`, `proto/logs.proto`.

use crate::protobuf::{Fields, Malformed, Value, put_bytes_field, put_varint_field};

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

/// Appends a `logs.HealthCheckResponse` of `unix_ns`. Latencies are those of a database the server does not ask for it.
pub fn put_logs_health(serving: Serving, unix_ns: i64, out: &mut Vec<u8>) {
    let is_healthy = serving == Serving::Serving;
    let message = match is_healthy {
        true => "logs are taken",
        false => "logs are not taken now",
    };
    let time = chrono::DateTime::from_timestamp_nanos(unix_ns);
    let time = time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    put_varint_field(1, u64::from(is_healthy), out);
    put_bytes_field(2, message.as_bytes(), out);
    put_bytes_field(3, time.as_bytes(), out);
    put_bytes_field(6, env!("CARGO_PKG_VERSION").as_bytes(), out);
    if !is_healthy {
        put_bytes_field(7, message.as_bytes(), out);
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
        for (serving, is_healthy) in [(Serving::Serving, 1), (Serving::NotServing, 0)] {
            let mut out = Vec::new();
            put_logs_health(serving, 1_500_000_000, &mut out);
            let fields: Vec<_> = Fields::new(&out).map(|field| field.unwrap()).collect();
            assert_eq!(fields[0], (1, Value::Varint(is_healthy)));
            assert_eq!(fields[2], (3, Value::Bytes(b"1970-01-01T00:00:01.500Z")));
            assert_eq!(fields.iter().any(|field| field.0 == 7), is_healthy == 0);
        }
    }
}
