//! What people and pipes see: lines, aligned tables, errors.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io::{ErrorKind as IoKind, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::error::{Error, ErrorKind, Result};

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

/// `text` in `style`; the stream it is written to drops the style where it does not belong.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Standard output. When its reader goes away nothing fails: what is left is not written, and the command ends as it would have.
pub struct Output {
    writer: Box<dyn Write + Send>,
    closed: bool,
}

impl Output {
    /// Standard output, with colours where they are wanted.
    pub fn stdout() -> Self {
        Self { writer: Box::new(anstream::stdout()), closed: false }
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
        (Self { writer: Box::new(shared.clone()), closed: false }, shared.0)
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
        let written = writeln!(self.writer, "{text}").and_then(|()| self.writer.flush());
        self.check(written)
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.writer.write_all(bytes).and_then(|()| self.writer.flush());
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

/// An aligned table; `right` lists the columns of figures.
pub fn aligned(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Says on standard error what went wrong, where, why, and what to do.
pub fn report(error: &Error) {
    // When standard error is gone there is nobody left to tell.
    let _ = anstream::stderr().write_all(explain(error).as_bytes());
}

/// The text of [`report`].
pub fn explain(error: &Error) -> String {
    let mut text = format!("{}{}\n", styled(BAD, "error: "), error.message());
    let mut said = vec![error.message().to_owned()];
    for (key, value) in error.context() {
        text.push_str(&format!("  {key}: {value}\n"));
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
            let line = format!("  {key}: {value}\n");
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

fn advice(error: &Error) -> Option<&'static str> {
    let deepest = error.source().and_then(Error::find).map_or(error.kind(), Error::kind);
    let kind = if error.kind() == ErrorKind::Internal { deepest } else { error.kind() };
    match kind {
        ErrorKind::Unavailable => Some("`lakeseal region list` shows which regions answer; the same command may succeed later"),
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

    #[test]
    fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is_one() {
        let mut gone = Output { writer: Box::new(Gone(IoKind::BrokenPipe)), closed: false };
        gone.line("x").unwrap();
        assert!(gone.is_closed());
        let mut full = Output { writer: Box::new(Gone(IoKind::StorageFull)), closed: false };
        assert_eq!(full.line("x").unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn figures_are_aligned_to_the_right() {
        let text = aligned(&["name", "n"], &[1], vec![vec!["a".into(), "1".into()], vec!["bb".into(), "100".into()]]);
        assert_eq!(text.lines().map(str::trim_end).collect::<Vec<_>>(), ["name    n", "a       1", "bb    100"]);
    }
}
