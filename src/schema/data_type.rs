//! ClickHouse type names: the text of `system.columns.type` as a tree.

use std::fmt;

/// A column's ClickHouse type, parsed from its `system.columns.type` text.
///
/// Time zones are not kept: they change how ClickHouse prints a time, not what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `String`.
    String,
    /// `FixedString(N)`, N bytes.
    FixedString(usize),
    /// `Bool`, one byte.
    Bool,
    /// `Int8`.
    Int8,
    /// `Int16`.
    Int16,
    /// `Int32`.
    Int32,
    /// `Int64`.
    Int64,
    /// `Int128`.
    Int128,
    /// `UInt8`.
    UInt8,
    /// `UInt16`.
    UInt16,
    /// `UInt32`.
    UInt32,
    /// `UInt64`.
    UInt64,
    /// `UInt128`.
    UInt128,
    /// `Float32`.
    Float32,
    /// `Float64`.
    Float64,
    /// `Date`: days since 1970 in 16 bits.
    Date,
    /// `Date32`: days since 1970, signed, 1900 to 2299.
    Date32,
    /// `DateTime`: seconds since 1970 in 32 bits.
    DateTime,
    /// `DateTime64(P)`: ticks of 10^-P seconds since 1970 in 64 bits.
    DateTime64 {
        /// Decimal digits of a second, 0 to 9.
        precision: u8,
    },
    /// `Enum8`: (name, number), ascending by number.
    Enum8(Vec<(String, i16)>),
    /// `Enum16`: (name, number), ascending by number.
    Enum16(Vec<(String, i16)>),
    /// `UUID`.
    Uuid,
    /// `IPv4`.
    Ipv4,
    /// `IPv6`.
    Ipv6,
    /// `Decimal(P, S)` up to 38 digits.
    Decimal {
        /// Decimal digits in all: up to 9 are stored in 4 bytes, 18 in 8, 38 in 16.
        precision: u8,
        /// Decimal digits after the point.
        scale: u8,
    },
    /// `LowCardinality(T)`.
    LowCardinality(Box<DataType>),
    /// `Nullable(T)`.
    Nullable(Box<DataType>),
    /// `Array(T)`; also an unflattened `Nested(...)`, which is an array of tuples.
    Array(Box<DataType>),
    /// `Map(K, V)`.
    Map(Box<DataType>, Box<DataType>),
    /// `Tuple(...)`, the elements with their names where they have one.
    Tuple(Vec<(Option<String>, DataType)>),
    /// `JSON`, with or without parameters, but without paths of a type of their own.
    Json,
}

/// Why a type's text is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeError {
    /// A type this program does not write.
    Unsupported(String),
    /// Not a type in ClickHouse's notation; the byte at which that was seen.
    Malformed(usize),
    /// Types nested deeper than `TYPE_DEPTH_MAX`.
    TooDeep,
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeError::Unsupported(name) => write!(f, "type {name} is not supported"),
            TypeError::Malformed(at) => write!(f, "the type's text is not understood at byte {at}"),
            TypeError::TooDeep => write!(f, "the type is nested deeper than {TYPE_DEPTH_MAX}"),
        }
    }
}

impl std::error::Error for TypeError {}

/// Nesting of one type. ClickHouse's own tables stay below 6.
pub const TYPE_DEPTH_MAX: usize = 24;

impl DataType {
    /// Parses the text ClickHouse prints for a type.
    ///
    /// # Errors
    /// [`TypeError`] names a type that is not supported or the place the text stops making sense.
    pub fn parse(text: &str) -> Result<DataType, TypeError> {
        let mut cursor = Cursor { text, at: 0 };
        let data_type = cursor.data_type(0)?;
        cursor.skip_spaces();
        if cursor.at != text.len() {
            return Err(TypeError::Malformed(cursor.at));
        }
        Ok(data_type)
    }

    /// A calendar type: stored as ticks since 1970.
    pub fn is_time(&self) -> bool {
        matches!(
            self,
            DataType::Date | DataType::Date32 | DataType::DateTime | DataType::DateTime64 { .. }
        )
    }

    /// Unknown keys can go into a column of this type: a map of text to text, or JSON.
    pub fn takes_overflow(&self) -> bool {
        fn is_text(data_type: &DataType) -> bool {
            match data_type {
                DataType::String => true,
                DataType::LowCardinality(inner) => **inner == DataType::String,
                _ => false,
            }
        }
        match self {
            DataType::Json => true,
            DataType::Map(key, value) => is_text(key) && is_text(value),
            _ => false,
        }
    }

    /// Stored as a String or in one width with zero as default: what a dictionary can hold.
    fn is_flat(&self) -> bool {
        !matches!(
            self,
            DataType::Enum8(_)
                | DataType::Enum16(_)
                | DataType::LowCardinality(_)
                | DataType::Nullable(_)
                | DataType::Array(_)
                | DataType::Map(..)
                | DataType::Tuple(_)
                | DataType::Json
        )
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn data_type(&mut self, depth: usize) -> Result<DataType, TypeError> {
        if depth > TYPE_DEPTH_MAX {
            return Err(TypeError::TooDeep);
        }
        self.skip_spaces();
        let start = self.at;
        let name = self.word();
        if name.is_empty() {
            return Err(TypeError::Malformed(self.at));
        }
        let data_type = match name {
            "String" => DataType::String,
            "Bool" => DataType::Bool,
            "Int8" => DataType::Int8,
            "Int16" => DataType::Int16,
            "Int32" => DataType::Int32,
            "Int64" => DataType::Int64,
            "Int128" => DataType::Int128,
            "UInt8" => DataType::UInt8,
            "UInt16" => DataType::UInt16,
            "UInt32" => DataType::UInt32,
            "UInt64" => DataType::UInt64,
            "UInt128" => DataType::UInt128,
            "Float32" => DataType::Float32,
            "Float64" => DataType::Float64,
            "Date" => DataType::Date,
            "Date32" => DataType::Date32,
            "UUID" => DataType::Uuid,
            "IPv4" => DataType::Ipv4,
            "IPv6" => DataType::Ipv6,
            "FixedString" => {
                self.expect(b'(')?;
                let bytes = self.number()?;
                self.expect(b')')?;
                if !(1..=1 << 20).contains(&bytes) {
                    return Err(TypeError::Unsupported(self.text[start..self.at].to_owned()));
                }
                DataType::FixedString(bytes as usize)
            }
            "DateTime" => {
                if self.eat(b'(') {
                    self.quoted()?;
                    self.expect(b')')?;
                }
                DataType::DateTime
            }
            "DateTime64" => {
                self.expect(b'(')?;
                let precision = self.number()?;
                if self.eat(b',') {
                    self.quoted()?;
                }
                self.expect(b')')?;
                if !(0..=9).contains(&precision) {
                    return Err(TypeError::Unsupported(self.text[start..self.at].to_owned()));
                }
                DataType::DateTime64 {
                    precision: precision as u8,
                }
            }
            "Enum8" => DataType::Enum8(self.enumeration(i64::from(i8::MIN)..=i64::from(i8::MAX))?),
            "Enum16" => DataType::Enum16(self.enumeration(i64::from(i16::MIN)..=i64::from(i16::MAX))?),
            "Decimal" | "Decimal32" | "Decimal64" | "Decimal128" => {
                self.expect(b'(')?;
                let first = self.number()?;
                let (precision, scale) = match name {
                    "Decimal32" => (9, first),
                    "Decimal64" => (18, first),
                    "Decimal128" => (38, first),
                    _ if self.eat(b',') => (first, self.number()?),
                    _ => (first, 0),
                };
                self.expect(b')')?;
                if !(1..=38).contains(&precision) || !(0..=precision).contains(&scale) {
                    return Err(TypeError::Unsupported(self.text[start..self.at].to_owned()));
                }
                DataType::Decimal {
                    precision: precision as u8,
                    scale: scale as u8,
                }
            }
            "Nullable" => DataType::Nullable(Box::new(self.one_argument(depth)?)),
            "Array" => DataType::Array(Box::new(self.one_argument(depth)?)),
            "LowCardinality" => {
                let inner = self.one_argument(depth)?;
                let flat = match &inner {
                    DataType::Nullable(nested) => nested.is_flat(),
                    other => other.is_flat(),
                };
                if !flat {
                    return Err(TypeError::Unsupported(self.text[start..self.at].to_owned()));
                }
                DataType::LowCardinality(Box::new(inner))
            }
            "Map" => {
                self.expect(b'(')?;
                let key = self.data_type(depth + 1)?;
                self.expect(b',')?;
                let value = self.data_type(depth + 1)?;
                self.expect(b')')?;
                DataType::Map(Box::new(key), Box::new(value))
            }
            "Tuple" => DataType::Tuple(self.elements(depth)?),
            "Nested" => DataType::Array(Box::new(DataType::Tuple(self.elements(depth)?))),
            "SimpleAggregateFunction" => {
                self.expect(b'(')?;
                self.skip_spaces();
                self.word();
                if self.peek() == Some(b'(') {
                    self.skip_parentheses()?;
                }
                self.expect(b',')?;
                let stored = self.data_type(depth + 1)?;
                self.expect(b')')?;
                stored
            }
            "JSON" => {
                if self.peek() == Some(b'(') {
                    self.json_parameters(start)?;
                }
                DataType::Json
            }
            other => {
                let name = other.to_owned();
                if self.peek() == Some(b'(') {
                    self.skip_parentheses()?;
                }
                return Err(TypeError::Unsupported(name));
            }
        };
        Ok(data_type)
    }

    fn one_argument(&mut self, depth: usize) -> Result<DataType, TypeError> {
        self.expect(b'(')?;
        let inner = self.data_type(depth + 1)?;
        self.expect(b')')?;
        Ok(inner)
    }

    /// `(a UInt8, String)`: a name is a word or a quoted identifier that another type follows.
    fn elements(&mut self, depth: usize) -> Result<Vec<(Option<String>, DataType)>, TypeError> {
        self.expect(b'(')?;
        if self.eat(b')') {
            return Err(TypeError::Unsupported("Tuple()".to_owned()));
        }
        let mut elements = Vec::new();
        loop {
            self.skip_spaces();
            let name = match self.peek() {
                Some(b'`') => Some(self.quoted_by(b'`')?),
                Some(b'"') => Some(self.quoted_by(b'"')?),
                _ => {
                    let start = self.at;
                    let word = self.word();
                    if self.peek() == Some(b' ') {
                        Some(word.to_owned())
                    } else {
                        self.at = start;
                        None
                    }
                }
            };
            elements.push((name, self.data_type(depth + 1)?));
            if !self.eat(b',') {
                break;
            }
        }
        self.expect(b')')?;
        Ok(elements)
    }

    fn enumeration(&mut self, range: std::ops::RangeInclusive<i64>) -> Result<Vec<(String, i16)>, TypeError> {
        self.expect(b'(')?;
        let mut values = Vec::new();
        loop {
            let name = self.quoted()?;
            self.expect(b'=')?;
            let number = self.number()?;
            if !range.contains(&number) {
                return Err(TypeError::Malformed(self.at));
            }
            values.push((name, number as i16));
            if !self.eat(b',') {
                break;
            }
        }
        self.expect(b')')?;
        values.sort_by_key(|&(_, number)| number);
        Ok(values)
    }

    /// `(max_dynamic_paths = 8, SKIP a.b, SKIP REGEXP '...')`. A path with a type of its own is not supported: ClickHouse refuses
    /// a whole INSERT for one value that does not fit it.
    fn json_parameters(&mut self, start: usize) -> Result<(), TypeError> {
        self.expect(b'(')?;
        loop {
            self.skip_spaces();
            match self.word() {
                "max_dynamic_paths" | "max_dynamic_types" => {
                    self.expect(b'=')?;
                    self.number()?;
                }
                "SKIP" => {
                    while let Some(byte) = self.peek().filter(|byte| !matches!(byte, b',' | b')')) {
                        match byte {
                            b'\'' | b'`' | b'"' => self.quoted_by(byte).map(drop)?,
                            _ => self.at += 1,
                        }
                    }
                }
                _ => {
                    self.at = start + "JSON".len();
                    self.skip_parentheses()?;
                    return Err(TypeError::Unsupported(self.text[start..self.at].to_owned()));
                }
            }
            if !self.eat(b',') {
                return self.expect(b')');
            }
        }
    }

    fn word(&mut self) -> &'a str {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn number(&mut self) -> Result<i64, TypeError> {
        self.skip_spaces();
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.text[start..self.at]
            .parse()
            .map_err(|_| TypeError::Malformed(start))
    }

    fn quoted(&mut self) -> Result<String, TypeError> {
        self.skip_spaces();
        if self.peek() != Some(b'\'') {
            return Err(TypeError::Malformed(self.at));
        }
        self.quoted_by(b'\'')
    }

    /// A quoted text with ClickHouse's backslash escapes; a doubled quote is one.
    fn quoted_by(&mut self, quote: u8) -> Result<String, TypeError> {
        let start = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek().ok_or(TypeError::Malformed(start))?;
            self.at += 1;
            if byte == quote {
                if self.peek() != Some(quote) {
                    break;
                }
                self.at += 1;
                bytes.push(quote);
            } else if byte == b'\\' {
                let escaped = self.peek().ok_or(TypeError::Malformed(start))?;
                self.at += 1;
                match escaped {
                    b'n' => bytes.push(b'\n'),
                    b't' => bytes.push(b'\t'),
                    b'r' => bytes.push(b'\r'),
                    b'b' => bytes.push(8),
                    b'f' => bytes.push(12),
                    b'a' => bytes.push(7),
                    b'v' => bytes.push(11),
                    b'0' => bytes.push(0),
                    b'x' => {
                        let digits = self
                            .text
                            .get(self.at..self.at + 2)
                            .ok_or(TypeError::Malformed(self.at))?;
                        bytes
                            .push(u8::from_str_radix(digits, 16).map_err(|_| TypeError::Malformed(self.at))?);
                        self.at += 2;
                    }
                    other => bytes.push(other),
                }
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).map_err(|_| TypeError::Malformed(start))
    }

    /// Skips `( ... )` with whatever it nests, minding quotes.
    fn skip_parentheses(&mut self) -> Result<(), TypeError> {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'\'' | b'`' | b'"' => {
                    self.quoted_by(byte)?;
                    continue;
                }
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(TypeError::Malformed(start))
    }

    fn expect(&mut self, byte: u8) -> Result<(), TypeError> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(TypeError::Malformed(self.at))
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.skip_spaces();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> DataType {
        DataType::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn reads_every_kind_of_type() {
        assert_eq!(
            parse("Map(LowCardinality(String), Nullable(UInt64))"),
            DataType::Map(
                Box::new(DataType::LowCardinality(Box::new(DataType::String))),
                Box::new(DataType::Nullable(Box::new(DataType::UInt64))),
            )
        );
        assert_eq!(
            parse("DateTime64(9, 'Europe/Berlin')"),
            DataType::DateTime64 { precision: 9 }
        );
        assert_eq!(parse("DateTime('UTC')"), DataType::DateTime);
        assert_eq!(
            parse("Decimal(38, 10)"),
            DataType::Decimal {
                precision: 38,
                scale: 10
            }
        );
        assert_eq!(
            parse("Decimal64(3)"),
            DataType::Decimal {
                precision: 18,
                scale: 3
            }
        );
        assert_eq!(
            parse("Tuple(a UInt8, `b c` String)"),
            DataType::Tuple(vec![
                (Some("a".into()), DataType::UInt8),
                (Some("b c".into()), DataType::String)
            ])
        );
        assert_eq!(
            parse("Tuple(String, Array(Int8))"),
            DataType::Tuple(vec![
                (None, DataType::String),
                (None, DataType::Array(Box::new(DataType::Int8)))
            ])
        );
        assert_eq!(
            parse("Nested(a UInt8)"),
            DataType::Array(Box::new(DataType::Tuple(vec![(
                Some("a".into()),
                DataType::UInt8
            )])))
        );
        assert_eq!(parse("SimpleAggregateFunction(sum, UInt64)"), DataType::UInt64);
        assert_eq!(
            parse("SimpleAggregateFunction(groupArrayArray(10), Array(String))"),
            DataType::Array(Box::new(DataType::String))
        );
        assert_eq!(parse("JSON"), DataType::Json);
        let parameters =
            r"JSON(max_dynamic_types=4, max_dynamic_paths = 8, SKIP a.`b,)`, SKIP REGEXP '\)x,')";
        assert_eq!(parse(parameters), DataType::Json);
    }

    #[test]
    fn reads_enums_with_escapes_and_negative_numbers_in_number_order() {
        assert_eq!(
            parse(r"Enum8('it\'s' = 3, 'a,)=' = -128, '' = 0, 'tab\t' = 4, '\x41' = 5)"),
            DataType::Enum8(vec![
                ("a,)=".into(), -128),
                ("".into(), 0),
                ("it's".into(), 3),
                ("tab\t".into(), 4),
                ("A".into(), 5)
            ])
        );
        assert!(DataType::parse("Enum8('a' = 128)").is_err());
        assert!(DataType::parse("Enum16('a' = 128)").is_ok());
    }

    #[test]
    fn rejects_what_it_does_not_write_by_name() {
        for name in [
            "Int256",
            "Variant(String, UInt8)",
            "AggregateFunction(sum, UInt8)",
            "Point",
            "BFloat16",
        ] {
            match DataType::parse(name) {
                Err(TypeError::Unsupported(reported)) => assert!(name.starts_with(&reported)),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(matches!(
            DataType::parse("LowCardinality(Array(String))"),
            Err(TypeError::Unsupported(_))
        ));
        assert!(matches!(
            DataType::parse("Decimal(76, 10)"),
            Err(TypeError::Unsupported(_))
        ));
        assert_eq!(
            DataType::parse("JSON(max_dynamic_paths=8, a.b Array(UInt32))"),
            Err(TypeError::Unsupported(
                "JSON(max_dynamic_paths=8, a.b Array(UInt32))".into()
            ))
        );
        let deep = format!("{}String{}", "Array(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(DataType::parse(&deep), Err(TypeError::TooDeep));
    }

    #[test]
    fn every_prefix_of_a_type_is_an_error_or_a_type_and_never_a_panic() {
        let text = r"Tuple(a Enum8('x\n' = -1), b Map(String, JSON(SKIP a)), c DateTime64(3, 'UTC'))";
        for end in 0..text.len() {
            assert!(DataType::parse(&text[..end]).is_err(), "{}", &text[..end]);
        }
        parse(text);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[A-Za-z0-9(),'`= \\\\\u{e9}-]{0,60}") {
            let _ = DataType::parse(&text);
        }
    }
}
