use super::*;
use crate::dead_letter::tests::{ids, letter, letters};
use crate::dead_letter::{CommandError, DeadLetters, Letter, list, remove, replay};
use crate::tls::authority::Authority;
use crate::tls::{Certificates, ClientFiles, Identity, ServerFiles, Trust};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

/// One request as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    path: String,
    key: String,
    body: String,
}

impl Seen {
    fn rows(&self) -> usize {
        self.body.lines().count()
    }
}

/// Replays against a server that answers with what `answer` returns; an empty text closes the connection.
fn replay_to(
    data_dir: &Path,
    selection: &Selection,
    mut answer: impl FnMut(&Seen) -> String + Send,
) -> (Replayed, Result<(), CommandError>, Vec<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let to: Target = format!("http://{address}").parse().unwrap();
    let mut replayed = Replayed::default();
    let (result, seen) = std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let mut all = Vec::new();
            loop {
                let (mut peer, _) = listener.accept().unwrap();
                let Some(seen) = read_request(&mut peer) else {
                    return all;
                };
                peer.write_all(answer(&seen).as_bytes()).unwrap();
                all.push(seen);
            }
        });
        let result = replay(data_dir, selection, &to, &mut replayed);
        // A connection without a request ends the server.
        drop(std::net::TcpStream::connect(address).unwrap());
        (result, server.join().unwrap())
    });
    (replayed, result, seen)
}

fn read_request(peer: &mut impl Read) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let read = peer.read(&mut buffer).unwrap();
        if read == 0 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..read]);
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head) = request.parse(&bytes).unwrap() else {
            continue;
        };
        let header = |name: &str| {
            let found = request.headers.iter().find(|header| header.name == name);
            String::from_utf8(found.unwrap().value.to_vec()).unwrap()
        };
        if bytes.len() - head == header("Content-Length").parse::<usize>().unwrap() {
            assert_eq!(request.method, Some("POST"));
            return Some(Seen {
                path: request.path.unwrap().to_owned(),
                key: header("Idempotency-Key"),
                body: String::from_utf8(bytes[head..].to_vec()).unwrap(),
            });
        }
    }
}

fn reply(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn taken(rows: usize) -> String {
    reply(
        200,
        &format!("{{\"accepted\":{rows},\"rejected\":0,\"ack\":\"inserted\",\"errors\":[]}}"),
    )
}

/// A reply that rejects some rows.
fn rejected(rows: usize, errors: &[(usize, &str)]) -> String {
    let spelled: Vec<String> = errors
        .iter()
        .map(|(row, reason)| format!("{{\"row\":{row},\"reason\":\"{reason}\"}}"))
        .collect();
    let status = if errors.len() == rows { 400 } else { 200 };
    reply(
        status,
        &format!(
            "{{\"accepted\":{},\"rejected\":{},\"ack\":\"inserted\",\"errors\":[{}]}}",
            rows - errors.len(),
            errors.len(),
            spelled.join(",")
        ),
    )
}

struct Store {
    dir: tempfile::TempDir,
    store: DeadLetters,
}

impl Store {
    fn with(letters: &[Letter]) -> Store {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DeadLetters::open(dir.path(), 1 << 30, 1 << 24).unwrap();
        store.append(letters).unwrap();
        Store { dir, store }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn note(&self) -> std::path::PathBuf {
        self.path().join("dead-letters/replay.json")
    }

    fn list(&self) -> String {
        let mut out = Vec::new();
        list(self.path(), &Selection::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}

fn counts(inserted: u64, moved: u64, kept: u64) -> Replayed {
    Replayed {
        inserted,
        moved,
        kept,
    }
}

fn all() -> Selection {
    Selection::default()
}

#[test]
fn posts_every_row_once_and_removes_what_was_inserted() {
    let store = Store::with(&letters(0..2_500));
    let (replayed, result, seen) = replay_to(store.path(), &all(), |seen| taken(seen.rows()));
    result.unwrap();
    assert_eq!(replayed, counts(2_500, 0, 0));
    // 20 that double: 20 + 40 + 80 + 160 + 320 + 640 = 1,260, then 1,000 at most.
    let sizes: Vec<usize> = seen.iter().map(Seen::rows).collect();
    assert_eq!(sizes, [20, 40, 80, 160, 320, 640, 1_000, 240]);
    let sent: String = seen.iter().map(|seen| seen.body.as_str()).collect();
    let rows: String = letters(0..2_500)
        .iter()
        .map(|letter| format!("{}\n", letter.row))
        .collect();
    assert_eq!(sent, rows);
    assert!(seen.iter().all(|seen| seen.path == "/ingest/d.t?ack=inserted"));
    let keys: HashSet<&String> = seen.iter().map(|seen| &seen.key).collect();
    assert_eq!(keys.len(), seen.len());
    assert_eq!(store.list(), "no dead letters\n");
    assert!(!store.note().exists());
}

#[test]
fn sends_no_more_than_a_mebibyte_at_once_but_for_a_single_row() {
    let mut nine = letters(0..9);
    for letter in &mut nine {
        letter.row = format!("{{\"long\":\"{}\"}}", "x".repeat(300_000));
    }
    nine[4].row = format!("{{\"long\":\"{}\"}}", "x".repeat(2_000_000));
    let store = Store::with(&nine);
    let (replayed, result, seen) = replay_to(store.path(), &all(), |seen| taken(seen.rows()));
    result.unwrap();
    assert_eq!(replayed.inserted, 9);
    assert_eq!(seen.iter().map(Seen::rows).collect::<Vec<_>>(), [3, 1, 1, 3, 1]);
}

#[test]
fn posts_each_table_to_itself_and_only_what_is_selected() {
    let store = Store::with(&[
        letter("a", "d.t"),
        letter("b", "d.u"),
        letter("c", "d.t"),
        letter("d", "d.o d"),
    ]);
    let of_table = Selection {
        table: Some("d.t".to_owned()),
        ..all()
    };
    let (replayed, result, seen) = replay_to(store.path(), &of_table, |seen| taken(seen.rows()));
    result.unwrap();
    assert_eq!((replayed, seen.len()), (counts(2, 0, 0), 1));
    assert_eq!(ids(store.path()), ["b", "d"]);
    let (_, result, seen) = replay_to(store.path(), &all(), |seen| taken(seen.rows()));
    result.unwrap();
    let paths: Vec<&str> = seen.iter().map(|seen| seen.path.as_str()).collect();
    assert_eq!(
        paths,
        ["/ingest/d.o%20d?ack=inserted", "/ingest/d.u?ack=inserted"]
    );
}

#[test]
fn keeps_rejected_rows_with_the_new_reason() {
    let store = Store::with(&letters(0..5));
    let (replayed, result, _) = replay_to(store.path(), &all(), |seen| {
        rejected(seen.rows(), &[(1, "no such column"), (3, "no such column")])
    });
    result.unwrap();
    assert_eq!(replayed, counts(3, 0, 2));
    assert_eq!(ids(store.path()), ["k000001", "k000003"]);
    let listed = store.list();
    assert!(
        listed.contains("    0  no such column\n") && listed.lines().count() == 2,
        "{listed}"
    );
    // All of them again: nothing is inserted, which is answered 400.
    let (replayed, result, _) = replay_to(store.path(), &all(), |seen| {
        rejected(seen.rows(), &[(0, "still none"), (1, "still none")])
    });
    result.unwrap();
    assert_eq!(replayed, counts(0, 0, 2));
    assert!(store.list().contains("still none"));
}

#[test]
fn asks_anew_after_an_answer_so_that_a_repaired_table_takes_the_rows() {
    let store = Store::with(&letters(0..2));
    let (_, _, first) = replay_to(store.path(), &all(), |seen| {
        rejected(seen.rows(), &[(0, "no"), (1, "no")])
    });
    let (replayed, result, second) = replay_to(store.path(), &all(), |seen| taken(seen.rows()));
    result.unwrap();
    assert_eq!(first[0].body, second[0].body);
    assert_ne!(first[0].key, second[0].key);
    assert_eq!(replayed, counts(2, 0, 0));
}

#[test]
fn removes_what_the_server_has_stored_itself() {
    let store = Store::with(&letters(0..5));
    let moved = format!("ClickHouse: code 469; it is in the {SETTLED_WORDS}");
    let (replayed, result, _) = replay_to(store.path(), &all(), |seen| {
        rejected(seen.rows(), &[(1, "bad number"), (3, &moved)])
    });
    result.unwrap();
    assert_eq!(replayed, counts(3, 1, 1));
    assert_eq!(ids(store.path()), ["k000001"]);
    // For a whole request.
    let (replayed, result, _) = replay_to(store.path(), &all(), |_| {
        reply(
            400,
            &format!("{{\"error\":\"refused; they are in the {SETTLED_WORDS}\"}}"),
        )
    });
    result.unwrap();
    assert_eq!(replayed, counts(0, 1, 0));
    assert_eq!(store.list(), "no dead letters\n");
}

#[test]
fn does_not_send_again_what_the_server_stores_meanwhile() {
    let mut store = Store::with(&letters(0..3));
    let path = store.path().to_owned();
    let other = &mut store.store;
    let (replayed, result, seen) = replay_to(&path, &all(), |seen| {
        other.append(&letters(10..13)).unwrap();
        taken(seen.rows())
    });
    result.unwrap();
    assert_eq!((replayed, seen.len()), (counts(3, 0, 0), 1));
    assert_eq!(ids(&path), ["k000010", "k000011", "k000012"]);
}

#[test]
fn keeps_letters_of_a_request_that_was_refused_as_a_whole_and_goes_on() {
    let store = Store::with(&letters(0..50));
    let before = store.list();
    let mut first = true;
    let (replayed, result, seen) = replay_to(store.path(), &all(), |seen| {
        if std::mem::take(&mut first) {
            return reply(
                400,
                "{\"error\":\"ClickHouse refused the rows for their content\"}",
            );
        }
        taken(seen.rows())
    });
    result.unwrap();
    assert_eq!(seen.iter().map(Seen::rows).collect::<Vec<_>>(), [20, 20, 10]);
    assert_eq!(replayed, counts(30, 0, 20));
    assert_eq!(ids(store.path()).len(), 20);
    // Why they are here is still what ClickHouse said first.
    let reason = |text: &str| {
        text.lines()
            .nth(1)
            .unwrap()
            .split_once("  469  ")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(reason(&store.list()), reason(&before));
}

#[test]
fn sends_an_unanswered_batch_again_under_its_key_whatever_came_since() {
    for away in [
        reply(503, "{\"error\":\"not confirmed in time\"}"),
        String::new(),
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort".to_owned(),
    ] {
        let mut store = Store::with(&letters(0..3));
        let (replayed, result, first) = replay_to(store.path(), &all(), |_| away.clone());
        let told = result.unwrap_err().to_string();
        assert!(told.contains("kept"), "{told}");
        assert_eq!(replayed, Replayed::default());
        assert_eq!((ids(store.path()).len(), first.len()), (3, 1));
        assert!(store.note().exists());

        store.store.append(&letters(3..6)).unwrap();
        // Another selection: what is open is settled first all the same.
        let other = Selection {
            ids: ["k000005".to_owned()].into(),
            ..all()
        };
        let (replayed, result, second) = replay_to(store.path(), &other, |seen| taken(seen.rows()));
        result.unwrap();
        assert_eq!(second[0], first[0]);
        assert_ne!(second[1].key, first[0].key);
        assert_eq!(replayed, counts(4, 0, 0));
        assert_eq!(ids(store.path()), ["k000003", "k000004"]);
        assert!(!store.note().exists());
    }
}

#[test]
fn reads_the_recorded_answer_to_a_batch_of_which_letters_are_gone() {
    for recorded in [true, false] {
        let store = Store::with(&letters(0..4));
        let (_, result, first) = replay_to(store.path(), &all(), |_| String::new());
        result.unwrap_err();
        let gone = Selection {
            ids: ["k000001".to_owned()].into(),
            ..all()
        };
        assert_eq!(remove(store.path(), &gone).unwrap().rows, 1);
        let (replayed, result, second) = replay_to(store.path(), &all(), |seen| match seen.rows() {
            // Row 3 of those sent first is row 2 of those sent now.
            3 if recorded => rejected(4, &[(3, "late")]),
            3 => rejected(3, &[(2, "late")]),
            rows => rejected(rows, &[(0, "still late")]),
        });
        result.unwrap();
        assert_eq!(second[0].key, first[0].key);
        // What was rejected is tried once more, under a key of its own: the answer may have been an old one.
        assert_eq!((second.len(), second[1].rows()), (2, 1));
        assert_ne!(second[1].key, first[0].key);
        assert_eq!(replayed, counts(2, 0, 1));
        assert_eq!(ids(store.path()), ["k000003"], "recorded: {recorded}");
    }
}

#[test]
fn forgets_an_unanswered_batch_whose_letters_are_all_gone() {
    let store = Store::with(&letters(0..4));
    let (_, result, _) = replay_to(store.path(), &all(), |_| String::new());
    result.unwrap_err();
    remove(store.path(), &all()).unwrap();
    let (replayed, result, seen) = replay_to(store.path(), &all(), |_| String::new());
    result.unwrap();
    assert_eq!((replayed, seen.len()), (Replayed::default(), 0));
    assert!(!store.note().exists());
}

#[test]
fn stops_at_a_server_that_does_not_want_the_rows_and_notes_nothing() {
    let store = Store::with(&letters(0..4));
    let (replayed, result, _) = replay_to(store.path(), &all(), |_| {
        reply(404, "{\"error\":\"no table d.t\"}")
    });
    let told = result.unwrap_err().to_string();
    assert!(
        told.contains("answered 404, the letters are kept: {\"error\":\"no table d.t\"}"),
        "{told}"
    );
    assert_eq!(replayed, Replayed::default());
    assert_eq!(ids(store.path()).len(), 4);
    assert!(!store.note().exists());
}

#[test]
fn stops_where_nobody_listens() {
    let store = Store::with(&letters(0..4));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to: Target = format!("http://{free}").parse().unwrap();
    let told = replay(store.path(), &all(), &to, &mut Replayed::default())
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with(&format!("no answer from http://{free} (")),
        "{told}"
    );
    assert_eq!(ids(store.path()).len(), 4);
}

#[test]
fn keeps_rows_of_which_the_server_does_not_say_whether_they_are_inserted() {
    let store = Store::with(&letters(0..10));
    // Ten rows, three rejected, one spelled out: of the last five three are inserted.
    let (replayed, result, _) = replay_to(store.path(), &all(), |_| {
        reply(
            200,
            "{\"accepted\":7,\"rejected\":3,\"errors\":[{\"row\":4,\"reason\":\"x\"}]}",
        )
    });
    let told = result.unwrap_err().to_string();
    assert!(told.starts_with("3 of 5 rows were inserted"), "{told}");
    assert_eq!(replayed, counts(4, 0, 6));
    assert_eq!(
        ids(store.path()),
        ["k000004", "k000005", "k000006", "k000007", "k000008", "k000009"]
    );
    assert!(store.list().contains("replayed: 3 of 5 such rows were inserted"));
}

#[test]
fn does_not_send_what_is_no_object() {
    let mut three = letters(0..3);
    three[1].row = "no json".to_owned();
    let store = Store::with(&three);
    let (replayed, result, seen) = replay_to(store.path(), &all(), |seen| taken(seen.rows()));
    result.unwrap();
    assert_eq!((replayed, seen[0].rows()), (counts(2, 0, 1), 2));
    assert_eq!(ids(store.path()), ["k000001"]);
}

#[test]
fn runs_once_at_a_time() {
    let store = Store::with(&letters(0..3));
    let path = store.path().to_owned();
    let (replayed, result, _) = replay_to(&path, &all(), |seen| {
        let to = "http://127.0.0.1:1".parse().unwrap();
        let told = replay(&path, &all(), &to, &mut Replayed::default()).unwrap_err();
        assert!(matches!(told, CommandError::Replay(ReplayError::Busy)), "{told}");
        taken(seen.rows())
    });
    result.unwrap();
    assert_eq!(replayed.inserted, 3);
}

#[test]
fn judges_an_answer_row_by_row_or_not_at_all() {
    use Outcome::{Inserted, Rejected};
    let why = |reason: &str| Rejected(reason.to_owned());
    let unspelled = "rejected when it was replayed; the server spelled out the reasons of other rows only";
    for (status, body, expected) in [
        (
            200,
            "{\"accepted\":3,\"rejected\":0,\"errors\":[]}",
            Verdict::Rows(vec![Inserted; 3]),
        ),
        // A server that has seen the key may count otherwise.
        (
            200,
            "{\"accepted\":0,\"rejected\":0,\"errors\":[]}",
            Verdict::Rows(vec![Inserted; 3]),
        ),
        (
            200,
            "{\"accepted\":2,\"rejected\":1,\"errors\":[{\"row\":2,\"reason\":\"x\"}]}",
            Verdict::Rows(vec![Inserted, Inserted, why("x")]),
        ),
        (
            200,
            "{\"accepted\":1,\"rejected\":2,\"errors\":[{\"row\":1,\"reason\":\"x\"}]}",
            Verdict::Rows(vec![Inserted, why("x"), why(unspelled)]),
        ),
        (
            400,
            "{\"accepted\":0,\"rejected\":3,\"errors\":[]}",
            Verdict::Rows(vec![why(unspelled); 3]),
        ),
        (
            200,
            "{\"accepted\":1,\"rejected\":2,\"errors\":[]}",
            Verdict::Unclear {
                outcomes: vec![
                    Outcome::Unknown(
                        "replayed: 1 of 3 such rows were inserted, the server did not say which".to_owned()
                    );
                    3
                ],
                inserted: 1,
            },
        ),
        // Rows that the server has isolated and stored itself: nothing is left to do for them, whichever they are.
        (
            200,
            "{\"accepted\":2,\"rejected\":1,\"errors\":[{\"row\":3,\"reason\":\"1 of the rows were refused; the dead-letter store has them\"}]}",
            Verdict::Rows(vec![Outcome::Moved, Inserted, Inserted]),
        ),
        (
            200,
            "{\"accepted\":1,\"rejected\":2,\"errors\":[{\"row\":0,\"reason\":\"x\"},{\"row\":3,\"reason\":\"1 of the rows were refused; the dead-letter store has them\"}]}",
            Verdict::Rows(vec![why("x"), Outcome::Moved, Inserted]),
        ),
        // One more was rejected than is spelled out: perhaps by the parser, and then nobody has stored it.
        (
            200,
            "{\"accepted\":1,\"rejected\":2,\"errors\":[{\"row\":3,\"reason\":\"1 of the rows were refused; the dead-letter store has them\"}]}",
            Verdict::NotKnown,
        ),
        // Other rows than were sent, an end in the middle, rows out of range or order, counts that contradict.
        (
            200,
            "{\"accepted\":3,\"rejected\":1,\"errors\":[]}",
            Verdict::NotKnown,
        ),
        (
            413,
            "{\"accepted\":2,\"rejected\":1,\"errors\":[]}",
            Verdict::NotKnown,
        ),
        (
            200,
            "{\"accepted\":2,\"rejected\":1,\"errors\":[{\"row\":3,\"reason\":\"x\"}]}",
            Verdict::NotKnown,
        ),
        (
            200,
            "{\"accepted\":1,\"rejected\":2,\"errors\":[{\"row\":1,\"reason\":\"x\"},{\"row\":0,\"reason\":\"x\"}]}",
            Verdict::NotKnown,
        ),
        (
            200,
            "{\"accepted\":0,\"rejected\":3,\"errors\":[{\"row\":2,\"reason\":\"x\"}]}",
            Verdict::NotKnown,
        ),
        (200, "all is well", Verdict::NotKnown),
        (202, "{\"error\":\"x\"}", Verdict::NotKnown),
        (400, "{\"error\":\"the body holds no rows\"}", Verdict::NotTaken),
        (
            400,
            "{\"error\":\"ClickHouse refused\"}",
            Verdict::Rows(vec![Outcome::Refused; 3]),
        ),
        (404, "", Verdict::NotTaken),
        (409, "{\"error\":\"the key is in use\"}", Verdict::NotKnown),
        (503, "{\"error\":\"refused\"}", Verdict::NotKnown),
    ] {
        assert_eq!(judge(status, body, 3), expected, "{status} {body}");
    }
}

#[test]
fn replays_within_tls_to_a_server_it_trusts_and_shows_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let ca = authority.write(&directory.path().join("ca.pem"));
    let (certificate, key) = authority.issue("localhost").write(directory.path(), "server");
    let certificates = Certificates::load(
        ServerFiles {
            certificate,
            key,
            client_ca: Some(ca.clone()),
        },
        &[],
    );
    let config = certificates.unwrap().config();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (certificate, key) = authority.issue("replay").write(directory.path(), "client");
    let files = ClientFiles {
        ca: Some(ca),
        identity: Some(Identity { certificate, key }),
    };
    let stranger = Trust::file(Authority::new("others").write(&directory.path().join("others.pem")));
    let store = Store::with(&letters(0..2));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for is_trusted in [false, true] {
                let (socket, _) = listener.accept().unwrap();
                let session = rustls::ServerConnection::new(std::sync::Arc::clone(&config)).unwrap();
                let mut peer = rustls::StreamOwned::new(session, socket);
                if !is_trusted {
                    assert!(peer.flush().is_err());
                    continue;
                }
                let seen = read_request(&mut peer).unwrap();
                assert!(peer.conn.peer_certificates().is_some());
                peer.write_all(taken(seen.rows()).as_bytes()).unwrap();
                peer.conn.send_close_notify();
                peer.flush().unwrap();
            }
        });
        let to = Target::parse(&format!("https://localhost:{port}")).unwrap();
        let mut replayed = Replayed::default();
        let mistrusted = to.clone().with_trust(&stranger);
        let told = replay(store.path(), &all(), &mistrusted, &mut replayed)
            .unwrap_err()
            .to_string();
        assert!(told.contains("signed by none of the authorities"), "{told}");
        replay(
            store.path(),
            &all(),
            &to.with_trust(&Trust::new(files)),
            &mut replayed,
        )
        .unwrap();
        assert_eq!(replayed.inserted, 2);
    });
    assert!(ids(store.path()).is_empty());
}
