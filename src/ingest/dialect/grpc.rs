//! gRPC: calls with one message and one reply, which are rows and what became of them.

use crate::grpc::logs::{Outcome, put_ingest_logs, put_send_log};
use crate::grpc::metadata::timeout_ms;
use crate::grpc::reply::{put_failure, put_success};
use crate::http::encodings::Encoding;
use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;
use crate::ingest::call::Call;
use crate::otlp::reply::put_response;

use super::{BodyForm, Dialect, Found, MessageForm, media_type, reasons};

/// A method that takes rows.
struct Method {
    path: &'static str,
    form: MessageForm,
    /// What a row is called.
    noun: &'static str,
    put_reply: fn(&Answer, &Intake, &mut Vec<u8>),
    /// The reply to a message without rows.
    put_empty: fn(&mut Vec<u8>),
}

static EXPORT: Method = Method {
    path: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    form: MessageForm::OtlpProtobuf,
    noun: "record",
    put_reply: |answer, intake, out| {
        put_response(answer.reply().rejected, &reasons(answer, intake, "record"), out);
    },
    put_empty: |_| {},
};

static INGEST_LOGS: Method = Method {
    path: "/logs.LogService/IngestLogs",
    form: MessageForm::IngestLogs,
    noun: "log",
    put_reply: |answer, intake, out| {
        let outcome = Outcome {
            accepted: answer.reply().accepted,
            rejected: answer.reply().rejected,
            took_ms: answer.took_ms(),
        };
        put_ingest_logs(outcome, answer.errors(intake), out);
    },
    put_empty: |out| {
        let none = Outcome {
            accepted: 0,
            rejected: 0,
            took_ms: 0,
        };
        put_ingest_logs(none, [], out);
    },
};

static SEND_LOG: Method = Method {
    path: "/logservice.LogService/SendLog",
    form: MessageForm::SendLog,
    noun: "log",
    put_reply: |answer, intake, out| {
        let reason = answer.errors(intake).next().map(|(_, reason)| reason);
        put_send_log(reason, out);
    },
    put_empty: |out| put_send_log(None, out),
};

static METHODS: [&Method; 3] = [&EXPORT, &INGEST_LOGS, &SEND_LOG];

/// What the fields of a call say of it.
pub(in crate::ingest) struct CallTerms {
    pub found: Found,
    /// How its messages are compressed, those that say they are.
    pub encoding: Encoding,
    /// What the client waits at most.
    pub timeout_ms: Option<u64>,
}

/// The call that a stream of HTTP/2 is; `None` when it is none.
pub(in crate::ingest) fn find(head: &Head<'_>) -> Option<CallTerms> {
    let is_call = matches!(
        media_type(head).to_ascii_lowercase().as_slice(),
        b"application/grpc" | b"application/grpc+proto"
    );
    let method = METHODS.iter().find(|method| method.path == head.path);
    let call = Call::at(head.path);
    let (encoding, timeout) = (head.header("grpc-encoding"), head.header("grpc-timeout"));
    let terms = |found| CallTerms {
        found,
        encoding: encoding.and_then(encoding_of).unwrap_or(Encoding::Identity),
        timeout_ms: timeout.and_then(timeout_ms),
    };
    let refused = |status, sentence| Some(terms(Found::Refused(&EXPORT, status, sentence)));
    if !is_call {
        let is_known = method.is_some() || call.is_some();
        return is_known.then(|| terms(Found::WrongMediaType(&EXPORT, "application/grpc")));
    }
    if encoding.is_some_and(|token| encoding_of(token).is_none()) {
        let sentence = "the grpc-encoding is not known; send gzip, deflate, zstd or identity";
        return refused(Status::NotImplemented, sentence);
    }
    if timeout.is_some_and(|value| timeout_ms(value).is_none()) {
        return refused(
            Status::BadRequest,
            "the grpc-timeout is up to eight digits and one of H, M, S, m, u, n",
        );
    }
    match (method, call) {
        (Some(&method), _) => Some(terms(Found::Rows(method))),
        (None, Some(call)) => Some(terms(Found::Call(&EXPORT, call))),
        (None, None) => refused(Status::NotImplemented, "no such service or method is here"),
    }
}

/// The coding of messages. That of Snappy has no frame, and is not told by its first bytes.
fn encoding_of(token: &[u8]) -> Option<Encoding> {
    Encoding::from_token(token).filter(|encoding| *encoding != Encoding::Snappy)
}

impl Dialect for Method {
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
        match &intake.failure {
            Some(failure) => {
                self.refuse(
                    replier,
                    out,
                    envelope,
                    failure.status(),
                    &reasons(answer, intake, self.noun),
                );
                failure.status()
            }
            // Also when no row was taken: nothing of it is worth sending again, and the client is told.
            None => {
                put_success(out, |out| (self.put_reply)(answer, intake, out));
                Status::Ok
            }
        }
    }

    fn answer_empty(&self, _: &Replier, out: &mut Vec<u8>, _: Envelope) -> Option<Status> {
        put_success(out, self.put_empty);
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
        let of_quota = envelope
            .rate_limit
            .and_then(|limit| u32::try_from(limit.reset_s).ok());
        let retry_after_s = of_quota.unwrap_or(replier.retry_after_s());
        put_failure(out, status, &sentence.to_string(), retry_after_s);
    }
}
