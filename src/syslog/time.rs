//! Reads the times of RFC 3164, which have no year, no zone, and in practice some of each.

use crate::timestamp::{self, DateCache, UnixTime};
use crate::zone::Zone;

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// A sender's clock, or its time zone, may be so far ahead.
const AHEAD_S: i64 = 86_400;

/// Years back to look for a 29 February: from 1897 to 1904 there was none in eight.
const YEARS_BACK: i64 = 8;

/// The time that `text` starts with, in `zone` where it names none, and what follows it and a space or its end.
///
/// `Mmm dd hh:mm:ss`, with a year before the hour or a fraction behind the second as some send it; the day has two digits, or a space
/// and one. Without a year it is the latest one that does not put the time more than a day after `now_s`. Or the time of RFC
/// 3339 that rsyslog's forwarding template has there.
pub(super) fn parse<'b>(
    text: &'b str,
    now_s: i64,
    zone: Zone,
    cache: &mut DateCache,
) -> Option<(UnixTime, &'b str)> {
    let bytes = text.as_bytes();
    let of_zone = |time: UnixTime| UnixTime {
        seconds: zone.to_utc(time.seconds, now_s),
        ..time
    };
    if bytes.get(4) == Some(&b'-') {
        let (written, rest) = split(text);
        if written.len() < 19 {
            return None;
        }
        let time = timestamp::parse(written.as_bytes(), cache)?;
        // RFC 3339 has a zone; some write the time of day alone.
        let names_zone = written.as_bytes()[19..].iter().any(|byte| b"Zz+-".contains(byte));
        return Some((if names_zone { time } else { of_zone(time) }, rest));
    }
    let month = MONTHS.iter().position(|month| bytes.starts_with(*month))?;
    let (day, rest) = match bytes[3..] {
        [b' ', b' ', day, b' ', ..] => ([b'0', day], &text[7..]),
        [b' ', tens, day, b' ', ..] => ([tens, day], &text[7..]),
        // Some write no more digits than there are.
        [b' ', day, b' ', ..] => ([b'0', day], &text[6..]),
        _ => return None,
    };
    let (year, rest) = match rest.as_bytes() {
        [a, b, c, d, b' ', ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()) => {
            (Some([*a, *b, *c, *d]), &rest[5..])
        }
        _ => (None, rest),
    };
    let (time, rest) = split(rest);
    // `hh:mm:ss`, a fraction, and the colon some put behind it.
    let time = time.strip_suffix(':').unwrap_or(time).as_bytes();
    if time.len() < 8 || time.len() > 18 || (time.len() > 8 && time[8] != b'.') {
        return None;
    }
    let month = month as u8 + 1;
    let mut read = |year: [u8; 4]| {
        let mut written = [0; 11 + 18];
        written[..4].copy_from_slice(&year);
        written[4..11].copy_from_slice(&[
            b'-',
            b'0' + month / 10,
            b'0' + month % 10,
            b'-',
            day[0],
            day[1],
            b'T',
        ]);
        let len = 11 + time.len();
        written[11..len].copy_from_slice(time);
        timestamp::parse(&written[..len], cache).map(of_zone)
    };
    if let Some(year) = year {
        return Some((read(year)?, rest));
    }
    let (this_year, _) = timestamp::year_and_month(now_s.div_euclid(86_400));
    // A year that cannot be is no year of a 29 February, or it is no time at all.
    let time = (0..=YEARS_BACK + 1)
        .filter_map(|back| read(four_digits(this_year + 1 - back)?))
        .find(|time| time.seconds <= now_s + AHEAD_S)?;
    Some((time, rest))
}

fn four_digits(year: i64) -> Option<[u8; 4]> {
    let year = u16::try_from(year).ok().filter(|year| *year < 10_000)?;
    Some([1000, 100, 10, 1].map(|power| b'0' + (year / power % 10) as u8))
}

/// Up to the first space, and what is behind that.
fn split(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}
