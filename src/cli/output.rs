//! What people and pipes see: lines, aligned tables, errors.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{ErrorKind as IoKind, IsTerminal as _, Write};
use std::sync::LazyLock;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::error::{Error, ErrorKind, Result};
use crate::printable::{one_line, printable};

/// Good news.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Bad news.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something to look at.
pub const NOTE: Style = AnsiColor::Yellow.on_default().bold();
/// A heading.
pub const HEAD: Style = Style::new().bold();
/// Less important.
pub const DIM: Style = Style::new().dimmed();

/// What a control sequence of our own begins with. Nobody who writes names and values can know it, so all other sequences are theirs. It is
/// a first parameter, so that whatever strips control sequences strips these.
static OURS: LazyLock<String> = LazyLock::new(|| format!("\u{1b}[{};", RandomState::new().hash_one(std::process::id())));

/// `text` in `style`, for [`Output`], [`say`] and [`explain`] alone: they show the style, and escape whatever else a terminal would obey.
/// The stream that they write to drops the style where it does not belong.
pub fn styled(style: Style, text: impl Display) -> String {
    let ours = |sequence: String| sequence.replace("\u{1b}[", &OURS);
    format!("{}{text}{}", ours(format!("{style}")), ours(format!("{style:#}")))
}

/// Text as a terminal may have it: styles that [`styled`] gave it, and nothing else that a terminal obeys but line feeds and tabs.
fn shown(text: &str) -> Cow<'_, str> {
    around_styles(text, "\u{1b}[", printable)
}

/// Escapes what stands between the styles of our own; `begin` takes the place of what they begin with.
fn around_styles<'a>(text: &'a str, begin: &str, escape: fn(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    let mut pieces = text.split(OURS.as_str());
    let Some(first) = pieces.next().filter(|first| first.len() < text.len()) else { return escape(text) };
    let mut out = escape(first).into_owned();
    for piece in pieces {
        out.push_str(begin);
        out.push_str(&escape(piece));
    }
    Cow::Owned(out)
}

/// Writes a line to standard error, as [`Output::line`] does to standard output. When standard error is gone there is nobody left to tell.
pub fn say(text: impl Display) {
    let _ = anstream::stderr().write_all(format!("{}\n", shown(&text.to_string())).as_bytes());
}

/// Writes a note to standard error.
pub fn note(text: impl Display) {
    say(format_args!("{} {}", styled(NOTE, "note:"), one_line(&text.to_string())));
}

/// Standard output. When its reader goes away nothing fails: what is left is not written, and the command ends as it would have.
///
/// Whatever is written in lines is made fit for a terminal here, whoever wrote the names and values in it: control characters but line
/// feeds and tabs, and characters that set a direction, are shown as the escapes that JSON has for them. A line of JSON stays the same
/// JSON.
pub struct Output {
    writer: Box<dyn Write + Send>,
    /// The same, for bytes that must not be changed: the other drops styles, in whatever they stand.
    exact: Box<dyn Write + Send>,
    closed: bool,
    is_terminal: bool,
}

impl Output {
    /// Standard output, with colours where they are wanted.
    pub fn stdout() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self { writer: Box::new(anstream::stdout()), exact: Box::new(std::io::stdout()), closed: false, is_terminal }
    }

    /// An output that tests read.
    #[cfg(test)]
    pub(super) fn captured() -> (Self, std::sync::Arc<parking_lot::Mutex<Vec<u8>>>) {
        #[derive(Clone, Default)]
        struct Shared(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let shared = Shared::default();
        (Self { writer: Box::new(shared.clone()), exact: Box::new(shared.clone()), closed: false, is_terminal: false }, shared.0)
    }

    /// Whether a person reads it at a terminal: only there are long values cut.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether the reader has gone away.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes a line.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be written, for instance to a full disk.
    pub fn line(&mut self, text: impl Display) -> Result<()> {
        let text = text.to_string();
        let written = writeln!(self.writer, "{}", shown(&text)).and_then(|()| self.writer.flush());
        self.check(written)
    }

    /// Writes bytes as they are, for programs; a terminal is shown them as it is shown lines.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let written = if self.is_terminal {
            let text = String::from_utf8_lossy(bytes);
            self.writer.write_all(printable(&text).as_bytes()).and_then(|()| self.writer.flush())
        } else {
            self.exact.write_all(bytes).and_then(|()| self.exact.flush())
        };
        self.check(written)
    }

    fn check(&mut self, written: std::io::Result<()>) -> Result<()> {
        match written {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == IoKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(e) => Err(Error::new(ErrorKind::Io, "the output could not be written").caused_by(e)),
        }
    }
}

/// An aligned table; `right` lists the columns of figures. A cell is one line.
pub fn aligned(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| around_styles(cell, &OURS, one_line)));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Characters of a cell that [`aligned_whole`] makes room for.
const WIDE_CHARS: usize = 60;

/// As [`aligned`], for pipes: what stands in long cells is whole, and a long one moves what comes after it in its own line only, so that one value
/// does not fill all lines with spaces.
pub fn aligned_whole(header: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let mut lines: Vec<Vec<String>> = vec![header.iter().map(ToString::to_string).collect()];
    lines.extend(rows.iter().map(|row| row.iter().map(|cell| one_line(cell).into_owned()).collect()));
    let mut widths = vec![0; header.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(Some(cell.chars().count()).filter(|chars| *chars <= WIDE_CHARS).unwrap_or_default());
        }
    }
    let padded = |(column, (cell, &width)): (usize, (&String, &usize))| match right.contains(&column) {
        true => format!("{cell:>width$}"),
        false => format!("{cell:<width$}"),
    };
    let line = |line: &Vec<String>| line.iter().zip(&widths).enumerate().map(padded).collect::<Vec<_>>().join("  ").trim_end().to_owned();
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Says on standard error what went wrong, where, why, and what to do.
pub fn report(error: &Error) {
    let _ = anstream::stderr().write_all(explain(error).as_bytes());
}

/// The text of [`report`], fit for a terminal.
pub fn explain(error: &Error) -> String {
    shown(&explained(error)).into_owned()
}

/// A place of an error, in its line.
fn place(key: &str, value: &str) -> String {
    format!("  {key}: {}\n", value.lines().map(one_line).collect::<Vec<_>>().join("\n    "))
}

/// The text of [`report`], for [`Output`] and [`say`].
pub fn explained(error: &Error) -> String {
    let mut text = format!("{}{}\n", styled(BAD, "error: "), error.message().trim_end().replace('\n', "\n    "));
    let mut said = vec![error.message().to_owned()];
    for (key, value) in error.context() {
        text.push_str(&place(key, value));
    }
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = next {
        let own = cause.downcast_ref::<Error>();
        // What merely wraps an error of ours repeats it, in worse words.
        let wraps_ours = own.is_none() && Error::find(cause).is_some();
        let message = own.map_or_else(|| cause.to_string(), |e| e.message().to_owned());
        // Foreign errors print their causes too: say everything once.
        if !wraps_ours && !message.trim().is_empty() && !said.iter().any(|earlier| earlier.contains(&message)) {
            text.push_str(&format!("  {} {}\n", styled(DIM, "because:"), message.trim().replace('\n', "\n    ")));
            said.push(message);
        }
        for (key, value) in own.map_or(&[][..], Error::context) {
            let line = place(key, value);
            if !text.contains(&line) {
                text.push_str(&line);
            }
        }
        next = cause.source();
    }
    if let Some(advice) = advice(error) {
        text.push_str(&format!("  {} {advice}\n", styled(DIM, "help:")));
    }
    text
}

/// Whether an error, or a cause of it, is about the regions of a lake.
fn speaks_of_regions(error: &Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        let own = cause.downcast_ref::<Error>();
        if own.is_some_and(|own| own.message().contains("region") || own.context().iter().any(|(key, _)| key.contains("region"))) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn advice(error: &Error) -> Option<&'static str> {
    let deepest = error.source().and_then(Error::find).map_or(error.kind(), Error::kind);
    let kind = if error.kind() == ErrorKind::Internal { deepest } else { error.kind() };
    match kind {
        ErrorKind::Unavailable if speaks_of_regions(error) => {
            Some("`lakeseal region list` shows which regions answer; the same command may succeed later")
        }
        ErrorKind::Unavailable => Some("the same command may succeed later"),
        ErrorKind::OutcomeUnknown => Some("look at the table before repeating this: it may have taken effect"),
        ErrorKind::Mismatch => Some("`lakeseal audit TABLE` lists everything that differs from the baseline"),
        ErrorKind::Corrupt => Some("the stored bytes are damaged; nothing was made of them"),
        ErrorKind::Internal => Some("this is a fault of Lakeseal; please report it with LAKESEAL_LOG=debug"),
        _ => None,
    }
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// A count for people.
pub fn count(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}

/// A number of versions for people.
pub fn versions(n: u64) -> String {
    format!("{} version{}", count(n), if n == 1 { "" } else { "s" })
}

/// A number of slots of registers for people.
pub fn slots(n: u64) -> String {
    format!("{} slot{}", count(n), if n == 1 { "" } else { "s" })
}

/// A number of files for people.
pub fn files(n: u64) -> String {
    if n == 1 { "1 file".to_owned() } else { format!("{} files", count(n)) }
}

/// A point in time, in UTC, from milliseconds since 1970.
pub fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).map_or_else(|| format!("{ms} ms"), |t| t.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(error: &Error) -> String {
        anstream::adapter::strip_str(&explain(error)).to_string()
    }

    #[test]
    fn an_error_says_what_where_why_and_what_to_do() {
        let cause = Error::new(ErrorKind::Io, "the disk is full").with("region", "a");
        let error = Error::new(ErrorKind::Unavailable, "too few regions").with("path", "t/1").caused_by(cause);
        assert_eq!(
            plain(&error),
            "error: too few regions\n  path: t/1\n  because: the disk is full\n  region: a\n  help: `lakeseal region list` shows which \
             regions answer; the same command may succeed later\n"
        );
    }

    #[test]
    fn whoever_has_no_regions_is_told_of_none() {
        let cause = std::io::Error::other("no route");
        let error = Error::new(ErrorKind::Unavailable, "the store failed").with("table", "s3://bucket/t").caused_by(cause);
        assert!(plain(&error).ends_with("  help: the same command may succeed later\n"), "{}", plain(&error));
        let region = Error::new(ErrorKind::Io, "no route").with("region", "a");
        let of_lake = Error::new(ErrorKind::Unavailable, "the store failed").caused_by(region);
        assert!(plain(&of_lake).contains("lakeseal region list"));
    }

    #[test]
    fn what_wraps_an_error_of_ours_is_left_out() {
        let ours = Error::new(ErrorKind::Mismatch, "row group 1 was changed").with("file", "a.parquet");
        let wrapped = Error::new(ErrorKind::Mismatch, "the query was refused").caused_by(ours.into_object_store(&"a.parquet".into()));
        let text = plain(&wrapped);
        assert!(text.starts_with("error: the query was refused\n  because: row group 1 was changed\n  file: a.parquet\n"), "{text}");
    }

    #[test]
    fn a_cause_that_repeats_its_own_causes_is_said_once() {
        let inner = std::io::Error::other("deep");
        let outer = Error::new(ErrorKind::InvalidInput, "shallow: deep").caused_by(inner);
        assert_eq!(plain(&outer), "error: shallow: deep\n");
    }

    struct Gone(IoKind);
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn gone(kind: IoKind) -> Output {
        Output { writer: Box::new(Gone(kind)), exact: Box::new(Gone(kind)), closed: false, is_terminal: false }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is_one() {
        let mut full = gone(IoKind::StorageFull);
        assert_eq!(full.line("x").unwrap_err().kind(), ErrorKind::Io);
        let mut gone = gone(IoKind::BrokenPipe);
        gone.line("x").unwrap();
        gone.bytes(b"x").unwrap();
        assert!(gone.is_closed());
    }

    #[test]
    fn a_name_cannot_speak_to_the_terminal_and_our_styles_do() {
        let hostile = "\u{1b}[2J\u{1b}[Hintact\u{1b}[8m\u{9b}0m\u{202e}x";
        let escaped = "\\u001b[2J\\u001b[Hintact\\u001b[8m\\u009b0m\\u202ex";
        let (mut out, written) = Output::captured();
        out.line(format_args!("{} {hostile}", styled(BAD, hostile))).unwrap();
        let style = format!("{BAD}");
        let reset = format!("{BAD:#}");
        assert_eq!(String::from_utf8(written.lock().clone()).unwrap(), format!("{style}{escaped}{reset} {escaped}\n"));
        // Neither in a place, nor in a cause, nor in a cell; and no line is made that nobody laid out.
        let cause = Error::new(ErrorKind::Io, format!("cause {hostile}")).with("file", hostile);
        let text = explain(&Error::new(ErrorKind::Corrupt, hostile).with("table", format!("{hostile}\nerror: x")).caused_by(cause));
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain.matches(escaped).count(), 4, "{plain}");
        assert!(plain.contains("\n    error: x\n") && !plain.contains("\nerror: x"), "{plain}");
        let cells = vec![vec![hostile.to_owned(), format!("a\nb {}", styled(GOOD, "there"))]];
        let (mut out, written) = Output::captured();
        out.line(aligned(&["name", "state"], &[], cells)).unwrap();
        let text = String::from_utf8(written.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(escaped) && text.contains(&format!("a\\nb {}", format_args!("{GOOD}there{GOOD:#}"))), "{text}");
    }

    #[test]
    fn bytes_are_for_programs_unless_a_terminal_reads_them() {
        let (mut out, written) = Output::captured();
        out.bytes(b"\x1b[2J\xff\n").unwrap();
        assert_eq!(*written.lock(), b"\x1b[2J\xff\n");
        let (mut out, written) = Output::captured();
        out.is_terminal = true;
        out.bytes(b"a,\x1b[2J\n").unwrap();
        assert_eq!(*written.lock(), b"a,\\u001b[2J\n");
    }

    #[test]
    fn a_long_cell_is_whole_and_widens_no_other_line() {
        let long = "x".repeat(1_000);
        let rows =
            vec![vec![long.clone(), "1".to_owned()], vec!["bb".to_owned(), "100".to_owned()], vec!["a\nb".to_owned(), "7".to_owned()]];
        let text = aligned_whole(&["name", "n"], &[1], &rows);
        assert_eq!(text.lines().collect::<Vec<_>>(), ["name    n", &format!("{long}    1"), "bb    100", "a\\nb    7"]);
    }

    #[test]
    fn figures_are_aligned_to_the_right() {
        let text = aligned(&["name", "n"], &[1], vec![vec!["a".into(), "1".into()], vec!["bb".into(), "100".into()]]);
        assert_eq!(text.lines().map(str::trim_end).collect::<Vec<_>>(), ["name    n", "a       1", "bb    100"]);
    }
}
