//! Rows that are no JSON text: a source writes them value by value into a pass.

use super::names::{NameRefused, ROOT};
use super::scan::{Scan, Stop};
use crate::column::Node;
use crate::json::RejectReason;
use crate::mapping::Target;
use crate::protobuf::Malformed;

/// Why a row cannot be taken, before any column has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowRefusal {
    /// More attributes than `attributes_per_row_max`.
    TooManyAttributes,
    /// An attribute's name is longer than `attribute_name_bytes_max`.
    NameTooLong,
    /// Its message is not protobuf.
    Protobuf,
    /// A field of it is of another type than the protocol's, or is written in a form that is none.
    Field,
    /// A text in it is not UTF-8.
    Utf8,
    /// Longer than `line_bytes_max`, with what it shares with other rows.
    TooLong,
    /// Nested deeper than `depth_max`.
    TooDeep,
    /// Not an object, where a row is one.
    NotObject,
    /// A rule of its protocol, which is said.
    Rule(&'static str),
}

impl RowRefusal {
    /// The reason it counts as.
    pub fn reason(self) -> RejectReason {
        match self {
            RowRefusal::TooManyAttributes | RowRefusal::NameTooLong => RejectReason::Attributes,
            RowRefusal::Protobuf => RejectReason::Protobuf,
            RowRefusal::Field => RejectReason::Type,
            RowRefusal::Utf8 => RejectReason::Utf8,
            RowRefusal::TooLong => RejectReason::TooLong,
            RowRefusal::TooDeep => RejectReason::TooDeep,
            RowRefusal::NotObject => RejectReason::NotObject,
            RowRefusal::Rule(_) => RejectReason::Rule,
        }
    }
}

impl std::fmt::Display for RowRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RowRefusal::TooManyAttributes => "more attributes than one row may have",
            RowRefusal::NameTooLong => "an attribute's name, joined with those around it, is too long",
            RowRefusal::Protobuf => "not a valid protobuf message",
            RowRefusal::Field => {
                "a field is of the wrong type, or no number, hexadecimal or Base64 as it should be"
            }
            RowRefusal::Utf8 => "a text in it is not valid UTF-8",
            RowRefusal::TooLong => "the record, with what it shares with others, is too long",
            RowRefusal::TooDeep => "a value is nested too deep",
            RowRefusal::NotObject => "the record is not an object",
            RowRefusal::Rule(rule) => rule,
        })
    }
}

/// Why a row was not written to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowStop {
    /// It never will be.
    Refused(RowRefusal),
    /// It will be, as the first of another pass.
    NextPass,
}

impl From<RowRefusal> for RowStop {
    fn from(refusal: RowRefusal) -> Self {
        RowStop::Refused(refusal)
    }
}

impl From<Malformed> for RowStop {
    fn from(_: Malformed) -> Self {
        RowRefusal::Protobuf.into()
    }
}

impl From<Stop> for RowStop {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(NameRefused::Full) => RowStop::NextPass,
            Stop::Refused(NameRefused::TooLong) => RowRefusal::NameTooLong.into(),
            // No object is opened, and nothing is text: the other two do not happen.
            Stop::TooMany | Stop::Repeated | Stop::Irregular => RowRefusal::TooManyAttributes.into(),
        }
    }
}

/// Where rows come from.
pub trait RowSource<'t> {
    /// Writes the next row; false when there is none, or none that fits this pass beside the rows it has.
    ///
    /// # Errors
    /// The row was not written. The same row comes with the next call, unless [`RowSource::skip`] is called before.
    fn write(&mut self, row: &mut RowWriter<'_, 't>) -> Result<bool, RowStop>;

    /// Gives the row up that could not be written.
    fn skip(&mut self);
}

/// Takes the values of one row.
#[derive(Debug)]
pub struct RowWriter<'s, 't> {
    pub(super) scan: &'s mut Scan,
    pub(super) tape: &'s mut Vec<Node<'t>>,
    pub(super) row: usize,
    /// The member put last: most rows have the same ones in the same order.
    pub(super) previous: u32,
}

impl<'t> RowWriter<'_, 't> {
    /// The row's number in its pass.
    pub fn number(&self) -> usize {
        self.row
    }

    /// The pass's values, as simd-json lays them out. Index 0 is none.
    pub fn tape(&mut self) -> &mut Vec<Node<'t>> {
        self.tape
    }

    /// Puts the members of the object at `index` of the tape where those of a row in JSON go. It comes before all other values of
    /// the row.
    ///
    /// # Errors
    /// The row has too many attributes, a name is too long, or no more names can be remembered in this pass.
    pub fn put_object(&mut self, index: u32) -> Result<(), RowStop> {
        self.scan.read_first(self.tape, index as usize, self.row)?;
        Ok(())
    }

    /// Changes when places are to be found anew.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.scan.generation()
    }

    /// Where values of `key` go; good for the rest of the pass while the generation is the same.
    ///
    /// # Errors
    /// No more names can be remembered in this pass.
    pub fn place(&mut self, key: &str) -> Result<Place, RowStop> {
        let name = self.scan.name(ROOT, ROOT, key.as_bytes())?;
        let (target, attribute) = self.scan.place(name);
        Ok(Place {
            name,
            target,
            attribute,
        })
    }

    /// Puts the value at `index` of the tape, in place of an earlier one there.
    ///
    /// # Errors
    /// The row has too many attributes.
    #[inline]
    pub fn put(&mut self, place: Place, index: u32) -> Result<(), RowStop> {
        debug_assert!(
            index != 0 && (index as usize) < self.tape.len(),
            "index 0 is no value"
        );
        let Place {
            target, attribute, ..
        } = place;
        self.scan
            .put_first(self.tape, target, attribute, index as usize, self.row)?;
        Ok(())
    }

    /// As [`RowWriter::put`], with a value that is not on the tape yet.
    #[inline]
    pub fn put_node(&mut self, place: Place, node: Node<'t>) -> Result<(), RowStop> {
        self.tape.push(node);
        self.put(place, self.tape.len() as u32 - 1)
    }

    /// Where members of the object `key` in `parent` go: under the names of both, joined by a dot.
    ///
    /// # Errors
    /// Its name is too long, or no more names can be remembered in this pass.
    #[inline]
    pub fn member(&mut self, parent: Place, key: &str) -> Result<Place, RowStop> {
        let name = self.scan.name(self.previous, parent.name, key.as_bytes())?;
        self.previous = name;
        let (target, attribute) = self.scan.place(name);
        Ok(Place {
            name,
            target,
            attribute,
        })
    }

    /// Puts a member of the object that is at `parent`: an attribute under its own name when that is the overflow column.
    ///
    /// # Errors
    /// The row has too many attributes, its name is too long, or no more names can be remembered in this pass.
    #[inline]
    pub fn put_member(&mut self, parent: Place, key: &str, index: u32) -> Result<(), RowStop> {
        let name = self.scan.name(self.previous, parent.name, key.as_bytes())?;
        self.previous = name;
        let (target, attribute) = self.scan.place(name);
        self.scan
            .put_first(self.tape, target, attribute, index as usize, self.row)?;
        Ok(())
    }
}

/// Where values of one key go.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    name: u32,
    target: Target,
    attribute: u32,
}
