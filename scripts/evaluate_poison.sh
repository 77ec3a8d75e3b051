#!/usr/bin/env bash
# Poisons a table of real flights in six ways, from 0.01% to 10% of its rows, and prints what the diff, drift of the changed rows, and (as the
# control) drift of the whole table say; then what they say of honest changes.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --test integration sql::evaluation -- --ignored --nocapture
