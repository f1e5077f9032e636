//! What shippers ask an Elasticsearch before they send: who it is, its license, templates and policies.

use std::borrow::Cow;

/// The version that is claimed: shippers of its major version and the next speak to it.
pub const VERSION: &str = "8.19.0";

/// A reply without rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its media type.
    pub content_type: &'static str,
    /// Its body.
    pub body: Cow<'static, str>,
}

const ROOT: &str = r#"{"name":"ringhouse","cluster_name":"ringhouse","cluster_uuid":"cmluZ2hvdXNlLWNsdXN0ZXI","version":{"number":"8.19.0","build_flavor":"default","build_type":"tar","build_hash":"0000000000000000000000000000000000000000","build_date":"2025-07-01T00:00:00.000Z","build_snapshot":false,"lucene_version":"9.12.2","minimum_wire_compatibility_version":"7.17.0","minimum_index_compatibility_version":"7.0.0"},"tagline":"You Know, for Search"}"#;

const LICENSE: &str = r#"{"license":{"status":"active","uid":"00000000-0000-0000-0000-000000000000","type":"basic","issue_date":"2020-01-01T00:00:00.000Z","issue_date_in_millis":1577836800000,"max_nodes":1000,"max_resource_units":null,"issued_to":"ringhouse","issuer":"ringhouse","start_date_in_millis":-1}}"#;

const XPACK: &str = r#"{"build":{"hash":"0000000000000000000000000000000000000000","date":"2025-07-01T00:00:00.000Z"},"license":{"uid":"00000000-0000-0000-0000-000000000000","type":"basic","mode":"basic","status":"active"},"features":{"ilm":{"available":true,"enabled":true},"security":{"available":true,"enabled":false},"data_streams":{"available":true,"enabled":true}},"tagline":"You know, for X"}"#;

const HEALTH: &str = r#"{"cluster_name":"ringhouse","status":"green","timed_out":false,"number_of_nodes":1,"number_of_data_nodes":1,"active_primary_shards":1,"active_shards":1,"relocating_shards":0,"initializing_shards":0,"unassigned_shards":0,"delayed_unassigned_shards":0,"number_of_pending_tasks":0,"number_of_in_flight_fetch":0,"task_max_waiting_in_queue_millis":0,"active_shards_percent_as_number":100.0}"#;

const NODES: &str =
    r#"{"_nodes":{"total":1,"successful":1,"failed":0},"cluster_name":"ringhouse","nodes":{}}"#;

/// There is nothing to be refreshed: whoever asks for it wants to read what was sent.
const REFRESHED: &str = r#"{"_shards":{"total":1,"successful":1,"failed":0}}"#;

const ACKNOWLEDGED: &str = r#"{"acknowledged":true}"#;

/// What a shipper sets up before it sends: it is told that all of it is there.
const SET_UP: [&str; 10] = [
    "_ilm",
    "_index_template",
    "_component_template",
    "_template",
    "_ingest",
    "_data_stream",
    "_slm",
    "_alias",
    "_cluster",
    "_lifecycle",
];

/// The reply to a request for `path` below the root, if it is one of these.
pub fn find(method: &str, path: &str) -> Option<Probe> {
    let mut segments = path.trim_matches('/').split('/');
    let first = segments.next().unwrap_or_default();
    let second = segments.next().unwrap_or_default();
    let reads = matches!(method, "GET" | "HEAD");
    let is_set_up = matches!(method, "PUT" | "POST");
    let json = |body: &'static str| {
        Some(Probe {
            content_type: "application/json",
            body: Cow::Borrowed(body),
        })
    };
    match (first, second) {
        ("", _) if reads => json(ROOT),
        ("_license", _) if reads => json(LICENSE),
        ("_xpack", _) if reads => json(XPACK),
        ("_cluster", "health") if reads => json(HEALTH),
        ("_nodes", _) if reads => json(NODES),
        ("_cat", _) if reads => Some(Probe {
            content_type: "text/plain; charset=UTF-8",
            body: Cow::Borrowed(""),
        }),
        ("_refresh", "") | (_, "_refresh") if reads || method == "POST" => json(REFRESHED),
        _ if SET_UP.contains(&first) && reads => json("{}"),
        _ if SET_UP.contains(&first) && is_set_up => json(ACKNOWLEDGED),
        _ => None,
    }
}

/// The reply to a request for the index of this name itself, percent-encoded: every index is there.
pub fn index(method: &str, name: &str) -> Option<Probe> {
    let is_name =
        !name.is_empty() && !name.starts_with(['_', '.', '-', '+']) && !name.contains(['/', '"', '\\']);
    let body = match method {
        _ if !is_name => return None,
        "GET" | "HEAD" => format!(r#"{{"{name}":{{"aliases":{{}},"mappings":{{}},"settings":{{}}}}}}"#),
        "PUT" => format!(r#"{{"acknowledged":true,"shards_acknowledged":true,"index":"{name}"}}"#),
        _ => return None,
    };
    Some(Probe {
        content_type: "application/json",
        body: Cow::Owned(body),
    })
}
