#!/usr/bin/env bash
# Installs a browser for the tests that look at an audit's page (tests/integration/cli/report.rs): Debian's chromium. Without one they skip loudly.
set -euo pipefail
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then
        echo "there already: $(command -v "$name")"
        exit 0
    fi
done
if ! command -v apt-get >/dev/null; then
    echo "no apt-get here: install a Chromium yourself and name it in LAKESEAL_BROWSER" >&2
    exit 1
fi
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core
command -v chromium
