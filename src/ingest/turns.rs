//! One value of a core for whoever has the turn, over as many of its pauses as the turn lasts. Those who want it next wait as long
//! as they like: [`Turns::ended`] is told at the end of each turn.

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

    /// The turn, when nobody has it.
    pub(super) fn take(&self) -> Option<Turn<'_, T>> {
        let value = self.value.try_borrow_mut().ok()?;
        Some(Turn {
            value: Some(value),
            ended: &self.ended,
        })
    }

    /// Notified at the end of each turn.
    pub(super) fn ended(&self) -> &Notify {
        &self.ended
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
    use std::task::{Context, Waker};

    #[test]
    fn a_turn_lasts_over_pauses_and_the_next_begins_with_its_end() {
        let turns = Turns::new(0);
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = turns.take().expect("nobody has the turn");
        let mut ended = pin!(turns.ended().notified());
        assert!(ended.as_mut().poll(&mut cx).is_pending());
        *first += 1;
        assert!(turns.take().is_none());
        assert!(ended.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert!(ended.poll(&mut cx).is_ready());
        assert_eq!(turns.take().as_deref(), Some(&1));
    }
}
