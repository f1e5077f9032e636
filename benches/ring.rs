//! What it costs to hand a block to another core: through the ring, and to wake that core when it sleeps.
//!
//! Claims: pointers a second through a ring there and one back, between two pinned threads, beside the same through
//! `std::sync::mpsc::sync_channel`; and the time from a push to the look of a parked executor. Does not claim
//! anything of blocks: a pointer is eight bytes, and one crosses for tens of thousands of rows.
//!
//! Run with `cargo bench --bench ring`; `cargo bench --bench ring -- --test` runs each once on little data.

use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_lite::future::block_on;
use hdrhistogram::Histogram;
use ringhouse::doorbell::Doorbell;
use ringhouse::limits::Limits;
use ringhouse::ring::{Consumer, Producer, ring};
use ringhouse::runtime::{self, CoreOptions};
use ringhouse::topology;

/// In place of a block: something a pointer is needed for.
type Item = Box<u64>;

/// Items that are under way at once: as many as a core's ring holds.
fn pool() -> usize {
    Limits::default().ring_blocks
}

/// The first and the last CPU this process may run on; the same one when there is only one.
fn cpus() -> (usize, usize) {
    let cpus = topology::available();
    (cpus[0], cpus[cpus.len() - 1])
}

/// One end of a way there and back.
trait End: Send + 'static {
    fn send(&mut self, item: Item);
    fn receive(&mut self) -> Item;
}

struct RingEnd {
    to_peer: Producer<Item>,
    from_peer: Consumer<Item>,
    bell: Arc<Doorbell>,
}

impl End for RingEnd {
    fn send(&mut self, item: Item) {
        self.to_peer.push(item).expect("the ring holds the whole pool");
    }

    fn receive(&mut self) -> Item {
        block_on(self.bell.wait(|| self.from_peer.pop()))
    }
}

fn ring_ends() -> (RingEnd, RingEnd) {
    let (here, there) = (Arc::new(Doorbell::new()), Arc::new(Doorbell::new()));
    let (to_there, from_here) = ring(pool(), Arc::clone(&there));
    let (to_here, from_there) = ring(pool(), Arc::clone(&here));
    let end = |to_peer, from_peer, bell| RingEnd {
        to_peer,
        from_peer,
        bell,
    };
    (end(to_there, from_there, here), end(to_here, from_here, there))
}

struct ChannelEnd {
    to_peer: SyncSender<Item>,
    from_peer: Receiver<Item>,
}

impl End for ChannelEnd {
    fn send(&mut self, item: Item) {
        self.to_peer.send(item).expect("the peer outlives its items");
    }

    fn receive(&mut self) -> Item {
        self.from_peer.recv().expect("the peer outlives its items")
    }
}

fn channel_ends() -> (ChannelEnd, ChannelEnd) {
    let (to_there, from_here) = sync_channel(pool());
    let (to_here, from_there) = sync_channel(pool());
    let end = |to_peer, from_peer| ChannelEnd { to_peer, from_peer };
    (end(to_there, from_there), end(to_here, from_here))
}

/// Time for `items` items to go there and come back, the pool being all that is under way.
fn there_and_back(mut here: impl End, mut there: impl End, items: u64) -> Duration {
    let (here_cpu, there_cpu) = cpus();
    let peer = thread::spawn(move || {
        // A bench that cannot pin still measures; its spread tells.
        let _ = topology::pin_current_thread(there_cpu);
        for _ in 0..items {
            let item = there.receive();
            there.send(item);
        }
    });
    let _ = topology::pin_current_thread(here_cpu);
    let started = Instant::now();
    let (mut sent, mut sum) = (0, 0);
    while sent < items.min(pool() as u64) {
        here.send(Box::new(sent));
        sent += 1;
    }
    for _ in 0..items {
        let mut item = here.receive();
        sum += *item;
        if sent < items {
            *item = sent;
            here.send(item);
            sent += 1;
        }
    }
    let took = started.elapsed();
    peer.join().expect("the peer does not panic");
    assert_eq!(sum, items * (items - 1) / 2, "every item came back once");
    took
}

fn throughput(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(1));
    let bell = Arc::new(Doorbell::new());
    let (mut producer, mut consumer) = ring::<Item>(pool(), bell);
    let mut item = Some(Box::new(0));
    group.bench_function("push and pop, one thread", |b| {
        b.iter(|| {
            let pushed = producer.push(item.take().expect("it came back"));
            black_box(&pushed).as_ref().expect("the ring is empty");
            item = consumer.pop();
        })
    });
    group.bench_function("there and back, two threads", |b| {
        b.iter_custom(|items| {
            let (here, there) = ring_ends();
            there_and_back(here, there, items)
        })
    });
    group.bench_function("there and back, two threads, sync_channel", |b| {
        b.iter_custom(|items| {
            let (here, there) = channel_ends();
            there_and_back(here, there, items)
        })
    });
    group.finish();
}

/// From a push to the look of a peer that is parked in its executor; beside it the same for a thread that is parked in
/// recv(2), which is what the kernel alone takes.
fn wake(_: &mut Criterion) {
    // As criterion does: `cargo bench` says `--bench`, `cargo test` says nothing.
    let says = |word: &str| std::env::args().any(|argument| argument == word);
    let wakes = if says("--test") || !says("--bench") {
        20
    } else {
        3_000
    };
    report("parked executor, doorbell", &wake_executor(wakes));
    report("thread in recv(2), UDP socket", &wake_receiver(wakes));
}

/// Long enough for the peer to park.
const PAUSE: Duration = Duration::from_micros(500);

fn wake_executor(wakes: u64) -> Histogram<u64> {
    let (here_cpu, there_cpu) = cpus();
    let bell = Arc::new(Doorbell::new());
    let (mut producer, mut consumer) = ring::<Instant>(pool(), Arc::clone(&bell));
    let (done, latencies) = sync_channel(1);
    let options = CoreOptions {
        cpu: Some(there_cpu),
        spin_before_park: Duration::ZERO,
    };
    runtime::spawn_core("bench", options, move || async move {
        let mut latencies = empty();
        for _ in 0..wakes {
            let pushed = bell.wait(|| consumer.pop()).await;
            latencies.saturating_record(pushed.elapsed().as_nanos() as u64);
        }
        done.send(latencies).expect("the bench waits for it");
    })
    .expect("io_uring works here");
    let _ = topology::pin_current_thread(here_cpu);
    for _ in 0..wakes {
        thread::sleep(PAUSE);
        let mut now = Instant::now();
        while let Err(back) = producer.push(now) {
            now = back;
            thread::sleep(PAUSE);
        }
    }
    latencies.recv().expect("the core sends it")
}

fn wake_receiver(wakes: u64) -> Histogram<u64> {
    let (here_cpu, there_cpu) = cpus();
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = receiver.local_addr().expect("it is bound");
    let started = Instant::now();
    let peer = thread::spawn(move || {
        let _ = topology::pin_current_thread(there_cpu);
        let mut latencies = empty();
        for _ in 0..wakes {
            let mut sent_ns = [0; 8];
            receiver.recv(&mut sent_ns).expect("loopback delivers");
            let now_ns = started.elapsed().as_nanos() as u64;
            latencies.saturating_record(now_ns - u64::from_ne_bytes(sent_ns));
        }
        latencies
    });
    let _ = topology::pin_current_thread(here_cpu);
    for _ in 0..wakes {
        thread::sleep(PAUSE);
        let sent_ns = started.elapsed().as_nanos() as u64;
        sender
            .send_to(&sent_ns.to_ne_bytes(), address)
            .expect("loopback takes it");
    }
    peer.join().expect("the peer does not panic")
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(64, 1_000_000_000, 2).expect("the bounds are constants and in order")
}

fn report(what: &str, latencies: &Histogram<u64>) {
    let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "wake/{what}: {} wakes, median {:.1} us, p99 {:.1} us, most {:.1} us",
        latencies.len(),
        us(0.5),
        us(0.99),
        us(1.0),
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = throughput, wake
}
criterion_main!(benches);
