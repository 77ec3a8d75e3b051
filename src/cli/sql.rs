//! `sql`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::StreamExt as _;

use super::Ending;
use super::args::{RowFormat, SqlArgs};
use super::context::Context;
use super::output::{self, BAD, GOOD, Output, styled};
use super::pins::PinFile;
use super::progress;
use super::rows::Rows;
use crate::baseline::Pins;
use crate::error::{Error, ErrorKind, Result};
use crate::printable::one_line;
use crate::sql::{ReadMode, SealedSession, SessionOptions, TableOptions, VerifyMode, to_error};
use crate::verify::{Action, Reports};

pub(super) async fn run(args: SqlArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let pins = PinFile::read_if_any(args.pin.as_deref()).await?.map(|file| Arc::new(file.pins));
    let session = session_in(args.verify, &args.tables, &args.trust, &args.writers, args.sealed, pins, context).await?;
    let Some(query) = &args.query else {
        let ending = super::shell::run(&session, args.format, context, out).await?;
        return Ok(if tell_reports(session.reports()) == Ending::Mismatch { Ending::Mismatch } else { ending });
    };
    let spinner = progress::spinner("asking");
    let answer = ask(&session, query, args.format, out, &spinner).await;
    spinner.finish_and_clear();
    for note in session.notes() {
        output::note(note);
    }
    answer?;
    Ok(tell_reports(session.reports()))
}

/// Says on standard error what was done about differences, and what the answer comes to: rows that were left out, or delivered although
/// they differ, make it no answer about the sealed table.
pub(super) fn tell_reports(reports: &Reports) -> Ending {
    for incident in reports.incidents().iter().filter(|incident| incident.action != Action::Refused) {
        let style = if incident.action == Action::Healed { GOOD } else { BAD };
        let text = incident.to_string();
        let rest = text.strip_prefix(incident.action.name()).unwrap_or(&text);
        output::say(format_args!("{}{}", styled(style, incident.action.name()), one_line(rest)));
    }
    if reports.dropped() > 0 {
        output::note(format_args!("{} more", reports.dropped()));
    }
    if reports.any(Action::Skipped) || reports.any(Action::Delivered) { Ending::Mismatch } else { Ending::Done }
}

async fn ask(session: &SealedSession, query: &str, format: RowFormat, out: &mut Output, spinner: &indicatif::ProgressBar) -> Result<()> {
    let plan = session.sql(query).await?;
    let mut batches = plan.execute_stream().await.map_err(to_error)?;
    let mut rows = Rows::new(out, format, batches.schema());
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(to_error)?;
        spinner.suspend(|| rows.add(batch))?;
        if rows.is_closed() {
            break;
        }
    }
    spinner.finish_and_clear();
    rows.end()
}

/// Runs a query to its end, for those who go on with its rows.
///
/// # Errors
/// As [`SealedSession::run`].
pub(super) async fn collect(query: &str, context: &Context) -> Result<Vec<RecordBatch>> {
    session(&[], &[], &[], false, None, context).await?.run(query).await
}

/// A session as the arguments describe it, in which every difference is an error.
pub(super) async fn session(
    tables: &[String],
    trust: &[PathBuf],
    writers: &[PathBuf],
    sealed: bool,
    pins: Option<Arc<Pins>>,
    context: &Context,
) -> Result<SealedSession> {
    session_in(VerifyMode::Enforce, tables, trust, writers, sealed, pins, context).await
}

async fn session_in(
    verify: VerifyMode,
    tables: &[String],
    trust: &[PathBuf],
    writers: &[PathBuf],
    sealed: bool,
    pins: Option<Arc<Pins>>,
    context: &Context,
) -> Result<SealedSession> {
    let named = named_tables(tables)?;
    let lake = if context.has_config()? { Some(context.lake().await?) } else { None };
    let mode = if sealed { ReadMode::Sealed } else { ReadMode::Latest };
    let trust = context.trust_if_any(trust)?;
    let writers = context.writers(writers, trust.as_ref(), lake.as_ref())?;
    let options = TableOptions {
        verify,
        mode,
        require_sealed: sealed,
        clock: context.clock.clone(),
        writers,
        lake_id: lake.as_ref().map(|lake| lake.lake.record.lake),
        pins,
        ..TableOptions::default()
    };
    let lake = lake.map(|lake| lake.named);
    let session = SealedSession::new(SessionOptions { lake: lake.clone(), trust, tables: options }).await?;
    for (name, table) in named {
        let location = crate::delta::Location::parse(table, lake.as_ref())?;
        session.offer(name, &location).await?;
    }
    Ok(session)
}

/// Tables from elsewhere by the names that they are given, which tell capitals from small letters, as names in SQL do here.
fn named_tables(texts: &[String]) -> Result<BTreeMap<&str, &str>> {
    let mut named = BTreeMap::new();
    for text in texts {
        let (name, table) = split(text)?;
        if let Some(other) = named.insert(name, table) {
            let error = Error::new(ErrorKind::InvalidInput, "two tables are given one name: give each --table a name of its own");
            return Err(error.with("name", name).with("tables", format!("{other}, {table}")));
        }
    }
    Ok(named)
}

/// `NAME=TABLE`.
fn split(text: &str) -> Result<(&str, &str)> {
    match text.split_once('=') {
        Some((name, table)) if !name.is_empty() && !table.is_empty() => Ok((name, table)),
        _ => Err(Error::new(ErrorKind::InvalidInput, "a table from elsewhere reads NAME=TABLE, as in `sales=./sales`").with("table", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_from_elsewhere_has_a_name_and_a_place() {
        assert_eq!(split("sales=./a=b").unwrap(), ("sales", "./a=b"));
        for bad in ["", "sales", "=x", "sales="] {
            assert_eq!(split(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_name_is_given_once() {
        let named = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            named_tables(&texts).map(|named| named.len())
        };
        assert_eq!(named(&["t=a", "T=b", "u=a"]).unwrap(), 3);
        let error = named(&["t=a", "u=a", "t=b"]).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("name: t, tables: a, b"), "{error}");
    }
}
