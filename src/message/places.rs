//! Where the parts of a record go: the columns of the default table, or the same names in a table of others.

use crate::batch::{Place, RowStop, RowWriter};

/// One place for each of those columns.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Of the names they were found by.
    pub(super) generation: u32,
    pub(crate) timestamp: Place,
    pub(crate) trace_id: Place,
    pub(crate) span_id: Place,
    pub(crate) trace_flags: Place,
    pub(crate) severity_text: Place,
    pub(crate) severity_number: Place,
    pub(crate) service_name: Place,
    pub(crate) body: Place,
    pub(crate) resource_schema_url: Place,
    pub(crate) resource_attributes: Place,
    pub(crate) scope_schema_url: Place,
    pub(crate) scope_name: Place,
    pub(crate) scope_version: Place,
    pub(crate) scope_attributes: Place,
    pub(crate) log_attributes: Place,
    pub(crate) event_name: Place,
}

impl Places {
    pub(super) fn find(row: &mut RowWriter<'_, '_>) -> Result<Places, RowStop> {
        Ok(Places {
            generation: row.generation(),
            timestamp: row.place("Timestamp")?,
            trace_id: row.place("TraceId")?,
            span_id: row.place("SpanId")?,
            trace_flags: row.place("TraceFlags")?,
            severity_text: row.place("SeverityText")?,
            severity_number: row.place("SeverityNumber")?,
            service_name: row.place("ServiceName")?,
            body: row.place("Body")?,
            resource_schema_url: row.place("ResourceSchemaUrl")?,
            resource_attributes: row.place("ResourceAttributes")?,
            scope_schema_url: row.place("ScopeSchemaUrl")?,
            scope_name: row.place("ScopeName")?,
            scope_version: row.place("ScopeVersion")?,
            scope_attributes: row.place("ScopeAttributes")?,
            log_attributes: row.place("LogAttributes")?,
            event_name: row.place("EventName")?,
        })
    }
}
