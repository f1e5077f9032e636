//! Messages of a gRPC call are the same however their bytes arrive, and what is no message is refused all the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::http::{BodyDecoder, BodyError, DecoderPool, Encoding, Framing};
use ringhouse::limits::Limits;

/// The content of every message, until one is refused or the stream ends.
fn read(raw: &[u8], piece: usize, encoding: Encoding) -> (Vec<Vec<u8>>, Option<BodyError>) {
    let limits = Limits {
        message_bytes_max: 1 << 16,
        ..Limits::default()
    };
    let pool = DecoderPool::new(&limits);
    let (mut messages, mut received, mut rest) = (Vec::new(), Vec::new(), raw);
    loop {
        let mut decoder = BodyDecoder::new(Framing::OneMessage, encoding, &limits, &pool).unwrap();
        let (mut message, mut out) = (Vec::new(), [0; 97]);
        loop {
            let step = match decoder.decode(&received, &mut out) {
                Ok(step) => step,
                Err(error) => return (messages, Some(error)),
            };
            received.drain(..step.consumed);
            message.extend_from_slice(&out[..step.produced]);
            if step.done {
                break;
            }
            if step.produced == out.len() {
                continue;
            }
            assert!(received.is_empty(), "without a full output everything is consumed");
            match rest.split_at_checked(piece) {
                _ if rest.is_empty() => assert!(decoder.end_stream(), "a call's messages end with it"),
                Some((next, after)) => {
                    received.extend_from_slice(next);
                    rest = after;
                }
                None => received.extend_from_slice(std::mem::take(&mut rest)),
            }
        }
        messages.push(message);
    }
}

fuzz_target!(|data: &[u8]| {
    let [choice, piece, raw @ ..] = data else { return };
    let encoding = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd][usize::from(choice % 3)];
    let pieces = read(raw, usize::from(*piece).max(1), encoding);
    let whole = read(raw, usize::MAX, encoding);
    // A ratio is judged after each piece: in small ones it may be exceeded for a moment.
    if [pieces.1, whole.1].iter().any(|error| matches!(error, Some(BodyError::Bomb { .. }))) {
        return;
    }
    assert_eq!(pieces.0, whole.0);
    assert!(pieces.1.is_some() && whole.1.is_some(), "a stream ends with the absence of a message at least");
});
