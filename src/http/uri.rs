//! Reads ingest paths and query parameters, percent-decoding into the caller's memory.

use std::fmt;

use crate::http::status::Status;

/// Bytes of a database or table name after decoding. ClickHouse names files after tables: 206 is its own bound.
pub const NAME_BYTES_MAX: usize = 206;

/// Which table an ingest path names; `None` stands for the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestPath<'a> {
    /// Database, when the path names one.
    pub database: Option<&'a str>,
    /// Table, when the path names one.
    pub table: Option<&'a str>,
}

impl IngestPath<'_> {
    /// The path that names no table.
    pub const DEFAULT: IngestPath<'static> = IngestPath {
        database: None,
        table: None,
    };
}

/// Why a path or parameter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriError {
    /// A percent sign is not followed by two hexadecimal digits, or the decoded bytes are not UTF-8.
    Encoding,
    /// A name is empty, or holds a slash or a control character.
    Name,
    /// A name or value is longer than its place.
    TooLong,
}

impl UriError {
    /// The status the reply carries.
    pub fn status(&self) -> Status {
        Status::BadRequest
    }
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UriError::Encoding => f.write_str("The URL is not percent-encoded UTF-8."),
            UriError::Name => f.write_str(
                "The path names no table; post to /ingest, /ingest/table or /ingest/database.table.",
            ),
            UriError::TooLong => {
                write!(
                    f,
                    "A name in the URL is longer than {NAME_BYTES_MAX} bytes; shorten it."
                )
            }
        }
    }
}

impl std::error::Error for UriError {}

/// Memory a path is decoded into when it holds percent signs.
#[derive(Debug)]
pub struct Scratch {
    database: [u8; NAME_BYTES_MAX],
    table: [u8; NAME_BYTES_MAX],
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            database: [0; NAME_BYTES_MAX],
            table: [0; NAME_BYTES_MAX],
        }
    }
}

/// Reads `/ingest`, `/ingest/{table}` and `/ingest/{database}.{table}`; `None` is a path of someone else.
pub fn ingest_path<'a>(path: &'a str, scratch: &'a mut Scratch) -> Result<Option<IngestPath<'a>>, UriError> {
    let Some(rest) = path.strip_prefix("/ingest") else {
        return Ok(None);
    };
    let name = match rest {
        "" | "/" => return Ok(Some(IngestPath::DEFAULT)),
        _ => match rest.strip_prefix('/') {
            Some(name) => name,
            None => return Ok(None),
        },
    };
    table_name(name, scratch).map(Some)
}

/// Reads `{table}` or `{database}.{table}`, percent-encoded.
///
/// The first dot as sent separates; a dot that belongs to the database's name is sent as `%2E`.
pub fn table_name<'a>(name: &'a str, scratch: &'a mut Scratch) -> Result<IngestPath<'a>, UriError> {
    let (database, table) = match name.split_once('.') {
        Some((database, table)) => (Some(database), table),
        None => (None, name),
    };
    Ok(IngestPath {
        database: match database {
            Some(database) => Some(decode_name(database, &mut scratch.database)?),
            None => None,
        },
        table: Some(decode_name(table, &mut scratch.table)?),
    })
}

fn decode_name<'a>(text: &'a str, scratch: &'a mut [u8]) -> Result<&'a str, UriError> {
    let name = percent_decode(text, scratch)?;
    if name.len() > NAME_BYTES_MAX {
        return Err(UriError::TooLong);
    }
    if name.is_empty() || name.contains(|c: char| c == '/' || c.is_control()) {
        return Err(UriError::Name);
    }
    Ok(name)
}

/// The value of the first parameter called `name`, as sent: still percent-encoded. `?name` has an empty one.
pub fn query_parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// Decodes `%XX` (RFC 3986 section 2.1); borrows the text itself when it holds none.
///
/// `+` stays: it means a blank in HTML forms only.
pub fn percent_decode<'a>(text: &'a str, scratch: &'a mut [u8]) -> Result<&'a str, UriError> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Ok(text);
    }
    let mut bytes = text.bytes();
    let mut length = 0;
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'%' => {
                let (high, low) = (bytes.next().and_then(nibble), bytes.next().and_then(nibble));
                high.zip(low)
                    .map(|(high, low)| high << 4 | low)
                    .ok_or(UriError::Encoding)?
            }
            plain => plain,
        };
        *scratch.get_mut(length).ok_or(UriError::TooLong)? = decoded;
        length += 1;
    }
    std::str::from_utf8(&scratch[..length]).map_err(|_| UriError::Encoding)
}

fn nibble(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Names = (Option<String>, Option<String>);

    fn names(path: &str) -> Result<Option<Names>, UriError> {
        let mut scratch = Scratch::default();
        let read = ingest_path(path, &mut scratch)?;
        Ok(read.map(|found| (found.database.map(String::from), found.table.map(String::from))))
    }

    #[test]
    fn reads_ingest_paths() {
        let some = |name: &str| Some(name.to_string());
        let cases = [
            ("/ingest", (None, None)),
            ("/ingest/", (None, None)),
            ("/ingest/logs", (None, some("logs"))),
            ("/ingest/app.logs", (some("app"), some("logs"))),
            ("/ingest/app.logs.2026", (some("app"), some("logs.2026"))),
            ("/ingest/a%2Eb.c%20d", (some("a.b"), some("c d"))),
            ("/ingest/%E2%82%AC", (None, some("\u{20ac}"))),
            ("/ingest/a+b", (None, some("a+b"))),
        ];
        for (path, expected) in cases {
            assert_eq!(names(path), Ok(Some(expected)), "{path}");
        }
    }

    #[test]
    fn leaves_other_paths_alone() {
        for path in ["/", "/ingestion", "/ingest2/x", "/Ingest", "*", "", "/x/ingest"] {
            assert_eq!(names(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn rejects_names_that_are_none() {
        for (path, expected) in [
            ("/ingest/.logs", UriError::Name),
            ("/ingest/app.", UriError::Name),
            ("/ingest/.", UriError::Name),
            ("/ingest/a/b", UriError::Name),
            ("/ingest/a%2Fb", UriError::Name),
            ("/ingest//", UriError::Name),
            ("/ingest/a%00", UriError::Name),
            ("/ingest/a%0A", UriError::Name),
            ("/ingest/%", UriError::Encoding),
            ("/ingest/%4", UriError::Encoding),
            ("/ingest/%4g", UriError::Encoding),
            ("/ingest/%+1", UriError::Encoding),
            ("/ingest/%ff", UriError::Encoding),
        ] {
            assert_eq!(names(path), Err(expected), "{path}");
        }
    }

    #[test]
    fn names_are_bounded_before_and_after_decoding() {
        for unit in ["x", "%78"] {
            let fits = format!(
                "/ingest/{}.{}",
                unit.repeat(NAME_BYTES_MAX),
                unit.repeat(NAME_BYTES_MAX)
            );
            assert!(names(&fits).is_ok());
            let long = format!("/ingest/{}", unit.repeat(NAME_BYTES_MAX + 1));
            assert_eq!(names(&long), Err(UriError::TooLong));
        }
    }

    #[test]
    fn finds_the_first_parameter_of_a_name() {
        let query = "x=1&ack=inserted&ack=memory&flag&=v&y=a=b";
        assert_eq!(query_parameter(query, "ack"), Some("inserted"));
        assert_eq!(query_parameter(query, "flag"), Some(""));
        assert_eq!(query_parameter(query, "y"), Some("a=b"));
        assert_eq!(query_parameter(query, "ac"), None);
        assert_eq!(query_parameter("", "ack"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_decodes_to_itself(text in "\\PC{0,60}", plain: bool) {
            let encoded: String = text
                .bytes()
                .map(|byte| match byte {
                    b'0'..=b'9' | b'a'..=b'z' if plain => (byte as char).to_string(),
                    _ if byte % 2 == 0 => format!("%{byte:02x}"),
                    _ => format!("%{byte:02X}"),
                })
                .collect();
            let mut scratch = [0; 300];
            prop_assert_eq!(percent_decode(&encoded, &mut scratch), Ok(text.as_str()));
        }
    }
}
