//! Which tables a key reaches: names with `*` and `?`.

use std::fmt;

use wildmatch::WildMatch;

/// `app_*`, `db.table`, `db.*`: without a dot the tables of the default database, `*.*` every table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableGlob {
    /// `None` for the default database.
    database: Option<WildMatch>,
    table: WildMatch,
}

impl TableGlob {
    /// Reads a pattern; its first dot ends the database. `None` when a part is empty or holds a control character.
    pub fn parse(text: &str) -> Option<TableGlob> {
        let (database, table) = match text.split_once('.') {
            Some((database, table)) => (Some(database), table),
            None => (None, text),
        };
        let is_pattern = |part: &str| !part.is_empty() && !part.contains(char::is_control);
        (is_pattern(table) && database.is_none_or(is_pattern)).then(|| TableGlob {
            database: database.map(WildMatch::new),
            table: WildMatch::new(table),
        })
    }

    /// Whether the pattern stands for this table; `default_database` is the one of tables named without any.
    pub fn matches(&self, database: &str, table: &str, default_database: &str) -> bool {
        let in_database = match &self.database {
            Some(pattern) => pattern.matches(database),
            None => database == default_database,
        };
        in_database && self.table.matches(table)
    }
}

impl fmt::Display for TableGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(database) = &self.database {
            write!(f, "{database}.")?;
        }
        write!(f, "{}", self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_a_dot_is_for_the_default_database() {
        for (pattern, database, table, reached) in [
            ("app_*", "logs", "app_web", true),
            ("app_*", "logs", "app_", true),
            ("app_*", "logs", "app", false),
            ("app_*", "other", "app_web", false),
            ("*", "logs", "anything", true),
            ("*", "other", "anything", false),
            ("*.*", "other", "anything", true),
            ("other.*", "other", "app_web", true),
            ("other.*", "logs", "app_web", false),
            ("o*.app_?eb", "other", "app_web", true),
            ("o*.app_?eb", "other", "app_weeb", false),
            ("db.table", "db", "table", true),
            ("db.table", "db", "tables", false),
            ("db.a.b", "db", "a.b", true),
        ] {
            let glob = TableGlob::parse(pattern).unwrap();
            assert_eq!(
                glob.matches(database, table, "logs"),
                reached,
                "{pattern} {database}.{table}"
            );
            assert_eq!(glob.to_string(), pattern);
        }
    }

    #[test]
    fn rejects_a_pattern_with_an_empty_part() {
        for text in ["", ".", "a.", ".a", "a\n", "a.b\0"] {
            assert_eq!(TableGlob::parse(text), None, "{text:?}");
        }
    }
}
