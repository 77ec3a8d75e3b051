//! Every physical key in a region is built here, and nowhere else.
//!
//! ```text
//! id                                              lake and incarnation of the region
//! c/<^number>                                     configurations
//! i/<escaped dir>-/…/<escaped leaf>!/<^slot>.<seq>  register entries: header + signed manifest
//! i/<escaped dir>-/…/<escaped leaf>!/<^slot>.d<tag> decided marker
//! s/…                                             registers of the lake itself, as i/…
//! d/<aa>/<write id>/<slot>.<segment>.<shard>      a shard, its block list first
//! ```
//!
//! `^slot` is `u64::MAX - slot` in 16 hexadecimal digits, so that the newest slot is listed first. Bytes up to 0x2E of a
//! logical path are escaped as `%XX` (`%` is 0x25), `-` (0x2D) ends a directory and `!` (0x21) the leaf. So no name is the
//! beginning of a sibling's, physical order is logical byte order, and it is so both for stores that list by the bytes of
//! whole keys and for those that list folder by folder (SeaweedFS); both `a` and `a/b` can be objects. A register is a
//! folder, because object stores list by whole segments.

use object_store::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::id::WriteId;

/// Longest physical segment of a directory or leaf, in bytes, with the leaf's `!`.
pub const SEGMENT_LIMIT_BYTES: usize = 250;
/// Longest physical key, in bytes, below the region's root.
pub const KEY_LIMIT_BYTES: usize = 1000;
/// Longest tag of a decided marker, in bytes.
pub const MARKER_TAG_LIMIT_BYTES: usize = 200;

/// Bytes of a logical path's segment up to this one are escaped: all below the separator.
const ESCAPED_UP_TO: u8 = b'.';
/// Ends a leaf: below every escape.
const LEAF_END: char = '!';
/// Ends a directory: above every escape and below every byte that is not escaped, as the separator is.
const DIRECTORY_END: char = '-';
const REGISTERS: &str = "i";
const SYSTEM_REGISTERS: &str = "s";
const CONFIGURATIONS: &str = "c";
const SHARDS: &str = "d";
/// Digits of `^slot`, and of a slot.
const SLOT_DIGITS: usize = 16;
/// Digits of an entry's sequence number (decimal, so that no entry looks like a marker).
const SEQ_DIGITS: usize = 10;
/// `/`, `^slot`, `.d`: what stands between a register's folder and a marker's tag.
const MARKER_OVERHEAD_BYTES: usize = 1 + SLOT_DIGITS + 2;

/// The first segment of the logical paths of a lake's own registers; clients may not use it. They lie apart from the objects' (`s/` for
/// `i/`), so that no listing of objects meets them.
pub const SYSTEM_SEGMENT: &str = ".lakeseal";

/// The register of the lake's configurations: slot N is decided for configuration N, by the regions of N - 1.
pub fn configurations_path() -> Path {
    Path::from(format!("{SYSTEM_SEGMENT}/configuration"))
}

/// The register that says, in slot 0, that the replacement which configuration `number` completed has handed over what others wrote meanwhile.
pub fn handed_over_path(number: u64) -> Path {
    Path::from(format!("{SYSTEM_SEGMENT}/handed-over/{number}"))
}

/// The lake's own folder of the registers of streamed writes.
pub fn streamed_writes() -> Path {
    Path::from(format!("{SYSTEM_SEGMENT}/writes"))
}

/// The register that binds one streamed write to its slots.
pub fn streamed_write(write_id: &WriteId) -> Path {
    Path::from(format!("{SYSTEM_SEGMENT}/writes/{write_id}"))
}

/// The folder of an object that is written to learn a region's time, and deleted again.
pub fn probe_folder(id: &WriteId) -> Path {
    Path::from(format!("check-{id}"))
}

/// What a key in a register's folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterItem {
    /// An entry of the log, with its sequence number.
    Entry(u32),
    /// A decided marker, with its tag (see `format::entry`).
    Marker(String),
}

/// A key in a register's folder, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterName {
    /// The logical path.
    pub path: Path,
    /// The version slot.
    pub slot: u64,
    /// Which entry or marker it is.
    pub item: RegisterItem,
}

/// A shard's key, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardName {
    /// The attempt that wrote it.
    pub write_id: WriteId,
    /// The version slot it was written for.
    pub slot: u64,
    /// Number of the segment within the object.
    pub segment: u32,
    /// Number of the shard within the segment's stripe.
    pub shard: u8,
}

/// Where a region says which lake and incarnation it is.
pub fn id_key() -> Path {
    Path::from("id")
}

/// The folder of configurations.
pub fn configuration_prefix() -> Path {
    Path::from(CONFIGURATIONS)
}

/// Where configuration `number` lies; the newest is listed first.
pub fn configuration_key(number: u64) -> Path {
    key(format!("{CONFIGURATIONS}/{}", descending(number)))
}

/// The folder of one register: a LIST of it returns all entries and markers of `path`, newest slot first, and nothing else.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for the empty path or segment, a segment over [`SEGMENT_LIMIT_BYTES`] when escaped, or a key over
/// [`KEY_LIMIT_BYTES`].
pub fn register_folder(path: &Path) -> Result<Path> {
    if path.as_ref().is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "the empty path cannot be an object"));
    }
    // `Path::join("")` makes them. A key of one could not be taken apart again: nobody would list, repair or hand over what lies there.
    if path.as_ref().split('/').any(str::is_empty) {
        return Err(Error::new(ErrorKind::InvalidInput, "a segment of the path is empty").with("path", path));
    }
    let folder = folder_text(path);
    let longest = folder.split('/').map(str::len).max().unwrap_or(0);
    if longest > SEGMENT_LIMIT_BYTES {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("a segment of the path is too long: {longest} bytes when escaped, {SEGMENT_LIMIT_BYTES} are allowed"),
        )
        .with("path", path));
    }
    let total = folder.len() + MARKER_OVERHEAD_BYTES + MARKER_TAG_LIMIT_BYTES;
    if total > KEY_LIMIT_BYTES {
        let most = KEY_LIMIT_BYTES - MARKER_OVERHEAD_BYTES - MARKER_TAG_LIMIT_BYTES;
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the path is too long: its folder has {} bytes when escaped, {most} are allowed", folder.len()),
        )
        .with("path", path));
    }
    Ok(key(folder))
}

/// Where entry `seq` of `slot` of `path` lies.
///
/// # Errors
/// As [`register_folder`].
pub fn entry_key(path: &Path, slot: u64, seq: u32) -> Result<Path> {
    let folder = register_folder(path)?;
    Ok(key(format!("{folder}/{}.{seq:0SEQ_DIGITS$}", descending(slot))))
}

/// Where the decided marker of `slot` of `path` lies. `tag` is the marker itself, as text.
///
/// # Errors
/// As [`register_folder`], and for a tag that is empty, over [`MARKER_TAG_LIMIT_BYTES`], or has other bytes than `A-Z a-z 0-9 - _ .`.
pub fn marker_key(path: &Path, slot: u64, tag: &str) -> Result<Path> {
    if !is_tag(tag) {
        return Err(Error::new(ErrorKind::InvalidInput, "not the tag of a decided marker").with("tag", tag));
    }
    let folder = register_folder(path)?;
    Ok(key(format!("{folder}/{}.d{tag}", descending(slot))))
}

/// How long the keys of `path`'s decided markers are, in bytes, with tags of `tag_bytes`.
///
/// # Errors
/// As [`register_folder`].
pub fn marker_key_bytes(path: &Path, tag_bytes: usize) -> Result<usize> {
    Ok(register_folder(path)?.as_ref().len() + MARKER_OVERHEAD_BYTES + tag_bytes)
}

/// The physical folder of everything below a logical directory; `None` is the lake's root.
pub fn register_prefix(directory: Option<&Path>) -> Path {
    match directory {
        Some(directory) if !directory.as_ref().is_empty() => key(format!("{}/{}{DIRECTORY_END}", top(directory), escaped(directory))),
        _ => Path::from(REGISTERS),
    }
}

/// A physical offset among the registers below `directory` that is greater than every key of `path`'s register and less than every key of a
/// greater path. `path` need be none of them: objects are listed after a name of the lake's own, too.
pub fn register_after(directory: Option<&Path>, path: &Path) -> Path {
    let registers = directory.map_or(REGISTERS, top);
    if path.as_ref().is_empty() {
        return Path::from(registers);
    }
    // '~' is greater than any digit of `^slot`.
    key(format!("{registers}/{}{LEAF_END}/~", escaped(path)))
}

/// Takes a key of a register apart; `None` for whatever was not built here.
pub fn parse_register_key(physical: &Path) -> Option<RegisterName> {
    let (first, rest) = physical.as_ref().split_once('/')?;
    let (folder, name) = rest.rsplit_once('/')?;
    let logical = unescaped(folder.strip_suffix(LEAF_END)?)?;
    let path = Path::parse(&logical).ok()?;
    if path.as_ref() != logical || path.as_ref().is_empty() || top(&path) != first {
        return None;
    }
    let (slot, item) = name.split_once('.')?;
    let slot = parse_descending(slot)?;
    let item = match item.strip_prefix('d') {
        Some(tag) if is_tag(tag) => RegisterItem::Marker(tag.to_owned()),
        Some(_) => return None,
        None => RegisterItem::Entry(parse_fixed(item, SEQ_DIGITS, 10).and_then(|seq| u32::try_from(seq).ok())?),
    };
    Some(RegisterName { path, slot, item })
}

/// The folder of all shards.
pub fn shards_prefix() -> Path {
    Path::from(SHARDS)
}

/// Whether a key is one of those that bulk data has, and not one that names take.
pub fn is_below_shards(key: &Path) -> bool {
    key.as_ref().split('/').next() == Some(SHARDS)
}

/// The folder of one attempt's shards.
pub fn shard_folder(write_id: &WriteId) -> Path {
    let text = write_id.to_string();
    let head: String = text.chars().take(2).collect();
    key(format!("{SHARDS}/{head}/{text}"))
}

/// Where one shard lies.
pub fn shard_key(write_id: &WriteId, slot: u64, segment: u32, shard: u8) -> Path {
    key(format!("{}/{slot:0SLOT_DIGITS$x}.{segment:08x}.{shard:02x}", shard_folder(write_id)))
}

/// Takes a shard's key apart; `None` for whatever was not built here.
pub fn parse_shard_key(physical: &Path) -> Option<ShardName> {
    let mut parts = physical.as_ref().split('/');
    let (folder, _head, write_id, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let write_id: WriteId = write_id.parse().ok()?;
    let mut fields = name.split('.');
    let slot = parse_fixed(fields.next()?, SLOT_DIGITS, 16)?;
    let segment = u32::try_from(parse_fixed(fields.next()?, 8, 16)?).ok()?;
    let shard = u8::try_from(parse_fixed(fields.next()?, 2, 16)?).ok()?;
    // One spelling only: what does not rebuild to the same key was not made here.
    (folder == SHARDS && shard_key(&write_id, slot, segment, shard) == *physical).then_some(ShardName { write_id, slot, segment, shard })
}

/// A key that is built of safe text; `Path::from` would escape again.
fn key(text: String) -> Path {
    Path::parse(&text).unwrap_or_else(|_| Path::from(text))
}

fn descending(number: u64) -> String {
    format!("{:0SLOT_DIGITS$x}", u64::MAX - number)
}

fn parse_descending(text: &str) -> Option<u64> {
    parse_fixed(text, SLOT_DIGITS, 16).map(|inverted| u64::MAX - inverted)
}

/// Reads exactly `digits` lower-case digits.
fn parse_fixed(text: &str, digits: usize, radix: u32) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if plain { u64::from_str_radix(text, radix).ok() } else { None }
}

fn is_tag(tag: &str) -> bool {
    (1..=MARKER_TAG_LIMIT_BYTES).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn folder_text(path: &Path) -> String {
    format!("{}/{}{LEAF_END}", top(path), escaped(path))
}

/// Whether `path` is one of the lake's own.
pub fn is_system(path: &Path) -> bool {
    path.parts().next().is_some_and(|first| first.as_ref() == SYSTEM_SEGMENT)
}

fn top(path: &Path) -> &'static str {
    if is_system(path) { SYSTEM_REGISTERS } else { REGISTERS }
}

/// The path's segments, escaped; every directory but the last segment is ended.
fn escaped(path: &Path) -> String {
    let mut out = String::with_capacity(path.as_ref().len() + 24);
    for c in path.as_ref().chars() {
        match u8::try_from(c) {
            Ok(b'/') => out.extend([DIRECTORY_END, '/']),
            Ok(byte) if byte <= ESCAPED_UP_TO => {
                out.push('%');
                out.push_str(&hex::encode_upper([byte]));
            }
            _ => out.push(c),
        }
    }
    out
}

/// Undoes [`escaped`]; `None` for any other spelling.
fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == DIRECTORY_END {
            chars.next().filter(|next| *next == '/')?;
            out.push('/');
        } else if c == '%' {
            let byte = chars.as_str().get(..2).filter(|digits| !digits.contains(|d: char| d.is_ascii_lowercase() || d == '+'))?;
            let byte = u8::from_str_radix(byte, 16).ok().filter(|byte| *byte <= ESCAPED_UP_TO)?;
            out.push(char::from(byte));
            chars.nth(1)?;
        } else if u32::from(c) <= u32::from(b'/') {
            return None;
        } else {
            out.push(c);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logical() -> impl Strategy<Value = Path> {
        let segment = prop_oneof![
            3 => "[ !\"#$%&'+.0-9a-cA~äß漢😀-]{1,6}",
            1 => Just("%2F".to_owned()),
            1 => Just("a".to_owned()),
            1 => Just("a!".to_owned()),
        ];
        proptest::collection::vec(segment, 1..4)
            .prop_map(|segments| segments.join("/"))
            .prop_filter_map("relative segments are no paths", |text| Path::parse(text).ok())
    }

    proptest! {
        #[test]
        fn physical_order_is_logical_order(a in logical(), b in logical(), s in any::<u64>(), t in any::<u64>()) {
            let (x, y) = (entry_key(&a, s, 0).unwrap(), entry_key(&b, t, 7).unwrap());
            if a != b {
                prop_assert_eq!(a.as_ref().cmp(b.as_ref()), x.as_ref().cmp(y.as_ref()));
            } else {
                prop_assert_eq!((t, 0).cmp(&(s, 7)), x.as_ref().cmp(y.as_ref()));
            }
            let after = register_after(None, &a);
            prop_assert!(x < after && marker_key(&a, 0, "zzz").unwrap() < after);
            if b > a {
                prop_assert!(y > after);
            }
        }

        #[test]
        fn no_name_is_the_beginning_of_a_siblings(a in logical(), b in logical()) {
            // Then listing folder by folder is listing by the bytes of whole keys.
            let (x, y) = (register_folder(&a).unwrap(), register_folder(&b).unwrap());
            let differing = x.parts().zip(y.parts()).find(|(p, q)| p != q);
            if let Some((p, q)) = differing {
                prop_assert!(!p.as_ref().starts_with(q.as_ref()) && !q.as_ref().starts_with(p.as_ref()));
            }
        }

        #[test]
        fn keys_read_back(path in logical(), slot in any::<u64>(), seq in any::<u32>()) {
            let name = parse_register_key(&entry_key(&path, slot, seq).unwrap()).unwrap();
            prop_assert_eq!(name, RegisterName { path: path.clone(), slot, item: RegisterItem::Entry(seq) });
            let name = parse_register_key(&marker_key(&path, slot, "Ab-_.9").unwrap()).unwrap();
            prop_assert_eq!(name, RegisterName { path, slot, item: RegisterItem::Marker("Ab-_.9".to_owned()) });
        }

        #[test]
        fn a_folder_belongs_to_one_register(a in logical(), b in logical()) {
            let folder = register_folder(&a).unwrap();
            prop_assert_eq!(entry_key(&b, 1, 0).unwrap().prefix_matches(&folder), a == b);
            let under = b.prefix_match(&a).is_some_and(|mut rest| rest.next().is_some());
            let found = entry_key(&b, 1, 0).unwrap().prefix_matches(&register_prefix(Some(&a)));
            prop_assert_eq!(found, under);
        }

        #[test]
        fn foreign_keys_never_read_as_ours(text in "[is]/[a-c!%0-9A-F/.d -]{0,40}") {
            if let Ok(path) = Path::parse(&text) && let Some(name) = parse_register_key(&path) {
                let rebuilt = match name.item {
                    RegisterItem::Entry(seq) => entry_key(&name.path, name.slot, seq),
                    RegisterItem::Marker(tag) => marker_key(&name.path, name.slot, &tag),
                };
                prop_assert_eq!(rebuilt.unwrap(), path);
            }
        }
    }

    #[test]
    fn a_path_that_no_key_could_be_taken_apart_to_is_refused() {
        let t = Path::from("t");
        for path in [t.clone().join(""), t.clone().join("").join("b"), t.clone().join("").join(""), Path::default()] {
            assert_eq!(register_folder(&path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path}");
            assert!(entry_key(&path, 0, 0).is_err() && marker_key(&path, 0, "x").is_err(), "{path}");
        }
        register_folder(&t.join("b")).unwrap();
    }

    #[test]
    fn keys_are_as_documented() {
        let path = Path::parse("t 1/_delta_log/0!.json").unwrap();
        assert_eq!(entry_key(&path, 2, 3).unwrap().as_ref(), "i/t%201-/_delta_log-/0%21%2Ejson!/fffffffffffffffd.0000000003");
        assert_eq!(marker_key(&path, 0, "x.y").unwrap().as_ref(), "i/t%201-/_delta_log-/0%21%2Ejson!/ffffffffffffffff.dx.y");
        assert_eq!(register_folder(&path).unwrap().as_ref(), "i/t%201-/_delta_log-/0%21%2Ejson!");
        assert_eq!(register_prefix(Some(&Path::from("t"))).as_ref(), "i/t-");
        assert_eq!(register_prefix(None).as_ref(), "i");
        let system = Path::parse(".lakeseal/w/x").unwrap();
        assert_eq!(register_after(None, &system).as_ref(), "i/%2Elakeseal-/w-/x!/~");
        assert_eq!(register_after(Some(&system), &Path::from("t")).as_ref(), "s/t!/~");
        assert_eq!(entry_key(&system, 0, 0).unwrap().as_ref(), "s/%2Elakeseal-/w-/x!/ffffffffffffffff.0000000000");
        assert_eq!(parse_register_key(&Path::parse("i/%2Elakeseal-/w-/x!/ffffffffffffffff.0000000000").unwrap()), None);
        assert_eq!(configuration_key(0).as_ref(), "c/ffffffffffffffff");
        let shard = shard_key(&WriteId([0xab; 16]), 1, 2, 3);
        assert_eq!(shard.as_ref(), "d/ab/abababababababababababababababab/0000000000000001.00000002.03");
        assert_eq!(parse_shard_key(&shard), Some(ShardName { write_id: WriteId([0xab; 16]), slot: 1, segment: 2, shard: 3 }));
        assert_eq!(parse_shard_key(&Path::from("d/ac/abababababababababababababababab/0000000000000001.00000002.03")), None);
        assert_eq!(parse_register_key(&Path::parse("i/a%2F!/ffffffffffffffff.0000000000").unwrap()), None);
        assert_eq!(parse_register_key(&Path::parse("i/a%2e!/ffffffffffffffff.0000000000").unwrap()), None);
        assert_eq!(parse_register_key(&Path::parse("i/a!/ffffffffffffffff.+000000000").unwrap()), None);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert!(register_folder(&Path::from("")).is_err());
        assert!(register_folder(&Path::from("a".repeat(SEGMENT_LIMIT_BYTES - 1))).is_ok());
        assert!(register_folder(&Path::from("a".repeat(SEGMENT_LIMIT_BYTES))).is_err());
        let deep = vec!["a".repeat(240); 4].join("/");
        let error = register_folder(&Path::from(deep)).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains("too long"), "{error}");
        assert!(marker_key(&Path::from("a"), 0, "a/b").is_err());
        assert!(marker_key(&Path::from("a"), 0, &"a".repeat(MARKER_TAG_LIMIT_BYTES + 1)).is_err());
    }
}
