//! Table functions are tables: whatever is asked of them, and whatever they are called with.

use lakeseal::baseline::Writers;
use lakeseal::delta::AttestingStore;

use super::lineage::writer;
use super::poison_diff::{erasure_lake, sealed_in, text_rows, with_delays};
use super::*;

/// Each function that takes a table, a call that gives rows of the poisoned table, and two columns of it.
const CALLS: [(&str, &str, &str, &str); 9] = [
    ("audit", "audit('flights')", "verdict", "detail"),
    ("baselines", "baselines('flights')", "number", "digest"),
    ("row_groups", "row_groups('flights')", "row_group", "digest"),
    ("poison_diff", "poison_diff('flights')", "kind", "sealed"),
    ("drift", "drift('flights')", "scope", "\"column\""),
    ("lineage", "lineage('flights')", "operation", "output_file"),
    ("upstream", "upstream('derived')", "operation", "file"),
    ("blast_radius", "blast_radius('flights')", "operation", "file"),
    ("verify_derivation", "verify_derivation('flights')", "version", "verdict"),
];

/// A sealed table of which another was made, and of which two values were changed then.
async fn poisoned() -> Fixture {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(AttestingStore::around_lake(&lake, Arc::new(writer()), Arc::new(SystemClock)).unwrap()).await;
    fixture.attested().await.run("CREATE TABLE derived AS SELECT id, delay FROM flights WHERE id < 10").await.unwrap();
    let changed = with_delays(&batch(0..4000), &[(1500, 500.0), (2500, 600.0)]);
    fixture.lake.store.put(&fixture.data_file().await, parquet_bytes(&[changed]).into()).await.unwrap();
    fixture
}

impl Fixture {
    /// A session that believes the writer's attestations.
    async fn attested(&self) -> SealedSession {
        let trust = Trust::new([self.key.public()], TrustLevel::Given).unwrap();
        let tables = TableOptions { writers: Writers::known(vec![writer().public()]), ..TableOptions::default() };
        SealedSession::new(SessionOptions { lake: Some(self.lake.clone()), trust: Some(trust), tables }).await.unwrap()
    }

    /// The rows of a query, in an order of their own.
    async fn sorted(&self, query: &str) -> Vec<String> {
        let session = self.attested().await;
        let mut rows = text_rows(&session.run(query).await.unwrap_or_else(|e| panic!("{query}: {e}")));
        rows.sort();
        rows
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_limits_counts_and_joins_are_those_of_the_whole_answer() {
    let fixture = poisoned().await;
    for (_, call, a, b) in CALLS {
        let all = fixture.sorted(&format!("SELECT {a}, {b} FROM {call}")).await;
        assert!(!all.is_empty(), "{call}");
        // Columns in another order, alone, and none.
        let swapped = fixture.sorted(&format!("SELECT {a}, {b} FROM (SELECT {b}, {a} FROM {call})")).await;
        assert_eq!(swapped, all, "{call}");
        let n = all.len();
        assert_eq!(fixture.sorted(&format!("SELECT {b} FROM {call}")).await.len(), n, "{call}");
        assert_eq!(fixture.sorted(&format!("SELECT count(*) FROM {call}")).await, [n.to_string()], "{call}");
        // A limit cuts rows that filters left, and is no more than a limit.
        for (limit, left) in [(0, 0), (1, 1), (n, n), (n + 5, n)] {
            let limited = fixture.sorted(&format!("SELECT {b} FROM {call} LIMIT {limit}")).await;
            assert_eq!(limited.len(), left, "{call} LIMIT {limit}");
        }
        let kept = fixture.sorted(&format!("SELECT {a}, {b} FROM {call} WHERE {a} IS NOT NULL AND {a} = {a} LIMIT {n}")).await;
        assert_eq!(kept, all, "{call}");
        let none = fixture.sorted(&format!("SELECT {a} FROM {call} WHERE {a} IS NULL LIMIT 1")).await;
        assert_eq!(none, [""; 0], "{call}");
        // With itself, as a subquery, and grouped.
        let own = fixture.sorted(&format!("SELECT DISTINCT x.{a} FROM {call} x JOIN {call} y ON x.{a} = y.{a}")).await;
        assert_eq!(own, fixture.sorted(&format!("SELECT DISTINCT {a} FROM {call}")).await, "{call}");
        let counted = format!("SELECT sum(n) FROM (SELECT {a}, count(*) AS n FROM {call} GROUP BY {a})");
        assert_eq!(fixture.sorted(&counted).await, [n.to_string()], "{call}");
        let inside = format!("SELECT count(*) FROM {call} WHERE {a} IN (SELECT {a} FROM {call})");
        assert_eq!(fixture.sorted(&inside).await, [n.to_string()], "{call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_are_none_of_a_function_s_are_told_how_it_is_called() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    let session = fixture.session(ReadMode::Latest).await;
    let mut bad: Vec<String> = vec!["reports('flights')".to_owned()];
    for (name, ..) in CALLS {
        let of_table = ["", "NULL", "7", "true", "CAST(NULL AS VARCHAR)", "CAST(random() AS VARCHAR)"];
        bad.extend(of_table.iter().map(|arguments| format!("{name}({arguments})")));
        bad.extend(["'flights', 1.5", "'flights', true", "'flights', -1"].iter().map(|arguments| format!("{name}({arguments})")));
        bad.push(format!("{name}('flights', 1, 2, 'id', 5)"));
    }
    for name in ["audit", "baselines", "row_groups", "lineage"] {
        bad.extend(["'flights', NULL", "'flights', 'x'"].iter().map(|arguments| format!("{name}({arguments})")));
    }
    for name in ["upstream", "blast_radius"] {
        bad.extend(["'flights', NULL, 1", "'flights', 'f', 'x'", "'flights', 'f', -1"].iter().map(|rest| format!("{name}({rest})")));
    }
    for name in ["poison_diff", "drift"] {
        bad.extend(
            ["'flights', ''", "'flights', ' , '", "'flights', 'id', 'delay'", "'flights', 1, 2, 3"].map(|rest| format!("{name}({rest})")),
        );
    }
    bad.extend(["'flights', 'x'", "'flights', 1, 2"].map(|rest| format!("verify_derivation({rest})")));
    for call in bad {
        let error = session.run(&format!("SELECT * FROM {call}")).await.expect_err(&call);
        let name = call.split('(').next().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{call}: {error}");
        let told = format!("{error} {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
        assert!(told.contains(&format!("{name} takes")), "{call}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_may_be_null_and_constants_may_be_computed() {
    let fixture = poisoned().await;
    for (call, same) in [
        ("poison_diff('flights', NULL, NULL, NULL)", "poison_diff('flights')"),
        ("poison_diff(concat('fli', 'ghts'), CAST(1 AS INT), NULL, 'id')", "poison_diff('flights', 1, NULL, 'id')"),
        ("drift('flights', CAST(NULL AS INT), CAST(NULL AS BIGINT))", "drift('flights')"),
        ("blast_radius('flights', NULL, NULL)", "blast_radius('flights')"),
        ("upstream('derived', NULL)", "upstream('derived')"),
        ("verify_derivation('flights', NULL)", "verify_derivation('flights')"),
        ("verify_derivation('flights', 1 - 1)", "verify_derivation('flights', 0)"),
        ("audit(lower('FLIGHTS'))", "audit('flights')"),
    ] {
        // Sketches are made by chance, so that measures differ from one time to the next.
        let columns = if call.starts_with("drift") { "scope, \"column\", sealed_rows, found_rows" } else { "*" };
        let rows = fixture.sorted(&format!("SELECT {columns} FROM {call}")).await;
        assert_eq!(rows, fixture.sorted(&format!("SELECT {columns} FROM {same}")).await, "{call}");
    }
}
