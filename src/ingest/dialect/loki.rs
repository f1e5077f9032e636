//! Loki's push API: 204, or the reason as plain text.

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;

use super::{BodyForm, Dialect, Fixed, Found, MessageForm, media_type, reasons};

/// The dialect in one of its encodings.
pub(super) struct Loki(MessageForm);

static PROTOBUF: Loki = Loki(MessageForm::LokiProtobuf);

static JSON: Loki = Loki(MessageForm::LokiJson);

const CONTENT_TYPES: &str = "application/x-protobuf, application/json";

/// Finds it by the path.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    match head.path {
        // Asked for by Vector before it sends anything.
        "/ready" if matches!(head.method, "GET" | "HEAD") => {
            return Some(Found::Fixed(
                &JSON,
                Fixed {
                    status: Status::Ok,
                    content_type: PLAIN,
                    field: None,
                    body: "ready\n".into(),
                    when_there_is_room: false,
                    to_all: true,
                },
            ));
        }
        "/loki/api/v1/push" | "/api/prom/push" => {}
        _ => return None,
    }
    let media_type = media_type(head);
    let is = |name: &str| media_type.eq_ignore_ascii_case(name.as_bytes());
    Some(match media_type {
        _ if is("application/json") => Found::Rows(&JSON),
        // Loki takes what names no type for this.
        b"" => Found::Rows(&PROTOBUF),
        _ if is("application/x-protobuf") || is("application/protobuf") => Found::Rows(&PROTOBUF),
        _ => Found::WrongMediaType(&PROTOBUF, CONTENT_TYPES),
    })
}

const PLAIN: &str = "text/plain; charset=utf-8";

impl Dialect for Loki {
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
        let rejected = answer.reply().rejected;
        let status = match &intake.failure {
            Some(failure) => failure.status(),
            None if rejected == 0 => {
                replier.no_content(out, envelope);
                return Status::NoContent;
            }
            // As Loki: the others are taken, and clients send a 400 not again.
            None => Status::BadRequest,
        };
        let reasons = reasons(answer, intake, "entry");
        let sentence = match rejected {
            0 => reasons,
            _ => format!(
                "{rejected} entries were rejected, {} were taken: {reasons}",
                answer.reply().accepted
            ),
        };
        self.refuse(replier, out, envelope, status, &sentence);
        status
    }

    fn answer_empty(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        _: &Intake,
    ) -> Option<Status> {
        replier.no_content(out, envelope);
        Some(Status::NoContent)
    }

    fn refuse(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        sentence: &dyn std::fmt::Display,
    ) {
        replier.message(out, envelope, status, PLAIN, |out| {
            out.extend_from_slice(format!("{sentence}\n").as_bytes());
        });
    }
}
