//! Random JSON for a column type: mostly values that fit, in every spelling that occurs, and some that do not.

use std::fmt;

use fastrand::Rng;
use ringhouse::schema::DataType;

/// A JSON text that remembers how its scalars were spelled.
#[derive(Debug, Clone)]
pub enum Json {
    /// A token as it stands in the text, quotes included.
    Scalar(String),
    Array(Vec<Json>),
    /// Keys are tokens too.
    Object(Vec<(String, Json)>),
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Scalar(token) => f.write_str(token),
            Json::Array(elements) => {
                f.write_str("[")?;
                for (at, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if at > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (at, (key, value)) in members.iter().enumerate() {
                    write!(f, "{}{key}:{value}", if at > 0 { "," } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl Json {
    /// A scalar's token as it is; the parts of an array or object spelled anew.
    pub fn parse(text: &str) -> Json {
        let again = |value: serde_json::Value| Json::parse(&value.to_string());
        match serde_json::from_str(text) {
            Ok(serde_json::Value::Array(values)) => Json::Array(values.into_iter().map(again).collect()),
            Ok(serde_json::Value::Object(members)) => {
                let members = members
                    .into_iter()
                    .map(|(key, value)| (format!("{key:?}"), again(value)));
                Json::Object(members.collect())
            }
            _ => scalar(text),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Json::Scalar(token) if token == "null")
    }

    /// The token of a number.
    pub fn number(&self) -> Option<&str> {
        match self {
            Json::Scalar(token) if token.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => Some(token),
            _ => None,
        }
    }

    /// The content of a text, unescaped.
    pub fn text(&self) -> Option<String> {
        match self {
            Json::Scalar(token) if token.starts_with('"') => {
                Some(serde_json::from_str(token).expect("generated texts are valid"))
            }
            _ => None,
        }
    }
}

fn scalar(token: impl Into<String>) -> Json {
    Json::Scalar(token.into())
}

fn quoted(text: impl AsRef<str>) -> Json {
    scalar(format!("\"{}\"", text.as_ref()))
}

fn pick<'a, T: ?Sized>(rng: &mut Rng, from: &[&'a T]) -> &'a T {
    from[rng.usize(..from.len())]
}

/// A value for a column or part of `data_type`.
pub fn value(rng: &mut Rng, data_type: &DataType) -> Json {
    match rng.u8(..100) {
        0..5 => return scalar("null"),
        5..8 => return misfit(rng),
        _ => {}
    }
    match data_type {
        DataType::String => string(rng),
        DataType::FixedString(width) => fixed_string(rng, *width),
        DataType::Bool => scalar(pick(
            rng,
            &[
                "true",
                "false",
                "0",
                "1",
                "2",
                "\"true\"",
                "\"0\"",
                "\"False\"",
                "\"yes\"",
                "1.0",
            ],
        )),
        DataType::Int8 => integer(rng, i8::MIN.into(), i8::MAX as u128),
        DataType::Int16 => integer(rng, i16::MIN.into(), i16::MAX as u128),
        DataType::Int32 => integer(rng, i32::MIN.into(), i32::MAX as u128),
        DataType::Int64 => integer(rng, i64::MIN.into(), i64::MAX as u128),
        DataType::Int128 => integer(rng, i128::MIN, i128::MAX as u128),
        DataType::UInt8 => integer(rng, 0, u8::MAX.into()),
        DataType::UInt16 => integer(rng, 0, u16::MAX.into()),
        DataType::UInt32 => integer(rng, 0, u32::MAX.into()),
        DataType::UInt64 => integer(rng, 0, u64::MAX.into()),
        DataType::UInt128 => integer(rng, 0, u128::MAX),
        DataType::Float32 => float(rng, |rng| f32::from_bits(rng.u32(..)).to_string()),
        DataType::Float64 => float(rng, |rng| f64::from_bits(rng.u64(..)).to_string()),
        DataType::Date => date(rng, 1970, 2149),
        DataType::Date32 => date(rng, 1900, 2299),
        DataType::DateTime => time(rng, 1970, 2106, 0),
        DataType::DateTime64 { precision: 9 } => time(rng, 1900, 2262, 9),
        DataType::DateTime64 { precision } => time(rng, 1900, 2299, *precision),
        DataType::Enum8(values) | DataType::Enum16(values) => enumeration(rng, values),
        DataType::Uuid => uuid(rng),
        DataType::Ipv4 => address(rng, true),
        DataType::Ipv6 => address(rng, false),
        DataType::Decimal { precision, scale } => decimal(rng, *precision, *scale),
        DataType::LowCardinality(inner) | DataType::Nullable(inner) => value(rng, inner),
        DataType::Array(element) => Json::Array((0..rng.usize(..5)).map(|_| value(rng, element)).collect()),
        DataType::Map(key, element) => Json::Object(
            (0..rng.usize(..4))
                .map(|_| {
                    let key = loop {
                        let key = value(rng, key).to_string();
                        if key.starts_with('"') {
                            break key;
                        } else if key.starts_with(|c: char| c.is_ascii_digit()) {
                            break format!("\"{key}\"");
                        }
                    };
                    (key, value(rng, element))
                })
                .collect(),
        ),
        DataType::Tuple(elements) => tuple(rng, elements),
        DataType::Json => object(rng, 3),
    }
}

/// A value of whatever kind.
fn misfit(rng: &mut Rng) -> Json {
    match rng.u8(..6) {
        0 => scalar(pick(rng, &["true", "false"])),
        1 => scalar(pick(rng, &["0", "12", "-7", "1.5", "1e3"])),
        2 => quoted(pick(rng, &["", "text", "12", "2023-11-20 08:15:30"])),
        3 => Json::Array(Vec::new()),
        4 => Json::Array(vec![scalar("1")]),
        _ => Json::Object(vec![("\"k\"".to_owned(), scalar("1"))]),
    }
}

fn string(rng: &mut Rng) -> Json {
    match rng.u8(..12) {
        0 => number_as_sent(rng),
        1 => scalar(pick(rng, &["true", "false"])),
        2 => Json::Array(vec![text(rng), number_as_sent(rng), scalar("null")]),
        3 => object(rng, 2),
        4 => quoted("x".repeat(rng.usize(..3000))),
        _ => text(rng),
    }
}

/// Characters in all the ways JSON may write them.
fn text(rng: &mut Rng) -> Json {
    let mut token = String::from("\"");
    for _ in 0..rng.usize(..16) {
        match rng.u8(..8) {
            0 => token.push_str(pick(
                rng,
                &["\\n", "\\t", "\\\\", "\\\"", "\\/", "\\b", "\\f", "\\r"],
            )),
            1 => token.push_str(&format!("\\u{:04x}", rng.u16(..0xd800))),
            2 => token.push_str(&format!(
                "\\u{:04X}\\u{:04X}",
                rng.u16(0xd800..0xdc00),
                rng.u16(0xdc00..0xe000)
            )),
            3 => token.push(rng.char('\u{80}'..)),
            4 => token.push_str(pick(
                rng,
                &[
                    "é",
                    "日本",
                    "😀",
                    "\u{7f}",
                    "\u{feff}",
                    "{\\\"a\\\":1}",
                    "NULL",
                    "\\\\N",
                    "'",
                    "$",
                ],
            )),
            _ => token.push(loop {
                let c = rng.char(' '..='~');
                if c != '"' && c != '\\' {
                    break c;
                }
            }),
        }
    }
    token.push('"');
    scalar(token)
}

fn number_as_sent(rng: &mut Rng) -> Json {
    match rng.u8(..4) {
        0 => scalar(rng.i64(..).to_string()),
        1 => scalar(rng.u64(..).to_string()),
        2 => scalar(rng.i16(..).to_string()),
        _ => scalar(pick(
            rng,
            &[
                "0",
                "1.5",
                "18446744073709551616",
                "-9223372036854775809",
                "-0.25",
                "1.50",
                "1e3",
                "1E+2",
                "-0",
                "0.0",
                "1e-7",
                "123456789.125",
            ],
        )),
    }
}

fn fixed_string(rng: &mut Rng, width: usize) -> Json {
    match rng.u8(..8) {
        0 => number_as_sent(rng),
        1 => text(rng),
        2 => quoted("é".repeat(rng.usize(..width))),
        3 => quoted("a".repeat(width + 1)),
        4 => quoted("a\\u0000"),
        _ => quoted("b".repeat(rng.usize(..=width))),
    }
}

fn integer(rng: &mut Rng, min: i128, max: u128) -> Json {
    let fitting = |rng: &mut Rng| match rng.u8(..4) {
        0 if min < 0 => rng.i128(min..0).to_string(),
        1 => rng.u128(..=max).to_string(),
        _ => rng.u128(..=max.min(100)).to_string(),
    };
    match rng.u8(..16) {
        0 => scalar(min.to_string()),
        1 => scalar(max.to_string()),
        2 => quoted(pick(rng, &[min.to_string().as_str(), max.to_string().as_str()])),
        3 => scalar(match min.checked_sub(1) {
            Some(below) => below.to_string(),
            None => "-170141183460469231731687303715884105729".to_owned(),
        }),
        4 => scalar(match max.checked_add(1) {
            Some(above) => above.to_string(),
            None => "340282366920938463463374607431768211456".to_owned(),
        }),
        5 => scalar(format!("{}.0", rng.u8(..100))),
        6 => scalar(pick(
            rng,
            &["true", "false", "1e2", "1.5", "-0", "-1", "0", "1E1", "0.1e1"],
        )),
        7 => quoted(pick(
            rng,
            &[
                "", " 5", "5 ", "+5", "0x10", "1_000", "5abc", "007", "-0", "5.0", "1e2", "-", "1.5",
            ],
        )),
        8..11 => quoted(fitting(rng)),
        _ => scalar(fitting(rng)),
    }
}

fn float(rng: &mut Rng, bits: impl Fn(&mut Rng) -> String) -> Json {
    let finite = |rng: &mut Rng| loop {
        let text = bits(rng);
        if text.ends_with(|c: char| c.is_ascii_digit()) {
            break text;
        }
    };
    match rng.u8(..10) {
        0 => scalar(rng.i64(..).to_string()),
        1 => scalar(rng.u64(..).to_string()),
        2 => quoted(pick(
            rng,
            &[
                "nan",
                "NaN",
                "inf",
                "-inf",
                "Infinity",
                "-Infinity",
                "+inf",
                "",
                "1e",
                "1.5.2",
                " 1",
                "+1.5",
                ".5",
                "5.",
                "0x1p3",
                "1e3",
            ],
        )),
        3 => scalar(pick(
            rng,
            &[
                "0",
                "-0",
                "-0.0",
                "1e-320",
                "5e-324",
                "4.9e-324",
                "2.2250738585072014e-308",
                "1.7976931348623157e308",
                "3.4028235e38",
                "3.4028236e38",
                "1e39",
                "1.4e-45",
                "7e-46",
                "0.1",
                "16777217",
                "9007199254740993",
                "123456789.123456789",
                "1E5",
                "1e+5",
                "1e-400",
            ],
        )),
        4 => quoted(finite(rng)),
        5 => scalar(format!("{}e{}", rng.i32(-999..999), rng.i32(-300..300))),
        6 => scalar(format!("{}.{}", rng.i32(..), rng.u64(..))),
        7 => scalar(format!("{:e}", rng.f64() * 1e6)),
        _ => scalar(finite(rng)),
    }
}

fn calendar_day(rng: &mut Rng, year_min: u32, year_max: u32) -> String {
    format!(
        "{:04}-{:02}-{:02}",
        rng.u32(year_min..=year_max),
        rng.u32(1..=12),
        rng.u32(1..=28)
    )
}

fn date(rng: &mut Rng, year_min: u32, year_max: u32) -> Json {
    match rng.u8(..12) {
        0 => quoted(pick(
            rng,
            &[
                "1970-01-01",
                "1969-12-31",
                "2149-06-06",
                "2149-06-07",
                "1900-01-01",
                "1899-12-31",
                "2299-12-31",
                "2300-01-01",
                "2024-02-29",
                "2000-02-29",
                "0000-00-00",
                "1970-01-02",
            ],
        )),
        1 => quoted(pick(
            rng,
            &[
                "2023-02-29",
                "2023-02-30",
                "2023-13-01",
                "2023-00-10",
                "2023-01-00",
                "2023-1-2",
                "20230102",
                "2023/01/02",
                "",
                "today",
                "2023-01-02x",
                "2023-01",
                "2023-01-02 08:15:30",
                "2023-01-02T08:15:30Z",
                "2023-01-02T23:15:30-05:00",
            ],
        )),
        2 => scalar(pick(
            rng,
            &["0", "1", "19000", "65535", "1700468130", "-1", "1.5"],
        )),
        3 => quoted(pick(rng, &["0", "19000", "1700468130"])),
        _ => quoted(calendar_day(rng, year_min, year_max)),
    }
}

fn time(rng: &mut Rng, year_min: u32, year_max: u32, precision: u8) -> Json {
    let clock = |rng: &mut Rng| format!("{:02}:{:02}:{:02}", rng.u8(..24), rng.u8(..60), rng.u8(..60));
    let fraction = |rng: &mut Rng| match rng.usize(..=usize::from(precision)) {
        0 => String::new(),
        digits => format!(".{:0digits$}", rng.u64(..10_u64.pow(digits as u32))),
    };
    let day = calendar_day(rng, year_min + 1, year_max - 1);
    match rng.u8(..16) {
        0 => quoted(pick(
            rng,
            &[
                "1970-01-01 00:00:00",
                "1970-01-01T00:00:00Z",
                "1969-12-31 23:59:59",
                "2106-02-07 06:28:15",
                "2106-02-07T06:28:16Z",
                "1900-01-01T00:00:00Z",
                "1899-12-31T23:59:59Z",
                "2299-12-31T23:59:59Z",
                "2300-01-01T00:00:00Z",
                "2262-04-11T23:47:16Z",
                "2262-04-11T23:47:17Z",
                "2024-02-29T12:00:00Z",
                "0000-00-00 00:00:00",
            ],
        )),
        1 => quoted(pick(
            rng,
            &[
                "",
                "now",
                "2023-11-20 25:00:00",
                "2023-11-20 24:00:00",
                "2023-11-20 08:60:00",
                "2023-11-20 08:15:60",
                "2023-02-30 08:15:30",
                "2023-11-20 08:15",
                "2023-11-20T08:15",
                "2023-11-20",
                "20231120081530",
                "2023-11-20T08:15:30+25:00",
                "2023-11-20 08:15:30 UTC",
                "2023-11-20t08:15:30z",
                "2023-11-20 08:15:30,123",
                "2023-11-20 08:15:30.",
                "Mon, 20 Nov 2023 08:15:30 GMT",
                "20/11/2023",
                "2023-11-20T08:15:30.123456789123Z",
                "2016-12-31T23:59:60Z",
            ],
        )),
        2 => scalar(rng.u32(1_000_000_000..2_000_000_000).to_string()),
        3 => quoted(rng.u32(1_000_000_000..2_000_000_000).to_string()),
        4 => scalar(format!(
            "{}.{:03}",
            rng.u32(1_000_000_000..2_000_000_000),
            rng.u16(..1000)
        )),
        5 => scalar(pick(
            rng,
            &[
                "0",
                "1",
                "1700468130123",
                "1700468130123456",
                "1700468130123456789",
                "-1",
                "-0.5",
            ],
        )),
        6..9 => quoted(format!("{day}T{}{}Z", clock(rng), fraction(rng))),
        9..11 => {
            let sign = pick(rng, &["+", "-"]);
            quoted(format!(
                "{day}T{}{}{sign}{:02}:{:02}",
                clock(rng),
                fraction(rng),
                rng.u8(..12),
                rng.u8(..60)
            ))
        }
        11 => quoted(format!("{day}T{}{}", clock(rng), fraction(rng))),
        _ => quoted(format!("{day} {}{}", clock(rng), fraction(rng))),
    }
}

fn enumeration(rng: &mut Rng, values: &[(String, i16)]) -> Json {
    let (name, number) = &values[rng.usize(..values.len())];
    match rng.u8(..8) {
        0 => scalar(number.to_string()),
        1 => quoted(number.to_string()),
        2 => scalar(pick(rng, &["99", "-99", "1.0", "1e0", "300"])),
        3 => quoted(pick(rng, &["", "nothing", "A"])),
        _ => scalar(serde_json::to_string(name).expect("a text is JSON")),
    }
}

fn uuid(rng: &mut Rng) -> Json {
    let number = rng.u128(..);
    let plain = format!("{number:032x}");
    let dashed = format!(
        "{}-{}-{}-{}-{}",
        &plain[..8],
        &plain[8..12],
        &plain[12..16],
        &plain[16..20],
        &plain[20..]
    );
    match rng.u8(..10) {
        0 => quoted(plain),
        1 => quoted(dashed.to_uppercase()),
        2 => quoted(&dashed[..35]),
        3 => quoted(pick(
            rng,
            &[
                "",
                "not a uuid",
                "00000000-0000-0000-0000-000000000000",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "{00000000-0000-0000-0000-000000000000}",
            ],
        )),
        4 => quoted(dashed.replace('-', ":")),
        5 => quoted(dashed.replacen(|c: char| c.is_ascii_hexdigit(), "g", 1)),
        _ => quoted(dashed),
    }
}

fn address(rng: &mut Rng, four: bool) -> Json {
    let v4 = std::net::Ipv4Addr::from(rng.u32(..));
    let mut bits = rng.u128(..);
    if rng.bool() {
        // Runs of zeros, for `::`.
        bits &= !(u128::from(rng.u64(..)) << rng.u32(..64));
        bits &= 0xffff_0000_0000_0000_ffff_0000_0000_ffff;
    }
    let v6 = std::net::Ipv6Addr::from(bits);
    match rng.u8(..10) {
        0 => quoted(pick(
            rng,
            &[
                "",
                "1.2.3",
                "1.2.3.256",
                "1.2.3.4.5",
                "01.2.3.4",
                "1.2.3.4 ",
                "0.0.0.0",
                "255.255.255.255",
                "localhost",
                "1.2.3.4:80",
            ],
        )),
        1 => quoted(pick(
            rng,
            &[
                "::",
                "::1",
                "::ffff:1.2.3.4",
                "::FFFF:1.2.3.4",
                "1::2::3",
                "fe80::1%eth0",
                "12345::",
                "[::1]",
                "1:2:3:4:5:6:7:8",
                "1:2:3:4:5:6:1.2.3.4",
            ],
        )),
        2 => scalar(rng.u32(..).to_string()),
        3 => quoted(v4.to_string()),
        4 => quoted(v6.to_string().to_uppercase()),
        _ if four => quoted(v4.to_string()),
        _ => quoted(v6.to_string()),
    }
}

fn decimal(rng: &mut Rng, precision: u8, scale: u8) -> Json {
    let digits = |rng: &mut Rng, count: usize| {
        (0..count)
            .map(|_| char::from(b'0' + rng.u8(..10)))
            .collect::<String>()
    };
    let whole_digits = usize::from(precision - scale);
    let mut number = String::new();
    if rng.bool() {
        number.push('-');
    }
    // No leading zero: JSON has none.
    let count = match rng.u8(..8) {
        0 => whole_digits + 1,
        _ => rng.usize(..=whole_digits),
    };
    let whole = digits(rng, count);
    let whole = whole.trim_start_matches('0');
    number.push_str(if whole.is_empty() { "0" } else { whole });
    let beyond_scale = usize::from(rng.u8(..4) == 0) * 3;
    let fraction = rng.usize(..=usize::from(scale) + beyond_scale);
    if fraction > 0 {
        number.push('.');
        number.push_str(&digits(rng, fraction));
    }
    match rng.u8(..12) {
        0 => scalar(format!("{number}e{}", rng.i8(-6..6))),
        1 => quoted(format!("{number}e{}", rng.i8(-6..6))),
        2 => quoted(pick(
            rng,
            &[
                "", "+1", ".5", "1.", "1e", "abc", " 1", "1 ", "--1", "1.2.3", "0x1", "nan", "inf", "1e400",
                "1e-400", "-", ".",
            ],
        )),
        3 => scalar(pick(rng, &["0", "-0", "0.0", "1e2", "true", "1E-2", "-0.0"])),
        4..7 => quoted(number),
        _ => scalar(number),
    }
}

fn tuple(rng: &mut Rng, elements: &[(Option<String>, DataType)]) -> Json {
    let named = elements[0].0.is_some();
    if named && rng.u8(..4) > 0 {
        let mut members: Vec<_> = elements
            .iter()
            .filter_map(|(name, element)| {
                let name = name.as_ref().expect("named elements are all named");
                let present = rng.u8(..8) > 0;
                present.then(|| (format!("\"{name}\""), value(rng, element)))
            })
            .collect();
        if rng.u8(..8) == 0 {
            members.push(("\"unknown\"".to_owned(), object(rng, 1)));
        }
        rng.shuffle(&mut members);
        return Json::Object(members);
    }
    let mut values: Vec<_> = elements.iter().map(|(_, element)| value(rng, element)).collect();
    match rng.u8(..12) {
        0 => drop(values.pop()),
        1 => values.push(scalar("1")),
        _ => {}
    }
    Json::Array(values)
}

/// An object of anything, `depth` levels deep at most; no key twice.
fn object(rng: &mut Rng, depth: usize) -> Json {
    let keys = [
        "a", "b", "c d", "é", "x-y", "Z_9", "ts", "n", "a.b", "", "a.", ".", "\\u0000", "\\\"`",
    ];
    let count = rng.usize(..5);
    let mut members = Vec::new();
    for key in rng.choose_multiple(keys, count) {
        members.push((format!("\"{key}\""), anything(rng, depth)));
    }
    Json::Object(members)
}

fn anything(rng: &mut Rng, depth: usize) -> Json {
    match rng.u8(..10) {
        8 if depth > 0 => Json::Array((0..rng.usize(..4)).map(|_| anything(rng, depth - 1)).collect()),
        0 => scalar("null"),
        1 => scalar(pick(rng, &["true", "false"])),
        2 => number_as_sent(rng),
        3 => quoted(pick(
            rng,
            &[
                "2023-11-20",
                "2023-11-20 08:15:30",
                "2023-11-20T08:15:30.5Z",
                "12",
                "1.5",
                "true",
                "",
            ],
        )),
        4 if depth > 0 => object(rng, depth - 1),
        5 if depth > 0 => Json::Array(
            (0..rng.usize(..4))
                .map(|_| scalar(rng.i16(..).to_string()))
                .collect(),
        ),
        6 if depth > 0 => Json::Array((0..rng.usize(..4)).map(|_| text(rng)).collect()),
        7 if depth > 0 => Json::Array((0..rng.usize(..3)).map(|_| object(rng, depth - 1)).collect()),
        _ => text(rng),
    }
}
