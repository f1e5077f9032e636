//! Clients of Elasticsearch, Splunk and Datadog, as their users install them, against a whole server.

#[path = "../common/clients.rs"]
mod clients;
#[path = "../common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use clients::Language;
use common::client::header;
use common::keys::add_key;
use common::{Reply, Server, corpus, http};
use serde_json::{Value, json};

const PYTHON_PACKAGES: [&str; 4] = [
    "elasticsearch==9.5.1",
    "datadog-api-client==2.62.0",
    "splunk-handler==3.0.0",
    "splunk-hec-handler==1.2.0",
];

const NODE_PACKAGES: [&str; 7] = [
    "@elastic/elasticsearch@9.4.3",
    "pino@10",
    "pino-elasticsearch@9.0.0",
    "splunk-logging@0.11.1",
    "winston@3",
    "winston-elasticsearch@0.19.0",
    "winston-splunk-httplogger@3.1.8",
];

/// Lines of each service that every client sends.
const LINES_OF_SERVICE: usize = 100;

/// What a client says of the `rows` it has sent; `None` when the language is missing.
fn send(language: Language, client: &str, server: &Server, name: &str, rows: &[Value]) -> Option<Value> {
    static INSTALLED: [OnceLock<Option<PathBuf>>; 2] = [const { OnceLock::new() }; 2];
    let (packages, script) = match language {
        Language::Python => (&PYTHON_PACKAGES[..], "shippers/send.py"),
        Language::JavaScript => (&NODE_PACKAGES[..], "shippers/send.mjs"),
        Language::Java => return None,
    };
    let installed = INSTALLED[language as usize].get_or_init(|| language.install("shippers", packages));
    let [said, complained] = ["said.txt", "err.txt"].map(|file| server.directory().join(file));
    let [out, err] = [&said, &complained].map(|path| File::create(path).unwrap());
    let arguments = [client, &server.port.to_string(), name];
    let mut sender = language.start(installed.as_ref()?, script, &arguments, rows, out, err);
    let status = sender.0.wait().unwrap();
    let [said, complained] = [said, complained].map(|path| fs::read_to_string(path).unwrap());
    assert!(
        status.success() && complained.is_empty(),
        "{name}: {status}\n{said}\n{complained}"
    );
    Some(serde_json::from_str(&said).unwrap_or_else(|_| panic!("{name}: {said}")))
}

/// Lines of the corpus, numbered.
fn rows() -> Vec<Value> {
    let mut rows = corpus::rows(LINES_OF_SERVICE);
    for (seq, row) in rows.iter_mut().enumerate() {
        row["seq"] = json!(seq);
        // A level is not what every line has, and a time is to be told from the receive time.
        row["level"] = json!(["info", "warn", "error"][seq % 3]);
        row["timestamp"] = json!(format!("2026-01-02T03:{:02}:{:02}.250Z", seq / 60 % 60, seq % 60));
    }
    rows
}

/// The rows of a client in the table, in order.
fn found(server: &Server, name: &str) -> Vec<Value> {
    let found = server.sql(&format!(
        "SELECT toString(Timestamp) AS time, SeverityText AS level, ServiceName AS service, Body AS body,
             mapFilter((k, v) -> k NOT IN ('client', 'seq'), LogAttributes) AS attributes
         FROM otel_logs WHERE LogAttributes['client'] = '{name}'
         ORDER BY toUInt64(LogAttributes['seq']) FORMAT JSONEachRow"
    ));
    found
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn time_of(row: &Value) -> String {
    let time = row["timestamp"].as_str().unwrap();
    format!("{}000000", time.trim_end_matches('Z').replace('T', " "))
}

#[test]
fn every_document_of_elasticsearch_clients_is_in_clickhouse_as_it_was_sent() {
    let server = Server::embedded(&["--create-tables"]);
    let rows = rows();
    for (language, client) in [
        (Language::Python, "elasticsearch-create"),
        (Language::Python, "elasticsearch-index"),
        (Language::JavaScript, "elasticsearch"),
    ] {
        let name = format!("{language:?} {client}");
        let Some(told) = send(language, client, &server, &name, &rows) else {
            continue;
        };
        assert_eq!(told["taken"], rows.len(), "{name}: {told}");
        let expected: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({"time": time_of(row), "level": row["level"], "service": row["service"], "body": row["message"],
                    "attributes": {"host.name": "web-1", "log.logger": "a.b"}})
            })
            .collect();
        assert_eq!(found(&server, &name), expected, "{name}");
        println!("{name}: {} documents", rows.len());
    }
    assert_no_failures(&server);
}

#[test]
fn every_line_of_pino_and_winston_is_in_clickhouse_as_it_was_logged() {
    // One of them sends a request a line: none waits for its INSERT.
    let server = Server::embedded(&["--create-tables", "--ack", "wal"]);
    let rows = rows();
    let of_splunk =
        json!({"source": "winston", "sourcetype": "winston-splunk-logger", "index": "winston-index"});
    for (client, attributes) in [
        ("pino", json!({})),
        ("winstonElasticsearch", json!({})),
        ("winstonSplunk", of_splunk),
    ] {
        let Some(told) = send(Language::JavaScript, client, &server, client, &rows) else {
            return;
        };
        assert_eq!(told["taken"], rows.len(), "{client}: {told}");
        let is_splunk = client == "winstonSplunk";
        let there = common::eventually("its lines", || {
            Some(found(&server, client)).filter(|there| there.len() >= rows.len())
        });
        assert_eq!(there.len(), rows.len(), "{client}");
        for (mut found, row) in there.into_iter().zip(&rows) {
            if is_splunk {
                // It knows no time but its own.
                found["time"] = json!(time_of(row));
            }
            let expected = json!({"time": time_of(row), "level": row["level"], "service": row["service"], "body": row["message"],
                "attributes": attributes});
            assert_eq!(found, expected, "{client}");
        }
        println!("{client}: {} lines", rows.len());
    }
    assert_no_failures(&server);
}

#[test]
fn an_elasticsearch_client_is_told_of_exactly_the_bad_documents() {
    let server = Server::embedded(&["--create-tables"]);
    let mut rows = rows();
    let bad: Vec<usize> = vec![0, 299, 300, 301, rows.len() - 1];
    for row in &bad {
        rows[*row]["timestamp"] = json!("the day before");
    }
    for (language, client) in [
        (Language::Python, "elasticsearch-create"),
        (Language::Python, "elasticsearch-index"),
        (Language::JavaScript, "elasticsearch"),
    ] {
        let name = format!("{language:?} {client}");
        let Some(told) = send(language, client, &server, &name, &rows) else {
            continue;
        };
        assert_eq!(told["taken"], rows.len() - bad.len(), "{name}: {told}");
        let rejected = match &told["rejected"] {
            Value::Array(statuses) => {
                assert!(statuses.iter().all(|status| *status == 400), "{told}");
                statuses.len() as u64
            }
            count => count.as_u64().unwrap(),
        };
        assert_eq!(rejected, bad.len() as u64, "{name}");
        let count = format!(
            "SELECT groupArray(seq) FROM (SELECT toUInt64(LogAttributes['seq']) AS seq FROM otel_logs
             WHERE LogAttributes['client'] = '{name}' ORDER BY seq)"
        );
        let there: Vec<usize> = serde_json::from_str(&server.sql(&count)).unwrap();
        let good: Vec<usize> = (0..rows.len()).filter(|row| !bad.contains(row)).collect();
        assert_eq!(there, good, "{name}");
    }
    // Those that were told so as items were told 200.
    assert_no_failures(&server);
}

#[test]
fn every_entry_of_a_datadog_client_is_in_clickhouse_as_it_was_sent() {
    let server = Server::embedded(&["--create-tables"]);
    let rows = rows();
    for encoding in ["identity", "gzip", "deflate"] {
        let name = format!("datadog {encoding}");
        let client = format!("datadog-{encoding}");
        let Some(told) = send(Language::Python, &client, &server, &name, &rows) else {
            return;
        };
        assert_eq!(told["taken"], rows.len());
        let expected: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({"time": time_of(row), "level": row["level"], "service": row["service"], "body": row["message"],
                    "attributes": {"hostname": "web-1", "ddsource": "python", "ddtags": "env:test,team:a"}})
            })
            .collect();
        assert_eq!(found(&server, &name), expected, "{name}");
    }
    assert_no_failures(&server);
}

#[test]
fn every_event_of_splunk_clients_is_in_clickhouse_as_it_was_sent() {
    // One of them sends a request an event: none waits for its INSERT.
    let server = Server::embedded(&["--create-tables", "--ack", "wal"]);
    let rows = rows();
    let arrived = |events: usize| {
        common::eventually("the events", || {
            (server.sql("SELECT count() FROM otel_logs") == events.to_string()).then_some(())
        });
    };
    let mut sent = 0;
    let metadata = json!({"host": "web-1", "source": "script", "sourcetype": "_json", "index": "main"});

    let name = "handler";
    if send(Language::Python, "splunk-handler", &server, name, &rows).is_some() {
        sent += rows.len();
        arrived(sent);
        let there = server.sql(
            "SELECT count(), uniqExact(Body), any(LogAttributes['host']), any(LogAttributes['sourcetype']) FROM otel_logs
             WHERE startsWith(Body, 'handler ')",
        );
        assert_eq!(there, format!("{0}\t{0}\tweb-1\ttext", rows.len()));
        let bodies = server
            .sql("SELECT Body FROM otel_logs WHERE startsWith(Body, 'handler ') ORDER BY toUInt64(splitByChar(' ', Body)[2]) FORMAT JSONCompactEachRow");
        for (body, row) in bodies.lines().zip(&rows) {
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(
                body[0],
                format!("handler {} {}", row["seq"], row["message"].as_str().unwrap())
            );
        }
    }

    let event_of = |row: &Value, more: Value| {
        let seconds = 1_750_000_000 + row["seq"].as_i64().unwrap();
        let time = server.sql(&format!(
            "SELECT toString(fromUnixTimestamp64Milli({seconds}250, 'UTC'))"
        ));
        let mut attributes = metadata.clone();
        attributes
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"time": format!("{time}000000"), "body": row["message"], "attributes": attributes})
    };
    let without = |mut row: Value, names: &[&str]| {
        names.iter().for_each(|name| {
            row.as_object_mut().unwrap().remove(*name);
        });
        row
    };
    let name = "hec handler";
    if send(Language::Python, "splunk-hec-handler", &server, name, &rows).is_some() {
        sent += 100;
        arrived(sent);
        let there = found(&server, name);
        assert_eq!(there.len(), 100);
        for (found, row) in there.into_iter().zip(&rows).step_by(10) {
            let more = json!({"team": "a", "log_level": "WARNING"});
            let mut expected = event_of(row, more);
            expected["service"] = row["service"].clone();
            // The event has the time too.
            let mut found = without(found, &["level"]);
            found["attributes"].as_object_mut().unwrap().remove("time");
            assert_eq!(found, expected);
        }
    }
    let name = "splunk-logging";
    if send(Language::JavaScript, "splunk", &server, name, &rows).is_some() {
        arrived(sent + rows.len());
        let there = server.sql(
            "SELECT Body, SeverityText, toUnixTimestamp64Milli(Timestamp), LogAttributes['source'] FROM otel_logs
             WHERE startsWith(Body, 'splunk-logging ') ORDER BY Timestamp FORMAT JSONCompactEachRow",
        );
        let there: Vec<Value> = there
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(there.len(), rows.len());
        for (found, row) in there.iter().zip(&rows) {
            let body = format!(
                "splunk-logging {} {}",
                row["seq"],
                row["message"].as_str().unwrap()
            );
            let time = (1_750_000_000 + row["seq"].as_i64().unwrap()) * 1000 + 250;
            assert_eq!(*found, json!([body, "info", time, "script"]));
        }
    }
    assert_no_failures(&server);
}

fn assert_no_failures(server: &Server) {
    let metrics = server.admin("/metrics").unwrap().body;
    assert!(!metrics.contains("status=\"4"), "{metrics}");
    assert!(!metrics.contains("status=\"5"), "{metrics}");
}

fn post(server: &Server, target: &str, headers: &[(&str, &str)], body: &[u8]) -> (Reply, Value) {
    let reply = http("POST", server.port, target, headers, body).unwrap();
    let value = serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"));
    (reply, value)
}

#[test]
fn bulk_replies_have_an_item_for_each_action_and_documents_go_where_their_index_says() {
    let toml = "[[route]]\nindex = 'routed-*'\ntable = 'by_route'\n";
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("ringhouse.toml");
    fs::write(&config, toml).unwrap();
    let server = Server::embedded(&["--create-tables", "--config", config.to_str().unwrap()]);
    for table in ["by_route", "by_name"] {
        server.sql(&format!("CREATE TABLE {table} AS otel_logs"));
    }
    common::eventually("the new tables", || {
        let reply = server.post("/ingest/by_name?ack=memory", "");
        (reply.status != 404).then_some(())
    });
    let body = "{\"create\":{\"_index\":\"routed-1\"}}\n{\"message\":\"r\"}\n{\"index\":{\"_index\":\"by_name\",\"_id\":\"7\"}}\n\
                {\"message\":\"n\"}\n{\"delete\":{\"_id\":\"1\"}}\n{\"create\":{}}\n{\"message\":\n{\"create\":{}}\n{\"message\":\"d\"}\n\
                {\"update\":{\"_id\":\"x\"}}\n{\"doc\":{}}\n{\"create\":{}}\n\n";
    let (reply, value) = post(&server, "/any/_bulk?refresh=true", &[], body.as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(header(&reply.head, "x-elastic-product"), Some("Elasticsearch"));
    assert_eq!(value["errors"], true);
    let told: Vec<Value> = value["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let (kind, item) = item.as_object().unwrap().iter().next().unwrap();
            json!([kind, item["_index"], item["status"]])
        })
        .collect();
    assert_eq!(
        Value::from(told),
        json!([
            ["create", "routed-1", 201],
            ["index", "by_name", 201],
            ["delete", "any", 400],
            ["create", "any", 400],
            ["create", "any", 201],
            ["update", "any", 400],
            ["create", "any", 400],
        ])
    );
    for (table, body) in [("by_route", "r"), ("by_name", "n"), ("otel_logs", "d")] {
        assert_eq!(server.sql(&format!("SELECT Body FROM {table}")), body);
    }
    // Below the prefixes, and only what is asked for.
    for target in [
        "/elastic/_bulk?filter_path=errors,items.*.error",
        "/elasticsearch/_bulk?filter_path=errors%2Citems.*.error",
    ] {
        let accept = [("Accept", "application/vnd.elasticsearch+json; compatible-with=8")];
        let (reply, value) = post(
            &server,
            target,
            &accept,
            b"{\"create\":{}}\n{\"message\":\"p\"}\n",
        );
        assert_eq!((reply.status, value), (200, json!({"errors": false})));
        let media_type = "application/vnd.elasticsearch+json;compatible-with=8";
        assert_eq!(header(&reply.head, "content-type"), Some(media_type));
    }
    // A malformed action ends the request; what came before is there.
    let (reply, value) = post(
        &server,
        "/_bulk",
        &[],
        b"{\"create\":{}}\n{\"message\":\"before\"}\n{\"what\":1}\n",
    );
    assert_eq!(
        (reply.status, &value["error"]["type"]),
        (400, &json!("illegal_argument_exception"))
    );
    assert_eq!(
        server.sql("SELECT count() FROM otel_logs WHERE Body = 'before'"),
        "1"
    );
    let (reply, _) = post(&server, "/_bulk", &[], b"");
    assert_eq!(reply.status, 400);
    let reply = http("GET", server.port, "/", &[], b"").unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn bodies_in_snappy_and_lz4_are_taken_as_they_are_sent() {
    let server = Server::embedded(&["--create-tables"]);
    let body: String = (0..2000)
        .map(|row| format!("{{\"create\":{{}}}}\n{{\"message\":\"m\",\"row\":{row}}}\n"))
        .collect();
    let block = snap::raw::Encoder::new().compress_vec(body.as_bytes()).unwrap();
    let mut framed = snap::write::FrameEncoder::new(Vec::new());
    framed.write_all(body.as_bytes()).unwrap();
    let mut lz4 = lz4::EncoderBuilder::new().build(Vec::new()).unwrap();
    lz4.write_all(body.as_bytes()).unwrap();
    for (encoding, body) in [
        ("snappy", block),
        ("x-snappy-framed", framed.into_inner().unwrap()),
        ("lz4", lz4.finish().0),
    ] {
        let headers = [("Content-Encoding", encoding)];
        let (reply, value) = post(&server, "/_bulk?filter_path=errors", &headers, &body);
        assert_eq!(
            (reply.status, value),
            (200, json!({"errors": false})),
            "{encoding}"
        );
    }
    let there = server.sql("SELECT count(), uniqExact(LogAttributes['row']) FROM otel_logs");
    assert_eq!(there, "6000\t2000");
}

#[test]
fn more_actions_than_a_reply_may_have_items_are_refused() {
    let server = Server::embedded(&["--create-tables", "--limit", "bulk_items_max=3"]);
    let pair = "{\"create\":{}}\n{\"message\":\"x\"}\n";
    let (reply, value) = post(&server, "/_bulk", &[], pair.repeat(3).as_bytes());
    assert_eq!((reply.status, &value["errors"]), (200, &json!(false)));
    let (reply, value) = post(&server, "/_bulk", &[], pair.repeat(4).as_bytes());
    assert_eq!((reply.status, &value["status"]), (413, &json!(413)));
}

#[test]
fn while_the_log_is_full_bulk_clients_are_told_429_and_hec_clients_503() {
    let limits = ["wal_blocks_max=16", "ack_deadline_ms=2000"].map(|limit| ["--limit", limit]);
    let arguments = [&["--create-tables", "--ack", "wal"][..], limits.as_flattened()].concat();
    let server = Server::embedded(&arguments);
    let engine = server.engine_pid();
    common::signal(engine, rustix::process::Signal::STOP);
    let pair = b"{\"create\":{}}\n{\"message\":\"x\"}\n";
    let (reply, value) = common::eventually("the log to be full", || {
        let (reply, value) = post(&server, "/_bulk", &[], pair);
        (reply.status == 429).then_some((reply, value))
    });
    assert!(header(&reply.head, "retry-after").is_some());
    assert_eq!(value["error"]["type"], "es_rejected_execution_exception");
    let (reply, value) = post(&server, "/services/collector", &[], b"{\"event\":\"x\"}");
    assert_eq!((reply.status, &value["code"]), (503, &json!(9)));
    let reply = http("GET", server.port, "/services/collector/health", &[], b"").unwrap();
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("\"code\":18"), "{reply:?}");
    let (reply, value) = post(&server, "/api/v2/logs", &[], b"[{\"message\":\"x\"}]");
    assert_eq!(
        (reply.status, &value["errors"][0]["status"]),
        (503, &json!("503"))
    );
    let (reply, _) = post(&server, "/cribl/_bulk", &[], b"{\"_raw\":\"x\"}\n");
    assert_eq!(reply.status, 503);
    common::signal(engine, rustix::process::Signal::CONT);
    common::eventually("room", || {
        (post(&server, "/_bulk", &[], pair).0.status == 200).then_some(())
    });
}

#[test]
fn documents_that_find_the_log_full_are_told_429_and_no_others() {
    let limits = [
        "wal_blocks_max=16",
        "batch_rows_max=100",
        // Rows of one piece go into one batch.
        "chunk_bytes=4096",
        "wal_buffer_bytes=4096",
        "ack_deadline_ms=2000",
    ];
    let limits = limits.map(|limit| ["--limit", limit]);
    let arguments = [&["--create-tables"][..], limits.as_flattened()].concat();
    let server = Server::embedded(&arguments);
    let engine = server.engine_pid();
    common::signal(engine, rustix::process::Signal::STOP);
    let body: String = (0..20_000)
        .map(|row| format!("{{\"create\":{{}}}}\n{{\"message\":\"m\",\"row\":{row}}}\n"))
        .collect();
    let (reply, value) = post(&server, "/_bulk?ack=memory", &[], body.as_bytes());
    common::signal(engine, rustix::process::Signal::CONT);
    assert_eq!((reply.status, &value["errors"]), (200, &json!(true)));
    let statuses: Vec<u64> = value["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["create"]["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses.len(), 20_000);
    let taken = statuses.iter().take_while(|status| **status == 201).count();
    assert!(taken > 0 && taken < 20_000, "{taken} taken");
    assert!(statuses[taken..].iter().all(|status| *status == 429));
    let held = common::eventually("what was taken", || {
        let held = server.sql("SELECT count(), max(toUInt64(LogAttributes['row'])) FROM otel_logs");
        held.starts_with(&format!("{taken}\t")).then_some(held)
    });
    assert_eq!(held, format!("{taken}\t{}", taken - 1));
}

#[test]
fn keys_reach_the_tables_of_indexes_as_any_others() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys.toml");
    let config = directory.path().join("ringhouse.toml");
    let token = add_key(&keys, "web", "tables = [\"otel_logs\", \"by_name\"]");
    fs::write(&config, "[[route]]\nindex = 'routed'\ntable = 'secret'\n").unwrap();
    let (keys, config) = (keys.display().to_string(), config.display().to_string());
    let server = Server::embedded(&["--create-tables", "--keys-file", &keys, "--config", &config]);
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str())];
    for table in ["secret", "by_name"] {
        server.sql(&format!("CREATE TABLE {table} AS otel_logs"));
    }
    common::eventually("the new tables", || {
        let reply = http("POST", server.port, "/ingest/by_name?ack=memory", &headers, b"").unwrap();
        (reply.status == 400).then_some(())
    });
    let body: String = ["routed", "by_name", "secret"]
        .map(|index| format!("{{\"create\":{{\"_index\":\"{index}\"}}}}\n{{\"message\":\"{index}\"}}\n"))
        .concat();
    let (_, value) = post(
        &server,
        "/_bulk?filter_path=items.*.status",
        &headers,
        body.as_bytes(),
    );
    let statuses = [403, 201, 201].map(|status| json!({"create": {"status": status}}));
    assert_eq!(value["items"], json!(statuses));
    for (table, bodies) in [("secret", ""), ("by_name", "by_name"), ("otel_logs", "secret")] {
        let sql = format!("SELECT arrayStringConcat(groupArray(Body)) FROM {table}");
        assert_eq!(server.sql(&sql), bodies, "{table}");
    }
    let events = b"{\"event\":\"x\",\"index\":\"routed\"}";
    let (reply, value) = post(&server, "/services/collector", &headers, events);
    assert_eq!((reply.status, &value["code"]), (403, &json!(7)));
    let (reply, value) = post(&server, "/_bulk", &[], body.as_bytes());
    assert_eq!(
        (reply.status, &value["error"]["type"]),
        (401, &json!("security_exception"))
    );
}

#[test]
fn hec_refuses_senders_and_channels_with_the_codes_of_splunk() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys.toml");
    let splunk = |token: String| ("Authorization", format!("Splunk {token}"));
    let good = splunk(add_key(&keys, "web", "tables = [\"otel_logs\"]"));
    let admin = splunk(add_key(&keys, "ops", "admin = true\ningest = false"));
    let spent = splunk(add_key(&keys, "spent", "bytes_per_second = 1"));
    let server = Server::embedded(&["--create-tables", "--keys-file", keys.to_str().unwrap()]);
    let channel = |name: &str| ("X-Splunk-Request-Channel", name.to_owned());
    let guid = "0aeeac95-ac74-4aa9-b30d-6c4c0ac581BA";
    let cases = [
        ("", vec![], 401, 2),
        ("", vec![("Authorization", "Digest x".to_owned())], 401, 3),
        ("?token=another", vec![good.clone()], 401, 3),
        ("", vec![splunk("none".to_owned())], 403, 4),
        ("", vec![admin], 403, 4),
        ("?table=secret", vec![good.clone()], 403, 7),
        ("", vec![good.clone(), channel(guid)], 200, 0),
        ("", vec![good.clone(), channel(&guid[1..])], 400, 11),
        (
            "?channel=0aeeac95ac744aa9-b30d-6c4c0ac5-81ba",
            vec![good.clone()],
            400,
            11,
        ),
        // Whether a channel is one is not told to strangers.
        ("?channel=none", vec![], 401, 2),
    ];
    for endpoint in ["/event", "/raw"] {
        for (query, headers, status, code) in &cases {
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let target = format!("/services/collector{endpoint}{query}");
            let (reply, value) = post(&server, &target, &headers, b"{\"event\":\"x\"}");
            assert_eq!(
                (reply.status, &value["code"]),
                (*status, &json!(code)),
                "{target} {headers:?}: {reply:?}"
            );
        }
    }
    // More than the burst, which is a byte: it is owed for seconds.
    for (status, code) in [(200, 0), (429, 9)] {
        let headers = [(spent.0, spent.1.as_str())];
        let (reply, value) = post(&server, "/services/collector", &headers, b"{\"event\":\"spent\"}");
        assert_eq!(
            (reply.status, &value["code"]),
            (status, &json!(code)),
            "{reply:?}"
        );
    }
    let headers = [(good.0, good.1.as_str()), ("X-Splunk-Request-Channel", "none")];
    let (reply, value) = post(&server, "/services/collector/ack", &headers, b"{\"acks\":[1]}");
    assert_eq!((reply.status, &value["code"]), (400, &json!(11)), "{reply:?}");
}

#[test]
fn hec_takes_events_back_to_back_lines_and_questions() {
    let server = Server::embedded(&["--create-tables"]);
    let channel = [("X-Splunk-Request-Channel", "0aeeac95-ac74-4aa9-b30d-6c4c0ac581ba")];
    let events = br#"{"event":"one","time":1750000000.25,"host":"h"}{"event":{"message":"two","code":7},"time":"1750000001.5"}
{"event":"three"} {"event":"four","fields":{"a":"b"}}"#;
    let (reply, value) = post(&server, "/services/collector/event/1.0", &channel, events);
    assert_eq!((reply.status, &value["code"]), (200, &json!(0)), "{reply:?}");
    let ack = value["ackId"].as_u64().unwrap();
    let there = server.sql(
        "SELECT Body, toUnixTimestamp64Milli(Timestamp) > 1760000000000 ? 0 : toUnixTimestamp64Milli(Timestamp),
             LogAttributes FROM otel_logs ORDER BY Body FORMAT TSV",
    );
    assert_eq!(
        there,
        "four\t0\t{'a':'b'}\none\t1750000000250\t{'host':'h'}\nthree\t0\t{}\ntwo\t1750000001500\t{'code':'7'}"
    );
    let question = format!("{{\"acks\":[{ack},{},3]}}", ack + 1_000_000);
    let (_, value) = post(&server, "/services/collector/ack", &channel, question.as_bytes());
    assert_eq!(
        value,
        json!({"acks": {ack.to_string(): true, (ack + 1_000_000).to_string(): false, "3": false}})
    );
    let (reply, value) = post(&server, "/services/collector/ack", &[], question.as_bytes());
    assert_eq!((reply.status, &value["code"]), (400, &json!(10)));
    let (reply, value) = post(&server, "/services/collector", &[], b" \n");
    assert_eq!((reply.status, &value["code"]), (400, &json!(5)));
    // The good ones beside a bad one are taken.
    let (reply, value) = post(
        &server,
        "/services/collector",
        &[],
        b"{\"event\":\"g1\"}{\"event\":}{\"event\":\"g2\"}",
    );
    assert_eq!(
        (reply.status, &value["code"], &value["invalid-event-number"]),
        (400, &json!(6), &json!(1))
    );
    let (reply, value) = post(
        &server,
        "/services/collector/raw?host=h&sourcetype=access%20log&time=1750000000.25",
        &[],
        b"{not json\r\n\n \xff 127.0.0.1 GET /\nlast",
    );
    assert_eq!(
        (reply.status, &value),
        (200, &json!({"text": "Success", "code": 0}))
    );
    assert_eq!(
        server.sql(
            "SELECT Body, LogAttributes['sourcetype'], toUnixTimestamp64Milli(Timestamp) FROM otel_logs
             WHERE LogAttributes['sourcetype'] != '' ORDER BY Body FORMAT TSV"
        ),
        " \u{fffd} 127.0.0.1 GET /\taccess log\t1750000000250\nlast\taccess log\t1750000000250\n{not json\taccess log\t1750000000250"
    );
    assert_eq!(
        server.sql("SELECT count() FROM otel_logs WHERE Body IN ('g1', 'g2')"),
        "2"
    );
    let reply = http("GET", server.port, "/services/collector/health/1.0", &[], b"").unwrap();
    assert_eq!(reply.status, 200);
}

#[test]
fn hec_events_go_to_the_tables_of_their_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("ringhouse.toml");
    fs::write(&config, "[[route]]\nindex = 'audit'\ntable = 'audit'\n").unwrap();
    let server = Server::embedded(&["--create-tables", "--config", config.to_str().unwrap()]);
    server.sql("CREATE TABLE audit AS otel_logs");
    common::eventually("the new table", || {
        (server.post("/ingest/audit?ack=memory", "").status != 404).then_some(())
    });
    let event = |index: &str, body: &str| format!("{{\"event\":\"{body}\",\"index\":\"{index}\"}}");
    let concatenated = [
        event("main", "a"),
        event("audit", "b"),
        event("audit", "c"),
        "{\"event\":\"d\"}".into(),
    ];
    for body in [concatenated.concat(), format!("[{}]", concatenated.join(","))] {
        let (reply, _) = post(&server, "/services/collector", &[], body.as_bytes());
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let bodies = |table| {
        server.sql(&format!(
            "SELECT arrayStringConcat(arraySort(groupArray(Body))) FROM {table}"
        ))
    };
    assert_eq!(bodies("otel_logs"), "aadd");
    assert_eq!(bodies("audit"), "bbcc");
}

#[test]
fn datadog_and_cribl_bodies_are_answered_as_their_senders_expect() {
    let server = Server::embedded(&["--create-tables"]);
    let (reply, value) = post(
        &server,
        "/api/v2/logs?ddtags=env:x",
        &[],
        b"[{\"message\":\"a\"}]",
    );
    assert_eq!((reply.status, value), (202, json!({})));
    let (reply, value) = post(
        &server,
        "/v1/input/0123?ddsource=nginx&service=web",
        &[("Content-Type", "text/plain")],
        b"b\nc\n",
    );
    assert_eq!((reply.status, value), (200, json!({})));
    assert_eq!(
        server.sql("SELECT Body, ServiceName, LogAttributes['ddsource'], LogAttributes['ddtags'] FROM otel_logs ORDER BY Body FORMAT TSV"),
        "a\t\t\tenv:x\nb\tweb\tnginx\t\nc\tweb\tnginx\t"
    );
    let (reply, value) = post(
        &server,
        "/api/v2/logs",
        &[],
        b"[{\"message\":\"bad\",\"date\":\"never\"}]",
    );
    assert_eq!(
        (reply.status, &value["errors"][0]["title"]),
        (400, &json!("Bad Request"))
    );
    let reply = http("GET", server.port, "/api/v1/validate", &[], b"").unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "{\"valid\":true}"));
    let lines = b"{\"_raw\":\"r1\",\"_time\":1750000000.5,\"host\":\"h\"}\n{\"_raw\":\"r2\"}\n";
    let (reply, value) = post(&server, "/cribl/_bulk", &[], lines);
    assert_eq!((reply.status, value), (200, json!({"success": true, "items": 2})));
    assert_eq!(
        server.sql("SELECT count() FROM otel_logs WHERE Body IN ('r1', 'r2')"),
        "2"
    );
}
