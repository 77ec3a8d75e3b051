"""Attacks on commits: in sealed ones, and by new ones."""
import copy
import json

import pyarrow.parquet as pq

import tables
from data_edits import SUM, flip_value, rewritten

COUNT = "SELECT COUNT(*) FROM t"


def restate(edit):
    """An edit of an `add` action's statistics."""
    def apply(add):
        stated = json.loads(add["stats"])
        edit(stated)
        add["stats"] = json.dumps(stated)
    return apply


def register(corpus, outside):
    sealed_commits(corpus, outside)
    doubled(corpus)
    vectors(corpus)
    history(corpus)
    later(corpus, outside)
    laundering(corpus)


def sealed_commits(corpus, outside):
    @corpus.attack("5", "forge add.stats ranges", query="SELECT COUNT(*) FROM t WHERE id = 350", place=["part-1.parquet", "column id"])
    def _(a):
        a.edit_add(1, restate(lambda s: s["maxValues"].update(id=300)))

    @corpus.attack("6", "forge numRecords", place=["part-1.parquet", "numRecords"])
    def _(a):
        a.edit_add(1, restate(lambda s: s.update(numRecords=11)))

    @corpus.attack("7", "forge partitionValues: a label flip", base="parted", query="SELECT COUNT(*) FROM t WHERE label = '1'",
                   place=["label=0/part-2.parquet", "column label"])
    def _(a):
        a.edit_add(1, lambda add: add.update(partitionValues={"label": "1"}), "label=0/part-2.parquet")

    @corpus.attack("8", "add.path absolute, to a file elsewhere", query=SUM, place=["elsewhere.parquet"])
    def _(a):
        _, data = rewritten(a.base, "part-3.parquet", lambda i: 7.0)
        elsewhere = (outside / "elsewhere.parquet").resolve()
        elsewhere.write_bytes(data)
        a.edit_add(3, lambda add: add.update(path=elsewhere.as_uri(), size=len(data)))

    @corpus.attack("8", "add.path with ../, into another table", query=SUM, place=["part-3.parquet"])
    def _(a):
        _, data = rewritten(a.base, "part-3.parquet", lambda i: 7.0)
        a.edit_add(3, lambda add: add.update(path="../t2/part-3.parquet", size=len(data)))
        a.put("../t2/part-3.parquet", data)

    @corpus.attack("44", "forge txn: a streaming writer skips a batch", place=["commit 1", "transactions"])
    def _(a):
        actions = a.actions(1)
        next(x for x in actions if "txn" in x)["txn"]["version"] = 9
        a.put_actions(1, actions)

    @corpus.attack("45", "move commit timestamps: time travel answers another version", probe="as_of", place=["commit 1"])
    def _(a):
        actions = a.actions(1)
        moved = tables.T0_MS + 30 * tables.DAY_MS
        actions[0]["commitInfo"]["timestamp"] = moved
        a.put_actions(1, actions)
        a.times[a.commit_path(1)] = moved

    @corpus.attack("D", "raise a column's type in the sealed schema", place=["schema"], query=SUM)
    def _(a):
        actions = a.actions(0)
        for action in actions:
            if "metaData" in action:
                action["metaData"]["schemaString"] = action["metaData"]["schemaString"].replace('"double"', '"string"', 1)
        a.put_actions(0, actions)


def doubled(corpus):
    for number, title, alias in (("9", "alias path %70art-1", "%70art-1.parquet"), ("9", "alias path ./part-1", "./part-1.parquet"),
                                 ("9", "alias path x/../part-1", "x/../part-1.parquet")):
        def make(a, alias=alias):
            a.next_commit({"add": {**a.add_of("part-1.parquet"), "path": alias}})
        corpus.attack(number, f"{title}, by a new commit", place=["part-1.parquet"])(make)

    @corpus.attack("9", "alias path in the sealed commit itself", place=["part-1.parquet"])
    def _(a):
        actions = a.actions(1)
        alias = copy.deepcopy(next(x for x in actions if "add" in x))
        alias["add"]["path"] = "%70art-1.parquet"
        a.put_actions(1, [*actions, alias])

    @corpus.attack("C", "alias that only an encoding of partition values makes", base="special", query=SUM, place=["part-0.parquet"])
    def _(a):
        sealed = "label=a%257Bb/part-0.parquet"
        action = a.add_of("label=a%7Bb/part-0.parquet")
        action["path"] = sealed.replace("%257B", "%7B")
        a.next_commit({"add": action})
        a.edit_bytes("label=a%7Bb/part-0.parquet", lambda data: flip_value(data, 1, 60, 1e6))

    @corpus.attack("10", "one file live under two deletion-vector ids", base="vectors", place=["part-1.parquet"])
    def _(a):
        action = a.add_of("part-1.parquet")
        action["deletionVector"] = tables.inline_vector([3])
        a.next_commit({"add": action})


def vectors(corpus):
    @corpus.attack("11", "inject an inline deletion vector", base="vectors", place=["part-1.parquet"])
    def _(a):
        a.edit_add(0, lambda add: add.update(deletionVector=tables.inline_vector(range(50))), "part-1.parquet")

    @corpus.attack("11", "edit a stored deletion vector, with its CRC: deleted rows are back", base="vectors", query="SELECT MIN(id) FROM t",
                   place=["part-0.parquet", "deletion vector"])
    def _(a):
        data, _ = tables.vector_file(range(100, 110))
        a.put(f"deletion_vector_{tables.VECTOR_ID}.bin", data)

    @corpus.attack("B", "new vector of another file aimed at a sealed data file, whose bytes change", base="vectors",
                   query="SELECT CAST(SUM(value) * 1000 AS BIGINT) FROM t WHERE id < 400", place=["part-1.parquet", "column value"])
    def _(a):
        data = tables.parquet(tables.rows(5000, 20))
        a.put("zzz.parquet", data)
        vector = {"storageType": "p", "pathOrInlineDv": "part-1.parquet", "offset": 1, "sizeInBytes": 34, "cardinality": 1}
        a.next_commit({"add": {"path": "zzz.parquet", "partitionValues": {}, "size": len(data), "modificationTime": a.base.now(),
                               "dataChange": True, "stats": json.dumps(tables.stats(tables.rows(5000, 20))), "deletionVector": vector}})
        a.edit_bytes("part-1.parquet", lambda data: flip_value(data, 1, 350, 1e6))

    @corpus.attack("E", "a new commit gives a sealed file an empty vector; its bytes change", base="vectors",
                   query=SUM, place=["part-1.parquet", "column value"])
    def _(a):
        action = a.add_of("part-1.parquet")
        vector = tables.inline_vector([0])
        gone = {"path": "part-1.parquet", "deletionTimestamp": a.base.now(), "dataChange": True, "partitionValues": {}}
        a.next_commit({"remove": gone}, {"add": {**action, "deletionVector": vector}}, operation="DELETE")
        a.edit_bytes("part-1.parquet", lambda data: flip_value(data, 1, 350, 1e6))

    @corpus.attack("E", "a new commit gives a sealed file a vector and false statistics", base="vectors",
                   query="SELECT COUNT(*) FROM t WHERE id = 350", place=["part-1.parquet"])
    def _(a):
        action = a.add_of("part-1.parquet")
        restate(lambda s: (s["maxValues"].update(id=300), s.update(numRecords=60)))(action)
        gone = {"path": "part-1.parquet", "deletionTimestamp": a.base.now(), "dataChange": True, "partitionValues": {}}
        a.next_commit({"remove": gone}, {"add": {**action, "deletionVector": tables.inline_vector([0])}}, operation="DELETE")


def history(corpus):
    @corpus.attack("12", "delete the newest commit", place=["commit 3"])
    def _(a):
        a.delete(a.commit_path(3))

    @corpus.attack("F", "delete a commit in the middle", place=["commit"], owed="detected")
    def _(a):
        a.delete(a.commit_path(1))

    @corpus.attack("15", "re-add a removed file in a new commit", place=["part-0.parquet"])
    def _(a):
        action = {"path": "part-0.parquet", "partitionValues": {}, "size": len(a.read("part-0.parquet")), "dataChange": True,
                  "modificationTime": a.base.now(), "stats": json.dumps(tables.stats(tables.rows(0, 200)))}
        a.next_commit({"add": action})

    @corpus.attack("G", "delete the log: a folder of all files, removed ones too", owed="detected")
    def _(a):
        for n in range(4):
            a.delete(a.commit_path(n))

    @corpus.attack("H", "put a log into a sealed folder", base="folder", owed="detected")
    def _(a):
        b = a.base
        data = a.read("label=0/part-0.parquet")
        fields = [tables.field("id", "long"), tables.field("value", "double")]
        add = {"path": "label=0/part-0.parquet", "partitionValues": {}, "size": len(data), "modificationTime": 0, "dataChange": True}
        a.put_actions(0, [tables.PROTOCOL, b.metadata(fields), {"add": add}])


def later(corpus, outside):
    @corpus.attack("16", "forged commit without commitInfo, dataChange=false", place=["commit 4"])
    def _(a):
        data = tables.parquet(tables.rows(8000, 30))
        a.put("new.parquet", data)
        a.next_commit({"add": {"path": "new.parquet", "partitionValues": {}, "size": len(data), "modificationTime": a.base.now(),
                               "dataChange": False, "stats": json.dumps(tables.stats(tables.rows(8000, 30)))}}, info=False)

    @corpus.attack("28", "a compaction that alters rows", owed="detected", query=SUM, place=["commit 4"])
    def _(a):
        both = [pq.read_table(a.base.folder / p) for p in ("part-1.parquet", "part-3.parquet")]
        import pyarrow as pa
        table = pa.concat_tables(both)
        values = table["value"].to_pylist()
        values[17] = 1e6
        table = table.set_column(2, "value", pa.array(values))
        data = tables.parquet(table)
        a.put("compacted.parquet", data)
        gone = [{"remove": {"path": p, "deletionTimestamp": a.base.now(), "dataChange": False, "partitionValues": {}}}
                for p in ("part-1.parquet", "part-3.parquet")]
        a.next_commit(*gone, {"add": {"path": "compacted.parquet", "partitionValues": {}, "size": len(data), "dataChange": False,
                                      "modificationTime": a.base.now(), "stats": json.dumps(tables.stats(table))}}, operation="OPTIMIZE")

    @corpus.attack("29", "an insider's label flip in a valid commit", owed="exposed", place=["commit 4", "rows"],
                   query="SELECT COUNT(*) FROM t WHERE label = '1'")
    def _(a):
        table = tables.rows(400, 200, label=lambda i: "1" if 450 <= i < 460 else str(i % 2))
        data = tables.parquet(table)
        a.put("part-4.parquet", data)
        a.next_commit({"remove": {"path": "part-3.parquet", "deletionTimestamp": a.base.now(), "dataChange": True, "partitionValues": {}}},
                      {"add": {"path": "part-4.parquet", "partitionValues": {}, "size": len(data), "modificationTime": a.base.now(),
                               "dataChange": True, "stats": json.dumps(tables.stats(table))}}, operation="UPDATE")

    @corpus.attack("46", "retention properties shortened, then VACUUM", owed="exposed", place=["commit 4", "deletedFileRetentionDuration"])
    def _(a):
        short = {**tables.CONFIGURATION, "delta.deletedFileRetentionDuration": "interval 0 seconds"}
        a.next_commit(a.base.metadata(configuration=short), operation="SET TBLPROPERTIES")
        a.delete("part-0.parquet")

    @corpus.attack("I", "a later commit swaps two columns by column mapping", base="mapped", owed="exposed", query=SUM,
                   place=["commit 1", "schema"])
    def _(a):
        action = next(x for x in a.actions(0) if "metaData" in x)
        text = action["metaData"]["schemaString"]
        action["metaData"]["schemaString"] = text.replace("col-3", "col-x").replace("col-4", "col-3").replace("col-x", "col-4")
        a.next_commit(action, operation="RENAME COLUMN")

    @corpus.attack("J", "a later commit names a member twice: parsers read two documents", owed="detected", query=SUM, place=["commit"])
    def _(a):
        version = a.next_commit({"remove": {"path": "part-1.parquet", "deletionTimestamp": 1, "dataChange": True}})
        text = a.read(a.commit_path(version)).decode().replace('"path":"part-1.parquet"', '"path":"x.parquet","path":"part-1.parquet"')
        a.put(a.commit_path(version), text)

    @corpus.attack("U", "a later commit with two metaData: the first without a column, the last as it was",
                   query="SELECT * FROM t ORDER BY id LIMIT 2", place=["commit: 4", "twice", "metaData"])
    def _(a):
        honest = next(x for x in a.actions(0) if "metaData" in x)
        forged = copy.deepcopy(honest)
        schema = json.loads(forged["metaData"]["schemaString"])
        schema["fields"] = [f for f in schema["fields"] if f["name"] != "value"]
        forged["metaData"]["schemaString"] = json.dumps(schema)
        a.next_commit(forged, honest, operation="SET TBLPROPERTIES")

    @corpus.attack("U", "a later commit with two protocols", place=["commit: 4", "twice", "protocol"])
    def _(a):
        a.next_commit({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, tables.PROTOCOL, operation="UPGRADE PROTOCOL")

    @corpus.attack("K", "a later commit removes a file under another spelling", place=["part-1.parquet"])
    def _(a):
        a.next_commit({"remove": {"path": "./part-1.parquet", "deletionTimestamp": 1, "dataChange": True}}, operation="DELETE")

    @corpus.attack("O", "a later commit with a file of 2^60 bytes", owed="exposed", query=SUM, place=["commit 4", "another size"])
    def _(a):
        a.put("huge.parquet", tables.parquet(tables.rows(1, 4)))
        a.next_commit({"add": {"path": "huge.parquet", "partitionValues": {}, "size": 1 << 60, "modificationTime": 0, "dataChange": True}})

    @corpus.attack("P", "a later commit forges the statistics of its own file", owed="exposed", place=["commit 4", "added 40"])
    def _(a):
        table = tables.rows(700, 40)
        data = tables.parquet(table)
        a.put("new.parquet", data)
        stated = tables.stats(table)
        stated["maxValues"]["id"] = 650
        stated["minValues"]["id"] = 640
        stated["numRecords"] = 4
        a.next_commit({"add": {"path": "new.parquet", "partitionValues": {}, "size": len(data), "modificationTime": a.base.now(),
                               "dataChange": True, "stats": json.dumps(stated)}})


def laundering(corpus):
    @corpus.attack("34", "poison, then have it sealed", probe="seal", query=SUM, owed="detected", place=["part-1.parquet"])
    def _(a):
        table, data = rewritten(a.base, "part-1.parquet", lambda i: 3.0)
        a.put("part-1.parquet", data)
        a.edit_add(1, lambda add: add.update(size=len(data), stats=json.dumps(tables.stats(table))))
