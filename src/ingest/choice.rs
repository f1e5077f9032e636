//! Chooses the table of a request, and of rows within it.

use std::rc::Rc;

use crate::access::{Key, Refusal};
use crate::http::head::Head;
use crate::http::status::Status;
use crate::http::uri;
use crate::routing::{Candidates, RequestFacts, RowFacts, split_checked};

use super::Core;
use super::port::Port;
use super::table::Table;

/// What decides on the tables of rows which do not all go to one.
#[derive(Clone, Copy)]
pub(super) struct Paths<'k> {
    pub candidates: Candidates,
    pub key: Option<&'k Key>,
}

impl Core {
    /// Whether rows under `key` may go to a table; missing parts of its name are the default table's.
    pub(super) fn reach(
        &self,
        key: &Key,
        database: Option<&str>,
        table: Option<&str>,
    ) -> Result<(), Refusal> {
        let default = self.catalog.default_table();
        key.reach(
            database.unwrap_or(&default.database),
            table.unwrap_or(&default.table),
            &default.database,
        )
    }

    /// The table `database.table` (missing parts are the default table's), if the key reaches it.
    pub(super) fn table_in_reach(
        &self,
        key: Option<&Key>,
        (database, table): (Option<&str>, Option<&str>),
    ) -> Result<Rc<Table>, TableError> {
        if let Some(key) = key {
            // Before it is looked for: whether a table exists is told to those who reach it.
            self.reach(key, database, table)
                .map_err(|_| TableError::OutOfReach)?;
        }
        self.table(database, table)
    }

    /// Database and table of a request: the one it names, else the configured one. With them the routes that its rows may take.
    pub(super) fn table_of<'a>(
        &'a self,
        port: &'a Port,
        key: Option<&'a Key>,
        head: &Head<'_>,
        named: uri::IngestPath<'a>,
    ) -> ((Option<&'a str>, Option<&'a str>), Option<Candidates>) {
        if named != uri::IngestPath::DEFAULT {
            return ((named.database, named.table), None);
        }
        let facts = RequestFacts {
            listener: &port.name,
            path: head.path,
            header: &|name| head.header(name),
        };
        let (table, candidates) = self.configured_table(port, key, &facts);
        (table, Some(candidates))
    }

    /// Database and table of rows that name none: a route's, else their key's, else their listener's, else the default one. With
    /// them the routes that they may take.
    pub(super) fn configured_table<'a>(
        &'a self,
        port: &'a Port,
        key: Option<&'a Key>,
        facts: &RequestFacts<'_>,
    ) -> ((Option<&'a str>, Option<&'a str>), Candidates) {
        let candidates = self.router.candidates(facts);
        let routed = self.router.table(candidates, RowFacts::default());
        let of_key = key.and_then(|key| key.table.as_deref());
        let table = match routed.or(of_key).or(port.table.as_deref()) {
            None => (None, None),
            Some(name) => {
                let (database, table) = split_checked(name);
                (database, Some(table))
            }
        };
        (table, candidates)
    }
}

/// Why a request's table cannot take rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableError {
    /// ClickHouse has no such table, or it is not served: 404.
    NotServed,
    /// ClickHouse has not been reached yet, or does not have the configured table yet: 503.
    NotYetKnown,
    /// The request's key does not reach it: 403.
    OutOfReach,
    /// Every slot for open tables holds rows: 503.
    TooManyOpen,
}

impl TableError {
    pub(super) fn status(self) -> Status {
        match self {
            TableError::NotServed => Status::NotFound,
            TableError::OutOfReach => Status::Forbidden,
            TableError::NotYetKnown | TableError::TooManyOpen => Status::ServiceUnavailable,
        }
    }

    pub(super) fn sentence(self) -> &'static str {
        match self {
            TableError::NotServed => {
                "no such table is served; it must be in the database given at start, or named by --table"
            }
            TableError::NotYetKnown => {
                "the table's columns are not known yet: ClickHouse has not answered, or does not have the table; try again"
            }
            TableError::OutOfReach => "the key does not reach this table",
            TableError::TooManyOpen => "too many tables are being written to at once; try again",
        }
    }
}
