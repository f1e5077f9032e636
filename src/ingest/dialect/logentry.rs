//! The LogEntry API: 202 with counts, or 400 with every reason.

use std::iter;

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::idempotency::{STORED_BODY_BYTES_MAX, StoredReply};
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;

use super::{BodyForm, Dialect, Found, MessageForm, media_type, put, put_text};

/// The dialect in one of its encodings.
pub(super) struct LogEntry {
    content_type: &'static str,
    form: MessageForm,
}

static JSON: LogEntry = LogEntry {
    content_type: "application/json",
    form: MessageForm::LogEntryJson,
};

static ENTRY: LogEntry = LogEntry {
    content_type: "application/x-protobuf",
    form: MessageForm::LogEntry,
};

static BATCH: LogEntry = LogEntry {
    content_type: "application/x-protobuf-batch",
    form: MessageForm::LogEntryBatch,
};

const CONTENT_TYPES: &str = "application/json, application/x-protobuf, application/x-protobuf-batch";

/// Finds it by the path.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    if head.path != "/api/logs" {
        return None;
    }
    let media_type = media_type(head);
    let encoding = [&JSON, &ENTRY, &BATCH]
        .into_iter()
        .find(|encoding| media_type.eq_ignore_ascii_case(encoding.content_type.as_bytes()));
    Some(match encoding {
        Some(encoding) => Found::Rows(encoding),
        None => Found::WrongMediaType(&JSON, CONTENT_TYPES),
    })
}

impl Dialect for LogEntry {
    fn body(&self) -> BodyForm {
        BodyForm::Message(self.form)
    }

    fn takes_idempotency_key(&self) -> bool {
        true
    }

    fn stored(&self, answer: &Answer, intake: &Intake) -> StoredReply {
        let (status, reply) = (status(answer, intake), answer.reply());
        let mut body = Vec::new();
        put_body(answer, answer.errors(intake), status, &mut body);
        if body.len() > STORED_BODY_BYTES_MAX {
            body.clear();
            put_body(answer, iter::empty(), status, &mut body);
        }
        StoredReply::new(status, reply.accepted, reply.rejected, answer.level(), &body)
    }

    fn answer(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        answer: &Answer,
        intake: &Intake,
    ) -> Status {
        let status = status(answer, intake);
        replier.message(out, envelope, status, "application/json", |out| {
            put_body(answer, answer.errors(intake), status, out);
        });
        status
    }

    fn refuse(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        sentence: &dyn std::fmt::Display,
    ) {
        replier.message(out, envelope, status, "application/json", |out| {
            out.extend_from_slice(b"{\"success\":false,\"message\":");
            put_text(&sentence.to_string(), out);
            out.extend_from_slice(b",\"errors\":[]}");
        });
    }
}

/// 202 says that entries were taken, at whatever ack level: the reply comes when that is reached.
fn status(answer: &Answer, intake: &Intake) -> Status {
    match &intake.failure {
        Some(failure) => failure.status(),
        None if answer.reply().accepted > 0 => Status::Accepted,
        None => Status::BadRequest,
    }
}

fn put_body<'e>(
    answer: &Answer,
    errors: impl Iterator<Item = (u64, &'e str)>,
    status: Status,
    out: &mut Vec<u8>,
) {
    let reply = answer.reply();
    let (accepted, rejected) = (reply.accepted, reply.rejected);
    let is_success = status == Status::Accepted;
    put(out, format_args!("{{\"success\":{is_success},\"message\":\""));
    match (is_success, accepted, rejected) {
        (true, 1, 0) => put(out, format_args!("1 log was accepted")),
        (true, _, 0) => put(out, format_args!("{accepted} logs were accepted")),
        (true, _, _) => put(
            out,
            format_args!("{accepted} logs were accepted, {rejected} were rejected"),
        ),
        (false, 0, _) => put(out, format_args!("no log was accepted")),
        (false, _, _) => put(out, format_args!("only {accepted} logs were accepted")),
    }
    let throughput = accepted as f64 * 1000.0 / answer.took_ms().max(1) as f64;
    put(
        out,
        format_args!(
            "\",\"stats\":{{\"accepted\":{accepted},\"rejected\":{rejected},\"throughput\":{throughput}}}"
        ),
    );
    let mut separator = ",\"errors\":[";
    for (index, error) in errors {
        put(out, format_args!("{separator}{{\"index\":{index},\"error\":"));
        put_text(error, out);
        out.push(b'}');
        separator = ",";
    }
    out.extend_from_slice(if separator == "," { b"]}" } else { b"}" });
}
