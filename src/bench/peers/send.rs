//! Sends the rows of one run: over HTTP from prepared bodies, or as native blocks that were made before.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::dialect::Dialect;
use super::super::id::{RunId, write_ids};
use super::super::kernel::{Core, Table};
use super::super::reply;
use super::super::rows::{Row, Rows};
use super::super::taker::Taker;
use crate::clickhouse::packet::{Login, Query};
use crate::clickhouse::session::{Event, Session};
use crate::limits::Limits;
use crate::topology::pin_current_thread;

/// How long a reply may take.
pub const REPLY_PATIENCE: Duration = Duration::from_secs(60);

/// Key of a row's id in this program's bodies.
const ID_KEY: &str = "trace_id";

/// Bodies a connection takes turns with.
const BODIES: usize = 4;

/// Rows of one INSERT over the native protocol.
const INSERT_ROWS: u64 = 131_072;

/// What is sent.
#[derive(Debug, Clone)]
pub struct Load {
    /// Rows in all.
    pub rows: u64,
    /// Of one request.
    pub rows_per_request: u64,
    /// Connections, a thread each.
    pub connections: u64,
    /// CPU of the threads.
    pub cpu: usize,
    /// Table they go to.
    pub table: String,
    /// Names the rows.
    pub run: RunId,
    /// Where rows come from.
    pub seed: u64,
    /// Time of the first row.
    pub unix_ms: u64,
}

impl Load {
    /// Some of its rows; each part has others.
    pub fn rows_of(&self, count: usize, part: u64) -> Vec<Row> {
        let mut rows = Rows::generated(self.seed.wrapping_add(part), self.unix_ms);
        (0..count).map(|_| rows.next_row()).collect()
    }

    /// All of its rows as lines of JSON, those of an INSERT together.
    pub fn inserts(&self) -> impl Iterator<Item = Vec<u8>> {
        let firsts = (0..self.rows).step_by(INSERT_ROWS as usize);
        firsts.map(|first| {
            let count = INSERT_ROWS.min(self.rows - first);
            let rows = self.rows_of(count as usize, first);
            let mut body = Dialect::Ndjson.body(&rows, ID_KEY, &self.run);
            write_ids(&mut body.bytes, &body.ids, first, body.form);
            body.bytes
        })
    }
}

/// Posts all rows, in requests of the same size (and a last one of what is left), and returns how many were acknowledged.
///
/// # Errors
/// A connection breaks, or a reply is not one of success: then the run says nothing.
pub fn post(load: &Load, taker: Taker, address: SocketAddr) -> io::Result<u64> {
    let requests = load.rows.div_ceil(load.rows_per_request);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.connections)
            .map(|part| {
                let next = &next;
                scope.spawn(move || post_some(load, taker, address, part, requests, next))
            })
            .collect();
        let mut sent = 0;
        for thread in threads {
            sent += thread
                .join()
                .map_err(|_| io::Error::other("a sender panicked"))??;
        }
        Ok(sent)
    })
}

fn post_some(
    load: &Load,
    taker: Taker,
    address: SocketAddr,
    part: u64,
    requests: u64,
    next: &AtomicU64,
) -> io::Result<u64> {
    pin_current_thread(load.cpu).map_err(io::Error::other)?;
    let mut bodies: Vec<_> = (0..BODIES as u64)
        .map(|body| {
            let rows = load.rows_of(load.rows_per_request as usize, part * BODIES as u64 + body);
            taker.body(&rows, ID_KEY, &load.run)
        })
        .collect();
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY_PATIENCE))?;
    let head = taker.head(&address.to_string(), &load.table);
    let mut sent = 0;
    loop {
        let request = next.fetch_add(1, Ordering::Relaxed);
        if request >= requests {
            return Ok(sent);
        }
        let first = request * load.rows_per_request;
        let count = load.rows_per_request.min(load.rows - first);
        let body = &mut bodies[(request % BODIES as u64) as usize];
        write_ids(&mut body.bytes, &body.ids, first, body.form);
        // A last request of fewer rows ends with a line's end.
        let end = match body.ids.get(count as usize) {
            Some(next) => {
                let before = &body.bytes[..*next];
                before
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |at| at + 1)
            }
            None => body.bytes.len(),
        };
        let head = format!("{head}Content-Length: {end}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body.bytes[..end])?;
        read_reply(&mut stream)?;
        sent += count;
    }
}

/// Reads one reply, which must be of success.
fn read_reply(stream: &mut impl Read) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 8192];
        match stream.read(&mut some)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&some[..count]),
        }
        match reply::read(&bytes) {
            Ok(None) => {}
            Ok(Some(reply)) if matches!(reply.status, 200 | 202) => return Ok(()),
            _ => {
                let text = String::from_utf8_lossy(&bytes);
                let shown: String = text.chars().take(600).collect();
                return Err(io::Error::other(format!("refused: {shown}")));
            }
        }
    }
}

/// Native blocks of rows, as a client would have them that does nothing else: made before anything is measured.
pub struct NativeBlocks {
    inserts: Vec<Vec<Vec<u8>>>,
    rows: u64,
}

impl NativeBlocks {
    /// Of all rows of the load.
    pub fn make(load: &Load) -> NativeBlocks {
        let limits = Limits::default();
        let blocks = |lines: Vec<u8>| {
            let mut core = Core::new(Table::Default, &limits);
            let mut blocks = Vec::new();
            core.push_into(&lines, &mut |frames| blocks.push(frames.to_vec()));
            blocks
        };
        NativeBlocks {
            inserts: load.inserts().map(blocks).collect(),
            rows: load.rows,
        }
    }

    /// Sends them, an INSERT after the other, and returns how many rows were acknowledged.
    ///
    /// # Errors
    /// The connection breaks, or ClickHouse refuses.
    pub fn send(&self, load: &Load, port: u16, columns: &str) -> io::Result<u64> {
        pin_current_thread(load.cpu).map_err(io::Error::other)?;
        let mut client = Native::connect(port)?;
        let text = format!("INSERT INTO {} ({columns}) FORMAT Native", load.table);
        for blocks in &self.inserts {
            client.insert(&text, blocks)?;
        }
        Ok(self.rows)
    }
}

/// The simplest native client there is.
struct Native {
    session: Session,
    stream: TcpStream,
    received: Vec<u8>,
}

impl Native {
    fn connect(port: u16) -> io::Result<Native> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_PATIENCE))?;
        let mut native = Native {
            session: Session::new(),
            stream,
            received: Vec::new(),
        };
        let mut out = Vec::new();
        let login = Login {
            user: "default",
            password: "",
            database: "default",
        };
        native.session.begin_hello(&mut out, &login);
        native.exchange(&out)?;
        Ok(native)
    }

    fn insert(&mut self, text: &str, blocks: &[Vec<u8>]) -> io::Result<()> {
        let mut out = Vec::new();
        let query = Query {
            id: "",
            text,
            settings: &[crate::clickhouse::packet::Setting {
                name: "async_insert",
                value: "0",
                important: false,
            }],
        };
        self.session.begin_insert(&mut out, &query);
        self.exchange(&out)?;
        for block in blocks {
            out.clear();
            self.session.put_data_header(&mut out);
            self.stream.write_all(&out)?;
            self.stream.write_all(block)?;
        }
        out.clear();
        self.session.end_insert(&mut out);
        self.exchange(&out)
    }

    /// Sends and waits for what is neither progress nor a failure.
    fn exchange(&mut self, out: &[u8]) -> io::Result<()> {
        self.stream.write_all(out)?;
        loop {
            let fed = self.session.feed(&self.received);
            let (consumed, event) = fed.map_err(|error| io::Error::other(error.to_string()))?;
            self.received.drain(..consumed);
            match event {
                Some(Event::Progress(_)) => {}
                Some(Event::Exception(exception)) => return Err(io::Error::other(exception.to_string())),
                Some(_) => return Ok(()),
                None => {
                    let mut some = [0; 8192];
                    match self.stream.read(&mut some)? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        count => self.received.extend_from_slice(&some[..count]),
                    }
                }
            }
        }
    }
}
