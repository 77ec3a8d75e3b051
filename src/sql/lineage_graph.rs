//! Reading the lineage of one table, and of all that a session knows, and saying what is not known of it.

use std::collections::BTreeMap;

use super::catalog::Resolver;
use super::open::{newest_trust, under_newest_root};
use super::restored;
use crate::baseline::{Trust, Writers};
use crate::delta::{self, Location};
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::{CommitLineage, Gaps, Graph, LineageSource, TableLineage, read_commit_lineage, read_table_lineage};

/// So many tables are named where something is to be said of several.
const NAMED_TABLES: usize = 8;

impl Resolver {
    /// Whom to believe of the table at `location`: the writers that the newest trust root beside it lists, and the other URLs that the newest
    /// baseline signs for it.
    async fn source_of(&self, location: &Location) -> Result<Known> {
        let trust = newest_trust(location, self.trust.as_ref()).await?;
        let writers = under_newest_root(trust.as_ref(), &self.options).writers;
        Ok(Known { aliases: self.aliases_of(location, trust.as_ref()).await?, writers, trust })
    }

    async fn aliases_of(&self, location: &Location, trust: Option<&Trust>) -> Result<Vec<String>> {
        let Some(trust) = trust else { return Ok(Vec::new()) };
        match location.repository().newest_statement(trust).await {
            // A baseline of another place, of which this is a copy, lends it nothing.
            Ok(newest) => Ok(newest.filter(|newest| newest.statement.is_of(location.url().as_str())).map_or_else(Vec::new, |newest| {
                let statement = newest.statement;
                std::iter::once(statement.location).chain(statement.aliases).collect()
            })),
            Err(error) if error.is_retryable() => Err(error.with("table", location.name())),
            Err(error) => {
                let name = location.name();
                self.note(format!(
                    "{name}: its newest baseline cannot be read, so attestations under other URLs of it do not count: {error}"
                ));
                Ok(Vec::new())
            }
        }
    }

    /// The lineage of the table at `location`.
    pub(super) async fn lineage(&self, location: &Location) -> Result<TableLineage> {
        let known = self.source_of(location).await?;
        let mut found = read_table_lineage(known.source(location)).await?;
        restored::prove(self, location, known.trust.as_ref(), &mut found.commits).await?;
        Ok(found)
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
        known.extend(self.registered.read().iter().map(|(name, known)| (name.clone(), known.named.location.clone())));
        Ok(known)
    }
}

/// What is known of a table before its lineage is read.
struct Known {
    writers: Writers,
    aliases: Vec<String>,
    trust: Option<Trust>,
}

impl Known {
    /// Where to look for the table's lineage.
    fn source<'a>(&'a self, location: &'a Location) -> LineageSource<'a> {
        let (store, root, url) = (location.store().as_ref(), location.root(), location.url().as_str());
        LineageSource { store, root, location: url, aliases: &self.aliases, writers: self.writers.keys() }
    }
}

/// The lineage of all tables that the session knows, and of `start`'s.
pub(crate) async fn load_graph(resolver: &Resolver, start: &Location) -> Result<(Graph, BTreeMap<String, String>)> {
    let mut graph = Graph::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut tables = Vec::new();
    for (name, location) in resolver.known_locations().await?.into_iter().chain([(start.name().to_owned(), start.clone())]) {
        if !names.contains_key(location.url().as_str()) {
            names.insert(location.url().to_string(), name.clone());
            let known = resolver.source_of(&location).await;
            tables.push((name, location, known));
        }
    }
    // Other tables' commits may name a table by any of its URLs.
    for (_, location, known) in &tables {
        let aliases = known.iter().flat_map(|known| &known.aliases);
        aliases.filter(|alias| !names.contains_key(*alias)).for_each(|alias| graph.alias(alias, location.url().as_str()));
    }
    let mut others = Vec::new();
    for (name, location, known) in tables {
        let is_start = location.url() == start.url();
        let whole = add_table(resolver, &mut graph, &name, &location, known, is_start).await?;
        if !(whole || is_start) {
            others.push(name);
        }
    }
    note_others(resolver, &others);
    note_unknown(resolver, &graph, &names);
    Ok((graph, names))
}

/// Adds the commits of a table; says whether its lineage is known from its first commit to its last. One that cannot be read must not hide what the
/// others say, nor be hidden itself.
async fn add_table(
    resolver: &Resolver,
    graph: &mut Graph,
    name: &str,
    location: &Location,
    known: Result<Known>,
    is_start: bool,
) -> Result<bool> {
    let (mut failed, mut restores) = (None, Vec::new());
    let read = match known {
        Ok(known) => {
            let sink = |commit: CommitLineage| {
                if restored::is_claimed(&commit) && restores.len() < restored::RESTORES_LIMIT {
                    restores.push(commit);
                } else if failed.is_none() {
                    failed = graph.add(location.url().as_str(), &commit).err();
                }
            };
            let gaps = read_commit_lineage(known.source(location), sink).await;
            // Nothing that could not be proven takes a commit out of the graph.
            let proven = restored::prove(resolver, location, known.trust.as_ref(), &mut restores).await;
            gaps.and_then(|gaps| proven.map(|()| gaps))
        }
        Err(error) => Err(error),
    };
    for commit in restores {
        failed = failed.or(graph.add(location.url().as_str(), &commit).err());
    }
    if let Some(error) = failed {
        return Err(error);
    }
    match read {
        Ok(gaps) => {
            if is_start {
                resolver.note_gaps(name, &gaps);
            }
            Ok(gaps.forgotten.is_empty() && gaps.unreadable.is_empty())
        }
        Err(error) if is_start => Err(error.with("table", name)),
        Err(error) => {
            tracing::warn!(table = %name, %error, "lineage could not be read");
            Ok(false)
        }
    }
}

/// Keeps that not all is known of tables that were not asked about: one line, for a lake may have many.
fn note_others(resolver: &Resolver, others: &[String]) {
    if others.is_empty() {
        return;
    }
    let more = others.len().saturating_sub(NAMED_TABLES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named: Vec<&str> = others.iter().take(NAMED_TABLES).map(String::as_str).collect();
    resolver.note(format!(
        "not all of the lineage of {}{more} is known, so what went through what is missing is not followed: lineage('TABLE') says what",
        named.join(", ")
    ));
}

/// Keeps what no walk over `graph` can follow, or not exactly.
fn note_unknown(resolver: &Resolver, graph: &Graph, names: &BTreeMap<String, String>) {
    if let incomplete @ 1.. = graph.incomplete() {
        resolver.note(format!("{incomplete} commit(s) wrote files whose origin nobody recorded: what they carried on is not followed"));
    }
    if let coarse @ 1.. = graph.coarse() {
        resolver.note(format!(
            "{coarse} time(s) more files were read than one answer has room for: the commits count as having read every file of the table that was live"
        ));
    }
    for uri in graph.unknown_tables() {
        let name = names.get(uri).map_or(uri, String::as_str);
        resolver.note(format!(
            "{name}: commits were made from it, and nothing is known of its own (it is gone, or no table of the lake: name it with --table \
             NAME=TABLE): what went through it is not followed"
        ));
    }
    if let unknown @ 1.. = graph.unknown_files() {
        resolver.note(format!("{unknown} file(s) were read that no known commit wrote: where they came from is not followed"));
    }
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
