//! What a listener means for what comes in by it.

use std::rc::Rc;
use std::sync::Arc;

use crate::access::AllowList;
use crate::ack::AckLevel;
use crate::config::{ListenerSettings, Protocol};
use crate::forward::handshake::Secrets;
use crate::mapping::Constants;
use crate::tls::Certificates;
use crate::zone::Zone;

/// A listener of one core.
pub(super) struct Port {
    /// Its name, for routes.
    pub name: String,
    /// Table of rows that name none, as `table` or `database.table`; else the default table.
    pub table: Option<String>,
    /// Ack level of requests that name none.
    pub ack: AckLevel,
    /// Requests need a key.
    pub require_key: bool,
    /// Where requests are taken from; everywhere when absent.
    pub allow: Option<AllowList>,
    /// Connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Constant fields of every row.
    pub constants: Constants,
    /// The zone of senders' times that name none.
    pub zone: Zone,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Forward: what clients must know.
    pub secrets: Option<Rc<Secrets>>,
    /// What TLS connections are accepted with; without it they are plain.
    pub certificates: Option<Arc<Certificates>>,
}

impl Port {
    pub(super) fn new(settings: &ListenerSettings, certificates: Option<Arc<Certificates>>) -> Port {
        Port {
            name: settings.name.clone(),
            table: settings.table.clone(),
            ack: settings.ack,
            require_key: settings.require_key,
            allow: settings.allow.clone(),
            proxy_protocol: settings.proxy_protocol,
            constants: Constants::keep(&settings.fields),
            zone: settings.timezone,
            protocol: settings.protocol,
            secrets: settings.shared_key.as_ref().map(|key| {
                let users = settings.users.iter();
                Rc::new(Secrets {
                    shared_key: key.expose().to_owned(),
                    users: users
                        .map(|(user, password)| (user.clone(), password.expose().to_owned()))
                        .collect(),
                })
            }),
            certificates,
        }
    }
}
