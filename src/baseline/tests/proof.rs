//! Proofs of files: they hold for what was sealed, offline, and for nothing else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::log::Lake;
use super::*;
use crate::baseline::log::proof::{FileHasher, Proven, verify};
use crate::clock::Clock as _;
use crate::key::Role;

async fn proved(lake: &Lake, path: &str) -> Vec<u8> {
    let repository = lake.t.repository();
    let sealed = repository.newest_baseline(&lake.t.trust()).await.unwrap().unwrap();
    lake.log().prove(&sealed, path, &repository, &lake.t.trust()).await.unwrap()
}

fn hash(bytes: &[u8]) -> FileHasher {
    let mut hasher = FileHasher::default();
    for piece in bytes.chunks(1000) {
        hasher.update(piece);
    }
    hasher
}

fn check(lake: &Lake, proof: &[u8], file: &[u8]) -> Result<Proven> {
    verify(proof, &hash(file), &lake.t.trust(), lake.t.clock.now_ms())
}

#[tokio::test]
async fn a_proof_holds_for_its_file_and_no_other() {
    let lake = Lake::sealed().await;
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    for name in ["f1.parquet", "f2.parquet", "f3.parquet"] {
        let file = lake.t.get(&lake.t.file(name)).await;
        let proof = proved(&lake, name).await;
        let proven = check(&lake, &proof, &file).unwrap();
        assert_eq!((proven.path.as_str(), proven.rows, proven.baseline.number), (name, 200, 2));
        assert_eq!((proven.log.size, proven.entry), (3, 2));

        let mut changed = file.clone();
        changed[100] ^= 1;
        for other in [&changed[..], &file[..file.len() - 1], b""] {
            assert_eq!(check(&lake, &proof, other).unwrap_err().kind(), crate::ErrorKind::Mismatch);
        }
        // Pretty-printed it is the same proof.
        let value: Value = serde_json::from_slice(&proof).unwrap();
        check(&lake, &serde_json::to_vec_pretty(&value).unwrap(), &file).unwrap();
        // Nobody else's signature, and not for ever.
        let other = Trust::new([PrivateKey::from_seed(&[9; 32]).public()], TrustLevel::Given).unwrap();
        assert_eq!(verify(&proof, &hash(&file), &other, NOW_MS).unwrap_err().kind(), crate::ErrorKind::Unauthentic);
        let late = verify(&proof, &hash(&file), &lake.t.trust(), NOW_MS + 2 * EXPIRES_AFTER_MS).unwrap_err();
        assert!(late.to_string().contains("term is over"), "{late}");
    }
    let repository = lake.t.repository();
    let sealed = repository.newest_baseline(&lake.t.trust()).await.unwrap().unwrap();
    let gone = lake.log().prove(&sealed, "nothing.parquet", &repository, &lake.t.trust()).await.unwrap_err();
    assert_eq!(gone.kind(), crate::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_proof_depends_on_the_trust_root_as_an_audit_does() {
    let lake = Lake::sealed().await;
    let key = &lake.t.key;
    let holders = || RoleKeys { keys: vec![key.public().into()], threshold: 1 };
    let one = TrustRoot {
        name: "t".into(),
        version: 1,
        previous: None,
        created_ms: NOW_MS,
        expires_ms: Some(NOW_MS + EXPIRES_AFTER_MS / 2),
        roles: BTreeMap::from([(Role::Root, holders()), (Role::Sealer, holders())]),
        names: BTreeMap::new(),
        revoked: Vec::new(),
    };
    let signed = async |root: TrustRoot| {
        let mut signed = SignedRoot::draft(root).unwrap();
        signed.sign(key).await.unwrap();
        signed
    };
    let one = signed(one).await;
    let two = signed(TrustRoot { version: 2, previous: Some(one.digest()), ..one.root().clone() }).await;
    let (one, two) = (Trust::from_root(one), Trust::from_root(two));
    let file = lake.t.get(&lake.t.file("f1.parquet")).await;
    let proof = proved(&lake, "f1.parquet").await;
    verify(&proof, &hash(&file), &one, NOW_MS + 10_000).unwrap();
    let late = verify(&proof, &hash(&file), &one, NOW_MS + EXPIRES_AFTER_MS * 2 / 3).unwrap_err();
    assert_eq!(late.kind(), crate::ErrorKind::Mismatch, "{late}");
    assert!(late.message().contains("version 1 of the trust root expired"), "{late}");
    // Sealed under version 2, of which whoever verifies does not know what it changed.
    lake.t.append(3).await;
    lake.t.seal_logged(&lake.log(), SealOptions { trust: Some(two.clone()), ..SealOptions::default() }).await.unwrap();
    let proof = proved(&lake, "f1.parquet").await;
    verify(&proof, &hash(&file), &two, NOW_MS + 10_000).unwrap();
    let older = verify(&proof, &hash(&file), &one, NOW_MS + 10_000).unwrap_err();
    assert_eq!(older.kind(), crate::ErrorKind::Config, "{older}");
    assert!(older.message().contains("only version 1 is known"), "{older}");
}

/// Everything in a proof matters: whatever member is changed, it proves nothing, or says the same as before.
#[tokio::test]
async fn a_proof_that_was_changed_anywhere_proves_nothing() {
    let lake = Lake::sealed().await;
    let file = lake.t.get(&lake.t.file("f1.parquet")).await;
    let proof: Value = serde_json::from_slice(&proved(&lake, "f1.parquet").await).unwrap();
    let pointers = leaves("", &proof);
    assert!(pointers.len() > 25, "{pointers:?}");
    let mut ignored = Vec::new();
    for pointer in pointers {
        for change in changes(proof.pointer(&pointer).unwrap()) {
            let mut changed = proof.clone();
            *changed.pointer_mut(&pointer).unwrap() = change;
            if check(&lake, changed.to_string().as_bytes(), &file).is_ok() {
                ignored.push(pointer.clone());
            }
        }
    }
    assert_eq!(ignored, [""; 0]);
    // Parts of two proofs, each of them true.
    let other: Value = serde_json::from_slice(&proved(&lake, "f2.parquet").await).unwrap();
    let mut mixed = proof.clone();
    mixed["file"]["leaf"] = other["file"]["leaf"].clone();
    assert!(check(&lake, mixed.to_string().as_bytes(), &lake.t.get(&lake.t.file("f2.parquet")).await).is_err());
}

fn leaves(at: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) if !members.is_empty() => members
            .iter()
            .flat_map(|(name, member)| leaves(&format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), member))
            .collect(),
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().flat_map(|(i, item)| leaves(&format!("{at}/{i}"), item)).collect()
        }
        _ => vec![at.to_owned()],
    }
}

fn changes(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) => {
            let mut found = vec![Value::Null, json!(format!("{text}A")), json!("")];
            let half = text.len() / 2;
            if let Some(byte) = text.as_bytes().get(half).filter(|b| b.is_ascii_alphanumeric()) {
                let mut bytes = text.clone().into_bytes();
                bytes[half] = if *byte == b'0' { b'1' } else { b'0' };
                found.push(json!(String::from_utf8(bytes).unwrap()));
            }
            found.retain(|other| other != value);
            found
        }
        Value::Number(number) => vec![json!(number.as_u64().map_or(1, |n| n + 1)), Value::Null, json!(1.5)],
        Value::Null => vec![json!(1), json!({})],
        _ => vec![Value::Null, json!(1), json!([[]])],
    }
}
