//! One life of the server: it takes stock of its disk as src/start.rs does, then its cores and its writer take turns.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ringhouse::dead_letter::DeadLetters;
use ringhouse::ingest::KeyLog;
use ringhouse::ledger::{self, Found};
use ringhouse::limits::Limits;
use ringhouse::start::{Stock, take_stock};
use ringhouse::wal::disk::Disk;
use ringhouse::wal::log::LogConfig;
use ringhouse::wal::segment::Budget;
use ringhouse::writer::Begun;
use ringhouse::writer::queue::Announcement;
use ringhouse::writer::store::Store;

use crate::disk::SimDisk;
use crate::ingest::Core;
use crate::lanes::{Lane, Tools};
use crate::world::{TABLES, World, note, table_name};

/// What stays the same for every process of a seed.
pub struct Setup {
    pub limits: Limits,
    pub segment_bytes: u64,
    pub inserts_in_flight: usize,
    /// Dead letters are in real files.
    pub directory: PathBuf,
    pub key_log: Arc<Mutex<KeyLog>>,
}

pub fn wal() -> &'static Path {
    Path::new("/data/wal")
}

pub fn journal() -> &'static Path {
    Path::new("/data/journal")
}

pub fn quarantine() -> &'static Path {
    Path::new("/data/quarantine")
}

pub struct Process {
    pub boot: u64,
    pub budget: Arc<Budget>,
    store: Arc<Store>,
    pub cores: Vec<Core>,
    pub lanes: Vec<Lane>,
    pub draining: bool,
    /// Takes no requests.
    pub is_closed: bool,
    inserts: u64,
}

/// What a start has found.
pub struct Started {
    pub process: Process,
    /// Rows that wait in announced INSERTs, and those of no INSERT.
    pub announced: Vec<u64>,
    pub unannounced: Vec<u64>,
    /// By table.
    pub totals: BTreeMap<usize, ledger::Totals>,
    pub damaged: u64,
}

impl Process {
    pub fn start(disk: &SimDisk, setup: &Setup, cores: usize, world: &mut World) -> io::Result<Started> {
        let limits = &setup.limits;
        let boot = world.rng.u64(..);
        let budget = Arc::new(Budget::new(limits.wal_bytes_max, limits.wal_blocks_max));
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut stock = take_stock(&disk, wal(), journal(), quarantine(), &budget, boot)?;
        let totals = settle_ledger(&stock, world);
        world.ledger.begin(&totals);
        stock.free_settled(&*disk);
        let Stock {
            journal: open_journal,
            left,
            recovered,
            ..
        } = stock;
        let dead_letters = DeadLetters::open(&setup.directory, 1 << 30, 1 << 20)?;
        let store = Store::new(
            Arc::clone(&disk),
            open_journal,
            dead_letters,
            Arc::clone(&setup.key_log),
            quarantine().to_owned(),
        );
        let log_config = |core| LogConfig {
            disk: Arc::clone(&disk),
            directory: wal().to_owned(),
            boot,
            core,
            segment_bytes: setup.segment_bytes,
            budget: Arc::clone(&budget),
        };
        let mut process = Process {
            boot,
            cores: (0..cores as u16)
                .map(|core| Core::new(log_config(core)))
                .collect(),
            store: Arc::new(store),
            lanes: (0..TABLES).map(|_| Lane::new(setup.inserts_in_flight)).collect(),
            draining: false,
            is_closed: false,
            inserts: 0,
            budget,
        };
        let (mut announced, mut unannounced) = (Vec::new(), Vec::new());
        for Begun { token, server, group } in left.announced {
            assert_eq!(server, None, "there is one server here");
            announced.extend(process.ids(&group.parts)?);
            process
                .lane(&group.parts[0].block.info.schema.name)
                .queue
                .push_announced(Announcement { token, server: None }, group);
        }
        for block in left.blocks {
            unannounced.extend(process.ids(&[ringhouse::writer::group::Part::whole(block.clone())])?);
            process.lane(&block.info.schema.name).queue.push_recovered(block);
        }
        Ok(Started {
            process,
            announced,
            unannounced,
            totals,
            damaged: recovered.damaged + recovered.unreadable,
        })
    }

    fn ids(&self, parts: &[ringhouse::writer::group::Part]) -> io::Result<Vec<u64>> {
        let mut frames = Vec::new();
        let ranges = self.store.read(parts, &mut frames);
        let ranges = ranges.map_err(|error| io::Error::other(error.to_string()))?;
        let ids = ranges
            .into_iter()
            .flat_map(|range| crate::blocks::ids_of(&frames[range]));
        Ok(ids.collect())
    }

    fn lane(&mut self, table: &ringhouse::schema::TableName) -> &mut Lane {
        let index = (0..TABLES).find(|index| table_name(*index) == *table);
        &mut self.lanes[index.expect("there are no other tables")]
    }

    /// Has somebody do one thing.
    pub fn step(&mut self, setup: &Setup, world: &mut World) {
        let core = world.rng.usize(..self.cores.len());
        match world.rng.u8(..20) {
            0..5 if !self.draining && !self.is_closed => self.cores[core].take_request(world),
            0..10 => self.cores[core].step(world),
            10..12 => {
                if let Some(block) = self.cores[core].ring.pop_front() {
                    let name = block.info.schema.name.clone();
                    self.lane(&name).queue.push(block);
                }
            }
            _ => {
                let index = world.rng.usize(..TABLES);
                let mut lane = std::mem::take(&mut self.lanes[index]);
                let mut tools = Tools {
                    boot: self.boot,
                    store: &self.store,
                    limits: &setup.limits,
                    cores: &mut self.cores,
                    inserts: &mut self.inserts,
                    draining: self.draining,
                };
                lane.step(&mut tools, world);
                self.lanes[index] = lane;
            }
        }
    }

    /// Every row is where it stays.
    pub fn is_empty(&self) -> bool {
        self.cores.iter().all(Core::is_drained) && self.lanes.iter().all(Lane::is_empty)
    }

    /// Every row is where the next process finds it.
    pub fn is_drained(&self) -> bool {
        self.cores.iter().all(Core::is_drained) && self.lanes.iter().all(Lane::is_drained)
    }
}

/// As `start::settle_ledger`.
fn settle_ledger(stock: &Stock, world: &World) -> BTreeMap<usize, ledger::Totals> {
    let mut carried = BTreeMap::new();
    for table in 0..TABLES {
        let told = world.ledger.last(table);
        let found: Found = stock.found.get(&table_name(table)).copied().unwrap_or_default();
        let (totals, missing) = ledger::reconcile(told, found);
        note!("ledger of t{table}: {told:?} and {found:?} make {totals:?}");
        assert_eq!(
            missing, 0,
            "rows of t{table} were logged and are not there any more"
        );
        assert!(totals.balances(), "{totals:?}");
        carried.insert(table, totals);
    }
    carried
}
