//! What a listener means for what comes in by it.

use crate::ack::AckLevel;
use crate::config::ListenerSettings;
use crate::mapping::Constants;

/// A listener of one core.
pub(super) struct Port {
    /// Its name, for routes.
    pub name: String,
    /// Table of rows that name none, as `table` or `database.table`; else the default table.
    pub table: Option<String>,
    /// Ack level of requests that name none.
    pub ack: AckLevel,
    /// Constant fields of every row.
    pub constants: Constants,
}

impl Port {
    pub(super) fn new(settings: &ListenerSettings) -> Port {
        Port {
            name: settings.name.clone(),
            table: settings.table.clone(),
            ack: settings.ack,
            constants: Constants::keep(&settings.fields),
        }
    }
}
