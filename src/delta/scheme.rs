//! `lakeseal://<lake>/<table>` as a URL that deltalake and DataFusion understand.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Once};

use deltalake::logstore::{
    DeltaIOStorageBackend, LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig, default_logstore,
    logstore_factories, object_store_factories,
};
use deltalake::{DeltaResult, DeltaTableError};
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::RwLock;
use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// The URL scheme of tables in a lake.
pub const SCHEME: &str = "lakeseal";

static LAKES: LazyLock<RwLock<HashMap<String, Arc<dyn ObjectStore>>>> = LazyLock::new(RwLock::default);
static REGISTER: Once = Once::new();

/// Makes `lakeseal://<lake>/…` mean `store` for all of deltalake in this process, and through it for DataFusion.
///
/// A lake that is registered again is replaced: tables that were opened before keep the store they were opened with.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when `lake` cannot be the authority of a URL.
pub fn register_lake_scheme(lake: &str, store: Arc<dyn ObjectStore>) -> Result<()> {
    let url = lake_url(lake)?;
    let host = url.host_str().unwrap_or_default().to_owned();
    LAKES.write().insert(host, store);
    let scheme = Url::parse(&format!("{SCHEME}://")).map_err(|e| Error::new(ErrorKind::Internal, "the scheme is no URL").caused_by(e))?;
    REGISTER.call_once(|| {
        object_store_factories().insert(scheme.clone(), Arc::new(LakeFactory));
        logstore_factories().insert(scheme, Arc::new(LakeFactory));
    });
    Ok(())
}

/// `lakeseal://<lake>/`, checked.
pub(crate) fn lake_url(lake: &str) -> Result<Url> {
    let invalid = || {
        Error::new(ErrorKind::InvalidInput, "a lake's name consists of letters, digits, '-', '_' and '.', for it is part of URLs")
            .with("lake", lake)
    };
    if lake.is_empty() || !lake.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(invalid());
    }
    Url::parse(&format!("{SCHEME}://{lake}/")).map_err(|e| invalid().caused_by(e))
}

struct LakeFactory;

impl ObjectStoreFactory for LakeFactory {
    fn parse_url_opts(&self, url: &Url, config: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let lake = url.host_str().unwrap_or_default();
        let Some(store) = LAKES.read().get(lake).cloned() else {
            return Err(DeltaTableError::InvalidTableLocation(format!("{url}: no lake named \"{lake}\" is open in this process")));
        };
        if url.path().contains('%') {
            return Err(DeltaTableError::InvalidTableLocation(format!("{url}: a table path must not need percent-encoding")));
        }
        let path = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
        let store = match &config.runtime {
            Some(runtime) => Arc::new(DeltaIOStorageBackend::new(store, runtime.clone())) as ObjectStoreRef,
            None => store,
        };
        Ok((store, path))
    }
}

impl LogStoreFactory for LakeFactory {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        // deltalake commits with `put_if_absent` only through its default log store; any other name makes it rename temporary files.
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}
