//! What can be completed.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::sql::SealedSession;

const KEYWORDS: [&str; 40] = [
    "ALL", "AND", "AS", "ASC", "BETWEEN", "BY", "CASE", "CAST", "COUNT", "DESC", "DESCRIBE", "DISTINCT", "ELSE", "END", "EXPLAIN", "FROM",
    "GROUP", "HAVING", "IN", "INSERT", "INTO", "IS", "JOIN", "LEFT", "LIKE", "LIMIT", "NOT", "NULL", "OFFSET", "ON", "OR", "ORDER",
    "SELECT", "SHOW", "THEN", "UNION", "USING", "VALUES", "WHEN", "WHERE",
];

/// What can be completed.
#[derive(Debug)]
pub(super) struct Words {
    tables: Mutex<Vec<String>>,
    functions: BTreeSet<String>,
    columns: Mutex<BTreeSet<String>>,
}

impl Words {
    /// The session's tables and functions; columns are learnt as they are met.
    pub(super) fn new(session: &SealedSession) -> Self {
        let context = session.context();
        let state = context.state();
        let mut functions: BTreeSet<String> = state.scalar_functions().keys().cloned().collect();
        functions.extend(state.aggregate_functions().keys().cloned());
        functions.extend(state.window_functions().keys().cloned());
        functions.extend(state.table_functions().keys().cloned());
        Self { tables: Mutex::new(tables_of(session)), functions, columns: Mutex::default() }
    }

    /// Takes over which tables the session has now.
    pub(super) fn note_tables(&self, session: &SealedSession) {
        *self.tables.lock() = tables_of(session);
    }

    pub(super) fn tables(&self) -> Vec<String> {
        self.tables.lock().clone()
    }

    pub(super) fn add_columns(&self, names: impl Iterator<Item = String>) {
        self.columns.lock().extend(names);
    }

    /// Everything that begins with `word`: columns, tables, functions, keywords.
    fn beginning_with(&self, word: &str) -> Vec<String> {
        let lower = word.to_lowercase();
        let begins = |name: &&String| name.to_lowercase().starts_with(&lower);
        let mut found: Vec<String> = self.columns.lock().iter().filter(begins).map(|name| quoted(name)).collect();
        found.extend(self.tables.lock().iter().filter(begins).map(|name| quoted(name)));
        found.extend(self.functions.iter().filter(begins).map(|name| format!("{name}(")));
        let keywords = KEYWORDS.iter().filter(|keyword| keyword.to_lowercase().starts_with(&lower));
        found.extend(
            keywords.map(|keyword| if word.chars().any(char::is_uppercase) { (*keyword).to_owned() } else { keyword.to_lowercase() }),
        );
        found.dedup();
        found
    }

    /// The start of the word before `position`, and what it may become.
    pub(super) fn complete(&self, line: &str, position: usize) -> (usize, Vec<String>) {
        let before = line.get(..position).unwrap_or_default();
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '\\');
        let start = before.char_indices().rev().take_while(|(_, c)| is_word(*c)).last().map_or(position, |(at, _)| at);
        let word = before.get(start..).unwrap_or_default();
        if word.starts_with('\\') {
            let commands = ["\\d", "\\df", "\\timing", "\\format", "\\q", "\\?"];
            return (start, commands.iter().filter(|command| command.starts_with(word)).map(|command| (*command).to_owned()).collect());
        }
        let is_open = |text: &str| text.matches('\'').count() % 2 == 1;
        if is_open(before) || before.trim_start().starts_with("\\d") {
            // Table functions and \d take names of tables.
            let tables = self.tables.lock().iter().filter(|name| name.starts_with(word)).cloned().collect();
            return (start, tables);
        }
        if word.is_empty() { (position, Vec::new()) } else { (start, self.beginning_with(word)) }
    }
}

fn tables_of(session: &SealedSession) -> Vec<String> {
    let context = session.context();
    let mut tables = Vec::new();
    for catalog in context.catalog_names() {
        let Some(catalog) = context.catalog(&catalog) else { continue };
        for schema in catalog.schema_names().iter().filter(|schema| *schema != "information_schema") {
            tables.extend(catalog.schema(schema).map(|schema| schema.table_names()).unwrap_or_default());
        }
    }
    tables.sort();
    tables.dedup();
    tables
}

/// A name as SQL must have it: others than plain lower-case ones are quoted.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && !name.starts_with(|c: char| c.is_ascii_digit()) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_where_they_belong() {
        let words = Words {
            tables: Mutex::new(vec!["Flights".into(), "flights".into()]),
            functions: BTreeSet::from(["floor".into(), "poison_diff".into()]),
            columns: Mutex::new(BTreeSet::from(["flag".into(), "Fl x".into()])),
        };
        let complete = |line: &str| words.complete(line, line.len());
        assert_eq!(complete("SELECT fl"), (7, ["\"Fl x\"", "flag", "\"Flights\"", "flights", "floor("].map(str::to_owned).to_vec()));
        assert_eq!(complete("SELECT * FROM audit('fl"), (21, vec!["flights".into()]));
        assert_eq!(complete("SEL"), (0, vec!["SELECT".into()]));
        assert_eq!(complete("sel"), (0, vec!["select".into()]));
        assert_eq!(complete("\\t"), (0, vec!["\\timing".into()]));
        assert_eq!(complete("\\d fl"), (3, vec!["flights".into()]));
        assert_eq!(complete("SELECT é fl").0, "SELECT é ".len());
    }
}
