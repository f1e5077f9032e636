//! Which protocol a request speaks, and how that protocol puts what became of it.

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::otlp::reply::{put_response, put_status};

use super::answer::Answer;
use super::body::Intake;

/// A protocol in front of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Rows as JSON in any form, answered with counts.
    Json,
    /// `ExportLogsServiceRequest` in protobuf.
    Otlp,
}

/// Why a request of a known path is refused for its Content-Type.
pub(super) const OTLP_CONTENT_TYPE: &str = "application/x-protobuf";

impl Dialect {
    /// The dialect of a path with a fixed meaning; `None` leaves it to the tables' paths.
    pub(super) fn of_path(path: &str) -> Option<Dialect> {
        match path {
            "/v1/logs" | "/v1/otlp/logs" => Some(Dialect::Otlp),
            _ => None,
        }
    }

    /// Whether the request's body is in a form this dialect reads.
    pub(super) fn takes(self, head: &Head<'_>) -> bool {
        let media_type = head.content_type.split(|byte| *byte == b';').next();
        let media_type = media_type.unwrap_or_default().trim_ascii();
        match self {
            Dialect::Json => true,
            Dialect::Otlp => media_type.eq_ignore_ascii_case(OTLP_CONTENT_TYPE.as_bytes()),
        }
    }

    /// Appends the reply to a request whose rows were taken; its status.
    pub(super) fn answer(
        self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        answer: &Answer,
        intake: &Intake,
    ) -> Status {
        match self {
            Dialect::Json => {
                replier.ingest(out, envelope, &answer.reply(), answer.errors(intake));
                answer.status
            }
            Dialect::Otlp => {
                let status = match &intake.failure {
                    Some(failure) => failure.status(),
                    // Also when no record was taken: nothing of it is worth sending again, and the client is told.
                    None => Status::Ok,
                };
                let message = reasons(answer, intake);
                replier.message(out, envelope, status, OTLP_CONTENT_TYPE, |out| match status {
                    Status::Ok => put_response(answer.reply().rejected, &message, out),
                    _ => put_status(rpc_code(status), &message, out),
                });
                status
            }
        }
    }

    /// Appends the reply to a request without rows, if that is no mistake here.
    pub(super) fn answer_empty(
        self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
    ) -> Option<Status> {
        match self {
            Dialect::Json => None,
            Dialect::Otlp => {
                replier.message(out, envelope, Status::Ok, OTLP_CONTENT_TYPE, |_| {});
                Some(Status::Ok)
            }
        }
    }

    /// Appends a refusal.
    pub(super) fn refuse(
        self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        sentence: &dyn std::fmt::Display,
    ) {
        match self {
            Dialect::Json => replier.error(out, envelope, status, sentence),
            Dialect::Otlp => replier.message(out, envelope, status, OTLP_CONTENT_TYPE, |out| {
                put_status(rpc_code(status), &sentence.to_string(), out);
            }),
        }
    }
}

/// The first reasons why rows were rejected, as one text.
fn reasons(answer: &Answer, intake: &Intake) -> String {
    let reasons: Vec<String> = answer
        .errors(intake)
        .map(|(row, reason)| format!("record {row}: {reason}"))
        .collect();
    reasons.join("; ")
}

/// `google.rpc.Code` of an HTTP status.
fn rpc_code(status: Status) -> u8 {
    match status {
        Status::NotFound => 5,
        Status::RequestTimeout => 4,
        Status::ContentTooLarge | Status::TooManyRequests => 8,
        Status::InternalServerError => 13,
        Status::NotImplemented => 12,
        Status::ServiceUnavailable => 14,
        _ => 3,
    }
}
