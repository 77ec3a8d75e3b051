//! `versions` and `restore`.

use object_store::path::Path;
use serde_json::json;

use super::Ending;
use super::args::{RestoreArgs, VersionsArgs};
use super::care::object_path;
use super::context::Context;
use super::output::{self, GOOD, Output, bytes, styled};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ErasureStore, VersionInfo, VersionState};

pub(super) async fn versions(args: VersionsArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let path = object_path(&args.path)?;
    let open = context.lake().await?;
    let versions = open.store.versions(&path).await?;
    if args.json {
        for version in &versions {
            out.line(to_json(version))?;
        }
        return Ok(Ending::Done);
    }
    let rows = versions.iter().map(|version| {
        let state = if version.superseded_ms.is_none() && version.state == VersionState::Readable { "newest" } else { name(version.state) };
        vec![
            version.version.clone().unwrap_or_else(|| format!("{}.-", version.slot)),
            state.to_owned(),
            if version.state == VersionState::Readable { bytes(version.size) } else { "-".to_owned() },
            version.modified_ms.map_or_else(|| "-".to_owned(), output::time),
            version.superseded_ms.map(output::time).unwrap_or_default(),
        ]
    });
    out.line(output::aligned(&["version", "state", "size", "written", "superseded"], &[2], rows.collect()))?;
    Ok(Ending::Done)
}

fn name(state: VersionState) -> &'static str {
    match state {
        VersionState::Readable => "readable",
        VersionState::Tombstone => "deleted",
        VersionState::Collected => "collected",
    }
}

fn to_json(version: &VersionInfo) -> String {
    json!({
        "slot": version.slot,
        "state": name(version.state),
        "version": version.version,
        "size": version.size,
        "modified_ms": version.modified_ms,
        "superseded_ms": version.superseded_ms,
        "republished": version.republished,
    })
    .to_string()
}

pub(super) async fn restore(args: RestoreArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let path = object_path(&args.path)?;
    let open = context.lake().await?;
    let version = match args.version {
        Some(version) => version,
        None => before(&open.store, &path).await?,
    };
    let result = open.store.restore(&path, &version).await?;
    let now = result.version.unwrap_or_default();
    out.line(format_args!("{} {path}: version {version} is the newest again, as {now}", styled(GOOD, "restored")))?;
    Ok(Ending::Done)
}

/// The newest readable version that is not the one that is there now.
async fn before(store: &ErasureStore, path: &Path) -> Result<String> {
    let versions = store.versions(path).await?;
    let current = versions.first().and_then(|newest| newest.write_id);
    let older = versions.iter().find(|version| version.state == VersionState::Readable && version.write_id != current);
    older.and_then(|version| version.version.clone()).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "no older version of this object can be read; `lakeseal versions` lists what there is")
            .with("path", path)
    })
}
