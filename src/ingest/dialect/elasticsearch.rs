//! Elasticsearch's bulk API, and what shippers ask before they use it.

use crate::elasticsearch::filter::Filter;
use crate::elasticsearch::probes;
use crate::elasticsearch::reply::{BulkReply, put_error, put_reply};
use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier};
use crate::http::status::Status;
use crate::http::uri::{self, IngestPath, UriError};
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;
use crate::ingest::bulk::BulkAsked;

use super::{Asked, BodyForm, Dialect, Fixed, Found};

/// The dialect of `/_bulk`.
pub(super) struct Elasticsearch;

/// Clients refuse to speak to a server that does not say so.
const PRODUCT: (&str, &str) = ("X-elastic-product", "Elasticsearch");

/// The media types that ask for the form of a version, and are answered as they ask.
const COMPATIBLE: [(&str, &str); 3] = [
    (
        "compatible-with=9",
        "application/vnd.elasticsearch+json;compatible-with=9",
    ),
    (
        "compatible-with=8",
        "application/vnd.elasticsearch+json;compatible-with=8",
    ),
    (
        "compatible-with=7",
        "application/vnd.elasticsearch+json;compatible-with=7",
    ),
];

/// Finds it by the path; asked last, because at the root any path may be an index's.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    let below = |prefix| {
        let rest = head.path.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    };
    let prefixed = below("/elasticsearch").or_else(|| below("/elastic"));
    let path = prefixed.unwrap_or(head.path);
    if bulk_index(path).is_some() {
        return Some(Found::Rows(&Elasticsearch));
    }
    let index = || {
        let name = path.strip_prefix('/')?;
        // At the root only what no other client asks for.
        (prefixed.is_some() || head.method != "GET").then(|| probes::index(head.method, name))?
    };
    let probe = probes::find(head.method, path).or_else(index)?;
    Some(Found::Fixed(
        &Elasticsearch,
        Fixed {
            status: Status::Ok,
            content_type: match probe.content_type {
                "application/json" => content_type(head),
                other => other,
            },
            field: Some(PRODUCT),
            body: probe.body,
            when_there_is_room: false,
            to_all: false,
        },
    ))
}

/// The index in the path of a bulk request, percent-encoded; empty when it names none.
fn bulk_index(path: &str) -> Option<&str> {
    let rest = path.strip_suffix('/').unwrap_or(path);
    let index = rest.strip_suffix("/_bulk")?;
    match index.strip_prefix('/') {
        None => index.is_empty().then_some(""),
        Some(index) => (!index.is_empty() && !index.contains('/')).then_some(index),
    }
}

/// The media type that the client wants to be answered in.
fn content_type(head: &Head<'_>) -> &'static str {
    let accepted = head.header("Accept").unwrap_or_default();
    let accepted = std::str::from_utf8(accepted).unwrap_or_default();
    let asked = COMPATIBLE.iter().find(|(version, _)| accepted.contains(version));
    asked.map_or("application/json", |(_, content_type)| content_type)
}

impl Dialect for Elasticsearch {
    fn body(&self) -> BodyForm {
        BodyForm::Bulk
    }

    fn takes(&self, method: &str) -> bool {
        matches!(method, "POST" | "PUT")
    }

    fn table<'a>(&self, head: &Head<'a>, scratch: &'a mut uri::Scratch) -> Result<IngestPath<'a>, UriError> {
        // Actions name indexes; the table is that of those without one of their own.
        super::table_by_query_or_header(head, scratch)
    }

    fn asked(&self, head: &Head<'_>) -> Result<Asked, UriError> {
        let prefixes = ["/elasticsearch", "/elastic", ""];
        let index = prefixes
            .iter()
            .find_map(|prefix| bulk_index(head.path.strip_prefix(prefix)?));
        let mut scratch = [0; uri::NAME_BYTES_MAX];
        let index = uri::percent_decode(index.unwrap_or_default(), &mut scratch)?;
        if index.len() > uri::NAME_BYTES_MAX {
            return Err(UriError::TooLong);
        }
        let mut scratch = [0; 4096];
        let filter = match uri::query_parameter(head.query, "filter_path") {
            None | Some("") => Filter::ALL,
            Some(patterns) => Filter::parse(uri::percent_decode(patterns, &mut scratch)?),
        };
        Ok(Asked::Bulk(Box::new(BulkAsked {
            index: index.into(),
            filter,
            content_type: content_type(head),
        })))
    }

    fn answer(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        answer: &Answer,
        intake: &Intake,
    ) -> Status {
        if let Some(failure) = &intake.failure {
            let status = as_elasticsearch(failure.status());
            self.refuse(replier, out, envelope, status, failure);
            return status;
        }
        let (Some(taken), Asked::Bulk(asked)) = (&intake.bulk, &intake.asked) else {
            unreachable!("this is the answer to a bulk request")
        };
        let mut spelled = intake.errors.first.iter().peekable();
        let reason = |item| {
            while spelled.next_if(|error| error.row < item).is_some() {}
            spelled
                .next_if(|error| error.row == item)
                .map(|error| error.text.as_str())
        };
        let reply = BulkReply {
            took_ms: answer.took_ms,
            filter: asked.filter,
            ids: taken.ids,
            nameless: &taken.table.schema().name.table,
        };
        let content_type = asked.content_type;
        replier.message_with(out, envelope, Status::Ok, content_type, Some(PRODUCT), |out| {
            put_reply(out, &reply, &taken.items, reason);
        });
        Status::Ok
    }

    fn refuse(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        sentence: &dyn std::fmt::Display,
    ) {
        let status = as_elasticsearch(status);
        let content_type = "application/json";
        replier.message_with(out, envelope, status, content_type, Some(PRODUCT), |out| {
            put_error(out, status.code(), &sentence.to_string());
        });
    }
}

/// Elasticsearch says 429 when it is full, and its clients wait then; 503 they take for a node that is gone.
fn as_elasticsearch(status: Status) -> Status {
    match status {
        Status::ServiceUnavailable => Status::TooManyRequests,
        other => other,
    }
}
