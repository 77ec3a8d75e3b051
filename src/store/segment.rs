//! Writing one segment: code it, send its shards to their regions.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use object_store::PutPayload;
use tokio::time::{Instant, timeout_at};

use super::Inner;
use super::code::{Coded, ObjectBlocks, Shard, code};
use super::hints::{RepairHint, RepairReason};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::id::WriteId;
use crate::region::{Created, Region, layout};

/// Names one upload: what all of its shards share.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) path: String,
    pub(super) write_id: WriteId,
    pub(super) shard_slot: u64,
    /// Region index of each shard.
    pub(super) placement: Arc<[u8]>,
    /// What is stored behind each shard: to which upload it belongs.
    pub(super) trailer: Bytes,
}

/// Runs `work`, which takes CPU time, where it does not hold up requests.
pub(super) async fn compute<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    // A simulation has one thread, and a clock that stands still while it works.
    #[cfg(test)]
    if crate::id::seeded::is_seeded() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(ErrorKind::Internal, "a computation was stopped").caused_by(error)),
    }
}

/// What writing a segment gives.
pub(super) struct Written {
    /// The root of each shard.
    pub(super) roots: Vec<Digest>,
    /// The values of the object's blocks, if they were asked for.
    pub(super) blocks: Vec<[u8; 32]>,
    /// The segment and number of each shard that was not durable in time.
    pub(super) late: Vec<(u64, usize)>,
}

/// Codes, hashes and sends a segment; returns once enough of its shards are durable.
pub(super) async fn write(inner: Arc<Inner>, upload: Upload, index: u64, bytes: Bytes, object: ObjectBlocks) -> Result<Written> {
    let shape = inner.profile.geometry().segment(bytes.len() as u64);
    let codec = inner.codec.clone();
    let trailer = upload.trailer.clone();
    let Coded { shards, blocks } = compute(move || code(&codec, shape, &bytes, &trailer, object)).await?;
    let roots = shards.iter().map(|shard| shard.root).collect();
    let late = send(&inner, &upload, index, shards).await?;
    Ok(Written { roots, blocks, late: late.into_iter().map(|shard| (index, shard)).collect() })
}

/// Where a shard lies. The key's segment number has 32 bits, which manifests never exceed.
pub(super) fn shard_key(write_id: &WriteId, slot: u64, segment: u64, shard: usize) -> Result<object_store::path::Path> {
    match (u32::try_from(segment), u8::try_from(shard)) {
        (Ok(segment), Ok(shard)) => Ok(layout::shard_key(write_id, slot, segment, shard)),
        _ => Err(Error::new(ErrorKind::Internal, "a shard's number is out of range").with("segment", segment).with("shard", shard)),
    }
}

/// Sends the shards of a segment; gives those that were not durable in time.
async fn send(inner: &Inner, upload: &Upload, index: u64, shards: Vec<Shard>) -> Result<Vec<usize>> {
    let quorums = inner.regions.quorums();
    let needed = inner.profile.acknowledged_shards(usize::from(quorums.spare()));
    let total = shards.len();
    // A shard without bytes is known to everybody; it is not stored.
    let mut durable = shards.iter().filter(|shard| shard.len == 0).count();
    let mut open: Vec<bool> = shards.iter().map(|shard| shard.len != 0).collect();
    let mut requests: FuturesUnordered<_> = shards
        .into_iter()
        .enumerate()
        .filter(|(_, shard)| shard.len != 0)
        .map(|(number, shard)| async move { (number, put(inner, upload, index, number, shard).await) })
        .collect();
    let mut failures: Vec<(usize, Error)> = Vec::new();
    let mut give_up: Option<Instant> = None;
    loop {
        if durable >= needed && give_up.is_none() {
            give_up = Some(Instant::now() + inner.profile.grace);
        }
        if total - failures.len() < needed {
            break;
        }
        let next = match give_up {
            Some(at) => timeout_at(at, requests.next()).await.unwrap_or(None),
            None => requests.next().await,
        };
        let Some((number, outcome)) = next else { break };
        if let Some(open) = open.get_mut(number) {
            *open = false;
        }
        match outcome {
            Ok(()) => durable += 1,
            Err(error) => failures.push((number, error)),
        }
    }
    if durable < needed {
        let error = Error::new(ErrorKind::Unavailable, "too few regions took their shard; nothing was written")
            .with("path", &upload.path)
            .with("needed", needed)
            .with("durable", durable);
        return Err(failures.into_iter().fold(error, |error, (number, why)| error.with("shard", format!("{number}: {why}"))));
    }
    let late = open.iter().enumerate().filter(|(_, open)| **open).map(|(number, _)| number);
    Ok(failures.iter().map(|(number, _)| *number).chain(late).collect())
}

async fn put(inner: &Inner, upload: &Upload, index: u64, number: usize, shard: Shard) -> Result<()> {
    let region = upload.placement.get(number).and_then(|region| inner.regions.region(*region));
    let region = region.ok_or_else(|| Error::new(ErrorKind::Internal, "a shard was given no region").with("shard", number))?;
    let key = shard_key(&upload.write_id, upload.shard_slot, index, number)?;
    let payload = shard.payload;
    // Not an overwriting put: a writer's credentials need not be able to overwrite.
    failpoint!("segment.before-shard");
    let stored = match region.create(&key, payload.clone()).await {
        Ok(Created::Made) => Ok(()),
        Ok(Created::Exists) => stands(region, &key, &payload).await,
        Err(error) => Err(error),
    };
    failpoint!("segment.after-shard");
    stored
}

/// What was there already is our own if a request was repeated on the way; anything else stands where our shard should.
async fn stands(region: &Region, key: &object_store::path::Path, payload: &PutPayload) -> Result<()> {
    let found = region.get(key, payload.content_length() as u64).await?.unwrap_or_default();
    if Bytes::from(payload.clone()) == found {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, "other bytes stand where a shard is to be written").with("region", region.name()).with("key", key))
}

impl Inner {
    pub(super) fn note(&self, path: &str, write_id: WriteId, segment: u64, shard: usize, region: Option<u8>, why: RepairReason) {
        let Some(region) = region.and_then(|region| self.regions.region(region)) else { return };
        self.hints.add(RepairHint { path: path.to_owned(), write_id, segment, shard, region: region.name().clone(), why });
    }
}
