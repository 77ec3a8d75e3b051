use std::path::Path as FilePath;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use tokio::sync::Barrier;

use crate::clock::SystemClock;
use crate::lake::testing::memory_lake;
use crate::store::{ErasureStore, Profile};

use super::super::{Import, ImportMode, Imported, LakeStore, WriteMode, import, session, write_stream};
use super::*;
use crate::table;

/// What happens to whoever puts the first commit of a table.
#[derive(Debug)]
enum First {
    /// It waits until another one does so as well.
    Together(Barrier),
    /// It succeeds, and that it was there is what is answered: a request that was sent again.
    AnswerLost,
    /// Not the first, but that of this version succeeds and is answered with an error; whether it can be read afterwards.
    Broken { version: u64, is_read: bool },
}

#[derive(Debug)]
struct FirstCommit {
    inner: InMemory,
    first: First,
}

impl fmt::Display for FirstCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FirstCommit")
    }
}

#[async_trait]
impl ObjectStore for FirstCommit {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let Some((_, version)) = parse_commit_path(location) else { return self.inner.put_opts(location, payload, options).await };
        match &self.first {
            First::Broken { version: broken, .. } if *broken == version => {
                self.inner.put_opts(location, payload, options).await?;
                Err(broken_off())
            }
            First::Broken { .. } => self.inner.put_opts(location, payload, options).await,
            _ if version > 0 => self.inner.put_opts(location, payload, options).await,
            First::Together(barrier) => {
                barrier.wait().await;
                self.inner.put_opts(location, payload, options).await
            }
            First::AnswerLost => {
                self.inner.put_opts(location, payload, options).await?;
                Err(object_store::Error::AlreadyExists { path: location.to_string(), source: "sent again".into() })
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if let First::Broken { version, is_read: false } = &self.first
            && parse_commit_path(location).is_some_and(|(_, read)| read == *version)
        {
            return Err(broken_off());
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn broken_off() -> object_store::Error {
    object_store::Error::Generic { store: "test", source: "the connection broke off".into() }
}

fn place(first: First) -> Location {
    let store = Arc::new(FirstCommit { inner: InMemory::new(), first });
    Location::in_lake(&LakeStore { name: "test".to_owned(), store }, "t").unwrap()
}

fn together() -> Location {
    place(First::Together(Barrier::new(2)))
}

/// Imports a file with one column, of these numbers.
async fn imported(location: &Location, file: &FilePath, column: &str, numbers: Range<i64>) -> crate::error::Result<Imported> {
    let lines: Vec<String> = numbers.map(|number| number.to_string()).collect();
    std::fs::write(file, format!("{column}\n{}\n", lines.join("\n"))).unwrap();
    import(location, Import { sources: vec![file.to_owned()], ..Import::default() }).await
}

/// Data files that there are, and those that the table names.
async fn files(location: &Location) -> (usize, usize) {
    let objects: Vec<ObjectMeta> = location.store().list(Some(location.root())).try_collect().await.unwrap();
    let live = table::load(location.store().as_ref(), location.root(), None).await.unwrap().files.len();
    (objects.iter().filter(|object| is_data(&object.location)).count(), live)
}

async fn sum(location: &Location) -> (i64, i64) {
    let context = session([location]).unwrap();
    context.register_table("t", super::super::open(location, None).await.unwrap().table_provider().await.unwrap()).unwrap();
    let batches = context.sql("SELECT count(*), sum(n) FROM t").await.unwrap().collect().await.unwrap();
    let value = |column: usize| batches[0].column(column).as_any().downcast_ref::<Int64Array>().unwrap().value(0);
    (value(0), value(1))
}

#[tokio::test]
async fn two_imports_that_make_one_table_at_one_time_both_arrive() {
    let (location, directory) = (together(), tempfile::tempdir().unwrap());
    let (a, b) = (directory.path().join("a.csv"), directory.path().join("b.csv"));
    let (one, other) = tokio::join!(imported(&location, &a, "n", 0..100), imported(&location, &b, "n", 100..200));
    let (one, other) = (one.unwrap(), other.unwrap());
    let mut made = [(one.version, one.created, one.rows), (other.version, other.created, other.rows)];
    made.sort_unstable();
    assert_eq!(made, [(0, true, 100), (1, false, 100)]);
    assert_eq!(sum(&location).await, (200, (0..200).sum()));
    assert_eq!(files(&location).await, (2, 2), "nothing is left of the attempt that lost");
    // The one that came second left the table what the first had made.
    let second = read_commit(location.store().as_ref(), location.root(), 1).await.unwrap();
    let second = String::from_utf8(second.to_vec()).unwrap();
    assert!(!second.contains("metaData") && !second.contains("\"protocol\""), "{second}");
    let begun = location.root().clone().join("_delta_log").join(table::BEGUN);
    assert!(location.store().head(&begun).await.is_err(), "the table is made");
}

#[tokio::test]
async fn an_import_that_does_not_fit_the_table_that_was_made_meanwhile_says_so_and_leaves_nothing() {
    let (location, directory) = (together(), tempfile::tempdir().unwrap());
    let (a, b) = (directory.path().join("a.csv"), directory.path().join("b.csv"));
    let (one, other) = tokio::join!(imported(&location, &a, "n", 0..100), imported(&location, &b, "m", 0..100));
    let (made, refused) = match (one, other) {
        (Ok(made), Err(refused)) | (Err(refused), Ok(made)) => (made, refused),
        both => panic!("{both:?}"),
    };
    assert_eq!((made.version, made.created), (0, true));
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let text = refused.to_string();
    assert!(text.contains("another write made the table meanwhile") && text.contains(".csv"), "{text}");
    assert_eq!(files(&location).await, (1, 1));
}

#[tokio::test]
async fn a_first_commit_whose_answer_was_lost_is_the_imports_own() {
    let (location, directory) = (place(First::AnswerLost), tempfile::tempdir().unwrap());
    let made = imported(&location, &directory.path().join("a.csv"), "n", 0..100).await.unwrap();
    assert_eq!((made.version, made.created, made.rows, made.files), (0, true, 100, Some(1)));
    assert_eq!((sum(&location).await, files(&location).await), ((100, (0..100).sum()), (1, 1)));
}

fn numbers(numbers: Range<i64>) -> SendableRecordBatchStream {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    Box::pin(RecordBatchStreamAdapter::new(batch.schema(), stream::iter([Ok(batch)])))
}

#[tokio::test]
async fn of_two_statements_that_make_one_table_one_is_refused() {
    let location = together();
    let create = |range| write_stream(&location, numbers(range), WriteMode::Create);
    let (one, other) = tokio::join!(create(0..10), create(10..30));
    let (rows, refused) = match (one, other) {
        (Ok(rows), Err(refused)) | (Err(refused), Ok(rows)) => (rows, refused),
        both => panic!("{both:?}"),
    };
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    assert_eq!(sum(&location).await.0, i64::try_from(rows).unwrap());
    assert_eq!(files(&location).await, (1, 1));
}

#[tokio::test]
async fn a_later_commit_that_is_there_is_done_whatever_failed_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.csv");
    for mode in [ImportMode::Append, ImportMode::Overwrite] {
        let location = place(First::Broken { version: 1, is_read: true });
        imported(&location, &file, "n", 0..10).await.unwrap();
        let again = Import { sources: vec![file.clone()], mode, ..Import::default() };
        let done = import(&location, again).await.unwrap();
        let live = if mode == ImportMode::Append { 2 } else { 1 };
        assert_eq!((done.version, done.created, done.rows, done.files), (1, false, 10, Some(live)));
        assert_eq!(files(&location).await, (2, live));
    }
    for mode in [WriteMode::Append, WriteMode::Overwrite] {
        let location = place(First::Broken { version: 1, is_read: true });
        imported(&location, &file, "n", 0..10).await.unwrap();
        assert_eq!(write_stream(&location, numbers(10..30), mode).await.unwrap(), 20);
        assert_eq!(sum(&location).await.0, if mode == WriteMode::Append { 30 } else { 20 });
    }
}

#[tokio::test]
async fn of_a_commit_that_may_be_there_nobody_says_that_nothing_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.csv");
    for is_import in [true, false] {
        let location = place(First::Broken { version: 1, is_read: false });
        imported(&location, &file, "n", 0..10).await.unwrap();
        let error = match is_import {
            true => imported(&location, &file, "n", 10..20).await.map(|done| done.rows),
            false => write_stream(&location, numbers(10..30), WriteMode::Append).await,
        };
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", chain(&error));
        assert!(!chain(&error).contains("nothing"), "{}", chain(&error));
    }
    // Of the table that is to be made as well.
    let location = place(First::Broken { version: 0, is_read: false });
    let error = imported(&location, &file, "n", 0..10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", chain(&error));
    assert!(Traces::is_said(&error) && chain(&error).contains("broke off"), "{}", chain(&error));
}

/// All that an error says, and its causes.
fn chain(error: &Error) -> String {
    let (mut text, mut next) = (error.to_string(), std::error::Error::source(error));
    while let Some(cause) = next {
        text.push_str(&format!("\n{cause}"));
        next = cause.source();
    }
    text
}

/// Regions that take no writes stand for ones whose disks are full.
#[tokio::test]
async fn an_import_says_which_regions_did_not_take_it_and_that_nothing_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.csv");
    for full in [0..2_usize, 0..3] {
        for is_table_there in [false, true] {
            let (regions, writer, faults) = memory_lake(3, 2, 5).unwrap();
            let store = ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
            let lake = LakeStore { name: "test".to_owned(), store: Arc::new(store.clone()) };
            let location = Location::in_lake(&lake, "t").unwrap();
            if is_table_there {
                imported(&location, &file, "n", 0..10).await.unwrap();
            }
            store.quiesce().await;
            faults[full.clone()].iter().for_each(|region| region.fail_before_apply(u64::MAX));
            let outcome = imported(&location, &file, "n", 10..20).await;
            if full.len() == 2 {
                outcome.unwrap();
                store.quiesce().await;
                let refusals: Vec<_> = store.region_statistics().into_iter().map(|region| region.refusal.unwrap_or_default()).collect();
                let refused = refusals.iter().map(|why| why.contains("failed before it took effect")).collect::<Vec<_>>();
                assert_eq!(refused, [true, true, false, false, false], "{refusals:?}");
                continue;
            }
            let said = chain(&outcome.unwrap_err());
            assert!(said.contains("nothing"), "{said}");
            assert!(["r0", "r1", "r2"].iter().all(|region| said.contains(region)) && said.contains("before it took effect"), "{said}");
            faults.iter().for_each(|region| region.fail_before_apply(0));
            let versions = table::commit_versions(location.store().as_ref(), location.root()).await.unwrap();
            assert_eq!(versions, if is_table_there { vec![0] } else { vec![] });
        }
    }
}
