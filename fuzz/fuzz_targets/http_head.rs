//! Whatever a client sends, a head is read within its bound, and more bytes do not change what was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::http::{Parse, parse_head};
use ringhouse::limits::Limits;

fuzz_target!(|received: &[u8]| {
    let limits = Limits {
        head_bytes_max: 512,
        headers_max: 8,
        ..Limits::default()
    };
    let whole = parse_head(received, &limits);
    if let Ok(Parse::Complete(length, head)) = whole {
        assert!(length <= limits.head_bytes_max && received[..length].ends_with(b"\r\n\r\n"));
        assert_eq!(parse_head(&received[..length - 1], &limits), Ok(Parse::Partial));
        assert_eq!(parse_head(&received[..length], &limits), whole);
        assert!(head.path.starts_with('/') || head.path == "*");
        let lengths = received[..length]
            .split(|&byte| byte == b'\n')
            .filter(|line| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:"));
        assert!(lengths.count() <= 1, "two lengths, and which one holds?");
    }
    // A prefix is never refused when the whole is not.
    let half = parse_head(&received[..received.len() / 2], &limits);
    assert!(half.is_ok() || whole.is_err());
});
