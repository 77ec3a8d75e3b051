//! What of opening does not wait for the baseline: the log is read beside it, and deltalake loads what was read while that is compared.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use deltalake::table::state::DeltaTableState;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::task::JoinSet;

use super::settings::{ReadMode, VerifyMode};
use super::table::TableOptions;
use crate::baseline::SealedTable;
use crate::delta::{self, Location};
use crate::error::Result;
use crate::table::{self, LoadedLog, ReadCommits};

/// A log that is being read.
pub(super) struct EarlyLoad(JoinSet<Result<Early>>);

/// A log that was read.
pub(super) struct Early {
    pub(super) log: LoadedLog,
    /// deltalake's load of it, where its bytes are at hand.
    pub(super) engine: Option<EngineLoad>,
}

impl EarlyLoad {
    /// Begins to read the log, where it is the newest version that is wanted.
    pub(super) fn begin(location: &Location, options: &TableOptions) -> Self {
        let mut loads = JoinSet::new();
        if options.mode == ReadMode::Latest && options.verify != VerifyMode::Off {
            let location = location.clone();
            loads.spawn(async move {
                let log = table::read_log(location.store().as_ref(), location.root(), None).await?;
                let engine = match &log {
                    LoadedLog::Commits(commits) => Some(EngineLoad::begin(&location, commits).await?),
                    LoadedLog::Snapshot(_) => None,
                };
                Ok(Early { log, engine })
            });
        }
        Self(loads)
    }

    /// What was read, for a table that is held against nothing; `None` where reading has not begun or has failed.
    pub(super) async fn log(mut self) -> Option<Early> {
        self.0.join_next().await?.ok()?.ok()
    }

    /// What was read, where it can be held against `sealed`: what was read before a commit that was sealed meanwhile would look rolled back,
    /// and is read again, as is what failed.
    pub(super) async fn log_since(self, sealed: &SealedTable) -> Option<Early> {
        self.log().await.filter(|early| early.log.version().is_some_and(|version| version >= sealed.statement.state.version))
    }
}

/// deltalake's load of a log, from the very bytes that are compared with the baseline. It is of use where these are shown; an error of it says
/// nothing that loading from the verified store does not say better.
pub(super) struct EngineLoad {
    load: JoinSet<Result<DeltaTableState>>,
    /// The table under the URL that the state speaks of.
    seen: Location,
    version: u64,
}

impl EngineLoad {
    async fn begin(location: &Location, commits: &ReadCommits) -> Result<Self> {
        let store = InMemory::new();
        for (path, bytes) in commits.objects() {
            store.put(path, bytes.clone().into()).await?;
        }
        let (seen, version) = (location.through(Arc::new(store))?, commits.version());
        let mut load = JoinSet::new();
        let held = seen.clone();
        load.spawn(async move {
            let table = delta::open(&held, Some(version)).await?;
            Ok(table.snapshot().map_err(|e| delta::delta_error(&held, e))?.clone())
        });
        Ok(Self { load, seen, version })
    }

    /// The table as `store` shows it at `version`, and deltalake's provider of it; `None` where something else was loaded, or nothing.
    pub(super) async fn provider(mut self, store: Arc<dyn ObjectStore>, version: u64) -> Option<(Location, Arc<dyn TableProvider>)> {
        if self.version != version {
            return None;
        }
        let state = self.load.join_next().await?.ok()?.ok()?;
        let verified = self.seen.moved_to(store);
        let provider = delta::provider_from(&verified, state).await.ok()?;
        Some((verified, provider))
    }
}
