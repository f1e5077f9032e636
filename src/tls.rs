//! TLS without I/O: what a server proves itself with, whom a client trusts, and the session between them.
//!
//! Versions 1.2 (RFC 5246) and 1.3 (RFC 8446) as rustls speaks them, with the cryptography of `ring`: it builds with a C
//! compiler alone, and every suite of it is one of AES-GCM or ChaCha20-Poly1305 with an ephemeral key exchange. Sockets
//! are the runtime's and the control thread's matter.

mod certificates;
mod pem;
mod session;
mod trust;

pub use certificates::{Certificates, Follower, Reload, ServerFiles};
pub use session::{Session, Taken};
pub(crate) use trust::server_name;
pub use trust::{ClientFiles, Identity, Trust};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// ALPN names (RFC 7301) of a listener that speaks HTTP/1.1 alone.
pub const HTTP_1: &[&str] = &["http/1.1"];

/// ALPN names of a listener that speaks HTTP/2, and HTTP/1.1 for those who do not.
pub const HTTP_2: &[&str] = &["h2", "http/1.1"];

/// The one provider of all configurations, so that none depends on what else the process has installed.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Versions both sides speak. Written out: a version that rustls adds is looked at before it is used.
static VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Why TLS cannot be set up, naming the file at fault.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is larger than any chain or bundle is.
    TooLarge(PathBuf),
    /// A file is no PEM text.
    Pem {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file holds no `BEGIN CERTIFICATE`.
    NoCertificate(PathBuf),
    /// A file holds no private key.
    NoKey(PathBuf),
    /// The private key has a passphrase, which nobody would be there to type.
    EncryptedKey(PathBuf),
    /// The private key is of a kind that cannot sign.
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The first certificate is not that of the private key.
    KeyMismatch {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate cannot be used.
    Certificate {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system has no authorities to trust.
    NoSystemRoots(String),
    /// What should be a host's name is none.
    ServerName(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            TlsError::TooLarge(path) => write!(
                f,
                "{} is larger than {} KiB and no file of certificates",
                path.display(),
                pem::FILE_BYTES_MAX >> 10
            ),
            TlsError::Pem { path, why } => write!(f, "{} is no PEM file: {why}", path.display()),
            TlsError::NoCertificate(path) => {
                write!(f, "{} holds no certificate (BEGIN CERTIFICATE)", path.display())
            }
            TlsError::NoKey(path) => write!(f, "{} holds no private key (BEGIN PRIVATE KEY)", path.display()),
            TlsError::EncryptedKey(path) => write!(
                f,
                "the private key in {} is encrypted; write it without a passphrase (openssl pkey) and let only the \
                 server's user read it",
                path.display()
            ),
            TlsError::Key { path, why } => {
                write!(f, "the private key in {} cannot be used: {why}", path.display())
            }
            TlsError::KeyMismatch { certificate, key } => write!(
                f,
                "the private key in {} does not belong to the first certificate in {}",
                key.display(),
                certificate.display()
            ),
            TlsError::Certificate { path, why } => {
                write!(f, "a certificate in {} cannot be used: {why}", path.display())
            }
            TlsError::NoSystemRoots(why) => write!(
                f,
                "the system has no certificate authorities to trust ({why}): install ca-certificates or name a file of \
                 them"
            ),
            TlsError::ServerName(name) => {
                write!(
                    f,
                    "`{name}` is no host name or address a certificate could be for"
                )
            }
        }
    }
}

impl std::error::Error for TlsError {}

/// Why rustls takes no certificate with its key, by the file at fault.
fn unusable(error: &rustls::Error, certificate: &Path, key: &Path) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        },
        rustls::Error::InvalidCertificate(_) => TlsError::Certificate {
            path: certificate.to_owned(),
            why: error.to_string(),
        },
        error => TlsError::Key {
            path: key.to_owned(),
            why: error.to_string(),
        },
    }
}

/// What went wrong in a session, in words for the operator.
pub(crate) fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error, InvalidMessage};
    match error {
        Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "the peer's certificate is signed by none of the authorities that are trusted here".to_owned()
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the peer's certificate has expired".to_owned()
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "the peer's certificate is for another name than the one it is reached by".to_owned()
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "the peer does not speak TLS".to_owned(),
        Error::NoCertificatesPresented => "the peer has shown no certificate, and one is required".to_owned(),
        Error::AlertReceived(Alert::UnknownCA) => {
            "the peer does not trust the authority of the certificate it was shown".to_owned()
        }
        Error::AlertReceived(
            Alert::CertificateRequired | Alert::BadCertificate | Alert::HandshakeFailure,
        ) => {
            "the peer requires a certificate of ours that it knows, and was shown none or another".to_owned()
        }
        other => other.to_string(),
    }
}

/// A socket's failure in words for the operator, where it is one of the session within: as rustls' own streams have it.
pub(crate) fn explained(error: io::Error) -> io::Error {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(refusal) => failed(refusal),
        None => error,
    }
}

/// A session's failure as the socket's user sees it.
pub(crate) fn failed(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {}", explain(error)))
}

#[cfg(test)]
#[path = "../tests/common/authority.rs"]
pub(crate) mod authority;
#[cfg(test)]
mod tests;
