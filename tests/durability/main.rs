//! What an acknowledgement at `wal` is worth, against the real process and the real engine: kill -9, full and read-only
//! disks, damage, rows ClickHouse refuses, requests sent twice.

mod backlog;
#[path = "../common/mod.rs"]
mod common;
mod data_dir;
mod dead_letters;
mod full;
mod idempotency;
#[path = "../common/load.rs"]
mod load;
mod outages;
#[path = "../common/peer.rs"]
mod peer;
mod protocols;
#[path = "../common/proxy.rs"]
mod proxy;
mod replay;
mod rig;
mod schema;
#[path = "../common/small_disk.rs"]
mod small_disk;
