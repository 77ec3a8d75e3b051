//! The files of a new baseline: taken over from evidence, or read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::compare::normal_live;
use super::compare_restated::compare_live;
use super::evidence::Profiles;
use super::observe::{GroupProfiles, Observer};
use super::progress::Progress;
use super::seal::Sealer;
use super::seal_ground::Ground;
use super::sealed::{SealedFile, SealedObject};
use super::{audit, changes};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::StatisticsLie;
use crate::table::{FileKey, LiveFile, TableKind};

/// The files of the new baseline.
pub(super) struct Sealing {
    pub(super) changes: BTreeMap<String, SealedObject>,
    pub(super) files: BTreeMap<FileKey, Arc<SealedFile>>,
    pub(super) added: BTreeSet<FileKey>,
    pub(super) profiles: Profiles,
    pub(super) bytes_read: u64,
}

impl Sealer {
    /// Takes over what evidence covers and reads the rest.
    pub(super) async fn fingerprint(&self, ground: &Ground, row_key: [u8; 32], progress: &dyn Progress) -> Result<Sealing> {
        let kind = ground.snapshot.kind;
        let proven = ground.sealed.as_ref().filter(|_| ground.unproven.is_none());
        let mut files = BTreeMap::new();
        let mut fresh: Vec<&LiveFile> = Vec::new();
        for (key, live) in &ground.snapshot.files {
            let known = proven.and_then(|sealed| sealed.files.get(key));
            match known
                .filter(|file| !ground.stale.contains(key) && compare_live(kind, &ground.snapshot.schema, &file.live, live).is_empty())
            {
                Some(file) => {
                    files.insert(key.clone(), file.clone());
                }
                None => fresh.push(live),
            }
        }
        let observer = audit::observer(&ground.repository, &ground.snapshot.schema, row_key, self.options.rows);
        let observer = Observer { profiles: true, ..observer };
        let bytes = fresh.iter().map(|live| live.size).sum();
        progress.begin("fingerprinting", u64::try_from(fresh.len()).unwrap_or(u64::MAX), bytes);
        let bytes_read = AtomicU64::new(0);
        let count = |bytes: u64| {
            bytes_read.fetch_add(bytes, Ordering::Relaxed);
            progress.bytes(bytes);
        };
        let count = &count;
        let reads = stream::iter(fresh).map(|live| async move {
            let observed = self.observe(&observer, kind, live, count).await?;
            progress.file(&live.key.path);
            Ok::<_, Error>(observed)
        });
        let observed: Vec<(SealedFile, Vec<GroupProfiles>)> = reads.buffer_unordered(self.options.concurrency.max(1)).try_collect().await?;
        let known = proven.filter(|_| ground.findings.is_empty());
        let changes = changes::to_be_sealed(&**self.repository.store(), &ground.snapshot, known, count).await?;
        progress.end();
        let added = observed.iter().map(|(file, _)| file.live.key.clone()).collect();
        let mut profiles = Profiles::new();
        for (file, groups) in observed {
            let places = file.row_groups.get()?.iter().map(|group| (file.live.key.clone(), group.ordinal));
            profiles.extend(places.zip(groups).filter(|(_, columns)| !columns.is_empty()));
            files.insert(file.live.key.clone(), Arc::new(file));
        }
        Ok(Sealing { changes, files, added, profiles, bytes_read: bytes_read.into_inner() })
    }

    async fn observe(
        &self,
        observer: &Observer<'_>,
        kind: TableKind,
        live: &LiveFile,
        count: &(dyn Fn(u64) + Sync),
    ) -> Result<(SealedFile, Vec<GroupProfiles>)> {
        let observed = observer.observe(live, count).await?;
        if let Some(lie) = observed.lies.first() {
            return Err(lies(live, lie, observed.lies.len()));
        }
        let inline_blocks = self.repository.keep_blocks(&observed.blocks).await?;
        let live = LiveFile { added_in: None, ..normal_live(kind, live) };
        Ok((SealedFile { live: Arc::new(live), inline_blocks, ..observed.file }, observed.profiles))
    }
}

fn lies(live: &LiveFile, lie: &StatisticsLie, count: usize) -> Error {
    let column = if lie.column.is_empty() { "the whole file" } else { &lie.column };
    let what = "stated statistics contradict the data, so the table is not sealed: queries would leave rows out by them; have the file written \
                anew by an engine that states what is true, and seal then (--no-rows holds no statistics against the data: it would sign these)";
    let mut error = Error::new(ErrorKind::Mismatch, what)
        .with("file", &live.key.path)
        .with("column", column)
        .with("statistic", &lie.what)
        .with("stated", &lie.stated)
        .with("found", &lie.found);
    if let Some(row_group) = lie.row_group {
        error = error.with("row group", row_group);
    }
    if count > 1 { error.with("contradictions", count) } else { error }
}
