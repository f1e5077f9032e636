//! Reads MessagePack from slices, and finds where a value ends while its bytes arrive.

use crate::http::head::Parse;

/// A byte that begins no value (0xc1), or nesting deeper than was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// 0xc1 is never used.
    Byte,
    /// More levels than there may be.
    TooDeep,
}

/// What a value begins with. What follows it is given as a length: bytes, or values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// A negative integer, or one that fits.
    Integer(i64),
    /// An integer of 64 bits without a sign.
    Unsigned(u64),
    /// A number with a fraction.
    Float(f64),
    /// So many bytes of text.
    Text(u32),
    /// So many bytes.
    Binary(u32),
    /// A type of the application, and so many bytes.
    Extension(i8, u32),
    /// So many values.
    Array(u32),
    /// So many keys, each with a value.
    Map(u32),
}

impl Head {
    /// Bytes behind the head that are the value's own.
    fn payload(self) -> u64 {
        match self {
            Head::Text(bytes) | Head::Binary(bytes) | Head::Extension(_, bytes) => u64::from(bytes),
            _ => 0,
        }
    }

    /// Values that follow and are part of it; `None` for what holds none.
    fn values(self) -> Option<u64> {
        match self {
            Head::Array(values) => Some(u64::from(values)),
            Head::Map(pairs) => Some(2 * u64::from(pairs)),
            _ => None,
        }
    }
}

/// The head at the front of `bytes`, and its length of 1 to 9 bytes.
///
/// # Errors
/// 0xc1.
#[inline]
pub fn head(bytes: &[u8]) -> Result<Parse<Head>, Malformed> {
    let Some((first, rest)) = bytes.split_first() else {
        return Ok(Parse::Partial);
    };
    let single = |head| Ok(Parse::Complete(1, head));
    match *first {
        byte @ ..=0x7f => return single(Head::Integer(i64::from(byte))),
        byte @ 0x80..=0x8f => return single(Head::Map(u32::from(byte & 15))),
        byte @ 0x90..=0x9f => return single(Head::Array(u32::from(byte & 15))),
        byte @ 0xa0..=0xbf => return single(Head::Text(u32::from(byte & 31))),
        0xc0 => return single(Head::Nil),
        0xc1 => return Err(Malformed::Byte),
        0xc2 => return single(Head::Bool(false)),
        0xc3 => return single(Head::Bool(true)),
        byte @ 0xe0.. => return single(Head::Integer(i64::from(byte as i8))),
        0xc4..=0xdf => {}
    }
    // What follows of the head: a number, with the type of an extension behind it.
    let behind = match *first {
        0xc4 | 0xcc | 0xd0 | 0xd9 => 1,
        0xc5 | 0xcd | 0xd1 | 0xda | 0xdc | 0xde => 2,
        0xc6 | 0xca | 0xce | 0xd2 | 0xdb | 0xdd | 0xdf => 4,
        0xcb | 0xcf | 0xd3 => 8,
        0xc7 => 2,
        0xc8 => 3,
        0xc9 => 5,
        // 0xd4 to 0xd8: extensions of fixed sizes.
        _ => 1,
    };
    let Some(behind) = rest.get(..behind) else {
        return Ok(Parse::Partial);
    };
    let number_of = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let number = number_of(behind);
    let head = match *first {
        0xc4..=0xc6 => Head::Binary(number as u32),
        0xc7..=0xc9 => {
            let (kind, len) = behind.split_last().expect("two bytes at least");
            Head::Extension(*kind as i8, number_of(len) as u32)
        }
        0xca => Head::Float(f64::from(f32::from_bits(number as u32))),
        0xcb => Head::Float(f64::from_bits(number)),
        0xcc..=0xce => Head::Integer(number as i64),
        0xcf => match i64::try_from(number) {
            Ok(number) => Head::Integer(number),
            Err(_) => Head::Unsigned(number),
        },
        0xd0 => Head::Integer(i64::from(number as i8)),
        0xd1 => Head::Integer(i64::from(number as i16)),
        0xd2 => Head::Integer(i64::from(number as i32)),
        0xd3 => Head::Integer(number as i64),
        byte @ 0xd4..=0xd8 => Head::Extension(number as i8, 1 << (byte - 0xd4)),
        0xd9..=0xdb => Head::Text(number as u32),
        0xdc | 0xdd => Head::Array(number as u32),
        0xde | 0xdf => Head::Map(number as u32),
        _ => unreachable!("the others were complete"),
    };
    Ok(Parse::Complete(1 + behind.len(), head))
}

/// Finds the end of the value at the front of a buffer that grows; what was looked at once is not looked at again.
#[derive(Debug, Default)]
pub struct Extent {
    /// Bytes from the value's start that are understood; beyond the buffer within a long text.
    at: u64,
    /// For each value around the next one how many are left in it.
    open: Vec<u64>,
}

impl Extent {
    /// At the start of a value.
    pub fn new() -> Extent {
        Extent::default()
    }

    /// Back at the start of a value, with its memory.
    pub fn reset(&mut self) {
        self.at = 0;
        self.open.clear();
    }

    /// Bytes the value has at least.
    pub fn bytes_min(&self) -> u64 {
        self.at
    }

    /// The length of the value once all of it is in `bytes`, with at most `depth_max` levels of arrays and maps; then the next value
    /// may be looked for. Or `bytes` must grow behind what was shown.
    ///
    /// # Errors
    /// It is no value, and where the next one begins is not known.
    pub fn find(&mut self, bytes: &[u8], depth_max: usize) -> Result<Option<usize>, Malformed> {
        loop {
            let Some(ahead) = usize::try_from(self.at).ok().and_then(|at| bytes.get(at..)) else {
                return Ok(None);
            };
            if self.open.is_empty() && self.at > 0 {
                let end = self.at as usize;
                self.at = 0;
                return Ok(Some(end));
            }
            let Parse::Complete(len, head) = head(ahead)? else {
                return Ok(None);
            };
            self.at += len as u64 + head.payload();
            if let Some(values) = head.values() {
                if self.open.len() == depth_max {
                    return Err(Malformed::TooDeep);
                }
                // One more, because its own end is counted below.
                self.open.push(values + 1);
            }
            while let Some(left) = self.open.last_mut() {
                *left -= 1;
                if *left > 0 {
                    break;
                }
                self.open.pop();
            }
        }
    }
}

/// Reads the parts of a value that is there.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'b> {
    rest: &'b [u8],
}

/// A value, or the head of one that holds others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'b> {
    /// One without bytes of its own.
    Plain(Head),
    /// Text, which need not be UTF-8, or bytes.
    Bytes(&'b [u8]),
    /// A type of the application, and its bytes.
    Extension(i8, &'b [u8]),
    /// So many values follow.
    Array(u32),
    /// So many keys follow, each with a value.
    Map(u32),
}

impl<'b> Reader<'b> {
    /// At the start of `bytes`.
    pub fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader { rest: bytes }
    }

    /// What was not read.
    pub fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// The next value, or its head; `None` when it is cut short or no value begins here.
    #[inline]
    pub fn read(&mut self) -> Option<Value<'b>> {
        let Ok(Parse::Complete(len, head)) = head(self.rest) else {
            return None;
        };
        let rest = &self.rest[len..];
        let (payload, rest) = rest.split_at_checked(usize::try_from(head.payload()).ok()?)?;
        self.rest = rest;
        Some(match head {
            Head::Text(_) | Head::Binary(_) => Value::Bytes(payload),
            Head::Extension(kind, _) => Value::Extension(kind, payload),
            Head::Array(values) => Value::Array(values),
            Head::Map(pairs) => Value::Map(pairs),
            other => Value::Plain(other),
        })
    }

    /// Passes over the next value, with all that is in it.
    pub fn skip(&mut self) -> Option<()> {
        let mut left: u64 = 1;
        while left > 0 {
            left -= 1;
            match self.read()? {
                Value::Array(values) => left += u64::from(values),
                Value::Map(pairs) => left += 2 * u64::from(pairs),
                _ => {}
            }
        }
        Some(())
    }
}

/// Appends a text.
pub fn put_text(text: &[u8], out: &mut Vec<u8>) {
    let len = text.len();
    match len {
        0..32 => out.push(0xa0 | len as u8),
        32..256 => out.extend([0xd9, len as u8]),
        _ => {
            out.push(0xdb);
            out.extend(u32::try_from(len).expect("a text below 4 GiB").to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}
