//! What can go wrong with ClickHouse, sorted by what to do about it.

use std::fmt;

/// An exception ClickHouse sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Number of `ErrorCodes.cpp`.
    pub code: i32,
    /// C++ class, almost always `DB::Exception`.
    pub name: String,
    /// Message without the stack trace.
    pub message: String,
    /// What caused it. Servers since 2019 send none, and put it into the message.
    pub nested: Option<Box<Exception>>,
}

/// Bytes ClickHouse must not send. The connection is of no use afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// A varint of more than 64 bits.
    VarintTooLong,
    /// A string over [`super::wire::STRING_BYTES_MAX`].
    StringTooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// A frame whose checksum is not that of its bytes.
    FrameChecksum,
    /// A frame compressed by a method other than LZ4 and NONE.
    FrameMethod {
        /// The frame's method byte.
        method: u8,
    },
    /// A frame over the limit for replies.
    FrameTooLarge {
        /// Compressed size with its header.
        framed_bytes: u32,
        /// Size when decompressed.
        data_bytes: u32,
    },
    /// A frame with a correct checksum whose data do not decompress to the size it names.
    FrameCorrupt,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for ProtocolError {}
