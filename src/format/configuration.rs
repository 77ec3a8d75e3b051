//! The head of a lake's signed configuration: enough to know whether it is one, and which. The rest is `lake::record`'s.

use super::wire::Reader;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::LakeId;
use crate::key::{PublicKey, SIGNATURE_BYTES, Signature};

/// The first bytes of every configuration.
pub const CONFIGURATION_MAGIC: [u8; 8] = *b"LKSLCFG1";
/// What its signature is made over, with all that precedes it.
pub const CONFIGURATION_TAG: &str = "lakeseal 2026 lake configuration v1";

/// Checks magic number and signature of a signed object, in this order, and leaves the reader behind the magic number.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is something else, [`ErrorKind::Unauthentic`] when the lake's root key did not sign it.
pub fn signed<'a>(bytes: &'a [u8], magic: [u8; 8], tag: &str, root: &PublicKey) -> Result<Reader<'a>> {
    let split = bytes.len().checked_sub(SIGNATURE_BYTES).and_then(|at| bytes.split_at_checked(at));
    let (signed, signature) = split.ok_or_else(|| Error::new(ErrorKind::Corrupt, "a signed object is too short"))?;
    let mut reader = Reader::new(signed);
    if reader.fixed::<8>()? != magic {
        return Err(Error::new(ErrorKind::Corrupt, "not an object of a lake: its magic number is wrong"));
    }
    if !root.verifies(&Digest::tagged(tag, signed).0, &Signature(Reader::new(signature).fixed()?)) {
        return Err(Error::new(ErrorKind::Unauthentic, "not signed by the lake's root key").with("root_key", root));
    }
    Ok(reader)
}

/// Whether `bytes` are configuration `number` of `lake`, of whatever version, signed by `root`.
pub fn is_configuration(bytes: &[u8], lake: &LakeId, number: u64, root: &PublicKey) -> bool {
    let head = || {
        let mut reader = signed(bytes, CONFIGURATION_MAGIC, CONFIGURATION_TAG, root)?;
        reader.u16()?;
        Ok::<_, Error>((LakeId(reader.fixed()?), reader.u64()?))
    };
    head().is_ok_and(|head| head == (*lake, number))
}
