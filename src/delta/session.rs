//! DataFusion sessions that can read the stores they were given, and nothing else.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::config::ParquetOptions;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::delta_datafusion::{DeltaSessionConfig, DeltaSessionContext};
use object_store::ObjectStore;
use parking_lot::RwLock;
use url::Url;

use super::Location;
use crate::error::{Error, ErrorKind, Result};

/// A registry of stores that fails closed: no local file system is there beforehand and none is made up for an unknown URL.
///
/// Stores given to [`StoreRegistry::pin`] cannot be replaced by anything that runs in the session.
#[derive(Default)]
pub struct StoreRegistry {
    stores: RwLock<HashMap<String, Entry>>,
}

struct Entry {
    store: Arc<dyn ObjectStore>,
    pinned: bool,
}

impl StoreRegistry {
    /// Registers `store` for the scheme and authority of `url`, for good.
    pub fn pin(&self, url: &Url, store: Arc<dyn ObjectStore>) {
        self.stores.write().insert(key(url), Entry { store, pinned: true });
    }

    /// Takes a store out again, pinned or not.
    pub fn unpin(&self, url: &Url) {
        self.stores.write().remove(&key(url));
    }
}

impl fmt::Debug for StoreRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.stores.read().keys()).finish()
    }
}

impl ObjectStoreRegistry for StoreRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        let mut stores = self.stores.write();
        match stores.get(&key(url)) {
            Some(entry) if entry.pinned => Some(entry.store.clone()),
            _ => stores.insert(key(url), Entry { store, pinned: false }).map(|old| old.store),
        }
    }

    fn deregister_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        let mut stores = self.stores.write();
        match stores.get(&key(url)) {
            Some(entry) if !entry.pinned => {
                let store = entry.store.clone();
                stores.remove(&key(url));
                Ok(store)
            }
            _ => Err(unknown(url)),
        }
    }

    fn get_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        self.stores.read().get(&key(url)).map(|entry| entry.store.clone()).ok_or_else(|| unknown(url))
    }
}

fn key(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

fn unknown(url: &Url) -> DataFusionError {
    let error = Error::new(ErrorKind::Permission, "this session reads only the tables that were opened in it").with("url", key(url));
    DataFusionError::External(Box::new(error))
}

/// A runtime over `registry`. Footers are not cached: DataFusion keys them by path, size and time, all of which a forger controls.
pub(crate) fn runtime(registry: Arc<StoreRegistry>) -> Result<Arc<RuntimeEnv>> {
    runtime_with_footers(registry, 0)
}

/// As [`runtime`], for one table at one version alone: up to `bytes` of footers are remembered.
pub(crate) fn runtime_with_footers(registry: Arc<StoreRegistry>, bytes: usize) -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::new()
        .with_object_store_registry(registry)
        .with_metadata_cache_limit(bytes)
        .with_object_list_cache_limit(0)
        .with_file_statistics_cache_limit(0)
        .build_arc()
        .map_err(|e| Error::new(ErrorKind::Internal, "no DataFusion runtime could be made").caused_by(e))
}

/// deltalake's own session settings, but for what lets files steer what is read of them.
pub(crate) fn session_config() -> SessionConfig {
    let mut config: SessionConfig = DeltaSessionConfig::default().into();
    believe_chunks_only(&mut config.options_mut().execution.parquet);
    config
}

/// Has Parquet read without page indexes and Bloom filters.
///
/// Sealing holds the statistics of column chunks against the rows, and these alone: whoever wrote a file before it was sealed can have stated
/// of its pages what hides rows from a filter. Where pages are known, they are also fetched and counted by what is stated of their places.
pub(crate) fn believe_chunks_only(options: &mut ParquetOptions) {
    options.enable_page_index = false;
    options.bloom_filter_on_read = false;
    // In nanoseconds, the default, instants beyond the year 2262 wrap round; sealing reads microseconds as well.
    options.coerce_int96 = Some("us".to_owned());
}

/// A session for deltalake operations on the tables at `locations`; it reaches their stores and no others.
///
/// # Errors
/// [`ErrorKind::Internal`] when DataFusion gives no runtime.
pub fn session<'a>(locations: impl IntoIterator<Item = &'a Location>) -> Result<SessionContext> {
    let registry = StoreRegistry::default();
    for location in locations {
        registry.pin(location.engine_url(), location.store().clone());
    }
    let context = DeltaSessionContext::with_runtime_env(runtime(Arc::new(registry))?).into_inner();
    believe_chunks_only(&mut context.state_ref().write().config_mut().options_mut().execution.parquet);
    Ok(context)
}
