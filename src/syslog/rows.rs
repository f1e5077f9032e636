//! Messages as rows: which part goes to which column.

use super::message::{Message, parse};
use crate::batch::{Place, Pushed, RowInput, RowSource, RowStop, RowWriter, Span, Spans, TableSink};
use crate::column::{Node, StaticNode};
use crate::json::{Parser, RowErrors};
use crate::limits::Limits;
use crate::message::Room;
use crate::severity::{name_of_int, number_of_int};
use crate::timestamp::DateCache;
use crate::zone::Zone;

/// Messages of one buffer, pushed by their numbers.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'b> {
    /// What was received.
    pub bytes: &'b [u8],
    /// The messages in it.
    pub spans: &'b [Span],
}

impl RowInput for Messages<'_> {
    const PASS_BY_PASS: bool = true;

    fn end(&self) -> usize {
        self.spans.len()
    }

    fn push(
        &self,
        at: usize,
        sink: &mut TableSink,
        parser: &mut Parser,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
    ) -> Pushed {
        let limits = *sink.limits();
        parser.lend(room_bytes(&limits), |room, tape| {
            let mut rows = Rows {
                messages: Spans::new(self.bytes, &self.spans[at..], limits.chunk_bytes),
                now_s: now_ns.div_euclid(1_000_000_000),
                zone: sink.zone(),
                dates: DateCache::default(),
                host: None,
                places: None,
                room: Room::new(room, &limits),
                limits,
            };
            sink.push_rows(&mut rows, self.spans.len() - at, tape, first_row, now_ns, errors)
        })
    }
}

/// Bytes of room that any message of so many bytes fits: U+FFFD is three for one, and what is escaped is copied again.
fn room_of(message_bytes: usize) -> usize {
    2 * 3 * message_bytes
}

/// Bytes of room so that a pass takes one message at least, also when it is read twice: its names may be too many to be remembered
/// beside those of others.
fn room_bytes(limits: &Limits) -> usize {
    2 * room_of(limits.line_bytes_max.max(limits.chunk_bytes))
}

/// Attributes that are not of the structured data.
const OWN_ATTRIBUTES: usize = 3;

/// The messages of one pass.
struct Rows<'t> {
    messages: Spans<'t>,
    now_s: i64,
    zone: Zone,
    dates: DateCache,
    /// The host last seen, and its object on the tape: most messages of a stream have the same.
    host: Option<(&'t str, u32)>,
    places: Option<Places>,
    room: Room<'t>,
    limits: Limits,
}

/// Where the parts of a message go.
#[derive(Debug, Clone, Copy)]
struct Places {
    generation: u32,
    timestamp: Place,
    severity_text: Place,
    severity_number: Place,
    service_name: Place,
    body: Place,
    resource_attributes: Place,
    log_attributes: Place,
}

impl Places {
    fn find(row: &mut RowWriter<'_, '_>) -> Result<Places, RowStop> {
        Ok(Places {
            generation: row.generation(),
            timestamp: row.place("Timestamp")?,
            severity_text: row.place("SeverityText")?,
            severity_number: row.place("SeverityNumber")?,
            service_name: row.place("ServiceName")?,
            body: row.place("Body")?,
            resource_attributes: row.place("ResourceAttributes")?,
            log_attributes: row.place("LogAttributes")?,
        })
    }
}

impl<'t> RowSource<'t> for Rows<'t> {
    fn write(&mut self, row: &mut RowWriter<'_, 't>) -> Result<bool, RowStop> {
        let has_room = |bytes| self.room.bytes() >= room_of(bytes);
        let Some(message) = self.messages.next(row.number(), has_room) else {
            return Ok(false);
        };
        let text = self.room.lossy(message)?;
        let message = parse(text, self.now_s, self.zone, &mut self.dates);
        let places = match self.places {
            Some(places) if places.generation == row.generation() => places,
            _ => {
                self.host = None;
                *self.places.insert(Places::find(row)?)
            }
        };
        self.put(&message, &places, row)?;
        self.messages.take();
        Ok(true)
    }

    fn skip(&mut self) {
        self.messages.skip();
    }
}

impl<'t> Rows<'t> {
    fn put(
        &mut self,
        message: &Message<'t>,
        places: &Places,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        if let Some(nanos) = message.time_ns {
            row.put_node(places.timestamp, self.room.time(nanos)?)?;
        }
        let severity = i64::from(message.priority.severity());
        let number = u64::from(number_of_int(severity));
        row.put_node(places.severity_text, Node::String(name_of_int(severity)))?;
        row.put_node(places.severity_number, Node::Static(StaticNode::U64(number)))?;
        if !message.hostname.is_empty() {
            let host = match self.host {
                Some((host, index)) if host == message.hostname => index,
                _ => put_host(message.hostname, row),
            };
            self.host = Some((message.hostname, host));
            row.put(places.resource_attributes, host)?;
        }
        if !message.app_name.is_empty() {
            row.put_node(places.service_name, Node::String(message.app_name))?;
        }
        row.put_node(places.body, Node::String(message.text))?;
        put_attribute(places, "syslog.facility", message.priority.facility(), row)?;
        for (key, text) in [("syslog.procid", message.procid), ("syslog.msgid", message.msgid)] {
            if !text.is_empty() {
                put_attribute(places, key, text, row)?;
            }
        }
        let data = &message.structured_data;
        if data.params > 0 {
            self.put_structured_data(message, places, row)?;
        }
        Ok(())
    }

    /// Puts each parameter as an attribute; an array of texts where the same one comes several times on end.
    fn put_structured_data(
        &mut self,
        message: &Message<'t>,
        places: &Places,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        let data = &message.structured_data;
        // A row that breaks a bound would be rejected; as one text nothing of it is lost.
        if data.params + OWN_ATTRIBUTES > self.limits.attributes_per_row_max
            || data.name_bytes > self.limits.attribute_name_bytes_max
        {
            return put_attribute(places, "syslog.structured_data", data.text(), row);
        }
        let mut params = data.params().peekable();
        while let Some(param) = params.next() {
            let start = row.tape().len();
            let value = param.value(&mut self.room)?;
            row.tape().push(Node::String(value));
            let is_same = |next: &super::Param<'_>| (next.element, next.name) == (param.element, param.name);
            while let Some(next) = params.next_if(is_same) {
                let value = next.value(&mut self.room)?;
                row.tape().push(Node::String(value));
            }
            let len = row.tape().len() - start;
            if len > 1 {
                row.tape().insert(start, Node::Array { len, count: len });
            }
            let index = start as u32;
            if param.name.is_empty() {
                row.put_member(places.log_attributes, param.element, index)?;
            } else {
                let element = row.member(places.log_attributes, param.element)?;
                row.put_member(element, param.name, index)?;
            }
        }
        Ok(())
    }
}

/// `{"host.name": hostname}` on the tape.
fn put_host<'t>(hostname: &'t str, row: &mut RowWriter<'_, 't>) -> u32 {
    let tape = row.tape();
    let index = tape.len() as u32;
    tape.push(Node::Object { len: 1, count: 2 });
    tape.push(Node::String("host.name"));
    tape.push(Node::String(hostname));
    index
}

fn put_attribute<'t>(
    places: &Places,
    key: &str,
    text: &'t str,
    row: &mut RowWriter<'_, 't>,
) -> Result<(), RowStop> {
    row.tape().push(Node::String(text));
    let index = row.tape().len() as u32 - 1;
    row.put_member(places.log_attributes, key, index)
}
