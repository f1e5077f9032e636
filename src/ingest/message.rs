//! Takes a body that is one message: received whole, then pushed pass by pass.

use std::fmt;
use std::io;
use std::rc::Rc;

use crate::http::body::BodyError;
use crate::http::encodings::Encoding;
use crate::http::head::Framing;
use crate::json::{RowErrors, RowFault};
use crate::otlp::{JsonMessage, Message, Progress, WrongStructure};
use crate::runtime;

use super::Core;
use super::body::{Failure, Intake, PushEnd, Terms};
use super::connection::Session;
use super::dialect::MessageForm;
use super::table::Table;

/// Why a body is not the message it should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Malformed {
    Protobuf,
    Json(RowFault),
    Structure(WrongStructure),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Protobuf => f.write_str("the body is not the protobuf message it should be"),
            Malformed::Json(fault) => write!(f, "the body is {fault}"),
            Malformed::Structure(wrong) => write!(f, "the body is {wrong}"),
        }
    }
}

impl Session<'_> {
    /// Takes the records of a message into `table`.
    ///
    /// # Errors
    /// When the connection broke; none of its rows was taken then.
    pub(super) async fn take_message(
        &mut self,
        form: MessageForm,
        table: &Rc<Table>,
        framing: Framing,
        encoding: Encoding,
        terms: Terms,
    ) -> io::Result<Intake> {
        let core = self.core;
        let mut intake = Intake::new(&core.limits);
        let bytes_max = core.limits.message_bytes_max;
        let too_long = Failure::Body(BodyError::TooLong {
            bytes_max: bytes_max as u64,
        });
        if let (Framing::Length(bytes), Encoding::Identity) = (framing, encoding)
            && bytes > bytes_max as u64
        {
            intake.failure = Some(too_long);
            return Ok(intake);
        }
        let mut source = match self.source(framing, encoding) {
            Ok(source) => source,
            Err(failure) => {
                intake.failure = Some(failure);
                return Ok(intake);
            }
        };
        self.expect_progress();
        loop {
            let (text, end) = source.text(&self.buffer);
            if text.len() > bytes_max {
                intake.failure = Some(too_long);
                return Ok(intake);
            }
            if end {
                break;
            }
            if let Err(failure) = self.receive(&mut source).await? {
                intake.failure = Some(failure);
                return Ok(intake);
            }
        }
        let none = intake.errors.counts();
        let len = source.text(&self.buffer).0.len();
        let (mut at, mut progress) = (0, None::<Progress>);
        while progress.is_none_or(|progress| at < progress.records()) && intake.failure.is_none() {
            let (bytes, _) = source.text(&self.buffer);
            match core.push_message(form, table, bytes, at, progress, &mut intake.errors, terms) {
                Err(malformed) => intake.failure = Some(Failure::Message(malformed)),
                Ok((so_far, pushed)) => {
                    progress = Some(so_far);
                    at += pushed.consumed;
                    intake.accepted += pushed.accepted;
                    if pushed.blocked && !self.wait_for_room(table).await {
                        intake.failure = Some(Failure::Log(core.log_error.get()));
                    }
                    runtime::yield_if_needed().await;
                }
            }
        }
        source.consume(&mut self.buffer, len);
        intake
            .errors
            .each_since(&none, |reason, rows| core.metrics.reject(reason.label(), rows));
        Ok(intake)
    }
}

impl Core {
    /// Pushes the records of a message from `at` on; how far it has come, which is not known the first time, and what was done.
    #[expect(clippy::too_many_arguments, reason = "a message, and where it goes")]
    fn push_message(
        &self,
        form: MessageForm,
        table: &Rc<Table>,
        bytes: &[u8],
        at: usize,
        progress: Option<Progress>,
        errors: &mut RowErrors,
        terms: Terms,
    ) -> Result<(Progress, PushEnd), Malformed> {
        match form {
            MessageForm::OtlpProtobuf => {
                let message = match progress {
                    Some(progress) => Message::again(bytes, progress),
                    None => Message::parse(bytes).map_err(|_| Malformed::Protobuf)?,
                };
                let pushed = self.push(table, &message, at, at as u64, errors, terms);
                Ok((message.progress(), pushed))
            }
            // Parsed again when it had to wait: the tape is many times its size, and there is one.
            MessageForm::OtlpJson => {
                let mut parser = self.message_parser.borrow_mut();
                let taken = parser.parse(bytes, |nodes| {
                    let message = JsonMessage::parse(nodes).map_err(Malformed::Structure)?;
                    let pushed = self.push(table, &message, at, at as u64, errors, terms);
                    Ok((Progress::new(message.records()), pushed))
                });
                taken.map_err(Malformed::Json)?
            }
        }
    }
}
