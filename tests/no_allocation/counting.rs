//! A global allocator that remembers on demand each allocation of a thread, and where it came from.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Passes every allocation to the system's allocator, and remembers those of traced threads.
pub struct Counting;

/// Threads told apart; all later ones share the last place.
const THREADS: usize = 256;

/// Allocations remembered at once; a stretch of time that makes more is too long to look at.
const TRACES_MAX: usize = 20_000;

static THREAD_IDS: [AtomicU32; THREADS] = [const { AtomicU32::new(0) }; THREADS];
static THREADS_SEEN: AtomicUsize = AtomicUsize::new(0);
static TRACED: [AtomicBool; THREADS] = [const { AtomicBool::new(false) }; THREADS];
static TRACES: Mutex<Vec<Trace>> = Mutex::new(Vec::new());

thread_local! {
    /// This thread's place. Constant and without a destructor, so that the first access allocates nothing.
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Set while a backtrace is taken, which allocates itself.
    static TRACING: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every method hands its arguments to `System` unchanged and returns what `System` returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        remember(layout.size());
        // SAFETY: the caller keeps this method's contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        remember(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        remember(bytes);
        // SAFETY: as in `alloc`; `memory` came from `System`, because everything does.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn remember(bytes: usize) {
    if TRACING.get() {
        return;
    }
    let place = place();
    if TRACED[place].load(Ordering::Relaxed) {
        trace(place, bytes);
    }
}

/// The place of the calling thread, taken at its first allocation.
fn place() -> usize {
    let place = PLACE.get();
    if place != usize::MAX {
        return place;
    }
    let place = THREADS_SEEN.fetch_add(1, Ordering::Relaxed).min(THREADS - 1);
    PLACE.set(place);
    let id = rustix::thread::gettid().as_raw_nonzero().get();
    THREAD_IDS[place].store(id.unsigned_abs(), Ordering::Relaxed);
    place
}

#[cold]
fn trace(place: usize, bytes: usize) {
    TRACING.set(true);
    let frames = Backtrace::force_capture();
    let mut traces = TRACES.lock().expect("nobody panics while tracing");
    if traces.len() < TRACES_MAX {
        traces.push(Trace { place, bytes, frames });
    }
    drop(traces);
    TRACING.set(false);
}

/// A thread whose allocations can be traced.
#[derive(Debug, Clone, Copy)]
pub struct Thread(usize);

impl Thread {
    /// The calling thread.
    pub fn current() -> Thread {
        Thread(place())
    }

    /// The running thread whose name starts like this; glommio appends a number.
    pub fn named(start: &str) -> Option<Thread> {
        let has_name = |id: u32| {
            std::fs::read_to_string(format!("/proc/self/task/{id}/comm"))
                .is_ok_and(|comm| comm.starts_with(start))
        };
        let seen = THREADS_SEEN.load(Ordering::Relaxed).min(THREADS);
        (0..seen)
            .find(|&place| has_name(THREAD_IDS[place].load(Ordering::Relaxed)))
            .map(Thread)
    }

    /// What it allocates while `work` runs, on this or another thread.
    ///
    /// # Panics
    /// When that is more than can be remembered.
    pub fn traced(self, work: impl FnOnce()) -> Vec<Trace> {
        TRACED[self.0].store(true, Ordering::Relaxed);
        work();
        TRACED[self.0].store(false, Ordering::Relaxed);
        let mut traces = TRACES.lock().expect("nobody panics while tracing");
        assert!(traces.len() < TRACES_MAX, "some allocations were not remembered");
        // One that is being traced right now is found by the next call.
        traces.extract_if(.., |trace| trace.place == self.0).collect()
    }
}

/// One allocation.
pub struct Trace {
    place: usize,
    bytes: usize,
    frames: Backtrace,
}

impl Trace {
    /// Whether glommio asked for it: of the frames that are this project's or glommio's, the innermost is glommio's.
    pub fn is_glommios(&self) -> bool {
        let text = self.frames.to_string();
        let mut known = text.lines().filter_map(|line| {
            let place = line.trim().strip_prefix("at ")?;
            let ours = place.starts_with("./") && !place.contains("counting.rs");
            (ours || place.contains("/glommio-")).then_some(!ours)
        });
        known.next().unwrap_or(false)
    }

    /// Its size, then the functions that led to it, innermost first, without those of the standard library.
    pub fn describe(&self) -> String {
        let text = self.frames.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let frames = lines.windows(2).filter(|pair| {
            let (function, place) = (pair[0], pair[1]);
            let named = place.starts_with("at ./") || place.contains("/registry/");
            named && !function.starts_with("at ") && !place.contains("counting.rs")
        });
        let frames = frames
            .take(12)
            .map(|pair| format!("\n    {:.80} {:.110}", pair[0], pair[1]));
        std::iter::once(format!("\n  {} bytes", self.bytes))
            .chain(frames)
            .collect()
    }
}
