//! Reads the parts of a record in protobuf: values of any kind become JSON's.

use super::message::ProtobufRecords;
use super::rows::{Context, Encoding, Record, Shared};
use crate::batch::{Place, RowRefusal, RowStop, RowWriter};
use crate::column::{Node, StaticNode};
use crate::message::tape::{double_node, find_member, integer_node, put_text};
use crate::message::{Places, Room, text_of};
use crate::protobuf::{Fields, Value};

impl<'b> Encoding<'b> for ProtobufRecords<'b> {
    const PASS_BY_PASS: bool = true;

    type Part = &'b [u8];

    fn next(&mut self) -> Option<Record<&'b [u8]>> {
        // Borders were checked when the message was parsed.
        self.step().ok().flatten()
    }

    fn put_back(&mut self, record: &'b [u8]) {
        ProtobufRecords::put_back(self, record);
    }

    fn bytes(&self, part: &'b [u8]) -> usize {
        part.len()
    }

    fn put_resource<'t>(
        &self,
        resource: &Context<&'b [u8]>,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<Shared, RowStop>
    where
        'b: 't,
    {
        // Resource: 1 attributes.
        let attributes = room.put_attributes(resource.message, 1, row)?;
        Ok(Shared {
            serial: resource.serial,
            schema_url: put_text(text_of(resource.schema_url)?, row),
            attributes,
            name: find_member(row.tape(), attributes, "service.name"),
            version: 0,
        })
    }

    fn put_scope<'t>(
        &self,
        scope: &Context<&'b [u8]>,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<Shared, RowStop>
    where
        'b: 't,
    {
        let mut shared = Shared {
            serial: scope.serial,
            schema_url: put_text(text_of(scope.schema_url)?, row),
            ..Shared::default()
        };
        // InstrumentationScope: 1 name, 2 version, 3 attributes.
        for field in Fields::new(scope.message) {
            match field.map_err(|_| RowRefusal::Protobuf)? {
                (1, Value::Bytes(name)) => shared.name = put_text(text_of(name)?, row),
                (2, Value::Bytes(version)) => shared.version = put_text(text_of(version)?, row),
                _ => {}
            }
        }
        shared.attributes = room.put_attributes(scope.message, 3, row)?;
        Ok(shared)
    }

    /// `LogRecord`, in whatever order its fields come.
    fn put_record<'t>(
        &self,
        record: &'b [u8],
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't,
    {
        let mut time = 0;
        let mut observed = 0;
        for field in Fields::new(record) {
            match field.map_err(|_| RowRefusal::Protobuf)? {
                (1, Value::Fixed64(nanos)) => time = nanos,
                // An enum, of which only these are defined.
                (2, Value::Varint(number @ 1..=24)) => {
                    row.put_node(places.severity_number, Node::Static(StaticNode::U64(number)))?;
                }
                (3, Value::Bytes(text)) => put_named(places.severity_text, text, row)?,
                (5, Value::Bytes(value)) => {
                    let index = room.put_value(value, 1, row)?;
                    if row.tape()[index as usize] != Node::Static(StaticNode::Null) {
                        row.put(places.body, index)?;
                    }
                }
                (6, Value::Bytes(attribute)) => {
                    let (key, value) = key_value(attribute)?;
                    let index = room.put_value(value, 1, row)?;
                    row.put_member(places.log_attributes, key, index)?;
                }
                (8, Value::Fixed32(flags)) if flags & 0xff != 0 => {
                    let flags = u64::from(flags & 0xff);
                    row.put_node(places.trace_flags, Node::Static(StaticNode::U64(flags)))?;
                }
                (9, Value::Bytes(id)) => room.put_id(places.trace_id, id, row)?,
                (10, Value::Bytes(id)) => room.put_id(places.span_id, id, row)?,
                (11, Value::Fixed64(nanos)) => observed = nanos,
                (12, Value::Bytes(name)) => put_named(places.event_name, name, row)?,
                _ => {}
            }
        }
        let nanos = if time != 0 { time } else { observed };
        room.put_time(nanos, places.timestamp, row)
    }
}

impl<'t> Room<'t> {
    /// An id of 16 or 8 bytes in hexadecimal; an invalid one, of zeros, is none.
    fn put_id(&mut self, place: Place, id: &[u8], row: &mut RowWriter<'_, 't>) -> Result<(), RowStop> {
        if id.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let room = self.take(2 * id.len())?;
        for (pair, byte) in room.as_chunks_mut::<2>().0.iter_mut().zip(id) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        row.put_node(place, Node::String(text_of(room)?))
    }

    /// The attributes in fields `number` of a message, as an object on the tape; 0 when there are none.
    fn put_attributes(
        &mut self,
        message: &'t [u8],
        number: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<u32, RowStop> {
        let start = row.tape().len();
        let mut len = 0;
        for field in Fields::new(message) {
            match field.map_err(|_| RowRefusal::Protobuf)? {
                (found, Value::Bytes(attribute)) if found == number => {
                    if len == 0 {
                        row.tape().push(Node::Object { len: 0, count: 0 });
                    }
                    self.put_key_value(attribute, 1, row)?;
                    len += 1;
                }
                _ => {}
            }
        }
        if len == 0 {
            return Ok(0);
        }
        let count = row.tape().len() - start - 1;
        row.tape()[start] = Node::Object { len, count };
        Ok(start as u32)
    }

    fn put_key_value(
        &mut self,
        attribute: &'t [u8],
        depth: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        let (key, value) = key_value(attribute)?;
        row.tape().push(Node::String(key));
        self.put_value(value, depth, row)?;
        Ok(())
    }

    /// An `AnyValue` on the tape, `depth` levels of values around it; its index.
    #[inline]
    fn put_value(
        &mut self,
        value: &'t [u8],
        depth: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<u32, RowStop> {
        // A short text, as most are.
        if let Some((text, [])) = split_short(value, 1) {
            let node = Node::String(text_of(text)?);
            row.tape().push(node);
            return Ok(row.tape().len() as u32 - 1);
        }
        self.put_any_value(value, depth, row)
    }

    fn put_any_value(
        &mut self,
        value: &'t [u8],
        depth: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<u32, RowStop> {
        let mut node = Node::Static(StaticNode::Null);
        // Of several fields of a oneof the last one counts.
        let mut inner: Option<(&'t [u8], bool)> = None;
        for field in Fields::new(value) {
            inner = None;
            node = match field.map_err(|_| RowRefusal::Protobuf)? {
                (1, Value::Bytes(text)) => Node::String(text_of(text)?),
                (2, Value::Varint(truth)) => Node::Static(StaticNode::Bool(truth != 0)),
                (3, Value::Varint(number)) => integer_node(number as i64),
                (4, Value::Fixed64(bits)) => double_node(f64::from_bits(bits)),
                (5, Value::Bytes(values)) => {
                    inner = Some((values, false));
                    node
                }
                (6, Value::Bytes(members)) => {
                    inner = Some((members, true));
                    node
                }
                (7, Value::Bytes(bytes)) => Node::String(self.base64(bytes)?),
                _ => node,
            };
        }
        let start = row.tape().len();
        row.tape().push(node);
        let Some((message, is_object)) = inner else {
            return Ok(start as u32);
        };
        // The recursion is bounded by this.
        if depth >= self.depth_max {
            return Err(RowRefusal::TooDeep.into());
        }
        let mut len = 0;
        // ArrayValue and KeyValueList: 1 values.
        for field in Fields::new(message) {
            if let (1, Value::Bytes(element)) = field.map_err(|_| RowRefusal::Protobuf)? {
                if is_object {
                    self.put_key_value(element, depth + 1, row)?;
                } else {
                    self.put_value(element, depth + 1, row)?;
                }
                len += 1;
            }
        }
        let count = row.tape().len() - start - 1;
        row.tape()[start] = if is_object {
            Node::Object { len, count }
        } else {
            Node::Array { len, count }
        };
        Ok(start as u32)
    }
}

/// `KeyValue`: 1 key, 2 value.
#[inline]
fn key_value(attribute: &[u8]) -> Result<(&str, &[u8]), RowStop> {
    // As encoders write it: both fields once, in order, of lengths that take a byte.
    if let Some((key, rest)) = split_short(attribute, 1)
        && let Some((value, [])) = split_short(rest, 2)
    {
        return Ok((text_of(key)?, value));
    }
    key_value_in_any_order(attribute)
}

/// The bytes of a field of this number that comes first and is shorter than 128 bytes, and what is behind it.
#[inline]
fn split_short(message: &[u8], number: u8) -> Option<(&[u8], &[u8])> {
    match message {
        [tag, len @ ..0x80, rest @ ..] if *tag == number << 3 | 2 => rest.split_at_checked(usize::from(*len)),
        _ => None,
    }
}

fn key_value_in_any_order(attribute: &[u8]) -> Result<(&str, &[u8]), RowStop> {
    let (mut key, mut value): (&[u8], &[u8]) = (b"", b"");
    for field in Fields::new(attribute) {
        match field.map_err(|_| RowRefusal::Protobuf)? {
            (1, Value::Bytes(bytes)) => key = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((text_of(key)?, value))
}

fn put_named<'t>(place: Place, text: &'t [u8], row: &mut RowWriter<'_, 't>) -> Result<(), RowStop> {
    match put_text(text_of(text)?, row) {
        0 => Ok(()),
        index => row.put(place, index),
    }
}
