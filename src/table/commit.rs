//! What one commit says, action by action: not what it comes to, which takes the state before it.

use std::collections::BTreeMap;

use object_store::path::Path;
use serde_json::{Map, Value};

use super::action::{Once, integer, live_file, removed_file, text, without_nulls};
use super::{FileKey, LiveFile};
use crate::error::{Error, ErrorKind, Result};

/// The actions of a commit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommitContents {
    /// The files that it adds, as it describes them.
    pub(crate) adds: Vec<LiveFile>,
    /// The files that it removes.
    pub(crate) removes: Vec<FileKey>,
    /// Every add and remove says that no data changed.
    pub(crate) claims_same_data: bool,
    /// The `metaData` action.
    pub(crate) metadata: Option<Value>,
    /// The `protocol` action.
    pub(crate) protocol: Option<Value>,
    /// The `domainMetadata` actions by domain; absent inside where the domain is removed.
    pub(crate) domains: BTreeMap<String, Option<Value>>,
    /// The `txn` actions: version by appId.
    pub(crate) transactions: BTreeMap<String, i64>,
    /// The `commitInfo` action.
    pub(crate) info: Option<Value>,
}

impl CommitContents {
    /// Reads the lines of the commit of `version` of the table at `root`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for lines that are no JSON, actions that lack what they must have, and second ones of what there is one at most.
    pub(crate) fn parse(root: &Path, version: u64, bytes: &[u8]) -> Result<Self> {
        let (mut commit, mut once) = (Self::nothing(), Once::default());
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
            let line = super::json::parse(line)
                .map_err(|e| Error::new(ErrorKind::Corrupt, "a line of the log is torn or is not JSON").caused_by(e))?;
            let Value::Object(line) = line else { continue };
            for (name, body) in line {
                let Value::Object(body) = body else { continue };
                let noted = once.note(&name, &body).and_then(|()| commit.note(root, version, &name, body));
                noted.map_err(|e| e.with("action", name))?;
            }
        }
        Ok(commit)
    }

    const fn nothing() -> Self {
        Self {
            adds: Vec::new(),
            removes: Vec::new(),
            claims_same_data: true,
            metadata: None,
            protocol: None,
            domains: BTreeMap::new(),
            transactions: BTreeMap::new(),
            info: None,
        }
    }

    fn note(&mut self, root: &Path, version: u64, name: &str, body: Map<String, Value>) -> Result<()> {
        if matches!(name, "add" | "remove") {
            self.claims_same_data &= body.get("dataChange").and_then(Value::as_bool) == Some(false);
        }
        match name {
            "add" => self.adds.push(live_file(root, body, Some(version))?),
            "remove" => self.removes.push(removed_file(&body)?),
            "metaData" => self.metadata = Some(Value::Object(without_nulls(body))),
            "protocol" => self.protocol = Some(Value::Object(without_nulls(body))),
            "txn" => {
                self.transactions.insert(text(&body, "appId")?, integer(&body, "version")?);
            }
            "domainMetadata" => {
                let removed = body.get("removed").and_then(Value::as_bool).unwrap_or(false);
                self.domains.insert(text(&body, "domain")?, (!removed).then(|| Value::Object(without_nulls(body))));
            }
            "commitInfo" => self.info = Some(Value::Object(body)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CommitContents> {
        CommitContents::parse(&Path::from("t"), 3, text.as_bytes())
    }

    #[test]
    fn what_a_version_has_once_at_most_is_not_said_twice() {
        let once = [
            r#"{"metaData":{"id":"a"}}"#,
            r#"{"protocol":{"minReaderVersion":1}}"#,
            r#"{"txn":{"appId":"x","version":1}}"#,
            r#"{"domainMetadata":{"domain":"d","configuration":"","removed":false}}"#,
        ];
        let all = once.join("\n");
        let parsed = parse(&all).unwrap();
        assert_eq!((parsed.transactions["x"], parsed.domains.len()), (1, 1));
        assert!(parsed.metadata.is_some() && parsed.protocol.is_some());
        for line in once {
            let error = parse(&format!("{all}\n{line}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains("twice") && error.to_string().contains("action"), "{error}");
        }
        let others =
            [r#"{"txn":{"appId":"y","version":1}}"#, r#"{"domainMetadata":{"domain":"e","removed":true}}"#, r#"{"metaData":null}"#];
        let parsed = parse(&format!("{all}\n{}", others.join("\n"))).unwrap();
        assert_eq!((parsed.transactions.len(), parsed.domains["e"].clone()), (2, None));
    }
}
