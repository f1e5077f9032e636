//! Memory for texts that a message does not hold as they are stored.

use std::mem;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::batch::{Place, RowRefusal, RowStop, RowWriter};
use crate::column::{Node, StaticNode};
use crate::limits::Limits;
use crate::utf8;

/// For texts that do not lie in the message as they are stored, for the length of a pass.
pub struct Room<'t> {
    room: &'t mut [u8],
    /// Levels of nesting that a value may have.
    pub(crate) depth_max: u32,
    /// Bytes of labels that the records of a stream may share.
    pub(crate) labels_bytes_max: usize,
}

impl<'t> Room<'t> {
    pub(crate) fn new(room: &'t mut [u8], limits: &Limits) -> Room<'t> {
        Room {
            room,
            depth_max: limits.depth_max as u32,
            labels_bytes_max: limits.labels_bytes_max,
        }
    }

    /// Bytes that are left.
    pub(crate) fn bytes(&self) -> usize {
        self.room.len()
    }

    /// Puts nanoseconds since 1970 as a time that is read for nothing else; 0 is none.
    ///
    /// # Errors
    /// The row has too many attributes, or no room is left.
    pub(crate) fn put_time(
        &mut self,
        nanos: u64,
        place: Place,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop> {
        if nanos == 0 {
            return Ok(());
        }
        let node = self.time(nanos)?;
        row.put_node(place, node)
    }

    /// Nanoseconds since 1970 as a time that is read for nothing else.
    ///
    /// # Errors
    /// No room is left.
    pub(crate) fn time(&mut self, nanos: u64) -> Result<Node<'t>, RowStop> {
        // From here on a number is read as nanoseconds (`timestamp`); before March 1973 it would be a later time.
        if nanos >= 100_000_000_000_000_000 {
            return Ok(Node::Static(StaticNode::U64(nanos)));
        }
        let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        let room = self.take(text.len())?;
        room.copy_from_slice(text.as_bytes());
        Ok(Node::String(text_of(room)?))
    }

    /// A text that may hold what is not UTF-8: U+FFFD stands for that, in up to three times the bytes.
    ///
    /// # Errors
    /// No room is left.
    #[inline]
    pub(crate) fn lossy(&mut self, bytes: &'t [u8]) -> Result<&'t str, RowStop> {
        match utf8::text_of(bytes) {
            Some(text) => Ok(text),
            None => self.replaced(bytes),
        }
    }

    #[cold]
    fn replaced(&mut self, bytes: &[u8]) -> Result<&'t str, RowStop> {
        let parts = || {
            bytes.utf8_chunks().flat_map(|chunk| {
                let replacement = if chunk.invalid().is_empty() {
                    ""
                } else {
                    "\u{fffd}"
                };
                [chunk.valid(), replacement]
            })
        };
        let room = self.take(parts().map(str::len).sum())?;
        let mut at = 0;
        for part in parts() {
            room[at..at + part.len()].copy_from_slice(part.as_bytes());
            at += part.len();
        }
        text_of(room)
    }

    /// An id of `digits` hexadecimal digits in either case, in lower case; `None` for another text, and for zeros, which stand
    /// for no id.
    pub(crate) fn hex_id(&mut self, id: &'t str, digits: usize) -> Result<Option<&'t str>, RowStop> {
        let is_id = id.len() == digits
            && id.bytes().all(|digit| digit.is_ascii_hexdigit())
            && id.bytes().any(|digit| digit != b'0');
        match is_id {
            true => self.lower_case(id).map(Some),
            false => Ok(None),
        }
    }

    /// A text with its ASCII letters in lower case.
    pub(crate) fn lower_case(&mut self, text: &'t str) -> Result<&'t str, RowStop> {
        if !text.bytes().any(|letter| letter.is_ascii_uppercase()) {
            return Ok(text);
        }
        let lower = self.take(text.len())?;
        lower.copy_from_slice(text.as_bytes());
        lower.make_ascii_lowercase();
        text_of(lower)
    }

    /// Bytes as a text.
    pub(crate) fn base64(&mut self, bytes: &[u8]) -> Result<&'t str, RowStop> {
        let room = self.take(bytes.len().div_ceil(3) * 4)?;
        STANDARD
            .encode_slice(bytes, room)
            .expect("four letters for every three bytes");
        text_of(room)
    }

    /// A part of the room for the rest of the pass, which has [`room_of`] the record.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'t mut [u8], RowStop> {
        if bytes > self.room.len() {
            return Err(RowRefusal::TooLong.into());
        }
        let (taken, rest) = mem::take(&mut self.room).split_at_mut(bytes);
        self.room = rest;
        Ok(taken)
    }
}

/// Bytes of a message as a text.
#[inline]
pub(crate) fn text_of(bytes: &[u8]) -> Result<&str, RowStop> {
    utf8::text_of(bytes).ok_or_else(|| RowRefusal::Utf8.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_no_text_is_replaced_as_the_standard_library_does(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0xf0_u8), Just(0x9f), Just(0x98), Just(0x80), Just(b'a')], 0..40,
        )) {
            let mut memory = [0; 120];
            let mut room = Room::new(&mut memory, &Limits::default());
            let text = room.lossy(&bytes);
            prop_assert_eq!(text, Ok(&*String::from_utf8_lossy(&bytes)));
        }
    }

    #[test]
    fn a_time_is_a_number_only_where_that_is_read_as_nanoseconds() {
        let mut memory = [0; 40];
        let mut room = Room::new(&mut memory, &Limits::default());
        let late = Node::Static(StaticNode::U64(1_700_000_000_000_000_002));
        assert_eq!(room.time(1_700_000_000_000_000_002), Ok(late));
        assert_eq!(room.time(1_500_000_002), Ok(Node::String("1.500000002")));
    }

    #[test]
    fn no_more_is_taken_than_there_is() {
        let mut memory = [0; 5];
        let mut room = Room::new(&mut memory, &Limits::default());
        assert!(room.take(6).is_err());
        assert_eq!(room.lossy(b"\xff"), Ok("\u{fffd}"));
        assert_eq!((room.bytes(), room.lossy(b"\xff").is_err()), (2, true));
    }
}
