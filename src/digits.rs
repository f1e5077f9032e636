//! Decimal digits eight at a time, in one word each.
//!
//! A word holds eight bytes of text, the first in its lowest byte, each XORed with `0`: digits become 0 to 9, all else more.

/// How many of the eight bytes are digits before the first that is none.
#[inline]
pub fn leading_digits(word: u64) -> usize {
    // A byte above 9 carries into its high bit: 0x76 + 10 = 0x80.
    let not_digits =
        (word | (word & 0x7f7f_7f7f_7f7f_7f7f).wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080;
    (not_digits.trailing_zeros() / 8) as usize
}

/// Eight digits of 0 to 9 each as a number: pairs, then fours, then eight.
#[inline]
pub fn eight_digits(digits: u64) -> u64 {
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &[u8; 8]) -> u64 {
        u64::from_le_bytes(*text) ^ u64::from_le_bytes([b'0'; 8])
    }

    #[test]
    fn digits_are_counted_up_to_any_other_byte() {
        for count in 0..8 {
            for byte in (0..=255).filter(|byte: &u8| !byte.is_ascii_digit()) {
                let mut text = *b"90817263";
                text[count] = byte;
                assert_eq!(leading_digits(word(&text)), count, "{text:?}");
            }
        }
        assert_eq!(leading_digits(word(b"09876543")), 8);
    }

    #[test]
    fn eight_digits_are_their_number() {
        for number in (0..100_000_000).step_by(9_973).chain([99_999_999]) {
            let text: [u8; 8] = format!("{number:08}").into_bytes().try_into().unwrap();
            assert_eq!(eight_digits(word(&text)), number);
        }
    }
}
