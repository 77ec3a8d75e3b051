//! A line that is being typed: editing, history, completion. `Line` is pure; the terminal is [`Editor`]'s.

use std::path::PathBuf;

use console::{Key, Term, measure_text_width};

use crate::error::{Error, ErrorKind, Result};
use crate::printable::is_hidden;

/// Statements that are remembered.
const HISTORY_LINES: usize = 2000;
/// A history of more bytes is not read.
const HISTORY_LIMIT_BYTES: u64 = 8 << 20;
/// Candidates that are shown at a time.
const SHOWN_CANDIDATES: usize = 60;

/// What a key came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    /// The line goes on.
    More,
    /// It is done.
    Done,
    /// It was given up.
    Interrupted,
    /// There will be no more.
    End,
    /// What stands before the cursor is to be completed.
    Complete,
}

/// The characters of a line, and where the cursor stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    chars: Vec<char>,
    cursor: usize,
    /// How far back in history the line is; 0 is what was typed.
    back: usize,
    typed: Vec<char>,
}

impl Line {
    pub(super) fn text(&self) -> String {
        self.chars.iter().collect()
    }

    /// What stands before the cursor.
    pub(super) fn before_cursor(&self) -> String {
        self.chars.iter().take(self.cursor).collect()
    }

    /// Puts `text` in place of what stands between byte `start` of the line and the cursor.
    pub(super) fn replace_before_cursor(&mut self, start: usize, text: &str) {
        let kept = self.before_cursor().get(..start).map_or(0, |kept| kept.chars().count());
        let replaced: Vec<char> = text.chars().collect();
        let cursor = kept + replaced.len();
        self.chars.splice(kept..self.cursor, replaced);
        self.cursor = cursor;
    }

    fn set(&mut self, chars: Vec<char>) {
        self.cursor = chars.len();
        self.chars = chars;
    }

    fn recall(&mut self, history: &[String], back: usize) {
        if self.back == 0 {
            self.typed = self.chars.clone();
        }
        self.back = back;
        let recalled = back.checked_sub(1).and_then(|back| history.iter().rev().nth(back));
        self.set(recalled.map_or_else(|| self.typed.clone(), |line| line.chars().collect()));
    }

    /// The start of the word before the cursor.
    fn word_start(&self) -> usize {
        let before = self.chars.get(..self.cursor).unwrap_or_default();
        let blanks = before.iter().rev().take_while(|c| c.is_whitespace()).count();
        let word = before.iter().rev().skip(blanks).take_while(|c| !c.is_whitespace()).count();
        self.cursor - blanks - word
    }

    /// What `key` does to the line.
    pub(super) fn apply(&mut self, key: Key, history: &[String]) -> Typed {
        match key {
            Key::Enter => return Typed::Done,
            Key::CtrlC => return Typed::Interrupted,
            Key::Tab => return Typed::Complete,
            Key::Char('\u{4}') if self.chars.is_empty() => return Typed::End,
            Key::Del | Key::Char('\u{4}') if self.cursor < self.chars.len() => drop(self.chars.remove(self.cursor)),
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.chars.remove(self.cursor);
            }
            Key::ArrowLeft | Key::Char('\u{2}') => self.cursor = self.cursor.saturating_sub(1),
            Key::ArrowRight | Key::Char('\u{6}') => self.cursor = (self.cursor + 1).min(self.chars.len()),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.chars.len(),
            Key::ArrowUp | Key::Char('\u{10}') => self.recall(history, (self.back + 1).min(history.len())),
            Key::ArrowDown | Key::Char('\u{e}') if self.back > 0 => self.recall(history, self.back - 1),
            // Ctrl-K, Ctrl-U, Ctrl-W: to the end, to the start, the word before.
            Key::Char('\u{b}') => self.chars.truncate(self.cursor),
            Key::Char('\u{15}') => {
                self.chars.drain(..self.cursor);
                self.cursor = 0;
            }
            Key::Char('\u{17}') => {
                let start = self.word_start();
                self.chars.drain(start..self.cursor);
                self.cursor = start;
            }
            Key::Char(c) if !c.is_control() => {
                self.chars.insert(self.cursor, c);
                self.cursor += 1;
            }
            _ => {}
        }
        Typed::More
    }

    /// The part of the line that fits `width` columns, and how many columns of it stand before the cursor. Cost: that of what fits, however
    /// long the line is.
    fn window(&self, width: usize) -> (String, usize) {
        let (before, after) = self.chars.split_at_checked(self.cursor).unwrap_or((&self.chars, &[]));
        // Both sides leave the column free in which the cursor stands behind the last character.
        let fits = |used: &mut usize, c: char| {
            *used += columns(c);
            (*used < width).then_some(visible(c))
        };
        let shown = before.iter().rev().scan(0, |used, c| fits(used, *c)).collect::<Vec<_>>();
        let mut shown: String = shown.into_iter().rev().collect();
        let cursor = measure_text_width(&shown);
        shown.extend(after.iter().scan(cursor, |used, c| fits(used, *c)));
        (shown, cursor)
    }
}

/// A character as it is shown: a recalled statement may have several lines, and a terminal obeys none of them.
fn visible(c: char) -> char {
    match c {
        '\n' => '↵',
        c if is_hidden(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

fn columns(c: char) -> usize {
    measure_text_width(visible(c).encode_utf8(&mut [0; 4]))
}

/// A statement as a line of the history's file.
fn escaped(statement: &str) -> String {
    statement.replace('\\', "\\\\").replace('\n', "\\n")
}

/// The statement of a line of the history's file. Files of earlier versions escaped nothing: a backslash before anything else is one.
fn unescaped(line: &str) -> String {
    let mut statement = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let meant = match (c, chars.peek()) {
            ('\\', Some('n')) => Some('\n'),
            ('\\', Some('\\')) => Some('\\'),
            _ => None,
        };
        if meant.is_some() {
            chars.next();
        }
        statement.push(meant.unwrap_or(c));
    }
    statement
}

/// Reads lines from a terminal.
pub(super) struct Editor {
    term: Term,
    history: Vec<String>,
    file: PathBuf,
}

/// How reading ended.
pub(super) enum Entered {
    Text(String),
    Interrupted,
    End,
}

fn failed(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "the terminal could not be used").caused_by(e)
}

impl Editor {
    /// An editor whose history is kept in `file`. A history that is not there, or cannot be read, is an empty one.
    pub(super) fn new(file: PathBuf) -> Self {
        let small = std::fs::metadata(&file).is_ok_and(|meta| meta.len() <= HISTORY_LIMIT_BYTES);
        let text = if small { std::fs::read_to_string(&file).unwrap_or_default() } else { String::new() };
        Self { term: Term::stdout(), history: text.lines().map(unescaped).collect(), file }
    }

    /// Remembers a statement as it was typed: blanks and ends of lines mean something within quotes and after comments.
    pub(super) fn remember(&mut self, statement: &str) {
        let statement = statement.trim();
        if !statement.is_empty() && self.history.last().is_none_or(|last| last != statement) {
            self.history.push(statement.to_owned());
        }
    }

    /// Writes the history, readable by its owner only.
    pub(super) fn keep(&self) -> std::io::Result<()> {
        if let Some(directory) = self.file.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let from = self.history.len().saturating_sub(HISTORY_LINES);
        let text: String = self.history.iter().skip(from).map(|statement| escaped(statement) + "\n").collect();
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        std::io::Write::write_all(&mut options.open(&self.file)?, text.as_bytes())
    }

    /// Reads one line. `complete` is given what stands before the cursor, and gives a byte position and what may follow from there.
    pub(super) fn read(&self, prompt: &str, complete: impl Fn(&str) -> (usize, Vec<String>)) -> Result<Entered> {
        let mut line = Line::default();
        self.draw(prompt, &line)?;
        loop {
            let key = match self.term.read_key_raw() {
                Ok(key) => key,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Key::CtrlC,
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Entered::End),
                Err(e) => return Err(failed(e)),
            };
            match line.apply(key, &self.history) {
                Typed::More => {}
                Typed::Done => {
                    self.term.write_line("").map_err(failed)?;
                    return Ok(Entered::Text(line.text()));
                }
                Typed::Interrupted => {
                    self.term.write_line("^C").map_err(failed)?;
                    return Ok(Entered::Interrupted);
                }
                Typed::End => {
                    self.term.write_line("").map_err(failed)?;
                    return Ok(Entered::End);
                }
                Typed::Complete => {
                    let (start, candidates) = complete(&line.before_cursor());
                    self.offer(&mut line, start, &candidates)?;
                }
            }
            self.draw(prompt, &line)?;
        }
    }

    /// Completes as far as all candidates agree, and shows them where they do not.
    fn offer(&self, line: &mut Line, start: usize, candidates: &[String]) -> Result<()> {
        // A name that a terminal would obey is typed by whoever means it.
        let candidates: Vec<String> = candidates.iter().filter(|name| !name.contains(is_hidden)).cloned().collect();
        let Some(common) = common_start(&candidates) else { return Ok(()) };
        let before = line.before_cursor();
        let word = before.get(start..).unwrap_or_default();
        if common.chars().count() > word.chars().count() || candidates.len() == 1 {
            line.replace_before_cursor(start, &common);
            return Ok(());
        }
        let more = candidates.len().saturating_sub(SHOWN_CANDIDATES);
        let mut shown = candidates.iter().take(SHOWN_CANDIDATES).cloned().collect::<Vec<_>>().join("  ");
        if more > 0 {
            shown.push_str(&format!("  and {more} more"));
        }
        self.term.write_line("").and_then(|()| self.term.write_line(&shown)).map_err(failed)
    }

    fn draw(&self, prompt: &str, line: &Line) -> Result<()> {
        let columns = usize::from(self.term.size().1);
        let room = columns.saturating_sub(measure_text_width(prompt) + 1).max(8);
        let (shown, cursor) = line.window(room);
        let back = measure_text_width(&shown).saturating_sub(cursor);
        let draw = || {
            self.term.clear_line()?;
            self.term.write_str(prompt)?;
            self.term.write_str(&shown)?;
            if back > 0 {
                self.term.move_cursor_left(back)?;
            }
            self.term.flush()
        };
        draw().map_err(failed)
    }
}

/// What all candidates begin with; upper and lower case must agree.
fn common_start(candidates: &[String]) -> Option<String> {
    let (first, rest) = candidates.split_first()?;
    let length = |other: &String| first.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let common = rest.iter().map(length).min().unwrap_or_else(|| first.chars().count());
    Some(first.chars().take(common).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[Key], history: &[&str]) -> Line {
        let history: Vec<String> = history.iter().map(|line| (*line).to_owned()).collect();
        let mut line = Line::default();
        for key in keys {
            assert_eq!(line.apply(key.clone(), &history), Typed::More, "{key:?}");
        }
        line
    }

    fn chars(text: &str) -> Vec<Key> {
        text.chars().map(Key::Char).collect()
    }

    #[test]
    fn a_line_is_edited_where_the_cursor_stands() {
        let keys =
            [chars("SELCT"), vec![Key::ArrowLeft, Key::ArrowLeft, Key::Char('E'), Key::End, Key::Char(' '), Key::Char('é')]].concat();
        assert_eq!(typed(&keys, &[]).text(), "SELECT é");
        assert_eq!(typed(&[chars("abc"), vec![Key::Backspace, Key::Home, Key::Del]].concat(), &[]).text(), "b");
        assert_eq!(typed(&[chars("one two "), vec![Key::Char('\u{17}')]].concat(), &[]).text(), "one ");
        assert_eq!(typed(&[chars("one two"), vec![Key::ArrowLeft, Key::Char('\u{15}')]].concat(), &[]).text(), "o");
        assert_eq!(typed(&[chars("one"), vec![Key::Home, Key::Char('\u{b}'), Key::Backspace, Key::Del]].concat(), &[]).text(), "");
    }

    #[test]
    fn history_goes_back_and_what_was_typed_comes_again() {
        let up = |n: usize| std::iter::repeat_n(Key::ArrowUp, n).collect::<Vec<_>>();
        let history = ["first", "second"];
        assert_eq!(typed(&up(1), &history).text(), "second");
        assert_eq!(typed(&up(5), &history).text(), "first");
        assert_eq!(typed(&[chars("new"), up(2), vec![Key::ArrowDown, Key::ArrowDown, Key::ArrowDown]].concat(), &history).text(), "new");
    }

    #[test]
    fn endings_and_completion() {
        let mut line = typed(&chars("SELECT fl"), &[]);
        assert_eq!(line.apply(Key::Tab, &[]), Typed::Complete);
        line.replace_before_cursor(7, "flights");
        assert_eq!((line.text().as_str(), line.before_cursor().as_str()), ("SELECT flights", "SELECT flights"));
        assert_eq!(line.apply(Key::Enter, &[]), Typed::Done);
        assert_eq!(Line::default().apply(Key::Char('\u{4}'), &[]), Typed::End);
        assert_eq!(Line::default().apply(Key::CtrlC, &[]), Typed::Interrupted);
        assert_eq!(common_start(&["flag".into(), "flights".into()]), Some("fl".into()));
        assert_eq!(common_start(&[]), None);
    }

    #[test]
    fn a_long_line_is_shown_around_the_cursor() {
        let mut line = typed(&chars(&"abcdefghij".repeat(5)), &[]);
        let (shown, cursor) = line.window(10);
        assert!(shown.ends_with('j') && cursor == 9, "{shown} {cursor}");
        line.apply(Key::Home, &[]);
        assert_eq!(line.window(10), ("abcdefghi".to_owned(), 0));
        assert_eq!(typed(&chars("日本語日本語"), &[]).window(6), ("本語".to_owned(), 4), "wide characters are shown whole");
    }

    /// Each key draws what fits the terminal, and not all that was typed.
    #[test]
    fn a_line_of_any_length_can_be_pasted() {
        let mut line = Line::default();
        for n in 0..20_000_u32 {
            line.apply(Key::Char(char::from_digit(n % 10, 10).unwrap()), &[]);
            let (shown, cursor) = line.window(80);
            assert!(shown.len() == cursor && cursor == line.chars.len().min(79), "{shown} {cursor}");
        }
        line.apply(Key::Home, &[]);
        let (shown, cursor) = line.window(80);
        assert_eq!((shown.len(), cursor), (79, 0));
    }

    #[test]
    fn a_statement_is_recalled_as_it_was_typed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("home/history");
        let statements =
            ["INSERT INTO t VALUES ('a  b', 'c\\nd\\\\')", "SELECT 1 -- x\n + 2;", "\\d", "SELECT '\\", "SELECT 'tab\tbed\r';"];
        let mut editor = Editor::new(file.clone());
        for statement in statements {
            editor.remember(&format!("{statement}\n"));
            editor.remember(statement);
        }
        editor.remember(" \n ");
        assert_eq!(editor.history, statements);
        editor.keep().unwrap();
        assert_eq!(Editor::new(file.clone()).history, statements);
        let mut line = Line::default();
        line.apply(Key::ArrowUp, &editor.history[..2]);
        assert_eq!((line.text().as_str(), line.window(80).0.as_str()), ("SELECT 1 -- x\n + 2;", "SELECT 1 -- x↵ + 2;"));
        // As earlier versions wrote it.
        std::fs::write(&file, "\\d t\nSELECT 1;\n").unwrap();
        assert_eq!(Editor::new(file).history, ["\\d t", "SELECT 1;"]);
    }
}
