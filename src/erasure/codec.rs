//! The codec: which code an object was written with, and how its shards are computed.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::erasure::engine::{Engine, engine};
use crate::erasure::{Buffers, EngineKind, MAX_SHARDS, SegmentShape};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of every shard that are computed, and looked at, before the next ones: with those of all others they stay in a core's cache.
pub const STRIPE_BYTES: usize = 64 * 1024;

/// Buffers that are kept while they are not in use, in bytes: those of a few segments of a common size.
const IDLE_BYTES: usize = 32 * 1024 * 1024;

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
    buffers: Buffers,
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
        Ok(Self { id, buffers: Buffers::new(IDLE_BYTES), engine })
    }

    /// The buffers that decoded shards come in: callers that code much may use them too.
    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Which code it is.
    pub fn id(&self) -> CodecId {
        self.id
    }

    /// The parity shards of `segment`, whose shape is `shape`. The segment is read in place; only ragged ends are copied.
    pub fn encode(&self, shape: SegmentShape, segment: &[u8]) -> Result<Vec<Vec<u8>>> {
        let width = length(shape.shard_len(shape.data))?;
        // Not `vec![vec![0; width]; parity]`, which copies the first.
        let mut parity: Vec<Vec<u8>> = (0..shape.parity).map(|_| vec![0; width]).collect();
        let mut out: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        self.encode_columns(shape, segment, 0, &mut out)?;
        Ok(parity)
    }

    /// As [`Codec::encode`], but the columns from `start` on only, as many as each slice of `parity` has bytes: one slice a parity shard.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when segment or `parity` do not have the shape.
    pub fn encode_columns(&self, shape: SegmentShape, segment: &[u8], start: usize, parity: &mut [&mut [u8]]) -> Result<()> {
        self.check(shape, segment.len())?;
        let Some(engine) = &self.engine else { return Ok(()) };
        let width = parity.first().map_or(0, |parity| parity.len());
        let end = start.saturating_add(width);
        let fits = parity.len() == shape.parity && parity.iter().all(|parity| parity.len() == width);
        if !fits || end > length(shape.shard_len(shape.data))? {
            return Err(Error::new(ErrorKind::Internal, "parity is to be computed of columns that a segment does not have"));
        }
        let column = |shard| columns(slice(segment, shape.data_range(shard)), start, end);
        let slices: Vec<&[u8]> = (0..shape.data).map(column).collect();
        engine.encode(&slices, parity)
    }

    /// Computes bytes `columns` of the shards `wanted`, data or parity, from the same columns of any k shards. Copies no given shard.
    ///
    /// Each given shard holds its stored bytes in `columns` (fewer, or none, where it is shorter than the columns reach).
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when fewer than k distinct shards, or bytes of a wrong length, are given. Whether they are the *right*
    /// bytes cannot be seen here: callers verify them first.
    pub fn decode(&self, shape: SegmentShape, columns: Range<u64>, given: &[(usize, Bytes)], wanted: &[usize]) -> Result<Vec<Bytes>> {
        self.decode_seen(shape, columns, given, wanted, |_, _| {})
    }

    /// As [`Codec::decode`], and shows what it computes to `seen`, piece by piece and in order, while it is near: the place of the shard in
    /// `wanted`, and the next of its bytes.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    pub fn decode_seen(
        &self,
        shape: SegmentShape,
        columns: Range<u64>,
        given: &[(usize, Bytes)],
        wanted: &[usize],
        mut seen: impl FnMut(usize, &[u8]),
    ) -> Result<Vec<Bytes>> {
        let width = length(columns.end.saturating_sub(columns.start))?;
        let known = known(shape, &columns, given)?;
        let missing: Vec<usize> = wanted
            .iter()
            .copied()
            .filter(|shard| known.iter().all(|(known, _)| known != shard))
            .filter(|shard| *shard < shape.shards())
            .collect();
        let mut recovered = if missing.is_empty() || width == 0 {
            vec![Vec::new(); missing.len()]
        } else {
            let enough: Vec<(usize, &[u8])> = known.iter().take(shape.data).map(|(shard, bytes)| (*shard, bytes.as_ref())).collect();
            let kept = missing.iter().map(|shard| Ok((place(wanted, *shard), length(sum(&stored(shape, *shard, &columns)))?)));
            let kept: Vec<(usize, usize)> = kept.collect::<Result<_>>()?;
            self.recover(width, &enough, &missing, |at, start, bytes| {
                let Some((place, len)) = kept.get(at) else { return };
                seen(*place, bytes.get(..len.saturating_sub(start).min(bytes.len())).unwrap_or_default());
            })?
        };
        let mut take = |shard: &usize| {
            if let Some((_, bytes)) = known.iter().find(|(known, _)| known == shard) {
                return Ok(bytes.clone());
            }
            let place = missing.iter().position(|missing| missing == shard);
            let found = place.and_then(|place| recovered.get_mut(place)).map(std::mem::take);
            let mut bytes =
                found.ok_or_else(|| Error::new(ErrorKind::Internal, "there is no such shard to decode").with("shard", shard))?;
            let len = length(sum(&stored(shape, *shard, &columns)))?;
            if bytes.len() < len {
                return Err(Error::new(ErrorKind::Internal, "a shard is to be decoded twice").with("shard", shard));
            }
            bytes.truncate(len);
            Ok(self.buffers.lend(bytes))
        };
        wanted.iter().map(&mut take).collect()
    }

    /// `width` bytes of each of `missing`; shows each piece of each, with its place and where in the shard it begins.
    fn recover(
        &self,
        width: usize,
        given: &[(usize, &[u8])],
        missing: &[usize],
        mut seen: impl FnMut(usize, usize, &[u8]),
    ) -> Result<Vec<Vec<u8>>> {
        let engine = self.engine.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "a code without parity cannot decode"))?;
        let mut recovered: Vec<Vec<u8>> = missing.iter().map(|_| self.buffers.take(width)).collect();
        for start in (0..width).step_by(STRIPE_BYTES) {
            let end = width.min(start + STRIPE_BYTES);
            let given: Vec<(usize, &[u8])> = given.iter().map(|(shard, bytes)| (*shard, columns(bytes, start, end))).collect();
            let mut out: Vec<&mut [u8]> = recovered.iter_mut().filter_map(|shard| shard.get_mut(start..end)).collect();
            engine.recover(&given, missing, &mut out)?;
            out.iter().enumerate().for_each(|(place, bytes)| seen(place, start, bytes));
        }
        Ok(recovered)
    }

    fn check(&self, shape: SegmentShape, len: usize) -> Result<()> {
        let fits = shape.data == usize::from(self.id.data) && shape.parity == usize::from(self.id.parity) && shape.len == len as u64;
        if fits { Ok(()) } else { Err(Error::new(ErrorKind::Internal, "a segment does not have the shape of its codec")) }
    }
}

fn sum(range: &Range<u64>) -> u64 {
    range.end - range.start
}

fn place(wanted: &[usize], shard: usize) -> usize {
    wanted.iter().position(|wanted| *wanted == shard).unwrap_or(usize::MAX)
}

/// Bytes `start..end` of a shard that may end before.
fn columns(shard: &[u8], start: usize, end: usize) -> &[u8] {
    shard.get(start.min(shard.len())..end.min(shard.len())).unwrap_or_default()
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

/// The given shards, checked, and the data shards that have no bytes in `columns`: those are padding, and known to everybody.
fn known(shape: SegmentShape, columns: &Range<u64>, given: &[(usize, Bytes)]) -> Result<Vec<(usize, Bytes)>> {
    let mut known: Vec<(usize, Bytes)> = Vec::with_capacity(given.len());
    for (shard, bytes) in given {
        let held = stored(shape, *shard, columns);
        let repeated = known.iter().any(|(known, _)| known == shard);
        if *shard >= shape.shards() || repeated || length(sum(&held))? != bytes.len() {
            return Err(Error::new(ErrorKind::Internal, "a shard given for decoding has a wrong length or number").with("shard", shard));
        }
        known.push((*shard, bytes.clone()));
    }
    let empty = (0..shape.data).filter(|shard| stored(shape, *shard, columns).is_empty());
    let empty: Vec<usize> = empty.filter(|shard| known.iter().all(|(known, _)| known != shard)).collect();
    known.extend(empty.into_iter().map(|shard| (shard, Bytes::new())));
    if known.len() < shape.data {
        return Err(Error::new(ErrorKind::Internal, "too few shards were given for decoding").with("given", given.len()));
    }
    Ok(known)
}

fn length(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|e| Error::new(ErrorKind::Internal, "a shard does not fit into memory").caused_by(e))
}
