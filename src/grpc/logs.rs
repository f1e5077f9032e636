//! The replies of `logs.LogService` and `logservice.LogService`. See `proto/logs.proto` and `proto/logservice.proto`.

use crate::protobuf::{put_bytes_field, put_fixed64_field, put_varint_field};

/// What became of the entries of a request.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Entries taken.
    pub accepted: u64,
    /// Entries that never will be.
    pub rejected: u64,
    /// Milliseconds it took.
    pub took_ms: u64,
}

/// Appends an `IngestLogsResponse`; `errors` are the index of an entry and the reason.
pub fn put_ingest_logs<'e>(
    outcome: Outcome,
    errors: impl IntoIterator<Item = (u64, &'e str)>,
    out: &mut Vec<u8>,
) {
    let Outcome {
        accepted,
        rejected,
        took_ms,
    } = outcome;
    let message = match (accepted, rejected) {
        (0, 0) => "no logs were sent".to_owned(),
        (0, _) => "no log was accepted".to_owned(),
        (_, 0) => format!("{accepted} logs were accepted"),
        _ => format!("{accepted} logs were accepted, {rejected} were rejected"),
    };
    let throughput = accepted as f64 * 1000.0 / took_ms.max(1) as f64;
    put_varint_field(1, u64::from(accepted > 0 || rejected == 0), out);
    put_bytes_field(2, message.as_bytes(), out);
    put_varint_field(3, accepted, out);
    put_varint_field(4, rejected, out);
    put_fixed64_field(5, (took_ms as f64).to_bits(), out);
    put_fixed64_field(6, throughput.to_bits(), out);
    for (index, reason) in errors {
        let mut error = Vec::new();
        put_varint_field(1, index, &mut error);
        put_bytes_field(2, reason.as_bytes(), &mut error);
        put_bytes_field(7, &error, out);
    }
}

/// Appends a `LogResponse`: why a log was not taken, or nothing.
pub fn put_send_log(reason: Option<&str>, out: &mut Vec<u8>) {
    put_varint_field(1, u64::from(reason.is_none()), out);
    put_bytes_field(2, reason.unwrap_or("the log was accepted").as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::{Fields, Value};

    fn fields(message: &[u8]) -> Vec<(u32, Value<'_>)> {
        Fields::new(message).map(|field| field.unwrap()).collect()
    }

    #[test]
    fn a_reply_counts_and_names_what_was_rejected() {
        let outcome = Outcome {
            accepted: 2,
            rejected: 1,
            took_ms: 4,
        };
        let mut out = Vec::new();
        put_ingest_logs(outcome, [(1, "why")], &mut out);
        assert_eq!(
            fields(&out),
            [
                (1, Value::Varint(1)),
                (2, Value::Bytes(b"2 logs were accepted, 1 were rejected")),
                (3, Value::Varint(2)),
                (4, Value::Varint(1)),
                (5, Value::Fixed64(4f64.to_bits())),
                (6, Value::Fixed64(500f64.to_bits())),
                (7, Value::Bytes(b"\x08\x01\x12\x03why"))
            ]
        );
    }

    #[test]
    fn success_is_not_said_when_every_entry_was_rejected() {
        for (accepted, rejected, success) in [(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 0)] {
            let outcome = Outcome {
                accepted,
                rejected,
                took_ms: 0,
            };
            let mut out = Vec::new();
            put_ingest_logs(outcome, [], &mut out);
            assert_eq!(
                fields(&out)[0],
                (1, Value::Varint(success)),
                "{accepted} {rejected}"
            );
        }
        for (reason, success) in [(None, 1), (Some("why"), 0)] {
            let mut out = Vec::new();
            put_send_log(reason, &mut out);
            assert_eq!(fields(&out)[0], (1, Value::Varint(success)));
        }
    }
}
