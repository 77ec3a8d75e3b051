//! The object manifest: the record of one version of one object. Layout: `docs/format/manifest.md`.
//!
//! A manifest is the value that a register decides; the register's entry carries the signature over it.

mod attributes;
mod content;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use attributes::{ATTRIBUTES_LIMIT, ATTRIBUTES_LIMIT_BYTES, check_attributes};
pub use content::{Content, MAX_SEGMENTS, STREAMED_SLOT, Sharded};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Marker, ObjectKind, PATH_LIMIT_BYTES};
use crate::format::wire::{Reader, Writer};
use crate::id::{LakeId, WriteId};

/// The first bytes of every manifest.
pub const MANIFEST_MAGIC: [u8; 8] = *b"LKSLMAN1";
/// The version of the manifest format.
pub const MANIFEST_VERSION: u16 = 1;

const NOT_CONFIDENTIAL: u8 = 0;
const OBJECT: u8 = 0;
const TOMBSTONE: u8 = 1;

/// One version of one object: what it is, where its bytes are, and what they must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectManifest {
    /// The lake it belongs to.
    pub lake: LakeId,
    /// The number of the configuration under which it was written; region indexes count in that configuration.
    pub configuration: u64,
    /// The object's logical path.
    pub path: String,
    /// The version slot for which it was proposed.
    pub slot: u64,
    /// The attempt that wrote it; the object's `e_tag`.
    pub write_id: WriteId,
    /// The version's time, in milliseconds since 1970-01-01T00:00:00Z.
    pub modified_ms: i64,
    /// Plain BLAKE3 of the whole object (what `b3sum` prints).
    pub digest: Digest,
    /// Digest of the manifest that was decided in the slot before; absent in slot 0.
    pub predecessor: Option<Digest>,
    /// The client's attributes.
    pub attributes: object_store::Attributes,
    /// The bytes, or where they are.
    pub content: Content,
}

impl ObjectManifest {
    /// Object or tombstone.
    pub fn kind(&self) -> ObjectKind {
        match self.content {
            Content::Tombstone => ObjectKind::Tombstone,
            Content::Inline(_) | Content::Shards(_) => ObjectKind::Object,
        }
    }

    /// The object's size in bytes; 0 for a tombstone.
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Tombstone => 0,
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Shards(sharded) => sharded.size,
        }
    }

    /// The text by which clients ask for just this version: `<slot>.<write id>`.
    pub fn version(&self) -> String {
        format!("{}.{}", self.slot, self.write_id)
    }

    /// What listings need to know; `value` is the digest of the encoded manifest.
    pub fn marker(&self, value: Digest) -> Marker {
        Marker { kind: self.kind(), size: self.size(), modified_ms: self.modified_ms, write_id: self.write_id, value }
    }

    /// The stored bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the path or the attributes are over their limits, or an attribute is of a kind unknown here.
    pub fn encode(&self) -> Result<Vec<u8>> {
        if self.path.len() > PATH_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::InvalidInput, "the path of an object has at most 1024 bytes").with("path", &self.path));
        }
        let mut out = Writer::new();
        out.raw(&MANIFEST_MAGIC).u16(MANIFEST_VERSION).u8(NOT_CONFIDENTIAL);
        out.u8(match self.kind() {
            ObjectKind::Object => OBJECT,
            ObjectKind::Tombstone => TOMBSTONE,
        });
        out.raw(&self.lake.0).u64(self.configuration).u64(self.slot).raw(&self.write_id.0);
        out.u64(self.size()).i64(self.modified_ms).raw(&self.digest.0);
        match &self.predecessor {
            None => out.u8(0),
            Some(digest) => out.u8(1).raw(&digest.0),
        };
        out.bytes(self.path.as_bytes())?;
        attributes::encode(&self.attributes, &mut out)?;
        self.content.encode(&mut out)?;
        Ok(out.finish())
    }

    /// Reads stored bytes. Inline content shares `bytes` and is checked against its digest.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for anything malformed, [`ErrorKind::Unsupported`] for a later version, code or confidentiality.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.fixed::<8>()? != MANIFEST_MAGIC {
            return Err(corrupt("not an object manifest"));
        }
        let version = reader.u16()?;
        if version != MANIFEST_VERSION {
            return Err(Error::new(ErrorKind::Unsupported, "an object manifest of an unknown version").with("version", version));
        }
        let confidentiality = reader.u8()?;
        if confidentiality != NOT_CONFIDENTIAL {
            return Err(Error::new(ErrorKind::Unsupported, "the object is encrypted, which this version cannot read")
                .with("confidentiality", confidentiality));
        }
        let kind = match reader.u8()? {
            OBJECT => ObjectKind::Object,
            TOMBSTONE => ObjectKind::Tombstone,
            other => return Err(corrupt("an object manifest of an unknown kind").with("kind", other)),
        };
        let (lake, configuration, slot) = (LakeId(reader.fixed()?), reader.u64()?, reader.u64()?);
        let write_id = WriteId(reader.fixed()?);
        let (size, modified_ms, digest) = (reader.u64()?, reader.i64()?, Digest(reader.fixed()?));
        let predecessor = match reader.u8()? {
            0 => None,
            1 => Some(Digest(reader.fixed()?)),
            other => return Err(corrupt("a flag is neither 0 nor 1").with("flag", other)),
        };
        let path =
            std::str::from_utf8(reader.bytes(PATH_LIMIT_BYTES)?).map_err(|e| corrupt("a path is not UTF-8").caused_by(e))?.to_owned();
        let attributes = attributes::decode(&mut reader)?;
        let content = Content::decode(&mut reader, bytes, size)?;
        reader.done()?;
        let manifest = Self { lake, configuration, path, slot, write_id, modified_ms, digest, predecessor, attributes, content };
        manifest.check(kind, size)?;
        Ok(manifest)
    }

    fn check(&self, kind: ObjectKind, size: u64) -> Result<()> {
        if self.kind() != kind || self.size() != size {
            return Err(corrupt("a manifest's kind or size contradicts its content"));
        }
        let inline: &[u8] = match &self.content {
            Content::Shards(_) => return Ok(()),
            Content::Inline(bytes) => bytes,
            Content::Tombstone => &[],
        };
        if Digest::of(inline) != self.digest {
            return Err(corrupt("a manifest's inline bytes contradict their digest"));
        }
        Ok(())
    }
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}
