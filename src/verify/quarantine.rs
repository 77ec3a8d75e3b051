//! Leaving damaged row groups out: which of a file's row groups are still as sealed, and a footer that names no others.
//!
//! Everything that an engine asks of a file (rows, statistics, row groups) follows from its footer. A file with damaged row groups is shown
//! with a footer of our own in place of the stored one, so that counts and scans agree without the engine knowing.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData};

use crate::baseline::SealedFile;
use crate::digest::{BlockHasher, BlockList, Digest};
use crate::error::{Error, ErrorKind, Result};

/// A file whose footer, indexes and bloom filters are larger is left out whole.
const TAIL_LIMIT_BYTES: u64 = 256 << 20;
/// Length and magic number at a file's end.
const TRAILER_BYTES: usize = 8;

/// What reading a sealed file came to.
#[derive(Debug, Clone)]
pub enum Examined {
    /// Exactly as sealed.
    Intact,
    /// Some row groups are as sealed; the others are left out.
    Trimmed(Trimmed),
    /// Nothing of it can be used, and why.
    Lost(String),
}

/// A file that is shown without some of its row groups.
#[derive(Debug, Clone)]
pub struct Trimmed {
    /// The found file's blocks: what was examined is what is delivered.
    pub(super) blocks: Arc<BlockList>,
    /// Where the stored footer's metadata begins, and ours takes its place.
    pub(super) cut: u64,
    /// Metadata, length and magic number.
    pub(super) footer: Bytes,
    /// Rows of the row groups that are left.
    pub rows: u64,
    /// The damaged row groups.
    pub skipped: BTreeSet<u32>,
    /// Their damaged column chunks.
    pub places: Vec<(Option<u32>, Option<String>)>,
}

impl Trimmed {
    /// The size of the file as it is shown.
    pub fn size(&self) -> u64 {
        self.cut + self.footer.len() as u64
    }
}

/// Reads a sealed file once, and says which of its row groups are as sealed.
///
/// Holds the bytes behind the last column chunk, and a digest's state. A file with a deletion vector is used whole or not at all: its
/// positions count rows that would be missing.
///
/// # Errors
/// The store's, when the file cannot be reached: that is not damage.
pub async fn examine(store: &dyn ObjectStore, file: &SealedFile) -> Result<Examined> {
    let Some(location) = &file.live.location else { return Ok(Examined::Lost("it lies outside of the table".to_owned())) };
    let mut stream = match store.get(location).await {
        Ok(result) if result.meta.size != file.live.size => return Ok(Examined::Lost(other_size(file, result.meta.size))),
        Ok(result) => result.into_stream(),
        Err(object_store::Error::NotFound { .. }) => return Ok(Examined::Lost("the sealed file is gone".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let mut pass = Pass::new(file)?;
    while let Some(bytes) = stream.try_next().await? {
        pass.update(&bytes);
    }
    pass.finish(file)
}

fn other_size(file: &SealedFile, found: u64) -> String {
    format!("sealed {} bytes, found {found}", file.live.size)
}

/// A column chunk on the way.
struct Chunk<'a> {
    bytes: Range<u64>,
    sealed: Digest,
    place: (u32, &'a str),
    hasher: blake3::Hasher,
}

/// One pass over a file's bytes: whole, by column chunk, and what follows them.
struct Pass<'a> {
    blocks: BlockHasher,
    chunks: Vec<Chunk<'a>>,
    /// The first chunk that may not have ended.
    open: usize,
    tail_from: u64,
    tail: BytesMut,
    at: u64,
}

impl<'a> Pass<'a> {
    fn new(file: &'a SealedFile) -> Result<Self> {
        let of_group = |group: &'a crate::baseline::SealedRowGroup| {
            group.columns.iter().map(move |column| Chunk {
                bytes: column.bytes.clone(),
                sealed: column.digest,
                place: (group.ordinal, column.name.as_str()),
                hasher: blake3::Hasher::new(),
            })
        };
        let mut chunks: Vec<Chunk<'a>> = file.row_groups.get()?.iter().flat_map(of_group).collect();
        chunks.sort_by_key(|chunk| chunk.bytes.start);
        let tail_from = chunks.iter().map(|chunk| chunk.bytes.end).max().unwrap_or_default();
        Ok(Self { blocks: BlockHasher::new(), chunks, open: 0, tail_from, tail: BytesMut::new(), at: 0 })
    }

    fn update(&mut self, bytes: &[u8]) {
        self.blocks.update(bytes);
        let piece = self.at..self.at + bytes.len() as u64;
        let part = |range: &Range<u64>| {
            let at = |position: u64| usize::try_from(position.clamp(piece.start, piece.end) - piece.start).unwrap_or(bytes.len());
            bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
        };
        for chunk in self.chunks.iter_mut().skip(self.open).take_while(|chunk| chunk.bytes.start < piece.end) {
            chunk.hasher.update(part(&chunk.bytes));
        }
        self.open += self.chunks.iter().skip(self.open).take_while(|chunk| chunk.bytes.end <= piece.end).count();
        let tail = part(&(self.tail_from..u64::MAX));
        if self.tail.len() as u64 + tail.len() as u64 <= TAIL_LIMIT_BYTES {
            self.tail.extend_from_slice(tail);
        }
        self.at = piece.end;
    }

    fn finish(self, file: &SealedFile) -> Result<Examined> {
        let blocks = self.blocks.finish();
        if blocks.len() == file.live.size && blocks.root() == file.digest {
            return Ok(Examined::Intact);
        }
        let lost = |why: &str| Ok(Examined::Lost(why.to_owned()));
        if blocks.len() != file.live.size {
            return Ok(Examined::Lost(other_size(file, blocks.len())));
        }
        if file.live.deletion_vector.is_some() {
            return lost("its bytes are not the sealed ones, and it has a deletion vector");
        }
        if Digest::of(&self.tail) != file.footer {
            return lost("its footer is not the sealed one");
        }
        let bad = self.chunks.iter().filter(|chunk| Digest(*chunk.hasher.finalize().as_bytes()) != chunk.sealed);
        let places: Vec<(Option<u32>, Option<String>)> = bad.map(|chunk| (Some(chunk.place.0), Some(chunk.place.1.to_owned()))).collect();
        if places.is_empty() {
            return lost("bytes between its column chunks are not the sealed ones");
        }
        let skipped: BTreeSet<u32> = places.iter().filter_map(|(group, _)| *group).collect();
        let groups = file.row_groups.get()?;
        if skipped.len() == groups.len() {
            return lost("none of its row groups is as sealed");
        }
        let rows = groups.iter().filter(|group| !skipped.contains(&group.ordinal)).map(|group| group.rows).sum();
        let Some((stored, footer)) = trimmed_footer(&self.tail, &skipped)? else { return lost("its footer cannot be read") };
        let cut = file.live.size - stored as u64;
        Ok(Examined::Trimmed(Trimmed { blocks: Arc::new(blocks), cut, footer, rows, skipped, places }))
    }
}

/// How many bytes the stored footer takes at the end of `tail`, and one without the row groups in `skipped`; `None` when there is none.
///
/// Bloom filters may lie between column chunks, where no digest covers them apart: the new footer names none.
fn trimmed_footer(tail: &[u8], skipped: &BTreeSet<u32>) -> Result<Option<(usize, Bytes)>> {
    let failed = |e: parquet::errors::ParquetError| Error::new(ErrorKind::Corrupt, "a sealed footer cannot be read").caused_by(e);
    let Some((rest, trailer)) = tail.split_last_chunk::<TRAILER_BYTES>() else { return Ok(None) };
    let [a, b, c, d, magic @ ..] = *trailer;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let Some(metadata) = rest.len().checked_sub(length).and_then(|from| rest.get(from..)).filter(|_| &magic == b"PAR1") else {
        return Ok(None);
    };
    let metadata = ParquetMetaDataReader::decode_metadata(metadata).map_err(failed)?;
    let kept = metadata.row_groups().iter().zip(0_u32..).filter(|(_, ordinal)| !skipped.contains(ordinal));
    let groups: Vec<RowGroupMetaData> =
        kept.zip(0_i16..).map(|((group, _), ordinal)| without_filters(group, ordinal)).collect::<Result<_, _>>().map_err(failed)?;
    let metadata = metadata.into_builder().set_row_groups(groups).build();
    let mut footer = Vec::new();
    ParquetMetaDataWriter::new(&mut footer, &metadata).finish().map_err(failed)?;
    Ok(Some((length + TRAILER_BYTES, footer.into())))
}

fn without_filters(group: &RowGroupMetaData, ordinal: i16) -> parquet::errors::Result<RowGroupMetaData> {
    let columns = group
        .columns()
        .iter()
        .map(|column| column.clone().into_builder().set_bloom_filter_offset(None).set_bloom_filter_length(None).build());
    let columns = columns.collect::<parquet::errors::Result<Vec<_>>>()?;
    group.clone().into_builder().set_column_metadata(columns).set_ordinal(ordinal).build()
}
