#!/usr/bin/env bash
# Everything that is tested over real servers: three SeaweedFS, one Azurite and one directory as five regions; s3s-fs, s3rver and moto
# beside them, to be refused or judged. Installs them below target/servers the first time (minutes: s3s-fs is compiled).
#
#   scripts/servers.sh             the store, without DataFusion; then the Delta table and the command
#   scripts/servers.sh FILTER …    only tests whose names contain a FILTER (and all beside the store's need `--features tables`)
#   STORE_ONLY=1 scripts/servers.sh   without what needs the full build
set -euo pipefail
cd "$(dirname "$0")/.."

filters=("$@")
((${#filters[@]})) || filters=("servers::")
run() {
    python3 tests/servers/run.py -- cargo test "$@" --test integration -- "${filters[@]}" --nocapture --test-threads 1
}

if [[ -n "${STORE_ONLY:-}" ]]; then
    run --no-default-features
else
    run
fi
