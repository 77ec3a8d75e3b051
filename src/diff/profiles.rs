//! What columns are like, sealed and found, as a whole and in the rows that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::Array as _;
use async_trait::async_trait;
use object_store::ObjectStoreExt as _;

use super::change::{Change, ChangeKind, Row, Sink};
use super::differ::{Differ, FileState};
use super::in_place::Comparison;
use super::side::Side;
use crate::baseline::{GroupProfiles, Profiles, SealedFile};
use crate::error::Result;
use crate::profile::{ColumnProfile, ProfileBuilder};
use crate::table::LiveFile;

/// What the columns of a table are like, by physical name; rows that deletion vectors delete are counted.
#[derive(Debug, Default)]
pub struct TableProfiles {
    /// Of all rows.
    pub columns: BTreeMap<String, ColumnProfile>,
    /// Of row groups that are not as they were sealed: file, ordinal, columns.
    pub groups: Vec<(Arc<str>, u32, GroupProfiles)>,
    /// What could not be profiled, for people.
    pub notes: Vec<String>,
    /// Columns of the table that some sealed row group has a profile of.
    expected: BTreeSet<String>,
}

impl TableProfiles {
    fn add(&mut self, name: &str, profile: &ColumnProfile) -> Result<()> {
        match self.columns.get_mut(name) {
            Some(whole) => whole.merge(profile),
            None => {
                self.columns.insert(name.to_owned(), profile.clone());
                Ok(())
            }
        }
    }

    /// Adds a row group of a file. What partition columns are, the log says alone, whatever the file holds; a column that the file has not is
    /// null in its rows.
    fn add_group(&mut self, group: &GroupProfiles, rows: u64, constants: &Constants) -> Result<()> {
        for (name, profile) in group.iter().filter(|(name, _)| !constants.contains_key(*name)) {
            self.add(name, profile)?;
        }
        let absent: Vec<String> = absent(group, &self.expected, constants).map(str::to_owned).collect();
        absent.iter().try_for_each(|name| self.add(name, &constant(None, rows)?))
    }

    fn add_constants(&mut self, constants: &Constants, rows: u64) -> Result<()> {
        constants.iter().try_for_each(|(name, value)| self.add(name, &constant(value.as_deref(), rows)?))
    }

    /// The profiles of the columns of a row group that are neither nested nor told by the log; those that were `sealed` and are not there are null.
    async fn profiles(&self, side: &Side, group: usize, sealed: Option<&GroupProfiles>) -> Result<GroupProfiles> {
        let members = side.rows.members();
        let mut builders: BTreeMap<String, ProfileBuilder> = BTreeMap::new();
        for piece in side.read(group, None).await? {
            for (at, name) in members.iter().enumerate().filter(|(_, name)| !side.constants.contains_key(*name)) {
                let Some(array) = piece.rows.batch.column_by_name(name).filter(|array| !array.data_type().is_nested()) else { continue };
                if !builders.contains_key(name) {
                    builders.insert(name.clone(), ProfileBuilder::new()?);
                }
                if let Some(builder) = builders.get_mut(name) {
                    builder.add(array, |row| piece.rows.value(at, row));
                }
            }
        }
        let mut found: GroupProfiles = builders.into_iter().map(|(name, builder)| (name, builder.finish())).collect();
        let sealed = sealed.into_iter().flat_map(BTreeMap::keys).filter(|name| self.expected.contains(*name));
        let lost: Vec<String> = absent(&found, sealed, &side.constants).map(str::to_owned).collect();
        for name in lost {
            found.insert(name, constant(None, side.rows.rows(group))?);
        }
        Ok(found)
    }
}

/// Partition values.
type Constants = BTreeMap<String, Option<String>>;

/// The profile of rows that all have the same value.
fn constant(value: Option<&str>, rows: u64) -> Result<ColumnProfile> {
    let mut builder = ProfileBuilder::new()?;
    builder.add_constant(value.filter(|value| !value.is_empty()), rows);
    Ok(builder.finish())
}

/// The names that neither a row group nor the log has a value of.
fn absent<'a>(
    group: &'a GroupProfiles,
    names: impl IntoIterator<Item = &'a String>,
    constants: &'a Constants,
) -> impl Iterator<Item = &'a str> {
    let is_absent = |name: &&String| !group.contains_key(*name) && !constants.contains_key(*name);
    names.into_iter().filter(is_absent).map(String::as_str)
}

impl Differ<'_> {
    /// Those of the table's columns that were profiled when it was sealed. Others came later, or are nested: files that have none of them are
    /// as they should be.
    fn expected(&self, stored: &Profiles) -> BTreeSet<String> {
        let schema = &self.snapshot.schema;
        let is_ours = |name: &&String| {
            let column = schema.physical_column(name);
            schema.columns.is_empty() || column.is_some_and(|column| !schema.partition_columns.contains(&column.name))
        };
        stored.values().flat_map(BTreeMap::keys).filter(is_ours).cloned().collect()
    }

    /// What the sealed columns were like, from evidence alone.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when stored profiles cannot be merged.
    pub fn sealed_profiles(&self, stored: &Profiles) -> Result<TableProfiles> {
        let mut found = TableProfiles { expected: self.expected(stored), ..TableProfiles::default() };
        let mut missing = 0_u64;
        for (key, file) in &self.sealed.files {
            for group in file.row_groups.get()? {
                match stored.get(&(key.clone(), group.ordinal)) {
                    Some(columns) => found.add_group(columns, group.rows, &file.live.partition_values)?,
                    None if group.rows > 0 => missing += 1,
                    None => {}
                }
            }
            found.add_constants(&file.live.partition_values, file.rows)?;
        }
        if missing > 0 {
            found
                .notes
                .push(format!("{missing} row groups were sealed without profiles of their columns: seal the table again, with rows"));
        }
        Ok(found)
    }

    /// What the columns that are there are like: from evidence where the bytes are those that were sealed, else by reading them.
    ///
    /// Cost: as [`Differ::run`]; row groups that differ, and files that were not sealed, are decoded whole.
    ///
    /// # Errors
    /// As [`Self::sealed_profiles`]. What cannot be read is noted.
    pub async fn found_profiles(&self, stored: &Profiles) -> Result<TableProfiles> {
        let mut found = TableProfiles { expected: self.expected(stored), ..TableProfiles::default() };
        for (key, live) in &self.snapshot.files {
            let sealed = self.sealed.files.get(key);
            let profiled = match sealed {
                Some(file) => self.kept_file(file, live, stored, &mut found).await,
                None => self.new_file(live, None, &mut found).await,
            };
            if let Err(error) = profiled {
                found.notes.push(format!("{}: not profiled: {error}", key.path));
            }
        }
        Ok(found)
    }

    async fn kept_file(&self, file: &SealedFile, live: &LiveFile, stored: &Profiles, found: &mut TableProfiles) -> Result<()> {
        let (size, changed, whole) = match self.state(file, live).await {
            FileState::Unchanged => (live.size, Vec::new(), false),
            FileState::Present(size) => {
                let (differing, tail_intact) = Comparison { differ: self, file, live, size }.chunks().await?;
                (size, differing.into_keys().collect(), !tail_intact)
            }
            FileState::Gone => return Err(crate::Error::new(crate::ErrorKind::NotFound, "the file is gone")),
            FileState::Unknown(error) => return Err(error),
        };
        if whole {
            return self.new_file(live, Some(stored), found).await;
        }
        let mut side: Option<Side> = None;
        for group in file.row_groups.get()? {
            let at = usize::try_from(group.ordinal).unwrap_or(usize::MAX);
            let known = stored.get(&(file.live.key.clone(), group.ordinal)).filter(|_| !changed.contains(&at));
            if let Some(known) = known {
                found.add_group(known, group.rows, &live.partition_values)?;
                continue;
            }
            if side.is_none() {
                side = Some(self.found_side(live, size).await?);
            }
            if let Some(side) = &side {
                let sealed = stored.get(&(file.live.key.clone(), group.ordinal));
                let columns = found.profiles(side, at, sealed).await?;
                found.add_group(&columns, side.rows.rows(at), &live.partition_values)?;
                if changed.contains(&at) {
                    found.groups.push((side.path.clone(), group.ordinal, columns));
                }
            }
        }
        found.add_constants(&live.partition_values, file.rows)
    }

    /// A file of which nothing is known to be as sealed. Its row groups are listed, but for those with the very counts that are `stored`.
    async fn new_file(&self, live: &LiveFile, stored: Option<&Profiles>, found: &mut TableProfiles) -> Result<()> {
        let foreign = || crate::Error::new(crate::ErrorKind::Unsupported, "the file lies outside of the table");
        let location = live.location.as_ref().ok_or_else(foreign)?;
        let size = self.repository.store().head(location).await?.size;
        let side = self.found_side(live, size).await?;
        let mut rows = 0;
        for group in side.groups() {
            let ordinal = u32::try_from(group).unwrap_or(u32::MAX);
            let known = stored.and_then(|stored| stored.get(&(live.key.clone(), ordinal)));
            let columns = found.profiles(&side, group, known).await?;
            found.add_group(&columns, side.rows.rows(group), &live.partition_values)?;
            if !known.is_some_and(|known| same_counts(known, &columns)) {
                found.groups.push((side.path.clone(), ordinal, columns));
            }
            rows += side.rows.rows(group);
        }
        found.add_constants(&live.partition_values, rows)
    }
}

/// Whether what is counted exactly is the same.
fn same_counts(stored: &GroupProfiles, found: &GroupProfiles) -> bool {
    let exact = |profile: &ColumnProfile| (profile.rows, profile.nulls, profile.nans, profile.moments);
    let same = |(name, found): (&String, &ColumnProfile)| stored.get(name).is_some_and(|stored| exact(stored) == exact(found));
    found.iter().all(same)
}

/// A sink that profiles the rows that changed: sealed and found values side by side, and rows that are new or gone.
#[derive(Debug, Default)]
pub struct ChangedProfiles {
    changed: BTreeMap<String, [Option<ProfileBuilder>; 2]>,
    added: BTreeMap<String, ProfileBuilder>,
    removed: BTreeMap<String, ProfileBuilder>,
    /// Places of which nothing could be found out.
    pub undetermined: u64,
}

/// What [`ChangedProfiles`] come to, by physical name of the column.
#[derive(Debug, Default)]
pub struct ChangedColumns {
    /// Values that changed: as sealed, and as found.
    pub changed: BTreeMap<String, (ColumnProfile, ColumnProfile)>,
    /// Of rows that were not sealed.
    pub added: GroupProfiles,
    /// Of rows that are not there any more.
    pub removed: GroupProfiles,
}

impl ChangedProfiles {
    /// The profiles.
    ///
    /// # Errors
    /// As [`ColumnProfile::empty`].
    pub fn finish(self) -> Result<ChangedColumns> {
        let done = |builders: BTreeMap<String, ProfileBuilder>| builders.into_iter().map(|(name, b)| (name, b.finish())).collect();
        let mut changed = BTreeMap::new();
        for (name, [before, after]) in self.changed {
            let of = |builder: Option<ProfileBuilder>| builder.map_or_else(ColumnProfile::empty, |builder| Ok(builder.finish()));
            changed.insert(name, (of(before)?, of(after)?));
        }
        Ok(ChangedColumns { changed, added: done(self.added), removed: done(self.removed) })
    }
}

#[async_trait]
impl Sink for ChangedProfiles {
    async fn take(&mut self, change: Change) -> Result<bool> {
        match (change.kind, &change.sealed, &change.found) {
            (ChangeKind::Changed, Some(sealed), Some(found)) => {
                for column in &change.columns {
                    let [before, after] = self.changed.entry(column.clone()).or_default();
                    for (slot, row) in [(before, sealed), (after, found)] {
                        let builder = match slot {
                            Some(builder) => builder,
                            None => slot.insert(ProfileBuilder::new()?),
                        };
                        add_value(builder, row, column);
                    }
                }
            }
            (ChangeKind::Added, _, Some(row)) => add_row(&mut self.added, row)?,
            (ChangeKind::Removed, Some(row), _) => add_row(&mut self.removed, row)?,
            _ => self.undetermined += 1,
        }
        Ok(true)
    }
}

fn add_row(builders: &mut BTreeMap<String, ProfileBuilder>, row: &Row) -> Result<()> {
    let (batch, _) = row.batch();
    let schema = batch.schema();
    let constants = row.partition_values();
    let scalar = schema.fields().iter().filter(|field| !field.data_type().is_nested()).map(|field| field.name());
    for name in scalar.filter(|name| !constants.contains_key(*name)).chain(constants.keys()) {
        if !builders.contains_key(name) {
            builders.insert(name.clone(), ProfileBuilder::new()?);
        }
        if let Some(builder) = builders.get_mut(name) {
            add_value(builder, row, name);
        }
    }
    Ok(())
}

fn add_value(builder: &mut ProfileBuilder, row: &Row, column: &str) {
    let (batch, index) = row.batch();
    match (row.partition_values().get(column), batch.column_by_name(column)) {
        (Some(constant), _) => builder.add_constant(constant.as_deref().filter(|value| !value.is_empty()), 1),
        (None, Some(array)) if index < array.len() => {
            let hash = row.member(column).to_le_bytes();
            let is_null = row.member(column) == 0;
            builder.add(&array.slice(index, 1), |_| if is_null { &[] } else { &hash });
        }
        // A column that the row does not have is null.
        _ => builder.add_constant(None, 1),
    }
}
