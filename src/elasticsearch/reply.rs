//! What a bulk request is told: an item for every action, in order.

use super::filter::{Filter, Leaf};
use super::items::{Item, Items, Kind, Outcome};
use crate::http::reply::escape;
use crate::json::RejectReason;

/// What a reply says beside its items.
#[derive(Debug, Clone, Copy)]
pub struct BulkReply<'a> {
    /// Milliseconds since the request began.
    pub took_ms: u64,
    /// What is wanted of it.
    pub filter: Filter,
    /// Makes ids for documents without one.
    pub ids: IdMaker,
    /// The name of actions without an index.
    pub nameless: &'a str,
}

/// Makes ids of 20 characters that no other process, core or request makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMaker {
    /// Of the process and the core.
    pub maker: u64,
    /// Of the request's first item.
    pub first: u64,
}

/// The characters of an id, URL-safe.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl IdMaker {
    /// The id of an item: 60 bits for the maker, 60 for the document.
    pub fn id(self, item: u64) -> [u8; 20] {
        let bits = u128::from(self.maker) << 60 ^ u128::from(self.first + item);
        std::array::from_fn(|at| ALPHABET[(bits >> (114 - 6 * at) & 63) as usize])
    }
}

/// Appends the reply's body. `reasons` gives the sentence of a rejected item, if there is one, for growing item numbers.
pub fn put_reply<'r>(
    out: &mut Vec<u8>,
    reply: &BulkReply<'_>,
    items: &Items,
    mut reason: impl FnMut(u64) -> Option<&'r str>,
) {
    let filter = reply.filter;
    let mut digits = itoa::Buffer::new();
    out.push(b'{');
    // Took and errors are of no kind.
    let errors = items.has_errors();
    if filter.wants(Kind::Index, Leaf::Took) {
        out.extend_from_slice(b"\"took\":");
        out.extend_from_slice(digits.format(reply.took_ms).as_bytes());
        out.push(b',');
    }
    if filter.wants(Kind::Index, Leaf::Errors) {
        out.extend_from_slice(if errors {
            b"\"errors\":true,"
        } else {
            b"\"errors\":false,"
        });
    }
    let start = out.len();
    for (number, item) in items.iter().enumerate() {
        let number = number as u64;
        put_item(out, reply, number, &item, &mut reason);
    }
    if out.len() > start {
        // The first item begins with a place for the array's name.
        out.splice(start..start + 1, *b"\"items\":[");
        out.push(b']');
    } else if filter == Filter::ALL {
        out.extend_from_slice(b"\"items\":[]");
    } else if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b'}');
}

/// Appends a comma and the item, or nothing when nothing of it is wanted.
fn put_item<'r>(
    out: &mut Vec<u8>,
    reply: &BulkReply<'_>,
    number: u64,
    item: &Item<'_>,
    reason: &mut impl FnMut(u64) -> Option<&'r str>,
) {
    let wants = |leaf| reply.filter.wants(item.kind, leaf);
    let mut digits = itoa::Buffer::new();
    let item_start = out.len();
    out.extend_from_slice(b",{\"");
    out.extend_from_slice(item.kind.name().as_bytes());
    out.extend_from_slice(b"\":{");
    let start = out.len();
    if wants(Leaf::Index) {
        out.extend_from_slice(b"\"_index\":\"");
        escape(
            out,
            match item.index {
                "" => reply.nameless,
                named => named,
            },
        );
        out.extend_from_slice(b"\",");
    }
    if wants(Leaf::Id) {
        out.extend_from_slice(b"\"_id\":");
        match (item.id, item.outcome) {
            ("", Outcome::Created) => {
                out.push(b'"');
                out.extend_from_slice(&reply.ids.id(number));
                out.push(b'"');
            }
            ("", _) => out.extend_from_slice(b"null"),
            (id, _) => {
                out.push(b'"');
                out.extend_from_slice(id.as_bytes());
                out.push(b'"');
            }
        }
        out.push(b',');
    }
    if item.outcome == Outcome::Created {
        if wants(Leaf::Version) {
            out.extend_from_slice(b"\"_version\":1,");
        }
        if wants(Leaf::Result) {
            out.extend_from_slice(b"\"result\":\"created\",");
        }
        put_object(out, b"\"_shards\":{", |out| {
            for (leaf, text) in [
                (Leaf::ShardsTotal, &b"\"total\":1,"[..]),
                (Leaf::ShardsSuccessful, b"\"successful\":1,"),
                (Leaf::ShardsFailed, b"\"failed\":0,"),
            ] {
                if wants(leaf) {
                    out.extend_from_slice(text);
                }
            }
        });
        if wants(Leaf::SeqNo) {
            out.extend_from_slice(b"\"_seq_no\":");
            out.extend_from_slice(digits.format(reply.ids.first + number).as_bytes());
            out.push(b',');
        }
        if wants(Leaf::PrimaryTerm) {
            out.extend_from_slice(b"\"_primary_term\":1,");
        }
    }
    if wants(Leaf::Status) {
        out.extend_from_slice(b"\"status\":");
        out.extend_from_slice(digits.format(item.outcome.status()).as_bytes());
        out.push(b',');
    }
    if item.outcome != Outcome::Created {
        let (kind, usual) = error_of(item.outcome);
        let text = reason(number).unwrap_or(usual);
        put_object(out, b"\"error\":{", |out| {
            if wants(Leaf::ErrorType) {
                out.extend_from_slice(b"\"type\":\"");
                out.extend_from_slice(kind.as_bytes());
                out.extend_from_slice(b"\",");
            }
            if wants(Leaf::ErrorReason) {
                out.extend_from_slice(b"\"reason\":\"");
                escape(out, text);
                out.extend_from_slice(b"\",");
            }
        });
    }
    if out.len() == start {
        out.truncate(item_start);
        return;
    }
    // In place of the comma behind the last member.
    *out.last_mut().expect("something was appended") = b'}';
    out.push(b'}');
}

/// Appends an object and a comma, or nothing when it is empty.
fn put_object(out: &mut Vec<u8>, head: &[u8], put_members: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(head);
    let members = out.len();
    put_members(out);
    if out.len() == members {
        out.truncate(start);
        return;
    }
    *out.last_mut().expect("something was appended") = b'}';
    out.push(b',');
}

/// Type and reason of an item's error, as Elasticsearch calls it where it has it.
fn error_of(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Created => unreachable!("asked for errors only"),
        Outcome::Rejected(reason) => ("document_parsing_exception", sentence(reason)),
        Outcome::Unsupported => (
            "illegal_argument_exception",
            "rows are neither updated nor deleted here; send index or create",
        ),
        Outcome::Name => (
            "illegal_argument_exception",
            "the index or the id is longer than it may be, or the index is no name",
        ),
        Outcome::NoTable => (
            "index_not_found_exception",
            "no table takes documents of this index",
        ),
        Outcome::Forbidden => (
            "security_exception",
            "the key does not reach the table of this index",
        ),
        Outcome::Full => (
            "es_rejected_execution_exception",
            "the server holds as many rows as it can; send this item again later",
        ),
    }
}

/// What is said of rejected documents beyond those that are spelled out.
fn sentence(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::Json => "the document is not valid JSON",
        RejectReason::Utf8 => "the document is not valid UTF-8",
        RejectReason::NotObject => "the document is missing, or not an object",
        RejectReason::TooDeep => "the document is nested too deep",
        RejectReason::TooLong => "the document is too long",
        RejectReason::Attributes => "the document has too many fields, or one of too long a name",
        RejectReason::Type => "a field is of a type its column does not take",
        RejectReason::Range => "a field is out of its column's range",
        RejectReason::Time => "a time is in no known form",
        RejectReason::Protobuf => "the document is not valid protobuf",
        RejectReason::MessagePack => "the document is not valid MessagePack",
        RejectReason::Rule => "the document is against a rule of its protocol",
    }
}

/// Appends the body of a refusal.
pub fn put_error(out: &mut Vec<u8>, status: u16, sentence: &str) {
    let kind = match status {
        401 | 403 => "security_exception",
        404 => "index_not_found_exception",
        429 | 503 => "es_rejected_execution_exception",
        500.. => "exception",
        _ => "illegal_argument_exception",
    };
    let put_cause = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"reason\":\"");
        escape(out, sentence);
        out.push(b'"');
    };
    out.extend_from_slice(b"{\"error\":{\"root_cause\":[{");
    put_cause(out);
    out.extend_from_slice(b"}],");
    put_cause(out);
    out.extend_from_slice(b"},\"status\":");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b'}');
}
