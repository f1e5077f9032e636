//! Rows ClickHouse refuses for their content: they alone go to the dead-letter store, and come back from there.

use std::collections::HashSet;
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use super::common::{BINARY, Server, eventually};
use super::load::{ledger, settled};
use super::proxy::Fault;
use super::rig::{Rig, post_keyed};

/// Bodies with the number `n` of these rows.
fn rows(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

fn dead_letters(rig: &Rig, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["dead-letters", "--data-dir"]).arg(rig.data());
    command.args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The letters that `show` prints.
fn letters(rig: &Rig, arguments: &[&str]) -> Vec<Value> {
    let shown = text(&dead_letters(rig, &[&["show"], arguments].concat()));
    shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn metric(server: &Server, name: &str, label: &str) -> u64 {
    let page = server.admin("/metrics").unwrap().body;
    let line = page.lines().find(|line| {
        line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']) && line.contains(label)
    });
    let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{name} {label} in {page}"))
}

fn counts(rig: &Rig, table: &str) -> String {
    rig.sql(&format!("SELECT count(), uniqExact(n), sum(n) FROM {table}"))
}

const CREATE: &str = "(n UInt64, CONSTRAINT none_is_seven CHECK n != 7) ENGINE = MergeTree ORDER BY n \
                      SETTINGS non_replicated_deduplication_window = 1000";

#[test]
fn a_bad_row_among_thousands_costs_no_other_and_can_be_replayed() {
    let rig = Rig::start(&["--table", "otel_logs", "--table", "one", "--table", "two"]);
    rig.sql(&format!("CREATE TABLE one {CREATE}"));
    rig.sql(&format!("CREATE TABLE two {CREATE}"));
    let mut server = rig.serve_ready(&["--limit", "batch_rows_max=1000"]);
    assert_eq!(server.post("/ingest", "{\"message\":\"good\"}").status, 200);

    // Numbers 0 to 2,999 with one bad one.
    let reply = server.post("/ingest/one?ack=inserted", rows(0..3_000));
    assert_eq!(reply.status, 200, "{reply:?}");
    let told: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((&told["accepted"], &told["rejected"]), (&2_999.into(), &1.into()));
    let sentence = told["errors"][0]["reason"].as_str().unwrap();
    assert!(
        sentence.contains("1 of the rows were refused by ClickHouse for their content")
            && sentence.contains("dead-letter store"),
        "{sentence}"
    );
    let sum = (0..3_000).sum::<u64>();
    assert_eq!(counts(&rig, "one"), format!("2999\t2999\t{}", sum - 7));

    // Two bad ones, at the ends of two of its blocks.
    let two = (10_000..13_000).map(|n| if n == 10_000 || n == 12_999 { 7 } else { n });
    assert_eq!(server.post("/ingest/two?ack=wal", rows(two.clone())).status, 200);
    let totals = settled(&server);
    assert_eq!(
        (totals.inserted, totals.dead_lettered, totals.rejected),
        (5_998, 3, 0)
    );
    let good = two.filter(|n| *n != 7).sum::<u64>();
    assert_eq!(counts(&rig, "two"), format!("2998\t2998\t{good}"));

    // What the store says, beside the running server.
    let list = text(&dead_letters(&rig, &["list"]));
    for (table, count) in [("default.one", "1"), ("default.two", "2")] {
        let line = list.lines().find(|line| line.starts_with(table));
        let words: Vec<&str> = line
            .unwrap_or_else(|| panic!("{list}"))
            .split_whitespace()
            .collect();
        assert_eq!(words[1], count, "{list}");
        assert!(words.contains(&"469"), "VIOLATED_CONSTRAINT: {list}");
        assert!(line.unwrap().contains("none_is_seven"), "{list}");
    }
    let two = letters(&rig, &["--table", "default.two"]);
    assert_eq!(two.len(), 2);
    for letter in &two {
        assert_eq!(
            (&letter["table"], &letter["code"]),
            (&"default.two".into(), &469.into())
        );
        assert_eq!(letter["row"]["n"], 7, "{letter}");
        assert!(
            letter["reason"].as_str().unwrap().contains("none_is_seven"),
            "{letter}"
        );
        assert!(letter["time"].as_str().unwrap().ends_with('Z'), "{letter}");
    }
    assert_eq!(metric(&server, "ringhouse_dead_letter_rows", ""), 3);
    let of_table = |label| metric(&server, "ringhouse_ledger_dead_lettered_rows_total", label);
    assert_eq!((of_table("default.one"), of_table("default.two")), (1, 2));

    // Nothing is forgotten in a crash.
    server.kill();
    let server = rig.serve_ready(&[]);
    assert_eq!(ledger(&server).dead_lettered, 3);
    assert_eq!(letters(&rig, &[]).len(), 3);

    // Sent again while they are still bad: they stay.
    let to = format!("http://127.0.0.1:{}", server.port);
    let again = dead_letters(&rig, &["replay", "--to", &to, "--table", "default.two"]);
    assert!(!again.status.success(), "{again:?}");
    assert_eq!(letters(&rig, &["--table", "default.two"]).len(), 2, "{again:?}");
    assert_eq!(counts(&rig, "two"), format!("2998\t2998\t{good}"));

    rig.sql("ALTER TABLE two DROP CONSTRAINT none_is_seven");
    let replayed = dead_letters(&rig, &["replay", "--to", &to, "--table", "default.two"]);
    assert_eq!(text(&replayed).trim(), "inserted 2 rows, kept 0");
    assert_eq!(rig.sql("SELECT count(), countIf(n = 7) FROM two"), "3000\t2");
    assert_eq!(letters(&rig, &["--table", "default.two"]).len(), 0);

    let dropped = text(&dead_letters(&rig, &["drop", "--table", "default.one"]));
    assert!(dropped.starts_with("dropped 1 rows, "), "{dropped}");
    assert_eq!(text(&dead_letters(&rig, &["list"])), "no dead letters\n");
    eventually("the gauge", || {
        (metric(&server, "ringhouse_dead_letter_rows", "") == 0).then_some(())
    });
}

/// With a DEFAULT for every column a row may bring none, and ClickHouse knows no INSERT without columns.
#[test]
fn rows_without_any_value_of_their_own_stop_no_other_row() {
    let rig = Rig::start(&["--table", "otel_logs", "--table", "defaults"]);
    rig.sql(
        "CREATE TABLE defaults (n UInt64 DEFAULT 5, text String DEFAULT 'x') ENGINE = MergeTree ORDER BY n",
    );
    let server = rig.serve_ready(&[]);
    let reply = server.post("/ingest/defaults?ack=wal", "{}\n{\"n\":6}\n{}");
    assert_eq!(reply.status, 200, "{reply:?}");
    let totals = settled(&server);
    assert_eq!((totals.inserted, totals.dead_lettered, totals.lost), (1, 2, 0));
    let (there, letters) = (rig.sql("SELECT n, text FROM defaults"), letters(&rig, &[]));
    assert_eq!(there, "6\tx");
    assert!(
        letters.len() == 2
            && letters
                .iter()
                .all(|letter| letter["row"] == serde_json::json!({})),
        "{letters:?}"
    );
}

#[test]
fn kill_9_in_the_middle_of_a_search_for_bad_rows_doubles_neither_good_nor_bad_ones() {
    let rig = Rig::start(&["--table", "otel_logs", "--table", "one"]);
    rig.sql(&format!("CREATE TABLE one {CREATE}"));
    let mut server = rig.serve_ready(&[]);
    // Every 50th is bad: some 400 INSERTs to find them all.
    let numbers = (0..2_000).map(|n| if n % 50 == 49 { 7 } else { 1_000 + n });
    rig.proxy.set(Fault::Delay(1));
    assert_eq!(
        server.post("/ingest/one?ack=wal", rows(numbers.clone())).status,
        200
    );
    for found in [3, 20] {
        eventually("some bad rows", || {
            (ledger(&server).dead_lettered >= found).then_some(())
        });
        server.kill();
        server = rig.serve_ready(&[]);
    }
    rig.proxy.set(Fault::None);
    let totals = settled(&server);
    assert_eq!(
        (totals.received, totals.inserted, totals.dead_lettered),
        (2_000, 1_960, 40)
    );
    let good = numbers.filter(|n| *n != 7).sum::<u64>();
    assert_eq!(counts(&rig, "one"), format!("1960\t1960\t{good}"));
    let letters = letters(&rig, &[]);
    let ids: HashSet<String> = letters.iter().map(|letter| letter["id"].to_string()).collect();
    assert_eq!((letters.len(), ids.len()), (40, 40));
}

#[test]
fn a_duplicate_is_told_which_rows_became_dead_letters() {
    let rig = Rig::start(&["--table", "otel_logs", "--table", "one"]);
    rig.sql(&format!("CREATE TABLE one {CREATE}"));
    let mut server = rig.serve_ready(&[]);
    let first = post_keyed(&server, "/ingest/one?ack=inserted", "k", &rows(6..9));
    assert_eq!(first.status, 200, "{first:?}");
    assert!(first.body.contains(r#""accepted":2,"rejected":1"#), "{first:?}");
    let again = post_keyed(&server, "/ingest/one?ack=inserted", "k", &rows(6..9));
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let server = rig.serve_ready(&[]);
    let again = post_keyed(&server, "/ingest/one?ack=inserted", "k", &rows(6..9));
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(counts(&rig, "one"), "2\t2\t14");
}
