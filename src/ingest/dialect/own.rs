//! Our own: rows as JSON in any form, answered with counts.

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::http::uri::{self, IngestPath, UriError};
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;

use super::{BodyForm, Dialect, Found};

/// The dialect of `/ingest`.
pub(super) struct Own;

/// Finds it by the path.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    let rest = head.path.strip_prefix("/ingest")?;
    (rest.is_empty() || rest.starts_with('/')).then_some(Found::Rows(&Own))
}

impl Dialect for Own {
    fn body(&self) -> BodyForm {
        BodyForm::Rows
    }

    fn takes_idempotency_key(&self) -> bool {
        true
    }

    fn table<'a>(&self, head: &Head<'a>, scratch: &'a mut uri::Scratch) -> Result<IngestPath<'a>, UriError> {
        let path = uri::ingest_path(head.path, scratch)?;
        Ok(path.expect("the dialect was found by its path"))
    }

    fn answer(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        answer: &Answer,
        intake: &Intake,
    ) -> Status {
        replier.ingest(out, envelope, &answer.reply(), answer.errors(intake));
        answer.status
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
