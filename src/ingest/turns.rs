//! One value of a core for whoever has the turn, over as many of its pauses as the turn lasts.

use std::cell::{RefCell, RefMut};
use std::ops::{Deref, DerefMut};

use crate::runtime::Notify;

/// A value that one task at a time uses, and may keep while others have the core.
pub(super) struct Turns<T> {
    value: RefCell<T>,
    ended: Notify,
}

impl<T> Turns<T> {
    pub(super) fn new(value: T) -> Turns<T> {
        Turns {
            value: RefCell::new(value),
            ended: Notify::default(),
        }
    }

    /// Waits until nobody has the turn. Whoever has it must not ask again.
    pub(super) async fn take(&self) -> Turn<'_, T> {
        loop {
            if let Ok(value) = self.value.try_borrow_mut() {
                return Turn {
                    value: Some(value),
                    ended: &self.ended,
                };
            }
            self.ended.notified().await;
        }
    }
}

/// The turn; it ends when this is dropped.
pub(super) struct Turn<'a, T> {
    /// Until then.
    value: Option<RefMut<'a, T>>,
    ended: &'a Notify,
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it lasts")
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it lasts")
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        // Before the others are woken.
        self.value = None;
        self.ended.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn a_turn_lasts_over_pauses_and_the_next_begins_with_its_end() {
        let turns = Turns::new(0);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(mut first) = pin!(turns.take()).poll(&mut cx) else {
            panic!("nobody has the turn")
        };
        let mut second = pin!(turns.take());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        *first += 1;
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(first);
        let Poll::Ready(second) = second.poll(&mut cx) else {
            panic!("the first turn is over")
        };
        assert_eq!(*second, 1);
    }
}
