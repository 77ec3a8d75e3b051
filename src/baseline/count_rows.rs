//! How many rows a commit removed and added, exactly: as multisets, whatever files they stand in.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;

use super::observe::Observer;
use super::sealed::SealedTable;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{FileContext, row_count, row_digests};
use crate::table::{LiveFile, deletion_vector};

/// Rows on either side of a commit, of which digests of 16 bytes are held in memory: 1 GiB for both.
const ROWS_LIMIT: u64 = 32 << 20;

/// What counting came to.
pub(super) enum Counted {
    /// A changed row is one removed and one added.
    Exactly { removed: u64, added: u64 },
    /// For this reason.
    Unknown(String),
}

/// Counts with the table's schema and row key.
pub(super) struct Counter<'a> {
    pub(super) observer: &'a Observer<'a>,
    pub(super) sealed: &'a SealedTable,
    pub(super) progress: &'a (dyn Fn(u64) + Sync),
}

impl Counter<'_> {
    /// Counts the rows of `before` that are not in `after`, and the other way round.
    pub(super) async fn count(&self, before: &[LiveFile], after: &[LiveFile]) -> Counted {
        match self.try_count(before, after).await {
            Ok((removed, added)) => Counted::Exactly { removed, added },
            Err(e) if e.kind() == ErrorKind::NotFound => Counted::Unknown("a file of it has been vacuumed since".to_owned()),
            Err(e) => Counted::Unknown(e.to_string()),
        }
    }

    async fn try_count(&self, before: &[LiveFile], after: &[LiveFile]) -> Result<(u64, u64)> {
        let mut by_path: BTreeMap<&str, &LiveFile> = after.iter().map(|file| (file.key.path.as_str(), file)).collect();
        let (mut removed, mut added) = (0_u64, 0_u64);
        let mut gone = Vec::new();
        for file in before {
            // One file with two deletion vectors: they alone tell.
            let Some(again) = by_path.remove(file.key.path.as_str()) else {
                gone.push(file);
                continue;
            };
            let (old, new) = (self.deleted(file).await?, self.deleted(again).await?);
            removed = removed.saturating_add((&new - &old).len());
            added = added.saturating_add((&old - &new).len());
        }
        let new: Vec<&LiveFile> = by_path.into_values().collect();
        let (went, came) = match (gone.is_empty(), new.is_empty()) {
            (true, _) => (0, self.rows(&new).await?),
            (_, true) => (self.rows(&gone).await?, 0),
            _ => differences(self.digests(&gone).await?, self.digests(&new).await?),
        };
        Ok((removed.saturating_add(went), added.saturating_add(came)))
    }

    async fn deleted(&self, file: &LiveFile) -> Result<RoaringTreemap> {
        match &file.deletion_vector {
            Some(vector) => deletion_vector::read(self.observer.store, self.observer.root, self.observer.roots, vector).await,
            None => Ok(RoaringTreemap::new()),
        }
    }

    /// Live rows, by footers and deletion vectors; of sealed files, by evidence.
    async fn rows(&self, files: &[&LiveFile]) -> Result<u64> {
        let mut sum = 0_u64;
        for file in files {
            let rows = match self.sealed.files.get(&file.key) {
                Some(sealed) => sealed.rows.saturating_sub(sealed.deleted.as_ref().map_or(0, |deleted| deleted.rows)),
                None => {
                    let rows = row_count(self.observer.store, location(file)?, file.size).await?;
                    rows.saturating_sub(self.deleted(file).await?.len())
                }
            };
            sum = sum.saturating_add(rows);
        }
        Ok(sum)
    }

    async fn digests(&self, files: &[&LiveFile]) -> Result<Vec<u128>> {
        let mut digests: Vec<u128> = Vec::new();
        for file in files {
            let vector = self.deleted(file).await?;
            let context = FileContext {
                schema: self.observer.schema,
                partition_values: &file.partition_values,
                row_key: self.observer.row_key,
                rows: true,
                profiles: false,
                deletion_vector: file.deletion_vector.as_ref().map(|_| &vector),
            };
            let held = u64::try_from(digests.len()).unwrap_or(u64::MAX);
            let limit = ROWS_LIMIT.saturating_sub(held);
            digests.extend(row_digests(self.observer.store, location(file)?, &context, limit, self.progress).await?);
        }
        Ok(digests)
    }
}

fn location(file: &LiveFile) -> Result<&object_store::path::Path> {
    file.location
        .as_ref()
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "a file lies outside of the table").with("file", &file.raw_path))
}

/// How many elements are in one multiset and not in the other.
fn differences(mut before: Vec<u128>, mut after: Vec<u128>) -> (u64, u64) {
    before.sort_unstable();
    after.sort_unstable();
    let (mut removed, mut added) = (0, 0);
    let (mut old, mut new) = (before.into_iter().peekable(), after.into_iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(a), Some(b)) if a == b => {
                old.next();
                new.next();
            }
            (Some(a), b) if b.is_none_or(|b| a < b) => {
                old.next();
                removed += 1;
            }
            (_, Some(_)) => {
                new.next();
                added += 1;
            }
            _ => return (removed, added),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multisets_differ_by_what_is_in_one_more_often() {
        assert_eq!(differences(vec![], vec![]), (0, 0));
        assert_eq!(differences(vec![3, 1, 1, 2], vec![1, 2, 3, 1]), (0, 0));
        assert_eq!(differences(vec![1, 1, 2], vec![1, 3, 4]), (2, 2));
        assert_eq!(differences(vec![5], vec![]), (1, 0));
        assert_eq!(differences(vec![], vec![7, 7]), (0, 2));
    }
}
