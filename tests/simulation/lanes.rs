//! The writer, step by step as src/writer/lane.rs does it: announce, send, and close, split, bury or set aside.

use ringhouse::block::{Block, BlockId, Settlement};
use ringhouse::limits::Limits;
use ringhouse::wal::journal::{Change, End};
use ringhouse::writer::group::{Group, Part};
use ringhouse::writer::queue::{Queue, Turn};
use ringhouse::writer::store::{ReadError, Store};

use crate::blocks::ids_of;
use crate::house::Insert;
use crate::ingest::Core;
use crate::world::{Failure, World, note};

/// How soon a call that the disk refused is made again.
const DISK_RETRY_PAUSE_MS: u64 = 500;

/// One table's.
#[derive(Default)]
pub struct Lane {
    pub queue: Queue,
    workers: Vec<Worker>,
    gave_up: bool,
    /// Dead rows of awaited blocks whose rows end apart, and how many rows have ended.
    dead_rows: Vec<(BlockId, Vec<u32>, u32)>,
}

/// An INSERT at a time.
#[derive(Default)]
struct Worker {
    step: Step,
    /// Announced groups that are to be settled; the last is next.
    groups: Vec<(String, Group)>,
    due_ms: u64,
}

#[derive(Default)]
enum Step {
    #[default]
    Idle,
    Announce(String, Group),
    Send,
    Answer(Result<(), Failure>),
    Close,
    Split(Change, Box<[(String, Group); 2]>),
    Bury,
    SetAside(Box<Block>),
}

/// What a lane works with.
pub struct Tools<'a> {
    pub boot: u64,
    pub store: &'a Store,
    pub limits: &'a Limits,
    pub cores: &'a mut [Core],
    /// Counts tokens.
    pub inserts: &'a mut u64,
    pub draining: bool,
}

impl Tools<'_> {
    fn next_token(&mut self) -> String {
        *self.inserts += 1;
        format!("ringhouse-{:016x}-{}", self.boot, self.inserts)
    }
}

impl Lane {
    pub fn new(workers: usize) -> Lane {
        Lane {
            workers: (0..workers).map(|_| Worker::default()).collect(),
            ..Lane::default()
        }
    }

    /// Nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.is_idle() && self.queue.blocks() == 0
    }

    /// Nothing is in flight, and nothing will be while the process drains.
    pub fn is_drained(&self) -> bool {
        self.is_idle() && (!self.queue.has_live() || self.gave_up)
    }

    fn is_idle(&self) -> bool {
        self.workers
            .iter()
            .all(|worker| matches!(worker.step, Step::Idle))
    }

    /// Has one of its workers do one thing, if there is one to do.
    pub fn step(&mut self, tools: &mut Tools<'_>, world: &mut World) {
        let index = world.rng.usize(..self.workers.len());
        let mut worker = std::mem::take(&mut self.workers[index]);
        if worker.due_ms <= world.now_ms {
            worker.step = self.next(&mut worker, tools, world);
        }
        self.workers[index] = worker;
    }

    fn next(&mut self, worker: &mut Worker, tools: &mut Tools<'_>, world: &mut World) -> Step {
        let retry_ms = world.now_ms + DISK_RETRY_PAUSE_MS;
        match std::mem::take(&mut worker.step) {
            Step::Idle => self.begin(worker, tools, world),
            Step::Announce(token, group) => {
                note!("writer: announces {token}");
                let open = Change::Open(group.announce(&token, None));
                match tools.store.announce(&[open]) {
                    Ok(()) => {
                        worker.groups.push((token, group));
                        Step::Send
                    }
                    Err(_) if tools.draining => self.give_up(worker),
                    Err(_) => {
                        worker.due_ms = retry_ms;
                        Step::Announce(token, group)
                    }
                }
            }
            Step::Send => self.send(worker, tools, world),
            Step::Answer(answer) => self.heed(answer, worker, tools, world),
            Step::Close => {
                let (token, group) = worker.groups.last().expect("it is being settled");
                note!("writer: closes {token}");
                let closed = tools.store.close(token, End::Inserted, &group.parts);
                if closed.is_err() && !tools.draining {
                    worker.due_ms = retry_ms;
                    return Step::Close;
                }
                worker.groups.pop();
                after(worker)
            }
            Step::Split(split, halves) => {
                note!("writer: splits {split:?}");
                match tools.store.announce(std::slice::from_ref(&split)) {
                    Ok(()) => {
                        worker.groups.extend(halves.into_iter().rev());
                        Step::Send
                    }
                    Err(_) if tools.draining => self.give_up(worker),
                    Err(_) => {
                        worker.due_ms = retry_ms;
                        Step::Split(split, halves)
                    }
                }
            }
            Step::Bury => {
                let (token, group) = worker.groups.last().expect("it is being settled");
                note!("writer: buries {token}");
                let buried = tools
                    .store
                    .bury(token, &group.parts, 27, "a poisoned row", world.now_ms as i64);
                match buried {
                    Ok(()) => {
                        let (_, group) = worker.groups.pop().expect("it is being settled");
                        for part in &group.parts {
                            self.note_dead(part);
                            self.tell(part, tools);
                        }
                        after(worker)
                    }
                    Err(ReadError::Disk(_)) => {
                        worker.due_ms = retry_ms;
                        Step::Bury
                    }
                    Err(ReadError::Damaged(block)) => Step::SetAside(block),
                }
            }
            Step::SetAside(block) => self.set_aside(block, worker, tools, world),
        }
    }

    fn begin(&mut self, worker: &mut Worker, tools: &mut Tools<'_>, world: &World) -> Step {
        if tools.draining && self.gave_up {
            return Step::Idle;
        }
        let turn = self.queue.next(world.now_ms, tools.draining, 0, tools.limits);
        let Turn::Insert(next) = turn else {
            return Step::Idle;
        };
        match next.announced {
            Some(announcement) => {
                worker.groups.push((announcement.token, next.group));
                Step::Send
            }
            None => Step::Announce(tools.next_token(), next.group),
        }
    }

    fn send(&mut self, worker: &mut Worker, tools: &mut Tools<'_>, world: &mut World) -> Step {
        let (token, group) = worker.groups.last().expect("it is being settled");
        self.queue.started(world.now_ms, group);
        let mut frames = Vec::new();
        let ids = match tools.store.read(&group.parts, &mut frames) {
            Ok(ranges) => ranges
                .into_iter()
                .flat_map(|range| ids_of(&frames[range]))
                .collect(),
            Err(ReadError::Damaged(block)) => return Step::SetAside(block),
            Err(ReadError::Disk(_)) => {
                worker.due_ms = world.now_ms + DISK_RETRY_PAUSE_MS;
                return Step::Send;
            }
        };
        let insert = Insert {
            table: group.parts[0].block.info.schema.name.clone(),
            token: token.clone(),
            ids,
        };
        Step::Answer(world.insert(insert))
    }

    fn heed(
        &mut self,
        answer: Result<(), Failure>,
        worker: &mut Worker,
        tools: &mut Tools<'_>,
        world: &mut World,
    ) -> Step {
        match answer {
            Ok(()) => {
                self.queue.succeeded();
                let (_, group) = worker.groups.last().expect("it is being settled");
                let parts = group.parts.clone();
                parts.iter().for_each(|part| self.tell(part, tools));
                Step::Close
            }
            Err(Failure::Refused) => {
                let (token, group) = worker.groups.pop().expect("it is being settled");
                match group.halves() {
                    Err(single) => {
                        worker.groups.push((token, single));
                        Step::Bury
                    }
                    Ok(halves) => {
                        let halves = halves.map(|half| (tools.next_token(), half));
                        let into = halves.iter().map(|(token, half)| half.announce(token, None));
                        let split = Change::Split {
                            token,
                            into: into.collect(),
                        };
                        Step::Split(split, Box::new(halves))
                    }
                }
            }
            Err(failure) => {
                if let Failure::TooManyParts = failure {
                    self.queue.too_many_parts(tools.limits);
                }
                if tools.draining {
                    return self.give_up(worker);
                }
                worker.due_ms = world.now_ms + world.rng.u64(0..2000);
                Step::Send
            }
        }
    }

    fn give_up(&mut self, worker: &mut Worker) -> Step {
        note!("writer: gives up until the next start");
        self.gave_up = true;
        worker.groups.clear();
        Step::Idle
    }

    fn set_aside(
        &mut self,
        block: Box<Block>,
        worker: &mut Worker,
        tools: &mut Tools<'_>,
        world: &mut World,
    ) -> Step {
        note!("writer: sets {} aside", block.id);
        let (token, group) = worker.groups.pop().expect("it is being settled");
        let is_lost = |part: &Part| part.block.id == block.id;
        let (lost, kept): (Vec<Part>, Vec<Part>) = group.parts.iter().cloned().partition(is_lost);
        let rest = (!kept.is_empty()).then(|| (tools.next_token(), Group::of(kept)));
        let into = rest
            .iter()
            .map(|(token, group)| group.announce(token, None))
            .collect();
        let changes = [
            Change::Split {
                token: token.clone(),
                into,
            },
            Change::Lost { block: block.id },
        ];
        if tools.store.set_aside(&block, &changes).is_err() {
            worker.groups.push((token, group));
            worker.due_ms = world.now_ms + DISK_RETRY_PAUSE_MS;
            return Step::SetAside(block);
        }
        for part in &lost {
            world.lose(part.block.info.schema.name.clone(), u64::from(part.len()));
            self.note_dead(part);
            self.tell(part, tools);
        }
        worker.groups.extend(rest);
        after(worker)
    }

    /// Rows of a block became dead letters: its requests hear of it when all its rows have ended.
    fn note_dead(&mut self, part: &Part) {
        if part.block.awaited.is_some() {
            let index = self.position(part.block.id);
            self.dead_rows[index].1.extend(part.rows.clone());
        }
    }

    fn tell(&mut self, part: &Part, tools: &mut Tools<'_>) {
        let Some(block) = part.block.awaited else { return };
        let index = self.position(part.block.id);
        self.dead_rows[index].2 += part.len();
        if self.dead_rows[index].2 == part.block.info.rows {
            let dead_rows = self.dead_rows.swap_remove(index).1;
            let core = &mut tools.cores[usize::from(part.block.id.core)];
            core.settlements.push_back(Settlement { block, dead_rows });
        }
    }

    fn position(&mut self, block: BlockId) -> usize {
        let known = self.dead_rows.iter().position(|(id, ..)| *id == block);
        known.unwrap_or_else(|| {
            self.dead_rows.push((block, Vec::new(), 0));
            self.dead_rows.len() - 1
        })
    }
}

fn after(worker: &Worker) -> Step {
    match worker.groups.is_empty() {
        true => Step::Idle,
        false => Step::Send,
    }
}
