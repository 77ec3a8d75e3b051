//! From a path to the manifest of a version.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::{Inner, KNOWN_BYTES};
use crate::erasure::Departure;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Marker, ObjectKind};
use crate::format::logical::stored_path;
use crate::format::manifest::{Content, ObjectManifest};
use crate::id::WriteId;
use crate::region::layout;
use crate::register::{Decided, is_collected};

/// A decided version of an object: its manifest, and the bytes that say so.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) decided: Decided,
    pub(super) manifest: ObjectManifest,
}

impl Version {
    pub(super) fn is_live(&self) -> bool {
        self.manifest.kind() == ObjectKind::Object
    }

    pub(super) fn meta(&self, path: &Path) -> ObjectMeta {
        let manifest = &self.manifest;
        meta(path, manifest.size(), manifest.modified_ms, manifest.slot, manifest.write_id)
    }
}

/// How a version begins that is asked for by plain BLAKE3 of its bytes: `blake3:<64 hexadecimal digits>`.
const DIGEST_VERSION: &str = "blake3:";

/// What `object_store` is told about a version; the same for put, head and list.
pub(super) fn meta(path: &Path, size: u64, modified_ms: i64, slot: u64, write_id: WriteId) -> ObjectMeta {
    ObjectMeta {
        location: path.clone(),
        last_modified: DateTime::<Utc>::from_timestamp_millis(modified_ms).unwrap_or_default(),
        size,
        e_tag: Some(write_id.to_string()),
        version: Some(format!("{slot}.{write_id}")),
    }
}

/// The marker of a decided manifest, for slots that readers resolve.
pub(super) fn describe(decided: &Decided) -> Option<Marker> {
    ObjectManifest::decode(&decided.value).ok().map(|manifest| manifest.marker(decided.digest))
}

pub(super) fn not_found(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such object").with("path", path)
}

/// Names the regions that have the shards of one that left.
pub(super) fn move_shards(manifest: &mut ObjectManifest, departure: &Departure) {
    if let (Content::Shards(sharded), [first, second, ..]) = (&mut manifest.content, manifest.write_id.0) {
        departure.apply(&mut sharded.placement, [first, second]);
    }
}

/// Takes a version text `<slot>.<write id>` apart.
pub(super) fn parse_version(text: &str) -> Option<(u64, WriteId)> {
    let (slot, write_id) = text.split_once('.')?;
    Some((slot.parse().ok()?, write_id.parse().ok()?))
}

impl Inner {
    /// Reads a decided value as the manifest of `path`, and remembers it if it is the newest known.
    pub(super) fn open(&self, path: &Path, decided: Decided) -> Result<Arc<Version>> {
        let version = self.read_manifest(path, decided)?;
        self.remember(path, &version);
        Ok(version)
    }

    /// Reads a manifest's bytes. Where a region has left, the one that has its shards is named.
    pub(super) fn decode_manifest(&self, bytes: &Bytes) -> Result<ObjectManifest> {
        let mut manifest = ObjectManifest::decode(bytes)?;
        self.regions.departures().iter().for_each(|departure| move_shards(&mut manifest, departure));
        Ok(manifest)
    }

    /// Reads a decided value as the manifest of `path`, and leaves what is remembered alone.
    pub(super) fn read_manifest(&self, path: &Path, decided: Decided) -> Result<Arc<Version>> {
        let manifest = self.decode_manifest(&decided.value).map_err(|e| e.with("path", path).with("slot", decided.slot))?;
        if manifest.lake != *self.regions.lake() || manifest.path != path.as_ref() || manifest.slot != decided.slot {
            return Err(Error::new(ErrorKind::Corrupt, "a manifest belongs to another object or slot")
                .with("path", path)
                .with("slot", decided.slot));
        }
        Ok(Arc::new(Version { decided, manifest }))
    }

    pub(super) fn remember(&self, path: &Path, version: &Arc<Version>) {
        if version.decided.value.len() > KNOWN_BYTES {
            self.known.lock().pop(path);
            return;
        }
        let mut known = self.known.lock();
        if known.get(path).is_none_or(|old| old.decided.slot <= version.decided.slot) {
            known.put(path.clone(), Arc::clone(version));
        }
    }

    /// What was last known of a path: decided, but perhaps not the newest any more.
    pub(super) fn hint(&self, path: &Path) -> Option<Arc<Version>> {
        self.known.lock().get(path).map(Arc::clone)
    }

    /// The newest version, tombstones included.
    pub(super) async fn newest(&self, path: &Path) -> Result<Option<Arc<Version>>> {
        if layout::is_system(path) {
            // The lake's own registers decide no objects.
            return Ok(None);
        }
        let hint = self.hint(path);
        let found = self.registers.newest_hinted(path, hint.as_ref().map(|known| known.decided.clone())).await?;
        match (found, hint) {
            (Some(found), Some(hint)) if found.slot == hint.decided.slot && found.digest == hint.decided.digest => Ok(Some(hint)),
            (Some(found), _) => self.open(path, found).map(Some),
            (None, _) => Ok(None),
        }
    }

    /// The newest version, which is an object.
    pub(super) async fn live(&self, path: &Path) -> Result<Arc<Version>> {
        self.newest(path).await?.filter(|version| version.is_live()).ok_or_else(|| not_found(path))
    }

    /// The version that a client names, tombstones included.
    pub(super) async fn any_at(&self, path: &Path, text: &str) -> Result<Arc<Version>> {
        let no_such = || Error::new(ErrorKind::NotFound, "there is no such version of the object").with("path", path).with("version", text);
        if layout::is_system(path) {
            return Err(no_such());
        }
        if let Some(digest) = text.strip_prefix(DIGEST_VERSION).and_then(|digest| digest.parse().ok()) {
            return self.with_digest(path, digest).await?.ok_or_else(no_such);
        }
        let (slot, write_id) = parse_version(text).ok_or_else(no_such)?;
        let version = match self.hint(path).filter(|known| known.decided.slot == slot) {
            Some(known) => known,
            None => self.open(path, self.registers.at(path, slot).await?.ok_or_else(no_such)?)?,
        };
        if version.manifest.write_id == write_id { Ok(version) } else { Err(no_such()) }
    }

    /// Why a version's bytes could not be read: whoever is overtaken by a collector is told so.
    pub(super) async fn explained(&self, version: &Version, error: Error) -> Error {
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unavailable) {
            return error;
        }
        let Ok(path) = stored_path(&version.manifest.path) else { return error };
        match self.registers.at(&path, version.decided.slot).await {
            Err(collected) if is_collected(&collected) => collected.caused_by(error),
            _ => error,
        }
    }

    /// The version that a client names and that has bytes.
    pub(super) async fn at(&self, path: &Path, text: &str) -> Result<Arc<Version>> {
        let version = self.any_at(path, text).await?;
        if version.is_live() {
            return Ok(version);
        }
        Err(Error::new(ErrorKind::NotFound, "this version says that the object was deleted").with("path", path).with("version", text))
    }
}
