//! Whatever a bulk body holds, each of its actions becomes one item, and it is read the same however it arrives.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhouse::elasticsearch::{ActionError, Bulk, BulkReader, Items, Kind, Outcome};
use ringhouse::limits::Limits;

type Told = (Kind, Outcome, String, String);

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let whole = read(body, body.len());
    assert_eq!(read(body, usize::from(*first).max(1)), whole);
});

fn read(body: &[u8], piece_bytes: usize) -> (Vec<String>, Vec<Told>, Option<ActionError>) {
    let limits = Limits { line_bytes_max: 1024, chunk_bytes: 4096, ..Limits::default() };
    let (mut reader, mut items) = (BulkReader::new(&limits), Items::new(64, "index"));
    let (mut buffer, mut rest) = (Vec::new(), body);
    let (mut documents, mut unanswered, mut failure) = (Vec::new(), 0, None);
    loop {
        let consumed = match reader.next(&mut buffer, rest.is_empty(), &mut items) {
            Bulk::Documents { start, end, documents: count, first_item, consumed, .. } => {
                let lines = buffer[start..end].split(|byte| *byte == b'\n');
                let lines = lines.filter(|line| !line.iter().all(|byte| b" \t\r".contains(byte)));
                let before = documents.len();
                documents.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
                assert_eq!(documents.len() - before, count);
                assert!(first_item >= unanswered, "items are answered in order");
                unanswered = first_item + count;
                consumed
            }
            Bulk::TooLong { item, consumed, .. } | Bulk::Missing { item, consumed, .. } => {
                assert!(item >= unanswered, "an item is answered once");
                unanswered = item + 1;
                consumed
            }
            Bulk::NeedMore { consumed } => {
                let (piece, after) = rest.split_at(piece_bytes.min(rest.len()));
                buffer.extend_from_slice(piece);
                rest = after;
                consumed
            }
            Bulk::Failed(error) => {
                failure = Some(error);
                break;
            }
            Bulk::Done => break,
        };
        buffer.drain(..consumed);
    }
    let told = items.iter().map(|item| (item.kind, item.outcome, item.index.to_owned(), item.id.to_owned()));
    (documents, told.collect(), failure)
}
