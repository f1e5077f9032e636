//! A log that takes no more: full, or on a disk that takes no files.

use std::process::Command;

use super::common::client::header;
use super::common::{Reply, Server, eventually};
use super::load::readyz;
use super::rig::{Rig, lines};
use super::small_disk::SmallDisk;

/// A row that does not compress.
fn large_row(number: u64) -> String {
    let mut random = fastrand::Rng::with_seed(number);
    let noise: String = (0..6_000).map(|_| random.alphanumeric()).collect();
    format!("{{\"message\":\"{number}\",\"noise\":\"{noise}\"}}\n")
}

/// Posts rows at `wal` from `next` on until one is refused at once; the numbers acknowledged, and the refusal.
fn post_until_refused(server: &Server, next: &mut u64) -> (Vec<u64>, Reply) {
    let mut acknowledged = Vec::new();
    let refusal = eventually("503", || {
        let number = *next;
        *next += 1;
        let reply = server.post("/ingest?ack=wal", large_row(number));
        match reply.status {
            200 => acknowledged.push(number),
            503 => return Some(reply),
            _ => panic!("{reply:?}"),
        }
        None
    });
    (acknowledged, refusal)
}

/// The refusal of a request that comes while the log takes nothing.
fn refusal(server: &Server, reason: &str) {
    let reply = eventually("the log's error to be known", || {
        let reply = server.post("/ingest?ack=memory", lines([1 << 40]));
        (reply.status == 503).then_some(reply)
    });
    assert!(reply.body.contains(reason), "{reply:?}");
    assert!(header(&reply.head, "retry-after").is_some(), "{reply:?}");
    let (status, page) = eventually("/readyz to tell", || {
        Some(readyz(server)).filter(|(status, _)| *status == 503)
    });
    assert!(status == 503 && page.contains(reason), "{page}");
}

/// Every acknowledged row once; others, that waited for the log when they were given up or killed, at most once.
fn assert_kept(rig: &Rig, server: &Server, acknowledged: &[u64]) {
    let ledger = super::load::settled(server);
    assert_eq!(ledger.dead_lettered, 0);
    assert!(ledger.inserted >= acknowledged.len() as u64, "{ledger:?}");
    let there = rig.sql("SELECT toUInt64(Body) FROM otel_logs");
    let there: Vec<u64> = there.lines().map(|line| line.parse().unwrap()).collect();
    let unique: std::collections::HashSet<u64> = there.iter().copied().collect();
    let missing: Vec<&u64> = acknowledged
        .iter()
        .filter(|number| !unique.contains(number))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are missing");
    assert_eq!(
        (there.len(), unique.len() as u64),
        (unique.len(), ledger.inserted)
    );
}

fn is_taken_again(server: &Server, next: &mut u64) -> u64 {
    eventually("rows to be taken again", || {
        *next += 1;
        let reply = server.post("/ingest?ack=wal", large_row(*next));
        (reply.status == 200).then_some(*next)
    })
}

#[test]
fn a_full_log_refuses_with_the_reason_and_loses_nothing_acknowledged() {
    let few_bytes = [
        "--limit",
        "wal_segment_bytes=65536",
        "--limit",
        "wal_bytes_max=131072",
    ];
    let few_blocks = ["--limit", "wal_blocks_max=16"];
    for (limits, reason) in [
        (
            &few_bytes[..],
            "the write-ahead log is as large as it may be (wal_bytes_max)",
        ),
        (
            &few_blocks[..],
            "as many blocks wait in the write-ahead log as may (wal_blocks_max)",
        ),
    ] {
        let mut arguments = vec!["--ingest-cores", "1", "--limit", "ack_deadline_ms=1000"];
        arguments.extend_from_slice(limits);
        let mut rig = Rig::without_clickhouse(&arguments);
        let mut server = rig.serve_ready(&[]);
        let mut next = 0;
        let (mut acknowledged, _) = post_until_refused(&server, &mut next);
        assert!(acknowledged.len() >= 10, "{acknowledged:?}");
        refusal(&server, reason);
        // The reason outlives the process, and so does what it holds.
        server.kill();
        let server = rig.serve(&[]);
        let (more, _) = post_until_refused(&server, &mut next);
        acknowledged.extend(more);
        refusal(&server, reason);

        rig.start_clickhouse();
        acknowledged.push(is_taken_again(&server, &mut next));
        server.wait_until_ready();
        assert_kept(&rig, &server, &acknowledged);
    }
}

fn mount(options: &str, disk: &SmallDisk) {
    let mounted = Command::new("mount")
        .args(["-o", options])
        .arg(disk.path())
        .output();
    let output = mounted.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Whether files can be made in a directory. `None` where that cannot be forbidden.
fn forbid_files(directory: &std::path::Path, forbid: bool) -> Option<()> {
    let flag = if forbid { "+i" } else { "-i" };
    let done = Command::new("chattr").arg(flag).arg(directory).output();
    if done.is_ok_and(|output| output.status.success()) {
        return Some(());
    }
    eprintln!("skipped: making a directory immutable needs chattr, root and a file system that knows it");
    None
}

/// A file system cannot be made read-only while a process has files of it open for writing, so a running one meets a
/// directory in which no file can be made, and a starting one a read-only file system.
#[test]
fn a_disk_that_takes_no_files_refuses_rows_until_it_does() {
    let Some(disk) = SmallDisk::mount(64 << 20) else {
        return;
    };
    let arguments = [
        "--ingest-cores",
        "1",
        "--limit",
        "ack_deadline_ms=1000",
        "--limit",
        "wal_segment_bytes=65536",
    ];
    let mut rig = Rig::without_clickhouse(&arguments);
    rig.put_data_in(disk.path().join("data"));
    let mut server = rig.serve_ready(&[]);
    let mut next = 1;
    assert_eq!(server.post("/ingest?ack=wal", large_row(0)).status, 200);
    let mut acknowledged = vec![0];
    if forbid_files(&rig.data().join("wal"), true).is_some() {
        let (more, _) = post_until_refused(&server, &mut next);
        refusal(
            &server,
            "the write-ahead log cannot be written: Operation not permitted",
        );
        acknowledged.extend(more);
        forbid_files(&rig.data().join("wal"), false);
        acknowledged.push(is_taken_again(&server, &mut next));
        server.wait_until_ready();
    }
    server.kill();

    mount("remount,ro", &disk);
    let told = rig.refused();
    let reason = format!(
        "the data directory {} cannot be used: Read-only file system",
        rig.data().display()
    );
    assert!(told.contains(&reason), "{told}");
    mount("remount,rw", &disk);
    rig.start_clickhouse();
    let server = rig.serve_ready(&[]);
    assert_kept(&rig, &server, &acknowledged);
    // Before its disk is unmounted.
    drop(server);
}
