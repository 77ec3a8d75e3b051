//! A second pair of eyes: whoever countersigns reads the table anew and signs only what comes out the same.

use super::prepared::Prepared;
use super::progress::Progress;
use super::repository::{BaselineName, TrustedBaseline};
use super::seal::{Ground, SealOutcome, Sealer, Sealing, remembered};
use super::sealed::SealedTable;
use super::standing::{Judge, Standing};
use super::state;
use super::statement::Statement;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, TableKind};

/// Clocks of two people differ; a baseline from further ahead is none that was made yet.
const CLOCK_SLACK_MS: i64 = 60 * 60 * 1000;
/// Names in a message.
const SHOWN_NAMES: usize = 5;

impl Sealer {
    /// Finds the baseline that waits for signatures (the one of `digest`, where several do), checks it against the table as if it were to be
    /// sealed here, and returns it with its difference from the last baseline in force, to be shown and then given to [`Self::sign`].
    ///
    /// Nothing that the proposal says is believed: files that no baseline in force covers are read, their statistics recomputed, and every
    /// digest, sum and count must come out as it says.
    ///
    /// Cost: that of sealing the same state, and one GET per piece of the proposal's evidence.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when nothing waits; [`ErrorKind::InvalidInput`] when several do and none is named;
    /// [`ErrorKind::AlreadyExists`] when this key has signed it; [`ErrorKind::Mismatch`] when the table is not what it says; those of sealing.
    pub async fn review(&self, digest: Option<Digest>, progress: &dyn Progress) -> Result<Prepared> {
        let judge = self.judge().await?;
        let newest = self.repository.newest_in_force(&judge).await?;
        let (name, statement, standing) = self.proposal(digest, newest.as_ref(), &judge).await?;
        let own = self.signer()?.public().id();
        if standing.signed_by.contains(&own) {
            let what = format!("this key has signed baseline {} already: it has {standing}", name.number);
            return Err(Error::new(ErrorKind::AlreadyExists, what).with("digest", name.digest));
        }
        self.check_terms(&statement, newest.as_ref(), &judge)?;
        let summary = statement.summary(name.digest, standing);
        let proposed = self.repository.whole_table(TrustedBaseline { statement: statement.clone(), summary: summary.clone() }).await?;
        let version = (statement.state.kind == TableKind::Delta).then_some(statement.state.version);
        let snapshot = table::load(&**self.repository.store(), self.repository.root(), version).await?;
        let known = newest.as_ref().map_or_else(|| summary.clone(), |newest| newest.summary.clone());
        let ground = self.ground_at(judge, snapshot, (newest, Some(known)), progress).await?;
        if ground.sealed.as_ref().is_some_and(|sealed| sealed.row_key != proposed.row_key) {
            return Err(differs(&name, "it hashes rows with another key than the baselines before it"));
        }
        let sealing = self.fingerprint(&ground, proposed.row_key, progress).await?;
        compare(&name, &ground, &sealing, &proposed)?;
        let mut diff = self.diff(&ground, &proposed.files, &proposed.commits).await?;
        let before = match &ground.previous {
            Some(previous) => self.repository.expectations(&previous.statement).await?,
            None => Vec::new(),
        };
        diff.compare_expectations(&before, &self.repository.expectations(&statement).await?);
        if let Some(bounds) = &self.options.bounds {
            bounds.check(&diff).map_err(|e| e.with("table", &self.location))?;
        }
        let outcome = SealOutcome {
            baseline: summary,
            files_added: diff.added.files,
            files_reused: u64::try_from(proposed.files.len()).unwrap_or(u64::MAX).saturating_sub(diff.added.files),
            files_removed: diff.removed.files,
            bytes_read: sealing.bytes_read,
            first: ground.first,
            unchanged: false,
            findings: ground.findings,
            diff,
            log: None,
            notes: Vec::new(),
        };
        Ok(Prepared { name, outcome, statement: Some(statement), judge: ground.judge })
    }

    /// The statement that waits. Ones that somebody trusted has signed go before ones that nobody has: those may be anybody's.
    async fn proposal(
        &self,
        digest: Option<Digest>,
        newest: Option<&TrustedBaseline>,
        judge: &Judge,
    ) -> Result<(BaselineName, Statement, Standing)> {
        let above = newest.map_or(0, |newest| newest.summary.number);
        let mut waiting: Vec<(BaselineName, Statement, Standing)> = Vec::new();
        for name in self.repository.names().await?.into_iter().filter(|name| name.number > above) {
            if digest.is_some_and(|digest| digest != name.digest) {
                continue;
            }
            let Some((bytes, standing)) = self.repository.judged(&name, judge).await? else { continue };
            let Ok(statement) = Statement::parse(&bytes) else { continue };
            let follows =
                newest.is_none_or(|newest| name.number == above.saturating_add(1) && statement.previous == Some(newest.summary.digest));
            if statement.number == name.number && follows {
                waiting.push((name, statement, standing));
            }
        }
        let signed = waiting.iter().any(|(.., standing)| !standing.signed_by.is_empty());
        waiting.retain(|(.., standing)| signed != standing.signed_by.is_empty());
        let highest = waiting.iter().map(|(name, ..)| name.number).max().unwrap_or_default();
        waiting.retain(|(name, ..)| name.number == highest);
        if waiting.len() > 1 {
            let listed: Vec<String> = waiting.iter().take(SHOWN_NAMES).map(|(name, ..)| name.digest.to_string()).collect();
            let what = format!("{} proposals of baseline {highest} wait; name one by its digest: {}", waiting.len(), listed.join(", "));
            return Err(Error::new(ErrorKind::InvalidInput, what).with("table", &self.location));
        }
        waiting.pop().ok_or_else(|| {
            let what = match newest {
                Some(newest) => {
                    format!("nothing waits to be signed: baseline {} is in force, and no proposal follows it", newest.summary.number)
                }
                None => "nothing waits to be signed: there is no proposal".to_owned(),
            };
            Error::new(ErrorKind::NotFound, what).with("table", &self.location)
        })
    }

    fn check_terms(&self, statement: &Statement, newest: Option<&TrustedBaseline>, judge: &Judge) -> Result<()> {
        let refused = |what: String| Err(Error::new(ErrorKind::Mismatch, format!("baseline {} is not signed: {what}", statement.number)));
        if statement.location.trim_end_matches('/') != self.location.trim_end_matches('/') {
            return refused(format!("it is of the table at {}, not at {}", statement.location, self.location));
        }
        let known = judge.trust.root().map_or(0, |signed| signed.root().version);
        if statement.trust_root > known {
            return refused(format!(
                "it was prepared under version {} of the trust root, and only {known} is known here",
                statement.trust_root
            ));
        }
        if statement.created_ms > self.clock.now_ms().saturating_add(CLOCK_SLACK_MS) {
            return refused("it says that it was made in the future".into());
        }
        if newest.is_some_and(|newest| statement.created_ms <= newest.summary.created_ms) {
            return refused("it says that it was made before the baseline that it follows".into());
        }
        if statement.expires_ms.is_some_and(|expires| expires <= self.clock.now_ms()) {
            return refused("it has expired; prepare it again".into());
        }
        Ok(())
    }
}

fn differs(name: &BaselineName, what: &str) -> Error {
    Error::new(ErrorKind::Mismatch, format!("baseline {} is not signed, because it does not say what is there: {what}", name.number))
        .with("digest", name.digest)
}

/// Holds what was observed here against what is proposed. Files must be equal in all that evidence says of them. Of removed files and
/// commits the proposal may know more: a log is cleaned up.
fn compare(name: &BaselineName, ground: &Ground, sealing: &Sealing, proposed: &SealedTable) -> Result<()> {
    for (key, file) in &sealing.files {
        match proposed.files.get(key) {
            Some(other) if other == file => {}
            Some(_) => return Err(differs(name, "a file's digests, sums or statistics are others").with("file", &key.path)),
            None => return Err(differs(name, "a live file is missing from it").with("file", &key.path)),
        }
    }
    if let Some(key) = proposed.files.keys().find(|key| !sealing.files.contains_key(*key)) {
        return Err(differs(name, "it names a file that is not live").with("file", &key.path));
    }
    let memory = remembered(ground, sealing);
    if let Some(key) = memory.removed.keys().find(|key| !proposed.removed.contains_key(*key)) {
        return Err(differs(name, "it forgets that a file was removed").with("file", &key.path));
    }
    for (version, commit) in &memory.commits {
        if proposed.commits.get(version) != Some(commit) {
            return Err(differs(name, "a commit is another, or missing from it").with("commit", version));
        }
    }
    let state = state::root(&ground.snapshot, &sealing.files, &proposed.removed, &proposed.commits)?;
    if state != proposed.statement.state {
        return Err(differs(name, "protocol, metadata, schema, transactions, domains or sums are others"));
    }
    Ok(())
}
