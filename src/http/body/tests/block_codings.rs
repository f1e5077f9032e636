//! Snappy and LZ4, which inflate piece by piece of their own.

use super::*;

fn snappy_block(content: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(content)
        .expect("memory does not fail")
}

pub(super) fn snappy_framed(content: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(content).expect("memory does not fail");
    encoder.into_inner().expect("memory does not fail")
}

pub(super) fn lz4_frame(content: &[u8], configure: impl Fn(&mut lz4::EncoderBuilder)) -> Vec<u8> {
    let mut builder = lz4::EncoderBuilder::new();
    configure(&mut builder);
    let mut encoder = builder.build(Vec::new()).expect("memory does not fail");
    encoder.write_all(content).expect("memory does not fail");
    let (raw, result) = encoder.finish();
    result.expect("memory does not fail");
    raw
}

/// Of each option of LZ4's frames both.
fn lz4_frames(content: &[u8]) -> Vec<Vec<u8>> {
    vec![
        lz4_frame(content, |_| {}),
        lz4_frame(content, |builder| {
            builder
                .block_mode(lz4::BlockMode::Independent)
                .block_checksum(lz4::liblz4::BlockChecksum::BlockChecksumEnabled)
                .content_size(content.len() as u64)
                .block_size(lz4::BlockSize::Max64KB);
        }),
        lz4_frame(content, |builder| {
            builder
                .checksum(lz4::ContentChecksum::NoChecksum)
                .block_size(lz4::BlockSize::Max64KB)
                .level(9);
        }),
    ]
}

fn bodies(content: &[u8]) -> Vec<(Encoding, Vec<u8>)> {
    let mut bodies = vec![
        (Encoding::Snappy, snappy_block(content)),
        (Encoding::Snappy, snappy_framed(content)),
    ];
    bodies.extend(lz4_frames(content).into_iter().map(|raw| (Encoding::Lz4, raw)));
    bodies
}

#[test]
fn inflates_at_every_size_of_piece() {
    // Several chunks and blocks.
    let content = text(200_000);
    for (encoding, raw) in bodies(&content) {
        for (raw_piece, out_piece) in [
            (1, 1 << 16),
            (7, 1000),
            (1000, 3),
            (1 << 20, 199_999),
            (1 << 20, 1 << 20),
        ] {
            let decoder = decoder(Framing::Length(raw.len() as u64), encoding);
            let decoded = decode(decoder, &raw, raw_piece, out_piece);
            assert!(
                decoded == Ok(Some((content.clone(), raw.len()))),
                "{encoding:?} {raw_piece} {out_piece}"
            );
        }
    }
}

#[test]
fn inflates_split_at_every_byte() {
    let content = text(300);
    for (encoding, raw) in bodies(&content) {
        for split in 0..=raw.len() {
            let mut decoder = decoder(Framing::Length(raw.len() as u64), encoding);
            let mut out = vec![0; 1000];
            let first = decoder.decode(&raw[..split], &mut out).expect("so far so good");
            let second = decoder
                .decode(&raw[first.consumed..], &mut out[first.produced..])
                .expect("it is whole");
            assert!(second.done, "{encoding:?} at {split}");
            assert_eq!(out[..first.produced + second.produced], content);
        }
    }
}

#[test]
fn inflates_what_does_not_compress_and_nothing() {
    let mut random = fastrand::Rng::with_seed(0x5eed_0007);
    let noise: Vec<u8> = (0..100_000).map(|_| random.u8(..)).collect();
    for content in [&noise[..], b"", b"x"] {
        for (encoding, raw) in bodies(content) {
            assert_eq!(inflate(encoding, &raw).as_deref(), Ok(content), "{encoding:?}");
        }
    }
}

#[test]
fn frames_on_end_and_frames_to_skip_are_one_body() {
    let skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0abc";
    for frame in lz4_frames(b"line\n") {
        let raw = [&frame[..], skippable, &frame].concat();
        assert_eq!(inflate(Encoding::Lz4, &raw).as_deref(), Ok(&b"line\nline\n"[..]));
    }
    // Padding, a chunk to skip, and the identifier again.
    let framed = snappy_framed(b"line\n");
    let raw = [&framed[..], b"\xfe\x02\0\0zz\x80\0\0\0", &framed].concat();
    assert_eq!(
        inflate(Encoding::Snappy, &raw).as_deref(),
        Ok(&b"line\nline\n"[..])
    );
}

#[test]
fn no_prefix_passes_for_the_whole() {
    let content = text(400);
    for (encoding, raw) in bodies(&content) {
        // The identifier alone is a stream of nothing.
        let whole_stream = raw.starts_with(b"\xff\x06").then_some(10);
        for end in (1..raw.len()).filter(|end| Some(*end) != whole_stream) {
            let error = inflate(encoding, &raw[..end]).expect_err("truncated");
            assert_eq!(error.status(), Status::BadRequest, "{encoding:?} after {end}");
        }
    }
}

#[test]
fn a_changed_byte_never_passes_a_checksum() {
    let content = text(400);
    let checked = [
        (Encoding::Snappy, snappy_framed(&content)),
        (Encoding::Lz4, lz4_frame(&content, |_| {})),
    ];
    for (encoding, raw) in checked {
        for at in 0..raw.len() {
            let mut broken = raw.clone();
            broken[at] ^= 0x10;
            if let Ok(inflated) = inflate(encoding, &broken) {
                // A chunk that became one to skip takes its content with it; nothing else may differ.
                assert!(inflated.is_empty() || inflated == content, "{encoding:?} at {at}");
            }
        }
    }
}

#[test]
fn rejects_what_is_neither() {
    for raw in [&b"{\"message\":\"x\"}"[..], b"\xff\x06\0\0sNaPpZ12345", b"\x80"] {
        let error = inflate(Encoding::Snappy, raw).expect_err("it is no snappy");
        assert_eq!(error.status(), Status::BadRequest);
    }
    for raw in [
        &b"{\"message\":\"x\"}"[..],
        b"\x02\x21\x4c\x18\0\0\0\0",
        b"\x04\x22\x4d\x18\x41\x40\0",
    ] {
        let error = inflate(Encoding::Lz4, raw).expect_err("it is no LZ4 frame");
        assert_eq!(error.status(), Status::BadRequest);
    }
}

#[test]
fn a_block_is_no_longer_than_a_message_before_and_after() {
    let limits = Limits {
        message_bytes_max: 10_000,
        inflate_ratio_max: u64::MAX,
        ..Limits::default()
    };
    let pool = DecoderPool::new(&limits);
    let inflate = |raw: &[u8]| {
        let length = Framing::Length(raw.len() as u64);
        let decoder = BodyDecoder::new(length, Encoding::Snappy, &limits, &pool).expect("room");
        decode(decoder, raw, 1000, 1000).map(|decoded| decoded.expect("it is whole").0.len())
    };
    assert_eq!(inflate(&snappy_block(&vec![0; 10_000])), Ok(10_000));
    let mut random = fastrand::Rng::with_seed(0x5eed_0008);
    let noise: Vec<u8> = (0..10_001).map(|_| random.u8(..)).collect();
    for raw in [snappy_block(&vec![0; 10_001]), snappy_block(&noise)] {
        let error = inflate(&raw).expect_err("too long");
        assert_eq!(error.status(), Status::ContentTooLarge);
    }
    assert_eq!(inflate(&snappy_framed(&vec![0; 100_000])), Ok(100_000));
    assert_eq!(pool.held_bytes(), 0, "what pieces held is given back");
}

#[test]
fn a_bomb_is_refused_while_it_is_small() {
    let limits = Limits {
        inflate_ratio_max: 10,
        inflate_free_bytes: 64 * 1024,
        ..Limits::default()
    };
    let zeros = vec![0; 4 << 20];
    for (encoding, raw) in bodies(&zeros) {
        let pool = DecoderPool::new(&limits);
        let length = Framing::Length(raw.len() as u64);
        let decoder = BodyDecoder::new(length, encoding, &limits, &pool).expect("room");
        let error = decode(decoder, &raw, 1 << 20, 4096).expect_err("a bomb");
        assert_eq!(error, BodyError::Bomb { ratio_max: 10 }, "{encoding:?}");
    }
}

#[test]
fn pieces_are_counted_with_what_the_pool_holds() {
    let limits = Limits {
        body_buffers_bytes_per_core: 256 * 1024,
        inflate_ratio_max: u64::MAX,
        ..Limits::default()
    };
    let pool = DecoderPool::new(&limits);
    // A block of 4 MiB.
    let raw = lz4_frame(&vec![0; 4 << 20], |builder| {
        builder.block_size(lz4::BlockSize::Max4MB);
    });
    let length = Framing::Length(raw.len() as u64);
    let decoder = BodyDecoder::new(length, Encoding::Lz4, &limits, &pool).expect("room");
    let error = decode(decoder, &raw, 1 << 20, 4096).expect_err("more than the pool has");
    assert_eq!(error.status(), Status::ServiceUnavailable);
    assert_eq!(pool.held_bytes(), 0);
}
