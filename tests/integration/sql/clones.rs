//! Shallow clones: tables whose logs name files of another table by whole URLs. With a signed root their histories are honest; without one such a file
//! is `foreign`, whatever the log says.

use std::collections::BTreeSet;

use lakeseal::baseline::{AuditOptions, AuditReport, Auditor, Outcome, Repository, SealOutcome, SealedTable, Verdict};
use lakeseal::delta::{RestoreOptions, foreign_root, plan_restore};
use lakeseal::digest::Digest;
use lakeseal::sql::VerifyMode;
use lakeseal::table::ForeignRoots;
use serde_json::{Value, json};

use super::modes::erasure_lake;
use super::*;

const COUNT: &str = "SELECT COUNT(*) FROM t";
const SUM: &str = "SELECT CAST(SUM(delay) AS BIGINT) FROM t";

/// Where both tables lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In directories beside each other.
    Directories,
    /// In one erasure lake.
    Lake,
}

/// A table of 4000 rows in two files, and a clone of it that has none of its own.
struct Cloned {
    kind: Kind,
    lake: Option<LakeStore>,
    source: Location,
    location: Location,
    key: PrivateKey,
    directory: tempfile::TempDir,
}

impl Cloned {
    async fn new(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lake = (kind == Kind::Lake).then(|| LakeStore { name: "test".to_owned(), store: erasure_lake() });
        let [source, location] = ["src", "twin"].map(|name| place(&directory, lake.as_ref(), name));
        let cloned = Self { kind, lake, source, location, key: PrivateKey::from_seed(&[9; 32]), directory };
        let mut adds = [("a.parquet", 0..2000), ("b.parquet", 2000..4000)].map(|(name, ids)| (name, ids, 0));
        for (name, ids, size) in &mut adds {
            *size = cloned.put(&cloned.source, name, &[batch(ids.clone())]).await;
        }
        let [own, named] = [String::new(), cloned.prefix()].map(|prefix| {
            let add = |(name, ids, size): &(&str, Range<i64>, usize)| add(&format!("{prefix}{name}"), ids.clone(), *size, true);
            adds.iter().map(add).collect::<Vec<_>>()
        });
        cloned.commit(&cloned.source, 0, "WRITE", [head("the source"), own].concat()).await;
        cloned.commit(&cloned.location, 0, "CLONE", [head("the clone"), named].concat()).await;
        cloned
    }

    async fn sealed(kind: Kind) -> Self {
        let cloned = Self::new(kind).await;
        cloned.seal_with_root().await.unwrap();
        cloned
    }

    /// How the clone's log names what the source has.
    fn prefix(&self) -> String {
        format!("{}/", self.source.url())
    }

    async fn put(&self, at: &Location, name: &str, batches: &[RecordBatch]) -> usize {
        let bytes = parquet_bytes(batches);
        let size = bytes.len();
        at.store().put(&below(at, name), bytes.into()).await.unwrap();
        size
    }

    async fn commit(&self, at: &Location, version: u64, operation: &str, mut actions: Vec<Value>) {
        actions.insert(0, json!({"commitInfo": {"timestamp": 1_700_000_000_000_u64 + version, "operation": operation}}));
        let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
        at.store().put(&below(at, &format!("_delta_log/{version:020}.json")), (lines.join("\n") + "\n").into()).await.unwrap();
    }

    async fn root(&self) -> ForeignRoots {
        ForeignRoots(vec![foreign_root(self.source.url().as_str(), self.lake.as_ref()).await.unwrap()])
    }

    async fn seal_with_root(&self) -> Result<SealOutcome, Error> {
        self.seal_with(Some(self.root().await)).await
    }

    async fn seal_with(&self, foreign_roots: Option<ForeignRoots>) -> Result<SealOutcome, Error> {
        let (store, root, url) = (self.location.store().clone(), self.location.root().clone(), self.location.url().as_str());
        let options = SealOptions { foreign_roots, ..SealOptions::default() };
        Sealer::new(store, root, url, self.key.clone(), Arc::new(SystemClock), options).unwrap().seal(&()).await
    }

    fn trust(&self) -> Trust {
        Trust::new([self.key.public()], TrustLevel::Given).unwrap()
    }

    async fn audit(&self, quick: bool) -> AuditReport {
        let (store, root, url) = (self.location.store().clone(), self.location.root().clone(), self.location.url().as_str());
        let options = AuditOptions { quick, ..AuditOptions::default() };
        Auditor::new(store, root, url, self.trust(), Arc::new(SystemClock), options).audit(&()).await.unwrap()
    }

    async fn session(&self, mode: ReadMode, verify: VerifyMode) -> Result<SealedSession, Error> {
        let tables = TableOptions { mode, verify, ..TableOptions::default() };
        let options = SessionOptions { lake: self.lake.clone(), trust: Some(self.trust()), tables };
        let session = SealedSession::new(options).await?;
        session.register("t", &self.location).await?;
        Ok(session)
    }

    async fn ask(&self, mode: ReadMode, verify: VerifyMode, query: &str) -> Result<i64, Error> {
        let batches = self.session(mode, verify).await?.run(query).await?;
        Ok(batches[0].column(0).as_primitive::<Int64Type>().value(0))
    }

    async fn number(&self, query: &str) -> Result<i64, Error> {
        self.ask(ReadMode::Latest, VerifyMode::Enforce, query).await
    }

    async fn newest(&self) -> SealedTable {
        let repository = Repository::new(self.location.store().clone(), self.location.root().clone());
        repository.newest_baseline(&self.trust()).await.unwrap().unwrap()
    }

    /// Nothing is accused, and all rows are there; `sealed` says whether a baseline covers them all.
    async fn is_honest(&self, ids: &[Range<i64>], sealed: bool) {
        let wanted = if sealed { Outcome::Intact } else { Outcome::IntactWithUnsealed };
        for quick in [true, false] {
            let report = self.audit(quick).await;
            assert_eq!(report.outcome(), wanted, "{:?} quick: {quick}: {:?}", self.kind, report.findings);
        }
        let all = || ids.iter().cloned().flatten();
        let count = i64::try_from(all().count()).unwrap();
        assert_eq!(self.number(COUNT).await.unwrap(), count, "{:?}", self.kind);
        assert_eq!(self.number(SUM).await.unwrap(), all().map(|id| id % 60).sum::<i64>(), "{:?}", self.kind);
        let some = i64::try_from(all().filter(|id| (1500..2500).contains(id) && id % 2 == 0).count()).unwrap();
        let filtered = "SELECT COUNT(*) FROM t WHERE id >= 1500 AND id < 2500 AND carrier = 'AA'";
        assert_eq!(self.number(filtered).await.unwrap(), some, "{:?}", self.kind);
        assert_eq!(self.number("SELECT MAX(id) FROM t").await.unwrap(), all().max().unwrap());
        if sealed {
            assert_eq!(self.ask(ReadMode::Sealed, VerifyMode::Enforce, SUM).await.unwrap(), all().map(|id| id % 60).sum::<i64>());
        }
    }

    /// Removes the source, with its directory where it has one.
    async fn lose_source(&self) {
        if self.kind == Kind::Directories {
            return std::fs::remove_dir_all(self.directory.path().join("src")).unwrap();
        }
        let all: Vec<Path> = self.source.store().list(Some(self.source.root())).map_ok(|meta| meta.location).try_collect().await.unwrap();
        for path in all {
            self.source.store().delete(&path).await.unwrap();
        }
    }
}

fn place(directory: &tempfile::TempDir, lake: Option<&LakeStore>, name: &str) -> Location {
    match lake {
        Some(lake) => Location::in_lake(lake, name).unwrap(),
        None => {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            Location::parse(path.to_str().unwrap(), None).unwrap()
        }
    }
}

fn below(at: &Location, name: &str) -> Path {
    Path::parse(format!("{}/{name}", at.root()).trim_start_matches('/')).unwrap()
}

fn head(id: &str) -> Vec<Value> {
    let field = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    let schema = json!({"type": "struct", "fields": [field("id", "long"), field("delay", "double"), field("carrier", "string")]});
    let format = json!({"provider": "parquet", "options": {}});
    vec![
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        json!({"metaData": {"id": id, "format": format, "schemaString": schema.to_string(), "partitionColumns": [], "configuration": {}, "createdTime": 0}}),
    ]
}

fn add(path: &str, ids: Range<i64>, size: usize, data_change: bool) -> Value {
    let stats = json!({"numRecords": ids.end - ids.start, "minValues": {"id": ids.start}, "maxValues": {"id": ids.end - 1}, "nullCount": {"id": 0}});
    json!({"add": {"path": path, "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": data_change, "stats": stats.to_string()}})
}

fn remove(path: &str, data_change: bool) -> Value {
    json!({"remove": {"path": path, "deletionTimestamp": 1, "dataChange": data_change, "partitionValues": {}}})
}

#[track_caller]
fn found(report: &AuditReport, verdict: Verdict, words: &[&str]) {
    let says = |text: &str| words.iter().all(|word| text.contains(word));
    let is = |finding: &&lakeseal::baseline::Finding| finding.verdict == verdict && says(&finding.to_string());
    assert!(report.findings.iter().any(|finding| is(&finding)), "no {verdict} of {words:?} in {:?}", report.findings);
    assert_eq!(report.outcome(), Outcome::Mismatch, "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_clone_is_honest_until_it_needs_its_source_no_more() {
    for kind in [Kind::Directories, Kind::Lake] {
        let cloned = Cloned::new(kind).await;
        let unnamed = cloned.seal_with(None).await.unwrap_err();
        assert_eq!(unnamed.kind(), ErrorKind::Unsupported);
        assert!(unnamed.to_string().contains("--foreign-root"), "{unnamed}");
        let first = cloned.seal_with_root().await.unwrap();
        assert_eq!((first.files_added, first.first), (2, true));
        let root = &cloned.newest().await.statement.foreign_roots.0[0];
        assert_eq!((root.table_id.as_str(), root.url.as_str()), ("the source", cloned.source.url().as_str()));
        cloned.is_honest(std::slice::from_ref(&(0..4000)), true).await;
        assert!(cloned.seal_with_root().await.unwrap().unchanged);
        let session = cloned.session(ReadMode::Latest, VerifyMode::Enforce).await.unwrap();
        session.run(SUM).await.unwrap();
        assert_eq!(session.notes(), Vec::<String>::new());

        // Files of its own beside those of the source: no root is named again.
        let size = cloned.put(&cloned.location, "c.parquet", &[batch(4000..4500)]).await;
        cloned.commit(&cloned.location, 1, "WRITE", vec![add("c.parquet", 4000..4500, size, true)]).await;
        cloned.is_honest(std::slice::from_ref(&(0..4500)), false).await;
        assert_eq!(cloned.ask(ReadMode::Sealed, VerifyMode::Enforce, COUNT).await.unwrap(), 4000);
        let second = cloned.seal_with(None).await.unwrap();
        assert_eq!((second.files_added, second.files_reused), (1, 2));
        cloned.is_honest(std::slice::from_ref(&(0..4500)), true).await;

        // DELETE: a file of the source gives way to one of its own.
        let from = |name: &str| format!("{}{name}", cloned.prefix());
        let size = cloned.put(&cloned.location, "a-2.parquet", &[batch(0..1990)]).await;
        let actions = vec![remove(&from("a.parquet"), true), add("a-2.parquet", 0..1990, size, true)];
        cloned.commit(&cloned.location, 2, "DELETE", actions).await;
        cloned.is_honest(&[0..1990, 2000..4500], false).await;
        cloned.seal_with(None).await.unwrap();
        cloned.is_honest(&[0..1990, 2000..4500], true).await;

        // OPTIMIZE: nothing of the source is left.
        let size = cloned.put(&cloned.location, "d.parquet", &[batch(0..1990), batch(2000..4500)]).await;
        let stats = json!({"numRecords": 4490, "minValues": {"id": 0}, "maxValues": {"id": 4499}});
        let mut whole = add("d.parquet", 0..4500, size, false);
        whole["add"]["stats"] = stats.to_string().into();
        let gone = [from("b.parquet"), "c.parquet".to_owned(), "a-2.parquet".to_owned()].map(|path| remove(&path, false));
        cloned.commit(&cloned.location, 3, "OPTIMIZE", [gone.to_vec(), vec![whole]].concat()).await;
        cloned.is_honest(&[0..1990, 2000..4500], false).await;
        let report = cloned.audit(false).await;
        assert!(report.findings.iter().any(|finding| finding.verdict == Verdict::Rewritten), "{:?}", report.findings);
        cloned.seal_with(None).await.unwrap();
        cloned.is_honest(&[0..1990, 2000..4500], true).await;
        cloned.lose_source().await;
        cloned.is_honest(&[0..1990, 2000..4500], true).await;
        // Then it needs no root either.
        assert!(!cloned.seal_with(Some(ForeignRoots::default())).await.unwrap().unchanged);
        assert!(cloned.newest().await.statement.foreign_roots.is_empty());
        cloned.is_honest(&[0..1990, 2000..4500], true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_bytes_of_the_source_are_placed_and_healed_from_its_versions() {
    for kind in [Kind::Directories, Kind::Lake] {
        let cloned = Cloned::sealed(kind).await;
        let truth = cloned.number(SUM).await.unwrap();
        let (path, named) = (below(&cloned.source, "a.parquet"), format!("{}a.parquet", cloned.prefix()));
        let mut bytes = cloned.source.store().get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes.clone())).unwrap().metadata().clone();
        let (start, length) = metadata.row_group(1).column(1).byte_range();
        bytes[usize::try_from(start + length).unwrap() - 8 * 10 + 6] ^= 0x01;
        cloned.source.store().put(&path, bytes.into()).await.unwrap();

        found(&cloned.audit(false).await, Verdict::Modified, &[&named, "row group 1", "delay"]);
        names(&cloned.number(SUM).await.unwrap_err(), &[&named, "row group: 1", "column: delay"]);
        let healed = cloned.ask(ReadMode::Latest, VerifyMode::Heal, SUM).await;
        let changed = "SELECT COUNT(*) FROM poison_diff('t') WHERE \"column\" = 'delay'";
        match kind {
            Kind::Lake => {
                assert_eq!(healed.unwrap(), truth);
                assert_eq!(cloned.number(changed).await.unwrap(), 1);
            }
            Kind::Directories => names(&healed.unwrap_err(), &[&named, "row group: 1"]),
        }
    }
}

/// A third table beside the two, with the bytes of a file of the source.
async fn another(cloned: &Cloned) -> (Location, usize) {
    let other = place(&cloned.directory, cloned.lake.as_ref(), "other");
    let size = cloned.put(&other, "a.parquet", &[batch(0..2000)]).await;
    cloned.commit(&other, 0, "WRITE", [head("another"), vec![add("a.parquet", 0..2000, size, true)]].concat()).await;
    (other, size)
}

/// Where the clone's own store shows the source.
fn mount(cloned: &Cloned) -> String {
    Digest::of(cloned.source.url().as_str().as_bytes()).to_string().chars().take(16).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_below_no_signed_root_is_foreign() {
    let spellings: [fn(&Cloned, &Location) -> String; 6] = [
        |_, other| format!("{}/a.parquet", other.url()),
        |cloned, _| format!("{}../other/a.parquet", cloned.prefix()),
        |cloned, _| format!("{}%2e%2e/other/a.parquet", cloned.prefix()),
        |cloned, _| format!("{}/a.parquet", cloned.prefix()).to_uppercase(),
        |cloned, _| format!("_foreign/{}/a.parquet", mount(cloned)),
        |_, _| "../src/a.parquet".to_owned(),
    ];
    for (kind, spelled) in [Kind::Directories, Kind::Lake].iter().flat_map(|kind| spellings.iter().map(move |spelled| (*kind, spelled))) {
        let cloned = Cloned::sealed(kind).await;
        let (other, size) = another(&cloned).await;
        let path = spelled(&cloned, &other);
        cloned.commit(&cloned.location, 1, "WRITE", vec![add(&path, 0..2000, size, true)]).await;
        for quick in [true, false] {
            found(&cloned.audit(quick).await, Verdict::Foreign, &[&path]);
        }
        assert_eq!(cloned.number(COUNT).await.unwrap_err().kind(), ErrorKind::Mismatch, "{path}");
        assert_eq!(cloned.ask(ReadMode::Sealed, VerifyMode::Enforce, COUNT).await.unwrap(), 4000, "{path}");
        assert_eq!(cloned.seal_with(None).await.unwrap_err().kind(), ErrorKind::Unsupported, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_names_another_table_than_the_sealer_did_is_not_believed() {
    for kind in [Kind::Directories, Kind::Lake] {
        let cloned = Cloned::new(kind).await;
        let (other, size) = another(&cloned).await;
        let wrong = foreign_root(other.url().as_str(), cloned.lake.as_ref()).await.unwrap();
        assert_eq!(cloned.seal_with(Some(ForeignRoots(vec![wrong]))).await.unwrap_err().kind(), ErrorKind::Unsupported);
        cloned.seal_with_root().await.unwrap();
        let moved =
            vec![remove(&format!("{}a.parquet", cloned.prefix()), false), add(&format!("{}/a.parquet", other.url()), 0..2000, size, false)];
        cloned.commit(&cloned.location, 1, "OPTIMIZE", moved).await;
        found(&cloned.audit(false).await, Verdict::Foreign, &[other.url().as_str()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_file_of_the_source_is_unsealed_and_another_spelling_is_forged() {
    for kind in [Kind::Directories, Kind::Lake] {
        let cloned = Cloned::sealed(kind).await;
        let size = cloned.put(&cloned.source, "late.parquet", &[batch(4000..4010)]).await;
        let late = format!("{}late.parquet", cloned.prefix());
        cloned.commit(&cloned.location, 1, "WRITE", vec![add(&late, 4000..4010, size, true)]).await;
        cloned.is_honest(std::slice::from_ref(&(0..4010)), false).await;
        assert_eq!(cloned.ask(ReadMode::Sealed, VerifyMode::Enforce, COUNT).await.unwrap(), 4000);
        cloned.seal_with(None).await.unwrap();
        cloned.is_honest(std::slice::from_ref(&(0..4010)), true).await;

        let size = cloned.put(&cloned.source, "a.parquet", &[batch(0..2000)]).await;
        let again = format!("{}./a.parquet", cloned.prefix());
        cloned.commit(&cloned.location, 2, "WRITE", vec![add(&again, 0..2000, size, true)]).await;
        found(&cloned.audit(false).await, Verdict::Forged, &["named twice"]);
        assert_eq!(cloned.number(COUNT).await.unwrap_err().kind(), ErrorKind::Mismatch);
        assert_eq!(cloned.seal_with(None).await.unwrap_err().kind(), ErrorKind::Mismatch);
    }
}

const VECTOR: &str = "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin";

/// A file of one deletion vector, and the size of its bitmap.
fn vector_file(positions: Range<u64>) -> (Vec<u8>, usize) {
    let mut bitmap = 1_681_511_377_u32.to_le_bytes().to_vec();
    positions.collect::<roaring::RoaringTreemap>().serialize_into(&mut bitmap).unwrap();
    let mut file = vec![1];
    file.extend(u32::try_from(bitmap.len()).unwrap().to_be_bytes());
    file.extend(&bitmap);
    file.extend(crc32fast::hash(&bitmap).to_be_bytes());
    (file, bitmap.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_vectors_of_the_source_are_sealed_with_its_files() {
    for kind in [Kind::Directories, Kind::Lake] {
        let cloned = Cloned::new(kind).await;
        let (bytes, size) = vector_file(0..100);
        cloned.source.store().put(&below(&cloned.source, VECTOR), bytes.clone().into()).await.unwrap();
        let named = format!("{}a.parquet", cloned.prefix());
        let length = cloned.source.store().head(&below(&cloned.source, "a.parquet")).await.unwrap().size;
        let mut with = add(&named, 0..2000, usize::try_from(length).unwrap(), true);
        with["add"]["deletionVector"] = json!({
            "storageType": "p", "pathOrInlineDv": format!("{}{VECTOR}", cloned.prefix()), "offset": 1, "sizeInBytes": size, "cardinality": 100
        });
        let features = json!(["deletionVectors"]);
        let protocol =
            json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}});
        cloned.commit(&cloned.location, 1, "CLONE", vec![protocol, remove(&named, true), with]).await;
        cloned.seal_with_root().await.unwrap();
        cloned.is_honest(std::slice::from_ref(&(100..4000)), true).await;

        // Another vector in its place would bring rows back.
        let (other, same) = vector_file(1900..2000);
        assert_eq!((other.len(), same), (bytes.len(), size));
        cloned.source.store().put(&below(&cloned.source, VECTOR), other.into()).await.unwrap();
        found(&cloned.audit(false).await, Verdict::Modified, &[&named, "deletion vector"]);
        assert_eq!(cloned.number(SUM).await.unwrap_err().kind(), ErrorKind::Mismatch);
        cloned.source.store().delete(&below(&cloned.source, VECTOR)).await.unwrap();
        found(&cloned.audit(true).await, Verdict::Modified, &[&named, "deletion vector is gone"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_gone_is_named() {
    for kind in [Kind::Directories, Kind::Lake] {
        let cloned = Cloned::sealed(kind).await;
        // A VACUUM of the source took away what it had removed.
        cloned.source.store().delete(&below(&cloned.source, "a.parquet")).await.unwrap();
        let named = format!("{}a.parquet", cloned.prefix());
        for quick in [true, false] {
            let report = cloned.audit(quick).await;
            found(&report, Verdict::Missing, &[&named, "the source", cloned.source.url().as_str()]);
            let missing = report.findings.iter().filter(|finding| finding.verdict == Verdict::Missing).count();
            assert_eq!(missing, 1, "{:?}", report.findings);
        }
        names(&cloned.number(SUM).await.unwrap_err(), &[&named]);
        cloned.lose_source().await;
        for quick in [true, false] {
            let report = cloned.audit(quick).await;
            let files: BTreeSet<_> = report.findings.iter().filter(|f| f.verdict == Verdict::Missing).map(|f| f.file.clone()).collect();
            assert_eq!(files.len(), 2, "{:?}", report.findings);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_opened_hides_no_roll_back_of_the_clone() {
    let cloned = Cloned::sealed(Kind::Lake).await;
    let size = cloned.put(&cloned.location, "c.parquet", &[batch(4000..4500)]).await;
    cloned.commit(&cloned.location, 1, "WRITE", vec![add("c.parquet", 4000..4500, size, true)]).await;
    cloned.seal_with(None).await.unwrap();
    // A store that reaches no other table.
    let alone = cloned.lake.as_ref().unwrap().store.clone();
    let audit = async |quick: bool| {
        let (root, url) = (cloned.location.root().clone(), cloned.location.url().as_str());
        let options = AuditOptions { quick, ..AuditOptions::default() };
        Auditor::new(alone.clone(), root, url, cloned.trust(), Arc::new(SystemClock), options).audit(&()).await.unwrap()
    };
    let unknown = |report: &AuditReport, file: Option<&str>| {
        report.findings.iter().any(|finding| finding.verdict == Verdict::Undetermined && finding.file.as_deref() == file)
    };
    let named = format!("{}a.parquet", cloned.prefix());
    for quick in [true, false] {
        let report = audit(quick).await;
        assert_eq!(report.outcome(), Outcome::Undetermined, "{:?}", report.findings);
        assert!(unknown(&report, None) && (quick || unknown(&report, Some(&named))), "{:?}", report.findings);
    }
    alone.delete(&below(&cloned.location, "c.parquet")).await.unwrap();
    for quick in [true, false] {
        found(&audit(quick).await, Verdict::Missing, &["c.parquet"]);
    }
    alone.delete(&below(&cloned.location, "_delta_log/00000000000000000001.json")).await.unwrap();
    for quick in [true, false] {
        let report = audit(quick).await;
        found(&report, Verdict::RolledBack, &["version 1 is sealed"]);
        assert!(unknown(&report, None), "{:?}", report.findings);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_for_a_clone_says_so() {
    for kind in [Kind::Directories, Kind::Lake] {
        let cloned = Cloned::sealed(kind).await;
        let options =
            RestoreOptions { attested: BTreeSet::new(), keep: BTreeSet::new(), erased: Default::default(), clock: Arc::new(SystemClock) };
        let refused = plan_restore(&cloned.location, &cloned.newest().await, &options, &()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        assert!(refused.to_string().contains(&cloned.prefix()), "{refused}");
        // Neither holds the other.
        let mut overlapping = cloned.root().await;
        overlapping.0[0].prefix = cloned.location.url().to_string();
        assert_eq!(cloned.seal_with(Some(overlapping)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let cloned = Cloned::sealed(Kind::Lake).await;
    let session = cloned.session(ReadMode::Latest, VerifyMode::Enforce).await.unwrap();
    let refused = session.run("DELETE FROM twin WHERE id = 1").await.unwrap_err();
    assert!(refused.to_string().contains("files of another"), "{refused}");
    assert_eq!(cloned.number(COUNT).await.unwrap(), 4000);
    // Rows of its own it may be given: this one is as the others are.
    session.run("INSERT INTO twin VALUES (4000, 40.0, 'AA')").await.unwrap();
    cloned.is_honest(std::slice::from_ref(&(0..4001)), false).await;
}
