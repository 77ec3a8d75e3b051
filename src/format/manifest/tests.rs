//! Golden bytes that prove the document, and damage at every byte.

use object_store::{Attribute, Attributes};
use proptest::prelude::*;

use super::*;
use crate::erasure::CodecId;

fn inline(bytes: &'static [u8]) -> ObjectManifest {
    ObjectManifest {
        lake: LakeId([0x11; 16]),
        configuration: 1,
        path: "t/_delta_log/0.json".to_owned(),
        slot: 2,
        write_id: WriteId([0x22; 16]),
        modified_ms: 1_700_000_000_123,
        digest: Digest::of(bytes),
        predecessor: Some(Digest([0x33; 32])),
        attributes: Attributes::from_iter([(Attribute::ContentType, "text/plain"), (Attribute::Metadata("k".into()), "v")]),
        content: Content::Inline(Bytes::from_static(bytes)),
    }
}

fn sharded() -> ObjectManifest {
    let roots = (0u8..10).map(|i| Digest([i; 32])).collect();
    ObjectManifest {
        slot: 0,
        predecessor: None,
        attributes: Attributes::new(),
        digest: Digest([0x44; 32]),
        content: Content::Shards(Sharded {
            size: 1025,
            codec: CodecId::new(3, 2),
            segment_bytes: 1024,
            shard_slot: 0,
            placement: vec![0, 1, 2, 3, 4],
            roots,
        }),
        ..inline(b"")
    }
}

fn tombstone() -> ObjectManifest {
    ObjectManifest { content: Content::Tombstone, digest: Digest::of(b""), attributes: Attributes::new(), ..inline(b"") }
}

fn golden(name: &str, manifest: &ObjectManifest) {
    let path = format!("{}/docs/format/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let stored: String = std::fs::read_to_string(&path).unwrap().split_whitespace().collect();
    assert_eq!(hex::encode(manifest.encode().unwrap()), stored, "{name}");
    assert_eq!(ObjectManifest::decode(&hex::decode(stored).unwrap().into()).unwrap(), *manifest);
}

#[test]
fn manifests_are_the_bytes_that_the_document_shows() {
    golden("manifest-inline", &inline(b"hello"));
    golden("manifest-sharded", &sharded());
    golden("manifest-tombstone", &tombstone());
}

#[test]
fn every_truncation_and_extension_is_refused() {
    for manifest in [inline(b"hello"), sharded(), tombstone()] {
        let bytes = manifest.encode().unwrap();
        for len in 0..bytes.len() {
            assert!(ObjectManifest::decode(&Bytes::copy_from_slice(&bytes[..len])).is_err(), "cut at {len}");
        }
        assert!(ObjectManifest::decode(&[bytes, vec![0]].concat().into()).is_err());
    }
}

#[test]
fn unknown_versions_codes_and_confidentiality_are_unsupported() {
    let bytes = sharded().encode().unwrap();
    let code = bytes.len() - 10 * 32 - 4 - 5 - 8 - 8 - 4;
    for at in [8, 10, code, code + 1] {
        let mut other = bytes.clone();
        other[at] ^= 0x40;
        assert_eq!(ObjectManifest::decode(&other.into()).unwrap_err().kind(), ErrorKind::Unsupported, "byte {at}");
    }
}

#[test]
fn inline_bytes_are_checked_against_their_digest() {
    let mut bytes = inline(b"hello").encode().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(ObjectManifest::decode(&bytes.into()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_manifest_cannot_claim_segments_that_it_does_not_list() {
    let mut manifest = sharded();
    let Content::Shards(content) = &mut manifest.content else { unreachable!() };
    content.roots.pop();
    assert!(ObjectManifest::decode(&manifest.encode().unwrap().into()).is_err());
    let Content::Shards(content) = &mut manifest.content else { unreachable!() };
    content.size = u64::MAX;
    assert!(manifest.encode().is_err(), "more segments than an object may have");
}

#[test]
fn two_shards_in_one_region_are_refused() {
    let mut manifest = sharded();
    let Content::Shards(content) = &mut manifest.content else { unreachable!() };
    content.placement = vec![0, 1, 2, 3, 0];
    assert_eq!(ObjectManifest::decode(&manifest.encode().unwrap().into()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn oversized_attributes_and_paths_are_refused() {
    let mut manifest = inline(b"");
    manifest.attributes = Attributes::from_iter([(Attribute::Metadata("k".into()), "v".repeat(ATTRIBUTES_LIMIT_BYTES + 1))]);
    assert_eq!(manifest.encode().unwrap_err().kind(), ErrorKind::InvalidInput);
    let manifest = ObjectManifest { path: "p".repeat(PATH_LIMIT_BYTES + 1), ..inline(b"") };
    assert_eq!(manifest.encode().unwrap_err().kind(), ErrorKind::InvalidInput);
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic_and_never_read_as_the_same(which in 0usize..3, at: prop::sample::Index, change in 1u8..) {
        let manifest = [inline(b"hello"), sharded(), tombstone()][which].clone();
        let mut bytes = manifest.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(found) = ObjectManifest::decode(&bytes.into()) {
            prop_assert_ne!(found, manifest);
        }
    }

    #[test]
    fn random_bytes_never_panic(tail: Vec<u8>, head in 0usize..120) {
        let mut bytes = sharded().encode().unwrap();
        bytes.truncate(head);
        bytes.extend(tail);
        let _ = ObjectManifest::decode(&bytes.into());
    }
}
