//! What a commit's own actions say of where its files came from.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::record::{Input, InputFile, InputKind, Lineage, Output, Transformation};
use crate::error::{Error, ErrorKind, Result};
use crate::table::canonical_path;

/// The operation that makes files live again.
pub(super) const RESTORE: &str = "RESTORE";

/// A file that a commit adds or removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitFile {
    /// Canonical path in the table.
    pub path: String,
    /// Size in bytes, as stated.
    pub size: u64,
}

/// The actions of one commit, as far as lineage goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitActions {
    /// Files that it adds.
    pub adds: Vec<CommitFile>,
    /// Files that it removes.
    pub removes: Vec<CommitFile>,
    /// `metaData.id`, when it states one.
    pub table_id: Option<String>,
    /// Whether it has a `metaData` or a `protocol`.
    pub states_table: bool,
    /// `commitInfo.operation`.
    pub operation: Option<String>,
    /// `commitInfo.operationParameters`; values that are not text as JSON.
    pub parameters: BTreeMap<String, String>,
    /// `commitInfo.engineInfo` or its like.
    pub engine: Option<String>,
    /// `commitInfo.userName`.
    pub user: Option<String>,
    /// `commitInfo.timestamp` in milliseconds.
    pub timestamp_ms: Option<i64>,
}

impl CommitActions {
    /// Reads the exact bytes of a commit.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], naming the line, for what is no JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut actions = Self::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let value: Value = serde_json::from_slice(line).map_err(|e| {
                Error::new(ErrorKind::Corrupt, "a line of the log is torn or is not JSON").with("line", index + 1).caused_by(e)
            })?;
            actions.apply(&value);
        }
        Ok(actions)
    }

    fn apply(&mut self, action: &Value) {
        if let Some(add) = action.get("add") {
            self.adds.extend(file(add));
        }
        if let Some(remove) = action.get("remove") {
            self.removes.extend(file(remove));
        }
        self.states_table |= action.get("metaData").is_some() || action.get("protocol").is_some();
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        if let Some(metadata) = action.get("metaData") {
            self.table_id = text(metadata, "id").or_else(|| self.table_id.take());
        }
        if let Some(info) = action.get("commitInfo") {
            self.operation = text(info, "operation");
            self.engine = text(info, "engineInfo").or_else(|| text(info, "clientVersion"));
            self.user = text(info, "userName").or_else(|| text(info, "userId"));
            self.timestamp_ms = info.get("timestamp").and_then(Value::as_i64);
            let stated = info.get("operationParameters").and_then(Value::as_object);
            let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.parameters = stated.into_iter().flatten().map(|(name, value)| (name.clone(), shown(value))).collect();
        }
    }

    /// The lineage that follows from the actions: what was added comes of what was removed, in a table at `uri` whose commit before this
    /// is `version` - 1. Where nothing was removed the origin is not known.
    ///
    /// A file that is removed and added again (a deletion vector was set) comes of itself, and so does one that a RESTORE adds: it was live before.
    pub fn lineage(&self, uri: &str, version: u64) -> Lineage {
        let inputs: Vec<Input> = version.checked_sub(1).and_then(|before| self.own_input(uri, before)).into_iter().collect();
        Lineage {
            operation: self.operation.clone().unwrap_or_else(|| "not stated".to_owned()),
            derived: true,
            inputs_complete: self.adds.is_empty() || (self.rewrites() && !inputs.is_empty()),
            inputs,
            transformation: Transformation {
                engine: self.engine.iter().map(|engine| ("stated".to_owned(), engine.clone())).collect(),
                parameters: self.parameters.clone(),
                ..Transformation::default()
            },
            outputs: self.outputs(),
            removed: Some(self.removed()),
            actor: self.user.clone(),
            started_ms: None,
            finished_ms: self.timestamp_ms,
            invocation: None,
        }
    }

    /// What was read of the table itself.
    fn own_input(&self, uri: &str, before: u64) -> Option<Input> {
        let named = |files: &[CommitFile]| -> Vec<InputFile> {
            files.iter().map(|file| InputFile { path: file.path.clone(), digest: None, row_groups: None }).collect()
        };
        let (version, files) = match (self.operation.as_deref(), self.stated_version("sealedVersion", before)) {
            // A restore of our own that nobody attested: new paths, of which only the sealed version is told that they hold.
            (Some(RESTORE), sealed @ Some(_)) => (sealed, None),
            (Some(RESTORE), None) => (self.stated_version("version", before), Some(named(&self.adds))),
            _ => (Some(before), Some(named(&self.removes))),
        };
        let is_any = files.as_ref().is_none_or(|files| !files.is_empty());
        let kind = InputKind::Table;
        is_any.then(|| Input { kind, uri: uri.to_owned(), name: None, table_id: None, version, digest: None, baseline: None, files })
    }

    /// A version of the table that the operation's parameters name, if it is not newer than `before`.
    fn stated_version(&self, name: &str, before: u64) -> Option<u64> {
        self.parameters.get(name)?.parse().ok().filter(|version| *version <= before)
    }

    /// Whether the operation makes rows of the table's own rows alone. MERGE reads a source besides, overwrites read something else.
    fn rewrites(&self) -> bool {
        let own = ["OPTIMIZE", "DELETE", "UPDATE", RESTORE, "REORG", "VACUUM START", "VACUUM END", "CLUSTER BY"];
        self.operation.as_deref().is_some_and(|operation| own.contains(&operation))
    }

    /// The paths of the files that were removed and not added again.
    pub fn removed(&self) -> Vec<String> {
        let added: HashSet<&str> = self.adds.iter().map(|file| file.path.as_str()).collect();
        self.removes.iter().filter(|file| !added.contains(file.path.as_str())).map(|file| file.path.clone()).collect()
    }

    /// The files that were added, without digests.
    pub fn outputs(&self) -> Vec<Output> {
        self.adds.iter().map(|file| Output { path: file.path.clone(), size: file.size, digest: None, row_groups: None }).collect()
    }
}

fn file(action: &Value) -> Option<CommitFile> {
    let path = canonical_path(action.get("path")?.as_str()?).as_str().to_owned();
    Some(CommitFile { path, size: action.get("size").and_then(Value::as_u64).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = r#"
{"commitInfo":{"timestamp":7,"operation":"OPTIMIZE","operationParameters":{"targetSize":104857600,"predicate":"[]"},"engineInfo":"spark","userName":"ann"}}
{"remove":{"path":"a%20b.parquet","size":3,"dataChange":false}}
{"add":{"path":"./c.parquet","size":5,"dataChange":false}}
"#;

    #[test]
    fn what_is_added_comes_of_what_is_removed() {
        let lineage = CommitActions::parse(COMMIT.as_bytes()).unwrap().lineage("file:///t", 4);
        assert!(lineage.derived && lineage.inputs_complete);
        assert_eq!((lineage.operation.as_str(), lineage.actor.as_deref(), lineage.finished_ms), ("OPTIMIZE", Some("ann"), Some(7)));
        assert_eq!((lineage.inputs[0].version, lineage.inputs[0].uri.as_str()), (Some(3), "file:///t"));
        assert_eq!(lineage.inputs[0].files.as_ref().unwrap()[0].path, "a b.parquet");
        assert_eq!(lineage.outputs[0].path, "c.parquet");
        assert_eq!(lineage.transformation.parameters["targetSize"], "104857600");
    }

    #[test]
    fn what_a_restore_adds_was_there_before() {
        let lineage = |parameters: &str, rest: &str| {
            let text = format!(
                "{{\"commitInfo\":{{\"operation\":\"RESTORE\",\"operationParameters\":{parameters}}}}}\n{{\"add\":{{\"path\":\"old\",\"size\":1}}}}{rest}"
            );
            CommitActions::parse(text.as_bytes()).unwrap().lineage("file:///t", 4)
        };
        let removes = "\n{\"remove\":{\"path\":\"poison\"}}\n{\"remove\":{\"path\":\"old\"}}";
        for (parameters, version) in [(r#"{"version":"1"}"#, Some(1)), (r#"{"version":9}"#, None), (r#"{"datetime":"x"}"#, None)] {
            for (rest, removed) in [(removes, vec!["poison".to_owned()]), ("", vec![])] {
                let lineage = lineage(parameters, rest);
                let of = &lineage.inputs[0];
                assert_eq!((of.version, of.files.as_ref().unwrap()[0].path.as_str(), lineage.inputs_complete), (version, "old", true));
                assert_eq!((of.files.as_ref().unwrap().len(), lineage.removed), (1, Some(removed)));
            }
        }
        let own = lineage(r#"{"sealedVersion":"2","baseline":"1"}"#, removes);
        assert_eq!((own.inputs[0].version, &own.inputs[0].files), (Some(2), &None));
    }

    #[test]
    fn an_append_by_others_has_no_known_origin_and_says_so() {
        let text = r#"{"add":{"path":"c.parquet","size":5}}"#;
        let lineage = CommitActions::parse(text.as_bytes()).unwrap().lineage("file:///t", 4);
        assert!(!lineage.inputs_complete && lineage.inputs.is_empty());
        let merge = r#"{"commitInfo":{"operation":"MERGE"}}
{"remove":{"path":"a"}}
{"add":{"path":"c","size":1}}"#;
        assert!(!CommitActions::parse(merge.as_bytes()).unwrap().lineage("file:///t", 4).inputs_complete);
        assert_eq!(CommitActions::parse(b"{\"add\":\n").unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
