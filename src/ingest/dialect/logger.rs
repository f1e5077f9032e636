//! Logger: one log a request, 200 without a body, or the reason as plain text.

use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;

use super::{BodyForm, Dialect, Found, MessageForm, reasons};

/// The dialect of `POST /log`.
struct Logger;

/// Finds it by the path. The body is JSON, whatever it is said to be.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    (head.path == "/log").then_some(Found::Rows(&Logger))
}

const PLAIN: &str = "text/plain; charset=utf-8";

impl Dialect for Logger {
    fn body(&self) -> BodyForm {
        BodyForm::Message(MessageForm::Logger)
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
            None if answer.reply().rejected == 0 => {
                replier.message(out, envelope, Status::Ok, PLAIN, |_| {});
                return Status::Ok;
            }
            None => Status::BadRequest,
        };
        self.refuse(replier, out, envelope, status, &reasons(answer, intake, "log"));
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
        replier.message(out, envelope, status, PLAIN, |out| {
            out.extend_from_slice(format!("{sentence}\n").as_bytes());
        });
    }
}
