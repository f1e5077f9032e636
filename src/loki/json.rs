//! The push request in JSON, in both forms Loki has had.
//!
//! ```json
//! {"streams": [{"stream": {"app": "x"}, "values": [["1700000000000000000", "line", {"trace_id": "..."}]]}]}
//! {"streams": [{"labels": "{app=\"x\"}", "entries": [{"ts": "2023-11-14T22:13:20Z", "line": "line"}]}]}
//! ```

use super::labels::Labels;
use super::rows::{LABELS, LABELS_TOO_LONG, Metadata, Shared, put_labels};
use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::{Node, StaticNode};
use crate::message::tape::{Elements, Members, bytes, copy};
use crate::message::{Group, Message, Places, Records, Room, WrongStructure, text_of};

/// A push request, its structure checked down to the entries.
pub type JsonMessage<'b> = Message<'b, JsonEntries<'b>>;

fn wrong(part: &'static str) -> WrongStructure {
    WrongStructure::Type {
        message: "a push request",
        part,
    }
}

impl<'b> JsonMessage<'b> {
    /// Takes the tape of a push request.
    ///
    /// # Errors
    /// Something around the entries is of the wrong type. What is wrong within an entry costs that alone, what is wrong with
    /// the labels of a stream its entries.
    pub fn parse(nodes: &'b [Node<'b>]) -> Result<JsonMessage<'b>, WrongStructure> {
        let Node::Object { .. } = nodes[0] else {
            return Err(wrong("the body"));
        };
        let mut all = JsonEntries {
            nodes,
            again: None,
            streams: Elements::default(),
            entries: Elements::default(),
            labels: 0,
            stream: 0,
        };
        for (name, value) in Members::of(nodes, 0).into_iter().flatten() {
            if name == "streams" {
                all.streams = Elements::of(nodes, value).ok_or(wrong("streams"))?;
            }
        }
        let (mut rest, mut records) = (all, 0);
        while rest.step()?.is_some() {
            records += 1;
        }
        Ok(Message::new(records, all))
    }
}

/// The entries that are still to come.
#[derive(Debug, Clone, Copy)]
pub struct JsonEntries<'b> {
    nodes: &'b [Node<'b>],
    again: Option<usize>,
    streams: Elements,
    entries: Elements,
    /// Where the stream's labels are, 0 = nowhere.
    labels: usize,
    /// Number of the stream, from 1.
    stream: u32,
}

/// One entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    node: usize,
    labels: usize,
    stream: u32,
}

impl JsonEntries<'_> {
    fn step(&mut self) -> Result<Option<Entry>, WrongStructure> {
        loop {
            let node = self.again.take().or_else(|| self.entries.next(self.nodes));
            if let Some(node) = node {
                return Ok(Some(Entry {
                    node,
                    labels: self.labels,
                    stream: self.stream,
                }));
            }
            let Some(stream) = self.streams.next(self.nodes) else {
                return Ok(None);
            };
            (self.labels, self.stream) = (0, self.stream + 1);
            for (name, value) in Members::of(self.nodes, stream).ok_or(wrong("a stream"))? {
                match name {
                    "stream" | "labels" => self.labels = value,
                    "values" => self.entries = Elements::of(self.nodes, value).ok_or(wrong("values"))?,
                    "entries" => self.entries = Elements::of(self.nodes, value).ok_or(wrong("entries"))?,
                    _ => {}
                }
            }
        }
    }
}

impl<'b> Records<'b> for JsonEntries<'b> {
    // The tape is the core's only one.
    const PASS_BY_PASS: bool = true;

    type Record = Entry;
    type Shared = Shared;

    fn next(&mut self) -> Option<Entry> {
        // The structure was checked when the message was parsed.
        self.step().ok().flatten()
    }

    fn put_back(&mut self, entry: &Entry) {
        self.again = Some(entry.node);
    }

    fn bytes(&self, entry: &Entry, shared: &Shared) -> usize {
        let labels = match entry.labels {
            0 => 0,
            _ if entry.stream == shared.stream => 0,
            labels => bytes(self.nodes, labels),
        };
        labels + bytes(self.nodes, entry.node)
    }

    fn repeated_bytes(&self, shared: &Shared) -> usize {
        shared.bytes
    }

    fn group(&self, entry: &Entry) -> u32 {
        entry.stream
    }

    fn labels(&self, entry: &Entry, group: &mut Group) {
        match self.nodes[entry.labels] {
            _ if entry.labels == 0 => {}
            Node::String(set) => {
                for (name, value) in Labels::of(set).map_while(Result::ok) {
                    let mut room = vec![0; value.bytes_max()];
                    if let Ok(len) = value.unescape(&mut room) {
                        room.truncate(len);
                        group.put(name, String::from_utf8(room).unwrap_or_default());
                    }
                }
            }
            _ => {
                for (name, value) in Members::of(self.nodes, entry.labels).into_iter().flatten() {
                    if let Node::String(text) = self.nodes[value] {
                        group.put(name, text.to_owned());
                    }
                }
            }
        }
    }

    fn put<'t>(
        &self,
        entry: &Entry,
        shared: &mut Shared,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't,
    {
        let entries: &JsonEntries<'t> = self;
        if entry.stream != shared.stream {
            *shared = entries.put_labels(entry, room, row);
        }
        shared.put(places, row)?;
        let mut metadata = Metadata::default();
        let nodes = entries.nodes;
        let put_metadata =
            |object, metadata: &mut Metadata<'t>, room: &mut Room<'t>, row: &mut RowWriter<'_, 't>| {
                const NO_OBJECT: RowRefusal = RowRefusal::Rule("its structured metadata is not an object");
                for (name, value) in Members::of(nodes, object).ok_or(NO_OBJECT)? {
                    let index = copy(nodes, value, room.depth_max, row)?;
                    metadata.put(name, index, places, room, row)?;
                }
                Ok::<(), RowStop>(())
            };
        match nodes[entry.node] {
            Node::Array { len: 2.., .. } => {
                let mut parts = Elements::of(nodes, entry.node).unwrap_or_default();
                if let Some(time) = parts.next(nodes) {
                    room.put_time(nanos_of(nodes[time])?, places.timestamp, row)?;
                }
                if let Some(line) = parts.next(nodes) {
                    put_line(nodes[line], places, row)?;
                }
                if let Some(object) = parts.next(nodes) {
                    put_metadata(object, &mut metadata, room, row)?;
                }
            }
            Node::Object { .. } => {
                for (name, value) in Members::of(nodes, entry.node).into_iter().flatten() {
                    match (name, nodes[value]) {
                        ("ts" | "timestamp", node @ Node::String(_)) => {
                            row.put_node(places.timestamp, node)?
                        }
                        ("line", node) => put_line(node, places, row)?,
                        ("structuredMetadata", _) => put_metadata(value, &mut metadata, room, row)?,
                        _ => {}
                    }
                }
            }
            _ => {
                return Err(RowRefusal::Rule("an entry must be [\"nanoseconds\", \"line\"]").into());
            }
        }
        metadata.put_columns(shared, places, row)
    }
}

impl<'t> JsonEntries<'t> {
    fn put_labels(&self, entry: &Entry, room: &mut Room<'t>, row: &mut RowWriter<'_, 't>) -> Shared {
        put_labels(entry.stream, room, row, |writer| {
            if entry.labels == 0 {
                return Ok(());
            }
            if bytes(self.nodes, entry.labels) > writer.room.labels_bytes_max {
                return Err(LABELS_TOO_LONG.into());
            }
            if let Node::String(set) = self.nodes[entry.labels] {
                for label in Labels::of(set) {
                    let (name, value) = label.map_err(|_| LABELS)?;
                    let text = writer.room.take(value.bytes_max())?;
                    let len = value.unescape(text).map_err(|_| LABELS)?;
                    writer.put(name, text_of(&text[..len])?);
                }
                return Ok(());
            }
            for (name, value) in Members::of(self.nodes, entry.labels).ok_or(LABELS)? {
                match self.nodes[value] {
                    Node::String(value) => writer.put(name, value),
                    _ => return Err(LABELS.into()),
                }
            }
            Ok(())
        })
    }
}

/// Nanoseconds since 1970, as a text or a number.
fn nanos_of(node: Node<'_>) -> Result<u64, RowStop> {
    let nanos = match node {
        Node::String(text) if text.bytes().all(|digit| digit.is_ascii_digit()) => text.parse().ok(),
        Node::Static(StaticNode::U64(nanos)) => Some(nanos),
        _ => None,
    };
    nanos.ok_or_else(|| RowRefusal::Rule("its timestamp is not a text of nanoseconds since 1970").into())
}

fn put_line<'t>(node: Node<'t>, places: &Places, row: &mut RowWriter<'_, 't>) -> Result<(), RowStop> {
    match node {
        Node::String(_) => row.put_node(places.body, node),
        _ => Err(RowRefusal::Rule("its line is not a text").into()),
    }
}
