//! Which protocol a request speaks, and how that protocol puts what became of it.

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::otlp::reply::{put_json_response, put_json_status, put_response, put_status};

use super::answer::Answer;
use super::body::Intake;

/// A protocol in front of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Rows as JSON in any form, answered with counts.
    Json,
    /// `ExportLogsServiceRequest`, answered in the encoding it came in.
    Otlp(Encoding),
}

/// How the messages of a protocol are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn content_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }

    fn put_response(self, rejected: u64, message: &str, out: &mut Vec<u8>) {
        match self {
            Encoding::Protobuf => put_response(rejected, message, out),
            Encoding::Json => put_json_response(rejected, message, out),
        }
    }

    fn put_status(self, status: Status, message: &str, out: &mut Vec<u8>) {
        match self {
            Encoding::Protobuf => put_status(rpc_code(status), message, out),
            Encoding::Json => put_json_status(rpc_code(status), message, out),
        }
    }
}

/// What the paths of OTLP take.
pub(super) const OTLP_CONTENT_TYPES: &str = "application/x-protobuf, application/json";

impl Dialect {
    /// The dialect of a path with a fixed meaning, all others are the tables'; `None` when the body is in no form it reads.
    pub(super) fn of(head: &Head<'_>) -> Option<Dialect> {
        if !matches!(head.path, "/v1/logs" | "/v1/otlp/logs") {
            return Some(Dialect::Json);
        }
        let media_type = head.content_type.split(|byte| *byte == b';').next();
        let media_type = media_type.unwrap_or_default().trim_ascii();
        [Encoding::Protobuf, Encoding::Json]
            .into_iter()
            .find(|encoding| media_type.eq_ignore_ascii_case(encoding.content_type().as_bytes()))
            .map(Dialect::Otlp)
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
            Dialect::Otlp(encoding) => {
                let status = match &intake.failure {
                    Some(failure) => failure.status(),
                    // Also when no record was taken: nothing of it is worth sending again, and the client is told.
                    None => Status::Ok,
                };
                let message = reasons(answer, intake);
                replier.message(
                    out,
                    envelope,
                    status,
                    encoding.content_type(),
                    |out| match status {
                        Status::Ok => encoding.put_response(answer.reply().rejected, &message, out),
                        _ => encoding.put_status(status, &message, out),
                    },
                );
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
            Dialect::Otlp(encoding) => {
                replier.message(out, envelope, Status::Ok, encoding.content_type(), |out| {
                    encoding.put_response(0, "", out);
                });
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
            Dialect::Otlp(encoding) => {
                replier.message(out, envelope, status, encoding.content_type(), |out| {
                    encoding.put_status(status, &sentence.to_string(), out);
                })
            }
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
