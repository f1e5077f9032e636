//! Single-producer single-consumer ring between two cores: a bounded queue and the consumer's doorbell.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::doorbell::Doorbell;

/// The sending end. Not `Clone`: one producer by type.
#[derive(Debug)]
pub struct Producer<T> {
    queue: Arc<ArrayQueue<T>>,
    bell: Arc<Doorbell>,
}

/// The receiving end. Not `Clone`: one consumer by type.
#[derive(Debug)]
pub struct Consumer<T> {
    queue: Arc<ArrayQueue<T>>,
}

/// A ring of `capacity` items whose consumer parks on `bell` (which other rings may share).
///
/// # Panics
/// When `capacity` is 0.
pub fn ring<T>(capacity: usize, bell: Arc<Doorbell>) -> (Producer<T>, Consumer<T>) {
    let queue = Arc::new(ArrayQueue::new(capacity));
    (
        Producer {
            queue: Arc::clone(&queue),
            bell,
        },
        Consumer { queue },
    )
}

impl<T> Producer<T> {
    /// Pushes and rings the consumer's bell; gives the item back when the ring is full.
    ///
    /// # Errors
    /// The item itself, when `capacity` items wait.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        self.queue.push(item)?;
        self.bell.ring();
        Ok(())
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// No item waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<T> Consumer<T> {
    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.queue.pop()
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// No item waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn gives_an_item_back_when_full() {
        let (mut producer, mut consumer) = ring(2, Arc::new(Doorbell::new()));
        assert_eq!(producer.push(1), Ok(()));
        assert_eq!(producer.push(2), Ok(()));
        assert_eq!(producer.push(3), Err(3));
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(producer.push(3), Ok(()));
        assert_eq!(
            (consumer.pop(), consumer.pop(), consumer.pop()),
            (Some(2), Some(3), None)
        );
    }

    /// Two threads, a ring of four, every item in order, with the consumer parking in between.
    #[test]
    fn carries_every_item_in_order_between_threads() {
        const ITEMS: u64 = if cfg!(miri) { 200 } else { 100_000 };
        let bell = Arc::new(Doorbell::new());
        let (mut producer, mut consumer) = ring(4, Arc::clone(&bell));
        let sender = std::thread::spawn(move || {
            for item in 0..ITEMS {
                let mut item = item;
                while let Err(back) = producer.push(item) {
                    item = back;
                    std::thread::yield_now();
                }
            }
        });
        block_on(async {
            for expected in 0..ITEMS {
                assert_eq!(bell.wait(|| consumer.pop()).await, expected);
            }
        });
        sender.join().expect("the producer does not panic");
    }
}
