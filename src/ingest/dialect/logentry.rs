//! The LogEntry API: 202 with counts, or 400 with every reason.

use serde_json::{Value, json};

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::idempotency::{STORED_BODY_BYTES_MAX, StoredReply};
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;

use super::{BodyForm, Dialect, Found, MessageForm, media_type};

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
        let mut body = body(answer, intake, status);
        if body.to_string().len() > STORED_BODY_BYTES_MAX {
            body["errors"] = json!([]);
        }
        let body = body.to_string();
        StoredReply::new(
            status,
            reply.accepted,
            reply.rejected,
            answer.level(),
            body.as_bytes(),
        )
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
        put(replier, out, envelope, status, &body(answer, intake, status));
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
        let body = json!({"success": false, "message": sentence.to_string(), "errors": []});
        put(replier, out, envelope, status, &body);
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

fn body(answer: &Answer, intake: &Intake, status: Status) -> Value {
    let reply = answer.reply();
    let (accepted, rejected) = (reply.accepted, reply.rejected);
    let message = match (status, accepted, rejected) {
        (Status::Accepted, 1, 0) => "1 log was accepted".to_owned(),
        (Status::Accepted, _, 0) => format!("{accepted} logs were accepted"),
        (Status::Accepted, _, _) => format!("{accepted} logs were accepted, {rejected} were rejected"),
        (_, 0, _) => "no log was accepted".to_owned(),
        _ => format!("only {accepted} logs were accepted"),
    };
    let errors: Vec<Value> = answer
        .errors(intake)
        .map(|(index, error)| json!({"index": index, "error": error}))
        .collect();
    let seconds = answer.took_ms().max(1) as f64 / 1000.0;
    let mut body = json!({
        "success": status == Status::Accepted,
        "message": message,
        "stats": {"accepted": accepted, "rejected": rejected, "throughput": accepted as f64 / seconds},
    });
    if !errors.is_empty() {
        body["errors"] = errors.into();
    }
    body
}

fn put(replier: &Replier, out: &mut Vec<u8>, envelope: Envelope, status: Status, body: &Value) {
    replier.message(out, envelope, status, "application/json", |out| {
        out.extend_from_slice(body.to_string().as_bytes());
    });
}
