//! The sentences of ARCHITECTURE.md that a scan of the sources can check.

use std::path::{Path, PathBuf};

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(files.len() > 20, "the scan found too few files to mean anything");
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Lines of production code: comments and everything from the unit tests on are left out.
fn production(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).filter(|line| !line.trim_start().starts_with("//"))
}

/// Files, outside of `allowed` floors, in which a line of production code contains one of `words`.
fn offenders(words: &[&str], allowed: &[&str]) -> Vec<String> {
    sources()
        .iter()
        .filter(|(name, _)| !name.ends_with("tests.rs") && !name.contains("/tests/"))
        .filter(|(name, _)| !allowed.iter().any(|floor| name.starts_with(floor)))
        .flat_map(|(name, text)| {
            production(text)
                .filter(|line| words.iter().any(|word| line.contains(word)))
                .map(|line| format!("{name}: {}", line.trim()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn datafusion_stays_on_the_upper_floors() {
    assert_eq!(offenders(&["datafusion::"], &["sql/", "delta/", "cli/", "bin/"]), [""; 0]);
}

#[test]
fn deltalake_stays_on_the_upper_floors() {
    assert_eq!(offenders(&["deltalake::"], &["delta/", "sql/", "cli/", "bin/"]), [""; 0]);
}

#[test]
fn only_the_clock_reads_the_time() {
    assert_eq!(offenders(&["SystemTime::now", "Utc::now", "Local::now"], &["clock.rs"]), [""; 0]);
}

#[test]
fn only_the_key_module_touches_private_keys() {
    assert_eq!(offenders(&["ed25519_dalek", "aws_lc_rs"], &["key/"]), [""; 0]);
}

#[test]
fn verdicts_are_made_only_by_the_comparison() {
    assert_eq!(offenders(&["Finding {", "Finding::new("], &["baseline/"]), [""; 0]);
}

#[test]
fn the_lower_floors_do_not_look_up() {
    let upper = ["crate::store", "crate::baseline", "crate::verify", "crate::sql", "crate::delta", "crate::cli"];
    let found: Vec<String> = offenders(
        &upper,
        &["store/", "membership/", "baseline/", "lineage/", "diff/", "verify/", "sql/", "delta/", "cli/", "bin/", "lake/"],
    );
    assert_eq!(found, [""; 0]);
    assert_eq!(
        offenders(
            &["crate::store", "crate::register", "crate::region"],
            &["store/", "register/", "region/", "lake/", "membership/", "verify/", "sql/", "delta/", "cli/", "bin/", "lib.rs"]
        ),
        [""; 0]
    );
}

#[test]
fn only_the_layout_builds_physical_keys() {
    assert_eq!(offenders(&["\"i/", "\"d/", "\"c/", "format!(\"i/", "format!(\"d/"], &["region/layout.rs"]), [""; 0]);
}
