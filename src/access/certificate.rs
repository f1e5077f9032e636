//! What a client's certificate is known by: the names in it that a key may be given to.
//!
//! | written | stands for |
//! |---|---|
//! | `CN=web` | the common name of its subject (RFC 5280 section 4.1.2.6), if it has one and no second |
//! | `DNS:web.example.org` | a host among its alternative names (section 4.2.1.6), in whatever case |
//! | `URI:spiffe://example.org/web` | a URI among them, as SPIFFE has ids |
//! | `sha256:` and 64 hexadecimal digits, with or without colons | this very certificate |
//!
//! The forms are those of OpenSSL's output and of ClickHouse's `ssl_certificates`. A name is compared as a whole: patterns would
//! give a key to certificates that nobody has thought of.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names looked at in one certificate. Those of services have a handful; a request looks each of them up.
const NAMES_MAX: usize = 32;

/// Bytes of a name: a host has 255 at most, a SPIFFE id 2,048.
const NAME_BYTES_MAX: usize = 2048;

/// One name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// The subject's common name.
    Common(Box<str>),
    /// A host, in lower case.
    Dns(Box<str>),
    /// A URI.
    Uri(Box<str>),
    /// SHA-256 of the whole certificate in DER.
    Fingerprint([u8; 32]),
}

impl CertificateName {
    /// The names of a certificate in DER, at most 32 of them, the fingerprint first. Of one that cannot be read that is all.
    pub fn all_of(der: &[u8]) -> Vec<CertificateName> {
        let mut names = vec![CertificateName::Fingerprint(Sha256::digest(der).into())];
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return names;
        };
        let mut common = certificate.subject().iter_common_name();
        // Of two nobody could say which one the authority has meant.
        if let (Some(name), None) = (common.next(), common.next())
            && let Ok(name) = name.as_str()
        {
            names.push(CertificateName::Common(name.into()));
        }
        if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
            let others = alternative.value.general_names.iter();
            names.extend(others.filter_map(|name| match name {
                GeneralName::DNSName(host) => Some(CertificateName::Dns(host.to_ascii_lowercase().into())),
                GeneralName::URI(uri) => Some(CertificateName::Uri((*uri).into())),
                _ => None,
            }));
        }
        names.truncate(NAMES_MAX);
        names
    }
}

/// A text names no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCertificateName(String);

impl fmt::Display for NoCertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` names no certificate; write CN=NAME, DNS:HOST, URI:URI or sha256: and its 64 hexadecimal digits",
            self.0
        )
    }
}

impl std::error::Error for NoCertificateName {}

impl FromStr for CertificateName {
    type Err = NoCertificateName;

    fn from_str(text: &str) -> Result<CertificateName, NoCertificateName> {
        let name = if let Some(name) = text.strip_prefix("CN=") {
            is_name(name).then(|| CertificateName::Common(name.into()))
        } else if let Some(host) = text.strip_prefix("DNS:") {
            is_name(host).then(|| CertificateName::Dns(host.to_ascii_lowercase().into()))
        } else if let Some(uri) = text.strip_prefix("URI:") {
            is_name(uri).then(|| CertificateName::Uri(uri.into()))
        } else {
            text.strip_prefix("sha256:")
                .and_then(fingerprint)
                .map(CertificateName::Fingerprint)
        };
        name.ok_or_else(|| NoCertificateName(text.to_owned()))
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// 64 hexadecimal digits in either case, each two perhaps parted by colons.
fn fingerprint(digits: &str) -> Option<[u8; 32]> {
    let pairs: Vec<&[u8]> = match digits.len() {
        64 => digits.as_bytes().chunks(2).collect(),
        _ => digits.split(':').map(str::as_bytes).collect(),
    };
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = *pair else { return None };
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(high)? * 16 + digit(low)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(common: &[&str], hosts: &[&str], uri: Option<&str>) -> Vec<u8> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let uris = uri.map(|uri| SanType::URI(uri.try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_has_the_names_its_key_may_be_given_to() {
        let der = certificate(
            &["web"],
            &["Web.Example.org", "192.0.2.1"],
            Some("spiffe://example.org/web"),
        );
        let names = CertificateName::all_of(&der);
        let digits: Vec<String> = Sha256::digest(&der)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let written = [
            format!("sha256:{}", digits.join(":")),
            "CN=web".to_owned(),
            "DNS:WEB.example.org".to_owned(),
            "URI:spiffe://example.org/web".to_owned(),
        ];
        assert_eq!(
            names,
            written.map(|name| name.parse::<CertificateName>().unwrap())
        );
        let joined = format!("sha256:{}", digits.concat().to_ascii_lowercase());
        assert_eq!(joined.parse(), Ok(names[0].clone()));
    }

    #[test]
    fn what_is_no_certificate_or_has_too_many_names_is_known_by_no_more_than_is_bounded() {
        assert_eq!(CertificateName::all_of(b"no certificate").len(), 1);
        let hosts: Vec<String> = (0..100).map(|host| format!("h{host}.example.org")).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let names = CertificateName::all_of(&certificate(&["web"], &hosts, None));
        assert_eq!((names.len(), &names[1]), (32, &"CN=web".parse().unwrap()));
    }

    #[test]
    fn a_common_name_counts_when_it_is_the_only_one() {
        // rcgen keeps one value a type: a second CN goes through a type of its own with the same OID.
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "web");
        params
            .distinguished_name
            .push(DnType::CustomDnType(vec![2, 5, 4, 3]), "admin");
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        assert_eq!(CertificateName::all_of(&der).len(), 1);
    }

    #[test]
    fn rejects_what_names_no_certificate() {
        let short = format!("sha256:{}", "0".repeat(62));
        let no_digit = format!("sha256:{}g", "0".repeat(63));
        let parted = format!("sha256:{}", ["000"; 32].join(":"));
        for text in [
            "", "web", "CN=", "cn=web", "DNS:", "URI:", "CN=a\nb", "sha256:", &short, &no_digit, &parted,
        ] {
            let error = text.parse::<CertificateName>().unwrap_err();
            assert!(error.to_string().contains("write CN=NAME"), "{text}: {error}");
        }
    }
}
