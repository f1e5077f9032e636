//! The data directory: one process, one format; a torn tail, a damaged record.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::common::Server;
use super::load;
use super::rig::{Rig, blocks_in, files, logged, post};

#[test]
fn refuses_a_second_process_and_another_format_on_the_same_directory() {
    let rig = Rig::without_clickhouse(&[]);
    let mut server = rig.serve_ready(&[]);
    post(&server, 0..10);
    let told = rig.refused();
    let sentence = format!(
        "the data directory {} is in use by another process ({}); give this one its own with --data-dir",
        rig.data().display(),
        server.pid()
    );
    assert!(told.contains(&sentence), "{told}");
    post(&server, 10..20);
    server.kill();

    let format = rig.data().join("format");
    let ours = fs::read(&format).unwrap();
    fs::write(&format, "ringhouse data 99\n").unwrap();
    let told = rig.refused();
    assert!(
        told.contains("is of another version (\"ringhouse data 99\", this one writes \"ringhouse data 1\")")
            && told.contains("use the version that wrote it, or another directory"),
        "{told}"
    );
    fs::write(&format, ours).unwrap();
    let server = rig.serve_ready(&[]);
    assert_eq!(load::ledger(&server).waiting, 20, "nothing was touched");
}

/// A process that is killed with these requests in its log, a commit each, and no ClickHouse.
fn kill_with(rig: &Rig, requests: &[std::ops::Range<u64>]) {
    let mut server: Server = rig.serve_ready(&[]);
    requests.iter().for_each(|numbers| post(&server, numbers.clone()));
    server.kill();
}

#[test]
fn a_torn_tail_is_cut_and_costs_nothing() {
    let mut rig = Rig::without_clickhouse(&["--ingest-cores", "1"]);
    kill_with(&rig, &[0..10, 10..13]);
    let [segment] = &rig.segments()[..] else {
        panic!("one core, one segment")
    };
    let (blocks, end) = blocks_in(segment);
    assert_eq!(blocks.len(), 2);
    let file = File::options().write(true).open(segment).unwrap();
    file.write_all_at(&[0xa5; 777], end as u64).unwrap();

    let mut server = rig.serve_ready(&[]);
    assert_eq!(logged(&server, "the log's tail is torn"), 1, "{}", server.log());
    assert!(fs::metadata(segment).unwrap().len() <= end as u64 + 7);
    assert_eq!(logged(&server, "ERROR"), 0, "{}", server.log());
    assert_eq!(files(&rig.data().join("quarantine")).len(), 0);
    post(&server, 13..20);
    server.kill();

    // What was cut is not found again.
    rig.start_clickhouse();
    let server = rig.serve(&[]);
    assert_eq!(logged(&server, "tail is torn"), 0, "{}", server.log());
    let ledger = rig.assert_rows(&server, 0..20);
    assert_eq!((ledger.received, ledger.lost), (20, 0));
}

#[test]
fn a_damaged_record_is_set_aside_and_its_rows_are_told_lost_loudly() {
    let mut rig = Rig::without_clickhouse(&["--ingest-cores", "1"]);
    kill_with(&rig, &[0..10, 10..13, 13..20]);
    let [segment] = &rig.segments()[..] else {
        panic!("one core, one segment")
    };
    let (blocks, _) = blocks_in(segment);
    assert_eq!(blocks.len(), 3);
    let file = File::options().read(true).write(true).open(segment).unwrap();
    let at = blocks[1].end as u64 - 5;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();

    rig.start_clickhouse();
    let mut server = rig.serve(&[]);
    let ledger = rig.assert_rows(&server, (0..10).chain(13..20));
    assert_eq!((ledger.received, ledger.inserted, ledger.lost), (20, 17, 3));
    let log = server.log();
    let loud = |words: &str| {
        let line = log.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("no {words:?} in {log}"));
        assert!(line.contains("ERROR"), "{line}");
        line.to_owned()
    };
    let set_aside = loud("the log is damaged: rows in these bytes are lost, the rest is replayed");
    let mismatch =
        loud("the ledger does not balance: rows that were in the write-ahead log are not there any more");
    assert!(mismatch.contains("rows=3"), "{mismatch}");
    let [quarantined] = &files(&rig.data().join("quarantine"))[..] else {
        panic!("one piece is damaged")
    };
    assert!(
        set_aside.contains(&quarantined.display().to_string()),
        "{set_aside}"
    );
    assert!(fs::metadata(quarantined).unwrap().len() >= blocks[1].len() as u64);

    // Told once, and not forgotten.
    server.kill();
    let server = rig.serve(&[]);
    assert_eq!(rig.assert_rows(&server, (0..10).chain(13..20)).lost, 3);
    assert_eq!(logged(&server, "does not balance"), 0, "{}", server.log());
}
