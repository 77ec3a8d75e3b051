//! Where the bytes of an object lie: segments, slices, shards. Everything follows from size, k, m and segment size.

use std::ops::Range;

/// Slices are rounded up to this many bytes, so that engines work on whole vectors.
pub const SLICE_BYTES: usize = 64;
const SLICE_U64: u64 = SLICE_BYTES as u64;

/// How objects are cut: k data and m parity shards per segment of at most `segment_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Data shards (k), at least 1.
    pub data: u8,
    /// Parity shards (m).
    pub parity: u8,
    /// Bytes of all segments but the last, at least 1.
    pub segment_bytes: u64,
}

impl Geometry {
    /// Number of segments of an object of `size` bytes; an empty object has none.
    pub fn segments(&self, size: u64) -> u64 {
        size.div_ceil(self.segment_bytes.max(1))
    }

    /// The object's bytes that segment `index` holds.
    pub fn segment_range(&self, size: u64, index: u64) -> Range<u64> {
        let start = index.saturating_mul(self.segment_bytes).min(size);
        start..start.saturating_add(self.segment_bytes).min(size)
    }

    /// The shape of a segment of `len` bytes.
    pub fn segment(&self, len: u64) -> SegmentShape {
        let slice = len.div_ceil(u64::from(self.data.max(1))).next_multiple_of(SLICE_U64);
        SegmentShape { len, slice, data: usize::from(self.data), parity: usize::from(self.parity) }
    }
}

/// How one segment is cut into shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentShape {
    /// Bytes of the segment.
    pub len: u64,
    /// Bytes of a full data shard: a multiple of 64.
    pub slice: u64,
    /// Data shards (k).
    pub data: usize,
    /// Parity shards (m).
    pub parity: usize,
}

impl SegmentShape {
    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.data + self.parity
    }

    /// The segment's bytes that data shard `shard` holds. The last ones may be short or empty.
    pub fn data_range(&self, shard: usize) -> Range<u64> {
        let start = (shard as u64).saturating_mul(self.slice).min(self.len);
        start..start.saturating_add(self.slice).min(self.len)
    }

    /// Stored bytes of shard `shard`. Padding is not stored; parity is as long as the longest data shard, for beyond it all is zero.
    pub fn shard_len(&self, shard: usize) -> u64 {
        if shard < self.data {
            let range = self.data_range(shard);
            range.end - range.start
        } else {
            self.slice.min(self.len)
        }
    }

    /// The data shards that hold bytes of `range` (of the segment), each with the range inside the shard.
    pub fn touched(&self, range: Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> + use<> {
        let shape = *self;
        (0..shape.data).filter_map(move |shard| {
            let held = shape.data_range(shard);
            let (start, end) = (held.start.max(range.start), held.end.min(range.end));
            (start < end).then(|| (shard, start - held.start..end - held.start))
        })
    }
}
