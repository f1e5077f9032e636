//! The rules of an entry, and where its fields go, whatever it was written in.

use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::Node;
use crate::message::tape::put_text;
use crate::message::{Places, Room};

/// Most bytes of an entry's metadata as JSON.
pub(super) const METADATA_BYTES_MAX: usize = 16_384;

pub(super) const METADATA_TOO_LONG: RowRefusal =
    RowRefusal::Rule("metadata is longer than 16384 bytes of JSON");

/// The names of the levels, by their numbers.
pub(super) const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// The texts of an entry; one that is empty is missing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry<'t> {
    pub id: &'t str,
    pub app_id: &'t str,
    pub level: &'t str,
    pub message: &'t str,
    pub source: &'t str,
    pub environment: &'t str,
    pub trace_id: &'t str,
    pub user_id: &'t str,
}

impl<'t> Entry<'t> {
    /// Puts an entry whose time and metadata were put.
    pub(super) fn put(
        &self,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        let wrong = |rule| Err(RowRefusal::Rule(rule).into());
        if !has_characters(self.app_id, 64) {
            return wrong("app_id must have 1 to 64 characters");
        }
        if !has_characters(self.message, 4096) {
            return wrong("message must have 1 to 4096 characters");
        }
        if !has_characters(self.source, 32) {
            return wrong("source must have 1 to 32 characters");
        }
        if !has_characters(self.environment, 32) {
            return wrong("environment must have 1 to 32 characters");
        }
        let level = LEVELS.iter().find(|name| name.eq_ignore_ascii_case(self.level));
        let Some(level) = level else {
            return wrong("level must be DEBUG, INFO, WARN, ERROR or FATAL");
        };
        row.put_node(places.severity_text, Node::String(level))?;
        row.put_node(places.body, Node::String(self.message))?;
        row.put_node(places.service_name, Node::String(self.source))?;
        let mut trace_id = self.trace_id;
        if let Some(id) = room.hex_id(trace_id, 32)? {
            row.put_node(places.trace_id, Node::String(id))?;
            trace_id = "";
        }
        for (name, text) in [
            ("id", self.id),
            ("app_id", self.app_id),
            ("environment", self.environment),
            ("user_id", self.user_id),
            ("trace_id", trace_id),
        ] {
            match put_text(text, row) {
                0 => {}
                index => row.put_member(places.log_attributes, name, index)?,
            }
        }
        Ok(())
    }
}

/// Whether a text has 1 to `max` characters.
fn has_characters(text: &str, max: usize) -> bool {
    // No character is longer than four bytes: what is longer is not counted.
    !text.is_empty() && (text.len() <= max || text.len() <= 4 * max && text.chars().count() <= max)
}
