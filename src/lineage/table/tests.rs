use std::sync::atomic::Ordering;

use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;

use super::*;
use crate::baseline::{Attestation, attestation_envelope};
use crate::key::PrivateKey;
use crate::lineage::Output;
use crate::table::testing::Counting;

const LOCATION: &str = "memory:///t";

fn writer() -> PrivateKey {
    PrivateKey::from_seed(&[2; 32])
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
