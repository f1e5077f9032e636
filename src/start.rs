//! What happens before the cores start: lock the data directory, read the log and the journal back, settle the ledger.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::block::{Block, BlockId};
use crate::config::Settings;
use crate::dead_letter::DeadLetters;
use crate::idempotency::record::read_records;
use crate::idempotency::{KeyFile, Keys, Record};
use crate::ingest::{KeyLog, KeyStore, unix_ms};
use crate::ledger::{self, Found, Ledger};
use crate::limits::Limits;
use crate::offload::Worker;
use crate::schema::TableName;
use crate::server::ledger_line;
use crate::wal::data_dir::{DataDir, DataDirError};
use crate::wal::disk::{Disk, RealDisk};
use crate::wal::journal::{Announced, Change, Ended, Journal};
use crate::wal::recovery::{self, Recovered};
use crate::wal::segment::Budget;
use crate::writer::group::{Group, Part};
use crate::writer::store::Store;
use crate::writer::{Begun, Left};

/// What the cores are started with.
pub struct Durable {
    /// Locked.
    pub directory: DataDir,
    /// The machine's.
    pub disk: Arc<dyn Disk>,
    /// Names this process in blocks and tokens.
    pub boot: u64,
    /// Space of the log.
    pub budget: Arc<Budget>,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Begins with what former processes counted.
    pub ledger: Arc<Ledger>,
    /// Journal and dead letters.
    pub store: Arc<Store>,
    /// Idempotency keys.
    pub key_store: KeyStore,
    /// Does what would block a core.
    pub worker: Worker,
    /// What former processes have left to insert.
    pub left: Left,
}

/// Why the server cannot start on its data directory.
#[derive(Debug)]
pub enum StartError {
    /// In use, or of another version.
    DataDir(DataDirError),
    /// A part of it cannot be read or written.
    Io(&'static str, io::Error),
    /// The log's bound leaves no room for two segments of each core.
    WalBytesMax {
        /// The bound.
        bytes_max: u64,
        /// What is needed.
        bytes_min: u64,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::DataDir(error) => error.fmt(f),
            StartError::Io(what, error) => write!(f, "{what} in the data directory cannot be used: {error}"),
            StartError::WalBytesMax { bytes_max, bytes_min } => write!(
                f,
                "wal_bytes_max = {bytes_max} is too little: two files for each ingest core take {bytes_min} bytes"
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// Segments a core has at least while the log is below its bound.
const SEGMENTS_PER_CORE_MIN: u64 = 2;

/// The segments that a core has at least take no more than one part in so many of a small disk.
const DISK_SHARE: u64 = 8;

/// Smallest segment that is chosen for a small disk.
const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;

/// Opens the data directory and takes stock of what is in it.
///
/// # Errors
/// See [`StartError`].
pub fn recover(settings: &Settings) -> Result<Durable, StartError> {
    let io = |what| move |error| StartError::Io(what, error);
    let limits = &settings.limits;
    let directory = DataDir::open(&settings.data_dir).map_err(StartError::DataDir)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let cores = settings.topology.ingest.len() as u64;
    let (bytes_max, segment_bytes) = log_size(limits, cores, directory.path())?;
    let budget = Arc::new(Budget::new(bytes_max, limits.wal_blocks_max));
    let boot = random().map_err(io("the system's random numbers"))?;
    let mut stock = take_stock(
        &disk,
        &directory.wal(),
        &directory.journal(),
        &directory.quarantine(),
        &budget,
        boot,
    )
    .map_err(io("the write-ahead log"))?;
    let told = Ledger::read(&directory.ledger()).map_err(io("the ledger"))?;
    let carried = settle_ledger(told, &stock);
    let ledger = Ledger::create(&directory.ledger(), &carried);
    let worker = Worker::start("disk").map_err(io("a thread for files"))?;
    let key_store = restore_keys(limits, directory.path(), &stock.recovered.keys, &worker)
        .map_err(io("the idempotency keys"))?;
    let keys_kept = key_store.log.lock().expect("nobody else has it yet").settle();
    match keys_kept {
        Ok(()) => stock.free_settled(&*disk),
        Err(error) => {
            tracing::warn!(%error, "settled segments of the log are kept for their idempotency keys")
        }
    }
    stock.tell(&carried);
    let Stock { journal, left, .. } = stock;
    let dead_letters = DeadLetters::open(
        directory.path(),
        limits.dead_letter_bytes_max,
        limits.dead_letter_file_bytes_max,
    )
    .map_err(io("the dead-letter store"))?;
    let store = Store::new(
        Arc::clone(&disk),
        journal,
        dead_letters,
        Arc::clone(&key_store.log),
        directory.quarantine(),
    );
    Ok(Durable {
        directory,
        disk,
        boot,
        budget,
        segment_bytes,
        ledger: Arc::new(ledger),
        store: Arc::new(store),
        key_store,
        worker,
        left,
    })
}

/// The keys that former processes have answered: those of the file and those that are in the log only.
fn restore_keys(
    limits: &Limits,
    data_dir: &Path,
    logged: &[Vec<u8>],
    worker: &Worker,
) -> io::Result<KeyStore> {
    let keys = Keys::new(
        limits.idempotency_keys_max,
        limits.idempotency_bytes_max,
        limits.idempotency_ttl_ms,
    );
    let (file, mut records) = KeyFile::open(&data_dir.join("idempotency"))?;
    let in_log: Vec<Record> = logged
        .iter()
        .flat_map(|payload| read_records(payload).records)
        .collect();
    records.extend(in_log.iter().cloned());
    let now_unix_ms = unix_ms();
    for record in records {
        keys.restore(record, now_unix_ms);
    }
    let mut log = KeyLog::new(keys.clone(), file);
    // Their segments may be deleted soon.
    in_log.into_iter().for_each(|record| log.keep(record));
    Ok(KeyStore {
        keys,
        log: Arc::new(Mutex::new(log)),
        worker: worker.clone(),
    })
}

/// The log's bound and the size of its segments, on the disk as it is.
fn log_size(limits: &Limits, cores: u64, directory: &Path) -> Result<(u64, u64), StartError> {
    let disk =
        rustix::fs::statvfs(directory).map_err(|error| StartError::Io("the free space", error.into()))?;
    let segments_min = SEGMENTS_PER_CORE_MIN * cores;
    if limits.wal_bytes_max == 0 {
        let of_disk = disk.f_blocks.saturating_mul(disk.f_frsize) / (DISK_SHARE * segments_min);
        let segment_bytes = limits.wal_segment_bytes.min(of_disk.max(SEGMENT_BYTES_MIN));
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        // A disk that is full now need not stay so: then the disk itself is the bound.
        return Ok(((free_bytes / 2).max(segments_min * segment_bytes), segment_bytes));
    }
    let bytes_max = limits.wal_bytes_max;
    let segment_bytes = limits
        .wal_segment_bytes
        .min((bytes_max / segments_min).max(SEGMENT_BYTES_MIN));
    if segment_bytes * segments_min > bytes_max {
        return Err(StartError::WalBytesMax {
            bytes_max,
            bytes_min: segment_bytes * segments_min,
        });
    }
    Ok((bytes_max, segment_bytes))
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// What the log and the journal hold.
#[derive(Debug)]
pub struct Stock {
    /// With what it took to repair it.
    pub journal: Journal,
    /// What is to be inserted.
    pub left: Left,
    /// Rows of each table by where they are.
    pub found: BTreeMap<TableName, Found>,
    /// The log as it was read.
    pub recovered: Recovered,
}

/// Reads log and journal back: tells announced INSERTs, other blocks and settled ones apart, and counts their rows.
///
/// # Errors
/// The disk refuses.
pub fn take_stock(
    disk: &Arc<dyn Disk>,
    wal: &Path,
    journal: &Path,
    quarantine: &Path,
    budget: &Arc<Budget>,
    boot: u64,
) -> io::Result<Stock> {
    let recovered = recovery::recover(&**disk, wal, quarantine, budget)?;
    let mut journal = Journal::open(Arc::clone(disk), journal)?;
    let (left, in_groups) = repeatable(&recovered, &mut journal, boot)?;
    let mut stock = Stock {
        found: ended(&journal),
        journal,
        left,
        recovered,
    };
    stock.take_blocks(&in_groups);
    Ok(stock)
}

/// The INSERTs that were announced and have not ended, and the blocks they bring. One whose blocks are damaged is replaced by
/// what is left of it.
fn repeatable(
    recovered: &Recovered,
    journal: &mut Journal,
    boot: u64,
) -> io::Result<(Left, HashSet<BlockId>)> {
    let blocks: HashMap<BlockId, &Block> = recovered.blocks.iter().map(|block| (block.id, block)).collect();
    let mut left = Left::default();
    let mut in_groups = HashSet::new();
    let mut repairs = Vec::new();
    for announced in journal.state().open.values() {
        let parts: Vec<Part> = announced
            .pieces
            .iter()
            .filter_map(|piece| {
                let block = *blocks.get(&piece.block)?;
                in_groups.insert(block.id);
                Some(Part {
                    block: block.clone(),
                    rows: piece.rows.clone(),
                })
            })
            .collect();
        let damaged = announced.pieces.len() - parts.len();
        if damaged == 0 {
            left.announced.push(Begun {
                token: announced.token.clone(),
                server: announced.server.clone(),
                group: Group::of(parts),
            });
            continue;
        }
        // Blocks leave the log only after the journal knows for certain how their INSERT ended.
        tracing::error!(
            token = %announced.token,
            blocks = announced.pieces.len(),
            damaged,
            "an INSERT cannot be repeated as it was, because blocks of it are damaged: if ClickHouse has taken it \
             already, the rows of its other blocks are doubled"
        );
        let token = format!("ringhouse-{boot:016x}-r{}", repairs.len());
        let rest = (!parts.is_empty()).then(|| Begun {
            token,
            server: None,
            group: Group::of(parts),
        });
        let into: Vec<Announced> = rest
            .iter()
            .map(|begun| begun.group.announce(&begun.token, None))
            .collect();
        repairs.push(Change::Split {
            token: announced.token.clone(),
            into,
        });
        left.announced.extend(rest);
    }
    if !repairs.is_empty() {
        journal.append(&repairs, true)?;
    }
    Ok((left, in_groups))
}

fn ended(journal: &Journal) -> BTreeMap<TableName, Found> {
    let found = |(table, ended): (&TableName, &Ended)| {
        let found = Found {
            waiting: 0,
            inserted: ended.inserted,
            dead_lettered: ended.dead_lettered,
        };
        (table.clone(), found)
    };
    journal.state().ended.iter().map(found).collect()
}

impl Stock {
    /// Counts what waits, and takes the blocks that are in no group.
    fn take_blocks(&mut self, in_groups: &HashSet<BlockId>) {
        for Begun { group, .. } in &self.left.announced {
            let table = &group.parts[0].block.info.schema.name;
            self.found.entry(table.clone()).or_default().waiting += group.rows;
        }
        for block in &self.recovered.blocks {
            if self.journal.state().is_settled(block.id) || in_groups.contains(&block.id) {
                continue;
            }
            let table = &block.info.schema.name;
            self.found.entry(table.clone()).or_default().waiting += u64::from(block.info.rows);
            self.left.blocks.push(block.clone());
        }
        // Oldest first, whichever core sealed them.
        self.left
            .blocks
            .sort_by_key(|block| (block.info.opened_at_ns, block.id));
    }

    /// Deletes segments of which nothing waits, and forgets the blocks of those that are gone.
    pub fn free_settled(&mut self, disk: &dyn Disk) {
        self.journal
            .forget_others(self.recovered.blocks.iter().map(|block| block.id));
        for block in &self.recovered.blocks {
            if self.journal.state().is_settled(block.id) {
                let is_last = block.segment.release_block();
                assert!(!is_last, "the segment's own claim is still there");
            }
        }
        for segment in &self.recovered.segments {
            let (id, sequences) = (segment.id, segment.sequences());
            if segment.release() && segment.delete(disk) {
                self.journal.forget_range(id.boot, id.core, sequences);
            }
        }
        // On a full disk the segments that are gone now may have made the room for it.
        if let Err(error) = self.journal.checkpoint() {
            tracing::warn!(%error, "the journal cannot be written anew");
        }
    }

    fn tell(&self, carried: &BTreeMap<TableName, ledger::Totals>) {
        if self.recovered.segments.is_empty() && carried.is_empty() {
            return;
        }
        let Left { announced, blocks } = &self.left;
        let announced_rows: u64 = announced.iter().map(|begun| begun.group.rows).sum();
        let rows: u64 = blocks.iter().map(|block| u64::from(block.info.rows)).sum();
        tracing::info!(
            segments = self.recovered.segments.len(),
            rows = announced_rows + rows,
            blocks = blocks.len(),
            announced_inserts = announced.len(),
            torn_tails = self.recovered.torn_tails,
            damaged = self.recovered.damaged + self.recovered.unreadable,
            "the write-ahead log was read back"
        );
        for (table, totals) in carried {
            println!("{}", ledger_line(&table.plain(), totals));
        }
    }
}

/// Compares what was counted with what was found.
fn settle_ledger(
    told: BTreeMap<TableName, ledger::Left>,
    stock: &Stock,
) -> BTreeMap<TableName, ledger::Totals> {
    let mut carried = BTreeMap::new();
    let tables: HashSet<TableName> = told.keys().chain(stock.found.keys()).cloned().collect();
    for table in tables {
        let left = told.get(&table).copied().unwrap_or_default();
        let found = stock.found.get(&table).copied().unwrap_or_default();
        let (totals, missing) = ledger::reconcile(left, found);
        let name = table.plain();
        let lost = totals.lost - left.lost;
        if missing > 0 {
            tracing::error!(
                table = name,
                rows = missing,
                damaged = stock.recovered.damaged,
                unreadable = stock.recovered.unreadable,
                "the ledger does not balance: rows that were in the write-ahead log are not there any more, and are counted as lost"
            );
        }
        if lost > missing {
            tracing::warn!(
                table = name,
                rows = lost - missing,
                "rows of the last process were in memory only when it ended, and are lost"
            );
        }
        carried.insert(table, totals);
    }
    carried
}
