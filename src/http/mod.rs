//! HTTP/1.1 as plain functions over slices: no socket, no clock, no allocation per request.
//!
//! The files stand in the order a request meets them: bytes gather in a [`receive_buffer`], a proxy says whose they are
//! ([`proxy_protocol`]), a [`head`] is parsed in place, its path is read by [`uri`], its body runs through [`body`] ([`chunked`] framing, then
//! the content codings of [`encodings`]), and [`reply`] appends the answer with its [`status`] and [`date`].

pub mod receive_buffer;

pub mod head;
pub mod proxy_protocol;
pub mod uri;

pub mod body;
pub mod chunked;
pub mod encodings;

pub mod date;
pub mod reply;
pub mod reply_parts;
pub mod status;

pub use body::{BodyDecoder, BodyError, Step};
pub use encodings::{DecoderPool, Encoding};
pub use head::{Framing, Head, HeadError, Parse, parse_head};
pub use receive_buffer::{BufferPool, CannotGrow, ReceiveBuffer};
pub use reply::{Envelope, IngestReply, Persistence, Replier};
pub use status::Status;
