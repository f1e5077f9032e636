//! Prints the values of a block as JSON, in the form the columns read back exactly.

use super::part::{Part, signed, unsigned};
use crate::clickhouse::wire::Reader;
use crate::column::text::put_json_string;
use crate::schema::DataType;
use crate::timestamp::{TimeUnit, year_month_day};
use serde::de::IgnoredAny;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

impl Part {
    /// Appends the value of one row.
    pub(super) fn put_json(&self, bytes: &[u8], row: usize, out: &mut Vec<u8>) {
        match self {
            Part::Fixed {
                start,
                width,
                data_type,
            } => put_scalar(data_type, &bytes[start + row * width..][..*width], out),
            Part::Texts { bounds, is_json } => {
                let mut reader = Reader::new(&bytes[bounds[row] as usize..bounds[row + 1] as usize]);
                reader.varint().expect("the length was read before");
                match is_json {
                    true => put_object(reader.rest(), out),
                    false => put_text(reader.rest(), out),
                }
            }
            Part::Dictionary {
                values,
                nullable,
                keys,
                key_width,
                ..
            } => match unsigned(&bytes[keys + row * key_width..][..*key_width]) {
                0 if *nullable => out.extend_from_slice(b"null"),
                key => values.put_json(bytes, key as usize, out),
            },
            Part::Nullable { nulls, values } => match bytes[nulls + row] {
                0 => values.put_json(bytes, row, out),
                _ => out.extend_from_slice(b"null"),
            },
            Part::Array { ends, elements } => {
                let range = ends.elements_of(bytes, row..row + 1);
                put_list(b"[]", range, out, |element, out| {
                    elements.put_json(bytes, element, out);
                });
            }
            Part::Map { ends, keys, values } => {
                let range = ends.elements_of(bytes, row..row + 1);
                put_list(b"{}", range, out, |element, out| {
                    put_key(keys, bytes, element, out);
                    out.push(b':');
                    values.put_json(bytes, element, out);
                });
            }
            Part::Tuple(elements) if elements.iter().all(|(name, _)| name.is_some()) => {
                put_list(b"{}", elements, out, |(name, element), out| {
                    put_json_string(name.as_deref().unwrap_or_default().as_bytes(), out);
                    out.push(b':');
                    element.put_json(bytes, row, out);
                });
            }
            Part::Tuple(elements) => {
                put_list(b"[]", elements, out, |(_, element), out| {
                    element.put_json(bytes, row, out);
                });
            }
        }
    }
}

fn put_list<T>(
    brackets: &[u8; 2],
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut put: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(brackets[0]);
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        put(item, out);
    }
    out.push(brackets[1]);
}

/// A key is a text whatever its type.
fn put_key(keys: &Part, bytes: &[u8], row: usize, out: &mut Vec<u8>) {
    let start = out.len();
    keys.put_json(bytes, row, out);
    if out[start] != b'"' {
        let value = out.split_off(start);
        put_json_string(&value, out);
    }
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    put_json_string(String::from_utf8_lossy(text).as_bytes(), out);
}

/// The text of a JSON column as it is, on one line.
fn put_object(text: &[u8], out: &mut Vec<u8>) {
    let is_object = std::str::from_utf8(text).is_ok_and(|text| {
        // Reads without recursion, however deep the text is nested.
        text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
    });
    if is_object {
        // In valid JSON control characters are white space between tokens.
        out.extend(text.iter().map(|&byte| byte.max(b' ')));
    } else {
        put_text(text, out);
    }
}

/// `value` has the bytes of one value of the type.
fn put_scalar(data_type: &DataType, value: &[u8], out: &mut Vec<u8>) {
    match data_type {
        DataType::FixedString(_) => {
            let padding = value.iter().rev().take_while(|&&byte| byte == 0).count();
            put_text(&value[..value.len() - padding], out);
        }
        DataType::Bool => out.extend_from_slice(if value == [0] { b"false" } else { b"true" }),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            put_number(itoa::Buffer::new().format(unsigned(value)), out);
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            put_number(itoa::Buffer::new().format(signed(value)), out);
        }
        DataType::UInt128 => put_quoted(itoa::Buffer::new().format(unsigned(value)), out),
        DataType::Int128 => put_quoted(itoa::Buffer::new().format(signed(value)), out),
        DataType::Float32 => put_float32(f32::from_bits(unsigned(value) as u32), out),
        DataType::Float64 => put_float64(f64::from_bits(unsigned(value) as u64), out),
        DataType::Date | DataType::DateTime => put_time(data_type, unsigned(value) as i64, out),
        DataType::Date32 | DataType::DateTime64 { .. } => put_time(data_type, signed(value) as i64, out),
        DataType::Enum8(names) | DataType::Enum16(names) => {
            let number = signed(value) as i16;
            match names.binary_search_by_key(&number, |&(_, number)| number) {
                Ok(found) => put_text(names[found].0.as_bytes(), out),
                Err(_) => put_number(itoa::Buffer::new().format(number), out),
            }
        }
        DataType::Uuid => put_uuid(unsigned(value).rotate_left(64), out),
        DataType::Ipv4 => put_quoted(&Ipv4Addr::from_bits(unsigned(value) as u32).to_string(), out),
        DataType::Ipv6 => put_quoted(
            &Ipv6Addr::from_bits(unsigned(value).swap_bytes()).to_string(),
            out,
        ),
        DataType::Decimal { scale, .. } => put_decimal(signed(value), usize::from(*scale), out),
        DataType::String
        | DataType::Json
        | DataType::LowCardinality(_)
        | DataType::Nullable(_)
        | DataType::Array(_)
        | DataType::Map(..)
        | DataType::Tuple(_) => panic!("{data_type:?} is no scalar"),
    }
}

fn put_number(digits: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(digits.as_bytes());
}

/// `text` needs no escapes.
fn put_quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn put_float32(value: f32, out: &mut Vec<u8>) {
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format(value);
    // The column reads an f64 and rounds again: where that ends beside the value, print all of it.
    match shortest.parse::<f64>() {
        Ok(wide) if value.is_finite() && wide as f32 == value => put_number(shortest, out),
        _ => put_float64(value.into(), out),
    }
}

fn put_float64(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        put_number(ryu::Buffer::new().format_finite(value), out);
        return;
    }
    put_quoted(
        match (value.is_nan(), value.is_sign_negative()) {
            (true, false) => "nan",
            (true, true) => "-nan",
            (false, false) => "inf",
            (false, true) => "-inf",
        },
        out,
    );
}

/// `"2023-11-20 08:15:30.123"`, with as many digits as the column has; dates without a time.
fn put_time(data_type: &DataType, ticks: i64, out: &mut Vec<u8>) {
    let unit = TimeUnit::of(data_type).expect("only times are printed here");
    let (day, second) = unit.day_and_second(ticks);
    let (year, month, day) = year_month_day(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Writing into a Vec cannot fail.
    let _ = write!(out, "\"{year:04}-{month:02}-{day:02}");
    if let TimeUnit::Seconds32 | TimeUnit::Ticks64(_) = unit {
        let _ = write!(out, " {hour:02}:{minute:02}:{second:02}");
    }
    if let TimeUnit::Ticks64(precision @ 1..) = unit {
        let fraction = ticks.rem_euclid(10_i64.pow(u32::from(precision)));
        let _ = write!(out, ".{fraction:0width$}", width = usize::from(precision));
    }
    out.push(b'"');
}

fn put_uuid(number: u128, out: &mut Vec<u8>) {
    let digits = format!("{number:032x}");
    let groups = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    put_quoted(&groups.join("-"), out);
}

/// `"-12.3400"`, with all digits of the scale.
fn put_decimal(number: i128, scale: usize, out: &mut Vec<u8>) {
    let sign = if number < 0 { "-" } else { "" };
    let one = 10_u128.pow(scale as u32);
    let (whole, fraction) = (number.unsigned_abs() / one, number.unsigned_abs() % one);
    // Writing into a Vec cannot fail.
    let _ = write!(out, "\"{sign}{whole}");
    if scale > 0 {
        let _ = write!(out, ".{fraction:0scale$}");
    }
    out.push(b'"');
}
