//! Sorts the values of rows by column, in one pass over their text or over its tape: one slot for each column and row.

use super::names::{Name, NameRefused, Names, ROOT, root_of};
use super::writer::{RowRefusal, RowSource, RowStop, RowWriter};
use crate::column::{Entry, EntryRange, FOREIGN_LEVEL, KeyTable, Node, StaticNode};
use crate::json::{After, Irregular, Reader};
use crate::limits::Limits;
use crate::mapping::{Constants, LEVEL_RANK_BASE, MappingConfig, Reading, Resolver, Target};
use crate::schema::{DataType, Schema};
use crate::zone::Zone;

/// Why a row was left in the middle.
pub(super) enum Stop {
    /// A key comes twice and holds an object: the short way cannot tell which members still count.
    Repeated,
    Refused(NameRefused),
    TooMany,
    /// The text is not written the usual way.
    Irregular,
}

impl From<Irregular> for Stop {
    fn from(Irregular: Irregular) -> Self {
        Stop::Irregular
    }
}

impl From<NameRefused> for Stop {
    fn from(refused: NameRefused) -> Self {
        Stop::Refused(refused)
    }
}

/// Where [`Scan::read_text`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// At the end of the text.
    AtEnd,
    /// Behind as many rows as one pass takes.
    Full,
    /// Before a row that only [`Scan::scan`] can take, or refuse.
    Irregular,
}

/// Which key a column's value in the current row came from.
#[derive(Debug, Clone, Copy, Default)]
struct Holder {
    attribute: u32,
    rank: u16,
}

/// When and where an attribute last occurred.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// The row's serial.
    row: u32,
    entry: u32,
}

/// The scan of one table on one core. After `scan` the slots and entries of its rows can be read.
#[derive(Debug)]
pub(super) struct Scan {
    resolver: Resolver,
    names: Names,
    reading: Reading,
    /// The row object of the reading's vocabulary.
    root: u32,
    /// Where the reading's constants go; good for as long as the names.
    constants: Vec<(Target, u32)>,
    columns: usize,
    rows_max: usize,
    attributes_max: usize,
    /// Columns whose explicit null is a value: Nullable with a DEFAULT that an absent value would get.
    keeps_null: Vec<bool>,
    /// Column by column: for each row the tape index of its value, 0 = none.
    slots: Vec<u32>,
    /// Slots of one column.
    stride: usize,
    rows: usize,
    /// Where each row of a text starts, and the one behind them.
    starts: Vec<u32>,
    /// Bytes of a short row, as texts go: how many rows to make slots for.
    row_bytes: usize,
    entries: Vec<Entry>,
    ranges: Vec<EntryRange>,
    holders: Vec<Holder>,
    seen: Vec<Seen>,
    /// Counts rows, to tell this row's marks from older ones.
    serial: u32,
    /// Ends and names of the objects around the one being read.
    around: Vec<(usize, u32)>,
    /// Keys to read and the object they are in, for rows with repeated objects.
    pending: Vec<(u32, u32)>,
    /// Values whose key no column knows, in a table without overflow column.
    pub(super) unknown_fields: u64,
}

impl Scan {
    pub(super) fn new(schema: &Schema, mapping: &MappingConfig, limits: &Limits) -> Self {
        let columns = schema.columns.len();
        Scan {
            resolver: Resolver::new(schema, mapping),
            names: Names::new(limits),
            reading: Reading::default(),
            root: ROOT,
            constants: Vec::new(),
            columns,
            rows_max: rows_max(columns),
            attributes_max: limits.attributes_per_row_max,
            keeps_null: schema
                .columns
                .iter()
                .map(|column| column.has_default && matches!(column.data_type, DataType::Nullable(_)))
                .collect(),
            slots: Vec::new(),
            stride: 0,
            rows: 0,
            starts: Vec::new(),
            row_bytes: 64,
            entries: Vec::new(),
            ranges: Vec::new(),
            holders: vec![Holder::default(); columns],
            seen: Vec::new(),
            serial: 0,
            around: Vec::new(),
            pending: Vec::new(),
            unknown_fields: 0,
        }
    }

    /// The column unknown keys go to.
    pub(super) fn overflow(&self) -> Option<usize> {
        self.resolver.overflow()
    }

    pub(super) fn keys(&self) -> &KeyTable {
        self.names.keys()
    }

    /// How the next rows are read.
    #[inline]
    pub(super) fn read_as(&mut self, reading: Reading) {
        if self.reading != reading {
            self.reading = reading;
            self.root = root_of(reading.vocabulary);
            self.place_constants();
        }
    }

    /// The zone of times that name none.
    pub(super) fn zone(&self) -> Zone {
        self.reading.zone
    }

    /// The constants that are added to each row.
    pub(super) fn constants(&self) -> Constants {
        self.reading.constants
    }

    fn place_constants(&mut self) {
        if !self.find_constants() {
            self.forget_names();
        }
    }

    /// False when there is no room for their names.
    fn find_constants(&mut self) -> bool {
        self.constants.clear();
        for (name, _) in self.reading.constants.pairs() {
            match self.names.find(ROOT, ROOT, name.as_bytes(), &self.resolver) {
                Ok(name) => self.constants.push(self.place(name)),
                // The configuration allows for none that is too long; without room for it, it stays away.
                Err(NameRefused::TooLong) => self.constants.push((Target::Unknown, u32::MAX)),
                Err(NameRefused::Full) => return false,
            }
        }
        true
    }

    #[cold]
    fn forget_names(&mut self) {
        self.names.forget();
        self.seen.clear();
        let found = self.find_constants();
        assert!(found, "a few constants fit where there is no other name");
    }

    /// Puts the constants' values behind index 0 of a tape that was just begun.
    fn lend_constants(&self, tape: &mut Vec<Node<'_>>) -> u32 {
        let at = tape.len() as u32;
        let values = self.reading.constants.pairs().iter();
        tape.extend(values.map(|(_, value)| Node::String(value)));
        at
    }

    /// Puts the constants, which are on the tape from `at` on, into a row in place of its own values.
    #[inline]
    fn put_constants(&mut self, at: u32, row: usize) {
        if !self.constants.is_empty() {
            self.put_each_constant(at, row);
        }
    }

    fn put_each_constant(&mut self, at: u32, row: usize) {
        for (value, constant) in (at..).zip(0..self.constants.len()) {
            let (target, attribute) = self.constants[constant];
            match target {
                Target::Column { column, .. } => self.set_slot(column, row, value),
                Target::Level { text, number, .. } => {
                    self.set_slot(text, row, value);
                    self.set_slot(number, row, value | FOREIGN_LEVEL);
                }
                Target::Attributes | Target::Unknown if attribute == u32::MAX => {}
                Target::Attributes | Target::Unknown => {
                    if self.resolver.overflow().is_some() {
                        // One more than a row may have by itself is no fault of the row.
                        let _ = self.put_attribute(attribute, value, Repeat::Replaces);
                    }
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn names_kept(&self) -> usize {
        self.names.len()
    }

    /// Rows of the last scan.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Tape index of each row's value for one column, 0 = none.
    pub(super) fn slots_of(&self, column: usize) -> &[u32] {
        &self.slots[column * self.stride..][..self.rows]
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn ranges(&self) -> &[EntryRange] {
        &self.ranges
    }

    /// Where row `row` of the text that was read last starts, or what is behind the last row.
    pub(super) fn start_of(&self, row: usize) -> usize {
        self.starts[row] as usize
    }

    /// Reads rows straight from their text, as many as one pass takes; puts their values on `tape`, which it clears.
    pub(super) fn read_text<'t>(&mut self, reader: &mut Reader<'t>, tape: &mut Vec<Node<'t>>) -> Stopped {
        let text_start = reader.offset();
        self.begin(reader.ahead().len() / self.row_bytes + 1);
        self.starts.clear();
        self.starts.push(text_start as u32);
        begin_tape(tape);
        let constants = self.lend_constants(tape);
        let mut row = 0;
        let stopped = loop {
            if row == self.stride {
                break Stopped::Full;
            }
            match reader.row() {
                Ok(true) => {}
                Ok(false) => break Stopped::AtEnd,
                Err(Irregular) => break Stopped::Irregular,
            }
            let start = self.entries.len();
            let unknown_fields = self.unknown_fields;
            let read = self.read_row_text(reader, tape, row);
            let next = match read {
                Ok(()) => reader.row_end(),
                Err(_) => Err(Irregular),
            };
            let Ok(next) = next else {
                self.undo_row(row, start);
                self.unknown_fields = unknown_fields;
                break Stopped::Irregular;
            };
            self.put_constants(constants, row);
            self.ranges.push(EntryRange {
                start: start as u32,
                end: self.entries.len() as u32,
            });
            self.starts.push(reader.offset() as u32);
            row += 1;
            if !next {
                break Stopped::AtEnd;
            }
        };
        self.rows = row;
        if let Some(row_bytes) = (self.start_of(row) - text_start).checked_div(row) {
            // A quarter more rows than there were in as many bytes.
            self.row_bytes = (row_bytes * 4 / 5).max(8);
        }
        stopped
    }

    /// Takes rows that `source` writes, as many as one pass takes of `rows`; their values come on `tape`, which it clears.
    /// `reject` gets those that cannot be taken; those have no values then.
    pub(super) fn write_rows<'t>(
        &mut self,
        source: &mut impl RowSource<'t>,
        rows: usize,
        tape: &mut Vec<Node<'t>>,
        mut reject: impl FnMut(usize, RowRefusal),
    ) {
        self.begin(rows);
        begin_tape(tape);
        let constants = self.lend_constants(tape);
        let mut row = 0;
        let mut names_forgotten = false;
        while row < self.stride {
            let start = self.entries.len();
            let unknown_fields = self.unknown_fields;
            self.next_serial();
            let written = source.write(&mut RowWriter {
                scan: self,
                tape,
                row,
                previous: ROOT,
            });
            match written {
                Ok(true) => self.put_constants(constants, row),
                Ok(false) => break,
                Err(stop) => {
                    self.undo_row(row, start);
                    self.unknown_fields = unknown_fields;
                    match stop {
                        RowStop::NextPass if row > 0 => break,
                        RowStop::NextPass if !names_forgotten => {
                            self.forget_names();
                            names_forgotten = true;
                            continue;
                        }
                        // More names than there may be, in one row.
                        RowStop::NextPass => reject(row, RowRefusal::TooManyAttributes),
                        RowStop::Refused(refusal) => reject(row, refusal),
                    }
                    source.skip();
                }
            }
            self.ranges.push(EntryRange {
                start: start as u32,
                end: self.entries.len() as u32,
            });
            row += 1;
        }
        self.rows = row;
    }

    /// Makes slots for a pass of so many rows, or as many as it may have.
    fn begin(&mut self, rows: usize) {
        self.stride = rows.min(self.rows_max);
        self.slots.clear();
        self.slots.resize(self.columns * self.stride, 0);
        self.entries.clear();
        self.ranges.clear();
    }

    /// The name of a key under a parent, when `previous` is the name before it.
    #[inline]
    pub(super) fn name(&mut self, previous: u32, parent: u32, key: &[u8]) -> Result<u32, Stop> {
        Ok(self.names.find(previous, parent, key, &self.resolver)?)
    }

    /// Changes when all names are forgotten.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        self.names.keys().generation()
    }

    /// Where the value of a name goes, and the attribute it is.
    #[inline]
    pub(super) fn place(&self, name: u32) -> (Target, u32) {
        let name = self.names.get(name);
        (name.target, name.attribute)
    }

    /// Reads as many of `objects` as one pass takes, at least one, and calls `reject` for the rows among them that
    /// cannot be taken; those have no values then. The constants' values are on the tape from `constants` on.
    pub(super) fn scan(
        &mut self,
        tape: &[Node<'_>],
        objects: &[u32],
        constants: u32,
        mut reject: impl FnMut(usize, RowRefusal),
    ) {
        self.begin(objects.len());
        let objects = &objects[..self.stride];
        for (row, &object) in objects.iter().enumerate() {
            let start = self.entries.len();
            let mut read = self.read(tape, object as usize, row, start);
            if let Err(Stop::Refused(NameRefused::Full)) = read {
                if row > 0 {
                    // The names are still needed for the rows before: this one starts the next pass, as its first.
                    self.rows = row;
                    return;
                }
                self.forget_names();
                read = self.read(tape, object as usize, row, start);
            }
            match read {
                Ok(()) => self.put_constants(constants, row),
                Err(Stop::Refused(NameRefused::TooLong)) => reject(row, RowRefusal::NameTooLong),
                Err(Stop::TooMany | Stop::Repeated | Stop::Irregular | Stop::Refused(NameRefused::Full)) => {
                    reject(row, RowRefusal::TooManyAttributes);
                }
            }
            self.ranges.push(EntryRange {
                start: start as u32,
                end: self.entries.len() as u32,
            });
        }
        self.rows = objects.len();
    }

    /// Reads an object as the row that is being written; the row has no other values yet.
    pub(super) fn read_first(&mut self, tape: &[Node<'_>], object: usize, row: usize) -> Result<(), Stop> {
        let start = self.entries.len();
        self.read(tape, object, row, start)
    }

    /// Reads one row whose entries start at `start`; leaves nothing of it when it fails.
    #[inline]
    fn read(&mut self, tape: &[Node<'_>], object: usize, row: usize, start: usize) -> Result<(), Stop> {
        let unknown_fields = self.unknown_fields;
        let mut read = self.read_row(tape, object, row);
        if let Err(Stop::Repeated) = read {
            self.undo_row(row, start);
            self.unknown_fields = unknown_fields;
            read = self.read_repeated(tape, object, row, start);
        }
        if read.is_err() {
            self.undo_row(row, start);
        }
        read
    }

    #[cold]
    fn undo_row(&mut self, row: usize, entries: usize) {
        self.entries.truncate(entries);
        self.around.clear();
        for column in 0..self.columns {
            self.slots[column * self.stride + row] = 0;
        }
    }

    fn next_serial(&mut self) {
        if self.serial == u32::MAX {
            self.seen.fill(Seen::default());
            self.names.close_all();
            self.serial = 0;
        }
        self.serial += 1;
    }

    /// Reads one row's keys in their order; the last value of a repeated key stays.
    fn read_row(&mut self, tape: &[Node<'_>], object: usize, row: usize) -> Result<(), Stop> {
        self.next_serial();
        let mut end = end_of(tape, object);
        let mut at = object + 1;
        let mut parent = self.root;
        let mut previous = self.root;
        let mut objects_open = false;
        loop {
            while at == end {
                match self.around.pop() {
                    None => return Ok(()),
                    Some(outer) => (end, parent) = outer,
                }
            }
            let Node::String(key) = tape[at] else {
                unreachable!("simd-json puts a string before each value")
            };
            let id = self
                .names
                .find(previous, parent, key.as_bytes(), &self.resolver)?;
            previous = id;
            let value = at + 1;
            at = value + 1;
            let name = self.names.get(id);
            match tape[value] {
                Node::Object { count, .. } => {
                    at += count;
                    if is_group(name, count) {
                        self.open_object(id, row)?;
                        objects_open = true;
                        self.around.push((end, parent));
                        end = at;
                        parent = id;
                        at = value + 1;
                        continue;
                    }
                }
                Node::Array { count, .. } => at += count,
                _ => {}
            }
            if objects_open && name.opened == self.serial {
                return Err(Stop::Repeated);
            }
            let (target, attribute) = (name.target, name.attribute);
            self.put(tape, target, attribute, value, row, Repeat::Replaces)?;
        }
    }

    /// As [`Scan::read_row`], from the text behind the row's `{`.
    fn read_row_text<'t>(
        &mut self,
        reader: &mut Reader<'t>,
        tape: &mut Vec<Node<'t>>,
        row: usize,
    ) -> Result<(), Stop> {
        self.next_serial();
        if reader.is_empty_object()? {
            return Ok(());
        }
        let mut parent = self.root;
        let mut previous = self.root;
        let mut objects_open = false;
        loop {
            let id = match self.names.expected(previous, parent, reader.ahead()) {
                Some((id, bytes)) => {
                    reader.skip(bytes);
                    id
                }
                None => {
                    let key = reader.key()?;
                    self.names
                        .find(previous, parent, key.as_bytes(), &self.resolver)?
                }
            };
            previous = id;
            let value = tape.len();
            let first = reader.token()?;
            match first {
                b'"' => tape.push(Node::String(reader.string()?)),
                b'{' if !self.names.get(id).takes_object => {
                    reader.skip(1);
                    let is_empty = reader.is_empty_object()?;
                    if is_empty && self.names.get(id).target == Target::Unknown {
                        tape.push(Node::Object { len: 0, count: 0 });
                    } else {
                        self.open_object(id, row)?;
                        objects_open = true;
                        if !is_empty {
                            self.around.push((0, parent));
                            // The row is around all of them.
                            if self.around.len() >= reader.depth_max() as usize {
                                return Err(Stop::Irregular);
                            }
                            parent = id;
                            continue;
                        }
                    }
                }
                b'{' | b'[' => reader.value(tape, 1 + self.around.len() as u32)?,
                _ => reader.scalar(first, tape)?,
            }
            if tape.len() > value {
                let name = self.names.get(id);
                if objects_open && name.opened == self.serial {
                    return Err(Stop::Repeated);
                }
                let (target, attribute) = (name.target, name.attribute);
                self.put_first(tape, target, attribute, value, row)?;
            }
            while reader.after_member()? == After::End {
                match self.around.pop() {
                    None => return Ok(()),
                    Some((_, outer)) => parent = outer,
                }
            }
        }
    }

    fn open_object(&mut self, id: u32, row: usize) -> Result<(), Stop> {
        let name = self.names.get(id);
        let attribute = name.attribute;
        let was_attribute = self
            .seen
            .get(attribute as usize)
            .is_some_and(|seen| seen.row == self.serial);
        let was_column = match name.target {
            Target::Column { column, .. } | Target::Level { text: column, .. } => {
                self.slot(column, row) != 0 && self.holders[usize::from(column)].attribute == attribute
            }
            Target::Attributes | Target::Unknown => false,
        };
        if name.opened == self.serial || was_attribute || was_column {
            return Err(Stop::Repeated);
        }
        self.names.get_mut(id).opened = self.serial;
        Ok(())
    }

    /// Reads one row's keys from the last to the first, so that the first value seen of a key is the one that stays,
    /// and what an earlier object of the same key holds is never read.
    #[cold]
    fn read_repeated(
        &mut self,
        tape: &[Node<'_>],
        object: usize,
        row: usize,
        start: usize,
    ) -> Result<(), Stop> {
        self.next_serial();
        self.pending.clear();
        self.push_keys(tape, object, self.root);
        while let Some((at, parent)) = self.pending.pop() {
            let Node::String(key) = tape[at as usize] else {
                unreachable!("only keys are pending")
            };
            let id = self.names.find(ROOT, parent, key.as_bytes(), &self.resolver)?;
            let name = self.names.get_mut(id);
            if std::mem::replace(&mut name.opened, self.serial) == self.serial {
                continue;
            }
            let value = at as usize + 1;
            if let Node::Object { count, .. } = tape[value]
                && is_group(name, count)
            {
                self.push_keys(tape, value, id);
                continue;
            }
            let (target, attribute) = (name.target, name.attribute);
            self.put(tape, target, attribute, value, row, Repeat::Ignored)?;
        }
        self.entries[start..].reverse();
        for (at, entry) in self.entries.iter().enumerate().skip(start) {
            self.seen[entry.key as usize].entry = at as u32;
        }
        Ok(())
    }

    fn push_keys(&mut self, tape: &[Node<'_>], object: usize, parent: u32) {
        let end = end_of(tape, object);
        let mut at = object + 1;
        while at < end {
            self.pending.push((at as u32, parent));
            at = end_of(tape, at + 1);
        }
    }

    /// Puts a value where its name belongs, in place of an earlier one of this name.
    #[inline]
    pub(super) fn put_first(
        &mut self,
        tape: &[Node<'_>],
        target: Target,
        attribute: u32,
        value: usize,
        row: usize,
    ) -> Result<(), Stop> {
        match target {
            Target::Column { column, rank }
                if self.slot(column, row) == 0 && !matches!(tape[value], Node::Static(StaticNode::Null)) =>
            {
                self.set_slot(column, row, value as u32);
                self.holders[usize::from(column)] = Holder { attribute, rank };
                Ok(())
            }
            Target::Unknown | Target::Attributes => {
                self.put_attribute(attribute, value as u32, Repeat::Replaces)
            }
            _ => self.put(tape, target, attribute, value, row, Repeat::Replaces),
        }
    }

    fn put(
        &mut self,
        tape: &[Node<'_>],
        target: Target,
        attribute: u32,
        value: usize,
        row: usize,
        repeat: Repeat,
    ) -> Result<(), Stop> {
        match target {
            Target::Unknown | Target::Attributes => self.put_attribute(attribute, value as u32, repeat),
            _ if matches!(tape[value], Node::Static(StaticNode::Null)) => {
                self.put_null(target, attribute, value as u32, row, repeat);
                Ok(())
            }
            Target::Column { column, rank } => {
                self.put_column(column, Holder { attribute, rank }, value as u32, row, repeat)
            }
            Target::Level { text, number, rank } => {
                // What is neither word nor number has no severity, and is kept as text all the same.
                if let Node::String(_) | Node::Static(StaticNode::I64(_) | StaticNode::U64(_)) = tape[value] {
                    let holder = Holder {
                        attribute,
                        rank: LEVEL_RANK_BASE + rank,
                    };
                    self.put_level_number(number, holder, value as u32 | FOREIGN_LEVEL, row, repeat);
                }
                self.put_column(text, Holder { attribute, rank }, value as u32, row, repeat)
            }
        }
    }

    #[inline]
    fn slot(&self, column: u16, row: usize) -> u32 {
        self.slots[usize::from(column) * self.stride + row]
    }

    #[inline]
    fn set_slot(&mut self, column: u16, row: usize, value: u32) {
        self.slots[usize::from(column) * self.stride + row] = value;
    }

    #[inline]
    fn put_column(
        &mut self,
        column: u16,
        holder: Holder,
        value: u32,
        row: usize,
        repeat: Repeat,
    ) -> Result<(), Stop> {
        if self.slot(column, row) != 0 {
            return self.put_taken(column, holder, value, row, repeat);
        }
        self.set_slot(column, row, value);
        self.holders[usize::from(column)] = holder;
        Ok(())
    }

    /// Two keys of one row mean the same column.
    #[cold]
    fn put_taken(
        &mut self,
        column: u16,
        holder: Holder,
        value: u32,
        row: usize,
        repeat: Repeat,
    ) -> Result<(), Stop> {
        let held = self.holders[usize::from(column)];
        if held.attribute == holder.attribute {
            if repeat == Repeat::Ignored {
                return Ok(());
            }
        } else if held.rank <= holder.rank {
            return self.put_attribute(holder.attribute, value, repeat);
        } else if held.rank < LEVEL_RANK_BASE {
            let held_value = self.slot(column, row);
            self.put_attribute(held.attribute, held_value, repeat)?;
        }
        self.set_slot(column, row, value);
        self.holders[usize::from(column)] = holder;
        Ok(())
    }

    /// The number a level stands for gives way to an explicit one; it is lost nowhere, the level's text is kept.
    #[inline]
    fn put_level_number(&mut self, column: u16, holder: Holder, value: u32, row: usize, repeat: Repeat) {
        if self.slot(column, row) != 0 {
            let held = self.holders[usize::from(column)];
            let same = held.attribute == holder.attribute;
            if (same && repeat == Repeat::Ignored) || (!same && held.rank <= holder.rank) {
                return;
            }
        }
        self.set_slot(column, row, value);
        self.holders[usize::from(column)] = holder;
    }

    /// A null is as good as no value: it takes back an earlier value of its own key and no other's.
    fn put_null(&mut self, target: Target, attribute: u32, value: u32, row: usize, repeat: Repeat) {
        let columns = match target {
            Target::Column { column, .. } => [Some(column), None],
            Target::Level { text, number, .. } => [Some(text), Some(number)],
            Target::Attributes | Target::Unknown => [None, None],
        };
        for column in columns.into_iter().flatten() {
            let held_value = self.slot(column, row);
            let held = self.holders[usize::from(column)].attribute == attribute;
            let keeps_null = self.keeps_null[usize::from(column)];
            if held_value == 0 && keeps_null {
                self.set_slot(column, row, value);
                self.holders[usize::from(column)] = Holder {
                    attribute,
                    rank: LEVEL_RANK_BASE,
                };
            } else if held_value != 0 && held && repeat == Repeat::Replaces {
                self.set_slot(column, row, if keeps_null { value } else { 0 });
            }
        }
    }

    #[inline]
    fn put_attribute(&mut self, attribute: u32, value: u32, repeat: Repeat) -> Result<(), Stop> {
        if self.resolver.overflow().is_none() {
            self.unknown_fields += 1;
            return Ok(());
        }
        if attribute as usize >= self.seen.len() {
            self.seen.resize(self.names.keys().len(), Seen::default());
        }
        let seen = &mut self.seen[attribute as usize];
        if seen.row == self.serial {
            if repeat == Repeat::Replaces {
                self.entries[seen.entry as usize].value = value;
            }
            return Ok(());
        }
        *seen = Seen {
            row: self.serial,
            entry: self.entries.len() as u32,
        };
        self.entries.push(Entry {
            key: attribute,
            value,
        });
        let start = self.ranges.last().map_or(0, |range| range.end as usize);
        if self.entries.len() - start > self.attributes_max {
            return Err(Stop::TooMany);
        }
        Ok(())
    }
}

/// What a second value of the same name in one row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Replaces,
    Ignored,
}

/// Empties a tape but for index 0, which no value has.
fn begin_tape(tape: &mut Vec<Node<'_>>) {
    tape.clear();
    tape.push(Node::Static(StaticNode::Null));
}

/// Whether an object is a group of keys rather than a value. An empty one under an unknown key would leave no trace.
fn is_group(name: &Name, nodes: usize) -> bool {
    !name.takes_object && (nodes > 0 || name.target != Target::Unknown)
}

/// Rows of one pass: 65,536 slots are 256 KiB, which stay in L2 beside the tape. A table of thousands of columns
/// still gets enough rows at a time to be worth a loop for each column.
fn rows_max(columns: usize) -> usize {
    (65_536 / columns.max(1)).clamp(32, 4096)
}

/// One past the last node of the value at `at`.
fn end_of(tape: &[Node<'_>], at: usize) -> usize {
    match tape[at] {
        Node::Object { count, .. } | Node::Array { count, .. } => at + 1 + count,
        Node::String(_) | Node::Static(_) => at + 1,
    }
}
