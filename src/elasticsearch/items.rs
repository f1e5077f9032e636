//! The items of one request: its actions in order, and what became of each.

use std::ops::Range;

use super::action::{Action, ActionError, ID_BYTES_MAX, INDEX_BYTES_MAX};
use crate::json::RejectReason;

/// What an action asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A document is added, or replaced.
    Index,
    /// A document is added.
    Create,
    /// A document is changed, by the one behind it.
    Update,
    /// A document is removed; none is behind it.
    Delete,
}

impl Kind {
    /// Every kind; `as usize` is its place here.
    pub const ALL: [Kind; 4] = [Kind::Index, Kind::Create, Kind::Update, Kind::Delete];

    /// Its name in requests and replies.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Index => "index",
            Kind::Create => "create",
            Kind::Update => "update",
            Kind::Delete => "delete",
        }
    }
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its document is taken.
    Created,
    /// Its document is no row of its table.
    Rejected(RejectReason),
    /// Rows are neither changed nor removed here.
    Unsupported,
    /// Its index or id is longer than it may be, or the index is no name.
    Name,
    /// No table takes documents of its index.
    NoTable,
    /// The request's key does not reach the table of its index.
    Forbidden,
    /// The server was full by then: worth sending again.
    Full,
}

impl Outcome {
    /// Its status.
    pub fn status(self) -> u16 {
        match self {
            Outcome::Created => 201,
            Outcome::Rejected(_) | Outcome::Unsupported | Outcome::Name => 400,
            Outcome::Forbidden => 403,
            Outcome::NoTable => 404,
            Outcome::Full => 429,
        }
    }
}

/// Different indexes one request may name: they are told apart one by one.
pub const INDEXES_MAX: usize = 256;

/// An item of the reply without its names: `{"create":{` to `"status":201}}`, or the longest reason of a fixed text.
const ITEM_BYTES: usize = 320;

/// The actions of a request.
#[derive(Debug, Default)]
pub struct Items {
    records: Vec<Record>,
    /// Names of the indexes, in the order they appeared. The empty one is that of actions which name none.
    indexes: Vec<Box<str>>,
    /// Ids one after the other, as JSON has them between quotes.
    ids: Vec<u8>,
    /// Bytes that the reply may have.
    reply_bytes: usize,
    items_max: usize,
    /// The index in the request's path.
    default_index: Box<str>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    kind: Kind,
    outcome: Outcome,
    index: u16,
    /// Where its id ends; it begins where that of the item before ends.
    id_end: u32,
}

/// What one item is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// What was asked for.
    pub kind: Kind,
    /// What became of it.
    pub outcome: Outcome,
    /// Its index; empty when it names none.
    pub index: &'a str,
    /// Its id as JSON has it between quotes; empty when it has none.
    pub id: &'a str,
}

impl Items {
    /// No items yet, at most `items_max`; `default_index` is that of actions which name none.
    pub fn new(items_max: usize, default_index: &str) -> Items {
        Items {
            items_max,
            default_index: default_index.into(),
            ..Items::default()
        }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes they hold, and those of their reply: more than either is in the end.
    pub fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>() + self.ids.capacity() + self.reply_bytes
    }

    /// The name of an index by its number.
    pub fn index_name(&self, index: u16) -> &str {
        &self.indexes[usize::from(index)]
    }

    /// Different indexes so far.
    pub fn indexes(&self) -> usize {
        self.indexes.len()
    }

    /// The number of an action's index, which is new when it is the number of those before.
    pub(super) fn index(&mut self, action: &Action<'_>) -> Result<u16, ActionError> {
        let name = action.index.as_deref().unwrap_or(&self.default_index);
        // What is longer is no index's name, and is shown cut.
        let mut end = name.len().min(INDEX_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = &name[..end];
        if let Some(known) = self.indexes.iter().position(|index| **index == *name) {
            return Ok(known as u16);
        }
        if self.indexes.len() == INDEXES_MAX {
            return Err(ActionError::TooManyIndexes);
        }
        let name = name.into();
        self.indexes.push(name);
        Ok(self.indexes.len() as u16 - 1)
    }

    /// Notes an action of the index numbered `index`.
    pub(super) fn note(&mut self, action: &Action<'_>, index: u16) -> Result<Outcome, ActionError> {
        let id = action.id.unwrap_or_default();
        let is_name = |name: &str| name.len() <= INDEX_BYTES_MAX && !name.contains(char::is_control);
        let named = action.index.as_deref().is_none_or(is_name) && id.len() <= ID_BYTES_MAX;
        let outcome = match action.kind {
            Kind::Update | Kind::Delete => Outcome::Unsupported,
            _ if !named => Outcome::Name,
            Kind::Index | Kind::Create => Outcome::Created,
        };
        if id.len() <= ID_BYTES_MAX {
            self.ids.extend_from_slice(id.as_bytes());
        }
        self.push(action.kind, outcome, index)?;
        Ok(outcome)
    }

    /// Notes another action like the last one, which had no id.
    pub(super) fn note_again(&mut self, kind: Kind, outcome: Outcome, index: u16) -> Result<(), ActionError> {
        self.push(kind, outcome, index)
    }

    fn push(&mut self, kind: Kind, outcome: Outcome, index: u16) -> Result<(), ActionError> {
        if self.records.len() == self.items_max {
            return Err(ActionError::TooMany);
        }
        let id_start = self.records.last().map_or(0, |record| record.id_end as usize);
        // Control characters and quotes in an index's name are escaped; those of an id are already.
        self.reply_bytes +=
            ITEM_BYTES + 6 * self.indexes[usize::from(index)].len() + (self.ids.len() - id_start);
        self.records.push(Record {
            kind,
            outcome,
            index,
            // At most `items_max` (100,000) ids of `ID_BYTES_MAX`.
            id_end: self.ids.len() as u32,
        });
        Ok(())
    }

    /// Says what became of some items whose documents were not pushed.
    pub fn mark(&mut self, items: Range<usize>, outcome: Outcome) {
        for record in &mut self.records[items] {
            if record.outcome == Outcome::Created {
                record.outcome = outcome;
            }
        }
    }

    /// Says that an item's document was rejected.
    pub fn reject(&mut self, item: usize, reason: RejectReason) {
        self.mark(item..item + 1, Outcome::Rejected(reason));
    }

    /// Each item in order.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        let mut start = 0;
        self.records.iter().map(move |record| {
            let id = &self.ids[start..record.id_end as usize];
            start = record.id_end as usize;
            Item {
                kind: record.kind,
                outcome: record.outcome,
                index: &self.indexes[usize::from(record.index)],
                id: std::str::from_utf8(id).expect("ids were appended as text"),
            }
        })
    }

    /// Some item was not created.
    pub fn has_errors(&self) -> bool {
        self.records
            .iter()
            .any(|record| record.outcome != Outcome::Created)
    }
}
