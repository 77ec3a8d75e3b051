//! What a baseline changes against the one before it: for people who are about to sign, and for bounds on sealing that nobody watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::evidence::Expectation;
use super::sealed::{SealedCommit, SealedFile, SealedTable};
use super::state;
use crate::digest::{Digest, MultisetHash};
use crate::error::{Error, ErrorKind, Result};
use crate::printable::one_line;
use crate::table::{FileKey, ForeignRoot, ForeignRoots, TableKind, TableSnapshot};

/// Commits and files that are named one by one; the rest is counted.
const NAMED_LIMIT: usize = 20;

/// How a state differs from the previous baseline's. Rows are counted by files: a file that is written anew counts with all its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BaselineDiff {
    /// The previous baseline's number; absent before the first.
    pub from: Option<u64>,
    /// Its Delta version and the new one; absent for a folder of Parquet.
    pub versions: (Option<u64>, Option<u64>),
    /// The commits in between, as far as the log still has them: version and stated operation.
    pub commits: Vec<(u64, Option<String>)>,
    /// Files that are live now and were not, with rows and bytes.
    pub added: Amount,
    /// Files that were live and are no longer, with rows and bytes.
    pub removed: Amount,
    /// Files of which deletion vectors hide other rows than before.
    pub vectors_changed: u64,
    /// Rows that deletion vectors hide now and did not.
    pub rows_hidden: u64,
    /// Rows that deletion vectors hid and no longer do.
    pub rows_shown: u64,
    /// The added files hold exactly the rows of the removed ones, as the rows' sums prove.
    pub same_rows: bool,
    /// Live rows before and now.
    pub rows: (u64, u64),
    /// Columns, properties, protocol and domains that changed, in words.
    pub metadata: Vec<String>,
    /// Other addresses at which a table counts as this one, that came or went, in words.
    pub addresses: Vec<String>,
    /// Why the ground of the comparison is not what was in force before, in words; absent where it is, and before the first baseline.
    pub unproven: Option<String>,
    /// The first of the added and removed files' paths, with `+` or `-`.
    pub examples: Vec<String>,
}

/// So many files, with so many rows and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Number of files.
    pub files: u64,
    /// Rows in them, deleted ones left out.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn of<'a>(files: impl Iterator<Item = &'a SealedFile>) -> Self {
        files.fold(Self::default(), |sum, file| Self {
            files: sum.files.saturating_add(1),
            rows: sum.rows.saturating_add(live_rows(file)),
            bytes: sum.bytes.saturating_add(file.live.size),
        })
    }
}

fn live_rows(file: &SealedFile) -> u64 {
    file.rows.saturating_sub(hidden(file))
}

fn hidden(file: &SealedFile) -> u64 {
    file.deleted.as_ref().map_or(0, |deleted| deleted.rows)
}

impl BaselineDiff {
    /// The diff of a state that has not changed.
    pub(super) fn nothing(sealed: &SealedTable) -> Self {
        let version = sealed.baseline.version;
        Self {
            from: Some(sealed.baseline.number),
            versions: (version, version),
            rows: (sealed.baseline.rows, sealed.baseline.rows),
            ..Self::default()
        }
    }

    /// Compares files and commits.
    pub(super) fn between(
        before: Option<&SealedTable>,
        snapshot: &TableSnapshot,
        files: &BTreeMap<FileKey, Arc<SealedFile>>,
        commits: &BTreeMap<u64, SealedCommit>,
    ) -> Self {
        let none = BTreeMap::new();
        let old = before.map_or(&none, |sealed| &sealed.files);
        let differs = |file: &&SealedFile, others: &BTreeMap<FileKey, Arc<SealedFile>>| {
            // A path that is there on both sides with another deletion vector is the same file.
            others.get(&file.live.key).is_none_or(|other| other.digest != file.digest) && twin(file, others).is_none()
        };
        let added: Vec<&SealedFile> = files.values().map(Arc::as_ref).filter(|file| differs(file, old)).collect();
        let removed: Vec<&SealedFile> = old.values().map(Arc::as_ref).filter(|file| differs(file, files)).collect();
        let mut diff = Self {
            from: before.map(|sealed| sealed.baseline.number),
            versions: (before.and_then(|sealed| sealed.baseline.version), (snapshot.kind == TableKind::Delta).then_some(snapshot.version)),
            added: Amount::of(added.iter().copied()),
            removed: Amount::of(removed.iter().copied()),
            same_rows: !added.is_empty() && !removed.is_empty() && sum(&added).is_some_and(|sum_added| sum(&removed) == Some(sum_added)),
            rows: (old.values().map(|file| live_rows(file)).sum(), files.values().map(|file| live_rows(file)).sum()),
            ..Self::default()
        };
        for file in files.values().filter(|file| !old.contains_key(&file.live.key)) {
            let Some(known) = twin(file, old) else { continue };
            diff.vectors_changed += 1;
            diff.rows_hidden = diff.rows_hidden.saturating_add(hidden(file).saturating_sub(hidden(known)));
            diff.rows_shown = diff.rows_shown.saturating_add(hidden(known).saturating_sub(hidden(file)));
        }
        let known_commits = before.map(|sealed| &sealed.commits);
        let new_commits = commits.iter().filter(|(version, commit)| known_commits.is_some_and(|known| known.get(version) != Some(commit)));
        diff.commits = new_commits.map(|(version, commit)| (*version, commit.operation.clone())).collect();
        let signed = |sign: char, files: &[&SealedFile]| {
            files.iter().take(NAMED_LIMIT / 2).map(|file| format!("{sign} {}", file.live.key.path)).collect::<Vec<_>>()
        };
        diff.examples = [signed('-', &removed), signed('+', &added)].concat();
        diff
    }

    /// Compares what the logs say besides files; `before` is what the log says of the previous baseline's version, where it still can.
    pub(super) fn compare_heads(&mut self, sealed: &SealedTable, before: Option<&TableSnapshot>, now: &TableSnapshot) {
        let stated = &sealed.statement.state;
        let head = state::head_digests(now);
        let known = before.filter(|before| {
            let old = state::head_digests(before);
            (old.metadata, old.schema, old.protocol, old.domains) == (stated.metadata, stated.schema, stated.protocol, stated.domains)
        });
        if stated.schema != head.schema {
            match known {
                Some(before) => self.metadata.extend(columns(before, now)),
                None => self.metadata.push("the columns changed; the log no longer says from what".into()),
            }
        }
        if stated.metadata != head.metadata {
            match known {
                Some(before) => self.metadata.extend(properties(before, now)),
                None => self.metadata.push("properties or partitioning changed; the log no longer says from what".into()),
            }
        }
        for (name, was, is) in [("protocol", stated.protocol, head.protocol), ("domain metadata", stated.domains, head.domains)] {
            if was != is {
                self.metadata.push(format!("{name} changed"));
            }
        }
    }

    /// Compares the predicates that rows are expected to keep.
    pub(super) fn compare_expectations(&mut self, before: &[Expectation], now: &[Expectation]) {
        for (verb, these, others) in [("added", now, before), ("removed", before, now)] {
            let changed = these.iter().filter(|one| !others.contains(one));
            let said = changed.map(|one| format!("expectation '{}' {verb}: {}", one_line(&one.name), one_line(&one.predicate)));
            self.metadata.extend(said);
        }
    }

    /// Compares the other addresses of the table.
    pub(super) fn compare_addresses(&mut self, before: &[String], now: &[String]) {
        let new = now.iter().filter(|one| !before.contains(one));
        self.addresses.extend(new.map(|one| format!("address {} added: a table there counts as this one", one_line(one))));
        let gone = before.iter().filter(|one| !now.contains(one));
        self.addresses.extend(gone.map(|one| format!("address {} removed: a table there no longer counts as this one", one_line(one))));
    }

    /// What other tables' files count as the table's own, and no longer do.
    pub(super) fn compare_roots(&mut self, before: &ForeignRoots, now: &ForeignRoots) {
        let shown = |root: &ForeignRoot| format!("{} ({}, id {})", one_line(&root.prefix), one_line(&root.url), one_line(&root.table_id));
        let new = now.0.iter().filter(|one| !before.0.contains(one));
        self.addresses.extend(new.map(|one| format!("foreign root {} added: the log may name files of that table", shown(one))));
        let gone = before.0.iter().filter(|one| !now.0.contains(one));
        self.addresses
            .extend(gone.map(|one| format!("foreign root {} removed: the log may no longer name files of that table", shown(one))));
    }

    /// Whether nothing was taken away: no file removed, no row hidden or shown again, no column or property changed.
    pub fn is_append(&self) -> bool {
        self.removed.files == 0 && self.vectors_changed == 0 && self.metadata.is_empty()
    }

    /// Rows added and rows removed, of files and by deletion vectors, unless files were only laid out anew.
    pub fn rows_changed(&self) -> (u64, u64) {
        let (added, removed) = if self.same_rows { (0, 0) } else { (self.added.rows, self.removed.rows) };
        (added.saturating_add(self.rows_shown), removed.saturating_add(self.rows_hidden))
    }

    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.added.files == 0 && self.is_append() && self.addresses.is_empty()
    }

    /// The diff as JSON.
    pub fn to_json(&self) -> Value {
        let amount = |a: Amount| json!({"files": a.files, "rows": a.rows, "bytes": a.bytes});
        let commits: Vec<Value> =
            self.commits.iter().map(|(version, operation)| json!({"version": version, "operation": operation})).collect();
        json!({
            "from_baseline": self.from,
            "from_version": self.versions.0,
            "to_version": self.versions.1,
            "commits": commits,
            "added": amount(self.added),
            "removed": amount(self.removed),
            "deletion_vectors_changed": self.vectors_changed,
            "rows_hidden": self.rows_hidden,
            "rows_shown": self.rows_shown,
            "same_rows": self.same_rows,
            "rows_before": self.rows.0,
            "rows_after": self.rows.1,
            "metadata": self.metadata,
            "addresses": self.addresses,
            "unproven": self.unproven,
            "examples": self.examples,
        })
    }

    /// The diff as lines for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.unproven.iter().map(|why| one_line(why).into_owned()).collect();
        let described = || self.addresses.iter().cloned().chain(self.metadata.iter().map(|change| format!("metadata: {change}")));
        let Some(from) = self.from else {
            let (rows, files) = (self.rows.1, self.added.files);
            lines.push(match self.unproven {
                None => format!("first baseline: {rows} rows in {files} files, trusted on first use"),
                Some(_) => format!("compared with nothing: {rows} rows in {files} files, trusted as they are found"),
            });
            lines.extend(described());
            return lines;
        };
        if self.is_empty() && self.commits.is_empty() {
            lines.push(format!("nothing changed since baseline {from}"));
            return lines;
        }
        let versions = match self.versions {
            (Some(was), Some(is)) => format!(" (version {was} to {is})"),
            _ => String::new(),
        };
        lines.push(format!("since baseline {from}{versions}: {} rows, before {}", self.rows.1, self.rows.0));
        for (what, amount) in [("added", self.added), ("removed", self.removed)] {
            if amount.files > 0 {
                lines.push(format!("{what}: {} rows in {} files, {} bytes", amount.rows, amount.files, amount.bytes));
            }
        }
        if self.same_rows {
            lines.push("the added files hold exactly the rows of the removed ones".into());
        }
        if self.vectors_changed > 0 {
            let (hidden, shown) = (self.rows_hidden, self.rows_shown);
            lines.push(format!("deletion vectors of {} files changed: {hidden} rows hidden, {shown} shown again", self.vectors_changed));
        }
        lines.extend(described());
        for (version, operation) in self.commits.iter().take(NAMED_LIMIT) {
            lines.push(format!("commit {version}: {}", one_line(operation.as_deref().unwrap_or("an operation that it does not state"))));
        }
        if let Some(more) = self.commits.len().checked_sub(NAMED_LIMIT).filter(|more| *more > 0) {
            lines.push(format!("and {more} more commits"));
        }
        lines.extend(self.examples.iter().map(|example| one_line(example).into_owned()));
        lines
    }
}

/// The file of the same path and bytes among `others`, whichever deletion vector it has.
fn twin<'a>(file: &SealedFile, others: &'a BTreeMap<FileKey, Arc<SealedFile>>) -> Option<&'a SealedFile> {
    let path = &file.live.key.path;
    let from = FileKey { path: path.clone(), deletion_vector: None };
    others.range(from..).take_while(|(key, _)| key.path == *path).map(|(_, other)| &**other).find(|other| other.digest == file.digest)
}

fn sum(files: &[&SealedFile]) -> Option<(Option<u16>, Digest)> {
    let encoding = files.first()?.rows_encoding;
    let mut total = MultisetHash::new();
    for file in files {
        total.add(&state::live_sum(file).filter(|_| file.rows_encoding == encoding)?);
    }
    Some((encoding, total.digest()))
}

fn columns(before: &TableSnapshot, now: &TableSnapshot) -> Vec<String> {
    let (old, new) = (&before.schema, &now.schema);
    let mut changes = Vec::new();
    for column in &new.columns {
        match old.physical_column(&column.physical_name) {
            None => changes.push(format!("column {} added ({:?})", one_line(&column.name), column.data_type)),
            Some(known) if known.name != column.name => {
                changes.push(format!("column {} renamed to {}", one_line(&known.name), one_line(&column.name)));
            }
            Some(known) if known != column => {
                changes.push(format!("column {} has another type or allows nulls otherwise", one_line(&column.name)))
            }
            Some(_) => {}
        }
    }
    let gone = old.columns.iter().filter(|column| new.physical_column(&column.physical_name).is_none());
    changes.extend(gone.map(|column| format!("column {} dropped", one_line(&column.name))));
    if changes.is_empty() {
        changes.push("the order, nesting or annotations of columns changed".into());
    }
    changes
}

fn properties(before: &TableSnapshot, now: &TableSnapshot) -> Vec<String> {
    let of = |snapshot: &TableSnapshot| {
        let configuration = snapshot.metadata.get("configuration").and_then(Value::as_object).cloned().unwrap_or_default();
        configuration
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect::<BTreeMap<_, _>>()
    };
    let (old, new) = (of(before), of(now));
    let mut changes = Vec::new();
    for (name, value) in &new {
        match old.get(name) {
            None => changes.push(format!("property {} set to '{}'", one_line(name), one_line(value))),
            Some(was) if was != value => {
                changes.push(format!("property {} is '{}', was '{}'", one_line(name), one_line(value), one_line(was)))
            }
            Some(_) => {}
        }
    }
    changes.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| format!("property {} removed", one_line(name))));
    if before.schema.partition_columns != now.schema.partition_columns {
        changes.push("the partition columns changed".into());
    }
    changes
}

/// How much may change from one baseline to the next for it to be sealed without a person who looks at the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Nothing may be removed, hidden or described otherwise.
    pub append_only: bool,
    /// At most so many rows in files that were added.
    pub max_added_rows: Option<u64>,
    /// At most so many rows in files that were removed, or hidden by deletion vectors.
    pub max_removed_rows: Option<u64>,
    /// Columns, properties and protocol may change.
    pub allow_metadata: bool,
}

impl Bounds {
    /// Whether `diff` lies within.
    ///
    /// # Errors
    /// [`ErrorKind::Permission`] with every bound that is exceeded, and the diff.
    pub fn check(&self, diff: &BaselineDiff) -> Result<()> {
        let (added, removed) = diff.rows_changed();
        let mut beyond = Vec::new();
        if diff.from.is_none() {
            beyond.push("the first baseline has none before it to be compared with: seal it yourself".to_owned());
        }
        if let Some(why) = &diff.unproven {
            beyond.push(format!("{why}: look yourself"));
        }
        if diff.from.is_some() && !diff.addresses.is_empty() {
            beyond.push(format!("other addresses changed, look yourself: {}", diff.addresses.join("; ")));
        }
        // Files that were laid out anew with the same rows are no removal of rows, but no append either.
        if self.append_only && !(diff.removed.files == 0 && diff.vectors_changed == 0) {
            beyond.push(format!(
                "only appends may be sealed, and {} files were removed or changed",
                diff.removed.files + diff.vectors_changed
            ));
        }
        for (what, found, most) in [("added", added, self.max_added_rows), ("removed", removed, self.max_removed_rows)] {
            if let Some(most) = most.filter(|most| found > *most) {
                beyond.push(format!("{found} rows were {what}, and at most {most} may be"));
            }
        }
        if !self.allow_metadata && diff.from.is_some() && !diff.metadata.is_empty() {
            beyond.push(format!("columns, properties or protocol changed: {}", diff.metadata.join("; ")));
        }
        if beyond.is_empty() {
            return Ok(());
        }
        let what = format!("not sealed, because it is beyond the bounds: {}", beyond.join("; "));
        Err(Error::new(ErrorKind::Permission, what).with("diff", diff.lines().join("; ")))
    }
}
