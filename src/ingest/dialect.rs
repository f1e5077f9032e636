//! Which protocol a request speaks, and how that protocol puts what became of it.
//!
//! A dialect is one file: its paths, the form of its bodies, where it names a table, its replies. All else is the same for
//! all of them.

mod cribl;
mod datadog;
mod elasticsearch;
pub(super) mod grpc;
mod logentry;
mod logger;
mod logtide;
mod loki;
mod otlp;
mod own;
mod splunk;

use std::borrow::Cow;
use std::io;

use crate::access::Refusal;
use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::http::uri::{self, IngestPath, UriError};
use crate::idempotency::StoredReply;
use crate::mapping::Vocabulary;

use super::answer::Answer;
use super::body::Intake;
use super::bulk::BulkAsked;
use super::call::Call;
use super::lines::LineFields;

pub(super) use splunk::number_acks_from;

/// A protocol in front of the rows.
pub(super) trait Dialect: Sync {
    /// What its bodies are.
    fn body(&self) -> BodyForm;

    /// What the keys of its rows mean.
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Own
    }

    /// Methods that bring it rows.
    fn takes(&self, method: &str) -> bool {
        method == "POST"
    }

    /// What the request's head says beyond its table, for the body's taker and the reply.
    ///
    /// # Errors
    /// It is not percent-encoded text.
    fn asked(&self, _: &Head<'_>) -> Result<Asked, UriError> {
        Ok(Asked::Nothing)
    }

    /// An `Idempotency-Key` makes a request safe to repeat.
    fn takes_idempotency_key(&self) -> bool {
        false
    }

    /// The reply to a request whose rows were taken, as duplicates of it get it.
    fn stored(&self, answer: &Answer, intake: &Intake) -> StoredReply {
        answer.stored(intake)
    }

    /// The table the request names, if it does.
    ///
    /// # Errors
    /// What it names cannot be a table.
    fn table<'a>(&self, head: &Head<'a>, scratch: &'a mut uri::Scratch) -> Result<IngestPath<'a>, UriError> {
        table_by_query_or_header(head, scratch)
    }

    /// Appends the reply to a request whose rows were taken; its status.
    fn answer(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        answer: &Answer,
        intake: &Intake,
    ) -> Status;

    /// Appends the reply to a request without rows, if that is no mistake here.
    fn answer_empty(&self, _: &Replier, _: &mut Vec<u8>, _: Envelope, _: &Intake) -> Option<Status> {
        None
    }

    /// Appends a refusal.
    fn refuse(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        sentence: &dyn std::fmt::Display,
    );

    /// Appends the refusal of a sender; its status.
    fn refuse_sender(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        refusal: &Refusal,
    ) -> Status {
        self.refuse(replier, out, envelope, refusal.status(), refusal);
        refusal.status()
    }
}

/// What the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyForm {
    /// Rows as JSON text, taken as they arrive.
    Rows,
    /// As `Rows`, but several objects may stand on a line that others stand alone on.
    Objects,
    /// Lines of text, each a row.
    Lines,
    /// A question about other requests, received whole.
    Query,
    /// Elasticsearch's actions and documents, taken as they arrive.
    Bulk,
    /// One message, received whole.
    Message(MessageForm),
}

/// What a head says for its dialect alone.
#[derive(Default)]
pub(super) enum Asked {
    #[default]
    Nothing,
    Bulk(Box<BulkAsked>),
    Splunk(Box<splunk::SplunkAsked>),
    /// Fields of all its rows.
    Fields(Box<LineFields>),
}

impl Asked {
    /// Fields of all rows.
    pub fn fields(&self) -> &[(&'static str, Box<str>)] {
        match self {
            Asked::Splunk(asked) => &asked.fields,
            Asked::Fields(fields) => fields,
            Asked::Nothing | Asked::Bulk(_) => &[],
        }
    }
}

/// A reply that needs no rows.
pub(super) struct Fixed {
    pub status: Status,
    pub content_type: &'static str,
    pub field: Option<(&'static str, &'static str)>,
    pub body: Cow<'static, str>,
    /// It is refused with 503 while the server is full.
    pub when_there_is_room: bool,
    /// It is told without a key, as by the server it stands for: those who ask have none.
    pub to_all: bool,
}

impl Fixed {
    /// 200 with a JSON body.
    fn json(body: &'static str) -> Fixed {
        Fixed {
            status: Status::Ok,
            content_type: "application/json",
            field: None,
            body: Cow::Borrowed(body),
            when_there_is_room: false,
            to_all: false,
        }
    }
}

/// The messages that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageForm {
    OtlpProtobuf,
    OtlpJson,
    /// A block of Snappy.
    LokiProtobuf,
    LokiJson,
    LogEntry,
    LogEntryBatch,
    LogEntryJson,
    /// Of a call.
    IngestLogs,
    /// Of a call.
    SendLog,
    Logger,
    LogTide,
    /// One object, or one a line.
    LogTideSingle,
}

/// What a request's head asks for.
pub(super) enum Found {
    /// Its body holds rows.
    Rows(&'static dyn Dialect),
    /// Its body is of a media type that the path does not take; those it takes.
    WrongMediaType(&'static dyn Dialect, &'static str),
    /// A call of gRPC that is more than rows; its refusals are those of the dialect.
    Call(&'static dyn Dialect, Call),
    /// It cannot be taken; why.
    Refused(&'static dyn Dialect, Status, &'static str),
    /// It asks for what does not depend on rows.
    Fixed(&'static dyn Dialect, Fixed),
    /// Nothing is at its path.
    Nothing,
}

impl Found {
    /// The dialect a refusal is put in.
    pub(super) fn dialect(&self) -> &'static dyn Dialect {
        match self {
            Found::Rows(dialect)
            | Found::WrongMediaType(dialect, _)
            | Found::Call(dialect, _)
            | Found::Refused(dialect, ..)
            | Found::Fixed(dialect, _) => *dialect,
            Found::Nothing => OWN,
        }
    }
}

impl Found {
    /// It is answered whoever asks: probes of load balancers and of Kubernetes have no key.
    pub(super) fn is_told_to_all(&self) -> bool {
        match self {
            Found::Fixed(_, fixed) => fixed.to_all,
            Found::Call(_, call) => *call == Call::HealthCheck,
            _ => false,
        }
    }
}

/// The dialect of requests of which too little is known.
pub(super) static OWN: &dyn Dialect = &own::Own;

/// The dialect of a path.
pub(super) fn find(head: &Head<'_>) -> Found {
    own::find(head)
        .or_else(|| otlp::find(head))
        .or_else(|| loki::find(head))
        .or_else(|| logentry::find(head))
        .or_else(|| logger::find(head))
        .or_else(|| logtide::find(head))
        .or_else(|| splunk::find(head))
        .or_else(|| datadog::find(head))
        .or_else(|| cribl::find(head))
        .or_else(|| elasticsearch::find(head))
        .unwrap_or(Found::Nothing)
}

/// The media type of the body, without parameters.
fn media_type<'a>(head: &Head<'a>) -> &'a [u8] {
    let media_type = head.content_type.split(|byte| *byte == b';').next();
    media_type.unwrap_or_default().trim_ascii()
}

/// The table that `?table=` or `X-Ringhouse-Table` names; the query goes first.
fn table_by_query_or_header<'a>(
    head: &Head<'a>,
    scratch: &'a mut uri::Scratch,
) -> Result<IngestPath<'a>, UriError> {
    let named = uri::query_parameter(head.query, "table").or_else(|| {
        let name = head.header("X-Ringhouse-Table")?;
        // What is no text is no table's name either, and is refused as one.
        Some(std::str::from_utf8(name).unwrap_or_default())
    });
    match named {
        None => Ok(IngestPath::DEFAULT),
        Some(name) => uri::table_name(name, scratch),
    }
}

/// Bytes of a parameter's value that is a field of rows, decoded.
const FIELD_BYTES_MAX: usize = 4096;

/// The parameters of these names that the query has, as fields.
fn fields_of_query(head: &Head<'_>, names: &[&'static str]) -> Result<LineFields, UriError> {
    let mut fields = LineFields::new();
    let mut scratch = [0; FIELD_BYTES_MAX];
    for name in names {
        if let Some(value) = uri::query_parameter(head.query, name).filter(|value| !value.is_empty()) {
            let value = uri::percent_decode(value, &mut scratch)?;
            fields.push((name, value.into()));
        }
    }
    Ok(fields)
}

/// The first reasons why rows were rejected, as one text; a row is called `noun`.
fn reasons(answer: &Answer, intake: &Intake, noun: &str) -> String {
    let reasons: Vec<String> = answer
        .errors(intake)
        .map(|(row, reason)| format!("{noun} {row}: {reason}"))
        .collect();
    reasons.join("; ")
}

/// Appends formatted text.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    io::Write::write_fmt(out, text).expect("a Vec takes all");
}

/// Appends a text in JSON.
fn put_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes all, and a text is JSON");
}
