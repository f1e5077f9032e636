//! Follows where the frames of a connection begin and end, so that one that stays incomplete is noticed.
//!
//! `h2` shows a frame when it is whole, and a request when its header block is. Source: RFC 9113 sections 3.4, 4.1, 6.2.

use super::PREFACE;

const HEADER_BYTES: usize = 9;

/// `HEADERS` begins a header block, `CONTINUATION` goes on with it; both may end it.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Where in its frames a connection is.
#[derive(Debug)]
pub(crate) struct Frames {
    header: [u8; HEADER_BYTES],
    known: usize,
    /// Bytes of the preface or of the frame that are missing.
    left: usize,
    in_header_block: bool,
}

impl Frames {
    /// Before the preface.
    pub(crate) fn new() -> Frames {
        Frames {
            header: [0; HEADER_BYTES],
            known: 0,
            left: PREFACE.len(),
            in_header_block: false,
        }
    }

    /// More bytes came; whether something came to its end with them.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            ended |= skipped > 0 && self.is_between();
            let more = (HEADER_BYTES - self.known).min(bytes.len());
            self.header[self.known..self.known + more].copy_from_slice(&bytes[..more]);
            self.known += more;
            bytes = &bytes[more..];
            if self.known == HEADER_BYTES {
                let [a, b, c, kind, flags, ..] = self.header;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                self.known = 0;
                if matches!(kind, HEADERS | CONTINUATION) {
                    self.in_header_block = flags & END_HEADERS == 0;
                }
            }
            ended |= self.is_between();
        }
        ended
    }

    /// Everything that began has come to its end.
    pub(crate) fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0 && !self.in_header_block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        frame.extend_from_slice(&vec![0xff; payload]);
        frame
    }

    #[test]
    fn is_between_frames_exactly_at_their_ends_wherever_the_bytes_are_cut() {
        let frames = [
            PREFACE.to_vec(),
            frame(4, 0, 0),
            frame(HEADERS, END_HEADERS, 3),
            frame(0, 0, 300),
            frame(HEADERS, 0, 3),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, END_HEADERS, 70_000),
            frame(0, 1, 1),
        ];
        // After the fifth and the sixth a header block is open.
        let mut ends = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            let end = ends.last().map_or(0, |(end, _)| *end) + frame.len();
            ends.push((end, !matches!(index, 4 | 5)));
        }
        let bytes = frames.concat();
        for cut in 0..=bytes.len() {
            let expected = ends.contains(&(cut, true));
            let mut whole = Frames::new();
            whole.take(&bytes[..cut]);
            assert_eq!(whole.is_between(), expected, "after {cut} bytes");
            let mut pieces = Frames::new();
            let mut ended = pieces.take(&bytes[..cut / 2]);
            ended |= pieces.take(&bytes[cut / 2..cut]);
            assert_eq!(ended, cut >= PREFACE.len(), "after {cut} bytes in two");
            assert_eq!(pieces.is_between(), expected, "after {cut} bytes in two");
        }
    }
}
