//! Where one row's bytes lie in what was received.

/// A part of a buffer below 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The part `start..end`.
    ///
    /// # Panics
    /// When it ends beyond 4 GiB, which no receive buffer holds.
    #[inline]
    pub fn new(start: usize, end: usize) -> Span {
        assert!(
            start <= end && u32::try_from(end).is_ok(),
            "a part of a receive buffer"
        );
        Span {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Bytes in it.
    #[inline]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it has none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Its bytes in `whole`.
    #[inline]
    pub fn of(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}
