//! Whatever a server sends, the session neither panics nor takes more than it was given, and bytes that
//! arrive one by one mean what they mean in one piece. Blocks are reached through Log packets, which have
//! no checksum to guess.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::clickhouse::packet::{Login, Query};
use ringhouse::clickhouse::session::{Event, Phase, Session};

fuzz_target!(|reply: &[u8]| {
    let whole = run(reply, reply.len().max(1));
    assert_eq!(whole, run(reply, 1));
});

/// Feeds `reply` in parts of `part` bytes to a session that inserts as soon as it may.
fn run(reply: &[u8], part: usize) -> (Vec<Event>, Option<String>, Phase) {
    let mut session = Session::new();
    let (mut out, mut received, mut events) = (Vec::new(), Vec::new(), Vec::new());
    session.begin_hello(
        &mut out,
        &Login {
            user: "u",
            password: "p",
            database: "d",
        },
    );
    for part in reply.chunks(part) {
        received.extend_from_slice(part);
        loop {
            match session.feed(&received) {
                Err(error) => return (events, Some(error.to_string()), session.phase()),
                Ok((consumed, event)) => {
                    received.drain(..consumed);
                    let Some(event) = event else { break };
                    events.push(event);
                }
            }
            match session.phase() {
                Phase::Idle => session.begin_insert(
                    &mut out,
                    &Query {
                        id: "",
                        text: "INSERT",
                        settings: &[],
                    },
                ),
                Phase::Ready => session.end_insert(&mut out),
                _ => {}
            }
        }
        out.clear();
    }
    (events, None, session.phase())
}
