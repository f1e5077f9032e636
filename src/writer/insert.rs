//! One connection to ClickHouse and one INSERT over it.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use crate::clickhouse::error::{Exception, Verdict};
use crate::clickhouse::packet::{Login, Query, Setting};
use crate::clickhouse::session::{Event, Session};
use crate::runtime::Connection;
use crate::schema::{PartitionKey, TableSchema};
use crate::tls;
use crate::wal::journal::Change;

use super::Writer;
use super::failover;
use super::feed::Feed;
use super::group::Group;
use super::queue::Announcement;
use super::store::ReadError;

/// Why an INSERT did not succeed. The rows stay with the caller.
#[derive(Debug)]
pub(super) enum Failure {
    /// ClickHouse did not answer: no connection, or it broke, or it spoke nonsense.
    Unreachable(String),
    /// ClickHouse answered.
    Exception { verdict: Verdict, exception: Exception },
    /// The rows cannot be read from the log.
    Log(ReadError),
}

impl Failure {
    pub(super) fn code(&self) -> i32 {
        match self {
            Failure::Unreachable(_) | Failure::Log(_) => 0,
            Failure::Exception { exception, .. } => exception.code,
        }
    }

    pub(super) fn verdict_name(&self) -> &'static str {
        match self {
            Failure::Unreachable(_) => "unreachable",
            Failure::Log(_) => "log",
            Failure::Exception { verdict, .. } => match verdict {
                Verdict::HoldAndRetry => "held",
                Verdict::OutcomeUnknown => "outcome_unknown",
                Verdict::Refused => "refused",
                Verdict::SchemaChanged => "schema_changed",
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(reason) => f.write_str(reason),
            Failure::Log(error) => error.fmt(f),
            // Code and name only: the message may quote rows.
            Failure::Exception { exception, .. } => f.write_str(&exception.summary()),
        }
    }
}

/// A lane's connection: made when needed, kept while it works, thrown away after any doubt.
#[derive(Default)]
pub(super) struct Link {
    open: Option<Open>,
    /// The one server it may connect to, because nobody else knows what became of the rows.
    pub(super) only: Option<usize>,
    /// The server of the last INSERT.
    pub(super) endpoint: usize,
    /// The last INSERT failed, and its rows may be in the table.
    pub(super) outcome_unknown: bool,
}

struct Open {
    connection: Connection,
    session: Session,
    /// Received and not yet taken by the session.
    inbox: BytesMut,
    out: Vec<u8>,
}

/// Bytes gathered before a write; a larger block goes from its own memory.
const GATHER_BYTES: usize = 64 * 1024;

/// ClickHouse's code for a column that its table does not have.
const NO_SUCH_COLUMN_IN_TABLE: i32 = 16;

/// What is received at once: replies to INSERTs are small.
const RECEIVE_BYTES: usize = 4 * 1024;

impl Link {
    /// One to this server and no other.
    pub(super) fn only(endpoint: usize) -> Link {
        Link {
            only: Some(endpoint),
            ..Link::default()
        }
    }

    /// The server of the next INSERT, as far as can be known.
    pub(super) fn next_server(&self, writer: &Writer) -> usize {
        let kept = self.open.as_ref().map(|_| self.endpoint);
        kept.unwrap_or_else(|| self.pick(writer))
    }

    fn pick(&self, writer: &Writer) -> usize {
        self.only.unwrap_or_else(|| writer.endpoints.borrow().pick())
    }

    /// Sends the group as one INSERT and waits for its outcome. `current` is the table as the catalog knows it.
    pub(super) async fn insert(
        &mut self,
        writer: &Writer,
        feed: &mut Feed,
        group: &Group,
        announcement: &mut Announcement,
        current: Option<&TableSchema>,
    ) -> Result<(), Failure> {
        self.outcome_unknown = false;
        let asked_ms = writer.clock.now_ms();
        let mut open = match self.open.take() {
            // A kept connection may have been closed by the server since. Asking costs a round trip of
            // microseconds once per INSERT, and a failure here is not an INSERT of unknown outcome.
            Some(mut open) => match open.ping(writer).await {
                Ok(()) => open,
                // Silent for all of the deadline: it would not greet a new connection either.
                Err(failure) if writer.clock.now_ms() - asked_ms >= writer.limits.connect_deadline_ms => {
                    return Err(failure);
                }
                Err(_) => self.connect(writer).await?,
            },
            None => self.connect(writer).await?,
        };
        if announcement.server != Some(self.endpoint) && !writer.replicas_share(group) {
            let send = Change::Send {
                token: announcement.token.clone(),
                server: writer.server_name(self.endpoint),
            };
            if !feed.announce(writer, vec![send]).await {
                return Err(Failure::Log(ReadError::Disk(io::Error::other(
                    "the journal cannot be written",
                ))));
            }
            announcement.server = Some(self.endpoint);
        }
        let result = open
            .insert(writer, feed, group, &announcement.token, current)
            .await;
        self.outcome_unknown = match &result {
            Ok(()) => false,
            Err(Failure::Unreachable(_) | Failure::Log(_)) => open.session.data_sent(),
            Err(Failure::Exception { verdict, .. }) => *verdict == Verdict::OutcomeUnknown,
        };
        // Not after an exception either: a session keeps the settings of its login, and a user who was read-only then
        // stays so, whatever the operator has mended since.
        if result.is_ok() {
            self.open = Some(open);
        }
        result
    }

    async fn connect(&mut self, writer: &Writer) -> Result<Open, Failure> {
        self.endpoint = self.pick(writer);
        Open::connect(writer, self.endpoint).await
    }
}

impl Open {
    async fn connect(writer: &Writer, index: usize) -> Result<Open, Failure> {
        let result = Open::try_connect(writer, index).await;
        match &result {
            Ok(_) => {
                writer.metrics.connects.add(1);
                failover::connected(writer, index);
            }
            Err(_) => writer.metrics.connects_failed.add(1),
        }
        result
    }

    async fn try_connect(writer: &Writer, index: usize) -> Result<Open, Failure> {
        let limits = &writer.limits;
        let endpoints = Arc::clone(writer.endpoints.borrow().list());
        let endpoint = &endpoints[index];
        let unreachable = |what: &str, error: &dyn fmt::Display| {
            Failure::Unreachable(format!("{what} {endpoint}: {error}"))
        };
        let address =
            resolve(&endpoint.authority()).map_err(|error| unreachable("cannot resolve", &error))?;
        let timeout = Duration::from_millis(limits.connect_deadline_ms);
        let mut connection = Connection::connect(address, timeout)
            .await
            .map_err(|error| unreachable("cannot connect to", &error))?;
        writer
            .watches
            .borrow_mut()
            .push(Rc::downgrade(connection.watch()));
        if let Some(trust) = &endpoint.tls {
            let refused = |error: &dyn fmt::Display| unreachable("cannot set up TLS with", error);
            let config = trust.config().map_err(|error| refused(&error))?;
            let name = tls::server_name(&endpoint.host).map_err(|error| refused(&error))?;
            connection
                .watch()
                .set_deadline(writer.clock.now_ms() + limits.connect_deadline_ms);
            connection
                .connect_tls(config, name)
                .await
                .map_err(|error| refused(&error))?;
        }
        let mut open = Open {
            connection,
            session: Session::new(),
            inbox: BytesMut::with_capacity(RECEIVE_BYTES),
            out: Vec::with_capacity(GATHER_BYTES),
        };
        open.allow(writer, limits.connect_deadline_ms);
        let login = Login {
            user: &endpoint.user,
            password: endpoint.password.expose(),
            database: &endpoint.database,
        };
        open.session.begin_hello(&mut open.out, &login);
        open.flush().await?;
        match open.event().await? {
            Event::Connected(_) => Ok(open),
            event => Err(unexpected(event)),
        }
    }

    async fn ping(&mut self, writer: &Writer) -> Result<(), Failure> {
        self.allow(writer, writer.limits.connect_deadline_ms);
        self.session.ping(&mut self.out);
        self.flush().await?;
        match self.event().await? {
            Event::Pong => Ok(()),
            event => Err(unexpected(event)),
        }
    }

    async fn insert(
        &mut self,
        writer: &Writer,
        feed: &mut Feed,
        group: &Group,
        token: &str,
        current: Option<&TableSchema>,
    ) -> Result<(), Failure> {
        let deadline_ms = writer.limits.insert_deadline_ms;
        let first = &group.parts[0].block.info;
        let schema = &first.schema;
        let settings = Settings::of(schema, group.partitions.count(), token);
        let text = insert_text(schema, first.omitted, current).ok_or_else(no_column_left)?;
        let query = Query {
            id: &writer.next_query_id(token),
            text: &text,
            settings: &settings.list(),
        };
        self.allow(writer, deadline_ms);
        self.session.begin_insert(&mut self.out, &query);
        self.flush().await?;
        loop {
            match self.event().await? {
                Event::Ready(_) => break,
                Event::Progress(_) => self.allow(writer, deadline_ms),
                event => return Err(unexpected(event)),
            }
        }
        let mut parts = &group.parts[..];
        while !parts.is_empty() {
            let (count, bytes, ranges) = feed.read(parts).await.map_err(Failure::Log)?;
            for range in ranges {
                self.allow(writer, deadline_ms);
                self.send(&bytes[range]).await?;
            }
            parts = &parts[count..];
        }
        self.session.end_insert(&mut self.out);
        self.flush().await?;
        loop {
            self.allow(writer, deadline_ms);
            match self.event().await? {
                Event::Finished => return Ok(()),
                Event::Progress(_) => {}
                event => return Err(unexpected(event)),
            }
        }
    }

    /// ClickHouse must have made progress within `ms` from now.
    fn allow(&self, writer: &Writer, ms: u64) {
        self.connection.watch().set_deadline(writer.clock.now_ms() + ms);
    }

    async fn send(&mut self, frames: &[u8]) -> Result<(), Failure> {
        self.session.put_data_header(&mut self.out);
        if self.out.len() + frames.len() <= GATHER_BYTES {
            self.out.extend_from_slice(frames);
            return Ok(());
        }
        self.flush().await?;
        self.write(frames).await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let out = std::mem::take(&mut self.out);
        let result = self.write(&out).await;
        self.out = out;
        self.out.clear();
        result
    }

    /// Writes all of `bytes` while taking what ClickHouse says in the meantime: if nobody read its progress and
    /// exceptions, both sides could wait for the other to read.
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let mut received = [0; RECEIVE_BYTES];
            let step = poll_fn(|cx| {
                if let Poll::Ready(written) = self.connection.poll_write(cx, bytes) {
                    return Poll::Ready(written.map(Step::Wrote));
                }
                self.connection
                    .poll_read(cx, &mut received)
                    .map(|read| read.map(Step::Read))
            });
            match step.await {
                Ok(Step::Wrote(0) | Step::Read(0)) => {
                    return Err(broken(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(Step::Wrote(written)) => bytes = &bytes[written..],
                Ok(Step::Read(read)) => {
                    self.inbox.extend_from_slice(&received[..read]);
                    self.heed()?;
                }
                Err(error) => return Err(self.last_words(error).await),
            }
        }
        Ok(())
    }

    /// Takes what ClickHouse said while data were sent: progress is no news, an exception ends the INSERT.
    fn heed(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.take_event()? {
            match event {
                Event::Progress(_) => {}
                Event::Exception(exception) => return Err(self.failed(exception)),
                event => return Err(unexpected(event)),
            }
        }
        Ok(())
    }

    /// Why a write failed: the exception ClickHouse sent before it closed the connection, if it sent one. Without
    /// this a block that ClickHouse refuses halfway would be sent again for ever.
    async fn last_words(&mut self, error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::TimedOut {
            return broken(error);
        }
        let mut received = [0; RECEIVE_BYTES];
        // The peer has closed, so what is left ends soon; and the watch's deadline holds.
        while let Ok(read @ 1..) = self.connection.read(&mut received).await {
            self.inbox.extend_from_slice(&received[..read]);
            if let Err(failure) = self.heed() {
                return failure;
            }
        }
        broken(error)
    }

    /// The next event, reading as needed.
    async fn event(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.take_event()? {
                return match event {
                    Event::Exception(exception) => Err(self.failed(exception)),
                    event => Ok(event),
                };
            }
            let mut received = [0; RECEIVE_BYTES];
            match self.connection.read(&mut received).await.map_err(broken)? {
                0 => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
                read => self.inbox.extend_from_slice(&received[..read]),
            }
        }
    }

    fn take_event(&mut self) -> Result<Option<Event>, Failure> {
        let (consumed, event) = self
            .session
            .feed(&self.inbox)
            .map_err(|error| Failure::Unreachable(format!("ClickHouse broke its protocol: {error}")))?;
        self.inbox.advance(consumed);
        Ok(event)
    }

    fn failed(&self, exception: Exception) -> Failure {
        let verdict = exception.verdict();
        let verdict = if self.session.data_sent() {
            verdict.after_data()
        } else {
            verdict
        };
        Failure::Exception { verdict, exception }
    }
}

enum Step {
    Wrote(usize),
    Read(usize),
}

fn broken(error: io::Error) -> Failure {
    Failure::Unreachable(format!("the connection to ClickHouse broke: {error}"))
}

fn unexpected(event: Event) -> Failure {
    Failure::Unreachable(format!("ClickHouse answered out of turn: {event:?}"))
}

/// Resolution blocks, for as long as it takes to read a hosts file or ask a name server; it happens once per connection.
fn resolve(authority: &str) -> io::Result<SocketAddr> {
    authority
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the name has no address"))
}

/// `INSERT INTO ... (columns) FORMAT Native`, without the columns whose default ClickHouse computes, and without those
/// that the `current` table no longer has: ClickHouse reads over them in the block, so that dropping a column
/// drops its values and not the rows. `None` when no column is left: ClickHouse knows no INSERT of rows without columns.
fn insert_text(schema: &TableSchema, omitted: u64, current: Option<&TableSchema>) -> Option<String> {
    let exists = |name: &str| current.is_none_or(|now| now.columns.iter().any(|column| column.name == name));
    let mut text = format!(
        "INSERT INTO {}.{} (",
        quoted(&schema.name.database),
        quoted(&schema.name.table)
    );
    let mut with_default = 0;
    let mut separator = "";
    for column in &schema.columns {
        if column.has_default {
            with_default += 1;
            // Only the first 64 columns with a default have a bit; later ones are always sent.
            if with_default <= u64::BITS && omitted >> (with_default - 1) & 1 == 1 {
                continue;
            }
        }
        if !exists(&column.name) {
            continue;
        }
        text.push_str(separator);
        text.push_str(&quoted(&column.name));
        separator = ", ";
    }
    text.push_str(") FORMAT Native");
    (!separator.is_empty()).then_some(text)
}

/// The table has none of the block's columns. It is tried again like anything the table has changed too much for, and
/// not for ever: the table's other rows wait behind it.
fn no_column_left() -> Failure {
    Failure::Exception {
        verdict: Verdict::SchemaChanged,
        exception: Exception {
            code: NO_SUCH_COLUMN_IN_TABLE,
            name: "Ringhouse".to_owned(),
            message: "the table has none of the columns any more that the row was received for".to_owned(),
            nested: None,
        },
    }
}

/// Whether the rows leave every column to its DEFAULT: there is no column to name then, and no INSERT without one.
pub(super) fn has_no_values(group: &Group) -> bool {
    let first = &group.parts[0].block.info;
    insert_text(&first.schema, first.omitted, None).is_none()
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// The settings of an INSERT: every one that its meaning depends on, so that no profile changes it.
struct Settings<'a> {
    token: &'a str,
    partitions_max: &'static str,
}

impl<'a> Settings<'a> {
    fn of(schema: &TableSchema, partitions: usize, token: &'a str) -> Self {
        // 0 is no limit: of a key this program does not compute it cannot keep to one, nor where ClickHouse
        // computes the time itself, by its DEFAULT.
        let partitions_max = if schema.partition == PartitionKey::Opaque || partitions == 0 {
            "0"
        } else {
            "100"
        };
        Settings {
            token,
            partitions_max,
        }
    }

    fn list(&self) -> [Setting<'_>; 11] {
        [
            // One INSERT is one INSERT: the server must not collect them again (the default since 26.x).
            ("async_insert", "0"),
            ("insert_deduplicate", "1"),
            ("insert_deduplication_token", self.token),
            // How the server squashes blocks decides the parts, and the parts decide what a repeated token drops.
            ("min_insert_block_size_rows", "1048449"),
            ("min_insert_block_size_bytes", "268402944"),
            ("max_insert_block_size", "1048449"),
            ("max_partitions_per_insert_block", self.partitions_max),
            // Absent values were made defaults where the block was built.
            ("insert_null_as_default", "1"),
            // Columns of the block that the table has lost since.
            ("input_format_skip_unknown_fields", "1"),
            // One row with a key twice in a JSON column would otherwise fail the INSERT (code 117).
            ("type_json_skip_duplicated_paths", "1"),
            ("send_logs_level", "none"),
        ]
        .map(|(name, value)| Setting {
            name,
            value,
            important: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{RawColumn, TableName};

    #[test]
    fn the_insert_names_its_columns_without_the_omitted_ones() {
        let raw = |name: &str, default: &str| RawColumn {
            name: name.into(),
            type_name: "String".into(),
            default_kind: default.into(),
            default_expression: String::new(),
        };
        let name = TableName {
            database: "d".into(),
            table: "a`b".into(),
        };
        let columns = [
            raw("one", ""),
            raw("two", "DEFAULT"),
            raw("three", "DEFAULT"),
            raw("four", ""),
        ];
        let schema = TableSchema::from_columns(name, &columns, "").expect("all columns are Strings");
        let text = |omitted, current| insert_text(&schema, omitted, current).expect("columns are left");
        assert_eq!(
            text(0, None),
            "INSERT INTO `d`.`a\\`b` (`one`, `two`, `three`, `four`) FORMAT Native"
        );
        assert_eq!(
            text(0b01, None),
            "INSERT INTO `d`.`a\\`b` (`one`, `three`, `four`) FORMAT Native"
        );
        assert_eq!(
            text(0b10, None),
            "INSERT INTO `d`.`a\\`b` (`one`, `two`, `four`) FORMAT Native"
        );
        let now =
            TableSchema::from_columns(schema.name.clone(), &columns[2..], "").expect("they are Strings");
        assert_eq!(
            text(0b10, Some(&now)),
            "INSERT INTO `d`.`a\\`b` (`four`) FORMAT Native"
        );
        let gone = TableSchema::from_columns(schema.name.clone(), &[raw("other", "")], "").expect("a String");
        assert_eq!(insert_text(&schema, 0, Some(&gone)), None);
    }
}
