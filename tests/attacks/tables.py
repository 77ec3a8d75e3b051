"""Honest tables: data by PyArrow, logs by hand. Every table has rows (id, label, value, note); `value` is id / 2 + 1."""
import io
import json
import os
import struct
import uuid
import zlib

import pyarrow as pa
import pyarrow.parquet as pq

DAY_MS = 86_400_000
T0_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")

SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string()), ("value", pa.float64()), ("note", pa.string())])


def value_of(i):
    return i / 2 + 1


def rows(first, count, columns=("id", "label", "value", "note"), value=value_of, label=lambda i: str(i % 2)):
    ids = range(first, first + count)
    made = {"id": list(ids), "label": [label(i) for i in ids], "value": [value(i) for i in ids], "note": [f"row {i:06}" for i in ids]}
    return pa.table({name: made[name] for name in columns}, schema=pa.schema([SCHEMA.field(name) for name in columns]))


def parquet(table, **options):
    """Plain, uncompressed, two row groups of half the rows, pages of 20 rows, with page index and page checksums."""
    out = io.BytesIO()
    settings = dict(compression="none", use_dictionary=False, row_group_size=max(1, len(table) // 2), write_batch_size=20,
                    data_page_size=64, write_page_index=True, write_page_checksum=True, store_schema=False)
    pq.write_table(table, out, **(settings | options))
    return out.getvalue()


def field(name, kind, metadata=None):
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata or {}}


def schema_string(fields=None):
    fields = fields or [field("id", "long"), field("label", "string"), field("value", "double"), field("note", "string")]
    return json.dumps({"type": "struct", "fields": fields})


def stats(table, skip=()):
    names = [n for n in table.column_names if n not in skip]
    columns = {n: table.column(n).to_pylist() for n in names}
    if not len(table):
        return {"numRecords": 0, "minValues": {}, "maxValues": {}, "nullCount": {}}
    return {
        "numRecords": len(table),
        "minValues": {n: min(v) for n, v in columns.items()},
        "maxValues": {n: max(v) for n, v in columns.items()},
        "nullCount": {n: 0 for n in names},
    }


class Builder:
    """Writes one table."""

    def __init__(self, root, name):
        self.name = name
        self.folder = root / "bases" / name / "t"
        self.log = self.folder / "_delta_log"
        self.log.mkdir(parents=True)
        self.version = 0
        self.live = {}

    def put(self, path, data, at_ms=None):
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data if isinstance(data, bytes) else data.encode())
        if at_ms is not None:
            os.utime(target, (at_ms / 1000, at_ms / 1000))

    def metadata(self, fields=None, partition_by=(), configuration=None):
        return {"metaData": {
            "id": str(uuid.uuid5(NAMESPACE, self.name)), "format": {"provider": "parquet", "options": {}},
            "schemaString": schema_string(fields), "partitionColumns": list(partition_by), "configuration": configuration or {},
            "createdTime": T0_MS,
        }}

    def add(self, path, table, partition=None, size=None, data=None, **members):
        """Stores a data file and returns its action."""
        if data is None:
            data = parquet(table)
        self.put(path, data)
        action = {"path": path, "partitionValues": partition or {}, "size": size or len(data), "modificationTime": self.now(),
                  "dataChange": True, "stats": json.dumps(stats(table))}
        action.update(members)
        self.live[path] = action
        return {"add": action}

    def remove(self, path):
        gone = self.live.pop(path)
        return {"remove": {"path": path, "deletionTimestamp": self.now(), "dataChange": True, "extendedFileMetadata": True,
                           "partitionValues": gone["partitionValues"], "size": gone["size"]}}

    def now(self):
        return T0_MS + self.version * DAY_MS

    def commit(self, operation, *actions, parameters=None):
        info = {"commitInfo": {"timestamp": self.now(), "operation": operation, "operationParameters": parameters or {}}}
        lines = [json.dumps(action, separators=(",", ":")) for action in (info, *actions)]
        self.put(f"_delta_log/{self.version:020}.json", "\n".join(lines) + "\n", self.now())
        self.version += 1


PROTOCOL = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 3}}
CONFIGURATION = {"delta.constraints.positive": "value > 0", "delta.deletedFileRetentionDuration": "interval 30 days",
                 "delta.logRetentionDuration": "interval 60 days"}


def flat(root, name="flat"):
    """Four commits; one file was removed; a streaming writer's transaction; a CHECK constraint."""
    b = Builder(root, name)
    b.commit("CREATE TABLE", PROTOCOL, b.metadata(configuration=CONFIGURATION), b.add("part-0.parquet", rows(0, 200)))
    b.commit("WRITE", b.add("part-1.parquet", rows(200, 200)), {"txn": {"appId": "stream", "version": 7, "lastUpdated": T0_MS}})
    b.commit("DELETE", b.remove("part-0.parquet"), b.add("part-2.parquet", rows(100, 100)))
    b.commit("WRITE", b.add("part-3.parquet", rows(400, 200)))
    return b


def parted(root):
    """Partitioned by `label`, two files in each partition."""
    b = Builder(root, "parted")
    fields = [field("id", "long"), field("value", "double"), field("label", "string")]
    actions = []
    for n, label in enumerate(["0", "1", "0", "1"]):
        data = rows(n * 100, 100, columns=("id", "value"))
        actions.append(b.add(f"label={label}/part-{n}.parquet", data, {"label": label}))
    b.commit("CREATE TABLE", PROTOCOL, b.metadata(fields, ["label"]), *actions[:2])
    b.commit("WRITE", *actions[2:])
    return b


def special(root):
    """Partition values that writers must encode."""
    b = Builder(root, "special")
    fields = [field("id", "long"), field("value", "double"), field("label", "string")]
    actions = [b.metadata(fields, ["label"])]
    for n, label in enumerate(["a{b", "plain"]):
        data = rows(n * 100, 100, columns=("id", "value"))
        folder = label.replace("{", "%7B")
        action = b.add(f"label={folder}/part-{n}.parquet", data, {"label": label})
        action["add"]["path"] = f"label={folder.replace('%', '%25')}/part-{n}.parquet"
        actions.append(action)
    b.commit("CREATE TABLE", PROTOCOL, *actions)
    return b


def bitmap(positions):
    """The portable 64-bit roaring bitmap of some row numbers below 65536, as Delta stores it."""
    positions = sorted(positions)
    container = struct.pack("<I", 12346) + struct.pack("<I", 1) + struct.pack("<HH", 0, len(positions) - 1) + struct.pack("<I", 16)
    container += b"".join(struct.pack("<H", p) for p in positions)
    return struct.pack("<I", 1681511377) + struct.pack("<Q", 1) + struct.pack("<I", 0) + container


Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def z85(data):
    data += b"\0" * (-len(data) % 4)
    out = ""
    for at in range(0, len(data), 4):
        number = int.from_bytes(data[at:at + 4], "big")
        digits = []
        for _ in range(5):
            number, digit = divmod(number, 85)
            digits.append(Z85[digit])
        out += "".join(reversed(digits))
    return out


def vector_file(positions):
    """The bytes of a file with one deletion vector, at offset 1."""
    data = bitmap(positions)
    return b"\1" + struct.pack(">I", len(data)) + data + struct.pack(">I", zlib.crc32(data)), len(data)


def inline_vector(positions):
    data = bitmap(positions)
    return {"storageType": "i", "pathOrInlineDv": z85(data), "sizeInBytes": len(data), "cardinality": len(positions)}


VECTOR_ID = uuid.UUID("d2c639aa-8816-431a-aaf6-d3fe2512ff61")


def vectors(root):
    """A file of which a stored deletion vector deletes rows 0 to 9."""
    b = Builder(root, "vectors")
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
                             "writerFeatures": ["deletionVectors"]}}
    data, size = vector_file(range(10))
    b.put(f"deletion_vector_{VECTOR_ID}.bin", data)
    vector = {"storageType": "u", "pathOrInlineDv": z85(VECTOR_ID.bytes), "offset": 1, "sizeInBytes": size, "cardinality": 10}
    b.commit("CREATE TABLE", protocol, b.metadata(configuration={"delta.enableDeletionVectors": "true"}),
             b.add("part-0.parquet", rows(0, 200), deletionVector=vector), b.add("part-1.parquet", rows(200, 200)))
    return b


def parsed_stats(action, names=("id", "value")):
    stated = json.loads(action["stats"])
    return {"numRecords": stated["numRecords"], **{m: {n: stated[m][n] for n in names if n in stated[m]}
                                                   for m in ("minValues", "maxValues", "nullCount")}}


def add_type(parsed, partition=None):
    bounds = pa.struct([("id", pa.int64()), ("value", pa.float64())])
    nulls = pa.struct([("id", pa.int64()), ("value", pa.int64())])
    members = [("path", pa.string()), ("partitionValues", pa.map_(pa.string(), pa.string())), ("size", pa.int64()),
               ("modificationTime", pa.int64()), ("dataChange", pa.bool_()), ("stats", pa.string())]
    if parsed:
        members.append(("stats_parsed", pa.struct([("numRecords", pa.int64()), ("minValues", bounds), ("maxValues", bounds),
                                                   ("nullCount", nulls)])))
    if partition:
        members.append(("partitionValues_parsed", pa.struct([(partition, pa.string())])))
    return pa.struct(members)


PROTOCOL_TYPE = pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32()),
                           ("readerFeatures", pa.list_(pa.string())), ("writerFeatures", pa.list_(pa.string()))])
METADATA_TYPE = pa.struct([("id", pa.string()), ("name", pa.string()), ("description", pa.string()),
                           ("format", pa.struct([("provider", pa.string()), ("options", pa.map_(pa.string(), pa.string()))])),
                           ("schemaString", pa.string()), ("partitionColumns", pa.list_(pa.string())),
                           ("configuration", pa.map_(pa.string(), pa.string())), ("createdTime", pa.int64())])
REMOVE_TYPE = pa.struct([("path", pa.string()), ("deletionTimestamp", pa.int64()), ("dataChange", pa.bool_())])
TXN_TYPE = pa.struct([("appId", pa.string()), ("version", pa.int64()), ("lastUpdated", pa.int64())])


def parquet_rows(rows, types, **options):
    table = pa.table({name: pa.array([row.get(name) for row in rows], type=kind) for name, kind in types.items()})
    out = io.BytesIO()
    pq.write_table(table, out, compression="snappy", **options)
    return out.getvalue()


def metadata_row(metadata):
    """A metaData action as checkpoints have it."""
    metadata = dict(metadata["metaData"])
    metadata["configuration"] = list(metadata["configuration"].items())
    metadata["format"] = {"provider": "parquet", "options": []}
    return {"metaData": metadata}


def checkpoint(protocol, metadata, adds, removes=(), parsed=False, partition=None, edit=None, txn=(), last=(), **options):
    """A classic checkpoint. `edit` may change each add before it is written; `last` are rows at its end."""
    made = []
    for action in adds:
        action = dict(action)
        action["partitionValues"] = list(action["partitionValues"].items())
        if parsed:
            action["stats_parsed"] = parsed_stats(action)
        if partition:
            action["partitionValues_parsed"] = {partition: dict(action["partitionValues"])[partition]}
        if edit:
            action = edit(action)
        if action:
            made.append({"add": action})
    types = {"protocol": PROTOCOL_TYPE, "metaData": METADATA_TYPE, "add": add_type(parsed, partition), "remove": REMOVE_TYPE,
             "txn": TXN_TYPE}
    head = [{"protocol": protocol["protocol"]}, metadata_row(metadata)]
    return parquet_rows([*head, *({"txn": t} for t in txn), *made, *({"remove": r} for r in removes), *last], types, **options)


def history(b, count, partition=None):
    """`count` commits of one file each."""
    for n in range(count):
        if partition:
            label = str(n % 2)
            data = rows(n * 20, 20, columns=("id", "value"))
            action = b.add(f"label={label}/part-{n:02}.parquet", data, {"label": label})
        else:
            action = b.add(f"part-{n:02}.parquet", rows(n * 20, 20))
        head = (PROTOCOL, b.first_metadata) if n == 0 else ()
        b.commit("WRITE", *head, action)


def checkpointed(root):
    """Twelve commits and a checkpoint at version 10; every commit is there."""
    b = Builder(root, "checkpointed")
    b.first_metadata = b.metadata()
    history(b, 12)
    early = [a for path, a in b.live.items() if path < "part-11"]
    b.put(f"_delta_log/{10:020}.checkpoint.parquet", checkpoint(PROTOCOL, b.first_metadata, early))
    b.put("_delta_log/_last_checkpoint", json.dumps({"version": 10, "size": 13}))
    return b


def cleaned(root):
    """As an old table is: the commits up to the checkpoint are gone. It has typed statistics and partition values."""
    b = Builder(root, "cleaned")
    fields = [field("id", "long"), field("value", "double"), field("label", "string")]
    b.first_metadata = b.metadata(fields, ["label"])
    history(b, 12, partition="label")
    b.early = [a for path, a in b.live.items() if "part-11" not in path]
    b.put(f"_delta_log/{10:020}.checkpoint.parquet", checkpoint(PROTOCOL, b.first_metadata, b.early, parsed=True, partition="label"))
    b.put("_delta_log/_last_checkpoint", json.dumps({"version": 10, "size": 13}))
    for n in range(11):
        (b.log / f"{n:020}.json").unlink()
    return b


SIDECAR_TYPE = pa.struct([("path", pa.string()), ("sizeInBytes", pa.int64()), ("modificationTime", pa.int64())])
V2_TYPE = pa.struct([("version", pa.int64())])
V2_ID = "80a083e8-7026-4e79-81be-64bd76c43a11"
V2_PROTOCOL = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["v2Checkpoint"],
                            "writerFeatures": ["v2Checkpoint", "appendOnly", "invariants"]}}


def v2_checkpoint(metadata, sidecar, size, protocol=V2_PROTOCOL, version=4):
    lines = [{"checkpointMetadata": {"version": version}}, {"protocol": protocol["protocol"]}, metadata_row(metadata),
             {"sidecar": {"path": sidecar, "sizeInBytes": size, "modificationTime": T0_MS}}]
    types = {"checkpointMetadata": V2_TYPE, "protocol": PROTOCOL_TYPE, "metaData": METADATA_TYPE, "add": add_type(False),
             "remove": REMOVE_TYPE, "sidecar": SIDECAR_TYPE}
    return parquet_rows(lines, types)


def sidecar_rows(adds):
    made = [{"add": {**a, "partitionValues": list(a["partitionValues"].items())}} for a in adds]
    return parquet_rows(made, {"add": add_type(False), "remove": REMOVE_TYPE})


def sidecars(root):
    """A V2 checkpoint with a sidecar; the commits before it are gone."""
    b = Builder(root, "sidecars")
    b.first_metadata = b.metadata(configuration={"delta.checkpointPolicy": "v2"})
    for n in range(6):
        head = (V2_PROTOCOL, b.first_metadata) if n == 0 else ()
        b.commit("WRITE", *head, b.add(f"part-{n}.parquet", rows(n * 20, 20)))
    b.early = [a for path, a in b.live.items() if path < "part-5"]
    data = sidecar_rows(b.early)
    b.put("_delta_log/_sidecars/3a0d65cd-4056-49b8-937b-95f9e3ee90e5.parquet", data)
    b.put(f"_delta_log/{4:020}.checkpoint.{V2_ID}.parquet",
          v2_checkpoint(b.first_metadata, "3a0d65cd-4056-49b8-937b-95f9e3ee90e5.parquet", len(data)))
    b.put("_delta_log/_last_checkpoint", json.dumps({"version": 4, "size": 8}))
    for n in range(5):
        (b.log / f"{n:020}.json").unlink()
    return b


def changes(root):
    """Change data is written: an update has its own file."""
    b = Builder(root, "changes")
    protocol = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}}
    b.commit("CREATE TABLE", protocol, b.metadata(configuration={"delta.enableChangeDataFeed": "true"}),
             b.add("part-0.parquet", rows(0, 100)))
    before = rows(10, 5)
    after = rows(10, 5, value=lambda i: 1000.0 + i)
    both = pa.concat_tables([before, after])
    kinds = pa.array(["update_preimage"] * 5 + ["update_postimage"] * 5)
    data = parquet(both.append_column("_change_type", kinds))
    b.put("_change_data/cdc-1.parquet", data)
    cdc = {"cdc": {"path": "_change_data/cdc-1.parquet", "partitionValues": {}, "size": len(data), "dataChange": False}}
    whole = pa.concat_tables([rows(0, 10), after, rows(15, 85)])
    b.commit("UPDATE", b.remove("part-0.parquet"), b.add("part-1.parquet", whole), cdc)
    return b


def mapped(root):
    """Column mapping by name: `value` and `weight` are stored as col-3 and col-4."""
    b = Builder(root, "mapped")
    protocol = {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}
    names = [("id", "long", "col-1"), ("label", "string", "col-2"), ("value", "double", "col-3"), ("weight", "double", "col-4")]
    fields = [field(n, k, {"delta.columnMapping.id": i + 1, "delta.columnMapping.physicalName": p}) for i, (n, k, p) in enumerate(names)]
    data = rows(0, 200)
    stored = pa.table({"col-1": data["id"], "col-2": data["label"], "col-3": data["value"],
                       "col-4": pa.array([-value_of(i) for i in range(200)])})
    b.commit("CREATE TABLE", protocol, b.metadata(fields, configuration={"delta.columnMapping.mode": "name",
                                                                         "delta.columnMapping.maxColumnId": "4"}),
             b.add("part-0.parquet", stored))
    return b


def folder(root):
    """Parquet in `label=…` folders, without a log."""
    b = Builder(root, "folder")
    b.log.rmdir()
    for n, label in enumerate(["0", "1", "0", "1"]):
        b.put(f"label={label}/part-{n}.parquet", parquet(rows(n * 100, 100, columns=("id", "value"))))
    return b


def build(root):
    made = [flat(root), parted(root), special(root), vectors(root), checkpointed(root), cleaned(root), sidecars(root), changes(root),
            mapped(root), folder(root)]
    return {b.name: b for b in made}
