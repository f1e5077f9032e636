//! Every protocol at once while ClickHouse dies and while the log's disk is full: what its senders are told, and what is stored.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::common::{Server, eventually, signal};
use super::load::settled;
use super::protocols::{Protocol, Told};
use super::proxy::Fault;
use super::rig::Rig;
use super::small_disk::SmallDisk;

const ARGUMENTS: [&str; 8] = [
    "--listener",
    "forward=forward://127.0.0.1:0",
    "--listener",
    "syslog=syslog://127.0.0.1:0",
    "--limit",
    "ack_deadline_ms=3000",
    "--limit",
    "wal_segment_bytes=65536",
];

/// Rows that each sender has acknowledged before and after an outage. At `inserted` each takes an INSERT.
const ROWS: u64 = 3;

/// Between two rows of a sender, so that the outage and not the load is what fills a log.
const PAUSE: Duration = Duration::from_millis(5);

/// What a sender has been told so far.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicU64,
    again: AtomicU64,
}

/// Numbers of a sender's rows are this far apart from another's.
const OF_A_SENDER: u64 = 1_000_000;

/// A row that does not compress, and begins with its number.
fn body(number: u64) -> String {
    let mut random = fastrand::Rng::with_seed(number);
    let noise: String = (0..2_000).map(|_| random.alphanumeric()).collect();
    format!("{number} {noise}")
}

/// Sends rows by every protocol, calls `take_away` in the middle, and `give_back` once each that can has asked to come again.
/// Then whatever was acknowledged is in ClickHouse once, and nothing twice.
fn endure(rig: &Rig, server: &Server, take_away: impl FnOnce(), give_back: impl FnOnce()) {
    let tallies: [Tally; Protocol::ALL.len()] = Default::default();
    let stop = AtomicBool::new(false);
    let acknowledged: Vec<Vec<u64>> = thread::scope(|scope| {
        let senders: Vec<_> = Protocol::ALL
            .iter()
            .zip(&tallies)
            .enumerate()
            .map(|(at, (protocol, tally))| {
                let mut sender = protocol.connect(server);
                let stop = &stop;
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    for number in at as u64 * OF_A_SENDER.. {
                        // Relaxed: they count, and order nothing.
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let count = match sender.send(&body(number)) {
                            Told::Acknowledged => {
                                acknowledged.push(number);
                                &tally.acknowledged
                            }
                            Told::Again => &tally.again,
                        };
                        count.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(PAUSE);
                    }
                    acknowledged
                })
            })
            .collect();
        let all_are = |what: &str, counter: fn(&Tally) -> &AtomicU64, more: u64, of: fn(Protocol) -> bool| {
            let count = |tally: &Tally| counter(tally).load(Ordering::Relaxed);
            let before = tallies.each_ref().map(count);
            for ((protocol, tally), before) in Protocol::ALL.iter().zip(&tallies).zip(before) {
                eventually(&format!("{protocol:?} to be {what}"), || {
                    (!of(*protocol) || count(tally) >= before + more).then_some(())
                });
            }
        };
        all_are("acknowledged", |tally| &tally.acknowledged, ROWS, |_| true);
        take_away();
        all_are(
            "asked to come again",
            |tally| &tally.again,
            1,
            Protocol::asks_to_come_again,
        );
        give_back();
        all_are("acknowledged", |tally| &tally.acknowledged, ROWS, |_| true);
        stop.store(true, Ordering::Relaxed);
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });

    // A listener that was not read has not brought all that was sent.
    let received = || {
        let sql = format!(
            "SELECT count() FROM otel_logs WHERE intDiv(toUInt64(splitByChar(' ', Body)[1]), {OF_A_SENDER}) = {}",
            Protocol::ALL.len() - 1
        );
        rig.sql(&sql)
    };
    let of_syslog = acknowledged.last().unwrap().len().to_string();
    eventually("all lines of syslog", || (received() == of_syslog).then_some(()));
    let ledger = settled(server);
    assert_eq!((ledger.dead_lettered, ledger.lost), (0, 0), "{ledger:?}");
    let found = rig.sql("SELECT toUInt64(splitByChar(' ', Body)[1]) AS n, count() FROM otel_logs GROUP BY n");
    let found: HashMap<u64, u64> = found
        .lines()
        .map(|line| {
            let (number, count) = line.split_once('\t').unwrap();
            (number.parse().unwrap(), count.parse().unwrap())
        })
        .collect();
    assert!(found.values().all(|count| *count == 1), "rows are doubled");
    assert_eq!(found.len() as u64, ledger.inserted, "{ledger:?}");
    for (protocol, numbers) in Protocol::ALL.iter().zip(&acknowledged) {
        let missing: Vec<&u64> = numbers
            .iter()
            .filter(|number| !found.contains_key(number))
            .collect();
        assert!(missing.is_empty(), "{protocol:?}: {missing:?} were acknowledged");
    }
}

#[test]
fn clickhouse_is_killed_under_every_protocol() {
    let rig = Rig::start(&[&ARGUMENTS[..], &["--ack", "inserted"]].concat());
    let server = rig.serve_ready(&[]);
    endure(
        &rig,
        &server,
        || {
            // It starts again by itself, and is out of reach until everybody has noticed.
            rig.proxy.set(Fault::Refuse);
            signal(rig.clickhouse_pid(), Signal::KILL);
        },
        || rig.proxy.set(Fault::None),
    );
}

#[test]
fn the_disk_of_the_log_is_full_under_every_protocol() {
    let Some(disk) = SmallDisk::mount(64 << 20) else {
        return;
    };
    let mut rig = Rig::without_clickhouse(&ARGUMENTS);
    rig.put_data_in(disk.path().join("data"));
    rig.start_clickhouse();
    let server = rig.serve_ready(&[]);
    let ballast = Cell::new(None);
    endure(
        &rig,
        &server,
        || {
            // Rows that are inserted would make room.
            rig.proxy.set(Fault::Refuse);
            ballast.set(Some(disk.fill()));
        },
        || {
            ballast.set(None);
            rig.proxy.set(Fault::None);
        },
    );
    // Before its disk is unmounted.
    drop(server);
}
