//! Whatever a journal holds, it gives a state that goes on with any change that fits, and its settled blocks can be forgotten.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::wal::journal::{Change, End, read, salt};
use ringhouse::wal::record::{self, Kind};

// Each line is a record whose checksums hold, which are not to be guessed: a checkpoint when it begins with a blank, else a
// change. The bytes as they are come behind them.
fuzz_target!(|input: &[u8]| {
    let mut bytes = Vec::new();
    for line in input.split(|byte| *byte == b'\n') {
        let kind = if line.starts_with(b" ") { Kind::Checkpoint } else { Kind::Change };
        record::put(&mut bytes, kind, line, salt(0));
    }
    bytes.extend_from_slice(input);
    let mut state = read(&bytes);
    assert_eq!(read(&bytes), state);
    for token in state.open.keys().cloned().collect::<Vec<_>>() {
        let announced = state.open[&token].clone();
        let end = End::Inserted;
        assert!(state.apply(&Change::Close { token, end }), "what is open can end");
        for piece in announced.pieces.iter().filter(|piece| piece.is_whole()) {
            assert!(state.is_settled(piece.block));
        }
    }
    state.forget_others([]);
});
