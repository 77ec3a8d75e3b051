//! Which files came of which, over the commits of many tables: upstream and blast radius.
//!
//! Memory: about 150 bytes per distinct file, 60 per file that a commit reads or writes, and 100 per commit, all bounded; a step of an answer takes 20,
//! and nothing is read while a question is answered. Both walks visit each commit and each file once, so that cycles (a table that is written from
//! itself) end.

mod walk;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::record::{Input, InputFile, InputKind, Lineage};
use super::table::CommitLineage;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyId;

pub use walk::Step;

/// More row groups of one file than this count as all of it.
const ROW_GROUPS_LIMIT: usize = 4096;

/// How much a graph holds: some gigabytes of memory.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Distinct files that are written: more are refused. Half as many again may be named by what reads them first; what a commit reads beyond
    /// counts as a whole table, for what one writer says it read must not keep the lineage of all tables from being asked.
    files: usize,
    /// Files and row groups that all commits together read, likewise; and files that they wrote, which are refused beyond.
    edges: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 16_000_000, edges: 64_000_000 }
    }
}

/// Where a walk begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The table's canonical URL.
    pub table: String,
    /// A file of it, by canonical path; else all.
    pub file: Option<String>,
    /// A row group of the file.
    pub row_group: Option<u32>,
}

/// Something that a walk came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Steps from the start: 1 is next to it.
    pub depth: u32,
    /// The table's URL, or the source's name.
    pub table: String,
    /// What it is.
    pub kind: InputKind,
    /// Downstream, the version that wrote the file; upstream, the version that was read. Absent for sources.
    pub version: Option<u64>,
    /// The file; absent when any that was live may be meant.
    pub file: Option<String>,
    /// Upstream, the row groups that were read; absent for all, or when it is not known.
    pub row_groups: Option<Vec<u32>>,
    /// The commit that makes the connection: its table.
    pub via_table: String,
    /// Its version.
    pub via_version: u64,
    /// Its operation.
    pub operation: String,
    /// Whether its lineage was derived from the log.
    pub derived: bool,
    /// Who attested it.
    pub attested_by: Option<KeyId>,
}

type TableIndex = u32;
type FileIndex = u32;
type CommitIndex = usize;

struct Edge {
    table: TableIndex,
    version: Option<u64>,
    files: Option<Box<[ReadFile]>>,
    /// It counts only while some file that the commit says it restored is not known from before.
    of_unknown: bool,
}

/// A commit that read a table without it being known which files.
#[derive(Clone, Copy)]
struct WholeReader {
    commit: CommitIndex,
    version: Option<u64>,
    /// It restored what may have been removed long before; as [`Edge::of_unknown`].
    restores: bool,
}

struct ReadFile {
    file: FileIndex,
    row_groups: Option<Box<[u32]>>,
}

impl ReadFile {
    fn has(&self, row_group: Option<u32>) -> bool {
        match (&self.row_groups, row_group) {
            (Some(read), Some(row_group)) => read.contains(&row_group),
            _ => true,
        }
    }
}

struct Node {
    table: TableIndex,
    version: u64,
    operation: u32,
    derived: bool,
    attested_by: Option<KeyId>,
    outputs: Box<[FileIndex]>,
    inputs: Box<[Edge]>,
}

/// The lineage of some tables in compact form.
#[derive(Default)]
pub struct Graph {
    tables: Vec<(String, InputKind)>,
    table_index: HashMap<String, TableIndex>,
    /// Other URLs of tables.
    aliases: HashMap<String, String>,
    files: Vec<(TableIndex, Arc<str>)>,
    /// By table, then by path.
    file_index: Vec<HashMap<Arc<str>, FileIndex>>,
    operations: Vec<Arc<str>>,
    operation_index: HashMap<Arc<str>, u32>,
    limits: Limits,
    /// Files and row groups that commits read.
    read: usize,
    /// Files that commits wrote.
    written: usize,
    /// Distinct files that were named first by what reads or removes them.
    only_read: usize,
    commits: Vec<Node>,
    by_table: HashMap<TableIndex, Vec<CommitIndex>>,
    producers: HashMap<FileIndex, Vec<CommitIndex>>,
    /// Commits that read a file, with the positions of input and file.
    readers: HashMap<FileIndex, Vec<(CommitIndex, u32, u32)>>,
    whole_readers: HashMap<TableIndex, Vec<WholeReader>>,
    /// The newest version that removed a file.
    removed: HashMap<FileIndex, u64>,
    incomplete: usize,
    coarse: usize,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph")
            .field("tables", &self.tables.len())
            .field("files", &self.files.len())
            .field("commits", &self.commits.len())
            .finish_non_exhaustive()
    }
}

fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn slot(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// What a file that is read takes.
fn edges(file: &InputFile) -> usize {
    row_groups(file).map_or(1, |groups| groups.len().saturating_add(1))
}

/// The row groups of a file that are kept.
fn row_groups(file: &InputFile) -> Option<&Vec<u32>> {
    file.row_groups.as_ref().filter(|groups| groups.len() <= ROW_GROUPS_LIMIT)
}

impl Graph {
    /// A graph of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many commits of it wrote files whose origin is not known, or not wholly: no walk can cross what is missing there.
    pub fn incomplete(&self) -> usize {
        self.incomplete.saturating_add(self.unknown_restores().len())
    }

    /// How many inputs of commits named more files than it holds: they count as having read every file that was live.
    pub fn coarse(&self) -> usize {
        self.coarse
    }

    /// The tables that commits of it read and of which it has no commit: no walk can cross them.
    pub fn unknown_tables(&self) -> Vec<&str> {
        let known = |table: usize| self.by_table.contains_key(&index(table));
        let tables = self.tables.iter().enumerate().filter(|(at, (_, kind))| *kind == InputKind::Table && !known(*at));
        tables.map(|(_, (uri, _))| uri.as_str()).collect()
    }

    /// How many files, of tables of which it has commits, were read though none of these wrote them.
    pub fn unknown_files(&self) -> usize {
        let is_read = |file: &FileIndex| self.readers.contains_key(file) && !self.producers.contains_key(file);
        let of_known = |table: &TableIndex| self.by_table.contains_key(table);
        let files = self.files.iter().enumerate().filter(|(at, (table, _))| of_known(table) && is_read(&index(*at)));
        files.count()
    }

    /// Adds a commit of the table at `table`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when more files were written than memory is meant for.
    pub fn add(&mut self, table: &str, commit: &CommitLineage) -> Result<()> {
        let lineage = &commit.lineage;
        self.written = self.written.saturating_add(lineage.outputs.len());
        let files = self.files.len().saturating_sub(self.only_read).saturating_add(lineage.outputs.len());
        if self.written > self.limits.edges || files > self.limits.files {
            return Err(Error::new(ErrorKind::Unsupported, "more files were written than one walk is made for")
                .with("limit", self.limits.files)
                .with("table", table));
        }
        let own = self.table(table, InputKind::Table);
        let at = self.commits.len();
        let outputs: Box<[FileIndex]> = lineage.outputs.iter().map(|output| self.file(own, &output.path)).collect();
        for file in &outputs {
            self.producers.entry(*file).or_default().push(at);
        }
        self.remove(own, commit.version, lineage);
        let mut inputs = Vec::with_capacity(lineage.inputs.len());
        for input in &lineage.inputs {
            let read = self.table(&input.uri, input.kind);
            let files = self.read_files(read, input);
            inputs.push(self.edge(at, index(inputs.len()), Edge { table: read, version: input.version, files, of_unknown: false }));
        }
        // Nobody but its label says that it restored.
        if commit.claims_restore() {
            let before = commit.version.checked_sub(1);
            inputs.push(self.edge(at, index(inputs.len()), Edge { table: own, version: before, files: None, of_unknown: true }));
        }
        self.incomplete += usize::from(!lineage.inputs_complete && !outputs.is_empty());
        let operation = self.operation(&lineage.operation);
        self.by_table.entry(own).or_default().push(at);
        self.commits.push(Node {
            table: own,
            version: commit.version,
            operation,
            derived: lineage.derived,
            attested_by: commit.attested_by,
            outputs,
            inputs: inputs.into_boxed_slice(),
        });
        Ok(())
    }

    /// Notes what a commit removed. What is not noted counts as live.
    fn remove(&mut self, own: TableIndex, version: u64, lineage: &Lineage) {
        let Some(removed) = lineage.removed.as_ref().filter(|removed| self.has_room(removed.len(), removed.len())) else { return };
        self.read = self.read.saturating_add(removed.len());
        let known = self.files.len();
        for path in removed {
            let file = self.file(own, path);
            let newest = self.removed.entry(file).or_default();
            *newest = version.max(*newest);
        }
        self.only_read += self.files.len() - known;
    }

    /// The files of an input as far as there is room; `None` when any that was live may be meant.
    fn read_files(&mut self, table: TableIndex, input: &Input) -> Option<Box<[ReadFile]>> {
        let files = input.files.as_ref()?;
        let wanted = files.iter().map(edges).fold(0, usize::saturating_add);
        if !self.has_room(files.len(), wanted) {
            self.coarse += 1;
            return None;
        }
        self.read = self.read.saturating_add(wanted);
        let known = self.files.len();
        let read = files.iter().map(|file| ReadFile {
            file: self.file(table, &file.path),
            row_groups: row_groups(file).map(|groups| groups.clone().into_boxed_slice()),
        });
        let read = read.collect();
        self.only_read += self.files.len() - known;
        Some(read)
    }

    fn has_room(&self, files: usize, edges: usize) -> bool {
        self.read.saturating_add(edges) <= self.limits.edges && self.only_read.saturating_add(files) <= self.limits.files / 2
    }

    /// Lets an edge be found from what it reads. `commit` is its commit, `position` its place there.
    fn edge(&mut self, commit: CommitIndex, position: u32, edge: Edge) -> Edge {
        match &edge.files {
            Some(files) => {
                for (j, file) in files.iter().enumerate() {
                    self.readers.entry(file.file).or_default().push((commit, position, index(j)));
                }
            }
            None => {
                let reader = WholeReader { commit, version: edge.version, restores: edge.of_unknown };
                self.whole_readers.entry(edge.table).or_default().push(reader);
            }
        }
        edge
    }

    /// Commits that say they restored files of which some are not known from before: these may be made from anything.
    fn unknown_restores(&self) -> HashSet<CommitIndex> {
        let says_so = |commit: &Node| commit.inputs.iter().any(|edge| edge.of_unknown);
        let restores = self.commits.iter().enumerate().filter(|(_, commit)| says_so(commit));
        restores.filter(|(_, commit)| !self.was_known_before(commit)).map(|(at, _)| at).collect()
    }

    fn was_known_before(&self, commit: &Node) -> bool {
        let version_of = |at: &CommitIndex| self.commits.get(*at).map(|commit| commit.version);
        commit.outputs.iter().all(|file| {
            let producers = self.producers.get(file).into_iter().flatten();
            producers.filter_map(version_of).any(|version| version < commit.version)
        })
    }

    /// Says that `alias` is another URL of the table at `uri`, before commits are added that may name it.
    pub fn alias(&mut self, alias: &str, uri: &str) {
        self.aliases.insert(alias.trim_end_matches('/').to_owned(), uri.to_owned());
    }

    fn table(&mut self, uri: &str, kind: InputKind) -> TableIndex {
        let alias = self.aliases.get(uri.trim_end_matches('/')).filter(|_| kind == InputKind::Table).cloned();
        let uri = alias.as_deref().unwrap_or(uri);
        if let Some(known) = self.table_index.get(uri) {
            return *known;
        }
        let new = index(self.tables.len());
        self.tables.push((uri.to_owned(), kind));
        self.table_index.insert(uri.to_owned(), new);
        new
    }

    fn file(&mut self, table: TableIndex, path: &str) -> FileIndex {
        let at = slot(table);
        if self.file_index.len() <= at {
            self.file_index.resize_with(at.saturating_add(1), HashMap::new);
        }
        let new = index(self.files.len());
        let Some(known) = self.file_index.get_mut(at) else { return new };
        if let Some(known) = known.get(path) {
            return *known;
        }
        let path: Arc<str> = path.into();
        known.insert(path.clone(), new);
        self.files.push((table, path));
        new
    }

    fn operation(&mut self, name: &str) -> u32 {
        if let Some(known) = self.operation_index.get(name) {
            return *known;
        }
        let (new, name) = (index(self.operations.len()), Arc::<str>::from(name));
        self.operations.push(name.clone());
        self.operation_index.insert(name, new);
        new
    }
}

#[cfg(test)]
mod tests;
