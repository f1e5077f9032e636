//! Runs what would block a core on a thread beside it.

use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

use crate::doorbell::Doorbell;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs one job after the other. It ends when the worker is dropped.
#[derive(Debug, Clone)]
pub struct Worker {
    jobs: Sender<Job>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start(name: &str) -> io::Result<Worker> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || inbox.into_iter().for_each(|job| job()))?;
        Ok(Worker { jobs })
    }

    /// A task's own way to the thread.
    pub fn caller(&self) -> Caller {
        Caller {
            worker: self.clone(),
            bell: Arc::new(Doorbell::new()),
        }
    }

    /// Has a job done some time; nobody waits for it.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs
            .send(Box::new(job))
            .unwrap_or_else(|_| unreachable!("the thread lives as long as the worker"));
    }
}

/// One task's way to a [`Worker`]: one job at a time.
#[derive(Debug)]
pub struct Caller {
    worker: Worker,
    /// Outlives every job, so that the waker in it is dropped on the core it came from.
    bell: Arc<Doorbell>,
}

impl Caller {
    /// Runs a job and waits for what it returns, while the core does other things.
    pub async fn run<T: Send + 'static>(&mut self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let slot = Arc::new(Mutex::new(None));
        let (result, bell) = (Arc::clone(&slot), Arc::clone(&self.bell));
        self.worker.submit(move || {
            *result.lock().expect("no holder of this lock panics") = Some(job());
            bell.ring();
        });
        self.bell
            .wait(|| slot.lock().expect("no holder of this lock panics").take())
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn gives_each_caller_its_own_results() {
        let worker = Worker::start("test").unwrap();
        std::thread::scope(|scope| {
            for base in 0..4_u64 {
                let mut caller = worker.caller();
                scope.spawn(move || {
                    for number in 0..500 {
                        let result = block_on(caller.run(move || base * 1000 + number));
                        assert_eq!(result, base * 1000 + number);
                    }
                });
            }
        });
    }
}
