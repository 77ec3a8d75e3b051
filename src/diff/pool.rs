//! Files that were written anew: their rows as multisets, whatever file and place they are in.

use std::collections::{BTreeSet, HashMap};

use super::change::{Change, Row, Sink};
use super::differ::Differ;
use super::in_place::give;
use super::pair::{self, Pairing};
use super::side::{Side, row_id};
use crate::error::Result;

/// Rows that differ and are held to be paired; beyond it they are reported as added and removed.
pub(super) const PAIRED_LIMIT_ROWS: usize = 1 << 20;

/// Some row groups of a file.
pub(super) struct Part {
    pub(super) side: Side,
    pub(super) groups: Vec<usize>,
}

impl Part {
    pub(super) fn whole(side: Side) -> Self {
        Self { groups: side.groups().collect(), side }
    }

    fn rows(&self) -> u64 {
        self.groups.iter().map(|group| self.side.rows.rows(*group)).sum()
    }
}

/// How often a sealed row is there, and a row group (as part and group) that has it.
struct Count {
    left: u32,
    at: (u32, u32),
}

/// Which of two multisets have all of their rows. Of a row that an incomplete one lacks, nothing can be said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Complete {
    pub(super) sealed: bool,
    pub(super) found: bool,
}

impl Complete {
    pub(super) const BOTH: Self = Self { sealed: true, found: true };
    pub(super) const NEITHER: Self = Self { sealed: false, found: false };
}

impl Differ<'_> {
    /// Compares two multisets of rows.
    pub(super) async fn pool(&self, before: Vec<Part>, after: Vec<Part>, complete: Complete, sink: &mut dyn Sink) -> Result<bool> {
        let total: u64 = before.iter().map(Part::rows).sum();
        if total > self.options.pool_limit_rows && !after.is_empty() {
            let detail = format!(
                "{total} rows were written anew at once, more than the {} that are compared in memory: compare with a narrower version",
                self.options.pool_limit_rows
            );
            for part in &before {
                let mut place = part.side.place(0, None);
                place.row_group = None;
                if !sink.take(Change::undetermined(place, Vec::new(), detail.clone())).await? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let mut pool = Pool { counts: HashMap::new(), complete, before, after, held: Vec::new() };
        if pool.after.is_empty() {
            return if complete.found { pool.stream_removed(sink).await } else { pool.tell_unknown(sink).await };
        }
        Ok(pool.count(sink).await? && pool.cancel(sink).await? && pool.settle(&self.options.key, sink).await?)
    }
}

struct Pool {
    counts: HashMap<u128, Count>,
    complete: Complete,
    before: Vec<Part>,
    after: Vec<Part>,
    /// Found rows that no sealed row is equal to.
    held: Vec<Row>,
}

impl Pool {
    /// Counts the sealed rows.
    async fn count(&mut self, sink: &mut dyn Sink) -> Result<bool> {
        for (part_at, part) in self.before.iter().enumerate() {
            for group in &part.groups {
                let pieces = match part.side.read(*group, None).await {
                    Ok(pieces) => pieces,
                    Err(error) => {
                        self.complete.sealed = false;
                        let detail = format!("the sealed rows cannot be shown: {error}");
                        if !sink.take(Change::undetermined(part.side.place(*group, None), Vec::new(), detail)).await? {
                            return Ok(false);
                        }
                        continue;
                    }
                };
                let at = (u32::try_from(part_at).unwrap_or(u32::MAX), u32::try_from(*group).unwrap_or(u32::MAX));
                for piece in &pieces {
                    for row in part.side.live(piece) {
                        let count = self.counts.entry(row_id(&part.side.members(piece, row))).or_insert(Count { left: 0, at });
                        count.left = count.left.saturating_add(1);
                        count.at = at;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Takes the found rows off; what is left over is held, or given out when it is too much.
    async fn cancel(&mut self, sink: &mut dyn Sink) -> Result<bool> {
        let pure = self.counts.is_empty();
        for part in &self.after {
            for group in &part.groups {
                let pieces = match part.side.read(*group, None).await {
                    Ok(pieces) => pieces,
                    Err(error) => {
                        self.complete.found = false;
                        let detail = format!("what is there cannot be decoded: {error}");
                        if !sink.take(Change::undetermined(part.side.place(*group, None), Vec::new(), detail)).await? {
                            return Ok(false);
                        }
                        continue;
                    }
                };
                for piece in &pieces {
                    let counts = &mut self.counts;
                    let fresh: Vec<usize> = part
                        .side
                        .live(piece)
                        .filter(|row| match counts.get_mut(&row_id(&part.side.members(piece, *row))) {
                            Some(count) if count.left > 0 => {
                                count.left -= 1;
                                false
                            }
                            _ => true,
                        })
                        .collect();
                    let rows = part.side.rows_of(piece, &fresh)?;
                    if pure || self.held.len().saturating_add(rows.len()) > PAIRED_LIMIT_ROWS {
                        let complete = self.complete;
                        if !give(rows.into_iter().map(|row| added(row, complete)).collect(), sink).await? {
                            return Ok(false);
                        }
                    } else {
                        self.held.extend(rows);
                    }
                }
            }
        }
        self.counts.retain(|_, count| count.left > 0);
        Ok(true)
    }

    /// Finds the sealed rows that are left over, pairs them with the found ones, and gives out pairs and the rest.
    async fn settle(mut self, key: &[String], sink: &mut dyn Sink) -> Result<bool> {
        let mut left: Vec<Row> = Vec::new();
        let named: BTreeSet<(u32, u32)> = self.counts.values().map(|count| count.at).collect();
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (at, part) in self.before.iter().enumerate() {
            order.extend(part.groups.iter().map(|group| (at, *group)));
        }
        let is_named = |(part, group): &(usize, usize)| {
            u32::try_from(*part).ok().zip(u32::try_from(*group).ok()).is_some_and(|at| named.contains(&at))
        };
        // The groups that surely have one first; all others only when some are still to be found.
        let (first, rest): (Vec<_>, Vec<_>) = order.into_iter().partition(is_named);
        for (at, group) in first.into_iter().chain(rest) {
            if self.counts.is_empty() {
                break;
            }
            let Some(part) = self.before.get(at) else { continue };
            // What could not be read has been said when it was counted.
            let Ok(pieces) = part.side.read(group, None).await else { continue };
            for piece in &pieces {
                let counts = &mut self.counts;
                let lost: Vec<usize> = part
                    .side
                    .live(piece)
                    .filter(|row| {
                        let id = row_id(&part.side.members(piece, *row));
                        let Some(count) = counts.get_mut(&id) else { return false };
                        count.left = count.left.saturating_sub(1);
                        if count.left == 0 {
                            counts.remove(&id);
                        }
                        true
                    })
                    .collect();
                let rows = part.side.rows_of(piece, &lost)?;
                if left.len().saturating_add(rows.len()) > PAIRED_LIMIT_ROWS {
                    let complete = self.complete;
                    if !give(rows.into_iter().map(|row| removed(row, complete)).collect(), sink).await? {
                        return Ok(false);
                    }
                } else {
                    left.extend(rows);
                }
            }
        }
        let (complete, held) = (self.complete, std::mem::take(&mut self.held));
        // A row that may be there as it was sealed is not taken for another one because they are alike.
        let Pairing { pairs, removed: gone, added: new } =
            if key.is_empty() && !complete.found { Pairing::none(left, held) } else { pair::pair(left, held, key) };
        let changes = pairs.into_iter().filter_map(|(sealed, found)| Change::changed(sealed, found));
        let changes = changes.chain(gone.into_iter().map(|row| removed(row, complete)));
        let changes = changes.chain(new.into_iter().map(|row| added(row, complete)));
        give(changes.collect(), sink).await
    }

    /// Everything was sealed, and nothing of what is there can be read.
    async fn tell_unknown(&self, sink: &mut dyn Sink) -> Result<bool> {
        for part in &self.before {
            let mut place = part.side.place(0, None);
            place.row_group = None;
            let detail = "whether its rows are still there cannot be told: what took the file's place could not be read".to_owned();
            if !sink.take(Change::undetermined(place, Vec::new(), detail)).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything was sealed and nothing is there.
    async fn stream_removed(&mut self, sink: &mut dyn Sink) -> Result<bool> {
        for part in &self.before {
            for group in &part.groups {
                let changes = match part.side.read(*group, None).await {
                    Ok(pieces) => {
                        let mut changes = Vec::new();
                        for piece in &pieces {
                            let rows: Vec<usize> = part.side.live(piece).collect();
                            changes.extend(part.side.rows_of(piece, &rows)?.into_iter().map(Change::removed));
                        }
                        changes
                    }
                    Err(error) => {
                        let detail = format!("the sealed rows cannot be shown: {error}");
                        vec![Change::undetermined(part.side.place(*group, None), Vec::new(), detail)]
                    }
                };
                if !give(changes, sink).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Where not all sealed rows could be read, a row that is not among the others may have been sealed all the same.
fn added(row: Row, complete: Complete) -> Change {
    if complete.sealed {
        return Change::added(row);
    }
    let detail = "not all of the sealed rows that it may be one of could be read".to_owned();
    Change { found: Some(row.clone()), ..Change::undetermined(row.place, Vec::new(), detail) }
}

/// Where not all found rows could be read, a row that is not among the others may be there all the same.
fn removed(row: Row, complete: Complete) -> Change {
    if complete.found {
        return Change::removed(row);
    }
    let detail = "not all of the rows that are there, of which it may be one, could be read".to_owned();
    Change { sealed: Some(row.clone()), ..Change::undetermined(row.place, Vec::new(), detail) }
}
