//! A certificate authority for a test: makes certificates for names, and writes PEM files.
//!
//! Unit tests of the crate include this file too, so that it uses nothing of `common`.
#![allow(dead_code)] // Each test program uses its own part of this.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority with a key of its own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

/// A certificate and its key, as PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// A certificate for a host name or address, good for either side.
    pub fn issue(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Writes the authority's own certificate.
    pub fn write(&self, path: &Path) -> PathBuf {
        fs::write(path, &self.certificate).unwrap();
        path.to_owned()
    }
}

impl Identity {
    /// Writes both as `NAME.pem` and `NAME.key` into a directory, each in one step as a renewal should.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let put = |name: String, text: &str| {
            let (path, new) = (directory.join(&name), directory.join(format!("{name}.new")));
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
            path
        };
        (
            put(format!("{name}.pem"), &self.certificate),
            put(format!("{name}.key"), &self.key),
        )
    }
}
