//! Attacks whose tests stand elsewhere, by name: lines of the table, so that none is missing in silence.

use std::path::Path;

use super::corpus::Judged;

/// An attack, and the test that makes it.
struct Elsewhere {
    number: &'static str,
    title: &'static str,
    file: &'static str,
    test: &'static str,
}

const fn elsewhere(number: &'static str, title: &'static str, file: &'static str, test: &'static str) -> Elsewhere {
    Elsewhere { number, title, file, test }
}

const STORE: &str = "tests/integration/store";

fn tests() -> Vec<Elsewhere> {
    vec![
        elsewhere(
            "35",
            "a region serves an old but valid shard or manifest",
            "liars.rs",
            "five_regions_with_one_liar_read_right_and_create_once",
        ),
        elsewhere("36", "a region swaps shards of two objects", "faults.rs", "swapped_shards_of_two_objects_are_healed_or_refused"),
        elsewhere(
            "37",
            "one region's credentials delete everything in it",
            "scrub.rs",
            "up_to_m_regions_wiped_of_their_shards_are_filled_again_by_lists_alone",
        ),
        elsewhere("39", "truncate, extend or duplicate a shard", "damage.rs", "damaged_shards_are_healed_up_to_m_and_refused_beyond"),
        elsewhere(
            "40",
            "crash between any two steps of a write",
            "crash/mod.rs",
            "a_writer_killed_at_any_step_loses_nothing_that_was_acknowledged",
        ),
        elsewhere("40", "crash in a repair", "crash/keepers.rs", "a_repair_killed_at_any_step_loses_nothing_and_is_ended_by_the_next"),
        elsewhere(
            "40",
            "crash in a collection",
            "crash/keepers.rs",
            "a_collection_killed_at_any_step_loses_nothing_and_is_ended_by_the_next",
        ),
        elsewhere(
            "42",
            "squat: junk in a register",
            "liars.rs",
            "without_a_budget_for_liars_no_forgery_by_one_region_makes_bytes_that_were_never_written",
        ),
        elsewhere(
            "51",
            "a region forges a \"decided\" marker",
            "liars.rs",
            "without_a_budget_for_liars_no_forgery_by_one_region_makes_bytes_that_were_never_written",
        ),
        elsewhere(
            "52",
            "a region loses part of its entries",
            "scrub.rs",
            "a_register_folder_lost_in_one_region_is_taught_back_and_carries_reads_again",
        ),
        elsewhere(
            "52",
            "a region is replaced empty in mid-write",
            "directories.rs",
            "a_lake_whose_regions_are_emptied_while_it_is_open_neither_loses_a_name_nor_gives_it_twice",
        ),
    ]
}

/// Attacks on tables, lineage and trust whose tests stand beside what they test: file, test, what a stock reader does, what is owed.
fn tests_of_tables() -> Vec<(&'static str, &'static str, &'static str, &'static str, &'static str)> {
    let (lineage, modes) = ("tests/integration/sql/lineage.rs", "tests/integration/sql/modes.rs");
    let (roots, trust) = ("src/baseline/tests/roots.rs", "src/baseline/trust/tests.rs");
    vec![
        ("30", "a transformation's SQL is not what made the rows", lineage, "lineage_that_lies_is_shown_by_the_rows", "exposed"),
        ("30", "a transformation's function is not the recorded one", lineage, "what_cannot_be_run_again_is_said_and_why", "exposed"),
        ("31", "lineage names other inputs, or their history was replaced", lineage, "what_cannot_be_run_again_is_said_and_why", "exposed"),
        (
            "32",
            "an upstream source is swapped before ingest",
            lineage,
            "an_import_names_the_digest_of_its_source_and_its_row_groups",
            "exposed",
        ),
        ("48", "heal used as a rollback", modes, "heal_is_no_rollback", "detected"),
        ("48", "heal past the term of a baseline", modes, "nothing_is_healed_past_the_term_of_the_baseline", "detected"),
        ("48", "an older version that happens to verify", modes, "an_older_version_that_is_not_the_sealed_one_is_never_served", "detected"),
        ("48", "quarantine used as a row filter", modes, "quarantined_row_groups_are_missing_from_every_answer_alike", "detected"),
        ("48", "quarantine in a gate", modes, "files_that_cannot_be_used_in_part_are_left_out_whole", "detected"),
        ("49", "one key twice among those of a role", trust, "a_key_given_twice_counts_once_and_none_is_refused", "detected"),
        ("49", "one key's signatures for a threshold of two", trust, "a_root_needs_the_threshold_of_its_own_distinct_keys", "detected"),
        ("49", "one signature twice in an envelope", "src/key/dsse.rs", "signers_are_counted_by_key_and_once", "detected"),
        ("49", "a small-order key", "src/key/ed25519.rs", "keys_with_a_part_of_small_order_and_second_spellings_are_refused", "detected"),
        ("50", "a revoked sealer back-dates", roots, "a_revoked_key_counts_up_to_the_last_good_baseline_and_cannot_back_date", "detected"),
    ]
}

/// What stock readers have against an attack of this number.
fn stock_of(number: &str) -> &'static str {
    match number {
        "30" | "31" | "32" => "silent: no lineage",
        "48" => "no seals: serves what is there",
        _ => "no signatures",
    }
}

/// One line each. A test that no longer has its name is a failure.
pub fn all() -> Vec<Judged> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let line = |number: &str, title: &str| Judged {
        number: number.to_owned(),
        title: title.to_owned(),
        lake: "-".to_owned(),
        ..Judged::default()
    };
    let mut all = Vec::new();
    for test in tests() {
        let file = format!("{STORE}/{}", test.file);
        let found = std::fs::read_to_string(root.join(&file)).is_ok_and(|text| text.contains(&format!("fn {}()", test.test)));
        let failures = if found { Vec::new() } else { vec![format!("{file} has no test {}", test.test)] };
        let query = format!("store::{}", test.test);
        all.push(Judged {
            stock: "-".to_owned(),
            query,
            owed: "placed".to_owned(),
            failures,
            lake: "erasure".to_owned(),
            ..line(test.number, test.title)
        });
    }
    for (number, title, file, test, owed) in tests_of_tables() {
        let found = std::fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(&format!("fn {test}()")));
        let failures = if found { Vec::new() } else { vec![format!("{file} has no test {test}")] };
        let module = file.trim_end_matches(".rs").rsplit('/').take(2).collect::<Vec<_>>();
        let query = format!("{}::{test}", module.into_iter().rev().collect::<Vec<_>>().join("::"));
        all.push(Judged { stock: stock_of(number).to_owned(), query, owed: owed.to_owned(), failures, ..line(number, title) });
    }
    all
}
