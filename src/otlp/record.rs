//! Reads the parts of a record in protobuf: values of any kind become JSON's.

use super::message::ProtobufRecords;
use super::rows::{Context, Encoding, Shared};
use crate::batch::{Place, RowRefusal, RowStop, RowWriter};
use crate::column::{Node, StaticNode};
use crate::message::tape::{double_node, find_member, integer_node, put_text};
use crate::message::{Places, Room, text_of};
use crate::protobuf::{self, Fields, Tag, Value};

/// The fields of `LogRecord` that are read.
mod log_record {
    use crate::protobuf::{Tag, bytes, fixed32, fixed64, varint};

    pub(super) const TIME_UNIX_NANO: Tag = fixed64(1);
    pub(super) const SEVERITY_NUMBER: Tag = varint(2);
    pub(super) const SEVERITY_TEXT: Tag = bytes(3);
    pub(super) const BODY: Tag = bytes(5);
    pub(super) const ATTRIBUTES: Tag = bytes(6);
    pub(super) const FLAGS: Tag = fixed32(8);
    pub(super) const TRACE_ID: Tag = bytes(9);
    pub(super) const SPAN_ID: Tag = bytes(10);
    pub(super) const OBSERVED_TIME_UNIX_NANO: Tag = fixed64(11);
    pub(super) const EVENT_NAME: Tag = bytes(12);
}

/// The fields of `AnyValue`, of which one is set.
mod any_value {
    use crate::protobuf::{Tag, bytes, fixed64, varint};

    pub(super) const STRING: Tag = bytes(1);
    pub(super) const BOOL: Tag = varint(2);
    pub(super) const INT: Tag = varint(3);
    pub(super) const DOUBLE: Tag = fixed64(4);
    pub(super) const ARRAY: Tag = bytes(5);
    pub(super) const KVLIST: Tag = bytes(6);
    pub(super) const BYTES: Tag = bytes(7);
}

impl<'b> Encoding<'b> for ProtobufRecords<'b> {
    const PASS_BY_PASS: bool = true;

    type Part = &'b [u8];

    #[inline]
    fn next(&mut self) -> Option<&'b [u8]> {
        // Borders were checked when the message was parsed.
        self.step().ok().flatten()
    }

    #[inline]
    fn around(&self) -> [&Context<&'b [u8]>; 2] {
        [&self.resource, &self.scope]
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
            match field? {
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
        let mut fields = Fields::new(record);
        while let Some(tag) = fields.tag()? {
            match tag {
                log_record::TIME_UNIX_NANO => time = fields.fixed64()?,
                log_record::SEVERITY_NUMBER => {
                    // An enum, of which only these are defined.
                    if let number @ 1..=24 = fields.varint()? {
                        row.put_node(places.severity_number, Node::Static(StaticNode::U64(number)))?;
                    }
                }
                log_record::SEVERITY_TEXT => put_named(places.severity_text, fields.bytes()?, row)?,
                log_record::BODY => {
                    let index = room.put_value(fields.bytes()?, 1, row)?;
                    if row.tape()[index as usize] != Node::Static(StaticNode::Null) {
                        row.put(places.body, index)?;
                    }
                }
                log_record::ATTRIBUTES => {
                    let (key, value) = key_value(fields.bytes()?)?;
                    let index = room.put_value(value, 1, row)?;
                    row.put_member(places.log_attributes, key, index)?;
                }
                log_record::FLAGS => {
                    let flags = u64::from(fields.fixed32()? & 0xff);
                    if flags != 0 {
                        row.put_node(places.trace_flags, Node::Static(StaticNode::U64(flags)))?;
                    }
                }
                log_record::TRACE_ID => room.put_id(places.trace_id, fields.bytes()?, row)?,
                log_record::SPAN_ID => room.put_id(places.span_id, fields.bytes()?, row)?,
                log_record::OBSERVED_TIME_UNIX_NANO => observed = fields.fixed64()?,
                log_record::EVENT_NAME => put_named(places.event_name, fields.bytes()?, row)?,
                _ => fields.pass_over(tag)?,
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
        let room = self.take(2 * id.len())?;
        // Eight bytes at a time are a loop of vector instructions.
        let (words, rest) = id.as_chunks::<8>();
        let (room_of_words, room_of_rest) = room.split_at_mut(16 * words.len());
        for (digits, word) in room_of_words.as_chunks_mut::<16>().0.iter_mut().zip(words) {
            put_digits(word, digits.as_chunks_mut().0);
        }
        put_digits(rest, room_of_rest.as_chunks_mut().0);
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
        let mut fields = Fields::new(message);
        while let Some(attribute) = fields.next_message(number)? {
            if len == 0 {
                row.tape().push(Node::Object { len: 0, count: 0 });
            }
            self.put_key_value(attribute, 1, row)?;
            len += 1;
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
        // One text or number, as most are.
        let mut fields = Fields::new(value);
        let node = match fields.tag()? {
            Some(any_value::STRING) => Node::String(text_of(fields.bytes()?)?),
            Some(any_value::INT) => integer_node(fields.varint()? as i64),
            Some(any_value::DOUBLE) => double_node(f64::from_bits(fields.fixed64()?)),
            Some(any_value::BOOL) => Node::Static(StaticNode::Bool(fields.varint()? != 0)),
            _ => return self.put_any_value(value, depth, row),
        };
        if fields.tag()?.is_some() {
            return self.put_any_value(value, depth, row);
        }
        row.tape().push(node);
        Ok(row.tape().len() as u32 - 1)
    }

    #[inline(never)]
    fn put_any_value(
        &mut self,
        value: &'t [u8],
        depth: u32,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<u32, RowStop> {
        let mut node = Node::Static(StaticNode::Null);
        // Of several fields of a oneof the last one counts.
        let mut inner: Option<(&'t [u8], bool)> = None;
        let mut fields = Fields::new(value);
        while let Some(tag) = fields.tag()? {
            let scalar = match tag {
                any_value::STRING => Node::String(text_of(fields.bytes()?)?),
                any_value::BOOL => Node::Static(StaticNode::Bool(fields.varint()? != 0)),
                any_value::INT => integer_node(fields.varint()? as i64),
                any_value::DOUBLE => double_node(f64::from_bits(fields.fixed64()?)),
                any_value::BYTES => Node::String(self.base64(fields.bytes()?)?),
                any_value::ARRAY | any_value::KVLIST => {
                    inner = Some((fields.bytes()?, tag == any_value::KVLIST));
                    continue;
                }
                _ => {
                    fields.pass_over(tag)?;
                    continue;
                }
            };
            (node, inner) = (scalar, None);
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
        let mut elements = Fields::new(message);
        while let Some(element) = elements.next_message(1)? {
            if is_object {
                self.put_key_value(element, depth + 1, row)?;
            } else {
                self.put_value(element, depth + 1, row)?;
            }
            len += 1;
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

/// The two hexadecimal digits of each byte.
#[inline(always)]
fn put_digits(bytes: &[u8], digits: &mut [[u8; 2]]) {
    let digit = |half: u8| half + if half < 10 { b'0' } else { b'a' - 10 };
    for (pair, byte) in digits.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

/// The fields of `KeyValue`.
const KEY: Tag = protobuf::bytes(1);
const VALUE: Tag = protobuf::bytes(2);

/// A `KeyValue`.
#[inline]
fn key_value(attribute: &[u8]) -> Result<(&str, &[u8]), RowStop> {
    // Both fields once and in order, as encoders write them.
    let mut fields = Fields::new(attribute);
    if fields.tag()? == Some(KEY) {
        let key = fields.bytes()?;
        if fields.tag()? == Some(VALUE) {
            let value = fields.bytes()?;
            if fields.tag()?.is_none() {
                return Ok((text_of(key)?, value));
            }
        }
    }
    key_value_in_any_order(attribute)
}

#[cold]
fn key_value_in_any_order(attribute: &[u8]) -> Result<(&str, &[u8]), RowStop> {
    let (mut key, mut value): (&[u8], &[u8]) = (b"", b"");
    let mut fields = Fields::new(attribute);
    while let Some(tag) = fields.tag()? {
        match tag {
            KEY => key = fields.bytes()?,
            VALUE => value = fields.bytes()?,
            _ => fields.pass_over(tag)?,
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
