//! Columns of bytes: String, FixedString and JSON.

use super::arena::Arena;
use super::builder::Builder;
use super::levels::level_name;
use super::text::{put_json, put_text};
use super::{Node, StaticNode, ValueError};

/// `String`: for each row its length and its bytes.
#[derive(Debug)]
pub(super) struct Strings {
    arena: Arena,
    rows: usize,
    marked: (usize, usize),
    scratch: Vec<u8>,
    /// Numbers become the name of the level they mean.
    names_levels: bool,
}

impl Strings {
    pub(super) fn new(names_levels: bool) -> Strings {
        Strings {
            arena: Arena::default(),
            rows: 0,
            marked: (0, 0),
            scratch: Vec::new(),
            names_levels,
        }
    }

    /// Appends one value that is not a tape value.
    #[inline]
    pub(super) fn push(&mut self, text: &[u8]) {
        self.arena.put_string(text);
        self.rows += 1;
    }

    /// Appends one tape value as text.
    #[inline]
    pub(super) fn push_value(&mut self, tape: &[Node<'_>], index: u32) {
        match tape[index as usize] {
            Node::String(text) => self.arena.put_string(text.as_bytes()),
            _ => {
                self.scratch.clear();
                put_text(tape, index as usize, &mut self.scratch);
                self.arena.put_string(&self.scratch);
            }
        }
        self.rows += 1;
    }
}

impl Builder for Strings {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], _on_error: &mut dyn FnMut(usize, ValueError)) {
        for &index in values {
            if index == 0 {
                self.push(b"");
            } else if self.names_levels
                && let Some(name) = level_name(&tape[index as usize])
            {
                self.push(name.as_bytes());
            } else {
                self.push_value(tape, index);
            }
        }
    }

    fn append_defaults(&mut self, rows: usize) {
        self.arena.put_zeros(rows);
        self.rows += rows;
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn end(&self) -> Option<usize> {
        Some(self.arena.len())
    }

    fn repeat(&mut self, start: usize, rows: usize, times: usize) {
        self.arena.repeat(start, times);
        self.rows += rows * times;
    }

    fn wire_bytes(&self) -> usize {
        self.arena.len()
    }

    fn mark(&mut self) {
        self.marked = (self.arena.len(), self.rows);
    }

    fn rollback(&mut self) {
        self.arena.truncate(self.marked.0);
        self.rows = self.marked.1;
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.rows = 0;
        self.marked = (0, 0);
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        emit(self.arena.as_slice());
    }
}

/// `FixedString(N)`: N bytes for each row, short ones filled up with zeros.
#[derive(Debug)]
pub(super) struct FixedStrings {
    arena: Arena,
    width: usize,
    marked: usize,
    scratch: Vec<u8>,
}

impl FixedStrings {
    pub(super) fn new(width: usize) -> FixedStrings {
        FixedStrings {
            arena: Arena::default(),
            width,
            marked: 0,
            scratch: Vec::new(),
        }
    }
}

impl Builder for FixedStrings {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        for (position, &index) in values.iter().enumerate() {
            let text: &[u8] = match tape[index as usize] {
                _ if index == 0 => b"",
                Node::String(text) => text.as_bytes(),
                _ => {
                    self.scratch.clear();
                    put_text(tape, index as usize, &mut self.scratch);
                    &self.scratch
                }
            };
            if text.len() <= self.width {
                self.arena.put(text);
                self.arena.put_zeros(self.width - text.len());
            } else {
                on_error(position, ValueError::TooLongForFixedString);
                self.arena.put_zeros(self.width);
            }
        }
    }

    fn append_defaults(&mut self, rows: usize) {
        self.arena.put_zeros(rows * self.width);
    }

    fn rows(&self) -> usize {
        self.arena.len() / self.width
    }

    fn wire_bytes(&self) -> usize {
        self.arena.len()
    }

    fn mark(&mut self) {
        self.marked = self.arena.len();
    }

    fn rollback(&mut self) {
        self.arena.truncate(self.marked);
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.marked = 0;
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        emit(self.arena.as_slice());
    }
}

/// `JSON` in its text serialization: a version number, then each row's object as a String, which ClickHouse parses.
#[derive(Debug)]
pub(super) struct Objects {
    texts: Strings,
    scratch: Vec<u8>,
}

/// The serialization in which rows are texts (`SerializationObject`'s STRING).
const TEXT_SERIALIZATION: u64 = 1;

impl Default for Objects {
    fn default() -> Self {
        Objects {
            texts: Strings::new(false),
            scratch: Vec::new(),
        }
    }
}

impl Objects {
    /// Appends the JSON text of one object.
    pub(super) fn push(&mut self, text: &[u8]) {
        self.texts.push(text);
    }
}

impl Builder for Objects {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        for (position, &index) in values.iter().enumerate() {
            match tape[index as usize] {
                Node::Object { .. } if index != 0 => {
                    self.scratch.clear();
                    put_json(tape, index as usize, &mut self.scratch);
                    self.texts.push(&self.scratch);
                    continue;
                }
                Node::Static(StaticNode::Null) => {}
                _ if index == 0 => {}
                _ => on_error(
                    position,
                    ValueError::WrongType {
                        expected: "an object",
                    },
                ),
            }
            self.texts.push(b"{}");
        }
    }

    fn append_defaults(&mut self, rows: usize) {
        for _ in 0..rows {
            self.texts.push(b"{}");
        }
    }

    fn rows(&self) -> usize {
        self.texts.rows()
    }

    fn wire_bytes(&self) -> usize {
        self.texts.wire_bytes()
    }

    fn mark(&mut self) {
        self.texts.mark();
    }

    fn rollback(&mut self) {
        self.texts.rollback();
    }

    fn clear(&mut self) {
        self.texts.clear();
    }

    fn put_prefix(&self, prefix: &mut Vec<u8>) {
        prefix.extend_from_slice(&TEXT_SERIALIZATION.to_le_bytes());
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        self.texts.for_each_piece(emit);
    }
}
