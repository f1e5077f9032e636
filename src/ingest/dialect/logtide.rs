//! LogTide's ingestion: 200 with what was received and what was rejected.

use serde_json::{Value, json};

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;

use super::{BodyForm, Dialect, Found, MessageForm};

/// The dialect of one of its paths.
pub(super) struct LogTide(MessageForm);

static BATCH: LogTide = LogTide(MessageForm::LogTide);

static SINGLE: LogTide = LogTide(MessageForm::LogTideSingle);

/// Finds it by the path. The body is JSON, whatever it is said to be.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    match head.path {
        "/api/v1/ingest" => Some(Found::Rows(&BATCH)),
        "/api/v1/ingest/single" => Some(Found::Rows(&SINGLE)),
        _ => None,
    }
}

impl Dialect for LogTide {
    fn body(&self) -> BodyForm {
        BodyForm::Message(self.0)
    }

    fn answer(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        answer: &Answer,
        intake: &Intake,
    ) -> Status {
        let reply = answer.reply();
        let (status, error) = match &intake.failure {
            Some(failure) => (failure.status(), Some(failure.to_string())),
            None if reply.accepted > 0 => (Status::Ok, None),
            None => (Status::BadRequest, Some("no log was accepted".to_owned())),
        };
        let rejected: Vec<Value> = answer
            .errors(intake)
            .map(|(index, reason)| json!({"index": index, "reason": reason}))
            .collect();
        let now = chrono::DateTime::from_timestamp(replier.unix_s() as i64, 0).unwrap_or_default();
        let mut body = json!({
            "received": reply.accepted,
            "rejected": rejected,
            "timestamp": now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        });
        // Only the first are spelled out.
        if reply.rejected > rejected.len() as u64 {
            body["rejected_count"] = reply.rejected.into();
        }
        if let Some(error) = error {
            body["error"] = error.into();
        }
        replier.message(out, envelope, status, "application/json", |out| {
            out.extend_from_slice(body.to_string().as_bytes());
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
        replier.error(out, envelope, status, sentence);
    }
}
