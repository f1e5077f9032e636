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

/// The fields of one message, in the order they were sent. Ends behind the first that is malformed.
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
        for field in self {
            match field? {
                (number, Value::Bytes(bytes)) if number == wanted => return Ok(Some(bytes)),
                // A known number of another wire type is a field of another version: unknown ones are passed over.
                _ => {}
            }
        }
        Ok(None)
    }

    #[inline(always)]
    fn field(&mut self) -> Result<(u32, Value<'b>), Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        if number == 0 {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(*self.chunk()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(*self.chunk()?)),
            _ => return Err(Malformed),
        };
        Ok((number, value))
    }

    #[inline]
    fn chunk<const BYTES: usize>(&mut self) -> Result<&'b [u8; BYTES], Malformed> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(chunk)
    }

    /// LEB128 of up to 64 bits, the lowest seven first.
    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match *self.rest {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

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
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
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
