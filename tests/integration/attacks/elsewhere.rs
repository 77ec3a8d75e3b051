//! Attacks whose tests stand elsewhere, by name, and those that are owed: both are lines of the table, so that none is missing in silence.

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

/// What is not built yet, or not shown here.
const OWED: [(&str, &str, &str); 6] = [
    ("30", "a transformation's SQL or UDF changed", "lineage is re-executed by verify_derivation; no row of this corpus yet"),
    ("31", "lineage lies about its inputs", "lineage is re-executed by verify_derivation; no row of this corpus yet"),
    ("32", "an upstream source is swapped before ingest", "needs a digest of the source at ingest; no row of this corpus yet"),
    ("49", "one key under two ids, one signature twice, a small-order key", "the trust root's own tests; no row of this corpus yet"),
    ("50", "a revoked sealer back-dates", "the trust root's own tests; no row of this corpus yet"),
    ("48", "heal used as a rollback, quarantine as a row filter", "the modes heal and quarantine; no row of this corpus yet"),
];

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
    for (number, title, why) in OWED {
        all.push(Judged { query: format!("OWED: {why}"), owed: "NOT SHOWN".to_owned(), ..line(number, title) });
    }
    all
}
