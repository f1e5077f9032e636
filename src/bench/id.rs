//! Ids of rows: a prefix of the run, and a decimal number of fixed width that is written in place.

/// Digits of a row's number: with the run's prefix an id has the 32 characters of a trace id.
pub const ID_BYTES: usize = 16;

/// Numbers of the rows that probe when rows become visible begin here; a run that sends others up to it would take 31
/// years at ten million a second.
pub const PROBE_NUMBER_MIN: u64 = 9_000_000_000_000_000;

/// What the ids of one run begin with, and of no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId(String);

impl RunId {
    /// A run of its own. Not by the seed: the rows of two runs with one seed may be in one table.
    pub fn random() -> RunId {
        RunId(format!("{:016x}", fastrand::Rng::new().u64(..)))
    }

    /// Its 16 hexadecimal digits.
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// The same in eight bytes.
    pub fn packed_prefix(&self) -> [u8; 8] {
        let prefix = u64::from_str_radix(&self.0, 16).expect("it has 16 hexadecimal digits");
        prefix.to_be_bytes()
    }

    /// The whole id of a row.
    pub fn id(&self, number: u64) -> String {
        format!("{}{number:0ID_BYTES$}", self.0)
    }
}

/// How a row's number stands in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdForm {
    /// A digit a byte.
    #[default]
    Text,
    /// Two digits a byte: bytes whose hexadecimal form has the digits.
    Packed,
}

/// Writes the numbers from `first` on at `places` of `bytes`.
///
/// # Panics
/// A place is not followed by [`ID_BYTES`] bytes, or half as many if packed.
pub fn write_ids(bytes: &mut [u8], places: &[usize], first: u64, form: IdForm) {
    // Counting in digits: a division for each of 16 digits would cost more than copying the row.
    let mut digits = [b'0'; ID_BYTES];
    let mut rest = first;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    for place in places {
        match form {
            IdForm::Text => bytes[*place..*place + ID_BYTES].copy_from_slice(&digits),
            IdForm::Packed => {
                let packed = bytes[*place..*place + ID_BYTES / 2].iter_mut();
                for (byte, [high, low]) in packed.zip(digits.as_chunks::<2>().0) {
                    *byte = (high - b'0') << 4 | (low - b'0');
                }
            }
        }
        for digit in digits.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_consecutive_numbers_and_nothing_else() {
        for first in [0, 7, 95, 999_999_999_998, PROBE_NUMBER_MIN - 2] {
            let places = [1, 20, 37, 60];
            let mut bytes = vec![b'.'; 80];
            write_ids(&mut bytes, &places, first, IdForm::Text);
            let mut expected = vec![b'.'; 80];
            for (at, place) in places.iter().enumerate() {
                let number = format!("{:016}", first + at as u64);
                expected[*place..place + ID_BYTES].copy_from_slice(number.as_bytes());
            }
            assert_eq!(bytes, expected, "from {first}");
        }
    }

    #[test]
    fn gives_every_run_a_prefix_of_its_own() {
        let (one, other) = (RunId::random(), RunId::random());
        assert_ne!(one, other);
        assert_eq!(one.id(5).len(), 32);
        assert!(one.id(5).starts_with(one.prefix()));
    }
}
