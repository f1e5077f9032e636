//! Bodies whole, in pieces of every size, broken, truncated and oversized.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;
use crate::http::chunked::{EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};

/// Decodes `raw` handed over in pieces of `raw_piece` bytes into pieces of `out_piece` bytes.
///
/// Returns the content and how many bytes were consumed; `None` when the body is not over after all of `raw`.
fn decode(
    mut decoder: BodyDecoder,
    raw: &[u8],
    raw_piece: usize,
    out_piece: usize,
) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
    let mut out = vec![0; out_piece];
    let mut content = Vec::new();
    let (mut consumed, mut received) = (0, 0);
    loop {
        let step = decoder.decode(&raw[consumed..received], &mut out)?;
        content.extend_from_slice(&out[..step.produced]);
        consumed += step.consumed;
        assert!(consumed <= received);
        assert_eq!(decoder.content_bytes(), content.len() as u64);
        if step.done {
            let again = decoder.decode(&raw[consumed..], &mut out);
            assert_eq!(
                again,
                Ok(Step {
                    consumed: 0,
                    produced: 0,
                    done: true
                }),
                "done stays done"
            );
            return Ok(Some((content, consumed)));
        }
        if step.produced < out_piece {
            assert_eq!(
                consumed, received,
                "with room left all that was received is consumed"
            );
            if received == raw.len() {
                return Ok(None);
            }
            received = (received + raw_piece).min(raw.len());
        }
    }
}

fn decoder(framing: Framing, encoding: Encoding) -> BodyDecoder {
    let limits = Limits {
        inflate_ratio_max: u64::MAX,
        ..Limits::default()
    };
    BodyDecoder::new(framing, encoding, &limits, &DecoderPool::new(&limits)).expect("the pool is empty")
}

fn chunked(raw: &str) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
    decode(
        decoder(Framing::Chunked, Encoding::Identity),
        raw.as_bytes(),
        1 << 20,
        1 << 16,
    )
}

fn inflate(encoding: Encoding, raw: &[u8]) -> Result<Vec<u8>, BodyError> {
    let decoder = decoder(Framing::Length(raw.len() as u64), encoding);
    let (content, consumed) = decode(decoder, raw, 4096, 4096)?.expect("the length ends the body");
    assert_eq!(consumed, raw.len());
    Ok(content)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(content)
        .and_then(|()| encoder.finish())
        .expect("memory does not fail")
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(content)
        .and_then(|()| encoder.finish())
        .expect("memory does not fail")
}

fn raw_deflate(content: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
    encoder
        .write_all(content)
        .and_then(|()| encoder.finish())
        .expect("memory does not fail")
}

fn zstd_frame(content: &[u8], level: i32) -> Vec<u8> {
    zstd::encode_all(content, level).expect("memory does not fail")
}

/// Log-like text that compresses, but not absurdly well.
fn text(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut text = Vec::with_capacity(bytes + 64);
    while text.len() < bytes {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        writeln!(
            text,
            "{{\"message\":\"took {} ms\",\"id\":{}}}",
            state >> 50,
            state >> 20
        )
        .expect("memory");
    }
    text.truncate(bytes);
    text
}

#[test]
fn a_body_of_known_length_is_its_own_content() {
    let decoder = decoder(Framing::Length(5), Encoding::Identity);
    assert_eq!(
        decode(decoder, b"helloGET /", 3, 2),
        Ok(Some((b"hello".to_vec(), 5)))
    );
}

#[test]
fn no_body_and_an_empty_one_are_done_at_once() {
    for framing in [Framing::None, Framing::Length(0)] {
        for encoding in [
            Encoding::Identity,
            Encoding::Gzip,
            Encoding::Deflate,
            Encoding::Zstd,
        ] {
            let mut decoder = decoder(framing, encoding);
            let step = decoder.decode(b"next", &mut [0; 8]);
            assert_eq!(
                step,
                Ok(Step {
                    consumed: 0,
                    produced: 0,
                    done: true
                })
            );
        }
    }
}

#[test]
fn a_chunked_body_split_at_every_byte_equals_the_whole() {
    let raw = "5\r\nhello\r\n06;name=\"v\"\r\n world\r\n1 ;x\r\n!\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n";
    for next in ["", "GET / HTTP/1.1\r\n"] {
        let stream = format!("{raw}{next}");
        for split in 0..=raw.len() {
            let mut decoder = decoder(Framing::Chunked, Encoding::Identity);
            let mut out = [0; 64];
            let first = decoder
                .decode(&stream.as_bytes()[..split], &mut out)
                .expect("valid");
            assert_eq!(
                (first.consumed, first.done),
                (split, split == raw.len()),
                "split at {split}"
            );
            let (_, room) = out.split_at_mut(first.produced);
            let second = decoder.decode(&stream.as_bytes()[split..], room).expect("valid");
            assert!(second.done);
            assert_eq!(first.consumed + second.consumed, raw.len());
            assert_eq!(&out[..first.produced + second.produced], b"hello world!");
        }
    }
}

#[test]
fn every_prefix_of_a_chunked_body_needs_more() {
    let raw = "a\r\n0123456789\r\n00\r\nT: v\r\n\r\n";
    for end in 0..raw.len() {
        assert_eq!(chunked(&raw[..end]), Ok(None), "{:?}", &raw[..end]);
    }
    assert_eq!(chunked(raw), Ok(Some((b"0123456789".to_vec(), raw.len()))));
}

#[test]
fn rejects_chunked_framing_two_parsers_could_read_differently() {
    use ChunkError::*;
    let cases = [
        ("no size", "\r\n", Size),
        ("extension without size", ";x\r\n", Size),
        ("negative", "-1\r\n", Size),
        ("prefix", "0x5\r\n", Size),
        ("leading blank", " 5\r\nhello", Size),
        ("blank, then no extension", "5 \r\nhello", Size),
        ("tab, then no extension", "5\t\r\nhello", Size),
        ("two sizes", "5 5\r\nhello", Size),
        ("overflow", "10000000000000000\r\n", SizeTooLong),
        ("many zeros", "00000000000000005\r\nhello", SizeTooLong),
        ("LF after size", "5\nhello", LineEnd),
        ("CR only after size", "5\rhello", LineEnd),
        ("LF after extension", "5;x\nhello", LineEnd),
        ("CR within extension", "5;x\ry\r\nhello", LineEnd),
        ("zero within extension", "5;\0\r\nhello", Field),
        ("payload too long", "5\r\nhello!\r\n", LineEnd),
        ("payload too short", "5\r\nhell\r\n0\r\n\r\n", LineEnd),
        ("LF after payload", "5\r\nhello\n", LineEnd),
        ("LF after last chunk", "0\n\r\n", LineEnd),
        ("LF as end", "0\r\n\n", LineEnd),
        ("CR without LF as end", "0\r\n\rX", LineEnd),
        ("trailer without colon", "0\r\nX\r\n\r\n", Field),
        ("trailer without name", "0\r\n: x\r\n\r\n", Field),
        ("folded trailer", "0\r\nX: a\r\n b\r\n\r\n", Field),
        ("blank before colon", "0\r\nX : a\r\n\r\n", Field),
        ("LF in trailer", "0\r\nX: a\nY: b\r\n\r\n", LineEnd),
        ("CR in trailer", "0\r\nX: a\rY: b\r\n\r\n", LineEnd),
        ("zero in trailer", "0\r\nX: \0\r\n\r\n", Field),
    ];
    for (name, raw, expected) in cases {
        let error = chunked(raw).expect_err(name);
        assert_eq!(
            (error, error.status()),
            (BodyError::Chunk(expected), Status::BadRequest),
            "{name}"
        );
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let extended = |bytes: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(bytes));
    assert!(matches!(chunked(&extended(EXTENSION_BYTES_MAX)), Ok(Some(_))));
    let error = chunked(&extended(EXTENSION_BYTES_MAX + 1));
    assert_eq!(error, Err(BodyError::Chunk(ChunkError::ExtensionsTooLong)));
    // Spread over chunks they count as one.
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(EXTENSION_BYTES_MAX / 4));
    assert_eq!(
        chunked(&chunk.repeat(5)),
        Err(BodyError::Chunk(ChunkError::ExtensionsTooLong))
    );

    let trailed = |bytes: usize| format!("0\r\nX:{}\r\n\r\n", "t".repeat(bytes - 2));
    assert!(matches!(chunked(&trailed(TRAILER_BYTES_MAX)), Ok(Some(_))));
    assert_eq!(
        chunked(&trailed(TRAILER_BYTES_MAX + 1)),
        Err(BodyError::Chunk(ChunkError::TrailersTooLong))
    );
}

#[test]
fn every_coding_inflates_at_every_size_of_piece() {
    let content = text(10_000);
    let bodies = [
        (Encoding::Gzip, gzip(&content)),
        (Encoding::Deflate, zlib(&content)),
        (Encoding::Deflate, raw_deflate(&content, 6)),
        (Encoding::Deflate, raw_deflate(&content, 0)),
        (Encoding::Zstd, zstd_frame(&content, 3)),
        (Encoding::Zstd, zstd_frame(&content, 19)),
    ];
    for (encoding, raw) in &bodies {
        for raw_piece in [1, 2, 7, 1000, 1 << 20] {
            for out_piece in [1, 3, 64, 9_999, 10_000, 10_001, 1 << 16] {
                let decoder = decoder(Framing::Length(raw.len() as u64), *encoding);
                let decoded = decode(decoder, raw, raw_piece, out_piece);
                assert_eq!(
                    decoded,
                    Ok(Some((content.clone(), raw.len()))),
                    "{encoding:?} {raw_piece} {out_piece}"
                );
            }
        }
    }
}

#[test]
fn chunks_and_codings_combine() {
    let content = text(5_000);
    for (encoding, compressed) in [
        (Encoding::Gzip, gzip(&content)),
        (Encoding::Zstd, zstd_frame(&content, 1)),
    ] {
        let mut raw = Vec::new();
        for chunk in compressed.chunks(100) {
            write!(raw, "{:x}\r\n", chunk.len()).expect("memory");
            raw.extend_from_slice(chunk);
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"0\r\n\r\n");
        let body = raw.len();
        raw.extend_from_slice(b"POST /");
        for (raw_piece, out_piece) in [(1, 1), (99, 17), (1 << 20, 1 << 20)] {
            let decoded = decode(decoder(Framing::Chunked, encoding), &raw, raw_piece, out_piece);
            assert_eq!(decoded, Ok(Some((content.clone(), body))));
        }
    }
}

#[test]
fn members_and_frames_follow_one_another() {
    let (a, b) = (text(3000), text(70_000));
    let both = [a.clone(), b.clone()].concat();
    assert_eq!(
        inflate(Encoding::Gzip, &[gzip(&a), gzip(&b)].concat()),
        Ok(both.clone())
    );
    assert_eq!(
        inflate(Encoding::Gzip, &[gzip(&a), gzip(b""), gzip(&b)].concat()),
        Ok(both.clone())
    );
    assert_eq!(
        inflate(Encoding::Zstd, &[zstd_frame(&a, 1), zstd_frame(&b, 9)].concat()),
        Ok(both.clone())
    );
    // A skippable frame of three bytes (RFC 8878 section 3.1.2) says nothing.
    let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
    assert_eq!(
        inflate(
            Encoding::Zstd,
            &[zstd_frame(&a, 1), skippable, zstd_frame(&b, 1)].concat()
        ),
        Ok(both)
    );
}

#[test]
fn reads_every_optional_field_of_a_gzip_header() {
    let mut encoder = flate2::GzBuilder::new()
        .extra(vec![7; 300])
        .filename("access.log")
        .comment("of yesterday")
        .write(Vec::new(), Compression::fast());
    encoder.write_all(b"line\n").expect("memory");
    let raw = encoder.finish().expect("memory");
    assert_eq!(inflate(Encoding::Gzip, &raw), Ok(b"line\n".to_vec()));
    // FHCRC and an empty extra field, which the builder does not write.
    let plain = gzip(b"line\n");
    let raw = [
        &plain[..3],
        &[0b0110],
        &plain[4..10],
        &[0, 0],
        &[0xaa, 0xbb],
        &plain[10..],
    ]
    .concat();
    assert_eq!(inflate(Encoding::Gzip, &raw), Ok(b"line\n".to_vec()));
}

#[test]
fn every_prefix_of_compressed_data_is_truncated() {
    let content = text(400);
    let bodies = [
        (Encoding::Gzip, gzip(&content)),
        (Encoding::Deflate, zlib(&content)),
        (Encoding::Deflate, raw_deflate(&content, 6)),
        (Encoding::Zstd, zstd_frame(&content, 3)),
    ];
    for (encoding, raw) in bodies {
        for end in 1..raw.len() {
            let error = inflate(encoding, &raw[..end]).expect_err("truncated");
            assert_eq!(
                error,
                BodyError::Truncated { encoding },
                "after {end} of {}",
                raw.len()
            );
            assert_eq!(error.status(), Status::BadRequest);
        }
    }
}

#[test]
fn rejects_bytes_after_the_end_of_compressed_data() {
    for garbage in [&b"x"[..], b"\0", b"garbage that is longer"] {
        let raw = [gzip(b"line"), garbage.to_vec()].concat();
        let error = BodyError::Inflate(InflateError::TrailingBytes {
            encoding: Encoding::Gzip,
        });
        assert_eq!(inflate(Encoding::Gzip, &raw), Err(error));
        for data in [zlib(b"line"), raw_deflate(b"line", 6)] {
            let raw = [data, garbage.to_vec()].concat();
            let error = BodyError::Inflate(InflateError::TrailingBytes {
                encoding: Encoding::Deflate,
            });
            assert_eq!(inflate(Encoding::Deflate, &raw), Err(error));
            let pieces = decode(
                decoder(Framing::Length(raw.len() as u64), Encoding::Deflate),
                &raw,
                1,
                1,
            );
            assert_eq!(pieces, Err(error));
        }
    }
    let raw = [zstd_frame(b"line", 3), b"garbage".to_vec()].concat();
    assert!(matches!(
        inflate(Encoding::Zstd, &raw),
        Err(BodyError::Inflate(InflateError::Malformed { .. }))
    ));
}

#[test]
fn rejects_data_of_another_coding() {
    let bodies = [
        gzip(b"line"),
        zstd_frame(b"line", 3),
        b"{\"message\":\"plain\"}".to_vec(),
    ];
    for (at, encoding) in [(0, Encoding::Gzip), (1, Encoding::Zstd)] {
        for (other, raw) in bodies.iter().enumerate() {
            if other != at {
                let error = inflate(encoding, raw).expect_err("another coding");
                assert!(
                    matches!(error, BodyError::Inflate(InflateError::Malformed { .. })),
                    "{error:?}"
                );
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_found_by_the_checksum() {
    let content = text(2000);
    for (encoding, good) in [
        (Encoding::Gzip, gzip(&content)),
        (Encoding::Deflate, zlib(&content)),
    ] {
        let header = if encoding == Encoding::Gzip { 10 } else { 2 };
        for at in header..good.len() {
            let mut raw = good.clone();
            raw[at] ^= 0x10;
            assert!(
                inflate(encoding, &raw).is_err(),
                "{encoding:?} with byte {at} changed"
            );
        }
    }
}

#[test]
fn a_bomb_is_refused_while_it_is_small() {
    let limits = Limits {
        inflate_ratio_max: 100,
        inflate_free_bytes: 64 * 1024,
        body_bytes_max: 1 << 40,
        ..Limits::default()
    };
    let zeros = vec![0; 16 << 20];
    for (encoding, raw) in [
        (Encoding::Gzip, gzip(&zeros)),
        (Encoding::Deflate, zlib(&zeros)),
        (Encoding::Zstd, zstd_frame(&zeros, 3)),
    ] {
        let pool = DecoderPool::new(&limits);
        let mut decoder =
            BodyDecoder::new(Framing::Length(raw.len() as u64), encoding, &limits, &pool).expect("room");
        let mut out = vec![0; 4096];
        let mut rest = &raw[..];
        let error = loop {
            match decoder.decode(rest, &mut out) {
                Ok(step) => {
                    assert!(!step.done, "{encoding:?} came through");
                    rest = &rest[step.consumed..];
                }
                Err(error) => break error,
            }
        };
        assert_eq!(
            (error, error.status()),
            (BodyError::Bomb { ratio_max: 100 }, Status::ContentTooLarge)
        );
        let allowed = 100 * raw.len() as u64 + 64 * 1024;
        assert!(decoder.content_bytes() <= allowed + out.len() as u64);
    }
}

#[test]
fn content_up_to_the_free_bytes_may_compress_as_well_as_it_can() {
    let limits = Limits {
        inflate_ratio_max: 1,
        inflate_free_bytes: 100_000,
        ..Limits::default()
    };
    for bytes in [99_000, 101_000] {
        let raw = gzip(&vec![0; bytes]);
        let pool = DecoderPool::new(&limits);
        let decoder = BodyDecoder::new(Framing::Length(raw.len() as u64), Encoding::Gzip, &limits, &pool)
            .expect("room");
        let decoded = decode(decoder, &raw, 1 << 20, 4096);
        match bytes {
            99_000 => assert!(matches!(decoded, Ok(Some(_)))),
            _ => assert_eq!(decoded, Err(BodyError::Bomb { ratio_max: 1 })),
        }
    }
}

#[test]
fn content_and_payload_stay_within_the_body_limit() {
    let limits = Limits {
        body_bytes_max: 1000,
        ..Limits::default()
    };
    let pool = DecoderPool::new(&limits);
    let too_long = Err(BodyError::TooLong { bytes_max: 1000 });
    let run = |framing, encoding, raw: &[u8]| {
        decode(
            BodyDecoder::new(framing, encoding, &limits, &pool).expect("room"),
            raw,
            1 << 20,
            128,
        )
    };
    let chunk = |bytes: usize| format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(bytes));
    assert!(matches!(
        run(Framing::Chunked, Encoding::Identity, chunk(1000).as_bytes()),
        Ok(Some(_))
    ));
    assert_eq!(
        run(Framing::Chunked, Encoding::Identity, chunk(1001).as_bytes()),
        too_long
    );
    let raw = gzip(&text(1001));
    assert_eq!(
        run(Framing::Length(raw.len() as u64), Encoding::Gzip, &raw),
        too_long
    );
    // Members without content: endless payload that inflates to nothing.
    let raw = gzip(b"").repeat(1000);
    assert_eq!(
        run(Framing::Length(raw.len() as u64), Encoding::Gzip, &raw),
        too_long
    );
}

/// A zstd frame with this window that announces more content than the window, then one RLE block of blanks.
fn zstd_frame_with_window(log: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3];
    // Last block, type RLE, size 1000 (RFC 8878 section 3.1.1.2).
    let header: u32 = 1000 << 3 | 1 << 1 | 1;
    frame.extend_from_slice(&header.to_le_bytes()[..3]);
    frame.push(b' ');
    frame
}

#[test]
fn zstd_windows_are_taken_up_to_8_mib() {
    assert_eq!(
        inflate(Encoding::Zstd, &zstd_frame_with_window(23)),
        Ok(vec![b' '; 1000])
    );
    let error = inflate(Encoding::Zstd, &zstd_frame_with_window(24)).expect_err("16 MiB");
    assert!(matches!(
        error,
        BodyError::Inflate(InflateError::Malformed {
            encoding: Encoding::Zstd,
            ..
        })
    ));
    assert_eq!(error.status(), Status::BadRequest);
}

#[test]
fn the_pool_lends_what_it_was_given_back_and_no_more_than_its_bound() {
    let limits = Limits {
        body_buffers_bytes_per_core: 24 << 20,
        ..Limits::default()
    };
    let pool = DecoderPool::new(&limits);
    let take = |encoding| BodyDecoder::new(Framing::Length(1 << 20), encoding, &limits, &pool);
    let content = text(50_000);

    // One after the other they share one decoder of each kind, whatever state the last user left it in.
    let mut held = 0;
    for round in 0..20 {
        for (encoding, raw) in [
            (Encoding::Gzip, gzip(&content)),
            (Encoding::Zstd, zstd_frame(&content, 3)),
            (Encoding::Deflate, zlib(&content)),
        ] {
            let whole =
                BodyDecoder::new(Framing::Length(raw.len() as u64), encoding, &limits, &pool).expect("room");
            assert_eq!(
                decode(whole, &raw, 1000, 1000),
                Ok(Some((content.clone(), raw.len())))
            );
            let mut broken = take(encoding).expect("room");
            let _ = broken.decode(&raw[..raw.len() / 2], &mut [0; 10_000]);
        }
        if round == 1 {
            held = pool.held_bytes();
        }
        if round > 0 {
            assert_eq!(pool.held_bytes(), held, "steady from the second round on");
        }
    }

    // Lent at once they reach the bound: 12 MiB hold one window of 8 MiB, not two.
    let large = zstd_frame_with_window(23);
    let mut out = [0; 100];
    let mut first = take(Encoding::Zstd).expect("room");
    first.decode(&large, &mut out).expect("the first window fits");
    let mut second = take(Encoding::Zstd).expect("room");
    let error = second.decode(&large, &mut out).expect_err("the second does not");
    assert_eq!(error, BodyError::Inflate(InflateError::PoolExhausted));
    assert_eq!(error.status(), Status::ServiceUnavailable);
    assert!(pool.held_bytes() <= 12 << 20);
    drop((first, second));
    let mut third = take(Encoding::Zstd).expect("room");
    third.decode(&large, &mut out).expect("the window was given back");
}

#[test]
fn the_pool_refuses_decoders_beyond_its_bound_and_frees_idle_ones_first() {
    let limits = Limits {
        body_buffers_bytes_per_core: 2 << 20,
        ..Limits::default()
    };
    let pool = DecoderPool::new(&limits);
    let take = |encoding| BodyDecoder::new(Framing::Chunked, encoding, &limits, &pool);
    let mut lent = Vec::new();
    while let Ok(decoder) = take(Encoding::Gzip) {
        lent.push(decoder);
    }
    assert_eq!(lent.len(), 16, "a MiB of 64 KiB each");
    assert_eq!(
        take(Encoding::Zstd).expect_err("full").status(),
        Status::ServiceUnavailable
    );
    drop(lent);
    assert_eq!(pool.held_bytes(), 1 << 20, "idle decoders are kept");
    let zstd = take(Encoding::Zstd).expect("an idle flate decoder makes room");
    assert!(pool.held_bytes() <= 1 << 20);
    drop(zstd);
}

#[test]
fn every_refusal_is_one_sentence() {
    let encoding = Encoding::Zstd;
    for error in [
        BodyError::Chunk(ChunkError::Size),
        BodyError::Chunk(ChunkError::SizeTooLong),
        BodyError::Chunk(ChunkError::LineEnd),
        BodyError::Chunk(ChunkError::Field),
        BodyError::Chunk(ChunkError::ExtensionsTooLong),
        BodyError::Chunk(ChunkError::TrailersTooLong),
        BodyError::Inflate(InflateError::Malformed {
            encoding,
            reason: "it is not",
        }),
        BodyError::Inflate(InflateError::TrailingBytes { encoding }),
        BodyError::Inflate(InflateError::PoolExhausted),
        BodyError::Truncated { encoding },
        BodyError::TooLong { bytes_max: 1 },
        BodyError::Bomb { ratio_max: 1 },
    ] {
        let sentence = error.to_string();
        assert!(
            sentence.ends_with('.') && sentence.starts_with(char::is_uppercase),
            "{sentence}"
        );
    }
}

/// The encoder the decoder is checked against: chunks as an RFC 9112 sender may write them.
fn encode_chunked(chunks: &[(Vec<u8>, bool, u8)], trailers: u8) -> Vec<u8> {
    let mut raw = Vec::new();
    for (payload, uppercase, extension) in chunks.iter().filter(|chunk| !chunk.0.is_empty()) {
        match uppercase {
            true => write!(raw, "{:X}", payload.len()),
            false => write!(raw, "{:04x}", payload.len()),
        }
        .expect("memory");
        raw.extend_from_slice([&b""[..], b";a", b" ; b = \"c;d\"", b";\xff"][usize::from(extension % 4)]);
        raw.extend_from_slice(b"\r\n");
        raw.extend_from_slice(payload);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"0\r\n");
    for trailer in 0..trailers {
        write!(raw, "X-{trailer}: {trailer}\r\n").expect("memory");
    }
    raw.extend_from_slice(b"\r\n");
    raw
}

proptest! {
    #[test]
    fn whatever_is_chunked_comes_out_whole(
        chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), any::<bool>(), any::<u8>()), 0..8),
        trailers in 0u8..3,
        tail in prop::collection::vec(any::<u8>(), 0..5),
        raw_piece in 1usize..40,
        out_piece in 1usize..40,
    ) {
        let content: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.0.clone()).collect();
        let mut raw = encode_chunked(&chunks, trailers);
        let body = raw.len();
        raw.extend_from_slice(&tail);
        let decoded = decode(decoder(Framing::Chunked, Encoding::Identity), &raw, raw_piece, out_piece);
        prop_assert_eq!(decoded, Ok(Some((content, body))));
    }

    #[test]
    fn whatever_is_compressed_comes_out_whole(
        content in prop::collection::vec(0u8..4, 0..3000),
        raw_piece in 1usize..300,
        out_piece in 1usize..300,
    ) {
        for (encoding, raw) in [
            (Encoding::Gzip, gzip(&content)),
            (Encoding::Deflate, zlib(&content)),
            (Encoding::Deflate, raw_deflate(&content, 6)),
            (Encoding::Zstd, zstd_frame(&content, 3)),
        ] {
            let decoded = decode(decoder(Framing::Length(raw.len() as u64), encoding), &raw, raw_piece, out_piece);
            prop_assert_eq!(decoded, Ok(Some((content.clone(), raw.len()))));
        }
    }

    /// Whatever the bytes: an answer, and the same one however they are cut.
    #[test]
    fn any_bytes_get_one_answer_however_they_are_cut(
        prefix in 0usize..4,
        noise in prop::collection::vec(any::<u8>(), 0..60),
        pieces in (1usize..70, 1usize..70),
    ) {
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
            let start = match encoding {
                Encoding::Identity => b"4\r\n".to_vec(),
                Encoding::Gzip => gzip(b"line"),
                Encoding::Deflate => zlib(b"line"),
                Encoding::Zstd => zstd_frame(b"line", 3),
                // Not inflated here.
                Encoding::Snappy => continue,
            };
            let raw = [&start[..start.len() * prefix / 3], &noise].concat();
            let framing = match encoding {
                Encoding::Identity => Framing::Chunked,
                _ => Framing::Length(raw.len() as u64),
            };
            let whole = decode(decoder(framing, encoding), &raw, 1 << 20, 1 << 16);
            let cut = decode(decoder(framing, encoding), &raw, pieces.0, pieces.1);
            // How far a decoder looks ahead decides which of two faults it names.
            match (&whole, &cut) {
                (Err(_), Err(_)) => {}
                _ => prop_assert_eq!(whole, cut),
            }
        }
    }
}
