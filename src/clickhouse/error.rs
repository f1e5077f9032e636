//! What can go wrong with ClickHouse, sorted by what to do about it.

use super::session::Phase;
use std::fmt;

/// An exception ClickHouse sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Number in ClickHouse's `Common/ErrorCodes.cpp`.
    pub code: i32,
    /// C++ class, almost always `DB::Exception`.
    pub name: String,
    /// Message without the stack trace. It may quote rows and values: not for logs.
    pub message: String,
    /// What caused it. Today's servers put that into the message instead.
    pub nested: Option<Box<Exception>>,
}

impl Exception {
    /// What to do about it, when no data were sent. Of nested exceptions the outermost decides: its
    /// code is what the server made of the others.
    ///
    /// What a materialized view refuses, the table itself has taken by then: such rows are neither to be
    /// rejected nor to be sent again under another token. Both 18.16 and 26.7 name the view in the message.
    pub fn verdict(&self) -> Verdict {
        if self.message.contains("while pushing to view") {
            return Verdict::HoldAndRetry;
        }
        verdict(self.code)
    }

    /// The message's first line, bounded: for the dead-letter store, which holds the rows themselves as well.
    pub fn first_line(&self) -> String {
        const CHARS_MAX: usize = 500;
        let line = self.message.lines().next().unwrap_or_default();
        line.chars().take(CHARS_MAX).collect()
    }

    /// Code and name without the message, which may quote rows: fit for logs.
    pub fn summary(&self) -> String {
        format!("ClickHouse code {} ({})", self.code, code_name(self.code))
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ClickHouse code {} ({}): {}",
            self.code,
            code_name(self.code),
            self.message
        )?;
        match &self.nested {
            Some(nested) => write!(f, "; caused by {nested}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Exception {}

/// What an exception means for the rows of its INSERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// ClickHouse failed, the rows did not: keep them and try again, for as long as it takes.
    HoldAndRetry,
    /// As `HoldAndRetry`, but the rows may be in the table: same token, same blocks, same order.
    OutcomeUnknown,
    /// ClickHouse finds no place for the values of some rows. If the table's columns are still those
    /// the rows were built for, trying again changes nothing.
    Refused,
    /// The table's columns are not those of the block: read them again. Should they be the same after
    /// all, hold the rows.
    SchemaChanged,
}

impl Verdict {
    /// The verdict when blocks of the INSERT were already sent.
    ///
    /// ClickHouse writes partition by partition, and what it has squashed so far before the rest arrives. A
    /// failure of its own can therefore leave a part of the rows in the table. Refusals are found while the
    /// block is converted and checked, before anything of it is written; an INSERT of up to 1,048,449 rows
    /// is one block there. (Refusals of views are no refusals: see [`Exception::verdict`].)
    pub fn after_data(self) -> Verdict {
        match self {
            Verdict::HoldAndRetry => Verdict::OutcomeUnknown,
            other => other,
        }
    }
}

/// What exception `code` means for the rows, when no data were sent. Codes not listed hold the rows:
/// whatever is new or unheard of, keeping them is the mistake that can be undone.
pub fn verdict(code: i32) -> Verdict {
    lookup(code).map_or(Verdict::HoldAndRetry, |&(_, _, verdict)| verdict)
}

/// Name of `code` in ClickHouse's sources, or "unlisted".
pub fn code_name(code: i32) -> &'static str {
    lookup(code).map_or("unlisted", |&(_, name, _)| name)
}

fn lookup(code: i32) -> Option<&'static (i32, &'static str, Verdict)> {
    CODES
        .binary_search_by_key(&code, |&(code, _, _)| code)
        .ok()
        .map(|index| &CODES[index])
}

/// The codes an INSERT in Native format can plausibly end with, ascending, named as ClickHouse 26.7 names
/// them. Held rows need no entry to be held; theirs are here to be named, and to have been thought about.
///
/// Schema: the block's columns against the table's. Refused: CHECK constraints, and conversions
/// in DEFAULT, MATERIALIZED and partition key; a type that changed under us ends
/// there too, which is why a refusal is only final once the columns were compared. A full disk,
/// missing rights, wrong passwords and exhausted quotas are ClickHouse's or its operator's to mend.
#[rustfmt::skip]
pub const CODES: &[(i32, &str, Verdict)] = {
    use Verdict::{HoldAndRetry, OutcomeUnknown, Refused, SchemaChanged};
    &[
        (3, "UNEXPECTED_END_OF_FILE", HoldAndRetry),
        (6, "CANNOT_PARSE_TEXT", Refused),
        (7, "INCORRECT_NUMBER_OF_COLUMNS", SchemaChanged),
        (8, "THERE_IS_NO_COLUMN", SchemaChanged),
        (10, "NOT_FOUND_COLUMN_IN_BLOCK", SchemaChanged),
        (15, "DUPLICATE_COLUMN", SchemaChanged),
        (16, "NO_SUCH_COLUMN_IN_TABLE", SchemaChanged),
        (19, "SIZE_OF_FIXED_STRING_DOESNT_MATCH", Refused),
        (20, "NUMBER_OF_COLUMNS_DOESNT_MATCH", SchemaChanged),
        (25, "CANNOT_PARSE_ESCAPE_SEQUENCE", Refused),
        (26, "CANNOT_PARSE_QUOTED_STRING", Refused),
        (27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", Refused),
        (32, "ATTEMPT_TO_READ_AFTER_EOF", HoldAndRetry),
        (33, "CANNOT_READ_ALL_DATA", HoldAndRetry),
        (36, "BAD_ARGUMENTS", HoldAndRetry),
        (38, "CANNOT_PARSE_DATE", Refused),
        (40, "CHECKSUM_DOESNT_MATCH", HoldAndRetry),
        (41, "CANNOT_PARSE_DATETIME", Refused),
        (44, "ILLEGAL_COLUMN", SchemaChanged),
        (47, "UNKNOWN_IDENTIFIER", SchemaChanged),
        (48, "NOT_IMPLEMENTED", HoldAndRetry),
        (49, "LOGICAL_ERROR", HoldAndRetry),
        (50, "UNKNOWN_TYPE", SchemaChanged),
        (53, "TYPE_MISMATCH", SchemaChanged),
        (57, "TABLE_ALREADY_EXISTS", HoldAndRetry),
        (60, "UNKNOWN_TABLE", HoldAndRetry),
        (62, "SYNTAX_ERROR", HoldAndRetry),
        (69, "ARGUMENT_OUT_OF_BOUND", Refused),
        (70, "CANNOT_CONVERT_TYPE", Refused),
        (72, "CANNOT_PARSE_NUMBER", Refused),
        (74, "CANNOT_READ_FROM_FILE_DESCRIPTOR", HoldAndRetry),
        (75, "CANNOT_WRITE_TO_FILE_DESCRIPTOR", HoldAndRetry),
        (76, "CANNOT_OPEN_FILE", HoldAndRetry),
        (81, "UNKNOWN_DATABASE", HoldAndRetry),
        (95, "CANNOT_READ_FROM_SOCKET", HoldAndRetry),
        (96, "CANNOT_WRITE_TO_SOCKET", HoldAndRetry),
        (99, "UNKNOWN_PACKET_FROM_CLIENT", HoldAndRetry),
        (101, "UNEXPECTED_PACKET_FROM_CLIENT", HoldAndRetry),
        (107, "FILE_DOESNT_EXIST", HoldAndRetry),
        (115, "UNKNOWN_SETTING", HoldAndRetry),
        (117, "INCORRECT_DATA", Refused),
        (120, "CANNOT_INSERT_VALUE_OF_DIFFERENT_SIZE_INTO_TUPLE", Refused),
        (122, "INCOMPATIBLE_COLUMNS", SchemaChanged),
        (128, "TOO_LARGE_ARRAY_SIZE", Refused),
        (130, "CANNOT_READ_ARRAY_FROM_TEXT", Refused),
        (131, "TOO_LARGE_STRING_SIZE", Refused),
        (153, "ILLEGAL_DIVISION", Refused),
        (158, "TOO_MANY_ROWS", HoldAndRetry),
        (159, "TIMEOUT_EXCEEDED", HoldAndRetry),
        (160, "TOO_SLOW", HoldAndRetry),
        (164, "READONLY", HoldAndRetry),
        (173, "CANNOT_ALLOCATE_MEMORY", HoldAndRetry),
        (190, "SIZES_OF_ARRAYS_DONT_MATCH", Refused),
        (192, "UNKNOWN_USER", HoldAndRetry),
        (193, "WRONG_PASSWORD", HoldAndRetry),
        (194, "REQUIRED_PASSWORD", HoldAndRetry),
        (195, "IP_ADDRESS_NOT_ALLOWED", HoldAndRetry),
        (198, "DNS_ERROR", HoldAndRetry),
        (199, "UNKNOWN_QUOTA", HoldAndRetry),
        (201, "QUOTA_EXCEEDED", HoldAndRetry),
        (202, "TOO_MANY_SIMULTANEOUS_QUERIES", HoldAndRetry),
        (203, "NO_FREE_CONNECTION", HoldAndRetry),
        (204, "CANNOT_FSYNC", HoldAndRetry),
        (209, "SOCKET_TIMEOUT", HoldAndRetry),
        (210, "NETWORK_ERROR", HoldAndRetry),
        (216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", HoldAndRetry),
        (218, "TABLE_IS_DROPPED", HoldAndRetry),
        (225, "NO_ZOOKEEPER", HoldAndRetry),
        (229, "QUERY_IS_TOO_LARGE", HoldAndRetry),
        (236, "ABORTED", HoldAndRetry),
        (241, "MEMORY_LIMIT_EXCEEDED", HoldAndRetry),
        (242, "TABLE_IS_READ_ONLY", HoldAndRetry),
        (243, "NOT_ENOUGH_SPACE", HoldAndRetry),
        (244, "UNEXPECTED_ZOOKEEPER_ERROR", HoldAndRetry),
        (246, "CORRUPTED_DATA", HoldAndRetry),
        (248, "INVALID_PARTITION_VALUE", Refused),
        (252, "TOO_MANY_PARTS", HoldAndRetry),
        (254, "NO_ACTIVE_REPLICAS", HoldAndRetry),
        (261, "UNKNOWN_BLOCK_INFO_FIELD", HoldAndRetry),
        (265, "NO_AVAILABLE_REPLICA", HoldAndRetry),
        (271, "CANNOT_DECOMPRESS", HoldAndRetry),
        (279, "ALL_CONNECTION_TRIES_FAILED", HoldAndRetry),
        (285, "TOO_FEW_LIVE_REPLICAS", HoldAndRetry),
        (286, "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", HoldAndRetry),
        (290, "LIMIT_EXCEEDED", HoldAndRetry),
        (291, "DATABASE_ACCESS_DENIED", HoldAndRetry),
        (307, "TOO_MANY_BYTES", HoldAndRetry),
        (308, "UNEXPECTED_NODE_IN_ZOOKEEPER", HoldAndRetry),
        (319, "UNKNOWN_STATUS_OF_INSERT", OutcomeUnknown),
        (321, "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", Refused),
        (342, "METADATA_MISMATCH", HoldAndRetry),
        (344, "SUPPORT_IS_DISABLED", HoldAndRetry),
        (349, "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", Refused),
        (364, "RECEIVED_ERROR_TOO_MANY_REQUESTS", HoldAndRetry),
        (369, "ALL_REPLICAS_ARE_STALE", HoldAndRetry),
        (373, "SESSION_IS_LOCKED", HoldAndRetry),
        (376, "CANNOT_PARSE_UUID", Refused),
        (384, "PART_IS_TEMPORARILY_LOCKED", HoldAndRetry),
        (386, "NO_COMMON_TYPE", Refused),
        (394, "QUERY_WAS_CANCELLED", OutcomeUnknown),
        (395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", Refused),
        (396, "TOO_MANY_ROWS_OR_BYTES", HoldAndRetry),
        (407, "DECIMAL_OVERFLOW", Refused),
        (415, "ALL_REPLICAS_LOST", HoldAndRetry),
        (416, "REPLICA_STATUS_CHANGED", HoldAndRetry),
        (425, "SYSTEM_ERROR", HoldAndRetry),
        (441, "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING", Refused),
        (452, "SETTING_CONSTRAINT_VIOLATION", HoldAndRetry),
        (467, "CANNOT_PARSE_BOOL", Refused),
        (469, "VIOLATED_CONSTRAINT", Refused),
        (472, "READONLY_SETTING", HoldAndRetry),
        (473, "DEADLOCK_AVOIDED", HoldAndRetry),
        (495, "ACCESS_STORAGE_READONLY", HoldAndRetry),
        (496, "QUOTA_REQUIRES_CLIENT_KEY", HoldAndRetry),
        (497, "ACCESS_DENIED", HoldAndRetry),
        (499, "S3_ERROR", HoldAndRetry),
        (500, "AZURE_BLOB_STORAGE_ERROR", HoldAndRetry),
        (511, "UNKNOWN_ROLE", HoldAndRetry),
        (516, "AUTHENTICATION_FAILED", HoldAndRetry),
        (519, "NO_REMOTE_SHARD_AVAILABLE", HoldAndRetry),
        (529, "NOT_A_LEADER", HoldAndRetry),
        (532, "LDAP_ERROR", HoldAndRetry),
        (563, "CANNOT_READ_MAP_FROM_TEXT", Refused),
        (568, "RAFT_ERROR", HoldAndRetry),
        (571, "DATABASE_REPLICATION_FAILED", HoldAndRetry),
        (574, "DISTRIBUTED_TOO_MANY_PENDING_BYTES", HoldAndRetry),
        (620, "QUERY_NOT_ALLOWED", HoldAndRetry),
        (632, "UNEXPECTED_DATA_AFTER_PARSED_VALUE", Refused),
        (645, "NUMBER_OF_DIMENSIONS_MISMATCHED", Refused),
        (659, "UNKNOWN_STATUS_OF_TRANSACTION", OutcomeUnknown),
        (668, "INVALID_STATE", HoldAndRetry),
        (675, "CANNOT_PARSE_IPV4", Refused),
        (676, "CANNOT_PARSE_IPV6", Refused),
        (677, "THREAD_WAS_CANCELED", OutcomeUnknown),
        (691, "UNKNOWN_ELEMENT_OF_ENUM", Refused),
        (692, "TOO_MANY_MUTATIONS", HoldAndRetry),
        (696, "ASYNC_LOAD_CANCELED", HoldAndRetry),
        (700, "USER_SESSION_LIMIT_EXCEEDED", HoldAndRetry),
        (702, "CLIENT_INFO_DOES_NOT_MATCH", HoldAndRetry),
        (710, "FAULT_INJECTED", HoldAndRetry),
        (720, "USER_EXPIRED", HoldAndRetry),
        (722, "ASYNC_LOAD_WAIT_FAILED", HoldAndRetry),
        (728, "UNEXPECTED_DATA_TYPE", Refused),
        (733, "TABLE_IS_BEING_RESTARTED", HoldAndRetry),
        (734, "CANNOT_WRITE_AFTER_BUFFER_CANCELED", HoldAndRetry),
        (735, "QUERY_WAS_CANCELLED_BY_CLIENT", OutcomeUnknown),
        (736, "DATALAKE_DATABASE_ERROR", HoldAndRetry),
        (738, "PART_IS_LOCKED", HoldAndRetry),
        (740, "POTENTIALLY_BROKEN_DATA_PART", HoldAndRetry),
        (741, "TABLE_UUID_MISMATCH", SchemaChanged),
        (745, "SERVER_OVERLOADED", HoldAndRetry),
        (749, "TCP_CONNECTION_LIMIT_REACHED", HoldAndRetry),
        (764, "DEDUPLICATION_IS_NOT_POSSIBLE", HoldAndRetry),
        (767, "REQUIRED_SECOND_FACTOR", HoldAndRetry),
        (772, "INCOMPATIBLE_SCHEMA", SchemaChanged),
        (774, "TABLE_IS_PERMANENTLY_READ_ONLY", HoldAndRetry),
        (776, "RESOURCE_LIMIT_EXCEEDED", HoldAndRetry),
        (777, "MEMORY_RESERVATION_KILLED", HoldAndRetry),
        (778, "MEMORY_RESERVATION_FAILED", HoldAndRetry),
        (900, "DISTRIBUTED_CACHE_ERROR", HoldAndRetry),
        (901, "CANNOT_USE_DISTRIBUTED_CACHE", HoldAndRetry),
        (904, "TOO_MANY_UNAVAILABLE_SHARDS", HoldAndRetry),
        (999, "KEEPER_EXCEPTION", HoldAndRetry),
        (1000, "POCO_EXCEPTION", HoldAndRetry),
        (1001, "STD_EXCEPTION", HoldAndRetry),
        (1002, "UNKNOWN_EXCEPTION", HoldAndRetry),
    ]
};

/// Bytes ClickHouse must not send. The connection is of no use afterwards; the rows are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// A varint of more than 64 bits.
    VarintTooLong,
    /// A string over [`super::wire::STRING_BYTES_MAX`].
    StringTooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// A frame whose checksum is not that of its bytes.
    FrameChecksum,
    /// A frame compressed by a method other than LZ4 and NONE.
    FrameMethod {
        /// The frame's method byte.
        method: u8,
    },
    /// A frame over the limit for replies.
    FrameTooLarge {
        /// Compressed size with its header.
        framed_bytes: u32,
        /// Size when decompressed.
        data_bytes: u32,
    },
    /// A frame with a correct checksum whose data do not decompress to the size it names.
    FrameCorrupt,
    /// A packet number this client does not know, or knows the server must not send at its revision.
    UnknownPacket {
        /// The number.
        number: u64,
    },
    /// A packet that has no place where it came.
    UnexpectedPacket {
        /// Its name in the protocol.
        packet: &'static str,
        /// Where the session stood.
        phase: Phase,
    },
    /// A packet that is still incomplete after [`super::session::PACKET_BYTES_MAX`].
    PacketTooLong,
    /// A server older than [`super::packet::SERVER_REVISION_MIN`].
    ServerTooOld {
        /// Its revision.
        revision: u64,
    },
    /// A field of BlockInfo that has no place at our revision.
    BlockInfoField {
        /// Its number.
        field: u64,
    },
    /// A block of more columns than any table has.
    TooManyColumns {
        /// How many.
        columns: u64,
    },
    /// Rows of a type that is not expected in a reply to an INSERT.
    RowsNotReadable {
        /// The type.
        type_name: String,
    },
    /// A block of a reply that decompresses to more than its limit.
    BlockTooLarge,
    /// A frame that goes on after its block's end.
    BlockTrailed,
    /// An exception with too many causes in one another.
    ExceptionTooDeep,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ProtocolError::*;
        f.write_str("ClickHouse sent ")?;
        match self {
            VarintTooLong => write!(f, "a number of more than 64 bits"),
            StringTooLong { length } => write!(f, "a string of {length} bytes, over the limit"),
            FrameChecksum => write!(f, "a compressed frame whose checksum does not match"),
            FrameMethod { method } => write!(
                f,
                "a frame compressed by method {method:#04x}, which was not asked for"
            ),
            FrameTooLarge {
                framed_bytes,
                data_bytes,
            } => {
                write!(
                    f,
                    "a frame of {framed_bytes} bytes for {data_bytes} bytes of data, over the limit"
                )
            }
            FrameCorrupt => write!(
                f,
                "a compressed frame that does not decompress to its stated size"
            ),
            UnknownPacket { number } => write!(f, "packet number {number}, which is unknown"),
            UnexpectedPacket { packet, phase } => write!(f, "a {packet} packet in phase {phase:?}"),
            PacketTooLong => write!(f, "a packet over the limit"),
            ServerTooOld { revision } => {
                write!(
                    f,
                    "protocol revision {revision}; at least 54412 (ClickHouse 18.16) is needed"
                )
            }
            BlockInfoField { field } => write!(f, "block info field {field}, which is unknown"),
            TooManyColumns { columns } => write!(f, "a block of {columns} columns, over the limit"),
            RowsNotReadable { type_name } => write!(f, "rows of type {type_name} where none are expected"),
            BlockTooLarge => write!(f, "a block over the limit"),
            BlockTrailed => write!(f, "a frame with bytes after its block"),
            ExceptionTooDeep => write!(f, "an exception with too many causes"),
        }
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_so_that_lookup_finds_each() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
        for &(code, name, expected) in CODES {
            assert_eq!((code_name(code), verdict(code)), (name, expected));
        }
    }

    #[test]
    fn holds_rows_on_codes_nobody_has_listed() {
        for code in [i32::MIN, -1, 0, 2999, 100_000] {
            assert_eq!(verdict(code), Verdict::HoldAndRetry);
        }
    }

    #[test]
    fn a_view_that_refuses_does_not_condemn_the_rows() {
        const FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: i32 = 395;
        let mut exception = Exception {
            code: FUNCTION_THROW_IF_VALUE_IS_NON_ZERO,
            name: "DB::Exception".into(),
            message: "Value passed to 'throwIf' function is non-zero".into(),
            nested: None,
        };
        assert_eq!(exception.verdict().after_data(), Verdict::Refused);
        exception.message.push_str(": while pushing to view default.mv");
        assert_eq!(exception.verdict().after_data(), Verdict::OutcomeUnknown);
    }

    #[test]
    fn a_failure_after_data_leaves_the_outcome_unknown_and_a_refusal_stays_one() {
        const MEMORY_LIMIT_EXCEEDED: i32 = 241;
        const VIOLATED_CONSTRAINT: i32 = 469;
        assert_eq!(
            verdict(MEMORY_LIMIT_EXCEEDED).after_data(),
            Verdict::OutcomeUnknown
        );
        assert_eq!(verdict(VIOLATED_CONSTRAINT).after_data(), Verdict::Refused);
    }
}
