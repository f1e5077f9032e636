//! Every bound of the program: its default, its unit and its reason, in one place.

/// Bounds the running server keeps. One value is built at start and copied to every core.
///
/// Sizes are bytes, times are milliseconds, everything else is a count. The names end in their unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections one ingest core holds at once; one more is answered 503 and closed.
    pub connections_per_core: usize,
    /// Receive buffer of a connection between requests and for small requests.
    pub receive_buffer_bytes: usize,
    /// Receive buffer of a connection that is taking a body larger than the small buffer.
    pub body_buffer_bytes: usize,
    /// Memory one ingest core lends for body buffers, inflate windows and long lines.
    pub body_buffers_bytes_per_core: usize,
    /// Request line and headers together. nginx and Apache take 8 KiB a line; shippers stay far below.
    pub head_bytes_max: usize,
    /// Headers in one request.
    pub headers_max: usize,
    /// One row of input text: an NDJSON line, an array element, an object.
    pub line_bytes_max: usize,
    /// One request body after de-chunking and inflating. Memory does not grow with it.
    pub body_bytes_max: u64,
    /// Inflated bytes allowed for each compressed byte, beyond the first `inflate_free_bytes`.
    pub inflate_ratio_max: u64,
    /// Inflated bytes every request may have before the ratio is looked at.
    pub inflate_free_bytes: u64,
    /// Nesting of objects and arrays in one row.
    pub depth_max: usize,
    /// Text parsed as one piece: fits L2 beside the tape and the columns it becomes.
    pub chunk_bytes: usize,
    /// Attributes (keys of the overflow column) of one row.
    pub attributes_per_row_max: usize,
    /// One flattened attribute name.
    pub attribute_name_bytes_max: usize,
    /// Row errors spelled out in one reply; the count stays exact.
    pub errors_in_reply_max: usize,
    /// Time for a complete head, from its first byte.
    pub head_deadline_ms: u64,
    /// Time a body may go without `body_rate_min_bytes` more of it.
    pub body_deadline_ms: u64,
    /// Bytes a body must bring within each `body_deadline_ms`.
    pub body_rate_min_bytes: u64,
    /// Time a kept-alive connection may stay silent.
    pub idle_deadline_ms: u64,
    /// Time a peer may take to read a reply.
    pub reply_deadline_ms: u64,
    /// Time a request waits for its promised ack level before it is answered 503.
    pub ack_deadline_ms: u64,
    /// Rows in one batch.
    pub batch_rows_max: usize,
    /// Bytes of one batch in wire form; a batch is sealed at the first chunk that reaches it.
    pub batch_bytes_max: usize,
    /// Age at which a batch with rows is sealed.
    pub batch_age_ms: u64,
    /// Open batches of one table on one core (partition ranges, sets of omitted columns).
    pub batches_per_table: usize,
    /// Tables one core holds open batches for.
    pub tables_per_core: usize,
    /// Sealed blocks one core may have outstanding: this pool is the back-pressure.
    pub blocks_per_core: usize,
    /// Requests of one core that wait for an ack level.
    pub acks_per_core: usize,
    /// Requests of one connection whose reply is not written yet.
    pub pipeline_max: usize,
    /// Partitions one block or INSERT may touch; ClickHouse refuses more than 100 (code 252).
    pub partitions_per_insert_max: usize,
    /// New parts a second the writer aims not to exceed for one table.
    pub parts_per_second: usize,
    /// Rows in one INSERT.
    pub insert_rows_max: usize,
    /// Compressed bytes in one INSERT.
    pub insert_bytes_max: usize,
    /// INSERTs in flight for one table.
    pub inserts_in_flight_per_table: usize,
    /// Least time between the starts of two INSERTs of one table while requests wait for them.
    pub insert_interval_ms: u64,
    /// Time ClickHouse may take to accept a connection and answer the handshake.
    pub connect_deadline_ms: u64,
    /// Time ClickHouse may stay silent during an INSERT before its outcome counts as unknown.
    pub insert_deadline_ms: u64,
    /// First pause after a failed INSERT; doubles with jitter up to `retry_pause_max_ms`.
    pub retry_pause_min_ms: u64,
    /// Longest pause between two tries.
    pub retry_pause_max_ms: u64,
    /// Time from SIGTERM until what is not inserted counts as lost.
    pub drain_deadline_ms: u64,
    /// Seconds of `Retry-After` in a 503.
    pub retry_after_s: u32,
    /// Time between two readings of the tables' columns.
    pub schema_refresh_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_per_core: 4096,
            receive_buffer_bytes: 8 * 1024,
            body_buffer_bytes: 128 * 1024,
            body_buffers_bytes_per_core: 32 * 1024 * 1024,
            head_bytes_max: 8 * 1024,
            headers_max: 64,
            line_bytes_max: 1024 * 1024,
            body_bytes_max: 4 * 1024 * 1024 * 1024,
            inflate_ratio_max: 200,
            inflate_free_bytes: 1024 * 1024,
            depth_max: 64,
            chunk_bytes: 64 * 1024,
            attributes_per_row_max: 1024,
            attribute_name_bytes_max: 256,
            errors_in_reply_max: 20,
            head_deadline_ms: 10_000,
            body_deadline_ms: 30_000,
            body_rate_min_bytes: 1024,
            idle_deadline_ms: 75_000,
            reply_deadline_ms: 30_000,
            ack_deadline_ms: 30_000,
            batch_rows_max: 16_384,
            batch_bytes_max: 2 * 1024 * 1024,
            batch_age_ms: 800,
            batches_per_table: 4,
            tables_per_core: 16,
            blocks_per_core: 24,
            acks_per_core: 16_384,
            pipeline_max: 64,
            partitions_per_insert_max: 100,
            parts_per_second: 100,
            insert_rows_max: 1_048_449,
            insert_bytes_max: 64 * 1024 * 1024,
            inserts_in_flight_per_table: 1,
            insert_interval_ms: 200,
            connect_deadline_ms: 5_000,
            insert_deadline_ms: 120_000,
            retry_pause_min_ms: 50,
            retry_pause_max_ms: 5_000,
            drain_deadline_ms: 30_000,
            retry_after_s: 1,
            schema_refresh_ms: 5_000,
        }
    }
}
