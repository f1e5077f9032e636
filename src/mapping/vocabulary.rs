//! What keys mean in dialects where they mean something else than in rows of our own.
//!
//! | vocabulary | key | meaning |
//! |---|---|---|
//! | Splunk events | `event` | an object's members stand for themselves; anything else is the Body |
//! | | `fields` | its members are attributes |
//! | | `host`, `source`, `sourcetype`, `index` | attributes |
//! | Datadog | `status` | the level |
//! | | `hostname`, `ddsource`, `ddtags` | attributes |
//! | | `date` | the time |
//! | Cribl | `_raw` | the Body |
//! | | `host`, `source`, `sourcetype`, `index` | attributes |
//!
//! A column of the key's own name goes first, and so does a name of the table's mapping.

/// Whose keys a row has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Vocabulary {
    /// Our own, which are the usual names of many producers.
    #[default]
    Own,
    /// Splunk's HTTP Event Collector.
    SplunkEvent,
    /// Datadog's log intake.
    Datadog,
    /// Cribl Stream's bulk events.
    Cribl,
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The value of a column, whatever it is.
    Column(&'static str),
    /// The members of an object stand in its place; another value is that of the column.
    Inline(&'static str),
    /// The members of an object are attributes.
    Attributes,
    /// An attribute, although its name is a usual one of a column.
    Attribute,
}

impl Vocabulary {
    /// All of them but our own, which needs no place.
    pub const OTHERS: [Vocabulary; 3] = [Vocabulary::SplunkEvent, Vocabulary::Datadog, Vocabulary::Cribl];

    /// Its keys; of several for one column the first goes first.
    pub(super) fn meanings(self) -> &'static [(&'static str, Meaning)] {
        use Meaning::{Attribute, Attributes, Column, Inline};
        match self {
            Vocabulary::Own => &[],
            Vocabulary::SplunkEvent => &[
                ("event", Inline("Body")),
                ("fields", Attributes),
                ("host", Attribute),
                ("source", Attribute),
                ("sourcetype", Attribute),
                ("index", Attribute),
            ],
            Vocabulary::Datadog => &[
                ("message", Inline("Body")),
                ("status", Column("SeverityText")),
                ("date", Column("Timestamp")),
                ("hostname", Attribute),
                ("ddsource", Attribute),
                ("ddtags", Attribute),
                ("source", Attribute),
            ],
            Vocabulary::Cribl => &[
                ("_raw", Column("Body")),
                ("host", Attribute),
                ("source", Attribute),
                ("sourcetype", Attribute),
                ("index", Attribute),
            ],
        }
    }
}
