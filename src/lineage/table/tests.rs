use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStoreExt as _,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
};

use super::*;
use crate::baseline::{Attestation, attestation_envelope};
use crate::key::PrivateKey;
use crate::lineage::Output;

const LOCATION: &str = "memory:///t";

fn writer() -> PrivateKey {
    PrivateKey::from_seed(&[2; 32])
}

/// A store that knows how many bytes of what was read from it are held.
#[derive(Debug, Default)]
struct Counting {
    inner: InMemory,
    held: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Held {
    bytes: Bytes,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let mut result = self.inner.get_opts(location, options).await?;
        let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), std::mem::take(&mut result.attributes));
        let bytes = result.bytes().await?;
        let (held, most) = (self.held.clone(), self.most.clone());
        // The body is made, and held, when it is asked for.
        let body = stream::once(async move {
            let now = held.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
            most.fetch_max(now, Ordering::SeqCst);
            Ok(Bytes::from_owner(Held { bytes, held }))
        });
        Ok(GetResult { payload: GetResultPayload::Stream(body.boxed()), meta, range, attributes })
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
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

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// Attested commits; what the attestation of the third says is long.
async fn commits(store: &dyn ObjectStore, root: &Path, count: u64) {
    let mut previous = None;
    for version in 0..count {
        let metadata = if version == 0 { "{\"metaData\":{\"id\":\"x\"}}\n" } else { "" };
        let bytes = format!("{metadata}{{\"add\":{{\"path\":\"f{version}\",\"size\":1}}}}\n").into_bytes();
        let plan = (version == 2).then(|| "long ".repeat(100_000));
        let lineage = Lineage {
            operation: "INSERT".to_owned(),
            transformation: crate::lineage::Transformation { plan, ..Default::default() },
            outputs: vec![Output { path: format!("f{version}"), size: 1, digest: None, row_groups: None }],
            ..Lineage::default()
        };
        let commit = AttestedCommit::of("x".to_owned(), LOCATION.to_owned(), version, &bytes, previous);
        previous = Some(commit.commit);
        let name = AttestationName { version, commit: commit.commit, key: writer().public().id() };
        let attestation = Attestation { commit, provenance: lineage.to_provenance("urn:x") };
        let envelope = attestation_envelope(&writer(), attestation.statement(&[])).await.unwrap();
        store.put(&name.path(root), envelope.into()).await.unwrap();
        store.put(&root.clone().join("_delta_log").join(format!("{version:020}.json")), bytes.into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_anybody_put_among_the_attestations_costs_no_memory_and_changes_no_lineage() {
    const JUNK_BYTES: usize = 10_000_000;
    let (store, root, writers) = (Counting::default(), Path::from("t"), [writer().public().into()]);
    commits(&store, &root, 40).await;
    let source = LineageSource { store: &store, root: &root, location: LOCATION, aliases: &[], writers: &writers };
    let before = read_table_lineage(source).await.unwrap();
    assert!(before.commits.len() == 40 && before.commits.iter().all(|commit| commit.attested_by.is_some()), "{:?}", before.gaps);
    assert!(before.commits[2].lineage.transformation.plan.as_ref().is_some_and(|plan| plan.len() as u64 > AHEAD_BYTES));

    let junk = Bytes::from(vec![b'{'; JUNK_BYTES]);
    for version in (0..40).chain([u64::MAX - 1]) {
        // As many as are still read ahead with the one that is there; more of them; and one of a version that is not.
        for i in 0..if version % 2 == 0 { 7 } else { 20_u8 } {
            let name = AttestationName { version, commit: Digest([i; 32]), key: writer().public().id() };
            store.put(&name.path(&root), junk.clone().into()).await.unwrap();
        }
    }
    store.most.store(0, Ordering::SeqCst);
    assert_eq!(read_table_lineage(source).await.unwrap(), before);
    let most = store.most.load(Ordering::SeqCst);
    assert!(most < 64 << 20, "{most} bytes were held at a time");
}

#[tokio::test]
async fn attestations_under_other_urls_of_the_table_count_where_these_are_known() {
    let (store, root, writers) = (InMemory::new(), Path::from("t"), [writer().public().into()]);
    commits(&store, &root, 3).await;
    for (location, aliases, counts) in [
        ("memory:///t/", vec![], true),
        ("memory:///moved", vec![format!("{LOCATION}/")], true),
        ("memory:///moved", vec!["memory:///other".to_owned()], false),
    ] {
        let source = LineageSource { store: &store, root: &root, location, aliases: &aliases, writers: &writers };
        let found = read_table_lineage(source).await.unwrap().commits;
        assert!(found.len() == 3 && found.iter().all(|commit| commit.attested_by.is_some() == counts), "{location} {aliases:?}");
    }
}
