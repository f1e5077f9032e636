//! The time zone of clocks that do not say theirs.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// A zone: so many hours and minutes from UTC (`+02:00`), or by its name in the IANA database (`Europe/Berlin`), with the days on
/// which its clocks are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Zone {
    /// Seconds that clocks are ahead of UTC.
    Fixed(i32),
    /// By its name.
    Named(Tz),
}

/// The most that clocks anywhere were ever ahead of UTC or behind it: less than a day, as RFC 3339 has it.
const OFFSET_S_MAX: i32 = 24 * 3600;

impl Zone {
    /// The zone of clocks that are not asked for theirs.
    pub const UTC: Zone = Zone::Fixed(0);

    /// The time, in seconds since 1970, at which clocks show `local_s`, which is counted as if they showed UTC.
    ///
    /// What they show twice, when they are set back, is the one of the two that is nearer to `near_s`: logs are received soon after
    /// they are written. What they never show, when they are set forward, is that of a clock that was not.
    pub fn to_utc(self, local_s: i64, near_s: i64) -> i64 {
        match self {
            Zone::Fixed(offset_s) => local_s - i64::from(offset_s),
            Zone::Named(zone) => named_to_utc(zone, local_s, near_s),
        }
    }
}

fn named_to_utc(zone: Tz, local_s: i64, near_s: i64) -> i64 {
    // Beyond the years of chrono there is no zone to look up.
    let Some(local) = DateTime::from_timestamp(local_s, 0).map(|time| time.naive_utc()) else {
        return local_s;
    };
    let offsets = |local: &NaiveDateTime| {
        let found = zone.offset_from_local_datetime(local);
        found.map(|offset| i64::from(offset.fix().local_minus_utc()))
    };
    match offsets(&local) {
        LocalResult::Single(offset_s) => local_s - offset_s,
        LocalResult::Ambiguous(one, other) => {
            let times = [local_s - one, local_s - other];
            times
                .into_iter()
                .min_by_key(|time| time.abs_diff(near_s))
                .expect("there are two of them")
        }
        // Clocks are set forward by hours at most, and not on two days on end.
        LocalResult::None => {
            let before = local.checked_sub_signed(TimeDelta::days(1));
            let offset_s = before.and_then(|before| offsets(&before).latest());
            local_s - offset_s.unwrap_or(0)
        }
    }
}

impl Default for Zone {
    fn default() -> Zone {
        Zone::UTC
    }
}

impl FromStr for Zone {
    type Err = NoZone;

    fn from_str(text: &str) -> Result<Zone, NoZone> {
        let zone = match text.as_bytes() {
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let number = |tens: &u8, ones: &u8| {
                    let digit = |byte: &u8| char::from(*byte).to_digit(10).map(|digit| digit as i32);
                    Some(digit(tens)? * 10 + digit(ones)?)
                };
                let offset_s = number(h1, h2)
                    .zip(number(m1, m2).filter(|minutes| *minutes < 60))
                    .map(|(hours, minutes)| hours * 3600 + minutes * 60)
                    .filter(|offset_s| *offset_s < OFFSET_S_MAX);
                offset_s.map(|offset_s| Zone::Fixed(if *sign == b'-' { -offset_s } else { offset_s }))
            }
            _ => text.parse().ok().map(Zone::Named),
        };
        zone.ok_or_else(|| NoZone(text.to_owned()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Zone::Fixed(offset_s) => {
                let sign = if *offset_s < 0 { '-' } else { '+' };
                let minutes = offset_s.abs() / 60;
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
            Zone::Named(zone) => f.write_str(zone.name()),
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = NoZone;

    fn try_from(text: String) -> Result<Zone, NoZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.to_string()
    }
}

/// A text names no zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoZone(String);

impl fmt::Display for NoZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no time zone like Europe/Berlin, UTC or +02:00",
            self.0
        )
    }
}

impl std::error::Error for NoZone {}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> i64 {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S")
            .unwrap()
            .and_utc()
            .timestamp()
    }

    fn utc(zone: &str, local: &str, near: &str) -> String {
        let time = zone
            .parse::<Zone>()
            .unwrap()
            .to_utc(seconds(local), seconds(near));
        let time = DateTime::from_timestamp(time, 0).unwrap();
        time.format("%Y-%m-%d %H:%M:%S").to_string()
    }

    #[test]
    fn clocks_are_read_on_both_sides_of_a_change_and_within() {
        let near = "2023-06-01 00:00:00";
        for (zone, local, expected) in [
            ("+02:00", "2023-01-01 01:00:00", "2022-12-31 23:00:00"),
            ("-05:30", "2023-01-01 01:00:00", "2023-01-01 06:30:00"),
            ("UTC", "2023-01-01 01:00:00", "2023-01-01 01:00:00"),
            ("Asia/Kolkata", "2023-01-01 05:30:00", "2023-01-01 00:00:00"),
            ("Europe/Berlin", "2023-03-26 01:59:59", "2023-03-26 00:59:59"),
            // Clocks go from 02:00 to 03:00: one that was not set forward goes on.
            ("Europe/Berlin", "2023-03-26 02:30:00", "2023-03-26 01:30:00"),
            ("Europe/Berlin", "2023-03-26 03:00:00", "2023-03-26 01:00:00"),
            ("America/New_York", "2023-11-05 00:59:59", "2023-11-05 04:59:59"),
            ("America/New_York", "2023-11-05 02:00:00", "2023-11-05 07:00:00"),
        ] {
            assert_eq!(utc(zone, local, near), expected, "{zone} {local}");
        }
    }

    #[test]
    fn what_clocks_show_twice_is_the_time_nearer_to_the_receipt() {
        let local = "2023-10-29 02:30:00";
        for (near, expected) in [
            ("2023-10-29 00:30:01", "2023-10-29 00:30:00"),
            ("2023-10-29 01:30:01", "2023-10-29 01:30:00"),
            ("2023-10-29 09:00:00", "2023-10-29 01:30:00"),
        ] {
            assert_eq!(utc("Europe/Berlin", local, near), expected, "{near}");
        }
    }

    #[test]
    fn accepts_offsets_and_names_and_nothing_else() {
        for text in ["+00:00", "-12:00", "+05:45", "Europe/Berlin", "UTC", "Etc/GMT+3"] {
            assert_eq!(text.parse::<Zone>().unwrap().to_string(), text);
        }
        for text in [
            "", "CEST", "Berlin", "+2", "+02", "+0200", "+24:00", "+02:60", "02:00", "+0a:00",
        ] {
            assert!(text.parse::<Zone>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_are_no_panic() {
        for zone in ["+23:59", "-23:59", "America/New_York"] {
            let zone: Zone = zone.parse().unwrap();
            for local_s in [i64::MIN / 2, -1, i64::MAX / 2] {
                zone.to_utc(local_s, 0);
            }
        }
    }
}
