//! Growing bytes in wire form with a cheap short append.

/// Bytes in wire form.
///
/// The vector's length is the high-water mark: it is zeroed once when it grows, and `len` moves below it. So an append
/// is a bounds check and a copy, and a cleared arena is as good as a preallocated one.
#[derive(Debug, Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    len: usize,
}

/// Bytes of the longest length prefix (LEB128 of 64 bits).
const LENGTH_BYTES_MAX: usize = 10;

impl Arena {
    /// Nothing, with room for `bytes`; the memory is touched on first use only.
    pub(super) fn with_capacity(bytes: usize) -> Arena {
        Arena {
            bytes: Vec::with_capacity(bytes),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Goes back to `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        assert!(len <= self.len, "a rollback never goes forward");
        self.len = len;
    }

    /// Room for `count` more values of `WIDTH` bytes: the caller writes every one, they hold old bytes.
    #[inline]
    pub(super) fn slots<const WIDTH: usize>(&mut self, count: usize) -> &mut [[u8; WIDTH]] {
        let start = self.len;
        self.reserve(count * WIDTH);
        self.len += count * WIDTH;
        self.bytes[start..self.len].as_chunks_mut().0
    }

    /// Appends `count` zero bytes.
    pub(super) fn put_zeros(&mut self, count: usize) {
        let start = self.len;
        self.reserve(count);
        self.len += count;
        self.bytes[start..self.len].fill(0);
    }

    /// Appends `bytes` as they are.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        copy(bytes, &mut self.bytes[self.len..][..bytes.len()]);
        self.len += bytes.len();
    }

    /// Appends a String value: its length as LEB128, then its bytes.
    #[inline]
    pub(super) fn put_string(&mut self, text: &[u8]) {
        self.reserve(text.len() + LENGTH_BYTES_MAX);
        let out = &mut self.bytes[self.len..];
        if text.len() < 0x80 {
            out[0] = text.len() as u8;
            copy(text, &mut out[1..=text.len()]);
            self.len += 1 + text.len();
        } else {
            let prefix = put_length(text.len() as u64, out);
            out[prefix..prefix + text.len()].copy_from_slice(text);
            self.len += prefix + text.len();
        }
    }

    /// Appends what is there from `start` on, so many times.
    pub(super) fn repeat(&mut self, start: usize, times: usize) {
        let (end, bytes) = (self.len, self.len - start);
        self.reserve(bytes * times);
        self.len += bytes * times;
        // Twice as much each time: few large copies in place of many small ones.
        let mut done = end;
        while done < self.len {
            let more = (done - start).min(self.len - done);
            self.bytes.copy_within(start..start + more, done);
            done += more;
        }
    }

    #[inline]
    fn reserve(&mut self, more: usize) {
        if self.bytes.len() - self.len < more {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let needed = self.len + more;
        self.bytes.resize(needed.max(self.bytes.len() * 2).max(256), 0);
    }
}

/// Writes `value` as LEB128 and returns the bytes taken.
fn put_length(mut value: u64, out: &mut [u8]) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

/// Copies slices of equal length. Most log values are short, where two overlapping moves of a fixed size beat a call to memcpy.
#[inline]
fn copy(from: &[u8], to: &mut [u8]) {
    let len = from.len();
    assert_eq!(len, to.len());
    match len {
        17..=32 => copy_ends::<16>(from, to),
        8..=16 => copy_ends::<8>(from, to),
        4..=7 => copy_ends::<4>(from, to),
        1..=3 => {
            to[0] = from[0];
            to[len / 2] = from[len / 2];
            to[len - 1] = from[len - 1];
        }
        0 => {}
        _ => to.copy_from_slice(from),
    }
}

#[inline]
fn copy_ends<const WIDTH: usize>(from: &[u8], to: &mut [u8]) {
    let (Some(head), Some(tail)) = (from.first_chunk::<WIDTH>(), from.last_chunk::<WIDTH>()) else {
        return;
    };
    let (head, tail) = (*head, *tail);
    to[..WIDTH].copy_from_slice(&head);
    let start = to.len() - WIDTH;
    to[start..].copy_from_slice(&tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_every_short_length_are_written_whole() {
        let mut arena = Arena::default();
        let mut expected = Vec::new();
        let text: Vec<u8> = (0..20_000u32).map(|i| (i * 7 + i / 256) as u8).collect();
        for len in (0..400).chain([16_383, 16_384, 20_000]) {
            arena.put_string(&text[..len]);
            let mut rest = len;
            while rest >= 0x80 {
                expected.push((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            expected.push(rest as u8);
            expected.extend_from_slice(&text[..len]);
            arena.put(&text[..len]);
            expected.extend_from_slice(&text[..len]);
        }
        assert_eq!(arena.as_slice(), expected);
    }

    #[test]
    fn what_is_repeated_stands_there_as_often() {
        let mut arena = Arena::default();
        arena.put(b"head");
        let start = arena.len();
        arena.put(b"abc");
        arena.repeat(start, 0);
        assert_eq!(arena.as_slice(), b"headabc");
        arena.repeat(start, 6);
        assert_eq!(arena.as_slice(), b"headabcabcabcabcabcabcabc");
        arena.repeat(arena.len(), 9);
        assert_eq!(arena.len(), 4 + 7 * 3);
    }

    #[test]
    fn old_bytes_do_not_show_through() {
        let mut arena = Arena::default();
        arena.put(&[0xff; 1000]);
        arena.truncate(3);
        arena.put_zeros(5);
        arena.slots::<2>(2).fill([1, 2]);
        assert_eq!(arena.as_slice(), [255, 255, 255, 0, 0, 0, 0, 0, 1, 2, 1, 2]);
        arena.clear();
        assert!(arena.as_slice().is_empty());
    }
}
