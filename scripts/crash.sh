#!/bin/sh
# Kills writers (SIGKILL) at the first, second, some middle and the last hit of every failpoint, in several profiles and with fsync, and
# several writing processes at once at random moments. Seeds are printed; a failing one is run alone with ROUNDS=1 FIRST_SEED=<seed>.
#
#   scripts/crash.sh [ROUNDS] [FIRST_SEED]
set -eu
cd "$(dirname "$0")/.."
LAKESEAL_CRASH_ROUNDS=${1:-${ROUNDS:-40}}
LAKESEAL_CRASH_FIRST_SEED=${2:-${FIRST_SEED:-1}}
export LAKESEAL_CRASH_ROUNDS LAKESEAL_CRASH_FIRST_SEED
run() { cargo test --no-default-features --test integration -- --nocapture "$@"; }
run --include-ignored --exact \
    store::crash::every_failpoint_of_the_sources_is_one_where_a_test_kills \
    store::crash::what_a_crash_may_not_do_would_be_noticed \
    store::crash::a_writer_killed_at_the_first_second_and_last_hit_of_every_step_in_every_profile \
    store::crash::keepers::keepers_killed_at_the_first_second_and_last_hit_of_every_step_are_ended_by_the_next
run --include-ignored --exact store::crash::random::writers_killed_at_random_lose_nothing_that_was_acknowledged
