//! The two walks over a graph, and their steps.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{CommitIndex, FileIndex, Graph, InputKind, Reached, Start, TableIndex, WholeReader, index, slot};
use crate::error::{Error, ErrorKind, Result};

/// A step of a walk: a place in its graph, whose [`Graph::reached`] says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    depth: u32,
    commit: u32,
    place: Place,
}

/// What of a commit a walk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Output(u32),
    Input(u32),
    InputFile(u32, u32),
}

impl Graph {
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
    pub fn blast_radius(&self, start: &Start) -> Result<Vec<Step>> {
        let (table, file) = self.start(start)?;
        let mut walk = Downstream {
            graph: self,
            unknown_restores: self.unknown_restores(),
            seen_commits: HashSet::new(),
            seen_files: HashSet::new(),
            whole_readers: HashMap::new(),
            queue: VecDeque::new(),
            out: Vec::new(),
        };
        match file {
            Some(file) => walk.follow(file, start.row_group, 0),
            None => {
                let all = self.files.iter().enumerate().filter(|(_, (of, _))| *of == table);
                let all: Vec<FileIndex> = all.map(|(i, _)| index(i)).collect();
                walk.seen_files.extend(all.iter().copied());
                for file in all {
                    walk.follow(file, None, 0);
                }
                for reader in walk.take_whole_readers(table) {
                    walk.reach(reader.commit, 0);
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
    pub fn upstream(&self, start: &Start) -> Result<Vec<Step>> {
        let (table, file) = self.start(start)?;
        let unknown_restores = self.unknown_restores();
        let mut walk = Upstream { graph: self, unknown_restores, seen: HashSet::new(), queue: VecDeque::new(), out: Vec::new() };
        match file {
            Some(file) => walk.produced(file, 0),
            None => walk.whole(table, None, 0),
        }
        while let Some((commit, depth)) = walk.queue.pop_front() {
            walk.follow(commit, depth);
        }
        Ok(walk.out)
    }

    /// What a step of one of its walks came to.
    pub fn reached(&self, step: Step) -> Option<Reached> {
        let commit = self.commits.get(slot(step.commit))?;
        let (table, version, file, row_groups) = match step.place {
            Place::Output(at) => (commit.table, Some(commit.version), Some(*commit.outputs.get(slot(at))?), None),
            Place::Input(at) => {
                let edge = commit.inputs.get(slot(at))?;
                (edge.table, edge.version, None, None)
            }
            Place::InputFile(at, file) => {
                let edge = commit.inputs.get(slot(at))?;
                let read = edge.files.as_ref()?.get(slot(file))?;
                (edge.table, edge.version, Some(read.file), read.row_groups.as_ref().map(|groups| groups.to_vec()))
            }
        };
        let (uri, kind) = self.tables.get(slot(table)).cloned().unwrap_or((String::new(), InputKind::Table));
        let via = self.tables.get(slot(commit.table)).map(|(uri, _)| uri.clone()).unwrap_or_default();
        Some(Reached {
            depth: step.depth,
            table: uri,
            kind,
            version,
            file: file.and_then(|file| self.files.get(slot(file))).map(|(_, path)| path.to_string()),
            row_groups,
            via_table: via,
            via_version: commit.version,
            operation: self.operations.get(slot(commit.operation)).map(ToString::to_string).unwrap_or_default(),
            derived: commit.derived,
            attested_by: commit.attested_by,
        })
    }

    /// Whether a file may have been among what `reader` read. What is not known counts as live.
    fn may_have_read(&self, reader: &WholeReader, file: FileIndex) -> bool {
        let Some(version) = reader.version else { return true };
        let added = || self.producers.get(&file).into_iter().flatten().filter_map(|commit| self.commits.get(*commit)).map(|c| c.version);
        // Removed and added again by the same commit or a later one: a new deletion vector, or a RESTORE. It is live.
        let is_gone = |removed: &u64| !reader.restores && added().max().is_none_or(|added| added < *removed);
        let removed = self.removed.get(&file).copied().filter(is_gone);
        added().min().is_none_or(|added| added <= version) && removed.is_none_or(|removed| removed > version)
    }
}

struct Downstream<'a> {
    graph: &'a Graph,
    unknown_restores: HashSet<CommitIndex>,
    seen_commits: HashSet<CommitIndex>,
    seen_files: HashSet<FileIndex>,
    /// Those that no file led to so far, of the tables that the walk came to.
    whole_readers: HashMap<TableIndex, Vec<WholeReader>>,
    queue: VecDeque<(FileIndex, u32)>,
    out: Vec<Step>,
}

impl Downstream<'_> {
    fn follow(&mut self, file: FileIndex, row_group: Option<u32>, depth: u32) {
        let graph = self.graph;
        for (commit, input, position) in graph.readers.get(&file).into_iter().flatten() {
            let edge = graph.commits.get(*commit).and_then(|node| node.inputs.get(slot(*input)));
            let read = edge.and_then(|edge| edge.files.as_ref()).and_then(|files| files.get(slot(*position)));
            if read.is_some_and(|read| read.has(row_group)) {
                self.reach(*commit, depth);
            }
        }
        let Some((table, _)) = graph.files.get(slot(file)) else { return };
        let readers = self.take_whole_readers(*table);
        let (reached, left): (Vec<_>, Vec<_>) = readers.into_iter().partition(|reader| graph.may_have_read(reader, file));
        self.whole_readers.insert(*table, left);
        for reader in reached {
            self.reach(reader.commit, depth);
        }
    }

    fn take_whole_readers(&mut self, table: TableIndex) -> Vec<WholeReader> {
        let all = || self.graph.whole_readers.get(&table).into_iter().flatten().copied();
        let counts = |reader: &WholeReader| !reader.restores || self.unknown_restores.contains(&reader.commit);
        self.whole_readers.get_mut(&table).map_or_else(|| all().filter(counts).collect(), std::mem::take)
    }

    fn reach(&mut self, at: CommitIndex, depth: u32) {
        let Some(commit) = self.graph.commits.get(at).filter(|_| self.seen_commits.insert(at)) else { return };
        let depth = depth.saturating_add(1);
        for (position, file) in commit.outputs.iter().enumerate() {
            // A file may be written by several commits (its deletion vector changes): each is told, but followed once.
            self.out.push(Step { depth, commit: index(at), place: Place::Output(index(position)) });
            if self.seen_files.insert(*file) {
                self.queue.push_back((*file, depth));
            }
        }
    }
}

struct Upstream<'a> {
    graph: &'a Graph,
    unknown_restores: HashSet<CommitIndex>,
    seen: HashSet<CommitIndex>,
    queue: VecDeque<(CommitIndex, u32)>,
    out: Vec<Step>,
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
        for (i, edge) in commit.inputs.iter().enumerate() {
            if edge.of_unknown && !self.unknown_restores.contains(&at) {
                continue;
            }
            let step = |place| Step { depth, commit: index(at), place };
            match &edge.files {
                Some(files) => {
                    for (j, read) in files.iter().enumerate() {
                        self.out.push(step(Place::InputFile(index(i), index(j))));
                        self.produced(read.file, depth);
                    }
                }
                None => {
                    self.out.push(step(Place::Input(index(i))));
                    self.whole(edge.table, edge.version, depth);
                }
            }
        }
    }
}
