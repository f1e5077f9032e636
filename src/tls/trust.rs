//! Whom a client trusts: the system's authorities, or those of a file, read again when it changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::certificates::Stamp;
use super::{TlsError, VERSIONS, pem, provider};

/// The authorities that may vouch for a server. Clones share what was read, and the sessions that can be resumed.
#[derive(Clone)]
pub struct Trust(Arc<Inner>);

struct Inner {
    /// `None` for the system's.
    file: Option<PathBuf>,
    read: Mutex<Option<Read>>,
}

/// What was read, and the file it was read from.
struct Read {
    stamp: Option<Stamp>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// The system's authorities: `SSL_CERT_FILE` and `SSL_CERT_DIR` where set, else the distribution's.
    pub fn system() -> Trust {
        Trust::new(None)
    }

    /// The certificates in a PEM file and no others.
    pub fn file(path: impl Into<PathBuf>) -> Trust {
        Trust::new(Some(path.into()))
    }

    fn new(file: Option<PathBuf>) -> Trust {
        Trust(Arc::new(Inner {
            file,
            read: Mutex::new(None),
        }))
    }

    /// What the next connection is made with. A file that has changed is read again; one that then cannot be used is
    /// logged once and what was read before stays in use. Blocks on the disk when something is read.
    ///
    /// # Errors
    /// Nothing could be read yet.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.0.file.as_deref().and_then(Stamp::of);
        if let Some(read) = read.as_ref().filter(|read| read.stamp == stamp) {
            return Ok(Arc::clone(&read.config));
        }
        match (client_config(self.0.file.as_deref()), read.as_mut()) {
            (Ok(config), _) => {
                *read = Some(Read {
                    stamp,
                    config: Arc::clone(&config),
                });
                Ok(config)
            }
            (Err(error), Some(before)) => {
                tracing::error!("{error}; the authorities from before stay trusted");
                before.stamp = stamp;
                Ok(Arc::clone(&before.config))
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// The name a server's certificate must be for.
///
/// # Errors
/// [`TlsError::ServerName`].
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName(host.to_owned()))
}

fn client_config(file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match file {
        Some(path) => pem::authorities(path)?,
        None => system_roots()?,
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .expect("ring has suites of both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry some that no longer parse; those vouch for nobody.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found
            .errors
            .first()
            .map_or("none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoSystemRoots(why));
    }
    Ok(Arc::new(roots))
}

impl PartialEq for Trust {
    fn eq(&self, other: &Trust) -> bool {
        self.0.file == other.0.file
    }
}

impl Eq for Trust {}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.file {
            Some(path) => write!(f, "Trust({})", path.display()),
            None => f.write_str("Trust(system)"),
        }
    }
}
