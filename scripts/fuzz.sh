#!/usr/bin/env bash
# Fuzzes the decoders of stored bytes with libFuzzer: coverage-guided, from honest bytes on, memory bounded. Builds it the first time, with
# the compiler that the package is built with: coverage counters are a pass of LLVM, and need no sanitizer and no other compiler.
#
#   scripts/fuzz.sh [SECONDS] [DECODER …]   seconds for each (60), decoders (all)
#   STORE_ONLY=1 scripts/fuzz.sh …          without what needs arrow and DataFusion
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true

features=()
tests=()
if [[ -n "${STORE_ONLY:-}" ]]; then
    features=(--no-default-features)
    tests=(--no-default-features)
fi
cargo test "${tests[@]}" --lib fuzzing::tests::corpus -- --ignored --exact

target=$(rustc -vV | sed -n 's/^host: //p')
home=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
# The versions that fit together are those of the package.
cp Cargo.lock fuzz/Cargo.lock
counters="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
counters+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="$counters --cfg fuzzing" CARGO_TARGET_DIR=$home cargo build --manifest-path fuzz/Cargo.toml --release --target "$target" "${features[@]}"

run="$home/$target/release/decode"
decoders=("$@")
if ((${#decoders[@]} == 0)); then
    mapfile -t decoders < <(find fuzz/corpus -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort)
fi
mkdir -p fuzz/artifacts
for decoder in "${decoders[@]}"; do
    mkdir -p "fuzz/corpus/$decoder"
    echo "== $decoder, $seconds s"
    log=$home/$decoder.log
    if ! LAKESEAL_DECODER=$decoder "$run" "fuzz/corpus/$decoder" -artifact_prefix="fuzz/artifacts/$decoder-" -max_total_time="$seconds" \
        -rss_limit_mb=4096 -malloc_limit_mb=2048 -timeout=20 -print_final_stats=1 >"$log" 2>&1; then
        tail -30 "$log"
        exit 1
    fi
    grep -E "INITED|DONE|stat::(number_of_executed_units|peak_rss_mb)" "$log"
done
