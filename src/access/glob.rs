//! Which tables a key reaches: names with `*` and `?`.

use std::fmt;

use crate::schema::TableName;

/// `app_*`, `db.table`, `db.*`: without a dot the tables of the default database, `*.*` every table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableGlob {
    /// `None` for the default database.
    database: Option<String>,
    table: String,
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
            database: database.map(str::to_owned),
            table: table.to_owned(),
        })
    }

    /// Whether the pattern stands for this table; `default_database` is the one of tables named without any.
    pub fn matches(&self, name: &TableName, default_database: &str) -> bool {
        let database = match &self.database {
            Some(pattern) => matches(pattern, &name.database),
            None => name.database == default_database,
        };
        database && matches(&self.table, &name.table)
    }
}

impl fmt::Display for TableGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(database) = &self.database {
            write!(f, "{database}.")?;
        }
        f.write_str(&self.table)
    }
}

/// `*` stands for any characters or none, `?` for one, everything else for itself.
///
/// At a mismatch only the last `*` takes one character more: what an earlier one would take, the last can take as well.
/// So it takes at most pattern times text steps, where trying every `*` could take an age.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Behind the last `*`, and where in the text it was tried.
    let mut retry = None;
    loop {
        let rest_of_text = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                retry = Some((pattern.clone(), rest_of_text.clone()));
                text = rest_of_text;
            }
            (Some('?'), Some(_)) => {}
            (Some(expected), Some(found)) if expected == found => {}
            _ => {
                let Some((after_star, tried)) = &mut retry else {
                    return false;
                };
                if tried.next().is_none() {
                    return false;
                }
                (pattern, text) = (after_star.clone(), tried.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            let name = TableName { database: database.to_owned(), table: table.to_owned() };
            let glob = TableGlob::parse(pattern).unwrap();
            assert_eq!(glob.matches(&name, "logs"), reached, "{pattern} {database}.{table}");
            assert_eq!(glob.to_string(), pattern);
        }
    }

    #[test]
    fn rejects_a_pattern_with_an_empty_part() {
        for text in ["", ".", "a.", ".a", "a\n", "a.b\0"] {
            assert_eq!(TableGlob::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_answered_at_once() {
        let pattern = "*a".repeat(100) + "b";
        assert!(!matches(&pattern, &"a".repeat(2_000)));
    }

    /// Tries every `*` at every length.
    fn oracle(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|taken| oracle(rest, &text[taken..])),
            Some(('?', rest)) => !text.is_empty() && oracle(rest, &text[1..]),
            Some((letter, rest)) => text.first() == Some(letter) && oracle(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn matches_what_trying_everything_matches(pattern in "[ab*?é]{0,8}", text in "[abé]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), oracle(&chars(&pattern), &chars(&text)));
        }
    }
}
