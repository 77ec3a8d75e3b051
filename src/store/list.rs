//! Listing: names in the order of their bytes, from decided markers; only names without one are asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta};

use super::Inner;
use super::resolve::meta;
use crate::error::Result;
use crate::format::entry::ObjectKind;
use crate::register::Listed;

/// Names without a marker that are resolved at one time.
const RESOLVED_AT_ONCE: usize = 16;

/// Live objects below `prefix` that are greater than `after`. Cost: O((names + retained versions) / page) requests a region.
pub(super) fn list(inner: Arc<Inner>, prefix: Option<&Path>, after: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
    let names = inner.registers.list(prefix, after);
    let root = prefix.cloned().unwrap_or_default();
    names
        .map(move |listed| {
            let inner = Arc::clone(&inner);
            async move { live(&inner, listed?).await }
        })
        .buffered(RESOLVED_AT_ONCE)
        .try_filter_map(|found| std::future::ready(Ok(found)))
        .map_err(move |e| e.into_object_store(&root))
        .boxed()
}

async fn live(inner: &Inner, listed: Listed) -> Result<Option<ObjectMeta>> {
    match listed {
        Listed::Marked { marker, .. } if marker.kind == ObjectKind::Tombstone => Ok(None),
        Listed::Marked { path, slot, marker } => Ok(Some(meta(&path, marker.size, marker.modified_ms, slot, marker.write_id))),
        Listed::Unmarked { path, .. } => {
            Ok(inner.newest(&path).await?.filter(|version| version.is_live()).map(|version| version.meta(&path)))
        }
    }
}

/// Objects directly below `prefix`, and the folders below it in which something is live. Cost: a listing of all that is below.
pub(super) async fn list_with_delimiter(inner: &Arc<Inner>, prefix: Option<&Path>) -> object_store::Result<ListResult> {
    let root = prefix.cloned().unwrap_or_default();
    let mut all = list(Arc::clone(inner), prefix, None);
    let mut common_prefixes = BTreeSet::new();
    let mut objects = Vec::new();
    while let Some(found) = all.try_next().await? {
        let Some(mut parts) = found.location.prefix_match(&root) else { continue };
        let Some(first) = parts.next() else { continue };
        if parts.next().is_some() {
            common_prefixes.insert(root.clone().join(first));
        } else {
            drop(parts);
            objects.push(found);
        }
    }
    Ok(ListResult { common_prefixes: common_prefixes.into_iter().collect(), objects })
}
