//! One region: its requests, each with a time limit, and what their answers mean.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::down::DownStore;
use super::layout;
use super::metrics::{Health, Metrics, Operation, OperationStatistics};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionName;

/// How a region is used.
#[derive(Debug, Clone, Copy)]
pub struct RegionOptions {
    /// Time limit of one request; of a list or a body, of each step.
    pub timeout: Duration,
}

impl Default for RegionOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

/// The answer to create-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The region made the object. (A retry inside the store may have found its own; whoever cares reads it.)
    Made,
    /// The region says that there was one.
    Exists,
}

/// How many requests went to a region since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Create-if-absent requests.
    pub creates: u64,
    /// Overwriting puts.
    pub puts: u64,
    /// Gets, and range gets.
    pub gets: u64,
    /// Lists.
    pub lists: u64,
    /// Deletes.
    pub deletes: u64,
    /// Requests of any kind that failed; *not found* and *exists* are answers, not failures.
    pub failures: u64,
}

/// Requests that one region is sent at a time, unless its configuration says otherwise: so many of the small ones that names take, and
/// as many for shards, so that a bulk write never holds up a vote.
pub const CONCURRENCY: usize = 64;

/// A failure domain: a store under a prefix, with a name and a position in the configuration.
#[derive(Debug)]
pub struct Region {
    name: RegionName,
    index: u8,
    store: Arc<dyn ObjectStore>,
    options: RegionOptions,
    down: Option<String>,
    cost_micros_per_gib: u64,
    key_room_bytes: usize,
    names: Semaphore,
    shards: Semaphore,
    metrics: Arc<Metrics>,
}

impl Region {
    /// A region over `store`, whose root is the region's root.
    pub fn new(name: RegionName, index: u8, store: Arc<dyn ObjectStore>, options: RegionOptions) -> Self {
        let (names, shards) = (Semaphore::new(CONCURRENCY), Semaphore::new(CONCURRENCY));
        Self {
            name,
            index,
            store,
            options,
            down: None,
            cost_micros_per_gib: 0,
            key_room_bytes: usize::MAX,
            names,
            shards,
            metrics: Arc::default(),
        }
    }

    /// With what reading a GiB from it costs, in millionths of any one currency: dear regions are read when cheap ones do not suffice.
    #[must_use]
    pub fn costing(self, micros_per_gib: u64) -> Self {
        Self { cost_micros_per_gib: micros_per_gib, ..self }
    }

    /// With another limit to the requests that it is sent at a time than [`CONCURRENCY`]; at least 1.
    #[must_use]
    pub fn limited_to(self, requests: usize) -> Self {
        let limit = requests.clamp(1, Semaphore::MAX_PERMITS);
        Self { names: Semaphore::new(limit), shards: Semaphore::new(limit), ..self }
    }

    /// With how long a key below its root may be, in bytes.
    #[must_use]
    pub fn with_room_for_keys(self, bytes: usize) -> Self {
        Self { key_room_bytes: bytes, ..self }
    }

    /// Whether a key of so many bytes below its root is not too long for the store.
    pub fn has_room_for_key(&self, bytes: usize) -> bool {
        bytes <= self.key_room_bytes
    }

    /// At another index, before it is used.
    #[must_use]
    pub fn at(self, index: u8) -> Self {
        Self { index, ..self }
    }

    /// A region that keeps its place but may not be used: every request fails with `reason`.
    pub fn down(name: RegionName, index: u8, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let store = Arc::new(DownStore { reason: reason.clone() });
        Self { down: Some(reason), ..Self::new(name, index, store, RegionOptions::default()) }
    }

    /// Its name.
    pub fn name(&self) -> &RegionName {
        &self.name
    }

    /// Its position in the configuration.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Why it may not be used, if so.
    pub fn down_reason(&self) -> Option<&str> {
        self.down.as_deref()
    }

    /// What reading a GiB from it costs, in millionths.
    pub fn cost_micros_per_gib(&self) -> u64 {
        self.cost_micros_per_gib
    }

    /// How it does just now, as far as recent requests show.
    pub fn health(&self) -> Health {
        if self.down.is_some() { Health::Failing } else { self.metrics.health() }
    }

    /// How long a range read of `bytes` may take before it is late: by its own history, at most `limit`.
    pub(crate) fn late_after(&self, bytes: u64, limit: Duration) -> Duration {
        self.metrics.late_after(bytes, limit)
    }

    /// Takes note that a range read of `bytes` did not come in time.
    pub(crate) fn note_late(&self, waited: Duration, bytes: u64) {
        self.metrics.late(waited, bytes);
    }

    /// What was measured of an operation so far.
    pub fn statistics(&self, operation: Operation) -> OperationStatistics {
        self.metrics.snapshot(operation)
    }

    /// What was asked of it so far.
    pub fn requests(&self) -> RequestCounts {
        let of = |operation| self.metrics.snapshot(operation).requests;
        RequestCounts {
            creates: of(Operation::Create),
            puts: of(Operation::Put),
            gets: of(Operation::Get) + of(Operation::GetRanges),
            lists: of(Operation::List),
            deletes: of(Operation::Delete),
            failures: Operation::ALL.iter().map(|operation| self.metrics.snapshot(*operation).failures).sum(),
        }
    }

    /// Why the region did not take the last of the writes that failed since it was opened.
    pub fn refusal(&self) -> Option<String> {
        self.metrics.refusal()
    }

    /// Create-if-absent. `Ok` only on the region's own clear word; after any error the outcome is unknown.
    pub async fn create(&self, key: &Path, payload: PutPayload) -> Result<Created> {
        let length = length(payload.content_length());
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let made = async {
            match self.timed(self.store.put_opts(key, payload, options)).await {
                Ok(_) => Ok(Created::Made),
                Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Precondition) => Ok(Created::Exists),
                Err(error) => Err(error),
            }
        };
        self.measured(Operation::Create, key, length, made, |_| 0).await
    }

    /// Writes an object, over whatever is there; for names that nobody else writes.
    pub async fn put(&self, key: &Path, payload: PutPayload) -> Result<()> {
        let length = length(payload.content_length());
        let put = self.timed(self.store.put_opts(key, payload, PutOptions::default()));
        self.measured(Operation::Put, key, length, async { put.await.map(|_| ()) }, |()| 0).await
    }

    /// A whole object of at most `limit_bytes`. `None` only on a clear *not found*.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is larger or not as long as it says; else whatever the region failed with.
    pub async fn get(&self, key: &Path, limit_bytes: u64) -> Result<Option<Bytes>> {
        let got = async {
            match self.read(key, limit_bytes).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.measured(Operation::Get, key, 0, got, |bytes| bytes.as_ref().map_or(0, |bytes| length(bytes.len()))).await
    }

    async fn read(&self, key: &Path, limit_bytes: u64) -> Result<Bytes> {
        let result = self.timed(self.store.get_opts(key, GetOptions::default())).await?;
        let size = result.meta.size;
        let too_large = || Error::new(ErrorKind::Corrupt, format!("an object is larger than the {limit_bytes} bytes that it may have"));
        if size > limit_bytes {
            return Err(too_large());
        }
        let mut body = result.into_stream();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.timed(body.try_next()).await? {
            bytes.extend_from_slice(&chunk);
            if length(bytes.len()) > limit_bytes {
                return Err(too_large());
            }
        }
        if length(bytes.len()) != size {
            return Err(Error::new(ErrorKind::Corrupt, format!("an object of {size} bytes came with {}", bytes.len())));
        }
        Ok(bytes.freeze())
    }

    /// Ranges of an object, each of exactly the length that was asked for.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] only on the region's clear word; [`ErrorKind::Corrupt`] for a range of another length.
    pub async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let got = async {
            let parts = self.timed(self.store.get_ranges(key, ranges)).await.map_err(cut_short)?;
            let exact = parts.len() == ranges.len()
                && parts.iter().zip(ranges).all(|(part, range)| range.end.checked_sub(range.start) == Some(length(part.len())));
            if exact { Ok(parts) } else { Err(Error::new(ErrorKind::Corrupt, "a range came with another length than was asked for")) }
        };
        let bytes = |parts: &Vec<Bytes>| parts.iter().map(|part| length(part.len())).sum();
        self.measured(Operation::GetRanges, key, 0, got, bytes).await
    }

    /// Everything below `prefix` (whole segments) and greater than `after`, in the order of the keys' bytes.
    ///
    /// The order is checked as it comes: a region that lists out of order fails with [`ErrorKind::Corrupt`].
    pub fn list(&self, prefix: &Path, after: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.metrics.requested(Operation::List, 0);
        let folder = (!prefix.as_ref().is_empty()).then_some(prefix);
        // Servers differ about an offset that does not lie below the prefix: some list nothing then.
        let below = format!("{prefix}/");
        let inner = match after {
            Some(after) if folder.is_none() || after.as_ref().starts_with(&below) => self.store.list_with_offset(folder, after),
            Some(after) if *after.as_ref() > *below => stream::empty().boxed(),
            _ => self.store.list(folder),
        };
        let walk = Walk {
            inner,
            prefix: prefix.clone(),
            last: after.cloned(),
            timeout: self.options.timeout,
            region: self.name.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        stream::try_unfold(walk, Walk::next).boxed()
    }

    /// Deletes an object; that there was none is no error.
    pub async fn delete(&self, key: &Path) -> Result<()> {
        let deleted = async {
            match self.timed(self.store.delete(key)).await {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        self.measured(Operation::Delete, key, 0, deleted, |()| 0).await
    }

    async fn timed<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        timed(self.options.timeout, request).await
    }

    /// Runs a request in its turn, and takes note of its outcome. The wait for its turn has no time limit of its own: whoever is before it
    /// has one. `delivered` says how many bytes an answer brought.
    async fn measured<T>(
        &self,
        operation: Operation,
        key: &Path,
        bytes_in: u64,
        request: impl Future<Output = Result<T>>,
        delivered: impl FnOnce(&T) -> u64,
    ) -> Result<T> {
        self.metrics.requested(operation, bytes_in);
        let turns = if layout::is_below_shards(key) { &self.shards } else { &self.names };
        // It is never closed.
        let _turn = turns.acquire().await;
        let begun = Instant::now();
        let outcome = request.await;
        let took = begun.elapsed();
        tracing::debug!(
            region = %self.name,
            operation = operation.name(),
            %key,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            error = outcome.as_ref().err().map(tracing::field::display),
            "region request"
        );
        match outcome {
            Ok(answer) => {
                self.metrics.answered(operation, took, delivered(&answer));
                Ok(answer)
            }
            Err(error) => {
                note_failure(&self.metrics, operation, &error);
                Err(error.with("region", &self.name).with("key", key))
            }
        }
    }
}

fn note_failure(metrics: &Metrics, operation: Operation, error: &Error) {
    metrics.failed(operation);
    if matches!(operation, Operation::Create | Operation::Put) {
        metrics.refused(error.innermost());
    }
    // From one bad, missing or forbidden object nothing follows for others.
    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Io) {
        metrics.unreachable();
    }
}

struct Walk {
    inner: BoxStream<'static, object_store::Result<ObjectMeta>>,
    prefix: Path,
    last: Option<Path>,
    timeout: Duration,
    region: RegionName,
    metrics: Arc<Metrics>,
}

impl Walk {
    async fn next(mut self) -> Result<Option<(ObjectMeta, Self)>> {
        let begun = Instant::now();
        let next = timed(self.timeout, self.inner.try_next()).await.map_err(|error| self.failed(error))?;
        // Keys of one page come at once: what took time was a request.
        if self.last.is_none() || next.is_none() {
            self.metrics.answered(Operation::List, begun.elapsed(), 0);
        }
        let Some(meta) = next else { return Ok(None) };
        let ascends = self.last.as_ref().is_none_or(|last| meta.location > *last);
        if !ascends || !meta.location.prefix_matches(&self.prefix) {
            let error = Error::new(ErrorKind::Corrupt, "the region lists its keys out of order or outside of the prefix");
            return Err(self.failed(error.with("key", &meta.location)));
        }
        self.last = Some(meta.location.clone());
        Ok(Some((meta, self)))
    }

    fn failed(&self, error: Error) -> Error {
        note_failure(&self.metrics, Operation::List, &error);
        // A prefix is never "not found": what is missing then is the region.
        let error = if error.kind() == ErrorKind::NotFound {
            Error::new(ErrorKind::Unavailable, "the region is missing").caused_by(error)
        } else {
            error
        };
        error.with("region", &self.region).with("prefix", &self.prefix)
    }
}

async fn timed<T>(limit: Duration, request: impl Future<Output = object_store::Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if container_is_missing(&error) => {
            Err(Error::new(ErrorKind::Unavailable, "the region's bucket or container is missing").caused_by(error))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, format!("the region did not answer within {} ms", limit.as_millis()))),
    }
}

/// Object stores answer 404 for a missing bucket as for a missing key; taken for the latter, a deleted bucket would be an empty acceptor.
fn container_is_missing(error: &object_store::Error) -> bool {
    let object_store::Error::NotFound { source, .. } = error else { return false };
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
    while let Some(cause) = next {
        let text = cause.to_string();
        if ["NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "bucket does not exist"].iter().any(|code| text.contains(code)) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// An object that ends before what was asked of it is damaged, whatever a store calls that.
fn cut_short(error: Error) -> Error {
    if is_too_short(&error) {
        return Error::new(ErrorKind::Corrupt, "an object is shorter than what was asked of it").caused_by(error);
    }
    error
}

/// Whether a region refused a range because the object ends before it. Stores have no kind for that; taken for *unreachable*, a shard that
/// was cut would not be repaired.
fn is_too_short(error: &Error) -> bool {
    if error.kind() == ErrorKind::InvalidInput {
        // A directory's own word: nothing else about a request for ranges can be invalid.
        return true;
    }
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        let refused = ["416 Range Not Satisfiable", "InvalidRange", "Wanted range starting at"].iter().any(|words| text.contains(words));
        if refused || (text.starts_with("Requested ") && text.contains(", got ")) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
