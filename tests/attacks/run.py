#!/usr/bin/env python3
"""Builds honest tables and every attack on them, as files.

    python3 tests/attacks/run.py OUT [--venv DIR]

Tables are written with PyArrow, and logs, checkpoints, deletion vectors and hints by hand, so that nothing here shares code with what is
tested. OUT gets

    bases/<name>/…          honest tables, to be sealed and copied
    attacks/<id>/files/…    what the attack puts in place of stored objects
    outside/…               files that belong to no table
    attacks.json            one entry per attack: base, edits, queries, what is owed, which words must name the place

The first run installs pinned packages into the venv (default target/tables-venv); exit code 77 when they cannot be installed.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

PACKAGES = ["pyarrow==26.0.1", "deltalake==1.6.6", "polars==2.1.0", "duckdb==2.0.1"]
CANNOT_INSTALL = 77


def venv_python(venv):
    """The interpreter of a virtual environment that has the packages; made if need be."""
    python = venv / "bin" / "python"
    stamp = venv / "installed.txt"
    wanted = "\n".join(PACKAGES)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True, timeout=500)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"cannot install {', '.join(PACKAGES)}: {error}", file=sys.stderr)
        sys.exit(CANNOT_INSTALL)
    stamp.write_text(wanted)
    return python


def main():
    here = pathlib.Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--venv", type=pathlib.Path, default=here.parents[2] / "target" / "tables-venv")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.inside:
        python = venv_python(args.venv.resolve())
        os.execv(str(python), [str(python), str(here), str(args.out), "--inside"])
    import edits
    import tables

    args.out.mkdir(parents=True, exist_ok=True)
    bases = tables.build(args.out)
    (args.out / "attacks.json").write_text(json.dumps(edits.build(args.out, bases), indent=1))


if __name__ == "__main__":
    main()
