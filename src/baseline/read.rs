//! Bounded reads of whole objects.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::error::{Error, ErrorKind, Result};

/// Reads a whole object of at most `limit_bytes`. Cost: one GET.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is larger, or has another length than its store states.
pub(super) async fn read_object(store: &dyn ObjectStore, location: &Path, limit_bytes: u64) -> Result<Bytes> {
    let result = store.get(location).await?;
    let size = result.meta.size;
    if size > limit_bytes {
        return Err(Error::new(ErrorKind::Corrupt, "an object is larger than anything honest of its kind")
            .with("object", location)
            .with("bytes", size)
            .with("limit", limit_bytes));
    }
    let bytes = result.bytes().await?;
    if u64::try_from(bytes.len()).ok() == Some(size) {
        return Ok(bytes);
    }
    Err(Error::new(ErrorKind::Corrupt, "an object has another length than its store states").with("object", location))
}
