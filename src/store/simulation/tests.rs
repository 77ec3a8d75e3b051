//! What simulations show, and that they can show it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Lake, Report, run};
use crate::register::mutant::Mutant;

/// The lake of a seed: all that the profile promises is taken in turn.
fn lake_of(seed: u64) -> Lake {
    let (regions, liars) = [(3, 0), (4, 0), (5, 0), (4, 1), (5, 1)][usize::try_from(seed % 5).unwrap()];
    Lake { regions, liars, lies: liars > 0, changes: 0, collects: false, mutant: Mutant::None }
}

/// Runs the histories of `count` seeds from `first` on; the sum of what came of them.
fn run_all(lake_of: fn(u64) -> Lake, first: u64, count: u64) -> Report {
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let mut sum = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return sum;
            }
            let lake = lake_of(seed);
            let report = run(lake, seed).unwrap_or_else(|wrong| {
                panic!("seed {seed}, {lake:?}: {wrong}\nto run it alone: scripts/simulate.sh 1 {seed}");
            });
            sum.calls += report.calls;
            sum.done += report.done;
            sum.refused += report.refused;
            sum.unknown += report.unknown;
            sum.failed += report.failed;
            sum.stopped += report.stopped;
            sum.changed += report.changed;
            sum.collected += report.collected;
            sum.orphans += report.orphans;
        }
    };
    let sums = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no history is wrong")).collect::<Vec<_>>()
    });
    let sum = |of: fn(&Report) -> u64| sums.iter().map(of).sum();
    let all = Report {
        calls: sum(|r| r.calls),
        done: sum(|r| r.done),
        refused: sum(|r| r.refused),
        unknown: sum(|r| r.unknown),
        failed: sum(|r| r.failed),
        stopped: sum(|r| r.stopped),
        changed: sum(|r| r.changed),
        collected: sum(|r| r.collected),
        orphans: sum(|r| r.orphans),
        trace: 0,
    };
    println!("{count} histories from seed {first} on: {all:?}");
    all
}

/// The first of the seeds whose history a mistake makes wrong, and how.
fn caught(lake: Lake, seeds: u64) -> (u64, String) {
    let found = (0..seeds).find_map(|seed| Some((seed, run(lake, seed).err()?)));
    found.unwrap_or_else(|| panic!("{lake:?} is not caught in {seeds} histories"))
}

fn mutants(mutant: Mutant, regions: u8, seeds: u64) {
    let (seed, wrong) = caught(Lake { regions, liars: 0, lies: false, changes: 0, collects: false, mutant }, seeds);
    println!("{mutant:?} is caught by seed {seed}: {wrong}");
}

#[test]
fn a_thousand_histories_are_those_of_one_object_a_name() {
    let all = run_all(lake_of, 0, 1000);
    // Else they would show nothing.
    assert!(all.done > 2000 && all.refused > 300 && all.unknown > 200 && all.stopped > 200, "{all:?}");
}

/// The lake of a seed, in which regions come and go.
fn changing(seed: u64) -> Lake {
    let (regions, liars) = [(3, 0), (4, 0), (5, 0), (5, 1)][usize::try_from(seed % 4).unwrap()];
    Lake { regions, liars, lies: liars > 0, changes: 2 + seed % 3, collects: seed % 8 >= 4, mutant: Mutant::None }
}

#[test]
fn histories_in_which_regions_come_and_go_are_those_of_one_object_a_name() {
    let all = run_all(changing, 0, 200);
    assert!(all.done > 400 && all.changed > 200 && all.collected > 80 && all.orphans > 3, "{all:?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..10 {
        assert_eq!(run(lake_of(seed), seed), run(lake_of(seed), seed), "seed {seed}");
    }
    assert_ne!(run(lake_of(0), 0), run(lake_of(0), 5));
}

#[test]
fn an_unknown_outcome_that_is_answered_as_lost_is_caught() {
    mutants(Mutant::ErrorIsLost, 3, 500);
}

#[test]
fn a_write_that_is_repeated_after_an_unknown_outcome_is_caught() {
    mutants(Mutant::RepeatUnknown, 3, 3000);
}

#[test]
fn a_skipped_promise_is_caught() {
    mutants(Mutant::SkipPromise, 3, 3000);
}

#[test]
fn a_newest_version_by_one_list_is_caught() {
    mutants(Mutant::OneListIsEnough, 3, 500);
}

#[test]
fn an_open_slot_that_is_read_as_undecided_is_caught() {
    mutants(Mutant::ReadUnproven, 3, 500);
}

/// With `liars = 0` a region that lies can fork a name or roll it back. Bytes that nobody wrote are never read, nor a version under the
/// tag of another.
#[test]
fn a_liar_that_is_not_allowed_for_forks_names_but_invents_nothing() {
    let lake = Lake { regions: 3, liars: 0, lies: true, changes: 0, collects: false, mutant: Mutant::None };
    let wrong: Vec<(u64, String)> = (0..400).filter_map(|seed| Some((seed, run(lake, seed).err()?))).collect();
    let forks = wrong.iter().filter(|(_, wrong)| wrong.starts_with("no one object")).count();
    assert!(forks > 0, "no fork in 400 histories");
    for (seed, wrong) in &wrong {
        assert!(wrong.starts_with("no one object") || wrong.contains("though nothing fails any more"), "seed {seed}: {wrong}");
    }
    println!("{forks} of 400 histories have a fork or a rollback");
}

#[test]
#[ignore = "as long as one likes; scripts/simulate.sh runs it"]
fn as_many_histories_as_asked_for() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    let (first, count) = (number("LAKESEAL_SIMULATE_FIRST", 0), number("LAKESEAL_SIMULATE_COUNT", 1000));
    run_all(lake_of, first, count);
    run_all(changing, first, number("LAKESEAL_SIMULATE_CHANGING", count.div_ceil(10)));
}
