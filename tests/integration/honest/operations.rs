//! What deltalake does to tables.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, ListArray,
    MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use chrono::Duration;
use datafusion::prelude::{SessionContext, col, lit};
use deltalake::DeltaTable;
use deltalake::kernel::{DataType as DeltaType, PrimitiveType, StructField};
use deltalake::operations::optimize::OptimizeType;
use deltalake::operations::write::SchemaMode;
use deltalake::protocol::SaveMode;
use lakeseal::baseline::Verdict;
use lakeseal::delta::{self, Import, ImportMode};

use super::super::support::arena::Kind;
use super::life::{Life, rows};

pub async fn all() -> Vec<Life> {
    let mut lives = Vec::new();
    for kind in Kind::ALL {
        lives.push(appends_and_overwrites(kind).await);
        lives.push(deletes_updates_merges(kind).await);
        lives.push(compactions(kind).await);
        lives.push(checkpoints(kind).await);
    }
    let kind = Kind::Plain;
    lives.push(partition_overwrites(kind).await);
    lives.push(restores(kind).await);
    lives.push(schema_evolution(kind).await);
    lives.push(constraints_and_properties(kind).await);
    lives.push(change_data(kind).await);
    lives.push(identical_imports(kind).await);
    lives.push(nothing_happens(kind).await);
    lives.push(concurrent_writers(kind).await);
    lives.push(partition_values(kind).await);
    lives.push(every_type(kind).await);
    lives.push(strange_numbers(kind).await);
    lives.push(many_row_groups(kind).await);
    lives.push(imports_and_inserts().await);
    lives
}

async fn table(life: &Life) -> DeltaTable {
    let mut table = DeltaTable::try_from_url(life.arena.engine_url()).await.unwrap();
    let _new = table.load().await;
    table
}

async fn append(life: &mut Life, what: &str, batch: RecordBatch) {
    table(life).await.write([batch]).with_save_mode(SaveMode::Append).await.unwrap();
    life.step(what).await;
}

async fn partitioned(life: &mut Life) {
    for first in [0, 100] {
        table(life).await.write([rows(first, 100)]).with_save_mode(SaveMode::Append).with_partition_columns(["label"]).await.unwrap();
        life.step("append").await;
    }
}

async fn appends_and_overwrites(kind: Kind) -> Life {
    let mut life = Life::new("appends, overwrites", kind).await;
    for first in [0, 100, 200] {
        append(&mut life, "append", rows(first, 100)).await;
    }
    table(&life).await.write([rows(0, 150)]).with_save_mode(SaveMode::Overwrite).await.unwrap();
    life.step("overwrite").await;
    life
}

async fn partition_overwrites(kind: Kind) -> Life {
    let mut life = Life::new("partition overwrite (replaceWhere)", kind).await;
    partitioned(&mut life).await;
    let all = rows(0, 60);
    let even = arrow::compute::filter_record_batch(&all, &BooleanArray::from_iter((0..60).map(|i| Some(i % 2 == 0)))).unwrap();
    let write = table(&life).await.write([even]).with_save_mode(SaveMode::Overwrite).with_replace_where(col("label").eq(lit("l0")));
    write.await.unwrap();
    life.step("overwrite label=l0").await;
    life
}

async fn deletes_updates_merges(kind: Kind) -> Life {
    let mut life = Life::new("DELETE, UPDATE, MERGE", kind).await;
    partitioned(&mut life).await;
    table(&life).await.delete().with_predicate("id < 20").await.unwrap();
    life.step("DELETE of rows").await;
    table(&life).await.update().with_predicate("id = 57").with_update("value", "0.25").await.unwrap();
    life.step("UPDATE").await;
    let source = SessionContext::new().read_batch(rows(150, 100)).unwrap();
    let merge = table(&life).await.merge(source, "target.id = source.id").with_source_alias("source").with_target_alias("target");
    let merge = merge.when_matched_update(|update| update.update("value", "source.value + 1")).unwrap();
    let columns = ["id", "label", "value"];
    let merge = merge
        .when_not_matched_insert(|insert| columns.iter().fold(insert, |insert, name| insert.set(*name, format!("source.{name}"))))
        .unwrap();
    merge.await.unwrap();
    life.step("MERGE").await;
    table(&life).await.delete().with_predicate("label = 'l1'").await.unwrap();
    life.step("DELETE of a partition").await;
    table(&life).await.delete().await.unwrap();
    life.step("DELETE of everything").await;
    append(&mut life, "append again", rows(0, 100)).await;
    life
}

async fn compactions(kind: Kind) -> Life {
    let mut life = Life::new("OPTIMIZE, Z-ORDER, VACUUM", kind).await;
    partitioned(&mut life).await;
    table(&life).await.optimize().await.unwrap();
    life.step_with("OPTIMIZE", &[Verdict::Rewritten]).await;
    append(&mut life, "append", rows(200, 50)).await;
    let order = OptimizeType::ZOrder(vec!["id".to_owned(), "value".to_owned()]);
    table(&life).await.optimize().with_type(order).await.unwrap();
    life.step_with("Z-ORDER", &[Verdict::Rewritten]).await;
    table(&life).await.vacuum().with_retention_period(Duration::zero()).with_enforce_retention_duration(false).await.unwrap();
    life.step("VACUUM").await;
    life
}

async fn checkpoints(kind: Kind) -> Life {
    let mut life = Life::new("checkpoints, log cleanup", kind).await;
    for first in [0, 50, 100] {
        append(&mut life, "append", rows(first, 50)).await;
    }
    deltalake::checkpoints::create_checkpoint(&table(&life).await, None).await.unwrap();
    life.step("checkpoint").await;
    for version in 0..2 {
        life.arena.replace(&format!("_delta_log/{version:020}.json"), None, None).await;
    }
    life.step("log cleanup").await;
    append(&mut life, "append", rows(150, 50)).await;
    table(&life).await.delete().with_predicate("id < 10").await.unwrap();
    life.step("DELETE").await;
    deltalake::checkpoints::create_checkpoint(&table(&life).await, None).await.unwrap();
    append(&mut life, "checkpoint, append", rows(200, 50)).await;
    for version in 2..5 {
        life.arena.replace(&format!("_delta_log/{version:020}.json"), None, None).await;
    }
    life.step("log cleanup").await;
    life
}

async fn restores(kind: Kind) -> Life {
    let mut life = Life::new("RESTORE to versions", kind).await;
    partitioned(&mut life).await;
    table(&life).await.delete().with_predicate("id < 50").await.unwrap();
    life.step("DELETE").await;
    for version in [1, 2, 0] {
        table(&life).await.restore().with_version_to_restore(version).await.unwrap();
        life.step("RESTORE").await;
    }
    life
}

async fn schema_evolution(kind: Kind) -> Life {
    let mut life = Life::new("schema evolution", kind).await;
    append(&mut life, "append", rows(0, 100)).await;
    let old = rows(100, 50);
    let note: ArrayRef = Arc::new(StringArray::from_iter((0..50).map(|i| (i % 3 != 0).then(|| format!("note {i}")))));
    let wider = RecordBatch::try_from_iter_with_nullable([
        ("id", old.column(0).clone(), true),
        ("label", old.column(1).clone(), true),
        ("value", old.column(2).clone(), true),
        ("note", note, true),
    ]);
    table(&life).await.write([wider.unwrap()]).with_save_mode(SaveMode::Append).with_schema_mode(SchemaMode::Merge).await.unwrap();
    life.step("append with a new column").await;
    let field = StructField::new("more", DeltaType::Primitive(PrimitiveType::Integer), true);
    table(&life).await.add_columns().with_fields([field]).await.unwrap();
    life.step("ADD COLUMN").await;
    let narrow = rows(0, 80);
    table(&life).await.write([narrow]).with_save_mode(SaveMode::Overwrite).with_schema_mode(SchemaMode::Overwrite).await.unwrap();
    life.step("overwrite of the schema").await;
    life
}

async fn constraints_and_properties(kind: Kind) -> Life {
    let mut life = Life::new("constraints, properties", kind).await;
    append(&mut life, "append", rows(0, 100)).await;
    table(&life).await.add_constraint().with_constraint("positive", "value > 0").await.unwrap();
    life.step("ADD CONSTRAINT").await;
    append(&mut life, "append", rows(100, 20)).await;
    table(&life).await.drop_constraints().with_constraint("positive").await.unwrap();
    life.step("DROP CONSTRAINT").await;
    let properties = HashMap::from([("delta.logRetentionDuration".to_owned(), "interval 2 days".to_owned())]);
    table(&life).await.set_tbl_properties().with_properties(properties).await.unwrap();
    life.step("SET TBLPROPERTIES").await;
    life
}

async fn change_data(kind: Kind) -> Life {
    let mut life = Life::new("change data feed", kind).await;
    let write =
        table(&life).await.write([rows(0, 100)]).with_configuration([("delta.enableChangeDataFeed".to_owned(), Some("true".to_owned()))]);
    write.await.unwrap();
    life.step("create").await;
    table(&life).await.update().with_predicate("id < 10").with_update("value", "value + 1").await.unwrap();
    life.step("UPDATE with change data").await;
    table(&life).await.delete().with_predicate("id >= 90").await.unwrap();
    life.step("DELETE with change data").await;
    life
}

async fn identical_imports(kind: Kind) -> Life {
    let mut life = Life::new("identical imports", kind).await;
    for _ in 0..3 {
        table(&life).await.write([rows(0, 100)]).with_save_mode(SaveMode::Overwrite).await.unwrap();
        life.step("the same rows once more").await;
    }
    append(&mut life, "the same rows beside them", rows(0, 100)).await;
    life
}

async fn nothing_happens(kind: Kind) -> Life {
    let mut life = Life::new("operations that change nothing", kind).await;
    append(&mut life, "append", rows(0, 100)).await;
    table(&life).await.delete().with_predicate("id > 1000").await.unwrap();
    life.step("DELETE of no row").await;
    table(&life).await.update().with_predicate("id > 1000").with_update("value", "0").await.unwrap();
    life.step("UPDATE of no row").await;
    table(&life).await.optimize().await.unwrap();
    life.step("OPTIMIZE of one file").await;
    life.step("nothing at all").await;
    life
}

async fn concurrent_writers(kind: Kind) -> Life {
    let mut life = Life::new("concurrent writers", kind).await;
    append(&mut life, "append", rows(0, 50)).await;
    let (one, other) = (table(&life).await, table(&life).await);
    let (one, other) = tokio::join!(one.write([rows(50, 50)]).into_future(), other.write([rows(100, 50)]).into_future());
    one.unwrap();
    other.unwrap();
    life.step("two appends at once").await;
    life
}

async fn partition_values(kind: Kind) -> Life {
    let mut life = Life::new("strange partition values, nulls", kind).await;
    let values = [Some("a b"), Some("a=b"), Some("100%"), Some("ü/ß"), None, Some("it's"), Some("{x}"), Some("2020-01-01 10:00:00")];
    for first in [0, 40] {
        let ids: Vec<i64> = (first..first + 40).collect();
        let labels = ids.iter().map(|i| values[usize::try_from(*i).unwrap() % values.len()]);
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from(ids.clone())) as ArrayRef, true),
            ("label", Arc::new(StringArray::from_iter(labels)) as _, true),
            ("value", Arc::new(Float64Array::from_iter_values(ids.iter().map(|i| *i as f64))) as _, true),
        ]);
        table(&life).await.write([batch.unwrap()]).with_save_mode(SaveMode::Append).with_partition_columns(["label"]).await.unwrap();
        life.step("append").await;
    }
    table(&life).await.delete().with_predicate("label = 'a=b'").await.unwrap();
    life.step("DELETE of a partition").await;
    table(&life).await.optimize().await.unwrap();
    life.step_with("OPTIMIZE", &[Verdict::Rewritten]).await;
    deltalake::checkpoints::create_checkpoint(&table(&life).await, None).await.unwrap();
    for version in 0..3 {
        life.arena.replace(&format!("_delta_log/{version:020}.json"), None, None).await;
    }
    life.step("checkpoint, log cleanup").await;
    life
}

async fn every_type(kind: Kind) -> Life {
    let queries =
        ["SELECT COUNT(*) FROM t", "SELECT * FROM t ORDER BY i", "SELECT i, d, ts FROM t WHERE d > 5 ORDER BY ts DESC, i LIMIT 4"];
    let mut life = Life::new("nested and other types", kind).await.asking(&queries);
    for first in [0, 20] {
        append(&mut life, "append", typed(first)).await;
    }
    table(&life).await.optimize().await.unwrap();
    life.step_with("OPTIMIZE", &[Verdict::Rewritten]).await;
    table(&life).await.delete().with_predicate("i < 5").await.unwrap();
    life.step("DELETE").await;
    deltalake::checkpoints::create_checkpoint(&table(&life).await, None).await.unwrap();
    for version in 0..4 {
        life.arena.replace(&format!("_delta_log/{version:020}.json"), None, None).await;
    }
    life.step("checkpoint, log cleanup").await;
    life
}

fn typed(first: i32) -> RecordBatch {
    let ids: Vec<i32> = (first..first + 20).collect();
    let wide = |i: &i32| i64::from(*i);
    let strings: ArrayRef =
        Arc::new(StringArray::from_iter(ids.iter().map(|i| (i % 4 != 0).then(|| "x".repeat(usize::try_from(*i).unwrap() * 3)))));
    let fields = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]);
    let inner: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(ids.clone())), strings.clone()];
    let lists = ids.iter().map(|i| (i % 5 != 0).then(|| (0..i % 3).map(Some).collect::<Vec<_>>()));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for i in &ids {
        maps.keys().append_value(format!("k{i}"));
        maps.values().append_option((i % 2 == 0).then(|| format!("v{i}")));
        maps.append(true).unwrap();
    }
    let micros = |i: &i32| wide(i) * 1_000_001 + 1_600_000_000_000_000;
    RecordBatch::try_from_iter_with_nullable([
        ("i", Arc::new(Int32Array::from(ids.clone())) as ArrayRef, true),
        ("s", strings, true),
        ("f", Arc::new(Float32Array::from_iter_values(ids.iter().map(|i| *i as f32 * 0.1))) as _, true),
        ("b", Arc::new(BooleanArray::from_iter(ids.iter().map(|i| Some(i % 2 == 0)))) as _, true),
        ("bin", Arc::new(BinaryArray::from_iter_values(ids.iter().map(|i| i.to_le_bytes()))) as _, true),
        (
            "d",
            Arc::new(Decimal128Array::from_iter_values(ids.iter().map(|i| i128::from(*i) * 33)).with_precision_and_scale(12, 2).unwrap())
                as _,
            true,
        ),
        ("day", Arc::new(Date32Array::from_iter_values(ids.iter().map(|i| i * 11 - 50))) as _, true),
        ("ts", Arc::new(TimestampMicrosecondArray::from_iter_values(ids.iter().map(micros)).with_timezone("UTC")) as _, true),
        ("st", Arc::new(StructArray::new(fields, inner, None)) as _, true),
        ("l", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)) as _, true),
        ("m", Arc::new(maps.finish()) as _, true),
    ])
    .unwrap()
}

async fn strange_numbers(kind: Kind) -> Life {
    let mut life = Life::new("NaN, -0.0, infinities, extremes", kind).await;
    let numbers = [f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX, 1e-300];
    let ids = [i64::MIN, -1, 0, 57, i64::MAX, 100, 101, 102];
    let batch = || {
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef, true),
            ("value", Arc::new(Float64Array::from(numbers.to_vec())) as _, true),
        ])
        .unwrap()
    };
    append(&mut life, "append", batch()).await;
    append(&mut life, "append", batch()).await;
    table(&life).await.optimize().await.unwrap();
    life.step_with("OPTIMIZE", &[Verdict::Rewritten]).await;
    life
}

async fn many_row_groups(kind: Kind) -> Life {
    let queries =
        ["SELECT COUNT(*) FROM t WHERE id = 57", "SELECT SUM(id) FROM t WHERE id BETWEEN 20000 AND 20100", "SELECT COUNT(*) FROM t"];
    let mut life = Life::new("a large file, many row groups", kind).await.asking(&queries);
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(3000))
        .set_bloom_filter_enabled(true)
        .build();
    table(&life).await.write([wide(40_000)]).with_writer_properties(properties).await.unwrap();
    life.step("append of more than 4 MiB").await;
    life
}

/// So many rows of more than 100 bytes.
fn wide(count: i64) -> RecordBatch {
    let ids: Vec<i64> = (0..count).collect();
    let text = StringArray::from_iter_values(ids.iter().map(|i| format!("{:0>100}", i * 7919 % 10_007)));
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids)) as ArrayRef), ("text", Arc::new(text) as _)]).unwrap()
}

/// Lakeseal's own import and INSERT, in an erasure lake.
async fn imports_and_inserts() -> Life {
    use datafusion::arrow::array::AsArray as _;
    let mut life = Life::new("lakeseal import, INSERT INTO", Kind::Erasure).await;
    let source = life.arena.directory.join("rows.parquet");
    let write = |batch: RecordBatch| {
        let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        std::fs::write(&source, writer.into_inner().unwrap()).unwrap();
    };
    for (first, mode) in [(0, ImportMode::Append), (100, ImportMode::Append), (0, ImportMode::Overwrite)] {
        write(rows(first, 100));
        let import = Import { sources: vec![source.clone()], mode, ..Import::default() };
        delta::import(&life.arena.location, import).await.unwrap();
        life.step("import").await;
    }
    let session = life.arena.session(lakeseal::sql::ReadMode::Latest).await.unwrap();
    let inserted = session.run("INSERT INTO t VALUES (500, 'l0', 2.5), (501, 'l1', 3.5)").await.unwrap();
    assert_eq!(inserted[0].column(0).as_primitive::<arrow::datatypes::UInt64Type>().value(0), 2);
    life.step("INSERT INTO").await;
    life
}
