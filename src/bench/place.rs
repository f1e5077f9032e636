//! Where a run of `bench ingest` takes place: with a server of its own, or with one that runs already.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use super::args::IngestArgs;
use super::clickhouse::ClickHouse;
use super::ingest::BenchError;
use super::interrupt::Interrupt;
use super::layout::Layout;
use super::server::{NULL_TABLE, Server, ServerPlan, SocketPlan};
use crate::dead_letter::Target;
use crate::schema::TableName;
use crate::topology;

/// What is measured, and from where.
pub(super) struct Place {
    pub server: Option<Server>,
    pub layout: Option<Layout>,
    /// Of the load, a thread each; not pinned when `None`.
    pub cpus: Vec<Option<usize>>,
    /// Where requests of HTTP go.
    pub address: SocketAddr,
    /// Where the dialect's listener is, if it is not that of HTTP.
    pub socket: Option<SocketAddr>,
    /// Where rows are counted.
    pub clickhouse: ClickHouse,
}

impl Place {
    /// A server and a ClickHouse that run already.
    ///
    /// # Errors
    /// The CPUs of the load are not as asked for, or an address is not known.
    pub fn existing(args: &IngestArgs, url: &Target, clickhouse: &ClickHouse) -> Result<Place, BenchError> {
        let available = topology::available();
        let cpus = match &args.load.load_cpus {
            Some(choice) => {
                let layout = Layout::plan(&available, None, Some(choice)).map_err(BenchError::Topology)?;
                layout.load.into_iter().map(Some).collect()
            }
            // Half of the machine, wherever the server is not: it may be on this one.
            None => vec![None; (available.len() / 2).max(1)],
        };
        let clickhouse = match std::env::var("RINGHOUSE_CLICKHOUSE_PASSWORD") {
            Ok(password) => clickhouse.clone().with_password(&password),
            Err(_) => clickhouse.clone(),
        };
        Ok(Place {
            server: None,
            layout: None,
            cpus,
            address: resolve(url.authority())?,
            socket: args.socket.as_deref().map(resolve).transpose()?,
            clickhouse,
        })
    }

    /// A server and a ClickHouse of its own, gone with it.
    ///
    /// # Errors
    /// The CPUs are not as asked for, or it does not start.
    pub fn own(args: &IngestArgs, table: TableName, interrupt: &Interrupt) -> Result<Place, BenchError> {
        let (ingest, load) = (args.ingest_cores.as_ref(), args.load.load_cpus.as_ref());
        let layout = Layout::plan(&topology::available(), ingest, load).map_err(BenchError::Topology)?;
        let plan = ServerPlan {
            ingest: layout.ingest.clone(),
            writer: layout.writer,
            socket: args.load.dialect.protocol().map(|protocol| SocketPlan {
                protocol,
                table: if args.null {
                    NULL_TABLE.to_owned()
                } else {
                    table.plain()
                },
                ack: args.load.ack,
            }),
            table,
            clickhouse: args.clickhouse_cpus.clone(),
            limits: args.limits.clone(),
        };
        let server = Server::start(&plan, interrupt)?;
        if args.null {
            server.create_null_table(args.load.dialect.id_sql(), interrupt)?;
        }
        Ok(Place {
            cpus: layout.load.iter().copied().map(Some).collect(),
            address: server.address,
            socket: server.socket,
            clickhouse: server.clickhouse.clone(),
            server: Some(server),
            layout: Some(layout),
        })
    }
}

fn resolve(authority: &str) -> Result<SocketAddr, BenchError> {
    let failed = |error| BenchError::Connect(authority.to_owned(), error);
    let mut addresses = authority.to_socket_addrs().map_err(failed)?;
    addresses
        .next()
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}
