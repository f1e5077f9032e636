//! A piece of compressed input that is needed whole, and the output made of one.

use super::Inflated;

/// Collects input up to what is asked for, and gives output out as there is room for it.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of the output that were given out.
    given: usize,
}

impl Pieces {
    /// Bytes both hold.
    pub fn held_bytes(&self) -> usize {
        self.input.capacity() + self.output.capacity()
    }

    /// The piece collected so far.
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    /// Moves bytes of `from` into the piece until it has `bytes`; how many, and whether it has them.
    pub fn collect(&mut self, from: &[u8], bytes: usize) -> (usize, bool) {
        let taken = bytes.saturating_sub(self.input.len()).min(from.len());
        if self.input.capacity() < bytes && bytes <= SMALL_BYTES {
            self.input.reserve_exact(bytes - self.input.len());
        }
        // Grows as it comes: what a header announces is only believed once it is there.
        self.input.extend_from_slice(&from[..taken]);
        (taken, self.input.len() >= bytes)
    }

    /// The piece is done with.
    pub fn forget_input(&mut self) {
        self.input.clear();
    }

    /// Makes output of the piece: `make` is given both, the output of `bytes_max` bytes, and says how much of it it filled.
    pub fn make<E>(
        &mut self,
        bytes_max: usize,
        make: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, E>,
    ) -> Result<&[u8], E> {
        debug_assert_eq!(
            self.given,
            self.output.len(),
            "output is given out before more is made"
        );
        self.given = 0;
        self.output.resize(bytes_max, 0);
        let made = make(&self.input, &mut self.output);
        self.output.truncate(*made.as_ref().unwrap_or(&0));
        made.map(|_| &*self.output)
    }

    /// Copies output that was not given out yet.
    pub fn give(&mut self, out: &mut [u8]) -> usize {
        let left = &self.output[self.given..];
        let bytes = left.len().min(out.len());
        out[..bytes].copy_from_slice(&left[..bytes]);
        self.given += bytes;
        bytes
    }

    /// All output was given out.
    pub fn is_given(&self) -> bool {
        self.given == self.output.len()
    }
}

/// A piece up to this size is made room for at once.
const SMALL_BYTES: usize = 128 * 1024;

/// Both counts of one step.
pub(super) fn inflated(read: usize, wrote: usize) -> Inflated {
    Inflated { read, wrote }
}
