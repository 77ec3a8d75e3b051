//! The two engines behind the codec. They compute the same bytes: tests hold one against the other.

use rustfs_erasure_codec::galois_8::{div, mul, mul_slice, mul_slice_xor};

use crate::error::{Error, ErrorKind, Result};

/// Columns that the fast engine computes at a time: with the shards of common codes they stay in a core's nearest cache.
const CACHED_BYTES: usize = 4 * 1024;

/// Which implementation does the arithmetic. Stored bytes do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// The field arithmetic of `rustfs-erasure-codec`: SIMD chosen at run time.
    #[default]
    Fast,
    /// `reed-solomon-erasure`: plain Rust; the reference.
    Portable,
}

/// Arithmetic over the shards of one code. A given shard that is shorter than the columns to compute is zero beyond its end.
pub(super) trait Engine: std::fmt::Debug + Send + Sync {
    /// Computes all parity shards; `parity` has the right count, and one length.
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<()>;

    /// Computes the shards `wanted` from any k others, each with its number; `out` has one of each, of one length.
    fn recover(&self, given: &[(usize, &[u8])], wanted: &[usize], out: &mut [&mut [u8]]) -> Result<()>;
}

pub(super) fn engine(kind: EngineKind, data: usize, parity: usize) -> Result<Box<dyn Engine>> {
    Ok(match kind {
        EngineKind::Fast => Box::new(Fast::new(data, parity)?),
        EngineKind::Portable => {
            Box::new(Portable { data, codec: reed_solomon_erasure::galois_8::ReedSolomon::new(data, parity).map_err(refused)? })
        }
    })
}

/// Shard i of a column is the value at i of the polynomial, of degree below k, whose values at 0..k are the data. So every shard is a sum
/// of any k others, each times a factor of Lagrange's: no matrix has to be inverted.
///
/// The crate's own codec is not used. It unrolls some codes (4+2, 6+3, …), takes that path without asking whether the processor has AVX2,
/// and computes some others several times as slowly (see [`add`]).
#[derive(Debug)]
struct Fast {
    /// The factors of each parity shard over the data shards.
    parity: Vec<Vec<u8>>,
}

impl Fast {
    fn new(data: usize, parity: usize) -> Result<Self> {
        let points = (0..data).map(point).collect::<Result<Vec<u8>>>()?;
        Ok(Self { parity: (data..data + parity).map(|at| Ok(factors(&points, point(at)?))).collect::<Result<_>>()? })
    }
}

fn point(shard: usize) -> Result<u8> {
    u8::try_from(shard).map_err(refused)
}

/// What the values at `points` are multiplied with to give the value at `at`.
fn factors(points: &[u8], at: u8) -> Vec<u8> {
    let factor = |own: &u8| {
        let others = points.iter().filter(|other| *other != own);
        others.fold(1, |product, other| mul(product, div(at ^ other, own ^ other)))
    };
    points.iter().map(factor).collect()
}

/// Sets each output to the sum of the inputs times the factors of its row.
fn combine(rows: &[Vec<u8>], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let width = outputs.iter().map(|output| output.len()).max().unwrap_or(0);
    for start in (0..width).step_by(CACHED_BYTES) {
        let end = (start + CACHED_BYTES).min(width);
        for (row, output) in rows.iter().zip(outputs.iter_mut()) {
            let Some(output) = output.get_mut(start..end) else { continue };
            let mut rest = row.iter().zip(inputs);
            if let Some((factor, input)) = rest.next() {
                let input = columns(input, start, end);
                let (held, beyond) = output.split_at_mut(input.len());
                mul_slice(*factor, input, held);
                beyond.fill(0);
            }
            for (factor, input) in rest {
                let input = columns(input, start, end);
                let (held, _) = output.split_at_mut(input.len());
                if *factor == 1 { add(input, held) } else { mul_slice_xor(*factor, input, held) }
            }
        }
    }
}

/// Adds by words: the crate's multiplication adds by single bytes where the factor is 1, as all of the first parity shard's are for 2 or 3
/// data shards, and that is what made such codes slow.
fn add(input: &[u8], output: &mut [u8]) {
    let (inputs, input_rest) = input.as_chunks::<8>();
    let (outputs, output_rest) = output.as_chunks_mut::<8>();
    for (input, output) in inputs.iter().zip(outputs) {
        *output = (u64::from_ne_bytes(*output) ^ u64::from_ne_bytes(*input)).to_ne_bytes();
    }
    input_rest.iter().zip(output_rest).for_each(|(input, output)| *output ^= input);
}

fn columns(input: &[u8], start: usize, end: usize) -> &[u8] {
    input.get(start..end.min(input.len())).unwrap_or_default()
}

impl Engine for Fast {
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<()> {
        combine(&self.parity, data, parity);
        Ok(())
    }

    fn recover(&self, given: &[(usize, &[u8])], wanted: &[usize], out: &mut [&mut [u8]]) -> Result<()> {
        let points = given.iter().map(|(shard, _)| point(*shard)).collect::<Result<Vec<u8>>>()?;
        let rows = wanted.iter().map(|shard| Ok(factors(&points, point(*shard)?))).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<&[u8]> = given.iter().map(|(_, bytes)| *bytes).collect();
        combine(&rows, &inputs, out);
        Ok(())
    }
}

struct Portable {
    data: usize,
    codec: reed_solomon_erasure::galois_8::ReedSolomon,
}

impl std::fmt::Debug for Portable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Portable").field("data", &self.data).finish_non_exhaustive()
    }
}

fn padded(bytes: &[u8], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(width);
    out.extend_from_slice(bytes);
    out.resize(width, 0);
    out
}

impl Engine for Portable {
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<()> {
        let width = parity.iter().map(|parity| parity.len()).max().unwrap_or(0);
        let data: Vec<Vec<u8>> = data.iter().map(|bytes| padded(bytes, width)).collect();
        self.codec.encode_sep(&data, parity).map_err(refused)
    }

    fn recover(&self, given: &[(usize, &[u8])], wanted: &[usize], out: &mut [&mut [u8]]) -> Result<()> {
        let width = out.iter().map(|out| out.len()).max().unwrap_or(0);
        let mut shards: Vec<Option<Vec<u8>>> = vec![None; self.codec.total_shard_count()];
        for (shard, bytes) in given {
            *shards.get_mut(*shard).ok_or_else(|| refused("there is no such shard"))? = Some(padded(bytes, width));
        }
        let parity_too = wanted.iter().any(|shard| *shard >= self.data);
        let done = if parity_too { self.codec.reconstruct(&mut shards) } else { self.codec.reconstruct_data(&mut shards) };
        done.map_err(refused)?;
        for (shard, out) in wanted.iter().zip(out) {
            let found = shards.get(*shard).and_then(Option::as_ref).filter(|found| found.len() == out.len());
            out.copy_from_slice(found.ok_or_else(|| refused("a shard was not computed"))?);
        }
        Ok(())
    }
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, "the codec refused its input").caused_by(error.to_string())
}
