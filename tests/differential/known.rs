//! The differences between Ringhouse and ClickHouse's own `JSONEachRow`, each with its reason.

use ringhouse::schema::DataType;

use crate::Outcome;
use crate::values::Json;

/// How the outcomes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    /// Ringhouse rejects a row that ClickHouse takes.
    Refused,
    /// Ringhouse takes a row that ClickHouse refuses.
    Taken,
    /// Both take it and hold different values.
    Differs,
}

impl Relation {
    pub fn of(ours: &Outcome, theirs: &Outcome) -> Relation {
        match (ours, theirs) {
            _ if ours == theirs => Relation::Equal,
            (None, _) => Relation::Refused,
            (_, None) => Relation::Taken,
            _ => Relation::Differs,
        }
    }
}

/// One difference: where some part of a row's value is such a value for such a type, the outcomes may relate so.
pub struct Known {
    pub relation: Relation,
    pub applies: fn(&DataType, &Json) -> bool,
}

pub const KNOWN: &[Known] = &[];

/// Whether `applies` holds for the value or a part of it.
pub fn any_part(data_type: &DataType, value: &Json, applies: &dyn Fn(&DataType, &Json) -> bool) -> bool {
    if applies(data_type, value) {
        return true;
    }
    match (data_type, value) {
        (DataType::Nullable(inner) | DataType::LowCardinality(inner), _) => any_part(inner, value, applies),
        (DataType::Array(element), Json::Array(values)) => {
            values.iter().any(|value| any_part(element, value, applies))
        }
        (DataType::Map(key, element), Json::Object(members)) => members.iter().any(|(name, value)| {
            any_part(key, &Json::Scalar(name.clone()), applies) || any_part(element, value, applies)
        }),
        (DataType::Tuple(elements), Json::Array(values)) => elements
            .iter()
            .zip(values)
            .any(|((_, element), value)| any_part(element, value, applies)),
        (DataType::Tuple(elements), Json::Object(members)) => members.iter().any(|(name, value)| {
            elements
                .iter()
                .filter(|(element, _)| {
                    element
                        .as_ref()
                        .is_some_and(|element| format!("\"{element}\"") == *name)
                })
                .any(|(_, element)| any_part(element, value, applies))
        }),
        _ => false,
    }
}
