//! Datadog's log intake: entries as JSON or as lines.

use std::fmt::Display;

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier, escape};
use crate::http::status::Status;
use crate::http::uri::{self, IngestPath, UriError};
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;
use crate::mapping::Vocabulary;

use super::{Asked, BodyForm, Dialect, Fixed, Found, media_type};

/// The dialect, in the version of a path and with one form of body.
pub(super) struct Datadog {
    /// Of success.
    status: Status,
    body: BodyForm,
    /// Status of a request without a key, or with one that is none.
    without_key: Status,
}

static V2_JSON: Datadog = Datadog {
    status: Status::Accepted,
    body: BodyForm::Rows,
    without_key: Status::Unauthorized,
};
static V2_TEXT: Datadog = Datadog {
    body: BodyForm::Lines,
    ..V2_JSON
};
static V1_JSON: Datadog = Datadog {
    status: Status::Ok,
    ..V2_JSON
};
static V1_TEXT: Datadog = Datadog {
    body: BodyForm::Lines,
    ..V1_JSON
};
/// Agents take a 403 alone for a key that is not valid, and anything else for a server that is not well.
static VALIDATE: Datadog = Datadog {
    without_key: Status::Forbidden,
    ..V1_JSON
};

/// What its paths take.
const CONTENT_TYPES: &str = "application/json, text/plain";

/// Parameters that are fields of each entry.
const PARAMETERS: [&str; 4] = ["ddsource", "ddtags", "hostname", "service"];

/// Finds it by the path.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    let (json, text) = match head.path {
        "/api/v2/logs" => (&V2_JSON, &V2_TEXT),
        "/v1/input" => (&V1_JSON, &V1_TEXT),
        path if path.starts_with("/v1/input/") => (&V1_JSON, &V1_TEXT),
        "/api/v1/validate" if matches!(head.method, "GET" | "HEAD") => {
            return Some(Found::Fixed(&VALIDATE, Fixed::json(r#"{"valid":true}"#)));
        }
        _ => return None,
    };
    let media_type = media_type(head);
    let is = |name: &str| media_type.eq_ignore_ascii_case(name.as_bytes());
    Some(if is("text/plain") {
        Found::Rows(text)
    } else if is("application/logplex-1") {
        Found::WrongMediaType(json, CONTENT_TYPES)
    } else {
        Found::Rows(json)
    })
}

impl Dialect for Datadog {
    fn body(&self) -> BodyForm {
        self.body
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Datadog
    }

    fn table<'a>(&self, head: &Head<'a>, scratch: &'a mut uri::Scratch) -> Result<IngestPath<'a>, UriError> {
        super::table_by_query_or_header(head, scratch)
    }

    fn asked(&self, head: &Head<'_>) -> Result<Asked, UriError> {
        let mut fields = super::fields_of_query(head, &PARAMETERS)?;
        for name in PARAMETERS {
            // Version 1 takes them as headers too.
            if !fields.iter().any(|(known, _)| *known == name)
                && let Some(value) = head
                    .header(name)
                    .and_then(|value| std::str::from_utf8(value).ok())
            {
                fields.push((name, value.into()));
            }
        }
        Ok(match fields.is_empty() && self.body != BodyForm::Lines {
            true => Asked::Nothing,
            false => Asked::Fields(Box::new(fields)),
        })
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
            None => match answer.status {
                Status::Ok | Status::Accepted if intake.errors.count == 0 => self.status,
                Status::Ok | Status::Accepted => Status::BadRequest,
                other => other,
            },
        };
        if status == self.status {
            replier.message(out, envelope, status, "application/json", |out| {
                out.extend_from_slice(b"{}");
            });
        } else {
            self.refuse(
                replier,
                out,
                envelope,
                status,
                &super::reasons(answer, intake, "log"),
            );
        }
        status
    }

    fn answer_empty(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        _: &Intake,
    ) -> Option<Status> {
        // An empty list is how clients ask whether their key is valid.
        replier.message(out, envelope, self.status, "application/json", |out| {
            out.extend_from_slice(b"{}");
        });
        Some(self.status)
    }

    fn refuse(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        sentence: &dyn Display,
    ) {
        let status = match status {
            Status::Unauthorized => self.without_key,
            status => status,
        };
        replier.message(out, envelope, status, "application/json", |out| {
            out.extend_from_slice(b"{\"errors\":[{\"status\":\"");
            out.extend_from_slice(itoa::Buffer::new().format(status.code()).as_bytes());
            out.extend_from_slice(b"\",\"title\":\"");
            let line = status.line().trim_end();
            out.extend_from_slice(&line.as_bytes()["HTTP/1.1 200 ".len()..]);
            out.extend_from_slice(b"\",\"detail\":\"");
            escape(out, &sentence.to_string());
            out.extend_from_slice(b"\"}]}");
        });
    }
}
