//! Whatever a head says, a token found in it is visible ASCII, and sending it as a bearer token means the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::access::{Credentials, token_of};
use ringhouse::http::{Parse, parse_head};
use ringhouse::limits::Limits;

fuzz_target!(|received: &[u8]| {
    if let Ok(Parse::Complete(_, head)) = parse_head(received, &Limits::default())
        && let Ok(token) = token_of(&head)
    {
        assert!(token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
        let mut again = Credentials::default();
        let bearer = format!("Bearer {}", token.expose());
        again.header(b"authorization", bearer.as_bytes()).expect("one token in one place");
        assert_eq!(again.token().map(|again| again.digest()), Ok(token.digest()));
    }
});
