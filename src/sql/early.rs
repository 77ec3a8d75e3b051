//! The log, read while the baseline is: neither needs the other before they are compared.

use tokio::task::JoinSet;

use super::settings::{ReadMode, VerifyMode};
use super::table::TableOptions;
use crate::baseline::SealedTable;
use crate::delta::Location;
use crate::error::Result;
use crate::table::{self, ReadLog};

/// A log that is being read.
pub(super) struct EarlyLoad(JoinSet<Result<ReadLog>>);

impl EarlyLoad {
    /// Begins to read the log, where it is the newest version that is wanted.
    pub(super) fn begin(location: &Location, options: &TableOptions) -> Self {
        let mut loads = JoinSet::new();
        if options.mode == ReadMode::Latest && options.verify != VerifyMode::Off {
            let (store, root) = (location.store().clone(), location.root().clone());
            loads.spawn(async move { table::read_log(store.as_ref(), &root, None).await });
        }
        Self(loads)
    }

    /// What was read, for a table that is held against nothing; `None` where reading has not begun or has failed.
    pub(super) async fn log(mut self) -> Option<ReadLog> {
        self.0.join_next().await?.ok()?.ok()
    }

    /// What was read, where it can be held against `sealed`: what was read before a commit that was sealed meanwhile would look rolled back,
    /// and is read again, as is what failed.
    pub(super) async fn log_since(self, sealed: &SealedTable) -> Option<ReadLog> {
        self.log().await.filter(|log| log.version().is_some_and(|version| version >= sealed.statement.state.version))
    }
}
