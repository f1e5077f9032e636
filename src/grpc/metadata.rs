//! Reads and writes what gRPC puts into header fields: timeouts, messages, binary values.

/// Milliseconds of a `grpc-timeout`: up to eight digits and a unit; a part of a millisecond counts as one.
///
/// `None` when it is malformed.
pub fn timeout_ms(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits
        .iter()
        .fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => count * 3_600_000,
        b'M' => count * 60_000,
        b'S' => count * 1_000,
        b'm' => count,
        b'u' => count.div_ceil(1_000),
        b'n' => count.div_ceil(1_000_000),
        _ => return None,
    })
}

/// Appends the text of a `grpc-message`: bytes other than visible ASCII and blanks, and `%`, as `%XX`.
pub fn put_percent_encoded(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

/// Appends bytes as the value of a `-bin` field: Base64 without padding.
pub fn put_base64(bytes: &[u8], out: &mut Vec<u8>) {
    use base64::Engine;
    out.extend_from_slice(base64::prelude::BASE64_STANDARD_NO_PAD.encode(bytes).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_timeouts_of_every_unit_and_rounds_up() {
        for (text, ms) in [
            ("1H", 3_600_000),
            ("2M", 120_000),
            ("3S", 3_000),
            ("0m", 0),
            ("99999999m", 99_999_999),
            ("1u", 1),
            ("1001u", 2),
            ("1n", 1),
            ("0n", 0),
        ] {
            assert_eq!(timeout_ms(text.as_bytes()), Some(ms), "{text}");
        }
    }

    #[test]
    fn rejects_timeouts_that_are_malformed() {
        for text in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", " 1S", "1 S"] {
            assert_eq!(timeout_ms(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_message_is_visible_ascii_whatever_its_text() {
        let mut out = Vec::new();
        put_percent_encoded("100% of\nµ ~", &mut out);
        assert_eq!(out, b"100%25 of%0A%C2%B5 ~");
        let mut out = Vec::new();
        put_base64(&[0xfb, 0xff], &mut out);
        assert_eq!(out, b"+/8");
    }
}
