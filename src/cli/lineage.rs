//! `lineage`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Ending;
use super::args::LineageArgs;
use super::context::Context;
use super::output::{self, DIM, Output, styled};
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::{self, CommitLineage, InputKind};

/// How much of a key's identity people are shown.
const SHORT_KEY: usize = 16;

pub(super) async fn run(args: LineageArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let session = super::sql::session(&[], &[], &args.writers, false, None, context).await?;
    let (location, commits) = session.lineage(&args.table).await?;
    let commits = at(commits, args.at).map_err(|e| e.with("table", &args.table))?;
    if args.openlineage {
        for event in lineage::events(location.url().as_str(), &commits, context.clock.now_ms()) {
            out.line(event)?;
            if out.is_closed() {
                break;
            }
        }
    } else if args.json {
        for commit in &commits {
            out.line(to_json(commit))?;
        }
    } else {
        tell(&commits, out)?;
    }
    for note in session.notes() {
        output::note(note);
    }
    Ok(Ending::Done)
}

/// The commit of the wanted version alone.
fn at(commits: Vec<CommitLineage>, wanted: Option<u64>) -> Result<Vec<CommitLineage>> {
    let Some(version) = wanted else { return Ok(commits) };
    let newest = commits.iter().map(|commit| commit.version).max().unwrap_or_default();
    let found: Vec<CommitLineage> = commits.into_iter().filter(|commit| commit.version == version).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let why = if version < newest {
        "nothing is known of this version any more: log cleanup took its commit, and no attestation of it is left"
    } else {
        "the table has no such version"
    };
    Err(Error::new(ErrorKind::NotFound, why).with("version", version).with("newest", newest))
}

fn to_json(commit: &CommitLineage) -> Value {
    json!({
        "version": commit.version,
        "commit": commit.commit.to_string(),
        "attested_by": commit.attested_by.map(|key| key.to_string()),
        "provenance": commit.lineage.to_provenance(&commit.attested_by.map_or_else(|| "urn:lakeseal:derived".to_owned(), |key| format!("urn:lakeseal:writer:{key}"))),
    })
}

fn tell(commits: &[CommitLineage], out: &mut Output) -> Result<()> {
    let rows = commits.iter().map(|commit| {
        let by: Option<String> = commit.attested_by.map(|key| key.to_string().chars().take(SHORT_KEY).collect());
        let time = commit.lineage.finished_ms.map_or_else(|| "-".to_owned(), output::time);
        let files = u64::try_from(commit.lineage.outputs.len()).unwrap_or(u64::MAX);
        let source = if commit.lineage.derived { "derived" } else { "recorded" };
        vec![
            commit.version.to_string(),
            commit.lineage.operation.clone(),
            source.to_owned(),
            by.unwrap_or_else(|| "-".to_owned()),
            time,
            output::count(files),
            inputs(commit),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    out.line(output::aligned(&["version", "operation", "lineage", "attested by", "made", "files", "made from"], &[0, 5], rows))?;
    for commit in commits {
        if let Some(sql) = &commit.lineage.transformation.sql {
            out.line(format_args!("{} {}", styled(DIM, format!("version {}:", commit.version)), sql.replace('\n', "\n    ")))?;
        }
    }
    Ok(())
}

fn inputs(commit: &CommitLineage) -> String {
    let mut named: BTreeSet<String> = BTreeSet::new();
    for input in &commit.lineage.inputs {
        let name = input.name.clone().unwrap_or_else(|| input.uri.clone());
        named.insert(match (input.kind, input.version) {
            (InputKind::Table, Some(version)) => match input.files.as_ref().map(Vec::len) {
                Some(files) => format!("{name}@{version} ({})", output::files(u64::try_from(files).unwrap_or(u64::MAX))),
                None => format!("{name}@{version}"),
            },
            _ => name,
        });
    }
    if !commit.lineage.inputs_complete && !commit.lineage.outputs.is_empty() {
        named.insert("unknown origin".to_owned());
    }
    named.into_iter().collect::<Vec<_>>().join(", ")
}
