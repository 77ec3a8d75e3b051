//! Comparison of a checkpoint that came after a baseline with what the baseline and all commits since say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::compare::normal_live;
use super::compare_restated::compare_live;
use super::later::LaterCommit;
use super::sealed::SealedTable;
use super::state;
use super::verdict::{Finding, Verdict};
use crate::table::{FileKey, LiveFile, TableSnapshot, transactions_expire};

/// Holds a state that begins with a checkpoint after the baseline against the sealed state and `later`, which are all commits since: between them
/// they say the state, and the checkpoint may say no other.
///
/// Which files are live, and what was sealed of them, is compared elsewhere.
pub(super) fn compare_told(snapshot: &TableSnapshot, sealed: &SealedTable, later: &[LaterCommit]) -> Vec<Finding> {
    let Some(checkpoint) = snapshot.checkpoint.filter(|at| *at > sealed.statement.state.version) else { return Vec::new() };
    let told = Told { snapshot, sealed, later, checkpoint };
    let mut found = told.compare_head();
    found.extend(told.compare_transactions());
    found.extend(told.compare_domains());
    found.extend(told.compare_files());
    found
}

/// Whether a state after the baseline, or what its checkpoint says, is what the baseline and the commits up to it come to. `later` are all commits since.
pub(super) fn is_told(state: &TableSnapshot, sealed: &SealedTable, later: &[LaterCommit]) -> bool {
    let sealed_version = sealed.statement.state.version;
    if state.checkpoint.is_none_or(|at| at <= sealed_version) {
        return true;
    }
    let until = later.iter().take_while(|commit| commit.version <= state.version).count();
    let until = later.get(..until).unwrap_or_default();
    let mut live: BTreeSet<&FileKey> = sealed.files.keys().collect();
    for commit in until {
        for key in &commit.actions.removes {
            live.remove(key);
        }
        live.extend(commit.actions.adds.iter().map(|file| &file.key));
    }
    live.into_iter().eq(state.files.keys()) && compare_told(state, sealed, until).is_empty()
}

struct Told<'a> {
    snapshot: &'a TableSnapshot,
    sealed: &'a SealedTable,
    later: &'a [LaterCommit],
    checkpoint: u64,
}

impl<'a> Told<'a> {
    /// A part of the state that is not what `commit` says, or what was sealed, where no later commit speaks of it.
    fn differs(&self, what: &str, commit: Option<u64>) -> Finding {
        let by = match commit {
            Some(version) => format!("commit {version} states"),
            None => format!("baseline {} sealed, and no commit since changes them", self.sealed.baseline.number),
        };
        let detail = format!("by the checkpoint of version {}, the table's {what} are not those that {by}", self.checkpoint);
        Finding::new(Verdict::Forged, detail).commit(commit.unwrap_or(self.checkpoint))
    }

    /// The last that later commits say of something, with the commit.
    fn last<T>(&self, said: impl Fn(&'a LaterCommit) -> Option<T>) -> Option<(u64, T)> {
        self.later.iter().rev().find_map(|commit| Some((commit.version, said(commit)?)))
    }

    /// Protocol, schema, properties.
    fn compare_head(&self) -> Vec<Finding> {
        let (stated, head) = (&self.sealed.statement.state, state::head_digests(self.snapshot));
        let protocol =
            self.last(|commit| commit.actions.protocol.as_ref()).map(|(version, protocol)| (version, state::protocol_digest(protocol)));
        let metadata =
            self.last(|commit| commit.actions.metadata.as_ref()).map(|(version, metadata)| (version, state::metadata_digests(metadata)));
        let (properties, schema) = (metadata.map(|(v, (metadata, _))| (v, metadata)), metadata.map(|(v, (_, schema))| (v, schema)));
        let parts = [
            ("protocol versions and features", protocol, stated.protocol, head.protocol),
            ("columns (its schema)", schema, stated.schema, head.schema),
            ("metadata (properties, partitioning, name)", properties, stated.metadata, head.metadata),
        ];
        let differing = parts.into_iter().filter(|(_, said, sealed, found)| said.map_or(*sealed, |(_, said)| said) != *found);
        differing.map(|(what, said, ..)| self.differs(what, said.map(|(version, _)| version))).collect()
    }

    /// Transactions of streaming writers: only of all of them together is there a sealed digest.
    fn compare_transactions(&self) -> Vec<Finding> {
        let mut said: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
        for commit in self.later {
            said.extend(commit.actions.transactions.iter().map(|(app, value)| (app.as_str(), (commit.version, *value))));
        }
        let expire = transactions_expire(&self.snapshot.metadata);
        if said.is_empty() {
            let same = state::head_digests(self.snapshot).transactions == self.sealed.statement.state.transactions;
            return if same || expire { Vec::new() } else { vec![self.differs(TRANSACTIONS, None)] };
        }
        let differing = said.into_iter().filter(|(app, (_, value))| match self.snapshot.transactions.get(*app) {
            Some(found) => found != value,
            None => !expire,
        });
        differing.map(|(app, (version, _))| self.differs(&format!("{TRANSACTIONS} (of {app})"), Some(version))).collect()
    }

    /// Domain metadata: only of all of it together is there a sealed digest.
    fn compare_domains(&self) -> Vec<Finding> {
        let mut said: BTreeMap<&str, (u64, Option<&Value>)> = BTreeMap::new();
        for commit in self.later {
            said.extend(commit.actions.domains.iter().map(|(domain, value)| (domain.as_str(), (commit.version, value.as_ref()))));
        }
        if said.is_empty() {
            let same = state::head_digests(self.snapshot).domains == self.sealed.statement.state.domains;
            return if same { Vec::new() } else { vec![self.differs(DOMAINS, None)] };
        }
        let configuration = |domain: &Value| domain.get("configuration").cloned();
        let found = |domain: &str| self.snapshot.domains.get(domain).map(configuration);
        let differing = said.into_iter().filter(|(domain, (_, value))| found(domain) != value.map(configuration));
        differing.map(|(domain, (version, _))| self.differs(&format!("{DOMAINS} (of {domain})"), Some(version))).collect()
    }

    /// The files that later commits added last, where they are live.
    fn compare_files(&self) -> Vec<Finding> {
        let mut said: BTreeMap<&FileKey, (u64, &LiveFile)> = BTreeMap::new();
        for commit in self.later {
            for key in &commit.actions.removes {
                said.remove(key);
            }
            said.extend(commit.actions.adds.iter().map(|file| (&file.key, (commit.version, file))));
        }
        let mut found = Vec::new();
        for (key, (version, file)) in said {
            let Some(live) = self.snapshot.files.get(key) else { continue };
            let kind = self.snapshot.kind;
            found.extend(compare_live(kind, &self.snapshot.schema, &normal_live(kind, file), live).into_iter().map(|finding| {
                let detail = format!(
                    "the checkpoint of version {} describes the file in another way (found) than the commit that added it (sealed): {}",
                    self.checkpoint, finding.detail
                );
                Finding { detail, ..finding }.commit(version)
            }));
        }
        found
    }
}

const TRANSACTIONS: &str = "transactions of streaming writers";
const DOMAINS: &str = "domain metadata";
