#!/bin/sh
# Runs COUNT seeded histories of stores over simulated regions, from FIRST_SEED on, CHANGING (a tenth of COUNT, unless given) in which regions
# are added, retired and replaced, and then the larger bounds of the register's model.
# A history that is wrong is printed with its seed; `scripts/simulate.sh 1 SEED` runs one of each kind alone, without the model.
# Usage: scripts/simulate.sh [COUNT] [FIRST_SEED] [CHANGING]
set -eu
cd "$(dirname "$0")/.."
count=${1:-100000}
first=${2:-0}
changing=${3:-$(((count + 9) / 10))}
# Only this crate is built anew: what hashes and signs is optimised in the profile of the tests already.
run() { cargo test --config profile.dev.opt-level=3 --no-default-features --lib -- --ignored --nocapture --exact "$1"; }
LAKESEAL_SIMULATE_COUNT=$count LAKESEAL_SIMULATE_FIRST=$first LAKESEAL_SIMULATE_CHANGING=$changing run store::simulation::tests::as_many_histories_as_asked_for
if [ "$count" -gt 1 ]; then
    run register::core::model::every_state_of_larger_bounds_keeps_the_rules
fi
