//! Reads certificates and keys from PEM files (RFC 7468).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// The whole bundle of a Linux distribution is some 220 KiB.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The certificates of a file, in order; at least one.
///
/// # Errors
/// The file cannot be read, is no PEM, or holds none.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_pem(path, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

/// The first private key of a file: PKCS #8, PKCS #1 or SEC 1.
///
/// # Errors
/// The file cannot be read, is no PEM, or holds none that is readable without a passphrase.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        // The older form has an ordinary label and says so in a header.
        _ if is_encrypted(&text) => Err(TlsError::EncryptedKey(path.to_owned())),
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(TlsError::NoKey(path.to_owned())),
        Err(error) => Err(not_pem(path, &error)),
    }
}

/// The certificates of a file as authorities to trust.
///
/// # Errors
/// As [`certificates`], or one of them cannot be an authority.
pub(super) fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Certificate {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
    }
    Ok(Arc::new(roots))
}

fn is_encrypted(text: &[u8]) -> bool {
    ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| memchr::memmem::find(text, mark.as_bytes()).is_some())
}

fn not_pem(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Pem {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|source| TlsError::Read {
            path: path.to_owned(),
            source,
        })?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge(path.to_owned()));
    }
    Ok(text)
}
