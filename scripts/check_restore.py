#!/usr/bin/env python3
"""Poisons a Delta table, restores it with `lakeseal restore`, and reads it with engines that know nothing of Lakeseal.

    scripts/check_restore.py [--lakeseal target/debug/lakeseal] [--venv DIR]

Installs deltalake, polars and duckdb from PyPI into a virtual environment; says so and exits with 0 when that is not possible.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

PACKAGES = ["deltalake==1.6.6", "polars==2.1.0", "pyarrow", "duckdb"]


def in_venv(directory: pathlib.Path) -> None:
    """Runs this script again in a virtual environment that has the packages."""
    python = directory / "bin" / "python"
    if pathlib.Path(sys.prefix) == directory:
        return
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"SKIPPED: the packages cannot be installed: {error}")
        sys.exit(0)
    os.execv(str(python), [str(python), *sys.argv])


def run(lakeseal: str, home: pathlib.Path, *arguments: str, expect: int = 0) -> str:
    done = subprocess.run([lakeseal, "--home", str(home), *arguments], capture_output=True, text=True, cwd=home.parent)
    assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def log_file(table: pathlib.Path, version: int) -> pathlib.Path:
    return table / "_delta_log" / f"{version:020}.json"


def poison(table: pathlib.Path) -> None:
    """What a thief of a writer's credentials may do with the log: hide rows, drop rows, add rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    adds = [json.loads(line)["add"] for version in (0, 1) for line in log_file(table, version).read_text().splitlines() if '"add"' in line]
    hidden = dict(adds[0], stats=adds[0]["stats"].replace('"numRecords":1000', '"numRecords":7').replace('"id":999', '"id":6'))
    assert hidden["stats"] != adds[0]["stats"], adds[0]["stats"]
    dropped = {"path": adds[1]["path"], "deletionTimestamp": 1, "dataChange": True, "partitionValues": {}}
    pq.write_table(pa.table({"id": pa.array([5000], pa.int64()), "amount": pa.array([1e9])}), table / "poison.parquet")
    own = {"path": "poison.parquet", "partitionValues": {}, "size": (table / "poison.parquet").stat().st_size, "modificationTime": 1, "dataChange": True}
    lines = [json.dumps({"add": hidden}), json.dumps({"remove": dropped}), json.dumps({"add": own})]
    log_file(table, 2).write_text("\n".join(lines) + "\n")


def answers(table: pathlib.Path) -> dict:
    import deltalake
    import duckdb
    import polars

    found = {}
    frame = polars.scan_delta(str(table))
    found["polars"] = tuple(frame.select(polars.len(), polars.col("amount").sum()).collect().row(0))
    data = deltalake.DeltaTable(str(table)).to_pyarrow_table()
    found["deltalake"] = (data.num_rows, sum(data.column("amount").to_pylist()))
    try:
        files = deltalake.DeltaTable(str(table)).file_uris()
        found["duckdb over the live files"] = tuple(duckdb.sql(f"SELECT count(*), sum(amount) FROM read_parquet({files})").fetchall()[0])
    except duckdb.Error as error:
        # A spelling that is no file name stops it before a restore, which is not what is looked at here.
        found["duckdb over the live files"] = str(error).splitlines()[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--lakeseal", default=str(root / "target" / "debug" / "lakeseal"))
    parser.add_argument("--venv", type=pathlib.Path, default=root / "target" / "venv-restore")
    options = parser.parse_args()
    lakeseal = str(pathlib.Path(options.lakeseal).resolve())
    if not pathlib.Path(lakeseal).exists():
        sys.exit(f"{lakeseal} is not there: cargo build first, or name it with --lakeseal")
    in_venv(options.venv.resolve())
    import deltalake
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as directory:
        home, table = pathlib.Path(directory) / "home", pathlib.Path(directory) / "table"
        for first in (0, 1000):
            ids = range(first, first + 1000)
            rows = pa.table({"id": pa.array(ids, pa.int64()), "amount": pa.array([float(i % 10) for i in ids])})
            deltalake.write_deltalake(str(table), rows, mode="append")
        truth = (2000, 9000.0)
        run(lakeseal, home, "keys", "new", "--role", "sealer")
        run(lakeseal, home, "seal", str(table))
        assert all(found == truth for found in answers(table).values()), answers(table)
        poison(table)
        before = answers(table)
        assert all(found != truth for found in before.values()), before
        run(lakeseal, home, "audit", str(table), expect=1)
        run(lakeseal, home, "restore", str(table), "--to", "newest", "--dry-run")
        assert answers(table) == before, "a dry run changes nothing"
        print(run(lakeseal, home, "restore", str(table), "--to", "newest"))
        after = answers(table)
        for engine, found in after.items():
            print(f"{engine:<28} poisoned {before[engine]}  restored {found}")
        assert all(found == truth for found in after.values()), after
        run(lakeseal, home, "audit", str(table), expect=3)
        run(lakeseal, home, "seal", str(table))
        run(lakeseal, home, "audit", str(table))
        print("restored: every engine reads the sealed rows, and the table can be sealed without accepting changes")


if __name__ == "__main__":
    main()
