//! Which files came of which, over the commits of many tables: upstream and blast radius.
//!
//! Memory: about 150 bytes per distinct file and 100 per commit; nothing is read while a question is answered. Both walks visit each commit and
//! each file once, so that cycles (a table that is written from itself) end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::record::InputKind;
use super::table::CommitLineage;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyId;

/// More distinct files than this are refused: some gigabytes of memory.
const FILES_LIMIT: usize = 16_000_000;

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
    files: Vec<(TableIndex, Arc<str>)>,
    /// By table, then by path.
    file_index: Vec<HashMap<Arc<str>, FileIndex>>,
    operations: Vec<String>,
    commits: Vec<Node>,
    by_table: HashMap<TableIndex, Vec<CommitIndex>>,
    producers: HashMap<FileIndex, Vec<CommitIndex>>,
    /// Commits that read a file, with the positions of input and file.
    readers: HashMap<FileIndex, Vec<(CommitIndex, u32, u32)>>,
    /// Commits that read a table without it being known which files.
    whole_readers: HashMap<TableIndex, Vec<(CommitIndex, Option<u64>)>>,
    /// By derived commits: the newest version that removed a file.
    removed: HashMap<FileIndex, u64>,
    incomplete: usize,
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

impl Graph {
    /// A graph of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many commits of it wrote files whose origin is not known, or not wholly: no walk can cross what is missing there.
    pub fn incomplete(&self) -> usize {
        self.incomplete
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
    /// [`ErrorKind::Unsupported`] when there are more files than memory is meant for.
    pub fn add(&mut self, table: &str, commit: &CommitLineage) -> Result<()> {
        if self.files.len() > FILES_LIMIT {
            return Err(
                Error::new(ErrorKind::Unsupported, "the lineage names more files than one walk is made for").with("limit", FILES_LIMIT)
            );
        }
        let lineage = &commit.lineage;
        let own = self.table(table, InputKind::Table);
        let at = self.commits.len();
        let outputs: Box<[FileIndex]> = lineage.outputs.iter().map(|output| self.file(own, &output.path)).collect();
        for file in &outputs {
            self.producers.entry(*file).or_default().push(at);
        }
        let mut inputs = Vec::with_capacity(lineage.inputs.len());
        for (i, input) in lineage.inputs.iter().enumerate() {
            let read = self.table(&input.uri, input.kind);
            let files = input.files.as_ref().map(|files| {
                files.iter().map(|file| ReadFile {
                    file: self.file(read, &file.path),
                    row_groups: file.row_groups.as_ref().map(|groups| groups.clone().into_boxed_slice()),
                })
            });
            let files: Option<Box<[ReadFile]>> = files.map(Iterator::collect);
            match &files {
                Some(files) => {
                    for (j, file) in files.iter().enumerate() {
                        self.readers.entry(file.file).or_default().push((at, index(i), index(j)));
                        if lineage.derived && read == own {
                            let removed = self.removed.entry(file.file).or_default();
                            *removed = commit.version.max(*removed);
                        }
                    }
                }
                None => self.whole_readers.entry(read).or_default().push((at, input.version)),
            }
            inputs.push(Edge { table: read, version: input.version, files });
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

    fn table(&mut self, uri: &str, kind: InputKind) -> TableIndex {
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
        match self.operations.iter().position(|known| known == name) {
            Some(known) => index(known),
            None => {
                self.operations.push(name.to_owned());
                index(self.operations.len() - 1)
            }
        }
    }

    fn start(&self, start: &Start) -> Result<(TableIndex, Option<FileIndex>)> {
        let missing = |what: &str| Error::new(ErrorKind::NotFound, what).with("table", &start.table);
        let table = *self.table_index.get(&start.table).ok_or_else(|| missing("no lineage speaks of the table"))?;
        let Some(path) = &start.file else { return Ok((table, None)) };
        let file = self.file_index.get(slot(table)).and_then(|files| files.get(path.as_str()));
        let file =
            *file.ok_or_else(|| missing("no lineage speaks of the file: see `lineage` for the files that it knows").with("file", path))?;
        Ok((table, Some(file)))
    }

    /// Everything that came of the start, over any number of steps and tables, nearest first.
    ///
    /// A commit that read the file, or any row group in question of it, is taken to have carried it into all that it wrote.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a table or file that no lineage speaks of.
    pub fn blast_radius(&self, start: &Start) -> Result<Vec<Reached>> {
        let (table, file) = self.start(start)?;
        let mut walk =
            Downstream { graph: self, seen_commits: HashSet::new(), seen_files: HashSet::new(), queue: VecDeque::new(), out: Vec::new() };
        match file {
            Some(file) => walk.follow(file, start.row_group, 0),
            None => {
                let all = self.files.iter().enumerate().filter(|(_, (of, _))| *of == table);
                let all: Vec<FileIndex> = all.map(|(i, _)| index(i)).collect();
                walk.seen_files.extend(all.iter().copied());
                for file in all {
                    walk.follow(file, None, 0);
                }
                for (commit, _) in self.whole_readers.get(&table).into_iter().flatten() {
                    walk.reach(*commit, 0);
                }
            }
        }
        while let Some((file, depth)) = walk.queue.pop_front() {
            walk.follow(file, None, depth);
        }
        Ok(walk.out)
    }

    /// Everything that the start was made from, nearest first.
    ///
    /// # Errors
    /// As [`Self::blast_radius`].
    pub fn upstream(&self, start: &Start) -> Result<Vec<Reached>> {
        let (table, file) = self.start(start)?;
        let mut walk = Upstream { graph: self, seen: HashSet::new(), queue: VecDeque::new(), out: Vec::new() };
        match file {
            Some(file) => walk.produced(file, 0),
            None => walk.whole(table, None, 0),
        }
        while let Some((commit, depth)) = walk.queue.pop_front() {
            walk.follow(commit, depth);
        }
        Ok(walk.out)
    }

    fn reached(&self, depth: u32, table: TableIndex, commit: &Node) -> Reached {
        let (uri, kind) = self.tables.get(slot(table)).cloned().unwrap_or((String::new(), InputKind::Table));
        let via = self.tables.get(slot(commit.table)).map(|(uri, _)| uri.clone()).unwrap_or_default();
        Reached {
            depth,
            table: uri,
            kind,
            version: None,
            file: None,
            row_groups: None,
            via_table: via,
            via_version: commit.version,
            operation: self.operations.get(slot(commit.operation)).cloned().unwrap_or_default(),
            derived: commit.derived,
            attested_by: commit.attested_by,
        }
    }

    fn path(&self, file: FileIndex) -> Option<String> {
        self.files.get(slot(file)).map(|(_, path)| path.to_string())
    }

    /// Whether a file may have been live at `version`. What is not known counts as live.
    fn may_be_live(&self, file: FileIndex, version: Option<u64>) -> bool {
        let Some(version) = version else { return true };
        let added = || self.producers.get(&file).into_iter().flatten().filter_map(|commit| self.commits.get(*commit)).map(|c| c.version);
        // Removed and added again by the same commit or a later one: a new deletion vector, or a RESTORE. It is live.
        let is_gone = |removed: &u64| added().max().is_none_or(|added| added < *removed);
        let removed = self.removed.get(&file).copied().filter(is_gone);
        added().min().is_none_or(|added| added <= version) && removed.is_none_or(|removed| removed > version)
    }
}

struct Downstream<'a> {
    graph: &'a Graph,
    seen_commits: HashSet<CommitIndex>,
    seen_files: HashSet<FileIndex>,
    queue: VecDeque<(FileIndex, u32)>,
    out: Vec<Reached>,
}

impl Downstream<'_> {
    fn follow(&mut self, file: FileIndex, row_group: Option<u32>, depth: u32) {
        for (commit, input, position) in self.graph.readers.get(&file).into_iter().flatten() {
            let edge = self.graph.commits.get(*commit).and_then(|node| node.inputs.get(slot(*input)));
            let read = edge.and_then(|edge| edge.files.as_ref()).and_then(|files| files.get(slot(*position)));
            if read.is_some_and(|read| read.has(row_group)) {
                self.reach(*commit, depth);
            }
        }
        let table = self.graph.files.get(slot(file)).map(|(table, _)| *table);
        for (commit, version) in table.and_then(|table| self.graph.whole_readers.get(&table)).into_iter().flatten() {
            if self.graph.may_be_live(file, *version) {
                self.reach(*commit, depth);
            }
        }
    }

    fn reach(&mut self, at: CommitIndex, depth: u32) {
        let Some(commit) = self.graph.commits.get(at).filter(|_| self.seen_commits.insert(at)) else { return };
        let depth = depth.saturating_add(1);
        for file in &commit.outputs {
            // A file may be written by several commits (its deletion vector changes): each is told, but followed once.
            let mut reached = self.graph.reached(depth, commit.table, commit);
            reached.version = Some(commit.version);
            reached.file = self.graph.path(*file);
            self.out.push(reached);
            if self.seen_files.insert(*file) {
                self.queue.push_back((*file, depth));
            }
        }
    }
}

struct Upstream<'a> {
    graph: &'a Graph,
    seen: HashSet<CommitIndex>,
    queue: VecDeque<(CommitIndex, u32)>,
    out: Vec<Reached>,
}

impl Upstream<'_> {
    fn produced(&mut self, file: FileIndex, depth: u32) {
        for commit in self.graph.producers.get(&file).into_iter().flatten() {
            self.push(*commit, depth);
        }
    }

    fn whole(&mut self, table: TableIndex, until: Option<u64>, depth: u32) {
        for commit in self.graph.by_table.get(&table).into_iter().flatten() {
            let version = self.graph.commits.get(*commit).map(|node| node.version);
            if until.is_none_or(|until| version.is_some_and(|version| version <= until)) {
                self.push(*commit, depth);
            }
        }
    }

    fn push(&mut self, commit: CommitIndex, depth: u32) {
        if self.seen.insert(commit) {
            self.queue.push_back((commit, depth));
        }
    }

    fn follow(&mut self, at: CommitIndex, depth: u32) {
        let Some(commit) = self.graph.commits.get(at) else { return };
        let depth = depth.saturating_add(1);
        for edge in &commit.inputs {
            let reached = Reached { version: edge.version, ..self.graph.reached(depth, edge.table, commit) };
            match &edge.files {
                Some(files) => {
                    for read in files {
                        let row_groups = read.row_groups.as_ref().map(|groups| groups.to_vec());
                        self.out.push(Reached { file: self.graph.path(read.file), row_groups, ..reached.clone() });
                        self.produced(read.file, depth);
                    }
                }
                None => {
                    self.out.push(reached);
                    self.whole(edge.table, edge.version, depth);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
