//! What a commit did to the files of its table, held against what the statement that is recorded for it does to them.

use std::collections::BTreeSet;

use super::replay::Scope;
use crate::delta::Location;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::{CommitActions, CommitLineage};
use crate::table::{self, FileKey, LiveFile, TableSnapshot};

/// What that came to.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// What the commit did that no such statement does.
    pub(super) differs: Option<String>,
    /// Files that came between the version that the statement read and its commit: it knows nothing of their rows.
    pub(super) left_out: BTreeSet<FileKey>,
}

/// Where row tracking keeps how far row ids are given out: whoever appends rows moves it on.
const ROW_TRACKING_DOMAIN: &str = "delta.rowTracking";

impl Held {
    pub(super) fn differs(what: String) -> Self {
        Self { differs: Some(what), left_out: BTreeSet::new() }
    }
}

/// A commit, and the table before and after it.
#[derive(Debug)]
pub(super) struct CommitFiles<'a> {
    location: &'a Location,
    version: u64,
    before: Option<TableSnapshot>,
    pub(super) after: TableSnapshot,
    actions: CommitActions,
}

impl<'a> CommitFiles<'a> {
    /// Reads the table before and after a commit, which must be the one that was attested; within, why it is not.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when one of these can no longer be read.
    pub(super) async fn load(location: &'a Location, commit: &CommitLineage) -> Result<std::result::Result<Self, String>> {
        let version = commit.version;
        let after = version_of(location, version).await?;
        let bytes = table::read_commit(location.store().as_ref(), location.root(), version).await.map_err(|e| gone(version, e))?;
        let logged = after.commits.iter().filter(|logged| logged.version == version).map(|logged| logged.digest);
        if let Some(other) = logged.chain([Digest::of(&bytes)]).find(|digest| *digest != commit.commit) {
            let attested = commit.commit;
            return Ok(Err(format!("commit {version} of the log is not the one that was attested: {attested} then, {other} now")));
        }
        let actions = CommitActions::parse(&bytes).map_err(|e| e.with("commit", version))?;
        let before = match version.checked_sub(1) {
            Some(before) => Some(version_of(location, before).await?),
            None => None,
        };
        Ok(Ok(Self { location, version, before, after, actions }))
    }

    /// What it does that no statement does, or none of this kind, whatever its rows are.
    pub(super) fn does_besides(&self, scope: Scope, commit: &CommitLineage) -> Option<String> {
        let feed = || if scope == Scope::Table { None } else { self.states_changes() };
        let table = self.changes_table().or_else(|| self.names_twice()).or_else(|| self.changes_domains());
        table.or_else(feed).or_else(|| self.other_files(commit))
    }

    /// What of it is held against nothing, for people.
    pub(super) fn unheld(&self, scope: Scope) -> Vec<String> {
        let mut notes = Vec::new();
        // An application's own counter tells it what it has written already: it is the application's to set, with any commit.
        let known = |app: &String| self.before.as_ref().and_then(|before| before.transactions.get(app));
        let moved: Vec<&str> =
            self.after.transactions.iter().filter(|(app, version)| known(app) != Some(version)).map(|(app, _)| app.as_str()).collect();
        if !moved.is_empty() {
            notes.push(format!("the commit states how far an application is, which no statement says: {}", moved.join(", ")));
        }
        if scope == Scope::Table && self.states_changes().is_some() {
            notes.push("what the commit says to readers of changes was not compared".to_owned());
        }
        notes
    }

    /// A file that is live twice from this commit on: stock readers may count its rows twice.
    fn names_twice(&self) -> Option<String> {
        let known = |key: &&FileKey| self.before.as_ref().is_some_and(|before| before.duplicates.contains(key));
        let key = self.after.duplicates.iter().find(|key| !known(key))?;
        Some(format!("the commit names {} twice, or in two spellings: readers differ in how often its rows are there", key.path))
    }

    fn changes_domains(&self) -> Option<String> {
        let (before, after) = (&self.before.as_ref()?.domains, &self.after.domains);
        let differs = |domain: &&String| *domain != ROW_TRACKING_DOMAIN && before.get(*domain) != after.get(*domain);
        let domain = before.keys().chain(after.keys()).find(differs)?;
        Some(format!("the commit changes the table's domain metadata {domain}, which the recorded statement does not"))
    }

    /// Files for readers of changes. Where rows are added, or all are replaced, such readers take the files of the table themselves.
    fn states_changes(&self) -> Option<String> {
        let (path, _) = self.after.changes.iter().find(|(_, file)| file.version == self.version)?;
        Some(format!("the commit gives readers of changes {path}, which the recorded statement does not write"))
    }

    /// The files that are attested as written and removed, against those that it adds and removes: lineage follows the former, and rows come of the
    /// latter.
    fn other_files(&self, commit: &CommitLineage) -> Option<String> {
        let attested: BTreeSet<&str> = commit.lineage.outputs.iter().map(|output| output.path.as_str()).collect();
        let added: BTreeSet<&str> = self.actions.adds.iter().map(|file| file.path.as_str()).collect();
        if let Some(path) = added.difference(&attested).next() {
            return Some(format!("the commit adds {path}, which is not attested as written by it"));
        }
        if let Some(path) = attested.difference(&added).next() {
            return Some(format!("{path} is attested as written by the commit, which does not add it"));
        }
        // Attestations of before they said so say nothing of it.
        let attested: BTreeSet<&String> = commit.lineage.removed.as_ref()?.iter().collect();
        let removed = self.actions.removed();
        let removed: BTreeSet<&String> = removed.iter().collect();
        let path = attested.symmetric_difference(&removed).next()?;
        Some(format!("the commit removes other files than it is attested to remove: {path}"))
    }

    /// What it changes of the table besides its files.
    fn changes_table(&self) -> Option<String> {
        let before = self.before.as_ref().filter(|_| self.actions.states_table)?;
        let what = match (before.metadata == self.after.metadata, before.protocol == self.after.protocol) {
            (true, true) => return None,
            (false, _) => "metadata",
            (true, false) => "protocol",
        };
        Some(format!("the commit changes the table's {what}, which the recorded statement does not"))
    }

    fn files_before(&self) -> impl Iterator<Item = &FileKey> {
        self.before.iter().flat_map(|before| before.files.keys())
    }

    /// Whether a file that was live before is live after, and not by being written anew.
    fn is_untouched(&self, key: &FileKey) -> bool {
        self.after.files.get(key).is_some_and(|file| file.added_in != Some(self.version))
    }

    /// An INSERT leaves all files as they are.
    pub(super) fn appended(&self) -> Held {
        match self.files_before().find(|key| !self.is_untouched(key)) {
            Some(key) => Held::differs(format!("the commit {} {}, which the recorded INSERT leaves as it is", self.did(key), key.path)),
            None => Held::default(),
        }
    }

    fn did(&self, key: &FileKey) -> &'static str {
        if self.after.files.contains_key(key) { "adds anew" } else { "removes" }
    }

    /// An INSERT OVERWRITE leaves none of those that it saw.
    pub(super) async fn overwritten(&self) -> Result<Held> {
        let survivors: Vec<&LiveFile> = self.files_before().filter_map(|key| self.after.files.get(key)).map(AsRef::as_ref).collect();
        let Some(first) = survivors.first() else { return Ok(Held::default()) };
        let differs = || Held::differs(format!("the commit leaves {}, which the recorded INSERT OVERWRITE replaces", first.key.path));
        // An overwrite that began before others appended leaves their files. So may this one have been, if there is a version of which it
        // left nothing.
        let Some(since) = survivors.iter().map(|file| file.added_in).min().flatten() else { return Ok(differs()) };
        let Some(began) = since.checked_sub(1) else { return Ok(differs()) };
        let removes = self.files_before().any(|key| !self.after.files.contains_key(key));
        if !removes && !version_of(self.location, began).await?.files.is_empty() {
            return Ok(differs());
        }
        let what =
            "the commit leaves files that were there before it: whether its INSERT OVERWRITE began before they were added is not known";
        Err(Error::new(ErrorKind::Precondition, what).with("file", &first.key.path).with("added by commit", since))
    }

    /// CREATE TABLE AS makes the table.
    pub(super) fn created(&self) -> Held {
        match self.before {
            Some(_) => Held::differs("the table was there before the commit, and the recorded statement makes it".to_owned()),
            None => Held::default(),
        }
    }

    /// A DELETE or an UPDATE touches files of the version that it read, and leaves those that came since.
    ///
    /// # Errors
    /// [`ErrorKind::Precondition`] when the table had lost files of that version before the commit: what the statement left of these is not known.
    pub(super) fn rewritten(&self, read: &TableSnapshot) -> Result<Held> {
        let Some(before) = &self.before else {
            return Ok(Held::differs("the table was not there before the commit, and the recorded statement changes it".to_owned()));
        };
        let same = |file: &LiveFile| before.files.get(&file.key).is_some_and(|now| now.partition_values == file.partition_values);
        if let Some(lost) = read.files.values().find(|file| !same(file)) {
            let what = "the statement is recorded as run over a version of which the table had lost files before the commit";
            return Err(Error::new(ErrorKind::Precondition, what).with("version", read.version).with("file", &lost.key.path));
        }
        let left_out: BTreeSet<FileKey> = self.files_before().filter(|key| !read.files.contains_key(*key)).cloned().collect();
        if let Some(key) = left_out.iter().find(|key| !self.is_untouched(key)) {
            let (did, path, version) = (self.did(key), &key.path, read.version);
            return Ok(Held::differs(format!(
                "the commit {did} {path}, which is not of version {version}, the one that the statement read"
            )));
        }
        Ok(Held { differs: None, left_out })
    }
}

async fn version_of(location: &Location, version: u64) -> Result<TableSnapshot> {
    table::load(location.store().as_ref(), location.root(), Some(version)).await.map_err(|e| gone(version, e))
}

fn gone(version: u64, error: Error) -> Error {
    let kind = if error.is_retryable() { error.kind() } else { ErrorKind::NotFound };
    Error::new(kind, "the table can no longer be read at this version").with("version", version).caused_by(error)
}
