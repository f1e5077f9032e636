//! Cribl Stream's bulk endpoint: events as lines of JSON.

use std::fmt::Display;

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::http::uri::{self, IngestPath, UriError};
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;
use crate::mapping::Vocabulary;

use super::{BodyForm, Dialect, Found};

/// The dialect of `/cribl/_bulk`.
pub(super) struct Cribl;

/// Finds it by the path.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    (head.path == "/cribl/_bulk").then_some(Found::Rows(&Cribl))
}

impl Dialect for Cribl {
    fn body(&self) -> BodyForm {
        BodyForm::Rows
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Cribl
    }

    fn table<'a>(&self, head: &Head<'a>, scratch: &'a mut uri::Scratch) -> Result<IngestPath<'a>, UriError> {
        super::table_by_query_or_header(head, scratch)
    }

    fn answer(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        answer: &Answer,
        intake: &Intake,
    ) -> Status {
        let status = match answer.status {
            Status::Ok | Status::Accepted if intake.errors.count > 0 => Status::BadRequest,
            Status::Accepted => Status::Ok,
            other => other,
        };
        if status == Status::Ok {
            replier.message(out, envelope, status, "application/json", |out| {
                out.extend_from_slice(b"{\"success\":true,\"items\":");
                out.extend_from_slice(itoa::Buffer::new().format(intake.accepted).as_bytes());
                out.push(b'}');
            });
        } else {
            self.refuse(
                replier,
                out,
                envelope,
                status,
                &super::reasons(answer, intake, "event"),
            );
        }
        status
    }

    fn refuse(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        sentence: &dyn Display,
    ) {
        replier.error(out, envelope, status, sentence);
    }
}
