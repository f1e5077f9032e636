//! OTLP/HTTP: an `ExportLogsServiceRequest`, answered in the encoding it came in.

use crate::grpc::status::Code;
use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;
use crate::otlp::reply::{put_json_response, put_json_status, put_response, put_status};

use super::{BodyForm, Dialect, Found, MessageForm, media_type, reasons};

/// The dialect in one of its encodings.
pub(super) struct Otlp {
    content_type: &'static str,
    form: MessageForm,
    put_response: fn(u64, &str, &mut Vec<u8>),
    put_status: fn(u8, &str, &mut Vec<u8>),
}

static PROTOBUF: Otlp = Otlp {
    content_type: "application/x-protobuf",
    form: MessageForm::OtlpProtobuf,
    put_response,
    put_status,
};

static JSON: Otlp = Otlp {
    content_type: "application/json",
    form: MessageForm::OtlpJson,
    put_response: put_json_response,
    put_status: put_json_status,
};

/// What its paths take.
const CONTENT_TYPES: &str = "application/x-protobuf, application/json";

/// Finds it by the path.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    if !matches!(head.path, "/v1/logs" | "/v1/otlp/logs") {
        return None;
    }
    let media_type = media_type(head);
    let encoding = [&PROTOBUF, &JSON]
        .into_iter()
        .find(|encoding| media_type.eq_ignore_ascii_case(encoding.content_type.as_bytes()));
    Some(match encoding {
        Some(encoding) => Found::Rows(encoding),
        None => Found::WrongMediaType(&PROTOBUF, CONTENT_TYPES),
    })
}

impl Dialect for Otlp {
    fn body(&self) -> BodyForm {
        BodyForm::Message(self.form)
    }

    fn answer(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        answer: &Answer,
        intake: &Intake,
    ) -> Status {
        let status = match &intake.failure {
            Some(failure) => failure.status(),
            // Also when no record was taken: nothing of it is worth sending again, and the client is told.
            None => Status::Ok,
        };
        let message = reasons(answer, intake, "record");
        replier.message(out, envelope, status, self.content_type, |out| match status {
            Status::Ok => (self.put_response)(answer.reply().rejected, &message, out),
            _ => (self.put_status)(Code::of(status).number(), &message, out),
        });
        status
    }

    fn answer_empty(&self, replier: &Replier, out: &mut Vec<u8>, envelope: Envelope) -> Option<Status> {
        replier.message(out, envelope, Status::Ok, self.content_type, |out| {
            (self.put_response)(0, "", out);
        });
        Some(Status::Ok)
    }

    fn refuse(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        sentence: &dyn std::fmt::Display,
    ) {
        replier.message(out, envelope, status, self.content_type, |out| {
            (self.put_status)(Code::of(status).number(), &sentence.to_string(), out);
        });
    }
}
