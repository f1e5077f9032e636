//! The ingest path allocates nothing per row or per request once it has warmed up.
//!
//! A program of its own, because its global allocator watches.

#[path = "../common/mod.rs"]
mod common;
mod counting;
mod kernel;
mod server;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16
    }
}

/// Lines for the default table: mapped keys, keys only the overflow column takes, escapes, nesting. Equally long
/// whatever the seed, so that one warm-up reaches the working size of every buffer.
fn log_lines(seed: u64, rows: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut text = String::new();
    for row in 0..rows {
        let (a, b) = (random.next(), random.next());
        let level = ["info", "warn"][row / 7 % 2];
        let service = ["checkout", "payments", "frontend"][row % 3];
        text.push_str(&format!(
            "{{\"timestamp\":\"2026-11-21T05:{:02}:{:02}.{:03}Z\",\"level\":\"{level}\",\"service\":\"{service}\",\
             \"message\":\"order \\\"{:08}\\\" took {:04} ms\\n\\u00e9\\ud83d\\ude00\",\"trace_id\":\"{a:016x}{b:016x}\",\
             \"pid\":{:05},\"http\":{{\"status\":{},\"path\":\"\\/api\\/{:04}\"}},\"tags\":[\"x\",{}],\"ok\":true,\"none\":null}}\n",
            row / 60_000 % 60,
            row / 1000 % 60,
            row % 1000,
            a % 100_000_000,
            b % 10_000,
            10_000 + a % 50_000,
            [200, 404, 500][row % 3],
            b % 10_000,
            1000 + b % 9000,
        ));
    }
    text.into_bytes()
}
