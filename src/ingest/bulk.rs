//! Takes an Elasticsearch bulk body: its documents, run by run, into the tables of their indexes.

use std::borrow::Cow;
use std::io;
use std::rc::Rc;

use serde::Deserialize;

use crate::catalog::Lookup;
use crate::elasticsearch::filter::Filter;
use crate::elasticsearch::reply::IdMaker;
use crate::elasticsearch::{Bulk, BulkReader, Items, Outcome};
use crate::http::encodings::Encoding;
use crate::http::head::Framing;
use crate::http::receive_buffer::Loan;
use crate::json::{RejectReason, RowErrors, RowForm, RowsText, object_end};
use crate::routing::{RowFacts, split_checked};
use crate::runtime;

use super::body::{Failure, Intake, Source, Terms};
use super::choice::Paths;
use super::connection::Session;
use super::table::Table;
use super::{Core, TableError};

/// What the head of a bulk request says.
pub(super) struct BulkAsked {
    /// The index of actions that name none; empty when the path has none.
    pub index: Box<str>,
    /// The members of the reply that are wanted.
    pub filter: Filter,
    /// The media type of the reply.
    pub content_type: &'static str,
}

/// The items of a request, for its reply.
pub(super) struct BulkTaken {
    pub items: Items,
    pub ids: IdMaker,
    /// What an item without an index is called after.
    pub table: Rc<Table>,
    /// Counts the items and their reply.
    pub loan: Loan,
}

impl Session<'_> {
    /// Takes the documents of a body, those of indexes without a table of their own into `table`.
    ///
    /// # Errors
    /// When the connection broke; nobody can be answered then.
    pub(super) async fn take_bulk(
        &mut self,
        asked: &BulkAsked,
        table: &Rc<Table>,
        paths: Option<Paths<'_>>,
        framing: Framing,
        encoding: Encoding,
        terms: Terms,
    ) -> io::Result<Intake> {
        let core = self.core;
        let mut intake = Intake::new(&core.limits);
        intake.errors = RowErrors::of_each(&core.limits);
        let mut taken = BulkTaken {
            items: Items::new(core.limits.bulk_items_max, &asked.index),
            ids: IdMaker {
                maker: core.boot << 16 ^ u64::from(core.index),
                first: 0,
            },
            table: Rc::clone(table),
            loan: core.buffers.lend(),
        };
        let none = intake.errors.counts();
        let received = match self.source(framing, encoding) {
            Ok(source) => {
                self.take_documents(table, paths, source, terms, &mut intake, &mut taken)
                    .await
            }
            Err(failure) => {
                intake.failure = Some(failure);
                Ok(())
            }
        };
        intake
            .errors
            .each_since(&none, |reason, rows| core.metrics.reject(reason.label(), rows));
        for (row, reason) in intake.errors.each() {
            taken.items.reject(*row as usize, *reason);
        }
        taken.ids.first = core.number_documents(taken.items.len() as u64);
        intake.bulk = Some(Box::new(taken));
        received.map(|()| intake)
    }

    async fn take_documents(
        &mut self,
        table: &Rc<Table>,
        paths: Option<Paths<'_>>,
        mut source: Source,
        terms: Terms,
        intake: &mut Intake,
        taken: &mut BulkTaken,
    ) -> io::Result<()> {
        let core = self.core;
        let mut reader = BulkReader::new(&core.limits);
        // By the number of the index.
        let mut tables: Vec<Result<Rc<Table>, TableError>> = Vec::new();
        let mut is_full = false;
        self.expect_progress();
        while intake.failure.is_none() {
            let (text, end) = source.text_mut(&mut self.buffer);
            let items = &mut taken.items;
            let found = reader.next(text, end, items);
            if !taken.loan.raise_to(items.bytes()) {
                intake.failure = Some(Failure::NoBuffer);
                break;
            }
            while tables.len() < items.indexes() {
                let index = items.index_name(tables.len() as u16);
                tables.push(core.table_of_index(paths, index, table));
            }
            match found {
                Bulk::Documents {
                    start,
                    end,
                    first_item,
                    documents,
                    index,
                    consumed,
                } => {
                    let range = first_item..first_item + documents;
                    match &tables[usize::from(index)] {
                        _ if is_full => items.mark(range, Outcome::Full),
                        Err(error) => items.mark(range, outcome_of(*error)),
                        Ok(table) => {
                            let mut at = start;
                            let mut row = first_item as u64;
                            while at < end && !is_full {
                                let (text, _) = source.text(&self.buffer);
                                let rest = RowsText {
                                    bytes: &text[at..end],
                                    form: RowForm::Lines,
                                };
                                let pushed = core.push(table, &rest, 0, row, &mut intake.errors, terms);
                                at += pushed.consumed;
                                row += pushed.rows;
                                intake.accepted += pushed.accepted;
                                // The client is told which items to send again, so nothing more is held for it.
                                if pushed.blocked && !self.wait_for_room(table).await {
                                    is_full = true;
                                    taken.items.mark(row as usize..range.end, Outcome::Full);
                                }
                            }
                            debug_assert!(is_full || row == range.end as u64, "a row for each document");
                        }
                    }
                    source.consume(&mut self.buffer, consumed);
                    runtime::yield_if_needed().await;
                }
                Bulk::NeedMore { consumed } => {
                    source.consume(&mut self.buffer, consumed);
                    if let Err(failure) = self.receive(&mut source).await? {
                        intake.failure = Some(failure);
                    }
                }
                Bulk::TooLong {
                    item,
                    index,
                    consumed,
                } => {
                    source.consume(&mut self.buffer, consumed);
                    let table = tables[usize::from(index)].as_ref().unwrap_or(table);
                    core.reject_too_long(table, item as u64, &mut intake.errors);
                }
                Bulk::Missing {
                    item,
                    index,
                    consumed,
                } => {
                    source.consume(&mut self.buffer, consumed);
                    let table = tables[usize::from(index)].as_ref().unwrap_or(table);
                    core.reject_missing(table, item as u64, &mut intake.errors);
                }
                Bulk::Failed(error) => intake.failure = Some(Failure::Bulk(error)),
                Bulk::Done => {
                    let rest = source.text(&self.buffer).0.len();
                    source.consume(&mut self.buffer, rest);
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Bytes of what stands between rows at the front of `text`.
pub(super) fn separator_bytes(text: &[u8]) -> usize {
    let is_separator = |byte: &&u8| byte.is_ascii_whitespace() || **byte == b',';
    text.iter().take_while(is_separator).count()
}

/// What routes look at in a row.
#[derive(Deserialize)]
struct Indexed<'b> {
    #[serde(borrow, default)]
    index: Option<Cow<'b, str>>,
}

/// What documents are told whose table cannot take them.
fn outcome_of(error: TableError) -> Outcome {
    match error {
        TableError::NotServed => Outcome::NoTable,
        TableError::OutOfReach => Outcome::Forbidden,
        TableError::NotYetKnown | TableError::TooManyOpen => Outcome::Full,
    }
}

impl Core {
    /// The table of an index, when its request names none: that of a route, else the one of its name, if that is served and in
    /// reach, else `fallback`.
    pub(super) fn table_of_index(
        &self,
        paths: Option<Paths<'_>>,
        index: &str,
        fallback: &Rc<Table>,
    ) -> Result<Rc<Table>, TableError> {
        let Some(Paths { candidates, key }) = paths.filter(|_| !index.is_empty()) else {
            return Ok(Rc::clone(fallback));
        };
        let facts = RowFacts {
            index: Some(index),
            ..RowFacts::default()
        };
        if let Some(name) = self.router.table(candidates, facts) {
            let (database, table) = split_checked(name);
            return self.table_in_reach(key, (database, Some(table)));
        }
        // Any name may come here: it is no reason to read the tables anew.
        if !matches!(self.catalog.lookup(None, Some(index)), Lookup::Found(_)) {
            return Ok(Rc::clone(fallback));
        }
        match self.table_in_reach(key, (None, Some(index))) {
            Err(TableError::OutOfReach) => Ok(Rc::clone(fallback)),
            found => found,
        }
    }

    /// The bytes at the front of `text` whose rows name an index of one table, and that table. What is no object goes with those
    /// before it.
    pub(super) fn run_of_one_table(
        &self,
        text: &[u8],
        Paths { candidates, key }: Paths<'_>,
        fallback: &Rc<Table>,
    ) -> (usize, Result<Rc<Table>, TableError>) {
        let mut first: Option<Option<&str>> = None;
        let mut end = 0;
        loop {
            let start = end + separator_bytes(&text[end..]);
            if start == text.len() {
                end = start;
                break;
            }
            let next = start + object_end(&text[start..]);
            if let Ok(row) = serde_json::from_slice::<Indexed<'_>>(&text[start..next]) {
                let facts = RowFacts {
                    index: row.index.as_deref(),
                    ..RowFacts::default()
                };
                let table = self.router.table(candidates, facts);
                if *first.get_or_insert(table) != table {
                    break;
                }
            }
            end = next;
        }
        let found = match first.flatten() {
            None => Ok(Rc::clone(fallback)),
            Some(name) => {
                let (database, table) = split_checked(name);
                self.table_in_reach(key, (database, Some(table)))
            }
        };
        (end, found)
    }

    /// Numbers of so many documents that no others of this core have.
    fn number_documents(&self, documents: u64) -> u64 {
        self.documents.replace(self.documents.get() + documents)
    }

    /// A row that is not there.
    fn reject_missing(&self, table: &Table, row: u64, errors: &mut RowErrors) {
        errors.push(row, RejectReason::NotObject, || {
            "the line behind the action holds no document".to_owned()
        });
        table.account().receive(0, 1);
        self.metrics.rows_received.add(1);
    }
}
