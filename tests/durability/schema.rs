//! Blocks that were logged for columns the table does not have any more when ClickHouse is back.

use std::process::Command;

use super::common::BINARY;
use super::load::settled;
use super::rig::Rig;

/// Rows go into the log without ClickHouse, then `alter` changes their table. What the table holds, as `select` says, and
/// the rows that became dead letters.
fn altered(alter: &str, select: &str) -> (String, Vec<String>) {
    let rig = Rig::start(&["--table", "events"]);
    rig.sql(
        "CREATE TABLE events (n UInt32, text String, extra String) ENGINE = MergeTree ORDER BY n \
         SETTINGS non_replicated_deduplication_window = 1000",
    );
    // In one life the columns change under the writer, in the other they are others from the start.
    let mut server = rig.serve_ready(&[]);
    rig.take_clickhouse_away();
    let row = |n: u64, text: &str| format!("{{\"n\":{n},\"text\":\"{text}\",\"extra\":\"e{n}\"}}\n");
    let post = |server: &super::common::Server, body: String| {
        assert_eq!(server.post("/ingest?ack=wal", body).status, 200);
    };
    post(&server, row(1, "10") + &row(2, "word") + &row(3, "30"));
    server.kill();
    rig.give_clickhouse_back();
    rig.sql(alter);
    let server = rig.serve_ready(&[]);
    let totals = settled(&server);
    assert_eq!((totals.received, totals.rejected, totals.lost), (3, 0, 0));
    let shown = Command::new(BINARY)
        .args(["dead-letters", "show", "--data-dir"])
        .arg(rig.data())
        .output()
        .unwrap();
    let letters: Vec<String> = String::from_utf8(shown.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["row"].to_string())
        .collect();
    assert_eq!(letters.len() as u64, totals.dead_lettered, "{letters:?}");
    let there = rig.sql(&format!("SELECT {select} FROM events ORDER BY n"));
    assert_eq!(there.lines().count() as u64, totals.inserted, "{there}");
    (there, letters)
}

#[test]
fn rows_logged_before_a_column_was_dropped_or_added_are_inserted() {
    let (there, letters) = altered("ALTER TABLE events DROP COLUMN extra", "n, text");
    assert_eq!((there.as_str(), letters.len()), ("1\t10\n2\tword\n3\t30", 0));
    let (there, letters) = altered(
        "ALTER TABLE events ADD COLUMN more UInt8 DEFAULT 5",
        "n, text, extra, more",
    );
    assert_eq!(
        (there.as_str(), letters.len()),
        ("1\t10\te1\t5\n2\tword\te2\t5\n3\t30\te3\t5", 0)
    );
}

#[test]
fn rows_logged_before_a_type_changed_are_converted_or_become_dead_letters_one_by_one() {
    let (there, letters) = altered(
        "ALTER TABLE events MODIFY COLUMN text LowCardinality(String), MODIFY COLUMN extra Nullable(String)",
        "n, text, extra",
    );
    assert_eq!(
        (there.as_str(), letters.len()),
        ("1\t10\te1\n2\tword\te2\n3\t30\te3", 0)
    );
    // Two of the three are numbers.
    let (there, letters) = altered("ALTER TABLE events MODIFY COLUMN text UInt64", "n, text");
    assert_eq!(there, "1\t10\n3\t30");
    assert_eq!(letters, [r#"{"extra":"e2","n":2,"text":"word"}"#]);
    // No row can be an array.
    let (there, letters) = altered(
        "ALTER TABLE events DROP COLUMN text, ADD COLUMN text Array(UInt8)",
        "n",
    );
    assert_eq!((there.as_str(), letters.len()), ("", 3));
}

#[test]
fn rows_of_which_no_column_is_left_become_dead_letters_and_stop_nobody() {
    let rig = Rig::start(&["--table", "events"]);
    let create = |columns: &str| {
        rig.sql(&format!(
            "CREATE TABLE events ({columns}) ENGINE = MergeTree ORDER BY tuple()"
        ))
    };
    create("n UInt32, text String");
    let mut server = rig.serve_ready(&[]);
    rig.take_clickhouse_away();
    assert_eq!(server.post("/ingest?ack=wal", "{\"n\":1}\n{\"n\":2}").status, 200);
    server.kill();
    rig.give_clickhouse_back();
    rig.sql("DROP TABLE events SYNC");
    create("other UInt32");
    let server = rig.serve_ready(&[]);
    assert_eq!(server.post("/ingest?ack=wal", "{\"other\":3}").status, 200);
    let totals = settled(&server);
    assert_eq!(
        (totals.received, totals.inserted, totals.dead_lettered),
        (3, 1, 2)
    );
    assert_eq!(rig.sql("SELECT other FROM events"), "3");
}

/// Without ClickHouse a new process knows what an earlier one has read: else it would take rows for the columns of the table
/// it would create.
#[test]
fn a_process_started_without_clickhouse_takes_rows_for_the_columns_last_read() {
    let rig = Rig::start(&["--table", "events"]);
    rig.sql(
        "CREATE TABLE events (ServiceName String, n UInt32) ENGINE = MergeTree ORDER BY n \
         SETTINGS non_replicated_deduplication_window = 1000",
    );
    let mut server = rig.serve_ready(&[]);
    let known = rig.data().join("tables.json");
    super::common::eventually("the columns on disk", || {
        std::fs::read_to_string(&known)
            .is_ok_and(|text| text.contains("events"))
            .then_some(())
    });
    rig.take_clickhouse_away();
    server.kill();
    let mut server = rig.serve(&[]);
    let reply = server.post("/ingest?ack=wal", "{\"ServiceName\":\"a\",\"n\":5}\n");
    assert_eq!(reply.status, 200, "{}", reply.body);
    server.kill();
    rig.give_clickhouse_back();
    let server = rig.serve_ready(&[]);
    assert_eq!(settled(&server).inserted, 1);
    assert_eq!(rig.sql("SELECT ServiceName, n FROM events"), "a\t5");
}
