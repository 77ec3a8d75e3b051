//! Actions folded into a state, one after the other, as the Delta protocol says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::path::Path;
use serde_json::{Map, Value};

use super::action::{Once, RawKey, corrupt, deletion_vector, integer, live_file, nulls_stripped, text, without_nulls};
use super::{ChangeFile, FileKey, LiveFile, TypedAdd, canonical_path};
use crate::error::Result;

/// The state of a table while its actions are replayed.
#[derive(Debug, Default, Clone)]
pub(super) struct Replay {
    root: Path,
    pub(super) protocol: Option<Value>,
    pub(super) metadata: Option<Value>,
    pub(super) domains: BTreeMap<String, Value>,
    pub(super) transactions: BTreeMap<String, i64>,
    pub(super) tombstones: BTreeMap<FileKey, Option<i64>>,
    /// Change-data files, by canonical path.
    pub(super) changes: BTreeMap<String, ChangeFile>,
    /// What a checkpoint repeats in typed form, for files whose text form is there too.
    pub(super) typed: BTreeMap<FileKey, TypedAdd>,
    /// Files that were live before the first line and that no line has named, while none has named any: [`Self::unfold`] comes first.
    known: BTreeMap<FileKey, Arc<LiveFile>>,
    live: BTreeMap<RawKey, Arc<LiveFile>>,
    spellings: BTreeMap<FileKey, BTreeSet<RawKey>>,
    /// Spellings of removed files that nobody removed by that spelling: readers that compare spellings still see them.
    leftover: BTreeMap<FileKey, BTreeSet<RawKey>>,
    /// Files that one commit names twice, until another removes them.
    ambiguous: BTreeSet<FileKey>,
}

/// What one commit says of itself, and which files it has named.
#[derive(Debug, Default)]
pub(super) struct CommitScope {
    pub(super) version: Option<u64>,
    pub(super) operation: Option<String>,
    pub(super) timestamp_ms: Option<i64>,
    in_commit_timestamp: bool,
    /// The files that it has named, and whether it adds them.
    named: BTreeMap<FileKey, bool>,
    /// What it has named that it may name once.
    once: Once,
}

impl CommitScope {
    pub(super) fn of(version: Option<u64>) -> Self {
        Self { version, ..Self::default() }
    }
}

impl Replay {
    pub(super) fn new(root: Path) -> Self {
        Self { root, ..Self::default() }
    }

    /// A state of which it is known which files were live, no two under one name, and which were removed.
    pub(super) fn with_files(root: Path, files: impl Iterator<Item = Arc<LiveFile>>, tombstones: BTreeMap<FileKey, Option<i64>>) -> Self {
        let known = files.map(|file| (file.key.clone(), file)).collect();
        Self { root, known, tombstones, ..Self::default() }
    }

    /// Keeps the files that are known by their spellings, which whatever adds or removes one needs.
    fn unfold(&mut self) {
        for (key, file) in std::mem::take(&mut self.known) {
            let raw = (file.raw_path.clone(), key.deletion_vector.clone());
            self.spellings.entry(key).or_default().insert(raw.clone());
            self.live.insert(raw, file);
        }
    }

    /// Applies one line of a commit, or one row of a checkpoint.
    pub(super) fn apply(&mut self, line: Value, scope: &mut CommitScope) -> Result<()> {
        let Value::Object(line) = line else { return Err(corrupt("a line of the log is not a JSON object")) };
        let mut actions = line.into_iter().filter(|(_, body)| !body.is_null());
        let Some((name, body)) = actions.next() else { return Ok(()) };
        if actions.next().is_some() {
            return Err(corrupt("a line of the log holds more than one action"));
        }
        let Value::Object(body) = body else {
            return Err(corrupt("an action of the log is not a JSON object").with("action", name));
        };
        self.apply_action(&name, body, scope).map_err(|e| e.with("action", name))
    }

    fn apply_action(&mut self, name: &str, body: Map<String, Value>, scope: &mut CommitScope) -> Result<()> {
        scope.once.note(name, &body)?;
        match name {
            "add" => self.add(body, scope)?,
            "remove" => self.remove(&body, scope)?,
            "metaData" => self.metadata = Some(Value::Object(without_nulls(body))),
            "protocol" => self.protocol = Some(Value::Object(without_nulls(body))),
            "txn" => {
                self.transactions.insert(text(&body, "appId")?, integer(&body, "version")?);
            }
            "domainMetadata" => {
                let domain = text(&body, "domain")?;
                if body.get("removed").and_then(Value::as_bool).unwrap_or(false) {
                    self.domains.remove(&domain);
                } else {
                    self.domains.insert(domain, Value::Object(without_nulls(body)));
                }
            }
            "commitInfo" => commit_info(&body, scope),
            "cdc" => self.note_changes(&body, scope)?,
            // sidecar and checkpointMetadata belong to checkpoints; Delta says to ignore others.
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, body: Map<String, Value>, scope: &mut CommitScope) -> Result<()> {
        self.unfold();
        let typed = TypedAdd::of(&body);
        let file = live_file(&self.root, body, scope.version)?;
        let key = file.key.clone();
        match typed {
            Some(typed) => drop(self.typed.insert(key.clone(), typed)),
            None => drop(self.typed.remove(&key)),
        }
        if scope.named.insert(key.clone(), true).is_some() {
            self.ambiguous.insert(key.clone());
        }
        let raw = (file.raw_path.clone(), key.deletion_vector.clone());
        self.tombstones.remove(&key);
        self.no_leftover(&key, &raw);
        self.spellings.entry(key).or_default().insert(raw.clone());
        self.live.insert(raw, Arc::new(file));
        Ok(())
    }

    /// Change-data files are no part of the state, but of what a commit says.
    fn note_changes(&mut self, body: &Map<String, Value>, scope: &CommitScope) -> Result<()> {
        let canonical = canonical_path(&text(body, "path")?);
        let file = ChangeFile {
            location: canonical.location(&self.root),
            size: body.get("size").and_then(Value::as_u64),
            version: scope.version.unwrap_or_default(),
        };
        self.changes.insert(canonical.as_str().to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, body: &Map<String, Value>, scope: &mut CommitScope) -> Result<()> {
        self.unfold();
        let path = text(body, "path")?;
        let deletion_vector = deletion_vector(body)?.map(|(id, _)| id);
        let key = FileKey { path: canonical_path(&path).as_str().to_owned(), deletion_vector: deletion_vector.clone() };
        let adds_too = scope.named.get(&key).copied().unwrap_or(false);
        scope.named.insert(key.clone(), adds_too);
        let raw = (path, deletion_vector);
        for spelling in self.spellings.remove(&key).unwrap_or_default() {
            self.live.remove(&spelling);
            self.leftover.entry(key.clone()).or_default().insert(spelling);
        }
        self.no_leftover(&key, &raw);
        if adds_too {
            self.ambiguous.insert(key.clone());
        } else if !self.leftover.contains_key(&key) {
            // Whatever readers made of it before, it is gone for all of them.
            self.ambiguous.remove(&key);
        }
        self.tombstones.insert(key, body.get("deletionTimestamp").and_then(Value::as_i64));
        Ok(())
    }

    fn no_leftover(&mut self, key: &FileKey, raw: &RawKey) {
        if let Some(spellings) = self.leftover.get_mut(key) {
            spellings.remove(raw);
            if spellings.is_empty() {
                self.leftover.remove(key);
            }
        }
    }

    /// The live files by name, and the names that are wrong: alive twice, or spelled or ordered so that readers disagree.
    pub(super) fn files(&self) -> (BTreeMap<FileKey, Arc<LiveFile>>, Vec<FileKey>) {
        let mut wrong = self.ambiguous.clone();
        wrong.extend(self.leftover.keys().cloned());
        // Either these are all, or there are none of them.
        let mut files = self.known.clone();
        for file in self.live.values() {
            if files.insert(file.key.clone(), Arc::clone(file)).is_some() {
                wrong.insert(file.key.clone());
            }
        }
        let mut previous: Option<&FileKey> = None;
        for key in files.keys() {
            if let Some(before) = previous.filter(|before| before.path == key.path) {
                wrong.extend([before.clone(), key.clone()]);
            }
            previous = Some(key);
        }
        wrong.extend(self.colliding(&files));
        (files, wrong.into_iter().collect())
    }

    /// Files with different names that one object holds: stores encode some characters of names.
    fn colliding(&self, files: &BTreeMap<FileKey, Arc<LiveFile>>) -> Vec<FileKey> {
        let mut by_object: BTreeMap<&str, Vec<&FileKey>> = BTreeMap::new();
        for (key, file) in files {
            let stored = file.location.as_ref().and_then(|location| location.as_ref().strip_prefix(self.root.as_ref()));
            let stored = stored.map_or(key.path.as_str(), |stored| stored.trim_start_matches('/'));
            if stored != key.path {
                by_object.entry(stored).or_default().push(key);
            }
        }
        for (stored, keys) in &mut by_object {
            let plain = FileKey { path: (*stored).to_owned(), deletion_vector: None };
            keys.extend(files.range(plain..).map(|(key, _)| key).take_while(|key| key.path == *stored));
        }
        by_object.into_values().filter(|keys| keys.len() > 1).flatten().cloned().collect()
    }

    /// Says of files that came from a checkpoint which commit added them.
    pub(super) fn note_origins(&mut self, added: &BTreeMap<(String, Option<String>), u64>) {
        self.unfold();
        for (raw, file) in &mut self.live {
            if let (None, Some(version)) = (file.added_in, added.get(raw)) {
                Arc::make_mut(file).added_in = Some(*version);
            }
        }
    }
}

impl TypedAdd {
    /// What `add` says twice: once as text, once typed.
    fn of(body: &Map<String, Value>) -> Option<Self> {
        let there = |name: &str| body.get(name).filter(|value| !value.is_null());
        let stats = there("stats").and_then(|_| there("stats_parsed")).cloned().map(nulls_stripped);
        let partition_values = there("partitionValues_parsed").cloned();
        (stats.is_some() || partition_values.is_some()).then_some(Self { stats, partition_values })
    }
}

fn commit_info(body: &Map<String, Value>, scope: &mut CommitScope) {
    if let Some(operation) = body.get("operation").and_then(Value::as_str) {
        scope.operation = Some(operation.to_owned());
    }
    if let Some(timestamp) = body.get("inCommitTimestamp").and_then(Value::as_i64) {
        scope.timestamp_ms = Some(timestamp);
        scope.in_commit_timestamp = true;
    } else if !scope.in_commit_timestamp {
        scope.timestamp_ms = body.get("timestamp").and_then(Value::as_i64).or(scope.timestamp_ms);
    }
}
