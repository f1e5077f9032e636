//! Reads an action line: what is to be done with the document behind it, and where.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::items::Kind;

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action<'b> {
    /// What it asks for.
    pub kind: Kind,
    /// The index it names.
    pub index: Option<Cow<'b, str>>,
    /// The document's id as JSON has it between the quotes, so that it can be repeated as it is.
    pub id: Option<&'b str>,
}

/// Why a request ends at an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionError {
    /// It is not an object of one action with its metadata; the line's number, from 1.
    Malformed(u64),
    /// It is longer than [`ACTION_BYTES_MAX`]; the line's number, from 1.
    TooLong(u64),
    /// The request has more actions than its reply may have items.
    TooMany,
    /// The request names more different indexes than it may.
    TooManyIndexes,
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActionError::Malformed(line) => write!(
                f,
                "Malformed action/metadata line [{line}], expected an object of index or create with its metadata"
            ),
            ActionError::TooLong(line) => write!(
                f,
                "Malformed action/metadata line [{line}], longer than {ACTION_BYTES_MAX} bytes"
            ),
            ActionError::TooMany => {
                f.write_str("more actions than bulk_items_max in one request; send the rest in others")
            }
            ActionError::TooManyIndexes => write!(
                f,
                "more than {} different indexes in one request; send the rest in others",
                super::INDEXES_MAX
            ),
        }
    }
}

/// Bytes of an action line: an index and an id of the greatest length, escaped, and some more metadata.
pub const ACTION_BYTES_MAX: usize = 8 * 1024;

/// Bytes of an index's name; Elasticsearch takes as many.
pub const INDEX_BYTES_MAX: usize = 255;

/// Bytes of an id as it is written; Elasticsearch takes as many, unescaped.
pub const ID_BYTES_MAX: usize = 512;

/// One of them. What else stands beside it is passed over, as Elasticsearch does: winston-elasticsearch counts its attempts there.
#[derive(Deserialize)]
struct Written<'b> {
    #[serde(borrow)]
    index: Option<Metadata<'b>>,
    #[serde(borrow)]
    create: Option<Metadata<'b>>,
    #[serde(borrow)]
    update: Option<Metadata<'b>>,
    #[serde(borrow)]
    delete: Option<Metadata<'b>>,
}

/// What else may stand there (routing, pipeline, version) says nothing about a log.
#[derive(Deserialize)]
struct Metadata<'b> {
    #[serde(borrow, default, rename = "_index")]
    index: Option<Cow<'b, str>>,
    #[serde(borrow, default, rename = "_id")]
    id: Option<&'b RawValue>,
}

impl<'b> Action<'b> {
    /// Reads the line numbered `line`, without its line end.
    ///
    /// # Errors
    /// It is no action.
    pub fn parse(bytes: &'b [u8], line: u64) -> Result<Action<'b>, ActionError> {
        let malformed = ActionError::Malformed(line);
        let written: Written<'b> = serde_json::from_slice(bytes).map_err(|_| malformed)?;
        let (kind, metadata) = match (written.index, written.create, written.update, written.delete) {
            (Some(metadata), None, None, None) => (Kind::Index, metadata),
            (None, Some(metadata), None, None) => (Kind::Create, metadata),
            (None, None, Some(metadata), None) => (Kind::Update, metadata),
            (None, None, None, Some(metadata)) => (Kind::Delete, metadata),
            _ => return Err(malformed),
        };
        let id = match metadata.id.map(RawValue::get) {
            None | Some("null") => None,
            Some(text) => match text.as_bytes()[0] {
                b'"' => Some(&text[1..text.len() - 1]),
                b'-' | b'0'..=b'9' => Some(text),
                _ => return Err(malformed),
            },
        };
        Ok(Action {
            kind,
            index: metadata.index,
            id,
        })
    }
}
