//! Of which tables, and which of their files, it can be told that no version names them.

use object_store::path::Path;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// Features of a table with which all data files are named by commits of its log. With others, as those by which a catalog has the newest commits, or any
/// that are not known here, a listing and the log do not tell.
const SAFE_FEATURES: [&str; 23] = [
    "allowColumnDefaults",
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "clustering",
    "columnMapping",
    "deletionVectors",
    "domainMetadata",
    "generatedColumns",
    "icebergCompatV1",
    "icebergCompatV2",
    "identityColumns",
    "inCommitTimestamp",
    "invariants",
    "materializePartitionColumns",
    "rowTracking",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "variantType",
    "variantType-preview",
];
/// The newest versions of the protocol that are known.
const READER_VERSION: i64 = 3;
const WRITER_VERSION: i64 = 7;
/// The folder of change-data files.
const CHANGES: &str = "_change_data";

/// Refuses tables whose log may not name all of their files.
///
/// # Errors
/// [`ErrorKind::Unsupported`], naming what of the protocol is not known to leave all names in the log.
pub(super) fn check_protocol(protocol: &Value) -> Result<()> {
    let refused = |what: &str, found: &dyn std::fmt::Display| {
        let text = format!(
            "which files of the table are left over cannot be told: it has a {what} with which others than its log may name files. Use the VACUUM of the \
             engine that writes it"
        );
        Err(Error::new(ErrorKind::Unsupported, text).with(if what == "feature" { "feature" } else { "version" }, found))
    };
    for list in ["readerFeatures", "writerFeatures"] {
        let Some(features) = protocol.get(list).filter(|features| !features.is_null()) else { continue };
        let Some(features) = features.as_array() else { return refused("feature", features) };
        for feature in features {
            match feature.as_str() {
                Some(name) if SAFE_FEATURES.contains(&name) => {}
                Some(name) => return refused("feature", &name),
                None => return refused("feature", feature),
            }
        }
    }
    for (name, newest) in [("minReaderVersion", READER_VERSION), ("minWriterVersion", WRITER_VERSION)] {
        let Some(version) = protocol.get(name) else { continue };
        if version.as_i64().is_none_or(|version| version > newest) {
            return refused("version of the protocol", &format!("{name} {version}"));
        }
    }
    Ok(())
}

/// Whether a data file of the table at `root` lies where engines look for such: nothing of its path is hidden, but the folder of change data and those of
/// partitions.
pub(super) fn is_in_sight(path: &Path, root: &Path, partition_columns: &[String]) -> bool {
    let Some(mut parts) = path.prefix_match(root) else { return false };
    parts.all(|part| {
        let name = part.as_ref();
        let is_hidden = name.starts_with(['_', '.']) && name != CHANGES;
        !is_hidden || is_of_partition(name, partition_columns)
    })
}

fn is_of_partition(folder: &str, partition_columns: &[String]) -> bool {
    let Some((column, _)) = folder.split_once('=') else { return false };
    let column = percent_decode_str(column).decode_utf8_lossy();
    partition_columns.iter().any(|known| *known == column)
}

/// The columns that a table is partitioned by.
pub(super) fn partition_columns(metadata: &Value) -> Vec<String> {
    let columns = metadata.get("partitionColumns").and_then(Value::as_array).into_iter().flatten();
    columns.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether a file is named as this command's engine names what it writes: `part-NNNNN-<uuid>-cNNN….parquet`.
pub(super) fn is_named_by_engine(path: &Path) -> bool {
    let digits = |text: &str, least: usize| text.len() >= least && text.bytes().all(|b| b.is_ascii_digit());
    let parse = || {
        let (number, rest) = path.filename()?.strip_prefix("part-")?.split_once('-')?;
        let (id, rest) = rest.split_at_checked(uuid::fmt::Hyphenated::LENGTH)?;
        let (count, ending) = rest.strip_prefix("-c")?.split_once('.')?;
        Uuid::try_parse(id).ok()?;
        Some(digits(number, 5) && digits(count, 3) && (ending == "parquet" || ending.ends_with(".parquet")))
    };
    parse().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn protocols_with_what_is_not_known_are_refused_by_name() {
        for known in [
            json!({"minReaderVersion": 1, "minWriterVersion": 2}),
            json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}),
            json!({"minReaderVersion": 1, "minWriterVersion": 7, "readerFeatures": null, "writerFeatures": ["vacuumProtocolCheck"]}),
        ] {
            check_protocol(&known).unwrap();
        }
        let with = |list: &str, name: &str| json!({"minReaderVersion": 3, "minWriterVersion": 7, list: [name]});
        for (protocol, named) in [
            (with("writerFeatures", "coordinatedCommits-preview"), "coordinatedCommits-preview"),
            (with("readerFeatures", "catalogManaged"), "catalogManaged"),
            (with("readerFeatures", "catalogOwned-preview"), "catalogOwned-preview"),
            (with("writerFeatures", "ofTomorrow"), "ofTomorrow"),
            (json!({"minReaderVersion": 4, "minWriterVersion": 7}), "minReaderVersion 4"),
            (json!({"minReaderVersion": 1, "minWriterVersion": "8"}), "minWriterVersion"),
            (json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": "all"}), "all"),
        ] {
            let refused = check_protocol(&protocol).unwrap_err();
            assert!(refused.kind() == ErrorKind::Unsupported && refused.to_string().contains(named), "{refused}");
        }
    }

    #[test]
    fn hidden_places_are_others() {
        let (root, columns) = (Path::from("t"), ["_day".to_owned()]);
        for (path, is_seen) in [
            ("t/a.parquet", true),
            ("t/x=1/a.parquet", true),
            ("t/_day=1/a.parquet", true),
            ("t/_change_data/a.parquet", true),
            ("t/_change_data/_day=1/a.parquet", true),
            ("t/_night=1/a.parquet", false),
            ("t/_spark_metadata/a.parquet", false),
            ("t/.hidden/a.parquet", false),
            ("t/_a.parquet", false),
            ("t/x=1/.a.parquet", false),
            ("u/a.parquet", false),
        ] {
            assert_eq!(is_in_sight(&Path::parse(path).unwrap(), &root, &columns), is_seen, "{path}");
        }
    }

    #[test]
    fn names_of_the_engine_are_told_from_others() {
        let id = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9";
        for (name, is_engines) in [
            (format!("part-00000-{id}-c000.snappy.parquet"), true),
            (format!("part-00001-{id}-c012.zstd.parquet"), true),
            (format!("part-00001-{id}-c012.parquet"), true),
            (format!("part-1-{id}-c012.parquet"), false),
            (format!("part-00001-{id}.parquet"), false),
            (format!("part-00001-{id}-c000parquet"), false),
            ("part-00001-none-c000.parquet".to_owned(), false),
            ("left.parquet".to_owned(), false),
        ] {
            assert_eq!(is_named_by_engine(&Path::parse(format!("t/{name}")).unwrap()), is_engines, "{name}");
        }
    }
}
