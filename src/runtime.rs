//! The pinned executors, their sockets and timers: with its child the only module that names glommio.
//!
//! What the rest of the program needs of it is small: run a future on a pinned core, accept, read
//! and write with a deadline, sleep, yield. Facts about glommio 0.9 that shaped it are in
//! docs/ARCHITECTURE.md.
#![allow(unsafe_code)]

mod connection;

pub use connection::{Connection, Watch};

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement};

/// How one core's executor behaves.
#[derive(Debug, Clone, Copy)]
pub struct CoreOptions {
    /// CPU to pin to; `None` leaves the thread to the scheduler.
    pub cpu: Option<usize>,
    /// Time to look for work before sleeping in the kernel; burns the core while idle.
    pub spin_before_park: Duration,
}

/// Registered buffers serve files only and are allocated three times per executor; the cores have no
/// direct files, so a token amount.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// Bound on how long a parse loop delays a timer or an accept (glommio's default is 100 ms).
const PREEMPT_TIMER: Duration = Duration::from_millis(2);

/// Time a new executor has to run its first task before another thread is started in its place: until then no pulse
/// reaches it, and going to sleep on ready tasks (see [`PULSE`]) is for ever.
const START_PATIENCE: Duration = Duration::from_millis(500);

/// Threads tried before a core counts as not starting.
const START_TRIES: usize = 20;

/// Starts a thread with an executor on `options.cpu` that runs the future `make` returns.
///
/// The thread outlives the future and ends with the process: a waker that is still queued when a glommio 0.9 executor
/// ends queues itself again and again until the stack is full, and pulses come at any time.
///
/// # Errors
/// When io_uring is not available or the CPU cannot be pinned to; see [`explain_start_error`].
pub fn spawn_core<M, F>(name: &str, options: CoreOptions, make: M) -> io::Result<()>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    start_pulse()?;
    // Whichever thread runs its first task takes it; one that wakes up later finds nothing and ends.
    let make = Arc::new(Mutex::new(Some(make)));
    let (sender, news) = mpsc::channel();
    let mut threads = Vec::new();
    while threads.len() < START_TRIES {
        let make = Arc::clone(&make);
        let report = Report {
            sender: sender.clone(),
            thread: threads.len(),
        };
        let thread = executor(name, options)
            .spawn(move || {
                with_pulse(async move {
                    let make = make.lock().expect("no holder of this lock panics").take();
                    if let Some(make) = make {
                        report.send(News::Started);
                        make().await;
                        std::future::pending().await
                    }
                })
            })
            .map_err(|error| io::Error::other(explain_start_error(&error.to_string())))?;
        threads.push(thread);
        match news.recv_timeout(START_PATIENCE) {
            Ok((_, News::Started)) => return Ok(()),
            // Nobody else can have taken `make` without saying so first: this one failed, and joining it tells why.
            Ok((thread, News::Ended)) => join(threads.swap_remove(thread))?,
            Err(_) => tracing::warn!(
                core = name,
                "an executor fell asleep at its start; another takes its place"
            ),
        }
    }
    Err(io::Error::other(explain_start_error("no executor came to life")))
}

/// Bound on how long tasks that are ready may be left lying.
///
/// glommio 0.9 goes to sleep on ready tasks when its preemption timer fires between arming it and running the
/// first task: `run_task_queues` returns false then, as if there were none (fixed in the fork, glommio/glommio
/// pull request 53). A core that loses its CPU for `PREEMPT_TIMER` at that moment sleeps until the next event,
/// without one for ever; a timer of its own is no help, because it may have fired just before. 64 connections on a
/// busy two-core machine hit it within seconds. So a thread wakes every core now and then.
const PULSE: Duration = Duration::from_millis(10);

/// Pulses until a core that was woken and has not run is woken again. It may be busy, and each further wake would only pile
/// up a waker in glommio; but it may as well have lost its CPU again right after it woke, and sleep on the pulse itself.
const PULSES_UNTIL_AGAIN: u32 = 10;

/// A running core as the pulse sees it.
struct Pulsed {
    waker: Waker,
    /// Pulses since it last ran.
    missed: Arc<AtomicU32>,
}

/// The running cores.
static PULSED: Mutex<Vec<Pulsed>> = Mutex::new(Vec::new());

/// Starts the one thread that wakes the cores, if it does not run yet.
fn start_pulse() -> io::Result<()> {
    static STARTED: Mutex<bool> = Mutex::new(false);
    let mut started = STARTED.lock().expect("no holder of this lock panics");
    if !*started {
        std::thread::Builder::new().name("pulse".into()).spawn(|| {
            loop {
                std::thread::sleep(PULSE);
                for core in pulsed().iter() {
                    // Relaxed: the count guards nothing; waking and running are ordered by glommio's own queue.
                    let missed = core.missed.fetch_add(1, Ordering::Relaxed);
                    if missed.is_multiple_of(PULSES_UNTIL_AGAIN) {
                        core.waker.wake_by_ref();
                    }
                }
            }
        })?;
        *started = true;
    }
    Ok(())
}

fn pulsed() -> MutexGuard<'static, Vec<Pulsed>> {
    PULSED.lock().expect("no holder of this lock panics")
}

/// Runs a core's main future, woken at every pulse.
async fn with_pulse(future: impl Future<Output = ()>) {
    let missed = Arc::new(AtomicU32::new(0));
    let mut future = pin!(future);
    let mut is_registered = false;
    poll_fn(|cx| {
        if !is_registered {
            pulsed().push(Pulsed {
                waker: cx.waker().clone(),
                missed: Arc::clone(&missed),
            });
            is_registered = true;
        }
        missed.store(0, Ordering::Relaxed);
        future.as_mut().poll(cx)
    })
    .await;
}

/// What a starting thread has to say.
enum News {
    Started,
    Ended,
}

/// Tells which thread started, or that it ended, however it did.
struct Report {
    sender: mpsc::Sender<(usize, News)>,
    thread: usize,
}

impl Report {
    fn send(&self, news: News) {
        // Nobody listens any more once a thread has started.
        let _ = self.sender.send((self.thread, news));
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.send(News::Ended);
    }
}

fn executor(name: &str, options: CoreOptions) -> LocalExecutorBuilder {
    let placement = match options.cpu {
        Some(cpu) => Placement::Fixed(cpu),
        None => Placement::Unbound,
    };
    LocalExecutorBuilder::new(placement)
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER)
        .spin_before_park(options.spin_before_park)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
}

/// Tries to start an executor and throws it away, so that a host without io_uring is told before anything else starts.
///
/// # Errors
/// One sentence that says what the operator can do.
pub fn probe() -> io::Result<()> {
    let options = CoreOptions {
        cpu: None,
        spin_before_park: Duration::ZERO,
    };
    let (sender, started) = mpsc::channel();
    // Without a pulse: nothing wakes it, so that it may end.
    let thread = executor("probe", options)
        .spawn(move || async move {
            let _ = sender.send(());
        })
        .map_err(|error| io::Error::other(explain_start_error(&error.to_string())))?;
    match started.recv_timeout(START_PATIENCE) {
        // It lives, but fell asleep: io_uring works.
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => join(thread),
    }
}

fn join(thread: ExecutorJoinHandle<()>) -> io::Result<()> {
    thread
        .join()
        .map_err(|error| io::Error::other(explain_start_error(&error.to_string())))
}

/// The operator's next step when an executor does not start.
fn explain_start_error(error: &str) -> String {
    format!(
        "io_uring is not usable here ({error}): a kernel 5.8 or newer is needed, kernel.io_uring_disabled must be 0, \
         the locked-memory limit (`ulimit -l`) must leave room for each core's registered buffers, and in a container a seccomp profile that allows io_uring \
         (tuning/seccomp.json, see docker-compose.yml)"
    )
}

/// Runs `future` on this core until it ends; nobody waits for it.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

/// Sleeps at least `duration`.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Lets other tasks of this core run, if the preemption timer says it is their turn.
pub async fn yield_if_needed() {
    glommio::yield_if_needed().await;
}

/// Runs the other tasks that are ready before this one goes on.
pub async fn yield_now() {
    futures_lite::future::yield_now().await;
}

/// What the first of two futures to end returns; `left` has precedence, the other is dropped.
pub async fn first<T>(left: impl Future<Output = T>, right: impl Future<Output = T>) -> T {
    futures_lite::future::or(left, right).await
}

/// A wake-up between tasks of one core.
#[derive(Debug)]
pub struct Notify {
    waiting: RefCell<Vec<Waker>>,
    generation: Cell<u64>,
}

impl Default for Notify {
    /// Room for a few waiting tasks from the start: the first to wait is on a request's way.
    fn default() -> Self {
        Notify {
            waiting: RefCell::new(Vec::with_capacity(16)),
            generation: Cell::new(0),
        }
    }
}

impl Notify {
    /// Wakes every task that waits.
    pub fn notify(&self) {
        self.generation.set(self.generation.get() + 1);
        for waker in self.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Waits for the next `notify`.
    pub async fn notified(&self) {
        let seen = self.generation.get();
        poll_fn(|cx| {
            if self.generation.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// A listening socket of this core.
pub struct Listener(glommio::net::TcpListener);

impl Listener {
    /// Takes over a bound, listening, non-blocking socket. Call on the core that will accept.
    pub fn from_std(listener: std::net::TcpListener) -> Self {
        // SAFETY: into_raw_fd gives up ownership of an open listening socket, and nothing else holds it.
        Listener(unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) })
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// Whatever accept(2) says: EMFILE and the like are the caller's to back off from.
    pub async fn accept(&self) -> io::Result<Connection> {
        let stream = self.0.accept().await.map_err(io::Error::from)?;
        Ok(Connection::new(stream))
    }
}

/// A bound socket of one core, before the core has it.
#[derive(Debug)]
pub enum ListenSocket {
    /// Connections come in by it.
    Tcp(std::net::TcpListener),
    /// Datagrams do.
    Udp(std::net::UdpSocket),
}

impl ListenSocket {
    /// Where it is bound.
    ///
    /// # Errors
    /// Whatever getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            ListenSocket::Tcp(socket) => socket.local_addr(),
            ListenSocket::Udp(socket) => socket.local_addr(),
        }
    }
}

/// A socket for datagrams, with SO_REUSEPORT where it is `shared`, so that every core binds the same address: the kernel gives each
/// sender to one of them. `buffer_bytes` is what may wait in the kernel, as far as that allows it.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen_datagrams(
    address: SocketAddr,
    buffer_bytes: usize,
    shared: bool,
) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    socket.set_reuse_port(shared)?;
    // Privileged programs may have more than net.core.rmem_max.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, buffer_bytes).is_err() {
        socket.set_recv_buffer_size(buffer_bytes)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket of this core that datagrams come in by.
pub struct DatagramSocket {
    /// Waits; takes nothing.
    waiting: glommio::net::UdpSocket,
    /// The same socket. It blocks, because io_uring does not wait for others, and is never waited on here.
    socket: std::net::UdpSocket,
}

impl DatagramSocket {
    /// Takes over a bound socket. Call on the core that will receive.
    ///
    /// # Panics
    /// When the process has no file descriptor left.
    pub fn from_std(socket: std::net::UdpSocket) -> Self {
        let waiting = socket
            .try_clone()
            .expect("a file descriptor for each listener at start");
        // SAFETY: into_raw_fd gives up ownership of a bound socket, and nothing else holds this descriptor.
        let waiting = unsafe { glommio::net::UdpSocket::from_raw_fd(waiting.into_raw_fd()) };
        DatagramSocket { waiting, socket }
    }

    /// Waits until a datagram is there, and leaves it there.
    ///
    /// # Errors
    /// The socket's error.
    pub async fn readable(&self) -> io::Result<()> {
        self.waiting.peek_from(&mut [0]).await.map_err(io::Error::from)?;
        Ok(())
    }

    /// Receives a datagram, its length and who sent it; `None` when none is there. What does not fit `buffer` is lost.
    ///
    /// # Errors
    /// The socket's error.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<IpAddr>)>> {
        match rustix::net::recvfrom(&self.socket, buffer, rustix::net::RecvFlags::DONTWAIT) {
            Ok((received, _, from)) => {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                Ok(Some((received, from.map(|from| from.ip().to_canonical()))))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Datagrams the kernel has dropped because its buffer for this socket was full (or a checksum wrong), so far; the count wraps.
    pub fn dropped(&self) -> u32 {
        let mut info = [0_u32; MEMINFO_VARS];
        let mut bytes = size_of_val(&info) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes to `info`, which has as many, and any bits are a u32.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_MEMINFO,
                info.as_mut_ptr().cast(),
                &mut bytes,
            )
        };
        // Linux has it since 4.12; io_uring asks for a newer one.
        if result == 0 { info[MEMINFO_DROPS] } else { 0 }
    }
}

/// `SO_MEMINFO`: the counters that linux/sock_diag.h calls `SK_MEMINFO_VARS`, in their order there.
const SO_MEMINFO: libc::c_int = 55;
const MEMINFO_DROPS: usize = 8;
const MEMINFO_VARS: usize = 9;

/// Bytes that nobody can foretell, 256 at most.
///
/// # Errors
/// The kernel has none, which does not happen once it has started.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    // So many come whole.
    if filled < N {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// A listening socket with SO_REUSEADDR and SO_REUSEPORT, so that every core binds the same address.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by its connections: a client that is gone without a word is noticed within some ten minutes.
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_pulse_comes_again_to_a_core_that_sleeps_on_it_but_not_each_time() {
        let wakes = Arc::new(Wakes::default());
        pulsed().push(Pulsed {
            waker: Waker::from(Arc::clone(&wakes)),
            missed: Arc::default(),
        });
        start_pulse().unwrap();
        let started = std::time::Instant::now();
        while wakes.0.load(Ordering::Relaxed) < 3 {
            assert!(started.elapsed() < Duration::from_secs(10), "it comes no more");
            std::thread::sleep(PULSE);
        }
        // The first at once; each further one after as many pulses.
        assert!(started.elapsed() > PULSE * (PULSES_UNTIL_AGAIN + 1));
    }
}
