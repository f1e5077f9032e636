//! Who sends a request: the address it comes from, and the key it comes under.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use crate::access::{CertificateName, Key, Refusal, token_of};
use crate::http::head::{Framing, Head, Parse};
use crate::http::proxy_protocol::{V2_BYTES_MAX, bytes_certain, parse_proxy_header};
use crate::mapping::Constants;
use crate::runtime::Connection;

use super::Core;
use super::port::Port;

/// Whoever is at the other end of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Sender {
    /// Its address; `None` when a proxy does not tell.
    pub from: Option<IpAddr>,
    /// What the certificate that it has shown is known by; none where no key is asked for.
    certificate: Option<Rc<[CertificateName]>>,
}

impl Sender {
    /// Whoever sends from an address on this connection, whose TLS handshake is over if it has one.
    pub(super) fn new(port: &Port, from: Option<IpAddr>, connection: &Connection) -> Sender {
        let shown = connection.peer_certificate().filter(|_| port.require_key);
        Sender {
            from,
            certificate: shown.map(|der| CertificateName::all_of(der).into()),
        }
    }

    /// Whether the listener takes requests from its address.
    ///
    /// # Errors
    /// [`Refusal::NotAllowedFrom`].
    pub(super) fn check_address(&self, port: &Port) -> Result<(), Refusal> {
        match &port.allow {
            Some(allow) => allow.check(self.from),
            None => Ok(()),
        }
    }

    /// The key that its certificate is enough for.
    ///
    /// # Errors
    /// [`Refusal::Missing`] or [`Refusal::Ambiguous`].
    pub(super) fn key_by_certificate(&self, core: &Core) -> Result<Rc<Key>, Refusal> {
        let names = self.certificate.as_deref().ok_or(Refusal::Missing)?;
        core.api_keys.find_by_certificate(names)
    }
}

/// The address of whoever sends on a new connection, which the PROXY protocol header tells where one is due; `None` when it
/// does not tell. Nothing behind the header is read.
///
/// # Errors
/// The connection broke or was too slow, or began with something else; `InvalidData` then.
pub(super) async fn address(
    core: &Core,
    port: &Port,
    connection: &mut Connection,
) -> io::Result<Option<IpAddr>> {
    let peer = connection.peer_addr()?;
    if !port.proxy_protocol {
        return Ok(Some(peer.ip()));
    }
    let deadline_ms = core.coarse_ms.get() + core.limits.head_deadline_ms;
    connection.watch().set_deadline(deadline_ms);
    let mut header = [0; V2_BYTES_MAX];
    let mut received = 0;
    loop {
        match parse_proxy_header(&header[..received]) {
            Ok(Parse::Complete(_, header)) => return Ok(header.peer(peer).map(|client| client.ip())),
            Ok(Parse::Partial) => {
                let wanted = bytes_certain(&header[..received]);
                match connection.read(&mut header[received..received + wanted]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    bytes => received += bytes,
                }
            }
            Err(error) => {
                core.metrics.proxy_headers_refused.add(1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

/// The key a request comes under; `None` where none is needed. A token goes before a certificate, also one that is no key's: a
/// gateway shows its own certificate with the tokens of those it sends for, and must not lend them its key.
///
/// # Errors
/// It is not taken from whoever sends it.
pub(super) fn admit(
    core: &Core,
    port: &Port,
    sender: &Sender,
    head: &Head<'_>,
) -> Result<Option<Rc<Key>>, Refusal> {
    sender.check_address(port)?;
    if !port.require_key {
        return Ok(None);
    }
    let key = match token_of(head) {
        Err(Refusal::Missing) => sender.key_by_certificate(core)?,
        token => core.api_keys.find(&token?)?,
    };
    key.admit_rows(sender.from)?;
    Ok(Some(key))
}

/// What is added to the rows of a request: its listener's constants, under its key's.
pub(super) fn constants(core: &Core, port: &Port, key: Option<&Key>) -> Constants {
    let lower = port.constants;
    match key {
        None => lower,
        Some(key) if key.fields.is_empty() => lower,
        Some(key) if lower.is_empty() => key.fields,
        Some(key) => {
            // They live as long as the process: their addresses are names.
            let names = [lower, key.fields].map(|constants| constants.pairs().as_ptr().addr());
            let mut known = core.constants.borrow_mut();
            *known.entry(names).or_insert_with(|| lower.under(key.fields))
        }
    }
}

/// What is owed for a body while it comes.
pub(super) struct Bill {
    key: Rc<Key>,
    core: usize,
    /// Its bytes were not paid for before, because their number was not known.
    owes_bytes: bool,
}

impl Bill {
    /// Takes a request, and its body as far as its length is known, out of the key's quotas.
    ///
    /// # Errors
    /// [`Refusal::OverQuota`].
    pub(super) fn open(core: &Core, key: &Rc<Key>, framing: Framing) -> Result<Bill, Refusal> {
        let length = framing.length();
        key.charge(length, core.clock.now_ns())?;
        let bill = Bill {
            key: Rc::clone(key),
            core: usize::from(core.index),
            owes_bytes: length.is_none(),
        };
        let usage = key.usage.of(bill.core);
        usage.requests.add(1);
        usage.bytes.add(length.unwrap_or(0));
        Ok(bill)
    }

    /// So many bytes of the body came.
    pub(super) fn bytes_came(&self, bytes: u64, core: &Core) {
        if self.owes_bytes {
            self.key.owe_bytes(bytes, core.clock.now_ns());
            self.key.usage.of(self.core).bytes.add(bytes);
        }
    }

    /// So many of its rows were accepted.
    pub(super) fn rows_accepted(&self, rows: u64) {
        self.key.usage.of(self.core).rows.add(rows);
    }
}
