//! The same records in OTLP's JSON form, read from simd-json's tape of the whole message.
//!
//! Names are lowerCamelCase, ids hexadecimal, 64-bit integers texts or numbers, bytes Base64; null is absent, unknown
//! names are passed over, of a name that comes twice the last one counts. Source: the OTLP specification 1.x, "JSON Protobuf Encoding";
//! protobuf.dev, "ProtoJSON Format".

use std::cell::Cell;
use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::rows::{Context, Places, Record, Records, Rows, Shared, find_member, put_text, room_bytes};
use crate::batch::{
    Place, Pushed, Room, RowInput, RowRefusal, RowStop, RowWriter, TableSink, double_node, integer_node,
    text_of,
};
use crate::column::{Node, StaticNode};
use crate::json::{Parser, RowErrors};

/// The message, or what is around its records, is not as it should be: the name of the part that is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongStructure(&'static str);

impl fmt::Display for WrongStructure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not an ExportLogsServiceRequest: {} is of the wrong type",
            self.0
        )
    }
}

/// A request of log records, its structure checked down to the records.
#[derive(Debug)]
pub struct JsonMessage<'b> {
    records: usize,
    /// The records behind so many of them: passes go on where the last one ended.
    at: Cell<(usize, JsonRecords<'b>)>,
}

impl<'b> JsonMessage<'b> {
    /// Takes the tape of a request.
    ///
    /// # Errors
    /// Something around the records is of the wrong type. What is wrong within a record costs that record alone.
    pub fn parse(nodes: &'b [Node<'b>]) -> Result<JsonMessage<'b>, WrongStructure> {
        let start = JsonRecords::new(nodes)?;
        let mut all = start;
        let mut records = 0;
        while all.step()?.is_some() {
            records += 1;
        }
        Ok(JsonMessage {
            records,
            at: Cell::new((0, start)),
        })
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The records behind the first `at`, which never becomes less.
    fn records_from(&self, at: usize) -> JsonRecords<'b> {
        let (passed, mut records) = self.at.get();
        for _ in passed..at {
            records.next();
        }
        self.at.set((at, records));
        records
    }
}

impl RowInput for JsonMessage<'_> {
    // Its tape is the core's only one.
    const PASS_BY_PASS: bool = false;

    fn end(&self) -> usize {
        self.records
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
            let mut rows = Rows::new(self.records_from(at), room, &limits);
            sink.push_rows(&mut rows, self.records - at, tape, first_row, now_ns, errors)
        })
    }
}

/// Nodes that the value at a node takes, itself included.
fn span(nodes: &[Node<'_>], at: usize) -> usize {
    match nodes[at] {
        Node::Object { count, .. } | Node::Array { count, .. } => 1 + count,
        Node::String(_) | Node::Static(_) => 1,
    }
}

const NULL: Node<'static> = Node::Static(StaticNode::Null);

/// Elements of an array that are still to come.
#[derive(Debug, Clone, Copy, Default)]
struct Elements {
    at: usize,
    left: usize,
}

impl Elements {
    /// Null is an array without elements.
    fn of(nodes: &[Node<'_>], array: usize) -> Option<Elements> {
        match nodes[array] {
            Node::Array { len, .. } => Some(Elements {
                at: array + 1,
                left: len,
            }),
            Node::Static(StaticNode::Null) => Some(Elements::default()),
            _ => None,
        }
    }

    fn next(&mut self, nodes: &[Node<'_>]) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        self.at += span(nodes, at);
        Some(at)
    }
}

/// Members of an object that are not null: name, and where the value is.
struct Members<'t> {
    nodes: &'t [Node<'t>],
    rest: Elements,
}

impl<'t> Members<'t> {
    /// Null is an object without members.
    fn of(nodes: &'t [Node<'t>], object: usize) -> Option<Members<'t>> {
        let rest = match nodes[object] {
            Node::Object { len, .. } => Elements {
                at: object + 1,
                left: 2 * len,
            },
            Node::Static(StaticNode::Null) => Elements::default(),
            _ => return None,
        };
        Some(Members { nodes, rest })
    }
}

impl<'t> Iterator for Members<'t> {
    type Item = (&'t str, usize);

    fn next(&mut self) -> Option<(&'t str, usize)> {
        loop {
            let key = self.rest.next(self.nodes)?;
            let value = self.rest.next(self.nodes)?;
            match self.nodes[key] {
                Node::String(name) if self.nodes[value] != NULL => return Some((name, value)),
                _ => {}
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct JsonRecords<'b> {
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
            return Err(WrongStructure("the body"));
        };
        for (name, value) in Members::of(nodes, 0).into_iter().flatten() {
            if name == "resourceLogs" {
                resources = Elements::of(nodes, value).ok_or(WrongStructure("resourceLogs"))?;
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

    fn step(&mut self) -> Result<Option<Record<usize>>, WrongStructure> {
        loop {
            if let Some(message) = self.records.next(self.nodes) {
                return Ok(Some(Record {
                    resource: self.resource,
                    scope: self.scope,
                    message,
                }));
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
        for (name, value) in
            Members::of(self.nodes, object).ok_or(WrongStructure("an element around the records"))?
        {
            match name {
                "schemaUrl" => context.schema_url = value,
                _ if name == shared => context.message = value,
                _ if name == inner => {
                    elements = Elements::of(self.nodes, value).ok_or(WrongStructure(inner))?;
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
        if !id.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return row.put_node(place, Node::String(id));
        }
        let lower = room.take(id.len())?;
        lower.copy_from_slice(id.as_bytes());
        lower.make_ascii_lowercase();
        row.put_node(place, Node::String(text_of(lower)?))
    }
}

impl<'b> Records<'b> for JsonRecords<'b> {
    type Part = usize;

    fn next(&mut self) -> Option<Record<usize>> {
        // The structure was checked when the message was parsed.
        self.step().ok().flatten()
    }

    /// Its texts, and a byte for each value: never more than it has.
    fn bytes(&self, part: usize) -> usize {
        if part == 0 {
            return 0;
        }
        let nodes = &self.nodes[part..part + span(self.nodes, part)];
        nodes
            .iter()
            .map(|node| match node {
                Node::String(text) => 1 + text.len(),
                _ => 1,
            })
            .sum()
    }

    fn put_resource(
        &self,
        resource: &Context<usize>,
        room: &mut Room<'b>,
        row: &mut RowWriter<'_, 'b>,
    ) -> Result<Shared, RowStop> {
        let mut attributes = 0;
        for (name, part) in self.members(resource.message)? {
            if name == "attributes" {
                attributes = self.put_attributes(part, room, row)?;
            }
        }
        Ok(Shared {
            serial: resource.serial,
            schema_url: put_text(self.text(resource.schema_url)?, row),
            attributes,
            name: find_member(row.tape(), attributes, "service.name"),
            version: 0,
        })
    }

    fn put_scope(
        &self,
        scope: &Context<usize>,
        room: &mut Room<'b>,
        row: &mut RowWriter<'_, 'b>,
    ) -> Result<Shared, RowStop> {
        let mut shared = Shared {
            serial: scope.serial,
            schema_url: put_text(self.text(scope.schema_url)?, row),
            ..Shared::default()
        };
        for (name, part) in self.members(scope.message)? {
            match name {
                "name" => shared.name = put_text(self.text(part)?, row),
                "version" => shared.version = put_text(self.text(part)?, row),
                "attributes" => shared.attributes = self.put_attributes(part, room, row)?,
                _ => {}
            }
        }
        Ok(shared)
    }

    fn put_record(
        &self,
        record: usize,
        places: &Places,
        room: &mut Room<'b>,
        row: &mut RowWriter<'_, 'b>,
    ) -> Result<(), RowStop> {
        let (mut time, mut observed) = (0, 0);
        for (name, part) in self.members(record)? {
            match name {
                "timeUnixNano" => time = self.integer(part)?,
                "observedTimeUnixNano" => observed = self.integer(part)?,
                // An enum, of which only these are defined.
                "severityNumber" => {
                    if let number @ 1..=24 = self.integer(part)? {
                        row.put_node(places.severity_number, integer_node(number))?;
                    }
                }
                "severityText" => self.put_named(places.severity_text, part, row)?,
                "body" => {
                    let index = self.put_value(part, 1, room, row)?;
                    if row.tape()[index as usize] != NULL {
                        row.put(places.body, index)?;
                    }
                }
                "attributes" => {
                    let mut attributes = self.elements(part)?;
                    while let Some(attribute) = attributes.next(self.nodes) {
                        let (key, value) = self.key_value(attribute)?;
                        let index = self.put_value(value, 1, room, row)?;
                        row.put_member(places.log_attributes, key, index)?;
                    }
                }
                "flags" => {
                    let flags = self.integer::<u32>(part)? & 0xff;
                    if flags != 0 {
                        row.put_node(places.trace_flags, integer_node(i64::from(flags)))?;
                    }
                }
                "traceId" => self.put_id(places.trace_id, part, room, row)?,
                "spanId" => self.put_id(places.span_id, part, room, row)?,
                "eventName" => self.put_named(places.event_name, part, row)?,
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
