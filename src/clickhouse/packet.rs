//! The packets of the native protocol: what this client writes and what servers answer.
//!
//! # Revision
//!
//! Each side names its protocol revision in its hello, and both then speak the smaller one. Ours is 54429,
//! the first at which settings travel as text, so that a setting can be sent without knowing its type.
//! Every later revision up to 54450 only adds fields that we would fill with a constant (interserver
//! secret, trace context, distributed depth, query start time). Two later ones would cost something:
//! from 54451 the server sends ProfileEvents during an INSERT, and from 54454 every column of a block
//! carries a byte that says how it is serialized. Below both, the bytes of a block are the same for every
//! server, so a block can be built before it is known which server takes it. The addendum after the
//! handshake exists from 54458 on: there is none to send.
//!
//! The oldest server accepted is 54412 (18.16 of 2018). It takes settings as typed binary values; it is sent
//! an empty list, for it knows none of those that matter to us.
//!
//! Source: ClickHouse `Core/ProtocolDefines.h`, `Core/Protocol.h`, `Interpreters/ClientInfo.cpp`,
//! `Server/TCPHandler.cpp`.

use super::error::{Exception, ProtocolError};
use super::frame;
use super::wire::{Decoded, Reader, Stop, decode, put_string, put_varint};

/// The protocol revision this client names in its hello.
pub const CLIENT_REVISION: u64 = 54429;

/// The oldest server this client talks to. Its hello has every field ours reads.
pub const SERVER_REVISION_MIN: u64 = 54412;

/// From here on Progress counts written rows.
const REVISION_WRITE_INFO: u64 = 54420;
/// From here on settings are text.
const REVISION_SETTINGS_AS_STRINGS: u64 = 54429;

/// Columns of one block: far above any table that log lines go to.
const COLUMNS_MAX: u64 = 65_536;
/// Decompressed bytes of one block in a reply: [`COLUMNS_MAX`] names and types of 256 bytes.
const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Exceptions within one another.
const EXCEPTION_DEPTH_MAX: usize = 32;

mod client {
    pub const HELLO: u64 = 0;
    pub const QUERY: u64 = 1;
    pub const DATA: u64 = 2;
    pub const CANCEL: u64 = 3;
    pub const PING: u64 = 4;
}

mod server {
    pub const HELLO: u64 = 0;
    pub const DATA: u64 = 1;
    pub const EXCEPTION: u64 = 2;
    pub const PROGRESS: u64 = 3;
    pub const PONG: u64 = 4;
    pub const END_OF_STREAM: u64 = 5;
    pub const PROFILE_INFO: u64 = 6;
    pub const TOTALS: u64 = 7;
    pub const EXTREMES: u64 = 8;
    pub const LOG: u64 = 10;
    pub const TABLE_COLUMNS: u64 = 11;
}

/// Who connects, and to which database.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// User name; `default` when nothing else is configured.
    pub user: &'a str,
    /// Password, empty for none.
    pub password: &'a str,
    /// Database that unqualified table names are looked up in.
    pub database: &'a str,
}

/// One query-level setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'a> {
    /// Name as in `system.settings`.
    pub name: &'a str,
    /// Value as text.
    pub value: &'a str,
    /// A server that does not know it must refuse the query rather than ignore it.
    pub important: bool,
}

/// A query and what goes with it.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Id in `system.query_log`; empty lets the server choose.
    pub id: &'a str,
    /// SQL.
    pub text: &'a str,
    /// Settings for this query. Left out for servers older than 54429.
    pub settings: &'a [Setting<'a>],
}

/// Appends the client's hello.
pub fn put_hello(out: &mut Vec<u8>, login: &Login<'_>) {
    put_varint(out, client::HELLO);
    put_client_name_and_version(out);
    put_string(out, login.database);
    put_string(out, login.user);
    put_string(out, login.password);
}

/// Appends a query and the end of its (never any) external tables.
///
/// `revision` is the negotiated one. The query asks for compression: data blocks of both sides are frames.
pub fn put_query(out: &mut Vec<u8>, revision: u64, query: &Query<'_>) {
    put_varint(out, client::QUERY);
    put_string(out, query.id);
    put_client_info(out);
    if revision >= REVISION_SETTINGS_AS_STRINGS {
        for setting in query.settings {
            assert!(!setting.name.is_empty(), "an empty name ends the list");
            put_setting(out, setting);
        }
        // Last, so that it wins: a profile may have chosen a method that frames are not read in here.
        let name = "network_compression_method";
        put_setting(
            out,
            &Setting {
                name,
                value: "LZ4",
                important: false,
            },
        );
    }
    put_string(out, "");
    const STAGE_COMPLETE: u64 = 2;
    put_varint(out, STAGE_COMPLETE);
    const COMPRESSION_ON: u64 = 1;
    put_varint(out, COMPRESSION_ON);
    put_string(out, query.text);
    put_empty_block(out);
}

fn put_setting(out: &mut Vec<u8>, setting: &Setting<'_>) {
    put_string(out, setting.name);
    put_varint(out, u64::from(setting.important));
    put_string(out, setting.value);
}

/// Appends what precedes the frames of a block: the packet's number and an empty table name.
pub fn put_data_header(out: &mut Vec<u8>) {
    put_varint(out, client::DATA);
    put_string(out, "");
}

/// Appends the block of no columns that ends the data of an INSERT, and the external tables of a query.
pub fn put_empty_block(out: &mut Vec<u8>) {
    put_data_header(out);
    // BlockInfo (field 1: no overflow row, field 2: bucket -1, 0: end), no columns, no rows.
    frame::put_plain_frame(&[1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0], out);
}

/// Appends a request to stop the running query.
pub fn put_cancel(out: &mut Vec<u8>) {
    put_varint(out, client::CANCEL);
}

/// Appends a ping.
pub fn put_ping(out: &mut Vec<u8>) {
    put_varint(out, client::PING);
}

/// Newer servers refuse a query whose client name or version differ from the hello's (code 702).
fn put_client_name_and_version(out: &mut Vec<u8>) {
    put_string(out, "ringhouse");
    put_varint(out, version_number(env!("CARGO_PKG_VERSION_MAJOR")));
    put_varint(out, version_number(env!("CARGO_PKG_VERSION_MINOR")));
    put_varint(out, CLIENT_REVISION);
}

fn version_number(text: &str) -> u64 {
    text.parse().expect("cargo gives version numbers in decimal")
}

fn put_client_info(out: &mut Vec<u8>) {
    const INITIAL_QUERY: u8 = 1;
    out.push(INITIAL_QUERY);
    put_string(out, ""); // initial user: the server fills in the one logged in
    put_string(out, ""); // initial query id: likewise
    put_string(out, "0.0.0.0:0"); // initial address: likewise, but it must parse
    const INTERFACE_TCP: u8 = 1;
    out.push(INTERFACE_TCP);
    put_string(out, ""); // OS user
    put_string(out, ""); // host name
    put_client_name_and_version(out);
    put_string(out, ""); // quota key
    put_varint(out, version_number(env!("CARGO_PKG_VERSION_PATCH")));
}

/// A packet of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Answer to the client's hello.
    Hello(ServerHello),
    /// The head of a block; the rows of a block that has any were skipped.
    Data(BlockHead),
    /// The query, or the login, failed.
    Exception(Exception),
    /// Rows read and written since the packet before.
    Progress(Progress),
    /// Answer to a ping.
    Pong,
    /// The query is done.
    EndOfStream,
    /// Statistics, log lines, totals, extremes or defaults of columns: read over.
    Skipped,
}

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHello {
    /// Product, `ClickHouse`.
    pub name: String,
    /// Version: year, month, patch.
    pub version: (u64, u64, u64),
    /// Newest protocol revision the server speaks.
    pub revision: u64,
    /// Time zone of DateTime columns that name none.
    pub timezone: String,
    /// Configured display name, by default the host's.
    pub display_name: String,
}

/// Columns of a block. The sample block of an INSERT has the columns it expects and no rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHead {
    /// Columns, in order.
    pub columns: Vec<BlockColumn>,
    /// Rows.
    pub rows: u64,
}

/// Name and type of one column of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockColumn {
    /// Column name, unquoted.
    pub name: String,
    /// Type as ClickHouse prints it.
    pub type_name: String,
}

/// Progress since the last such packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows read. For an INSERT: received.
    pub read_rows: u64,
    /// Bytes read, uncompressed.
    pub read_bytes: u64,
    /// Rows written, of servers from 54420 on.
    pub written_rows: u64,
    /// Bytes written, of servers from 54420 on.
    pub written_bytes: u64,
}

/// Decodes the packet that `bytes` start with, by the negotiated `revision`.
///
/// `scratch` takes decompressed blocks; what it held is lost. Before the handshake `revision` is not
/// looked at, for a hello and an exception are the same in all of them.
pub fn decode_packet(
    bytes: &[u8],
    revision: u64,
    scratch: &mut Vec<u8>,
) -> Result<Decoded<Packet>, ProtocolError> {
    decode(bytes, |reader| {
        Ok(match reader.varint()? {
            server::HELLO => Packet::Hello(read_hello(reader)?),
            server::DATA => Packet::Data(read_data(reader, scratch)?),
            server::EXCEPTION => Packet::Exception(read_exception(reader)?),
            server::PROGRESS => Packet::Progress(read_progress(reader, revision)?),
            server::PONG => Packet::Pong,
            server::END_OF_STREAM => Packet::EndOfStream,
            server::PROFILE_INFO => skip_profile_info(reader)?,
            server::TOTALS | server::EXTREMES => {
                read_data(reader, scratch)?;
                Packet::Skipped
            }
            server::LOG => skip_log(reader)?,
            server::TABLE_COLUMNS => skip_table_columns(reader)?,
            number => return Err(ProtocolError::UnknownPacket { number }.into()),
        })
    })
}

fn read_hello(reader: &mut Reader<'_>) -> Result<ServerHello, Stop> {
    let name = reader.text()?;
    let (major, minor, revision) = (reader.varint()?, reader.varint()?, reader.varint()?);
    if revision < SERVER_REVISION_MIN {
        return Err(ProtocolError::ServerTooOld { revision }.into());
    }
    let (timezone, display_name) = (reader.text()?, reader.text()?);
    let patch = reader.varint()?;
    Ok(ServerHello {
        name,
        version: (major, minor, patch),
        revision,
        timezone,
        display_name,
    })
}

/// A table name, and a block in as many frames as it takes.
fn read_data(reader: &mut Reader<'_>, scratch: &mut Vec<u8>) -> Result<BlockHead, Stop> {
    reader.string()?;
    scratch.clear();
    loop {
        frame::read_frame(reader, scratch)?;
        match decode(scratch, read_block)? {
            Decoded::Complete(head, consumed) if consumed == scratch.len() => return Ok(head),
            // The next block starts a frame of its own.
            Decoded::Complete(..) => return Err(ProtocolError::BlockTrailed.into()),
            Decoded::Partial if scratch.len() > BLOCK_BYTES_MAX => {
                return Err(ProtocolError::BlockTooLarge.into());
            }
            Decoded::Partial => {}
        }
    }
}

fn read_block(reader: &mut Reader<'_>) -> Result<BlockHead, Stop> {
    loop {
        match reader.varint()? {
            0 => break,
            1 => drop(reader.bool()?), // is_overflows
            2 => drop(reader.i32()?),  // bucket_num
            field => return Err(ProtocolError::BlockInfoField { field }.into()),
        }
    }
    let columns = reader.varint()?;
    if columns > COLUMNS_MAX {
        return Err(ProtocolError::TooManyColumns { columns }.into());
    }
    let rows = reader.varint()?;
    let mut head = BlockHead {
        columns: Vec::new(),
        rows,
    };
    for _ in 0..columns {
        let (name, type_name) = (reader.text()?, reader.text()?);
        if rows > 0 {
            skip_values(reader, &type_name, rows)?;
        }
        head.columns.push(BlockColumn { name, type_name });
    }
    Ok(head)
}

/// Reads over `rows` values. Knows the types of log lines; an INSERT gets no other rows back.
fn skip_values(reader: &mut Reader<'_>, type_name: &str, rows: u64) -> Result<(), Stop> {
    let base = type_name
        .split('(')
        .next()
        .expect("split gives at least one part");
    let width = match base {
        "String" => {
            for _ in 0..rows {
                reader.string()?;
            }
            return Ok(());
        }
        "UInt8" | "Int8" | "Bool" | "Enum8" => 1,
        "UInt16" | "Int16" | "Enum16" | "Date" => 2,
        "UInt32" | "Int32" | "Float32" | "DateTime" | "Date32" | "IPv4" => 4,
        "UInt64" | "Int64" | "Float64" | "DateTime64" => 8,
        "UUID" | "IPv6" => 16,
        _ => {
            return Err(ProtocolError::RowsNotReadable {
                type_name: type_name.to_owned(),
            }
            .into());
        }
    };
    // A product that does not fit is more than will ever arrive; the caller's bound ends it.
    let bytes = rows
        .checked_mul(width)
        .and_then(|bytes| usize::try_from(bytes).ok());
    reader.take(bytes.ok_or(ProtocolError::BlockTooLarge)?)?;
    Ok(())
}

fn read_exception(reader: &mut Reader<'_>) -> Result<Exception, Stop> {
    let mut chain = Vec::new();
    loop {
        if chain.len() == EXCEPTION_DEPTH_MAX {
            return Err(ProtocolError::ExceptionTooDeep.into());
        }
        let exception = Exception {
            code: reader.i32()?,
            name: reader.text()?,
            message: reader.text()?,
            nested: None,
        };
        reader.string()?; // stack trace
        chain.push(exception);
        if !reader.bool()? {
            break;
        }
    }
    let outermost = chain.into_iter().rev().reduce(|inner, mut outer| {
        outer.nested = Some(Box::new(inner));
        outer
    });
    Ok(outermost.expect("the loop pushes before it ends"))
}

fn read_progress(reader: &mut Reader<'_>, revision: u64) -> Result<Progress, Stop> {
    let (read_rows, read_bytes) = (reader.varint()?, reader.varint()?);
    reader.varint()?; // rows to read in total
    let mut progress = Progress {
        read_rows,
        read_bytes,
        ..Progress::default()
    };
    if revision >= REVISION_WRITE_INFO {
        progress.written_rows = reader.varint()?;
        progress.written_bytes = reader.varint()?;
    }
    Ok(progress)
}

fn skip_profile_info(reader: &mut Reader<'_>) -> Result<Packet, Stop> {
    for _ in ["rows", "blocks", "bytes"] {
        reader.varint()?;
    }
    reader.bool()?; // a limit was applied
    reader.varint()?; // rows before the limit
    reader.bool()?; // that number was calculated
    Ok(Packet::Skipped)
}

/// Log lines come when the user's profile sets `send_logs_level`. Their blocks are never compressed.
fn skip_log(reader: &mut Reader<'_>) -> Result<Packet, Stop> {
    reader.string()?;
    read_block(reader)?;
    Ok(Packet::Skipped)
}

fn skip_table_columns(reader: &mut Reader<'_>) -> Result<Packet, Stop> {
    reader.string()?; // table name
    reader.string()?; // columns and their defaults, as text
    Ok(Packet::Skipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hello of 26.7 and of 18.16, as received.
    const HELLO_26_7: &[u8] = b"\0\x0aClickHouse\x1a\x07\xd8\xa9\x03\x07Etc/UTC\x02vm\x02";
    const HELLO_18_16: &[u8] = b"\0\x0aClickHouse\x12\x10\x8c\xa9\x03\x07Etc/UTC\x02vm\x01";

    /// Sample block of (id UInt64, body String), as received from both.
    const SAMPLE: &[u8] = b"\x01\0\xea\xb7\xf5\xb9\x7d\x57\x1e\xe6\x1c\xfa\xa6\xc9\x30\x5e\xa3\x82\
        \x82\x2b\0\0\0\x20\0\0\0\xf0\x11\x01\0\x02\xff\xff\xff\xff\0\x02\0\x02id\x06UInt64\x04body\x06String";

    /// Defaults of columns, as received from 26.7.
    const TABLE_COLUMNS: &[u8] =
        b"\x0b\0\x3fcolumns format version: 1\n2 columns:\n`id` UInt64\n`body` String\n";

    const LOG: &[u8] = b"\x0a\0\x01\0\x02\xff\xff\xff\xff\0\x08\x01\
        \x0aevent_time\x08DateTime\xbf\x2c\x01\x6b\
        \x17event_time_microseconds\x06UInt32\xc9\xc0\x03\0\
        \x09host_name\x06String\x02vm\
        \x08query_id\x06String\x02id\
        \x09thread_id\x06UInt64\x3e\x64\0\0\0\0\0\0\
        \x08priority\x04Int8\x07\
        \x06source\x06String\x0cexecuteQuery\
        \x04text\x06String\x05hello";

    const EXCEPTION: &[u8] = b"\x02\x3c\0\0\0\x0dDB::Exception\x07no such\x02st\x01\
        \xd5\0\0\0\x03DNS\x04host\0\0";

    #[test]
    fn reads_the_hello_of_a_new_and_of_the_oldest_server() {
        let hello = |version, revision| {
            Packet::Hello(ServerHello {
                name: "ClickHouse".into(),
                version,
                revision,
                timezone: "Etc/UTC".into(),
                display_name: "vm".into(),
            })
        };
        assert_eq!(complete(HELLO_26_7), hello((26, 7, 2), 54488));
        assert_eq!(complete(HELLO_18_16), hello((18, 16, 1), 54412));
    }

    #[test]
    fn rejects_a_server_older_than_the_oldest() {
        let mut hello = HELLO_18_16.to_vec();
        hello[14] -= 1;
        let error = decode_packet(&hello, CLIENT_REVISION, &mut Vec::new());
        assert_eq!(error, Err(ProtocolError::ServerTooOld { revision: 54411 }));
    }

    #[test]
    fn reads_every_kind_of_packet_and_every_prefix_of_it_is_partial() {
        let exception = Packet::Exception(Exception {
            code: 60,
            name: "DB::Exception".into(),
            message: "no such".into(),
            nested: Some(Box::new(Exception {
                code: 213,
                name: "DNS".into(),
                message: "host".into(),
                nested: None,
            })),
        });
        let progress = Packet::Progress(Progress {
            read_rows: 1,
            read_bytes: 300,
            written_rows: 4,
            written_bytes: 5,
        });
        let expected: &[(&[u8], Packet)] = &[
            (HELLO_26_7, complete(HELLO_26_7)),
            (SAMPLE, Packet::Data(sample())),
            (EXCEPTION, exception),
            (b"\x03\x01\xac\x02\x03\x04\x05", progress),
            (b"\x04", Packet::Pong),
            (b"\x05", Packet::EndOfStream),
            (b"\x06\x01\x02\x03\x01\x80\x01\x01", Packet::Skipped),
            (TABLE_COLUMNS, Packet::Skipped),
            (LOG, Packet::Skipped),
            (&[b"\x07", &SAMPLE[1..]].concat(), Packet::Skipped),
            (&[b"\x08", &SAMPLE[1..]].concat(), Packet::Skipped),
        ];
        for (bytes, packet) in expected {
            for end in 0..bytes.len() {
                let decoded = decode_packet(&bytes[..end], CLIENT_REVISION, &mut Vec::new());
                assert_eq!(decoded, Ok(Decoded::Partial), "{end} bytes of {packet:?}");
            }
            // What follows belongs to the next packet.
            let decoded = decode_packet(&[bytes, &b"\xff"[..]].concat(), CLIENT_REVISION, &mut Vec::new());
            assert_eq!(decoded, Ok(Decoded::Complete(packet.clone(), bytes.len())));
        }
    }

    #[test]
    fn progress_of_the_oldest_server_has_no_written_rows() {
        let decoded = decode_packet(b"\x03\x01\x02\x03\x04", SERVER_REVISION_MIN, &mut Vec::new());
        let progress = Progress {
            read_rows: 1,
            read_bytes: 2,
            ..Progress::default()
        };
        assert_eq!(decoded, Ok(Decoded::Complete(Packet::Progress(progress), 4)));
    }

    #[test]
    fn reads_a_block_cut_into_many_frames() {
        let mut block = vec![0]; // no BlockInfo fields
        put_varint(&mut block, 300);
        put_varint(&mut block, 0);
        for column in 0..300 {
            put_string(&mut block, format!("column {column}"));
            put_string(&mut block, "Array(LowCardinality(String))");
        }
        let mut bytes = b"\x01\0".to_vec();
        block
            .chunks(100)
            .for_each(|piece| frame::put_plain_frame(piece, &mut bytes));
        let Packet::Data(head) = complete(&bytes) else {
            panic!("not a block")
        };
        assert_eq!((head.columns.len(), head.rows), (300, 0));
        assert_eq!(head.columns[299].name, "column 299");
    }

    #[test]
    fn rows_are_skipped_when_their_width_is_known_and_refused_otherwise() {
        let block = |type_name: &str, values: &[u8]| {
            let mut block = vec![0, 1, 2]; // no BlockInfo fields, one column, two rows
            put_string(&mut block, "c");
            put_string(&mut block, type_name);
            block.extend_from_slice(values);
            let mut bytes = b"\x01\0".to_vec();
            frame::put_plain_frame(&block, &mut bytes);
            decode_packet(&bytes, CLIENT_REVISION, &mut Vec::new())
        };
        let known: [(&str, &[u8]); 4] = [
            ("DateTime('UTC')", &[0; 8]),
            ("String", b"\x01a\x00"),
            ("UUID", &[0; 32]),
            ("Enum8('a' = 1)", &[1; 2]),
        ];
        for (type_name, values) in known {
            assert!(
                matches!(
                    block(type_name, values),
                    Ok(Decoded::Complete(Packet::Data(_), _))
                ),
                "{type_name}"
            );
            // One byte more belongs to nothing.
            let over = [values, b"\0"].concat();
            assert_eq!(
                block(type_name, &over),
                Err(ProtocolError::BlockTrailed),
                "{type_name}"
            );
        }
        let type_name = "Nullable(String)".to_owned();
        assert_eq!(
            block(&type_name, &[0; 99]),
            Err(ProtocolError::RowsNotReadable { type_name })
        );
    }

    #[test]
    fn rejects_what_no_server_sends() {
        let error = |bytes: &[u8]| decode_packet(bytes, CLIENT_REVISION, &mut Vec::new()).unwrap_err();
        assert_eq!(error(b"\x0e"), ProtocolError::UnknownPacket { number: 14 });
        assert_eq!(error(b"\x0a\0\x03"), ProtocolError::BlockInfoField { field: 3 });
        assert_eq!(
            error(b"\x0a\0\0\x81\x80\x04"),
            ProtocolError::TooManyColumns { columns: 65_537 }
        );
        let deep = [&b"\x02"[..], &b"\0\0\0\0\0\0\0\x01".repeat(EXCEPTION_DEPTH_MAX)].concat();
        assert_eq!(error(&deep), ProtocolError::ExceptionTooDeep);
        let rows = b"\x0a\0\0\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01c\x06UInt64";
        assert_eq!(error(rows), ProtocolError::BlockTooLarge);
    }

    #[test]
    fn writes_the_hello_that_was_recorded() {
        let mut out = Vec::new();
        put_hello(
            &mut out,
            &Login {
                user: "u",
                password: "pw",
                database: "db",
            },
        );
        assert_eq!(out, b"\0\x09ringhouse\0\x01\x9d\xa9\x03\x02db\x01u\x02pw");
    }

    #[test]
    fn writes_the_queries_that_were_recorded_for_a_new_and_for_the_oldest_server() {
        let settings = [
            Setting {
                name: "async_insert",
                value: "0",
                important: true,
            },
            Setting {
                name: "log_comment",
                value: "x",
                important: false,
            },
        ];
        let query = Query {
            id: "q1",
            text: "INSERT",
            settings: &settings,
        };
        let before = b"\x01\x02q1\x01\0\0\x090.0.0.0:0\x01\0\0\x09ringhouse\0\x01\x9d\xa9\x03\0\0";
        let as_text =
            b"\x0casync_insert\x01\x010\x0blog_comment\0\x01x\x1anetwork_compression_method\0\x03LZ4";
        let after = b"\0\x02\x01\x06INSERT\x02\0\
            \xbb\x94\x89\xa1\xc1\x69\xe9\0\xec\xaf\xf1\x68\x95\x6a\x64\x74\
            \x02\x13\0\0\0\x0a\0\0\0\x01\0\x02\xff\xff\xff\xff\0\0\0";

        let mut out = Vec::new();
        put_query(&mut out, CLIENT_REVISION, &query);
        assert_eq!(out, [&before[..], as_text, after].concat());
        out.clear();
        put_query(&mut out, SERVER_REVISION_MIN, &query);
        assert_eq!(out, [&before[..], after].concat());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(number in 0u8..16, mut bytes: Vec<u8>, revision in 54412u64..54430) {
            bytes.insert(0, number);
            if let Ok(Decoded::Complete(_, consumed)) = decode_packet(&bytes, revision, &mut Vec::new()) {
                prop_assert!(consumed <= bytes.len());
            }
        }

        #[test]
        fn a_damaged_packet_never_panics(which in 0usize..5, at: prop::sample::Index, byte: u8) {
            let mut bytes = [HELLO_26_7, SAMPLE, TABLE_COLUMNS, LOG, EXCEPTION][which].to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode_packet(&bytes, CLIENT_REVISION, &mut Vec::new());
        }
    }

    fn complete(bytes: &[u8]) -> Packet {
        match decode_packet(bytes, CLIENT_REVISION, &mut Vec::new()) {
            Ok(Decoded::Complete(packet, size)) if size == bytes.len() => packet,
            other => panic!("{other:?}"),
        }
    }

    fn sample() -> BlockHead {
        let column = |name: &str, type_name: &str| BlockColumn {
            name: name.into(),
            type_name: type_name.into(),
        };
        BlockHead {
            columns: vec![column("id", "UInt64"), column("body", "String")],
            rows: 0,
        }
    }
}
