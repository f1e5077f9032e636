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

/// The receive buffers of one core, in three sizes: for heads and small requests, for bodies, and for a row
/// of the greatest length. Last given, first taken: it is still in the cache.
///
/// The smallest are not counted: their number is bounded by `Limits::connections_per_core`. The larger ones,
/// lent and idle together, stay within half of `Limits::body_buffers_bytes_per_core`; the other half is for
/// the inflate windows of [`DecoderPool`](crate::http::DecoderPool).
#[derive(Debug, Clone)]
pub struct BufferPool {
    shared: Rc<RefCell<Pool>>,
}

const CLASSES: usize = 3;

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
        BufferPool {
            shared: Rc::new(RefCell::new(Pool {
                class_bytes: [small, body, row],
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

    fn classes(&self) -> usize {
        CLASSES
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
