//! Who may make a trust root, who may replace it, and what counts as a key.

use std::collections::BTreeMap;

use super::*;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::key::{P256PrivateKey, PrivateKey, Signer};

fn seed(n: u8) -> PrivateKey {
    PrivateKey::from_seed(&[n; 32])
}

fn holders(keys: &[&PrivateKey], threshold: usize) -> RoleKeys {
    RoleKeys { keys: keys.iter().map(|key| key.public().into()).collect(), threshold }
}

/// Version 1: two of three hold the root, two of two seal.
fn first(root_keys: &[&PrivateKey], threshold: usize) -> TrustRoot {
    let (alice, bob) = (seed(11), seed(12));
    TrustRoot {
        name: "sales".into(),
        version: 1,
        previous: None,
        created_ms: 1_000,
        expires_ms: Some(2_000_000),
        roles: BTreeMap::from([(Role::Root, holders(root_keys, threshold)), (Role::Sealer, holders(&[&alice, &bob], 2))]),
        names: BTreeMap::from([(alice.public().to_string(), "Alice".into())]),
        revoked: vec![Revocation {
            key: P256PrivateKey::generate().unwrap().public().into(),
            revoked_ms: 5,
            reason: "lost".into(),
            last_good: vec![LastGood { table: "memory:///t".into(), number: 3, digest: Digest([3; 32]) }],
        }],
    }
}

async fn signed(root: TrustRoot, by: &[&dyn Signer]) -> SignedRoot {
    let mut signed = SignedRoot::draft(root).unwrap();
    for signer in by {
        signed.sign(*signer).await.unwrap();
    }
    signed
}

fn next(of: &SignedRoot) -> TrustRoot {
    TrustRoot { version: of.root().version + 1, previous: Some(of.digest()), ..of.root().clone() }
}

#[test]
fn a_key_given_twice_counts_once_and_none_is_refused() {
    let key = seed(1).public();
    assert_eq!(Trust::new([key, key], TrustLevel::Given).unwrap().keys(Role::Sealer).len(), 1);
    assert_eq!(Trust::new::<VerifyingKey>([], TrustLevel::Given).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn a_flat_set_seals_and_lists_no_writers() {
    let trust = Trust::new([seed(1).public()], TrustLevel::SelfMade).unwrap().and(seed(2).public());
    assert_eq!((trust.keys(Role::Sealer).len(), trust.threshold(Role::Sealer)), (2, 1));
    assert!(trust.keys(Role::Writer).is_empty() && trust.keys(Role::Root).is_empty());
}

#[tokio::test]
async fn a_root_needs_the_threshold_of_its_own_distinct_keys() {
    let (a, b, c) = (seed(1), seed(2), seed(3));
    let mut root = signed(first(&[&a, &b, &c], 2), &[&a]).await;
    let refused = SignedRoot::open(&root.to_bytes()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthentic);
    assert!(refused.message().contains("1 of the 2"), "{refused}");
    root.sign(&a).await.unwrap();
    root.sign(&seed(9)).await.unwrap();
    assert!(SignedRoot::open(&root.to_bytes()).is_err(), "one key twice and a stranger are one signature");
    root.sign(&c).await.unwrap();
    let trust = Trust::from_root(SignedRoot::open(&root.to_bytes()).unwrap());
    assert_eq!((trust.keys(Role::Sealer).len(), trust.threshold(Role::Sealer), trust.level().name()), (2, 2, "root"));
    // What is signed cannot be changed, and a flat addition changes nothing.
    assert_eq!(trust.clone().and(seed(7).public()), trust);
    let text = String::from_utf8(root.to_bytes()).unwrap();
    let payload = text.split("\"payload\":\"").nth(1).unwrap().split('"').next().unwrap();
    let swapped = signed(TrustRoot { name: "other".into(), ..root.root().clone() }, &[]).await;
    let other = String::from_utf8(swapped.to_bytes()).unwrap();
    let other = other.split("\"payload\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(SignedRoot::open(text.replace(payload, &other).as_bytes()).unwrap_err().kind(), ErrorKind::Unauthentic);
}

#[tokio::test]
async fn a_new_root_is_signed_by_the_old_and_by_the_new() {
    let (a, b, c, d) = (seed(1), seed(2), seed(3), seed(4));
    let one = signed(first(&[&a, &b], 2), &[&a, &b]).await;
    let mut two = next(&one);
    two.roles.insert(Role::Root, holders(&[&c, &d], 2));
    // The old alone, the new alone, one of each, and all.
    for (by, holds) in [
        (vec![&a, &b], false),
        (vec![&c, &d], false),
        (vec![&a, &c], false),
        (vec![&a, &b, &c], false),
        (vec![&a, &c, &d], false),
        (vec![&a, &b, &c, &d], true),
    ] {
        let by: Vec<&dyn Signer> = by.into_iter().map(|key| key as &dyn Signer).collect();
        let two = signed(two.clone(), &by).await;
        let opened = one.open_successor(&two.to_bytes());
        assert_eq!(opened.is_ok(), holds, "{opened:?}");
        if let Ok(opened) = opened {
            assert_eq!(opened.root().version, 2);
        }
    }
}

#[tokio::test]
async fn versions_are_consecutive_and_name_their_predecessor() {
    let a = seed(1);
    let one = signed(first(&[&a], 1), &[&a]).await;
    for wrong in [
        TrustRoot { version: 3, ..next(&one) },
        TrustRoot { previous: Some(Digest([0; 32])), ..next(&one) },
        TrustRoot { name: "again".into(), ..one.root().clone() },
    ] {
        let wrong = signed(wrong, &[&a]).await;
        assert_eq!(one.open_successor(&wrong.to_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert!(SignedRoot::draft(TrustRoot { version: 0, ..first(&[&a], 1) }).is_err());
    assert!(SignedRoot::draft(TrustRoot { previous: Some(Digest([0; 32])), ..first(&[&a], 1) }).is_err());
}

#[test]
fn a_root_that_contradicts_itself_is_refused() {
    let (a, b) = (seed(1), seed(2));
    let good = first(&[&a, &b], 2);
    assert!(good.check().is_ok());
    let with = |role, holders| {
        let mut root = good.clone();
        root.roles.insert(role, holders);
        root.check().map_err(|e| e.message().to_owned())
    };
    assert!(with(Role::Sealer, holders(&[&a], 2)).unwrap_err().contains("2 of 1"));
    assert!(with(Role::Sealer, holders(&[&a], 0)).unwrap_err().contains("0 of 1"));
    assert!(with(Role::Sealer, holders(&[&a, &a], 2)).unwrap_err().contains("twice"));
    for role in [Role::Timestamp, Role::Writer] {
        assert!(with(role, holders(&[&a, &b], 2)).unwrap_err().contains("each key of this role signs alone"));
        assert!(with(role, holders(&[&a, &b], 1)).is_ok());
    }
    assert!(with(Role::Collector, holders(&[&a], 1)).is_err());
    let revoked = RoleKeys { keys: vec![good.revoked[0].key], threshold: 1 };
    assert!(with(Role::Writer, revoked).unwrap_err().contains("is revoked"));
    assert!(TrustRoot { expires_ms: Some(1_000), ..good.clone() }.check().is_err());
    assert!(TrustRoot { name: "\u{1b}[31mred".into(), ..good.clone() }.check().is_err());
    let mut no_sealer = good.clone();
    no_sealer.roles.remove(&Role::Sealer);
    assert!(no_sealer.check().unwrap_err().message().contains("sealer"));
}

#[test]
fn a_document_reads_back_and_no_other_spelling_of_it_is_accepted() {
    let root = first(&[&seed(1)], 1);
    let text = String::from_utf8(root.to_bytes()).unwrap();
    assert_eq!(TrustRoot::parse(text.as_bytes()).unwrap(), root);
    let key = seed(1).public().to_string();
    for (from, to) in [
        ("\"format\":1", "\"format\": 1"),
        ("\"version\":1", "\"version\":1,\"zzz\":1"),
        ("\"threshold\":1", "\"threshold\":1.0"),
        ("\"root\":{", "\"toor\":{"),
        (key.as_str(), "ed25519:0100000000000000000000000000000000000000000000000000000000000000"),
        (key.as_str(), &key.to_uppercase()),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert_eq!(TrustRoot::parse(changed.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt, "{to}");
    }
    let newer = text.replacen("\"format\":1", "\"format\":2", 1);
    assert_eq!(TrustRoot::parse(newer.as_bytes()).unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(TrustRoot::parse(&vec![b' '; 1 << 21]).is_err());
}

#[tokio::test]
async fn a_file_is_a_root_or_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (root, pem) = (dir.path().join("root.json"), dir.path().join("keys.pem"));
    let a = seed(1);
    std::fs::write(&root, signed(first(&[&a], 1), &[&a]).await.to_bytes()).unwrap();
    std::fs::write(&pem, format!("# a\n{}", P256PrivateKey::generate().unwrap().public().to_pem().unwrap())).unwrap();
    assert_eq!(Trust::from_files(std::slice::from_ref(&root), TrustLevel::Given).unwrap().level(), TrustLevel::Root);
    assert_eq!(Trust::from_files(std::slice::from_ref(&pem), TrustLevel::Given).unwrap().level(), TrustLevel::Given);
    assert_eq!(Trust::from_files(&[pem, root], TrustLevel::Given).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn no_changed_byte_of_a_root_is_accepted() {
    let a = seed(1);
    let bytes = signed(first(&[&a], 1), &[&a]).await.to_bytes();
    let good = SignedRoot::open(&bytes).unwrap();
    for at in 0..bytes.len() {
        for flip in [1, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            if let Ok(opened) = SignedRoot::open(&changed) {
                assert_eq!((opened.root(), opened.digest()), (good.root(), good.digest()), "byte {at}");
            }
        }
    }
}
