use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use object_store::memory::InMemory;
use object_store::path::Path;
use url::Url;

use super::*;
use crate::error::ErrorKind;

fn lake() -> LakeStore {
    LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) }
}

fn write_parquet(path: &std::path::Path, ids: std::ops::Range<i64>) {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]));
    let names: Vec<String> = ids.clone().map(|i| format!("n{i}")).collect();
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(StringArray::from(names))])
        .unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(std::fs::File::create(path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

async fn count(location: &Location, sql: &str) -> i64 {
    let context = session([location]).unwrap();
    let provider = open(location, None).await.unwrap().table_provider().await.unwrap();
    context.register_table("t", provider).unwrap();
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0)
}

#[test]
fn arguments_mean_what_the_help_says() {
    let lake = lake();
    let flights = Location::parse("flights", Some(&lake)).unwrap();
    assert_eq!(flights.url().as_str(), "lakeseal://test/flights");
    assert_eq!(flights.root(), &Path::from("flights"));
    let by_url = Location::parse("lakeseal://test/sales/orders/", Some(&lake)).unwrap();
    assert_eq!(by_url.url().as_str(), "lakeseal://test/sales/orders");
    let kind = |argument: &str, lake: Option<&LakeStore>| Location::parse(argument, lake).unwrap_err().kind();
    assert_eq!(kind("lakeseal://other/flights", Some(&lake)), ErrorKind::Config);
    assert_eq!(kind("lakeseal://test/flights", None), ErrorKind::Config);
    assert_eq!(kind("./no/such/directory", Some(&lake)), ErrorKind::NotFound);
    for bad in [
        "my table",
        "a%20b",
        "ä",
        "a//b",
        "a/../b",
        "a/../../x",
        ".lakeseal",
        ".lakeseal/t",
        "lakeseal://test/a b",
        "lakeseal://test//a",
        "lakeseal://test/",
        "",
        "t/_delta_log",
    ] {
        assert_eq!(kind(bad, Some(&lake)), ErrorKind::InvalidInput, "{bad:?}");
    }
}

#[tokio::test]
async fn several_files_become_one_commit_and_come_out_again() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a.parquet"), directory.path().join("b.parquet"));
    write_parquet(&a, 0..1000);
    write_parquet(&b, 1000..1500);
    let csv = directory.path().join("c.csv");
    std::fs::write(&csv, "name,id\nx,7\n,8\n").unwrap();
    let lake = lake();
    let location = Location::in_lake(&lake, "people").unwrap();

    let made = import(&location, Import { sources: vec![a.clone(), b], ..Import::default() }).await.unwrap();
    assert_eq!((made.version, made.created, made.rows), (0, true, 1500));
    let more = import(&location, Import { sources: vec![csv], ..Import::default() }).await.unwrap();
    assert_eq!((more.version, more.created, more.rows), (1, false, 2));
    assert_eq!(count(&location, "SELECT COUNT(DISTINCT id) FROM t").await, 1500);
    assert_eq!(count(&location, "SELECT COUNT(*) FROM t WHERE name IS NULL").await, 1);
    assert_eq!(tables(lake.store.as_ref()).await.unwrap(), ["people"]);

    let over = import(&location, Import { sources: vec![a], mode: ImportMode::Overwrite, ..Import::default() }).await.unwrap();
    assert_eq!((over.version, over.files), (2, Some(1)));
    assert_eq!(count(&location, "SELECT COUNT(*) FROM t").await, 1000);
}

#[tokio::test]
async fn files_that_do_not_fit_are_named_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    write_parquet(&file("good.parquet"), 0..10);
    std::fs::write(file("junk.parquet"), "this is no Parquet").unwrap();
    std::fs::write(file("other.csv"), "id,colour\n1,red\n").unwrap();
    std::fs::write(file("text.csv"), "id,name\nseven,x\n").unwrap();
    let lake = lake();
    let location = Location::in_lake(&lake, "t").unwrap();
    let run = |names: &[&str]| {
        let sources = names.iter().map(|name| file(name)).collect();
        import(&location, Import { sources, ..Import::default() })
    };
    for (names, culprit) in [
        (vec!["good.parquet", "junk.parquet"], "junk.parquet"),
        (vec!["good.parquet", "other.csv"], "other.csv"),
        (vec!["good.parquet", "text.csv"], "text.csv"),
    ] {
        let error = run(&names).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(culprit), "{error}");
        assert_eq!(tables(lake.store.as_ref()).await.unwrap(), Vec::<String>::new());
    }
    assert_eq!(run(&["absent.parquet"]).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_session_reaches_its_own_tables_only() {
    let lake = lake();
    let location = Location::in_lake(&lake, "t").unwrap();
    let context = session([&location]).unwrap();
    let get = |url: &str| {
        let url = datafusion::execution::object_store::ObjectStoreUrl::parse(url).unwrap();
        context.runtime_env().object_store(&url)
    };
    assert!(get("lakeseal://test").is_ok());
    assert!(get("file://").is_err());
    assert!(get("lakeseal://other").is_err());
    // What is pinned stays, whatever code in the session registers.
    context.register_object_store(&Url::parse("lakeseal://test").unwrap(), Arc::new(InMemory::new()));
    lake.store.put(&object_store::path::Path::from("probe"), "here".into()).await.unwrap();
    let stays = get("lakeseal://test").unwrap().get(&object_store::path::Path::from("probe")).await;
    assert_eq!(stays.unwrap().bytes().await.unwrap(), "here");
}

#[tokio::test]
async fn the_scheme_works_in_stock_deltalake() {
    let lake = LakeStore { name: "scheme-test".to_owned(), store: Arc::new(InMemory::new()) };
    register_lake_scheme(&lake.name, lake.store.clone()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    write_parquet(&directory.path().join("a.parquet"), 0..100);
    let location = Location::in_lake(&lake, "t").unwrap();
    import(&location, Import { sources: vec![directory.path().join("a.parquet")], ..Import::default() }).await.unwrap();
    let table = deltalake::open_table(Url::parse("lakeseal://scheme-test/t").unwrap()).await.unwrap();
    assert_eq!(table.version(), Some(0));
    let absent = deltalake::open_table(Url::parse("lakeseal://no-such-lake/t").unwrap()).await.unwrap_err();
    assert!(absent.to_string().contains("no lake named"), "{absent}");
}
