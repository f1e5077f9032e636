//! Whom a client trusts: the system's authorities, or those of a file; and the certificate it shows. Read again when they change.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::certificates::Stamp;
use super::{TlsError, VERSIONS, pem, provider, unusable};

/// The authorities that may vouch for a server, and what is shown to it. Clones share what was read, and the sessions that can be
/// resumed.
#[derive(Clone)]
pub struct Trust(Arc<Inner>);

struct Inner {
    files: ClientFiles,
    read: Mutex<Option<Read>>,
}

/// PEM files of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Authorities that may vouch for a server; the system's when absent.
    pub ca: Option<PathBuf>,
    /// What is shown to a server that asks who we are; nothing when absent.
    pub identity: Option<Identity>,
}

/// A client's certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those between it and an authority that the server knows.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What was read, and the files it was read from.
struct Read {
    stamps: Vec<Option<Stamp>>,
    config: Arc<ClientConfig>,
}

impl ClientFiles {
    fn stamps(&self) -> Vec<Option<Stamp>> {
        let identity = self.identity.iter();
        let shown = identity.flat_map(|identity| [&identity.certificate, &identity.key]);
        self.ca.iter().chain(shown).map(|path| Stamp::of(path)).collect()
    }
}

impl Trust {
    /// The system's authorities: `SSL_CERT_FILE` and `SSL_CERT_DIR` where set, else the distribution's.
    pub fn system() -> Trust {
        Trust::new(ClientFiles::default())
    }

    /// The certificates in a PEM file and no others.
    pub fn file(path: impl Into<PathBuf>) -> Trust {
        Trust::new(ClientFiles {
            ca: Some(path.into()),
            identity: None,
        })
    }

    /// The authorities that these files name, and the certificate to show.
    pub fn new(files: ClientFiles) -> Trust {
        Trust(Arc::new(Inner {
            files,
            read: Mutex::new(None),
        }))
    }

    /// What the next connection is made with. Files that have changed are read again; of those that then cannot be used it is
    /// logged once why, and what was read before stays in use. Blocks on the disk when something is read.
    ///
    /// # Errors
    /// Nothing could be read yet.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.0.files.stamps();
        if let Some(read) = read.as_ref().filter(|read| read.stamps == stamps) {
            return Ok(Arc::clone(&read.config));
        }
        match (client_config(&self.0.files), read.as_mut()) {
            (Ok(config), _) => {
                *read = Some(Read {
                    stamps,
                    config: Arc::clone(&config),
                });
                Ok(config)
            }
            (Err(error), Some(before)) => {
                tracing::error!("{error}; what was read before stays in use");
                before.stamps = stamps;
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

fn client_config(files: &ClientFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &files.ca {
        Some(path) => pem::authorities(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .expect("ring has suites of both versions")
        .with_root_certificates(roots);
    let config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => builder
            .with_client_auth_cert(pem::certificates(certificate)?, pem::key(key)?)
            .map_err(|error| unusable(&error, certificate, key))?,
    };
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
        self.0.files == other.0.files
    }
}

impl Eq for Trust {}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trust").field(&self.0.files).finish()
    }
}
