use std::sync::Arc;

use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;

use super::*;
use crate::key::PrivateKey;

const BYTES: &[u8] = b"{\"commitInfo\":{\"operation\":\"WRITE\"}}\n";

fn sample() -> Attestation {
    let previous = Some(Digest([4; 32]));
    Attestation {
        commit: AttestedCommit::of("id".to_owned(), "lakeseal://lake/t".to_owned(), 7, BYTES, previous),
        provenance: json!({"buildDefinition": {"buildType": "x"}, "runDetails": {"builder": {"id": "y"}}}),
    }
}

async fn stored(key: &PrivateKey, version: u64, commit: Digest, envelope: Vec<u8>) -> (Arc<InMemory>, Path, AttestationName) {
    let (store, root) = (Arc::new(InMemory::new()), Path::from("t"));
    let name = AttestationName { version, commit, key: key.public().id() };
    store.put(&name.path(&root), envelope.into()).await.unwrap();
    (store, root, name)
}

#[test]
fn a_statement_reads_back_and_its_lineage_is_bound() {
    let statement = sample().statement(&[("part-0.parquet".to_owned(), Digest([1; 32]))]);
    assert_eq!(Attestation::parse(&statement).unwrap(), sample());
    let text = String::from_utf8(statement).unwrap();
    assert!(text.starts_with(r#"{"_type":"https://in-toto.io/Statement/v1","predicate":{"buildDefinition":"#), "{text}");
    assert!(text.contains(r#"{"digest":{"blake3":"0101"#), "outputs are subjects: {text}");
    let other = text.replace("\"buildType\":\"x\"", "\"buildType\":\"z\"");
    assert_eq!(Attestation::parse(other.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
    let later = text.replace("\"format\":1", "\"format\":2");
    assert_eq!(Attestation::parse(later.as_bytes()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn only_the_signer_s_own_key_opens_an_attestation() {
    let (key, stranger) = (PrivateKey::from_seed(&[1; 32]), PrivateKey::from_seed(&[2; 32]));
    let envelope = attestation_envelope(&key, sample().statement(&[])).await.unwrap();
    let (store, root, name) = stored(&key, 7, Digest::of(BYTES), envelope.clone()).await;
    assert_eq!(read_attestation(&*store, &root, &name, &[key.public().into()]).await.unwrap(), Some(sample()));
    assert_eq!(read_attestation(&*store, &root, &name, &[stranger.public().into()]).await.unwrap(), None);
    // A stranger's signature under the writer's name.
    let (store, root, name) =
        stored(&key, 7, Digest::of(BYTES), attestation_envelope(&stranger, sample().statement(&[])).await.unwrap()).await;
    assert_eq!(read_attestation(&*store, &root, &name, &[key.public().into(), stranger.public().into()]).await.unwrap(), None);
    // Replayed for another version, and for another commit.
    for (version, commit) in [(8, Digest::of(BYTES)), (7, Digest([9; 32]))] {
        let (store, root, name) = stored(&key, version, commit, envelope.clone()).await;
        assert_eq!(read_attestation(&*store, &root, &name, &[key.public().into()]).await.unwrap(), None, "{version}");
    }
}

#[tokio::test]
async fn no_changed_byte_is_accepted() {
    let key = PrivateKey::from_seed(&[1; 32]);
    let envelope = attestation_envelope(&key, sample().statement(&[])).await.unwrap();
    for at in 0..envelope.len() {
        let mut changed = envelope.clone();
        changed[at] ^= 1;
        let opened = open_envelope(&key.public().into(), &changed).map(|statement| Attestation::parse(&statement).unwrap());
        // Spellings of the same content are: base64's last bits, white space.
        assert!(opened.is_none_or(|opened| opened == sample()), "byte {at}");
    }
}

#[tokio::test]
async fn names_that_are_none_are_left_out_and_versions_begin_where_asked() {
    let (store, root) = (InMemory::new(), Path::from("t"));
    let name = |version| AttestationName { version, commit: Digest([1; 32]), key: KeyId(Digest([2; 32])) };
    for version in [0, 1, 9, 10, 11] {
        store.put(&name(version).path(&root), "x".into()).await.unwrap();
    }
    let good = name(12).path(&root).to_string();
    for junk in [
        good.replace("00000000000000000012", "12"),
        good.replace(".json", ".json.tmp"),
        good.replace("0101", "01AB"),
        good.replace("-0202", "-02"),
        good.replace(".json", "-1.json"),
    ] {
        store.put(&Path::from(junk), "x".into()).await.unwrap();
    }
    assert_eq!(attestation_names(&store, &root, Some(9)).await.unwrap(), [name(10), name(11)]);
    assert_eq!(attestation_names(&store, &root, None).await.unwrap().len(), 5);
}
