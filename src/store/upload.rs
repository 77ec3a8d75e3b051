//! Writing an object of any size as it comes: a few segments are coded, hashed and sent at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use object_store::path::Path;
use tokio::task::JoinHandle;

use super::Inner;
use super::code::ObjectBlocks;
use super::decide::{is_before_votes, refuse_system};
use super::hints::{HINTS_LIMIT, RepairReason};
use super::segment::{Upload, Written, compute, shard_key, write};
use crate::digest::{BLOCK_BYTES, BlockJoiner, Digest};
use crate::erasure::{Placement, SegmentShape};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::manifest::{Content, MAX_SEGMENTS, Sharded};
use crate::format::trailer::Trailer;
use crate::id::WriteId;
use crate::region::{Health, Region, layout};

/// Segments that are being written at one time; memory is these, their parity, and what the client holds.
const IN_FLIGHT: usize = 3;
/// Deletions of own orphans that run at one time.
const DISCARD_CONCURRENCY: usize = 16;

/// Takes bytes in order and writes them as shards.
pub(super) struct Uploader {
    inner: Arc<Inner>,
    upload: Upload,
    inline_limit: u64,
    pieces: Vec<Bytes>,
    buffered: usize,
    size: u64,
    segments: u64,
    in_flight: VecDeque<JoinHandle<Result<Written>>>,
    roots: Vec<Digest>,
    digest: ObjectDigest,
    /// Shards that were not durable in time, by segment and number.
    late: Vec<(u64, usize)>,
}

/// How the digest of the whole object comes about.
enum ObjectDigest {
    /// From its blocks, which are hashed with the segments, in whatever order.
    Blocks(BlockJoiner),
    /// Segment after segment: blocks do not begin where segments do.
    Bytes(Box<blake3::Hasher>),
}

impl ObjectDigest {
    fn of_segments(segment_bytes: u64) -> Self {
        let block = BLOCK_BYTES as u64;
        if segment_bytes > block && segment_bytes.is_multiple_of(block) {
            Self::Blocks(BlockJoiner::default())
        } else {
            Self::Bytes(Box::default())
        }
    }

    /// Adds a segment, or says how the blocks of segment `index` are to be hashed.
    async fn add(&mut self, index: u64, segment_bytes: u64, bytes: &Bytes) -> Result<ObjectBlocks> {
        match self {
            // Only the last segment is shorter than others, and others are longer than a block.
            Self::Blocks(_) if index == 0 && bytes.len() <= BLOCK_BYTES => Ok(ObjectBlocks::Only),
            Self::Blocks(_) => Ok(ObjectBlocks::From(index.saturating_mul(segment_bytes / BLOCK_BYTES as u64))),
            Self::Bytes(hasher) => {
                let (mut taken, bytes) = (std::mem::take(hasher), bytes.clone());
                *hasher = compute(move || {
                    taken.update(&bytes);
                    Ok(taken)
                })
                .await?;
                Ok(ObjectBlocks::No)
            }
        }
    }

    fn finish(self) -> Digest {
        match self {
            Self::Blocks(joiner) => joiner.finish(),
            Self::Bytes(hasher) => Digest(*hasher.finalize().as_bytes()),
        }
    }
}

impl Uploader {
    pub(super) fn new(inner: Arc<Inner>, path: &Path, write_id: WriteId, shard_slot: u64) -> Result<Self> {
        refuse_system(path)?;
        layout::register_folder(path)?;
        let trailer = inner.trailer(path, write_id, shard_slot)?;
        let upload = Upload { path: path.to_string(), write_id, shard_slot, placement: inner.place(write_id).into(), trailer };
        let inline_limit = inner.inline_limit(path);
        Ok(Self {
            digest: ObjectDigest::of_segments(inner.profile.segment_bytes),
            inner,
            upload,
            inline_limit,
            pieces: Vec::new(),
            buffered: 0,
            size: 0,
            segments: 0,
            in_flight: VecDeque::new(),
            roots: Vec::new(),
            late: Vec::new(),
        })
    }

    /// Adds the next bytes; waits while too many segments are being written.
    pub(super) async fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        let full = usize::try_from(self.inner.profile.segment_bytes).unwrap_or(usize::MAX);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(full - self.buffered));
            self.buffered += piece.len();
            self.size += piece.len() as u64;
            self.pieces.push(piece);
            // The last segment is left to `finish`: it may be all there is, and small.
            if self.buffered == full {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        while self.in_flight.len() >= IN_FLIGHT {
            self.settle_one().await?;
        }
        if self.segments >= MAX_SEGMENTS {
            return Err(Error::new(ErrorKind::InvalidInput, "an object has at most 131072 segments: raise segment_bytes")
                .with("path", &self.upload.path));
        }
        let bytes = self.take_pieces();
        let (inner, upload, index) = (Arc::clone(&self.inner), self.upload.clone(), self.segments);
        let blocks = self.digest.add(index, inner.profile.segment_bytes, &bytes).await?;
        self.in_flight.push_back(tokio::spawn(write(inner, upload, index, bytes, blocks)));
        self.segments += 1;
        Ok(())
    }

    fn take_pieces(&mut self) -> Bytes {
        let size = std::mem::take(&mut self.buffered);
        let mut pieces = std::mem::take(&mut self.pieces);
        match pieces.pop() {
            Some(only) if pieces.is_empty() => only,
            last => {
                let mut all = BytesMut::with_capacity(size);
                pieces.iter().chain(&last).for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }

    async fn settle_one(&mut self) -> Result<()> {
        let Some(oldest) = self.in_flight.pop_front() else { return Ok(()) };
        let written = oldest.await.map_err(|e| Error::new(ErrorKind::Internal, "the writing of a segment was stopped").caused_by(e))??;
        self.roots.extend(written.roots);
        let room = HINTS_LIMIT.saturating_sub(self.late.len());
        self.late.extend(written.late.into_iter().take(room));
        if let ObjectDigest::Blocks(joiner) = &mut self.digest {
            written.blocks.into_iter().for_each(|value| joiner.push(value));
        }
        Ok(())
    }

    /// Waits until all is durable, and says what was written and its digest.
    pub(super) async fn finish(&mut self) -> Result<(Content, Digest)> {
        if self.segments == 0 && self.size <= self.inline_limit {
            let bytes = self.take_pieces();
            return Ok((Content::Inline(bytes.clone()), Digest::of(&bytes)));
        }
        if self.buffered > 0 {
            self.flush().await?;
        }
        while !self.in_flight.is_empty() {
            self.settle_one().await?;
        }
        let digest = std::mem::replace(&mut self.digest, ObjectDigest::of_segments(0)).finish();
        let profile = &self.inner.profile;
        let sharded = Sharded {
            size: self.size,
            codec: profile.codec(),
            segment_bytes: profile.segment_bytes,
            shard_slot: self.upload.shard_slot,
            placement: self.upload.placement.to_vec(),
            roots: std::mem::take(&mut self.roots),
        };
        Ok((Content::Shards(sharded), digest))
    }

    /// That its version is decided: what was late is to be repaired. Not before: whoever repairs looks for the version, and would find none, or a slot in
    /// which this write is at work.
    pub(super) fn won(self) {
        self.note_late();
    }

    /// That proposing a version of it failed with `error`, which is given back: what was written goes where that came before any vote, and stays where
    /// a version may name it now or later.
    pub(super) fn failed(self, error: Error) -> Error {
        if is_before_votes(&error) {
            self.discard();
        } else {
            self.note_late();
        }
        error
    }

    fn note_late(&self) {
        let upload = &self.upload;
        for (segment, shard) in &self.late {
            let region = upload.placement.get(*shard).copied();
            self.inner.note(&upload.path, upload.write_id, *segment, *shard, region, RepairReason::Unwritten);
        }
    }

    /// Deletes what was written, best effort, in the background. Only when no manifest can ever refer to it.
    pub(super) fn discard(mut self) {
        let (upload, segments) = (self.upload.clone(), self.segments);
        let shards = self.inner.profile.shards();
        let inner = Arc::clone(&self.inner);
        let in_flight = std::mem::take(&mut self.in_flight);
        self.inner.spawn(async move {
            for task in in_flight {
                // A put that is still under way would bring back what is deleted here.
                let _ = task.await;
            }
            let all = (0..segments).flat_map(|segment| (0..shards).map(move |shard| (segment, shard)));
            futures::stream::iter(all)
                .for_each_concurrent(DISCARD_CONCURRENCY, |(segment, shard)| {
                    let region = upload.placement.get(shard).and_then(|region| inner.regions.region(*region));
                    let key = shard_key(&upload.write_id, upload.shard_slot, segment, shard);
                    async move {
                        if let (Some(region), Ok(key)) = (region, key) {
                            failpoint!("upload.before-discard");
                            let _ = region.delete(&key).await;
                            failpoint!("upload.after-discard");
                        }
                    }
                })
                .await;
        });
    }
}

impl Inner {
    /// The region of each shard, by the profile's placement among the regions that do not fail just now. It is stored with the object:
    /// readers do not compute it.
    fn place(&self, write_id: WriteId) -> Vec<u8> {
        let shards = self.profile.shards();
        let mut regions: Vec<&Arc<Region>> = self.regions.staying().collect();
        let rotate = match self.profile.placement {
            Placement::Auto => regions.len() > shards,
            Placement::Rotate => true,
            Placement::Ordered => false,
        };
        if rotate {
            let start = usize::from(write_id.0.first().copied().unwrap_or(0)) % regions.len().max(1);
            regions.rotate_left(start);
        } else if self.profile.placement == Placement::Ordered {
            regions.sort_by_key(|region| region.cost_micros_per_gib());
        }
        // Where there are more regions than shards, no shard is given to one that would not take it: the margin is whole from the beginning.
        regions.sort_by_key(|region| region.health() == Health::Failing);
        regions.into_iter().take(shards).map(|region| region.index()).collect()
    }

    /// What is stored behind the shards of an upload, so that a collector can tell whose they are.
    ///
    /// # Errors
    /// [`ErrorKind::Permission`] without a writer's key.
    pub(super) fn trailer(&self, path: &Path, write_id: WriteId, slot: u64) -> Result<Bytes> {
        let writer = self
            .writer
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Permission, "writing needs a writer's private key of this lake").with("path", path))?;
        let (lake, configuration) = (*self.regions.lake(), self.regions.configuration());
        Trailer { lake, configuration, write_id, slot, path: path.to_string() }.seal(writer)
    }

    /// The shape of a segment of a stored object.
    pub(super) fn shape(sharded: &Sharded, segment: u64) -> SegmentShape {
        let range = sharded.geometry().segment_range(sharded.size, segment);
        sharded.geometry().segment(range.end - range.start)
    }
}
