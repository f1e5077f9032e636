//! The same records in OTLP's JSON form, read from simd-json's tape of the whole message.
//!
//! Names are lowerCamelCase, ids hexadecimal, 64-bit integers texts or numbers, bytes Base64; null is absent, unknown
//! names are passed over, of a name that comes twice the last one counts. Source: the OTLP specification 1.x, "JSON Protobuf Encoding";
//! protobuf.dev, "ProtoJSON Format".

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::rows::{Context, Encoding, LogRecords, Shared};
use crate::batch::{Place, RowRefusal, RowStop, RowWriter};
use crate::column::{Node, StaticNode};
use crate::message::tape::{
    Elements, Members, NULL, bytes, double_node, find_member, integer_node, put_text,
};
use crate::message::{Message, Places, Room, WrongStructure};

fn wrong(part: &'static str) -> WrongStructure {
    WrongStructure::Type {
        message: "an ExportLogsServiceRequest",
        part,
    }
}

/// A request of log records, its structure checked down to the records.
pub type JsonMessage<'b> = Message<'b, LogRecords<JsonRecords<'b>>>;

impl<'b> JsonMessage<'b> {
    /// Takes the tape of a request.
    ///
    /// # Errors
    /// Something around the records is of the wrong type. What is wrong within a record costs that record alone.
    pub fn parse(nodes: &'b [Node<'b>]) -> Result<JsonMessage<'b>, WrongStructure> {
        let all = JsonRecords::new(nodes)?;
        let (mut rest, mut records) = (all, 0);
        while rest.step()?.is_some() {
            records += 1;
        }
        Ok(Message::new(records, LogRecords(all)))
    }
}

/// The records that are still to come.
#[derive(Debug, Clone, Copy)]
pub struct JsonRecords<'b> {
    nodes: &'b [Node<'b>],
    resources: Elements,
    scopes: Elements,
    records: Elements,
    /// Parts are tape indexes, 0 = none.
    resource: Context<usize>,
    scope: Context<usize>,
}

impl<'b> JsonRecords<'b> {
    fn new(nodes: &'b [Node<'b>]) -> Result<JsonRecords<'b>, WrongStructure> {
        let mut resources = Elements::default();
        let Node::Object { .. } = nodes[0] else {
            return Err(wrong("the body"));
        };
        for (name, value) in Members::of(nodes, 0).into_iter().flatten() {
            if name == "resourceLogs" {
                resources = Elements::of(nodes, value).ok_or(wrong("resourceLogs"))?;
            }
        }
        Ok(JsonRecords {
            nodes,
            resources,
            scopes: Elements::default(),
            records: Elements::default(),
            resource: Context::default(),
            scope: Context::default(),
        })
    }

    fn step(&mut self) -> Result<Option<usize>, WrongStructure> {
        loop {
            if let Some(record) = self.records.next(self.nodes) {
                return Ok(Some(record));
            }
            if let Some(scope_logs) = self.scopes.next(self.nodes) {
                (self.scope, self.records) =
                    self.context(scope_logs, self.scope.serial, "scope", "logRecords")?;
                continue;
            }
            let Some(resource_logs) = self.resources.next(self.nodes) else {
                return Ok(None);
            };
            (self.resource, self.scopes) =
                self.context(resource_logs, self.resource.serial, "resource", "scopeLogs")?;
        }
    }

    /// An element of `resourceLogs` or `scopeLogs`: what is shared, its schema URL, and what is in it.
    fn context(
        &self,
        object: usize,
        serial: u32,
        shared: &'static str,
        inner: &'static str,
    ) -> Result<(Context<usize>, Elements), WrongStructure> {
        let mut context = Context {
            serial: serial + 1,
            ..Context::default()
        };
        let mut elements = Elements::default();
        for (name, value) in Members::of(self.nodes, object).ok_or(wrong("an element around the records"))? {
            match name {
                "schemaUrl" => context.schema_url = value,
                _ if name == shared => context.message = value,
                _ if name == inner => {
                    elements = Elements::of(self.nodes, value).ok_or(wrong(inner))?;
                }
                _ => {}
            }
        }
        Ok((context, elements))
    }

    /// The members of a part, none if there is no such part.
    fn members(&self, part: usize) -> Result<impl Iterator<Item = (&'b str, usize)>, RowStop> {
        let members = match part {
            0 => None,
            part => Some(Members::of(self.nodes, part).ok_or(RowRefusal::Field)?),
        };
        Ok(members.into_iter().flatten())
    }

    fn elements(&self, array: usize) -> Result<Elements, RowStop> {
        Elements::of(self.nodes, array).ok_or_else(|| RowRefusal::Field.into())
    }

    /// The text at a node, empty if there is no such part.
    fn text(&self, part: usize) -> Result<&'b str, RowStop> {
        match self.nodes[part] {
            _ if part == 0 => Ok(""),
            Node::String(text) => Ok(text),
            _ => Err(RowRefusal::Field.into()),
        }
    }

    /// An integer of any width, as a number or a text; also one that is written with a point or an exponent.
    fn integer<I: TryFrom<i128>>(&self, part: usize) -> Result<I, RowStop> {
        let of_double = |number: f64| (number.fract() == 0.0).then_some(number as i128);
        let number = match self.nodes[part] {
            Node::Static(StaticNode::U64(number)) => Some(i128::from(number)),
            Node::Static(StaticNode::I64(number)) => Some(i128::from(number)),
            Node::Static(StaticNode::F64(number)) => of_double(number),
            Node::String(text) => match text.parse() {
                Ok(number) => Some(number),
                Err(_) => number_of(text).and_then(of_double),
            },
            _ => None,
        };
        number
            .and_then(|number| I::try_from(number).ok())
            .ok_or_else(|| RowRefusal::Field.into())
    }

    fn double(&self, part: usize) -> Result<f64, RowStop> {
        match self.nodes[part] {
            Node::Static(StaticNode::F64(number)) => Ok(number),
            Node::Static(StaticNode::U64(number)) => Ok(number as f64),
            Node::Static(StaticNode::I64(number)) => Ok(number as f64),
            Node::String("NaN") => Ok(f64::NAN),
            Node::String("Infinity") => Ok(f64::INFINITY),
            Node::String("-Infinity") => Ok(f64::NEG_INFINITY),
            Node::String(text) => number_of(text).ok_or_else(|| RowRefusal::Field.into()),
            _ => Err(RowRefusal::Field.into()),
        }
    }

    /// An array of `KeyValue`s as an object on the tape; 0 when it has none.
    fn put_attributes(
        &self,
        array: usize,
        room: &mut Room<'b>,
        row: &mut RowWriter<'_, 'b>,
    ) -> Result<u32, RowStop> {
        let elements = self.elements(array)?;
        match elements.left {
            0 => Ok(0),
            _ => self.put_object(elements, 1, room, row),
        }
    }

    fn put_object(
        &self,
        mut elements: Elements,
        depth: u32,
        room: &mut Room<'b>,
        row: &mut RowWriter<'_, 'b>,
    ) -> Result<u32, RowStop> {
        let (start, len) = (row.tape().len(), elements.left);
        row.tape().push(NULL);
        while let Some(attribute) = elements.next(self.nodes) {
            let (key, value) = self.key_value(attribute)?;
            row.tape().push(Node::String(key));
            self.put_value(value, depth, room, row)?;
        }
        let count = row.tape().len() - start - 1;
        row.tape()[start] = Node::Object { len, count };
        Ok(start as u32)
    }

    fn key_value(&self, attribute: usize) -> Result<(&'b str, usize), RowStop> {
        let (mut key, mut value) = ("", 0);
        for (name, part) in self.members(attribute)? {
            match name {
                "key" => key = self.text(part)?,
                "value" => value = part,
                _ => {}
            }
        }
        Ok((key, value))
    }

    /// An `AnyValue` on the tape, `depth` levels of values around it; its index.
    fn put_value(
        &self,
        value: usize,
        depth: u32,
        room: &mut Room<'b>,
        row: &mut RowWriter<'_, 'b>,
    ) -> Result<u32, RowStop> {
        let mut node = NULL;
        // Of several members of a oneof the last one counts.
        let mut inner = None;
        for (name, part) in self.members(value)? {
            let is_object = name == "kvlistValue";
            if is_object || name == "arrayValue" {
                inner = Some((part, is_object));
                continue;
            }
            node = match name {
                "stringValue" => Node::String(self.text(part)?),
                "boolValue" => match self.nodes[part] {
                    Node::Static(StaticNode::Bool(truth)) => Node::Static(StaticNode::Bool(truth)),
                    _ => return Err(RowRefusal::Field.into()),
                },
                "intValue" => integer_node(self.integer(part)?),
                "doubleValue" => double_node(self.double(part)?),
                "bytesValue" => Node::String(room.base64(&bytes_of(self.text(part)?)?)?),
                _ => continue,
            };
            inner = None;
        }
        let start = row.tape().len() as u32;
        let Some((message, is_object)) = inner else {
            row.tape().push(node);
            return Ok(start);
        };
        // The recursion is bounded by this.
        if depth >= room.depth_max {
            return Err(RowRefusal::TooDeep.into());
        }
        // ArrayValue and KeyValueList.
        let mut elements = Elements::default();
        for (name, part) in self.members(message)? {
            if name == "values" {
                elements = self.elements(part)?;
            }
        }
        if is_object {
            return self.put_object(elements, depth + 1, room, row);
        }
        let len = elements.left;
        row.tape().push(NULL);
        while let Some(element) = elements.next(self.nodes) {
            self.put_value(element, depth + 1, room, row)?;
        }
        let count = row.tape().len() - start as usize - 1;
        row.tape()[start as usize] = Node::Array { len, count };
        Ok(start)
    }

    fn put_named(&self, place: Place, part: usize, row: &mut RowWriter<'_, 'b>) -> Result<(), RowStop> {
        match put_text(self.text(part)?, row) {
            0 => Ok(()),
            index => row.put(place, index),
        }
    }

    /// An id of hexadecimal digits in either case; an invalid one, of zeros, is none.
    fn put_id(
        &self,
        place: Place,
        part: usize,
        room: &mut Room<'b>,
        row: &mut RowWriter<'_, 'b>,
    ) -> Result<(), RowStop> {
        let id = self.text(part)?;
        if id.len() % 2 != 0 || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(RowRefusal::Field.into());
        }
        if id.bytes().all(|digit| digit == b'0') {
            return Ok(());
        }
        row.put_node(place, Node::String(room.lower_case(id)?))
    }
}

impl<'b> Encoding<'b> for JsonRecords<'b> {
    // Its tape is the core's only one.
    const PASS_BY_PASS: bool = true;

    type Part = usize;

    fn next(&mut self) -> Option<usize> {
        // The structure was checked when the message was parsed.
        self.step().ok().flatten()
    }

    fn around(&self) -> [&Context<usize>; 2] {
        [&self.resource, &self.scope]
    }

    fn put_back(&mut self, record: usize) {
        self.records.put_back(record);
    }

    fn bytes(&self, part: usize) -> usize {
        match part {
            0 => 0,
            part => bytes(self.nodes, part),
        }
    }

    fn put_resource<'t>(
        &self,
        resource: &Context<usize>,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<Shared, RowStop>
    where
        'b: 't,
    {
        let records: &JsonRecords<'t> = self;
        let mut attributes = 0;
        for (name, part) in records.members(resource.message)? {
            if name == "attributes" {
                attributes = records.put_attributes(part, room, row)?;
            }
        }
        Ok(Shared {
            serial: resource.serial,
            schema_url: put_text(records.text(resource.schema_url)?, row),
            attributes,
            name: find_member(row.tape(), attributes, "service.name"),
            version: 0,
        })
    }

    fn put_scope<'t>(
        &self,
        scope: &Context<usize>,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<Shared, RowStop>
    where
        'b: 't,
    {
        let records: &JsonRecords<'t> = self;
        let mut shared = Shared {
            serial: scope.serial,
            schema_url: put_text(records.text(scope.schema_url)?, row),
            ..Shared::default()
        };
        for (name, part) in records.members(scope.message)? {
            match name {
                "name" => shared.name = put_text(records.text(part)?, row),
                "version" => shared.version = put_text(records.text(part)?, row),
                "attributes" => shared.attributes = records.put_attributes(part, room, row)?,
                _ => {}
            }
        }
        Ok(shared)
    }

    fn put_record<'t>(
        &self,
        record: usize,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't,
    {
        let records: &JsonRecords<'t> = self;
        let (mut time, mut observed) = (0, 0);
        for (name, part) in records.members(record)? {
            match name {
                "timeUnixNano" => time = records.integer(part)?,
                "observedTimeUnixNano" => observed = records.integer(part)?,
                // An enum, of which only these are defined.
                "severityNumber" => {
                    if let number @ 1..=24 = records.integer(part)? {
                        row.put_node(places.severity_number, integer_node(number))?;
                    }
                }
                "severityText" => records.put_named(places.severity_text, part, row)?,
                "body" => {
                    let index = records.put_value(part, 1, room, row)?;
                    if row.tape()[index as usize] != NULL {
                        row.put(places.body, index)?;
                    }
                }
                "attributes" => {
                    let mut attributes = records.elements(part)?;
                    while let Some(attribute) = attributes.next(records.nodes) {
                        let (key, value) = records.key_value(attribute)?;
                        let index = records.put_value(value, 1, room, row)?;
                        row.put_member(places.log_attributes, key, index)?;
                    }
                }
                "flags" => {
                    let flags = records.integer::<u32>(part)? & 0xff;
                    if flags != 0 {
                        row.put_node(places.trace_flags, integer_node(i64::from(flags)))?;
                    }
                }
                "traceId" => records.put_id(places.trace_id, part, room, row)?,
                "spanId" => records.put_id(places.span_id, part, room, row)?,
                "eventName" => records.put_named(places.event_name, part, row)?,
                _ => {}
            }
        }
        room.put_time(if time != 0 { time } else { observed }, places.timestamp, row)
    }
}

/// A number as JSON writes it.
fn number_of(text: &str) -> Option<f64> {
    // Of what Rust takes beyond that, the names of what is no number start with another letter.
    let first = text.strip_prefix('-').unwrap_or(text).bytes().next()?;
    let number: f64 = text.parse().ok()?;
    (first.is_ascii_digit() && number.is_finite()).then_some(number)
}

/// Base64 in either alphabet, with or without padding.
fn bytes_of(text: &str) -> Result<Vec<u8>, RowStop> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    bytes.map_err(|_| RowRefusal::Field.into())
}
