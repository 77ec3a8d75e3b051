//! Lineage as OpenLineage run events (specification 2-0-2).

use serde_json::{Map, Value, json};

use super::record::{Input, InputKind, Lineage};
use super::table::CommitLineage;

/// Who makes the events.
pub const PRODUCER: &str = concat!("https://crates.io/crates/lakeseal/", env!("CARGO_PKG_VERSION"));
const SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const FACETS: &str = "https://openlineage.io/spec/facets";
/// The tag under which run ids are made from commits.
const RUN_TAG: &str = "lakeseal 2026 openlineage run v1";

/// One `COMPLETE` event per commit of the table at `table`. Commits that state no time get `fallback_ms`.
///
/// A run's id follows from the commit, so that exporting twice gives the same events.
pub fn events<'a>(table: &'a str, commits: &'a [CommitLineage], fallback_ms: i64) -> impl Iterator<Item = Value> + 'a {
    commits.iter().map(move |commit| event(table, commit, fallback_ms))
}

fn event(table: &str, commit: &CommitLineage, fallback_ms: i64) -> Value {
    let lineage = &commit.lineage;
    let (namespace, name) = dataset_name(table);
    let mut job = Map::new();
    if let Some(sql) = &lineage.transformation.sql {
        job.insert("sql".to_owned(), facet("1-0-1/SQLJobFacet.json#/$defs/SQLJobFacet", [("query", json!(sql))]));
    }
    let mut run = Map::from_iter([("lakeseal_lineage".to_owned(), lakeseal_facet(commit))]);
    if let Some(version) = lineage.transformation.engine.get("datafusion") {
        let schema = "1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet";
        run.insert("processing_engine".to_owned(), facet(schema, [("version", json!(version)), ("name", json!("datafusion"))]));
    }
    let mut output = facets_of_version(Some(commit.version));
    let files = lineage.outputs.iter().map(|o| json!({"path": o.path, "size": o.size, "blake3": o.digest.map(|d| d.to_string())}));
    output.insert(
        "lakeseal_files".to_owned(),
        json!({"_producer": PRODUCER, "_schemaURL": format!("{PRODUCER}#files"), "files": files.collect::<Vec<_>>()}),
    );
    json!({
        "eventTime": time(lineage.finished_ms.unwrap_or(fallback_ms)),
        "eventType": "COMPLETE",
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
        "run": {"runId": run_id(table, commit), "facets": run},
        "job": {"namespace": namespace, "name": format!("{name}.{}", lineage.operation), "facets": job},
        "inputs": lineage.inputs.iter().map(input).collect::<Vec<_>>(),
        "outputs": [{"namespace": namespace, "name": name, "facets": output}],
    })
}

fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn facet<const N: usize>(schema: &str, members: [(&str, Value); N]) -> Value {
    let base = [("_producer", json!(PRODUCER)), ("_schemaURL", json!(format!("{FACETS}/{schema}")))];
    Value::Object(base.into_iter().chain(members).map(|(name, value)| (name.to_owned(), value)).collect())
}

fn facets_of_version(version: Option<u64>) -> Map<String, Value> {
    let schema = "1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet";
    let facet = version.map(|version| facet(schema, [("datasetVersion", json!(version.to_string()))]));
    facet.into_iter().map(|facet| ("version".to_owned(), facet)).collect()
}

/// Namespace and name of a dataset, as OpenLineage's naming has it: scheme and authority, then the path.
fn dataset_name(uri: &str) -> (String, String) {
    match uri.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let path = if scheme == "file" { format!("/{path}") } else { path.to_owned() };
            let namespace = if authority.is_empty() { scheme.to_owned() } else { format!("{scheme}://{authority}") };
            (namespace, if path.is_empty() { "/".to_owned() } else { path })
        }
        None => ("file".to_owned(), uri.to_owned()),
    }
}

fn input(input: &Input) -> Value {
    let (namespace, name) = dataset_name(&input.uri);
    let mut facets = facets_of_version(input.version);
    let files = input
        .files
        .iter()
        .flatten()
        .map(|f| json!({"path": f.path, "row_groups": f.row_groups, "blake3": f.digest.map(|d| d.to_string())}));
    facets.insert(
        "lakeseal_input".to_owned(),
        json!({
            "_producer": PRODUCER,
            "_schemaURL": format!("{PRODUCER}#input"),
            "kind": if input.kind == InputKind::Table { "table" } else { "source" },
            "blake3": input.digest.map(|digest| digest.to_string()),
            "files": files.collect::<Vec<_>>(),
        }),
    );
    json!({"namespace": namespace, "name": name, "facets": facets})
}

fn lakeseal_facet(commit: &CommitLineage) -> Value {
    let Lineage { derived, inputs_complete, transformation, actor, .. } = &commit.lineage;
    json!({
        "_producer": PRODUCER,
        "_schemaURL": format!("{PRODUCER}#lineage"),
        "actor": actor,
        "attested_by": commit.attested_by.map(|key| key.to_string()),
        "commit": commit.commit.to_string(),
        "derived": derived,
        "inputs_complete": inputs_complete,
        "plan_fingerprint": transformation.fingerprint.map(|digest| digest.to_string()),
        "version": commit.version,
        "volatile": transformation.volatile,
    })
}

/// A UUID of version 8: made from the table and the commit.
fn run_id(table: &str, commit: &CommitLineage) -> String {
    let seed = [table.as_bytes(), b"\0", &commit.version.to_le_bytes(), &commit.commit.0].concat();
    let digest = crate::digest::Digest::tagged(RUN_TAG, &seed);
    let bytes = digest.0.first_chunk::<16>().copied().unwrap_or_default();
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::sample;
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn names_follow_openlineage_s_naming() {
        assert_eq!(dataset_name("lakeseal://lake/a/b"), ("lakeseal://lake".to_owned(), "a/b".to_owned()));
        assert_eq!(dataset_name("file:///data/t"), ("file".to_owned(), "/data/t".to_owned()));
        assert_eq!(dataset_name("january.csv"), ("file".to_owned(), "january.csv".to_owned()));
    }

    #[test]
    fn the_same_commit_is_the_same_run() {
        let commit = CommitLineage {
            version: 1,
            commit: Digest([1; 32]),
            attested_by: None,
            table_id: None,
            restores_baseline: None,
            lineage: sample(),
        };
        let events: Vec<Value> = events("lakeseal://lake/t", std::slice::from_ref(&commit), 0).collect();
        assert_eq!(events[0]["run"]["runId"], event("lakeseal://lake/t", &commit, 5)["run"]["runId"]);
        assert_eq!(events[0]["eventTime"], "2026-09-21T14:13:20.123Z");
        assert_eq!(events[0]["job"]["name"], "t.INSERT");
        assert_eq!(events[0]["inputs"][0]["facets"]["version"]["datasetVersion"], "3");
        assert_eq!(events[0]["inputs"][1]["name"], "january.csv");
        let uuid = uuid::Uuid::try_parse(events[0]["run"]["runId"].as_str().unwrap()).unwrap();
        assert_eq!(uuid.get_version_num(), 8);
    }
}
