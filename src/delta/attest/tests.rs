use std::time::Duration;

use object_store::memory::InMemory;
use serde_json::json;
use tokio::sync::Notify;

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

/// A store that keeps what it is asked, in order.
#[derive(Debug, Default)]
struct Asked {
    inner: InMemory,
    asked: Mutex<Vec<String>>,
    /// Told when an attestation is put.
    attested: Notify,
    /// HEADs are answered only after that.
    is_slow: bool,
}

impl Asked {
    fn note(&self, verb: &str, location: &Path) {
        let attestation = location.filename().and_then(AttestationName::parse).map(|name| format!("attestation {}", name.version));
        let commit = parse_commit_path(location).map(|(_, version)| format!("commit {version}"));
        self.asked.lock().push(format!("{verb} {}", attestation.or(commit).unwrap_or_else(|| location.to_string())));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }

    /// The table as a new process opens it.
    fn table(self: &Arc<Self>) -> Location {
        let lake = LakeStore { name: "world".to_owned(), store: self.clone() };
        let lake = AttestingStore::around_lake(&lake, Arc::new(writer()), Arc::new(SystemClock)).unwrap();
        Location::in_lake(&lake, "t").unwrap()
    }

    /// What is asked for the sake of a commit.
    async fn commit(self: &Arc<Self>, location: &Location, version: u64, id: Option<&str>) -> Vec<String> {
        World::commit(location.store().as_ref(), "own", version, id).await;
        self.take()
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

#[async_trait]
impl ObjectStore for Asked {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.note(if options.mode == PutMode::Create { "CREATE" } else { "PUT" }, location);
        if location.filename().and_then(AttestationName::parse).is_some() {
            self.attested.notify_one();
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.note("UPLOAD", location);
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.note(if options.head { "HEAD" } else { "GET" }, location);
        if options.head && self.is_slow {
            self.attested.notified().await;
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.note("LIST", prefix.unwrap_or(&Path::default()));
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.note("LIST", prefix.unwrap_or(&Path::default()));
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The numbers of `docs/costs.md`.
#[tokio::test]
async fn a_commit_asks_for_no_more_than_it_states() {
    let asked = Arc::new(Asked::default());
    let one = asked.table();
    assert_eq!(asked.commit(&one, 0, Some("x")).await, ["PUT attestation 0", "CREATE commit 0"]);
    assert_eq!(asked.commit(&one, 1, None).await, ["HEAD commit 0", "PUT attestation 1", "CREATE commit 1"]);
    let two = asked.table();
    assert_eq!(asked.commit(&two, 2, None).await, ["GET commit 1", "GET attestation 1", "PUT attestation 2", "CREATE commit 2"]);
    assert_eq!(asked.commit(&two, 3, Some("y")).await, ["HEAD commit 2", "PUT attestation 3", "CREATE commit 3"]);
    assert_eq!(asked.commit(&one, 4, None).await, ["GET commit 3", "PUT attestation 4", "CREATE commit 4"], "it states the id itself");
    // After a commit that nobody attested, and that does not state the id, the log is read.
    World::commit(&asked.inner, "other", 5, None).await;
    let log = asked.commit(&one, 6, None).await;
    assert_eq!(log[..2], ["GET commit 5", "GET attestation 5"]);
    assert!(log.iter().any(|asked| asked.starts_with("LIST")), "{log:?}");
    assert_eq!(log[log.len() - 2..], ["PUT attestation 6", "CREATE commit 6"]);
}

#[tokio::test]
async fn a_commit_is_attested_while_the_one_before_is_asked_for() {
    let asked = Arc::new(Asked { is_slow: true, ..Asked::default() });
    let table = asked.table();
    asked.commit(&table, 0, Some("x")).await;
    asked.attested.notified().await;
    let commit = tokio::time::timeout(Duration::from_secs(60), asked.commit(&table, 1, None));
    assert_eq!(commit.await.expect("the HEAD waits for the PUT"), ["HEAD commit 0", "PUT attestation 1", "CREATE commit 1"]);
}
