//! Restores that nobody attested: what a baseline proves of them.
//!
//! That a commit restored something is nobody's word. But a file with the digest of one that a trusted baseline of an earlier version seals holds what
//! was sealed, whoever copied it and under whatever path: it comes of the sealed file. That it comes of nothing else besides takes more, for what is there
//! now need not be what was read before: a store that retains versions must say that the path had no others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::{GetOptions, ObjectStore as _};

use super::catalog::Resolver;
use crate::ask::named_version;
use crate::baseline::{SealedFile, SealedTable, Trust, TrustedBaseline};
use crate::delta::Location;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::format::logical::stored_below;
use crate::lineage::{CommitLineage, Input, InputFile, InputKind, Output};
use crate::store::{VersionState, retained_versions};

/// More restores of one table are not looked at; the newest are.
pub(super) const RESTORES_LIMIT: usize = 64;
/// Bytes of one table's restored files that are read for one question.
const READ_LIMIT_BYTES: u64 = 256 << 20;

/// Whether a commit is such that something may be proven of it.
pub(super) fn is_claimed(commit: &CommitLineage) -> bool {
    commit.attested_by.is_none() && commit.claims_restore()
}

/// Says of those of a table's commits that claim to restore what came of which sealed file, where all that they add is found to be sealed: that, too,
/// is what they come of, and nothing but that where no file that they add was ever another. The others stay as they are.
///
/// Cost: where there is such a commit, the evidence of up to two baselines, and the versions of each restored file; those that no later baseline seals
/// are read, up to 256 MiB.
///
/// # Errors
/// The store's, where asking again may help. What cannot be read otherwise proves nothing, which a note tells.
pub(super) async fn prove(resolver: &Resolver, location: &Location, trust: Option<&Trust>, commits: &mut [CommitLineage]) -> Result<()> {
    let Some(trust) = trust else { return Ok(()) };
    let mut claimed: Vec<&mut CommitLineage> = commits.iter_mut().filter(|commit| is_claimed(commit)).collect();
    claimed.sort_by_key(|commit| std::cmp::Reverse(commit.version));
    let mut proof = Proof { location, trust, newest: None, named: None, left_bytes: READ_LIMIT_BYTES, too_large: 0 };
    for commit in claimed.into_iter().take(RESTORES_LIMIT) {
        match proof.of(commit).await {
            Ok(()) => {}
            Err(error) if error.is_retryable() => return Err(error.with("table", location.name())),
            Err(error) => resolver.note(format!(
                "{}: what version {} restored could not be held against a baseline, so anything that was in the table before counts as being in it: \
                 {error}",
                location.name(),
                commit.version
            )),
        }
    }
    if proof.too_large > 0 {
        resolver.note(format!(
            "{}: {} restored file(s) are more than a question reads ({READ_LIMIT_BYTES} bytes), so anything that was in the table before counts as being \
             in them; seal the table, and the new baseline proves what they are",
            location.name(),
            proof.too_large
        ));
    }
    Ok(())
}

struct Proof<'a> {
    location: &'a Location,
    trust: &'a Trust,
    /// The newest baseline, once it was asked for.
    newest: Option<Option<Arc<SealedTable>>>,
    /// The baseline that a restore named last, by its number.
    named: Option<(u64, Option<Arc<SealedTable>>)>,
    left_bytes: u64,
    /// Files that were not read.
    too_large: usize,
}

/// What a file that a restore added holds.
struct Source<'a> {
    /// Its digest; absent where it has the path that a sealed file has.
    digest: Option<Digest>,
    /// The sealed files that hold it.
    files: Vec<&'a SealedFile>,
    /// Whether it never held anything else.
    is_proven: bool,
}

impl Proof<'_> {
    async fn of(&mut self, commit: &mut CommitLineage) -> Result<()> {
        let newest = self.newest().await?;
        let stated = commit.lineage.transformation.parameters.get("baseline").and_then(|number| number.parse().ok());
        let earlier = match stated {
            Some(number) => self.numbered(number).await?,
            None => newest.clone(),
        };
        // A baseline of the table after the commit would prove anything.
        let Some(earlier) = earlier.filter(|sealed| sealed.statement.state.version < commit.version) else { return Ok(()) };
        let later = newest.filter(|sealed| sealed.statement.state.version >= commit.version);
        let Some(sources) = self.sources(&earlier, later.as_deref(), &commit.lineage.outputs).await? else { return Ok(()) };
        let is_named = commit.lineage.inputs.iter().all(|input| input.files.is_some());
        let says_more = !is_named || sources.iter().any(|source| source.digest.is_some());
        if !sources.iter().all(|source| source.is_proven) {
            // Whatever was there before may have been in it as well.
            commit.lineage.inputs.extend(says_more.then(|| self.input(&earlier, &sources)));
            return Ok(());
        }
        if says_more {
            commit.lineage.inputs = vec![self.input(&earlier, &sources)];
        }
        for (output, source) in commit.lineage.outputs.iter_mut().zip(&sources) {
            output.digest = source.digest;
        }
        commit.restores_baseline = Some(earlier.baseline.number);
        Ok(())
    }

    /// Where each file comes from; `None` when that is not found of one of them.
    async fn sources<'s>(
        &mut self,
        earlier: &'s SealedTable,
        later: Option<&SealedTable>,
        outputs: &[Output],
    ) -> Result<Option<Vec<Source<'s>>>> {
        let mut by_size: HashMap<u64, Vec<&SealedFile>> = HashMap::new();
        for file in earlier.files.values() {
            by_size.entry(file.live.size).or_default().push(file);
        }
        let mut sources = Vec::with_capacity(outputs.len());
        for output in outputs {
            let only = self.only_version(output).await?;
            let sealed = later.and_then(|later| later.file_at(&output.path)).map(|file| file.digest);
            if let Some(file) = earlier.file_at(&output.path) {
                let is_proven = match (&only, sealed) {
                    (None, _) => false,
                    (Some(only), _) if named_version(file.version.as_deref()) == Some(only.as_str()) => true,
                    (Some(_), Some(digest)) => digest == file.digest,
                    (Some(_), None) => self.read(output, only.as_deref()).await? == Some(file.digest),
                };
                sources.push(Source { digest: None, files: vec![file], is_proven });
                continue;
            }
            let Some(alike) = by_size.get(&output.size) else { return Ok(None) };
            let digest = match sealed {
                Some(digest) => Some(digest),
                None => self.read(output, only.as_deref()).await?,
            };
            let files: Vec<&SealedFile> = alike.iter().filter(|file| Some(file.digest) == digest).copied().collect();
            if files.is_empty() {
                return Ok(None);
            }
            sources.push(Source { digest, files, is_proven: only.is_some() });
        }
        Ok(Some(sources))
    }

    fn input(&self, earlier: &SealedTable, sources: &[Source<'_>]) -> Input {
        let state = &earlier.statement.state;
        let files: BTreeMap<&str, Digest> =
            sources.iter().flat_map(|source| &source.files).map(|file| (file.live.key.path.as_str(), file.digest)).collect();
        let files = files.into_iter().map(|(path, digest)| InputFile { path: path.to_owned(), digest: Some(digest), row_groups: None });
        Input {
            kind: InputKind::Table,
            uri: self.location.url().to_string(),
            name: None,
            table_id: Some(state.table_id.clone()),
            version: Some(state.version),
            digest: earlier.commits.get(&state.version).map(|commit| commit.digest),
            baseline: Some(earlier.baseline.number),
            files: Some(files.collect()),
        }
    }

    async fn newest(&mut self) -> Result<Option<Arc<SealedTable>>> {
        if self.newest.is_none() {
            let statement = self.location.repository().newest_statement(self.trust).await?;
            self.newest = Some(self.evidence(statement).await?);
        }
        Ok(self.newest.clone().flatten())
    }

    async fn numbered(&mut self, number: u64) -> Result<Option<Arc<SealedTable>>> {
        if let Some(newest) = self.newest.iter().flatten().find(|newest| newest.baseline.number == number) {
            return Ok(Some(newest.clone()));
        }
        if self.named.as_ref().is_none_or(|(known, _)| *known != number) {
            let statement = self.location.repository().numbered_statement(self.trust, number).await?;
            self.named = Some((number, self.evidence(statement).await?));
        }
        Ok(self.named.as_ref().and_then(|(_, sealed)| sealed.clone()))
    }

    /// What a baseline seals, where it is one of the table at this place.
    async fn evidence(&self, statement: Option<TrustedBaseline>) -> Result<Option<Arc<SealedTable>>> {
        let Some(baseline) = statement.filter(|found| found.statement.is_of(self.location.url().as_str())) else { return Ok(None) };
        Ok(Some(Arc::new(self.location.repository().readable_table(baseline).await?)))
    }

    /// The one version that there ever was of a file; `None` where it had several, or none that can be read, and where the store does not retain
    /// them: then nobody can say what was read.
    async fn only_version(&self, output: &Output) -> Result<Option<String>> {
        let Ok(path) = stored_below(self.location.root(), &output.path) else { return Ok(None) };
        let versions = retained_versions(self.location.store().as_ref(), &path).await.map_err(|e| e.with("file", &output.path))?;
        // A version that was collected may have been anything.
        let mut written = versions.into_iter().flatten().filter(|known| known.state != VersionState::Tombstone && !known.republished);
        Ok(match (written.next(), written.next()) {
            (Some(only), None) if only.state == VersionState::Readable && only.size == output.size => only.version,
            _ => None,
        })
    }

    /// The digest of a file in `version`, or as it is stored now; `None` when it is gone, of another size than its commit states, or more than there
    /// is left to read.
    async fn read(&mut self, output: &Output, version: Option<&str>) -> Result<Option<Digest>> {
        let Ok(path) = stored_below(self.location.root(), &output.path) else { return Ok(None) };
        let Some(left_bytes) = self.left_bytes.checked_sub(output.size) else {
            self.too_large += 1;
            return Ok(None);
        };
        let options = GetOptions { version: version.map(str::to_owned), ..GetOptions::default() };
        let found = match self.location.store().get_opts(&path, options).await {
            Ok(found) if found.meta.size == output.size => found,
            Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Error::from(error).with("file", &output.path)),
        };
        self.left_bytes = left_bytes;
        let mut hasher = blake3::Hasher::new();
        let (mut stream, mut read) = (found.into_stream(), 0_u64);
        while let Some(bytes) = stream.try_next().await.map_err(|e| Error::from(e).with("file", &output.path))? {
            hasher.update(&bytes);
            read = read.saturating_add(bytes.len() as u64);
            if read > output.size {
                return Ok(None);
            }
        }
        Ok((read == output.size).then(|| Digest(*hasher.finalize().as_bytes())))
    }
}
