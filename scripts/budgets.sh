#!/bin/sh
# Reads at random while m regions lie about shards in every way, and tries every forgery of register entries: reads are right or an error.
# By default 2,000 lakes x 50 reads = 100,000 reads. A failing seed is run alone with SEEDS=1 FIRST_SEED=<seed>.
#
#   scripts/budgets.sh [SEEDS] [FIRST_SEED]
set -eu
cd "$(dirname "$0")/.."
LAKESEAL_BUDGETS_SEEDS=${1:-${SEEDS:-2000}}
LAKESEAL_BUDGETS_FIRST_SEED=${2:-${FIRST_SEED:-1}}
export LAKESEAL_BUDGETS_SEEDS LAKESEAL_BUDGETS_FIRST_SEED
cargo test --no-default-features --test integration -- --nocapture store::budgets:: store::liars::
