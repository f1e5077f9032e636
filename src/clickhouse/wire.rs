//! The primitives of ClickHouse's native protocol: varints, strings, little-endian integers.
//!
//! Writing appends to a `Vec<u8>`. Reading goes through a [`Reader`] over the bytes received so far: it
//! never blocks and never copies, and what is not there yet is [`Stop::Partial`], not an error.

use super::error::ProtocolError;

/// Longest string read: a stack trace or the names of a wide Enum stay far below.
pub const STRING_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the longest varint: 64 bits in groups of seven.
const VARINT_BYTES_MAX: usize = 10;

/// Result of looking at bytes that may still be arriving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<T> {
    /// The value and how many bytes it took.
    Complete(T, usize),
    /// A correct beginning; call again with more bytes, from the same start.
    Partial,
}

/// Why a [`Reader`] stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The bytes end before the value does.
    Partial,
    /// No continuation of these bytes is a correct value.
    Malformed(ProtocolError),
}

impl From<ProtocolError> for Stop {
    fn from(error: ProtocolError) -> Self {
        Stop::Malformed(error)
    }
}

/// Appends `value` as a varint: seven bits a byte, least significant first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `text` with its length in front. Strings of the protocol are bytes, not necessarily UTF-8.
pub fn put_string(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Runs `read` over `bytes`, and turns where it stopped into [`Decoded`].
pub fn decode<'b, T>(
    bytes: &'b [u8],
    read: impl FnOnce(&mut Reader<'b>) -> Result<T, Stop>,
) -> Result<Decoded<T>, ProtocolError> {
    let mut reader = Reader::new(bytes);
    match read(&mut reader) {
        Ok(value) => Ok(Decoded::Complete(value, reader.consumed())),
        Err(Stop::Partial) => Ok(Decoded::Partial),
        Err(Stop::Malformed(error)) => Err(error),
    }
}

/// A cursor over the bytes received so far.
#[derive(Debug, Clone)]
pub struct Reader<'b> {
    bytes: &'b [u8],
    position: usize,
}

impl<'b> Reader<'b> {
    /// Starts at the first of `bytes`.
    pub fn new(bytes: &'b [u8]) -> Self {
        Reader { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub fn consumed(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> &'b [u8] {
        &self.bytes[self.position..]
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'b [u8], Stop> {
        let taken = self.rest().get(..count).ok_or(Stop::Partial)?;
        self.position += count;
        Ok(taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Stop> {
        Ok(self.take(1)?[0])
    }

    /// One byte that says yes or no. ClickHouse writes 0 and 1; every other value counts as yes, as there.
    pub fn bool(&mut self) -> Result<bool, Stop> {
        Ok(self.u8()? != 0)
    }

    /// A little-endian 32-bit integer.
    pub fn i32(&mut self) -> Result<i32, Stop> {
        let bytes = self.take(4)?;
        Ok(i32::from_le_bytes(
            bytes.try_into().expect("take(4) gives 4 bytes"),
        ))
    }

    /// A varint of up to 64 bits. Longer than ten bytes, or more than 64 bits: `VarintTooLong`.
    pub fn varint(&mut self) -> Result<u64, Stop> {
        let mut value = 0u64;
        for (index, &byte) in self.rest().iter().take(VARINT_BYTES_MAX).enumerate() {
            // The tenth byte has room for one bit only: 9 x 7 = 63.
            if index == VARINT_BYTES_MAX - 1 && byte > 1 {
                return Err(ProtocolError::VarintTooLong.into());
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.position += index + 1;
                return Ok(value);
            }
        }
        Err(Stop::Partial)
    }

    /// The bytes of a string, at most [`STRING_BYTES_MAX`].
    pub fn string(&mut self) -> Result<&'b [u8], Stop> {
        let length = self.varint()?;
        if length > STRING_BYTES_MAX as u64 {
            return Err(ProtocolError::StringTooLong { length }.into());
        }
        self.take(length as usize)
    }

    /// A string as text; bytes that are not UTF-8 become U+FFFD, for messages are read by people.
    pub fn text(&mut self) -> Result<String, Stop> {
        Ok(String::from_utf8_lossy(self.string()?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rejects_a_varint_of_more_than_64_bits() {
        let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&longest).varint(), Ok(u64::MAX));
        let mut over = longest;
        over[9] = 0x02;
        assert_eq!(
            Reader::new(&over).varint(),
            Err(Stop::Malformed(ProtocolError::VarintTooLong))
        );
        assert_eq!(
            Reader::new(&[0xff; 11]).varint(),
            Err(Stop::Malformed(ProtocolError::VarintTooLong))
        );
    }

    #[test]
    fn rejects_a_string_over_the_limit_before_its_bytes_arrive() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, STRING_BYTES_MAX as u64 + 1);
        let length = STRING_BYTES_MAX as u64 + 1;
        assert_eq!(
            Reader::new(&bytes).string(),
            Err(Stop::Malformed(ProtocolError::StringTooLong { length }))
        );
    }

    proptest! {
        #[test]
        fn reads_back_what_was_written_and_every_prefix_is_partial(number: u64, text: Vec<u8>) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            put_string(&mut bytes, &text);
            let read = |bytes: &[u8]| decode(bytes, |r| Ok((r.varint()?, r.string()?.to_vec())));
            for end in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..end]), Ok(Decoded::Partial));
            }
            prop_assert_eq!(read(&bytes), Ok(Decoded::Complete((number, text), bytes.len())));
        }
    }
}
