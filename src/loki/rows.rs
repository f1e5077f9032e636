//! Entries as rows: where their parts go, and what those of a stream share written once a pass.

use super::labels::SERVICE_NAMES;
use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::Node;
use crate::message::tape::put_text;
use crate::message::{Places, Room};

pub(super) const LABELS: RowRefusal =
    RowRefusal::Rule("the labels of its stream are not written as {name=\"value\", ...}");

pub(super) const LABELS_TOO_LONG: RowRefusal = RowRefusal::Rule("the labels of its stream are too long");

/// What the entries of a stream share: whose it is, and where it is on the tape, 0 = nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shared {
    pub(super) stream: u32,
    /// Bytes of the labels.
    pub(super) bytes: usize,
    /// The labels are refused, and with them every entry.
    refused: Option<RowStop>,
    labels: u32,
    service: u32,
    level: u32,
    trace_id: u32,
    span_id: u32,
}

/// What a name says beyond being an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The level; the lowest rank goes first.
    Level(usize),
    TraceId,
    SpanId,
    None,
}

const LEVELS: [&str; 4] = ["level", "severity", "lvl", "detected_level"];

fn meaning(name: &str) -> Meaning {
    match name {
        "trace_id" | "traceID" | "traceId" | "traceid" => Meaning::TraceId,
        "span_id" | "spanID" | "spanId" | "spanid" => Meaning::SpanId,
        _ => match LEVELS.iter().position(|level| *level == name) {
            Some(rank) => Meaning::Level(rank),
            None => Meaning::None,
        },
    }
}

/// Puts the labels of a stream on the tape: `write` gives each with its value.
pub(super) fn put_labels<'t>(
    stream: u32,
    room: &mut Room<'t>,
    row: &mut RowWriter<'_, 't>,
    write: impl FnOnce(&mut LabelWriter<'_, '_, '_, 't>) -> Result<(), RowStop>,
) -> Shared {
    let start = row.tape().len() as u32;
    row.tape().push(Node::Object { len: 0, count: 0 });
    let mut writer = LabelWriter {
        room,
        row,
        len: 0,
        service_rank: usize::MAX,
        level_rank: usize::MAX,
        shared: Shared {
            stream,
            ..Shared::default()
        },
    };
    let written = write(&mut writer).and_then(|()| writer.put_ids());
    let LabelWriter { len, mut shared, .. } = writer;
    shared.refused = written.err();
    row.tape()[start as usize] = Node::Object { len, count: 2 * len };
    if len > 0 {
        shared.labels = start;
    }
    shared
}

/// Takes the labels of a stream.
pub(super) struct LabelWriter<'r, 'w, 's, 't> {
    pub(super) room: &'r mut Room<'t>,
    row: &'w mut RowWriter<'s, 't>,
    len: usize,
    service_rank: usize,
    level_rank: usize,
    shared: Shared,
}

impl<'t> LabelWriter<'_, '_, '_, 't> {
    pub(super) fn put(&mut self, name: &'t str, value: &'t str) {
        let tape = self.row.tape();
        tape.push(Node::String(name));
        tape.push(Node::String(value));
        let index = tape.len() as u32 - 1;
        self.len += 1;
        self.shared.bytes += name.len() + value.len();
        if value.is_empty() {
            return;
        }
        if let Some(rank) = SERVICE_NAMES.iter().position(|service| *service == name)
            && rank < self.service_rank
        {
            (self.service_rank, self.shared.service) = (rank, index);
        }
        match meaning(name) {
            Meaning::Level(rank) if rank < self.level_rank => {
                (self.level_rank, self.shared.level) = (rank, index);
            }
            Meaning::TraceId => self.shared.trace_id = index,
            Meaning::SpanId => self.shared.span_id = index,
            _ => {}
        }
    }

    /// Ids in lower case behind the labels; what is none stays a label only.
    fn put_ids(&mut self) -> Result<(), RowStop> {
        for (index, digits) in [(&mut self.shared.trace_id, 32), (&mut self.shared.span_id, 16)] {
            if let Node::String(id) = self.row.tape()[*index as usize] {
                *index = match self.room.hex_id(id, digits)? {
                    Some(id) => put_text(id, self.row),
                    None => 0,
                };
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Puts what the stream says of every entry.
    pub(super) fn put(&self, places: &Places, row: &mut RowWriter<'_, '_>) -> Result<(), RowStop> {
        if let Some(stop) = self.refused {
            return Err(stop);
        }
        for (place, index) in [
            (places.resource_attributes, self.labels),
            (places.service_name, self.service),
        ] {
            if index != 0 {
                row.put(place, index)?;
            }
        }
        Ok(())
    }
}

/// Takes the structured metadata of an entry.
#[derive(Debug, Default)]
pub(super) struct Metadata<'t> {
    level: Option<(usize, &'static str, u32)>,
    trace_id: Option<&'t str>,
    span_id: Option<&'t str>,
}

impl<'t> Metadata<'t> {
    /// Puts a member whose value is on the tape.
    pub(super) fn put(
        &mut self,
        name: &'t str,
        index: u32,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        if let Node::String(text) = row.tape()[index as usize] {
            match meaning(name) {
                Meaning::Level(rank) if !text.is_empty() => {
                    let level = (rank, LEVELS[rank], index);
                    let other = match self.level {
                        Some(held) if held.0 <= rank => level,
                        held => {
                            self.level = Some(level);
                            match held {
                                None => return Ok(()),
                                Some(held) => held,
                            }
                        }
                    };
                    return row.put_member(places.log_attributes, other.1, other.2);
                }
                Meaning::TraceId => {
                    if let Some(id) = room.hex_id(text, 32)? {
                        self.trace_id = Some(id);
                        return Ok(());
                    }
                }
                Meaning::SpanId => {
                    if let Some(id) = room.hex_id(text, 16)? {
                        self.span_id = Some(id);
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        row.put_member(places.log_attributes, name, index)
    }

    /// Puts what has columns: the entry's own, else its stream's.
    pub(super) fn put_columns(
        &self,
        shared: &Shared,
        places: &Places,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        let level = self.level.map_or(shared.level, |(_, _, index)| index);
        if level != 0 {
            row.put(places.severity_text, level)?;
        }
        for (place, id, of_stream) in [
            (places.trace_id, self.trace_id, shared.trace_id),
            (places.span_id, self.span_id, shared.span_id),
        ] {
            match (id, of_stream) {
                (Some(id), _) => row.put_node(place, Node::String(id))?,
                (None, 0) => {}
                (None, index) => row.put(place, index)?,
            }
        }
        Ok(())
    }
}
