//! `sql` without `-c`: a shell with history, completion, several lines and timing; or statements from standard input.

mod editor;
mod helper;
mod statements;

use std::io::{IsTerminal as _, Read as _};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use self::editor::{Editor, Entered};
use self::helper::Words;
use super::Ending;
use super::args::RowFormat;
use super::context::Context;
use super::output::{self, DIM, HEAD, Output, styled};
use super::rows::Rows;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{SealedSession, to_error};

const PROMPT: &str = "lakeseal> ";
const CONTINUED: &str = "      ..> ";
const HISTORY: &str = "sql-history";
/// A script on standard input is never larger, in bytes.
const SCRIPT_LIMIT_BYTES: u64 = 64 << 20;
/// Tables whose columns are looked up for completion when the shell begins.
const COMPLETED_TABLES: usize = 64;

const USAGE: &str = "\
  \\d            list the tables            \\d TABLE      show a table's columns
  \\df           list Lakeseal's functions  \\format F     table, csv or json
  \\timing       switch timing on or off    \\?            show this
  \\q            leave (or Ctrl-D)

Statements end with ; and may take several lines. Tab completes tables, columns and functions. Ctrl-C stops a query.
Each statement sees the newest version of what it names: what was committed and sealed while the shell is open, too.";

/// Lakeseal's own table functions, with what they take.
const FUNCTIONS: &[(&str, &str)] = &[
    ("audit('table')", "what differs from the newest baseline"),
    ("baselines('table')", "the baselines that trusted keys signed"),
    ("blast_radius('table' [, 'file'] [, row group])", "what was made from it, over any number of steps"),
    ("drift('table' [, baseline] [, version] [, 'key'])", "how much each column moved, as a whole and in the changed rows"),
    ("lineage('table')", "what each commit was made from, by whom"),
    ("poison_diff('table' [, baseline] [, version] [, 'key'])", "the rows that changed, with sealed and found values"),
    ("reports()", "what this session healed, left out, delivered or refused"),
    ("row_groups('table')", "column chunks as they were sealed"),
    ("upstream('table' [, 'file'] [, row group])", "what it was made from, over any number of steps"),
    ("verify_derivation('table' [, version])", "runs the recorded statement again, and compares the rows"),
];

/// A session at work.
struct Shell<'a> {
    session: &'a SealedSession,
    context: &'a Context,
    out: &'a mut Output,
    format: RowFormat,
    timing: bool,
    words: Arc<Words>,
    noted: usize,
}

/// What a line asks the shell to do next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Go,
    Leave,
}

/// Runs the shell on a terminal; elsewhere, the statements of standard input, which end at the first that fails.
pub(super) async fn run(session: &SealedSession, format: RowFormat, context: &Context, out: &mut Output) -> Result<Ending> {
    let words = Arc::new(Words::new(session));
    let interactive = std::io::stdin().is_terminal();
    let mut shell = Shell { session, context, out, format, timing: interactive, words, noted: 0 };
    if interactive { shell.interactive().await } else { shell.script().await }
}

impl Shell<'_> {
    async fn script(&mut self) -> Result<Ending> {
        let mut text = String::new();
        let read = std::io::stdin().lock().take(SCRIPT_LIMIT_BYTES + 1).read_to_string(&mut text);
        read.map_err(|e| Error::new(ErrorKind::InvalidInput, "standard input is not text").caused_by(e))?;
        if text.len() as u64 > SCRIPT_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::InvalidInput, "the statements on standard input are too long")
                .with("limit_bytes", SCRIPT_LIMIT_BYTES));
        }
        for statement in statements::split(&text) {
            match tokio::select! {
                biased;
                () = super::interrupts::interrupt() => None,
                done = self.statement(&statement) => Some(done),
            } {
                None => return Ok(Ending::Interrupted),
                Some(Ok(Next::Leave)) => break,
                Some(Ok(Next::Go)) if self.out.is_closed() => break,
                Some(Ok(Next::Go)) => {}
                Some(Err(error)) => return Err(error.with("statement", super::diff::shown(&statement))),
            }
        }
        Ok(Ending::Done)
    }

    async fn interactive(&mut self) -> Result<Ending> {
        let mut editor = Editor::new(self.context.home.directory().join(HISTORY));
        self.out.line(format_args!("Lakeseal {} · {} for help", env!("CARGO_PKG_VERSION"), styled(HEAD, "\\?")))?;
        let learning = tokio::spawn(learn(self.session.clone(), self.words.clone()));
        let mut typed = String::new();
        loop {
            let prompt = if typed.is_empty() { PROMPT } else { CONTINUED };
            let complete = |before: &str| {
                let whole = format!("{typed}{before}");
                let (start, candidates) = self.words.complete(&whole, whole.len());
                (start.saturating_sub(typed.len()), candidates)
            };
            // Nothing else is waiting on this thread while a line is typed.
            match tokio::task::block_in_place(|| editor.read(prompt, complete))? {
                Entered::Text(line) => {
                    typed.push_str(&line);
                    typed.push('\n');
                }
                Entered::Interrupted => typed.clear(),
                Entered::End => break,
            }
            if typed.trim().is_empty() {
                typed.clear();
            }
            if typed.is_empty() || statements::is_incomplete(&typed) {
                continue;
            }
            editor.remember(&typed);
            if self.lines(&std::mem::take(&mut typed)).await? == Next::Leave {
                break;
            }
        }
        learning.abort();
        if let Err(error) = editor.keep() {
            output::note(format_args!("the history could not be kept: {error}"));
        }
        Ok(Ending::Done)
    }

    /// Runs what was typed; errors are shown, and the shell goes on.
    async fn lines(&mut self, text: &str) -> Result<Next> {
        for statement in statements::split(text) {
            let ended = tokio::select! {
                biased;
                () = super::interrupts::interrupt() => {
                    output::say("interrupted");
                    break;
                }
                ended = self.statement(&statement) => ended,
            };
            match ended {
                Ok(Next::Leave) => return Ok(Next::Leave),
                Ok(Next::Go) => {}
                Err(error) => {
                    output::report(&error);
                    break;
                }
            }
        }
        Ok(Next::Go)
    }

    async fn statement(&mut self, statement: &str) -> Result<Next> {
        if let Some(command) = statement.strip_prefix('\\') {
            return self.command(command.trim()).await;
        }
        let began = Instant::now();
        let rows = self.query(statement).await?;
        self.tell_notes();
        if self.timing {
            self.out.line(styled(DIM, format_args!("{rows} rows in {}", seconds(began.elapsed()))))?;
        }
        Ok(Next::Go)
    }

    async fn query(&mut self, statement: &str) -> Result<u64> {
        let plan = self.session.sql(statement).await?;
        let mut batches = plan.execute_stream().await.map_err(to_error)?;
        let mut rows = Rows::new(self.out, self.format, batches.schema());
        let mut count = 0_u64;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(to_error)?;
            count = count.saturating_add(batch.num_rows() as u64);
            rows.add(batch)?;
            if rows.is_closed() {
                break;
            }
        }
        rows.end()?;
        Ok(count)
    }

    fn tell_notes(&mut self) {
        let notes = self.session.notes();
        for note in notes.iter().skip(self.noted) {
            output::note(note);
        }
        self.noted = notes.len();
    }

    async fn command(&mut self, command: &str) -> Result<Next> {
        let (name, argument) = command.split_once(char::is_whitespace).map_or((command, ""), |(name, rest)| (name, rest.trim()));
        let argument = argument.trim_end_matches(';').trim();
        match (name.trim_end_matches(';'), argument) {
            ("q" | "quit", _) => return Ok(Next::Leave),
            ("?" | "h" | "help", _) => self.out.line(USAGE)?,
            ("d" | "dt", "") => {
                self.session.list_tables().await?;
                self.words.note_tables(self.session);
                let tables = self.words.tables();
                let none = "no tables here; name one by its path in double quotes, as in SELECT * FROM \"./sales\"".to_owned();
                self.out.line(if tables.is_empty() { none } else { tables.join("\n") })?;
            }
            ("d", table) => self.describe(table.trim_matches('"')).await?,
            ("df", _) => {
                let rows = FUNCTIONS.iter().map(|(call, what)| vec![(*call).to_owned(), (*what).to_owned()]).collect();
                self.out.line(output::aligned(&["function", "gives"], &[], rows))?;
            }
            ("timing", _) => {
                self.timing = !self.timing;
                self.out.line(format_args!("timing is {}", if self.timing { "on" } else { "off" }))?;
            }
            ("format", "table") => self.format = RowFormat::Table,
            ("format", "csv") => self.format = RowFormat::Csv,
            ("format", "json") => self.format = RowFormat::Json,
            _ => {
                let what = "there is no such shell command; \\? lists them";
                return Err(Error::new(ErrorKind::InvalidInput, what).with("command", format_args!("\\{command}")));
            }
        }
        Ok(Next::Go)
    }

    async fn describe(&mut self, table: &str) -> Result<()> {
        let quoted = format!("\"{}\"", table.replace('"', "\"\""));
        let plan = self.session.sql(&format!("SELECT * FROM {quoted} LIMIT 0")).await?;
        let fields: Vec<_> = plan.schema().fields().iter().cloned().collect();
        self.words.add_columns(fields.iter().map(|field| field.name().clone()));
        let nullable = |nullable: bool| if nullable { "" } else { "not null" }.to_owned();
        let rows = fields.iter().map(|f| vec![f.name().clone(), f.data_type().to_string(), nullable(f.is_nullable())]).collect();
        self.out.line(output::aligned(&["column", "type", ""], &[], rows))?;
        self.tell_notes();
        Ok(())
    }
}

/// Looks up tables' columns while the user types. What cannot be opened is not completed.
async fn learn(session: SealedSession, words: Arc<Words>) {
    for table in words.tables().into_iter().take(COMPLETED_TABLES) {
        if let Ok(schema) = session.peek(&table).await {
            words.add_columns(schema.fields().iter().map(|field| field.name().clone()));
        }
    }
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.3} s", elapsed.as_secs_f64())
}
