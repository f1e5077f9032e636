//! Splunk's HTTP Event Collector: events as JSON, raw lines, acknowledgements and health.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use crate::access::Refusal;
use crate::http::head::Head;
use crate::http::reply::{Envelope, Replier, escape};
use crate::http::status::Status;
use crate::http::uri::{self, IngestPath, UriError};
use crate::ingest::answer::Answer;
use crate::ingest::body::Intake;
use crate::ingest::lines::LineFields;
use crate::mapping::Vocabulary;

use super::{Asked, BodyForm, Dialect, Fixed, Found};

/// The dialect at one of its endpoints.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Splunk {
    Event,
    Raw,
    Ack,
    Health,
    /// Whatever it asks for, in a channel that is none.
    BadChannel,
}

/// What the head of a request says.
pub(in crate::ingest) struct SplunkAsked {
    /// It names a channel, and so wants to know whether its events are safe.
    has_channel: bool,
    /// What it says of all raw lines.
    pub fields: LineFields,
}

/// Parameters of raw lines that are fields of each.
const LINE_PARAMETERS: [&str; 5] = ["time", "host", "source", "sourcetype", "index"];

/// Finds it by the path.
pub(super) fn find(head: &Head<'_>) -> Option<Found> {
    let endpoint = head.path.strip_prefix("/services/collector")?;
    let endpoint = endpoint.strip_suffix("/1.0").unwrap_or(endpoint);
    if channel_of(head).is_some_and(|channel| !is_guid(channel)) {
        let sentence = "a channel is a GUID, like 0aeeac95-ac74-4aa9-b30d-6c4c0ac581ba";
        return Some(Found::Refused(&Splunk::BadChannel, Status::BadRequest, sentence));
    }
    Some(match endpoint {
        "" | "/" | "/event" => Found::Rows(&Splunk::Event),
        "/raw" => Found::Rows(&Splunk::Raw),
        "/ack" => Found::Rows(&Splunk::Ack),
        "/health" => Found::Fixed(
            &Splunk::Health,
            Fixed {
                when_there_is_room: true,
                to_all: true,
                ..Fixed::json(r#"{"text":"HEC is healthy","code":17}"#)
            },
        ),
        _ => return None,
    })
}

/// The channel a request is in; an empty one is none.
fn channel_of<'h>(head: &Head<'h>) -> Option<&'h [u8]> {
    let channel = uri::query_parameter(head.query, "channel").map(str::as_bytes);
    let channel = channel.or_else(|| head.header("X-Splunk-Request-Channel"));
    channel.filter(|channel| !channel.is_empty())
}

/// 32 hexadecimal digits, in groups of 8, 4, 4, 4 and 12.
fn is_guid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The next acknowledgement's number.
static NEXT_ACK: AtomicU64 = AtomicU64::new(0);

/// Numbers of a second: a process that gave more for as long as it runs would be followed by one that gives some again.
const ACKS_A_SECOND: u64 = 1 << 22;

/// No server of this kind ran before 2024: lower numbers are another's.
const FIRST_ACK: u64 = 1_704_067_200 * ACKS_A_SECOND;

/// Begins to number acknowledgements at the time of the start, so that none is given twice by processes that follow each other.
///
/// A reply comes once its events are as safe as was asked for, so every number that was ever given stands for events that
/// are. Whether one was given can be told without a list, on every core and after a restart. Below 2^53 until 2038: JavaScript
/// keeps them.
pub(in crate::ingest) fn number_acks_from(unix_s: u64) {
    NEXT_ACK.fetch_max((unix_s * ACKS_A_SECOND).max(FIRST_ACK), Ordering::Relaxed);
}

fn next_ack() -> u64 {
    NEXT_ACK.fetch_add(1, Ordering::Relaxed)
}

/// Events under this number are safe.
fn is_acknowledged(ack: u64) -> bool {
    (FIRST_ACK..NEXT_ACK.load(Ordering::Relaxed)).contains(&ack)
}

#[derive(Deserialize)]
struct AckQuery {
    acks: Vec<u64>,
}

impl Dialect for Splunk {
    fn body(&self) -> BodyForm {
        match self {
            Splunk::Event | Splunk::Health | Splunk::BadChannel => BodyForm::Objects,
            Splunk::Raw => BodyForm::Lines,
            Splunk::Ack => BodyForm::Query,
        }
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::SplunkEvent
    }

    fn table<'a>(&self, head: &Head<'a>, scratch: &'a mut uri::Scratch) -> Result<IngestPath<'a>, UriError> {
        super::table_by_query_or_header(head, scratch)
    }

    fn asked(&self, head: &Head<'_>) -> Result<Asked, UriError> {
        let fields = match self {
            Splunk::Raw => super::fields_of_query(head, &LINE_PARAMETERS)?,
            _ => LineFields::new(),
        };
        Ok(Asked::Splunk(Box::new(SplunkAsked {
            has_channel: channel_of(head).is_some(),
            fields,
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
            self.refuse(replier, out, envelope, failure.status(), failure);
            return failure.status();
        }
        if let Some(bad) = intake.errors.first.first().filter(|_| intake.errors.count > 0) {
            let status = match answer.status {
                Status::ContentTooLarge => Status::ContentTooLarge,
                _ => Status::BadRequest,
            };
            replier.message(out, envelope, status, "application/json", |out| {
                put_code(out, 6, "Invalid data format", |out| {
                    out.extend_from_slice(b",\"invalid-event-number\":");
                    out.extend_from_slice(itoa::Buffer::new().format(bad.row).as_bytes());
                    put_reason(out, &bad.text);
                });
            });
            return status;
        }
        replier.message(out, envelope, Status::Ok, "application/json", |out| {
            put_code(out, 0, "Success", |out| {
                if matches!(&intake.asked, Asked::Splunk(asked) if asked.has_channel) {
                    out.extend_from_slice(b",\"ackId\":");
                    out.extend_from_slice(itoa::Buffer::new().format(next_ack()).as_bytes());
                }
            });
        });
        Status::Ok
    }

    fn answer_empty(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        intake: &Intake,
    ) -> Option<Status> {
        if *self == Splunk::Ack {
            return Some(answer_acks(replier, out, envelope, intake));
        }
        replier.message(out, envelope, Status::BadRequest, "application/json", |out| {
            put_code(out, 5, "No data", |_| {});
        });
        Some(Status::BadRequest)
    }

    fn refuse(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        status: Status,
        sentence: &dyn Display,
    ) {
        let (code, text) = match (status.code(), self) {
            (400, Splunk::BadChannel) => (11, "Invalid data channel"),
            (403 | 404, _) => (7, "Incorrect index"),
            (429 | 503, Splunk::Health) => (18, "HEC is unhealthy, queues are full"),
            (429 | 503, _) => (9, "Server is busy"),
            (500.., _) => (8, "Internal server error"),
            _ => (6, "Invalid data format"),
        };
        replier.message(out, envelope, status, "application/json", |out| {
            put_code(out, code, text, |out| put_reason(out, &sentence.to_string()));
        });
    }

    fn refuse_sender(
        &self,
        replier: &Replier,
        out: &mut Vec<u8>,
        envelope: Envelope,
        refusal: &Refusal,
    ) -> Status {
        let (status, code, text) = match refusal {
            Refusal::Missing => (Status::Unauthorized, 2, "Token is required"),
            Refusal::Malformed | Refusal::Ambiguous => (Status::Unauthorized, 3, "Invalid authorization"),
            // What Splunk answers a token that it does not know, and no 401.
            Refusal::Unknown | Refusal::NotIngest | Refusal::NotAdmin | Refusal::NotAllowedFrom => {
                (Status::Forbidden, 4, "Invalid token")
            }
            Refusal::TableNotAllowed | Refusal::OverQuota(_) => {
                self.refuse(replier, out, envelope, refusal.status(), refusal);
                return refusal.status();
            }
        };
        replier.message(out, envelope, status, "application/json", |out| {
            put_code(out, code, text, |out| put_reason(out, &refusal.to_string()));
        });
        status
    }
}

/// Answers which acknowledgements are given.
fn answer_acks(replier: &Replier, out: &mut Vec<u8>, envelope: Envelope, intake: &Intake) -> Status {
    let has_channel = matches!(&intake.asked, Asked::Splunk(asked) if asked.has_channel);
    let query: Option<AckQuery> = serde_json::from_slice(&intake.query).ok();
    let status = match (has_channel, &query) {
        (true, Some(_)) => Status::Ok,
        _ => Status::BadRequest,
    };
    replier.message(out, envelope, status, "application/json", |out| {
        match (has_channel, query) {
            (false, _) => put_code(out, 10, "Data channel is missing", |_| {}),
            (true, None) => put_code(out, 6, "Invalid data format", |_| {}),
            (true, Some(query)) => {
                out.extend_from_slice(b"{\"acks\":{");
                for (at, ack) in query.acks.iter().enumerate() {
                    let separator: &[u8] = if at == 0 { b"\"" } else { b",\"" };
                    out.extend_from_slice(separator);
                    out.extend_from_slice(itoa::Buffer::new().format(*ack).as_bytes());
                    out.extend_from_slice(match is_acknowledged(*ack) {
                        true => b"\":true",
                        false => b"\":false",
                    });
                }
                out.extend_from_slice(b"}}");
            }
        }
    });
    status
}

fn put_code(out: &mut Vec<u8>, code: u16, text: &str, put_more: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"text\":\"");
    escape(out, text);
    out.extend_from_slice(b"\",\"code\":");
    out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    put_more(out);
    out.push(b'}');
}

/// A member that Splunk does not have, for whoever reads it.
fn put_reason(out: &mut Vec<u8>, reason: &str) {
    out.extend_from_slice(b",\"reason\":\"");
    escape(out, reason);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledges_what_was_given_by_this_process_or_one_before_and_nothing_else() {
        number_acks_from(1_764_340_000);
        let given = next_ack();
        assert!(given < 1 << 53);
        assert!(is_acknowledged(given));
        // Of a process that began an hour ago.
        assert!(is_acknowledged(given - 3600 * ACKS_A_SECOND));
        assert!(!is_acknowledged(NEXT_ACK.load(Ordering::Relaxed)));
        assert!(!is_acknowledged(0));
        assert!(!is_acknowledged(u64::MAX));
        number_acks_from(1_764_000_000);
        assert!(next_ack() > given, "an earlier time does not turn it back");
    }
}
