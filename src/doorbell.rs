//! Wakes a parked executor from another core: one atomic swap per ring, a wake only when the peer sleeps.
//!
//! An executor's reactor does not see a push into a foreign ring, so the consumer of a ring parks on
//! a [`Doorbell`]. The consumer swaps "sleeping" in and looks at the ring once more before it parks; the producer
//! pushes and swaps "sleeping" out. Both are read-modify-writes of one flag, so one comes first: if it is the
//! consumer's, the producer finds the flag and wakes; if it is the producer's, the consumer's swap reads it (or a
//! later swap) and so sees the push. `make loom` checks the interleavings; a version with relaxed accesses
//! around fences lost a wake there.

use std::future::poll_fn;
use std::task::{Poll, Waker};

#[cfg(loom)]
use loom::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

/// The bell of one consumer; any number of producers may ring it.
#[derive(Debug, Default)]
pub struct Doorbell {
    sleeping: AtomicBool,
    /// Owned by the consumer: producers wake by reference only, so a waker is always dropped on the
    /// executor that made it.
    waker: Mutex<Option<Waker>>,
}

impl Doorbell {
    /// A bell nobody waits on yet.
    pub fn new() -> Self {
        Doorbell {
            sleeping: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Rings: call after the item was pushed.
    pub fn ring(&self) {
        // Release pairs with the Acquire of the consumer's swaps: it publishes the push. Acquire pairs with
        // their Release: it publishes the waker.
        if self.sleeping.swap(false, Ordering::AcqRel) {
            let waker = self.waker.lock().expect("no holder of this lock panics");
            if let Some(waker) = waker.as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    /// Parks the consumer until `look` returns something.
    ///
    /// `look` must find whatever a producer pushed before it rang; it is called at least once and may be
    /// called spuriously.
    pub async fn wait<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| {
            if let Some(found) = look() {
                self.awake();
                return Poll::Ready(found);
            }
            {
                let mut slot = self.waker.lock().expect("no holder of this lock panics");
                if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *slot = Some(cx.waker().clone());
                }
            }
            // Pairs with the swap in `ring`; see the module's first lines.
            self.sleeping.swap(true, Ordering::AcqRel);
            match look() {
                Some(found) => {
                    self.awake();
                    Poll::Ready(found)
                }
                None => Poll::Pending,
            }
        })
        .await
    }

    /// A swap and not a store: a store would cut the chain by which a later swap sees an earlier push.
    fn awake(&self) {
        self.sleeping.swap(false, Ordering::AcqRel);
    }
}
