//! `ringhouse serve`: starts the cores, prints where it listens, waits for a signal, drains.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::access::{Access, NoKeyFile, Reloaded};
use crate::admin::{self, AdminState, Guard, Readiness, Started};
use crate::catalog::{Catalog, Lookup};
use crate::clickhouse::control::{self, Control, ControlConfig};
use crate::clickhouse::embedded::{Embedded, EmbeddedConfig, EmbeddedError};
use crate::clickhouse::endpoint::Endpoint;
use crate::clickhouse::endpoints::Endpoints;
use crate::clock::Clock;
use crate::config::{ClickHouse, ConfigError, ListenerSettings, Settings, TableSettings};
use crate::doorbell::Doorbell;
use crate::histogram::{self, Reader};
use crate::idempotency::Keys;
use crate::ingest::{self, IngestConfig};
use crate::ledger::{Ledger, Totals};
use crate::limits::Limits;
use crate::mapping::Mappings;
use crate::metrics::{IngestMetrics, LedgerEntry, WriterMetrics};
use crate::ring::ring;
use crate::routing::Router;
use crate::runtime::{self, CoreOptions, ListenSocket};
use crate::schema::TableName;
use crate::start::{self, Durable, StartError};
use crate::tls::{self, Certificates, Follower, ServerFiles, TlsError};
use crate::wal::data_dir::DataDir;
use crate::wal::log::{self, Log, LogConfig};
use crate::wal::segment::Budget;
use crate::writer::store::Store;
use crate::writer::{self, WriterConfig};

/// Why the server did not start.
#[derive(Debug)]
pub enum ServeError {
    /// No executor: io_uring, memlock or the CPUs. The text says what to do.
    Runtime(io::Error),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The certificates of a listener, by its name, cannot be used.
    Tls(String, TlsError),
    /// A ClickHouse URL is none.
    Endpoint(ConfigError),
    /// The embedded engine cannot be provided or does not start.
    Embedded(EmbeddedError),
    /// The data directory cannot be used, or what is in it cannot be read.
    Durable(StartError),
    /// The key file cannot be used.
    Keys(NoKeyFile),
    /// The admin pages would need a key, and no key opens them.
    AdminWithoutKey(SocketAddr),
    /// The operating system gave no thread, no signal handler or no random bytes.
    System(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Runtime(error) => error.fmt(f),
            ServeError::Listen(address, error) => {
                write!(
                    f,
                    "cannot listen on {address}: {error}; choose another address for this listener or the admin pages"
                )
            }
            ServeError::Tls(listener, error) => write!(f, "listener {listener}: {error}"),
            ServeError::Endpoint(error) => error.fmt(f),
            ServeError::Embedded(error) => error.fmt(f),
            ServeError::Durable(error) => error.fmt(f),
            ServeError::Keys(error) => error.fmt(f),
            ServeError::AdminWithoutKey(address) => write!(
                f,
                "the admin pages on {address} can be reached from elsewhere and no key opens them: make one with \
                 `ringhouse keys new --name admin --admin --append FILE` and give FILE to --keys-file, keep the pages on \
                 loopback with --admin, or open them to all with --admin-require-key=false"
            ),
            ServeError::System(error) => write!(f, "the system refused what the server needs: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Exit status of a second signal: as the shell reports a process ended by SIGINT.
const EXIT_SECOND_SIGNAL: i32 = 130;

/// How often readiness is looked at.
const READINESS_INTERVAL: Duration = Duration::from_millis(100);

/// How often it is looked at whether the key file has changed.
const KEYS_INTERVAL: Duration = Duration::from_secs(1);

/// Connections the kernel queues for one core before it accepts them.
const BACKLOG: i32 = 4096;

/// What the main thread waits for.
enum Event {
    Signal(i32),
    CoreDone,
}

/// Runs the server until a signal, drains it, and says how it ended: success, or failure when rows were lost.
///
/// # Errors
/// When it cannot start. Once it listens it never fails.
pub fn serve(settings: &Settings) -> Result<ExitCode, ServeError> {
    abort_on_panic();
    raise_open_files();
    runtime::probe().map_err(ServeError::Runtime)?;
    let (certificates, admin_certificates) = load_certificates(settings)?;
    // Addresses first: a port in use is told before an engine is fetched or started.
    let access = Arc::new(open_access(settings)?);
    let ports = bind_all(
        &settings.listeners,
        &settings.limits,
        settings.topology.ingest.len(),
    )?;
    let admin_listener = bind(settings.admin)?;
    let durable = start::recover(settings).map_err(ServeError::Durable)?;
    let (embedded, endpoints) = provide_clickhouse(settings)?;
    let tables = table_names(&settings.tables, &endpoints[0].database);
    let control =
        control::start_control(control_config(settings, endpoints.clone())).map_err(ServeError::System)?;
    let (events, inbox) = mpsc::channel();
    let listen = local_addresses(&ports).map_err(ServeError::System)?;
    let admin_address = admin_listener.local_addr().map_err(ServeError::System)?;
    let followed: Vec<_> = certificates
        .iter()
        .chain([&admin_certificates])
        .flatten()
        .cloned()
        .collect();
    let start = Start {
        settings,
        endpoints: &endpoints,
        tables: &tables,
        control: &control,
        access: &access,
        certificates: certificates.into(),
        events: &events,
    };
    let cores = Cores::start(&start, durable, ports)?;
    let started = Started::now();
    let readiness = Arc::new(Readiness::new(settings.ack));
    let ledger = Arc::clone(&cores.ledger);
    admin::start(
        admin_listener,
        admin_certificates,
        Arc::new(AdminState {
            ingest: cores.ingest_metrics.clone(),
            writer: Arc::clone(&cores.writer_metrics),
            log: Arc::clone(&cores.budget),
            dead_letters: {
                let store = Arc::clone(&cores.store);
                Box::new(move || store.dead_letters())
            },
            keys: cores.keys.clone(),
            histograms: cores.histograms.clone(),
            ledger: Box::new(move || ledger_entries(&ledger)),
            guard: Guard::new(Arc::clone(&access), settings.admin_require_key),
            readiness: Arc::clone(&readiness),
            limits: settings.limits,
            topology: settings.topology.clone(),
            tables: tables.iter().map(TableName::plain).collect(),
            started,
        }),
    )
    .map_err(ServeError::System)?;
    forward_signals(events).map_err(ServeError::System)?;
    announce(settings, &listen, admin_address, &endpoints, embedded.as_ref());
    let server = Server {
        settings,
        control,
        cores,
        access,
        keys_looked_at: Cell::new(Instant::now()),
        readiness,
        started,
        inbox,
        follower: match followed.is_empty() {
            true => None,
            false => Some(Follower::start(followed).map_err(ServeError::System)?),
        },
    };
    let code = server.run();
    // The engine outlives the cores: what they drained is in it.
    if let Some(embedded) = embedded {
        embedded.stop();
    }
    Ok(code)
}

/// Reads the key file, if there is one, and says what is open to whom.
///
/// # Errors
/// It cannot be used, or the admin pages would be open to all without having been told so.
pub(crate) fn open_access(settings: &Settings) -> Result<Access, ServeError> {
    let access = match &settings.keys_file {
        None => Access::open(),
        Some(path) => {
            let cores = settings.topology.ingest.len();
            Access::load(path.clone(), &settings.limits, cores).map_err(ServeError::Keys)?
        }
    };
    if settings.admin_require_key && !access.has_admin_key() {
        return Err(ServeError::AdminWithoutKey(settings.admin));
    }
    let is_open = |listener: &&ListenerSettings| {
        !listener.require_key && listener.allow.is_none() && !listener.address.ip().is_loopback()
    };
    let mut open: Vec<&str> = settings
        .listeners
        .iter()
        .filter(is_open)
        .map(|one| one.name.as_str())
        .collect();
    if !settings.admin_require_key && !settings.admin.ip().is_loopback() {
        open.push("admin");
    }
    if !open.is_empty() {
        tracing::warn!(
            listeners = open.join(", "),
            "whoever reaches these addresses may use them: no key is asked for there (docs/SECURITY.md)"
        );
    }
    Ok(access)
}

/// Every panic is a bug in the one thread whose rows it holds; going on without that thread would hide it. The control
/// thread holds no rows and catches the panics of its client library.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some(control::THREAD_NAME) {
            tracing::debug!(%info, "the ClickHouse client library panicked");
            return;
        }
        print(info);
        std::process::abort();
    }));
}

/// Lets the process have as many connections and files open as the system allows: the usual soft limit of 1,024 is for
/// programs that use select(2).
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

/// Time the port of a process that was killed a moment ago may take to be free: the kernel takes its sockets back only
/// after the process has ended, when an io_uring waits on them.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let started = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && started.elapsed() < PORT_PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound.map_err(|error| ServeError::Listen(address, error)),
        }
    }
}

/// What the listeners prove themselves with, in their order, and the admin pages; `None` for those without TLS.
type AllCertificates = (Vec<Option<Arc<Certificates>>>, Option<Arc<Certificates>>);

/// Reads the certificates of all listeners and of the admin pages.
///
/// # Errors
/// The first whose files cannot be used.
pub(crate) fn load_certificates(settings: &Settings) -> Result<AllCertificates, ServeError> {
    let load = |name: &str, files: &Option<ServerFiles>, alpn: &[&str]| match files {
        None => Ok(None),
        Some(files) => match Certificates::load(files.clone(), alpn) {
            Ok(certificates) => Ok(Some(Arc::new(certificates))),
            Err(error) => Err(ServeError::Tls(name.to_owned(), error)),
        },
    };
    let listeners = settings.listeners.iter();
    Ok((
        listeners
            .map(|listener| load(&listener.name, &listener.tls, listener.protocol.alpn()))
            .collect::<Result<_, _>>()?,
        load("admin", &settings.admin_tls, tls::HTTP_1)?,
    ))
}

/// The listening sockets of every ingest core: one for each listener, in their order.
fn bind_all(
    listeners: &[ListenerSettings],
    limits: &Limits,
    cores: usize,
) -> Result<Vec<Vec<ListenSocket>>, ServeError> {
    let mut ports: Vec<Vec<ListenSocket>> = (0..cores).map(|_| Vec::new()).collect();
    for listener in listeners {
        let address = listener.address;
        let sockets = match listener.protocol.is_udp() {
            true => bind_datagrams(address, limits.datagram_kernel_buffer_bytes, cores)?,
            false => bind_ingest(address, cores)?,
        };
        for (core, socket) in sockets.into_iter().enumerate() {
            ports[core].push(socket);
        }
    }
    Ok(ports)
}

/// One socket per ingest core, all on one port; the kernel gives each sender to one of them.
fn bind_datagrams(
    mut address: SocketAddr,
    buffer_bytes: usize,
    cores: usize,
) -> Result<Vec<ListenSocket>, ServeError> {
    let bind = |address, shared| {
        runtime::listen_datagrams(address, buffer_bytes, shared)
            .map_err(|error| ServeError::Listen(address, error))
    };
    // As with connections: another program's socket would silently take a part of the datagrams.
    if address.port() != 0 {
        drop(bind(address, false)?);
    }
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores {
        let socket = bind(address, true)?;
        address = socket
            .local_addr()
            .map_err(|error| ServeError::Listen(address, error))?;
        sockets.push(ListenSocket::Udp(socket));
    }
    Ok(sockets)
}

/// Where each listener listens.
fn local_addresses(ports: &[Vec<ListenSocket>]) -> io::Result<Vec<SocketAddr>> {
    ports[0].iter().map(ListenSocket::local_addr).collect()
}

/// One listening socket per ingest core, all on one port.
fn bind_ingest(address: SocketAddr, cores: usize) -> Result<Vec<ListenSocket>, ServeError> {
    // With SO_REUSEPORT a second server of the same user would silently share the port: look for one first.
    if address.port() != 0 {
        drop(bind(address)?);
    }
    let mut address = address;
    let mut listeners = Vec::with_capacity(cores);
    for _ in 0..cores {
        let listener =
            runtime::listen(address, BACKLOG).map_err(|error| ServeError::Listen(address, error))?;
        // Port 0 is chosen by the first socket and shared by the others.
        address = listener
            .local_addr()
            .map_err(|error| ServeError::Listen(address, error))?;
        listeners.push(ListenSocket::Tcp(listener));
    }
    Ok(listeners)
}

fn provide_clickhouse(settings: &Settings) -> Result<(Option<Embedded>, Vec<Endpoint>), ServeError> {
    match &settings.clickhouse {
        ClickHouse::Remote { .. } => {
            let endpoints = settings.clickhouse.endpoints().map_err(ServeError::Endpoint)?;
            Ok((None, endpoints))
        }
        ClickHouse::Embedded { tcp_port, http_port } => {
            let embedded = Embedded::start(EmbeddedConfig {
                directory: settings.data_dir.join("clickhouse"),
                tcp_port: Some(*tcp_port),
                http_port: http_port.unwrap_or(0),
                memory_bytes_max: None,
                users_config: None,
                executable: None,
            })
            .map_err(ServeError::Embedded)?;
            let endpoint = embedded.endpoint();
            Ok((Some(embedded), vec![endpoint]))
        }
    }
}

/// What the control thread is to look after. `endpoints` must not be empty.
pub(crate) fn control_config(settings: &Settings, endpoints: Vec<Endpoint>) -> ControlConfig {
    let tables = table_names(&settings.tables, &endpoints[0].database);
    ControlConfig {
        default_table: tables[0].clone(),
        tables: tables[1..].to_vec(),
        endpoints,
        only_listed: false,
        known_tables: Some(settings.data_dir.join("tables.json")),
        create_tables: settings.create_tables,
        ttl_days: None,
        limits: settings.limits,
    }
}

/// Addresses for people, without passwords.
pub(crate) fn list(endpoints: &[Endpoint]) -> String {
    let texts: Vec<String> = endpoints.iter().map(Endpoint::to_string).collect();
    texts.join(", ")
}

fn table_names(tables: &[TableSettings], database: &str) -> Vec<TableName> {
    let name = |table: &TableSettings| TableName {
        database: table.database.clone().unwrap_or_else(|| database.to_owned()),
        table: table.table.clone(),
    };
    tables.iter().map(name).collect()
}

/// The running cores and what they count.
struct Cores {
    /// What the log takes of the disk.
    budget: Arc<Budget>,
    store: Arc<Store>,
    keys: Keys,
    /// Locked for as long as the process lives.
    directory: DataDir,
    /// Ingest cores and the writer.
    count: usize,
    draining: Arc<AtomicBool>,
    ledger: Arc<Ledger>,
    ingest_metrics: Vec<Arc<IngestMetrics>>,
    writer_metrics: Arc<WriterMetrics>,
    histograms: Reader,
}

/// What the cores are started with.
struct Start<'s> {
    settings: &'s Settings,
    endpoints: &'s [Endpoint],
    tables: &'s [TableName],
    control: &'s Control,
    access: &'s Arc<Access>,
    certificates: Arc<[Option<Arc<Certificates>>]>,
    events: &'s Sender<Event>,
}

impl Cores {
    fn start(
        start: &Start<'_>,
        durable: Durable,
        ports: Vec<Vec<ListenSocket>>,
    ) -> Result<Cores, ServeError> {
        let Start {
            settings,
            endpoints,
            tables,
            control,
            access,
            ref certificates,
            events,
        } = *start;
        let limits = settings.limits;
        let clock = Clock::start();
        let count = ports.len();
        let Durable {
            directory,
            disk,
            boot,
            budget,
            segment_bytes,
            ledger,
            store,
            key_store,
            worker,
            left,
        } = durable;
        let (mut recorders, histograms) = histogram::channel(count + 1);
        let mut cores = Cores {
            budget: Arc::clone(&budget),
            store: Arc::clone(&store),
            keys: key_store.keys.clone(),
            directory,
            count: count + 1,
            draining: Arc::new(AtomicBool::new(false)),
            ledger,
            ingest_metrics: Vec::with_capacity(count),
            writer_metrics: Arc::new(WriterMetrics::of(endpoints.iter().map(Endpoint::to_string))),
            histograms,
        };
        let mappings = Arc::new(Mappings::new(
            tables
                .iter()
                .cloned()
                .zip(settings.tables.iter().map(|table| table.config.clone())),
        ));
        let listeners: Arc<[ListenerSettings]> = settings.listeners.clone().into();
        let router = Arc::new(Router::new(&settings.routes));
        let writer_bell = Arc::new(Doorbell::new());
        let ingest_running = Arc::new(AtomicUsize::new(count));
        let mut rings = Vec::with_capacity(count);
        for (index, sockets) in ports.into_iter().enumerate() {
            let bell = Arc::new(Doorbell::new());
            let (to_writer, sealed) = ring(limits.ring_blocks, Arc::clone(&writer_bell));
            // A commit that must hold what it began with may await a few blocks more than the limit.
            let awaited = limits.awaited_blocks_per_core + limits.tables_per_core * limits.batches_per_table;
            let (returns, from_writer) = ring(awaited, Arc::clone(&bell));
            rings.push((sealed, returns));
            let metrics = Arc::new(IngestMetrics::default());
            // Until the core counts: /readyz must not call it full.
            metrics.has_room.set(1);
            cores.ingest_metrics.push(Arc::clone(&metrics));
            let index = u16::try_from(index).expect("there are fewer CPUs than 65536");
            let log = Log::new(LogConfig {
                disk: Arc::clone(&disk),
                directory: cores.directory.wal(),
                boot,
                core: index,
                segment_bytes,
                budget: Arc::clone(&budget),
            });
            let config = IngestConfig {
                index,
                boot,
                access: Arc::clone(access),
                key_store: key_store.clone(),
                budget: Arc::clone(&budget),
                log: log::start(log, Arc::clone(&bell)).map_err(ServeError::System)?,
                limits,
                listeners: Arc::clone(&listeners),
                certificates: Arc::clone(certificates),
                router: Arc::clone(&router),
                catalog: Arc::clone(control.catalog()),
                mappings: Arc::clone(&mappings),
                ledger: Arc::clone(&cores.ledger),
                metrics,
                recorder: recorders.pop().expect("there is a recorder for every core"),
                to_writer,
                from_writer,
                bell,
                clock,
                draining: Arc::clone(&cores.draining),
            };
            let (events, running, bell) = (
                events.clone(),
                Arc::clone(&ingest_running),
                Arc::clone(&writer_bell),
            );
            let options = core_options(settings.topology.ingest[usize::from(index)]);
            runtime::spawn_core(&format!("ingest-{index}"), options, move || async move {
                ingest::run(config, sockets).await;
                // Release pairs with the writer's Acquire: this core's last block is in the ring.
                running.fetch_sub(1, Ordering::Release);
                bell.ring();
                // The main thread is gone only when the process is.
                let _ = events.send(Event::CoreDone);
            })
            .map_err(ServeError::Runtime)?;
        }
        let config = WriterConfig {
            limits,
            endpoints: Endpoints::new(endpoints.to_vec()),
            catalog: Arc::clone(control.catalog()),
            boot,
            store,
            left,
            ledger: Arc::clone(&cores.ledger),
            worker,
            rings,
            bell: writer_bell,
            ingest_running,
            metrics: Arc::clone(&cores.writer_metrics),
            recorder: recorders.pop().expect("there is a recorder for every core"),
            clock,
        };
        let events = events.clone();
        let options = core_options(settings.topology.writer);
        runtime::spawn_core("writer", options, move || async move {
            writer::run(config).await;
            let _ = events.send(Event::CoreDone);
        })
        .map_err(ServeError::Runtime)?;
        Ok(cores)
    }
}

impl Cores {
    /// Rows that are in memory only.
    fn unlogged(&self) -> u64 {
        self.ledger.unlogged()
    }
}

fn core_options(cpu: usize) -> CoreOptions {
    CoreOptions {
        cpu: Some(cpu),
        spin_before_park: Duration::ZERO,
    }
}

fn forward_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if events.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
        })?;
    Ok(())
}

fn announce(
    settings: &Settings,
    listen: &[SocketAddr],
    admin: SocketAddr,
    endpoints: &[Endpoint],
    embedded: Option<&Embedded>,
) {
    let (main, others) = listen.split_first().expect("there is a main listener");
    let listen = main;
    let further: String = settings.listeners[1..]
        .iter()
        .zip(others)
        .map(|(listener, address)| {
            format!(
                "ringhouse: {} on {}://{address}\n",
                listener.name,
                listener.scheme()
            )
        })
        .collect();
    let scheme = settings.listeners[0].scheme();
    let admin_scheme = if settings.admin_tls.is_some() {
        "https"
    } else {
        "http"
    };
    let trust = match settings.listeners[0].tls {
        Some(_) => " --cacert CA.pem",
        None => "",
    };
    let mut text = format!(
        "ringhouse: listening on {scheme}://{listen}\n{further}\
         ringhouse: admin on {admin_scheme}://{admin} (/livez /readyz /metrics /histograms /status)\n\
         ringhouse: clickhouse at {}\n\
         ringhouse: {}\n\
         ringhouse: at most {} MiB of memory for {} ingest cores\n",
        list(endpoints),
        settings.topology,
        settings
            .limits
            .memory(settings.topology.ingest.len())
            .total_bytes()
            >> 20,
        settings.topology.ingest.len(),
    );
    text.push_str(&format!(
        "\nPost a log:   curl{trust} -d '{{\"level\":\"info\",\"service\":\"me\",\"message\":\"hello\"}}' {scheme}://{listen}/ingest\n"
    ));
    if let Some(http_port) = embedded.map(Embedded::http_port).filter(|port| *port != 0) {
        // HTTP clients of the embedded engine start in another database than `default`.
        let table = &settings.tables[0];
        let table = format!(
            "{}.{}",
            table.database.as_deref().unwrap_or(&endpoints[0].database),
            table.table
        );
        text.push_str(&format!(
            "Read it back: curl -d 'SELECT Timestamp, ServiceName, SeverityText, Body FROM {table} FORMAT Vertical' http://127.0.0.1:{http_port}/\n"
        ));
    }
    // A closed stdout is no reason not to serve.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

/// A table's rows by where they are, for people and for whoever reads the output.
pub(crate) fn ledger_line(table: &str, totals: &Totals) -> String {
    let Totals {
        received,
        inserted,
        rejected,
        dead_lettered,
        waiting,
        lost,
    } = totals;
    format!(
        "ringhouse: ledger {table}: received {received} = inserted {inserted} + rejected {rejected} + \
         dead-lettered {dead_lettered} + waiting {waiting} + lost {lost}"
    )
}

fn ledger_entries(ledger: &Ledger) -> Vec<LedgerEntry> {
    let entry = |(table, totals): (TableName, Totals)| LedgerEntry {
        table: table.plain(),
        totals,
    };
    ledger.totals().into_iter().map(entry).collect()
}

/// The main thread's part: signals, readiness, drain.
struct Server<'s> {
    settings: &'s Settings,
    control: Control,
    cores: Cores,
    access: Arc<Access>,
    /// When the key file was last looked at.
    keys_looked_at: Cell<Instant>,
    readiness: Arc<Readiness>,
    started: Started,
    inbox: Receiver<Event>,
    /// Looks after the certificates, when a listener has any.
    follower: Option<Follower>,
}

impl Server<'_> {
    fn run(self) -> ExitCode {
        loop {
            self.look_around();
            match self.inbox.recv_timeout(READINESS_INTERVAL) {
                Ok(Event::Signal(SIGUSR1)) => self.dump_histograms(),
                Ok(Event::Signal(SIGHUP)) => self.read_files_again(),
                Ok(Event::Signal(signal)) => return self.drain(signal),
                Ok(Event::CoreDone) => unreachable!("a core runs until it is told to drain"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the signal thread holds a sender"),
            }
        }
    }

    /// What SIGHUP asks for.
    fn read_files_again(&self) {
        if let Some(follower) = &self.follower {
            follower.force();
        }
        self.reload_keys(true);
        if self.follower.is_none() && !self.access.has_keys() {
            tracing::info!("SIGHUP reads certificates and keys again, and there are none");
        }
    }

    /// Reads the key file again if it has changed, or in any case.
    fn reload_keys(&self, in_any_case: bool) {
        match self.access.reload(in_any_case) {
            Reloaded::Unchanged => {}
            Reloaded::Read(keys) => tracing::info!(keys, "the key file was read again"),
            Reloaded::Broken(error) => tracing::error!(%error, "the keys stay as they were"),
        }
    }

    fn look_around(&self) {
        if self.keys_looked_at.get().elapsed() >= KEYS_INTERVAL {
            self.keys_looked_at.set(Instant::now());
            self.reload_keys(false);
        }
        let state = self.control.readiness();
        self.readiness.set_clickhouse_reachable(state.connected);
        if let (Some(version), Some(endpoint)) = (&state.server_version, &state.endpoint) {
            self.readiness.set_clickhouse_version(version, endpoint);
        }
        self.readiness
            .set_clickhouse_error(state.last_error.map(|error| error.to_string()));
        let catalog: &Catalog = self.control.catalog();
        self.readiness
            .set_table_known(matches!(catalog.lookup(None, None), Lookup::Found(_)));
        self.readiness.set_table_exists(catalog.has_default_table());
        for (table, parts) in self.control.parts() {
            self.cores
                .writer_metrics
                .table(&table.plain())
                .parts_max
                .set(parts);
        }
        let default_table = self.cores.writer_metrics.table(&catalog.default_table().plain());
        self.readiness.set_inserts_fail(default_table.failing.get() > 0);
    }

    /// Lets the cores finish, within the deadline.
    fn drain(self, signal: i32) -> ExitCode {
        tracing::info!(signal, "draining: no new requests, inserting what is held");
        self.readiness.set_draining();
        // Release pairs with the cores' Acquire.
        self.cores.draining.store(true, Ordering::Release);
        let deadline = Instant::now() + Duration::from_millis(self.settings.limits.drain_deadline_ms);
        let mut running = self.cores.count;
        while running > 0 {
            match self
                .inbox
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(Event::CoreDone) => running -= 1,
                Ok(Event::Signal(SIGUSR1)) => self.dump_histograms(),
                Ok(Event::Signal(SIGHUP)) => {}
                Ok(Event::Signal(_)) => {
                    self.print_ledger();
                    std::process::exit(EXIT_SECOND_SIGNAL);
                }
                Err(_) => break,
            }
        }
        // A connection that is closed in the middle of an answer is reset, on which the embedded engine ends.
        self.control.stop();
        self.print_ledger();
        if let Err(error) = self.cores.ledger.sync() {
            tracing::warn!(%error, "the ledger's counts are not durable");
        }
        let waiting: u64 = self
            .cores
            .ledger
            .totals()
            .iter()
            .map(|(_, totals)| totals.waiting)
            .sum();
        // A core that has not drained holds rows that are not in the log.
        let unlogged = self.cores.unlogged();
        let logged = waiting.saturating_sub(unlogged);
        if waiting == 0 && running > 0 {
            eprintln!(
                "ringhouse: no row was lost, but clients had not finished their requests within the drain deadline of {} ms",
                self.settings.limits.drain_deadline_ms
            );
        }
        if logged > 0 {
            eprintln!(
                "ringhouse: {logged} rows wait in {} for the next start to insert them",
                self.cores.directory.path().display()
            );
        }
        if unlogged > 0 {
            eprintln!(
                "ringhouse: {unlogged} rows were lost: the write-ahead log did not take them within the drain deadline of {} ms",
                self.settings.limits.drain_deadline_ms
            );
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }

    /// Prints where every row is.
    fn print_ledger(&self) {
        for (table, totals) in self.cores.ledger.totals() {
            let table = table.plain();
            println!("{}", ledger_line(&table, &totals));
            if !totals.balances() {
                tracing::error!(%table, ?totals, "the ledger does not balance");
            }
        }
    }

    fn dump_histograms(&self) {
        let path = self.settings.data_dir.join("ringhouse-histograms.hlog");
        let set = self.cores.histograms.read(Duration::from_secs(1));
        let made = std::fs::create_dir_all(&self.settings.data_dir);
        match made
            .and_then(|()| histogram::dump(&path, &set, self.started.at, self.started.instant.elapsed()))
        {
            Ok(()) => tracing::info!(path = %path.display(), "latency histograms written"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "cannot write latency histograms"),
        }
    }
}
