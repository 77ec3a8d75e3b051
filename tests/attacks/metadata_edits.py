"""Attacks on what readers use beside commits: checkpoints, sidecars, hints, checksums, compacted commits, change data, seals."""
import json

import pyarrow as pa
import pyarrow.parquet as pq

import parquet_bytes as pb
import tables
from data_edits import SUM, flip_value
from log_edits import restate

COUNT = "SELECT COUNT(*) FROM t"


def register(corpus):
    checkpoints(corpus)
    two_states(corpus)
    contradicted(corpus)
    forgotten(corpus)
    hints(corpus)
    checksums(corpus)
    others(corpus)


def checkpoints(corpus):
    @corpus.attack("17", "rewrite a checkpoint, JSON commits intact", base="checkpointed", place=["checkpoint"])
    def _(a):
        b = a.base
        early = [x for p, x in b.live.items() if p < "part-11" and p != "part-03.parquet"]
        a.put(f"_delta_log/{10:020}.checkpoint.parquet", tables.checkpoint(tables.PROTOCOL, b.first_metadata, early))

    @corpus.attack("17", "rewrite the checkpoint that is all there is: a file lost", base="cleaned", place=["part-03.parquet"])
    def _(a):
        early = [x for x in a.base.early if "part-03" not in x["path"]]
        a.put(f"_delta_log/{10:020}.checkpoint.parquet",
              tables.checkpoint(tables.PROTOCOL, a.base.first_metadata, early, parsed=True, partition="label"))

    @corpus.attack("17", "rewrite a sidecar: a file lost", base="sidecars", place=["part-3.parquet"])
    def _(a):
        early = [x for x in a.base.early if x["path"] != "part-3.parquet"]
        a.put("_delta_log/_sidecars/3a0d65cd-4056-49b8-937b-95f9e3ee90e5.parquet", tables.sidecar_rows(early))

    @corpus.attack("17", "a sidecar by URL", base="sidecars", owed="detected", place=["sidecar"])
    def _(a):
        a.put(f"_delta_log/{4:020}.checkpoint.{tables.V2_ID}.parquet",
              tables.v2_checkpoint(a.base.first_metadata, "http://127.0.0.1:9/x.parquet?X-Amz-Signature=00", 10))

    @corpus.attack("L", "checkpoint: typed statistics lie, the text is honest", base="cleaned",
                   query="SELECT COUNT(*) FROM t WHERE id = 65", place=["part-03.parquet"])
    def _(a):
        def edit(action):
            if "part-03" in action["path"]:
                action["stats_parsed"]["maxValues"] = {"id": 61, "value": 31.5}
            return action
        a.put(f"_delta_log/{10:020}.checkpoint.parquet",
              tables.checkpoint(tables.PROTOCOL, a.base.first_metadata, a.base.early, parsed=True, partition="label", edit=edit))

    @corpus.attack("L", "checkpoint: typed numRecords lies, the text is honest", base="cleaned", place=["part-03.parquet"])
    def _(a):
        def edit(action):
            if "part-03" in action["path"]:
                action["stats_parsed"]["numRecords"] = 3
            return action
        a.put(f"_delta_log/{10:020}.checkpoint.parquet",
              tables.checkpoint(tables.PROTOCOL, a.base.first_metadata, a.base.early, parsed=True, partition="label", edit=edit))

    @corpus.attack("L", "checkpoint: typed partition values lie, the text is honest", base="cleaned",
                   query="SELECT COUNT(*) FROM t WHERE label = '1'", place=["part-03.parquet"])
    def _(a):
        def edit(action):
            if "part-03" in action["path"]:
                action["partitionValues_parsed"] = {"label": "0"}
            return action
        a.put(f"_delta_log/{10:020}.checkpoint.parquet",
              tables.checkpoint(tables.PROTOCOL, a.base.first_metadata, a.base.early, parsed=True, partition="label", edit=edit))


def without_column(metadata, name):
    """The same table without a column in its schema."""
    schema = json.loads(metadata["metaData"]["schemaString"])
    schema["fields"] = [f for f in schema["fields"] if f["name"] != name]
    return {"metaData": {**metadata["metaData"], "schemaString": json.dumps(schema)}}


def state_nulls(data, group, path, nulls):
    """Changes how many nulls the footer states of a column of a row group."""
    footer, _ = pb.struct_at(data, pb.footer_start(data))
    columns = [chunk[3][0] for chunk in footer[4][0][group][1][0]]
    column = next(c for c in columns if [p.decode() for p in c[3][0]] == path)
    _, start, end = column[12][0][3]
    stated = pb.put_zigzag(nulls)
    assert len(stated) == end - start
    data[start:end] = stated


def two_states(corpus):
    """Checkpoints that say the sealed state to one reader, and another to the next."""
    everything = "SELECT * FROM t ORDER BY id LIMIT 2"

    @corpus.attack("V", "a checkpoint with two metaData: the first without a column, the last as it was", base="cleaned", query=everything,
                   place=["twice", "metaData", "checkpoint"])
    def _(a):
        b = a.base
        forged = without_column(b.first_metadata, "value")
        a.put(f"_delta_log/{10:020}.checkpoint.parquet",
              tables.checkpoint(tables.PROTOCOL, forged, b.early, last=[tables.metadata_row(b.first_metadata)]))

    @corpus.attack("V", "a checkpoint with two protocols", base="cleaned", place=["twice", "protocol", "checkpoint"])
    def _(a):
        b = a.base
        newer = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
        a.put(f"_delta_log/{10:020}.checkpoint.parquet", tables.checkpoint(newer, b.first_metadata, b.early, last=[tables.PROTOCOL]))

    @corpus.attack("V", "a checkpoint whose footer says that a row group adds nothing", base="cleaned",
                   place=["add.path", "footer of a checkpoint"])
    def _(a):
        b = a.base
        data = bytearray(tables.checkpoint(tables.PROTOCOL, b.first_metadata, b.early, row_group_size=2))
        state_nulls(data, 2, ["add", "path"], 2)
        a.put(f"_delta_log/{10:020}.checkpoint.parquet", bytes(data))

    @corpus.attack("V", "a checkpoint in one part of one whose files stand in a sidecar", base="cleaned",
                   place=["sidecars", "0000000001.0000000001"])
    def _(a):
        b = a.base
        sidecar = "3a0d65cd-4056-49b8-937b-95f9e3ee90e5.parquet"
        files = tables.sidecar_rows(b.early)
        a.put(f"_delta_log/_sidecars/{sidecar}", files)
        a.delete(f"_delta_log/{10:020}.checkpoint.parquet")
        a.put(f"_delta_log/{10:020}.checkpoint.{1:010}.{1:010}.parquet",
              tables.v2_checkpoint(b.first_metadata, sidecar, len(files), tables.PROTOCOL, 10))


def contradicted(corpus):
    """A checkpoint that is newer than the baseline, in a log that was cleaned up; every commit since the baseline is there."""
    def clean(a, rows):
        newest = a.base.version
        a.put(f"_delta_log/{newest:020}.checkpoint.parquet", rows)
        for n in range(newest):
            a.delete(a.commit_path(n))

    def appended(a, path, table, values):
        data = tables.parquet(table)
        a.put(path, data)
        action = {"path": path, "partitionValues": values, "size": len(data), "modificationTime": a.base.now(), "dataChange": True,
                  "stats": json.dumps(tables.stats(table))}
        a.next_commit({"add": action})
        return json.loads(json.dumps(action))

    @corpus.attack("W", "a checkpoint after the seal says another schema than seal and commits", query="SELECT * FROM t ORDER BY id LIMIT 2",
                   place=["checkpoint of version 4", "schema"])
    def _(a):
        b = a.base
        new = appended(a, "part-4.parquet", tables.rows(700, 40), {})
        forged = without_column(b.metadata(configuration=tables.CONFIGURATION), "value")
        clean(a, tables.checkpoint(tables.PROTOCOL, forged, [*b.live.values(), new],
                                   txn=[{"appId": "stream", "version": 7, "lastUpdated": tables.T0_MS}]))

    @corpus.attack("W", "a checkpoint after the seal drops a constraint that seal and commits keep", probe="insert",
                   place=["checkpoint of version 4", "properties"])
    def _(a):
        b = a.base
        new = appended(a, "part-4.parquet", tables.rows(700, 40), {})
        kept = {k: v for k, v in tables.CONFIGURATION.items() if "constraints" not in k}
        clean(a, tables.checkpoint(tables.PROTOCOL, b.metadata(configuration=kept), [*b.live.values(), new],
                                   txn=[{"appId": "stream", "version": 7, "lastUpdated": tables.T0_MS}]))

    @corpus.attack("W", "a checkpoint after the seal gives a later file another label than its commit", base="parted",
                   query="SELECT COUNT(*) FROM t WHERE label = '1'", place=["label=0/part-4.parquet", "column label", "commit 2"])
    def _(a):
        b = a.base
        new = appended(a, "label=0/part-4.parquet", tables.rows(700, 40, columns=("id", "value")), {"label": "0"})
        new["partitionValues"] = {"label": "1"}
        fields = [tables.field("id", "long"), tables.field("value", "double"), tables.field("label", "string")]
        clean(a, tables.checkpoint(tables.PROTOCOL, b.metadata(fields, ["label"]), [*b.live.values(), new]))


def forgotten(corpus):
    @corpus.attack("M", "a forged checkpoint ahead of the seal, every commit deleted", base="flat", owed="detected", query=SUM)
    def _(a):
        b = a.base
        poisoned = tables.rows(400, 200, value=lambda i: 1.0)
        data = tables.parquet(poisoned)
        a.put("poisoned.parquet", data)
        add = {"path": "poisoned.parquet", "partitionValues": {}, "size": len(data), "modificationTime": 0, "dataChange": False,
               "stats": json.dumps(tables.stats(poisoned))}
        a.put(f"_delta_log/{5:020}.checkpoint.parquet",
              tables.checkpoint(tables.PROTOCOL, b.metadata(configuration=tables.CONFIGURATION), [add],
                                txn=[{"appId": "stream", "version": 7, "lastUpdated": tables.T0_MS}]))
        for n in range(4):
            a.delete(a.commit_path(n))


def hints(corpus):
    @corpus.attack("21", "forge _last_checkpoint: a checkpoint of a version that is not", base="checkpointed", owed="hidden")
    def _(a):
        a.put("_delta_log/_last_checkpoint", json.dumps({"version": 11, "size": 3}))

    @corpus.attack("21", "forge _last_checkpoint, and the checkpoint that it names", base="checkpointed", place=["checkpoint"])
    def _(a):
        b = a.base
        few = [x for p, x in b.live.items() if p < "part-04"]
        a.put(f"_delta_log/{11:020}.checkpoint.parquet", tables.checkpoint(tables.PROTOCOL, b.first_metadata, few))
        a.put("_delta_log/_last_checkpoint", json.dumps({"version": 11, "size": 6}))

    @corpus.attack("22", "forge a compacted log: two files lost", owed="hidden")
    def _(a):
        lines = [x for x in a.actions(0)[1:] if "add" not in x] + [{"add": a.add_of("part-3.parquet")}]
        a.put(f"_delta_log/{0:020}.{3:020}.compacted.json", "".join(json.dumps(x) + "\n" for x in lines))


def checksum(a, edit):
    """A `.crc` of the newest version, honest but for `edit`."""
    b = a.base
    newest = b.version - 1
    found = {}
    for n in range(b.version):
        for action in a.actions(n):
            for name in ("metaData", "protocol"):
                if name in action:
                    found[name] = action[name]
    live = list(b.live.values())
    whole = {"tableSizeBytes": sum(x["size"] for x in live), "numFiles": len(live), "numMetadata": 1, "numProtocol": 1,
             "metadata": found["metaData"], "protocol": found["protocol"]}
    edit(whole["metadata"])
    a.put(f"_delta_log/{newest:020}.crc", json.dumps(whole))


def checksums(corpus):
    @corpus.attack("18", "forge .crc: a column dropped from the schema", owed="hidden", query="SELECT * FROM t ORDER BY id LIMIT 2")
    def _(a):
        def edit(metadata):
            schema = json.loads(metadata["schemaString"])
            schema["fields"] = [f for f in schema["fields"] if f["name"] != "value"]
            metadata["schemaString"] = json.dumps(schema)
        checksum(a, edit)

    @corpus.attack("19", "forge .crc: column mapping swaps two columns", base="mapped", owed="hidden", query=SUM)
    def _(a):
        def edit(metadata):
            text = metadata["schemaString"]
            metadata["schemaString"] = text.replace("col-3", "col-x").replace("col-4", "col-3").replace("col-x", "col-4")
        checksum(a, edit)

    @corpus.attack("20", "forge .crc: the CHECK constraint is gone, a bad row is accepted", owed="hidden", probe="insert")
    def _(a):
        checksum(a, lambda metadata: metadata["configuration"].pop("delta.constraints.positive"))


def others(corpus):
    @corpus.attack("43", "edit a change-data file", base="changes", probe="changes", place=["_change_data/cdc-1.parquet"])
    def _(a):
        def edit(data):
            import struct
            assert pb.replace_between(data, 0, len(data), struct.pack("<d", 1012.0), struct.pack("<d", 1.5)) > 0
        a.edit_bytes("_change_data/cdc-1.parquet", edit)

    @corpus.attack("43", "forge a cdc action: another change-data file", base="changes", probe="changes", place=["commit 1"])
    def _(a):
        table = pq.read_table(a.base.folder / "_change_data/cdc-1.parquet")
        data = tables.parquet(table.slice(0, 4))
        a.put("_change_data/cdc-2.parquet", data)
        actions = a.actions(1)
        next(x for x in actions if "cdc" in x)["cdc"].update(path="_change_data/cdc-2.parquet", size=len(data))
        a.put_actions(1, actions)

    @corpus.attack("41", "strip: delete all of _seal/", probe="strip", owed="detected", query=SUM)
    def _(a):
        a.edit_bytes("part-1.parquet", lambda data: flip_value(data, 1, 350, 1e6))

    @corpus.attack("42", "squat: junk baselines, signatures and evidence", owed="hidden")
    def _(a):
        junk = "0" * 64
        a.put(f"_seal/baselines/{9:020}-{junk}.json", '{"junk": true}')
        a.put(f"_seal/signatures/{junk}/{'1' * 64}.json", "{}")
        a.put(f"_seal/baselines/{18446744073709551615:020}-{junk}.json", b"\xff" * 100)
        a.put("_seal/baselines/not-a-name", "x")
        a.put(f"_seal/evidence/{junk}.parquet", "PAR1")
