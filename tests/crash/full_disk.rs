//! The disk of the write-ahead log is full for a while.

use super::common::eventually;
use super::load::{Level, Load, Plan, Producer, readyz};
use super::proxy::Fault;
use super::rig::Rig;
use super::small_disk::SmallDisk;
use super::verdict::Verdict;
use super::{Tale, has_log, plan, seed};

#[test]
fn a_full_log_refuses_rows_and_loses_none() {
    if !has_log() {
        eprintln!("skipped: this ringhouse has no write-ahead log");
        return;
    }
    let Some(disk) = SmallDisk::mount(96 << 20) else {
        return;
    };
    let mut tale = Tale::new(seed());
    let limits = ["wal_segment_bytes=8388608", "wal_bytes_max=1073741824"];
    let mut rig = Rig::start(tale.seed, Some(&disk.path().join("data")), &limits);
    let of = |level, keyed| Producer {
        level,
        keyed,
        rows_max: 500,
    };
    let plan = Plan {
        producers: vec![
            of(Level::Wal, false),
            of(Level::Wal, false),
            of(Level::Wal, true),
            of(Level::Inserted, false),
        ],
        ..plan(tale.seed, 0)
    };
    let load = Load::start(rig.port, &plan);
    load.more_at(Level::Wal, 500);
    load.more_inserted(200);

    tale.tell("no ClickHouse and no space: the log's last segment fills up");
    rig.proxy.set(Fault::Refuse);
    let ballast = disk.fill();
    eventually("/readyz to tell", || {
        (readyz(rig.server()).0 == 503).then_some(())
    });
    load.more_refusals(20);

    tale.tell("kill -9 and a start on the full disk");
    rig.kill_server();
    ballast.refill();
    rig.start_server();
    load.more_refusals(20);

    tale.tell("space again, and still no ClickHouse");
    drop(ballast);
    load.more_at(Level::Wal, 500);

    tale.tell("ClickHouse is back");
    rig.proxy.set(Fault::None);
    rig.server().wait_until_ready();
    load.more_inserted(200);
    let sent = load.finish();
    assert!(sent.statuses[&503] >= 20, "{:?}", sent.statuses);
    let mut verdict = Verdict::default();
    verdict.check(&rig, 0, &sent);
    eprintln!(
        "{} replies {:?}",
        verdict.promised.iter().sum::<u64>(),
        sent.statuses
    );
    // Before its disk is unmounted.
    drop(rig);
}
