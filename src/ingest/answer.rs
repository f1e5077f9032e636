//! What a request whose rows were taken is told.

use crate::ack::AckLevel;
use crate::dead_letter::SETTLED_WORDS;
use crate::http::reply::{IngestReply, ingest_body};
use crate::http::status::Status;
use crate::idempotency::StoredReply;
use crate::json::RejectReason;

use super::body::Intake;

/// The numbers of a reply, and what is said beyond its rows' own errors.
pub(super) struct Answer {
    pub status: Status,
    accepted: u64,
    rejected: u64,
    level: AckLevel,
    /// Milliseconds from the request to its reply.
    took_ms: u64,
    /// Of rows that were refused later, and of a body that was not taken to its end.
    remarks: Vec<(u64, String)>,
}

impl Intake {
    /// The reply at `level`, when `refused` of the accepted rows became dead letters.
    ///
    /// # Errors
    /// There were no rows: a status and one sentence.
    pub(super) fn answer(&self, level: AckLevel, refused: u64) -> Result<Answer, (Status, String)> {
        let accepted = self.accepted - refused;
        let rejected = self.errors.count + refused;
        let status = match &self.failure {
            Some(failure) if accepted == 0 && rejected == 0 => {
                return Err((failure.status(), failure.to_string()));
            }
            Some(failure) => failure.status(),
            None if accepted > 0 => Status::of_rows(accepted, level != AckLevel::Memory),
            None if rejected == 0 => {
                return Err((Status::BadRequest, "the body holds no rows".to_owned()));
            }
            None if refused == 0 && self.errors.only(RejectReason::TooLong) => Status::ContentTooLarge,
            None => Status::BadRequest,
        };
        let mut remarks = Vec::new();
        if refused > 0 {
            let sentence = format!(
                "{refused} of the rows were refused by ClickHouse for their content; the {SETTLED_WORDS} has them with \
                 the reason"
            );
            remarks.push((accepted + rejected, sentence));
        }
        if let Some(failure) = &self.failure {
            remarks.push((accepted + rejected, failure.to_string()));
        }
        Ok(Answer {
            status,
            accepted,
            rejected,
            level,
            took_ms: 0,
            remarks,
        })
    }
}

impl Answer {
    /// The same, given so many milliseconds after the request.
    pub(super) fn after(self, took_ms: u64) -> Answer {
        Answer { took_ms, ..self }
    }

    pub(super) fn took_ms(&self) -> u64 {
        self.took_ms
    }

    /// The ack level that was reached.
    pub(super) fn level(&self) -> AckLevel {
        self.level
    }

    pub(super) fn reply(&self) -> IngestReply<'static> {
        IngestReply {
            status: self.status,
            accepted: self.accepted,
            rejected: self.rejected,
            ack: self.level.name(),
        }
    }

    /// Index and reason of every row that is spelled out, then the remarks.
    pub(super) fn errors<'a>(&'a self, intake: &'a Intake) -> impl Iterator<Item = (u64, &'a str)> {
        let rows = intake.errors.first.iter();
        let remarks = self.remarks.iter().map(|(row, text)| (*row, text.as_str()));
        rows.map(|error| (error.row, error.text.as_str())).chain(remarks)
    }

    /// The reply as duplicates of the request get it.
    pub(super) fn stored(&self, intake: &Intake) -> StoredReply {
        let mut body = Vec::new();
        ingest_body(&mut body, &self.reply(), self.errors(intake));
        StoredReply::new(self.status, self.accepted, self.rejected, self.level, &body)
    }
}
