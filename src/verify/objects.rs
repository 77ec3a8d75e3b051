//! The objects that a verified table consists of; nothing else exists for its readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use roaring::RoaringTreemap;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::View;
use super::damage::{Damage, Located};
use super::heal::CopyAt;
use super::quarantine::Trimmed;
use crate::baseline::{SealedFile, SealedTable};
use crate::digest::{BLOCK_BYTES, BlockList, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::format::logical::stored_below;
use crate::table::deletion_vector::{self, Descriptor, descriptor};
use crate::table::{FileKey, ForeignRoots, LiveFile, TableSnapshot, commit_path, is_mounted};

/// Larger deletion-vector files are refused.
const DELETIONS_LIMIT_BYTES: u64 = 1 << 30;

/// A commit that says nothing, to readers for whom there has to be one.
const NOTHING: &str = "{\"commitInfo\":{\"timestamp\":0,\"inCommitTimestamp\":0,\"operation\":\"LEFT OUT\"}}\n";

/// One object that readers may see.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) path: Path,
    /// Where in the path that begins which messages show: the path in the table.
    shown_from: usize,
    /// What messages show of a file of another table: the path that the log has.
    named: Option<String>,
    pub(super) size: u64,
    pub(super) modified_ms: i64,
    pub(super) content: Content,
    pub(super) blocks: OnceCell<Arc<BlockList>>,
    /// Where it differs, once it was compared whole.
    pub(super) located: OnceCell<Located>,
    pub(super) damage: OnceCell<Damage>,
    /// The version that a query's first read found, by the query's number.
    pub(super) seen: Mutex<Option<(u64, String)>>,
    /// Where its bytes may be had besides, once they were looked for.
    pub(super) copies: OnceCell<Vec<CopyAt>>,
}

/// What an object's bytes are held against.
#[derive(Debug)]
pub(super) enum Content {
    /// A digest of bytes that were read before: an object of the log, or a file of deletion vectors that no baseline covers.
    Pinned(Digest),
    /// The sealed digest of a file of deletion vectors.
    Vector(Digest),
    /// The evidence of a sealed file.
    Sealed(Arc<SealedFile>),
    /// Nothing: a live file that no baseline covers yet.
    Later,
    /// Bytes of our own: a log that says the sealed state.
    Own(Bytes),
    /// A sealed file without its damaged row groups: the found file up to its footer, and a footer of ours.
    Trimmed(Box<TrimmedObject>),
}

/// The parts of a trimmed file.
#[derive(Debug)]
pub(super) struct TrimmedObject {
    /// The found file.
    pub(super) base: Object,
    pub(super) trimmed: Trimmed,
}

impl Content {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pinned(a) | Self::Vector(a), Self::Pinned(b) | Self::Vector(b)) => a == b,
            (Self::Sealed(a), Self::Sealed(b)) => a.digest == b.digest,
            (Self::Later, Self::Later) => true,
            _ => false,
        }
    }
}

impl Object {
    fn new(root: &Path, path: Path, size: u64, modified_ms: i64, content: Content) -> Self {
        let shown_from = path.as_ref().len().saturating_sub(shown(root, &path).len());
        let (blocks, located, damage, copies) = (OnceCell::new(), OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { path, shown_from, named: None, size, modified_ms, content, blocks, located, damage, seen: Mutex::default(), copies }
    }

    /// The data file that the log names `key`.
    fn of_file(root: &Path, path: Path, key: &FileKey, size: u64, modified_ms: i64, content: Content) -> Self {
        let named = is_mounted(root, &path).then(|| key.path.clone());
        Self { named, ..Self::new(root, path, size, modified_ms, content) }
    }

    /// The path in the table, as messages show it.
    pub(super) fn shown(&self) -> &str {
        self.named.as_deref().unwrap_or_else(|| self.path.as_ref().get(self.shown_from..).unwrap_or_default())
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        match &self.content {
            Content::Pinned(digest) | Content::Vector(digest) => Some(*digest),
            Content::Sealed(file) => Some(file.digest),
            // What is left of a trimmed file is no sealed object.
            Content::Later | Content::Trimmed(_) => None,
            Content::Own(bytes) => Some(Digest::of(bytes)),
        }
    }

    pub(super) fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            location: self.path.clone(),
            last_modified: DateTime::<Utc>::from_timestamp_millis(self.modified_ms).unwrap_or_default(),
            size: self.size,
            e_tag: self.digest().map(|digest| digest.to_string()),
            version: None,
        }
    }

    /// The block list, when it follows from what is at hand: one block's value is the digest, and small lists stand in evidence.
    pub(super) fn known_blocks(&self) -> Option<Result<BlockList>> {
        let digest = self.digest()?;
        if self.size <= BLOCK_BYTES as u64 {
            return Some(BlockList::from_bytes(&digest.0, self.size, digest));
        }
        match &self.content {
            Content::Sealed(file) => file.inline_blocks.as_ref().map(|list| BlockList::from_bytes(list, self.size, digest)),
            _ => None,
        }
    }
}

/// All objects of a table at one version.
#[derive(Debug)]
pub(super) struct Objects(pub(super) BTreeMap<Path, Object>);

impl Objects {
    /// Collects the objects of `snapshot`, each with what it is held against. Reads files of deletion vectors once, to pin them, and
    /// refuses vectors that no baseline covers when they delete rows that their files do not have: engines set memory aside for all up to
    /// the last.
    pub(super) async fn of(
        store: &dyn ObjectStore,
        root: &Path,
        snapshot: &TableSnapshot,
        sealed: Option<&SealedTable>,
        view: &View,
    ) -> Result<Self> {
        let mut objects = Collected(Vec::with_capacity(snapshot.log_objects.len().saturating_add(snapshot.files.len())));
        if let Some(log) = &view.log {
            for version in 0..log.version {
                objects.add(
                    root,
                    commit_path(root, version),
                    NOTHING.len() as u64,
                    0,
                    Content::Own(Bytes::from_static(NOTHING.as_bytes())),
                );
            }
            objects.add(root, commit_path(root, log.version), log.commit.len() as u64, 0, Content::Own(log.commit.clone()));
        }
        let times: BTreeMap<u64, i64> = snapshot.commits.iter().filter_map(|c| Some((c.version, c.timestamp_ms?))).collect();
        for (path, (digest, size)) in snapshot.log_objects.iter().filter(|_| view.log.is_none()) {
            let version = path.filename().and_then(|name| name.get(..20)).and_then(|digits| digits.parse().ok());
            let modified_ms = version.and_then(|version: u64| times.get(&version).copied()).unwrap_or_default();
            objects.add(root, path.clone(), *size, modified_ms, Content::Pinned(*digest));
        }
        let none = ForeignRoots::default();
        let roots = sealed.map_or(&none, |sealed| &sealed.statement.foreign_roots);
        // The key of another table's file is how the log spells it; its place is the same in all spellings.
        let elsewhere: BTreeMap<&Path, &Arc<SealedFile>> = sealed
            .iter()
            .flat_map(|sealed| sealed.files.values())
            .filter_map(|file| {
                let location = file.live.location.as_ref().filter(|location| !roots.is_empty() && is_mounted(root, location))?;
                Some((location, file))
            })
            .collect();
        let mut later: BTreeMap<Path, Vec<LaterVector<'_>>> = BTreeMap::new();
        for (key, live) in &snapshot.files {
            // A file outside of the table, and below no signed root, is never served; comparing the states reports it.
            let Some(path) = &live.location else { continue };
            // The bytes at a path never change: a later commit that gives the file another deletion vector gives it no other bytes.
            let sealed_file = sealed.and_then(|sealed| sealed.files.get(key).or_else(|| sealed.file_at(&key.path)));
            let sealed_file = sealed_file.or_else(|| elsewhere.get(path).copied());
            if let (Some(file), Some(trimmed)) = (sealed_file, view.trimmed.get(key)) {
                let mut base = Object::of_file(root, path.clone(), key, file.live.size, 0, Content::Pinned(trimmed.blocks.root()));
                base.blocks = OnceCell::new_with(Some(trimmed.blocks.clone()));
                let content = Content::Trimmed(Box::new(TrimmedObject { base, trimmed: trimmed.clone() }));
                objects.0.push(Object::of_file(root, path.clone(), key, trimmed.size(), live.modification_time_ms, content));
                continue;
            }
            let content = sealed_file.map_or(Content::Later, |file| Content::Sealed(Arc::clone(file)));
            let size = sealed_file.map_or(live.size, |file| file.live.size);
            objects.0.push(Object::of_file(root, path.clone(), key, size, live.modification_time_ms, content));
            let same_vector = sealed_file.filter(|file| file.live.key == *key);
            let vector = same_vector.and_then(|file| file.deleted.as_ref()).and_then(|deleted| deleted.file.as_ref());
            match vector {
                Some(vector) => {
                    let path = stored_below(root, &vector.path)?;
                    objects.add(root, path, vector.size, live.modification_time_ms, Content::Vector(vector.digest));
                }
                None => {
                    if let Some((path, vector)) = LaterVector::of(root, roots, live, sealed_file)? {
                        later.entry(path).or_default().push(vector);
                    }
                }
            }
        }
        let mut objects = objects.finish(root)?;
        for (path, vectors) in later {
            objects.pin_deletions(store, root, path, &vectors).await?;
        }
        Ok(objects)
    }

    async fn pin_deletions(&mut self, store: &dyn ObjectStore, root: &Path, path: Path, vectors: &[LaterVector<'_>]) -> Result<()> {
        let meta = store.head(&path).await?;
        if meta.size > DELETIONS_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::Corrupt, "a file of deletion vectors is larger than anything honest").with("file", &path));
        }
        let bytes = store.get(&path).await?.bytes().await?;
        // First of all it must be nothing else: of sealed data it is no matter what they are as a vector.
        let modified_ms = vectors.first().map_or(0, |vector| vector.live.modification_time_ms);
        let pinned = Object::new(root, path.clone(), bytes.len() as u64, modified_ms, Content::Pinned(Digest::of(&bytes)));
        match self.0.get(&path) {
            Some(known) if !known.content.is_same(&pinned.content) => return Err(named_twice(root, &known.path)),
            // A sealed file of vectors stays what it is.
            Some(_) => {}
            None => drop(self.0.insert(path.clone(), pinned)),
        }
        for vector in vectors {
            let positions = deletion_vector::read_from(vector.value, &bytes, vector.offset, vector.size);
            vector.check(positions).map_err(|e| e.with("object", shown(root, &path)))?;
        }
        Ok(())
    }
}

/// Objects as they are found, whether or not one is named twice.
struct Collected(Vec<Object>);

impl Collected {
    fn add(&mut self, root: &Path, path: Path, size: u64, modified_ms: i64, content: Content) {
        self.0.push(Object::new(root, path, size, modified_ms, content));
    }

    /// One path holds one thing: were a log to name a sealed file as something else, too, its bytes might be served unverified.
    fn finish(self, root: &Path) -> Result<Objects> {
        let mut all = self.0;
        all.sort_by(|a, b| a.path.cmp(&b.path));
        for (a, b) in all.iter().zip(all.iter().skip(1)).filter(|(a, b)| a.path == b.path) {
            if !a.content.is_same(&b.content) {
                return Err(named_twice(root, &a.path));
            }
        }
        Ok(Objects(all.into_iter().map(|object| (object.path.clone(), object)).collect()))
    }
}

/// A deletion vector in a file, that no baseline covers.
struct LaterVector<'a> {
    live: &'a LiveFile,
    value: &'a Value,
    offset: u64,
    size: u64,
    /// Rows of the file, as they were sealed, or else as the log states them.
    rows: Option<u64>,
}

impl<'a> LaterVector<'a> {
    /// The vector of `live` with the path of its file. One that stands in the log is checked at once.
    fn of(root: &Path, roots: &ForeignRoots, live: &'a LiveFile, sealed: Option<&Arc<SealedFile>>) -> Result<Option<(Path, Self)>> {
        let Some(value) = &live.deletion_vector else { return Ok(None) };
        let stated = || live.stats.as_ref().and_then(|stats| stats.get("numRecords")).and_then(Value::as_u64);
        let rows = sealed.map(|file| file.rows).or_else(stated);
        match descriptor(root, roots, value)? {
            Descriptor::Inline { text, size } => {
                let vector = Self { live, value, offset: 0, size, rows };
                vector.check(deletion_vector::read_inline(value, &text, size))?;
                Ok(None)
            }
            Descriptor::File { location: None, .. } => {
                Err(Error::new(ErrorKind::Mismatch, "a deletion vector lies outside of the table").with("file", &live.raw_path))
            }
            Descriptor::File { location: Some(path), offset, size } => Ok(Some((path, Self { live, value, offset, size, rows }))),
        }
    }

    fn check(&self, positions: Result<RoaringTreemap>) -> Result<()> {
        let checked = positions.and_then(|positions| self.rows.map_or(Ok(()), |rows| deletion_vector::check_rows(&positions, rows)));
        checked.map_err(|e| e.with("file", &self.live.raw_path))
    }
}

fn named_twice(root: &Path, path: &Path) -> Error {
    let what = "the log names one object in two ways: as data, as a deletion vector or as a part of the log";
    Error::new(ErrorKind::Mismatch, what).with("file", shown(root, path))
}

/// A path relative to the table's root.
pub(super) fn shown<'a>(root: &Path, path: &'a Path) -> &'a str {
    let path = path.as_ref();
    match path.strip_prefix(root.as_ref()) {
        Some(below) if root.as_ref().is_empty() => below,
        Some(below) => below.strip_prefix('/').unwrap_or(path),
        None => path,
    }
}
