//! What a server proves itself with, replaced without a restart when its files change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::{TlsError, VERSIONS, pem, provider, unusable};

/// PEM files of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate, followed by those between it and an authority that clients know.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of client certificates: when given, a client must show one of theirs.
    pub client_ca: Option<PathBuf>,
}

/// The certificates of one listener as they are now, shared by all cores.
pub struct Certificates {
    files: ServerFiles,
    alpn: Vec<Vec<u8>>,
    config: RwLock<Arc<ServerConfig>>,
    /// The files as they were when they were last read, whatever came of it.
    read: Mutex<Vec<Option<Stamp>>>,
}

/// What a look at the files found.
#[derive(Debug)]
pub enum Reload {
    /// They are those that were read last.
    Unchanged,
    /// New connections are shown the new certificates.
    Reloaded,
    /// The new ones cannot be used; new connections are shown those from before.
    Kept(TlsError),
}

impl Certificates {
    /// Reads the files. `alpn` are the protocols of the listener, the preferred one first; with none, ALPN is not
    /// answered.
    ///
    /// # Errors
    /// Names the file that cannot be used, and why.
    pub fn load(files: ServerFiles, alpn: &[&str]) -> Result<Certificates, TlsError> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        // Before they are read: a change meanwhile is seen by the next look.
        let read = stamps(&files);
        let config = server_config(&files, &alpn)?;
        Ok(Certificates {
            files,
            alpn,
            config: RwLock::new(config),
            read: Mutex::new(read),
        })
    }

    /// What the next connection is accepted with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again when they are not those that were read last, or when `forced`. Blocks on the disk.
    pub fn reload(&self, forced: bool) -> Reload {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.files);
        if *read == now && !forced {
            return Reload::Unchanged;
        }
        *read = now;
        match server_config(&self.files, &self.alpn) {
            Ok(config) => {
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
                Reload::Reloaded
            }
            Err(error) => Reload::Kept(error),
        }
    }

    fn reload_and_tell(&self, forced: bool) {
        let certificate = self.files.certificate.display();
        match self.reload(forced) {
            Reload::Unchanged => {}
            Reload::Reloaded => tracing::info!(%certificate, "certificates are read again"),
            Reload::Kept(error) => {
                tracing::error!(%certificate, "{error}; the certificates from before stay in use");
            }
        }
    }
}

fn server_config(files: &ServerFiles, alpn: &[Vec<u8>]) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .expect("ring has suites of both versions");
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(pem::authorities(path)?, provider())
                .build()
                .map_err(|error| TlsError::Certificate {
                    path: path.clone(),
                    why: error.to_string(),
                })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = pem::certificates(&files.certificate)?;
    let key = pem::key(&files.key)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&error, &files.certificate, &files.key))?;
    config.alpn_protocols = alpn.to_vec();
    // Tickets (RFC 8446 section 4.6.1, RFC 5077) let a client that comes back skip the signatures. Their keys live and
    // end with this configuration: whom former authorities let in cannot resume past new ones.
    if let Ok(ticketer) = rustls::crypto::ring::Ticketer::new() {
        config.ticketer = ticketer;
    }
    config.send_tls13_tickets = TICKETS;
    Ok(Arc::new(config))
}

/// A client that opens connections in parallel asks for them one by one; each new one brings its own.
const TICKETS: usize = 1;

/// What tells a file from the one that was there before, also behind a symbolic link that was turned (as Kubernetes
/// mounts secrets) and when it was written twice within a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` when the file is not there.
    pub(super) fn of(path: &Path) -> Option<Stamp> {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

fn stamps(files: &ServerFiles) -> Vec<Option<Stamp>> {
    [
        Some(&files.certificate),
        Some(&files.key),
        files.client_ca.as_ref(),
    ]
    .into_iter()
    .flatten()
    .map(|path| Stamp::of(path))
    .collect()
}

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The thread that looks at the files of all listeners. It ends when this is dropped.
#[derive(Debug)]
pub struct Follower {
    force: Sender<()>,
}

impl Follower {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(all: Vec<Arc<Certificates>>) -> io::Result<Follower> {
        let (force, forced) = mpsc::channel();
        thread::Builder::new()
            .name("certificates".to_owned())
            .spawn(move || {
                loop {
                    let forced = match forced.recv_timeout(LOOK_INTERVAL) {
                        Ok(()) => true,
                        Err(RecvTimeoutError::Timeout) => false,
                        Err(RecvTimeoutError::Disconnected) => return,
                    };
                    for certificates in &all {
                        certificates.reload_and_tell(forced);
                    }
                }
            })?;
        Ok(Follower { force })
    }

    /// Has every file read again now, as SIGHUP asks.
    pub fn force(&self) {
        // The thread lives as long as this.
        let _ = self.force.send(());
    }
}
