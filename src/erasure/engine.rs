//! The two engines behind the codec. They compute the same bytes: tests hold one against the other.

use crate::error::{Error, ErrorKind, Result};

/// Which implementation does the arithmetic. Stored bytes do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// `rustfs-erasure-codec`: SIMD chosen at run time.
    #[default]
    Fast,
    /// `reed-solomon-erasure`: plain Rust; the reference.
    Portable,
}

/// Arithmetic over shards of one length.
pub(super) trait Engine: std::fmt::Debug + Send + Sync {
    /// Computes all parity shards; `parity` has the right count and lengths already.
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<()>;

    /// Computes the missing data shards in place; missing parity may stay missing.
    fn recover(&self, shards: &mut [Option<Vec<u8>>]) -> Result<()>;
}

pub(super) fn engine(kind: EngineKind, data: usize, parity: usize) -> Result<Box<dyn Engine>> {
    Ok(match kind {
        EngineKind::Fast => Box::new(Fast(rustfs_erasure_codec::galois_8::ReedSolomon::new(data, parity).map_err(refused)?)),
        EngineKind::Portable => Box::new(Portable(reed_solomon_erasure::galois_8::ReedSolomon::new(data, parity).map_err(refused)?)),
    })
}

struct Fast(rustfs_erasure_codec::galois_8::ReedSolomon);

impl std::fmt::Debug for Fast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fast")
    }
}

impl Engine for Fast {
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<()> {
        self.0.encode_sep(data, parity).map_err(refused)
    }

    fn recover(&self, shards: &mut [Option<Vec<u8>>]) -> Result<()> {
        self.0.reconstruct_data(shards).map_err(refused)
    }
}

struct Portable(reed_solomon_erasure::galois_8::ReedSolomon);

impl std::fmt::Debug for Portable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Portable")
    }
}

impl Engine for Portable {
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<()> {
        self.0.encode_sep(data, parity).map_err(refused)
    }

    fn recover(&self, shards: &mut [Option<Vec<u8>>]) -> Result<()> {
        self.0.reconstruct_data(shards).map_err(refused)
    }
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, "the codec refused its input").caused_by(error.to_string())
}
