//! Deletion vectors: which rows of a file are gone, inline, in a file of the table, or at an absolute path.

use object_store::ObjectStore;
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde_json::Value;

use super::{CanonicalPath, ForeignRoots, canonical_path};
use crate::error::{Error, ErrorKind, Result};

/// Begins the portable format of 64-bit roaring bitmaps within Delta.
const ROARING_MAGIC: u32 = 1_681_511_377;
/// First byte of a file of deletion vectors.
const FILE_VERSION: u8 = 1;
/// Largest deletion vector that is read, in bytes.
pub const LIMIT_BYTES: u64 = 1 << 30;
/// A bitmap of few bytes may name any row, and readers set aside a byte for each up to the last: positions from here on are refused.
const POSITION_LIMIT: u64 = 1 << 30;

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
        /// The file; absent when it lies outside of the table and below no root.
        location: Option<Path>,
        /// Where the bitmap's length stands in the file.
        offset: u64,
        /// The bitmap's size in bytes.
        size: u64,
    },
}

/// Reads a descriptor of the `add` action of the table at `root`, whose log may name files below `roots`.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is not what the Delta protocol defines.
pub fn descriptor(root: &Path, roots: &ForeignRoots, value: &Value) -> Result<Descriptor> {
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
            let location = match &canonical {
                CanonicalPath::Inside(_) => canonical.location(root),
                CanonicalPath::Foreign(raw) => roots.location(root, raw),
            };
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

/// The descriptor by which engines find, within the table at `root`, the vector that `value` says is below one of `roots`; `None` for any other.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when its file has a name that no descriptor of a file within the table can say.
pub(crate) fn within(root: &Path, roots: &ForeignRoots, value: &Value) -> Result<Option<Value>> {
    if roots.is_empty() {
        return Ok(None);
    }
    let Descriptor::File { location: Some(location), .. } = descriptor(root, roots, value)? else { return Ok(None) };
    if !super::is_mounted(root, &location) {
        return Ok(None);
    }
    let below = super::foreign::encoded_below(root, &location);
    let parts = below.rsplit_once('/').and_then(|(folder, name)| {
        let uuid = name.strip_prefix("deletion_vector_")?.strip_suffix(".bin")?.parse::<uuid::Uuid>().ok()?;
        Some((folder, z85::encode(uuid.as_bytes())))
    });
    let Some((folder, encoded)) = parts else {
        let what = "a deletion vector of another table lies in a file whose name engines cannot be shown";
        return Err(Error::new(ErrorKind::Unsupported, what).with("vector", value));
    };
    let mut value = value.clone();
    if let Some(members) = value.as_object_mut() {
        members.insert("storageType".to_owned(), "u".into());
        members.insert("pathOrInlineDv".to_owned(), format!("{folder}{encoded}").into());
    }
    Ok(Some(value))
}

/// Reads the positions of the rows that `value` (the descriptor in the log) deletes. None is 2^30 or above.
///
/// Cost: none for an inline vector, else one ranged GET.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when size, checksum, format or cardinality is wrong; [`ErrorKind::Unsupported`] when it lies outside
/// of the table and below none of `roots`.
pub async fn read(store: &dyn ObjectStore, root: &Path, roots: &ForeignRoots, value: &Value) -> Result<RoaringTreemap> {
    let bitmap = match descriptor(root, roots, value)? {
        Descriptor::Inline { text, size } => inline_bytes(&text, size)?,
        Descriptor::File { location: None, .. } => {
            return Err(Error::new(ErrorKind::Unsupported, "a deletion vector lies outside of its table").with("vector", value));
        }
        Descriptor::File { location: Some(location), offset, size } => {
            read_stored(store, &location, offset, size).await.map_err(|e| e.with("object", &location))?
        }
    };
    counted(value, &bitmap)
}

/// As [`read`], of a vector that stands in the log.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_inline(value: &Value, text: &str, size: u64) -> Result<RoaringTreemap> {
    counted(value, &inline_bytes(text, size)?)
}

/// As [`read`], of a vector in a file that was read before.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_from(value: &Value, file: &[u8], offset: u64, size: u64) -> Result<RoaringTreemap> {
    let end = offset.checked_add(size).and_then(|end| end.checked_add(8)).ok_or_else(|| corrupt("has an impossible offset"))?;
    let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok()).and_then(|(from, to)| file.get(from..to));
    counted(value, checked_record(file, range.ok_or_else(|| corrupt("lies beyond the end of its file"))?, size)?)
}

/// Refuses positions that a file of `rows` rows does not have.
///
/// # Errors
/// [`ErrorKind::Corrupt`], with both numbers.
pub(crate) fn check_rows(positions: &RoaringTreemap, rows: u64) -> Result<()> {
    match positions.max().filter(|last| *last >= rows) {
        Some(last) => Err(corrupt("deletes rows that its file does not have").with("position", last).with("rows", rows)),
        None => Ok(()),
    }
}

fn counted(value: &Value, bitmap: &[u8]) -> Result<RoaringTreemap> {
    let cardinality = value.get("cardinality").and_then(Value::as_u64).ok_or_else(|| corrupt("has no cardinality"))?;
    let rows = parse(bitmap)?;
    if rows.len() != cardinality {
        return Err(corrupt("deletes another number of rows than it states").with("cardinality", cardinality).with("found", rows.len()));
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
    checked_record(version, record, size).map(<[u8]>::to_vec)
}

/// The bitmap in a record of a file that begins with `file`.
fn checked_record<'a>(file: &[u8], record: &'a [u8], size: u64) -> Result<&'a [u8]> {
    if file.first() != Some(&FILE_VERSION) {
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
    Ok(bitmap)
}

/// Parses the serialised bitmap: the magic number, then the portable format of 64-bit roaring bitmaps.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is anything else, bytes are left over, or a position is 2^30 or above.
pub fn parse(bytes: &[u8]) -> Result<RoaringTreemap> {
    let (magic, mut rest) = bytes.split_first_chunk::<4>().ok_or_else(|| corrupt("is cut off"))?;
    if u32::from_le_bytes(*magic) != ROARING_MAGIC {
        return Err(corrupt("has another magic number").with("found", u32::from_le_bytes(*magic)));
    }
    let rows = RoaringTreemap::deserialize_from(&mut rest).map_err(|e| corrupt("is not a roaring bitmap").caused_by(e))?;
    if !rest.is_empty() {
        return Err(corrupt("has bytes after its bitmap").with("bytes", rest.len()));
    }
    check_rows(&rows, POSITION_LIMIT)?;
    Ok(rows)
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a deletion vector {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bitmap(positions: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut bytes = ROARING_MAGIC.to_le_bytes().to_vec();
        positions.into_iter().collect::<RoaringTreemap>().serialize_into(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn positions_that_no_file_has_are_refused() {
        assert_eq!(parse(&bitmap([0, POSITION_LIMIT - 1])).unwrap().len(), 2);
        for position in [POSITION_LIMIT, 1 << 40, u64::MAX] {
            let error = parse(&bitmap([0, position])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{position}");
            assert!(error.to_string().contains(&position.to_string()), "{error}");
        }
        let positions = parse(&bitmap([3, 9])).unwrap();
        check_rows(&positions, 10).unwrap();
        assert_eq!(check_rows(&positions, 9).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_vector_of_another_table_is_found_below_a_root_alone() {
        let (root, roots) = (Path::from("t"), ForeignRoots(vec![crate::table::foreign::tests::root("file:///src")]));
        let at = |path: &str| json!({"storageType": "p", "pathOrInlineDv": path, "offset": 1, "sizeInBytes": 40, "cardinality": 2});
        let name = "deletion_vector_61d16c75-6994-46b7-a15b-8b538852e50e.bin";
        let here = at(&format!("file:/src/ab/{name}"));
        let found = |roots: &ForeignRoots, value: &Value| match descriptor(&root, roots, value).unwrap() {
            Descriptor::File { location, .. } => location,
            inline => panic!("{inline:?}"),
        };
        assert_eq!(found(&ForeignRoots::default(), &here), None);
        assert_eq!(found(&roots, &at(&format!("file:///other/{name}"))), None);
        let place = found(&roots, &here).unwrap();
        assert!(place.as_ref().starts_with("t/_foreign/") && place.as_ref().ends_with(name), "{place}");
        // Engines are shown the same file, within the table.
        let shown = within(&root, &roots, &here).unwrap().unwrap();
        let (path, mount) = (shown["pathOrInlineDv"].as_str().unwrap(), place.as_ref().strip_prefix("t/").unwrap());
        assert_eq!((shown["storageType"].as_str().unwrap(), &shown["offset"]), ("u", &json!(1)));
        assert_eq!(path, format!("{}vBn[lx{{q8@P<9BNH/isA", mount.strip_suffix(&format!("/{name}")).unwrap()));
        assert_eq!(
            within(&root, &roots, &json!({"storageType": "u", "pathOrInlineDv": "vBn[lx{q8@P<9BNH/isA", "sizeInBytes": 4})).unwrap(),
            None
        );
        assert_eq!(within(&root, &roots, &at("file:/src/x.bin")).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_vector_is_read_from_its_file_as_from_the_store() {
        let bitmap = bitmap([1, 5]);
        let size = bitmap.len() as u64;
        let mut file = vec![FILE_VERSION, 0, 0, 0];
        file.extend(u32::try_from(size).unwrap().to_be_bytes());
        file.extend(&bitmap);
        file.extend(crc32fast::hash(&bitmap).to_be_bytes());
        let value = json!({"cardinality": 2});
        assert_eq!(read_from(&value, &file, 4, size).unwrap().iter().collect::<Vec<_>>(), [1, 5]);
        for (offset, size) in [(3, size), (4, size + 1), (5, size), (u64::MAX, size)] {
            assert_eq!(read_from(&value, &file, offset, size).unwrap_err().kind(), ErrorKind::Corrupt, "{offset} {size}");
        }
        assert!(read_from(&json!({"cardinality": 3}), &file, 4, size).is_err());
        let last = file.len() - 1;
        file[last] ^= 1;
        assert!(read_from(&value, &file, 4, size).is_err());
    }
}
