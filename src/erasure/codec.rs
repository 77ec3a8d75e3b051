//! The codec: which code an object was written with, and how its shards are computed.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::erasure::engine::{Engine, engine};
use crate::erasure::{EngineKind, MAX_SHARDS, SLICE_BYTES, SegmentShape};
use crate::error::{Error, ErrorKind, Result};

/// The field in which a code computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1.
    Gf8 = 1,
}

/// The generator matrix of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Matrix {
    /// Rows r, columns c hold r^c; multiplied by the inverse of its top square, so that data shards are the data itself.
    SystematicVandermonde = 1,
}

/// The identity of a code, as it is stored with every object. It fixes parity bytes, whatever engine computed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecId {
    /// The field.
    pub field: Field,
    /// The generator matrix.
    pub matrix: Matrix,
    /// Data shards (k).
    pub data: u8,
    /// Parity shards (m).
    pub parity: u8,
}

impl CodecId {
    /// The code that this version writes.
    pub fn new(data: u8, parity: u8) -> Self {
        Self { field: Field::Gf8, matrix: Matrix::SystematicVandermonde, data, parity }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        usize::from(self.data) + usize::from(self.parity)
    }

    /// The four bytes in which it is stored: field, matrix, k, m.
    pub fn to_bytes(self) -> [u8; 4] {
        [self.field as u8, self.matrix as u8, self.data, self.parity]
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a field or matrix of another version; [`ErrorKind::Corrupt`] for impossible counts.
    pub fn from_bytes(bytes: [u8; 4]) -> Result<Self> {
        let [field, matrix, data, parity] = bytes;
        if (field, matrix) != (Field::Gf8 as u8, Matrix::SystematicVandermonde as u8) {
            return Err(Error::new(ErrorKind::Unsupported, "an object was coded with a code that this version does not know")
                .with("field", field)
                .with("matrix", matrix));
        }
        let id = Self::new(data, parity);
        if data == 0 || id.shards() > MAX_SHARDS {
            return Err(Error::new(ErrorKind::Corrupt, "a code has an impossible number of shards")
                .with("data", data)
                .with("parity", parity));
        }
        Ok(id)
    }
}

/// Computes parity and lost data shards of one code. Cheap to clone; calls take CPU time in proportion to bytes x m and do not block.
#[derive(Debug, Clone)]
pub struct Codec {
    id: CodecId,
    // A code without parity computes nothing.
    engine: Option<Arc<dyn Engine>>,
}

impl Codec {
    /// The code `id` on the fast engine.
    pub fn new(id: CodecId) -> Result<Self> {
        Self::on(id, EngineKind::Fast)
    }

    /// The code `id` on a chosen engine.
    pub fn on(id: CodecId, kind: EngineKind) -> Result<Self> {
        let engine = match id.parity {
            0 => None,
            parity => Some(Arc::from(engine(kind, usize::from(id.data), usize::from(parity))?)),
        };
        Ok(Self { id, engine })
    }

    /// Which code it is.
    pub fn id(&self) -> CodecId {
        self.id
    }

    /// The parity shards of `segment`, whose shape is `shape`. The segment is read in place; only ragged ends are copied.
    pub fn encode(&self, shape: SegmentShape, segment: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.encode_behind(0, shape, segment)
    }

    /// As [`Codec::encode`], with `room` zero bytes in front of each shard, for what is stored before it without copying the shard.
    pub fn encode_behind(&self, room: usize, shape: SegmentShape, segment: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.check(shape, segment.len())?;
        let Some(engine) = &self.engine else { return Ok(Vec::new()) };
        let width = length(shape.shard_len(shape.data))?;
        let size = room.checked_add(width).ok_or_else(|| Error::new(ErrorKind::Internal, "a shard does not fit into memory"))?;
        // Not `vec![vec![0; size]; parity]`, which copies the first: zeroed memory comes from the system as it is.
        let mut parity: Vec<Vec<u8>> = (0..shape.parity).map(|_| vec![0; size]).collect();
        let slices: Vec<&[u8]> = (0..shape.data).map(|shard| slice(segment, shape.data_range(shard))).collect();
        // Columns that all data shards have are coded where they lie; the rest is short, and is padded.
        let common = slices.iter().map(|s| s.len()).min().unwrap_or(0) / SLICE_BYTES * SLICE_BYTES;
        if common > 0 {
            let heads: Vec<&[u8]> = slices.iter().filter_map(|s| s.get(..common)).collect();
            let mut out: Vec<&mut [u8]> = parity.iter_mut().filter_map(|p| p.get_mut(room..room + common)).collect();
            engine.encode(&heads, &mut out)?;
        }
        if common < width {
            let tails: Vec<Vec<u8>> = slices.iter().map(|s| padded(s.get(common..).unwrap_or_default(), width - common)).collect();
            let tails: Vec<&[u8]> = tails.iter().map(Vec::as_slice).collect();
            let mut out: Vec<&mut [u8]> = parity.iter_mut().filter_map(|p| p.get_mut(room + common..)).collect();
            engine.encode(&tails, &mut out)?;
        }
        Ok(parity)
    }

    /// Computes bytes `columns` of the data shards `wanted`, from the same columns of any k shards.
    ///
    /// Each given shard holds its stored bytes in `columns` (fewer, or none, where it is shorter than the columns reach).
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when fewer than k distinct shards, or bytes of a wrong length, are given. Whether they are the *right*
    /// bytes cannot be seen here: callers verify them first.
    pub fn decode(&self, shape: SegmentShape, columns: Range<u64>, given: &[(usize, Bytes)], wanted: &[usize]) -> Result<Vec<Bytes>> {
        let width = length(columns.end.saturating_sub(columns.start))?;
        let mut shards: Vec<Option<Vec<u8>>> = vec![None; shape.shards()];
        for (shard, bytes) in given {
            let held = stored(shape, *shard, &columns);
            let place = shards.get_mut(*shard).filter(|place| place.is_none());
            let (Some(place), true) = (place, length(held.end - held.start)? == bytes.len()) else {
                return Err(
                    Error::new(ErrorKind::Internal, "a shard given for decoding has a wrong length or number").with("shard", *shard)
                );
            };
            *place = Some(padded(bytes, width));
        }
        // Data shards that have no bytes here are known: they are padding.
        for (shard, place) in shards.iter_mut().enumerate().take(shape.data) {
            let held = stored(shape, shard, &columns);
            if held.is_empty() && place.is_none() {
                *place = Some(vec![0; width]);
            }
        }
        if shards.iter().flatten().count() < shape.data {
            return Err(Error::new(ErrorKind::Internal, "too few shards were given for decoding").with("given", given.len()));
        }
        if width > 0 && wanted.iter().any(|shard| shards.get(*shard).is_none_or(Option::is_none)) {
            let engine = self.engine.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "a code without parity cannot decode"))?;
            engine.recover(&mut shards)?;
        }
        let take = |shard: &usize| {
            let held = stored(shape, *shard, &columns);
            let mut bytes = shards.get_mut(*shard).and_then(Option::take).unwrap_or_default();
            bytes.truncate(length(held.end - held.start)?);
            Ok(Bytes::from(bytes))
        };
        wanted.iter().map(take).collect()
    }

    fn check(&self, shape: SegmentShape, len: usize) -> Result<()> {
        let fits = shape.data == usize::from(self.id.data) && shape.parity == usize::from(self.id.parity) && shape.len == len as u64;
        if fits { Ok(()) } else { Err(Error::new(ErrorKind::Internal, "a segment does not have the shape of its codec")) }
    }
}

/// The part of `columns` that shard `shard` stores.
fn stored(shape: SegmentShape, shard: usize, columns: &Range<u64>) -> Range<u64> {
    let len = shape.shard_len(shard);
    columns.start.min(len)..columns.end.min(len).max(columns.start.min(len))
}

fn slice(segment: &[u8], range: Range<u64>) -> &[u8] {
    let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) else { return &[] };
    segment.get(start..end).unwrap_or_default()
}

fn padded(bytes: &[u8], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(width);
    out.extend_from_slice(bytes);
    out.resize(width, 0);
    out
}

fn length(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|e| Error::new(ErrorKind::Internal, "a shard does not fit into memory").caused_by(e))
}
