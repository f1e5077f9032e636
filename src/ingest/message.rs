//! Takes a body that is one message: received whole, then pushed pass by pass.

use std::io;
use std::mem;
use std::rc::Rc;

use crate::http::body::BodyError;
use crate::http::encodings::Encoding;
use crate::http::head::Framing;
use crate::http::receive_buffer::ReceiveBuffer;
use crate::otlp::Message;
use crate::runtime;

use super::body::{Failure, Intake, Waiting};
use super::connection::Session;
use super::table::Table;

impl Session<'_> {
    /// Takes the records of an OTLP request into `table`.
    ///
    /// # Errors
    /// When the connection broke; none of its rows was taken then.
    pub(super) async fn take_message(
        &mut self,
        table: &Rc<Table>,
        framing: Framing,
        encoding: Encoding,
        waiting: Waiting,
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
        // Taken out while the message is read: waiting for room needs the session.
        let buffer = mem::replace(&mut self.buffer, ReceiveBuffer::new(&core.buffers));
        let (bytes, _) = source.text(&buffer);
        let len = bytes.len();
        match Message::parse(bytes) {
            Err(_) => intake.failure = Some(Failure::Protobuf),
            Ok(message) => {
                let mut at = 0;
                while at < message.records() && intake.failure.is_none() {
                    let pushed = core.push(table, &message, at, at as u64, &mut intake.errors, waiting);
                    at += pushed.consumed;
                    intake.accepted += pushed.accepted;
                    if pushed.blocked && !self.wait_for_room(table).await {
                        intake.failure = Some(Failure::Log(core.log_error.get()));
                    }
                    runtime::yield_if_needed().await;
                }
            }
        }
        self.buffer = buffer;
        source.consume(&mut self.buffer, len);
        intake
            .errors
            .each_since(&none, |reason, rows| core.metrics.reject(reason.label(), rows));
        Ok(intake)
    }
}
