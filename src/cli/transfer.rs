//! `import` and `export`.

use std::sync::Arc;

use super::Ending;
use super::args::{ExportArgs, ImportArgs, ImportMode};
use super::context::Context;
use super::output::{self, GOOD, NOTE, Output, bytes, count, styled};
use super::progress;
use crate::delta::{self, Import, Imported, Location};
use crate::error::{Error, ErrorKind, Result};
use crate::printable::one_line;
use crate::region::Operation;

pub(super) async fn import(args: ImportArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let (lake, location) = context.table(&args.table).await?;
    if let Some(lake) = &lake
        && lake.lake.writer.is_none()
    {
        return Err(Error::new(ErrorKind::Permission, "writing to the lake takes a writer's key; name one with --writer-key FILE")
            .with("table", location.name()));
    }
    let before = version(&location).await;
    let bar = progress::rows("importing", 0);
    let report = {
        let bar = bar.clone();
        Arc::new(move |at: delta::ImportProgress| {
            bar.set_length(at.rows_total);
            bar.set_position(at.rows);
        })
    };
    let mode = match args.mode {
        ImportMode::Append => delta::ImportMode::Append,
        ImportMode::Overwrite => delta::ImportMode::Overwrite,
    };
    let import = Import { sources: args.files, mode, progress: Some(report), ..Import::default() };
    let done = tokio::select! {
        biased;
        () = super::interrupts::interrupt() => None,
        done = delta::import(&location, import) => Some(done),
    };
    bar.finish_and_clear();
    match done {
        Some(done) => {
            told(&location, done?, out)?;
            tell_refusals(lake.as_ref(), out)?;
            Ok(Ending::Done)
        }
        None => interrupted(&location, before, lake.as_ref()).await,
    }
}

fn told(location: &Location, done: Imported, out: &mut Output) -> Result<()> {
    let how = if done.created { "made" } else { "written" };
    let files = |files| format!("; {}", output::files(u64::try_from(files).unwrap_or(u64::MAX)));
    let (rows, files) = (count(done.rows), done.files.map(files).unwrap_or_default());
    out.line(format_args!("{} {rows} rows into {} (version {}, {how}{files})", styled(GOOD, "imported"), location.name(), done.version))
}

/// Names the regions that did not take all that they were given: the rows are there, and survive the loss of fewer regions until that is made good.
fn tell_refusals(lake: Option<&super::context::OpenLake>, out: &mut Output) -> Result<()> {
    let statistics = lake.map(|lake| lake.store.region_statistics()).unwrap_or_default();
    let mut is_any = false;
    for region in statistics {
        let Some(why) = region.refusal else { continue };
        is_any = true;
        let writes = region.operations.iter().filter(|(operation, _)| matches!(operation, Operation::Create | Operation::Put));
        let (failures, all) = writes.fold((0, 0), |(failures, all), (_, counted)| (failures + counted.failures, all + counted.requests));
        let what = format!("{} did not take {} of {} writes: {}", region.region, count(failures), count(all), one_line(&why));
        out.line(format_args!("  {} {what}", styled(NOTE, "note:")))?;
    }
    if is_any {
        out.line("  when the regions take writes again: lakeseal scrub --repair; until then `lakeseal status` shows what they lack")?;
    }
    Ok(())
}

/// Says what an interrupt left behind: the commit is one object, so it is either there or not.
async fn interrupted(location: &Location, before: Option<u64>, lake: Option<&super::context::OpenLake>) -> Result<Ending> {
    if let Some(lake) = lake {
        lake.store.quiesce().await;
    }
    let after = version(location).await;
    let text = match after {
        now if now == before => {
            "nothing of the import is visible; data files that no version names may be left, which `lakeseal vacuum` finds".to_owned()
        }
        Some(now) => format!("the table went on to version {now} meanwhile: look whether that is this import before repeating it"),
        None => "what became of the import could not be learned: look at the table before repeating it".to_owned(),
    };
    output::say(format_args!("interrupted: {text}\n  table: {}", location.name()));
    Ok(Ending::Interrupted)
}

/// The newest commit's version. Only the log is listed: a path that was given by mistake may have anything below it.
async fn version(location: &Location) -> Option<u64> {
    crate::table::commit_versions(location.store().as_ref(), location.root()).await.ok()?.last().copied()
}

pub(super) async fn export(args: ExportArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let (_lake, location) = context.table(&args.table).await?;
    let snapshot =
        crate::table::load(location.store().as_ref(), location.root(), None).await.map_err(|e| e.with("table", location.name()))?;
    let bar = progress::bytes("exporting", snapshot.files.values().map(|file| file.size).sum());
    let done = delta::export(&location, &snapshot, &args.directory, &|written| bar.set_position(written)).await;
    bar.finish_and_clear();
    let done = done?;
    let (files, size) = (output::files(done.files), bytes(done.bytes));
    out.line(format_args!(
        "{} version {} of {}: {files}, {size}, in {}",
        styled(GOOD, "exported"),
        done.version,
        location.name(),
        args.directory.display()
    ))?;
    Ok(Ending::Done)
}
