//! The write-ahead log: what was acknowledged is here until ClickHouse has confirmed it.
//!
//! ```text
//! data-dir/
//!   lock                        held by the one process that uses the directory
//!   format                      version of everything below
//!   ledger                      counters of every table, shared memory of the running process
//!   wal/BOOT-CORE-INDEX.wal     segments: the blocks each ingest core has sealed
//!   journal/INDEX.journal       which blocks went into which INSERT under which token, and how it ended
//!   quarantine/                 bytes that should have been records and are none
//!   idempotency/, dead-letters/
//! ```
//!
//! An ingest core fills a [`Commit`] with sealed blocks; a thread of its own appends it to the core's current segment and
//! calls fdatasync once for all of it ([`log`]). From then on the blocks belong to the writer, which sends them from
//! the file and journals before what it is about to send ([`journal`]). A segment is deleted when the last of its blocks is
//! settled. [`recovery`] reads everything back at start.
//!
//! Everything here talks to the disk through [`disk::Disk`], so that tests can put one in its place that tears, reorders
//! and loses writes.

pub mod commit;
pub mod data_dir;
pub mod disk;
pub mod journal;
pub mod log;
pub mod record;
pub mod recovery;
pub mod segment;

pub use commit::Commit;
pub use segment::Segment;
