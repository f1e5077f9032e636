//! Entries in JSON: one object, or an array of them.

use super::entry::{Entry, METADATA_BYTES_MAX, METADATA_TOO_LONG};
use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::Node;
use crate::message::objects::{ObjectMessage, Objects, put_attribute, put_metadata, text_at, time_at};
use crate::message::tape::{Elements, Members, json_bytes};
use crate::message::{Places, Room, WrongStructure};

/// Entries of the LogEntry API.
pub type JsonMessage<'b> = ObjectMessage<'b, JsonEntries>;

/// How they are written.
#[derive(Debug, Clone, Copy)]
pub struct JsonEntries;

impl Objects for JsonEntries {
    fn records(nodes: &[Node<'_>]) -> Result<Elements, WrongStructure> {
        Elements::one_or_all(nodes).ok_or(WrongStructure::Type {
            message: "a log entry or an array of them",
            part: "the body",
        })
    }

    fn put<'t>(
        nodes: &[Node<'t>],
        record: usize,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        let members = Members::of_object(nodes, record);
        let text = |value, rule| text_at(nodes, value, rule);
        let mut entry = Entry::default();
        for (name, value) in members.ok_or(RowRefusal::Rule("a log entry must be an object"))? {
            match name {
                "timestamp" => {
                    let time = time_at(nodes, value, "timestamp must be a text or a number")?;
                    row.put_node(places.timestamp, time)?;
                }
                "app_id" | "appId" => entry.app_id = text(value, "app_id must be a text")?,
                "level" => entry.level = text(value, "level must be a text")?,
                "message" => entry.message = text(value, "message must be a text")?,
                "source" => entry.source = text(value, "source must be a text")?,
                "environment" => entry.environment = text(value, "environment must be a text")?,
                "trace_id" | "traceId" => entry.trace_id = text(value, "trace_id must be a text")?,
                "user_id" | "userId" => entry.user_id = text(value, "user_id must be a text")?,
                "id" => entry.id = text(value, "id must be a text")?,
                "metadata" if json_bytes(nodes, value) > METADATA_BYTES_MAX => {
                    return Err(METADATA_TOO_LONG.into());
                }
                "metadata" => put_metadata(nodes, value, places, room, row)?,
                _ => put_attribute(nodes, (name, value), places, room, row)?,
            }
        }
        entry.put(places, room, row)
    }
}
