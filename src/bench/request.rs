//! Requests made before the run; when one is sent only its ids are written, and the body compressed if it is to be.

use std::io;

use clap::ValueEnum;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::id::{IdForm, RunId, write_ids};
use super::rows::Rows;
use super::taker::Taker;
use super::wire::Wire;

/// Content coding of the bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// None.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// RFC 1950, which HTTP calls deflate.
    Deflate,
}

impl Encoding {
    /// Name on the command line and in Content-Encoding.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "zstd",
            Encoding::Deflate => "deflate",
        }
    }
}

/// What all requests of a run have in common.
#[derive(Debug, Clone)]
pub struct RequestPlan {
    /// `HOST:PORT` of the Host header.
    pub host: String,
    /// Table, as the path names it.
    pub table: String,
    /// Who takes them, which says how bodies are written.
    pub taker: Taker,
    /// What is spoken on their connections.
    pub wire: Wire,
    /// How they are compressed.
    pub encoding: Encoding,
    /// Rows of a body.
    pub rows: usize,
    /// JSON key of the ids.
    pub id_key: String,
    /// Whose ids they are.
    pub run: RunId,
}

impl RequestPlan {
    /// The fields of a request over HTTP/2.
    ///
    /// # Panics
    /// When the host or the table is not fit for a URL.
    pub fn http2_head(&self) -> http::Request<()> {
        let target = self.taker.target(&self.table);
        let mut head = http::Request::post(format!("http://{}{target}", self.host))
            .header("content-type", self.taker.content_type());
        if self.encoding != Encoding::Identity {
            head = head.header("content-encoding", self.encoding.name());
        }
        for (name, value) in self.taker.fields(&self.table) {
            head = head.header(name, value);
        }
        head.body(()).expect("host, table and names are plain text")
    }

    /// The head up to the digits of Content-Length, which stands last; nothing where it is sent apart from the body.
    fn head(&self) -> String {
        if self.wire != Wire::Http1 {
            return String::new();
        }
        let mut head = self.taker.head(&self.host, &self.table);
        if self.encoding != Encoding::Identity {
            head.push_str(&format!("Content-Encoding: {}\r\n", self.encoding.name()));
        }
        head.push_str("Content-Length: ");
        head
    }
}

/// Bytes of bodies that are kept: as different as that allows, and still within a core's caches.
const BODIES_BYTES: usize = 4 * 1024 * 1024;

/// Bodies that are kept at least, whatever their size, and at most.
const BODIES_MIN: usize = 4;
const BODIES_MAX: usize = 1024;

/// A body and, uncompressed, the head before it if there is one.
#[derive(Debug, Clone)]
struct Template {
    bytes: Vec<u8>,
    /// Where the ids' numbers stand, and how.
    ids: Vec<usize>,
    form: IdForm,
    /// Length of the head.
    head: usize,
}

/// The requests of one thread.
pub struct Requests {
    templates: Vec<Template>,
    next: usize,
    head: String,
    encoder: Encoder,
    compressed: Vec<u8>,
    out: Vec<u8>,
}

/// A request as it goes to the socket.
#[derive(Debug, Clone, Copy)]
pub struct Ready<'a> {
    /// Head, if it goes with it, and body.
    pub bytes: &'a [u8],
    /// Length of the body before it was compressed.
    pub body_bytes: usize,
}

impl<'a> Ready<'a> {
    /// The body of a request that is not compressed.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[self.bytes.len() - self.body_bytes..]
    }
}

impl Requests {
    /// Builds the bodies from `rows`.
    ///
    /// # Errors
    /// The compressor cannot be set up.
    pub fn new(plan: &RequestPlan, rows: &mut Rows) -> io::Result<Requests> {
        let head = plan.head();
        let mut templates: Vec<Template> = Vec::new();
        let mut wanted = BODIES_MIN;
        while templates.len() < wanted {
            let batch: Vec<_> = (0..plan.rows).map(|_| rows.next_row()).collect();
            let body = plan.taker.body(&batch, &plan.id_key, &plan.run);
            wanted = (BODIES_BYTES / body.bytes.len().max(1)).clamp(BODIES_MIN, BODIES_MAX);
            let mut bytes = Vec::new();
            if plan.encoding == Encoding::Identity && !head.is_empty() {
                bytes.extend_from_slice(format!("{head}{}\r\n\r\n", body.bytes.len()).as_bytes());
            }
            let length = bytes.len();
            bytes.extend_from_slice(&body.bytes);
            templates.push(Template {
                bytes,
                ids: body.ids.iter().map(|at| at + length).collect(),
                form: body.form,
                head: length,
            });
        }
        Ok(Requests {
            templates,
            next: 0,
            head,
            encoder: Encoder::new(plan.encoding)?,
            compressed: Vec::new(),
            out: Vec::new(),
        })
    }

    /// The next request, its rows numbered from `first` on.
    ///
    /// # Errors
    /// The compressor fails.
    pub fn make(&mut self, first: u64) -> io::Result<Ready<'_>> {
        let index = self.next;
        self.next = (index + 1) % self.templates.len();
        let template = &mut self.templates[index];
        write_ids(&mut template.bytes, &template.ids, first, template.form);
        let body_bytes = template.bytes.len() - template.head;
        if matches!(self.encoder, Encoder::Identity) {
            return Ok(Ready {
                bytes: &template.bytes,
                body_bytes,
            });
        }
        self.compressed.clear();
        self.encoder.encode(&template.bytes, &mut self.compressed)?;
        self.out.clear();
        self.out.extend_from_slice(self.head.as_bytes());
        if !self.head.is_empty() {
            let mut digits = itoa::Buffer::new();
            self.out
                .extend_from_slice(digits.format(self.compressed.len()).as_bytes());
            self.out.extend_from_slice(b"\r\n\r\n");
        }
        self.out.extend_from_slice(&self.compressed);
        Ok(Ready {
            bytes: &self.out,
            body_bytes,
        })
    }
}

/// Every id is new, so every body is compressed anew, at the level that costs the generator least.
enum Encoder {
    Identity,
    /// Raw deflate, to be wrapped.
    Gzip(Box<Compress>),
    Zlib(Box<Compress>),
    Zstd(zstd::bulk::Compressor<'static>),
}

/// A gzip header without a name and a time, from an unknown system (RFC 1952, 2.3.1).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

impl Encoder {
    fn new(encoding: Encoding) -> io::Result<Encoder> {
        let deflate = |zlib| Box::new(Compress::new(Compression::fast(), zlib));
        Ok(match encoding {
            Encoding::Identity => Encoder::Identity,
            Encoding::Gzip => Encoder::Gzip(deflate(false)),
            Encoding::Deflate => Encoder::Zlib(deflate(true)),
            Encoding::Zstd => Encoder::Zstd(zstd::bulk::Compressor::new(1)?),
        })
    }

    fn encode(&mut self, body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Identity => out.extend_from_slice(body),
            Encoder::Zlib(compress) => deflate(compress, body, out)?,
            Encoder::Gzip(compress) => {
                out.extend_from_slice(&GZIP_HEADER);
                deflate(compress, body, out)?;
                let mut crc = Crc::new();
                crc.update(body);
                out.extend_from_slice(&crc.sum().to_le_bytes());
                out.extend_from_slice(&crc.amount().to_le_bytes());
            }
            Encoder::Zstd(compressor) => {
                out.resize(zstd::zstd_safe::compress_bound(body.len()), 0);
                let length = compressor.compress_to_buffer(body, out.as_mut_slice())?;
                out.truncate(length);
            }
        }
        Ok(())
    }
}

fn deflate(compress: &mut Compress, body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    compress.reset();
    loop {
        let taken = compress.total_in() as usize;
        out.reserve((body.len() - taken) / 2 + 1024);
        match compress.compress_vec(&body[taken..], out, FlushCompress::Finish)? {
            Status::StreamEnd => return Ok(()),
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::Dialect;
    use super::*;
    use crate::ack::AckLevel;
    use std::io::Read;

    fn plan(encoding: Encoding) -> RequestPlan {
        RequestPlan {
            host: "h:1".into(),
            table: "t".into(),
            taker: Taker::Ringhouse {
                dialect: Dialect::Ndjson,
                ack: AckLevel::Wal,
            },
            wire: Wire::Http1,
            encoding,
            rows: 50,
            id_key: "trace_id".into(),
            run: RunId::random(),
        }
    }

    /// The body of a request, inflated, after its head was checked.
    fn body(request: &[u8], encoding: Encoding) -> String {
        let end = memchr::memmem::find(request, b"\r\n\r\n").unwrap() + 4;
        let head = std::str::from_utf8(&request[..end]).unwrap();
        assert!(
            head.starts_with("POST /ingest/t?ack=wal HTTP/1.1\r\nHost: h:1\r\n"),
            "{head}"
        );
        assert!(
            head.ends_with(&format!("Content-Length: {}\r\n\r\n", request.len() - end)),
            "{head}"
        );
        let (body, mut text) = (&request[end..], String::new());
        match encoding {
            Encoding::Identity => text = String::from_utf8(body.to_vec()).unwrap(),
            Encoding::Gzip => {
                flate2::read::GzDecoder::new(body)
                    .read_to_string(&mut text)
                    .unwrap();
            }
            Encoding::Deflate => {
                flate2::read::ZlibDecoder::new(body)
                    .read_to_string(&mut text)
                    .unwrap();
            }
            Encoding::Zstd => text = String::from_utf8(zstd::decode_all(body).unwrap()).unwrap(),
        }
        text
    }

    #[test]
    fn numbers_every_row_of_every_request_in_each_encoding() {
        for encoding in [
            Encoding::Identity,
            Encoding::Gzip,
            Encoding::Deflate,
            Encoding::Zstd,
        ] {
            let plan = plan(encoding);
            let mut requests = Requests::new(&plan, &mut Rows::generated(1, 0)).unwrap();
            // Once round, so that templates are used again.
            for first in (0..requests.templates.len() as u64 + 2).map(|n| n * 50) {
                let ready = requests.make(first).unwrap();
                let text = body(ready.bytes, encoding);
                assert_eq!(text.len(), ready.body_bytes);
                for (at, line) in text.lines().enumerate() {
                    let row: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert_eq!(row["trace_id"], plan.run.id(first + at as u64), "{encoding:?}");
                }
                assert_eq!(text.lines().count(), 50);
            }
        }
    }
}
