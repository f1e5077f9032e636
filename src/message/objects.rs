//! Messages in JSON whose records are plain objects: one, or an array of them, with or without something around it.

use super::tape::{Elements, Members, bytes, copy};
use super::{Message, Places, Records, Room, WrongStructure};
use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::{Node, StaticNode};

/// A protocol of such messages.
pub trait Objects: Copy {
    /// Most records of a message.
    const RECORDS_MAX: usize = usize::MAX;

    /// Where the records of a message are.
    ///
    /// # Errors
    /// There are none where they should be.
    fn records(nodes: &[Node<'_>]) -> Result<Elements, WrongStructure>;

    /// The records within a record, if that is only something around them.
    fn inside(_nodes: &[Node<'_>], _record: usize) -> Option<Elements> {
        None
    }

    /// Puts the members of the record at a node where they go.
    ///
    /// # Errors
    /// It breaks a rule of the protocol, or a bound is reached.
    fn put<'t>(
        nodes: &[Node<'t>],
        record: usize,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>;
}

/// The records that are still to come.
#[derive(Debug, Clone, Copy)]
pub struct ObjectRecords<'b, P> {
    nodes: &'b [Node<'b>],
    again: Option<usize>,
    records: Elements,
    inner: Elements,
    protocol: std::marker::PhantomData<P>,
}

/// A message of plain objects, its structure checked down to them.
pub type ObjectMessage<'b, P> = Message<'b, ObjectRecords<'b, P>>;

impl<'b, P: Objects> ObjectMessage<'b, P> {
    /// Takes the tape of a message.
    ///
    /// # Errors
    /// Something around the records is of the wrong type, or they are too many. What is wrong within a record costs that alone.
    pub fn parse(nodes: &'b [Node<'b>]) -> Result<Self, WrongStructure> {
        let all = ObjectRecords {
            nodes,
            again: None,
            records: P::records(nodes)?,
            inner: Elements::default(),
            protocol: std::marker::PhantomData::<P>,
        };
        let (mut rest, mut records) = (all, 0);
        while rest.next().is_some() {
            records += 1;
        }
        if records > P::RECORDS_MAX {
            return Err(WrongStructure::TooMany {
                records_max: P::RECORDS_MAX,
            });
        }
        Ok(Message::new(records, all))
    }
}

impl<'b, P: Objects> Records<'b> for ObjectRecords<'b, P> {
    // The tape is the core's only one.
    const PASS_BY_PASS: bool = true;

    type Record = usize;
    type Shared = ();

    fn next(&mut self) -> Option<usize> {
        if let Some(record) = self.again.take() {
            return Some(record);
        }
        loop {
            if let Some(record) = self.inner.next(self.nodes) {
                return Some(record);
            }
            let record = self.records.next(self.nodes)?;
            match P::inside(self.nodes, record) {
                Some(inner) => self.inner = inner,
                None => return Some(record),
            }
        }
    }

    fn put_back(&mut self, record: &usize) {
        self.again = Some(*record);
    }

    fn bytes(&self, record: &usize, (): &()) -> usize {
        bytes(self.nodes, *record)
    }

    fn put<'t>(
        &self,
        record: &usize,
        (): &mut (),
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't,
    {
        P::put(self.nodes, *record, places, room, row)
    }
}

/// The text at a node.
///
/// # Errors
/// It is none: the rule that says so.
pub(crate) fn text_at<'t>(nodes: &[Node<'t>], value: usize, rule: &'static str) -> Result<&'t str, RowStop> {
    match nodes[value] {
        Node::String(text) => Ok(text),
        _ => Err(RowRefusal::Rule(rule).into()),
    }
}

/// A text or a number, which may be a time.
///
/// # Errors
/// It is neither: the rule that says so.
pub(crate) fn time_at<'t>(nodes: &[Node<'t>], value: usize, rule: &'static str) -> Result<Node<'t>, RowStop> {
    match nodes[value] {
        node @ (Node::String(_)
        | Node::Static(StaticNode::U64(_) | StaticNode::I64(_) | StaticNode::F64(_))) => Ok(node),
        _ => Err(RowRefusal::Rule(rule).into()),
    }
}

/// Puts a value among the attributes.
///
/// # Errors
/// It is nested too deep, or a bound is reached.
pub(crate) fn put_attribute<'t>(
    nodes: &[Node<'t>],
    (name, value): (&str, usize),
    places: &Places,
    room: &Room<'t>,
    row: &mut RowWriter<'_, 't>,
) -> Result<(), RowStop> {
    let index = copy(nodes, value, room.depth_max, row)?;
    row.put_member(places.log_attributes, name, index)
}

/// Puts the members of `metadata`, which is an object, among the attributes.
///
/// # Errors
/// It is no object, a value is nested too deep, or a bound is reached.
pub(crate) fn put_metadata<'t>(
    nodes: &[Node<'t>],
    metadata: usize,
    places: &Places,
    room: &Room<'t>,
    row: &mut RowWriter<'_, 't>,
) -> Result<(), RowStop> {
    let members = Members::of_object(nodes, metadata);
    for member in members.ok_or(RowRefusal::Rule("metadata must be an object"))? {
        put_attribute(nodes, member, places, room, row)?;
    }
    Ok(())
}
