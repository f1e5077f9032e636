//! Whatever a client sends, a body is answered without a panic, within its bounds, and the same however cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::http::{BodyDecoder, BodyError, DecoderPool, Encoding, Framing};
use ringhouse::limits::Limits;

// The first byte picks framing and coding, the second the size of the pieces.
fuzz_target!(|input: &[u8]| {
    let [choice, piece, raw @ ..] = input else { return };
    let framing = if choice & 4 == 0 {
        Framing::Chunked
    } else {
        Framing::Length(raw.len() as u64)
    };
    let encoding = [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Zstd,
    ][usize::from(choice & 3)];
    let limits = Limits {
        body_bytes_max: 1 << 20,
        inflate_free_bytes: 4096,
        inflate_ratio_max: 50,
        ..Limits::default()
    };
    let whole = decode(framing, encoding, &limits, raw, raw.len().max(1), 1 << 16);
    let cut = decode(
        framing,
        encoding,
        &limits,
        raw,
        1 + usize::from(piece & 15),
        1 + usize::from(piece >> 4),
    );
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => assert!(whole == cut),
        (Err(_), Err(_)) => {}
        // A ratio is judged after each piece: in small ones it may be exceeded for a moment.
        (Ok(_), Err(BodyError::Bomb { .. })) | (Err(BodyError::Bomb { .. }), Ok(_)) => {}
        (whole, cut) => panic!("{whole:?} in one piece, {cut:?} in small ones"),
    }
});

/// The content and the bytes it took; the bytes are `None` when more are needed.
fn decode(
    framing: Framing,
    encoding: Encoding,
    limits: &Limits,
    raw: &[u8],
    raw_piece: usize,
    out_piece: usize,
) -> Result<(Vec<u8>, Option<usize>), BodyError> {
    let mut decoder = BodyDecoder::new(framing, encoding, limits, &DecoderPool::new(limits))?;
    let (mut out, mut content) = (vec![0; out_piece], Vec::new());
    let (mut consumed, mut received) = (0, 0);
    loop {
        let step = decoder.decode(&raw[consumed..received], &mut out)?;
        content.extend_from_slice(&out[..step.produced]);
        consumed += step.consumed;
        assert!(consumed <= received && content.len() as u64 <= limits.body_bytes_max);
        if step.done {
            return Ok((content, Some(consumed)));
        }
        if step.produced < out_piece {
            assert_eq!(consumed, received);
            if received == raw.len() {
                return Ok((content, None));
            }
            received = raw.len().min(received + raw_piece);
        }
    }
}
