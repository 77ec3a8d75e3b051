//! A second pair of eyes: whoever countersigns reads the table anew and signs only what comes out the same.

use super::prepared::Prepared;
use super::progress::Progress;
use super::repository::{BaselineName, TrustedBaseline};
use super::seal::{SealOutcome, Sealer};
use super::seal_evidence::remembered;
use super::seal_files::Sealing;
use super::seal_ground::Ground;
use super::sealed::{SealedObject, SealedTable};
use super::standing::{Judge, Standing};
use super::state;
use super::statement::Statement;
use super::verdict::{Finding, Verdict};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::VerifyingKey;
use crate::table::{self, FileKey, TableKind};

/// Clocks of two people differ; a baseline from further ahead is none that was made yet.
const CLOCK_SLACK_MS: i64 = 60 * 60 * 1000;
/// Names in a message.
const SHOWN_NAMES: usize = 5;

/// What a proposal is compared with.
#[derive(Default)]
struct Before {
    /// The baseline that it follows.
    baseline: Option<TrustedBaseline>,
    /// Why that one is not in force, or why there is none although there are others; for people.
    unproven: Option<String>,
    /// Nobody known here stands behind what came before: only somebody who accepts that may sign.
    untrusted: bool,
}

impl Sealer {
    /// Finds the baseline that waits for signatures (the one of `digest`, where several do), checks it against the table as if it were to be
    /// sealed here, and returns it with its difference from the last baseline in force, to be shown and then given to [`Self::sign`].
    ///
    /// Nothing that the proposal says is believed: files that no baseline in force covers are read, their statistics recomputed, and every
    /// digest, sum and count must come out as it says.
    ///
    /// Where no baseline is in force (the threshold was raised, sealers were removed or revoked), the difference is that from the baseline which the
    /// proposal follows, provided that somebody signed it who may seal, or once might; [`BaselineDiff::unproven`] says so. Every file is read then.
    ///
    /// [`BaselineDiff::unproven`]: super::BaselineDiff::unproven
    ///
    /// Cost: that of sealing the same state, and one GET per piece of the proposal's evidence.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when nothing waits; [`ErrorKind::InvalidInput`] when several do and none is named;
    /// [`ErrorKind::AlreadyExists`] when this key has signed it; [`ErrorKind::Mismatch`] when the table is not what it says, or it follows a baseline
    /// that is not there; [`ErrorKind::Unauthentic`] when nobody known here stands behind what came before it (see
    /// [`SealOptions::accept_changes`](super::SealOptions::accept_changes)); those of sealing.
    pub async fn review(&self, digest: Option<Digest>, progress: &dyn Progress) -> Result<Prepared> {
        let judge = self.judge().await?;
        let newest = self.repository.newest_in_force(&judge).await?;
        let former = match &newest {
            Some(_) => Vec::new(),
            None => self.repository.former_sealers(&judge.trust, &self.trust).await?,
        };
        let (name, statement, standing) = self.proposal(digest, newest.as_ref(), &judge, &former).await?;
        let own = self.signer()?.public().id();
        if standing.signed_by.contains(&own) {
            let what = format!("this key has signed baseline {} already: it has {standing}", name.number);
            return Err(Error::new(ErrorKind::AlreadyExists, what).with("digest", name.digest));
        }
        let known = newest.as_ref().map(|newest| newest.summary.clone());
        let before = match newest {
            Some(_) => Before { baseline: newest, ..Before::default() },
            None => self.before(&name, &statement, &judge, &former).await?,
        };
        self.check_terms(&name, &statement, before.baseline.as_ref(), &judge)?;
        let summary = statement.summary(name.digest, standing);
        let proposed = self.repository.whole_table(TrustedBaseline { statement: statement.clone(), summary: summary.clone() }).await?;
        let version = (statement.state.kind == TableKind::Delta).then_some(statement.state.version);
        let snapshot = table::load(&**self.repository.store(), self.repository.root(), version).await?;
        let known = known.unwrap_or_else(|| summary.clone());
        // What a proposal says of other tables is nobody's word yet: none is opened for it.
        let allowed = self.roots(before.baseline.as_ref().filter(|_| before.unproven.is_none()));
        let roots = statement.foreign_roots.clone();
        if let Some(root) = roots.0.iter().find(|root| !allowed.0.contains(root)) {
            let what = "it lets the log name files of a table of which neither the baseline before it nor you (--foreign-root) say so";
            return Err(differs(&name, what).with("foreign root", &root.prefix).with("url", &root.url));
        }
        let mut ground = self.ground_at(judge, (snapshot, roots), (before.baseline, Some(known)), progress).await?;
        ground.findings.extend(before.unproven.iter().filter(|_| before.untrusted).map(|why| Finding::new(Verdict::Untrusted, why)));
        ground.unproven = before.unproven;
        if ground.sealed.as_ref().is_some_and(|sealed| sealed.row_key != proposed.row_key) {
            return Err(differs(&name, "it hashes rows with another key than the baselines before it"));
        }
        let sealing = self.fingerprint(&ground, proposed.row_key, progress).await?;
        compare(&name, &ground, &sealing, &proposed)?;
        let mut diff = self.diff(&ground, &proposed.files, &proposed.commits, &statement.aliases).await?;
        let before = match &ground.previous {
            Some(previous) => self.repository.expectations(&previous.statement).await?,
            None => Vec::new(),
        };
        diff.compare_expectations(&before, &self.repository.expectations(&statement).await?);
        if let Some(bounds) = &self.options.bounds {
            bounds.check(&diff).map_err(|e| e.with("table", &self.location))?;
        }
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let outcome = SealOutcome {
            baseline: summary,
            files_added: count(sealing.added.len()),
            files_reused: count(proposed.files.len().saturating_sub(sealing.added.len())),
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

    /// The statement that waits. Ones that somebody trusted has signed go before ones that one of the keys `former` has, and these before ones
    /// that nobody known has: those may be anybody's.
    async fn proposal(
        &self,
        digest: Option<Digest>,
        newest: Option<&TrustedBaseline>,
        judge: &Judge,
        former: &[VerifyingKey],
    ) -> Result<(BaselineName, Statement, Standing)> {
        let above = newest.map_or(0, |newest| newest.summary.number);
        let mut waiting: Vec<(u8, (BaselineName, Statement, Standing))> = Vec::new();
        for name in self.repository.names().await?.into_iter().filter(|name| name.number > above) {
            if digest.is_some_and(|digest| digest != name.digest) {
                continue;
            }
            let Some((bytes, standing)) = self.repository.judged(&name, judge).await? else { continue };
            let Ok(statement) = Statement::parse(&bytes) else { continue };
            let follows =
                newest.is_none_or(|newest| name.number == above.saturating_add(1) && statement.previous == Some(newest.summary.digest));
            if statement.number == name.number && follows {
                let rank = match standing.signed_by.is_empty() {
                    false => 2,
                    true => u8::from(self.is_signed(&name, &bytes, former).await?),
                };
                waiting.push((rank, (name, statement, standing)));
            }
        }
        let first = waiting.iter().map(|(rank, _)| *rank).max().unwrap_or_default();
        let mut waiting: Vec<_> = waiting.into_iter().filter(|(rank, _)| *rank == first).map(|(_, found)| found).collect();
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

    /// Whether one of `keys` signed the statement of this name.
    async fn is_signed(&self, name: &BaselineName, bytes: &[u8], keys: &[VerifyingKey]) -> Result<bool> {
        for key in keys {
            if self.repository.signature(name.digest, bytes, key).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a proposal is compared with where no baseline is in force: the one that it follows, whoever stands behind that one.
    async fn before(&self, name: &BaselineName, statement: &Statement, judge: &Judge, former: &[VerifyingKey]) -> Result<Before> {
        let Some(previous) = statement.previous.filter(|_| name.number > 1) else {
            return self.before_first(name, judge, former).await;
        };
        let previous = BaselineName { number: name.number.saturating_sub(1), digest: previous };
        let gone = || {
            let what = format!(
                "baseline {} is not signed: it follows a baseline {} that is not there, and nobody could believe its history; name another \
                 proposal by its digest (--digest)",
                name.number, previous.number
            );
            Error::new(ErrorKind::Mismatch, what).with("follows", previous.digest)
        };
        let (bytes, standing) = self.repository.judged(&previous, judge).await?.ok_or_else(gone)?;
        let number = previous.number;
        let signed = !standing.signed_by.is_empty();
        let known = signed || self.is_signed(&previous, &bytes, former).await?;
        if !known && judge.trust.root().is_none() {
            // Without a trust root every baseline of a chain needs a signature that counts.
            let what = format!(
                "baseline {} is not signed: nobody whom you trust signed baseline {number}, which it follows; name that sealer's public key \
                 with --trust",
                name.number
            );
            return Err(Error::new(ErrorKind::Unauthentic, what).with("follows", previous.digest));
        }
        let why = match (signed, known) {
            (true, _) => format!("it has {standing}"),
            (_, true) => "only keys signed it that may no longer seal".to_owned(),
            _ => "nobody signed it who may seal here, or once might".to_owned(),
        };
        let unproven =
            format!("no baseline is in force; what follows is the difference from baseline {number} ({}): {why}", previous.digest);
        if !known {
            self.check_accepted(name, &unproven)?;
        }
        let baseline = self.repository.read_statement(&previous, &bytes, standing)?.ok_or_else(gone)?;
        Ok(Before { baseline: Some(baseline), unproven: Some(unproven), untrusted: !known })
    }

    /// As [`Self::before`], for a first baseline: there must be no later ones by anybody known.
    async fn before_first(&self, own: &BaselineName, judge: &Judge, former: &[VerifyingKey]) -> Result<Before> {
        for name in self.repository.names().await?.iter().rev().filter(|name| name.number > own.number) {
            let Some((bytes, standing)) = self.repository.judged(name, judge).await? else { continue };
            if !standing.signed_by.is_empty() || self.is_signed(name, &bytes, former).await? {
                let unproven = format!(
                    "no baseline is in force, and this one has nothing before it, although baseline {} ({}), a later one, was signed by \
                     somebody who may seal here, or once might",
                    name.number, name.digest
                );
                self.check_accepted(own, &unproven)?;
                return Ok(Before { unproven: Some(unproven), untrusted: true, ..Before::default() });
            }
        }
        Ok(Before::default())
    }

    fn check_accepted(&self, name: &BaselineName, unproven: &str) -> Result<()> {
        if self.options.accept_changes {
            return Ok(());
        }
        let what = format!(
            "baseline {} is not signed: {unproven}; name a proposal by its digest (--digest) that continues what your sealers signed, or look \
             at the table and accept its changes (--accept-changes)",
            name.number
        );
        Err(Error::new(ErrorKind::Unauthentic, what).with("table", &self.location))
    }

    fn check_terms(&self, name: &BaselineName, statement: &Statement, newest: Option<&TrustedBaseline>, judge: &Judge) -> Result<()> {
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
        if self.options.pin.is_some_and(|(number, digest)| number == name.number && digest != name.digest) {
            return refused("another baseline of this number is pinned".into());
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
/// commits the proposal may know more where the baseline before it says the same: a log is cleaned up. What nobody can read nobody signs: it
/// would make a later commit forged, or a file that is still to come resurrected.
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
    compare_memory(name, ground, sealing, proposed)?;
    compare_changes(name, ground, sealing, proposed)?;
    let state = state::root(&ground.snapshot, &sealing.files, &proposed.removed, &proposed.commits)?;
    if state != proposed.statement.state {
        return Err(differs(name, "protocol, metadata, schema, transactions, domains or sums are others"));
    }
    Ok(())
}

fn compare_memory(name: &BaselineName, ground: &Ground, sealing: &Sealing, proposed: &SealedTable) -> Result<()> {
    let memory = remembered(ground, sealing);
    let before = ground.sealed.as_ref();
    if let Some(key) = memory.removed.keys().find(|key| !proposed.removed.contains_key(*key)) {
        return Err(differs(name, "it forgets that a file was removed").with("file", &key.path));
    }
    let was_removed = |key: &FileKey| memory.removed.contains_key(key) || before.is_some_and(|sealed| sealed.removed.contains_key(key));
    if let Some(key) = proposed.removed.keys().find(|key| !was_removed(key)) {
        return Err(
            differs(name, "it says that a file was removed of which the log does not tell; prepare it again").with("file", &key.path)
        );
    }
    for (version, commit) in &memory.commits {
        if proposed.commits.get(version) != Some(commit) {
            return Err(differs(name, "a commit is another, or missing from it").with("commit", version));
        }
    }
    let sealed_version = proposed.statement.state.version;
    for (version, commit) in proposed.commits.iter().filter(|(version, _)| !memory.commits.contains_key(version)) {
        if *version > sealed_version {
            return Err(differs(name, "it names a commit that comes after the version that it seals").with("commit", version));
        }
        if before.and_then(|sealed| sealed.commits.get(version)) != Some(commit) {
            return Err(differs(name, "it names a commit that is not there; prepare it again").with("commit", version));
        }
    }
    Ok(())
}

/// Change-data files must be those that are there. One that is gone by now is taken over only from the baseline before: what nobody can read
/// nobody signs.
fn compare_changes(name: &BaselineName, ground: &Ground, sealing: &Sealing, proposed: &SealedTable) -> Result<()> {
    for (path, file) in &sealing.changes {
        match proposed.changes.get(path) {
            Some(other) if other == file => {}
            Some(_) => return Err(differs(name, "a change-data file has another digest or size").with("file", path)),
            None => return Err(differs(name, "a change-data file is missing from it").with("file", path)),
        }
    }
    let before = ground.sealed.as_ref().map(|sealed| &sealed.changes);
    let is_known = |path: &String, file: &SealedObject| before.is_some_and(|known| known.get(path) == Some(file));
    match proposed.changes.iter().find(|(path, file)| !sealing.changes.contains_key(*path) && !is_known(path, file)) {
        None => Ok(()),
        Some((path, _)) => Err(differs(name, "it names a change-data file that is not there; prepare it again").with("file", path)),
    }
}
