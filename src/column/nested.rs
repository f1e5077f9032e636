//! Columns made of columns: Nullable, Array, Map and Tuple.
//!
//! A value with parts is not built value by value: the tape indexes of all parts of one kind are gathered first, over all
//! rows of the call, and then the inner column appends them in one call of its own.

use super::arena::Arena;
use super::builder::Builder;
use super::text::next_value;
use super::{Node, StaticNode, ValueError};

/// `Nullable(T)`: a byte per row, 1 for NULL, then the values with a default in each NULL's place.
#[derive(Debug)]
pub(super) struct Nullables {
    nulls: Arena,
    marked: usize,
    values: Box<dyn Builder>,
}

impl Nullables {
    pub(super) fn new(values: Box<dyn Builder>, rows_max: usize) -> Nullables {
        Nullables {
            nulls: Arena::with_capacity(rows_max),
            marked: 0,
            values,
        }
    }
}

impl Builder for Nullables {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        for ([null], &index) in self.nulls.slots::<1>(values.len()).iter_mut().zip(values) {
            *null = u8::from(index == 0 || tape[index as usize] == Node::Static(StaticNode::Null));
        }
        self.values.append(tape, values, on_error);
    }

    fn append_defaults(&mut self, rows: usize) {
        self.nulls.slots::<1>(rows).fill([1]);
        self.values.append_defaults(rows);
    }

    fn rows(&self) -> usize {
        self.nulls.len()
    }

    fn wire_bytes(&self) -> usize {
        self.nulls.len() + self.values.wire_bytes()
    }

    fn mark(&mut self) {
        self.marked = self.nulls.len();
        self.values.mark();
    }

    fn rollback(&mut self) {
        self.nulls.truncate(self.marked);
        self.values.rollback();
    }

    fn clear(&mut self) {
        self.nulls.clear();
        self.marked = 0;
        self.values.clear();
    }

    fn put_prefix(&self, prefix: &mut Vec<u8>) {
        self.values.put_prefix(prefix);
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        emit(self.nulls.as_slice());
        self.values.for_each_piece(emit);
    }
}

/// The end of each row's elements among all elements of the column, as UInt64.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    arena: Arena,
    marked: usize,
}

const OFFSET_BYTES: usize = 8;

impl Offsets {
    #[inline]
    pub(super) fn push(&mut self, end: usize) {
        self.arena.put(&(end as u64).to_le_bytes());
    }

    pub(super) fn push_many(&mut self, end: usize, rows: usize) {
        self.arena
            .slots::<OFFSET_BYTES>(rows)
            .fill((end as u64).to_le_bytes());
    }

    pub(super) fn rows(&self) -> usize {
        self.arena.len() / OFFSET_BYTES
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.arena.as_slice()
    }

    pub(super) fn mark(&mut self) {
        self.marked = self.arena.len();
    }

    pub(super) fn rollback(&mut self) {
        self.arena.truncate(self.marked);
    }

    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.marked = 0;
    }
}

/// The row whose gathered parts contain part `part`; `ends[row]` is one past its last part.
fn row_of(ends: &[u32], part: usize) -> usize {
    ends.partition_point(|&end| end as usize <= part)
}

/// `Array(T)`: offsets, then the elements of all rows.
#[derive(Debug)]
pub(super) struct Arrays {
    offsets: Offsets,
    elements: Box<dyn Builder>,
    gathered: Vec<u32>,
    ends: Vec<u32>,
}

impl Arrays {
    pub(super) fn new(elements: Box<dyn Builder>) -> Arrays {
        Arrays {
            offsets: Offsets::default(),
            elements,
            gathered: Vec::new(),
            ends: Vec::new(),
        }
    }
}

impl Builder for Arrays {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        let Arrays {
            offsets,
            elements,
            gathered,
            ends,
        } = self;
        gathered.clear();
        ends.clear();
        let before = elements.rows();
        for (position, &index) in values.iter().enumerate() {
            match tape[index as usize] {
                _ if index == 0 => {}
                Node::Array { len, .. } => {
                    let mut at = index as usize + 1;
                    for _ in 0..len {
                        gathered.push(at as u32);
                        at = next_value(tape, at);
                    }
                }
                Node::Static(StaticNode::Null) => {}
                _ => on_error(position, ValueError::WrongType { expected: "an array" }),
            }
            ends.push(gathered.len() as u32);
            offsets.push(before + gathered.len());
        }
        elements.append(tape, gathered, &mut |part, error| {
            on_error(row_of(ends, part), error)
        });
    }

    fn append_defaults(&mut self, rows: usize) {
        self.offsets.push_many(self.elements.rows(), rows);
    }

    fn rows(&self) -> usize {
        self.offsets.rows()
    }

    fn wire_bytes(&self) -> usize {
        self.offsets.as_slice().len() + self.elements.wire_bytes()
    }

    fn mark(&mut self) {
        self.offsets.mark();
        self.elements.mark();
    }

    fn rollback(&mut self) {
        self.offsets.rollback();
        self.elements.rollback();
    }

    fn clear(&mut self) {
        self.offsets.clear();
        self.elements.clear();
    }

    fn put_prefix(&self, prefix: &mut Vec<u8>) {
        self.elements.put_prefix(prefix);
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        emit(self.offsets.as_slice());
        self.elements.for_each_piece(emit);
    }
}

/// `Map(K, V)`, stored as `Array(Tuple(K, V))`: offsets, all keys, all values.
#[derive(Debug)]
pub(super) struct Maps {
    offsets: Offsets,
    keys: Box<dyn Builder>,
    values: Box<dyn Builder>,
    gathered_keys: Vec<u32>,
    gathered_values: Vec<u32>,
    ends: Vec<u32>,
}

impl Maps {
    pub(super) fn new(keys: Box<dyn Builder>, values: Box<dyn Builder>) -> Maps {
        Maps {
            offsets: Offsets::default(),
            keys,
            values,
            gathered_keys: Vec::new(),
            gathered_values: Vec::new(),
            ends: Vec::new(),
        }
    }
}

/// Rows of one value from which on copying what was built for the first is worth a call for it alone.
const RUN_MIN: usize = 4;

impl Maps {
    /// Appends rows that all have the object at `index`, which many records share: the first is built, the others are copied.
    /// Both parts can repeat, and take anything.
    fn append_run(&mut self, tape: &[Node<'_>], index: u32, rows: usize) {
        let (keys, values) = (self.keys.end(), self.values.end());
        let (keys, values) = keys.zip(values).expect("both can repeat");
        let before = self.keys.rows();
        self.append_each(tape, &[index], &mut |_, _| {
            unreachable!("what can repeat takes every value as text")
        });
        let parts = self.keys.rows() - before;
        self.keys.repeat(keys, parts, rows - 1);
        self.values.repeat(values, parts, rows - 1);
        for row in 2..=rows {
            self.offsets.push(before + row * parts);
        }
    }

    fn append_each(
        &mut self,
        tape: &[Node<'_>],
        values: &[u32],
        on_error: &mut dyn FnMut(usize, ValueError),
    ) {
        self.gathered_keys.clear();
        self.gathered_values.clear();
        self.ends.clear();
        let before = self.keys.rows();
        for (position, &index) in values.iter().enumerate() {
            match tape[index as usize] {
                _ if index == 0 => {}
                Node::Object { len, .. } => {
                    let mut at = index as usize + 1;
                    for _ in 0..len {
                        self.gathered_keys.push(at as u32);
                        self.gathered_values.push(at as u32 + 1);
                        at = next_value(tape, at + 1);
                    }
                }
                Node::Static(StaticNode::Null) => {}
                _ => on_error(
                    position,
                    ValueError::WrongType {
                        expected: "an object",
                    },
                ),
            }
            self.ends.push(self.gathered_keys.len() as u32);
            self.offsets.push(before + self.gathered_keys.len());
        }
        let ends = &self.ends;
        let mut on_part_error = |part, error| on_error(row_of(ends, part), error);
        self.keys.append(tape, &self.gathered_keys, &mut on_part_error);
        self.values
            .append(tape, &self.gathered_values, &mut on_part_error);
    }
}

/// How many of the first values are one object.
fn run_of(values: &[u32]) -> usize {
    match values {
        [0, ..] | [] => 0,
        [first, rest @ ..] => 1 + rest.iter().take_while(|value| *value == first).count(),
    }
}

impl Builder for Maps {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        let mut single = 0;
        let mut at = 0;
        while at < values.len() {
            let run = run_of(&values[at..]);
            // A value of the wrong type is every row's error.
            let is_object = run >= RUN_MIN && matches!(tape[values[at] as usize], Node::Object { .. });
            if !is_object || self.keys.end().is_none() || self.values.end().is_none() {
                at += run.max(1);
                continue;
            }
            self.append_each(tape, &values[single..at], &mut |row, error| {
                on_error(single + row, error)
            });
            self.append_run(tape, values[at], run);
            at += run;
            single = at;
        }
        self.append_each(tape, &values[single..], &mut |row, error| {
            on_error(single + row, error)
        });
    }

    fn append_defaults(&mut self, rows: usize) {
        self.offsets.push_many(self.keys.rows(), rows);
    }

    fn rows(&self) -> usize {
        self.offsets.rows()
    }

    fn wire_bytes(&self) -> usize {
        self.offsets.as_slice().len() + self.keys.wire_bytes() + self.values.wire_bytes()
    }

    fn mark(&mut self) {
        self.offsets.mark();
        self.keys.mark();
        self.values.mark();
    }

    fn rollback(&mut self) {
        self.offsets.rollback();
        self.keys.rollback();
        self.values.rollback();
    }

    fn clear(&mut self) {
        self.offsets.clear();
        self.keys.clear();
        self.values.clear();
    }

    fn put_prefix(&self, prefix: &mut Vec<u8>) {
        self.keys.put_prefix(prefix);
        self.values.put_prefix(prefix);
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        emit(self.offsets.as_slice());
        self.keys.for_each_piece(emit);
        self.values.for_each_piece(emit);
    }
}

/// `Tuple(...)`: its elements' columns one after another.
#[derive(Debug)]
pub(super) struct Tuples {
    elements: Vec<Element>,
}

#[derive(Debug)]
struct Element {
    name: Option<String>,
    column: Box<dyn Builder>,
    gathered: Vec<u32>,
}

impl Tuples {
    /// `elements` is not empty: ClickHouse has no data for a tuple without elements.
    pub(super) fn new(elements: Vec<(Option<String>, Box<dyn Builder>)>) -> Tuples {
        assert!(!elements.is_empty(), "the type parser takes no empty tuple");
        let elements = elements.into_iter();
        Tuples {
            elements: elements
                .map(|(name, column)| Element {
                    name,
                    column,
                    gathered: Vec::new(),
                })
                .collect(),
        }
    }
}

impl Builder for Tuples {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        for element in &mut self.elements {
            element.gathered.clear();
            element.gathered.resize(values.len(), 0);
        }
        for (position, &index) in values.iter().enumerate() {
            match tape[index as usize] {
                _ if index == 0 => {}
                Node::Static(StaticNode::Null) => {}
                Node::Array { len, .. } => {
                    if len != self.elements.len() {
                        on_error(position, ValueError::WrongTupleLength);
                        continue;
                    }
                    let mut at = index as usize + 1;
                    for element in &mut self.elements {
                        element.gathered[position] = at as u32;
                        at = next_value(tape, at);
                    }
                }
                Node::Object { len, .. } if self.elements[0].name.is_some() => {
                    let mut at = index as usize + 1;
                    for _ in 0..len {
                        if let Node::String(key) = tape[at]
                            && let Some(element) = self
                                .elements
                                .iter_mut()
                                .find(|element| element.name.as_deref() == Some(key))
                        {
                            element.gathered[position] = at as u32 + 1;
                        }
                        at = next_value(tape, at + 1);
                    }
                }
                _ => on_error(
                    position,
                    ValueError::WrongType {
                        expected: "an array or object of a tuple",
                    },
                ),
            }
        }
        for element in &mut self.elements {
            element.column.append(tape, &element.gathered, on_error);
        }
    }

    fn append_defaults(&mut self, rows: usize) {
        for element in &mut self.elements {
            element.column.append_defaults(rows);
        }
    }

    fn rows(&self) -> usize {
        self.elements[0].column.rows()
    }

    fn wire_bytes(&self) -> usize {
        self.elements
            .iter()
            .map(|element| element.column.wire_bytes())
            .sum()
    }

    fn mark(&mut self) {
        for element in &mut self.elements {
            element.column.mark();
        }
    }

    fn rollback(&mut self) {
        for element in &mut self.elements {
            element.column.rollback();
        }
    }

    fn clear(&mut self) {
        for element in &mut self.elements {
            element.column.clear();
        }
    }

    fn put_prefix(&self, prefix: &mut Vec<u8>) {
        for element in &self.elements {
            element.column.put_prefix(prefix);
        }
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        for element in &mut self.elements {
            element.column.for_each_piece(emit);
        }
    }
}
