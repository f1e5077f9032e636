//! Turns the level a program wrote, a word or a number, into an OpenTelemetry severity number (1 to 24).
//!
//! The scale is the OpenTelemetry logs data model's: TRACE 1-4, DEBUG 5-8, INFO 9-12, WARN 13-16,
//! ERROR 17-20, FATAL 21-24; 0 is "not specified". Foreign scales are placed as its appendix B does.

/// The severity number of a level word in any case, `None` for a word of no known scale.
///
/// Knows OpenTelemetry's own names (`info`, `ERROR2`), syslog's (`emerg` ... `debug`), those of java.util.logging,
/// log4j, pino, bunyan, zap, Python, .NET, and glog's single letters; a word of digits counts as
/// [`number_of_int`]. Spaces after the word are ignored.
///
/// `crit` is syslog's and means ERROR2; `critical` is Python's and .NET's name of their highest level, FATAL.
#[inline]
pub fn number_of_word(word: &[u8]) -> Option<u8> {
    match word.len() {
        0 => None,
        1..=8 => number_of_short(word),
        9..=16 => number_of_long(word),
        _ => None,
    }
}

/// The severity number of a numeric level: syslog's 0 (emergency) to 7 (debug), or pino's and bunyan's 10 (trace)
/// to 60 (fatal) with what lies between counted down; 0 for a number of neither scale.
#[inline]
pub fn number_of_int(level: i64) -> u8 {
    match level {
        0 => 21,
        1 => 19,
        2 => 18,
        3 => 17,
        4 => 13,
        5 => 10,
        6 => 9,
        7 => 5,
        10..=19 => 1,
        20..=29 => 5,
        30..=39 => 9,
        40..=49 => 13,
        50..=59 => 17,
        60.. => 21,
        _ => 0,
    }
}

/// What the scale of [`number_of_int`] calls a numeric level; empty for a number of neither scale.
#[inline]
pub fn name_of_int(level: i64) -> &'static str {
    match level {
        0 => "emerg",
        1 => "alert",
        2 => "crit",
        3 => "err",
        4 => "warning",
        5 => "notice",
        6 => "info",
        7 => "debug",
        10..=19 => "trace",
        20..=29 => "debug",
        30..=39 => "info",
        40..=49 => "warn",
        50..=59 => "error",
        60.. => "fatal",
        _ => "",
    }
}

/// Setting bit 5 of every byte folds A-Z to a-z, and makes the zeros behind a short word the spaces that the
/// constants of [`short`] and [`long`] end in. Only a letter folds to a letter, so no other byte can fake a word.
const FOLD: u128 = 0x2020_2020_2020_2020_2020_2020_2020_2020;

/// Up to eight letters as one number, as [`number_of_short`] sees them.
const fn short(word: &[u8]) -> u64 {
    long(word) as u64
}

/// Up to sixteen letters as one number, as [`number_of_long`] sees them.
const fn long(word: &[u8]) -> u128 {
    let mut bytes = [0_u8; 16];
    let mut i = 0;
    while i < word.len() {
        bytes[i] = word[i];
        i += 1;
    }
    u128::from_le_bytes(bytes) | FOLD
}

/// `const` items for words, because a pattern must be one.
macro_rules! words {
    ($fold:ident, $value:expr, $($($word:literal)|+ => $number:expr),+ $(,)?) => {
        match $value {
            $($(x if x == const { $fold($word) } => Some($number),)+)+
            _ => None,
        }
    };
}

#[inline]
fn number_of_short(word: &[u8]) -> Option<u8> {
    let folded = load_short(word) | FOLD as u64;
    words!(short, folded,
        b"info" => 9,
        b"error" => 17,
        b"warn" | b"warning" => 13,
        b"debug" => 5,
        b"notice" => 10,
        b"err" => 17,
        b"trace" | b"trc" | b"finest" | b"verbose" | b"silly" | b"all" | b"t" | b"v" | b"trace1" => 1,
        b"trace2" => 2,
        b"trace3" => 3,
        b"trace4" => 4,
        b"dbg" | b"dbug" | b"finer" | b"d" | b"debug1" => 5,
        b"fine" | b"debug2" => 6,
        b"config" | b"debug3" => 7,
        b"debug4" => 8,
        b"inf" | b"log" | b"i" | b"info1" => 9,
        b"note" | b"success" | b"n" | b"info2" => 10,
        b"info3" => 11,
        b"info4" => 12,
        b"wrn" | b"w" | b"warn1" => 13,
        b"warn2" => 14,
        b"warn3" => 15,
        b"warn4" => 16,
        b"severe" | b"fail" | b"failure" | b"e" | b"error1" => 17,
        b"crit" | b"dpanic" | b"error2" => 18,
        b"alert" | b"panic" | b"error3" => 19,
        b"error4" => 20,
        b"fatal" | b"ftl" | b"critical" | b"emerg" | b"f" | b"c" | b"fatal1" => 21,
        b"fatal2" => 22,
        b"fatal3" => 23,
        b"fatal4" => 24,
    )
    .or_else(|| number_of_digits(word))
}

#[inline]
fn number_of_long(word: &[u8]) -> Option<u8> {
    let mut bytes = [0_u8; 16];
    bytes[..word.len()].copy_from_slice(word);
    let folded = u128::from_le_bytes(bytes) | FOLD;
    words!(long, folded,
        b"information" | b"informational" => 9,
        b"emergency" => 21,
        b"info" => 9,
        b"warning" => 13,
        b"error" => 17,
    )
}

/// The first eight bytes as a little-endian number, zeros where the word has ended.
#[inline]
fn load_short(word: &[u8]) -> u64 {
    let n = word.len();
    debug_assert!((1..=8).contains(&n));
    if let (Some(head), Some(tail)) = (word.first_chunk::<4>(), word.last_chunk::<4>()) {
        // The two halves overlap for 4 to 7 bytes; what overlaps is the same bytes, so OR is right.
        let shift = 8 * (n - 4);
        u64::from(u32::from_le_bytes(*head)) | (u64::from(u32::from_le_bytes(*tail)) << shift)
    } else {
        let middle = n / 2;
        u64::from(word[0])
            | (u64::from(word[middle]) << (8 * middle))
            | (u64::from(word[n - 1]) << (8 * (n - 1)))
    }
}

/// `"6"` and `"30"` as some loggers write their numeric levels; at most two digits, more mean something else.
#[cold]
fn number_of_digits(word: &[u8]) -> Option<u8> {
    let level = match *word {
        [a @ b'0'..=b'9'] => i64::from(a - b'0'),
        [a @ b'1'..=b'9', b @ b'0'..=b'9'] => i64::from(a - b'0') * 10 + i64::from(b - b'0'),
        _ => return None,
    };
    Some(number_of_int(level)).filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_words_of_every_scale_in_any_case() {
        let scales: [(&str, u8); 24] = [
            ("INFO", 9),
            ("Info", 9),
            ("information", 9),
            ("Informational", 9),
            ("notice", 10),
            ("WARN", 13),
            ("warning", 13),
            ("WARNING", 13),
            ("err", 17),
            ("Error", 17),
            ("SEVERE", 17),
            ("crit", 18),
            ("CRITICAL", 21),
            ("alert", 19),
            ("emerg", 21),
            ("EMERGENCY", 21),
            ("FATAL", 21),
            ("trace", 1),
            ("FINEST", 1),
            ("debug", 5),
            ("FINE", 6),
            ("CONFIG", 7),
            ("E", 17),
            ("error4", 20),
        ];
        for (word, number) in scales {
            assert_eq!(number_of_word(word.as_bytes()), Some(number), "{word}");
        }
    }

    #[test]
    fn every_opentelemetry_name_has_its_own_number() {
        let mut expected = 1;
        for base in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"] {
            for step in ["", "2", "3", "4"] {
                assert_eq!(number_of_word(format!("{base}{step}").as_bytes()), Some(expected));
                expected += 1;
            }
        }
    }

    #[test]
    fn takes_words_of_digits_as_numbers() {
        for level in 0..100_i64 {
            let number = number_of_word(level.to_string().as_bytes());
            assert_eq!(number.unwrap_or(0), number_of_int(level), "{level}");
        }
        assert_eq!(number_of_word(b"100"), None);
        assert_eq!(number_of_word(b"03"), None);
    }

    #[test]
    fn rejects_what_is_no_level() {
        for word in [
            "",
            "x",
            "inf0",
            "warningly",
            "information overload",
            "errors",
            "in fo",
            "\u{9}",
            "è",
        ] {
            assert_eq!(number_of_word(word.as_bytes()), None, "{word:?}");
        }
    }

    #[test]
    fn every_prefix_of_a_word_is_folded_like_a_naive_fold() {
        let text = b"INFORMATIONALLY!";
        for n in 1..=8 {
            let naive = long(&text[..n].to_ascii_lowercase()) as u64;
            assert_eq!(load_short(&text[..n]) | FOLD as u64, naive, "{n} bytes");
        }
    }

    #[test]
    fn a_number_and_its_name_agree() {
        for level in -3..130_i64 {
            let name = name_of_int(level);
            assert_eq!(
                number_of_word(name.as_bytes()).unwrap_or(0),
                number_of_int(level),
                "{level} {name}"
            );
        }
    }
}
