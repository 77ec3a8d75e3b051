use object_store::memory::InMemory;
use serde_json::json;

use super::*;
use crate::baseline::{AuditOptions, Auditor, Outcome, SealOptions, Sealer, Trust, TrustLevel, Verdict, Writers};
use crate::clock::SystemClock;
use crate::key::PrivateKey;

fn writer() -> PrivateKey {
    PrivateKey::from_seed(&[2; 32])
}

struct World {
    plain: Arc<InMemory>,
    location: Location,
}

impl World {
    fn new() -> Self {
        let plain = Arc::new(InMemory::new());
        let lake = LakeStore { name: "world".to_owned(), store: plain.clone() };
        let lake = AttestingStore::around_lake(&lake, Arc::new(writer()), Arc::new(SystemClock)).unwrap();
        Self { plain, location: Location::in_lake(&lake, "t").unwrap() }
    }

    /// A commit without files; returns its digest.
    async fn commit(store: &dyn ObjectStore, who: &str, version: u64, id: Option<&str>) -> Digest {
        let mut text = json!({"txn": {"appId": who, "version": version}}).to_string();
        if let Some(id) = id {
            let schema = r#"{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":{}}]}"#;
            let format = json!({"provider": "parquet", "options": {}});
            let metadata = json!({"id": id, "format": format, "schemaString": schema, "partitionColumns": [], "configuration": {}});
            let protocol = json!({"minReaderVersion": 1, "minWriterVersion": 2});
            text = format!("{text}\n{}\n{}", json!({"protocol": protocol}), json!({"metaData": metadata}));
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&commit_path(&Path::from("t"), version), text.clone().into(), options).await.unwrap();
        Digest::of(text.as_bytes())
    }

    async fn own(&self, version: u64, id: Option<&str>) -> Digest {
        Self::commit(self.location.store().as_ref(), "own", version, id).await
    }

    /// By another client, which attests nothing.
    async fn other(&self, version: u64, id: Option<&str>) -> Digest {
        Self::commit(self.plain.as_ref(), "other", version, id).await
    }

    async fn attested(&self, version: u64, commit: Digest) -> AttestedCommit {
        let name = AttestationName { version, commit, key: writer().public().id() };
        let key = writer().public().into();
        read_attestation(self.plain.as_ref(), &Path::from("t"), &name, &[key]).await.unwrap().unwrap().commit
    }
}

#[tokio::test]
async fn an_id_that_another_client_changed_is_the_one_that_is_attested() {
    let world = World::new();
    world.own(0, Some("first")).await;
    let own = world.own(1, None).await;
    assert_eq!(world.attested(1, own).await.table_id, "first");
    let changed = world.other(2, Some("second")).await;
    let (store, root, url) = (world.plain.clone(), world.location.root().clone(), world.location.url().as_str());
    let sealer = PrivateKey::from_seed(&[1; 32]);
    let trust = Trust::new([sealer.public()], TrustLevel::Given).unwrap();
    Sealer::new(store.clone(), root.clone(), url, sealer, Arc::new(SystemClock), SealOptions::default()).unwrap().seal(&()).await.unwrap();
    let own = world.own(3, None).await;
    let attested = world.attested(3, own).await;
    assert_eq!((attested.table_id.as_str(), attested.previous), ("second", Some(changed)));
    let options = AuditOptions { writers: Writers::listed(vec![writer().public()]), ..AuditOptions::default() };
    let report = Auditor::new(store, root, url, trust, Arc::new(SystemClock), options).audit(&()).await.unwrap();
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    assert!(report.findings.iter().all(|finding| finding.verdict != Verdict::Unattested), "{report:#?}");
}

#[tokio::test]
async fn nothing_is_remembered_of_a_table_that_was_made_anew() {
    let world = World::new();
    world.own(0, Some("first")).await;
    let old = world.own(1, None).await;
    for version in 0..2 {
        world.plain.delete(&commit_path(&Path::from("t"), version)).await.unwrap();
    }
    world.other(0, Some("second")).await;
    let new = world.other(1, None).await;
    assert_ne!(old, new);
    let own = world.own(2, None).await;
    let attested = world.attested(2, own).await;
    assert_eq!((attested.table_id.as_str(), attested.previous), ("second", Some(new)));
    // An attestation of another attempt at the version before says nothing either.
    let other = world.other(3, Some("third")).await;
    let stale = AttestedCommit { version: 3, commit: Digest([9; 32]), ..attested };
    let name = AttestationName { version: 3, commit: stale.commit, key: writer().public().id() };
    let provenance = Lineage { operation: "WRITE".to_owned(), ..Lineage::default() }.to_provenance("urn:x");
    let envelope = attestation_envelope(&writer(), Attestation { commit: stale, provenance }.statement(&[])).await.unwrap();
    world.plain.put(&name.path(&Path::from("t")), envelope.into()).await.unwrap();
    let own = world.own(4, None).await;
    let attested = world.attested(4, own).await;
    assert_eq!((attested.table_id.as_str(), attested.previous), ("third", Some(other)));
}
