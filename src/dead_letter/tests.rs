use super::*;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

const FILE: u64 = 1_000;
const ALL: u64 = 4_000;

pub(super) fn letter(key: &str, table: &str) -> Letter {
    Letter {
        key: key.to_owned(),
        time_unix_ms: 1_769_903_999_999,
        table: table.to_owned(),
        code: 469,
        reason: "Constraint `c` is violated".to_owned(),
        row: format!("{{\"key\":\"{key}\"}}"),
    }
}

pub(super) fn letters(keys: std::ops::Range<u32>) -> Vec<Letter> {
    keys.map(|key| letter(&format!("k{key:06}"), "d.t")).collect()
}

/// Bytes of one of [`letters`].
fn letter_bytes() -> u64 {
    let mut out = Vec::new();
    line::encode(&letters(0..1)[0], &mut out);
    out.len() as u64
}

fn files(data_dir: &Path) -> Vec<PathBuf> {
    let directory = Directory::create(data_dir).unwrap();
    let numbers = directory.numbers().unwrap();
    numbers
        .into_iter()
        .map(|number| directory.letters(number))
        .collect()
}

/// Ids of all letters, in the order of the store.
pub(super) fn ids(data_dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    show(data_dir, &Selection::default(), None, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let values = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    values
        .map(|value| value["id"].as_str().unwrap().to_owned())
        .collect()
}

fn keys(letters: &[Letter]) -> Vec<String> {
    letters.iter().map(|letter| letter.key.clone()).collect()
}

#[test]
fn keeps_what_is_appended_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("made/by/open");
    let mut store = DeadLetters::open(&data_dir, ALL, FILE).unwrap();
    assert_eq!(store.totals(), Totals::default());
    assert_eq!(store.append(&[]).unwrap(), Appended::default());
    assert_eq!(store.append(&letters(0..3)).unwrap().rows, 3);
    let totals = Totals {
        rows: 3,
        bytes: 3 * letter_bytes(),
        dropped_rows: 0,
    };
    assert_eq!(store.totals(), totals);
    assert_eq!(store.refresh().unwrap(), totals);
    drop(store);
    assert_eq!(DeadLetters::open(&data_dir, ALL, FILE).unwrap().totals(), totals);
    assert_eq!(ids(&data_dir), keys(&letters(0..3)));
}

#[test]
fn keeps_every_file_within_its_bound() {
    for per_call in [1, 7, 20] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DeadLetters::open(dir.path(), 1 << 20, FILE).unwrap();
        for call in letters(0..100).chunks(per_call) {
            store.append(call).unwrap();
        }
        let files = files(dir.path());
        let full = (FILE / letter_bytes() * letter_bytes()) as usize;
        assert!(files.len() as u64 >= 100 * letter_bytes() / FILE, "{per_call}");
        for file in &files[..files.len() - 1] {
            assert_eq!(fs::read(file).unwrap().len(), full, "{per_call}");
        }
        assert_eq!(ids(dir.path()), keys(&letters(0..100)), "{per_call}");
        assert_eq!(store.totals().rows, 100);
    }
}

#[test]
fn gives_a_letter_larger_than_a_file_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DeadLetters::open(dir.path(), 1 << 20, FILE).unwrap();
    let mut three = letters(0..3);
    three[1].row = format!("{{\"long\":\"{}\"}}", "x".repeat(2 * FILE as usize));
    store.append(&three).unwrap();
    assert_eq!(files(dir.path()).len(), 3);
    assert_eq!(ids(dir.path()), keys(&three));
}

#[test]
fn deletes_the_oldest_file_when_all_are_too_large_and_counts_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DeadLetters::open(dir.path(), ALL, FILE).unwrap();
    let mut dropped = 0;
    for call in letters(0..200).chunks(3) {
        let appended = store.append(call).unwrap();
        dropped += appended.dropped_rows;
        assert_eq!(appended.rows, call.len() as u64);
        assert!(store.totals().bytes <= ALL);
        assert_eq!(store.totals().dropped_rows, dropped);
    }
    let totals = store.totals();
    assert_eq!(totals.rows + totals.dropped_rows, 200);
    // Three files that are full and one that is not.
    assert!(totals.rows >= 3 * (FILE / letter_bytes()), "{totals:?}");
    let newest = letters(dropped as u32..200);
    assert_eq!(ids(dir.path()), keys(&newest));
    // One call with more than the store holds keeps the end of it.
    let appended = store.append(&letters(1_000..1_200)).unwrap();
    assert_eq!(appended.rows, 200);
    assert_eq!(store.totals().dropped_rows, dropped + appended.dropped_rows);
    assert_eq!(ids(dir.path()).last().unwrap(), "k001199");
    assert!(store.totals().bytes <= ALL);
}

#[test]
fn cuts_the_partial_line_a_crash_leaves_whatever_its_length() {
    let mut line = Vec::new();
    line::encode(&letters(2..3)[0], &mut line);
    for bytes in 1..line.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DeadLetters::open(dir.path(), ALL, FILE).unwrap();
        store.append(&letters(0..2)).unwrap();
        let path = &files(dir.path())[0];
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(&line[..bytes]).unwrap();
        // Commands do not see it, and do not change it either while they only read.
        assert_eq!(ids(dir.path()), keys(&letters(0..2)));
        // Neither the running writer nor one that starts anew builds on it.
        if bytes % 2 == 0 {
            store = DeadLetters::open(dir.path(), ALL, FILE).unwrap();
            assert_eq!(store.totals().rows, 2, "{bytes}");
        }
        assert_eq!(store.append(&letters(2..3)).unwrap().rows, 1, "{bytes}");
        assert_eq!(ids(dir.path()), keys(&letters(0..3)), "{bytes}");
    }
}

#[test]
fn appends_a_letter_once_however_often_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DeadLetters::open(dir.path(), 1 << 20, FILE).unwrap();
    let twice = [letters(0..30), letters(0..30)].concat();
    let appended = store.append(&twice).unwrap();
    assert_eq!((appended.rows, appended.known), (30, 30));
    let appended = store.append(&letters(20..40)).unwrap();
    assert_eq!((appended.rows, appended.known), (10, 10));
    drop(store);
    let mut store = DeadLetters::open(dir.path(), 1 << 20, FILE).unwrap();
    let appended = store.append(&letters(0..41)).unwrap();
    assert_eq!((appended.rows, appended.known), (1, 40));
    assert_eq!(ids(dir.path()), keys(&letters(0..41)));
    // A key with everything JSON escapes is the same after it was read back.
    let odd = letter("\"\\\n\u{1}\u{e9},\"time\":", "d.t");
    store.append(std::slice::from_ref(&odd)).unwrap();
    let mut store = DeadLetters::open(dir.path(), 1 << 20, FILE).unwrap();
    assert_eq!(store.append(&[odd]).unwrap().known, 1);
}

#[test]
fn remembers_a_bounded_number_of_ids() {
    let id = |at: usize| (at as u128).to_le_bytes();
    let mut recent = RecentIds::default();
    for at in 0..=RECENT_IDS_MAX {
        assert!(recent.insert(id(at)));
    }
    assert_eq!(
        (recent.order.len(), recent.known.len()),
        (RECENT_IDS_MAX, RECENT_IDS_MAX)
    );
    assert!(!recent.insert(id(RECENT_IDS_MAX)));
    assert!(!recent.insert(id(1)));
    assert!(recent.insert(id(0)), "the oldest was forgotten");
    recent.forget_last(2);
    assert!(recent.insert(id(0)));
    assert!(recent.insert(id(RECENT_IDS_MAX)));
}

#[test]
fn removes_what_a_killed_command_left_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DeadLetters::open(dir.path(), ALL, FILE).unwrap();
    store.append(&letters(0..2)).unwrap();
    let path = files(dir.path())[0].with_extension("tmp");
    fs::write(&path, "half").unwrap();
    // A copy somebody made is no file of the store.
    let copy = path.with_file_name("0000000001.jsonl.bak");
    fs::write(&copy, "x").unwrap();
    drop(store);
    assert_eq!(DeadLetters::open(dir.path(), ALL, FILE).unwrap().totals().rows, 2);
    assert!(!path.exists());
    assert!(copy.exists());
}

#[test]
fn sees_what_commands_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DeadLetters::open(dir.path(), 1 << 20, FILE).unwrap();
    store.append(&letters(0..50)).unwrap();
    let some = Selection {
        ids: keys(&letters(3..45)).into_iter().collect(),
        ..Selection::default()
    };
    assert_eq!(remove(dir.path(), &some).unwrap().rows, 42);
    assert_eq!(store.refresh().unwrap().rows, 8);
    // What a command removed does not come back while the writer runs.
    assert_eq!(store.append(&letters(0..51)).unwrap().rows, 1);
    assert_eq!(store.totals().rows, 9);
    // A number is not used again: somebody may be reading the file that had it.
    let last = files(dir.path()).pop().unwrap();
    remove(dir.path(), &Selection::default()).unwrap();
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    store.append(&letters(60..61)).unwrap();
    assert!(files(dir.path())[0] > last);
    assert_eq!(
        store.totals(),
        Totals {
            rows: 1,
            bytes: letter_bytes(),
            dropped_rows: 0
        }
    );
}

#[test]
fn loses_and_doubles_nothing_while_commands_remove_beside_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DeadLetters::open(dir.path(), 1 << 30, FILE).unwrap();
    let done = AtomicBool::new(false);
    let odd = Selection {
        table: Some("d.odd".to_owned()),
        ..Selection::default()
    };
    let mut removed = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for call in 0..150 {
                let letters: Vec<Letter> = (0..4)
                    .map(|at| {
                        let key = call * 4 + at;
                        letter(&format!("{key}"), if key % 2 == 0 { "d.even" } else { "d.odd" })
                    })
                    .collect();
                assert_eq!(store.append(&letters).unwrap().rows, 4);
            }
            // Pairs with the Acquire below: whoever sees it removes after the last append.
            done.store(true, Ordering::Release);
        });
        loop {
            let last = done.load(Ordering::Acquire);
            removed += remove(dir.path(), &odd).unwrap().rows;
            if last {
                break;
            }
        }
    });
    assert_eq!(removed, 300);
    assert_eq!(store.refresh().unwrap().rows, 300);
    let left = ids(dir.path());
    let distinct: BTreeSet<&String> = left.iter().collect();
    assert_eq!((left.len(), distinct.len()), (300, 300));
    assert!(left.iter().all(|id| id.parse::<u32>().unwrap() % 2 == 0));
}

/// A tiny file system; `None` where nothing may be mounted.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(kib: u32) -> Option<Tmpfs> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(dir.path())
            .stderr(std::process::Stdio::null())
            .status();
        matches!(mounted, Ok(status) if status.success()).then_some(Tmpfs(dir))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn leaves_nothing_of_an_append_that_a_full_disk_refuses() {
    let Some(disk) = Tmpfs::mount(256) else {
        eprintln!("skipped: this user may not mount a tmpfs");
        return;
    };
    let dir = disk.0.path();
    let mut store = DeadLetters::open(dir, 1 << 30, 64 * 1024).unwrap();
    store.append(&letters(0..10)).unwrap();
    let before = store.totals();
    // Fills the file there is and several new ones before it fails.
    let many = letters(10..10_000);
    let error = store.append(&many).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(store.totals(), before);
    assert_eq!(ids(dir), keys(&letters(0..10)));
    assert_eq!(files(dir).len(), 1);
    // The same letters are not taken for known.
    assert_eq!(store.append(&many[..10]).unwrap().rows, 10);
    assert_eq!(ids(dir), keys(&letters(0..20)));
    drop(store);
    assert_eq!(
        DeadLetters::open(dir, 1 << 30, 64 * 1024).unwrap().totals().rows,
        20
    );
}

fn listed(data_dir: &Path, selection: &Selection) -> String {
    let mut out = Vec::new();
    list(data_dir, selection, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn finds_no_dead_letters_where_no_server_ever_had_any() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let all = Selection::default();
    let mut replayed = Replayed::default();
    assert_eq!(listed(&nowhere, &all), "no dead letters\n");
    assert_eq!(ids(&nowhere), Vec::<String>::new());
    assert_eq!(remove(&nowhere, &all).unwrap(), Removed::default());
    replay(
        &nowhere,
        &all,
        &"http://127.0.0.1:1".parse().unwrap(),
        &mut replayed,
    )
    .unwrap();
    assert_eq!(replayed, Replayed::default());
    assert!(!nowhere.exists());
    DeadLetters::open(&nowhere, ALL, FILE).unwrap();
    assert_eq!(listed(&nowhere, &all), "no dead letters\n");
}

#[test]
fn lists_rows_bytes_and_times_by_table_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DeadLetters::open(dir.path(), 1 << 20, FILE).unwrap();
    let mut ten = letters(0..10);
    ten[3].time_unix_ms = 0;
    ten[4].time_unix_ms = 4_102_444_800_000;
    ten[7].reason = "other\nreason".to_owned();
    ten[8].table = "d.u".to_owned();
    store.append(&ten).unwrap();
    let bytes = |at: usize| {
        let mut out = Vec::new();
        line::encode(&ten[at], &mut out);
        out.len()
    };
    let many: usize = [0, 1, 2, 3, 4, 5, 6, 9].into_iter().map(bytes).sum();
    let expected = format!(
        "TABLE        ROWS          BYTES  FIRST                     LAST                       CODE  REASON\n\
         d.t             8  {many:>13}  1970-01-01T00:00:00.000Z  2100-01-01T00:00:00.000Z    469  Constraint `c` is violated\n\
         d.t             1  {:>13}  2026-01-31T23:59:59.999Z  2026-01-31T23:59:59.999Z    469  other reason\n\
         d.u             1  {:>13}  2026-01-31T23:59:59.999Z  2026-01-31T23:59:59.999Z    469  Constraint `c` is violated\n",
        bytes(7),
        bytes(8)
    );
    assert_eq!(listed(dir.path(), &Selection::default()), expected);
    let one = Selection {
        table: Some("d.u".to_owned()),
        ids: keys(&ten[7..9]).into_iter().collect(),
    };
    assert_eq!(listed(dir.path(), &one).lines().count(), 2);
    let none = Selection {
        table: Some("d.v".to_owned()),
        ..Selection::default()
    };
    assert_eq!(listed(dir.path(), &none), "no dead letters\n");
}

#[test]
fn shows_as_many_letters_as_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DeadLetters::open(dir.path(), 1 << 20, FILE).unwrap();
    store.append(&letters(0..30)).unwrap();
    let mut out = Vec::new();
    show(dir.path(), &Selection::default(), Some(20), &mut out).unwrap();
    let stored: Vec<u8> = files(dir.path())
        .iter()
        .flat_map(|file| fs::read(file).unwrap())
        .collect();
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 20);
    assert!(stored.starts_with(&out));
}

#[test]
fn removes_what_is_selected_and_leaves_what_it_cannot_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DeadLetters::open(dir.path(), 1 << 20, FILE).unwrap();
    store.append(&[letter("a", "d.t"), letter("b", "d.u")]).unwrap();
    let path = files(dir.path()).pop().unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"edited\":\"by hand\"}\n").unwrap();
    let of_table = |table: &str| Selection {
        table: Some(table.to_owned()),
        ..Selection::default()
    };
    assert!(
        listed(dir.path(), &Selection::default())
            .ends_with("1 lines are no letters; `drop --all` removes them too\n")
    );
    assert_eq!(remove(dir.path(), &of_table("d.v")).unwrap(), Removed::default());
    assert_eq!(remove(dir.path(), &of_table("d.t")).unwrap().rows, 1);
    assert_eq!(remove(dir.path(), &of_table("d.u")).unwrap().rows, 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"edited\":\"by hand\"}\n");
    assert_eq!(remove(dir.path(), &Selection::default()).unwrap().rows, 1);
    assert!(!path.exists());
}
