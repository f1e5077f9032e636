//! What Ringhouse inserts equals what ClickHouse makes of the same JSON, or the difference is on a list.

#[path = "../common/mod.rs"]
mod common;
mod known;
mod values;

use std::collections::HashMap;

use common::{Server, eventually, http};
use fastrand::Rng;
use known::{KNOWN, Part, Relation};
use ringhouse::schema::DataType;
use values::Json;

/// Every type of the design, and each way to nest them.
const TYPES: &[&str] = &[
    "String",
    "FixedString(8)",
    "Bool",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Int128",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "UInt128",
    "Float32",
    "Float64",
    "Date",
    "Date32",
    "DateTime",
    "DateTime('Asia/Kolkata')",
    "DateTime64(0)",
    "DateTime64(3)",
    "DateTime64(6, 'America/New_York')",
    "DateTime64(9)",
    "Enum8('a' = -128, 'b' = 0, 'it''s' = 127)",
    "Enum16('ä' = -32768, 'b' = 1, 'c' = 300)",
    "UUID",
    "IPv4",
    "IPv6",
    "Decimal(9, 0)",
    "Decimal(9, 4)",
    "Decimal(18, 18)",
    "Decimal(18, 6)",
    "Decimal(38, 10)",
    "LowCardinality(String)",
    "LowCardinality(Nullable(String))",
    "LowCardinality(FixedString(3))",
    "LowCardinality(UInt64)",
    "LowCardinality(Nullable(Int16))",
    "LowCardinality(Date)",
    "LowCardinality(DateTime)",
    "LowCardinality(UUID)",
    "Nullable(String)",
    "Nullable(FixedString(4))",
    "Nullable(Int32)",
    "Nullable(Float64)",
    "Nullable(Bool)",
    "Nullable(DateTime64(3))",
    "Nullable(Enum8('x' = 1, 'y' = 2))",
    "Nullable(UUID)",
    "Nullable(IPv6)",
    "Nullable(Decimal(18, 6))",
    "Array(String)",
    "Array(UInt16)",
    "Array(Nullable(Int64))",
    "Array(LowCardinality(Nullable(String)))",
    "Array(Array(Array(Float64)))",
    "Array(Tuple(a UInt8, b Array(String)))",
    "Map(String, String)",
    "Map(LowCardinality(String), UInt32)",
    "Map(UInt16, Array(Nullable(String)))",
    "Map(String, Map(String, Int8))",
    "Tuple(String, UInt8, Nullable(Float32))",
    "Tuple(a String, b Int16, c Array(UInt8))",
    "Tuple(a Tuple(x Int8, y String), `b c` Map(String, String))",
    "Nested(name String, value Float64)",
    "JSON",
    // No low `max_dynamic_paths`: with more paths than that, 26.7 cannot read back what it has parsed itself (arrays of
    // objects among them; ATTEMPT_TO_READ_AFTER_EOF, or CANNOT_ALLOCATE_MEMORY at the INSERT).
    "JSON(max_dynamic_paths = 1000, SKIP b)",
    "Array(JSON)",
];

const ROWS_PER_TYPE: usize = 150;
const SEEDS_PER_RUN: u64 = 3;

/// What became of one row: the printed value, or nothing when it was rejected.
type Outcome = Option<String>;

/// A value of a row, or none when the row has no such key.
type Value = Option<Json>;

/// A pair of equal tables of one column each, of which Ringhouse fills one and ClickHouse by itself the other.
struct Pair<'a> {
    server: &'a Server,
    name: String,
    data_type: DataType,
    type_name: &'a str,
    next_id: u64,
}

impl<'a> Pair<'a> {
    fn create(server: &'a Server, name: String, type_name: &'a str) -> Pair<'a> {
        for side in ["ours", "theirs"] {
            // An unflattened Nested is an array of tuples; the flattened ones have a test of their own.
            let statement = format!(
                "CREATE TABLE {side}_{name} (id UInt64, v {type_name}) ENGINE = MergeTree ORDER BY id"
            );
            run(
                server,
                "allow_suspicious_low_cardinality_types=1&flatten_nested=0",
                &statement,
                "",
            );
        }
        Pair {
            server,
            name,
            data_type: DataType::parse(type_name).unwrap(),
            type_name,
            next_id: 0,
        }
    }

    /// Sends the values both ways; returns what became of each.
    fn compare(&mut self, values: &[Value]) -> Vec<(Outcome, Outcome)> {
        let first = self.next_id;
        self.next_id += values.len() as u64;
        let rows: Vec<String> = values
            .iter()
            .zip(first..)
            .map(|(value, id)| row(id, value))
            .collect();

        let target = format!("/ingest/ours_{}?ack=inserted", self.name);
        let body = rows.join("\n");
        let reply = eventually("the table to be served", || {
            let reply = self.server.post(&target, &body);
            (reply.status != 404).then_some(reply)
        });
        let told: serde_json::Value = serde_json::from_str(&reply.body)
            .unwrap_or_else(|_| panic!("{}: {} {}", self.type_name, reply.head, reply.body));
        let ours = self.read("ours", first);
        assert_eq!(
            (told["accepted"].as_u64(), told["rejected"].as_u64()),
            (Some(ours.len() as u64), Some((rows.len() - ours.len()) as u64)),
            "{}: what was told and what is there: {}",
            self.type_name,
            reply.body
        );

        insert_directly(self.server, &self.theirs(), &rows);
        let theirs = self.read("theirs", first);
        let outcomes = (first..self.next_id).map(|id| (ours.get(&id).cloned(), theirs.get(&id).cloned()));
        outcomes.collect()
    }

    /// What becomes of a value that comes alone. When ClickHouse skips a row it cannot parse, it may take the beginning of the
    /// next one for a part of it, and what type a path of a JSON column gets depends on the rows before.
    fn compare_alone(&mut self, value: &Value) -> (Outcome, Outcome) {
        self.compare(std::slice::from_ref(value)).remove(0)
    }

    fn theirs(&self) -> String {
        format!("theirs_{}", self.name)
    }

    fn read(&self, side: &str, first: u64) -> HashMap<u64, String> {
        let shown = match &self.data_type {
            // ClickHouse's parser puts a 0 that the enum does not have, and then cannot print it.
            DataType::Enum8(_) | DataType::Enum16(_) => "toInt16(v)",
            // The types within JSON matter too: 1 and 1.0 print the same. (An empty array gets its type from the rows around.)
            _ if self.type_name.contains("JSON") => {
                "v, toString(arrayMap(x -> mapFilter((k, t) -> NOT startsWith(t, 'Array'), JSONAllPathsWithTypes(x)), flatten([v])))"
            }
            _ => "v",
        };
        let query = format!(
            "SELECT id, {shown} FROM {side}_{} WHERE id >= {first} ORDER BY id FORMAT JSONCompactEachRow",
            self.name
        );
        let text = run(self.server, "output_format_json_quote_denormals=1", &query, "");
        text.lines()
            .map(|line| {
                let (id, value) = line.split_once(',').expect("a line has two columns");
                let id = id
                    .trim_start_matches('[')
                    .parse()
                    .expect("the first column is the id");
                (
                    id,
                    value
                        .strip_suffix(']')
                        .expect("a line is an array")
                        .trim()
                        .to_owned(),
                )
            })
            .collect()
    }
}

fn row(id: u64, value: &Value) -> String {
    match value {
        None => format!("{{\"id\":{id}}}"),
        Some(value) if id.is_multiple_of(3) => format!("{{ \"v\" : {value} , \"id\":{id} }}"),
        Some(value) => format!("{{\"id\":{id},\"v\":{value}}}"),
    }
}

/// Runs SQL with settings; `data` is what an INSERT inserts.
fn run(server: &Server, settings: &str, query: &str, data: &str) -> String {
    try_run(server, settings, query, data).unwrap_or_else(|error| panic!("{query}: {error}"))
}

fn try_run(server: &Server, settings: &str, query: &str, data: &str) -> Result<String, String> {
    let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let target = format!("/?database=default&{settings}&query={query}");
    let reply = http("POST", server.clickhouse_http_port, &target, &[], data.as_bytes()).unwrap();
    match reply.status {
        200 => Ok(reply.body),
        _ => Err(reply.body),
    }
}

/// Settings of ClickHouse's own parsing. Times are read in the best-effort way, which knows ISO 8601 as Ringhouse does;
/// paths that occur twice in a JSON column are not refused, as Ringhouse's INSERTs ask too.
const DIRECT: &str = "async_insert=0&input_format_parallel_parsing=0&input_format_skip_unknown_fields=1\
    &date_time_input_format=best_effort&type_json_skip_duplicated_paths=1&input_format_allow_errors_ratio=1\
    &input_format_allow_errors_num=1000000";

/// Lets ClickHouse parse the rows; those it refuses are left out.
///
/// It skips a row whose parsing fails by itself, but some errors it counts as the whole INSERT's: then the rows are halved
/// until the culprits stand alone.
fn insert_directly(server: &Server, table: &str, rows: &[String]) {
    let query = format!("INSERT INTO {table} FORMAT JSONEachRow");
    match try_run(server, DIRECT, &query, &rows.join("\n")) {
        Ok(_) => {}
        Err(_) if rows.len() == 1 => {}
        Err(_) => {
            let (left, right) = rows.split_at(rows.len() / 2);
            insert_directly(server, table, left);
            insert_directly(server, table, right);
        }
    }
}

/// `DIFFERENTIAL_SEED=n` repeats one seed of a failure; otherwise every run has new ones.
fn seeds() -> Vec<u64> {
    match std::env::var("DIFFERENTIAL_SEED") {
        Ok(seed) => vec![seed.parse().expect("DIFFERENTIAL_SEED is a number")],
        Err(_) => (0..SEEDS_PER_RUN).map(|_| fastrand::u64(..)).collect(),
    }
}

#[test]
fn every_type_holds_what_clickhouse_itself_would_hold() {
    let server = Server::embedded(&["--limit", "schema_refresh_ms=200"]);
    let mut pairs: Vec<Pair> = TYPES
        .iter()
        .enumerate()
        .map(|(index, type_name)| Pair::create(&server, index.to_string(), type_name))
        .collect();
    let mut unknown = Vec::new();
    let mut accepted = 0;
    for seed in seeds() {
        // Shown with whatever fails.
        eprintln!("DIFFERENTIAL_SEED={seed}");
        for (index, pair) in (0..).zip(&mut pairs) {
            let mut rng = Rng::with_seed(seed.wrapping_add(index));
            let values: Vec<Value> = (0..ROWS_PER_TYPE)
                .map(|_| (rng.u8(..20) > 0).then(|| values::value(&mut rng, &pair.data_type)))
                .collect();
            let outcomes = pair.compare(&values);
            for (value, (ours, theirs)) in values.iter().zip(outcomes) {
                accepted += usize::from(ours.is_some() && theirs.is_some());
                if ours == theirs || is_known(pair.type_name, &pair.data_type, value, &ours, &theirs) {
                    continue;
                }
                let among_others = ours;
                let (ours, theirs) = pair.compare_alone(value);
                // What becomes of a value here must not depend on its neighbours; what ClickHouse makes of JSON does.
                let is_steady = ours == among_others || pair.type_name.contains("JSON");
                let is_listed =
                    ours == theirs || is_known(pair.type_name, &pair.data_type, value, &ours, &theirs);
                if !is_steady || !is_listed {
                    let value = value.as_ref().map_or("(no key)".to_owned(), Json::to_string);
                    unknown.push(format!(
                        "seed {seed}, {}: {value}\n    ours   {}\n    theirs {}",
                        pair.type_name,
                        ours.as_deref().unwrap_or("rejected"),
                        theirs.as_deref().unwrap_or("rejected"),
                    ));
                }
            }
        }
    }
    assert!(
        unknown.is_empty(),
        "{} unlisted differences:\n{}",
        unknown.len(),
        unknown.join("\n")
    );
    assert!(
        accepted > TYPES.len() * ROWS_PER_TYPE / 2,
        "most rows must fit for the test to mean anything: {accepted}"
    );
}

fn is_known(type_name: &str, data_type: &DataType, value: &Value, ours: &Outcome, theirs: &Outcome) -> bool {
    let relation = Relation::of(ours, theirs);
    let Some(value) = value else { return false };
    let part = Part {
        data_type,
        value,
        zoned: type_name.contains('/'),
    };
    let is_listed = KNOWN
        .iter()
        .any(|known| known.relations.contains(&relation) && known::any_part(part, known.applies));
    // Texts may be spelled in another way, but must say the same.
    let says_the_same = match (ours, theirs) {
        (Some(ours), Some(theirs)) if type_name.contains("String") => known::same_when_read(ours, theirs),
        _ => true,
    };
    is_listed && says_the_same
}

#[test]
fn the_listed_differences_are_as_listed() {
    let server = Server::embedded(&["--limit", "schema_refresh_ms=200"]);
    let mut wrong = Vec::new();
    let mut without_example: Vec<&str> = KNOWN.iter().map(|known| known.why).collect();
    for (index, (type_name, json, ours, theirs)) in known::EXAMPLES.iter().enumerate() {
        let mut pair = Pair::create(&server, index.to_string(), type_name);
        let value = Json::parse(json);
        let part = Part {
            data_type: &pair.data_type,
            value: &value,
            zoned: type_name.contains('/'),
        };
        let relation = Relation::of(&ours.map(str::to_owned), &theirs.map(str::to_owned));
        without_example.retain(|why| {
            let known = KNOWN
                .iter()
                .find(|known| known.why == *why)
                .expect("it is one of them");
            !(known.relations.contains(&relation) && known::any_part(part, known.applies))
        });
        let listed = (ours.map(str::to_owned), theirs.map(str::to_owned));
        // Sent as it is written.
        let found = pair.compare(&[Some(Json::Scalar((*json).to_owned()))]).remove(0);
        if found != listed {
            wrong.push(format!(
                "{type_name}: {json}\n    listed {listed:?}\n    found  {found:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        without_example.is_empty(),
        "no example shows that {without_example:#?}"
    );
}
