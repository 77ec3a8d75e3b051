//! Files of other tables, which a log names by whole URLs, as that of a shallow clone does.
//!
//! A log alone can name any place, so nothing is ever opened because a log says so. A signed statement names the *roots*: which tables' files may be
//! named. A file below one of them gets a place within the clone's own store, in a folder where nothing lies and to which no path of a log leads;
//! [`super::mounted`] shows the other table there. Everything else treats such a file as one of the table's own. A file below no root has no place.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::path::{CanonicalPath, MOUNT_DIGITS, MOUNTS, canonical_path, is_mount_name};
use super::{FileKey, LiveFile, TableSnapshot, deletion_vector};
use crate::digest::Digest;
use crate::error::Result;

/// What a path in a log of our own is spelled with.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'=');

/// A table whose files another table's log may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRoot {
    /// How the log's paths begin: a URL, without a slash at its end.
    pub prefix: String,
    /// Where that table is: its canonical URL.
    pub url: String,
    /// Delta's id of that table, when it was named first.
    pub table_id: String,
}

/// The roots of a statement; none for nearly every table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignRoots(pub Vec<ForeignRoot>);

impl ForeignRoot {
    /// Where its files are seen in the store of the table at `root`: one place for a table, however many prefixes lead to it.
    pub(crate) fn mount(&self, root: &Path) -> Path {
        let url = one_spelling(self.url.trim_end_matches('/'));
        let name: String = Digest::of(url.as_bytes()).to_string().chars().take(MOUNT_DIGITS).collect();
        root.clone().join(MOUNTS).join(name)
    }
}

impl ForeignRoots {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The root below which the path `raw` of a log lies, and the file's place in the store of the table at `root`.
    fn find(&self, root: &Path, raw: &str) -> Option<(&ForeignRoot, Path)> {
        let spelled = one_spelling(raw);
        self.0.iter().find_map(|one| {
            let rest = spelled.strip_prefix(&*one_spelling(&one.prefix))?.strip_prefix('/')?;
            match canonical_path(rest) {
                inside @ CanonicalPath::Inside(_) => Some((one, inside.location(&one.mount(root))?)),
                CanonicalPath::Foreign(_) => None,
            }
        })
    }

    /// The root that a file belongs to, by its path as the log has it.
    pub fn root_of(&self, raw: &str) -> Option<&ForeignRoot> {
        self.find(&Path::default(), raw).map(|(one, _)| one)
    }

    /// Where the file lies that the log of the table at `root` names `raw`; absent when that is below none of these roots.
    pub(crate) fn location(&self, root: &Path, raw: &str) -> Option<Path> {
        self.find(root, raw).map(|(_, location)| location)
    }

    /// Gives the files below these roots their places.
    ///
    /// Readers that compare spellings would disagree about a file that is spelled in two ways, or has the name of one of the table's own: such
    /// files are added to the snapshot's duplicates.
    pub(crate) fn place(&self, root: &Path, snapshot: &mut TableSnapshot) {
        if self.is_empty() {
            return;
        }
        let mut wrong: BTreeSet<FileKey> = snapshot.duplicates.drain(..).collect();
        let mut placed: BTreeMap<Path, Vec<FileKey>> = BTreeMap::new();
        for (key, live) in &mut snapshot.files {
            let Some(at) = self.location(root, &key.path) else { continue };
            if live.location.as_ref().is_some_and(|known| *known != at) {
                wrong.insert(key.clone());
                continue;
            }
            if live.location.is_none() {
                Arc::make_mut(live).location = Some(at.clone());
            }
            placed.entry(at).or_default().push(key.clone());
        }
        for keys in placed.values().filter(|keys| keys.iter().zip(keys.iter().skip(1)).any(|(one, next)| one.path != next.path)) {
            wrong.extend(keys.iter().cloned());
        }
        for removed in snapshot.tombstones.keys() {
            let Some(keys) = self.location(root, &removed.path).and_then(|at| placed.get(&at)) else { continue };
            wrong.extend(keys.iter().filter(|key| key.path != removed.path).cloned());
        }
        snapshot.duplicates = wrong.into_iter().collect();
    }

    /// As [`Self::place`], of files that a commit adds.
    pub(crate) fn place_added(&self, root: &Path, files: &mut [LiveFile]) {
        if self.is_empty() {
            return;
        }
        for file in files.iter_mut().filter(|file| file.location.is_none()) {
            file.location = self.location(root, &file.raw_path);
        }
    }
}

/// Hadoop writes `file:/x` for what others write `file:///x`.
fn one_spelling(url: &str) -> Cow<'_, str> {
    match url.strip_prefix("file:/") {
        Some(path) if !path.starts_with('/') => Cow::Owned(format!("file:///{path}")),
        _ => Cow::Borrowed(url),
    }
}

/// Whether an object of the table at `root` is one of another table.
pub(crate) fn is_mounted(root: &Path, location: &Path) -> bool {
    mount_of(root, location).is_some()
}

/// The folder that stands for the table which an object is of, where that is another than the one at `root`.
pub(crate) fn mount_of(root: &Path, location: &Path) -> Option<Path> {
    let mounts = root.clone().join(MOUNTS);
    let name = location.prefix_match(&mounts)?.next().filter(|name| is_mount_name(name.as_ref()))?.as_ref().to_owned();
    Some(mounts.join(name))
}

/// Whether the file is one of another table: it has a place only where a signed statement allows that.
pub(crate) fn is_foreign(root: &Path, file: &LiveFile) -> bool {
    file.location.as_ref().is_none_or(|location| is_mounted(root, location))
}

/// A live file of another table, where there is one.
pub(crate) fn foreign_file<'a>(root: &Path, snapshot: &'a TableSnapshot) -> Option<&'a LiveFile> {
    snapshot.files.values().find(|file| is_foreign(root, file)).map(Arc::as_ref)
}

/// The path of an object below the table at `root`, as a log spells it.
pub(super) fn encoded_below(root: &Path, location: &Path) -> String {
    let below = location.as_ref().strip_prefix(root.as_ref()).unwrap_or_default().trim_start_matches('/');
    utf8_percent_encode(below, ENCODED).to_string()
}

/// `snapshot` with paths within the table at `root` for the files of other tables, below `roots`, for a log that is shown to engines.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when a deletion vector lies where no path within a table can say.
pub(crate) fn spelled_within(root: &Path, roots: &ForeignRoots, snapshot: &TableSnapshot) -> Result<TableSnapshot> {
    let mut snapshot = snapshot.clone();
    for live in snapshot.files.values_mut() {
        let vector = live.deletion_vector.as_ref().map(|vector| deletion_vector::within(root, roots, vector)).transpose()?.flatten();
        if let Some(vector) = vector {
            Arc::make_mut(live).deletion_vector = Some(vector);
        }
        let Some(location) = live.location.as_ref().filter(|location| is_mounted(root, location)) else { continue };
        let raw_path = encoded_below(root, location);
        Arc::make_mut(live).raw_path = raw_path;
    }
    Ok(snapshot)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::table::{TableKind, TableSchema};

    pub(crate) fn root(prefix: &str) -> ForeignRoot {
        ForeignRoot { prefix: prefix.to_owned(), url: prefix.to_owned(), table_id: "source".to_owned() }
    }

    fn file(raw: &str) -> (FileKey, Arc<LiveFile>) {
        let canonical = canonical_path(raw);
        let key = FileKey { path: canonical.as_str().to_owned(), deletion_vector: None };
        let live = LiveFile {
            key: key.clone(),
            raw_path: raw.to_owned(),
            location: canonical.location(&Path::from("t")),
            size: 1,
            partition_values: BTreeMap::new(),
            stats: None,
            deletion_vector: None,
            other: BTreeMap::new(),
            modification_time_ms: 0,
            added_in: None,
        };
        (key, Arc::new(live))
    }

    fn snapshot(live: &[&str], removed: &[&str]) -> TableSnapshot {
        TableSnapshot {
            kind: TableKind::Delta,
            table_id: String::new(),
            version: 0,
            protocol: serde_json::Value::Null,
            metadata: serde_json::Value::Null,
            domains: BTreeMap::new(),
            transactions: BTreeMap::new(),
            files: live.iter().map(|raw| file(raw)).collect(),
            changes: BTreeMap::new(),
            typed: BTreeMap::new(),
            duplicates: Vec::new(),
            tombstones: removed.iter().map(|raw| (file(raw).0, None)).collect(),
            commits: Vec::new(),
            checkpoint: None,
            log_objects: BTreeMap::new(),
            schema: TableSchema::default(),
        }
    }

    #[test]
    fn only_what_lies_below_a_root_has_a_place() {
        let roots = ForeignRoots(vec![root("file:///data/src"), root("s3://bucket/src")]);
        let at = |raw: &str| roots.location(&Path::from("t"), raw);
        let place = at("file:///data/src/p=1/x.parquet").unwrap();
        assert!(is_mounted(&Path::from("t"), &place), "{place}");
        assert!(place.as_ref().ends_with("/p=1/x.parquet"), "{place}");
        // All spellings of one file have one place.
        for same in ["file:/data/src/p=1/x.parquet", "file:///data/src/p=1/./x.parquet", "file:///data/src/p%3D1/%78.parquet"] {
            assert_eq!(at(same).as_ref(), Some(&place), "{same}");
        }
        assert_ne!(at("s3://bucket/src/p=1/x.parquet").unwrap(), place);
        for elsewhere in [
            "file:///data/other/x.parquet",
            "file:///data/src",
            "file:///data/src/",
            "file:///data/srcx/x.parquet",
            "file:///data/src/../other/x.parquet",
            "file:///data/src/%2e%2e/other/x.parquet",
            "file:///data/src/a/../../x.parquet",
            "file:///data/src\\x.parquet",
            "file:///data/src/a\\x.parquet",
            "file:///data/src/file:///etc/passwd",
            "FILE:///data/src/x.parquet",
            "file://localhost/data/src/x.parquet",
            "s3a://bucket/src/x.parquet",
            "/data/src/x.parquet",
            "../src/x.parquet",
            "x.parquet",
        ] {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(ForeignRoots::default().location(&Path::from("t"), "file:///data/src/x.parquet"), None);
    }

    #[test]
    fn no_path_of_a_log_leads_to_where_other_tables_are_seen() {
        let roots = ForeignRoots(vec![root("file:///data/src")]);
        for table in [Path::from("t"), Path::default()] {
            let place = roots.location(&table, "file:///data/src/x.parquet").unwrap();
            let within = place.as_ref().strip_prefix(table.as_ref()).unwrap().trim_start_matches('/').to_owned();
            for raw in [within.clone(), format!("./{within}"), within.replacen('_', "%5F", 1), format!("a/../{within}")] {
                assert_eq!(canonical_path(&raw).location(&table), None, "{raw}");
            }
        }
        // A folder of that name may be an honest one.
        assert!(canonical_path("_foreign/x.parquet").location(&Path::from("t")).is_some());
    }

    #[test]
    fn files_are_placed_and_other_spellings_of_them_are_wrong() {
        let roots = ForeignRoots(vec![root("file:///src")]);
        let placed = |live: &[&str], removed: &[&str]| {
            let mut snapshot = snapshot(live, removed);
            roots.place(&Path::from("t"), &mut snapshot);
            snapshot
        };
        let honest = placed(&["file:///src/a.parquet", "b.parquet", "file:///other/c.parquet"], &["file:///src/d.parquet"]);
        assert!(honest.duplicates.is_empty());
        let places: Vec<bool> = honest.files.values().map(|live| live.location.is_some()).collect();
        assert_eq!(places, [true, false, true], "b.parquet, the file elsewhere, and that of the source");
        let within = spelled_within(&Path::from("t"), &roots, &honest).unwrap();
        for live in within.files.values().filter(|live| live.location.is_some()) {
            assert!(!live.raw_path.contains(':'), "{}", live.raw_path);
        }

        let doubled = placed(&["file:///src/a.parquet", "file:/src/a.parquet"], &[]);
        assert_eq!(doubled.duplicates.len(), 2);
        let removed = placed(&["file:///src/a.parquet"], &["file:///src/./a.parquet"]);
        assert_eq!(removed.duplicates.len(), 1);
        // By the prefixes of two roots that are one table.
        let twice = ForeignRoots(vec![
            ForeignRoot { url: "s3://b/src".to_owned(), ..root("s3://b/src") },
            ForeignRoot { url: "s3://b/src/".to_owned(), ..root("s3a://b/src") },
        ]);
        let mut both = snapshot(&["s3://b/src/a.parquet", "s3a://b/src/a.parquet", "s3a://b/src/b.parquet"], &[]);
        twice.place(&Path::from("t"), &mut both);
        assert_eq!(both.duplicates.len(), 2);
        // One of the table's own, in a folder called `file:`.
        let own = placed(&["file%3A/src/a.parquet"], &[]);
        assert_eq!(own.duplicates.len(), 1);
    }
}
