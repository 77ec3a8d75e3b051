//! Erasure on record: the bytes are gone in all their versions, their absence is no mismatch, and nothing brings them back.

use lakeseal::baseline::{Purge, Repository, Verdict};
use lakeseal::lake::testing::{Rules, lake_with};
use lakeseal::sql::VerifyMode;
use lakeseal::store::{ErasureStore, Profile, VersionState};

use super::*;

const COUNT: &str = "SELECT COUNT(*) FROM flights";

#[tokio::test(flavor = "multi_thread")]
async fn purged_files_are_gone_for_good_and_nobody_is_accused() {
    let stores = (0..5).map(|_| Arc::new(InMemory::new()) as Arc<dyn ObjectStore>).collect();
    // Versions are kept for a year: an erasure duty does not wait for that.
    let rules = Rules { retention_seconds: 365 * 24 * 60 * 60, collectors: Vec::new() };
    let (regions, writer, _) = lake_with(3, 2, 0, &rules, stores).unwrap();
    let collector = writer.clone();
    let erasure = ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
    let erasure = Arc::new(erasure);
    let fixture = Fixture::sealed_in(erasure.clone()).await;
    let path = fixture.data_file().await;
    let file = path.filename().unwrap().to_owned();
    let second = PrivateKey::generate().unwrap();
    let trust = Trust::new([fixture.key.public(), second.public()], TrustLevel::Given).unwrap();
    let repository = Repository::new(fixture.lake.store.clone(), fixture.location.root().clone());
    let sealed = repository.newest_baseline(&trust).await.unwrap().unwrap();
    let bytes = fixture.get(&path).await;
    let snapshot = || lakeseal::table::load(fixture.lake.store.as_ref(), fixture.location.root(), None);

    let live = Purge::of_files(&sealed, &snapshot().await.unwrap(), std::slice::from_ref(&file), "request 17", 1);
    assert!(live.unwrap_err().to_string().contains("is live"));
    fixture.session(ReadMode::Latest).await.run("INSERT OVERWRITE flights VALUES (1, 1.0, 'AA')").await.unwrap();
    assert_eq!(fixture.stock(COUNT).await, 1);
    let purge = Purge::of_files(&sealed, &snapshot().await.unwrap(), std::slice::from_ref(&file), "request 17", 1).unwrap();

    let heal_sealed = || async {
        let tables = TableOptions { verify: VerifyMode::Heal, mode: ReadMode::Sealed, ..TableOptions::default() };
        let session =
            SealedSession::new(SessionOptions { lake: Some(fixture.lake.clone()), trust: Some(trust.clone()), tables }).await.unwrap();
        session.run("SELECT SUM(id) FROM flights").await
    };
    // One signature is none.
    let digest = repository.keep_purge(&purge).await.unwrap();
    repository.sign_purge(&purge, &fixture.key).await.unwrap();
    assert!(repository.erased(&trust, &sealed).await.unwrap().is_empty());
    fixture.lake.store.delete(&path).await.unwrap();
    assert!(heal_sealed().await.is_ok(), "a retained version serves until the purge is in force");
    repository.sign_purge(&purge, &second).await.unwrap();
    assert!(repository.purge(digest, &trust).await.unwrap().unwrap().is_in_force());
    let error = heal_sealed().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");

    let report = erasure.purge(&path, &collector).await.unwrap();
    assert!(report.collected > 0 && report.postponed == 0 && report.problems.is_empty(), "{report:?}");
    let states: Vec<VersionState> = erasure.versions(&path).await.unwrap().into_iter().map(|version| version.state).collect();
    assert!(states.iter().all(|state| *state != VersionState::Readable), "{states:?}");
    let again = erasure.purge(&path, &collector).await.unwrap();
    assert_eq!((again.collected, again.problems.len()), (0, 0), "{again:?}");
    assert!(erasure.purge(&path, &PrivateKey::generate().unwrap()).await.is_err());

    let (store, root, url) = (fixture.lake.store.clone(), fixture.location.root().clone(), fixture.location.url().as_str());
    let auditor = lakeseal::baseline::Auditor::new(
        store,
        root,
        url,
        trust.clone(),
        Arc::new(SystemClock),
        lakeseal::baseline::AuditOptions::default(),
    );
    let report = auditor.audit(&()).await.unwrap();
    assert!(report.findings.iter().any(|finding| finding.verdict == Verdict::Purged && finding.file.as_ref() == Some(&file)), "{report:?}");
    assert!(report.findings.iter().all(|finding| !finding.verdict.is_mismatch()), "{:?}", report.findings);

    // The same bytes, brought in again under another name, are another file: the record does not excuse whoever takes that one away.
    let commit = String::from_utf8(fixture.get(&Path::from("flights/_delta_log/00000000000000000000.json")).await.to_vec()).unwrap();
    let add = commit.lines().find(|line| line.starts_with("{\"add\"")).unwrap().replace(&file, "again.parquet");
    let again = Path::from("flights/again.parquet");
    fixture.lake.store.put(&again, bytes.into()).await.unwrap();
    fixture.lake.store.put(&Path::from("flights/_delta_log/00000000000000000002.json"), format!("{add}\n").into()).await.unwrap();
    fixture.seal().await;
    fixture.lake.store.delete(&again).await.unwrap();
    let report = auditor.audit(&()).await.unwrap();
    let missed = |finding: &&lakeseal::baseline::Finding| finding.file.as_deref() == Some("again.parquet");
    assert_eq!(report.findings.iter().find(missed).unwrap().verdict, Verdict::Missing, "{:?}", report.findings);
}
