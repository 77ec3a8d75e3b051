//! What the files of a restoring commit come of: the files that were sealed, or kept, and nothing that they replace.

use std::collections::{BTreeMap, HashSet};

use super::RestorePlan;
use super::wanted::Wanted;
use crate::baseline::SealedTable;
use crate::delta::Location;
use crate::lineage::{Input, InputFile, InputKind, Lineage};

/// The lineage of the commit that carries out `plan`, for whoever attests it.
pub(super) fn lineage(location: &Location, sealed: &SealedTable, wanted: &Wanted<'_>, plan: &RestorePlan) -> Lineage {
    let state = &sealed.statement.state;
    let replaced = plan.replaced.iter().map(|file| file.file.as_str());
    let put_back: HashSet<&str> = replaced.chain(plan.described.iter().map(|file| file.key.path.as_str())).collect();
    // By the version that they are of. The sealed one is what is restored, even where nothing of it is missing.
    let mut read: BTreeMap<u64, Vec<InputFile>> = BTreeMap::from([(state.version, Vec::new())]);
    for (key, file) in wanted.files.iter().filter(|(key, _)| put_back.contains(key.path.as_str())) {
        let version = file.sealed.map_or(file.live.added_in.unwrap_or(state.version), |_| state.version);
        let digest = file.sealed.map(|sealed| sealed.digest);
        read.entry(version).or_default().push(InputFile { path: key.path.clone(), digest, row_groups: None });
    }
    let inputs = read.into_iter().map(|(version, files)| {
        let is_sealed = version == state.version;
        Input {
            kind: InputKind::Table,
            uri: location.url().to_string(),
            name: None,
            table_id: Some(state.table_id.clone()),
            version: Some(version),
            digest: sealed.commits.get(&version).map(|commit| commit.digest).filter(|_| is_sealed),
            baseline: Some(plan.baseline).filter(|_| is_sealed),
            files: Some(files),
        }
    });
    Lineage { operation: "RESTORE".to_owned(), inputs: inputs.collect(), inputs_complete: true, ..Lineage::default() }
}
