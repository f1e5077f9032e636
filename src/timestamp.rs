//! Turns the times that logs carry into ClickHouse's ticks, without a clock and without allocating.
//!
//! Forms, told apart by their bytes:
//!
//! | form | read as |
//! |---|---|
//! | `2023-11-20T08:15:30[.fraction][offset]` | RFC 3339; `T`, `t` or one space between date and time |
//! | `2023-11-20 08:15:30,123` | the same, with the decimal comma of Java and Python logs |
//! | `2023-11-20`, `"20231120"` | midnight |
//! | `1700468130`, `"1700468130"`, `1700468130.25` | since 1970, the unit told by the magnitude |
//!
//! * A fraction has 1 or more digits; those after the ninth are read and dropped.
//! * An offset is `Z`, `z`, `UTC`, `+hh:mm`, `+hhmm` or `+hh` up to 23:59, after at most one space. Without one the time is
//!   UTC: a column's time zone is how ClickHouse prints it, and this program has no time zone tables.
//! * Second 60 is taken as a leap second in minute 59 only and becomes the last nanosecond of second 59, so that the order
//!   of events stays as it was. Hour 24 is rejected.
//! * An epoch number below 10^11 in magnitude is seconds (until the year 5138), below 10^14 milliseconds (from March 1973 on),
//!   below 10^17 microseconds, else nanoseconds.
//! * A float counts as its shortest decimal form: `1700468130.123` is 123 ms and not 123.000144 ms.

use crate::digits::{eight_digits, leading_digits};
use crate::schema::DataType;

/// A point in time: `seconds` since 1970 and `nanos` after them (also before 1970), below 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime {
    /// Whole seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

/// The date and the minute last seen: nearly all rows of a chunk carry the same ones.
#[derive(Debug, Clone, Copy)]
pub struct DateCache {
    prefix: [u8; 10],
    days: i64,
    /// `YYYY-MM-DDThh:mm`, checked.
    minute_prefix: [u8; 16],
    /// Seconds since 1970 at which it began.
    minute_seconds: i64,
    minute: u8,
}

impl Default for DateCache {
    fn default() -> Self {
        DateCache {
            prefix: *b"1970-01-01",
            days: 0,
            minute_prefix: *b"1970-01-01T00:00",
            minute_seconds: 0,
            minute: 0,
        }
    }
}

/// What one tick of a time column counts and how far it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// `Date`: days, 1970-01-01 to 2149-06-06.
    Days16,
    /// `Date32`: days, 1900-01-01 to 2299-12-31.
    Days32,
    /// `DateTime`: seconds, 1970-01-01 to 2106-02-07T06:28:15.
    Seconds32,
    /// `DateTime64(P)`: 10^-P seconds, 1900-01-01 to 2299-12-31, or to 2262-04-11 for P = 9, where 64 bits end.
    Ticks64(u8),
}

const SECONDS_PER_DAY: i64 = 86_400;
/// 1900-01-01, where ClickHouse's Date32 and DateTime64 begin.
const DAY_MIN: i64 = -25_567;
/// 2299-12-31, where they end.
const DAY_MAX: i64 = 120_529;

impl TimeUnit {
    /// The unit of a time column; `None` for a column of another type.
    pub fn of(data_type: &DataType) -> Option<TimeUnit> {
        match data_type {
            DataType::Date => Some(TimeUnit::Days16),
            DataType::Date32 => Some(TimeUnit::Days32),
            DataType::DateTime => Some(TimeUnit::Seconds32),
            DataType::DateTime64 { precision } => Some(TimeUnit::Ticks64(*precision)),
            _ => None,
        }
    }

    /// A tick's time as days since 1970 and seconds of that day.
    pub fn day_and_second(self, ticks: i64) -> (i64, i64) {
        let seconds = match self {
            TimeUnit::Days16 | TimeUnit::Days32 => return (ticks, 0),
            TimeUnit::Seconds32 => ticks,
            TimeUnit::Ticks64(precision) => ticks.div_euclid(10_i64.pow(u32::from(precision))),
        };
        (
            seconds.div_euclid(SECONDS_PER_DAY),
            seconds.rem_euclid(SECONDS_PER_DAY),
        )
    }
}

impl UnixTime {
    /// The midnight that begins `day`, counted from 1970.
    pub fn from_day(day: i64) -> UnixTime {
        UnixTime {
            seconds: day * SECONDS_PER_DAY,
            nanos: 0,
        }
    }

    /// The time `nanoseconds` after 1970.
    pub fn from_nanos(nanoseconds: i64) -> UnixTime {
        UnixTime {
            seconds: nanoseconds.div_euclid(1_000_000_000),
            nanos: nanoseconds.rem_euclid(1_000_000_000) as u32,
        }
    }

    /// An epoch number, its unit told by its magnitude.
    #[inline]
    pub fn from_epoch(value: i64) -> UnixTime {
        let (per_second, nanos_each) = match value.unsigned_abs() {
            0..100_000_000_000 => {
                return UnixTime {
                    seconds: value,
                    nanos: 0,
                };
            }
            100_000_000_000..100_000_000_000_000 => (1_000, 1_000_000),
            100_000_000_000_000..100_000_000_000_000_000 => (1_000_000, 1_000),
            _ => (1_000_000_000, 1),
        };
        UnixTime {
            seconds: value.div_euclid(per_second),
            nanos: (value.rem_euclid(per_second) * nanos_each) as u32,
        }
    }

    /// An epoch number with a fraction; `None` when it is not finite or beyond 64 bits of nanoseconds.
    pub fn from_float(value: f64) -> Option<UnixTime> {
        let magnitude = value.abs();
        // From 2^53 on a float has no fraction, and short of 2^63 it fits an integer. NaN fails both.
        if (9_007_199_254_740_992.0..9.2e18).contains(&magnitude) {
            return Some(UnixTime::from_epoch(value as i64));
        }
        if magnitude < 1e-4 {
            // Printed with an exponent; all it holds is nanoseconds.
            return Some(UnixTime::from_nanos((value * 1e9).floor() as i64));
        }
        if magnitude >= 9.2e18 || magnitude.is_nan() {
            return None;
        }
        let mut buffer = ryu::Buffer::new();
        parse_decimal(buffer.format_finite(value).as_bytes())
    }

    /// The time in ticks of a column, rounded down; `None` outside of what the column's type holds.
    #[inline]
    pub fn ticks(self, unit: TimeUnit) -> Option<i64> {
        match unit {
            TimeUnit::Ticks64(precision) => {
                const MIN: i64 = DAY_MIN * SECONDS_PER_DAY;
                const MAX: i64 = (DAY_MAX + 1) * SECONDS_PER_DAY - 1;
                if !(MIN..=MAX).contains(&self.seconds) {
                    return None;
                }
                let per_second = POWERS_OF_TEN[usize::from(precision)];
                let nanos_each = POWERS_OF_TEN[9 - usize::from(precision)];
                self.seconds
                    .checked_mul(per_second)?
                    .checked_add(i64::from(self.nanos) / nanos_each)
            }
            TimeUnit::Seconds32 => (0..=i64::from(u32::MAX))
                .contains(&self.seconds)
                .then_some(self.seconds),
            TimeUnit::Days16 => {
                let day = self.seconds.div_euclid(SECONDS_PER_DAY);
                (0..=i64::from(u16::MAX)).contains(&day).then_some(day)
            }
            TimeUnit::Days32 => {
                let day = self.seconds.div_euclid(SECONDS_PER_DAY);
                (DAY_MIN..=DAY_MAX).contains(&day).then_some(day)
            }
        }
    }
}

const POWERS_OF_TEN: [i64; 10] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// Reads a time in any of the forms above; `None` when it is in none of them.
#[inline]
pub fn parse(text: &[u8], cache: &mut DateCache) -> Option<UnixTime> {
    if text.len() >= 10 && text[4] == b'-' {
        parse_calendar(text, cache)
    } else if let Some(date) = text.as_array::<8>() {
        parse_compact_date(date)
    } else {
        parse_decimal(text)
    }
}

/// `YYYYMMDD`. As seconds, eight digits would be a time before March 1973, which nobody logs.
fn parse_compact_date(text: &[u8; 8]) -> Option<UnixTime> {
    let [y1, y2, y3, y4, m1, m2, d1, d2] = *text;
    match parse_date(&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]) {
        Some(day) => Some(UnixTime::from_day(day)),
        None if text.iter().all(u8::is_ascii_digit) => None,
        None => parse_decimal(text),
    }
}

/// `text` has at least 10 bytes.
#[inline]
fn parse_calendar(text: &[u8], cache: &mut DateCache) -> Option<UnixTime> {
    if let Some((minute, [b':', s1, s2, rest @ ..])) = text.split_first_chunk::<16>()
        && *minute == cache.minute_prefix
    {
        if let [b'.', m1, m2, m3, b'Z'] = rest {
            // Milliseconds in UTC: what most producers write. Six digits, led by two zeros.
            let digits =
                u64::from_le_bytes([b'0', b'0', *s1, *s2, *m1, *m2, *m3, b'0']) ^ 0x3030_3030_3030_3030;
            if leading_digits(digits) == 8 {
                let number = eight_digits(digits);
                let second = number / 10_000;
                if second < 60 {
                    return Some(UnixTime {
                        seconds: cache.minute_seconds + second as i64,
                        nanos: (number % 10_000) as u32 * 100_000,
                    });
                }
            }
        }
        let second = two_digits(*s1, *s2)?;
        return parse_second(text, cache.minute_seconds, i64::from(cache.minute), second, rest);
    }
    let (date, rest) = text.split_first_chunk::<10>()?;
    if *date != cache.prefix {
        let days = parse_date(date)?;
        cache.prefix = *date;
        cache.days = days;
    }
    let midnight = cache.days * SECONDS_PER_DAY;
    // `Thh:mm:ss`
    let Some((time, rest)) = rest.split_first_chunk::<9>() else {
        return rest.is_empty().then_some(UnixTime {
            seconds: midnight,
            nanos: 0,
        });
    };
    if !matches!(time[0], b'T' | b't' | b' ') || time[3] != b':' || time[6] != b':' {
        return None;
    }
    let hour = two_digits(time[1], time[2])?;
    let minute = two_digits(time[4], time[5])?;
    let second = two_digits(time[7], time[8])?;
    if hour > 23 || minute > 59 {
        return None;
    }
    let minute_seconds = midnight + hour * 3600 + minute * 60;
    cache.minute_prefix = *text.first_chunk()?;
    cache.minute_seconds = minute_seconds;
    cache.minute = minute as u8;
    parse_second(text, minute_seconds, minute, second, rest)
}

/// What is left of `text` behind its seconds, within the minute that begins at `minute_seconds`.
#[inline]
fn parse_second(
    text: &[u8],
    minute_seconds: i64,
    minute: i64,
    mut second: i64,
    rest: &[u8],
) -> Option<UnixTime> {
    if second > 60 {
        return None;
    }
    let (mut nanos, rest) = match rest.first() {
        Some(b'.' | b',') => parse_fraction(text, text.len() - rest.len() + 1)?,
        _ => (0, rest),
    };
    if second == 60 {
        if minute != 59 {
            return None;
        }
        second = 59;
        nanos = 999_999_999;
    }
    let offset = match rest {
        b"Z" => 0,
        _ => parse_offset(rest)?,
    };
    Some(UnixTime {
        seconds: minute_seconds + second - offset,
        nanos,
    })
}

/// Days since 1970 of `YYYY-MM-DD`.
fn parse_date(date: &[u8; 10]) -> Option<i64> {
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let year = two_digits(date[0], date[1])? * 100 + two_digits(date[2], date[3])?;
    let month = two_digits(date[5], date[6])?;
    let day = two_digits(date[8], date[9])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => return None,
    };
    if day < 1 || day > days_in_month {
        return None;
    }
    // Years that begin in March have their leap day last: days before month m (March = 0) are (153 m + 2) / 5.
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year and month (1 to 12) of a day since 1970.
pub fn year_and_month(day: i64) -> (i64, i64) {
    let (year, month, _) = year_month_day(day);
    (year, month)
}

/// Year, month (1 to 12) and day of the month of a day since 1970: the other direction of `parse_date`.
pub fn year_month_day(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = (shifted_month + 2) % 12 + 1;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    (
        year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day_of_month,
    )
}

/// The digits from `at` on as nanoseconds, and what follows them. `text` has at least 20 bytes.
#[inline]
fn parse_fraction(text: &[u8], at: usize) -> Option<(u32, &[u8])> {
    let tail = &text[at..];
    // Eight bytes at once: the last eight of the text, moved so that the first digit comes first. Zeros fill the rest.
    let word = match tail.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => u64::from_le_bytes(*text.last_chunk::<8>()?) >> (8 * (8 - tail.len()).min(7)),
    };
    if tail.is_empty() {
        return None;
    }
    let digits = word ^ 0x3030_3030_3030_3030;
    let count = leading_digits(digits);
    if count == 0 {
        return None;
    }
    // The digits end in the highest byte, zeros lead: "123" reads as 00000123.
    let value = eight_digits(digits << (8 * (8 - count)));
    let mut nanos = value * POWERS_OF_TEN[9 - count] as u64;
    let mut rest = &tail[count..];
    if count == 8 {
        if let [digit @ b'0'..=b'9', after @ ..] = rest {
            nanos += u64::from(digit - b'0');
            rest = after;
        }
        while let [b'0'..=b'9', after @ ..] = rest {
            rest = after;
        }
    }
    Some((nanos as u32, rest))
}

/// Seconds east of UTC.
fn parse_offset(text: &[u8]) -> Option<i64> {
    let text = match text {
        [b' ', rest @ ..] if !rest.is_empty() => rest,
        _ => text,
    };
    let (sign, hours, minutes) = match *text {
        [] | [b'Z' | b'z'] | [b'U', b'T', b'C'] => return Some(0),
        [sign, h1, h2] => (sign, two_digits(h1, h2)?, 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => {
            (sign, two_digits(h1, h2)?, two_digits(m1, m2)?)
        }
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// `-123.456`: the unit told by the magnitude of the whole part, the fraction in that unit.
fn parse_decimal(text: &[u8]) -> Option<UnixTime> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let whole_digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole_digits == 0 || whole_digits > 19 {
        return None;
    }
    let (whole, rest) = text.split_at(whole_digits);
    let whole: i64 = whole.iter().try_fold(0i64, |value, byte| {
        value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))
    })?;
    let mut time = UnixTime::from_epoch(whole);
    match rest {
        [] => {}
        [b'.', fraction @ ..] if !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit) => {
            // Nanoseconds in one unit of the whole part.
            let mut weight = match whole {
                0..100_000_000_000 => 1_000_000_000,
                100_000_000_000..100_000_000_000_000 => 1_000_000,
                100_000_000_000_000..100_000_000_000_000_000 => 1_000,
                _ => 1,
            };
            for digit in fraction {
                weight /= 10;
                time.nanos += u32::from(digit - b'0') * weight;
            }
        }
        _ => return None,
    }
    if negative {
        time = match time.nanos {
            0 => UnixTime {
                seconds: -time.seconds,
                nanos: 0,
            },
            nanos => UnixTime {
                seconds: -time.seconds - 1,
                nanos: 1_000_000_000 - nanos,
            },
        };
    }
    Some(time)
}

#[inline]
fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i64::from(tens) * 10 + i64::from(ones))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<UnixTime> {
        parse(text.as_bytes(), &mut DateCache::default())
    }

    fn at(seconds: i64, nanos: u32) -> Option<UnixTime> {
        Some(UnixTime { seconds, nanos })
    }

    /// Days since 1970 by counting every year and month: slow and plain.
    fn days_by_counting(year: i64, month: i64, day: i64) -> i64 {
        let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let mut days = 0;
        for y in 1970..year {
            days += if leap(y) { 366 } else { 365 };
        }
        for y in year..1970 {
            days -= if leap(y) { 366 } else { 365 };
        }
        let lengths = [
            31,
            if leap(year) { 29 } else { 28 },
            31,
            30,
            31,
            30,
            31,
            31,
            30,
            31,
            30,
            31,
        ];
        days + lengths[..month as usize - 1].iter().sum::<i64>() + day - 1
    }

    #[test]
    fn every_day_of_ten_thousand_years_is_read_as_counted() {
        let mut expected = days_by_counting(0, 1, 1);
        let mut accepted = 0;
        for year in 0..=9999 {
            for month in 0..=13 {
                for day in 0..=32 {
                    let text = format!("{year:04}-{month:02}-{day:02}");
                    if let Some(time) = read(&text) {
                        assert_eq!(
                            time,
                            UnixTime {
                                seconds: expected * 86_400,
                                nanos: 0
                            },
                            "{text}"
                        );
                        assert_eq!(year_month_day(expected), (year, month, day), "{text}");
                        expected += 1;
                        accepted += 1;
                    }
                }
            }
        }
        assert_eq!(
            accepted,
            days_by_counting(10_000, 1, 1) - days_by_counting(0, 1, 1)
        );
    }

    proptest! {
        #[test]
        fn calendar_times_agree_with_counting(
            (year, month, day) in (0i64..=9999, 1i64..=12, 1i64..=28),
            (hour, minute, second) in (0i64..24, 0i64..60, 0i64..60),
            fraction in "([.,][0-9]{1,14})?",
            offset in prop_oneof![
                Just((String::new(), 0)), Just(("Z".into(), 0)), Just((" UTC".into(), 0)), Just((" Z".into(), 0)),
                (prop::bool::ANY, 0i64..24, 0i64..60, 0usize..4).prop_map(|(east, h, m, form)| {
                    let sign = if east { 1 } else { -1 };
                    let c = if east { '+' } else { '-' };
                    match form {
                        0 => (format!("{c}{h:02}:{m:02}"), sign * (h * 3600 + m * 60)),
                        1 => (format!("{c}{h:02}{m:02}"), sign * (h * 3600 + m * 60)),
                        2 => (format!(" {c}{h:02}{m:02}"), sign * (h * 3600 + m * 60)),
                        _ => (format!("{c}{h:02}"), sign * h * 3600),
                    }
                }),
            ],
            separator in "[Tt ]",
        ) {
            let text =
                format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{}", offset.0);
            let digits: String = fraction.chars().skip(1).chain("000000000".chars()).take(9).collect();
            let expected = UnixTime {
                seconds: days_by_counting(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset.1,
                nanos: digits.parse().unwrap(),
            };
            prop_assert_eq!(read(&text), Some(expected), "{}", text);
            // Every prefix is answered; a prefix of a time may be a time.
            for end in 0..text.len() {
                let _ = read(&text[..end]);
            }
            // A byte that no form has makes it no time.
            prop_assert_eq!(read(&format!("{text}x")), None);
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes, &mut DateCache::default());
        }

        #[test]
        fn bytes_near_a_time_are_answered_the_same_with_any_cache(
            position in 0usize..30, byte in any::<u8>(), warm in prop::bool::ANY,
        ) {
            let mut text = *b"2023-11-20T08:15:30.123456789Z";
            let mut cache = DateCache::default();
            if warm {
                parse(&text, &mut cache);
            }
            text[position] = byte;
            let found = parse(&text, &mut cache);
            prop_assert_eq!(found, parse(&text, &mut DateCache::default()));
        }

        #[test]
        fn epochs_keep_every_digit(seconds in -99_999_999_999i64..100_000_000_000, nanos in 0u32..1_000_000_000) {
            prop_assert_eq!(UnixTime::from_epoch(seconds), UnixTime { seconds, nanos: 0 });
            // Eight digits are a date, as in ClickHouse.
            if !(10_000_000..100_000_000).contains(&seconds) {
                prop_assert_eq!(read(&seconds.to_string()), at(seconds, 0));
            }
            if seconds > 100_000_000 && seconds < 9_000_000_000 {
                for (per_second, nanos_each) in [(1_000i64, 1_000_000u32), (1_000_000, 1_000), (1_000_000_000, 1)] {
                    let value = seconds * per_second + i64::from(nanos / nanos_each);
                    let expected = UnixTime { seconds, nanos: nanos / nanos_each * nanos_each };
                    prop_assert_eq!(UnixTime::from_epoch(value), expected);
                    prop_assert_eq!(read(&value.to_string()), Some(expected));
                }
            }
            if seconds >= 0 {
                prop_assert_eq!(read(&format!("{seconds}.{nanos:09}")), at(seconds, nanos));
                let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
                let expected = UnixTime {
                    seconds: (-total).div_euclid(1_000_000_000) as i64,
                    nanos: (-total).rem_euclid(1_000_000_000) as u32,
                };
                prop_assert_eq!(read(&format!("-{seconds}.{nanos:09}")), Some(expected));
            }
        }

        #[test]
        fn floats_mean_their_shortest_decimal_form(millis in 1_000_000_000_000i64..4_000_000_000_000) {
            let text = format!("{}.{:03}", millis / 1000, millis % 1000);
            let float: f64 = text.parse().unwrap();
            prop_assert_eq!(UnixTime::from_float(float), Some(UnixTime::from_epoch(millis)));
            prop_assert_eq!(UnixTime::from_float(millis as f64), Some(UnixTime::from_epoch(millis)));
        }

        #[test]
        fn any_float_is_answered(bits in any::<u64>()) {
            let _ = UnixTime::from_float(f64::from_bits(bits));
        }

        #[test]
        fn ticks_round_down_and_keep_to_the_range(
            seconds in -10_000_000_000i64..20_000_000_000, nanos in 0u32..1_000_000_000, precision in 0u8..=9,
        ) {
            let time = UnixTime { seconds, nanos };
            let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            let ticks = total.div_euclid(10i128.pow(9 - u32::from(precision)));
            let in_range = (-2_208_988_800..=10_413_791_999).contains(&seconds);
            let expected = i64::try_from(ticks).ok().filter(|_| in_range);
            prop_assert_eq!(time.ticks(TimeUnit::Ticks64(precision)), expected);
            prop_assert_eq!(time.ticks(TimeUnit::Seconds32), u32::try_from(seconds).ok().map(i64::from));
            let day = seconds.div_euclid(86_400);
            prop_assert_eq!(time.ticks(TimeUnit::Days16), u16::try_from(day).ok().map(i64::from));
            prop_assert_eq!(time.ticks(TimeUnit::Days32), Some(day).filter(|_| in_range));
        }
    }

    #[test]
    fn reads_the_forms_logs_come_in() {
        for (text, seconds, nanos) in [
            ("2023-11-20T08:15:30Z", 1_700_468_130, 0),
            ("2023-11-20t08:15:30z", 1_700_468_130, 0),
            ("2023-11-20 08:15:30", 1_700_468_130, 0),
            ("2023-11-20T08:15:30.5", 1_700_468_130, 500_000_000),
            ("2023-11-20T08:15:30,123", 1_700_468_130, 123_000_000),
            (
                "2023-11-20T08:15:30.123456789123+01:00",
                1_700_464_530,
                123_456_789,
            ),
            ("2023-11-20 08:15:30.000001 +0000", 1_700_468_130, 1_000),
            ("2023-11-20", 1_700_438_400, 0),
            ("20231120", 1_700_438_400, 0),
            ("12345.67", 12_345, 670_000_000),
            ("1700468130", 1_700_468_130, 0),
            ("1700468130123", 1_700_468_130, 123_000_000),
            ("1700468130123456", 1_700_468_130, 123_456_000),
            ("1700468130123456789", 1_700_468_130, 123_456_789),
            ("1700468130.25", 1_700_468_130, 250_000_000),
            ("1700468130123.5", 1_700_468_130, 123_500_000),
            ("0", 0, 0),
            ("1969-12-31T23:59:59.5Z", -1, 500_000_000),
            ("-0.5", -1, 500_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799, 999_999_999),
            ("2016-12-31T23:59:60.7Z", 1_483_228_799, 999_999_999),
            ("2024-02-29", 1_709_164_800, 0),
        ] {
            assert_eq!(read(text), at(seconds, nanos), "{text}");
        }
        assert_eq!(
            UnixTime::from_float(1_700_468_130.123),
            at(1_700_468_130, 123_000_000)
        );
        assert_eq!(
            UnixTime::from_float(1.700468130123456e15),
            at(1_700_468_130, 123_456_000)
        );
        assert_eq!(UnixTime::from_float(-0.5), at(-1, 500_000_000));
        assert_eq!(UnixTime::from_float(2.5e-8), at(0, 25));
        assert_eq!(UnixTime::from_float(0.0), at(0, 0));
    }

    #[test]
    fn rejects_what_is_no_time() {
        for text in [
            "",
            "-",
            "now",
            "2023",
            "2023-1-2T00:00:00",
            "2023-11-20T",
            "2023-11-20T08",
            "2023-11-20T08:15",
            "2023-11-20T08:15:30.",
            "2023-11-20T08:15:30.Z",
            "2023-11-20T08:15:30ZZ",
            "2023-11-20T08:15:30+24:00",
            "2023-11-20T08:15:30+01:60",
            "2023-11-20T08:15:30 ",
            "2023-11-20T08:15:30+1",
            "2023-11-20T24:00:00Z",
            "2023-11-20T08:60:00Z",
            "2023-11-20T08:15:61Z",
            "2023-11-20T08:15:60Z",
            "2023-02-29",
            "20230229",
            "1900-02-29",
            "2023-04-31",
            "2023-00-01",
            "2023-13-01",
            "2023-01-00",
            "2023/11/20 08:15:30",
            "12345678901234567890",
            "1.2.3",
            "1.",
            ".5",
            "1e9",
            "--1",
            "20a3-11-20",
        ] {
            // "2023" alone is an epoch: 33 minutes after midnight of 1970-01-01.
            let expected = if text == "2023" { at(2023, 0) } else { None };
            assert_eq!(read(text), expected, "{text}");
        }
        for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e19, -1e300] {
            assert_eq!(UnixTime::from_float(float), None, "{float}");
        }
    }

    #[test]
    fn ticks_know_their_day() {
        assert_eq!(TimeUnit::Ticks64(9).day_and_second(-1), (-1, 86_399));
        assert_eq!(TimeUnit::Ticks64(3).day_and_second(86_400_000), (1, 0));
        assert_eq!(TimeUnit::Seconds32.day_and_second(86_401), (1, 1));
        assert_eq!(TimeUnit::Days32.day_and_second(-3), (-3, 0));
    }
}
