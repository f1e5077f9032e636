use super::*;

#[test]
fn accepts_its_own_defaults() {
    assert_eq!(Limits::default().validate(), Ok(()));
    assert_eq!(LimitsWritten::default().resolve(), Ok(Limits::default()));
}

#[test]
fn sets_every_limit_by_its_key() {
    let defaults = serde_json::to_value(Limits::default()).unwrap();
    for key in Limits::KEYS {
        let value = defaults[key].as_u64().unwrap();
        let mut written = LimitsWritten::default();
        written.set(key, &value.to_string()).unwrap();
        let set = serde_json::to_value(&written).unwrap();
        let named: Vec<&String> = set
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, _)| k)
            .collect();
        assert_eq!(named, [key]);
        assert_eq!(set[key].as_u64(), Some(value));
    }
    assert_eq!(defaults.as_object().unwrap().len(), Limits::KEYS.len());
}

#[test]
fn rejects_an_unknown_key_with_the_nearest_one() {
    let unknown = |key: &str| match LimitsWritten::default().set(key, "1") {
        Err(LimitError::Unknown { nearest, .. }) => nearest,
        other => panic!("{other:?}"),
    };
    assert_eq!(unknown("batch_age"), Some("batch_age_ms"));
    assert_eq!(unknown("lines_bytes_max"), Some("line_bytes_max"));
    assert_eq!(unknown("insert_interval"), Some("insert_interval_ms"));
    assert_eq!(unknown("qqqqqqqqqqqqqqqq"), None);
}

#[test]
fn rejects_what_is_no_number_of_its_type() {
    for (key, text) in [
        ("depth_max", "x"),
        ("depth_max", "-1"),
        ("retry_after_s", "4294967296"),
        ("depth_max", ""),
    ] {
        let refused = LimitsWritten::default().set(key, text).unwrap_err().to_string();
        assert_eq!(
            refused,
            format!("limits.{key} = `{text}` is not a whole number that fits")
        );
    }
}

#[test]
fn rejects_every_limit_outside_its_range_by_name() {
    for key in Limits::KEYS {
        let mut written = LimitsWritten::default();
        // The only limit that allows its type's whole range: disks are as large as they are.
        if *key == "wal_bytes_max" {
            written.set(key, &u64::MAX.to_string()).unwrap();
            assert_eq!(written.resolve().unwrap().wal_bytes_max, u64::MAX);
            continue;
        }
        let text = if *key == "retry_after_s" {
            u32::MAX.to_string()
        } else {
            u64::MAX.to_string()
        };
        written.set(key, &text).unwrap();
        match written.resolve() {
            Err(LimitError::OutOfRange {
                key: named, min, max, ..
            }) => {
                assert_eq!(named, *key);
                assert!(min < max, "{key}");
            }
            other => panic!("{key}: {other:?}"),
        }
    }
}

#[test]
fn rejects_pairs_that_contradict() {
    for (assignments, key) in [
        (vec![("body_buffer_bytes", 4096)], "body_buffer_bytes"),
        (vec![("head_bytes_max", 9000)], "receive_buffer_bytes"),
        (vec![("line_bytes_max", 64 << 20)], "body_buffers_bytes_per_core"),
        (vec![("body_bytes_max", 1 << 19)], "body_bytes_max"),
        (vec![("insert_rows_max", 1)], "insert_rows_max"),
        (vec![("insert_bytes_max", 1 << 20)], "insert_bytes_max"),
        (vec![("retry_pause_min_ms", 9000)], "retry_pause_max_ms"),
        (vec![("ack_deadline_ms", 900)], "ack_deadline_ms"),
        (vec![("dead_letter_bytes_max", 1 << 20)], "dead_letter_bytes_max"),
    ] {
        let mut written = LimitsWritten::default();
        for (key, value) in &assignments {
            written.set(key, &value.to_string()).unwrap();
        }
        match written.resolve() {
            Err(LimitError::Contradiction {
                key: named,
                value,
                bound,
                ..
            }) => {
                assert_eq!(named, key);
                assert!(value < bound, "{key}");
            }
            other => panic!("{assignments:?}: {other:?}"),
        }
    }
}

#[test]
fn adds_up_the_memory_by_hand() {
    let limits = Limits {
        connections_per_core: 10,
        http2_connections_per_core: 5,
        http2_window_bytes: 100_000,
        http2_stream_window_bytes: 50_000,
        streams_per_core: 3,
        head_bytes_max: 500,
        tls_connections_per_core: 2,
        receive_buffer_bytes: 1000,
        body_buffers_bytes_per_core: 5_000_000,
        chunk_bytes: 1000,
        line_bytes_max: 2000,
        message_bytes_max: 4000,
        batch_bytes_max: 94_000,
        tables_per_core: 2,
        batches_per_table: 3,
        wal_buffer_bytes: 1_000_000,
        wal_blocks_max: 1_000,
        acks_per_core: 7,
        idempotency_bytes_max: 70_000,
        ..Limits::default()
    };
    let memory = limits.memory(3);
    assert_eq!(memory.connections_bytes, 10 * (1000 + 4096));
    // Twice 4 KiB and twice 16 KiB a connection besides its window, and four windows of a stream for frames; buffer, head and
    // state a stream.
    assert_eq!(
        memory.streams_bytes,
        5 * (100_000 + 4 * 50_000 + 40_960) + 3 * (1000 + 500 + 4096)
    );
    assert_eq!(memory.parser_bytes, (3000 + 4000) * 21);
    // 94,000 + twice (1,000 + 2,000) = 100,000 wire bytes a batch, doubled by growth.
    assert_eq!(memory.batches_bytes, 2 * 3 * 200_000);
    // The buffer and the block that fills it: 100,000, 25 bytes around each of 3 * 3 + 2 frames, the 2 bytes behind a block, and
    // 273 for a last frame that LZ4 makes larger. Two of each.
    assert_eq!(limits.commit_bytes_max(), 1_100_550);
    assert_eq!(memory.commits_bytes, 2 * 1_100_550);
    assert_eq!(memory.acks_bytes, 7 * 128);
    // 200 for each block in the log, besides what the writer has anyway.
    assert_eq!(
        memory.writer_bytes,
        4 * 1024 * 1024 + memory.histograms_bytes + 200_000
    );
    assert_eq!(memory.tls_sessions_bytes, 2 * 98_304);
    let per_core = 50_960
        + 196_608
        + 1_721_588
        + 5_000_000
        + 147_000
        + 1_200_000
        + 2_201_100
        + 896
        + memory.histograms_bytes;
    assert_eq!(memory.per_core_bytes(), per_core);
    assert_eq!(memory.total_bytes(), 3 * per_core + memory.writer_bytes + 70_000);
}

#[test]
fn counts_tape_nodes_at_no_less_than_their_size() {
    assert!(size_of::<simd_json::Node<'_>>() <= 24);
}

#[test]
fn prints_the_memory_in_mebibytes() {
    let printed = Limits::default().memory(2).to_string();
    assert!(printed.starts_with("at most "), "{printed}");
    assert!(printed.contains(" = 2 ingest core(s) x "), "{printed}");
}
