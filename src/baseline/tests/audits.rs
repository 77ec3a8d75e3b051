//! What an audit says of a table that is not as it was for honest reasons: read while it is cleaned up, exported again, or not readable just now.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use super::table::{honest, parquet};
use super::*;
use crate::baseline::statement::Statement;
use crate::digest::Digest;

/// A store whose log is cleaned up by somebody else when commit 1 is read for the n-th time: the commits before its checkpoint are gone then.
#[derive(Debug)]
struct CleanedUp {
    inner: Arc<InMemory>,
    first: Path,
    before: AtomicUsize,
    commits: Vec<Path>,
}

impl std::fmt::Display for CleanedUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cleaned up")
    }
}

#[async_trait::async_trait]
impl ObjectStore for CleanedUp {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if *location == self.first && self.before.fetch_sub(1, Ordering::SeqCst) == 1 {
            for commit in &self.commits {
                self.inner.delete(commit).await?;
            }
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl World {
    /// A checkpoint of `version`, which says what the commits up to it add: nothing was removed.
    async fn checkpoint(&self, version: u64) {
        let mut text = format!("{{\"checkpointMetadata\":{{\"version\":{version}}}}}\n");
        for commit in 0..=version {
            let commit = String::from_utf8(self.get(&self.log(commit)).await).unwrap();
            commit.lines().filter(|line| !line.contains("commitInfo")).for_each(|line| text.push_str(&format!("{line}\n")));
        }
        let name = format!("{version:020}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json");
        self.put(&self.root.clone().join("_delta_log").join(name), text).await;
    }
}

#[tokio::test]
async fn a_log_that_is_cleaned_up_meanwhile_is_read_once_more() {
    for (quick, nth) in [(false, 1), (true, 1), (false, 2), (true, 2), (false, 3)] {
        let world = World::sealed().await;
        world.append(4).await;
        world.checkpoint(4).await;
        assert_eq!(world.audit().await.outcome(), Outcome::IntactWithUnsealed);
        let commits = (0..4).map(|version| world.log(version)).collect();
        let store = CleanedUp { inner: world.store.clone(), first: world.log(1), before: AtomicUsize::new(nth), commits };
        let options = AuditOptions { quick, ..AuditOptions::default() };
        let auditor = Auditor::new(Arc::new(store), world.root.clone(), LOCATION, world.trust(), world.clock.clone(), options);
        let report = auditor.audit(&()).await.unwrap();
        let gone = world.store.head(&world.log(1)).await.is_err();
        assert!(gone || nth == 3, "nothing was cleaned up at the reading {nth} (quick: {quick})");
        assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{nth} {quick}: {report:#?}");
    }
    // What is gone for good is missing, as ever.
    let world = World::sealed().await;
    for version in 0..=3 {
        world.store.delete(&world.log(version)).await.unwrap();
    }
    assert_eq!(world.audit().await.outcome(), Outcome::Mismatch);
}

#[tokio::test]
async fn a_baseline_that_cannot_be_read_is_not_one_that_was_taken_away() {
    let world = World::sealed().await;
    let repository = world.repository();
    // Signed by the sealer, in a format of the future.
    let one = repository.newest_statement(&world.trust()).await.unwrap().unwrap();
    let next = Statement { number: 2, previous: Some(one.summary.digest), ..one.statement };
    let bytes = String::from_utf8(next.to_bytes()).unwrap().replace("\"format\":1", "\"format\":2").into_bytes();
    let name = BaselineName { number: 2, digest: Digest::of(&bytes) };
    world.put(&repository.baseline_path(&name), bytes.clone()).await;
    let signature = sign::sign(&world.key, &bytes).await.unwrap();
    world.put(&repository.signature_path(name.digest, world.key.public().id()), signature).await;
    let report = world.audit().await;
    assert_found(&report, Verdict::Undetermined, &["newest baseline cannot be read"]);
    assert_eq!((report.outcome(), report.findings.len()), (Outcome::Undetermined, 1), "{report:#?}");
    assert_eq!(report.log.as_ref().unwrap().size, 1, "the log is looked at all the same");
    // A log that is pinned is held against its pin.
    let pin = LogPin { size: 2, ..report.log.unwrap() };
    let report = world.audit_with(world.trust(), AuditOptions { log_pin: Some(pin), ..AuditOptions::default() }).await;
    assert_found(&report, Verdict::RolledBack, &["2 are pinned"]);
}

#[tokio::test]
async fn a_purge_excuses_no_file_that_was_exported_and_sealed_again() {
    let world = World::new();
    let at = |name: &str| Path::from(format!("t/{name}"));
    let second = PrivateKey::from_seed(&[2; 32]);
    let trust = Trust::new([world.key.public(), second.public()], TrustLevel::Given).unwrap();
    let seal = async || world.seal_with(SealOptions { trust: Some(trust.clone()), ..SealOptions::default() }).await;
    let audit = async || world.audit_with(trust.clone(), AuditOptions::default()).await;
    world.put(&at("a.parquet"), parquet(0, honest)).await;
    world.put(&at("b.parquet"), parquet(500, honest)).await;
    seal().await.unwrap();
    world.store.delete(&at("a.parquet")).await.unwrap();
    let repository = world.repository();
    let sealed = repository.newest_baseline(&trust).await.unwrap().unwrap();
    let snapshot = crate::table::load(&*world.store, &world.root, None).await.unwrap();
    let purge = Purge::of_files(&sealed, &snapshot, &["a.parquet".to_owned()], "request 17", NOW_MS).unwrap();
    repository.keep_purge(&purge).await.unwrap();
    for key in [&world.key, &second] {
        repository.sign_purge(&purge, key).await.unwrap();
    }
    let report = audit().await;
    assert_found(&report, Verdict::Purged, &["a.parquet"]);
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    // Exported again: the same bytes under the same name, which a later baseline seals.
    world.put(&at("a.parquet"), parquet(0, honest)).await;
    world.put(&at("c.parquet"), parquet(900, honest)).await;
    assert_eq!(seal().await.unwrap().baseline.number, 2);
    assert_intact(&audit().await);
    world.store.delete(&at("a.parquet")).await.unwrap();
    let report = audit().await;
    assert_found(&report, Verdict::Missing, &["a.parquet"]);
    assert_eq!(report.outcome(), Outcome::Mismatch, "{report:#?}");
}
