//! LogTide's ingestion: 200 with what was received and what was rejected.

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;

use super::{BodyForm, Dialect, Found, MessageForm, put, put_text};

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
        let now = chrono::DateTime::from_timestamp(replier.unix_s() as i64, 0).unwrap_or_default();
        replier.message(out, envelope, status, "application/json", |out| {
            let mut spelled_out = 0;
            put(
                out,
                format_args!("{{\"received\":{},\"rejected\":[", reply.accepted),
            );
            for (index, reason) in answer.errors(intake) {
                let separator = if spelled_out == 0 { "" } else { "," };
                put(out, format_args!("{separator}{{\"index\":{index},\"reason\":"));
                put_text(reason, out);
                out.push(b'}');
                spelled_out += 1;
            }
            put(
                out,
                format_args!("],\"timestamp\":\"{}\"", now.format("%Y-%m-%dT%H:%M:%S.000Z")),
            );
            if reply.rejected > spelled_out {
                put(out, format_args!(",\"rejected_count\":{}", reply.rejected));
            }
            if let Some(error) = error {
                out.extend_from_slice(b",\"error\":");
                put_text(&error, out);
            }
            out.push(b'}');
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
