//! Having a new version decided: which slot, under which condition, and what a lost slot means.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{Attributes, PutMode};

use super::Inner;
use super::resolve::{Version, parse_version};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::manifest::{Content, ObjectManifest};
use crate::id::WriteId;
use crate::region::layout;
use crate::register::{Decided, Proposed, SLOT_LIMIT, is_collected};

/// Most versions that a name is given: fewer than a walk shows of one name ([`SLOT_LIMIT`]), so that it can still be deleted, and slots that
/// stopped writers left behind be closed. Stubs of collected versions stay for ever, and count.
const VERSIONS_LIMIT: u64 = SLOT_LIMIT as u64 / 64 * 61;
/// Slots that one write may lose before it gives up; each was won by somebody else's write.
pub(super) const LOST_LIMIT: usize = 256;

/// Under which condition a version may be written.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    Create,
    Overwrite,
    /// Only over the version that this write made, in whichever slot it stands: a collector may have republished it in a later one, with
    /// the same bytes and the same write id.
    Update(WriteId),
}

impl Condition {
    pub(super) fn of(mode: PutMode) -> Result<Self> {
        let PutMode::Update(wanted) = mode else {
            return Ok(if mode == PutMode::Create { Self::Create } else { Self::Overwrite });
        };
        let version = wanted.version.as_deref().map(parse_version);
        match (wanted.e_tag.as_deref().map(str::parse::<WriteId>), version) {
            (Some(Ok(tag)), None) | (None, Some(Some((_, tag)))) => Ok(Self::Update(tag)),
            (Some(Ok(tag)), Some(Some((_, other)))) if tag == other => Ok(Self::Update(tag)),
            (None, None) => Err(Error::new(ErrorKind::InvalidInput, "an update needs the e_tag or the version that it replaces")),
            // A tag that this store never gives is carried by no version.
            _ => Err(Error::new(ErrorKind::Precondition, "no version of an object has this e_tag and version")),
        }
    }

    /// Whether a version may follow `newest`.
    fn admits(&self, path: &Path, newest: Option<&Version>) -> Result<()> {
        let live = newest.filter(|version| version.is_live());
        match (self, live) {
            (Self::Overwrite, _) | (Self::Create, None) => Ok(()),
            (Self::Create, Some(_)) => Err(Error::new(ErrorKind::AlreadyExists, "the object already exists").with("path", path)),
            (Self::Update(..), Some(version)) if self.names(version) => Ok(()),
            (Self::Update(..), _) => {
                Err(Error::new(ErrorKind::Precondition, "the object is no longer the version to be replaced").with("path", path))
            }
        }
    }

    fn names(&self, version: &Version) -> bool {
        match self {
            Self::Update(tag) => version.manifest.write_id == *tag,
            Self::Create | Self::Overwrite => false,
        }
    }
}

/// What a version will be, all but its place in the order.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) content: Content,
    pub(super) digest: Digest,
    pub(super) attributes: Attributes,
}

pub(super) enum Attempt {
    Won(Arc<Version>),
    /// The slot is another's; with the version that is the newest, if that was learned on the way.
    Lost(Option<Arc<Version>>),
}

impl Inner {
    /// The version that a write may follow, asked of the regions.
    pub(super) async fn admitted(&self, path: &Path, condition: &Condition) -> Result<Option<Arc<Version>>> {
        let newest = self.newest(path).await?;
        condition.admits(path, newest.as_deref())?;
        Ok(newest)
    }

    /// The version that a write may follow that lost its slot, and perhaps learned the newest version by that.
    pub(super) async fn admitted_behind(
        &self,
        path: &Path,
        condition: &Condition,
        newest: Option<Arc<Version>>,
    ) -> Result<Option<Arc<Version>>> {
        if newest.is_none() {
            return self.admitted(path, condition).await;
        }
        condition.admits(path, newest.as_deref())?;
        Ok(newest)
    }

    /// The version that a write may follow, guessed where a wrong guess does no harm: a slot that turns out to be taken is lost.
    ///
    /// Guessing never refuses: what refuses a condition is asked of the regions.
    pub(super) async fn guessed(&self, path: &Path, condition: &Condition) -> Result<Option<Arc<Version>>> {
        let hint = self.hint(path);
        match (condition, &hint) {
            (Condition::Overwrite, _) | (Condition::Create, None) => Ok(hint),
            (Condition::Create, Some(version)) if !version.is_live() => Ok(hint),
            (Condition::Update(..), Some(version)) if version.is_live() && condition.names(version) => Ok(hint),
            _ => self.admitted(path, condition).await,
        }
    }

    /// Proposes one version in the slot after `before`, which is known to be decided.
    pub(super) async fn propose(&self, path: &Path, before: Option<&Version>, write_id: WriteId, draft: Draft) -> Result<Attempt> {
        refuse_system(path)?;
        let slot = if matches!(draft.content, Content::Tombstone) { following_slot(before)? } else { next_slot(before)? };
        let now = self.clock.now_ms();
        let manifest = ObjectManifest {
            lake: *self.regions.lake(),
            configuration: self.regions.configuration(),
            path: path.to_string(),
            slot,
            write_id,
            modified_ms: before.map_or(now, |version| now.max(version.manifest.modified_ms.saturating_add(1))),
            digest: draft.digest,
            predecessor: before.map(|version| version.decided.digest),
            attributes: draft.attributes,
            content: draft.content,
        };
        let value = bytes::Bytes::from(manifest.encode()?);
        failpoint!("decide.before-vote");
        let (proposed, newest) = self.registers.propose_looking(path, manifest.slot, value.clone()).await;
        let newest = newest.and_then(|newest| self.open(path, newest).ok());
        #[cfg(test)]
        if crate::register::mutant::is_on(crate::register::mutant::Mutant::ErrorIsLost) && proposed.is_err() {
            return Err(Error::new(ErrorKind::AlreadyExists, "taken for lost"));
        }
        let proposed = match proposed {
            // The slot was decided for another write so long ago that it was collected.
            Err(error) if is_collected(&error) => return Ok(Attempt::Lost(newest)),
            proposed => proposed?,
        };
        failpoint!("decide.after-vote");
        match proposed {
            Proposed::Won => {
                let digest = Digest::of(&value);
                let marker = manifest.marker(digest);
                self.registers.mark(path, manifest.slot, &marker).await;
                let version = Arc::new(Version { decided: Decided { slot: manifest.slot, value, digest }, manifest });
                self.remember(path, &version);
                Ok(Attempt::Won(version))
            }
            Proposed::Lost(decided) => {
                // A manifest that cannot be read here is still somebody else's version.
                let _ = self.open(path, decided);
                Ok(Attempt::Lost(newest))
            }
        }
    }
}

/// Clients may not use the lake's own names.
pub(super) fn refuse_system(path: &Path) -> Result<()> {
    if !layout::is_system(path) {
        return Ok(());
    }
    let what = "the lake keeps this folder for itself; choose another path";
    Err(Error::new(ErrorKind::InvalidInput, what).with("path", path).with("folder", layout::SYSTEM_SEGMENT))
}

/// The slot after `before`, for an object.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when the name has had as many versions as a name may have.
pub(super) fn next_slot(before: Option<&Version>) -> Result<u64> {
    let slot = following_slot(before)?;
    if slot < VERSIONS_LIMIT {
        return Ok(slot);
    }
    let what = "the name has had as many versions as a name may have, and takes no further one: write to another name";
    let error = Error::new(ErrorKind::Unsupported, what).with("limit", VERSIONS_LIMIT);
    Err(before.into_iter().fold(error, |error, version| error.with("path", &version.manifest.path)))
}

/// The slot after `before`, for whatever ends or closes a name.
pub(super) fn following_slot(before: Option<&Version>) -> Result<u64> {
    match before {
        None => Ok(0),
        Some(version) => {
            version.decided.slot.checked_add(1).ok_or_else(|| Error::new(ErrorKind::Unsupported, "the object has no version numbers left"))
        }
    }
}

/// Whether an error of [`Inner::propose`] came before any vote was sent, so that no version can name what was uploaded for it. Once votes
/// were sent, none of these kinds is told (see [`Registers::propose`](crate::register::Registers::propose)).
pub(super) fn is_before_votes(error: &Error) -> bool {
    use ErrorKind::{InvalidInput, Permission, Unavailable, Unsupported};
    matches!(error.kind(), InvalidInput | Permission | Unavailable | Unsupported) && !is_collected(error)
}

pub(super) fn contended(path: &Path) -> Error {
    Error::new(ErrorKind::Unavailable, "other writers won every version that was tried; nothing was written").with("path", path)
}
