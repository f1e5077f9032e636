//! Reads rows value by value, straight from the text received, as long as they are written the usual way.
//!
//! A [`Reader`] takes only what it can take fast and in full: valid JSON in UTF-8, integers that fit 64 bits, no row
//! over several lines where lines are rows. Whatever else it meets it calls [`Irregular`], without saying
//! what it was or whether it is an error: the row is then [`super::Parser`]'s, whose word is final. So there is one place that
//! knows all of JSON's corners, simd-json, and this one may know fewer of them but never others; a property test
//! holds both to the same values.
//!
//! Texts without escapes are not copied. Those with escapes go, without them, into room the caller brings.

use std::mem;

use simd_json::{Node, StaticNode};
use wide::u8x16;

use super::splitter::{RowForm, is_blank};
use crate::digits::{eight_digits, leading_digits};

/// Not written the usual way, or wrong: ask [`super::Parser`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Irregular;

/// What follows a member of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Another member.
    Member,
    /// The end of the object.
    End,
}

/// A place in the text of rows, between two of its tokens.
#[derive(Debug)]
pub struct Reader<'t> {
    text: &'t str,
    at: usize,
    form: RowForm,
    /// Where escaped texts go without their escapes; never more bytes than the text has.
    room: &'t mut [u8],
    /// Levels of nesting that a row may have, itself included.
    depth_max: u32,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, form: RowForm, room: &'t mut [u8], depth_max: u32) -> Self {
        assert!(room.len() >= text.len(), "without escapes a text is no longer");
        Reader {
            text,
            at: 0,
            form,
            room,
            depth_max,
        }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Levels of nesting that a row may have, itself included.
    pub fn depth_max(&self) -> u32 {
        self.depth_max
    }

    /// The text not yet read.
    #[inline]
    pub fn ahead(&self) -> &'t [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// Goes on by `bytes` that the caller has read itself, with [`Reader::ahead`].
    #[inline]
    pub fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes past the `{` of the next row, and tells whether there was one.
    #[inline]
    pub fn row(&mut self) -> Result<bool, Irregular> {
        if self.peek() != Some(b'{') {
            while self.peek().is_some_and(is_blank) {
                self.at += 1;
            }
            match self.peek() {
                // Nothing but blanks behind the last row, or in a text of lines.
                None if self.form != RowForm::Elements => return Ok(false),
                Some(b'{') => {}
                _ => return Err(Irregular),
            }
        }
        self.at += 1;
        Ok(true)
    }

    /// Goes past what separates a row that was read to its end from the next one; whether there may be a next one.
    #[inline]
    pub fn row_end(&mut self) -> Result<bool, Irregular> {
        if self.form == RowForm::Lines && self.peek() == Some(b'\n') {
            self.at += 1;
            return Ok(true);
        }
        self.row_end_after_blanks()
    }

    fn row_end_after_blanks(&mut self) -> Result<bool, Irregular> {
        let is_separator = |byte: u8| match self.form {
            RowForm::Lines => byte == b'\n',
            RowForm::Elements => byte == b',',
            // Nothing separates them; the next one's bracket is its own.
            RowForm::Objects => false,
        };
        while let Some(byte) = self.peek() {
            if is_separator(byte) {
                self.at += 1;
                return Ok(true);
            }
            if !is_blank(byte) {
                return match self.form {
                    RowForm::Objects => Ok(true),
                    RowForm::Lines | RowForm::Elements => Err(Irregular),
                };
            }
            self.at += 1;
        }
        Ok(false)
    }

    /// Goes to the next byte that is not blank and returns it.
    #[inline]
    pub fn token(&mut self) -> Result<u8, Irregular> {
        match self.peek() {
            Some(byte) if byte > b' ' => Ok(byte),
            Some(b' ') => {
                self.at += 1;
                match self.peek() {
                    Some(byte) if byte > b' ' => Ok(byte),
                    _ => self.token_after_blanks(),
                }
            }
            _ => self.token_after_blanks(),
        }
    }

    #[cold]
    fn token_after_blanks(&mut self) -> Result<u8, Irregular> {
        loop {
            match self.peek() {
                // A row ends with its line.
                Some(b'\n') if self.form == RowForm::Lines => return Err(Irregular),
                Some(byte) if is_blank(byte) => self.at += 1,
                Some(byte) if byte > b' ' => return Ok(byte),
                _ => return Err(Irregular),
            }
        }
    }

    /// Behind a `{`: goes past the `}` of an object without members, and tells whether it was one.
    #[inline]
    pub fn is_empty_object(&mut self) -> Result<bool, Irregular> {
        let is_empty = self.token()? == b'}';
        self.at += usize::from(is_empty);
        Ok(is_empty)
    }

    /// Reads a key and the colon behind it.
    pub fn key(&mut self) -> Result<&'t str, Irregular> {
        if self.token()? != b'"' {
            return Err(Irregular);
        }
        let key = self.string()?;
        if self.token()? != b':' {
            return Err(Irregular);
        }
        self.at += 1;
        Ok(key)
    }

    /// Behind a member's value: goes past the comma or the `}`, up to the next key.
    #[inline]
    pub fn after_member(&mut self) -> Result<After, Irregular> {
        match self.token()? {
            b',' => {
                self.at += 1;
                if self.token()? == b'"' {
                    Ok(After::Member)
                } else {
                    Err(Irregular)
                }
            }
            b'}' => {
                self.at += 1;
                Ok(After::End)
            }
            _ => Err(Irregular),
        }
    }

    /// Reads a text, at its opening quote.
    #[inline]
    pub fn string(&mut self) -> Result<&'t str, Irregular> {
        let start = self.at + 1;
        let end = find_special(self.text.as_bytes(), start).ok_or(Irregular)?;
        match self.text.as_bytes()[end] {
            b'"' => {
                self.at = end + 1;
                Ok(&self.text[start..end])
            }
            b'\\' => self.escaped(start, end),
            _ => Err(Irregular),
        }
    }

    /// Reads a text from `start` on whose first escape is at `escape`.
    #[cold]
    fn escaped(&mut self, start: usize, escape: usize) -> Result<&'t str, Irregular> {
        let bytes = self.text.as_bytes();
        let room = mem::take(&mut self.room);
        let mut len = 0;
        let mut from = start;
        let mut special = escape;
        loop {
            let plain = &bytes[from..special];
            room[len..len + plain.len()].copy_from_slice(plain);
            len += plain.len();
            match bytes[special] {
                b'"' => break,
                b'\\' => {
                    let (character, escape_bytes) = unescape(&bytes[special..]).ok_or(Irregular)?;
                    len += character.encode_utf8(&mut room[len..]).len();
                    from = special + escape_bytes;
                }
                _ => return Err(Irregular),
            }
            special = find_special(bytes, from).ok_or(Irregular)?;
        }
        self.at = special + 1;
        let (string, room) = room.split_at_mut(len);
        self.room = room;
        // Pieces of UTF-8 cut at ASCII, with whole characters between them.
        std::str::from_utf8(string).map_err(|_| Irregular)
    }

    /// Reads a number, `true`, `false` or `null`, whose first byte is `first`, onto the tape.
    #[inline]
    pub fn scalar(&mut self, first: u8, tape: &mut Vec<Node<'t>>) -> Result<(), Irregular> {
        if let Some(number) = self.short_integer(first) {
            tape.push(Node::Static(StaticNode::U64(number)));
            return Ok(());
        }
        tape.push(Node::Static(self.other_scalar()?));
        Ok(())
    }

    fn other_scalar(&mut self) -> Result<StaticNode, Irregular> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", StaticNode::Bool(true)),
            Some(b'f') => self.word(b"false", StaticNode::Bool(false)),
            Some(b'n') => self.word(b"null", StaticNode::Null),
            _ => Err(Irregular),
        }
    }

    /// Reads an integer of up to eight digits with something behind it that ends it: most numbers in logs.
    #[inline]
    fn short_integer(&mut self, first: u8) -> Option<u64> {
        if !(b'1'..=b'9').contains(&first) {
            return None;
        }
        let word = u64::from_le_bytes(*self.ahead().first_chunk()?);
        let digits = word ^ 0x3030_3030_3030_3030;
        let count = leading_digits(digits);
        if count == 8 {
            return None;
        }
        // Whatever ends it is none of what an integer may go on with.
        if let b'.' | b'e' | b'E' = (word >> (8 * count)) as u8 {
            return None;
        }
        self.at += count;
        Some(eight_digits(digits << (8 * (8 - count))))
    }

    fn word(&mut self, word: &[u8], meaning: StaticNode) -> Result<StaticNode, Irregular> {
        // What follows it is looked at by whoever reads on: only blanks, commas and brackets are taken.
        if self.ahead().starts_with(word) {
            self.at += word.len();
            Ok(meaning)
        } else {
            Err(Irregular)
        }
    }

    fn number(&mut self) -> Result<StaticNode, Irregular> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let negative = bytes[start] == b'-';
        let first = start + usize::from(negative);
        let mut at = first;
        let mut number = 0_u64;
        while let Some(digit) = digit_at(bytes, at) {
            number = number.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        if let Some(b'.' | b'e' | b'E') = bytes.get(at) {
            return self.float(start, first, at);
        }
        let digits = at - first;
        // 19 digits always fit; a zero stands alone.
        if !(1..=19).contains(&digits) || (bytes[first] == b'0' && digits > 1) {
            return Err(Irregular);
        }
        self.at = at;
        if !negative {
            return Ok(StaticNode::U64(number));
        }
        match 0_i64.checked_sub_unsigned(number) {
            Some(number) => Ok(StaticNode::I64(number)),
            None => Err(Irregular),
        }
    }

    /// Reads a number that starts at `start`, has digits from `first` on, and a point or an exponent at `at`.
    #[cold]
    fn float(&mut self, start: usize, first: usize, mut at: usize) -> Result<StaticNode, Irregular> {
        let bytes = self.text.as_bytes();
        let digits_from = |at: usize| {
            bytes[at..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        if at == first || (bytes[first] == b'0' && at > first + 1) {
            return Err(Irregular);
        }
        if bytes[at] == b'.' {
            let digits = digits_from(at + 1);
            if digits == 0 {
                return Err(Irregular);
            }
            at += 1 + digits;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            let digits = digits_from(at);
            if digits == 0 {
                return Err(Irregular);
            }
            at += digits;
        }
        let number: f64 = self.text[start..at].parse().map_err(|_| Irregular)?;
        if !number.is_finite() {
            return Err(Irregular);
        }
        self.at = at;
        Ok(StaticNode::F64(number))
    }

    /// Reads a value of any kind onto the tape, as simd-json does; `depth` levels are around it.
    pub fn value(&mut self, tape: &mut Vec<Node<'t>>, depth: u32) -> Result<(), Irregular> {
        match self.token()? {
            b'"' => {
                let string = self.string()?;
                tape.push(Node::String(string));
            }
            b'{' => {
                self.at += 1;
                self.object(tape, depth)?;
            }
            b'[' => {
                self.at += 1;
                self.array(tape, depth)?;
            }
            first => self.scalar(first, tape)?,
        }
        Ok(())
    }

    /// Reads an object onto the tape, behind its `{`.
    fn object(&mut self, tape: &mut Vec<Node<'t>>, depth: u32) -> Result<(), Irregular> {
        let start = self.open(tape, depth)?;
        let mut len = 0;
        if !self.is_empty_object()? {
            loop {
                let key = self.key()?;
                tape.push(Node::String(key));
                self.value(tape, depth + 1)?;
                len += 1;
                if self.after_member()? == After::End {
                    break;
                }
            }
        }
        let count = tape.len() - start - 1;
        tape[start] = Node::Object { len, count };
        Ok(())
    }

    fn array(&mut self, tape: &mut Vec<Node<'t>>, depth: u32) -> Result<(), Irregular> {
        let start = self.open(tape, depth)?;
        let mut len = 0;
        if self.token()? == b']' {
            self.at += 1;
        } else {
            loop {
                self.value(tape, depth + 1)?;
                len += 1;
                let next = self.token()?;
                self.at += 1;
                match next {
                    b',' => {}
                    b']' => break,
                    _ => return Err(Irregular),
                }
            }
        }
        let count = tape.len() - start - 1;
        tape[start] = Node::Array { len, count };
        Ok(())
    }

    /// Makes a place for what is known at the end of an object or array only.
    fn open(&self, tape: &mut Vec<Node<'t>>, depth: u32) -> Result<usize, Irregular> {
        // The recursion is bounded by this.
        if depth >= self.depth_max {
            return Err(Irregular);
        }
        tape.push(Node::Static(StaticNode::Null));
        Ok(tape.len() - 1)
    }
}

#[inline]
fn digit_at(bytes: &[u8], at: usize) -> Option<u64> {
    let digit = bytes.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// The character an escape stands for, and the bytes of the escape; `None` for what is no escape and for half a
/// surrogate pair.
fn unescape(bytes: &[u8]) -> Option<(char, usize)> {
    let character = match *bytes.get(1)? {
        byte @ (b'"' | b'\\' | b'/') => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let unit = hex_unit(bytes)?;
            if !(0xd800..0xe000).contains(&unit) {
                return char::from_u32(unit).map(|character| (character, 6));
            }
            let low = hex_unit(bytes.get(6..)?)?;
            return (unit < 0xdc00 && (0xdc00..0xe000).contains(&low))
                .then(|| char::from_u32(0x1_0000 + ((unit - 0xd800) << 10 | (low - 0xdc00))))?
                .map(|character| (character, 12));
        }
        _ => return None,
    };
    Some((character, 2))
}

/// The number of a `\uXXXX` at the front.
fn hex_unit(bytes: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = bytes.get(..6)? else {
        return None;
    };
    let mut unit = 0;
    for digit in digits {
        unit = unit << 4 | char::from(*digit).to_digit(16)?;
    }
    Some(unit)
}

/// Bytes looked at in one step.
const STEP: usize = 32;

/// The first quote, backslash or control character from `at` on.
#[inline]
fn find_special(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(step) = bytes.get(at..).and_then(<[u8]>::first_chunk::<STEP>) {
        let special = special_of(step);
        if special != 0 {
            return Some(at + special.trailing_zeros() as usize);
        }
        at += STEP;
    }
    find_special_in_rest(bytes, at)
}

/// As [`find_special`], where less than a step is left.
fn find_special_in_rest(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let mut step = [b' '; STEP];
    step[..rest.len()].copy_from_slice(rest);
    let special = special_of(&step);
    (special != 0).then(|| at + special.trailing_zeros() as usize)
}

/// Bit i: byte i is a quote, a backslash or a control character.
#[inline]
fn special_of(step: &[u8; STEP]) -> u32 {
    let (halves, []) = step.as_chunks::<16>() else {
        unreachable!("a step is two halves")
    };
    let last_control = u8x16::splat(0x1f);
    let of_half = |half: [u8; 16]| {
        let bytes = u8x16::new(half);
        let special = bytes.max(last_control).simd_eq(last_control)
            | bytes.simd_eq(u8x16::splat(b'"'))
            | bytes.simd_eq(u8x16::splat(b'\\'));
        special.to_bitmask()
    };
    of_half(halves[0]) | of_half(halves[1]) << 16
}

#[cfg(test)]
mod tests;
