//! The rolling buffer a connection reads into: small while idle, larger ones on loan from its core's pool.

use std::cell::RefCell;
use std::rc::Rc;

use crate::limits::Limits;

/// Bytes received and not yet consumed, in one piece.
///
/// ```text
///  0        start          end              capacity
///  | consumed | unread      | spare            |
/// ```
///
/// Unread bytes move to the front only when that frees at least as much as it moves, so each byte moves
/// less than once on average; or when there is no spare room left at all. Dropping it gives the memory back.
#[derive(Debug)]
pub struct ReceiveBuffer {
    pool: BufferPool,
    bytes: Box<[u8]>,
    class: usize,
    start: usize,
    end: usize,
}

/// Why a buffer did not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CannotGrow {
    /// It is of the largest size already: what it holds is longer than any row may be.
    Largest,
    /// All memory of this core's pool is lent: the server is full.
    PoolExhausted,
}

impl ReceiveBuffer {
    /// A buffer of `Limits::receive_buffer_bytes`.
    pub fn new(pool: &BufferPool) -> ReceiveBuffer {
        let bytes = pool.take_smallest();
        ReceiveBuffer {
            pool: pool.clone(),
            bytes,
            class: 0,
            start: 0,
            end: 0,
        }
    }

    /// What was received and not consumed.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// As [`unread`](Self::unread), to be changed in place.
    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Where to receive the next bytes. Empty only when the buffer is full of unread bytes: then it must
    /// [`grow`](Self::grow). A read into an empty slice returns 0 and looks like the end of the stream.
    pub fn spare(&mut self) -> &mut [u8] {
        self.compact();
        self.invariants();
        &mut self.bytes[self.end..]
    }

    /// Counts `bytes` written at the start of [`spare`](Self::spare) as received.
    ///
    /// # Panics
    ///
    /// When they are more than were spare.
    pub fn filled(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes.len() - self.end, "filled more than was spare");
        self.end += bytes;
        self.invariants();
    }

    /// Forgets the first `bytes` unread bytes.
    ///
    /// # Panics
    ///
    /// When they are more than are unread.
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start, "consumed more than was unread");
        self.start += bytes;
        self.invariants();
    }

    /// Moves what is unread into a buffer of the next size, on loan from the pool.
    pub fn grow(&mut self) -> Result<(), CannotGrow> {
        let class = self.class + 1;
        if class == self.pool.classes() {
            return Err(CannotGrow::Largest);
        }
        let larger = self.pool.take(class).ok_or(CannotGrow::PoolExhausted)?;
        self.replace(class, larger);
        Ok(())
    }

    /// Returns to the smallest size that holds what is unread. Free when it is that size already.
    pub fn shrink(&mut self) {
        let unread = self.end - self.start;
        let fitting = (0..self.class).find(|&class| unread <= self.pool.class_bytes(class));
        if let Some(class) = fitting
            && let Some(smaller) = self.pool.take(class)
        {
            self.replace(class, smaller);
        }
    }

    /// Bytes it holds at most.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    fn replace(&mut self, class: usize, mut bytes: Box<[u8]>) {
        let unread = self.end - self.start;
        bytes[..unread].copy_from_slice(&self.bytes[self.start..self.end]);
        let old = std::mem::replace(&mut self.bytes, bytes);
        self.pool.give(self.class, old);
        (self.class, self.start, self.end) = (class, 0, unread);
        self.invariants();
    }

    fn compact(&mut self) {
        let unread = self.end - self.start;
        if unread == 0 {
            (self.start, self.end) = (0, 0);
            return;
        }
        let spare = self.bytes.len() - self.end;
        // With a quarter still spare a receive is worth its system call; below, move when it pays.
        let pays = unread <= self.start && spare < self.bytes.len() / 4;
        if pays || (spare == 0 && self.start > 0) {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, unread);
        }
    }

    /// Checks what every method leaves behind.
    fn invariants(&self) {
        debug_assert!(self.start <= self.end, "consumed past what was received");
        debug_assert!(self.end <= self.bytes.len(), "received past the end");
        debug_assert_eq!(
            self.bytes.len(),
            self.pool.class_bytes(self.class),
            "memory of another class"
        );
    }
}

impl Drop for ReceiveBuffer {
    fn drop(&mut self) {
        self.pool.give(self.class, std::mem::take(&mut self.bytes));
    }
}

/// The receive buffers of one core, in six sizes: for heads and small requests, for bodies, for a row of the greatest
/// length, and for a message of the greatest length, half of it and a quarter. Last given, first taken: it is still in the cache.
///
/// The smallest are not counted: their number is bounded by `Limits::connections_per_core`. The larger ones,
/// lent and idle together, stay within half of `Limits::body_buffers_bytes_per_core`; the other half is for
/// the inflate windows of [`DecoderPool`](crate::http::DecoderPool).
#[derive(Debug, Clone)]
pub struct BufferPool {
    shared: Rc<RefCell<Pool>>,
}

const CLASSES: usize = 6;

#[derive(Debug)]
struct Pool {
    class_bytes: [usize; CLASSES],
    idle: [Vec<Box<[u8]>>; CLASSES],
    /// Bytes of all buffers above the smallest class, lent or idle.
    held_bytes: usize,
    held_bytes_max: usize,
}

impl BufferPool {
    /// An empty pool; memory is asked for when it is first needed and zeroed once.
    pub fn new(limits: &Limits) -> BufferPool {
        let small = limits.receive_buffer_bytes;
        let body = limits.body_buffer_bytes.max(small);
        // A chunk of short rows may stand before the start of the longest one.
        let row = (limits.line_bytes_max + limits.chunk_bytes).max(body);
        // One more, so that a message too long is seen to be.
        let message = limits.message_bytes_max + 1;
        BufferPool {
            shared: Rc::new(RefCell::new(Pool {
                class_bytes: [
                    small,
                    body,
                    row,
                    (message / 4).max(row),
                    (message / 2).max(row),
                    message.max(row),
                ],
                idle: Default::default(),
                held_bytes: 0,
                held_bytes_max: limits.body_buffers_bytes_per_core / 2,
            })),
        }
    }

    /// Bytes of the larger buffers now, lent and idle.
    pub fn held_bytes(&self) -> usize {
        self.shared.borrow().held_bytes
    }

    /// Counts memory of a request that is no buffer, for as long as the loan lives. An empty one is always given.
    pub fn lend(&self) -> Loan {
        Loan {
            pool: self.clone(),
            bytes: 0,
        }
    }

    fn classes(&self) -> usize {
        let class_bytes = self.shared.borrow().class_bytes;
        // When no message is longer than a row may be, the last sizes are of no use.
        if class_bytes[CLASSES - 1] > class_bytes[2] {
            CLASSES
        } else {
            3
        }
    }

    fn class_bytes(&self, class: usize) -> usize {
        self.shared.borrow().class_bytes[class]
    }

    fn take_smallest(&self) -> Box<[u8]> {
        self.take(0)
            .expect("the smallest class is not counted against the bound")
    }

    fn take(&self, class: usize) -> Option<Box<[u8]>> {
        let mut pool = self.shared.borrow_mut();
        if let Some(bytes) = pool.idle[class].pop() {
            return Some(bytes);
        }
        let wanted = pool.class_bytes[class];
        if class > 0 {
            if !pool.make_room(wanted) {
                return None;
            }
            pool.held_bytes += wanted;
        }
        Some(vec![0; wanted].into_boxed_slice())
    }

    fn give(&self, class: usize, bytes: Box<[u8]>) {
        let mut pool = self.shared.borrow_mut();
        debug_assert_eq!(bytes.len(), pool.class_bytes[class], "memory of another class");
        pool.idle[class].push(bytes);
    }
}

/// Memory that is counted with the buffers: what grows with a request and is not its body.
#[derive(Debug)]
pub struct Loan {
    pool: BufferPool,
    bytes: usize,
}

/// How much more a loan takes at once, so that it is not asked for row by row.
const LOAN_STEP_BYTES: usize = 4096;

impl Loan {
    /// Raises it to `bytes` at least; false when the pool does not have as many.
    pub fn raise_to(&mut self, bytes: usize) -> bool {
        if bytes <= self.bytes {
            return true;
        }
        let more = (bytes - self.bytes).next_multiple_of(LOAN_STEP_BYTES);
        let mut pool = self.pool.shared.borrow_mut();
        let has_room = pool.make_room(more);
        if has_room {
            pool.held_bytes += more;
            self.bytes += more;
        }
        has_room
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.pool.shared.borrow_mut().held_bytes -= self.bytes;
    }
}

impl Pool {
    /// Frees idle buffers of other sizes until `wanted` bytes fit below the bound.
    fn make_room(&mut self, wanted: usize) -> bool {
        for class in (1..CLASSES).rev() {
            while self.held_bytes + wanted > self.held_bytes_max {
                let Some(idle) = self.idle[class].pop() else { break };
                self.held_bytes -= idle.len();
            }
        }
        self.held_bytes + wanted <= self.held_bytes_max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            receive_buffer_bytes: 16,
            body_buffer_bytes: 64,
            line_bytes_max: 200,
            chunk_bytes: 56,
            body_buffers_bytes_per_core: 2 * 512,
            message_bytes_max: 100,
            ..Limits::default()
        }
    }

    fn receive(buffer: &mut ReceiveBuffer, bytes: &[u8]) {
        buffer.spare()[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
    }

    #[test]
    fn grows_until_the_largest_size_and_shrinks_to_what_fits() {
        let pool = BufferPool::new(&limits());
        let mut buffer = ReceiveBuffer::new(&pool);
        receive(&mut buffer, b"0123456789abcdef");
        assert!(buffer.spare().is_empty(), "full");
        assert_eq!((buffer.grow(), buffer.capacity()), (Ok(()), 64));
        assert_eq!((buffer.grow(), buffer.capacity()), (Ok(()), 256));
        assert_eq!(
            (buffer.grow(), buffer.capacity()),
            (Err(CannotGrow::Largest), 256)
        );
        assert_eq!(buffer.unread(), b"0123456789abcdef");
        receive(&mut buffer, b"X");
        buffer.shrink();
        assert_eq!(buffer.capacity(), 64);
        buffer.consume(10);
        buffer.shrink();
        assert_eq!((buffer.capacity(), buffer.unread()), (16, &b"abcdefX"[..]));
    }

    /// What 16 exporters send at once in batches of 8,192 records.
    #[test]
    fn sixteen_messages_of_two_mebibytes_find_room_by_default() {
        let pool = BufferPool::new(&Limits::default());
        let mut buffers: Vec<ReceiveBuffer> = (0..16).map(|_| ReceiveBuffer::new(&pool)).collect();
        for buffer in &mut buffers {
            while buffer.capacity() < 2 << 20 {
                buffer.grow().unwrap();
            }
        }
    }

    #[test]
    fn the_pool_lends_no_more_than_its_bound_and_reuses_what_comes_back() {
        let pool = BufferPool::new(&limits());
        let grown = || {
            let mut buffer = ReceiveBuffer::new(&pool);
            buffer.grow().map(|()| buffer)
        };
        let mut lent: Vec<_> = (0..8)
            .map(|_| grown().expect("eight of 64 bytes are 512"))
            .collect();
        assert_eq!(grown().expect_err("a ninth"), CannotGrow::PoolExhausted);
        assert_eq!(pool.held_bytes(), 512);
        receive(&mut lent[7], b"mark");
        let memory = lent[7].unread().as_ptr();
        lent.truncate(7);
        let again = grown().expect("one came back");
        assert_eq!(again.bytes.as_ptr(), memory, "last given, first taken");
        drop((lent, again));
        assert_eq!(pool.held_bytes(), 512, "idle memory is kept");
        // The largest size takes the place of idle smaller ones.
        let mut large = grown().expect("idle");
        assert_eq!(large.grow(), Ok(()));
        assert_eq!(large.capacity(), 256);
        assert!(pool.held_bytes() <= 512);
    }

    #[test]
    fn an_exhausted_pool_leaves_the_buffer_as_it_was() {
        let limits = Limits {
            body_buffers_bytes_per_core: 0,
            ..limits()
        };
        let pool = BufferPool::new(&limits);
        let mut buffer = ReceiveBuffer::new(&pool);
        receive(&mut buffer, b"unread");
        assert_eq!(buffer.grow(), Err(CannotGrow::PoolExhausted));
        assert_eq!((buffer.unread(), buffer.capacity()), (&b"unread"[..], 16));
    }

    #[test]
    #[should_panic(expected = "filled more than was spare")]
    fn refuses_to_count_bytes_it_had_no_room_for() {
        ReceiveBuffer::new(&BufferPool::new(&limits())).filled(17);
    }

    #[test]
    #[should_panic(expected = "consumed more than was unread")]
    fn refuses_to_consume_what_was_not_received() {
        ReceiveBuffer::new(&BufferPool::new(&limits())).consume(1);
    }

    #[test]
    fn moving_costs_less_than_receiving() {
        // A reader that takes rows of 1 to 20 bytes from a buffer of 64: the worst of both sizes.
        let limits = Limits {
            receive_buffer_bytes: 64,
            ..limits()
        };
        let mut buffer = ReceiveBuffer::new(&BufferPool::new(&limits));
        let (mut moved, mut received) = (0, 0);
        for turn in 0..10_000usize {
            let (start, unread) = (buffer.start, buffer.unread().len());
            let room = buffer.spare().len();
            if start > 0 && buffer.start == 0 {
                moved += unread;
            }
            let bytes = (turn * 7 % 13 + 1).min(room);
            buffer.filled(bytes);
            received += bytes;
            while buffer.unread().len() > turn % 20 {
                buffer.consume(turn % 20 + 1);
            }
        }
        assert!(moved < received, "moved {moved} bytes of {received}");
    }

    proptest! {
        /// Oracle: a vector bytes are appended to and drained from.
        #[test]
        fn behaves_like_a_queue(turns in prop::collection::vec((0usize..5, 0usize..300), 0..200)) {
            let pool = BufferPool::new(&limits());
            let mut buffer = ReceiveBuffer::new(&pool);
            let mut queue: Vec<u8> = Vec::new();
            let mut next = 0u8;
            for (turn, amount) in turns {
                match turn {
                    0 | 1 => {
                        let spare = buffer.spare();
                        prop_assert!(!spare.is_empty() || queue.len() == buffer.capacity());
                        let bytes = amount.min(buffer.spare().len());
                        for place in &mut buffer.spare()[..bytes] {
                            next = next.wrapping_add(1);
                            *place = next;
                            queue.push(next);
                        }
                        buffer.filled(bytes);
                    }
                    2 => {
                        let bytes = amount.min(queue.len());
                        buffer.consume(bytes);
                        queue.drain(..bytes);
                    }
                    3 => {
                        let grown = buffer.grow();
                        prop_assert_eq!(grown.is_err(), grown == Err(CannotGrow::Largest), "one buffer fits");
                    }
                    _ => buffer.shrink(),
                }
                prop_assert_eq!(buffer.unread(), &queue[..]);
                prop_assert!(pool.held_bytes() <= 512);
            }
        }
    }
}
