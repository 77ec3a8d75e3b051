//! The lineage of one commit, and its form as SLSA provenance.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// `buildType` of the provenance of Delta commits.
pub const BUILD_TYPE: &str = "urn:lakeseal:build:delta-commit:v1";

/// How a commit's files were made, and from what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineage {
    /// What was done: `IMPORT`, `INSERT`, `CREATE TABLE AS`, or the commit's own word (`DELETE`, `OPTIMIZE`, …).
    pub operation: String,
    /// Whether it was made out from the commit's own actions rather than recorded by who did it.
    pub derived: bool,
    /// What was read.
    pub inputs: Vec<Input>,
    /// Whether `inputs` is known to be all: an append of unknown origin says no.
    pub inputs_complete: bool,
    /// How the inputs became the outputs.
    pub transformation: Transformation,
    /// The files that were written.
    pub outputs: Vec<Output>,
    /// The paths of the files that the commit removed and did not add again; absent when that is not known.
    pub removed: Option<Vec<String>>,
    /// Who says that they did it: the user's name, as the operating system or the commit states it.
    pub actor: Option<String>,
    /// When it began, in milliseconds since 1970-01-01T00:00:00Z.
    pub started_ms: Option<i64>,
    /// When the commit was made, in milliseconds.
    pub finished_ms: Option<i64>,
    /// Identifies the attempt.
    pub invocation: Option<String>,
}

/// What kind of thing an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputKind {
    /// A table at a version.
    Table,
    /// A file from outside of the lake.
    Source,
}

/// One thing that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What it is.
    pub kind: InputKind,
    /// A table's canonical URL; a source's file name.
    pub uri: String,
    /// The name that the SQL text knows it by.
    pub name: Option<String>,
    /// Delta's id of the table.
    pub table_id: Option<String>,
    /// The table's version.
    pub version: Option<u64>,
    /// Plain BLAKE3: of the commit of that version, or of the source file.
    pub digest: Option<Digest>,
    /// The baseline that the table was held against while it was read.
    pub baseline: Option<u64>,
    /// The files of the table that were read; absent when it is not known which, which means any that was live.
    pub files: Option<Vec<InputFile>>,
}

/// A file of a table that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Canonical path in the table.
    pub path: String,
    /// Plain BLAKE3, where it is known: the file is sealed, or was written by an attested commit.
    pub digest: Option<Digest>,
    /// The row groups whose bytes were read; absent when it is not known which.
    pub row_groups: Option<Vec<u32>>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Canonical path in the table.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Plain BLAKE3, taken while it was written.
    pub digest: Option<Digest>,
    /// Rows of each row group, in order; absent when the footer was not seen.
    pub row_groups: Option<Vec<u64>>,
}

/// How inputs became outputs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transformation {
    /// The statement.
    pub sql: Option<String>,
    /// The query's plan before optimisation, as text.
    pub plan: Option<String>,
    /// Tagged BLAKE3 of the plan's text. Comparable within one version of the engine only.
    pub fingerprint: Option<Digest>,
    /// Functions that it calls.
    pub functions: Vec<String>,
    /// Those of them that are not the engine's own.
    pub user_defined: Vec<String>,
    /// What code such functions are, by name, as the session that called them declared it.
    pub function_digests: BTreeMap<String, Digest>,
    /// Those of them whose results depend on more than their arguments: `random`, `now`, …
    pub volatile: Vec<String>,
    /// Session settings that differ from the defaults.
    pub settings: BTreeMap<String, String>,
    /// Versions of what did it: `lakeseal`, `datafusion`, `deltalake`, `arrow`; or what the commit states.
    pub engine: BTreeMap<String, String>,
    /// `commitInfo.operationParameters`, or the operation's own.
    pub parameters: BTreeMap<String, String>,
}

/// The value of JSON for a digest.
fn digest_set(digest: Option<Digest>) -> Option<Value> {
    digest.map(|digest| json!({"blake3": digest.to_string()}))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        scalar => scalar,
    }
}

fn time(ms: Option<i64>) -> Option<String> {
    let time = chrono::DateTime::from_timestamp_millis(ms?)?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

fn ms(text: Option<&Value>) -> Option<i64> {
    Some(chrono::DateTime::parse_from_rfc3339(text?.as_str()?).ok()?.timestamp_millis())
}

impl Lineage {
    /// The lineage as SLSA provenance v1. `builder` names the writer.
    pub fn to_provenance(&self, builder: &str) -> Value {
        let how = &self.transformation;
        let digests: BTreeMap<&String, String> = how.function_digests.iter().map(|(name, digest)| (name, digest.to_string())).collect();
        without_nulls(json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "operation": self.operation,
                    "parameters": how.parameters,
                    "sql": how.sql,
                },
                "internalParameters": {
                    "derived": self.derived,
                    "function_digests": (!digests.is_empty()).then_some(digests),
                    "functions": how.functions,
                    "inputs_complete": self.inputs_complete,
                    "plan": how.plan,
                    "plan_fingerprint": how.fingerprint.map(|digest| digest.to_string()),
                    "settings": how.settings,
                    "user_defined": how.user_defined,
                    "volatile": how.volatile,
                },
                "resolvedDependencies": self.inputs.iter().flat_map(dependencies).collect::<Vec<_>>(),
            },
            "runDetails": {
                "builder": {"id": builder, "version": how.engine},
                "metadata": {
                    "finishedOn": time(self.finished_ms),
                    "invocationId": self.invocation,
                    "startedOn": time(self.started_ms),
                },
            },
            "lakeseal_actor": self.actor,
            "lakeseal_outputs": self.outputs.iter().map(|output| json!({
                "digest": digest_set(output.digest),
                "path": output.path,
                "row_groups": output.row_groups,
                "size": output.size,
            })).collect::<Vec<_>>(),
            "lakeseal_removed": self.removed,
        }))
    }

    /// Reads the provenance of an attestation.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when members are malformed, [`ErrorKind::Unsupported`] for provenance of something else.
    pub fn from_provenance(value: &Value) -> Result<Self> {
        if value.pointer("/buildDefinition/buildType").and_then(Value::as_str) != Some(BUILD_TYPE) {
            return Err(Error::new(ErrorKind::Unsupported, "the provenance is not that of a Delta commit"));
        }
        parse(value).ok_or_else(|| Error::new(ErrorKind::Corrupt, "the provenance of a commit has malformed members"))
    }

    /// Why the recorded transformation cannot be run again, where it cannot.
    pub fn not_replayable(&self) -> Option<String> {
        if self.derived || self.transformation.sql.is_none() {
            return Some(format!("{} has no recorded query: there is nothing to run again", self.operation));
        }
        if !self.transformation.volatile.is_empty() {
            return Some(format!("its result depends on more than its inputs: it calls {}", self.transformation.volatile.join(", ")));
        }
        None
    }
}

/// An input as SLSA resource descriptors: the thing itself, then its files.
fn dependencies(input: &Input) -> Vec<Value> {
    let kind = match input.kind {
        InputKind::Table => "table",
        InputKind::Source => "source",
    };
    let mut all = vec![json!({
        "annotations": {
            "baseline": input.baseline,
            "files": input.files.as_ref().map(Vec::len),
            "kind": kind,
            "table_id": input.table_id,
            "version": input.version,
        },
        "digest": digest_set(input.digest),
        "name": input.name,
        "uri": input.uri,
    })];
    all.extend(input.files.iter().flatten().map(|file| {
        json!({
            "annotations": {"kind": "file", "row_groups": file.row_groups},
            "digest": digest_set(file.digest),
            "name": file.path,
            // A resource has to have one of digest and URI.
            "uri": file.digest.is_none().then(|| format!("{}/{}", input.uri, file.path)),
        })
    }));
    all
}

fn parse(value: &Value) -> Option<Lineage> {
    let external = value.pointer("/buildDefinition/externalParameters")?;
    let internal = value.pointer("/buildDefinition/internalParameters")?;
    let run = value.get("runDetails")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let metadata = run.get("metadata");
    let outputs = value.get("lakeseal_outputs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Some(Lineage {
        operation: text(external.get("operation"))?,
        derived: internal.get("derived")?.as_bool()?,
        inputs: parse_inputs(value.pointer("/buildDefinition/resolvedDependencies")?.as_array()?)?,
        inputs_complete: internal.get("inputs_complete")?.as_bool()?,
        transformation: Transformation {
            sql: text(external.get("sql")),
            plan: text(internal.get("plan")),
            fingerprint: optional(internal.get("plan_fingerprint"), |v| v.as_str()?.parse().ok())?,
            functions: texts(internal.get("functions"))?,
            user_defined: texts(internal.get("user_defined"))?,
            function_digests: digests(internal.get("function_digests"))?,
            volatile: texts(internal.get("volatile"))?,
            settings: map(internal.get("settings"))?,
            engine: map(run.pointer("/builder/version"))?,
            parameters: map(external.get("parameters"))?,
        },
        outputs: outputs.iter().map(parse_output).collect::<Option<_>>()?,
        removed: optional(value.get("lakeseal_removed"), |removed| texts(Some(removed)))?,
        actor: text(value.get("lakeseal_actor")),
        started_ms: ms(metadata.and_then(|m| m.get("startedOn"))),
        finished_ms: ms(metadata.and_then(|m| m.get("finishedOn"))),
        invocation: text(metadata.and_then(|m| m.get("invocationId"))),
    })
}

fn optional<T>(value: Option<&Value>, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
    match value {
        None | Some(Value::Null) => Some(None),
        Some(value) => read(value).map(Some),
    }
}

fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    value?.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

fn map(value: Option<&Value>) -> Option<BTreeMap<String, String>> {
    let empty = Map::new();
    let members = value.map_or(Some(&empty), Value::as_object)?;
    members.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn digests(value: Option<&Value>) -> Option<BTreeMap<String, Digest>> {
    map(value)?.into_iter().map(|(name, digest)| Some((name, digest.parse().ok()?))).collect()
}

fn digest(value: &Value) -> Option<Option<Digest>> {
    optional(value.pointer("/digest/blake3"), |v| v.as_str()?.parse().ok())
}

fn numbers<T: TryFrom<u64>>(value: Option<&Value>) -> Option<Option<Vec<T>>> {
    optional(value, |v| v.as_array()?.iter().map(|n| T::try_from(n.as_u64()?).ok()).collect())
}

fn parse_inputs(dependencies: &[Value]) -> Option<Vec<Input>> {
    let mut inputs: Vec<Input> = Vec::new();
    for dependency in dependencies {
        let about = dependency.get("annotations")?;
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let kind = match about.get("kind")?.as_str()? {
            "table" => InputKind::Table,
            "source" => InputKind::Source,
            "file" => {
                let file = InputFile {
                    path: text(dependency, "name")?,
                    digest: digest(dependency)?,
                    row_groups: numbers(about.get("row_groups"))?,
                };
                inputs.last_mut()?.files.as_mut()?.push(file);
                continue;
            }
            _ => return None,
        };
        inputs.push(Input {
            kind,
            uri: text(dependency, "uri")?,
            name: text(dependency, "name"),
            table_id: text(about, "table_id"),
            version: about.get("version").and_then(Value::as_u64),
            digest: digest(dependency)?,
            baseline: about.get("baseline").and_then(Value::as_u64),
            files: about.get("files").map(|_| Vec::new()),
        });
    }
    Some(inputs)
}

fn parse_output(value: &Value) -> Option<Output> {
    Some(Output {
        path: value.get("path")?.as_str()?.to_owned(),
        size: value.get("size")?.as_u64()?,
        digest: digest(value)?,
        row_groups: numbers(value.get("row_groups"))?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::lineage) fn sample() -> Lineage {
        let file = |path: &str, row_groups| InputFile { path: path.to_owned(), digest: Some(Digest([2; 32])), row_groups };
        Lineage {
            operation: "INSERT".to_owned(),
            derived: false,
            inputs: vec![
                Input {
                    kind: InputKind::Table,
                    uri: "lakeseal://lake/raw".to_owned(),
                    name: Some("raw".to_owned()),
                    table_id: Some("raw-id".to_owned()),
                    version: Some(3),
                    digest: Some(Digest([1; 32])),
                    baseline: Some(1),
                    files: Some(vec![file("a.parquet", Some(vec![0, 2])), file("b.parquet", None)]),
                },
                Input {
                    kind: InputKind::Source,
                    uri: "january.csv".to_owned(),
                    name: None,
                    table_id: None,
                    version: None,
                    digest: Some(Digest([3; 32])),
                    baseline: None,
                    files: None,
                },
            ],
            inputs_complete: true,
            transformation: Transformation {
                sql: Some("INSERT INTO clean SELECT * FROM raw".to_owned()),
                plan: Some("Projection".to_owned()),
                fingerprint: Some(Digest([4; 32])),
                functions: vec!["sum".to_owned()],
                user_defined: vec!["twice".to_owned()],
                function_digests: BTreeMap::from([("twice".to_owned(), Digest([6; 32]))]),
                volatile: vec![],
                settings: BTreeMap::from([("datafusion.execution.target_partitions".to_owned(), "1".to_owned())]),
                engine: BTreeMap::from([("datafusion".to_owned(), "55.2.0".to_owned())]),
                parameters: BTreeMap::from([("mode".to_owned(), "Append".to_owned())]),
            },
            outputs: vec![Output { path: "c.parquet".to_owned(), size: 10, digest: Some(Digest([5; 32])), row_groups: Some(vec![100, 7]) }],
            removed: Some(vec!["old.parquet".to_owned()]),
            actor: Some("ann".to_owned()),
            started_ms: Some(1_790_000_000_000),
            finished_ms: Some(1_790_000_000_123),
            invocation: Some("x".to_owned()),
        }
    }

    #[test]
    fn provenance_reads_back() {
        let bare = Lineage { operation: "WRITE".to_owned(), derived: true, ..Lineage::default() };
        let nothing_removed = Lineage { removed: Some(Vec::new()), ..bare.clone() };
        for lineage in [sample(), bare, nothing_removed] {
            assert_eq!(Lineage::from_provenance(&lineage.to_provenance("urn:x")).unwrap(), lineage);
        }
    }

    #[test]
    fn digests_of_functions_are_digests_and_those_of_before_are_none() {
        let mut provenance = sample().to_provenance("urn:x");
        let internal = provenance.pointer_mut("/buildDefinition/internalParameters").unwrap();
        internal["function_digests"]["twice"] = json!("no digest");
        assert_eq!(Lineage::from_provenance(&provenance).unwrap_err().kind(), ErrorKind::Corrupt);
        let internal = provenance.pointer_mut("/buildDefinition/internalParameters").unwrap();
        internal.as_object_mut().unwrap().remove("function_digests");
        assert!(Lineage::from_provenance(&provenance).unwrap().transformation.function_digests.is_empty());
    }

    #[test]
    fn it_has_what_slsa_asks_for() {
        let provenance = sample().to_provenance("urn:lakeseal:writer:ab");
        assert_eq!(provenance["buildDefinition"]["buildType"], BUILD_TYPE);
        assert!(provenance["buildDefinition"]["externalParameters"].is_object());
        assert_eq!(provenance["runDetails"]["builder"]["id"], "urn:lakeseal:writer:ab");
        assert_eq!(provenance["runDetails"]["metadata"]["finishedOn"], "2026-09-21T14:13:20.123Z");
        // A resource descriptor has at least one of uri, digest, content.
        for dependency in provenance["buildDefinition"]["resolvedDependencies"].as_array().unwrap() {
            assert!(dependency.get("uri").is_some() || dependency.get("digest").is_some(), "{dependency}");
        }
    }

    #[test]
    fn malformed_members_are_refused_not_guessed() {
        let good = sample().to_provenance("urn:x");
        for pointer in [
            "/buildDefinition/internalParameters/derived",
            "/buildDefinition/resolvedDependencies/1/annotations/kind",
            "/lakeseal_removed/0",
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = json!(7);
            assert_eq!(Lineage::from_provenance(&bad).unwrap_err().kind(), ErrorKind::Corrupt, "{pointer}");
        }
        let mut other = good;
        other["buildDefinition"]["buildType"] = json!("https://example.org/make");
        assert_eq!(Lineage::from_provenance(&other).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
