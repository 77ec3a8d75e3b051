//! Every decoder of stored bytes behind one kind of function, for fuzz targets (`fuzz/`) and for the mutation tests below. Only they are
//! built with it.

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::digest::{BlockList, Digest, MultisetHash};
use crate::format::binding::Binding;
use crate::format::entry::{EntryBody, EntryKeys, EntryPlace};
use crate::format::manifest::ObjectManifest;
use crate::format::trailer::Trailer;
use crate::id::{LakeId, WriteId};
use crate::key::{PrivateKey, PublicKey};
use crate::lake::{LakeRecord, RegionRecord};

/// A decoder of one kind of stored bytes.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    /// Its name, by which the fuzz target is told.
    pub name: &'static str,
    /// What the bytes mean, as other bytes; `None` when they are refused.
    ///
    /// For bytes that are signed or named by a digest this is the meaning, which must not change with them. For others it is their
    /// canonical form, which accepted bytes must have.
    pub decode: fn(&[u8]) -> Option<Vec<u8>>,
}

/// All decoders.
pub fn decoders() -> Vec<Decoder> {
    #[cfg_attr(not(feature = "tables"), expect(unused_mut, reason = "more follow with tables"))]
    let mut all = vec![
        Decoder { name: "manifest", decode: manifest },
        Decoder { name: "register_entry", decode: register_entry },
        Decoder { name: "shard_trailer", decode: shard_trailer },
        Decoder { name: "binding", decode: binding },
        Decoder { name: "lake_record", decode: lake_record },
        Decoder { name: "region_record", decode: region_record },
        Decoder { name: "block_list", decode: block_list },
        Decoder { name: "multiset", decode: multiset },
    ];
    #[cfg(feature = "tables")]
    all.extend(crate::baseline::fuzzing::decoders());
    all
}

/// The key that signed what is fuzzed.
pub(crate) fn key() -> PrivateKey {
    PrivateKey::from_seed(&[7; 32])
}

fn public() -> [PublicKey; 1] {
    [key().public()]
}

const LAKE: LakeId = LakeId([1; 16]);
const WRITE: WriteId = WriteId([2; 16]);
const PLACE: EntryPlace<'static> = EntryPlace { lake: LAKE, configuration: 3, region: 2, path: "t/_delta_log/0.json", slot: 9, seq: 0 };
/// The bytes whose block list is fuzzed.
static BLOCKS_OF: [u8; 200_000] = [5; 200_000];

fn debug(meaning: &impl std::fmt::Debug) -> Vec<u8> {
    format!("{meaning:?}").into_bytes()
}

fn manifest(bytes: &[u8]) -> Option<Vec<u8>> {
    ObjectManifest::decode(&Bytes::copy_from_slice(bytes)).ok()?.encode().ok()
}

fn register_entry(bytes: &[u8]) -> Option<Vec<u8>> {
    let keys = public();
    let keys = EntryKeys { writers: &keys, collectors: &keys };
    EntryBody::open(&Bytes::copy_from_slice(bytes), &PLACE, keys).ok().map(|body| debug(&body))
}

fn shard_trailer(bytes: &[u8]) -> Option<Vec<u8>> {
    Trailer::open(bytes, &public()).ok().map(|trailer| debug(&trailer))
}

fn binding(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(Binding::decode(bytes, LAKE, WRITE, 4).ok()?.encode(LAKE, WRITE, 4).ok()?.to_vec())
}

fn lake_record(bytes: &[u8]) -> Option<Vec<u8>> {
    LakeRecord::open(bytes, &key().public()).ok().map(|record| debug(&record))
}

fn region_record(bytes: &[u8]) -> Option<Vec<u8>> {
    RegionRecord::open(bytes, &key().public()).ok().map(|record| debug(&record))
}

fn block_list(bytes: &[u8]) -> Option<Vec<u8>> {
    let root = Digest::of(&BLOCKS_OF);
    let len = u64::try_from(BLOCKS_OF.len()).ok()?;
    BlockList::from_bytes(bytes, len, root).ok().map(|list| list.to_bytes())
}

fn multiset(bytes: &[u8]) -> Option<Vec<u8>> {
    MultisetHash::from_bytes(bytes).ok().map(|hash| hash.to_bytes().to_vec())
}
