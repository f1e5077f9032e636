//! What ClickHouse prints as a table's partition key, as a calendar unit of one column.

use super::{ColumnSpec, DataType, PartitionKey, PartitionUnit};

impl PartitionKey {
    /// Recognises the text of `system.tables.partition_key`.
    ///
    /// A unit finer than the true one is taken where the true one is missing here (a quarter is counted in months, a
    /// Sunday week in days): it never counts fewer partitions than ClickHouse does. Coarser than the truth is never
    /// taken: such a key is opaque.
    pub(super) fn parse(text: &str, columns: &[ColumnSpec]) -> PartitionKey {
        let text = strip_parentheses(text.trim());
        if text.is_empty() || text == "tuple()" {
            return PartitionKey::None;
        }
        // A constant puts every row into one partition.
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return PartitionKey::None;
        }
        match time_key(text, columns) {
            Some((column, unit)) => PartitionKey::Time { column, unit },
            None => PartitionKey::Opaque,
        }
    }
}

fn time_key(text: &str, columns: &[ColumnSpec]) -> Option<(usize, PartitionUnit)> {
    let find = |name: &str| {
        let name = name.trim();
        let name = name
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix('`'))
            .unwrap_or(name);
        let index = columns.iter().position(|column| column.name == name)?;
        columns[index].data_type.is_time().then_some(index)
    };
    let Some((function, rest)) = text.split_once('(') else {
        let column = find(text)?;
        let is_date = matches!(columns[column].data_type, DataType::Date | DataType::Date32);
        return is_date.then_some((column, PartitionUnit::Day));
    };
    let arguments = rest.strip_suffix(')')?;
    let (argument, extra) = match arguments.split_once(',') {
        Some((argument, extra)) => (argument, Some(extra.trim())),
        None => (arguments, None),
    };
    let column = find(argument)?;
    if function == "toStartOfInterval" {
        return Some((column, interval(extra?)?));
    }
    // Another time zone moves the borders, not the number of units in a span (but for one at its ends).
    if function != "toStartOfWeek" && extra.is_some_and(|extra| !extra.starts_with('\'')) {
        return None;
    }
    let unit = match function {
        "toStartOfHour" | "toYYYYMMDDhh" => PartitionUnit::Hour,
        "toDate" | "toDate32" | "toYYYYMMDD" | "toStartOfDay" | "toStartOfWeek" => PartitionUnit::Day,
        "toMonday" => PartitionUnit::Week,
        "toYYYYMM" | "toStartOfMonth" | "toStartOfQuarter" => PartitionUnit::Month,
        "toYear" | "toStartOfYear" => PartitionUnit::Year,
        _ => return None,
    };
    Some((column, unit))
}

/// `toIntervalDay(7)` or `INTERVAL 7 DAY`: one unit is as fine as seven, so the count does not matter.
fn interval(text: &str) -> Option<PartitionUnit> {
    let name = match text.strip_prefix("toInterval") {
        Some(rest) => rest.split_once('(')?.0,
        None => text.strip_prefix("INTERVAL ")?.split_once(' ')?.1,
    };
    match name.to_ascii_lowercase().as_str() {
        "hour" => Some(PartitionUnit::Hour),
        "day" | "week" => Some(PartitionUnit::Day),
        "month" | "quarter" => Some(PartitionUnit::Month),
        "year" => Some(PartitionUnit::Year),
        _ => None,
    }
}

fn strip_parentheses(text: &str) -> &str {
    match text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
        Some(inner) if !inner.contains([',', '(']) || inner.ends_with(')') => inner.trim(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Role;

    fn columns() -> Vec<ColumnSpec> {
        [
            ("Timestamp", "DateTime64(9)"),
            ("day", "Date"),
            ("my time", "DateTime('UTC')"),
            ("s", "String"),
        ]
        .map(|(name, type_name)| ColumnSpec {
            name: name.into(),
            type_name: type_name.into(),
            data_type: DataType::parse(type_name).unwrap(),
            has_default: false,
            role: Role::Plain,
        })
        .to_vec()
    }

    #[test]
    fn recognises_calendar_units() {
        use PartitionUnit::*;
        for (text, column, unit) in [
            ("toDate(Timestamp)", 0, Day),
            ("(toDate(Timestamp))", 0, Day),
            ("toYYYYMM(Timestamp)", 0, Month),
            ("toYYYYMM(day)", 1, Month),
            ("toYYYYMMDD(Timestamp, 'UTC')", 0, Day),
            ("toStartOfHour(`my time`)", 2, Hour),
            ("toStartOfDay(Timestamp)", 0, Day),
            ("toMonday(day)", 1, Week),
            ("toStartOfWeek(day)", 1, Day),
            ("toStartOfWeek(day, 1)", 1, Day),
            ("toStartOfMonth(day)", 1, Month),
            ("toStartOfYear(day)", 1, Year),
            ("toYear(Timestamp)", 0, Year),
            ("toStartOfInterval(Timestamp, toIntervalDay(3))", 0, Day),
            ("toStartOfInterval(Timestamp, INTERVAL 6 HOUR)", 0, Hour),
            ("day", 1, Day),
            ("(day)", 1, Day),
        ] {
            assert_eq!(
                PartitionKey::parse(text, &columns()),
                PartitionKey::Time { column, unit },
                "{text}"
            );
        }
    }

    #[test]
    fn leaves_other_keys_to_clickhouse() {
        for text in ["", "tuple()", "  ", "1"] {
            assert_eq!(
                PartitionKey::parse(text, &columns()),
                PartitionKey::None,
                "{text}"
            );
        }
        for text in [
            "(toYYYYMM(Timestamp), s)",
            "(day, s)",
            "s",
            "Timestamp",
            "toDate(other)",
            "toDate(s)",
            "toStartOfMinute(Timestamp)",
            "toStartOfInterval(Timestamp, toIntervalSecond(10))",
            "toYYYYMM(Timestamp + 5)",
            "(toDate(Timestamp), toDate(day))",
            "cityHash64(s) % 8",
            "toDate(",
            "(",
            ")",
        ] {
            assert_eq!(
                PartitionKey::parse(text, &columns()),
                PartitionKey::Opaque,
                "{text}"
            );
        }
    }
}
