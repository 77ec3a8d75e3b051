//! Attestations of commits: honest histories, races, lost acknowledgements and kills are never taken for forgeries; forged commits are.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path as FilePath;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::{SessionContext, col, lit};
use deltalake::DeltaTable;
use deltalake::protocol::checkpoints::create_checkpoint;
use futures::future::try_join_all;
use lakeseal::baseline::{
    AuditOptions, AuditReport, Auditor, Outcome, SealOptions, Sealer, Trust, TrustLevel, Verdict, Writers, attestation_names,
};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, AttestingStore, Import, ImportMode, LakeStore, Location, register_lake_scheme};
use lakeseal::erasure::Profile;
use lakeseal::key::PrivateKey;
use lakeseal::lake::testing::lake_over;
use lakeseal::store::ErasureStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use url::Url;

use super::{open, rows};

fn sealer() -> PrivateKey {
    PrivateKey::from_seed(&[1; 32])
}

fn writer() -> PrivateKey {
    PrivateKey::from_seed(&[2; 32])
}

async fn seal(location: &Location) {
    let (store, root) = (location.store().clone(), location.root().clone());
    let sealer = Sealer::new(store, root, location.url().as_str(), sealer(), Arc::new(SystemClock), SealOptions::default()).unwrap();
    sealer.seal(&()).await.unwrap();
}

async fn audit(location: &Location) -> AuditReport {
    let trust = Trust::new([sealer().public()], TrustLevel::Given).unwrap();
    let options = AuditOptions { writers: Writers::listed(vec![writer().public()]), ..AuditOptions::default() };
    let (store, root) = (location.store().clone(), location.root().clone());
    Auditor::new(store, root, location.url().as_str(), trust, Arc::new(SystemClock), options).audit(&()).await.unwrap()
}

/// Nothing is wrong, and every commit after the baseline has its writer's name.
#[track_caller]
fn assert_attested(report: &AuditReport, commits: u64) {
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    let of_commits = |f: &&lakeseal::baseline::Finding| f.commit.is_some() && f.file.is_none();
    let attested = report.findings.iter().filter(of_commits).filter(|f| f.detail.contains("attested by writer")).count();
    let named: std::collections::BTreeSet<u64> = report.findings.iter().filter(of_commits).filter_map(|f| f.commit).collect();
    assert_eq!(named.len() as u64, commits, "{report:#?}");
    assert_eq!(attested, report.findings.iter().filter(of_commits).count(), "{report:#?}");
}

/// A lake of five regions in memory, its tables attested, one of which is made and sealed.
async fn attested_lake(name: &str) -> (Location, Url, Vec<lakeseal::lake::testing::FaultyRegion>) {
    let (lake, faults) = super::lake(name);
    let lake = AttestingStore::around_lake(&lake, Arc::new(writer()), Arc::new(SystemClock)).unwrap();
    register_lake_scheme(name, lake.store.clone()).unwrap();
    let url = Url::parse(&format!("lakeseal://{name}/t")).unwrap();
    deltalake::DeltaTableBuilder::from_url(url.clone()).unwrap().build().unwrap().write(vec![rows(0..50, "a")]).await.unwrap();
    let location = Location::in_lake(&lake, "t").unwrap();
    seal(&location).await;
    (location, url, faults)
}

async fn new_version(url: &Url) -> DeltaTable {
    open(url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_stock_deltalake_is_attested() {
    let (location, url, _faults) = attested_lake("attested").await;
    open(&url).await.write(vec![rows(50..100, "b")]).await.unwrap();
    new_version(&url).await.delete().with_predicate(col("id").lt(lit(10_i64))).await.unwrap();
    new_version(&url).await.update().with_predicate(col("id").eq(lit(50_i64))).with_update("id", lit(1000_i64)).await.unwrap();
    let source = SessionContext::new().read_batch(rows(90..110, "b")).unwrap();
    let merge = new_version(&url).await.merge(source, col("target.id").eq(col("source.id")));
    let merge = merge.with_source_alias("source").with_target_alias("target");
    merge.when_not_matched_insert(|insert| insert.set("id", col("source.id")).set("part", col("source.part"))).unwrap().await.unwrap();
    new_version(&url).await.optimize().await.unwrap();
    new_version(&url).await.restore().with_version_to_restore(1).await.unwrap();
    let version = open(&url).await.version().unwrap();
    assert_eq!(version, 6);
    assert_attested(&audit(&location).await, version);

    // Log cleanup takes commits away: the chain of attestations still tells who made them.
    create_checkpoint(&open(&url).await, None).await.unwrap();
    for gone in 0..4 {
        location.store().delete(&Path::from(format!("t/_delta_log/{gone:020}.json"))).await.unwrap();
    }
    let report = audit(&location).await;
    assert!(report.findings.iter().all(|f| f.verdict != Verdict::Unattested), "{report:#?}");

    // A commit that somebody else slips in is not.
    let info = r#"{"commitInfo":{"timestamp":1,"operation":"WRITE"}}"#;
    let log = location.store();
    let last = log.get(&Path::from("t/_delta_log/00000000000000000001.json")).await;
    assert!(last.is_err(), "it was cleaned up");
    let inner = Path::from(format!("t/_delta_log/{:020}.json", version + 1));
    // Overwrite, as a thief of storage credentials does: not through the attesting create.
    log.put(&inner, info.into()).await.unwrap();
    let report = audit(&location).await;
    assert!(report.findings.iter().any(|f| f.verdict == Verdict::Unattested && f.commit == Some(version + 1)), "{report:#?}");
    assert_eq!(report.outcome(), Outcome::Mismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn races_and_lost_acknowledgements_leave_orphans_and_no_suspicion() {
    const TASKS: i64 = 3;
    const APPENDS: i64 = 4;
    let (location, url, faults) = attested_lake("attested-race").await;
    let writers = (0..TASKS).map(|task| {
        let (url, fault) = (url.clone(), faults[0].clone());
        tokio::spawn(async move {
            for i in 0..APPENDS {
                fault.fail_after_apply(1);
                let id = 1000 + task * APPENDS + i;
                open(&url).await.write(vec![rows(id..id + 1, "x")]).await.unwrap();
            }
        })
    });
    try_join_all(writers).await.unwrap();
    let commits = u64::try_from(TASKS * APPENDS).unwrap();
    assert_eq!(open(&url).await.version(), Some(commits));
    assert_attested(&audit(&location).await, commits);
    let names = attestation_names(&**location.store(), location.root(), Some(0)).await.unwrap();
    println!("{commits} commits, {} attempts attested", names.len());
    assert!(names.len() as u64 >= commits);
}

const CHILD: &str = "LAKESEAL_TEST_ATTEST_CHILD";
/// Where a process that commits is killed.
const POINTS: [&str; 2] = ["attest.before-create", "attest.after-create"];

fn table(directory: &FilePath) -> Location {
    let plain = Location::parse(directory.to_str().unwrap(), None).unwrap();
    AttestingStore::around_table(&plain, Arc::new(writer()), Arc::new(SystemClock)).unwrap()
}

async fn append(location: &Location, source: &FilePath) -> lakeseal::Result<u64> {
    let import = Import { sources: vec![source.to_owned()], mode: ImportMode::Append, ..Import::default() };
    Ok(delta::import(location, import).await?.version)
}

/// The writer that is killed. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by another test"]
async fn child_appends_until_it_is_killed() {
    let Ok(text) = std::env::var(CHILD) else { return println!("nothing to do: another test starts this one") };
    let (point, base) = text.split_once(' ').unwrap();
    let base = FilePath::new(base);
    let fatal = || {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        loop {
            std::thread::park();
        }
    };
    fail::cfg_callback(point, fatal).unwrap();
    append(&table(&base.join("t")), &base.join("rows.csv")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_killed_around_its_commit_is_never_accused() {
    let directory = tempfile::tempdir().unwrap();
    let (root, source) = (directory.path().join("t"), directory.path().join("rows.csv"));
    std::fs::create_dir(&root).unwrap();
    std::fs::write(&source, "id,name\n1,a\n2,b\n").unwrap();
    let location = table(&root);
    assert_eq!(append(&location, &source).await.unwrap(), 0);
    seal(&location).await;
    let name = concat!(module_path!(), "::child_appends_until_it_is_killed").split_once("::").unwrap().1;
    let mut version = 0;
    for round in 0..2 {
        for point in POINTS {
            let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
            let value = format!("{point} {}", directory.path().display());
            child.args(["--exact", name, "--ignored", "--nocapture"]).env(CHILD, value).kill_on_drop(true);
            let ended = child.output().await.unwrap();
            assert_eq!(ended.status.signal(), Some(9), "{}", String::from_utf8_lossy(&ended.stdout));
            // Killed before its create it left nothing but an orphan; after, a commit that counts.
            version += u64::from(point == "attest.after-create");
            let found = lakeseal::table::load(&**location.store(), location.root(), None).await.unwrap();
            assert_eq!(found.version, version, "round {round}, {point}");
            if version > 0 {
                assert_attested(&audit(&location).await, version);
            } else {
                assert_eq!(audit(&location).await.outcome(), Outcome::Intact);
            }
            version += 1;
            assert_eq!(append(&location, &source).await.unwrap(), version, "and the table goes on");
            assert_attested(&audit(&location).await, version);
        }
    }
    let orphans = attestation_names(&**location.store(), location.root(), Some(0)).await.unwrap().len() as u64 - version;
    assert_eq!(orphans, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_copied_with_its_attestations_does_not_lend_them() {
    // Two tables of one id: a copy, which a writer goes on with; its next commit is carried over with its attestation.
    let (here, there) = (Arc::new(object_store::memory::InMemory::new()), Arc::new(object_store::memory::InMemory::new()));
    let of = |store: &Arc<object_store::memory::InMemory>, name: &str| {
        let lake = LakeStore { name: name.to_owned(), store: store.clone() };
        AttestingStore::around_lake(&lake, Arc::new(writer()), Arc::new(SystemClock)).unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("rows.csv");
    std::fs::write(&source, "id\n1\n").unwrap();
    let original = Location::in_lake(&of(&here, "here"), "t").unwrap();
    append(&original, &source).await.unwrap();
    seal(&original).await;
    let copy = Location::in_lake(&of(&there, "there"), "t").unwrap();
    let carry = async |from: &object_store::memory::InMemory, to: &object_store::memory::InMemory| {
        use futures::TryStreamExt as _;
        let all: Vec<_> = from.list(None).try_collect().await.unwrap();
        for meta in all {
            to.put(&meta.location, from.get(&meta.location).await.unwrap().bytes().await.unwrap().into()).await.unwrap();
        }
    };
    carry(&here, &there).await;
    assert_eq!(append(&copy, &source).await.unwrap(), 1);
    carry(&there, &here).await;
    let report = audit(&original).await;
    let found = report.findings.iter().find(|f| f.verdict == Verdict::Unattested).unwrap_or_else(|| panic!("{report:#?}"));
    assert!(found.commit == Some(1) && found.detail.contains("lakeseal://there/t"), "{found}");
}

/// Pairs of a plain and an attested write of the same rows, in turn: their ratio is what attesting costs, whatever else the machine does.
async fn cost_of_attesting(name: &str, rows: &RecordBatch, plain: &dyn Fn() -> Arc<dyn ObjectStore>) -> f64 {
    let mut ratios = Vec::new();
    let mut least = [f64::MAX; 2];
    for round in 0..11 {
        let mut seconds = [0.0; 2];
        // Which of the two comes first changes, so that neither has the warmer machine.
        for step in [0, 1] {
            let attested = (step + round) % 2;
            let lake = LakeStore { name: format!("cost-{name}-{round}-{attested}"), store: plain() };
            let lake = match attested {
                1 => AttestingStore::around_lake(&lake, Arc::new(writer()), Arc::new(SystemClock)).unwrap(),
                _ => lake,
            };
            register_lake_scheme(&lake.name, lake.store.clone()).unwrap();
            let url = Url::parse(&format!("lakeseal://{}/t", lake.name)).unwrap();
            let table = deltalake::DeltaTableBuilder::from_url(url).unwrap().build().unwrap();
            let begun = std::time::Instant::now();
            table.write(vec![rows.clone()]).await.unwrap();
            seconds[attested] = begun.elapsed().as_secs_f64();
            least[attested] = least[attested].min(seconds[attested]);
        }
        // The first round warms up.
        if round > 0 {
            ratios.push(seconds[1] / seconds[0]);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!(
        "{name}: least {:.3} s plain, {:.3} s attested ({:+.1} %); median of {} pairs {:+.1} %",
        least[0],
        least[1],
        (least[1] / least[0] - 1.0) * 100.0,
        ratios.len(),
        (median - 1.0) * 100.0
    );
    median
}

/// What attesting costs a write. A measurement, not a test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn what_attesting_costs() {
    let count = std::env::var("LAKESEAL_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(3_000_000_i64);
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("x", DataType::Float64, true)]);
    let x = arrow::array::Float64Array::from_iter_values((0..count).map(|i| (i as f64).sin()));
    let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from_iter_values(0..count)), Arc::new(x)]).unwrap();
    println!("{count} rows");
    cost_of_attesting("memory", &rows, &|| Arc::new(object_store::memory::InMemory::new())).await;
    let directory = tempfile::tempdir().unwrap();
    let fresh = |kind: &str| {
        let path = directory.path().join(kind);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let local = || -> Arc<dyn ObjectStore> { Arc::new(object_store::local::LocalFileSystem::new_with_prefix(fresh("plain")).unwrap()) };
    cost_of_attesting("directory", &rows, &local).await;
    let lake = || -> Arc<dyn ObjectStore> {
        let path = fresh("lake");
        let region = |i: usize| -> Arc<dyn ObjectStore> {
            let region = path.join(format!("r{i}"));
            std::fs::create_dir(&region).unwrap();
            lakeseal::region::open(region.to_str().unwrap(), &lakeseal::region::OpenOptions::default()).unwrap()
        };
        let (regions, writer, _) = lake_over(3, 2, 0, (0..5).map(region).collect()).unwrap();
        Arc::new(ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap())
    };
    cost_of_attesting("lake", &rows, &lake).await;
}

/// Whoever digests a file, the store below or the attesting one, in one piece or in parts: it is the file's digest.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_digests_are_those_of_the_files() {
    let erasure = || -> Arc<dyn ObjectStore> { super::lake("digests-erasure").0.store };
    let memory = || -> Arc<dyn ObjectStore> { Arc::new(object_store::memory::InMemory::new()) };
    let stores = [("erasure", erasure()), ("memory", memory())];
    for (kind, store) in stores {
        let lake = LakeStore { name: format!("digests-{kind}"), store };
        let lake = AttestingStore::around_lake(&lake, Arc::new(writer()), Arc::new(SystemClock)).unwrap();
        register_lake_scheme(&lake.name, lake.store.clone()).unwrap();
        let url = Url::parse(&format!("lakeseal://{}/t", lake.name)).unwrap();
        let table = deltalake::DeltaTableBuilder::from_url(url.clone()).unwrap().build().unwrap();
        table.write(vec![rows(0..10, "small")]).await.unwrap();
        // More than one part of an upload: what does not compress.
        let ids = 0..2_000_000_i64;
        let scattered = Int64Array::from_iter_values(ids.clone().map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64)));
        let parts = arrow::array::StringArray::from_iter_values(ids.map(|_| "large"));
        let large = RecordBatch::try_new(rows(0..1, "a").schema(), vec![Arc::new(scattered), Arc::new(parts)]).unwrap();
        open(&url).await.write(vec![large]).await.unwrap();
        let location = Location::in_lake(&lake, "t").unwrap();
        let source = lakeseal::lineage::LineageSource {
            store: location.store().as_ref(),
            root: location.root(),
            location: location.url().as_str(),
            aliases: &[],
            writers: &[writer().public().into()],
        };
        let commits = lakeseal::lineage::read_table_lineage(source).await.unwrap().commits;
        let outputs: Vec<_> = commits.iter().flat_map(|commit| &commit.lineage.outputs).collect();
        assert!(outputs.len() >= 2 && outputs.iter().any(|output| output.size > 12_000_000), "{kind}: {outputs:?}");
        for output in outputs {
            let bytes = location.store().get(&location.root().clone().join(output.path.as_str())).await.unwrap().bytes().await.unwrap();
            assert_eq!(output.digest, Some(lakeseal::digest::Digest::of(&bytes)), "{kind}");
            assert!(output.row_groups.as_ref().is_some_and(|groups| !groups.is_empty()), "{kind}");
        }
    }
}
