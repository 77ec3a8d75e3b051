#!/usr/bin/env python3
"""Honest steps in the life of a table that other programs than deltalake's Rust crate take.

    python3 tests/honest/step.py TABLE HISTORY STEP

Prints `done` when there is no such step. Packages are those of tests/attacks/run.py.
"""
import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "attacks"))
import run  # noqa: E402

if os.environ.get("LAKESEAL_TEST_INSIDE") != "1":
    python = run.venv_python(HERE.parents[2] / "target" / "tables-venv")
    os.execve(str(python), [str(python), *sys.argv], {**os.environ, "LAKESEAL_TEST_INSIDE": "1"})

import pyarrow as pa  # noqa: E402
import pyarrow.dataset as ds  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import tables  # noqa: E402


class Continued(tables.Builder):
    """A table that is there, to be gone on with by hand."""

    def __init__(self, folder, name):
        self.name = name
        self.folder = folder
        self.log = folder / "_delta_log"
        self.log.mkdir(parents=True, exist_ok=True)
        self.version = len(list(self.log.glob("*.json")))
        self.live = {}
        for path in sorted(self.log.glob("*.json")):
            for line in path.read_text().splitlines():
                action = json.loads(line)
                if "add" in action:
                    self.live[action["add"]["path"]] = action["add"]
                if "remove" in action:
                    self.live.pop(action["remove"]["path"], None)
                if "metaData" in action:
                    self.head = action
                if "protocol" in action:
                    self.protocol = action


def vectors(b, step):
    """DELETE by deletion vectors: stored, then more, then inline, then all of a file."""
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
                             "writerFeatures": ["deletionVectors"]}}
    if step == 0:
        b.commit("CREATE TABLE", protocol, b.metadata(configuration={"delta.enableDeletionVectors": "true"}),
                 b.add("part-0.parquet", tables.rows(0, 100)), b.add("part-1.parquet", tables.rows(100, 100)))
    elif step in (1, 2):
        rows = range(10) if step == 1 else range(30)
        name = f"00000000-0000-0000-0000-00000000000{step}"
        data, size = tables.vector_file(rows)
        b.put(f"deletion_vector_{name}.bin", data)
        import uuid
        vector = {"storageType": "u", "pathOrInlineDv": tables.z85(uuid.UUID(name).bytes), "offset": 1, "sizeInBytes": size,
                  "cardinality": len(rows)}
        redelete(b, "part-0.parquet", vector)
    elif step == 3:
        redelete(b, "part-1.parquet", tables.inline_vector([1, 5, 99]))
    elif step == 4:
        b.commit("DELETE", vector_remove(b, "part-0.parquet"))
    else:
        return False
    return True


def vector_remove(b, path):
    gone = dict(b.live[path])
    action = b.remove(path)
    if "deletionVector" in gone:
        action["remove"]["deletionVector"] = gone["deletionVector"]
    return action


def redelete(b, path, vector):
    """The file once more, with another vector; its statistics are wide from now on."""
    again = dict(b.live[path])
    stated = json.loads(again["stats"])
    stated["tightBounds"] = False
    again.update(deletionVector=vector, stats=json.dumps(stated), dataChange=True)
    gone = vector_remove(b, path)
    b.live[path] = again
    b.commit("DELETE", gone, {"add": again})


def widening(b, step):
    """A column of 32 bits becomes one of 64; old files stay as they are."""
    features = ["typeWidening"]
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}}
    names = ("id", "value")
    data = tables.rows(step * 100, 100, columns=names)
    kind = pa.int32() if step == 0 else pa.int64()
    data = data.set_column(0, "id", data["id"].cast(kind))
    fields = [tables.field("id", "integer"), tables.field("value", "double")]
    if step == 0:
        b.commit("CREATE TABLE", protocol, b.metadata(fields, configuration={"delta.enableTypeWidening": "true"}), b.add("part-0.parquet", data))
    elif step == 1:
        changes = [{"toType": "long", "fromType": "integer"}]
        fields[0] = tables.field("id", "long", {"delta.typeChanges": changes})
        b.commit("CHANGE COLUMN", b.metadata(fields, configuration={"delta.enableTypeWidening": "true"}))
        b.commit("WRITE", b.add("part-1.parquet", data))
    else:
        return False
    return True


def mapping(b, step):
    """Column mapping by name: append, rename, drop, append."""
    names = [("id", "long", "col-1"), ("label", "string", "col-2"), ("value", "double", "col-3"), ("weight", "double", "col-4")]
    configuration = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "4"}

    def fields(rename=None, drop=None):
        return [tables.field(rename if n == "value" and rename else n, k,
                             {"delta.columnMapping.id": i + 1, "delta.columnMapping.physicalName": p})
                for i, (n, k, p) in enumerate(names) if n != drop]

    def data(first, weight=True):
        made = tables.rows(first, 100)
        columns = {"col-1": made["id"], "col-2": made["label"], "col-3": made["value"]}
        if weight:
            columns["col-4"] = pa.array([-tables.value_of(i) for i in range(first, first + 100)])
        return pa.table(columns)
    if step == 0:
        protocol = {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}
        b.commit("CREATE TABLE", protocol, b.metadata(fields(), configuration=configuration), b.add("part-0.parquet", data(0)))
    elif step == 1:
        b.commit("WRITE", b.add("part-1.parquet", data(100)))
    elif step == 2:
        b.commit("RENAME COLUMN", b.metadata(fields(rename="price"), configuration=configuration))
    elif step == 3:
        b.commit("DROP COLUMNS", b.metadata(fields(rename="price", drop="weight"), configuration=configuration))
        b.commit("WRITE", b.add("part-2.parquet", data(200, weight=False)))
    else:
        return False
    return True


def nothing(b, step):
    """Commits without files, files without rows, transactions of streaming writers, statistics said again."""
    if step == 0:
        b.commit("CREATE TABLE", tables.PROTOCOL, b.metadata(), b.add("part-0.parquet", tables.rows(0, 50)))
    elif step == 1:
        b.commit("DELETE")
        b.commit("STREAMING UPDATE", {"txn": {"appId": "q", "version": 1, "lastUpdated": tables.T0_MS}})
    elif step == 2:
        b.commit("WRITE", b.add("empty.parquet", tables.rows(0, 0)))
    elif step == 3:
        again = {**b.live["part-0.parquet"], "dataChange": False}
        b.commit("COMPUTE STATS", {"add": again})
    else:
        return False
    return True


def compact_vectors(b, step):
    """A file with a deletion vector is written anew without the deleted rows, and one whose rows are all deleted is taken away."""
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
                             "writerFeatures": ["deletionVectors"]}}
    if step == 0:
        whole = [tables.inline_vector(range(10)), tables.inline_vector(range(20))]
        b.commit("CREATE TABLE", protocol, b.metadata(), b.add("part-0.parquet", tables.rows(0, 100), deletionVector=whole[0]),
                 b.add("part-1.parquet", tables.rows(100, 20), deletionVector=whole[1]))
    elif step == 1:
        gone = vector_remove(b, "part-0.parquet")
        gone["remove"]["dataChange"] = False
        b.commit("REORG", gone, b.add("part-2.parquet", tables.rows(10, 90), dataChange=False))
    elif step == 2:
        gone = vector_remove(b, "part-1.parquet")
        gone["remove"]["dataChange"] = False
        b.commit("REORG", gone)
    else:
        return False
    return True


def pyarrow_folder(folder, step):
    """A data set of Parquet files in hive folders, by PyArrow; then more of it."""
    if step > 1:
        return False
    made = tables.rows(step * 100, 100)
    ds.write_dataset(made, folder, format="parquet", partitioning=ds.partitioning(pa.schema([("label", pa.string())]), flavor="hive"),
                     basename_template=f"part-{step}-{{i}}.parquet", existing_data_behavior="overwrite_or_ignore")
    return True


def duckdb_folder(folder, step):
    """A data set of Parquet files in hive folders, by DuckDB."""
    import duckdb
    if step > 0:
        return False
    made = tables.rows(0, 200)  # noqa: F841: DuckDB finds it by its name
    duckdb.sql(f"COPY (SELECT * FROM made) TO '{folder}' (FORMAT parquet, PARTITION_BY (label), OVERWRITE_OR_IGNORE)")
    return True


def duckdb_file(b, step):
    """Files by DuckDB in a Delta table."""
    import duckdb
    if step > 1:
        return False
    made = tables.rows(step * 100, 100)
    target = b.folder / f"duck-{step}.parquet"
    duckdb.from_arrow(made).write_parquet(str(target), compression="zstd")
    action = b.add(target.name, made, data=target.read_bytes())
    b.commit("WRITE", *((tables.PROTOCOL, b.metadata()) if step == 0 else ()), action)
    return True


def pyarrow_table(folder, step):
    """By the Python package deltalake: append, delete, optimize, vacuum, checkpoint."""
    from deltalake import DeltaTable, write_deltalake
    if step <= 1:
        write_deltalake(str(folder), tables.rows(step * 100, 100), mode="append")
        return True
    table = DeltaTable(str(folder))
    if step == 2:
        table.delete("id < 20")
    elif step == 3:
        table.optimize.compact()
        table.create_checkpoint()
    elif step == 4:
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    else:
        return False
    return True


def polars_table(folder, step):
    """By Polars: write, append, overwrite."""
    import polars as pl
    if step > 2:
        return False
    frame = pl.from_arrow(tables.rows(step * 100, 100))
    frame.write_delta(str(folder), mode="overwrite" if step == 2 else "append")
    return True


def encodings(b, step):
    """One file's rows in every encoding and compression that PyArrow writes: the log says that no data changed, and none does."""
    variants = [dict(), dict(compression="zstd", use_dictionary=True), dict(compression="snappy", data_page_version="2.0"),
                dict(compression="gzip", use_byte_stream_split=["value"], use_dictionary=False),
                dict(compression="brotli", column_encoding={"id": "DELTA_BINARY_PACKED", "note": "DELTA_BYTE_ARRAY"}, use_dictionary=False),
                dict(compression="lz4", row_group_size=7), dict(compression="none", version="1.0")]
    if step >= len(variants):
        return False
    made = tables.rows(0, 100)
    data = tables.parquet(made, **variants[step])
    action = b.add(f"part-{step}.parquet", made, data=data, dataChange=step == 0)
    if step == 0:
        b.commit("CREATE TABLE", tables.PROTOCOL, b.metadata(), action)
    else:
        gone = b.remove(f"part-{step - 1}.parquet")
        gone["remove"]["dataChange"] = False
        b.commit("OPTIMIZE", gone, action)
    return True


BY_HAND = {"vectors": vectors, "widening": widening, "mapping": mapping, "nothing": nothing, "compact_vectors": compact_vectors,
           "duckdb_file": duckdb_file, "encodings": encodings}
BY_OTHERS = {"pyarrow_folder": pyarrow_folder, "duckdb_folder": duckdb_folder, "pyarrow_table": pyarrow_table, "polars_table": polars_table}


def main():
    folder, history, step = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    if history in BY_HAND:
        went_on = BY_HAND[history](Continued(folder, history), step)
    else:
        went_on = BY_OTHERS[history](folder, step)
    if not went_on:
        print("done")


if __name__ == "__main__":
    main()
