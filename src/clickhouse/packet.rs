//! The packets of the native protocol.
