//! What a diff says: one change a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::error::Result;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is there with other values.
    Changed,
    /// It is there and was not sealed.
    Added,
    /// It was sealed and is not there.
    Removed,
    /// It could not be found out; the detail says why.
    Undetermined,
}

impl ChangeKind {
    /// The name that SQL and JSON use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Undetermined => "undetermined",
        }
    }
}

/// Where a row lies, or lay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's canonical path in the table.
    pub file: Arc<str>,
    /// The row group, from 0; absent when the whole file is meant.
    pub row_group: Option<u32>,
    /// The row within the row group, from 0; absent when the whole row group is meant.
    pub row: Option<u64>,
    /// The commit that added the file, when it came after the baseline.
    pub commit: Option<u64>,
}

/// One row, with its place. Cheap to clone: it shares its batch with its neighbours.
#[derive(Debug, Clone)]
pub struct Row {
    /// Where it lies.
    pub place: Place,
    pub(super) batch: Arc<RecordBatch>,
    pub(super) index: usize,
    pub(super) constants: Arc<BTreeMap<String, Option<String>>>,
    /// Hashes of the members that are not null, by physical name.
    pub(super) members: Arc<[(Arc<str>, u128)]>,
}

impl Row {
    /// The batch that the row stands in, by physical names and without partition columns, and its position there.
    pub fn batch(&self) -> (&RecordBatch, usize) {
        (&self.batch, self.index)
    }

    /// Partition values by physical name, as the log's text.
    pub fn partition_values(&self) -> &BTreeMap<String, Option<String>> {
        &self.constants
    }

    /// A column's value as text; `None` for null, and for a column that the row does not have.
    pub fn value(&self, physical_name: &str) -> Option<String> {
        if let Some(constant) = self.constants.get(physical_name) {
            return constant.clone();
        }
        text(self.batch.column_by_name(physical_name)?, self.index)
    }

    /// How many values [`Self::to_json`] has at most.
    pub fn width(&self) -> usize {
        self.batch.num_columns().saturating_add(self.constants.len())
    }

    /// All values that are not null, as one JSON object of texts; `name` gives the name to show for a physical one, `shown` what is shown of a value.
    pub fn to_json(&self, name: impl Fn(&str) -> String, mut shown: impl FnMut(String) -> String) -> Value {
        let schema = self.batch.schema();
        let physical = schema.fields().iter().map(|field| field.name().clone()).chain(self.constants.keys().cloned());
        let values = physical.filter_map(|physical| Some((name(&physical), Value::from(shown(self.value(&physical)?)))));
        Value::Object(values.collect::<Map<_, _>>())
    }

    /// The hash of a member; 0 for null.
    pub(super) fn member(&self, name: &str) -> u128 {
        self.members.iter().find(|(member, _)| &**member == name).map_or(0, |(_, hash)| *hash)
    }
}

#[cfg(test)]
impl Row {
    /// The first row of a batch, of a file without partition columns.
    pub(crate) fn first_of(batch: Arc<RecordBatch>) -> Self {
        let place = Place { file: "part-0.parquet".into(), row_group: Some(0), row: Some(0), commit: None };
        Self { place, batch, index: 0, constants: Arc::default(), members: Arc::default() }
    }
}

fn text(array: &ArrayRef, index: usize) -> Option<String> {
    if index >= array.len() || array.is_null(index) {
        return None;
    }
    let options = FormatOptions::default().with_display_error(true);
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).ok()?;
    Some(formatter.value(index).to_string())
}

/// One row that changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// What became of it.
    pub kind: ChangeKind,
    /// Where: of what is there, or of what was sealed when nothing is there.
    pub place: Place,
    /// The row as sealed.
    pub sealed: Option<Row>,
    /// The row as found.
    pub found: Option<Row>,
    /// The columns whose values differ, by physical name, for a changed row; for what is undetermined, those that are known to differ.
    pub columns: Vec<String>,
    /// For people.
    pub detail: Option<String>,
}

impl Change {
    pub(super) fn undetermined(place: Place, columns: Vec<String>, detail: String) -> Self {
        Self { kind: ChangeKind::Undetermined, place, sealed: None, found: None, columns, detail: Some(detail) }
    }

    pub(super) fn added(row: Row) -> Self {
        Self { kind: ChangeKind::Added, place: row.place.clone(), sealed: None, found: Some(row), columns: Vec::new(), detail: None }
    }

    pub(super) fn removed(row: Row) -> Self {
        Self { kind: ChangeKind::Removed, place: row.place.clone(), sealed: Some(row), found: None, columns: Vec::new(), detail: None }
    }

    /// A pair of rows; `None` when they have the same values after all.
    pub(super) fn changed(sealed: Row, found: Row) -> Option<Self> {
        let mut columns: Vec<String> = Vec::new();
        for (name, hash) in sealed.members.iter() {
            if found.member(name) != *hash {
                columns.push(name.to_string());
            }
        }
        for (name, _) in found.members.iter().filter(|(name, _)| sealed.member(name) == 0) {
            columns.push(name.to_string());
        }
        columns.sort();
        columns.dedup();
        let place = found.place.clone();
        let (sealed, found) = (Some(sealed), Some(found));
        (!columns.is_empty()).then_some(Self { kind: ChangeKind::Changed, place, sealed, found, columns, detail: None })
    }
}

/// Takes changes as they are found.
#[async_trait]
pub trait Sink: Send {
    /// Takes one; `false` says that no more are wanted.
    ///
    /// # Errors
    /// What taking it failed with; the diff ends with it.
    async fn take(&mut self, change: Change) -> Result<bool>;
}
