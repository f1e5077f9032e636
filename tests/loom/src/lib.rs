//! Every interleaving of one consumer and its producers around a doorbell, by loom.
//!
//! Run by `make loom`. The ring itself is crossbeam's; what is checked here is that no push is slept through.
#![cfg(loom)]

#[path = "../../../src/doorbell.rs"]
mod doorbell;

#[cfg(test)]
mod tests {
    use super::doorbell::Doorbell;
    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    /// Takes one item, as a ring's pop does: relaxed, so that only the doorbell's fences order it.
    fn pop(items: &AtomicUsize) -> Option<()> {
        items.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok().map(|_| ())
    }

    #[test]
    fn a_push_is_never_slept_through() {
        loom::model(|| {
            let bell = Arc::new(Doorbell::new());
            let items = Arc::new(AtomicUsize::new(0));
            let producer = {
                let (bell, items) = (Arc::clone(&bell), Arc::clone(&items));
                thread::spawn(move || {
                    items.fetch_add(1, Ordering::Relaxed);
                    bell.ring();
                })
            };
            block_on(bell.wait(|| pop(&items)));
            producer.join().unwrap();
        });
    }

    #[test]
    fn two_pushes_are_both_taken() {
        loom::model(|| {
            let bell = Arc::new(Doorbell::new());
            let items = Arc::new(AtomicUsize::new(0));
            let producer = {
                let (bell, items) = (Arc::clone(&bell), Arc::clone(&items));
                thread::spawn(move || {
                    for _ in 0..2 {
                        items.fetch_add(1, Ordering::Relaxed);
                        bell.ring();
                    }
                })
            };
            block_on(async {
                bell.wait(|| pop(&items)).await;
                bell.wait(|| pop(&items)).await;
            });
            producer.join().unwrap();
        });
    }

    #[test]
    fn two_producers_share_one_bell() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let bell = Arc::new(Doorbell::new());
            let items = Arc::new(AtomicUsize::new(0));
            let producers: Vec<_> = (0..2)
                .map(|_| {
                    let (bell, items) = (Arc::clone(&bell), Arc::clone(&items));
                    thread::spawn(move || {
                        items.fetch_add(1, Ordering::Relaxed);
                        bell.ring();
                    })
                })
                .collect();
            block_on(async {
                bell.wait(|| pop(&items)).await;
                bell.wait(|| pop(&items)).await;
            });
            for producer in producers {
                producer.join().unwrap();
            }
        });
    }
}
