//! A TCP proxy before ClickHouse that delays, and cuts connections where a test wants them cut.
#![allow(dead_code)] // Each test program uses its own part of this.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use ringhouse::clickhouse::packet;

/// What happens to the connections that carry INSERTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Refused: the connection is closed before a byte went through.
    Refuse,
    /// Every piece takes so many milliseconds.
    Delay(u64),
    /// Cut after a random number of bytes, fewer than this, in either direction.
    CutWithin(u64),
    /// ClickHouse gets all data of an INSERT and has answered it; the answer is lost with the connection.
    LoseAnswer,
    /// ClickHouse gets all data of an INSERT; the connection is cut before it can have answered.
    CutBeforeAnswer,
}

/// The proxy. Its threads end with the process.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: AtomicU64,
    fault: Mutex<Fault>,
    random: Mutex<fastrand::Rng>,
    cuts: AtomicU64,
    /// Connections that may still be cut. Their sockets close when both directions have ended.
    connections: Mutex<Vec<Weak<Link>>>,
}

struct Link {
    client: TcpStream,
    server: TcpStream,
    /// The INSERT's data are complete at the server.
    ended: AtomicBool,
    cut: AtomicBool,
}

impl Proxy {
    pub fn start(target: u16, seed: u64) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target: AtomicU64::new(u64::from(target)),
            fault: Mutex::new(Fault::None),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            cuts: AtomicU64::new(0),
            connections: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            listener
                .incoming()
                .flatten()
                .for_each(|client| accepting.accept(client))
        });
        Proxy { port, shared }
    }

    /// From now on, also for connections that are open. `Refuse` cuts these.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        if fault == Fault::Refuse {
            self.shared.cut_all();
        }
    }

    /// Cuts every connection once.
    pub fn cut_all(&self) {
        self.shared.cut_all();
    }

    /// Connections cut so far, those refused not counted.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn cut_all(&self) {
        for link in self.connections.lock().unwrap().drain(..) {
            if let Some(link) = link.upgrade() {
                self.cut(&link);
            }
        }
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        if self.fault() == Fault::Refuse {
            return;
        }
        let target = u16::try_from(self.target.load(Ordering::Relaxed)).unwrap();
        let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target))) else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let link = Arc::new(Link {
            client,
            server,
            ended: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        });
        let mut connections = self.connections.lock().unwrap();
        connections.retain(|link| link.strong_count() > 0);
        connections.push(Arc::downgrade(&link));
        drop(connections);
        for upward in [true, false] {
            let (shared, link) = (Arc::clone(self), Arc::clone(&link));
            thread::spawn(move || shared.carry(&link, upward));
        }
    }

    /// The client sees the connection gone. ClickHouse sees end of stream and not a reset, on which the embedded engine
    /// aborts: what it still says is read and thrown away.
    fn cut(&self, link: &Link) {
        if !link.cut.swap(true, Ordering::Relaxed) {
            self.cuts.fetch_add(1, Ordering::Relaxed);
            let _ = link.client.shutdown(Shutdown::Both);
            let _ = link.server.shutdown(Shutdown::Write);
        }
    }

    fn carry(&self, link: &Link, upward: bool) {
        let (mut from, mut to) = match upward {
            true => (&link.client, &link.server),
            false => (&link.server, &link.client),
        };
        let mut watch = Insert::default();
        let mut piece = [0; 16 * 1024];
        let mut left = None;
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let bytes = &piece[..count];
            if link.cut.load(Ordering::Relaxed) {
                continue;
            }
            if upward {
                watch.look(bytes);
            }
            let fault = self.fault();
            let mut send = bytes;
            match fault {
                Fault::Delay(ms) => thread::sleep(Duration::from_millis(ms)),
                Fault::CutWithin(within) => {
                    let left = left.get_or_insert_with(|| self.random.lock().unwrap().u64(0..within));
                    send = &bytes[..bytes.len().min(*left as usize)];
                    *left -= send.len() as u64;
                }
                Fault::LoseAnswer if !upward && link.ended.load(Ordering::Relaxed) => {
                    // END_OF_STREAM ends an INSERT; progress may come before it.
                    if bytes.ends_with(&[5]) {
                        self.cut(link);
                    }
                    continue;
                }
                _ => left = None,
            }
            if upward && watch.ended {
                link.ended.store(true, Ordering::Relaxed);
            }
            let sent = to.write_all(send);
            if upward && watch.ended && fault == Fault::CutBeforeAnswer {
                self.cut(link);
            }
            if upward && watch.ended && fault != Fault::LoseAnswer {
                // The next INSERT on this connection starts anew.
                link.ended.store(false, Ordering::Relaxed);
            }
            if sent.is_err() || send.len() < bytes.len() {
                self.cut(link);
            }
        }
        // This direction has ended by itself; the other may go on.
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// Finds the end of an INSERT's data in what a client sends.
#[derive(Default)]
struct Insert {
    tail: Vec<u8>,
    running: bool,
    empty_blocks: u8,
    ended: bool,
}

impl Insert {
    /// `ended` is whether an INSERT's last byte is among `bytes`.
    fn look(&mut self, bytes: &[u8]) {
        let mut empty = Vec::new();
        packet::put_empty_block(&mut empty);
        let seen = self.tail.len();
        self.tail.extend_from_slice(bytes);
        self.ended = false;
        for end in seen + 1..=self.tail.len() {
            let until = &self.tail[..end];
            if until.ends_with(b"INSERT INTO") {
                (self.running, self.empty_blocks) = (true, 0);
            }
            if self.running && until.ends_with(&empty) {
                // The first follows the query and says that it has no external tables.
                self.empty_blocks += 1;
                if self.empty_blocks == 2 {
                    (self.running, self.ended) = (false, true);
                }
            }
        }
        let keep = self.tail.len().min(empty.len() + 16);
        self.tail.drain(..self.tail.len() - keep);
    }
}
