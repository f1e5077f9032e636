//! Tables of one's own: their defaults, computed columns, partitions, overflow and what is not served.

mod common;

use std::fmt::Write as _;
use std::process::Command;

use clickhouse_rs::{Block, Pool};
use common::{BINARY, Engine, Reply, Server, eventually};

/// Tables are found soon after they are created, and no pace slows the many parts of a test down.
fn start() -> Server {
    Server::embedded(&[
        "--limit",
        "schema_refresh_ms=200",
        "--limit",
        "parts_per_second=100000",
        "--limit",
        "insert_interval_ms=0",
    ])
}

/// Posts rows once the table is served, and waits until they are inserted.
fn post(server: &Server, table: &str, rows: &str) -> Reply {
    let target = format!("/ingest/{table}?ack=inserted");
    eventually("the table to be served", || {
        let reply = server.post(&target, rows);
        (reply.status != 404).then_some(reply)
    })
}

fn assert_inserted(server: &Server, table: &str, rows: &[String]) {
    let reply = post(server, table, &rows.join("\n"));
    let expected = format!(
        "{{\"accepted\":{},\"rejected\":0,\"ack\":\"inserted\"",
        rows.len()
    );
    assert!(
        reply.body.starts_with(&expected),
        "{table}: {} {}",
        reply.head,
        reply.body
    );
}

/// ClickHouse's own parsing of the same rows, into a table like `like`.
fn insert_directly(server: &Server, like: &str, rows: &[String]) -> String {
    let table = format!("{like}_direct");
    server.sql(&format!("CREATE TABLE {table} AS {like}"));
    server.sql(&format!(
        "INSERT INTO {table} SETTINGS async_insert = 0, input_format_import_nested_json = 1 FORMAT JSONEachRow {}",
        rows.join("\n")
    ));
    table
}

fn all_rows(server: &Server, columns: &str, table: &str) -> String {
    server.sql(&format!(
        "SELECT {columns} FROM {table} ORDER BY id FORMAT JSONCompactEachRow"
    ))
}

#[test]
fn defaults_fill_missing_keys_and_computed_columns_are_left_alone() {
    let server = start();
    server.sql(
        "CREATE TABLE t (id UInt32, a String DEFAULT 'none', b UInt32 DEFAULT length(c) + 100, c String, \
         d Nullable(Int32) DEFAULT 7, e String EPHEMERAL 'seed', f String DEFAULT upper(e), m UInt64 MATERIALIZED id * 2, \
         al String ALIAS concat(a, c), where Point DEFAULT (1, 2)) ENGINE = MergeTree ORDER BY id",
    );
    // Every set of present keys, with and without nulls: 2^5 sets of columns left to their DEFAULT at most.
    let keys = [
        "\"a\":\"A\"",
        "\"b\":1",
        "\"c\":\"see\"",
        "\"d\":-1",
        "\"f\":\"F\"",
        "\"d\":null",
        "\"a\":null",
    ];
    let rows: Vec<String> = (0..128)
        .map(|set| {
            let mut row = format!("{{\"id\":{set}");
            for (at, key) in keys.iter().enumerate() {
                // A key twice is an error to ClickHouse's parser.
                let is_double = (at == 5 && set & 8 != 0) || (at == 6 && set & 1 != 0);
                if set >> at & 1 == 1 && !is_double {
                    let _ = write!(row, ",{key}");
                }
            }
            // Computed columns are not taken from the row.
            row.push_str(if set % 2 == 0 {
                ",\"m\":5,\"al\":\"no\"}"
            } else {
                "}"
            });
            row
        })
        .collect();
    assert_inserted(&server, "t", &rows);
    let direct: Vec<String> = rows
        .iter()
        .map(|row| row.replace(",\"m\":5,\"al\":\"no\"", ""))
        .collect();
    let direct = insert_directly(&server, "t", &direct);
    let columns = "id, a, b, c, d, f, m, al, where";
    assert_eq!(
        all_rows(&server, columns, "t"),
        all_rows(&server, columns, &direct)
    );
    assert_eq!(server.sql("SELECT count() FROM t WHERE d IS NULL"), "32");
}

#[test]
fn nested_columns_take_arrays_of_one_length() {
    let server = start();
    server.sql(
        "CREATE TABLE t (id UInt32, n Nested(a UInt32, b String, c Array(Nullable(Int8))), other Array(UInt8)) \
         ENGINE = MergeTree ORDER BY id",
    );
    let good: Vec<String> = [
        r#"{"id":0,"n.a":[1,2],"n.b":["x","y"],"n.c":[[],[1,null]],"other":[1]}"#,
        r#"{"id":1,"n":{"a":[3],"b":["z"],"c":[[5]]}}"#,
        r#"{"id":2,"n.a":[],"n.b":[],"n.c":[]}"#,
        r#"{"id":3}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    assert_inserted(&server, "t", &good);
    let direct = insert_directly(&server, "t", &good);
    assert_eq!(all_rows(&server, "*", "t"), all_rows(&server, "*", &direct));

    // ClickHouse would refuse the whole INSERT for one of these.
    let rows = r#"{"id":10,"n.a":[1],"n.b":["x"],"n.c":[[]]}
{"id":11,"n.a":[1],"n.b":["x","y"],"n.c":[[]]}
{"id":12,"n.a":[1]}
{"id":13,"n.a":[1],"n.b":null,"n.c":[[]]}
{"id":14,"n.a":[2],"n.b":["y"],"n.c":[[1]]}"#;
    let reply = post(&server, "t", rows);
    assert!(
        reply.body.starts_with(r#"{"accepted":2,"rejected":3"#),
        "{}",
        reply.body
    );
    assert!(reply.body.contains("Nested"), "{}", reply.body);
    assert_eq!(
        server.sql("SELECT groupArray(id) FROM (SELECT id FROM t WHERE id >= 10 ORDER BY id)"),
        "[10,14]"
    );
}

#[test]
fn a_type_without_support_is_named_where_it_has_no_default() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE otel_logs (a String) ENGINE = MergeTree ORDER BY a");
    engine.sql("CREATE TABLE bad (id UInt32, `the place` Point) ENGINE = MergeTree ORDER BY id");
    engine.sql("CREATE TABLE good (id UInt32, big Int256 DEFAULT 5) ENGINE = MergeTree ORDER BY id");
    let url = format!("tcp://127.0.0.1:{}", engine.tcp_port());
    let server = Server::start(&["--clickhouse", &url, "--limit", "schema_refresh_ms=200"]);
    server.wait_until_ready();

    assert_inserted(&server, "good", &[r#"{"id":1,"big":9}"#.to_owned()]);
    assert_eq!(engine.sql("SELECT id, big FROM good"), "1\t5");
    assert_eq!(server.post("/ingest/bad", r#"{"id":1}"#).status, 404);
    assert!(
        server
            .log()
            .contains("bad is not served: column `the place`: type Point is not supported"),
        "{}",
        server.log()
    );

    let check = |table: &str| {
        let output = Command::new(BINARY)
            .args(["check", "--clickhouse", &url, "--table", table])
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (success, report) = check("bad");
    assert!(!success, "{report}");
    assert!(
        report.contains("cannot be served: column `the place`: type Point"),
        "{report}"
    );
    let (success, report) = check("good");
    assert!(success, "{report}");
    assert!(report.contains("big is left out: type Int256"), "{report}");
}

#[test]
fn unknown_keys_go_to_the_overflow_column() {
    let server = start();
    for (table, overflow) in [
        ("plain_map", "attributes Map(String, String)"),
        (
            "lc_map",
            "LogAttributes Map(LowCardinality(String), LowCardinality(String))",
        ),
        ("json", "extra JSON"),
        ("none", "labels Map(String, UInt8)"),
    ] {
        server.sql(&format!(
            "CREATE TABLE {table} (id UInt32, a String, {overflow}) ENGINE = MergeTree ORDER BY id"
        ));
        let rows = [
            r#"{"id":0,"a":"A","x":1,"y":"Y","z":{"p":true,"q":{"r":[1,{"s":null}]}},"w":1.5,"nothing":null,"empty":{}}"#,
            r#"{"id":1}"#,
            // The last of a repeated key counts, as a path too: the others are no more.
            r#"{"id":2,"x":1,"x":"2","z":{"p":1},"z.p":"two","u.v":"three","u":{"v":4}}"#,
            r#"{"id":3,"é\n\"":"\u0000","😀":{"":"no name"}}"#,
        ]
        .map(str::to_owned);
        assert_inserted(&server, table, &rows);
    }
    let map = [
        r#"[0, {"x":"1","y":"Y","z.p":"true","z.q.r":"[1,{\"s\":null}]","w":"1.5","nothing":"","empty":"{}"}]"#,
        r#"[1, {}]"#,
        r#"[2, {"x":"2","z.p":"two","u.v":"4"}]"#,
        r#"[3, {"é\n\"":"\u0000","😀.":"no name"}]"#,
    ];
    for (table, column) in [("plain_map", "attributes"), ("lc_map", "LogAttributes")] {
        let found = all_rows(&server, &format!("id, {column}"), table);
        assert_eq!(found.lines().collect::<Vec<_>>(), map, "{table}");
    }
    let found = all_rows(&server, "id, extra", "json");
    let found: Vec<serde_json::Value> = found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // A null leaves no path in a JSON column.
    let expected = serde_json::json!({"w": 1.5, "x": 1, "y": "Y", "z": {"p": true, "q": {"r": [1, {}]}}});
    assert_eq!(found[0][1], expected);
    assert_eq!(
        found[2][1],
        serde_json::json!({"x": "2", "z": {"p": "two"}, "u": {"v": 4}})
    );
    assert_eq!(server.sql("SELECT sum(length(labels)) FROM none"), "0");
}

#[test]
fn a_path_that_occurs_twice_in_a_json_column_keeps_its_neighbours() {
    let server = start();
    server.sql("CREATE TABLE t (id UInt32, v JSON) ENGINE = MergeTree ORDER BY id");
    let rows = [
        r#"{"id":0,"v":{"a":1,"a":2}}"#,
        r#"{"id":1,"v":{"a":{"b":1},"a.b":2}}"#,
        r#"{"id":2,"v":{"a":1}}"#,
        r#"{"id":3,"v":{"a":1},"v":{"b":2}}"#,
    ]
    .map(str::to_owned);
    assert_inserted(&server, "t", &rows);
    let found = all_rows(&server, "id, v", "t");
    assert_eq!(
        found.lines().collect::<Vec<_>>(),
        [
            r#"[0, {"a":1}]"#,
            r#"[1, {"a":{"b":1}}]"#,
            r#"[2, {"a":1}]"#,
            r#"[3, {"b":2}]"#
        ]
    );
}

/// `count` rows, every `step_s` seconds from `start_s` on.
fn rows_over_time(count: u64, start_s: u64, step_s: u64) -> Vec<String> {
    (0..count)
        .map(|id| {
            format!(
                "{{\"id\":{id},\"ts\":{},\"name\":\"n{}\"}}",
                start_s + id * step_s,
                id % 7
            )
        })
        .collect()
}

/// Around New Year of 2020 in most time zones, and an odd number of seconds.
const START_S: u64 = 1_577_800_007;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

#[test]
fn any_number_of_partitions_is_inserted() {
    let server = start();
    // One column type, key, step between rows: at 600 rows each touches more than 100 partitions, where it can.
    let cases = [
        ("DateTime", "toYYYYMM(ts)", 11 * DAY_S),
        ("DateTime", "toMonday(ts)", 3 * DAY_S),
        ("DateTime", "toStartOfHour(ts)", HOUR_S / 2),
        ("DateTime", "toDate(ts)", DAY_S / 3),
        ("DateTime", "toYear(ts)", DAY_S),
        ("DateTime", "tuple()", DAY_S),
        ("DateTime", "cityHash64(id) % 200", 1),
        ("DateTime", "(toYYYYMM(ts), name)", 20 * DAY_S),
        // Days, hours and weeks of other zones begin within those of UTC; some days have 23 or 25 hours.
        ("DateTime('Pacific/Kiritimati')", "toDate(ts)", DAY_S / 3),
        ("DateTime('America/New_York')", "toYYYYMMDD(ts)", DAY_S / 3),
        ("DateTime('Asia/Kolkata')", "toStartOfHour(ts)", HOUR_S / 2),
        ("DateTime('Australia/Lord_Howe')", "toStartOfDay(ts)", DAY_S / 3),
        ("DateTime64(9, 'Pacific/Pago_Pago')", "toMonday(ts)", 3 * DAY_S),
        ("DateTime64(3)", "toDate(ts, 'Asia/Tokyo')", DAY_S / 3),
        ("DateTime64(3)", "toStartOfInterval(ts, toIntervalDay(3))", DAY_S),
        ("Date", "ts", DAY_S),
        ("Date32", "toYYYYMM(ts)", 11 * DAY_S),
    ];
    for (index, (time_type, key, step_s)) in cases.into_iter().enumerate() {
        let table = format!("t{index}");
        server.sql(&format!(
            "CREATE TABLE {table} (id UInt32, ts {time_type}, name String) ENGINE = MergeTree PARTITION BY {key} ORDER BY id"
        ));
        let mut rows = rows_over_time(600, START_S, step_s);
        if index % 2 == 1 {
            fastrand::Rng::with_seed(index as u64).shuffle(&mut rows);
        }
        assert_inserted(&server, &table, &rows);
        let found = server.sql(&format!(
            "SELECT count(), uniqExact(id), uniqExact(_partition_id) FROM {table}"
        ));
        let found: Vec<u64> = found.split('\t').map(|number| number.parse().unwrap()).collect();
        assert_eq!(found[..2], [600, 600], "{time_type} {key}");
        let is_one = matches!(key, "tuple()" | "toYear(ts)");
        assert!(
            is_one || found[2] > 100,
            "{time_type} {key}: {} partitions",
            found[2]
        );
    }
}

#[test]
fn partitions_that_a_default_decides_are_inserted_however_many() {
    let server = start();
    server.sql(&format!(
        "CREATE TABLE t (id UInt32, name String, ts DateTime DEFAULT {START_S} + id * {DAY_S}) \
         ENGINE = MergeTree PARTITION BY toDate(ts) ORDER BY id"
    ));
    let rows: Vec<String> = (0..300)
        .map(|id| match id % 3 {
            0 => format!("{{\"id\":{id},\"ts\":{}}}", START_S + id * DAY_S),
            _ => format!("{{\"id\":{id}}}"),
        })
        .collect();
    assert_inserted(&server, "t", &rows);
    assert_eq!(
        server.sql("SELECT count(), uniqExact(_partition_id) FROM t"),
        "300\t300"
    );
}

#[test]
fn clickhouse_rs_reads_plain_columns_back() {
    let server = start();
    server.sql(
        "CREATE TABLE t (id UInt32, s String, i Int64, f Float64, n Nullable(Int32), a Array(String)) \
         ENGINE = MergeTree ORDER BY id",
    );
    let rows: Vec<String> = (0..1000_u32)
        .map(|id| {
            let n = if id % 3 == 0 { "null".to_owned() } else { id.to_string() };
            let i = -i64::from(id) * 1_000_000_000;
            format!("{{\"id\":{id},\"s\":\"text {id} é\",\"i\":{i},\"f\":{id}.5,\"n\":{n},\"a\":[\"x\",\"{id}\"]}}")
        })
        .collect();
    assert_inserted(&server, "t", &rows);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let block: Block<clickhouse_rs::types::Complex> = runtime.block_on(async {
        let pool = Pool::new(format!(
            "tcp://127.0.0.1:{}/default?compression=lz4",
            server.clickhouse_port
        ));
        let mut handle = pool.get_handle().await.unwrap();
        handle
            .query("SELECT * FROM t ORDER BY id")
            .fetch_all()
            .await
            .unwrap()
    });
    assert_eq!(block.row_count(), 1000);
    for row in 0..1000_usize {
        let id = row as u32;
        assert_eq!(block.get::<u32, _>(row, "id").unwrap(), id);
        assert_eq!(block.get::<String, _>(row, "s").unwrap(), format!("text {id} é"));
        assert_eq!(
            block.get::<i64, _>(row, "i").unwrap(),
            -i64::from(id) * 1_000_000_000
        );
        assert_eq!(block.get::<f64, _>(row, "f").unwrap(), f64::from(id) + 0.5);
        let n = (!id.is_multiple_of(3)).then_some(id as i32);
        assert_eq!(block.get::<Option<i32>, _>(row, "n").unwrap(), n);
        assert_eq!(
            block.get::<Vec<String>, _>(row, "a").unwrap(),
            ["x".to_owned(), id.to_string()]
        );
    }
}
