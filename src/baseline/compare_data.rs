//! Comparison of a file's bytes with what was sealed, down to row group and column.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _};

use super::changes::{self, ChangeState};
use super::observe::Observer;
use super::repository::Repository;
use super::sealed::{SealedColumn, SealedFile, SealedObject, SealedRowGroup, SealedTable};
use super::verdict::{Finding, Verdict};
use crate::ask::{Unchanged, named_version, unchanged_since};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::logical::stored_below;
use crate::table::{FileKey, LiveFile, TableKind, TableSchema, TableSnapshot};

/// A column chunk larger than this is not held in memory to place a difference; its row group is named alone.
const CHUNK_LIMIT_BYTES: u64 = 1 << 30;

const CHANGED_IN_PLACE: &str = "bytes of the column chunk were changed in place";

/// What reading a file came to.
pub(super) enum FileState {
    /// Exactly as sealed.
    Intact,
    /// There is no such object.
    Absent,
    /// It differs, here.
    Differs(Vec<Finding>),
}

impl Observer<'_> {
    /// Reads a sealed file whole and, when it differs, places the difference.
    ///
    /// Cost: one GET of the file; when it differs, two or three more passes over it.
    pub(super) async fn compare(&self, sealed: &SealedFile, progress: &(dyn Fn(u64) + Sync)) -> FileState {
        match self.try_compare(sealed, progress).await {
            Ok(state) => state,
            Err(e) => FileState::Differs(vec![
                Finding::new(Verdict::Undetermined, format!("the file could not be read: {e}")).file(&sealed.live.key.path),
            ]),
        }
    }

    /// Whether the store's newest version of a file is the one that was sealed. Cost: one HEAD. What cannot be said is no.
    pub(super) async fn is_sealed_version(&self, sealed: &SealedFile) -> bool {
        let (Some(location), Some(version)) = (&sealed.live.location, named_version(sealed.version.as_deref())) else { return false };
        // A deletion vector's file has versions of its own.
        let whole = sealed.deleted.as_ref().is_none_or(|deleted| deleted.file.is_none());
        let is_sealed = |meta: ObjectMeta| meta.version.as_deref() == Some(version) && meta.size == sealed.live.size;
        whole && self.store.head(location).await.is_ok_and(is_sealed)
    }

    /// As [`Self::compare`] in a store that can tell which bytes are still those of the sealed version: only others are read.
    ///
    /// Cost: that of [`unchanged_since`], and the column chunks that are not known to be unchanged; as [`Self::compare`] where the store
    /// cannot tell, where another size or footer moved everything, and where bytes between the chunks changed.
    pub(super) async fn compare_changed(&self, sealed: &SealedFile, progress: &(dyn Fn(u64) + Sync)) -> FileState {
        match self.try_compare_changed(sealed, progress).await {
            Some(state) => state,
            None => self.compare(sealed, progress).await,
        }
    }

    async fn try_compare_changed(&self, sealed: &SealedFile, progress: &(dyn Fn(u64) + Sync)) -> Option<FileState> {
        let (location, version) = (sealed.live.location.as_ref()?, named_version(sealed.version.as_deref())?);
        let unchanged = unchanged_since(self.store, location, version).await.ok()??;
        if unchanged.size != sealed.live.size {
            return None;
        }
        let mut findings = Vec::new();
        if !unchanged.covers(&(0..sealed.live.size)) {
            let moved = self.moved_chunks(sealed, location, Some(&unchanged), progress).await.ok()?;
            if !moved.footer_intact || moved.chunks.is_empty() {
                return None;
            }
            findings = moved.findings(sealed, CHANGED_IN_PLACE);
        }
        findings.extend(self.compare_vector(sealed).await.ok()?);
        Some(if findings.is_empty() { FileState::Intact } else { FileState::Differs(findings) })
    }

    async fn try_compare(&self, sealed: &SealedFile, progress: &(dyn Fn(u64) + Sync)) -> Result<FileState> {
        let Some(location) = &sealed.live.location else {
            return Err(Error::new(ErrorKind::Corrupt, "a sealed file has no place in the table"));
        };
        let (digest, size) = match digest_object(self.store, location, progress).await {
            Ok(found) => found,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(FileState::Absent),
            Err(e) => return Err(e),
        };
        if digest != sealed.digest {
            return Ok(FileState::Differs(self.place(sealed, location, size).await?));
        }
        let vector = self.compare_vector(sealed).await?;
        Ok(if vector.is_empty() { FileState::Intact } else { FileState::Differs(vector) })
    }

    /// The file that holds a sealed deletion vector must be as sealed, too.
    async fn compare_vector(&self, sealed: &SealedFile) -> Result<Vec<Finding>> {
        let Some(file) = sealed.deleted.as_ref().and_then(|deleted| deleted.file.as_ref()) else { return Ok(Vec::new()) };
        let location = stored_below(self.root, &file.path)?;
        let finding = |verdict, what: &str| {
            vec![Finding::new(verdict, format!("its deletion vector {} {what}", file.path)).file(&sealed.live.key.path)]
        };
        match digest_object(self.store, &location, &|_| {}).await {
            Ok((digest, _)) if digest == file.digest => Ok(Vec::new()),
            Ok(_) => Ok(finding(Verdict::Modified, "differs from what was sealed")),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(finding(Verdict::Missing, "is gone")),
            Err(e) => Err(e),
        }
    }

    async fn place(&self, sealed: &SealedFile, location: &Path, size: u64) -> Result<Vec<Finding>> {
        let path = &sealed.live.key.path;
        let in_place = if size == sealed.live.size { self.moved_chunks(sealed, location, None, &|_| {}).await? } else { Moved::default() };
        if size == sealed.live.size && in_place.footer_intact && !in_place.chunks.is_empty() {
            return Ok(in_place.findings(sealed, CHANGED_IN_PLACE));
        }
        let stated = LiveFile { size, stats: None, ..LiveFile::clone(&sealed.live) };
        let observer = Observer { rows: sealed.rows_encoding.is_some(), ..*self };
        match observer.observe(&stated, &|_| {}).await {
            Ok(found) => compare_fingerprints(sealed, &found.file),
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                let size_note =
                    if size == sealed.live.size { String::new() } else { format!(" (sealed {} bytes, found {size})", sealed.live.size) };
                let mut findings = in_place.findings(sealed, CHANGED_IN_PLACE);
                findings.push(Finding::new(Verdict::Modified, format!("it can no longer be decoded{size_note}: {e}")).file(path));
                Ok(findings)
            }
            Err(e) => Err(e),
        }
    }

    /// The column chunks whose sealed byte ranges hold other bytes now. What is known to be unchanged is not read.
    async fn moved_chunks(
        &self,
        sealed: &SealedFile,
        location: &Path,
        unchanged: Option<&Unchanged>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Moved> {
        let differs = |range: Range<u64>, digest: Digest| async move {
            if unchanged.is_some_and(|unchanged| unchanged.covers(&range)) {
                return Ok::<_, Error>(false);
            }
            let found = self.chunk(location, unchanged, range).await?;
            progress(found.len() as u64);
            Ok(Digest::of(&found) != digest)
        };
        let mut moved = Moved { footer_intact: true, chunks: Vec::new() };
        let mut last = 0;
        for group in sealed.row_groups.get()? {
            for column in &group.columns {
                last = last.max(column.bytes.end);
                if column.bytes.end - column.bytes.start > CHUNK_LIMIT_BYTES || column.bytes.end > sealed.live.size {
                    continue;
                }
                if differs(column.bytes.clone(), column.digest).await? {
                    moved.chunks.push((group.ordinal, column.name.clone()));
                }
            }
        }
        if last < sealed.live.size {
            moved.footer_intact = !differs(last..sealed.live.size, sealed.footer).await?;
        }
        Ok(moved)
    }

    /// A range of a file: of the version that was compared, where one was.
    async fn chunk(&self, location: &Path, unchanged: Option<&Unchanged>, range: Range<u64>) -> Result<Bytes> {
        let Some(unchanged) = unchanged else { return Ok(self.store.get_range(location, range).await?) };
        let (range, version) = (Some(GetRange::Bounded(range)), Some(unchanged.version.clone()));
        Ok(self.store.get_opts(location, GetOptions { range, version, ..GetOptions::default() }).await?.bytes().await?)
    }
}

#[derive(Default)]
struct Moved {
    footer_intact: bool,
    chunks: Vec<(u32, String)>,
}

impl Moved {
    fn findings(&self, sealed: &SealedFile, detail: &str) -> Vec<Finding> {
        let finding = |(group, column): &(u32, String)| {
            Finding::new(Verdict::Modified, detail).file(&sealed.live.key.path).row_group(*group).column(column)
        };
        self.chunks.iter().map(finding).collect()
    }
}

/// The digest and size of a whole object, streamed.
pub(super) async fn digest_object(store: &dyn ObjectStore, location: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<(Digest, u64)> {
    let mut stream = store.get(location).await?.into_stream();
    let mut hasher = blake3::Hasher::new();
    let mut size = 0_u64;
    while let Some(bytes) = stream.try_next().await? {
        hasher.update(&bytes);
        let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        size = size.saturating_add(read);
        progress(read);
    }
    Ok((Digest(*hasher.finalize().as_bytes()), size))
}

/// Names what differs between two fingerprints of files whose bytes are known to differ.
fn compare_fingerprints(sealed: &SealedFile, found: &SealedFile) -> Result<Vec<Finding>> {
    let path = &sealed.live.key.path;
    let (known, groups) = (sealed.row_groups.get()?, found.row_groups.get()?);
    let mut findings = Vec::new();
    if known.len() != groups.len() {
        findings.push(Finding::new(
            Verdict::Modified,
            format!(
                "the file was written anew: sealed {} row groups with {} rows, found {} with {}",
                known.len(),
                sealed.rows,
                groups.len(),
                found.rows
            ),
        ));
        findings.extend(strange_row_groups(known, groups));
    }
    let mut encoded_anew = 0_usize;
    let aligned = known.len() == groups.len();
    for (before, after) in known.iter().zip(groups).filter(|_| aligned) {
        encoded_anew += compare_row_group(before, after, sealed.rows_encoding.is_some(), &mut findings);
    }
    if findings.is_empty() {
        findings.push(if encoded_anew > 0 {
            Finding::new(
                Verdict::Modified,
                format!("the file was encoded anew ({encoded_anew} column chunks have other bytes), though every value is as sealed"),
            )
        } else {
            Finding::new(
                Verdict::Forged,
                "the footer was changed (statistics, page index, bloom filters or metadata), though all data pages are as sealed",
            )
        });
    }
    Ok(findings.into_iter().map(|finding| finding.file(path)).collect())
}

/// Row groups of the found file whose rows are in no sealed row group.
fn strange_row_groups(sealed: &[SealedRowGroup], found: &[SealedRowGroup]) -> Vec<Finding> {
    let known = |group: &SealedRowGroup| sealed.iter().any(|before| before.sum.is_some() && before.sum == group.sum);
    let strange = found.iter().filter(|group| !known(group));
    strange.map(|group| Finding::new(Verdict::Modified, "its rows are those of no sealed row group").row_group(group.ordinal)).collect()
}

/// Adds what differs, and returns how many chunks have other bytes but the same values.
fn compare_row_group(sealed: &SealedRowGroup, found: &SealedRowGroup, has_values: bool, findings: &mut Vec<Finding>) -> usize {
    let ordinal = sealed.ordinal;
    if sealed.rows != found.rows {
        findings.push(Finding::new(Verdict::Modified, format!("sealed {} rows, found {}", sealed.rows, found.rows)).row_group(ordinal));
    }
    let before = findings.len();
    let mut encoded_anew = 0;
    for column in &sealed.columns {
        let finding = match found.columns.iter().find(|other| other.name == column.name) {
            None => Some("the column is gone".to_owned()),
            Some(other) if other.digest == column.digest => None,
            Some(other) if has_values && other.values == column.values => {
                encoded_anew += 1;
                None
            }
            Some(other) => Some(describe(column, other)),
        };
        findings.extend(finding.map(|detail| Finding::new(Verdict::Modified, detail).row_group(ordinal).column(&column.name)));
    }
    for other in found.columns.iter().filter(|other| !sealed.columns.iter().any(|column| column.name == other.name)) {
        findings.push(Finding::new(Verdict::Modified, "a column that was not sealed").row_group(ordinal).column(&other.name));
    }
    if findings.len() == before && sealed.rows == found.rows && sealed.sum.is_some() && found.sum != sealed.sum {
        findings.push(Finding::new(Verdict::Modified, "the sum of its rows differs").row_group(ordinal));
    }
    encoded_anew
}

fn describe(sealed: &SealedColumn, found: &SealedColumn) -> String {
    let mut detail = "values differ from what was sealed".to_owned();
    let text = |value: &Option<serde_json::Value>| value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    for (what, before, after) in [("min", &sealed.min, &found.min), ("max", &sealed.max, &found.max)] {
        if before != after {
            detail.push_str(&format!("; {what} was {}, is {}", text(before), text(after)));
        }
    }
    if sealed.nulls != found.nulls {
        let count = |nulls: Option<u64>| nulls.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        detail.push_str(&format!("; nulls were {}, are {}", count(sealed.nulls), count(found.nulls)));
    }
    detail
}

/// In a folder, a new file with the bytes of a sealed one was moved or copied: into another partition, its rows mean something else.
///
/// Replaces what `findings` say of such files. Cost: a GET of each new file that has the size of a sealed one.
pub async fn compare_moved(repository: &Repository, snapshot: &TableSnapshot, sealed: &SealedTable, findings: &mut Vec<Finding>) {
    if snapshot.kind != TableKind::Parquet {
        return;
    }
    let by_digest: BTreeMap<Digest, &FileKey> = sealed.files.values().map(|file| (file.digest, &file.live.key)).collect();
    let sizes: BTreeSet<u64> = sealed.files.values().map(|file| file.live.size).collect();
    for (key, live) in snapshot.files.iter().filter(|(key, live)| !sealed.files.contains_key(*key) && sizes.contains(&live.size)) {
        let Some(location) = &live.location else { continue };
        match digest_object(&**repository.store(), location, &|_| {}).await {
            Ok((digest, _)) => {
                let Some(origin) = by_digest.get(&digest) else { continue };
                findings.retain(|f| f.file.as_ref() != Some(&key.path));
                let detail = format!("its bytes are those of the sealed file {}: it was moved or copied", origin.path);
                findings.push(Finding::new(Verdict::Foreign, detail).file(&key.path));
            }
            Err(e) => findings.push(Finding::new(Verdict::Undetermined, format!("the file could not be read: {e}")).file(&key.path)),
        }
    }
}

/// What is wrong with the sealed change-data files of commits that are still there. Cost: one GET each.
pub(super) async fn compare_changes(
    repository: &Repository,
    snapshot: &TableSnapshot,
    sealed: &SealedTable,
    progress: &(dyn Fn(u64) + Sync),
) -> Vec<Finding> {
    let states = changes::states(&**repository.store(), repository.root(), snapshot, sealed, progress).await;
    let finding = |(file, state): (&SealedObject, ChangeState)| {
        let finding = match state {
            ChangeState::Same => return None,
            ChangeState::Differs(digest, size) => Finding::new(
                Verdict::Modified,
                format!(
                    "the change-data file differs from what was sealed: sealed {} ({} bytes), found {digest} ({size} bytes)",
                    file.digest, file.size
                ),
            ),
            ChangeState::Unknown(e) => Finding::new(Verdict::Undetermined, format!("the change-data file could not be read: {e}")),
        };
        let version = snapshot.changes.get(&file.path).map(|change| change.version);
        Some(Finding { commit: version, ..finding.file(&file.path) })
    };
    states.into_iter().filter_map(finding).collect()
}

/// Reads a sealed file whole and says where it differs from what was sealed; nothing when it does not.
///
/// Cost: that of reading the file, and two or three more passes over it when it differs.
pub async fn compare_file(repository: &Repository, schema: &TableSchema, row_key: [u8; 32], file: &SealedFile) -> Vec<Finding> {
    let (store, root, roots) = (&**repository.store(), repository.root(), repository.roots());
    let observer = Observer { store, root, roots, schema, row_key, rows: false, profiles: false };
    match observer.compare(file, &|_| {}).await {
        FileState::Intact => Vec::new(),
        FileState::Absent => vec![Finding::new(Verdict::Missing, "the sealed file is gone").file(&file.live.key.path)],
        FileState::Differs(findings) => findings,
    }
}
