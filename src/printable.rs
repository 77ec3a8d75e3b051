//! Text that others wrote, made fit for a terminal.
//!
//! Control characters move the cursor, hide text and retitle windows; characters that set a direction make text read as another. They are
//! shown as the escapes that JSON has for them, so that a line of JSON stays the same JSON.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal acts on `c`, or shows what follows in another order, instead of showing it. Line feeds and tabs are among them.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with escapes for what a terminal would not show. Line feeds and tabs stay: whoever laid the text out wants them.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

/// As [`printable`], for what has to stay in its line, or in its cell of a table: line feeds and tabs are shown as escapes, too.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().saturating_add(16));
    for c in text.chars() {
        match c {
            '\n' if hidden(c) => out.push_str("\\n"),
            '\t' if hidden(c) => out.push_str("\\t"),
            '\r' if hidden(c) => out.push_str("\\r"),
            // All of them have four hexadecimal digits. Writing to a string does not fail.
            c if hidden(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        let hostile = "a\u{1b}[2J\u{7f}\u{9b}8m\r\u{0}\u{202e}gnp\u{2066}\nb\tc";
        assert_eq!(printable(hostile), "a\\u001b[2J\\u007f\\u009b8m\\r\\u0000\\u202egnp\\u2066\nb\tc");
        assert_eq!(one_line("a\nb\tc\u{1b}"), "a\\nb\\tc\\u001b");
        for honest in ["", "tables/flüge/日本.parquet", "{\"a\":\"\\u001b\"}", "👩\u{200d}👩"] {
            assert!(matches!(one_line(honest), Cow::Borrowed(same) if same == honest), "{honest}");
        }
    }

    #[test]
    fn a_line_of_json_stays_the_same_json() {
        let value = serde_json::json!({"pa\u{202e}th": "a\u{7f}\u{85}\u{1b}\n\"\\\u{2069}"});
        let line = value.to_string();
        let shown = printable(&line);
        assert!(!shown.chars().any(is_hidden), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
