#!/bin/sh
# Runs COUNT seeded histories of stores over simulated regions, from FIRST_SEED on, and then the larger bounds of the register's model.
# A history that is wrong is printed with its seed; `scripts/simulate.sh 1 SEED` runs that one alone, without the model.
# Usage: scripts/simulate.sh [COUNT] [FIRST_SEED]
set -eu
cd "$(dirname "$0")/.."
count=${1:-100000}
first=${2:-0}
run() { cargo test --release --no-default-features --lib -- --ignored --nocapture --exact "$1"; }
LAKESEAL_SIMULATE_COUNT=$count LAKESEAL_SIMULATE_FIRST=$first run store::simulation::tests::as_many_histories_as_asked_for
if [ "$count" -gt 1 ]; then
    run register::core::model::every_state_of_larger_bounds_keeps_the_rules
fi
