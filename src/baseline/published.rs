//! Trust roots beside a table: `_seal/trust/`. A client walks from the root that it holds to the newest.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode};

use super::repository::{NUMBER_DIGITS, Repository};
use super::trust::{ENVELOPE_LIMIT_BYTES, SignedRoot, Trust, TrustRoot};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Role, VerifyingKey};
use crate::table::read_object;

/// More objects that claim to be one version are refused: they are somebody's attempt to keep readers busy. Anybody who can create objects can
/// make a few, so that the limit is far above what a handful of false names reaches.
const CANDIDATE_LIMIT: usize = 100_000;
const CONCURRENCY: usize = 8;

impl Repository {
    /// Where a trust root lies.
    pub fn root_path(&self, version: u64, digest: Digest) -> Path {
        self.folder("trust").join(format!("{version:0width$}-{digest}.json", width = NUMBER_DIGITS))
    }

    /// Publishes a root for those who hold the version before it. Cost: one PUT.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthentic`] when it is short of signatures of its own; those of the store.
    pub async fn publish_root(&self, root: &SignedRoot) -> Result<()> {
        root.check_own()?;
        self.store().put(&self.root_path(root.root().version, root.digest()), root.to_bytes().into()).await?;
        Ok(())
    }

    /// As [`Self::publish_root`], unless an object of its name is there.
    pub(super) async fn publish_root_if_new(&self, root: &SignedRoot) -> Result<()> {
        let path = self.root_path(root.root().version, root.digest());
        match self.store().put_opts(&path, root.to_bytes().into(), PutMode::Create.into()).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// The newest trust root that can be reached from `trust` by the roots that are published here; a flat set of keys stays what it is.
    ///
    /// Objects that are no successor, signed by old and new, are ignored: anybody may have put them there. A root that is not published
    /// cannot be found; until then the one that the user holds counts, up to its expiry.
    ///
    /// Cost: one LIST, and one GET per object that claims to be a newer version.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] when two different roots of one version are both validly signed: whoever holds the root keys misused them.
    /// [`ErrorKind::InvalidInput`] when enough root keys signed a successor that contradicts itself: it may revoke what the version before trusts.
    pub async fn newest_trust(&self, trust: &Trust) -> Result<Trust> {
        let Some(mut newest) = trust.root().cloned() else { return Ok(trust.clone()) };
        let published = self.published_roots(newest.root().version).await?;
        while let Some(candidates) = newest.root().version.checked_add(1).and_then(|next| published.get(&next)) {
            match self.successor(&newest, candidates).await? {
                Some(next) => newest = next,
                None => break,
            }
        }
        Ok(Trust::from_root(newest))
    }

    async fn published_roots(&self, after: u64) -> Result<BTreeMap<u64, Vec<Digest>>> {
        let folder = self.folder("trust");
        let mut found: BTreeMap<u64, Vec<Digest>> = BTreeMap::new();
        let mut objects = self.store().list(Some(&folder));
        while let Some(meta) = objects.try_next().await? {
            let name = meta.location.filename().and_then(|name| name.strip_suffix(".json")?.split_once('-'));
            let Some((version, digest)) = name.and_then(|(version, digest)| Some((version.parse().ok()?, digest.parse().ok()?))) else {
                continue;
            };
            if version > after && meta.location == self.root_path(version, digest) {
                found.entry(version).or_default().push(digest);
            }
        }
        Ok(found)
    }

    async fn successor(&self, of: &SignedRoot, candidates: &[Digest]) -> Result<Option<SignedRoot>> {
        let version = of.root().version.saturating_add(1);
        if candidates.len() > CANDIDATE_LIMIT {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "too many objects claim to be one version of the trust root; remove the false ones",
            )
            .with("folder", self.folder("trust"))
            .with("version", version));
        }
        let mut found: Option<SignedRoot> = None;
        let reads = stream::iter(candidates.to_vec()).map(|digest| async move {
            let bytes = self.root_bytes(version, digest).await?;
            Ok::<_, Error>(bytes.map(|bytes| (self.root_path(version, digest), bytes)))
        });
        let mut read = reads.buffered(CONCURRENCY);
        while let Some(candidate) = read.try_next().await? {
            let Some((path, bytes)) = candidate else { continue };
            let next = match of.open_successor(&bytes) {
                Ok(next) => next,
                Err(e) if e.kind() == ErrorKind::InvalidInput => return Err(e.with("trust root", path)),
                Err(_) => continue,
            };
            if found.as_ref().is_some_and(|other| other.digest() != next.digest()) {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("two trust roots of version {version} are both validly signed: whoever holds the root keys misused them"),
                )
                .with("folder", self.folder("trust")));
            }
            found = Some(next);
        }
        Ok(found)
    }

    /// What lies under the name of a trust root; `None` where there is none, or what no trust root can be.
    async fn root_bytes(&self, version: u64, digest: Digest) -> Result<Option<Bytes>> {
        match read_object(&**self.store(), &self.root_path(version, digest), ENVELOPE_LIMIT_BYTES).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The trust root that `later` names as the one before it, where it is published here. It needs no signatures: its digest is in `later`.
    ///
    /// Cost: one GET.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn earlier_root(&self, later: &TrustRoot) -> Result<Option<TrustRoot>> {
        let Some((version, digest)) = later.version.checked_sub(1).zip(later.previous) else { return Ok(None) };
        let Some(bytes) = self.root_bytes(version, digest).await? else { return Ok(None) };
        let found = SignedRoot::parse_draft(&bytes).ok().filter(|found| found.digest() == digest && found.root().version == version);
        Ok(found.map(|found| found.root().clone()))
    }

    /// The keys that could seal under earlier versions of the trust root `newest`, as far as these are published here or `held`, and those that it
    /// revokes; without those that may seal now. An earlier version is authentic because its successor names its digest.
    ///
    /// Cost: one GET per earlier version.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn former_sealers(&self, newest: &Trust, held: &Trust) -> Result<Vec<VerifyingKey>> {
        let Some(root) = newest.root() else { return Ok(Vec::new()) };
        let mut keys: Vec<VerifyingKey> = newest.revoked().iter().map(|revocation| revocation.key).collect();
        keys.extend(held.keys(Role::Sealer));
        let mut next = self.earlier_root(root.root()).await?;
        while let Some(earlier) = next {
            keys.extend(earlier.keys(Role::Sealer));
            next = self.earlier_root(&earlier).await?;
        }
        let mut former: Vec<VerifyingKey> = Vec::new();
        for key in keys {
            if !newest.keys(Role::Sealer).contains(&key) && !former.contains(&key) {
                former.push(key);
            }
        }
        Ok(former)
    }
}
