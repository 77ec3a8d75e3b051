//! `diff`: the rows that changed since a baseline, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::UInt64Type;
use clap::Args;
use futures::StreamExt as _;

use super::Ending;
use super::args::RowFormat;
use super::context::Context;
use super::output::{self, BAD, GOOD, NOTE, Output, count, styled};
use super::progress;
use super::rows::Rows;
use super::sql::session;
use crate::error::Result;
use crate::printable::one_line;
use crate::sql::to_error;

/// What `diff --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  lakeseal diff flights                      since the newest baseline
  lakeseal diff flights --key id             rows are named by a column, so that a row that moved and changed is one change
  lakeseal diff flights --from 3 --to 17     between baseline 3 and Delta version 17
  lakeseal diff flights --json | jq .        one JSON object a line, all of them

At a terminal long values are cut; in a pipe or a file they are whole.

Sealed values come from where the sealed bytes still are: the file itself, an older version that the lake retains, or a file that Delta's
history still has. They are verified against the seal. Where they are gone, the place of the change is named and no value is made up.
Rows that another deletion vector brings back are added, those that it takes are removed.
In SQL the same is a table: SELECT * FROM poison_diff('flights', NULL, NULL, 'id') WHERE \"column\" = 'delay'

Exit codes:
  0  no row differs
  1  rows differ
  2  could not be determined for some rows, and no other row differs";

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The table
    pub table: String,
    /// The baseline's number [default: the newest]
    #[arg(long, value_name = "BASELINE")]
    pub from: Option<u64>,
    /// The Delta version to compare with it [default: the newest]
    #[arg(long, value_name = "VERSION")]
    pub to: Option<u64>,
    /// The columns that name a row, separated by commas [default: rows are paired by their likeness]
    #[arg(long, value_name = "COLUMNS")]
    pub key: Option<String>,
    /// Show at most this many differences; 0 for all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Print one JSON object a line, all of them
    #[arg(long)]
    pub json: bool,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
}

pub(super) async fn run(args: DiffArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    context.trust(&args.trust)?;
    let session = session(&[], &args.trust, &[], false, None, context).await?;
    let spinner = progress::spinner("comparing");
    let plan = session.sql(&query(&args)).await?;
    let mut batches = plan.execute_stream().await.map_err(to_error)?;
    let limit = if args.limit == 0 || args.json { usize::MAX } else { args.limit };
    let mut found = Found::new(limit, out.is_terminal());
    let mut json = args.json.then(|| Rows::new(out, RowFormat::Json, batches.schema()));
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(to_error)?;
        found.tally.add(&batch);
        let full = match &mut json {
            Some(rows) => {
                if !rows.is_closed() {
                    spinner.suspend(|| rows.add(batch))?;
                }
                rows.is_closed()
            }
            None => found.show(&batch),
        };
        // Whatever is shown, the exit code speaks of all: it is known once a row differs.
        if full && found.tally.ending() == Ending::Mismatch {
            found.tally.cut = true;
            break;
        }
    }
    spinner.finish_and_clear();
    let ending = found.tally.ending();
    match json {
        Some(rows) => rows.end()?,
        None => tell(&args, found, out)?,
    }
    Ok(ending)
}

/// What is shown.
struct Found {
    limit: usize,
    /// Whether long values are cut: a person reads them.
    cut: bool,
    lines: Vec<Vec<String>>,
    /// Details of the lines that are shown, each once, as they came.
    details: Vec<String>,
    known: BTreeSet<String>,
    tally: Tally,
}

impl Found {
    fn new(limit: usize, cut: bool) -> Self {
        Self { limit, cut, lines: Vec::new(), details: Vec::new(), known: BTreeSet::new(), tally: Tally::default() }
    }

    /// Keeps the lines of a batch that has been counted, as far as there is room. Whether there are more than are shown.
    fn show(&mut self, batch: &RecordBatch) -> bool {
        for row in 0..batch.num_rows().min(self.limit.saturating_sub(self.lines.len())) {
            self.lines.push(line(batch, row, self.cut));
            if let Some(detail) = text(batch, "detail", row).filter(|detail| !self.known.contains(detail)) {
                self.known.insert(detail.clone());
                self.details.push(detail);
            }
        }
        self.tally.total > self.lines.len()
    }
}

/// The SQL that `args` mean.
fn query(args: &DiffArgs) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let number = |n: Option<u64>| n.map_or_else(|| "NULL".to_owned(), |n| n.to_string());
    let key = args.key.as_ref().map_or_else(String::new, |key| format!(", {}", quoted(key)));
    format!("SELECT * FROM poison_diff({}, {}, {}{key})", quoted(&args.table), number(args.from), number(args.to))
}

/// How many lines there were of each kind.
#[derive(Debug, Default)]
struct Tally {
    kinds: BTreeMap<String, usize>,
    total: usize,
    cut: bool,
}

impl Tally {
    fn add(&mut self, batch: &RecordBatch) {
        for row in 0..batch.num_rows() {
            *self.kinds.entry(text(batch, "kind", row).unwrap_or_default()).or_default() += 1;
            self.total += 1;
        }
    }

    fn ending(&self) -> Ending {
        let determined = self.kinds.keys().any(|kind| kind != "undetermined");
        match (self.total, determined) {
            (0, _) => Ending::Done,
            (_, true) => Ending::Mismatch,
            (_, false) => Ending::Undetermined,
        }
    }
}

fn tell(args: &DiffArgs, found: Found, out: &mut Output) -> Result<()> {
    let Found { lines, details, tally, cut, .. } = found;
    let shown = |value: &str| if cut { shown(value) } else { one_line(value).into_owned() };
    if tally.total == 0 {
        return out.line(format_args!("{}: {}", shown(&args.table), styled(GOOD, "no row differs from what was sealed")));
    }
    let header = ["kind", "file", "group", "row", "key", "column", "sealed", "found"];
    let shown_lines = lines.len();
    out.line(if cut { output::aligned(&header, &[2, 3], lines) } else { output::aligned_whole(&header, &[2, 3], &lines) })?;
    let what = |kind: &str| if kind == "changed" { "changed values".to_owned() } else { format!("{kind} rows") };
    let kinds: Vec<String> = tally.kinds.iter().map(|(kind, n)| format!("{} {}", count(*n as u64), what(kind))).collect();
    let style = if tally.ending() == Ending::Mismatch { BAD } else { NOTE };
    let least = if tally.cut { "at least " } else { "" };
    out.line(format_args!("{}: {least}{}", styled(style, "differs"), kinds.join(", ")))?;
    if tally.total > shown_lines {
        out.line(format_args!("  {} the first {shown_lines} are shown; --limit 0 shows all", styled(NOTE, "note:")))?;
    }
    for detail in details {
        out.line(format_args!("  {} {}", styled(NOTE, "note:"), shown(&detail)))?;
    }
    Ok(())
}

fn text(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let array = batch.column_by_name(column)?;
    if array.is_null(row) {
        return None;
    }
    match array.as_string_opt::<i32>() {
        Some(texts) => Some(texts.value(row).to_owned()),
        None => array.as_primitive_opt::<UInt64Type>().map(|numbers| numbers.value(row).to_string()),
    }
}

fn line(batch: &RecordBatch, row: usize, cut: bool) -> Vec<String> {
    let shown = |value: String| if cut { shown(&value) } else { one_line(&value).into_owned() };
    let cell = |name| text(batch, name, row).map_or_else(|| "-".to_owned(), shown);
    ["kind", "file", "row_group", "row", "key", "column", "sealed", "found"].map(cell).to_vec()
}

/// Most characters of a value that a line shows at a terminal.
const SHOWN_CHARS: usize = 60;

/// A value in one line; a long one is cut.
pub(super) fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", one_line(value.get(..end).unwrap_or_default())),
        None => one_line(value).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn names_are_quoted_and_absent_numbers_are_null() {
        let args =
            DiffArgs { table: "it's".into(), from: None, to: Some(7), key: Some("a'b,c".into()), limit: 1, json: false, trust: Vec::new() };
        assert_eq!(query(&args), "SELECT * FROM poison_diff('it''s', NULL, 7, 'a''b,c')");
    }

    /// Lines of one kind, as the function `poison_diff` gives them, each with a detail of its own.
    fn lines(kind: &str, details: std::ops::Range<usize>) -> RecordBatch {
        let text = |values: Vec<String>| Arc::new(StringArray::from(values)) as ArrayRef;
        let columns = [
            ("kind", text(details.clone().map(|_| kind.to_owned()).collect())),
            ("detail", text(details.map(|n| format!("because {}", n / 2)).collect())),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn the_exit_code_speaks_of_lines_that_are_not_shown() {
        let mut found = Found::new(10, true);
        for (kind, full, ending) in [
            ("undetermined", true, Ending::Undetermined),
            ("undetermined", true, Ending::Undetermined),
            ("changed", true, Ending::Mismatch),
        ] {
            let batch = lines(kind, 0..100);
            found.tally.add(&batch);
            assert_eq!((found.show(&batch), found.tally.ending()), (full, ending), "{kind}");
        }
        assert_eq!((found.lines.len(), found.tally.total), (10, 300));
        assert_eq!(found.details, ["because 0", "because 1", "because 2", "because 3", "because 4"]);
        let mut all = Found::new(usize::MAX, true);
        let batch = lines("undetermined", 0..100);
        all.tally.add(&batch);
        assert!(!all.show(&batch), "all are shown");
        assert_eq!((all.lines.len(), all.details.len()), (100, 50));
    }

    #[test]
    fn values_and_notes_are_whole_where_no_terminal_is() {
        let (value, detail) = ("v".repeat(500), format!("{}\u{1b}[2J", "d".repeat(500)));
        let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("kind", text("changed")), ("found", text(&value)), ("detail", text(&detail))]).unwrap();
        let args = DiffArgs { table: "t".into(), from: None, to: None, key: None, limit: 1, json: false, trust: Vec::new() };
        for (terminal, whole) in [(true, false), (false, true)] {
            let mut found = Found::new(10, terminal);
            found.tally.add(&batch);
            found.show(&batch);
            let (mut out, written) = Output::captured();
            tell(&args, found, &mut out).unwrap();
            let told = String::from_utf8(written.lock().clone()).unwrap();
            let has = |text: &str| told.contains(text);
            assert_eq!((has(&value), has(&format!("{}\\u001b[2J", "d".repeat(500)))), (whole, whole), "{told}");
            assert!(has(&"v".repeat(60)) && has(&"d".repeat(60)) && has('…'.to_string().as_str()) != whole, "{told}");
        }
    }

    #[test]
    fn a_value_cannot_move_the_cursor() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\\u001b[2Jb\\n");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN_CHARS + 1);
    }
}
