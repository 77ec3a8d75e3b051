//! The decoders of what is stored of tables and baselines, for [`crate::fuzzing`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::log::proof::{FileHasher, verify};
use super::log::{Checkpoint, Entry};
use super::statement::{EvidenceKind, EvidenceRef, Statement};
use super::trust::{SignedRoot, Trust, TrustLevel, TrustRoot};
use super::{Attestation, Inventory, Pins, Purge, attestation, evidence, sign};
use crate::digest::Digest;
use crate::fingerprint::{FileContext, fingerprint};
use crate::fuzzing::{Decoder, key};
use crate::key::{Signer, VerifyingKey};
use crate::table::{self, TableSchema, deletion_vector};

/// The payload whose signature is fuzzed.
pub(crate) const SIGNED: &[u8] = b"payload";
/// The file whose proof is fuzzed.
pub(crate) const PROVED: &str = "f1.parquet";
/// When it is verified, in milliseconds since 1970.
pub(crate) const NOW_MS: i64 = 1_790_000_000_000;

const CHECKPOINT_JSON: &str = "00000000000000000000.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json";

/// All of them.
pub(crate) fn decoders() -> Vec<Decoder> {
    vec![
        Decoder { name: "statement", decode: |bytes| Statement::parse(bytes).ok().map(|statement| statement.to_bytes()) },
        Decoder { name: "signature", decode: |bytes| sign::verifies(&keys()[0], SIGNED, bytes).then(Vec::new) },
        Decoder { name: "trust_root", decode: |bytes| SignedRoot::open(bytes).ok().map(|signed| debug(signed.root())) },
        Decoder { name: "trust_document", decode: |bytes| TrustRoot::parse(bytes).ok().map(|root| root.to_bytes()) },
        Decoder { name: "log_entry", decode: |bytes| Entry::open(bytes, &keys()).map(|entry| debug(&entry)) },
        Decoder { name: "checkpoint", decode: |bytes| Checkpoint::open(bytes, &keys()).map(|checkpoint| debug(&checkpoint)) },
        Decoder { name: "inventory", decode: |bytes| Inventory::open(bytes, &keys()).map(|inventory| debug(&inventory)) },
        Decoder { name: "proof", decode: proof },
        Decoder { name: "pins", decode: |bytes| Pins::parse(bytes).ok().map(|_| bytes.to_vec()) },
        Decoder { name: "evidence_files", decode: |bytes| evidence(bytes, EvidenceKind::Files) },
        Decoder { name: "evidence_row_groups", decode: |bytes| evidence(bytes, EvidenceKind::RowGroups) },
        Decoder { name: "evidence_commits", decode: |bytes| evidence(bytes, EvidenceKind::Commits) },
        Decoder { name: "evidence_changes", decode: |bytes| evidence(bytes, EvidenceKind::Changes) },
        Decoder { name: "evidence_profiles", decode: profiles },
        Decoder { name: "evidence_expectations", decode: expectations },
        Decoder { name: "attestation", decode: attested },
        Decoder { name: "attestation_statement", decode: |bytes| Attestation::parse(bytes).ok().map(|_| bytes.to_vec()) },
        Decoder { name: "purge", decode: |bytes| Purge::parse(bytes).ok().map(|purge| purge.to_bytes()) },
        Decoder { name: "parquet", decode: parquet },
        Decoder { name: "commit", decode: |bytes| log(bytes, "00000000000000000000.json") },
        Decoder { name: "delta_checkpoint", decode: |bytes| log(bytes, "00000000000000000000.checkpoint.parquet") },
        Decoder { name: "delta_checkpoint_json", decode: |bytes| log(bytes, CHECKPOINT_JSON) },
        Decoder { name: "deletion_vector", decode: |bytes| deletion_vector::parse(bytes).ok().map(|_| bytes.to_vec()) },
    ]
}

fn keys() -> [VerifyingKey; 1] {
    [Signer::public(&key())]
}

fn debug(meaning: &impl std::fmt::Debug) -> Vec<u8> {
    format!("{meaning:?}").into_bytes()
}

/// Nothing here waits for anything but memory.
fn wait<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::runtime::Builder::new_current_thread().build().ok()?.block_on(future)
}

/// The proof of an empty file never holds: what it says is kept, and only the last step fails.
fn proof(bytes: &[u8]) -> Option<Vec<u8>> {
    let trust = Trust::new(keys(), TrustLevel::Given).ok()?;
    match verify(bytes, &FileHasher::default(), &trust, NOW_MS) {
        Ok(proven) => Some(debug(&proven)),
        Err(e) if e.message().starts_with("the file is not the one") => Some(e.to_string().into_bytes()),
        Err(_) => None,
    }
}

/// Evidence is named by digest: this is what stands behind that check.
fn evidence(bytes: &[u8], kind: EvidenceKind) -> Option<Vec<u8>> {
    let reference = EvidenceRef { kind, digest: Digest::of(bytes), size: u64::try_from(bytes.len()).ok()?, number: 1 };
    let (bytes, root) = (Bytes::copy_from_slice(bytes), Path::from("t"));
    if kind == EvidenceKind::RowGroups {
        // What it comes to without the files is of no matter: it must neither panic nor take memory without bound.
        let _ = evidence::State::new(evidence::Detail::Roots).apply_roots(&reference, bytes.clone(), &mut None);
    }
    evidence::State::new(evidence::Detail::Whole).apply(&reference, bytes.clone(), &root).ok().map(|()| bytes.to_vec())
}

fn attested(bytes: &[u8]) -> Option<Vec<u8>> {
    Attestation::parse(&attestation::open_envelope(&keys()[0], bytes)?).ok().map(|found| debug(&found))
}

fn profiles(bytes: &[u8]) -> Option<Vec<u8>> {
    evidence::read_profiles(Bytes::copy_from_slice(bytes), &mut evidence::Profiles::new()).ok().map(|()| bytes.to_vec())
}

fn expectations(bytes: &[u8]) -> Option<Vec<u8>> {
    evidence::read_expectations(Bytes::copy_from_slice(bytes)).ok().map(|_| bytes.to_vec())
}

/// Footer walk, page headers, decoding and row encoding of a data file.
fn parquet(bytes: &[u8]) -> Option<Vec<u8>> {
    wait(async {
        let (store, location) = (InMemory::new(), Path::from("f.parquet"));
        store.put(&location, Bytes::copy_from_slice(bytes).into()).await.ok()?;
        let (schema, values) = (TableSchema::default(), BTreeMap::new());
        let context =
            FileContext { schema: &schema, partition_values: &values, row_key: [1; 32], rows: true, profiles: true, deletion_vector: None };
        fingerprint(&store, &location, None, &context, &|_| {}).await.ok().map(|_| bytes.to_vec())
    })
}

/// A log of one object.
fn log(bytes: &[u8], name: &str) -> Option<Vec<u8>> {
    wait(async {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        store.put(&Path::from("t/_delta_log").join(name), Bytes::copy_from_slice(bytes).into()).await.ok()?;
        table::load(&*store, &Path::from("t"), None).await.ok().map(|_| bytes.to_vec())
    })
}
