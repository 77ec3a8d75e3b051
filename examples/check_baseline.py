#!/usr/bin/env python3
"""Checks the newest baseline of a table in a directory, without a line of Lakeseal's own code.

    pip install blake3 cryptography pyarrow
    check_baseline.py TABLE_DIRECTORY SEALER.pub [SEALER.pub ...]

It follows docs/format/{baseline,evidence,log,inventory}.md and nothing else:
  1. the signature over the statement, before anything of it is read; the digests of its subject;
  2. the evidence, by digest, replayed to the live and removed files;
  3. the Merkle roots of live and removed files, the commits' accumulator, the totals;
  4. every live file: size, BLAKE3, SHA-256; every commit file;
  5. the log: the RFC 6962 root over its entries, the signed checkpoint, the entry that names the baseline, the inventory.
Prints what it checked, and ends with 0; with 1 and one line at the first thing that is wrong.
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys

import pyarrow.parquet
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

PAYLOAD_TYPE = b"application/vnd.in-toto+json"


def check(holds, what):
    if not holds:
        sys.exit(f"WRONG: {what}")


def tagged(context, data):
    return blake3(data, derive_key_context=context).digest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def keys_from(files):
    """Ed25519 public keys, one in a file, by their identity: BLAKE3 of the 32 public bytes."""
    keys = {}
    for file in files:
        key = serialization.load_pem_public_key(pathlib.Path(file).read_bytes())
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        keys[blake3(raw).hexdigest()] = (key, raw)
    return keys


def is_signed(key, signature, message):
    try:
        key.verify(signature, message)
        return True
    except InvalidSignature:
        return False


def merkle_root(leaves):
    """The tree of docs/format/baseline.md: sorted leaves, tagged BLAKE3, the root over the number of leaves."""
    check(leaves == sorted(set(leaves)), "leaves that do not ascend")
    level = [tagged("lakeseal 2026 merkle leaf v1", leaf) for leaf in leaves]
    count = struct.pack("<Q", len(level))
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [tagged("lakeseal 2026 merkle node v1", b"".join(pair)) if len(pair) == 2 else pair[0] for pair in pairs]
    return tagged("lakeseal 2026 merkle root v1", count + b"".join(level)).hex()


def newest_baseline(seal, keys):
    """The statement of the highest number that a key signed. What nobody known has signed is passed over."""
    for file in sorted((seal / "baselines").iterdir(), reverse=True):
        number, _, digest = file.stem.partition("-")
        payload = file.read_bytes()
        if blake3(payload).hexdigest() != digest:
            continue
        message = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE, len(payload), payload)
        for identity, (key, _) in keys.items():
            stored = seal / "signatures" / digest / f"{identity}.json"
            if stored.exists() and is_signed(key, base64.b64decode(json.loads(stored.read_bytes())["sig"]), message):
                statement = json.loads(payload)
                check(statement["predicate"]["number"] == int(number), "a number that is not its name's")
                return digest, payload, statement
    sys.exit("WRONG: no baseline that a given key signed")


def check_subject(payload, statement):
    check(canonical(statement) == payload, "a statement that is not canonical")
    state = canonical(statement["predicate"]["state"])
    digest = statement["subject"][0]["digest"]
    check(digest["blake3"] == blake3(state).hexdigest(), "the subject's BLAKE3")
    check(digest["sha256"] == hashlib.sha256(state).hexdigest(), "the subject's SHA-256")


def replay(seal, references):
    """Live files, removed files and commits, from the pieces of evidence in order."""
    live, removed, groups, commits = {}, set(), {}, {}
    for reference in references:
        file = seal / "evidence" / f"{reference['digest']}.parquet"
        data = file.read_bytes()
        check((len(data), blake3(data).hexdigest()) == (reference["size"], reference["digest"]), f"evidence {file.name}")
        if reference["kind"] not in ("files", "row_groups", "commits"):
            continue  # profiles and the like: no root is made of them
        for row in pyarrow.parquet.read_table(file).to_pylist():
            if reference["kind"] == "commits":
                commits[row["version"]] = row
                continue
            key = (row["path"], row["deletion_vector_id"])
            if reference["kind"] == "row_groups":
                groups.setdefault(key, []).append(row["digest"].hex())
            elif row["op"] == "add":
                live[key] = row
                groups[key] = []
                removed.discard(key)
            else:
                live.pop(key, None)
                removed.add(key)
    return live, removed, groups, commits


def leaf_json(row, groups):
    """The canonical JSON of a live file's leaf. What evidence holds as JSON is canonical already, and stands as it is."""
    text = lambda value: json.dumps(value, ensure_ascii=False)
    deleted = "null"
    if row["deleted_rows"] is not None:
        file = row["deleted_file"] or "null"
        deleted = f'{{"digest":"{row["deleted_digest"].hex()}","file":{file},"rows":{row["deleted_rows"]}}}'
    members = {
        "deleted": deleted,
        "deletion_vector": row["deletion_vector"] or "null",
        "deletion_vector_id": text(row["deletion_vector_id"]),
        "digest": text(row["digest"].hex()),
        "footer": text(row["footer"].hex()),
        "modification_time_ms": text(row["time_ms"]),
        "other": row["other"],
        "partition_values": row["partition_values"],
        "path": text(row["path"]),
        "raw_path": text(row["raw_path"]),
        "row_groups": "[" + ",".join(text(digest) for digest in groups) + "]",
        "rows": text(row["rows"]),
        "sha256": text(row["sha256"].hex()),
        "size": text(row["size"]),
        "stats": row["stats"] or "null",
    }
    return ("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}").encode()


def leaf(key, document):
    path, vector = key
    return path.encode() + b"\0" + (vector or "").encode() + b"\0" + tagged("lakeseal 2026 state leaf v1", document)


def check_state(state, live, removed, groups, commits):
    leaves = sorted(leaf(key, leaf_json(row, groups[key])) for key, row in live.items())
    check(merkle_root(leaves) == state["files"], "the Merkle root of the live files")
    check(merkle_root(sorted(leaf(key, b"null") for key in removed)) == state["tombstones"], "the Merkle root of the removed files")
    accumulator = bytes(32)
    for version, commit in sorted(commits.items()):
        data = accumulator + struct.pack("<Q", version) + commit["digest"] + struct.pack("<Q", commit["size"])
        accumulator = tagged("lakeseal 2026 commit accumulator v1", data)
    check(state["commits"] == {"accumulator": accumulator.hex(), "count": len(commits)}, "the commits' accumulator")
    rows = sum(row["rows"] - (row["deleted_rows"] or 0) for row in live.values())
    totals = {"bytes": sum(row["size"] for row in live.values()), "files": len(live), "rows": rows}
    check(state["totals"] == totals, "the totals")


def check_bytes(table, live, commits):
    for row in live.values():
        size, b3, sha = 0, blake3(), hashlib.sha256()
        with open(table / row["path"], "rb") as file:
            while piece := file.read(1 << 20):
                size, _, _ = size + len(piece), b3.update(piece), sha.update(piece)
        check((size, b3.digest(), sha.digest()) == (row["size"], row["digest"], row["sha256"]), f"the bytes of {row['path']}")
    for version, commit in commits.items():
        file = table / "_delta_log" / f"{version:020}.json"
        # Old commits may have been cleaned up; one that is there must be the sealed one.
        check(not file.exists() or blake3(file.read_bytes()).digest() == commit["digest"], f"commit {version}")


def open_note(note, keys):
    """A C2SP signed note: the text, once a known key's signature holds."""
    body, _, lines = note.decode().rpartition("\n\n")
    text = body + "\n"
    for line in lines.splitlines():
        dash, name, encoded = line.split(" ")
        blob = base64.b64decode(encoded)
        for key, raw in keys.values():
            key_hash = hashlib.sha256(name.encode() + b"\n\x01" + raw).digest()[:4]
            if dash == "\u2014" and blob[:4] == key_hash and is_signed(key, blob[4:], text.encode()):
                return name, text
    return None


def rfc6962_root(leaves):
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + rfc6962_root(leaves[:split]) + rfc6962_root(leaves[split:])).digest()


def check_log(seal, keys, location, number, digest):
    log = seal / "log"
    entries = [file.read_bytes() for file in sorted((log / "entries").iterdir())]
    for file in sorted((log / "checkpoints").iterdir(), reverse=True):
        opened = open_note(file.read_bytes(), keys)
        if opened:
            break
    else:
        sys.exit("WRONG: no checkpoint that a given key signed")
    name, text = opened
    origin, size, root = text.splitlines()
    size = int(size)
    check(origin == name and size <= len(entries), "a checkpoint of another log, or of more entries than are there")
    check(base64.b64decode(root) == rfc6962_root(entries[:size]), "the root of the log")
    named = []
    for index, entry in enumerate(entries[:size]):
        opened = open_note(entry, keys)
        said = json.loads(opened[1]) if opened and opened[0] == origin else {"baselines": []}
        if said.get("index", index) != index:
            continue
        before = bytes.fromhex(said.get("before", ""))
        check(before in (b"", rfc6962_root(entries[:index])), f"the entries before entry {index}")
        named += [(b["table"], b["number"], b["digest"]) for b in said["baselines"]]
    check((location, number, digest) in named, "no entry of the log names this baseline")
    inventory = max((log / "inventory").iterdir())
    opened = open_note(inventory.read_bytes(), keys)
    check(opened and opened[0] == origin, "the inventory's signature")
    said = json.loads(opened[1])
    check((said["size"], base64.b64encode(bytes.fromhex(said["root"])).decode()) == (size, root), "the inventory's size and root")
    listed = [(t["table"], t["number"], t["digest"]) for t in said["tables"]]
    check((location.rstrip("/"), number, digest) in listed, "the inventory does not list this baseline")
    return size


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    table = pathlib.Path(sys.argv[1])
    seal = table / "_seal"
    keys = keys_from(sys.argv[2:])
    digest, payload, statement = newest_baseline(seal, keys)
    check_subject(payload, statement)
    predicate = statement["predicate"]
    live, removed, groups, commits = replay(seal, predicate["evidence"])
    check_state(predicate["state"], live, removed, groups, commits)
    check_bytes(table, live, commits)
    size = check_log(seal, keys, predicate["location"], predicate["number"], digest)
    totals = predicate["state"]["totals"]
    print(f"baseline {predicate['number']} of {predicate['location']}: signature, roots, {totals['files']} files, {totals['rows']} rows,", end=" ")
    print(f"{len(commits)} commits, log of {size} entries: all as stated")


if __name__ == "__main__":
    main()
