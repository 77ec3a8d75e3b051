//! Reading the lineage of one table, and of all that a session knows, and saying what is not known of it.

use std::collections::BTreeMap;

use super::catalog::Resolver;
use super::open::{newest_trust, under_newest_root};
use crate::baseline::Writers;
use crate::delta::{self, Location};
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::{CommitLineage, Gaps, Graph, LineageSource, TableLineage, read_commit_lineage, read_table_lineage};

impl Resolver {
    /// The writers whose attestations count for the table at `location`: those that the newest trust root beside it lists.
    async fn writers_of(&self, location: &Location) -> Result<Writers> {
        let trust = newest_trust(location, self.trust.as_ref()).await?;
        Ok(under_newest_root(trust.as_ref(), &self.options).writers)
    }

    /// The lineage of the table at `location`.
    pub(super) async fn lineage(&self, location: &Location) -> Result<TableLineage> {
        let writers = self.writers_of(location).await?;
        read_table_lineage(lineage_source(location, &writers)).await
    }

    /// Keeps what is not known of a table's lineage.
    pub(super) fn note_gaps(&self, name: &str, gaps: &Gaps) {
        for (from, to) in &gaps.forgotten {
            self.note(format!("{name}: nothing is known of versions {from} to {to}: log cleanup took their commits"));
        }
        for (version, why) in &gaps.unreadable {
            self.note(format!(
                "{name}: the attestation of version {version} cannot be read, so what its commit says itself is shown: {why}"
            ));
        }
    }

    /// The tables of the lake and of the session, by URL, with the names that people use.
    pub(super) async fn names(&self) -> Result<BTreeMap<String, String>> {
        let known = self.known_locations().await?;
        Ok(known.into_iter().map(|(name, location)| (location.url().to_string(), name)).collect())
    }

    async fn known_locations(&self) -> Result<Vec<(String, Location)>> {
        let mut known = Vec::new();
        if let Some(lake) = &self.lake {
            for name in delta::tables(lake.store.as_ref()).await? {
                let location = Location::in_lake(lake, &name)?;
                known.push((name, location));
            }
        }
        known.extend(self.registered.read().iter().map(|(name, location)| (name.clone(), location.clone())));
        Ok(known)
    }
}

/// Where to look for a table's lineage.
fn lineage_source<'a>(location: &'a Location, writers: &'a Writers) -> LineageSource<'a> {
    LineageSource { store: location.store().as_ref(), root: location.root(), location: location.url().as_str(), writers: writers.keys() }
}

/// The lineage of all tables that the session knows, and of `start`'s.
pub(crate) async fn load_graph(resolver: &Resolver, start: &Location) -> Result<(Graph, BTreeMap<String, String>)> {
    let mut graph = Graph::new();
    let mut names = BTreeMap::new();
    let mut known = resolver.known_locations().await?;
    if !known.iter().any(|(_, location)| location.url() == start.url()) {
        known.push((start.name().to_owned(), start.clone()));
    }
    for (name, location) in known {
        let url = location.url().to_string();
        if names.contains_key(&url) {
            continue;
        }
        let mut failed = None;
        let read = match resolver.writers_of(&location).await {
            Ok(writers) => {
                let sink = |commit| {
                    if failed.is_none() {
                        failed = graph.add(&url, &commit).err();
                    }
                };
                read_commit_lineage(lineage_source(&location, &writers), sink).await
            }
            Err(error) => Err(error),
        };
        if let Some(error) = failed {
            return Err(error);
        }
        match read {
            Ok(gaps) => resolver.note_gaps(&name, &gaps),
            Err(error) if location.url() == start.url() => return Err(error.with("table", &name)),
            // One table that cannot be read must not hide what the others say; nor be hidden itself.
            Err(error) => resolver.note(format!("{name}: its lineage could not be read, so what went through it is not followed: {error}")),
        }
        names.insert(url, name);
    }
    if graph.incomplete() > 0 {
        resolver.note(format!(
            "{} commit(s) wrote files whose origin nobody recorded: what they carried on is not followed",
            graph.incomplete()
        ));
    }
    for uri in graph.unknown_tables() {
        let name = names.get(uri).map_or(uri, String::as_str);
        resolver.note(format!(
            "{name}: commits were made from it, and nothing is known of its own (it is gone, or no table of the lake: name it with --table \
             NAME=TABLE): what went through it is not followed"
        ));
    }
    if graph.unknown_files() > 0 {
        resolver
            .note(format!("{} file(s) were read that no known commit wrote: where they came from is not followed", graph.unknown_files()));
    }
    Ok((graph, names))
}

/// For those who ask without a session.
pub(crate) async fn table_commits(resolver: &Resolver, location: &Location) -> Result<Vec<CommitLineage>> {
    let found = resolver.lineage(location).await;
    match found {
        Ok(found) => {
            resolver.note_gaps(location.name(), &found.gaps);
            Ok(found.commits)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::new(ErrorKind::NotFound, "there is no Delta table of this name").with("table", location.name()).caused_by(error))
        }
        Err(error) => Err(error.with("table", location.name())),
    }
}
