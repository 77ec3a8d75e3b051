//! Deletion vectors: which rows of a file are gone, inline, in a file of the table, or at an absolute path.

use object_store::ObjectStore;
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde_json::Value;

use super::{CanonicalPath, canonical_path};
use crate::error::{Error, ErrorKind, Result};

/// Begins the portable format of 64-bit roaring bitmaps within Delta.
const ROARING_MAGIC: u32 = 1_681_511_377;
/// First byte of a file of deletion vectors.
const FILE_VERSION: u8 = 1;
/// Largest deletion vector that is read, in bytes.
pub const LIMIT_BYTES: u64 = 1 << 30;
/// A bitmap of few bytes may stand for many rows; more than this are refused.
const CARDINALITY_LIMIT: u64 = 1 << 40;

/// A deletion vector's descriptor, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Descriptor {
    /// The bitmap stands in the log.
    Inline {
        /// The bitmap in Z85.
        text: String,
        /// Its size in bytes.
        size: u64,
    },
    /// The bitmap stands in a file of the table.
    File {
        /// The file; absent when it lies outside of the table.
        location: Option<Path>,
        /// Where the bitmap's length stands in the file.
        offset: u64,
        /// The bitmap's size in bytes.
        size: u64,
    },
}

/// Reads a descriptor of the `add` action of the table at `root`.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is not what the Delta protocol defines.
pub fn descriptor(root: &Path, value: &Value) -> Result<Descriptor> {
    let text = |name: &'static str| value.get(name).and_then(Value::as_str).ok_or_else(|| corrupt("lacks a member").with("member", name));
    let number = |name: &'static str| value.get(name).and_then(Value::as_u64);
    let size = number("sizeInBytes").ok_or_else(|| corrupt("has no size"))?;
    if size > LIMIT_BYTES {
        return Err(corrupt("is larger than anything honest").with("bytes", size).with("limit", LIMIT_BYTES));
    }
    let path = text("pathOrInlineDv")?;
    let offset = number("offset").unwrap_or_default();
    match text("storageType")? {
        "i" => Ok(Descriptor::Inline { text: path.to_owned(), size }),
        "u" => Ok(Descriptor::File { location: Some(relative_location(root, path)?), offset, size }),
        "p" => {
            let canonical = canonical_path(path);
            let location = matches!(canonical, CanonicalPath::Inside(_)).then(|| canonical.location(root)).flatten();
            Ok(Descriptor::File { location, offset, size })
        }
        other => Err(corrupt("has an unknown storage type").with("type", other)),
    }
}

/// `<random prefix><20 characters of Z85 for a UUID>`: the file is `<prefix>/deletion_vector_<uuid>.bin`.
fn relative_location(root: &Path, text: &str) -> Result<Path> {
    let split = text.len().checked_sub(20).filter(|at| text.is_char_boundary(*at)).ok_or_else(|| corrupt("has too short a path"))?;
    let (prefix, encoded) = text.split_at(split);
    let bytes = z85::decode(encoded).map_err(|e| corrupt("has a path that is not Z85").caused_by(e))?;
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| corrupt("has a path that is not a UUID"))?;
    let name = format!("deletion_vector_{}.bin", uuid::Uuid::from_bytes(bytes));
    if prefix.contains(['/', '\\', ':', '%', '?', '#']) || prefix.starts_with('.') {
        return Err(corrupt("has a path outside of the table"));
    }
    let folder = if prefix.is_empty() { root.clone() } else { root.clone().join(prefix) };
    Ok(folder.join(name))
}

/// Reads the positions of the rows that `value` (the descriptor in the log) deletes.
///
/// Cost: none for an inline vector, else one ranged GET.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when size, checksum, format or cardinality is wrong; [`ErrorKind::Unsupported`] when it lies outside
/// of the table.
pub async fn read(store: &dyn ObjectStore, root: &Path, value: &Value) -> Result<RoaringTreemap> {
    let cardinality = value.get("cardinality").and_then(Value::as_u64).ok_or_else(|| corrupt("has no cardinality"))?;
    let bitmap = match descriptor(root, value)? {
        Descriptor::Inline { text, size } => inline_bytes(&text, size)?,
        Descriptor::File { location: None, .. } => {
            return Err(Error::new(ErrorKind::Unsupported, "a deletion vector lies outside of its table").with("vector", value));
        }
        Descriptor::File { location: Some(location), offset, size } => {
            read_stored(store, &location, offset, size).await.map_err(|e| e.with("object", &location))?
        }
    };
    let rows = parse(&bitmap)?;
    if rows.len() != cardinality {
        return Err(corrupt("deletes another number of rows than it states").with("stated", cardinality).with("found", rows.len()));
    }
    Ok(rows)
}

fn inline_bytes(text: &str, size: u64) -> Result<Vec<u8>> {
    let mut bytes = z85::decode(text).map_err(|e| corrupt("is not Z85").caused_by(e))?;
    let size = usize::try_from(size).map_err(|_| corrupt("has a wrong size"))?;
    // Z85 codes four bytes at a time: up to three of padding may follow.
    if bytes.len() < size || bytes.len() - size > 3 {
        return Err(corrupt("has another size than it states").with("stated", size).with("found", bytes.len()));
    }
    bytes.truncate(size);
    Ok(bytes)
}

/// In a file: one byte of version at the start; at `offset` a big-endian length, the bitmap, and its CRC-32, big-endian.
async fn read_stored(store: &dyn ObjectStore, location: &Path, offset: u64, size: u64) -> Result<Vec<u8>> {
    let end = offset.checked_add(size).and_then(|end| end.checked_add(8)).ok_or_else(|| corrupt("has an impossible offset"))?;
    let ranges = [0..1, offset..end];
    let parts = store.get_ranges(location, &ranges).await?;
    let [version, record] = parts.as_slice() else { return Err(corrupt("could not be read")) };
    if version.first() != Some(&FILE_VERSION) {
        return Err(Error::new(ErrorKind::Unsupported, "a file of deletion vectors has an unknown version"));
    }
    let (stated, rest) = record.split_first_chunk::<4>().ok_or_else(|| corrupt("is cut off"))?;
    let (bitmap, crc) = rest.split_last_chunk::<4>().ok_or_else(|| corrupt("is cut off"))?;
    if u64::from(u32::from_be_bytes(*stated)) != size || bitmap.len() as u64 != size {
        return Err(corrupt("has another size than its file states").with("stated", size).with("found", u32::from_be_bytes(*stated)));
    }
    if crc32fast::hash(bitmap) != u32::from_be_bytes(*crc) {
        return Err(corrupt("does not match its checksum"));
    }
    Ok(bitmap.to_vec())
}

/// Parses the serialised bitmap: the magic number, then the portable format of 64-bit roaring bitmaps.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is anything else, or bytes are left over.
pub fn parse(bytes: &[u8]) -> Result<RoaringTreemap> {
    let (magic, mut rest) = bytes.split_first_chunk::<4>().ok_or_else(|| corrupt("is cut off"))?;
    if u32::from_le_bytes(*magic) != ROARING_MAGIC {
        return Err(corrupt("has another magic number").with("found", u32::from_le_bytes(*magic)));
    }
    let rows = RoaringTreemap::deserialize_from(&mut rest).map_err(|e| corrupt("is not a roaring bitmap").caused_by(e))?;
    if !rest.is_empty() {
        return Err(corrupt("has bytes after its bitmap").with("bytes", rest.len()));
    }
    if rows.len() > CARDINALITY_LIMIT {
        return Err(corrupt("deletes more rows than any file has"));
    }
    Ok(rows)
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a deletion vector {what}"))
}
