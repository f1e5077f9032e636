//! Texts of a few bytes, checked word by word.
//!
//! simdutf8 hands texts of less than 64 bytes to the standard library. A log record has a dozen of them, nearly all ASCII.
#![allow(unsafe_code)]

/// Bytes as a text; `None` when they are not UTF-8.
#[inline]
pub fn text_of(bytes: &[u8]) -> Option<&str> {
    if is_short_ascii(bytes) {
        // SAFETY: ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    simdutf8::basic::from_utf8(bytes).ok()
}

#[inline]
fn is_short_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let all = match (bytes.len(), bytes.last_chunk()) {
        (8..64, Some(last)) => {
            let words = bytes.as_chunks().0.iter().chain([last]);
            words.fold(0, |all, word| all | u64::from_ne_bytes(*word))
        }
        (0..8, _) => match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => {
                u64::from(u32::from_ne_bytes(*first)) | u64::from(u32::from_ne_bytes(*last))
            }
            _ => bytes.iter().fold(0, |all, byte| all | u64::from(*byte)),
        },
        _ => HIGH_BITS,
    };
    all & HIGH_BITS == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_the_standard_library_says_of_every_length() {
        for len in 0..100 {
            let plain = vec![b'a'; len];
            assert_eq!(text_of(&plain), std::str::from_utf8(&plain).ok());
            for at in 0..len {
                for letter in ["\u{e4}".as_bytes(), "\u{20ac}".as_bytes(), b"\xff", b"\x80"] {
                    let mut bytes = plain.clone();
                    let taken = letter.len().min(len - at);
                    bytes[at..at + taken].copy_from_slice(&letter[..taken]);
                    assert_eq!(text_of(&bytes), std::str::from_utf8(&bytes).ok(), "{bytes:?}");
                }
            }
        }
    }
}
