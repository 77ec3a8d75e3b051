//! Delta tables through Lakeseal's stores: addressing, opening, importing, exporting.
//!
//! Everything that deltalake does here goes through the [`Location`]'s own store: its log store is built over it, and its
//! DataFusion session has a registry that knows this store and no other ([`session`]). With [`register_lake_scheme`] the plain
//! entry points of deltalake and DataFusion work on `lakeseal://` URLs as well.

mod attest;
mod export;
mod import;
mod leftovers;
mod list;
mod location;
mod new_table;
mod operation;
mod reach;
mod restore;
mod rewrite;
mod scheme;
mod session;
mod sorted_log;
mod source;
mod traces;
mod trusted_log;
mod write;
mod written;

pub use attest::AttestingStore;
pub use export::{Exported, export};
pub use import::{Import, ImportMode, ImportProgress, Imported, import};
pub use leftovers::{Leftover, Leftovers, TakenAway, leftovers};
pub use list::tables;
pub use location::{LakeStore, Location};
pub use operation::{Operation, Records};
pub use reach::foreign_root;
pub use restore::{PutBack, Replacement, RestoreOptions, RestorePlan, Restored, plan as plan_restore};
pub use scheme::{SCHEME, register_lake_scheme};
pub use session::{StoreRegistry, session};
pub use trusted_log::TrustedLog;

pub(crate) use import::table_schema;
pub(crate) use leftovers::check_may_take_away;
pub(crate) use operation::engine_versions;
pub(crate) use rewrite::{Rewrite, rewrite};
pub(crate) use session::{believe_chunks_only, runtime, runtime_with_footers, session_config};
pub(crate) use source::delta_type;
pub(crate) use write::{WriteMode, exists, provider, provider_from, write_stream};

use std::sync::Arc;

use bytes::Bytes;
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::{DeltaTable, DeltaTableError};

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use self::sorted_log::SortedLog;
use crate::error::{Error, ErrorKind, Result};

/// Opens the newest version of the Delta table at `location`, or `version` of it.
///
/// Costs a listing of the log and a read of the newest checkpoint and the commits after it.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is no Delta table, or no such version.
pub async fn open(location: &Location, version: Option<u64>) -> Result<DeltaTable> {
    let mut table = DeltaTable::new(log_store(location)?);
    let loaded = match version {
        None => table.load().await,
        Some(version) => table.load_version(version).await,
    };
    loaded.map_err(|e| delta_error(location, e))?;
    Ok(table)
}

/// Opens the table for writing, whether or not it exists already; the second value says whether it does.
pub(crate) async fn open_or_new(location: &Location) -> Result<(DeltaTable, bool)> {
    let table = DeltaTable::new(log_store(location)?);
    if table.verify_deltatable_existence().await.map_err(|e| delta_error(location, e))? {
        return Ok((open(location, None).await?, true));
    }
    Ok((table, false))
}

/// What says that a table is being made at `location`.
fn begun(location: &Location) -> Path {
    location.root().clone().join("_delta_log").join(crate::table::BEGUN)
}

/// Says that a table is being made at `location`: until its first commit, its data files are not taken for a folder of Parquet.
///
/// Cost: one PUT. It stays when the making is broken off.
pub(crate) async fn begin_table(location: &Location) -> Result<()> {
    let at = begun(location);
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match location.store().put_opts(&at, Bytes::from_static(b"{}\n").into(), options).await {
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => {
            let error = Error::from(error);
            let what = "the table could not be begun, and nothing of it was written";
            Err(Error::new(error.kind(), what).with("table", location.name()).caused_by(error))
        }
    }
}

/// Takes away what [`begin_table`] put: the table has a commit, and where this fails nobody is the worse for it.
pub(crate) async fn end_table(location: &Location) {
    let at = begun(location);
    if let Err(error) = location.store().delete(&at).await {
        tracing::debug!(%error, %at, "what said that a table is being made could not be taken away");
    }
}

/// deltalake's log store over the location's own store.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when deltalake cannot address the location.
pub fn log_store(location: &Location) -> Result<LogStoreRef> {
    let config = StorageConfig::default();
    let url = location.engine_url();
    let store: Arc<dyn ObjectStore> = Arc::new(SortedLog::new(location.store().clone()));
    let prefixed = config.decorate_store(store.clone(), url).map_err(|e| delta_error(location, e))?;
    Ok(default_logstore(prefixed.into(), store, url, &config))
}

/// A deltalake error about `location` as ours: a Lakeseal error inside of it keeps its kind.
pub(crate) fn delta_error(location: &Location, error: DeltaTableError) -> Error {
    let kind = match (Error::find(&error), &error) {
        (Some(inner), _) => inner.kind(),
        (None, DeltaTableError::NotATable(_)) => ErrorKind::NotFound,
        (None, DeltaTableError::InvalidVersion(_)) => ErrorKind::NotFound,
        (None, DeltaTableError::SchemaMismatch { .. } | DeltaTableError::InvalidData { .. }) => ErrorKind::InvalidInput,
        (None, DeltaTableError::ObjectStore { source: object_store::Error::NotFound { .. } }) => ErrorKind::NotFound,
        (None, DeltaTableError::Io { .. }) => ErrorKind::Io,
        // The kernel's error about a store hides its cause from `source()`, and its type has no name here.
        (None, DeltaTableError::KernelError(e)) if e.to_string().contains("interacting with object store") => ErrorKind::Unavailable,
        (None, DeltaTableError::ObjectStore { .. }) => ErrorKind::Unavailable,
        _ => ErrorKind::InvalidInput,
    };
    Error::new(kind, "the Delta table could not be read or written").with("table", location.name()).caused_by(error)
}

#[cfg(test)]
mod tests;
