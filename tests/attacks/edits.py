"""Every attack: which stored objects are replaced by what. Numbers are those of the project's list; letters are attacks found since."""
import json

import data_edits
import log_edits
import metadata_edits


class Attack:
    """One attack on a copy of an honest table."""

    def __init__(self, base, number, title):
        self.base = base
        self.number = number
        self.title = title
        self.edits = {}
        self.query = "SELECT COUNT(*) FROM t"
        self.owed = "placed"
        self.moment = "before"
        self.place = []
        self.probe = "sql"
        self.times = {}

    # What is there, with this attack's edits.
    def read(self, path):
        if path in self.edits:
            return self.edits[path]
        return (self.base.folder / path).read_bytes()

    def put(self, path, data):
        self.edits[path] = data if isinstance(data, bytes) else data.encode()

    def delete(self, path):
        self.edits[path] = None

    def exists(self, path):
        return self.edits[path] is not None if path in self.edits else (self.base.folder / path).exists()

    def commit_path(self, version):
        return f"_delta_log/{version:020}.json"

    def actions(self, version):
        return [json.loads(line) for line in self.read(self.commit_path(version)).splitlines() if line.strip()]

    def put_actions(self, version, actions):
        self.put(self.commit_path(version), "".join(json.dumps(a, separators=(",", ":")) + "\n" for a in actions))

    def edit_add(self, version, edit, path=None):
        """Edits the first `add` of a commit (or that of a path)."""
        actions = self.actions(version)
        for action in actions:
            if "add" in action and path in (None, action["add"]["path"]):
                edit(action["add"])
                break
        else:
            raise KeyError(path)
        self.put_actions(version, actions)

    def add_of(self, path):
        return json.loads(json.dumps(self.base.live[path]))

    def next_commit(self, *actions, operation="WRITE", info=True, **members):
        """A commit after the newest one."""
        version = self.base.version
        while self.exists(self.commit_path(version)):
            version += 1
        stamp = {"commitInfo": {"timestamp": self.base.now(), "operation": operation, "operationParameters": {}, **members}}
        self.put_actions(version, [*([stamp] if info else []), *actions])
        return version

    def edit_bytes(self, path, edit):
        data = bytearray(self.read(path))
        before = bytes(data)
        edit(data)
        assert bytes(data) != before, f"{self.title}: nothing was changed"
        self.put(path, bytes(data))


class Corpus:
    """Collects attacks by decorator."""

    def __init__(self, bases):
        self.bases = bases
        self.attacks = []

    def attack(self, number, title, base="flat", **members):
        def take(make):
            attack = Attack(self.bases[base], number, title)
            for name, value in members.items():
                assert hasattr(attack, name), name
                setattr(attack, name, value)
            make(attack)
            self.attacks.append(attack)
            return make
        return take


def build(root, bases):
    corpus = Corpus(bases)
    outside = root / "outside"
    outside.mkdir(exist_ok=True)
    data_edits.register(corpus)
    log_edits.register(corpus, outside)
    metadata_edits.register(corpus)
    entries = []
    for n, attack in enumerate(corpus.attacks):
        folder = root / "attacks" / f"{n:03}"
        edits = {}
        for k, (path, data) in enumerate(attack.edits.items()):
            edits[path] = None
            if data is not None:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / str(k)).write_bytes(data)
                edits[path] = f"attacks/{n:03}/{k}"
        entries.append({"number": attack.number, "title": attack.title, "base": attack.base.name, "query": attack.query,
                        "owed": attack.owed, "moment": attack.moment, "place": attack.place, "probe": attack.probe, "edits": edits, "times": attack.times})
    return entries
