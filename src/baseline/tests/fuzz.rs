//! Honest bytes for the decoders of tables and baselines, from a table that is really sealed.

use serde_json::json;

use super::log::Lake;
use super::*;
use crate::baseline::fuzzing::{NOW_MS as VERIFIED_MS, PROVED, SIGNED};
use crate::baseline::log::{entry_sample, proof};
use crate::baseline::sign;
use crate::baseline::statement::tests::sample;
use crate::digest::Digest;
use crate::key::{Role, Signer};

/// What the decoder of this name accepts.
pub(crate) fn seeds(name: &str) -> Vec<Vec<u8>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(seeds_of(name))
}

async fn lake() -> Lake {
    let lake = Lake::sealed_by(crate::fuzzing::key()).await;
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    lake
}

async fn seeds_of(name: &str) -> Vec<Vec<u8>> {
    let key = crate::fuzzing::key();
    match name {
        "signature" => vec![sign::sign(&key, SIGNED).await.unwrap()],
        "trust_root" => vec![trust_root().await.to_bytes()],
        "trust_document" => vec![trust_root().await.root().to_bytes()],
        "log_entry" => vec![entry_sample(3).sign(&key).await.unwrap()],
        "pins" => {
            let mut pins = Pins::default();
            let names = PinNames::new("memory:///t", None);
            let baseline = sample(2).summary(Digest([1; 32]), Standing::default());
            pins.raise(&names, &baseline);
            pins.raise_log(&names, &LogPin { origin: "lakeseal.log/x".into(), size: 3, root: [2; 32] });
            assert!(pins.to_text().unwrap().len() < usize::try_from(PINS_LIMIT_BYTES).unwrap());
            vec![pins.to_text().unwrap().into_bytes()]
        }
        "attestation" => vec![attestation_envelope(&key, attestation().statement(&outputs())).await.unwrap()],
        "attestation_statement" => vec![attestation().statement(&outputs())],
        "purge" => {
            let file = |name: &str| PurgedFile { path: name.into(), digest: Digest([7; 32]), sha256: [8; 32] };
            let purge = Purge {
                location: "memory:///t".into(),
                table_id: "id".into(),
                baseline: 3,
                created_ms: NOW_MS,
                reason: "request 17".into(),
                files: vec![file("a.parquet"), file("b.parquet")],
            };
            vec![purge.to_bytes()]
        }
        "evidence_changes" => {
            let files = ["_change_data/a.parquet", "_change_data/b.parquet"];
            let files = files.map(|path| SealedObject { path: path.into(), size: 5, digest: Digest([3; 32]) });
            let delta = evidence::Delta { changes: files.iter().collect(), ..evidence::Delta::default() };
            delta.encode(&[1; 32]).unwrap().into_iter().map(|(_, bytes)| bytes).collect()
        }
        "evidence_expectations" => {
            let expectation = |name: &str| Expectation { name: name.into(), predicate: "value > 0".into() };
            vec![evidence::encode_expectations(&[expectation("positive"), expectation("again")], &[1; 32]).unwrap()]
        }
        "parquet" => vec![table::parquet(1, table::honest)],
        "commit" => {
            let world = World::new();
            world.create(0).await;
            vec![world.get(&world.log(0)).await]
        }
        "delta_checkpoint" => vec![checkpoint_parquet()],
        "delta_checkpoint_json" => vec![format!("{{\"checkpointMetadata\":{{\"version\":0}}}}\n{}", checkpoint_lines()).into_bytes()],
        "deletion_vector" => vec![vector()],
        _ => from_lake(name).await,
    }
}

async fn from_lake(name: &str) -> Vec<Vec<u8>> {
    let lake = lake().await;
    let all: Vec<_> = lake.paths("").await;
    let mut found = Vec::new();
    for path in all {
        let bytes = lake.t.get(&path).await;
        let text = path.as_ref();
        let fits = match name {
            "statement" => text.starts_with("t/_seal/baselines/"),
            "checkpoint" => text.contains("/log/checkpoints/"),
            "inventory" => text.contains("/log/inventory/"),
            _ if text.starts_with("t/_seal/evidence/") => {
                let kind = name.strip_prefix("evidence_").unwrap_or_default();
                let footer = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(16_384)..]).into_owned();
                footer.contains(&format!("lakeseal.evidence.kind\u{18}{}{kind}", char::from(u8::try_from(kind.len()).unwrap())))
            }
            _ => false,
        };
        if fits {
            found.push(bytes);
        }
    }
    if name == "evidence_profiles" {
        assert!(found.iter().any(|bytes| !bytes.is_empty()), "tables are sealed with profiles");
    }
    if name == "proof" {
        let repository = lake.t.repository();
        let sealed = repository.newest_baseline(&lake.t.trust()).await.unwrap().unwrap();
        let proof = lake.log().prove(&sealed, PROVED, &repository, &lake.t.trust()).await.unwrap();
        assert!(proof::PROOF_LIMIT_BYTES > proof.len() as u64 && VERIFIED_MS < sealed.baseline.expires_ms.unwrap());
        found.push(proof);
    }
    // Row groups are listed after their files: on their own they belong to none, which is refused.
    found
}

fn outputs() -> [(String, Digest); 1] {
    [("part-0.parquet".to_owned(), Digest([9; 32]))]
}

fn attestation() -> Attestation {
    let commit = AttestedCommit::of("id".into(), "memory:///t".into(), 7, b"the commit", Some(Digest([4; 32])));
    let inputs = json!([{"uri": "lakeseal://lake/raw", "annotations": {"rows": 17, "share": 0.1 + 0.2}}]);
    let provenance = json!({
        "buildDefinition": {"buildType": "urn:lakeseal:commit:v1", "resolvedDependencies": inputs, "externalParameters": {"sql": "SELECT \"ä\""}},
        "runDetails": {"builder": {"id": "lakeseal"}},
    });
    Attestation { commit, provenance }
}

async fn trust_root() -> SignedRoot {
    let key = crate::fuzzing::key();
    let holders = || RoleKeys { keys: vec![Signer::public(&key)], threshold: 1 };
    let root = TrustRoot {
        version: 1,
        previous: None,
        name: "of the tests".into(),
        names: std::collections::BTreeMap::new(),
        created_ms: NOW_MS,
        expires_ms: Some(NOW_MS + 1),
        roles: [(Role::Root, holders()), (Role::Sealer, holders())].into(),
        revoked: Vec::new(),
    };
    let mut signed = SignedRoot::draft(root).unwrap();
    signed.sign(&key).await.unwrap();
    signed
}

/// What a checkpoint says of a table with one file.
fn checkpoint_lines() -> String {
    let schema = json!({"type": "struct", "fields": [{"name": "p", "type": "string", "nullable": true, "metadata": {}}]});
    let lines = [
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        json!({"metaData": {
            "id": "x", "format": {"provider": "parquet"}, "schemaString": schema.to_string(), "partitionColumns": ["p"], "createdTime": 5,
        }}),
        json!({"add": {
            "path": "p=1/a.parquet", "partitionValues": {"p": "1"}, "size": 5, "modificationTime": 1, "dataChange": true,
        }}),
    ];
    lines.map(|line| format!("{line}\n")).concat()
}

fn checkpoint_parquet() -> Vec<u8> {
    let lines = checkpoint_lines();
    let (schema, _) = arrow::json::reader::infer_json_schema(lines.as_bytes(), None).unwrap();
    let schema = Arc::new(schema);
    let batch = arrow::json::ReaderBuilder::new(schema.clone()).build(lines.as_bytes()).unwrap().next().unwrap().unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A roaring bitmap as Delta stores one.
fn vector() -> Vec<u8> {
    let mut positions = roaring::RoaringTreemap::new();
    positions.insert(3);
    positions.insert((1 << 30) - 1);
    let mut bytes = 1_681_511_377_u32.to_le_bytes().to_vec();
    positions.serialize_into(&mut bytes).unwrap();
    bytes
}
