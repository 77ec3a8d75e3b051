//! The log, read while the baseline is: neither needs the other before they are compared.

use tokio::task::JoinSet;

use super::settings::{ReadMode, VerifyMode};
use super::table::TableOptions;
use crate::baseline::SealedTable;
use crate::delta::Location;
use crate::error::Result;
use crate::table::{self, TableKind, TableSnapshot};

/// A log that is being read.
pub(super) struct EarlyLoad(JoinSet<Result<TableSnapshot>>);

impl EarlyLoad {
    /// Begins to read the log, where it is the newest version that is wanted.
    pub(super) fn begin(location: &Location, options: &TableOptions) -> Self {
        let mut loads = JoinSet::new();
        if options.mode == ReadMode::Latest && options.verify != VerifyMode::Off {
            let (store, root) = (location.store().clone(), location.root().clone());
            loads.spawn(async move { table::load(store.as_ref(), &root, None).await });
        }
        Self(loads)
    }

    /// What was read, for a table that is held against nothing; `None` where reading has not begun or has failed.
    pub(super) async fn snapshot(mut self) -> Option<TableSnapshot> {
        self.0.join_next().await?.ok()?.ok()
    }

    /// What was read, where it can be held against `sealed`: what was read before a commit that was sealed meanwhile would look rolled back,
    /// and is read again, as is what failed.
    pub(super) async fn snapshot_since(self, sealed: &SealedTable) -> Option<TableSnapshot> {
        let snapshot = self.snapshot().await?;
        (snapshot.kind == TableKind::Delta && snapshot.version >= sealed.statement.state.version).then_some(snapshot)
    }
}
