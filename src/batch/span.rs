//! Where one row's bytes lie in what was received.

/// A part of a buffer below 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The spans of a buffer that one pass takes.
#[derive(Debug)]
pub(crate) struct Spans<'t> {
    bytes: &'t [u8],
    rest: std::slice::Iter<'t, Span>,
    /// Bytes this pass may still take.
    left: usize,
}

impl<'t> Spans<'t> {
    /// Those in `bytes`, as many as have `bytes_max` and one at least.
    pub(crate) fn new(bytes: &'t [u8], spans: &'t [Span], bytes_max: usize) -> Spans<'t> {
        Spans {
            bytes,
            rest: spans.iter(),
            left: bytes_max,
        }
    }

    /// The next one's bytes, which are taken with [`Spans::take`]; `None` when it does not fit this pass beside its `rows`, or
    /// `has_room` says so of its length.
    #[inline]
    pub(crate) fn next(&self, rows: usize, has_room: impl FnOnce(usize) -> bool) -> Option<&'t [u8]> {
        let span = self.rest.as_slice().first()?;
        match rows > 0 && (self.left < span.len() || !has_room(span.len())) {
            true => None,
            false => Some(span.of(self.bytes)),
        }
    }

    /// Goes on behind a row that was written.
    #[inline]
    pub(crate) fn take(&mut self) {
        if let Some(span) = self.rest.next() {
            self.left = self.left.saturating_sub(span.len());
        }
    }

    /// Goes on behind a row that was not.
    pub(crate) fn skip(&mut self) {
        self.rest.next();
    }
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
