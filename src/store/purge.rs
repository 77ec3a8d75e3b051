//! Destroying an object for good, its retained versions included: an erasure duty is stronger than the retention.
//!
//! The order and the confirmations are those of collection: a tombstone is decided first, then every older version gets its stub and loses
//! its shards. Only the age that collection waits for is left out. Who may ask for it is decided above: a store knows nothing of tables.

use object_store::path::Path;

use super::collect::{CollectOptions, CollectReport, Collector, check_collector};
use super::{ErasureStore, delete};
use crate::error::{Error, ErrorKind, Result};
use crate::key::PrivateKey;

impl ErasureStore {
    /// Deletes `path` and lets go of all its versions at once, however young they are.
    ///
    /// It can be interrupted and done again. A region that is down, or does not delete a shard, keeps it until it is done again with the region there: the
    /// report then says that versions were postponed or kept, or has problems, and the purge is not complete. Copies that regions were given because
    /// another leaves are looked for in all regions. What writers that were stopped left, so that no version ever named it, is found by
    /// [`ErasureStore::collect`] alone, and so is a shard that a repair or a sweep, begun before, writes after that look: purge while neither is under
    /// way. Cost: as for collecting each version, and a LIST a region.
    ///
    /// # Errors
    /// [`ErrorKind::Permission`] when the key may not collect; [`ErrorKind::Unavailable`] when too few regions answer.
    pub async fn purge(&self, path: &Path, collector: &PrivateKey) -> Result<CollectReport> {
        let inner = &*self.inner;
        check_collector(inner, collector)?;
        if inner.newest(path).await?.is_some_and(|newest| newest.is_live()) {
            delete::delete(&self.inner, path).await?;
        }
        // Markers of the deletion are told in the background; the walk below is to see them.
        self.quiesce().await;
        let options = CollectOptions::default();
        let mut run = Collector::without_age(inner, collector, &options);
        if let Some(walked) = inner.registers.walk_one(path).await? {
            run.name(&walked).await?;
        }
        if inner.newest(path).await?.is_some_and(|newest| newest.is_live()) {
            let what = "the object was written anew while it was purged, and is there: purge it again, if that was not meant to be";
            run.report.problem(path.as_ref(), Error::new(ErrorKind::Precondition, what));
        }
        Ok(run.report)
    }
}
