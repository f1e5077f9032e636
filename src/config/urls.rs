//! The addresses of ClickHouse as written: one text or a list, and the servers they name.

use super::{ConfigError, Secret};
use crate::clickhouse::endpoint::{self, Endpoint};
use crate::tls::{self, ClientFiles, Trust};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Addresses in the order they were written, each kept from being printed with its password.
///
/// A comma separates two of them wherever they are written: in a flag, a variable, a string of the file, or an element
/// of an array there. A comma in a password is therefore written as `%2C`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Urls(Vec<Secret>);

impl Urls {
    /// The addresses, in order.
    pub fn as_slice(&self) -> &[Secret] {
        &self.0
    }

    /// Adds the addresses of a text.
    fn add(&mut self, text: &str) {
        let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
        self.0.extend(urls.map(Secret::new));
    }
}

/// The servers at `urls`, with `password` for all of them when it comes from its own file or variable, and with the
/// authorities and the certificate in `files` where there are some.
///
/// # Errors
/// An address is none, two are of one server, or they name different databases: rows of one table would go to
/// whichever server is in use. The files cannot be used, or there is nothing to use them for.
pub(super) fn endpoints(
    urls: &[Secret],
    password: Option<&Secret>,
    files: &ClientFiles,
) -> Result<Vec<Endpoint>, ConfigError> {
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(urls.len());
    // One for all: what is read once need not be read again.
    let trust = Trust::new(files.clone());
    for (at, url) in urls.iter().enumerate() {
        let mut endpoint: Endpoint = url.expose().parse().map_err(|error| ConfigError::ClickHouse {
            number: at + 1,
            count: urls.len(),
            error,
        })?;
        if let Some(password) = password {
            endpoint.password = endpoint::Secret::new(password.expose());
        }
        if endpoint.tls.is_some() {
            trust.config().map_err(ConfigError::ClickHouseTls)?;
            tls::server_name(&endpoint.host).map_err(ConfigError::ClickHouseTls)?;
            endpoint.tls = Some(trust.clone());
        }
        let same_server = |known: &&Endpoint| {
            known.host.eq_ignore_ascii_case(&endpoint.host) && known.port == endpoint.port
        };
        if endpoints.iter().find(same_server).is_some() {
            return Err(ConfigError::ClickHouseTwice(endpoint.authority()));
        }
        if let Some(first) = endpoints
            .first()
            .filter(|first| first.database != endpoint.database)
        {
            return Err(ConfigError::ClickHouseDatabases(
                first.database.clone(),
                endpoint.database,
            ));
        }
        endpoints.push(endpoint);
    }
    if endpoints.is_empty() {
        return Err(ConfigError::NoClickHouse);
    }
    // Whoever names authorities or a certificate expects TLS, and would not learn otherwise that there is none.
    let unused = match files {
        ClientFiles { ca: Some(_), .. } => Some("clickhouse_ca"),
        ClientFiles {
            identity: Some(_), ..
        } => Some("clickhouse_tls_cert"),
        _ => None,
    };
    if let Some(key) = unused
        && endpoints.iter().all(|endpoint| endpoint.tls.is_none())
    {
        return Err(ConfigError::ClickHouseTlsUnused(key));
    }
    Ok(endpoints)
}

impl From<Vec<Secret>> for Urls {
    fn from(urls: Vec<Secret>) -> Urls {
        Urls(urls)
    }
}

impl FromStr for Urls {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Urls, Self::Err> {
        let mut urls = Urls::default();
        urls.add(text);
        Ok(urls)
    }
}

/// Those of several flags, in order.
impl FromIterator<Urls> for Urls {
    fn from_iter<I: IntoIterator<Item = Urls>>(flags: I) -> Urls {
        Urls(flags.into_iter().flat_map(|urls| urls.0).collect())
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Urls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [url] => url.serialize(serializer),
            urls => urls.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Urls, D::Error> {
        deserializer.deserialize_any(StringOrArray)
    }
}

struct StringOrArray;

impl<'de> Visitor<'de> for StringOrArray {
    type Value = Urls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Urls, E> {
        Ok(text.parse().unwrap_or_else(|never| match never {}))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Urls, A::Error> {
        let mut urls = Urls::default();
        while let Some(text) = texts.next_element::<String>()? {
            urls.add(&text);
        }
        Ok(urls)
    }
}
