//! `LowCardinality(T)`: a dictionary of the distinct values and a small key for each row.

use super::builder::Builder;
use super::dictionary::{Dictionary, NULL_KEY};
use super::levels::level_name;
use super::text::put_text;
use super::{Node, StaticNode, ValueError};

/// The dictionary is written by value for each block, under this version of the keys' serialization.
const VERSION: u64 = 1;

/// `LowCardinality(String)` and `LowCardinality(Nullable(String))`.
#[derive(Debug)]
pub(super) struct TextDictionary {
    dictionary: Dictionary,
    scratch: Vec<u8>,
    /// Numbers become the name of the level they mean.
    names_levels: bool,
}

impl TextDictionary {
    pub(super) fn new(dictionary: Dictionary, names_levels: bool) -> TextDictionary {
        TextDictionary {
            dictionary,
            scratch: Vec::new(),
            names_levels,
        }
    }

    /// The key of a text, for who remembers keys.
    pub(super) fn key_of(&mut self, text: &[u8]) -> u32 {
        self.dictionary.key_of(text)
    }

    /// Appends one row by its key.
    #[inline]
    pub(super) fn push(&mut self, key: u32) {
        self.dictionary.push(key);
    }

    /// Appends one tape value as text.
    #[inline]
    pub(super) fn push_value(&mut self, tape: &[Node<'_>], index: u32) {
        let key = match tape[index as usize] {
            Node::String(text) => self.dictionary.key_of(text.as_bytes()),
            Node::Static(StaticNode::Null) => self.dictionary.default_key(),
            _ => {
                self.scratch.clear();
                put_text(tape, index as usize, &mut self.scratch);
                self.dictionary.key_of(&self.scratch)
            }
        };
        self.dictionary.push(key);
    }
}

impl Builder for TextDictionary {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], _on_error: &mut dyn FnMut(usize, ValueError)) {
        self.dictionary.reserve(values.len());
        for &index in values {
            if index == 0 {
                self.dictionary.push_defaults(1);
            } else if self.names_levels
                && let Some(name) = level_name(&tape[index as usize])
            {
                let key = self.dictionary.key_of(name.as_bytes());
                self.dictionary.push(key);
            } else {
                self.push_value(tape, index);
            }
        }
    }

    fn append_defaults(&mut self, rows: usize) {
        self.dictionary.push_defaults(rows);
    }

    fn rows(&self) -> usize {
        self.dictionary.rows()
    }

    fn end(&self) -> Option<usize> {
        Some(self.dictionary.rows())
    }

    fn repeat(&mut self, start: usize, _rows: usize, times: usize) {
        self.dictionary.repeat(start, times);
    }

    fn wire_bytes(&self) -> usize {
        self.dictionary.wire_bytes()
    }

    fn mark(&mut self) {
        self.dictionary.mark();
    }

    fn rollback(&mut self) {
        self.dictionary.rollback();
    }

    fn clear(&mut self) {
        self.dictionary.clear();
    }

    fn put_prefix(&self, prefix: &mut Vec<u8>) {
        prefix.extend_from_slice(&VERSION.to_le_bytes());
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        self.dictionary.for_each_piece(emit);
    }
}

/// A dictionary of values of one width: they are built as a plain column first and looked up from there.
#[derive(Debug)]
pub(super) struct ScalarDictionary {
    dictionary: Dictionary,
    plain: Box<dyn Builder>,
    width: usize,
    nullable: bool,
}

impl ScalarDictionary {
    pub(super) fn new(mut plain: Box<dyn Builder>, nullable: bool, rows_max: usize) -> ScalarDictionary {
        plain.append_defaults(1);
        let width = plain.wire_bytes();
        plain.clear();
        ScalarDictionary {
            dictionary: Dictionary::new(Some(width), nullable, rows_max),
            plain,
            width,
            nullable,
        }
    }
}

impl Builder for ScalarDictionary {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        let ScalarDictionary {
            dictionary,
            plain,
            width,
            nullable,
        } = self;
        plain.clear();
        plain.append(tape, values, on_error);
        dictionary.reserve(values.len());
        plain.for_each_piece(&mut |piece| {
            for (value, &index) in piece.chunks_exact(*width).zip(values) {
                let is_null = index == 0 || tape[index as usize] == Node::Static(StaticNode::Null);
                let key = if *nullable && is_null {
                    NULL_KEY
                } else {
                    dictionary.key_of(value)
                };
                dictionary.push(key);
            }
        });
    }

    fn append_defaults(&mut self, rows: usize) {
        self.dictionary.push_defaults(rows);
    }

    fn rows(&self) -> usize {
        self.dictionary.rows()
    }

    fn wire_bytes(&self) -> usize {
        self.dictionary.wire_bytes()
    }

    fn mark(&mut self) {
        self.dictionary.mark();
    }

    fn rollback(&mut self) {
        self.dictionary.rollback();
    }

    fn clear(&mut self) {
        self.dictionary.clear();
    }

    fn put_prefix(&self, prefix: &mut Vec<u8>) {
        prefix.extend_from_slice(&VERSION.to_le_bytes());
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        self.dictionary.for_each_piece(emit);
    }
}
