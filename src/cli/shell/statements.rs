//! Where one statement ends and the next begins.

/// Where in a text a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    /// Within quotes of this kind.
    Quoted(char),
    LineComment,
    BlockComment,
}

/// The statements of a text, without the semicolons between them. A backslash command takes its line.
pub(super) fn split(text: &str) -> Vec<String> {
    scan(text).0
}

/// Whether a text ends within a statement: not yet with a semicolon, or within quotes or a comment.
pub(super) fn is_incomplete(text: &str) -> bool {
    let (statements, ended) = scan(text);
    !ended && statements.last().is_some_and(|last| !last.starts_with('\\'))
}

/// The statements, and whether the last one was ended.
fn scan(text: &str) -> (Vec<String>, bool) {
    let mut statements = Vec::new();
    let mut current = String::new();
    let mut state = State::Plain;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match (state, c) {
            (State::Plain, ';') => finish(&mut current, &mut statements),
            (State::Plain, '\n') if current.trim_start().starts_with('\\') => finish(&mut current, &mut statements),
            (State::Plain, '\'' | '"') if !current.trim_start().starts_with('\\') => {
                state = State::Quoted(c);
                current.push(c);
            }
            // A doubled quote closes and opens again, which comes to the same.
            (State::Quoted(quote), c) => {
                current.push(c);
                if c == quote {
                    state = State::Plain;
                }
            }
            (State::Plain, '-') if next == Some('-') => state = State::LineComment,
            (State::Plain, '/') if next == Some('*') => {
                chars.next();
                state = State::BlockComment;
            }
            (State::LineComment, '\n') => {
                current.push('\n');
                state = State::Plain;
            }
            (State::BlockComment, '*') if next == Some('/') => {
                chars.next();
                current.push(' ');
                state = State::Plain;
            }
            (State::LineComment | State::BlockComment, _) => {}
            (State::Plain, c) => current.push(c),
        }
    }
    let ended = current.trim().is_empty() && matches!(state, State::Plain | State::LineComment);
    finish(&mut current, &mut statements);
    (statements, ended)
}

fn finish(current: &mut String, statements: &mut Vec<String>) {
    let statement = current.trim();
    if !statement.is_empty() {
        statements.push(statement.to_owned());
    }
    current.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_within_quotes_and_comments_end_nothing() {
        assert_eq!(split("SELECT 1; SELECT ';' , \"a;b\" ;"), ["SELECT 1", "SELECT ';' , \"a;b\""]);
        assert_eq!(split("SELECT 1 -- one; two\n + 2; /* ; */ SELECT 'it''s;'"), ["SELECT 1 \n + 2", "SELECT 'it''s;'"]);
        assert_eq!(split(" ;; \n"), [""; 0]);
        assert_eq!(split("\\d flights\nSELECT 1;\\timing"), ["\\d flights", "SELECT 1", "\\timing"]);
        assert_eq!(split("\\d it's\nSELECT 1"), ["\\d it's", "SELECT 1"]);
    }

    #[test]
    fn a_statement_is_complete_when_it_is_ended() {
        for complete in ["SELECT 1;", "", "  ", "\\d", "\\d t", "SELECT 1; -- done", "SELECT ';';"] {
            assert!(!is_incomplete(complete), "{complete:?}");
        }
        for incomplete in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT", "SELECT 1 /* ;", "SELECT \"a;\n"] {
            assert!(is_incomplete(incomplete), "{incomplete:?}");
        }
    }
}
