//! Keys by example, against a model, and from many threads.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::record::STORED_BODY_BYTES_MAX;
use super::*;
use crate::ack::AckLevel;
use crate::http::status::Status;

const MIB: usize = 1 << 20;

fn reply(accepted: u64) -> StoredReply {
    StoredReply::new(
        Status::Ok,
        accepted,
        0,
        AckLevel::Inserted,
        format!("{{\"accepted\":{accepted}}}").as_bytes(),
    )
}

#[track_caller]
fn new(keys: &Keys, key: &[u8], now_unix_ms: i64) -> Ticket {
    match keys.begin(key, "t", now_unix_ms) {
        Begin::New(ticket) => ticket,
        other => panic!("{} is new, but: {other:?}", key.escape_ascii()),
    }
}

#[track_caller]
fn done(keys: &Keys, key: &[u8], now_unix_ms: i64) -> StoredReply {
    match keys.begin(key, "t", now_unix_ms) {
        Begin::Done(reply) => reply,
        other => panic!("{} is answered, but: {other:?}", key.escape_ascii()),
    }
}

impl Keys {
    /// Asserts what holds between any two calls.
    fn invariants(&self) {
        let inner = self.lock();
        let (mut bytes, mut in_flight_bytes, mut file_bytes, mut done) = (0, 0, 0, 0);
        for entry in &inner.entries {
            let cost =
                ENTRY_BYTES + entry.name.key().len() + entry.name.table().len() + entry.state.body_bytes();
            bytes += cost;
            match &entry.state {
                State::InFlight => in_flight_bytes += cost,
                State::Done {
                    expires_unix_ms,
                    reply,
                } => {
                    file_bytes += record::encoded_bytes(&entry.name, reply) as u64;
                    done += 1;
                    assert_eq!(
                        inner.order.get(&(*expires_unix_ms, entry.sequence)),
                        Some(&entry.hash)
                    );
                }
            }
        }
        assert_eq!(
            (inner.bytes, inner.in_flight_bytes, inner.file_bytes),
            (bytes, in_flight_bytes, file_bytes)
        );
        assert_eq!(inner.order.len(), done);
        assert!(inner.entries.len() <= self.shared.entries_max && inner.bytes <= self.shared.bytes_max);
    }
}

#[test]
fn a_duplicate_waits_and_then_gets_the_reply_until_it_expires() {
    let keys = Keys::new(10, MIB, 1000);
    let ticket = new(&keys, b"k", 0);
    assert_eq!((ticket.name().key(), ticket.name().table()), (&b"k"[..], "t"));
    assert!(matches!(keys.begin(b"k", "t", 5000), Begin::InFlight));
    let record = keys.finish(ticket, reply(3), 6000);
    assert_eq!((&record.reply, record.expires_unix_ms), (&reply(3), 7000));
    assert_eq!(done(&keys, b"k", 6000), reply(3));
    assert_eq!(done(&keys, b"k", 6999), reply(3));
    let again = new(&keys, b"k", 7000);
    assert_eq!((keys.len(), keys.in_flight()), (1, 1));
    keys.finish(again, reply(4), 7000);
    assert_eq!(done(&keys, b"k", 7999), reply(4));
    keys.invariants();
}

#[test]
fn the_same_key_on_another_table_is_another_key() {
    let keys = Keys::new(10, MIB, 1000);
    let here = new(&keys, b"k", 0);
    assert!(matches!(keys.begin(b"k", "u", 0), Begin::New(_)));
    keys.finish(here, reply(1), 0);
    assert!(matches!(keys.begin(b"k", "u", 0), Begin::New(_)));
    assert!(matches!(keys.begin(b"tk", "", 0), Begin::New(_)));
}

#[test]
fn an_abandoned_or_dropped_ticket_frees_its_key() {
    let keys = Keys::new(10, MIB, 1000);
    keys.abandon(new(&keys, b"k", 0));
    drop(new(&keys, b"k", 0));
    assert!(keys.is_empty() && keys.bytes() == 0);
    keys.finish(new(&keys, b"k", 0), reply(1), 0);
    assert_eq!(keys.len(), 1, "a finished ticket frees nothing");
}

#[test]
fn the_oldest_answer_makes_room_and_expired_ones_go_uncounted() {
    let keys = Keys::new(3, MIB, 1000);
    for (key, now_unix_ms) in [(b"a", 0), (b"b", 1), (b"c", 2)] {
        keys.finish(new(&keys, key, now_unix_ms), reply(1), now_unix_ms);
    }
    keys.finish(new(&keys, b"d", 3), reply(1), 3);
    assert_eq!((keys.len(), keys.evicted()), (3, 1));
    done(&keys, b"b", 4);
    keys.abandon(new(&keys, b"a", 4));
    assert_eq!(keys.evicted(), 2, "b made room for a");
    done(&keys, b"c", 4);
    keys.finish(new(&keys, b"e", 2000), reply(1), 2000);
    keys.finish(new(&keys, b"f", 2000), reply(1), 2000);
    keys.finish(new(&keys, b"g", 2000), reply(1), 2000);
    assert_eq!((keys.len(), keys.evicted()), (3, 2));
    keys.invariants();
}

#[test]
fn keys_in_flight_are_never_forgotten() {
    let keys = Keys::new(2, MIB, 1000);
    let (a, b) = (new(&keys, b"a", 0), new(&keys, b"b", 0));
    assert!(matches!(keys.begin(b"c", "t", i64::MAX), Begin::Full));
    keys.expire(i64::MAX);
    assert!(matches!(keys.begin(b"a", "t", 0), Begin::InFlight));
    keys.finish(a, reply(1), 0);
    let c = new(&keys, b"c", 0);
    assert_eq!(keys.evicted(), 1);
    assert!(matches!(keys.begin(b"a", "t", 0), Begin::Full));
    drop((b, c));
    assert!(keys.is_empty());
}

#[test]
fn a_key_that_finds_no_room_costs_no_other_its_answer() {
    let bytes_max = 3 * (ENTRY_BYTES + 2 + SHORT_BODY_BYTES_MAX);
    let keys = Keys::new(10, bytes_max, 1000);
    keys.finish(new(&keys, b"a", 0), reply(1), 0);
    let _held = (new(&keys, b"b", 0), new(&keys, b"c", 0));
    let long = [b'k'; 128];
    assert!(matches!(keys.begin(&long, "t", 0), Begin::Full));
    done(&keys, b"a", 0);
    assert_eq!(keys.evicted(), 0);
}

#[test]
fn a_reply_that_finds_no_room_is_stored_without_its_errors() {
    let in_flight_bytes = ENTRY_BYTES + 2 + SHORT_BODY_BYTES_MAX;
    let keys = Keys::new(10, 2 * in_flight_bytes, 1000);
    let (a, b) = (new(&keys, b"a", 0), new(&keys, b"b", 0));
    let body = vec![b' '; STORED_BODY_BYTES_MAX];
    let long = StoredReply::new(Status::BadRequest, 0, 9, AckLevel::Memory, &body);
    let record = keys.finish(a, long.clone(), 0);
    let expected = br#"{"accepted":0,"rejected":9,"ack":"memory","errors":[]}"#;
    assert_eq!(record.reply.body(), expected);
    assert_eq!(done(&keys, b"a", 0), record.reply);
    keys.invariants();
    drop(b);
    let roomy = Keys::new(10, MIB, 1000);
    let record = roomy.finish(new(&roomy, b"a", 0), long, 0);
    assert_eq!(record.reply.body(), body);
}

#[test]
fn expire_forgets_more_than_one_page_and_nothing_else() {
    let keys = Keys::new(10 * PAGE, MIB, 1000);
    for n in 0..4 * PAGE as i64 {
        keys.finish(new(&keys, &n.to_le_bytes(), n), reply(1), n);
    }
    let held = new(&keys, b"held", 0);
    keys.expire(1000 + 3 * PAGE as i64 - 1);
    assert_eq!((keys.len(), keys.evicted()), (PAGE + 1, 0));
    keys.invariants();
    let live: Vec<i64> = keys.live(0).map(|record| record.expires_unix_ms).collect();
    assert_eq!(
        live,
        (3 * PAGE as i64..4 * PAGE as i64)
            .map(|n| n + 1000)
            .collect::<Vec<_>>()
    );
    drop(held);
}

#[test]
fn live_records_are_those_that_have_not_expired_oldest_first() {
    let keys = Keys::new(10 * PAGE, MIB, 1000);
    for n in 0..3 * PAGE as i64 {
        keys.finish(new(&keys, &n.to_le_bytes(), n), reply(n as u64), n);
    }
    let live: Vec<Record> = keys.live(1010).collect();
    assert_eq!(live.len(), 3 * PAGE - 11);
    for (n, record) in (11..).zip(&live) {
        assert_eq!(record.name, Name::new(&i64::to_le_bytes(n), "t"));
        assert_eq!(
            (record.expires_unix_ms, &record.reply),
            (1000 + n, &reply(n as u64))
        );
    }
}

#[test]
fn what_is_restored_does_not_depend_on_the_order() {
    let record = |key: &[u8], expires_unix_ms, accepted| Record {
        name: Name::new(key, "t"),
        expires_unix_ms,
        reply: reply(accepted),
    };
    let records = [
        record(b"a", 500, 1),
        record(b"a", 800, 2),
        record(b"b", 700, 3),
        record(b"c", 600, 4),
        record(b"d", 100, 5),
    ];
    for turn in 0..records.len() {
        let keys = Keys::new(2, MIB, 1000);
        let mut turned = records.to_vec();
        turned.rotate_left(turn);
        turned.into_iter().for_each(|record| keys.restore(record, 100));
        let live: Vec<Record> = keys.live(100).collect();
        assert_eq!(live, [records[2].clone(), records[1].clone()], "turned by {turn}");
        keys.invariants();
    }
}

#[test]
fn a_restored_record_does_not_replace_a_key_in_flight() {
    let keys = Keys::new(10, MIB, 1000);
    let ticket = new(&keys, b"a", 0);
    let other = Keys::new(10, MIB, 1000);
    keys.restore(other.finish(new(&other, b"a", 0), reply(1), 0), 0);
    assert!(matches!(keys.begin(b"a", "t", 0), Begin::InFlight));
    keys.finish(ticket, reply(2), 0);
    assert_eq!(done(&keys, b"a", 0), reply(2));
}

#[test]
fn a_clock_that_is_set_back_keeps_and_forgets_by_the_time_it_says() {
    let keys = Keys::new(10, MIB, 1000);
    keys.finish(new(&keys, b"late", 9000), reply(1), 9000);
    keys.finish(new(&keys, b"early", 2000), reply(2), 2000);
    keys.expire(3000);
    assert_eq!(done(&keys, b"late", 3000), reply(1));
    keys.abandon(new(&keys, b"early", 3000));
    keys.invariants();
}

#[test]
#[should_panic(expected = "comes back to where it was given")]
fn refuses_a_ticket_of_other_keys() {
    let (keys, others) = (Keys::new(1, MIB, 1), Keys::new(1, MIB, 1));
    let ticket = new(&keys, b"k", 0);
    others.finish(ticket, reply(1), 0);
}

#[test]
fn one_of_many_cores_gets_the_ticket() {
    const CORES: usize = 4;
    const ROUNDS: usize = 500;
    let keys = Keys::new(ROUNDS, MIB, 1000);
    let (barrier, won) = (Barrier::new(CORES), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CORES {
            let (keys, barrier, won) = (keys.clone(), &barrier, &won);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    barrier.wait();
                    match keys.begin(&round.to_le_bytes(), "t", 0) {
                        Begin::New(ticket) => {
                            won.fetch_add(1, Ordering::Relaxed);
                            keys.finish(ticket, reply(round as u64), 0);
                        }
                        Begin::InFlight => {}
                        Begin::Done(found) => assert_eq!(found, reply(round as u64)),
                        Begin::Full => panic!("there is room"),
                    }
                }
            });
        }
    });
    assert_eq!(
        (won.into_inner(), keys.len(), keys.in_flight()),
        (ROUNDS, ROUNDS, 0)
    );
}

/// [`ENTRY_BYTES`] counts an entry at 88.
#[test]
fn an_entry_is_no_larger_than_it_is_counted() {
    assert!(size_of::<Entry>() <= 88);
}

/// A plain map of what the keys should answer. Looks at everything to find the oldest.
struct Model {
    entries: HashMap<(u8, &'static str), ModelEntry>,
    entries_max: usize,
    bytes_max: usize,
    evicted: u64,
    count: u64,
}

struct ModelEntry {
    /// Expiry, count and reply; in flight without.
    done: Option<(i64, u64, StoredReply)>,
    ticket: Option<Ticket>,
}

impl Model {
    fn cost(name: (u8, &str), done: Option<&StoredReply>) -> usize {
        ENTRY_BYTES + 1 + name.1.len() + done.map_or(SHORT_BODY_BYTES_MAX, |reply| reply.body().len())
    }

    fn bytes(&self, in_flight_only: bool) -> usize {
        self.entries
            .iter()
            .filter(|(_, entry)| !in_flight_only || entry.done.is_none())
            .map(|(name, entry)| Model::cost(*name, entry.done.as_ref().map(|done| &done.2)))
            .sum()
    }

    fn evict_oldest(&mut self, now: i64) {
        let oldest = self
            .entries
            .iter()
            .filter_map(|(name, entry)| entry.done.as_ref().map(|done| (done.0, done.1, *name)))
            .min()
            .expect("one is answered");
        self.evicted += u64::from(oldest.0 > now);
        self.entries.remove(&oldest.2);
    }

    /// Whether one more of `bytes` fits once answered ones are forgotten.
    fn make_room(&mut self, bytes: usize, now: i64) -> bool {
        let in_flight = self.entries.values().filter(|entry| entry.done.is_none()).count();
        if in_flight + 1 > self.entries_max || self.bytes(true) + bytes > self.bytes_max {
            return false;
        }
        while self.entries.len() + 1 > self.entries_max || self.bytes(false) + bytes > self.bytes_max {
            self.evict_oldest(now);
        }
        true
    }

    fn done(&mut self, expires: i64, reply: StoredReply) -> ModelEntry {
        self.count += 1;
        ModelEntry {
            done: Some((expires, self.count, reply)),
            ticket: None,
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Begin(u8, bool),
    Finish(u8, bool, usize),
    Abandon(u8, bool),
    Restore(u8, bool, i64),
    Wait(i64),
    Expire,
}

fn op() -> impl Strategy<Value = Op> {
    let name = || (0u8..12, any::<bool>());
    prop_oneof![
        6 => name().prop_map(|(key, table)| Op::Begin(key, table)),
        5 => (name(), prop_oneof![0usize..200, 0usize..5000])
            .prop_map(|((key, table), body)| Op::Finish(key, table, body)),
        1 => name().prop_map(|(key, table)| Op::Abandon(key, table)),
        1 => (name(), -50i64..300).prop_map(|((key, table), left)| Op::Restore(key, table, left)),
        3 => (-20i64..80).prop_map(Op::Wait),
        1 => Just(Op::Expire),
    ]
}

const TTL_MS: i64 = 100;

proptest! {
    #[test]
    fn behaves_like_a_map_that_looks_at_everything(
        ops in prop::collection::vec(op(), 1..300),
        entries_max in 1usize..14,
        bytes_max in prop_oneof![500usize..5000, Just(MIB)],
    ) {
        let keys = Keys::new(entries_max, bytes_max, TTL_MS as u64);
        let mut model =
            Model { entries: HashMap::new(), entries_max, bytes_max, evicted: 0, count: 0 };
        let mut now = 1000;
        let name = |key: u8, table: bool| (key, if table { "d.t" } else { "d.other" });
        for op in ops {
            match op {
                Op::Begin(key, table) => {
                    let name = name(key, table);
                    let begun = keys.begin(&[name.0], name.1, now);
                    match model.entries.get(&name).map(|entry| &entry.done) {
                        Some(None) => prop_assert!(matches!(begun, Begin::InFlight)),
                        Some(Some((expires, _, reply))) if *expires > now => match begun {
                            Begin::Done(found) => prop_assert_eq!(&found, reply),
                            other => prop_assert!(false, "{:?} is answered, but: {:?}", name, other),
                        },
                        _ => {
                            model.entries.remove(&name);
                            let room = model.make_room(Model::cost(name, None), now);
                            match begun {
                                Begin::New(ticket) => {
                                    prop_assert!(room);
                                    let entry = ModelEntry { done: None, ticket: Some(ticket) };
                                    model.entries.insert(name, entry);
                                }
                                Begin::Full => prop_assert!(!room),
                                other => prop_assert!(false, "{:?} is new, but: {:?}", name, other),
                            }
                        }
                    }
                }
                Op::Finish(key, table, body) => {
                    let name = name(key, table);
                    if let Some(ticket) = model.entries.get_mut(&name).and_then(|entry| entry.ticket.take()) {
                        model.entries.remove(&name);
                        let body = vec![b' '; body];
                        let mut reply = StoredReply::new(Status::Ok, 1, 2, AckLevel::Memory, &body);
                        let record = keys.finish(ticket, reply.clone(), now);
                        if !model.make_room(Model::cost(name, Some(&reply)), now) {
                            reply = reply.without_errors();
                        }
                        prop_assert_eq!(&record.reply, &reply);
                        let entry = model.done(now + TTL_MS, reply);
                        model.entries.insert(name, entry);
                    }
                }
                Op::Abandon(key, table) => {
                    let name = name(key, table);
                    if let Some(ticket) = model.entries.get_mut(&name).and_then(|entry| entry.ticket.take()) {
                        model.entries.remove(&name);
                        keys.abandon(ticket);
                    }
                }
                Op::Restore(key, table, left) => {
                    let name = name(key, table);
                    let record = Record {
                        name: Name::new(&[name.0], name.1),
                        expires_unix_ms: now + left,
                        reply: reply(7),
                    };
                    keys.restore(record, now);
                    let replaces = match model.entries.get(&name).map(|entry| &entry.done) {
                        None => true,
                        Some(None) => false,
                        Some(Some((expires, ..))) => *expires < now + left,
                    };
                    if left > 0 && replaces {
                        let entry = model.done(now + left, reply(7));
                        model.entries.insert(name, entry);
                        while model.entries.len() > entries_max || model.bytes(false) > bytes_max {
                            model.evict_oldest(now);
                        }
                    }
                }
                // Also backwards, as clocks are set.
                Op::Wait(ms) => now += ms,
                Op::Expire => {
                    keys.expire(now);
                    model.entries.retain(|_, entry| entry.done.as_ref().is_none_or(|done| done.0 > now));
                }
            }
            keys.invariants();
            prop_assert_eq!(
                (keys.len(), keys.bytes(), keys.evicted()),
                (model.entries.len(), model.bytes(false), model.evicted)
            );
            let live = model.entries.values().filter(|e| e.done.as_ref().is_some_and(|done| done.0 > now));
            prop_assert_eq!(keys.live(now).count(), live.count());
        }
    }
}
