//! Entries in JSON: one object, or an array of them.

use super::entry::{Entry, METADATA_BYTES_MAX, METADATA_TOO_LONG};
use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::{Node, StaticNode};
use crate::message::objects::{ObjectMessage, Objects};
use crate::message::tape::{Elements, Members, copy, json_bytes};
use crate::message::{Places, Room, WrongStructure};

/// Entries of the LogEntry API.
pub type JsonMessage<'b> = ObjectMessage<'b, JsonEntries>;

/// How they are written.
#[derive(Debug, Clone, Copy)]
pub struct JsonEntries;

impl Objects for JsonEntries {
    fn records(nodes: &[Node<'_>]) -> Result<Elements, WrongStructure> {
        match nodes[0] {
            Node::Object { .. } => Ok(Elements::one(0)),
            Node::Array { len, .. } => Ok(Elements::first_of(0, len)),
            _ => Err(WrongStructure::Type {
                message: "a log entry or an array of them",
                part: "the body",
            }),
        }
    }

    fn put<'t>(
        nodes: &[Node<'t>],
        record: usize,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        const NO_OBJECT: RowRefusal = RowRefusal::Rule("a log entry must be an object");
        let members = match nodes[record] {
            Node::Object { .. } => Members::of(nodes, record).ok_or(NO_OBJECT)?,
            _ => return Err(NO_OBJECT.into()),
        };
        let text = |value: usize, rule| match nodes[value] {
            Node::String(text) => Ok(text),
            _ => Err(RowStop::from(RowRefusal::Rule(rule))),
        };
        let mut entry = Entry::default();
        for (name, value) in members {
            match name {
                "timestamp" => match nodes[value] {
                    node @ (Node::String(_)
                    | Node::Static(StaticNode::U64(_) | StaticNode::I64(_) | StaticNode::F64(_))) => {
                        row.put_node(places.timestamp, node)?;
                    }
                    _ => return Err(RowRefusal::Rule("timestamp must be a text or a number").into()),
                },
                "app_id" | "appId" => entry.app_id = text(value, "app_id must be a text")?,
                "level" => entry.level = text(value, "level must be a text")?,
                "message" => entry.message = text(value, "message must be a text")?,
                "source" => entry.source = text(value, "source must be a text")?,
                "environment" => entry.environment = text(value, "environment must be a text")?,
                "trace_id" | "traceId" => entry.trace_id = text(value, "trace_id must be a text")?,
                "user_id" | "userId" => entry.user_id = text(value, "user_id must be a text")?,
                "id" => entry.id = text(value, "id must be a text")?,
                "metadata" => {
                    let Node::Object { .. } = nodes[value] else {
                        return Err(RowRefusal::Rule("metadata must be an object").into());
                    };
                    if json_bytes(nodes, value) > METADATA_BYTES_MAX {
                        return Err(METADATA_TOO_LONG.into());
                    }
                    for (name, value) in Members::of(nodes, value).into_iter().flatten() {
                        let index = copy(nodes, value, room.depth_max, row)?;
                        row.put_member(places.log_attributes, name, index)?;
                    }
                }
                _ => {
                    let index = copy(nodes, value, room.depth_max, row)?;
                    row.put_member(places.log_attributes, name, index)?;
                }
            }
        }
        entry.put(places, room, row)
    }
}
