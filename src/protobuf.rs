//! Reads the fields of a protobuf message where they lie, without a schema and without copies.
//!
//! Source: protobuf.dev, "Encoding". Groups, which proto3 has no more, are refused.

/// Not protobuf: a length beyond the message, a varint of more than ten bytes, a wire type that does not exist, or
/// field number 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The value of a field, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'b> {
    /// Wire type 0: integers, enums and booleans.
    Varint(u64),
    /// Wire type 1: eight bytes.
    Fixed64(u64),
    /// Wire type 2: texts, bytes and messages.
    Bytes(&'b [u8]),
    /// Wire type 5: four bytes.
    Fixed32(u32),
}

/// Number and wire type of a field, as they stand before it.
pub type Tag = u32;

/// The tag of a varint.
pub const fn varint(number: u32) -> Tag {
    number << 3
}

/// The tag of eight bytes.
pub const fn fixed64(number: u32) -> Tag {
    number << 3 | 1
}

/// The tag of a text, bytes or a message.
pub const fn bytes(number: u32) -> Tag {
    number << 3 | 2
}

/// The tag of four bytes.
pub const fn fixed32(number: u32) -> Tag {
    number << 3 | 5
}

/// The fields of one message, in the order they were sent. Ends behind the first that is malformed.
///
/// Iterated over, it reads whatever comes. Where the kinds of fields are known it is faster to match on [`Fields::tag`] and to
/// call what reads a field of that kind, or [`Fields::pass_over`].
#[derive(Debug, Clone, Copy)]
pub struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    /// The fields of `message`.
    pub fn new(message: &'b [u8]) -> Fields<'b> {
        Fields { rest: message }
    }

    /// The next field of this number that holds a text, bytes or a message.
    ///
    /// # Errors
    /// A field before it is malformed.
    pub fn next_message(&mut self, wanted: u32) -> Result<Option<&'b [u8]>, Malformed> {
        while let Some(tag) = self.tag()? {
            if tag == bytes(wanted) {
                return Ok(Some(self.bytes()?));
            }
            // A known number of another wire type is a field of another version: unknown ones are passed over.
            self.pass_over(tag)?;
        }
        Ok(None)
    }

    /// The tag of the next field, which is read next; `None` behind the last.
    ///
    /// # Errors
    /// There is no such tag.
    #[inline(always)]
    pub fn tag(&mut self) -> Result<Option<Tag>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        match u32::try_from(self.varint()?) {
            Ok(0..8) | Err(_) => Err(Malformed),
            Ok(tag) => Ok(Some(tag)),
        }
    }

    /// Reads a field that no one knows.
    ///
    /// # Errors
    /// It is malformed.
    #[inline]
    pub fn pass_over(&mut self, tag: Tag) -> Result<(), Malformed> {
        self.value(tag).map(|_| ())
    }

    #[inline(always)]
    fn value(&mut self, tag: Tag) -> Result<Value<'b>, Malformed> {
        Ok(match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => Value::Bytes(self.bytes()?),
            5 => Value::Fixed32(self.fixed32()?),
            _ => return Err(Malformed),
        })
    }

    /// Reads a field of eight bytes.
    ///
    /// # Errors
    /// The message ends within it.
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(*self.chunk()?))
    }

    /// Reads a field of four bytes.
    ///
    /// # Errors
    /// The message ends within it.
    #[inline]
    pub fn fixed32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(*self.chunk()?))
    }

    /// Reads a text, bytes or a message.
    ///
    /// # Errors
    /// The message ends within it, or its length is no number.
    #[inline(always)]
    pub fn bytes(&mut self) -> Result<&'b [u8], Malformed> {
        let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn chunk<const BYTES: usize>(&mut self) -> Result<&'b [u8; BYTES], Malformed> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(chunk)
    }

    /// Reads a varint: LEB128 of up to 64 bits, the lowest seven first.
    ///
    /// # Errors
    /// The message ends within it, or it has more than ten bytes.
    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        match *self.rest {
            [byte @ ..0x80, ref rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            [low, high @ ..0x80, ref rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            // Bits beyond the 64th are dropped, as protobuf's own parsers do.
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u32, Value<'b>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let field = match self.tag() {
            Ok(None) => return None,
            Ok(Some(tag)) => self.value(tag).map(|value| (tag >> 3, value)),
            Err(Malformed) => Err(Malformed),
        };
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Appends a field of wire type 0.
pub fn put_varint_field(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3, out);
    put_varint(value, out);
}

/// Appends a field of wire type 2.
pub fn put_bytes_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a field of wire type 1.
pub fn put_fixed64_field(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &[u8]) -> Vec<Result<(u32, Value<'_>), Malformed>> {
        Fields::new(message).collect()
    }

    #[test]
    fn reads_every_wire_type() {
        // The examples of protobuf.dev.
        assert_eq!(fields(b"\x08\x96\x01"), [Ok((1, Value::Varint(150)))]);
        assert_eq!(fields(b"\x12\x07testing"), [Ok((2, Value::Bytes(b"testing")))]);
        assert_eq!(
            fields(b"\x09\x01\0\0\0\0\0\0\0\x1d\x02\0\0\0"),
            [Ok((1, Value::Fixed64(1))), Ok((3, Value::Fixed32(2)))]
        );
        assert_eq!(
            fields(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            [Ok((1, Value::Varint(u64::MAX)))]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let mut message = Vec::new();
        put_varint_field(1, 300, &mut message);
        put_bytes_field(16, &[7; 200], &mut message);
        put_fixed64_field(2, 9, &mut message);
        assert_eq!(
            fields(&message),
            [
                Ok((1, Value::Varint(300))),
                Ok((16, Value::Bytes(&[7; 200]))),
                Ok((2, Value::Fixed64(9)))
            ]
        );
    }

    #[test]
    fn stops_at_what_is_malformed() {
        for message in [
            &b"\x08"[..],
            b"\x08\x80",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x09\x01\x02",
            b"\x0d\x01",
            b"\x12\x05four",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x00\x01",
            b"\x0b",
            b"\x0c",
            b"\x0e",
            b"\x0f",
        ] {
            assert_eq!(fields(message), [Err(Malformed)], "{message:?}");
            let after = [b"\x08\x01", message].concat();
            assert_eq!(fields(&after), [Ok((1, Value::Varint(1))), Err(Malformed)]);
        }
    }
}
