//! Keys, what they reach, and quotas, as gRPC's clients are told of them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringhouse::protobuf::{Fields, Value as Field};
use serde_json::{Value, json};

use crate::common::Server;
use crate::common::keys::add_key;
use crate::{Client, EXPORT, base64, export};

/// Files of a test, and a server that takes rows for its default table into its log.
struct House {
    server: Server,
    _directory: tempfile::TempDir,
}

/// A server with these keys, each a name and the lines of its section; their tokens.
fn house<const COUNT: usize>(keys: [(&str, &str); COUNT]) -> (House, [String; COUNT]) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.toml");
    let tokens = keys.map(|(name, lines)| add_key(&file, name, lines));
    // Nothing of this needs a ClickHouse that answers.
    let server = Server::start(&[
        "--clickhouse",
        "tcp://127.0.0.1:1",
        "--create-tables",
        "--ack",
        "wal",
        "--keys-file",
        file.to_str().unwrap(),
    ]);
    let house = House {
        server,
        _directory: directory,
    };
    (house, tokens)
}

fn metadata(token: &str) -> Value {
    json!({"authorization": format!("Bearer {token}")})
}

fn call(path: &str, message: &[u8], metadata: Value) -> Value {
    json!({"path": path, "message": base64(message), "metadata": metadata})
}

/// The seconds that the RetryInfo of a status asks to wait; `None` without one.
fn retry_after_s(details: &Value) -> Option<u64> {
    let status = BASE64_STANDARD.decode(details.as_str()?).unwrap();
    // Status: 3 details, an Any: 2 value, a RetryInfo: 1 retry_delay, a Duration: 1 seconds.
    let mut within = status;
    for number in [3, 2, 1] {
        let field = Fields::new(&within)
            .map(Result::unwrap)
            .find(|field| field.0 == number);
        let Some((_, Field::Bytes(bytes))) = field else {
            panic!("no field {number} in {within:?}")
        };
        within = bytes.to_vec();
    }
    match Fields::new(&within).next().unwrap().unwrap() {
        (1, Field::Varint(seconds)) => Some(seconds),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_without_a_key_that_reaches_its_table_is_refused_whatever_it_asks_for() {
    let (house, [web, admin]) = house([
        ("web", "tables = [\"otel_logs\"]"),
        ("ops", "admin = true\ningest = false"),
    ]);
    let message = export(&["x"]);
    let of_key = |token: &str, table: &str| json!({"authorization": format!("Bearer {token}"), "x-ringhouse-table": table});
    let health = "/grpc.health.v1.Health/Check";
    // A call, its code and words of its message.
    let cases = [
        (
            call(EXPORT, &message, json!({})),
            "UNAUTHENTICATED",
            "a key is needed",
        ),
        // Probes ask without one.
        (call(health, b"", json!({})), "OK", ""),
        (
            call(EXPORT, &message, metadata("none")),
            "UNAUTHENTICATED",
            "no key's",
        ),
        (
            call(EXPORT, &message, json!({"authorization": "Digest x"})),
            "UNAUTHENTICATED",
            "does not hold one",
        ),
        (
            call(EXPORT, &message, metadata(&admin)),
            "PERMISSION_DENIED",
            "not for sending rows",
        ),
        (
            call(EXPORT, &message, of_key(&web, "secret")),
            "PERMISSION_DENIED",
            "does not reach this table",
        ),
        (
            call(
                EXPORT,
                &message,
                json!({"authorization": format!("Bearer {web}"), "x-api-key": "b"}),
            ),
            "INVALID_ARGUMENT",
            "two different tokens",
        ),
        (call(EXPORT, &message, of_key(&web, "otel_logs")), "OK", ""),
        (call(EXPORT, &message, json!({"x-api-key": web})), "OK", ""),
        (call(health, b"", metadata(&web)), "OK", ""),
    ];
    let input: Vec<Value> = cases.iter().map(|case| case.0.clone()).collect();
    let Some(mut client) = Client::start(&house.server, "calls", "", &input) else {
        return;
    };
    let results = client.result();
    for ((call, code, words), result) in cases.iter().zip(results.as_array().unwrap()) {
        assert_eq!(result["code"], *code, "{call}: {result}");
        let text = result["message"].as_str().unwrap_or_default();
        assert!(text.contains(words), "{call}: {result}");
        // Sent again it would be refused again.
        assert!(result["details"].is_null(), "{call}: {result}");
        assert!(!text.contains("rh_"), "a token is told: {result}");
    }
    let row = json!({"sequence": 1, "json": "{\"message\":\"x\"}"});
    for (metadata, code) in [
        (json!({}), "UNAUTHENTICATED"),
        (of_key(&web, "secret"), "PERMISSION_DENIED"),
        (metadata(&web), "OK"),
    ] {
        let mut client = Client::start(
            &house.server,
            "stream",
            &metadata.to_string(),
            std::slice::from_ref(&row),
        )
        .unwrap();
        let result = client.result();
        assert_eq!(result["code"], code, "{result}");
        let replies = result["replies"].as_array().unwrap().len();
        assert_eq!(replies, usize::from(code == "OK"), "{result}");
    }
    assert!(!house.server.log().contains("rh_"), "a token is logged");
}

#[test]
fn a_call_over_its_quota_is_told_when_to_come_again() {
    let (house, [requests, bytes, stream]) = house([
        ("requests", "requests_per_second = 1\nrequests_burst = 1"),
        ("bytes", "bytes_per_second = 1"),
        ("stream", "requests_per_second = 1\nrequests_burst = 3"),
    ]);
    let message = export(&["a message of some bytes"]);
    let calls: Vec<Value> = [(&requests, 40), (&bytes, 2)]
        .iter()
        .flat_map(|(token, count)| vec![call(EXPORT, &message, metadata(token)); *count])
        .collect();
    let Some(mut client) = Client::start(&house.server, "calls", "", &calls) else {
        return;
    };
    let results = client.result();
    let (of_requests, of_bytes) = results.as_array().unwrap().split_at(40);
    // However slowly they came, more came than a request a second allows: forty calls take no forty seconds.
    let refused: Vec<&Value> = of_requests
        .iter()
        .filter(|result| result["code"] != "OK")
        .collect();
    assert_eq!(of_requests[0]["code"], "OK", "{results}");
    assert!(!refused.is_empty(), "{results}");
    for result in refused {
        assert_eq!(result["code"], "RESOURCE_EXHAUSTED", "{result}");
        assert_eq!(retry_after_s(&result["details"]), Some(1), "{result}");
    }
    assert_eq!(of_bytes[0]["code"], "OK", "{results}");
    assert_eq!(of_bytes[1]["code"], "RESOURCE_EXHAUSTED", "{results}");
    let pause_s = retry_after_s(&of_bytes[1]["details"]).expect("RetryInfo");
    // A byte a second, and all of the first message is owed.
    let owed_s = 2 * message.len() as u64;
    assert!((5..=owed_s).contains(&pause_s), "{pause_s} s");

    // Of a stream every message is a request: those before the one too many are answered.
    let rows: Vec<Value> = (0..100)
        .map(|sequence| json!({"sequence": sequence, "json": "{\"message\":\"x\"}"}))
        .collect();
    let mut client = Client::start(&house.server, "stream", &metadata(&stream).to_string(), &rows).unwrap();
    let result = client.result();
    assert_eq!(result["code"], "RESOURCE_EXHAUSTED", "{result}");
    assert_eq!(retry_after_s(&result["details"]), Some(1), "{result}");
    let replies = result["replies"].as_array().unwrap();
    // The call itself may be one of them.
    assert!((2..100).contains(&replies.len()), "{result}");
    assert!(
        replies
            .iter()
            .all(|reply| reply["accepted"] == 1 && reply["code"] == 0),
        "{result}"
    );
}
