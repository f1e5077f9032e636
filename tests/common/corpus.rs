//! Real logs: files of JSON lines, one a service.

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::{Value, json};

/// The first rows of each service, so many at most; generated ones where there is no corpus. It lies beside the repository, or where
/// `RINGHOUSE_CORPUS` says.
pub fn rows(of_service: usize) -> Vec<Value> {
    let directory = env::var_os("RINGHOUSE_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    paths.sort();
    if paths.is_empty() {
        println!(
            "no corpus at {}: generated logs take its place",
            directory.display()
        );
        return (0..8 * of_service)
            .map(|row| generated(row, of_service))
            .collect();
    }
    let of_path = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let rows = text.lines().take(of_service);
        rows.map(|row| serde_json::from_str(row).unwrap())
            .collect::<Vec<Value>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn generated(row: usize, of_service: usize) -> Value {
    json!({
        "service": format!("service{}", row / of_service), "level": "WARN",
        "message": format!("request {row} of \"user\": took 3 µs [disk] \\ {{}} <7>"), "pid": row, "component": "a.b",
    })
}
