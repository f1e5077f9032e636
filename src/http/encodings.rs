//! Inflates gzip, deflate and zstd bodies with decoders that are lent, reset and lent again.
//!
//! A decoder takes pieces of input and fills pieces of output; its memory is a window of fixed greatest size,
//! whatever the body's. The bounds on what a body may become are kept by [`body`](crate::http::body).

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{self, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use crate::limits::Limits;

/// Content coding of a body. RFC 9110 section 8.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952; also sent as `x-gzip`.
    Gzip,
    /// RFC 1950, or RFC 1951 without its wrapper as some clients send it.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// Snappy's block format, in which the length comes first: only of a message that is received whole.
    Snappy,
}

impl Encoding {
    /// The coding of a Content-Encoding token, in any case.
    pub fn from_token(token: &[u8]) -> Option<Encoding> {
        let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        match token.len() {
            4 if is("gzip") => Some(Encoding::Gzip),
            4 if is("zstd") => Some(Encoding::Zstd),
            6 if is("x-gzip") => Some(Encoding::Gzip),
            7 if is("deflate") => Some(Encoding::Deflate),
            6 if is("snappy") => Some(Encoding::Snappy),
            8 if is("identity") => Some(Encoding::Identity),
            _ => None,
        }
    }

    /// The token as sent in Content-Encoding.
    pub fn token(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
            Encoding::Zstd => "zstd",
            Encoding::Snappy => "snappy",
        }
    }
}

/// Why compressed bytes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// The bytes are not of this coding.
    Malformed {
        /// What the body was said to be.
        encoding: Encoding,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Bytes follow the end of the compressed data.
    TrailingBytes {
        /// What the body was said to be.
        encoding: Encoding,
    },
    /// This core lends no more memory for decoders: the server is full, the body is not at fault.
    PoolExhausted,
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InflateError::Malformed { encoding, reason } => {
                write!(f, "The body does not inflate as {}: {reason}.", encoding.token())
            }
            InflateError::TrailingBytes { encoding } => {
                write!(f, "Bytes follow the end of the {} data.", encoding.token())
            }
            InflateError::PoolExhausted => {
                f.write_str("Too many compressed bodies are being received; try again later.")
            }
        }
    }
}

impl std::error::Error for InflateError {}

/// Largest zstd window taken, 8 MiB: what RFC 8878 section 3.1.1.1.2 asks every decoder to support, and all
/// that the command line tool uses up to level 19.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What one flate decoder holds: a window of 32 KiB, decoding tables, and zlib-rs' copy of the window's start.
const FLATE_BYTES: usize = 64 * 1024;

/// The decoders of one core.
///
/// What they hold, lent and idle together, stays within half of `Limits::body_buffers_bytes_per_core` (plus one
/// zstd window, whose size is known only once it is there). A zstd context is some 100 KiB before it sees a
/// byte, so decoders are reset and lent again, last given first.
#[derive(Debug, Clone)]
pub struct DecoderPool {
    shared: Rc<RefCell<Pool>>,
}

#[derive(Debug)]
struct Pool {
    flate: Vec<Flate>,
    zstd: Vec<Zstd>,
    held_bytes: usize,
    held_bytes_max: usize,
}

impl DecoderPool {
    /// An empty pool; decoders are made when first needed.
    pub fn new(limits: &Limits) -> DecoderPool {
        DecoderPool {
            shared: Rc::new(RefCell::new(Pool {
                flate: Vec::new(),
                zstd: Vec::new(),
                held_bytes: 0,
                held_bytes_max: limits.body_buffers_bytes_per_core / 2,
            })),
        }
    }

    /// Bytes held by all decoders, lent and idle.
    pub fn held_bytes(&self) -> usize {
        self.shared.borrow().held_bytes
    }

    /// Lends a decoder; `None` for a body that needs none.
    pub(super) fn lend(&self, encoding: Encoding) -> Result<Option<Inflater>, InflateError> {
        let engine = match encoding {
            Encoding::Identity => return Ok(None),
            Encoding::Snappy => {
                return Err(InflateError::Malformed {
                    encoding,
                    reason: "it is taken of Loki's protobuf only",
                });
            }
            Encoding::Gzip => Engine::Flate(self.take_flate()?, Wrapper::Gzip(Gzip::default())),
            Encoding::Deflate => Engine::Flate(self.take_flate()?, Wrapper::Unknown),
            Encoding::Zstd => Engine::Zstd(self.take_zstd()?),
        };
        Ok(Some(Inflater {
            pool: self.clone(),
            encoding,
            engine,
            pending: false,
            at_end: true,
        }))
    }

    fn take_flate(&self) -> Result<Flate, InflateError> {
        let mut pool = self.shared.borrow_mut();
        if let Some(mut flate) = pool.flate.pop() {
            flate.reset(false);
            return Ok(flate);
        }
        pool.grow(FLATE_BYTES)?;
        Ok(Flate(Decompress::new(false)))
    }

    fn take_zstd(&self) -> Result<Zstd, InflateError> {
        let mut pool = self.shared.borrow_mut();
        if let Some(zstd) = pool.zstd.pop() {
            return Ok(zstd);
        }
        let zstd = Zstd::new().ok_or(InflateError::PoolExhausted)?;
        pool.grow(zstd.held_bytes)?;
        Ok(zstd)
    }
}

impl Pool {
    /// Counts `bytes` more as held, freeing idle decoders when that is needed for it.
    fn grow(&mut self, bytes: usize) -> Result<(), InflateError> {
        while self.held_bytes + bytes > self.held_bytes_max {
            self.held_bytes -= match (self.zstd.pop(), self.flate.pop()) {
                (Some(zstd), flate) => {
                    self.flate.extend(flate);
                    zstd.held_bytes
                }
                (None, Some(_)) => FLATE_BYTES,
                (None, None) => return Err(InflateError::PoolExhausted),
            };
        }
        self.held_bytes += bytes;
        Ok(())
    }
}

/// A decoder on loan for one body; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Inflater {
    pool: DecoderPool,
    encoding: Encoding,
    engine: Engine,
    /// The last output was filled to its end: more may come without more input.
    pending: bool,
    /// Nothing is missing if the body ends here.
    at_end: bool,
}

#[derive(Debug)]
enum Engine {
    Flate(Flate, Wrapper),
    Zstd(Zstd),
    /// Given back.
    None,
}

/// What one step read and wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inflated {
    pub read: usize,
    pub wrote: usize,
}

impl Inflated {
    const NOTHING: Inflated = Inflated { read: 0, wrote: 0 };
}

impl Inflater {
    /// Reads from `input` and writes to `out` until one of them is used up.
    ///
    /// `out` must not be empty. Nothing read and nothing written means that more input is needed.
    pub fn inflate(&mut self, input: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
        debug_assert!(!out.is_empty(), "an inflater needs room to write");
        let mut total = Inflated { read: 0, wrote: 0 };
        // zstd counts calls that can do nothing and gives up; zlib merely wastes them.
        while total.wrote < out.len() && (total.read < input.len() || self.pending) {
            let step = self.step(&input[total.read..], &mut out[total.wrote..])?;
            total.read += step.read;
            total.wrote += step.wrote;
            self.pending = total.wrote == out.len();
            if step == Inflated::NOTHING && total.read < input.len() {
                // With input and room a decoder moves or fails; one that does neither would hang the caller.
                return Err(InflateError::Malformed {
                    encoding: self.encoding,
                    reason: "its data is stuck",
                });
            }
        }
        Ok(total)
    }

    /// Whether the compressed data is complete as far as it was read: at its start, or after its end.
    pub fn at_end(&self) -> bool {
        self.at_end
    }

    /// What the body was said to be.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
        match &mut self.engine {
            Engine::Flate(flate, wrapper) => {
                let inflated = wrapper.step(flate, input, out)?;
                self.at_end = wrapper.at_end();
                Ok(inflated)
            }
            Engine::Zstd(zstd) => {
                let (inflated, frame_ended) = zstd.step(input, out)?;
                if inflated != Inflated::NOTHING {
                    self.at_end = frame_ended;
                }
                let grown = zstd.grown();
                if grown > 0 {
                    self.pool.shared.borrow_mut().grow(grown)?;
                    zstd.held_bytes += grown;
                }
                Ok(inflated)
            }
            Engine::None => unreachable!("given back on drop only"),
        }
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        let mut pool = self.pool.shared.borrow_mut();
        match std::mem::replace(&mut self.engine, Engine::None) {
            Engine::Flate(flate, _) => pool.flate.push(flate),
            Engine::Zstd(mut zstd) => {
                // A context that outgrew the pool was refused its growth: it is freed, and its count with it.
                if zstd.grown() == 0 && zstd.reset() {
                    pool.zstd.push(zstd);
                } else {
                    pool.held_bytes -= zstd.held_bytes;
                }
            }
            Engine::None => {}
        }
    }
}

/// Raw deflate, or deflate in its zlib wrapper.
struct Flate(Decompress);

impl fmt::Debug for Flate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flate")
    }
}

impl Flate {
    fn reset(&mut self, zlib: bool) {
        self.0.reset(zlib);
    }

    /// The counts, and whether the deflate data has ended.
    fn step(
        &mut self,
        encoding: Encoding,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<(Inflated, bool), InflateError> {
        let (read, wrote) = (self.0.total_in(), self.0.total_out());
        let status = self
            .0
            .decompress(input, out, FlushDecompress::None)
            .map_err(|error| {
                let reason = if error.needs_dictionary().is_some() {
                    "it needs a dictionary"
                } else {
                    "its data is corrupt"
                };
                InflateError::Malformed { encoding, reason }
            })?;
        let inflated = Inflated {
            read: (self.0.total_in() - read) as usize,
            wrote: (self.0.total_out() - wrote) as usize,
        };
        Ok((inflated, status == Status::StreamEnd))
    }
}

/// What is around the deflate data.
#[derive(Debug)]
enum Wrapper {
    Gzip(Gzip),
    /// Content-Encoding deflate, nothing read yet.
    Unknown,
    /// Deflate under way, zlib or raw.
    Plain,
    /// Deflate has ended; nothing may follow.
    Ended,
}

impl Wrapper {
    fn at_end(&self) -> bool {
        match self {
            Wrapper::Gzip(gzip) => gzip.at_end(),
            Wrapper::Unknown | Wrapper::Ended => true,
            Wrapper::Plain => false,
        }
    }

    fn step(&mut self, flate: &mut Flate, input: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
        match (&mut *self, input) {
            (Wrapper::Gzip(gzip), _) => return gzip.step(flate, input, out),
            (Wrapper::Ended | Wrapper::Unknown, []) => return Ok(Inflated::NOTHING),
            (Wrapper::Ended, _) => {
                return Err(InflateError::TrailingBytes {
                    encoding: Encoding::Deflate,
                });
            }
            (Wrapper::Unknown, &[first, ..]) => {
                flate.reset(begins_zlib(first));
                *self = Wrapper::Plain;
            }
            (Wrapper::Plain, _) => {}
        }
        let (inflated, ended) = flate.step(Encoding::Deflate, input, out)?;
        if ended {
            *self = Wrapper::Ended;
            if inflated.read < input.len() {
                return Err(InflateError::TrailingBytes {
                    encoding: Encoding::Deflate,
                });
            }
        }
        Ok(inflated)
    }
}

/// The low half of a zlib header's first byte is the method, always 8 (RFC 1950 section 2.2). Raw deflate with
/// that half would begin with a stored block whose padding is not zero, which no encoder writes.
fn begins_zlib(first: u8) -> bool {
    first & 0x0f == 8
}

/// The members of a gzip file (RFC 1952): header, raw deflate, checksum and length; then the next member.
#[derive(Debug)]
struct Gzip {
    state: GzipState,
    /// FLG of the member's header: the optional fields still to skip.
    flags: u8,
    /// Bytes of the current field read so far.
    at: usize,
    /// The multi-byte number being read, little-endian.
    number: u64,
    checksum: Crc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GzipState {
    /// Before a member: the body may end here.
    Between,
    /// The ten bytes of the header after the first.
    Fixed,
    ExtraLength,
    Extra,
    Name,
    Comment,
    HeaderChecksum,
    Deflate,
    Trailer,
}

const GZIP_HEADER_CHECKSUM: u8 = 1 << 1;
const GZIP_EXTRA: u8 = 1 << 2;
const GZIP_NAME: u8 = 1 << 3;
const GZIP_COMMENT: u8 = 1 << 4;
const GZIP_RESERVED: u8 = 0b1110_0000;

impl Default for Gzip {
    fn default() -> Self {
        Gzip {
            state: GzipState::Between,
            flags: 0,
            at: 0,
            number: 0,
            checksum: Crc::new(),
        }
    }
}

impl Gzip {
    fn at_end(&self) -> bool {
        self.state == GzipState::Between
    }

    fn step(&mut self, flate: &mut Flate, input: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
        let mut total = Inflated::NOTHING;
        loop {
            while self.state != GzipState::Deflate {
                let Some(&byte) = input.get(total.read) else {
                    return Ok(total);
                };
                self.wrap(byte, flate)?;
                total.read += 1;
            }
            if total.wrote == out.len() {
                return Ok(total);
            }
            let room = &mut out[total.wrote..];
            let (inflated, ended) = flate.step(Encoding::Gzip, &input[total.read..], room)?;
            self.checksum.update(&room[..inflated.wrote]);
            total.read += inflated.read;
            total.wrote += inflated.wrote;
            if !ended {
                return Ok(total);
            }
            self.enter(GzipState::Trailer);
        }
    }

    /// Reads one byte outside of the deflate data.
    fn wrap(&mut self, byte: u8, flate: &mut Flate) -> Result<(), InflateError> {
        let malformed = |reason| {
            Err(InflateError::Malformed {
                encoding: Encoding::Gzip,
                reason,
            })
        };
        self.at += 1;
        match (self.state, self.at) {
            (GzipState::Between, _) if byte == 0x1f => {
                self.enter(GzipState::Fixed);
                flate.reset(false);
                self.checksum.reset();
            }
            // The first member must begin with the magic number; after it, anything else is left over.
            (GzipState::Between, _) if self.checksum.amount() == 0 => return malformed("it is not gzip"),
            (GzipState::Between, _) => {
                return Err(InflateError::TrailingBytes {
                    encoding: Encoding::Gzip,
                });
            }
            (GzipState::Fixed, 1) if byte != 0x8b => return malformed("it is not gzip"),
            (GzipState::Fixed, 2) if byte != 8 => return malformed("its method is not deflate"),
            (GzipState::Fixed, 3) if byte & GZIP_RESERVED != 0 => return malformed("it uses reserved flags"),
            (GzipState::Fixed, 3) => self.flags = byte,
            // Time, extra flags and system follow: six bytes that say nothing about the data.
            (GzipState::Fixed, 9) => self.next_field(),
            (GzipState::Fixed, _) => {}
            (GzipState::ExtraLength, 1) => self.number = u64::from(byte),
            (GzipState::ExtraLength, _) => {
                self.number |= u64::from(byte) << 8;
                match self.number {
                    0 => self.next_field(),
                    _ => self.enter_with(GzipState::Extra, self.number),
                }
            }
            (GzipState::Extra, at) if at as u64 == self.number => self.next_field(),
            (GzipState::Name | GzipState::Comment, at) if at > GZIP_TEXT_BYTES_MAX => {
                return malformed("the file name in its header is too long");
            }
            (GzipState::Name | GzipState::Comment, _) if byte == 0 => self.next_field(),
            (GzipState::Extra | GzipState::Name | GzipState::Comment, _) => {}
            (GzipState::HeaderChecksum, 2) => self.next_field(),
            (GzipState::HeaderChecksum, _) => {}
            (GzipState::Trailer, at) => {
                self.number |= u64::from(byte) << (8 * (at - 1));
                if at == 8 {
                    let (checksum, length) = (self.number as u32, (self.number >> 32) as u32);
                    if checksum != self.checksum.sum() || length != self.checksum.amount() {
                        return malformed("its checksum does not match");
                    }
                    self.enter(GzipState::Between);
                }
            }
            (GzipState::Deflate, _) => unreachable!("step() inflates in this state"),
        }
        Ok(())
    }

    /// Goes on to the first optional header field the flags still name, in the order of RFC 1952.
    fn next_field(&mut self) {
        const FIELDS: [(u8, GzipState); 4] = [
            (GZIP_EXTRA, GzipState::ExtraLength),
            (GZIP_NAME, GzipState::Name),
            (GZIP_COMMENT, GzipState::Comment),
            (GZIP_HEADER_CHECKSUM, GzipState::HeaderChecksum),
        ];
        for (flag, state) in FIELDS {
            if self.flags & flag != 0 {
                self.flags &= !flag;
                return self.enter(state);
            }
        }
        self.enter(GzipState::Deflate);
    }

    fn enter(&mut self, state: GzipState) {
        self.enter_with(state, 0);
    }

    fn enter_with(&mut self, state: GzipState, number: u64) {
        (self.state, self.at, self.number) = (state, 0, number);
    }
}

/// Bytes of a file name or comment in a gzip header: neither says anything about a log.
const GZIP_TEXT_BYTES_MAX: usize = 4096;

/// A zstd context, and what of its memory is counted in the pool.
struct Zstd {
    context: DCtx<'static>,
    held_bytes: usize,
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd")
            .field("held_bytes", &self.held_bytes)
            .finish_non_exhaustive()
    }
}

impl Zstd {
    /// `None` when there is no memory for it.
    fn new() -> Option<Zstd> {
        let mut context = DCtx::try_create()?;
        context
            .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
            .ok()?;
        let held_bytes = context.sizeof();
        Some(Zstd { context, held_bytes })
    }

    /// Bytes allocated since they were counted.
    fn grown(&self) -> usize {
        self.context.sizeof().saturating_sub(self.held_bytes)
    }

    /// Forgets the stream, keeps parameters and memory; false when that fails.
    fn reset(&mut self) -> bool {
        self.context.reset(ResetDirective::SessionOnly).is_ok()
    }

    /// The counts, and whether a frame has just ended.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(Inflated, bool), InflateError> {
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(out);
        let hint = self
            .context
            .decompress_stream(&mut target, &mut source)
            .map_err(|code| InflateError::Malformed {
                encoding: Encoding::Zstd,
                reason: zstd_safe::get_error_name(code),
            })?;
        Ok((
            Inflated {
                read: source.pos(),
                wrote: target.pos(),
            },
            hint == 0,
        ))
    }
}
