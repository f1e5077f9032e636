//! Whatever a connection begins with, a PROXY header is read within its bound, and only what is certainly its own is asked for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::http::Parse;
use ringhouse::http::proxy_protocol::{V2_BYTES_MAX, bytes_certain, parse_proxy_header};

fuzz_target!(|received: &[u8]| {
    let whole = parse_proxy_header(received);
    if let Ok(Parse::Complete(length, _)) = whole {
        assert!(length <= V2_BYTES_MAX);
        assert_eq!(parse_proxy_header(&received[..length]), whole);
        let mut read = 0;
        while read < length {
            assert_eq!(parse_proxy_header(&received[..read]), Ok(Parse::Partial));
            read += bytes_certain(&received[..read]);
        }
        assert_eq!(read, length, "a byte of whoever speaks next was read");
    }
    assert!(whole != Ok(Parse::Partial) || received.len() + bytes_certain(received) <= V2_BYTES_MAX);
});
