//! The differences between Ringhouse and ClickHouse's own `JSONEachRow`, each with its reason.

use ringhouse::schema::DataType;

use crate::Outcome;
use crate::values::Json;

/// How the outcomes of one row differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    /// Ringhouse rejects a row that ClickHouse takes.
    Refused,
    /// Ringhouse takes a row that ClickHouse refuses.
    Taken,
    /// Both take it and hold different values.
    Differs,
}

impl Relation {
    pub fn of(ours: &Outcome, theirs: &Outcome) -> Relation {
        match (ours, theirs) {
            _ if ours == theirs => Relation::Equal,
            (None, _) => Relation::Refused,
            (_, None) => Relation::Taken,
            _ => Relation::Differs,
        }
    }
}

/// A value, or a part of one, for its type.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub data_type: &'a DataType,
    pub value: &'a Json,
    /// The column has a time zone of its own.
    pub zoned: bool,
}

/// One difference: where a row's value has a part that `applies`, the outcomes may be in one of `relations`.
pub struct Known {
    pub why: &'static str,
    pub relations: &'static [Relation],
    pub applies: fn(&Part<'_>) -> bool,
}

/// Every difference. The table of `ringhouse::column` says the same to readers; `EXAMPLES` pins them.
pub const KNOWN: &[Known] = &[
    Known {
        why: "a number that does not fit is an error; ClickHouse stores another number, 0 or infinity in its place",
        relations: &[Relation::Refused],
        applies: |part| match part.data_type {
            DataType::Float32 => part.float().is_some_and(|number| (number as f32).is_infinite()),
            DataType::Decimal { .. } => part.text().is_some_and(|text| text.parse::<f64>().is_err()),
            _ => part.is_integer() && (part.text().as_deref() == Some("") || part.is_out_of_range()),
        },
    },
    Known {
        why: "an integer is one in whatever spelling: 5.0, 1e2, -0",
        relations: &[Relation::Taken],
        applies: |part| {
            part.is_integer()
                && part
                    .number()
                    .is_some_and(|token| token.contains(['.', 'e', 'E']) || token == "-0")
        },
    },
    Known {
        why: "-0 is an integer, and so 0; -0.0 is a double and keeps its sign",
        relations: &[Relation::Differs],
        applies: |part| {
            matches!(part.data_type, DataType::Float32 | DataType::Float64) && part.number() == Some("-0")
        },
    },
    Known {
        why: "a leading zero is octal to some readers of addresses and decimal to others, so it is an error",
        relations: &[Relation::Refused],
        applies: |part| {
            let zero_leads = |part: &str| part.len() > 1 && part.starts_with('0');
            matches!(part.data_type, DataType::Ipv4 | DataType::Ipv6)
                && part.text().is_some_and(|text| text.split('.').any(zero_leads))
        },
    },
    Known {
        why: "ClickHouse counts a decimal's digits before it looks at the exponent",
        relations: &[Relation::Taken],
        applies: |part| {
            matches!(part.data_type, DataType::Decimal { .. }) && part.number_or_text().contains(['e', 'E'])
        },
    },
    Known {
        why: "numbers are 64-bit integers or doubles once parsed: more digits are lost to a decimal, and an integer that \
              would lose some is an error; written as texts they are kept",
        relations: &[Relation::Differs, Relation::Refused],
        applies: |part| {
            let digits = |token: &str| token.bytes().filter(u8::is_ascii_digit).count();
            match part.data_type {
                DataType::Int128 | DataType::UInt128 => part.number().is_some_and(|token| digits(token) > 18),
                DataType::Decimal { .. } => part.number().is_some_and(|token| digits(token) > 15),
                _ => false,
            }
        },
    },
    Known {
        why: "and ClickHouse's JSON type refuses such an integer, where a double does",
        relations: &[Relation::Taken],
        applies: |part| {
            let is_beyond = |token: &str| {
                let number = token.parse::<f64>();
                number.is_ok_and(|number| {
                    number >= 1.8446744073709552e19 || number <= -9.223_372_036_854_776e18
                })
            };
            *part.data_type == DataType::Json && any_scalar(part.value, &is_beyond)
        },
    },
    Known {
        why: "\"true\" and \"0\" are booleans too: many loggers write all values as texts",
        relations: &[Relation::Taken],
        applies: |part| {
            let is_truth =
                |text: String| matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "0" | "1");
            *part.data_type == DataType::Bool && part.text().is_some_and(is_truth)
        },
    },
    Known {
        why: "what is no text becomes one anew: a number the shortest that reads back the same, an array or object JSON \
              without needless spaces and escapes",
        relations: &[Relation::Differs],
        applies: |part| {
            *part.data_type == DataType::String
                && (part.number().is_some() || matches!(part.value, Json::Array(_) | Json::Object(_)))
        },
    },
    Known {
        why: "a FixedString takes what is no text as a String does",
        relations: &[Relation::Taken],
        applies: |part| {
            matches!(part.data_type, DataType::FixedString(_))
                && part.text().is_none()
                && !part.value.is_null()
        },
    },
    Known {
        why: "null is the type's default, for an enum its lowest number; ClickHouse stores 0, in the enum or not",
        relations: &[Relation::Differs],
        applies: |part| {
            matches!(part.data_type, DataType::Enum8(_) | DataType::Enum16(_)) && part.value.is_null()
        },
    },
    Known {
        why: "an object under the name of a column that takes none is a group of keys, as in every log: `v.k` is a key of \
              its own",
        relations: &[Relation::Taken],
        applies: |part| {
            matches!(part.value, Json::Object(_))
                && !matches!(
                    part.data_type,
                    DataType::String | DataType::Map(..) | DataType::Tuple(_) | DataType::Json
                )
        },
    },
    Known {
        why: "a named tuple is taken from an array too, as an unnamed one",
        relations: &[Relation::Taken],
        applies: |part| match (part.data_type, part.value) {
            (DataType::Tuple(elements), Json::Array(_)) => elements[0].0.is_some(),
            _ => false,
        },
    },
    Known {
        why: "a number is a time by its magnitude, with or without a fraction: seconds since 1970 are that in every column",
        relations: &[Relation::Taken, Relation::Differs],
        applies: |part| part.is_time() && part.number().is_some(),
    },
    Known {
        why: "a time the column cannot hold is an error, and so is true; ClickHouse takes the nearest it can, or years \
              that servers before 26 cannot",
        relations: &[Relation::Refused],
        applies: |part| {
            let truth = matches!(part.value, Json::Scalar(token) if token == "true" || token == "false");
            part.is_time() && (truth || part.number().is_some() || part.is_far_year())
        },
    },
    Known {
        why: "days and hours that do not exist are errors, and so are times with parts missing or in words",
        relations: &[Relation::Refused],
        applies: |part| part.is_time() && part.text().is_some_and(|text| !is_usual_time(&text)),
    },
    Known {
        why: "decimal commas, leap seconds and epochs as texts are read too, and by a Date every form of a time",
        relations: &[Relation::Taken, Relation::Differs],
        applies: |part| {
            let is_date = matches!(part.data_type, DataType::Date | DataType::Date32);
            part.is_time()
                && part
                    .text()
                    .is_some_and(|text| !is_usual_time(&text) || (is_date && text.len() > 10))
        },
    },
    Known {
        why: "a time without offset is UTC, also where ClickHouse prints the column in another time zone",
        relations: &[Relation::Differs],
        applies: |part| {
            part.is_time()
                && part.zoned
                && part
                    .text()
                    .is_some_and(|text| is_usual_time(&text) && offset_of(&text).is_empty())
        },
    },
];

/// Type, value, and what becomes of it here and in ClickHouse.
#[rustfmt::skip]
pub const EXAMPLES: &[(&str, &str, Option<&str>, Option<&str>)] = &[
    ("Int8", "128", None, Some("-128")),
    ("Int8", "\"\"", None, Some("0")),
    ("UInt8", "5.0", Some("5"), None),
    ("UInt8", "-0", Some("0"), None),
    ("Int64", "18446744073709551616", None, Some("0")),
    ("Int128", "18446744073709551616", None, Some("18446744073709551616")),
    ("Float32", "1e39", None, Some("\"inf\"")),
    ("Float64", "-0", Some("0"), Some("-0")),
    ("IPv4", "\"01.2.3.4\"", None, Some("\"1.2.3.4\"")),
    ("JSON", "{\"a\":18446744073709551616}", Some("{\"a\":18446744073709552000}, \"[{'a':'Float64'}]\""), None),
    ("Bool", "\"True\"", Some("true"), None),
    ("Decimal(9, 4)", "\".\"", None, Some("0")),
    ("Decimal(9, 0)", "82663700197.5e-3", Some("82663700"), None),
    ("Decimal(38, 10)", "58949399311909.209", Some("58949399311909.21"), Some("58949399311909.209")),
    ("String", "1e3", Some("\"1000.0\""), Some("\"1e3\"")),
    ("String", "18446744073709551616", Some("\"1.8446744073709552e19\""), Some("\"18446744073709551616\"")),
    ("String", "[1, \"\\u0061\"]", Some(r#""[1,\"a\"]""#), Some(r#""[1, \"\\u0061\"]""#)),
    ("FixedString(3)", "12", Some("\"12\\u0000\""), None),
    ("Enum8('a' = -1, 'b' = 1)", "null", Some("-1"), Some("0")),
    ("UInt8", "{\"k\":1}", Some("0"), None),
    ("Tuple(a UInt8, b UInt8)", "[1,2]", Some("{\"a\":1,\"b\":2}"), None),
    ("DateTime", "1700468130123", Some("\"2023-11-20 08:15:30\""), Some("\"2106-02-07 06:28:15\"")),
    ("DateTime", "1700468130.5", Some("\"2023-11-20 08:15:30\""), None),
    ("DateTime", "\"2106-02-07T06:28:16Z\"", None, Some("\"2106-02-07 06:28:15\"")),
    ("DateTime", "\"2023-11-20 25:00:00\"", None, Some("\"2023-11-21 01:00:00\"")),
    ("DateTime", "\"2023-11-20 08:15:30,123\"", Some("\"2023-11-20 08:15:30\""), None),
    ("DateTime", "\"2016-12-31T23:59:60Z\"", Some("\"2016-12-31 23:59:59\""), Some("\"2017-01-01 00:00:00\"")),
    ("DateTime('Asia/Kolkata')", "\"2023-11-20 08:15:30\"", Some("\"2023-11-20 13:45:30\""), Some("\"2023-11-20 08:15:30\"")),
    ("DateTime64(3)", "1700468130", Some("\"2023-11-20 08:15:30.000\""), Some("\"1970-01-20 16:21:08.130\"")),
    ("DateTime64(3)", "\"2300-01-01T00:00:00Z\"", None, Some("\"2300-01-01 00:00:00.000\"")),
    ("Date", "\"2023-02-30\"", None, Some("\"2023-03-02\"")),
    ("Date", "\"2023-11-20T08:15:30Z\"", Some("\"2023-11-20\""), None),
    ("Date", "true", None, Some("\"1970-01-02\"")),
];

/// Whether `applies` holds for the value or a part of it.
pub fn any_part(part: Part<'_>, applies: fn(&Part<'_>) -> bool) -> bool {
    let below = |data_type, value| {
        any_part(
            Part {
                data_type,
                value,
                ..part
            },
            applies,
        )
    };
    if applies(&part) {
        return true;
    }
    match (part.data_type, part.value) {
        (DataType::Nullable(inner) | DataType::LowCardinality(inner), value) => below(inner, value),
        (DataType::Array(element), Json::Array(values)) => values.iter().any(|value| below(element, value)),
        (DataType::Map(key, element), Json::Object(members)) => members.iter().any(|(name, value)| {
            let name = Json::Scalar(name.clone());
            any_part(
                Part {
                    data_type: key,
                    value: &name,
                    ..part
                },
                applies,
            ) || below(element, value)
        }),
        (DataType::Tuple(elements), Json::Array(values)) => elements
            .iter()
            .zip(values)
            .any(|((_, element), value)| below(element, value)),
        (DataType::Tuple(elements), Json::Object(members)) => members.iter().any(|(name, value)| {
            elements
                .iter()
                .filter(|(element, _)| {
                    element
                        .as_ref()
                        .is_some_and(|element| format!("\"{element}\"") == *name)
                })
                .any(|(_, element)| below(element, value))
        }),
        _ => false,
    }
}

/// Whether `is` holds for a scalar's token anywhere in the value.
fn any_scalar(value: &Json, is: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Json::Scalar(token) => is(token),
        Json::Array(values) => values.iter().any(|value| any_scalar(value, is)),
        Json::Object(members) => members.iter().any(|(_, value)| any_scalar(value, is)),
    }
}

impl Part<'_> {
    fn number(&self) -> Option<&str> {
        self.value.number()
    }

    fn text(&self) -> Option<String> {
        self.value.text()
    }

    fn number_or_text(&self) -> String {
        self.text()
            .or_else(|| self.number().map(str::to_owned))
            .unwrap_or_default()
    }

    /// The finite number it stands for.
    fn float(&self) -> Option<f64> {
        self.number_or_text()
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
    }

    fn is_integer(&self) -> bool {
        self.range().is_some()
    }

    /// Bounds of an integer type; the greatest as i128, as far as that goes.
    fn range(&self) -> Option<(i128, i128)> {
        Some(match self.data_type {
            DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => (i64::MIN.into(), i64::MAX.into()),
            DataType::Int128 => (i128::MIN, i128::MAX),
            DataType::UInt8 => (0, u8::MAX.into()),
            DataType::UInt16 => (0, u16::MAX.into()),
            DataType::UInt32 => (0, u32::MAX.into()),
            DataType::UInt64 => (0, u64::MAX.into()),
            DataType::UInt128 => (0, i128::MAX),
            _ => return None,
        })
    }

    fn is_out_of_range(&self) -> bool {
        let (min, max) = self.range().expect("asked of integers only");
        let token = self.number_or_text();
        let is_number = token
            .trim_start_matches('-')
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            && !token.is_empty();
        is_number
            && match token.parse::<i128>() {
                Ok(number) => !(min..=max).contains(&number),
                Err(_) => *self.data_type != DataType::UInt128 || token.parse::<u128>().is_err(),
            }
    }

    fn is_time(&self) -> bool {
        self.data_type.is_time()
    }

    /// A year at or beyond the ends of the column's range.
    fn is_far_year(&self) -> bool {
        let (first, last) = match self.data_type {
            DataType::Date => (1970, 2149),
            DataType::DateTime => (1970, 2106),
            DataType::DateTime64 { precision: 9 } => (1900, 2262),
            _ => (1900, 2299),
        };
        let year = self.text().and_then(|text| text.get(..4)?.parse::<u32>().ok());
        year.is_some_and(|year| year <= first || year >= last)
    }
}

/// `YYYY-MM-DD` and `YYYY-MM-DD hh:mm:ss[.fraction][Z|+hh:mm]` (or `T`) of a day and second that exist.
fn is_usual_time(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse::<u32>().ok())?
    };
    let is = |at: usize, allowed: &str| text.get(at..at + 1).is_some_and(|c| allowed.contains(c));
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return false;
    };
    let leap_day = u32::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    let days = [31, 28 + leap_day, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let day_exists = (1..=12).contains(&month) && (1..=days[month as usize - 1]).contains(&day);
    if !day_exists || !is(4, "-") || !is(7, "-") {
        return false;
    }
    if text.len() == 10 {
        return true;
    }
    let (Some(hour), Some(minute), Some(second)) = (number(11..13), number(14..16), number(17..19)) else {
        return false;
    };
    let rest = &text[19..];
    let offset = offset_of(text);
    let fraction = &rest[..rest.len() - offset.len()];
    let fraction_fits = fraction.is_empty()
        || fraction.strip_prefix('.').is_some_and(|digits| {
            (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
    let offset_fits = matches!(
        offset.as_bytes(),
        [] | [b'Z']
            | [
                b'+' | b'-',
                b'0'..=b'1',
                b'0'..=b'9',
                b':',
                b'0'..=b'5',
                b'0'..=b'9'
            ]
    );
    is(10, " T")
        && is(13, ":")
        && is(16, ":")
        && hour < 24
        && minute < 60
        && second < 60
        && fraction_fits
        && offset_fits
}

/// What follows the seconds' fraction.
fn offset_of(text: &str) -> &str {
    let rest = text.get(19..).unwrap_or("");
    rest.find(['Z', '+', '-', ' ']).map_or("", |at| &rest[at..])
}

/// Whether two printed values are the same once the JSON within their texts is read.
pub fn same_when_read(left: &str, right: &str) -> bool {
    let read = |text: &str| serde_json::from_str(text).ok().map(unfold);
    read(left).is_some() && read(left) == read(right)
}

fn unfold(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(inner @ (Value::Array(_) | Value::Object(_) | Value::Number(_))) => unfold(inner),
            _ => Value::String(text),
        },
        // 1000.0 is 1000, and -0 is 0.
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(unfold).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key, unfold(value)))
            .collect(),
        other => other,
    }
}
