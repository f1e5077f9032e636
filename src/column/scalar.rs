//! Columns of one fixed width: numbers, booleans, enums, UUIDs, addresses and decimals.

use super::arena::Arena;
use super::builder::Builder;
use super::{Node, StaticNode, ValueError};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::IntErrorKind;
use std::str::FromStr;

/// How one JSON value becomes `WIDTH` bytes.
pub(super) trait Scalar<const WIDTH: usize>: Debug {
    /// What stands where a row has no value.
    fn absent(&self) -> [u8; WIDTH];
    /// Reads a value that is not null.
    fn read(&self, value: &Node<'_>) -> Result<[u8; WIDTH], ValueError>;
}

/// A column of scalars.
#[derive(Debug)]
pub(super) struct Fixed<const WIDTH: usize, S> {
    arena: Arena,
    scalar: S,
    marked: usize,
}

impl<const WIDTH: usize, S: Scalar<WIDTH>> Fixed<WIDTH, S> {
    pub(super) fn new(scalar: S, rows_max: usize) -> Self {
        Fixed {
            arena: Arena::with_capacity(rows_max * WIDTH),
            scalar,
            marked: 0,
        }
    }
}

impl<const WIDTH: usize, S: Scalar<WIDTH>> Builder for Fixed<WIDTH, S> {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        let default = self.scalar.absent();
        let slots = self.arena.slots::<WIDTH>(values.len());
        for (position, (&index, slot)) in values.iter().zip(slots).enumerate() {
            *slot = match &tape[index as usize] {
                _ if index == 0 => default,
                Node::Static(StaticNode::Null) => default,
                value => self.scalar.read(value).unwrap_or_else(|error| {
                    on_error(position, error);
                    default
                }),
            };
        }
    }

    fn append_defaults(&mut self, rows: usize) {
        self.arena.slots::<WIDTH>(rows).fill(self.scalar.absent());
    }

    fn rows(&self) -> usize {
        self.arena.len() / WIDTH
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

/// Two's complement, little-endian.
#[derive(Debug)]
pub(super) struct Integer<T>(PhantomData<T>);

impl<T> Integer<T> {
    pub(super) fn new() -> Self {
        Integer(PhantomData)
    }
}

macro_rules! integers {
    ($($integer:ty),*) => { $(
        impl Scalar<{ size_of::<$integer>() }> for Integer<$integer> {
            fn absent(&self) -> [u8; size_of::<$integer>()] {
                [0; size_of::<$integer>()]
            }

            #[inline]
            fn read(&self, value: &Node<'_>) -> Result<[u8; size_of::<$integer>()], ValueError> {
                read_integer::<$integer>(value).map(<$integer>::to_le_bytes)
            }
        }
    )* };
}

integers!(i8, i16, i32, i64, i128, u8, u16, u32, u64, u128);

#[inline]
fn read_integer<T>(value: &Node<'_>) -> Result<T, ValueError>
where
    T: TryFrom<i64> + TryFrom<u64> + TryFrom<i128> + FromStr<Err = std::num::ParseIntError>,
{
    match *value {
        Node::Static(StaticNode::I64(value)) => T::try_from(value).map_err(|_| ValueError::OutOfRange),
        Node::Static(StaticNode::U64(value)) => T::try_from(value).map_err(|_| ValueError::OutOfRange),
        Node::Static(StaticNode::Bool(value)) => {
            T::try_from(i64::from(value)).map_err(|_| ValueError::OutOfRange)
        }
        Node::Static(StaticNode::F64(value)) => {
            if value.fract() != 0.0 {
                return Err(ValueError::NotIntegral);
            }
            // Beyond 2^127 the cast saturates; no column but UInt128 holds that.
            let integer = T::try_from(value as i128).map_err(|_| ValueError::OutOfRange)?;
            // Beyond 2^53 several integers are read as one float: which was sent is not known any more.
            if value.abs() > 9_007_199_254_740_992.0 {
                return Err(ValueError::Inexact);
            }
            Ok(integer)
        }
        Node::String(text) => text
            .parse()
            .map_err(|error: std::num::ParseIntError| match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => ValueError::OutOfRange,
                // "-1" for an unsigned column.
                _ if text.parse::<i128>().is_ok() => ValueError::OutOfRange,
                _ => ValueError::BadNumber,
            }),
        _ => Err(ValueError::WrongType {
            expected: "an integer",
        }),
    }
}

/// `Float32` and `Float64`.
#[derive(Debug)]
pub(super) struct Float;

impl Scalar<8> for Float {
    fn absent(&self) -> [u8; 8] {
        [0; 8]
    }

    #[inline]
    fn read(&self, value: &Node<'_>) -> Result<[u8; 8], ValueError> {
        read_float(value).map(f64::to_le_bytes)
    }
}

impl Scalar<4> for Float {
    fn absent(&self) -> [u8; 4] {
        [0; 4]
    }

    #[inline]
    fn read(&self, value: &Node<'_>) -> Result<[u8; 4], ValueError> {
        let wide = read_float(value)?;
        let narrow = wide as f32;
        if narrow.is_infinite() && wide.is_finite() {
            return Err(ValueError::OutOfRange);
        }
        Ok(narrow.to_le_bytes())
    }
}

#[inline]
fn read_float(value: &Node<'_>) -> Result<f64, ValueError> {
    match *value {
        Node::Static(StaticNode::F64(value)) => Ok(value),
        Node::Static(StaticNode::I64(value)) => Ok(value as f64),
        Node::Static(StaticNode::U64(value)) => Ok(value as f64),
        Node::Static(StaticNode::Bool(value)) => Ok(f64::from(u8::from(value))),
        Node::String(text) => text.parse().map_err(|_| ValueError::BadNumber),
        _ => Err(ValueError::WrongType { expected: "a number" }),
    }
}

/// `Bool`.
#[derive(Debug)]
pub(super) struct Boolean;

impl Scalar<1> for Boolean {
    fn absent(&self) -> [u8; 1] {
        [0]
    }

    #[inline]
    fn read(&self, value: &Node<'_>) -> Result<[u8; 1], ValueError> {
        let truth = match *value {
            Node::Static(StaticNode::Bool(value)) => value,
            Node::Static(StaticNode::I64(0) | StaticNode::U64(0)) => false,
            Node::Static(StaticNode::I64(1) | StaticNode::U64(1)) => true,
            Node::String(text) if text == "0" || text.eq_ignore_ascii_case("false") => false,
            Node::String(text) if text == "1" || text.eq_ignore_ascii_case("true") => true,
            _ => {
                return Err(ValueError::WrongType {
                    expected: "true or false",
                });
            }
        };
        Ok([u8::from(truth)])
    }
}

/// `Enum8` and `Enum16`: stored as the number.
#[derive(Debug)]
pub(super) struct Enumeration {
    /// Ascending by name.
    by_name: Vec<(String, i16)>,
    /// Ascending.
    numbers: Vec<i16>,
}

impl Enumeration {
    /// `values` ascend by number.
    pub(super) fn new(values: &[(String, i16)]) -> Enumeration {
        let mut by_name = values.to_vec();
        by_name.sort();
        Enumeration {
            by_name,
            numbers: values.iter().map(|&(_, number)| number).collect(),
        }
    }

    /// ClickHouse's default of an enum is its lowest number.
    fn lowest(&self) -> i16 {
        self.numbers[0]
    }

    fn number(&self, value: &Node<'_>) -> Result<i16, ValueError> {
        let number = match *value {
            Node::String(name) => {
                let found = self
                    .by_name
                    .binary_search_by(|(known, _)| known.as_str().cmp(name));
                match found {
                    Ok(found) => return Ok(self.by_name[found].1),
                    // A number as text, unless it is a name.
                    Err(_) => name.parse().ok(),
                }
            }
            Node::Static(StaticNode::I64(number)) => i16::try_from(number).ok(),
            Node::Static(StaticNode::U64(number)) => i16::try_from(number).ok(),
            _ => {
                return Err(ValueError::WrongType {
                    expected: "a name or number of the enum",
                });
            }
        };
        number
            .filter(|number| self.numbers.binary_search(number).is_ok())
            .ok_or(ValueError::NotInEnum)
    }
}

impl Scalar<1> for Enumeration {
    fn absent(&self) -> [u8; 1] {
        (self.lowest() as i8).to_le_bytes()
    }

    fn read(&self, value: &Node<'_>) -> Result<[u8; 1], ValueError> {
        self.number(value).map(|number| (number as i8).to_le_bytes())
    }
}

impl Scalar<2> for Enumeration {
    fn absent(&self) -> [u8; 2] {
        self.lowest().to_le_bytes()
    }

    fn read(&self, value: &Node<'_>) -> Result<[u8; 2], ValueError> {
        self.number(value).map(i16::to_le_bytes)
    }
}

/// `UUID`: two 64-bit halves, the first eight bytes of the text first, each little-endian.
#[derive(Debug)]
pub(super) struct Uuid;

impl Scalar<16> for Uuid {
    fn absent(&self) -> [u8; 16] {
        [0; 16]
    }

    fn read(&self, value: &Node<'_>) -> Result<[u8; 16], ValueError> {
        let Node::String(text) = *value else {
            return Err(ValueError::WrongType {
                expected: "a UUID as text",
            });
        };
        let text = text.as_bytes();
        let dashes: &[usize] = match text.len() {
            32 => &[],
            36 => &[8, 13, 18, 23],
            _ => return Err(ValueError::BadUuid),
        };
        let mut number = 0u128;
        for (at, byte) in text.iter().enumerate() {
            if dashes.contains(&at) {
                if *byte != b'-' {
                    return Err(ValueError::BadUuid);
                }
                continue;
            }
            let digit = char::from(*byte).to_digit(16).ok_or(ValueError::BadUuid)?;
            number = number << 4 | u128::from(digit);
        }
        // The high half goes first, so the halves are swapped against a little-endian u128.
        Ok(number.rotate_left(64).to_le_bytes())
    }
}

/// `IPv4`: the address as a number, little-endian.
#[derive(Debug)]
pub(super) struct Address4;

impl Scalar<4> for Address4 {
    fn absent(&self) -> [u8; 4] {
        [0; 4]
    }

    fn read(&self, value: &Node<'_>) -> Result<[u8; 4], ValueError> {
        let Node::String(text) = *value else {
            return Err(ValueError::WrongType {
                expected: "an IPv4 address as text",
            });
        };
        let address: Ipv4Addr = text.parse().map_err(|_| ValueError::BadAddress)?;
        Ok(address.to_bits().to_le_bytes())
    }
}

/// `IPv6`: 16 bytes in network order; an IPv4 address is mapped (`::ffff:1.2.3.4`).
#[derive(Debug)]
pub(super) struct Address6;

impl Scalar<16> for Address6 {
    fn absent(&self) -> [u8; 16] {
        [0; 16]
    }

    fn read(&self, value: &Node<'_>) -> Result<[u8; 16], ValueError> {
        let Node::String(text) = *value else {
            return Err(ValueError::WrongType {
                expected: "an IPv6 address as text",
            });
        };
        match text.parse::<Ipv6Addr>() {
            Ok(address) => Ok(address.octets()),
            Err(_) => match text.parse::<Ipv4Addr>() {
                Ok(address) => Ok(address.to_ipv6_mapped().octets()),
                Err(_) => Err(ValueError::BadAddress),
            },
        }
    }
}

/// `Decimal(P, S)`: the number times 10^S as an integer; digits beyond the scale are cut off.
#[derive(Debug)]
pub(super) struct Decimal {
    scale: u8,
    /// 10^P: the magnitude stays below it.
    limit: i128,
}

impl Decimal {
    pub(super) fn new(precision: u8, scale: u8) -> Decimal {
        Decimal {
            scale,
            limit: 10i128.pow(u32::from(precision)),
        }
    }

    fn number(&self, value: &Node<'_>) -> Result<i128, ValueError> {
        let scale = i32::from(self.scale);
        let number = match *value {
            Node::Static(StaticNode::I64(value)) => shift_decimal(i128::from(value), scale),
            Node::Static(StaticNode::U64(value)) => shift_decimal(i128::from(value), scale),
            // The float's shortest decimal form is what was sent.
            Node::Static(StaticNode::F64(value)) => {
                parse_decimal(ryu::Buffer::new().format(value).as_bytes(), scale)?
            }
            Node::String(text) => parse_decimal(text.as_bytes(), scale)?,
            _ => return Err(ValueError::WrongType { expected: "a number" }),
        };
        number
            .filter(|number| number.abs() < self.limit)
            .ok_or(ValueError::OutOfRange)
    }
}

macro_rules! decimals {
    ($($integer:ty),*) => { $(
        impl Scalar<{ size_of::<$integer>() }> for Decimal {
            fn absent(&self) -> [u8; size_of::<$integer>()] {
                [0; size_of::<$integer>()]
            }

            fn read(&self, value: &Node<'_>) -> Result<[u8; size_of::<$integer>()], ValueError> {
                // The precision that chose this width keeps the number in it.
                self.number(value).map(|number| (number as $integer).to_le_bytes())
            }
        }
    )* };
}

decimals!(i32, i64, i128);

/// `-12.34e5` times 10^`scale`, cut off towards zero; `Ok(None)` beyond 38 digits.
fn parse_decimal(text: &[u8], scale: i32) -> Result<Option<i128>, ValueError> {
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mut digits = 0i128;
    let mut exponent = 0i32;
    let mut any_digit = false;
    let mut after_point = false;
    while let [byte, after @ ..] = rest {
        match byte {
            b'0'..=b'9' => {
                any_digit = true;
                // 10^37 is the last that takes another digit; what follows only moves the point.
                if digits < 10i128.pow(37) {
                    digits = digits * 10 + i128::from(byte - b'0');
                    exponent -= i32::from(after_point);
                } else {
                    exponent += i32::from(!after_point);
                }
            }
            b'.' if !after_point => after_point = true,
            _ => break,
        }
        rest = after;
    }
    if let [b'e' | b'E', power @ ..] = rest {
        let power: i32 = std::str::from_utf8(power)
            .ok()
            .and_then(|power| power.parse().ok())
            .ok_or(ValueError::BadNumber)?;
        exponent = exponent.saturating_add(power);
        rest = &[];
    }
    if !any_digit || !rest.is_empty() {
        return Err(ValueError::BadNumber);
    }
    let digits = if negative { -digits } else { digits };
    Ok(shift_decimal(digits, exponent.saturating_add(scale)))
}

/// `number` times 10^`by`, cut off towards zero.
fn shift_decimal(number: i128, by: i32) -> Option<i128> {
    match by {
        _ if number == 0 => Some(0),
        0..=38 => number.checked_mul(10i128.pow(by as u32)),
        39.. => None,
        -38..=-1 => Some(number / 10i128.pow(by.unsigned_abs())),
        _ => Some(0),
    }
}
